"""Whose coins are, by labels and by what earlier blocks showed of unlabelled scripts (facts/kinship.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from utxoiq.facts.kinship import resolve, script_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from utxoiq.history import Past, Window
    from utxoiq.models import BalanceChange, Large, Transfer
    from utxoiq.processors.base import ProcessingContext

LATEST_SIGHTINGS = 100
"""Of spends of an entity's unlabelled scripts, those looked at for how many of them were known before."""
MOST_STEPS = 200
"""Groups of scripts spent together that are followed from one script before it counts as nobody's."""


class Owned(NamedTuple):
    """A transaction, and entity -> sat of its scripts that no label names."""

    transfer: Transfer
    inferred: Mapping[str, int]
    large: Large | None
    """None for one that is told by labels alone."""


class Kin:
    """What the blocks of a window, under one label set, showed of unlabelled scripts."""

    def __init__(self, window: Window, labels_version: str) -> None:
        self._window, self._version = window, labels_version
        self._groups = window.values(groups_of, labels_version)
        self._known: dict[str, str | None] = {}
        self._met = window.values(met_pairs, labels_version)
        self._from = window.values(heirs_of, labels_version)

    def owner(self, key: str) -> str | None:
        """The one entity that scripts spent together lead to from this one; None where they lead to none or several."""
        if key not in self._known:
            self._known[key] = self._look_up(key)
        return self._known[key]

    def _look_up(self, key: str) -> str | None:
        owners, seen, ahead = set[str](), {key}, [key]
        for _ in range(MOST_STEPS):
            if not ahead or len(owners) > 1:
                break
            for owner, *keys in self._groups(ahead.pop()):
                owners |= {owner} - {""}
                ahead += [one for one in keys if one not in seen]
                seen |= set(keys)
        return owners.pop() if len(owners) == 1 else None

    def had_to_do(self, key: str, who: str) -> bool:
        """Whether this entity paid the script much, or it the entity; or most of what the script got had been the
        entity's, however many unlabelled scripts it has passed through since."""
        seen, ahead = {key}, [key]
        for _ in range(MOST_STEPS):
            if not ahead:
                return False
            now = ahead.pop()
            if who in self._met(now):
                return True
            for _heir, owner, *keys in self._from(now):
                if owner == who or any(self.owner(one) == who for one in keys):
                    return True
                ahead += [one for one in keys if one not in seen]
                seen |= set(keys)
        return False

    def quality(self, who: str) -> float:
        """The part of the entity's labelled scripts whose company in transactions agrees with their label: the mean of
        the Beta posterior, with the prior of 99 in 100."""
        pairs = self._window.series(agreed_of, who, self._version)
        agreed, wrong = sum(one[0] for one in pairs), sum(one[1] for one in pairs)
        return (agreed + 9.9) / (agreed + wrong + 10)

    def seen_again(self, who: str) -> tuple[int, int]:
        """[those that an earlier block had shown, all] of the latest spends of unlabelled scripts beside this entity's
        labelled ones: how much of what labels do not know is known by now."""
        sightings = [key for keys in self._window.series(sightings_of, who, self._version) for key in keys]
        first = {key: place for place, key in reversed(list(enumerate(sightings)))}
        latest = range(max(0, len(sightings) - LATEST_SIGHTINGS), len(sightings))
        return sum(first[sightings[place]] < place for place in latest), len(latest)


class Ground(NamedTuple):
    """What signals on single moves of a block stand on; made once a block and processor."""

    context: ProcessingContext
    window: Window
    kin: Kin
    owned: list[Owned]
    balances: dict[str, BalanceChange]
    """By key of the script; empty without a ledger."""

    @classmethod
    def of(cls, context: ProcessingContext, window: Window) -> Ground:
        """Of a block and the blocks before it."""
        kin = Kin(window, context.facts.labels_version)
        changes = context.balances.changes if context.balances else ()
        balances = {script_key(bytes.fromhex(one.script)): one for one in changes}
        return cls(context, window, kin, owned(context, kin), balances)


def owned(context: ProcessingContext, kin: Kin) -> list[Owned]:
    """The block's transactions that touch an entity, by label or by kin, largest first. Small ones are told by labels
    alone."""
    from utxoiq.facts.flows import transfer_of  # noqa: PLC0415 NumPy, with the first block

    if context.flows is None:
        return []
    found, large = [], set()
    for one in context.flows.large:
        if touches(one, kin.owner):
            resolved = resolve(one, kin.owner)
            found.append(Owned(transfer_of(resolved), resolved.inferred, one))
            large.add(one.txid)
    found += [Owned(one, {}, None) for one in context.flows.transfers if one.txid not in large]
    return sorted(found, key=lambda one: (-one.transfer.size, one.transfer.txid))


def touches(large: Large, owner_of: Callable[[str], str | None]) -> bool:
    return any(part.owner or (part.key and owner_of(part.key)) for side in (large.spent, large.made) for part in side)


def groups_of(row: Past, labels_version: str) -> Iterator[tuple[str, list[str]]]:
    """(key, [entity or nothing, *keys]) of each script of each group of a past block; nothing where it is of other
    labels."""
    flows = row.flows
    if flows is not None and flows.labels_version == labels_version:
        for group in flows.kin:
            yield from ((key, group) for key in group[1:])


def met_pairs(row: Past, labels_version: str) -> Iterator[tuple[str, str]]:
    """(key, entity) of what a past block showed of large payments between the two."""
    flows = row.flows
    if flows is not None and flows.labels_version == labels_version:
        for who, keys in flows.met.items():
            yield from ((key, who) for key in keys)


def sightings_of(row: Past, who: str, labels_version: str) -> tuple[str, ...]:
    """The keys that a past block shows to be an entity's."""
    flows = row.flows
    if flows is None or flows.labels_version != labels_version:
        return ()
    return tuple(key for owner, *keys in flows.kin if owner == who for key in keys)


def heirs_of(row: Past, labels_version: str) -> Iterator[tuple[str, list[str]]]:
    """(key, [key, entity or nothing, *keys]) of each script that got most of a large transaction of a past block."""
    flows = row.flows
    if flows is not None and flows.labels_version == labels_version:
        yield from ((heir[0], heir) for heir in flows.heirs)


def agreed_of(row: Past, who: str, labels_version: str) -> tuple[int, int]:
    """[scripts of an entity that a past block spent with others of its own, those it spent among another's]."""
    flows = row.flows
    if flows is None or flows.labels_version != labels_version:
        return 0, 0
    agreed, wrong = flows.agreed.get(who, (0, 0))
    return agreed, wrong
