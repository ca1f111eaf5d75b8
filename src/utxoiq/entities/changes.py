"""What a new edition of the labels says differently: scripts that were withdrawn, added, or have another owner now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from utxoiq.entities._rows import differences

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from utxoiq.entities.labels import LabelSet
    from utxoiq.entities.records import Entity
    from utxoiq.entities.scripts import Scripts


class Change(NamedTuple):
    """A script, and the ids of its one owner before and after; None where it had none, or several."""

    script: bytes
    before: str | None
    after: str | None


@dataclass(frozen=True)
class LabelChanges:
    """What differs between two label sets. As an iterable: a Change for each script with another owner, made one by
    one; `len` is their number."""

    old: LabelSet
    new: LabelSet
    old_rows: NDArray[np.int64]
    new_rows: NDArray[np.int64]
    """Rows of those scripts in the two sets, -1 where a set has none."""

    restated: frozenset[str]
    """Ids of entities in both sets whose name, kind, ticker, tags or holdings are not the same."""

    def __len__(self) -> int:
        return len(self.old_rows)

    def __iter__(self) -> Iterator[Change]:
        for old, new in zip(self.old_rows.tolist(), self.new_rows.tolist(), strict=True):
            script = self.old.scripts.script(old) if old >= 0 else self.new.scripts.script(new)
            yield Change(script, _owner(self.old, old), _owner(self.new, new))

    @property
    def lost(self) -> Counter[str]:
        """How many scripts each entity no longer has: what it was said to do with them no longer holds."""
        return _counted(self.old, self.old_rows)

    @property
    def gained(self) -> Counter[str]:
        """How many scripts each entity has now that it had not."""
        return _counted(self.new, self.new_rows)

    @property
    def entities(self) -> frozenset[str]:
        """Ids of all entities that lost or gained a script or were restated."""
        return self.restated | self.lost.keys() | self.gained.keys()


def changes(old: LabelSet, new: LabelSet) -> LabelChanges:
    """Compare two label sets of one network, script by script, in the order both keep.

    Memory: 8 bytes a script of either set and 16 a change. Raises LabelError where a set's scripts can't be read.
    """
    assert old.network.name == new.network.name
    numbers = {entity: number for number, entity in enumerate({**old.entities, **new.entities})}
    sides = [(labels.scripts, labels.scripts.keys(), _renumbered(labels, numbers)) for labels in (old, new)]
    count = _differences(sides, np.empty(0, np.int64), np.empty(0, np.int64), write=False)
    rows = np.empty((2, count), np.int64)
    _differences(sides, rows[0], rows[1], write=True)
    restated = {
        entity for entity in old.entities.keys() & new.entities.keys()
        if _stated(old.entities[entity]) != _stated(new.entities[entity])
    }  # fmt: skip
    return LabelChanges(old, new, rows[0], rows[1], frozenset(restated))


Side = tuple["Scripts", "NDArray[np.uint64]", "NDArray[np.int32]"]


def _differences(sides: list[Side], old_rows: NDArray[np.int64], new_rows: NDArray[np.int64], *, write: bool) -> int:
    columns = [
        column
        for scripts, keys, owner in sides
        for column in (scripts.blob, scripts.offsets, scripts.label, keys, owner)
    ]
    return int(differences(*columns, write, old_rows, new_rows))


def _renumbered(labels: LabelSet, numbers: dict[str, int]) -> NDArray[np.int32]:
    return np.array([numbers[entity.id] for entity, _ in labels.labels], np.int32)


def _stated(entity: Entity) -> tuple[object, ...]:
    return entity.name, entity.kind, entity.ticker, entity.tags, entity.known_holdings, entity.holdings


def _owner(labels: LabelSet, row: int) -> str | None:
    return labels.labels[labels.scripts.label[row]][0].id if row >= 0 else None


def _counted(labels: LabelSet, rows: NDArray[np.int64]) -> Counter[str]:
    scripts = labels.scripts
    numbers, counts = np.unique(scripts.owner[scripts.label[rows[rows >= 0]]], return_counts=True)
    return Counter({labels.numbered(n).id: count for n, count in zip(numbers.tolist(), counts.tolist(), strict=True)})
