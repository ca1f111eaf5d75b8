"""Block directories written for one test, as Bitcoin Core writes them; and a store that follows a source."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from helpers.recorded import SHARED, Run, recorded_run, unpacked
from utxoiq.chain.hashes import Hash256, double_sha256
from utxoiq.chain.network import NETWORKS, Network
from utxoiq.models import BlockData, Connected, Cursor, Disconnected
from utxoiq.sources.base import BlockSource

REGTEST = NETWORKS["regtest"]
NO_KEY = bytes(8)
KEY = bytes.fromhex("8899aabbccddeeff")
UndoRecord = tuple[bytes, bytes]
"""The parent's hash, which the checksum is over, and the payload."""


def masked(data: bytes, key: bytes) -> bytes:
    """`data` XOR the key repeated: what Core does on writing, and so also what undoes it."""
    return (np.frombuffer(data, np.uint8) ^ np.resize(np.frombuffer(key, np.uint8), len(data))).tobytes()


def blk_record(raw: bytes, network: Network = REGTEST) -> bytes:
    return network.magic + struct.pack("<I", len(raw)) + raw


def rev_record(prev_hash: bytes, payload: bytes, network: Network = REGTEST) -> bytes:
    return network.magic + struct.pack("<I", len(payload)) + payload + double_sha256(prev_hash + payload)


def write_pair(folder: Path, blk: bytes, rev: bytes | None, key: bytes | None = KEY, number: int = 0) -> Path:
    """One blk and rev file with these contents, and `xor.dat` unless `key` is None. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"blk{number:05d}.dat").write_bytes(masked(blk, key or NO_KEY))
    if rev is not None:
        (folder / f"rev{number:05d}.dat").write_bytes(masked(rev, key or NO_KEY))
    if key is not None:
        (folder / "xor.dat").write_bytes(key)
    return folder


def write_blocks(
    folder: Path,
    blocks: Sequence[bytes],
    undo: Sequence[UndoRecord] = (),
    network: Network = REGTEST,
    key: bytes | None = KEY,
    number: int = 0,
) -> Path:
    """One file of these blocks and one of these undo records, in the order given."""
    blk = b"".join(blk_record(raw, network) for raw in blocks)
    rev = b"".join(rev_record(prev, payload, network) for prev, payload in undo)
    return write_pair(folder, blk, rev, key, number)


def undo_records(run: Run, blocks: Sequence[bytes]) -> list[UndoRecord]:
    """The undo records a recorded chain has for these of its blocks."""
    hashes = [(raw[4:36], double_sha256(raw[:80])) for raw in blocks]
    return [(prev, run.undo[block_hash]) for prev, block_hash in hashes if block_hash in run.undo]


def rev_file(name: str) -> bytes:
    """The contents of rev00000 of a recorded chain, with the key taken off."""
    folder = SHARED / "runs" / name / "blocks"
    return masked(unpacked(folder / "rev00000.dat.gz"), (folder / "xor.dat").read_bytes())


def plain_files(name: str) -> tuple[bytes, bytes]:
    """A recorded regtest chain as one blk and one rev file, without a key and without space kept in advance."""
    run = recorded_run(name, REGTEST)
    blocks = list(run.blocks.values())
    undo = undo_records(run, blocks)
    return b"".join(map(blk_record, blocks)), b"".join(rev_record(*record) for record in undo)


def cursor(block: BlockData) -> Cursor:
    assert block.height is not None
    return Cursor(str(block.block_hash), block.height)


@dataclass
class Follower:
    """What a store would have after following a source; it insists that every step fits its tip."""

    chain: list[Hash256] = field(default_factory=list)
    connected: list[BlockData] = field(default_factory=list)
    disconnected: list[Hash256] = field(default_factory=list)

    @property
    def hashes(self) -> list[str]:
        return [str(block_hash) for block_hash in self.chain]

    def take(self, step: Connected | Disconnected, heights: dict[Hash256, int]) -> None:
        if isinstance(step, Connected):
            if self.chain:
                assert step.block.prev_hash == self.chain[-1], "connected to what is not the tip"
                assert step.block.height == heights[self.chain[-1]] + 1
            assert step.block.height is not None
            heights[step.block.block_hash] = step.block.height
            self.chain.append(step.block.block_hash)
            self.connected.append(step.block)
        else:
            assert step.block_hash == self.chain[-1], "disconnected what is not the tip"
            assert step.height == heights[step.block_hash]
            self.disconnected.append(self.chain.pop())


async def follow(source: BlockSource, start: list[BlockData] | None = None) -> Follower:
    """Follow a source to its end, from nothing or from a store that has these blocks, and count its steps."""
    blocks = start or []
    heights = {block.block_hash: block.height for block in blocks if block.height is not None}
    store, steps = Follower([block.block_hash for block in blocks]), 0
    at = cursor(blocks[-1]) if blocks else None
    async for step in source.follow(at):
        store.take(step, heights)
        steps += 1
    assert steps == source.count_from(at)
    return store
