"""What labelled entities moved in a block, transaction by transaction: the ground of exchange, treasury and pool
signals. Terms: docs/flows.md."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from utxoiq.history import Past
from utxoiq.models import LARGE_COIN
from utxoiq.units import COIN

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from utxoiq.entities.labels import Entity, LabelSet
    from utxoiq.history import Window
    from utxoiq.models import BlockFlows, EntityFlow, Large, Transfer
    from utxoiq.processors.base import ProcessingContext
    from utxoiq.processors.kin import Ground, Owned

Way = Literal["arrived", "left", "within"]
UNKNOWN = "unknown"
WITHIN = ("internal", "consolidation")


LEAST_PAYMENTS, LEAST_RETURN = 10, 0.9
"""An entity's net flows are told once at least nine in ten of ten payments and more brought change back to a label."""
SURE_RETURN = 0.98
"""From which no script is doubted for having had to do with the entity before."""

KIN_TRUST = 0.8
"""Kin is seen when it is spent, and what a cold wallet holds is spent rarely."""
DISTRUST = 6
"""Power of the share of labels that agree: few that disagree tell of many wrong ones that nothing shows."""
GRADES = {"high": 0.9, "medium": 0.75, "low": 0.5}


@dataclass(slots=True)
class Moves:
    """The transactions of a block that moved much of one entity's coins one way. Amounts in sat."""

    entity: Entity
    amount: int = 0
    largest: int = 0
    attributed: int = 0
    """Of the amount, what has a labelled other side."""
    others: Counter[str] = field(default_factory=Counter)
    """Entity id -> sat on the other side."""
    coinbases: int | None = 0
    """Coinbase outputs spent, None where the source does not tell."""
    inferred: int = 0
    """Of the amount, what scripts moved that are the entity's by being spent with its own (facts/kinship.py)."""
    txids: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, entity: Entity, each: Iterable[Move]) -> Moves:
        """All of them together."""
        moved = cls(entity)
        for transfer, amount, others, inferred in each:
            moved.amount += amount
            moved.largest = max(moved.largest, amount)
            moved.attributed += min(amount, sum(others.values()))
            moved.others.update(others)
            moved.inferred += min(amount, inferred)
            made = transfer.coinbase_value
            moved.coinbases = None if moved.coinbases is None or made is None else moved.coinbases + made
            moved.txids.append(transfer.txid)
        return moved

    @property
    def unknown(self) -> int:
        return self.amount - self.attributed

    def counterparty(self, labels: LabelSet) -> str:
        """The name of who is on the other side of most of it."""
        who, most = max(self.others.items(), key=lambda item: (item[1], item[0]), default=(UNKNOWN, 0))
        return labels.entities[who].name if most > self.unknown else UNKNOWN

    def metadata(self, flows: BlockFlows, labels: LabelSet) -> dict[str, Any]:
        """Who, how much, and which share of it is known."""
        attributed = round(self.attributed / self.amount, 4)
        return {
            "entity_id": self.entity.id,
            "entity_name": self.entity.name,
            "amount": self.amount,
            "largest": self.largest,
            "transactions": len(self.txids),
            "counterparty": self.counterparty(labels),
            "attributed_share": attributed,
            "unknown_share": round(1 - attributed, 4),
            **({"inferred_share": round(self.inferred / self.amount, 4)} if self.inferred else {}),
            "block_attributed_share": flows.share,
        }


MOVES = ("entity_id", "entity_name", "amount", "largest", "transactions", "counterparty", "attributed_share",
         "unknown_share", "inferred_share", "block_attributed_share")  # fmt: skip
"""Names of `Moves.metadata`."""
HOLDINGS = ("labelled_balance", "labelled_addresses")
"""Names of `holdings`."""


class Move(NamedTuple):
    """One transaction's part in it."""

    transfer: Transfer
    amount: int
    others: dict[str, int]
    """Entity id -> sat on the other side."""
    inferred: int
    """Sat of the entity's scripts in it that no label names."""


class Judged(NamedTuple):
    """Moves of an entity with the confidence that they are what they look like."""

    moved: Moves
    confidence: float
    basis: dict[str, Any]


def moves(
    ground: Ground, kinds: Collection[str], way: Way, least_btc: float, *, graded: bool = False
) -> Iterator[Judged]:
    """Of each entity of these kinds the transactions of this block that moved `least_btc` and more that way, by entity
    id.

    What has an unknown other side may be the entity's own: how much of its scripts is known decides how sure it is.
    `graded`: where it paid nobody, so that no change of its own is about, the source's grade of the label decides.
    """
    for who, each in sorted(_found(ground, kinds, way, least_btc).items()):
        moved = Moves.of(ground.context.entities.entities[who], each)
        yield Judged(moved, *_judge(ground, moved, way, graded=graded))


def _found(ground: Ground, kinds: Collection[str], way: Way, least_btc: float) -> dict[str, list[Move]]:
    found: dict[str, list[Move]] = defaultdict(list)
    entities = ground.context.entities.entities
    for transfer, inferred, large in ground.owned:
        if transfer.size < least_btc * COIN:
            break  # the largest come first
        for who, flow in transfer.entities.items() if transfer.pattern != "coinbase" else ():
            amount = _amount(transfer, flow, way)
            if amount < max(1, least_btc * COIN) or entities[who].kind not in kinds:
                continue
            if not (large and may_be_its_own(large, ground, who, way)):
                found[who].append(Move(transfer, amount, _others(transfer, who, way), inferred.get(who, 0)))
    return found


