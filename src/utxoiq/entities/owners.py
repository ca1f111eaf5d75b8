"""Whose is a script? Sorted tables without an object for each: millions fit where a dict would not."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

LENGTH, NUMBER = 4, 4
"""Bytes of a script's length before it, and of its owner's number after it, while the tables are made."""


class Owners:
    """Distinct scripts, by length and then bytes, with the number of the owner of each; one that several own is in
    `contested` instead. Script i is scripts[ends[i] : ends[i + 1]], its owner owners[i]."""

    def __init__(self, owned: Iterable[tuple[bytes, int]]) -> None:
        keys = sorted(_key(script) + owner.to_bytes(NUMBER, "big") for script, owner in owned)
        self.scripts, self.ends, self.owners = bytearray(), array("q", [0]), array("i")
        self.contested: list[tuple[bytes, list[int]]] = []
        """With their owners, in the order of their numbers."""
        at = 0
        while at < len(keys):
            script, owners = keys[at][LENGTH:-NUMBER], set[int]()
            while at < len(keys) and keys[at][LENGTH:-NUMBER] == script:
                owners.add(int.from_bytes(keys[at][-NUMBER:], "big"))
                at += 1
            if len(owners) > 1:
                self.contested.append((script, sorted(owners)))
                continue
            self.scripts += script
            self.ends.append(len(self.scripts))
            self.owners.append(owners.pop())

    def __len__(self) -> int:
        return len(self.owners)

    def of(self, script: bytes) -> int | None:
        """The number of its owner, None where there is none or more than one."""
        key, low, high = _key(script), 0, len(self.owners)
        while low < high:
            middle = (low + high) // 2
            if self._key_at(middle) < key:
                low = middle + 1
            else:
                high = middle
        return self.owners[low] if low < len(self.owners) and self._key_at(low) == key else None

    def _key_at(self, row: int) -> bytes:
        return _key(self.scripts[self.ends[row] : self.ends[row + 1]])


def _key(script: bytes | bytearray) -> bytes:
    """With its length before it, so that no key begins another."""
    return len(script).to_bytes(LENGTH, "big") + script
