"""Scripts by content: which labelled script, if any, each output of a block carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from utxoiq.chain._walk import script_keys
from utxoiq.entities._lookup import BUCKET, build, match

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from utxoiq.chain.block import Outputs

LOAD = 0.72
BLOOM_BITS_A_KEY = 12


class ScriptIndex:
    """An immutable set of distinct scripts; row i is the i-th given."""

    def __init__(self, scripts: Sequence[bytes]) -> None:
        offsets = np.zeros(len(scripts) + 1, np.int64)
        np.cumsum([len(script) for script in scripts], out=offsets[1:])
        self._fill(np.frombuffer(b"".join(scripts) or b"\0", np.uint8), offsets)

    @classmethod
    def from_blob(cls, blob: NDArray[np.uint8], offsets: NDArray[np.int64]) -> ScriptIndex:
        """From scripts laid end to end: row i is blob[offsets[i] : offsets[i + 1]]. A mapped file will do."""
        index = cls.__new__(cls)
        index._fill(blob, offsets)
        return index

    def _fill(self, blob: NDArray[np.uint8], offsets: NDArray[np.int64]) -> None:
        n = len(offsets) - 1
        self._blob, self._offsets = blob, offsets
        keys = np.empty(n, np.uint64)
        script_keys(blob, offsets[:-1].astype(np.uint32), np.diff(offsets).astype(np.uint32), n, keys)
        buckets = 1 << max(0, int(np.ceil(np.log2(max(n, 1) / (BUCKET * LOAD)))))
        self._bloom_bits = max(1, int(np.ceil(np.log2(max(n, 1) * BLOOM_BITS_A_KEY / 64))))
        self._bloom = np.zeros(1 << self._bloom_bits, np.uint64)
        self._table = np.zeros(buckets * BUCKET, np.uint64)
        self._entry = np.full(buckets * BUCKET, -1, np.int32)
        if build(keys, self._bloom, self._bloom_bits, self._table, self._entry) < 0:
            raise AssertionError("a table sized for its keys is full")

    @property
    def nbytes(self) -> int:
        """Bytes of the tables, without the scripts themselves."""
        return self._table.nbytes + self._entry.nbytes + self._bloom.nbytes + self._offsets.nbytes

    def match(self, outputs: Outputs) -> NDArray[np.int32]:
        """The row of each output's script, or -1."""
        n = len(outputs.value)
        found, candidates = np.empty((2, n + 1), np.int32)
        match(
            outputs.data, outputs.offset, outputs.length, outputs.key, n, self._blob, self._offsets,
            self._bloom, self._bloom_bits, self._table, self._entry, candidates, found,
        )  # fmt: skip
        return found[:n]
