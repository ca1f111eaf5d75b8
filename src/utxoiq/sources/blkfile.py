"""Bitcoin Core's blk and rev files: framed records, XORed with a key since version 28, with zeros kept in advance."""

from __future__ import annotations

import gzip
import mmap
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utxoiq.errors import SourceError

FRAME = 8
KEY_SIZE = 8
SEARCH_STEP = 1 << 20


class Record(NamedTuple):
    """Where a record's payload lies in its file."""

    position: int
    size: int


class RecordFile:
    """One blk or rev file (or its .gz), read without ever being written or locked.

    `skipped` collects (position, bytes) of regions that hold no record: damage, or a torn last write.
    """

    def __init__(self, path: Path, key: bytes, magic: bytes, trailer: int) -> None:
        self.path, self.magic, self.trailer = path, magic, trailer
        self.skipped: list[tuple[int, int]] = []
        self._key = np.frombuffer(key, np.uint64)
        self._data = _open(path)

    def head(self) -> bytes:
        """The first four bytes, fewer in an empty file."""
        return self.read(0, min(4, len(self._data)))

    def read(self, position: int, size: int) -> bytes:
        """`size` bytes from `position`, with the key taken off. Raises SourceError beyond the end."""
        if position < 0 or position + size > len(self._data):
            raise SourceError(f"{self.path}: ends before byte {position + size}")
        start = position - position % KEY_SIZE
        stop = -(-(position + size) // KEY_SIZE) * KEY_SIZE
        chunk = bytes(self._data[start:stop])
        words = np.frombuffer(chunk.ljust(stop - start, b"\0"), np.uint64) ^ self._key
        return words.tobytes()[position - start : position - start + size]

    def written(self, position: int, size: int) -> bool:
        """Whether these bytes differ from the zeros that a node keeps in advance (which carry no key)."""
        return bytes(self._data[position : position + size]) != bytes(size)

    def records(self) -> Iterator[Record]:
        """The records in file order. What lies between them is noted in `skipped`, unless it is zeros."""
        position, end = 0, len(self._data)
        while end - position >= FRAME:
            magic, size = struct.unpack("<4sI", self.read(position, FRAME))
            if magic == self.magic and size + self.trailer <= end - position - FRAME:
                yield Record(position + FRAME, size)
                position += FRAME + size + self.trailer
                continue
            following = self._next_magic(position + 1)
            if any(
                self.written(at, min(SEARCH_STEP, following - at)) for at in range(position, following, SEARCH_STEP)
            ):
                self.skipped.append((position, following - position))
            position = following

    def _next_magic(self, position: int) -> int:
        end = len(self._data)
        while position < end:
            found = self.read(position, min(SEARCH_STEP, end - position)).find(self.magic)
            if found >= 0:
                return position + found
            position += SEARCH_STEP - len(self.magic) + 1
        return end

    def close(self) -> None:
        """Let go of the mapped file."""
        if isinstance(self._data, mmap.mmap):
            self._data.close()


def _open(path: Path) -> mmap.mmap | bytes:
    try:
        if path.suffix == ".gz":
            return gzip.decompress(path.read_bytes())
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{path}: can't be read ({error})") from error


def read_key(folder: Path) -> bytes:
    """The obfuscation key of a blocks directory: `xor.dat`, or zeros where there is none (before version 28).

    Raises SourceError for a key file that has not 8 bytes.
    """
    try:
        key = (folder / "xor.dat").read_bytes()
    except FileNotFoundError:
        return bytes(KEY_SIZE)
    if len(key) != KEY_SIZE:
        raise SourceError(f"{folder / 'xor.dat'}: a key has {KEY_SIZE} bytes, this has {len(key)}")
    return key
