"""The block tree: every header and block the double has heard of, with its work and its order of arrival."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from helpers.node.wire import Transaction, read_block
from helpers.reference import sha256d
from utxoiq.chain.serialize import Coin


@dataclass(eq=False)
class Entry:
    """One block: its header, and what is known of the rest."""

    header: bytes
    hash: bytes
    prev: Entry | None
    height: int
    work: int
    raw: bytes | None = None
    sequence: int | None = None
    """Its place among the blocks whose ancestors are all there, by arrival; None while some are missing."""
    undo: list[list[Coin]] | None = None
    """The coins its transactions spend, the coinbase's (none) left out; None until it is connected once."""
    invalid: bool = False
    """Refused, marked by `invalidateblock`, or on top of one that is."""

    @cached_property
    def transactions(self) -> list[Transaction]:
        assert self.raw is not None
        return read_block(self.raw)[1]

    @property
    def time(self) -> int:
        return int.from_bytes(self.header[68:72], "little")

    @property
    def bits(self) -> int:
        return int.from_bytes(self.header[72:76], "little")

    @property
    def median_time(self) -> int:
        times = sorted(entry.time for entry, _ in zip(self.ancestry(), range(11), strict=False))
        return times[len(times) // 2]

    def ancestry(self) -> Iterator[Entry]:
        """The block itself and what is under it, downward."""
        entry: Entry | None = self
        while entry is not None:
            yield entry
            entry = entry.prev

    def better_than(self, other: Entry) -> bool:
        """More work, or as much and here first."""
        assert self.sequence is not None
        assert other.sequence is not None
        return (self.work, -self.sequence) > (other.work, -other.sequence)


def target_of(bits: int) -> int:
    """The threshold a header's nBits stand for."""
    return (bits & 0x7FFFFF) << 8 * ((bits >> 24) - 3)


class BlockTree:
    """All entries by hash."""

    def __init__(self, genesis: bytes) -> None:
        self.entries: dict[bytes, Entry] = {}
        self._arrivals = 0
        self._unlinked: list[Entry] = []
        self.genesis = self.add_header(genesis[:80])
        self.add_block(self.genesis, genesis)

    def add_header(self, header: bytes) -> Entry:
        """The entry of this header, made if it is new. Its parent must be known."""
        block_hash = sha256d(header)
        if block_hash not in self.entries:
            prev = self.entries[header[4:36]] if self.entries else None
            work = (1 << 256) // (target_of(int.from_bytes(header[72:76], "little")) + 1)
            below = (prev.height + 1, prev.work + work) if prev else (0, work)
            self.entries[block_hash] = Entry(header, block_hash, prev, *below)
        return self.entries[block_hash]

    def add_block(self, entry: Entry, raw: bytes) -> list[Entry]:
        """Store a block. Returns the blocks all of whose ancestors are here now and were not before."""
        entry.raw = raw
        linked, waiting = [], [entry]
        while waiting:
            candidate = waiting.pop(0)
            if candidate.prev is not None and candidate.prev.sequence is None:
                self._unlinked.append(candidate)
                continue
            candidate.sequence = self._arrivals
            self._arrivals += 1
            linked.append(candidate)
            waiting += [other for other in self._unlinked if other.prev is candidate]
            self._unlinked = [other for other in self._unlinked if other.prev is not candidate]
        return linked

    def leaves(self) -> list[Entry]:
        """Entries nothing is built on."""
        parents = {id(entry.prev) for entry in self.entries.values()}
        return [entry for entry in self.entries.values() if id(entry) not in parents]

    def mark_invalid(self, entry: Entry) -> None:
        """Mark a block and everything on top of it."""
        entry.invalid = True
        for other in self.entries.values():  # parents come before their children
            other.invalid = other.invalid or (other.prev is not None and other.prev.invalid)

    def reconsider(self, entry: Entry) -> None:
        """Take the mark off a block, what is under it and what is on top of it."""
        cleared = set(entry.ancestry())
        for other in self.entries.values():
            if other is entry or (other.prev in cleared and other.height > entry.height):
                cleared.add(other)
        for other in cleared:
            other.invalid = False
