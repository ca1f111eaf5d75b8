"""Block files can be read back by anyone who knows Bitcoin Core's format."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from utxoiq.chain.hashes import double_sha256
from utxoiq.errors import SourceError
from utxoiq.simulation import files
from utxoiq.simulation.economy import simulate
from utxoiq.simulation.files import write_blocks

if TYPE_CHECKING:
    from pathlib import Path

    from utxoiq.simulation.mining import SimulatedBlock


def records(folder: Path, prefix: str, trailer: int = 0) -> list[list[bytes]]:
    """The payloads of each file of a kind, with `trailer` bytes beyond the announced size."""
    key = (folder / "xor.dat").read_bytes()
    found = []
    for path in sorted(folder.glob(f"{prefix}*.dat")):
        data = bytes(byte ^ key[i % 8] for i, byte in enumerate(path.read_bytes()))
        at, payloads = 0, []
        while at < len(data):
            magic, size = struct.unpack_from("<4sI", data, at)
            assert magic == b"utxo"
            payloads.append(data[at + 8 : at + 8 + size + trailer])
            at += 8 + size + trailer
        found.append(payloads)
    return found


@pytest.fixture(scope="module")
def blocks() -> list[SimulatedBlock]:
    return list(simulate(5, 10))


def test_records_are_the_blocks(tmp_path: Path, blocks: list[SimulatedBlock]) -> None:
    heard: list[SimulatedBlock] = []
    assert write_blocks(tmp_path / "new" / "blocks", blocks, heard.append) == len(blocks) == len(heard)
    folder = tmp_path / "new" / "blocks"
    key = (folder / "xor.dat").read_bytes()
    assert len(key) == 8
    assert 0 not in key
    assert records(folder, "blk") == [[block.raw for block in blocks]]
    undo = [block.undo + double_sha256(bytes(block.prev_hash) + block.undo) for block in blocks]
    assert records(folder, "rev", 32) == [undo]


def test_a_full_file_is_followed_by_the_next(
    tmp_path: Path, blocks: list[SimulatedBlock], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "FILE_SIZE", 50_000)
    write_blocks(tmp_path, blocks)
    blk, rev = records(tmp_path, "blk"), records(tmp_path, "rev", 32)
    assert len(blk) > 1
    assert [len(payloads) for payloads in blk] == [len(payloads) for payloads in rev]
    assert [raw for payloads in blk for raw in payloads] == [block.raw for block in blocks]


def test_a_callback_finds_its_block_on_disk(tmp_path: Path, blocks: list[SimulatedBlock]) -> None:
    sizes: list[int] = []
    write_blocks(tmp_path, blocks[:3], lambda _: sizes.append((tmp_path / "blk00000.dat").stat().st_size))
    assert sizes == [sum(8 + len(block.raw) for block in blocks[:n]) for n in (1, 2, 3)]


def test_nothing_is_overwritten(tmp_path: Path, blocks: list[SimulatedBlock]) -> None:
    write_blocks(tmp_path, blocks[:1])
    with pytest.raises(SourceError, match="already holds block files"):
        write_blocks(tmp_path, blocks[:1])
