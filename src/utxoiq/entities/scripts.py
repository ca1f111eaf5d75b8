"""The scripts of a label set, each of one owner, as arrays: made in memory or mapped from a compiled file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from utxoiq.entities._addresses import SCRATCH, read_list
from utxoiq.entities._rows import gather, keys_of, settle
from utxoiq.entities.index import ScriptIndex, Size, in_memory, make_tables, table_sizes
from utxoiq.entities.words import script_of_word
from utxoiq.errors import DecodeError, LabelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from utxoiq.chain.block import Outputs
    from utxoiq.chain.network import Network
    from utxoiq.entities.index import Allocate, Tables

SHORTEST = 11
"""Characters of the shortest that stands for a script, with its quotes: `script:` and a byte."""


class Scripts:
    """Distinct scripts in the order of `_rows`: row i is blob[offsets[i] : offsets[i + 1]], listed under label[i],
    whose entity is owner[label[i]]."""

    def __init__(
        self, blob: NDArray[np.uint8], offsets: NDArray[np.int64], label: NDArray[np.int32], tables: Tables,
        owner: NDArray[np.int32],
    ) -> None:  # fmt: skip
        self.blob, self.offsets, self.label, self.owner = blob, offsets, label, owner
        self._index = ScriptIndex.from_blob(blob, offsets, tables)

    def __len__(self) -> int:
        return len(self._index)

    def script(self, row: int) -> bytes:
        return self.blob[self.offsets[row] : self.offsets[row + 1]].tobytes()

    def keys(self) -> NDArray[np.uint64]:
        """The key of each row, ascending."""
        keys = np.empty(len(self), np.uint64)
        keys_of(self.blob, self.offsets, keys)
        return keys

    def label_of(self, script: bytes) -> int | None:
        """The number of the label a script is listed under, None where it has no owner or several."""
        row = self._index.row_of(script)
        return int(self.label[row]) if row >= 0 else None

    def owners_of(self, outputs: Outputs) -> NDArray[np.int32]:
        """The number of the owner of each output's script, -1 where there is none."""
        rows = self._index.match(outputs)
        found = np.flatnonzero(rows >= 0)
        rows[found] = self.owner[self.label[rows[found]]]
        return rows

    def under(self, labels: Sequence[int]) -> Iterator[bytes]:
        """The scripts that are listed under these labels."""
        for row in np.flatnonzero(np.isin(self.label, labels)).tolist():
            yield self.script(row)


def array_sizes(scripts: int, size: int) -> list[Size]:
    """Of all arrays for so many scripts of `size` bytes together."""
    own = [("blob", "|u1", size + 1), ("offsets", "<i8", scripts + 1), ("label", "<i4", scripts)]
    return [*own, *table_sizes(scripts)]


def key_check() -> str:
    """The key of a fixed script, hex: arrays made under other keys can't be used."""
    key = np.empty(1, np.uint64)
    keys_of(np.frombuffer(b"\x76\xa9utxoiq", np.uint8), np.array([0, 8], np.int64), key)
    return f"{int(key[0]):016x}"


class Written:
    """Scripts as they are read from a text, in its order: with repeats, and with those that several own."""

    def __init__(
        self, text: NDArray[np.uint8], lists: Sequence[tuple[int, int]], names: Sequence[str], network: Network
    ) -> None:
        """`lists` are where in the text the inside of each label's list of addresses is, `names` whose labels they are.

        Raises LabelError, with that name, for an address that is not of `network`.
        """
        room = sum(end - start for start, end in lists)
        self.blob = np.empty(room + 1, np.uint8)
        self.offsets = np.zeros(room // SHORTEST + len(lists) + 2, np.int64)
        prefix, scratch = np.frombuffer(network.bech32_prefix.encode(), np.uint8), np.empty(SCRATCH, np.uint32)
        self.counts, rows = [], 0
        for (start, end), name in zip(lists, names, strict=True):
            count = read_list(
                text, start, end, network.p2pkh_prefix, network.p2sh_prefix, prefix, self.blob, self.offsets, rows,
                scratch,
            )  # fmt: skip
            if count < 0:
                raise _refused(text[-1 - count : min(end, 199 - count)].tobytes(), name, network)
            self.counts.append(count)
            rows += count
        self.offsets = self.offsets[: rows + 1]
        self.label = np.repeat(np.arange(len(lists), dtype=np.int32), self.counts)


def _refused(text: bytes, name: str, network: Network) -> LabelError:
    word = text.split(b'"')[0].decode("ascii", "backslashreplace")
    try:
        script_of_word(word, network)
    except DecodeError as error:
        return LabelError(f"entity {name}: {error}")
    return LabelError(f"entity {name}: {word[:100]!r} is not written as a plain text in a list of addresses")


def from_texts(texts: Sequence[str], ids: Sequence[str], owner: NDArray[np.int32], network: Network) -> Scripts:
    """Of a text of addresses, a space between, for each label; `ids` and `owner` say whose. Raises LabelError."""
    parts = ['"' + text.replace(" ", '","') + '"' if text else "" for text in texts]
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    lists = [(int(end) - len(part), int(end)) for part, end in zip(parts, ends, strict=True)]
    data = np.frombuffer("".join(parts).encode("ascii", "replace") or b"\0", np.uint8)
    return Sorted(Written(data, lists, ids, network), owner).scripts()


class Sorted:
    """Written scripts in order: which to keep, and which have several owners."""

    def __init__(self, written: Written, owner: NDArray[np.int32]) -> None:
        keys = np.empty(len(written.label), np.uint64)
        keys_of(written.blob, written.offsets, keys)
        self._written, self._owner = written, owner
        self._order = np.argsort(keys, kind="stable")
        self._fate = np.empty(len(keys), np.uint8)
        totals = np.empty(2, np.int64)
        settle(keys, self._order, written.blob, written.offsets, written.label, owner, self._fate, totals)
        self.kept, self.size = totals.tolist()
        """Scripts of one owner, and their bytes."""

    def contested(self) -> Iterator[tuple[bytes, list[int]]]:
        """Each script of several owners with their numbers, ascending."""
        for at in np.flatnonzero(self._fate == 2).tolist():
            end = at + 1
            while end < len(self._fate) and self._fate[end] == 0:
                end += 1
            rows, written = self._order[at:end], self._written
            script = written.blob[written.offsets[rows[0]] : written.offsets[rows[0] + 1]].tobytes()
            yield script, sorted(set(self._owner[written.label[rows]].tolist()))

    def scripts(self, allocate: Allocate | None = None) -> Scripts:
        """The ones to keep, in arrays of `array_sizes` that `allocate` gives."""
        allocate = allocate or in_memory(array_sizes(self.kept, self.size))
        blob, offsets, label = map(allocate, ("blob", "offsets", "label"))
        written = self._written
        gather(self._order, self._fate, written.blob, written.offsets, written.label, blob, offsets, label)
        return Scripts(blob, offsets, label, make_tables(blob, offsets, allocate), self._owner)
