"""The records of a ledger: runs on disk, one a range of keys, and over them a delta of what changed since.

When the delta is full, the runs with most changes are merged: written anew, aside, with their changes in. Until a
manifest names the new ones the old ones stay, so that a crash loses nothing but that work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from utxoiq.balances.delta import Delta
from utxoiq.balances.files import sync
from utxoiq.balances.manifest import RunPlace
from utxoiq.balances.run import Run, Scratch, run_path, split_records, write_run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from utxoiq.balances.records import Settings

LARGEST_BLOCK = 1 << 17
"""More scripts than a block can pay and spend from: an output takes 9 bytes of at most 1,000,000, an input 41."""
LAST_KEY = 2**64 - 1


@dataclass(slots=True)
class Range:
    """A range of keys: its run, the last step merged into it, and how many records of the delta lie in it."""

    first: int
    run: Run
    step: int
    changed: int = 0

    @property
    def place(self) -> RunPlace:
        """As the manifest has it."""
        return RunPlace(self.first, self.run.number, self.step)


class Layers:
    """Values (sat, heights) by key, in runs and a delta. Keys are given sorted, of shape (n, 2)."""

    def __init__(
        self, folder: Path, ledger: bytes, places: tuple[RunPlace, ...], next_number: int, settings: Settings
    ) -> None:
        self.folder, self.ledger, self.next_number, self._settings = folder, ledger, next_number, settings
        self._scratch = Scratch()
        self._ranges = [Range(place.first, self._open(place.number), place.step) for place in places]
        self._delta = Delta(settings.delta_limit + LARGEST_BLOCK)
        self._unsynced: list[Run] = []
        self._superseded: list[Run] = []
        self._note_ranges()

    def _open(self, number: int) -> Run:
        return Run(run_path(self.folder, number), self.ledger, number, self._scratch)

    def _note_ranges(self) -> None:
        self._firsts = np.array([part.first for part in self._ranges], np.uint64)

    def _ends(self, keys: NDArray[np.uint64]) -> list[int]:
        """Where in the sorted keys each range ends."""
        return [*np.searchsorted(keys[:, 0], self._firsts[1:]).tolist(), len(keys)]

    @property
    def places(self) -> tuple[RunPlace, ...]:
        """The runs, for a manifest."""
        return tuple(part.place for part in self._ranges)

    @property
    def oldest_step(self) -> int:
        """All steps after this one are needed to make the delta again."""
        return min(part.step for part in self._ranges)

    def values(self, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Sat and heights of each key, zero where it holds nothing. Raises LedgerDamaged."""
        found = np.zeros((len(keys), 2), np.uint64)
        pending = self._delta.find(keys, found)
        begin = 0
        for part, end in zip(self._ranges, self._ends(keys), strict=True):
            if begin < end:
                part.run.lookup(keys, begin, end, pending, found)
            begin = end
        return found

    def put(self, keys: NDArray[np.uint64], values: NDArray[np.uint64]) -> None:
        """Set the values of keys; `make_room` has been asked for as many."""
        fresh = self._delta.put(keys, values)
        begin = 0
        for part, end in zip(self._ranges, self._ends(keys), strict=True):
            part.changed += int(fresh[begin:end].sum())
            begin = end

    def put_again(self, keys: NDArray[np.uint64], values: NDArray[np.uint64], step: int) -> None:
        """As `put`, at a start: leaves out what the runs have of that step already."""
        missing = np.array([part.step < step for part in self._ranges])
        wanted = missing[np.searchsorted(self._firsts, keys[:, 0], side="right") - 1]
        self.put(np.ascontiguousarray(keys[wanted]), np.ascontiguousarray(values[wanted]))

    def make_room(self, count: int, step: int) -> None:
        """Merge the runs with most changes until so many keys more are no more than the delta's limit."""
        limit = max(self._settings.delta_limit - count, 0)
        while self._delta.count > limit:
            self._merge(max(self._ranges, key=lambda part: part.changed), step)

    def merge_older(self, oldest: int, step: int) -> None:
        """Merge the runs that lack steps from before `oldest`."""
        for part in [part for part in self._ranges if part.step < oldest]:
            if part.changed:
                self._merge(part, step)
            else:
                part.step = step

    def _merge(self, part: Range, step: int) -> None:
        """Write a range's run anew, as two or more where it has grown too long. `step` is the last in the delta."""
        at = self._ranges.index(part)
        last = self._last_of(at)
        most = self._settings.run_records
        records = part.run.merged(self._delta.between(part.first, last, part.changed))
        pieces = [Range(first, self._write(piece), step) for first, piece in split_records(part.first, records, most)]
        self._delta.forget(part.first, last, part.changed)
        self._ranges[at : at + 1] = pieces
        self._note_ranges()
        self._superseded.append(part.run)

    def _last_of(self, at: int) -> int:
        return self._ranges[at + 1].first - 1 if at + 1 < len(self._ranges) else LAST_KEY

    def _write(self, records: NDArray[np.uint64]) -> Run:
        number = self.next_number
        self.next_number += 1
        write_run(run_path(self.folder, number), self.ledger, number, records)
        run = self._open(number)
        self._unsynced.append(run)
        return run

    def sync(self) -> None:
        """Make sure of all runs written since the last time."""
        for run in self._unsynced:
            if run not in self._superseded:
                sync(run.path)
        self._unsynced.clear()

    def delete_superseded(self) -> None:
        """Delete the files of runs that no manifest names any more."""
        for run in self._superseded:
            run.delete()
        self._superseded.clear()

    def ranges(self) -> Iterator[NDArray[np.uint64]]:
        """All records, as they are now, range by range, each an array of words that is good until the next. Raises
        LedgerDamaged."""
        for at, part in enumerate(self._ranges):
            yield part.run.merged(self._delta.between(part.first, self._last_of(at), part.changed))

    def check(self) -> None:
        """Verify all that is on disk. Raises LedgerDamaged."""
        for part in self._ranges:
            part.run.check()
