"""Whose is a script? A sorted table without an object for each: millions fit where a dict would not."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

LENGTH, NUMBER = 4, 4
"""Bytes of a script's length before it, and, while the table is made, of its owner's number after it."""


class Owners:
    """Scripts with the number of their owner, by whole script. One that several own has none."""

    def __init__(self, owned: Iterable[tuple[bytes, int]]) -> None:
        keys = sorted(_key(script) + owner.to_bytes(NUMBER, "big") for script, owner in owned)
        self._keys, self._ends, self._owners = bytearray(), array("Q", [0]), array("L")
        self.contested: list[tuple[bytes, list[int]]] = []
        """Scripts of several owners, with these in the order of their numbers."""
        at = 0
        while at < len(keys):
            key, owners = keys[at][:-NUMBER], set[int]()
            while at < len(keys) and keys[at][:-NUMBER] == key:
                owners.add(int.from_bytes(keys[at][-NUMBER:], "big"))
                at += 1
            if len(owners) > 1:
                self.contested.append((key[LENGTH:], sorted(owners)))
                continue
            self._keys += key
            self._ends.append(len(self._keys))
            self._owners.append(owners.pop())

    def __len__(self) -> int:
        return len(self._owners)

    def of(self, script: bytes) -> int | None:
        """The number of its owner, None where there is none or more than one."""
        key, low, high = _key(script), 0, len(self._owners)
        while low < high:
            middle = (low + high) // 2
            if self._at(middle) < key:
                low = middle + 1
            else:
                high = middle
        return self._owners[low] if low < len(self._owners) and self._at(low) == key else None

    def _at(self, row: int) -> bytearray:
        return self._keys[self._ends[row] : self._ends[row + 1]]


def _key(script: bytes) -> bytes:
    """With its length before it, so that no key begins another."""
    return len(script).to_bytes(LENGTH, "big") + script
