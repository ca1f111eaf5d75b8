"""Scripts by content: which labelled script, if any, each output of a block carries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from utxoiq.entities._lookup import BUCKET, build, match
from utxoiq.entities._rows import keys_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from utxoiq.chain.block import Outputs

    Allocate = Callable[[str], NDArray[Any]]
    """Gives an array of zeros, of the size that the one of this name is known to have."""

Size = tuple[str, str, int]
"""Name, dtype and length of an array."""

LOAD = 0.72
BLOOM_BITS_A_KEY = 12


class Tables(NamedTuple):
    """What finds scripts: a Bloom filter of words, and buckets of keys with the row of each plus one, 0 where free."""

    bloom: NDArray[np.uint64]
    keys: NDArray[np.uint64]
    rows: NDArray[np.int32]


def table_sizes(scripts: int) -> list[Size]:
    """Of the tables for so many scripts; words of the filter and buckets are powers of two."""
    words = 1 << max(1, int(np.ceil(np.log2(max(scripts, 1) * BLOOM_BITS_A_KEY / 64))))
    buckets = 1 << max(0, int(np.ceil(np.log2(max(scripts, 1) / (BUCKET * LOAD)))))
    return [("bloom", "<u8", words), ("keys", "<u8", buckets * BUCKET), ("rows", "<i4", buckets * BUCKET)]


def in_memory(sizes: Sequence[Size]) -> Allocate:
    """What makes arrays of these sizes."""
    return lambda wanted: next(np.zeros(length, dtype) for name, dtype, length in sizes if name == wanted)


def make_tables(blob: NDArray[np.uint8], offsets: NDArray[np.int64], allocate: Allocate | None = None) -> Tables:
    """Tables over distinct scripts laid end to end: row i is blob[offsets[i] : offsets[i + 1]]."""
    tables = Tables(*map(allocate or in_memory(table_sizes(len(offsets) - 1)), Tables._fields))
    keys = np.empty(len(offsets) - 1, np.uint64)
    keys_of(blob, offsets, keys)
    if build(keys, tables.bloom, len(tables.bloom).bit_length() - 1, tables.keys, tables.rows) < 0:
        raise AssertionError("a table sized for its keys is full")
    return tables


class ScriptIndex:
    """An immutable set of distinct scripts; row i is the i-th given."""

    def __init__(self, scripts: Sequence[bytes]) -> None:
        offsets = np.zeros(len(scripts) + 1, np.int64)
        np.cumsum([len(script) for script in scripts], out=offsets[1:])
        self._fill(np.frombuffer(b"".join(scripts) or b"\0", np.uint8), offsets, None)

    @classmethod
    def from_blob(
        cls, blob: NDArray[np.uint8], offsets: NDArray[np.int64], tables: Tables | None = None
    ) -> ScriptIndex:
        """From scripts laid end to end: row i is blob[offsets[i] : offsets[i + 1]]. A mapped file will do, and for
        the tables over them, which are made where none are given."""
        index = cls.__new__(cls)
        index._fill(blob, offsets, tables)
        return index

    def _fill(self, blob: NDArray[np.uint8], offsets: NDArray[np.int64], tables: Tables | None) -> None:
        self._blob, self._offsets = blob, offsets
        self._tables = tables or make_tables(blob, offsets)
        self._bloom_bits = len(self._tables.bloom).bit_length() - 1

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @property
    def nbytes(self) -> int:
        """Bytes of the tables, without the scripts themselves."""
        return self._offsets.nbytes + sum(table.nbytes for table in self._tables)

    def match(self, outputs: Outputs) -> NDArray[np.int32]:
        """The row of each output's script, or -1."""
        return self._match(outputs.data, outputs.offset, outputs.length, outputs.key)

    def row_of(self, script: bytes) -> int:
        """The row of one script, or -1."""
        data, ends = np.frombuffer(script or b"\0", np.uint8), np.array([0, len(script)], np.int64)
        key = np.empty(1, np.uint64)
        keys_of(data, ends, key)
        return int(self._match(data, ends[:1].astype(np.uint32), ends[1:].astype(np.uint32), key)[0])

    def _match(
        self, data: NDArray[np.uint8], offset: NDArray[np.uint32], length: NDArray[np.uint32], key: NDArray[np.uint64]
    ) -> NDArray[np.int32]:
        found, candidates = np.empty((2, len(key) + 1), np.int32)
        match(
            data, offset, length, key, len(key), self._blob, self._offsets, self._tables.bloom, self._bloom_bits,
            self._tables.keys, self._tables.rows, candidates, found,
        )  # fmt: skip
        return found[: len(key)]
