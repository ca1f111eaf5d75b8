"""Whose unlabelled scripts are, as far as spending shows: what one transaction spends has one owner.

That holds for nearly every transaction but CoinJoins (Nakamoto 2008, section 10; Meiklejohn et al. 2013, heuristic
1). A label knows some scripts of an entity; where a transaction spends one of these, and no other entity's, the
others it spends are called its *kin*. Each block tells the kin that it shows by labels alone, so it is a pure function
of block and labels; what the blocks of a window have told, `resolve` applies to the large transactions of the next.
Labels stay what they are: kin is in no flow of `facts/flows.py`, and a signal that rests on it says so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

from utxoiq.models import Large, Part
from utxoiq.units import COIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from utxoiq.chain.block import Block, Outputs, Spent
    from utxoiq.entities.labels import LabelSet

LARGE_SAT = 10 * COIN
"""Transactions that spend as much are looked at, whoever is labelled in them."""
KEYED_SAT = COIN // 10
"""Unlabelled outputs and spent coins below it are told as one, without a key."""
LINK_SAT = 100 * COIN
"""From which what a transaction shows is remembered where no label names who spends."""
MET_SAT = 10 * COIN
"""From which a script that an entity paid, or that paid it, is remembered."""
COINJOIN_EQUAL = 3
"""Equal outputs from which a transaction with as many distinct inputs, and little else, looks like a CoinJoin."""


def script_key(script: bytes) -> str:
    """96 bits of BLAKE2b as hex: nobody can make another script of the same key."""
    return blake2b(script, digest_size=12).hexdigest()


class Rows(NamedTuple):
    """A block's transaction as rows of its columns."""

    ins: range
    outs: range


class Seen(NamedTuple):
    """What a block shows: its large transactions, and of `BlockFlows` the fields of the same names."""

    large: list[Large]
    kin: list[list[str]]
    met: dict[str, list[str]]
    agreed: dict[str, list[int]]
    heirs: list[list[str]]


def look(block: Block, spent: Spent, spenders: NDArray[np.int32], makers: NDArray[np.int32], labels: LabelSet) -> Seen:
    """Large transactions, largest first, and what the block shows of unlabelled scripts. Owners are entity numbers, a
    row an output, -1 nobody's. Nothing where there are no labels."""
    import numpy as np  # noqa: PLC0415 who only resolves needs none

    if not labels.entities:
        return Seen([], [], {}, {}, [])
    numbers = np.union1d(spenders, makers).tolist()
    names = {number: None if number < 0 else labels.numbered(number).id for number in numbers}
    first_in, first_out = block.tx.first_input.astype(np.int64), block.tx.first_output.astype(np.int64)
    labelled = np.searchsorted(first_in, np.flatnonzero(spenders >= 0), side="right") - 1
    known = set(labelled.tolist())
    large, kin, heirs = [], set[tuple[str, ...]](), set[tuple[str, ...]]()
    met, agreed = defaultdict[str, set[str]](set), defaultdict[str, list[int]](lambda: [0, 0])
    for t in np.union1d(labelled, np.flatnonzero(spent.tx_value_in >= LARGE_SAT)).tolist():
        if t == 0:
            continue
        rows = Rows(range(*first_in[t : t + 2].tolist()), range(*first_out[t : t + 2].tolist()))
        joint, parts = looks_joint(block, spent, rows), list(_parts(spent.outputs, spenders, rows.ins, names))
        is_linked = not joint and (t in known or spent.tx_value_in[t] >= LINK_SAT)
        if is_linked:
            _check_labels(parts, agreed)
        if is_linked and (group := kin_of(parts)):
            kin.add(group)
        if spent.tx_value_in[t] >= LARGE_SAT:
            one = _large(block, spent, t, rows, parts, list(_parts(block.outputs, makers, rows.outs, names)), joint)
            large.append(one)
            for owner, keys in () if joint else met_by(one).items():
                met[owner] |= keys
            if is_linked and (heir := heir_of(one)):
                heirs.add(heir)
    large.sort(key=lambda one: (-one.value_in, one.txid))
    return Seen(
        large, [list(one) for one in sorted(kin)], {who: sorted(keys) for who, keys in sorted(met.items())},
        dict(sorted(agreed.items())), [list(one) for one in sorted(heirs)],
    )  # fmt: skip


def _large(block: Block, spent: Spent, t: int, rows: Rows, parts: list[Part], made: list[Part], joint: bool) -> Large:
    value_in, value_out = int(spent.tx_value_in[t]), int(block.tx.value_out[t])
    return Large(
        str(block.txid(t)), len(rows.ins), len(rows.outs), value_in, value_out, value_in - value_out,
        made_by_coinbases(spent, rows.ins), joint, parts, made,
    )  # fmt: skip


def _parts(outputs: Outputs, owners: NDArray[np.int32], rows: range, names: dict[int, str | None]) -> Iterator[Part]:
    """One for each script, and one for all that is small of each owner."""
    sums: dict[tuple[str | None, str], int] = defaultdict(int)
    values, whose = outputs.value[rows.start : rows.stop].tolist(), owners[rows.start : rows.stop].tolist()
    for row, value, number in zip(rows, values, whose, strict=True):
        owner = names[number]
        sums[owner, script_key(outputs.script(row)) if value >= KEYED_SAT else ""] += value
    return (Part(owner, key, sat) for (owner, key), sat in sorted(sums.items(), key=str))


