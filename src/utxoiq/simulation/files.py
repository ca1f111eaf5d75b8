"""A folder of block files as Bitcoin Core writes it (`blk?????.dat`, `rev?????.dat`, `xor.dat`)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from utxoiq.chain.hashes import double_sha256
from utxoiq.chain.network import NETWORKS
from utxoiq.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from utxoiq.simulation.mining import SimulatedBlock

MAGIC = NETWORKS["simulated"].magic
XOR_KEY = double_sha256(MAGIC)[:8]
"""Core draws its key; ours is fixed, since the same seed is to give the same files."""
FILE_SIZE = 16 << 20
"""Bytes of block data after which the next pair of files begins; Core has 128 MiB."""


def write_blocks(
    folder: Path, blocks: Iterable[SimulatedBlock], on_block: Callable[[SimulatedBlock], None] | None = None
) -> int:
    """Write `blocks` in the order given and return how many there were; `on_block` hears of each one written.

    Raises SourceError where `folder` holds block files already: nothing is ever overwritten.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob("*.dat")):
        raise SourceError(f"{folder} already holds block files; name a folder without any")
    (folder / "xor.dat").write_bytes(XOR_KEY)
    count = number = 0
    for block in blocks:
        size = _append(folder / f"blk{number:05d}.dat", _block_record(block))
        _append(folder / f"rev{number:05d}.dat", _undo_record(block))
        number += size >= FILE_SIZE
        count += 1
        if on_block is not None:
            on_block(block)
    return count


def _block_record(block: SimulatedBlock) -> bytes:
    return MAGIC + struct.pack("<I", len(block.raw)) + block.raw


def _undo_record(block: SimulatedBlock) -> bytes:
    """The checksum binds the undo data to the block's parent."""
    checksum = double_sha256(block.prev_hash + block.undo)
    return MAGIC + struct.pack("<I", len(block.undo)) + block.undo + checksum


def _append(path: Path, record: bytes) -> int:
    """Add `record`, obfuscated, to the end of a file and return the file's new size."""
    with path.open("ab") as file:
        offset = file.tell()
        file.write(_obfuscated(record, offset))
        return file.tell()


def _obfuscated(data: bytes, offset: int) -> bytes:
    """`data` XOR the key, which repeats from the start of the file."""
    turn = offset % len(XOR_KEY)
    key = np.frombuffer(XOR_KEY[turn:] + XOR_KEY[:turn], np.uint8)
    return (np.frombuffer(data, np.uint8) ^ np.resize(key, len(data))).tobytes()
