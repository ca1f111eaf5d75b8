"""Records that changed since the runs on disk were written, in memory: sorted, so that any range can leave."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from utxoiq.balances._table import collect, find, forget, put

if TYPE_CHECKING:
    from numpy.typing import NDArray

SPARE = 4096
"""Slots after the last place to begin; probing at half load goes past a hundred once in a lifetime."""
RECORD = np.dtype([("key", np.uint64, 2), ("sat", np.int64), ("heights", np.uint64)])
"""A record of the ledger, 32 bytes: the script's key, what it holds (0 in a delta: no longer in the ledger), and
first_seen * 2**32 + last_seen."""


def new_table(records: int) -> tuple[NDArray[np.uint64], np.uint64]:
    """An empty table for so many records at half load, and by how much a key is shifted to find its place."""
    bits = max(4, (2 * records - 1).bit_length())
    return np.zeros(4 * ((1 << bits) + SPARE), np.uint64), np.uint64(64 - bits)


class Delta:
    """Keys with new values: sat and heights, or zero and zero for a script that holds nothing any more."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0
        self._table, self._shift = new_table(capacity)

    def put(self, keys: NDArray[np.uint64], values: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Set values (n, 2) of keys (n, 2); gives which of them were not there."""
        assert self.count + len(keys) <= self.capacity
        fresh = np.empty(len(keys), np.uint8)
        added = put(self._table, self._shift, keys.reshape(-1), values.reshape(-1), fresh)
        assert added >= 0
        self.count += added
        return fresh

    def find(self, keys: NDArray[np.uint64], values: NDArray[np.uint64]) -> NDArray[np.uint8]:
        """Fill in `values` of those that are here; gives 1 for those that are not."""
        pending = np.empty(len(keys), np.uint8)
        find(self._table, self._shift, keys.reshape(-1), values.reshape(-1), pending)
        return pending

    def between(self, first: int, last: int, most: int) -> NDArray[np.uint64]:
        """The records whose key begins with first to last, at most `most`, as words in order."""
        records = np.empty(4 * most, np.uint64)
        return records[: 4 * collect(self._table, self._shift, np.uint64(first), np.uint64(last), records)]

    def forget(self, first: int, last: int, count: int) -> None:
        """Drop those records, of which there are `count`."""
        forget(self._table, self._shift, np.uint64(first), np.uint64(last))
        self.count -= count
