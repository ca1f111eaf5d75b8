"""A run: the records of one range of keys, sorted, in a file that is written once and then only read.

    page 0    header: magic, the ledger's id, records, the file's number, digest of the tables; then its own digest
    pages     32 records of 32 bytes, little-endian; the last is filled up with zeros
    tables    fences, sums (a word a page each), and the Bloom filter

Header and tables are verified when it is opened, a page whenever it is read; nothing is ever written in place, so that
a write cut short can only be in a file no manifest names yet.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import numpy as np

from utxoiq.balances._pages import (
    BLOOM_RECORDS,
    PAGE,
    PAGE_RECORDS,
    PAGE_WORDS,
    finish,
    in_order,
    lookup,
    merge,
    verify,
)
from utxoiq.balances.errors import LedgerDamaged, disk_errors
from utxoiq.balances.files import DIGEST, digest_of, write_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

MAGIC = b"utxoiqR\x01"
HEADER = struct.Struct("<8s16sQQ16s")


class Scratch:
    """Room for the old and the new records of one run, and for one page, used again and again: fresh memory costs more
    than what is done with it."""

    def __init__(self) -> None:
        self._rooms = [np.empty(0, np.uint64), np.empty(0, np.uint64)]
        self.page = np.empty(PAGE_WORDS, np.uint64)

    def room(self, which: int, words: int) -> NDArray[np.uint64]:
        """Room 0 or 1, whose contents are gone."""
        if len(self._rooms[which]) < words:
            self._rooms[which] = np.empty(words + words // 4, np.uint64)
        return self._rooms[which][:words]


def run_path(folder: Path, number: int) -> Path:
    """Where a run is."""
    return folder / f"run.{number:012d}"


def pages_of(count: int) -> int:
    """Pages that so many records take."""
    return -(-count // PAGE_RECORDS)


def _table_sizes(count: int) -> list[int]:
    """Words of fences, sums and filter."""
    return [pages_of(count), pages_of(count), count // BLOOM_RECORDS + 1]


def write_run(path: Path, ledger: bytes, number: int, records: NDArray[np.uint64]) -> None:
    """Write sorted records, as words, to a new file."""
    count = len(records) // 4
    whole = count // PAGE_RECORDS * PAGE_WORDS
    last = np.zeros((pages_of(count) * PAGE_WORDS - whole), np.uint64)
    last[: len(records) - whole] = records[whole:]
    tables = [np.zeros(size, np.uint64) for size in _table_sizes(count)]
    finish(records[:whole], last, count, np.uint64(number), *tables)
    header = HEADER.pack(MAGIC, ledger, count, number, digest_of(*(table.data for table in tables if table.size)))
    header += digest_of(header)
    parts = [records[:whole], last, *tables]
    write_file(path, [header.ljust(PAGE, b"\0"), *(part.data for part in parts if part.size)])


def split_records(first: int, records: NDArray[np.uint64], most: int) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """The records of a range that begins with `first`, in equal parts where they are more than `most`; each with the
    first key word of its range."""
    count = len(records) // 4
    parts = 1 if count <= most else -(-2 * count // most)
    bounds = sorted({_border(records, count * i // parts) for i in range(1, parts)} - {0})
    for begin, end in zip([0, *bounds], [*bounds, count], strict=True):
        yield (int(records[4 * begin]) if begin else first), records[4 * begin : 4 * end]


def _border(records: NDArray[np.uint64], at: int) -> int:
    """The nearest place at or before `at` where the first word of the keys changes."""
    while at and records[4 * at - 4] == records[4 * at]:
        at -= 1
    return at


class Run:
    """An open run. `number` is that of its file: a page of another is not mistaken for its own."""

    def __init__(self, path: Path, ledger: bytes, number: int, scratch: Scratch) -> None:
        """Raises LedgerDamaged for a file that is not what was written, LedgerUnavailable where it can't be read."""
        self.path, self.number, self._scratch, self._file = path, number, scratch, -1
        with disk_errors(path):
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_RANDOM)
            size = os.fstat(self._file).st_size
        self.count, digest = self._read_header(ledger)
        if size != PAGE * (1 + pages_of(self.count)) + 8 * sum(_table_sizes(self.count)):
            raise LedgerDamaged(path, "has another length than it was written with")
        self._tables = self._read_tables(digest)

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)

    def _read_header(self, ledger: bytes) -> tuple[int, bytes]:
        with disk_errors(self.path):
            head = os.pread(self._file, HEADER.size + DIGEST, 0)
        if len(head) < HEADER.size + DIGEST or digest_of(head[: HEADER.size]) != head[HEADER.size :]:
            raise LedgerDamaged(self.path, "its header is not what was written")
        magic, of, count, number, digest = HEADER.unpack_from(head)
        if magic != MAGIC or of != ledger or number != self.number:
            raise LedgerDamaged(self.path, "belongs to another ledger or place")
        return count, digest

    def _read_tables(self, digest: bytes) -> tuple[NDArray[np.uint64], ...]:
        """Fences, sums and filter."""
        pages = pages_of(self.count)
        whole = np.empty(sum(_table_sizes(self.count)), np.uint64)
        self._read(whole, PAGE * (1 + pages))
        if digest_of(whole.data) != digest:
            raise LedgerDamaged(self.path, "its tables are not what was written")
        return whole[:pages], whole[pages : 2 * pages], whole[2 * pages :]

    def _read(self, words: NDArray[np.uint64], position: int) -> None:
        if words.size:
            with disk_errors(self.path):
                read = os.preadv(self._file, [words.data], position)
            if read != words.nbytes:
                raise LedgerDamaged(self.path, "is cut short")

    def lookup(
        self, keys: NDArray[np.uint64], begin: int, end: int, pending: NDArray[np.uint8], values: NDArray[np.uint64]
    ) -> None:
        """Fill in `values` of those of keys[begin:end] that are pending and here. Raises LedgerDamaged."""
        page = lookup(
            self._file, self.count, np.uint64(self.number), *self._tables, keys.reshape(-1), begin, end, pending,
            values.reshape(-1), self._scratch.page,
        )  # fmt: skip
        self._refuse(page)

    def records(self) -> NDArray[np.uint64]:
        """All its records, verified, as words, until scratch room 0 is used again. Raises LedgerDamaged."""
        words = self._scratch.room(0, pages_of(self.count) * PAGE_WORDS)
        self._read(words, PAGE)
        self._refuse(verify(words, np.uint64(self.number), self._tables[1]))
        return words

    def merged(self, changed: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Its records with the changed ones put in, as words, until scratch room 1 is used again. Raises
        LedgerDamaged."""
        out = self._scratch.room(1, 4 * self.count + len(changed))
        return out[: 4 * merge(self.records(), self.count, changed, len(changed) // 4, out)]

    def check(self) -> None:
        """Verify all pages, and their order. Raises LedgerDamaged."""
        if not in_order(self.records(), self.count):
            raise LedgerDamaged(self.path, "its records are not in order")

    def _refuse(self, page: int) -> None:
        if page >= 0:
            raise LedgerDamaged(self.path, f"page {page} is not what was written")

    def delete(self) -> None:
        """Delete its file."""
        with disk_errors(self.path):
            self.path.unlink(missing_ok=True)
