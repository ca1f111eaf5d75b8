"""The recorded blocks and chains, wherever they are on this machine.

They are read from `UTXOIQ_SHARED`, or else from `shared/data` beside the project. Where there are none, the lists
below hold a single skipped entry each, so that every test module still loads.
"""

from __future__ import annotations

import csv
import gzip
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from utxoiq.chain.block import Block, decode_block
from utxoiq.chain.hashes import double_sha256
from utxoiq.chain.network import NETWORKS, Network

SHARED = Path(os.environ.get("UTXOIQ_SHARED") or Path(__file__).resolve().parents[3] / "shared" / "data")
ABSENT = "no recorded data: put it in shared/data beside the project, or name its folder in UTXOIQ_SHARED"


@cache
def unpacked(path: Path) -> bytes:
    """The contents of a gzip file."""
    return gzip.decompress(path.read_bytes())


@dataclass(frozen=True)
class Recorded:
    """One real block: its row in the index, and where its bytes are."""

    name: str
    network: Network
    size: int
    row: dict[str, str]

    @property
    def raw(self) -> bytes:
        return unpacked(SHARED / "blocks" / self.row["file"])

    @property
    def spent(self) -> bytes:
        return unpacked(SHARED / "blocks" / self.row["spent_file"])

    @property
    def undo(self) -> bytes:
        return unpacked(SHARED / "blocks" / self.row["undo_file"])

    def decoded(self) -> Block:
        return decode_block(self.raw, self.network)


def _read_index() -> list[Recorded]:
    index = SHARED / "blocks" / "index.csv"
    if not index.is_file():
        return []
    with index.open(newline="") as file:
        return [
            Recorded(row["file"].removesuffix(".blk.gz"), NETWORKS[row["network"]], int(row["size"]), row)
            for row in csv.DictReader(file)
        ]


def _parameters(blocks: list[Recorded]) -> list[Any]:
    if not blocks:
        return [pytest.param(None, id="absent", marks=pytest.mark.skip(reason=ABSENT))]
    return [pytest.param(block, id=block.name) for block in blocks]


ALL = _read_index()
every_block = pytest.mark.parametrize("recorded", _parameters(ALL))
every_block_of_known_height = pytest.mark.parametrize("recorded", _parameters([b for b in ALL if b.row["height"]]))
every_block_with_spent = pytest.mark.parametrize("recorded", _parameters([b for b in ALL if b.row["spent_file"]]))
every_block_with_undo = pytest.mark.parametrize("recorded", _parameters([b for b in ALL if b.row["undo_file"]]))


def block_named(beginning: str) -> Recorded:
    """The recorded block whose name begins so; skips the test where there is no recorded data."""
    if not ALL:
        pytest.skip(ABSENT)
    return next(block for block in ALL if block.name.startswith(beginning))


@dataclass(frozen=True)
class Run:
    """A recorded chain: the blocks of a node's block directory, in file order, and their undo data by hash."""

    blocks: dict[bytes, bytes]
    undo: dict[bytes, bytes]


@cache
def recorded_run(name: str, network: Network) -> Run:
    """The chain in `runs/<name>`; skips the test where there is none."""
    folder = SHARED / "runs" / name
    if not folder.is_dir():
        pytest.skip(ABSENT)
    if (folder / "blocks").is_dir():
        folder /= "blocks"
    key = (folder / "xor.dat").read_bytes()
    return read_run(unpacked(folder / "blk00000.dat.gz"), unpacked(folder / "rev00000.dat.gz"), key, network)


def read_run(blk: bytes, rev: bytes, key: bytes, network: Network) -> Run:
    """Core's block files, by a reader of our own: magic, length, payload; undo payloads end in a checksum."""
    blocks = {double_sha256(raw[:80]): raw for raw, _ in _records(_unmasked(blk, key), network.magic, 0)}
    pending, undo = list(blocks.items()), {}
    for payload, checksum in _records(_unmasked(rev, key), network.magic, 32):
        at = next(i for i, (_, raw) in enumerate(pending) if double_sha256(raw[4:36] + payload) == checksum)
        undo[pending.pop(at)[0]] = payload
    return Run(blocks, undo)


def _unmasked(data: bytes, key: bytes) -> bytes:
    pattern = np.frombuffer(key, np.uint8) if any(key) else np.zeros(1, np.uint8)
    return (np.frombuffer(data, np.uint8) ^ np.resize(pattern, len(data))).tobytes()


def _records(data: bytes, magic: bytes, trailer: int) -> list[tuple[bytes, bytes]]:
    records, at = [], 0
    while data[at : at + 4] == magic:
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        begin, end = at + 8, at + 8 + size
        records.append((data[begin:end], data[end : end + trailer]))
        at = end + trailer
    return records