def kin_of(parts: Iterable[Part]) -> tuple[str, ...] | None:
    """The entity of the labelled scripts among these (nothing where none is), and the keys of the others: of one owner,
    as they are spent together. Where labels name several, those of less than a third are taken to be wrong; None where
    there is no such majority, or nothing to learn."""
    scripts = Counter(part.owner for part in parts if part.owner is not None)
    owner, most = max(scripts.items(), key=lambda item: (item[1], item[0]), default=("", 0))
    if 3 * most <= 2 * scripts.total() and scripts:
        return None
    keys = sorted(part.key for part in parts if part.key and (part.owner is None or part.owner != owner))
    return (owner, *keys) if keys and bool(owner) + len(keys) > 1 else None


def _check_labels(parts: Iterable[Part], agreed: dict[str, list[int]]) -> None:
    """Count scripts spent together whose labels agree, and those in a minority."""
    scripts = Counter(part.owner for part in parts if part.owner is not None)
    if scripts.total() > 1:
        most = max(scripts.values())
        for owner, count in scripts.items():
            agreed[owner][int(count < most or (len(scripts) > 1 and most == 1))] += count


def heir_of(large: Large) -> tuple[str, ...] | None:
    """The unlabelled script that got more than half of it, and whose it was: the entity of its labelled spenders
    (nothing where none is), and the keys of the others. None where no such script is, or several entities spend."""
    owners = {part.owner for part in large.spent if part.owner is not None}
    heir = next(
        (part.key for part in large.made if part.owner is None and part.key and 2 * part.sat > large.value_in), None
    )
    if heir is None or len(owners) > 1:
        return None
    keys = sorted(part.key for part in large.spent if part.owner is None and part.key)
    return (heir, next(iter(owners), ""), *keys)


def met_by(large: Large) -> dict[str, set[str]]:
    """Entity -> keys of unlabelled scripts that it paid MET_SAT and more, or that paid it."""
    spenders, makers = ({part.owner for part in side} - {None} for side in (large.spent, large.made))
    found: dict[str, set[str]] = {}
    for owners, side in ((spenders, large.made), (makers, large.spent)):
        keys = {part.key for part in side if part.owner is None and part.key and part.sat >= MET_SAT}
        for owner in owners:
            if owner is not None and keys:
                found.setdefault(owner, set()).update(keys)
    return found


def looks_joint(block: Block, spent: Spent, rows: Rows) -> bool:
    """At least COINJOIN_EQUAL outputs of one value, as many distinct spent scripts, and at most one other output for
    each and one more."""
    if len(rows.outs) < COINJOIN_EQUAL or len(rows.ins) < COINJOIN_EQUAL:
        return False
    values = block.outputs.value[rows.outs.start : rows.outs.stop].tolist()
    equal = max(Counter(value for value in values if value > 0).values(), default=0)
    if equal < COINJOIN_EQUAL or len(values) > 2 * equal + 1 or len(rows.ins) < equal:
        return False
    return len({spent.outputs.script(row) for row in rows.ins}) >= equal


def made_by_coinbases(spent: Spent, ins: range) -> int | None:
    """Of what is spent, the sat that coinbases made; None where the source does not tell."""
    if spent.is_coinbase is None:
        return None
    rows = slice(ins.start, ins.stop)
    return int(spent.outputs.value[rows][spent.is_coinbase[rows] == 1].sum())


class Resolved(NamedTuple):
    """A large transaction with owners by labels and kin. `inferred`: entity -> sat of its spent or received scripts
    that no label names."""

    large: Large
    spent: dict[str | None, int]
    received: dict[str | None, int]
    most_unknown: int
    """The largest output of unknown owner."""
    inferred: dict[str, int]


def resolve(large: Large, owner_of: Callable[[str], str | None]) -> Resolved:
    """Owners by `owner_of` a key, else by label; and where all that is known of what a transaction spends is one
    entity's, all of it, unless it looks like a CoinJoin."""

    def owner_by_script(part: Part) -> str | None:
        return (owner_of(part.key) if part.key else None) or part.owner

    owners = {owner_by_script(part) for part in large.spent} - {None}
    alone = next(iter(owners)) if len(owners) == 1 and not large.is_joint else None
    beside = {part.key for part in large.spent if part.key}
    spent, received, inferred = Counter[str | None](), Counter[str | None](), Counter[str]()
    most_unknown = 0
    for side, parts in ((spent, large.spent), (received, large.made)):
        for part in parts:
            owner = owner_by_script(part) or (alone if side is spent or part.key in beside else None)
            side[owner] += part.sat
            if owner is None:
                most_unknown = max(most_unknown, part.sat if part.key and side is received else 0)
            elif owner != part.owner:
                inferred[owner] += part.sat
    return Resolved(large, dict(spent), dict(received), most_unknown, dict(inferred))