def may_be_its_own(large: Large, ground: Ground, who: str, way: Way) -> bool:
    """Whether most of what an unlabelled other side gave or got passed through scripts that this entity, of which not
    nearly all scripts are known, had to do with before, or that hold much beside it: large payments to and fro are more
    often an entity's other wallets than its customers."""
    side = {"arrived": large.spent, "left": large.made}.get(way, [])
    unknown = [part for part in side if part.owner is None and part.key and ground.kin.owner(part.key) is None]
    doubtful = sum(
        part.sat for part in unknown if ground.kin.had_to_do(part.key, who) or _holds_much(part.key, ground, way)
    )
    if 2 * doubtful <= sum(part.sat for part in unknown):
        return False
    return not labels_suffice(ground.context, ground.window, {who}, SURE_RETURN)


def _holds_much(key: str, ground: Ground, way: Way) -> bool:
    """Whether a script that got held LARGE_COIN and more before, or one that gave holds as much still."""
    one = ground.balances.get(key)
    return one is not None and (one.before if way == "left" else one.after) >= LARGE_COIN


def stays_perhaps(one: Owned, ground: Ground) -> bool:
    """Whether what an entity gave, or got, may be its own still."""
    ways: tuple[Way, ...] = ("left", "arrived")
    return one.large is not None and any(
        _amount(one.transfer, flow, way) and may_be_its_own(one.large, ground, who, way)
        for who, flow in one.transfer.entities.items()
        for way in ways
    )


def _amount(transfer: Transfer, flow: EntityFlow, way: Way) -> int:
    if flow.uncertain:
        return 0
    if way == "within":
        return flow.received if transfer.pattern in WITHIN else 0
    return flow.arrived if way == "arrived" else flow.left_least


def holdings(context: ProcessingContext, who: str) -> dict[str, int]:
    """What an entity's labelled addresses hold after the block, by a ledger under the same labels; nothing where that
    is unknown."""
    balances = context.balances
    if balances is None or balances.labels_version != context.facts.labels_version or who not in balances.entities:
        return {}
    held = balances.entities[who]
    return {"labelled_balance": held.after, "labelled_addresses": held.scripts}


def return_rate(context: ProcessingContext, window: Window, who: str) -> tuple[int, int]:
    """[payments that brought change back to a labelled script, payments] of an entity over the window and this block:
    how much of its own scripts the labels know."""
    now = Past(context.facts, context.flows)
    version = context.facts.labels_version
    returned = sum(window.series(returned_of, who, version)) + returned_of(now, who, version)
    return returned, sum(window.series(payments_of, who, version)) + payments_of(now, who, version)


def labels_suffice(context: ProcessingContext, window: Window, entities: set[str], least: float = LEAST_RETURN) -> bool:
    """Whether such a part of the change of these came back to labelled scripts."""
    rates = [return_rate(context, window, who) for who in entities]
    returned, payments = sum(rate[0] for rate in rates), sum(rate[1] for rate in rates)
    return payments >= LEAST_PAYMENTS and returned >= least * payments


def payments_of(row: Past, who: str, labels_version: str) -> int:
    flow = flow_of(row, who, labels_version)
    return flow.payments if flow else 0


def returned_of(row: Past, who: str, labels_version: str) -> int:
    flow = flow_of(row, who, labels_version)
    return flow.returned if flow else 0


def flow_of(row: Past, who: str, labels_version: str) -> EntityFlow | None:
    """What a past block did to an entity, None where it did nothing, or that is unknown under these labels."""
    known = row.flows is not None and row.flows.labels_version == labels_version
    return row.flows.entities.get(who) if known and row.flows else None


def _judge(ground: Ground, moved: Moves, way: Way, *, graded: bool) -> tuple[float, dict[str, Any]]:
    """How surely the amount crossed the entity's border: what has a known other side, as far as labels of both agree
    with the company their scripts keep; of the rest, the part of the entity's scripts that is known."""
    entity, kin = moved.entity, ground.kin
    returned, payments = return_rate(ground.context, ground.window, entity.id)
    if graded and way == "arrived" and not payments and moved.unknown:
        worst = min((GRADES[label.confidence] for label in entity.labels), default=0.0)
        basis = "the grade its source gives the label, which is no measured frequency"
        return worst, {"basis": basis, "cases": 1, "calibrated": False}
    again, sightings = kin.seen_again(entity.id)
    by_label, by_kin = (returned + 0.5) / (payments + 1), (again + 0.5) / (sightings + 1)
    known, quality = by_label + (1 - by_label) * KIN_TRUST * by_kin, kin.quality(entity.id)
    if way == "within":
        crossed = 1.0
    else:
        named = min((kin.quality(who) for who in moved.others), default=1.0)
        crossed = (moved.attributed * named**DISTRUST + moved.unknown * known) / moved.amount
    basis = "how much of its scripts is known, and how well labels agree with the company these keep"
    return quality**DISTRUST * crossed, {"basis": basis, "cases": max(1, payments + sightings), "calibrated": False}


def _others(transfer: Transfer, who: str, way: Way) -> dict[str, int]:
    """Who is labelled on the other side, and with how much of what `who` moved."""
    if way == "within":
        return {who: transfer.entities[who].received}
    certain = {other: flow for other, flow in transfer.entities.items() if not flow.uncertain}
    opposite = {other: flow.left if way == "arrived" else flow.arrived for other, flow in certain.items()}
    same = {other: flow.arrived if way == "arrived" else flow.left for other, flow in certain.items()}
    parts = {other: sat * same[who] // sum(same.values()) for other, sat in opposite.items() if other != who}
    return {other: sat for other, sat in parts.items() if sat}
