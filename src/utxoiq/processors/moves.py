"""What labelled entities moved in a block, transaction by transaction: the ground of exchange, treasury and pool
signals. Terms: docs/flows.md."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from utxoiq.history import Past
from utxoiq.units import COIN

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from utxoiq.entities.labels import Entity, LabelSet
    from utxoiq.history import Window
    from utxoiq.models import BlockFlows, EntityFlow, Transfer
    from utxoiq.processors.base import ProcessingContext

Way = Literal["arrived", "left", "within"]
UNKNOWN = "unknown"
WITHIN = ("internal", "consolidation")


LEAST_PAYMENTS, LEAST_RETURN = 10, 0.9
"""An entity's labels are taken to know nearly all of its scripts once at least nine in ten of ten payments and more
brought change back to a labelled one."""

MEASURED: Mapping[Way, tuple[int, int]] = {"arrived": (113, 113), "left": (374, 385), "within": (39, 39)}
"""[right, cases] of such moves on runs/regtest_core31 when only its `disclosed` labels are known, judged by all of them
(tests/processors/test_events.py)."""
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
    txids: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, entity: Entity, each: Iterable[Move]) -> Moves:
        """All of them together."""
        moved = cls(entity)
        for transfer, amount, others in each:
            moved.amount += amount
            moved.largest = max(moved.largest, amount)
            moved.attributed += min(amount, sum(others.values()))
            moved.others.update(others)
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
            "block_attributed_share": flows.share,
        }


MOVES = ("entity_id", "entity_name", "amount", "largest", "transactions", "counterparty", "attributed_share",
         "unknown_share", "block_attributed_share")  # fmt: skip
"""Names of `Moves.metadata`."""


class Move(NamedTuple):
    """One transaction's part in it."""

    transfer: Transfer
    amount: int
    others: dict[str, int]
    """Entity id -> sat on the other side."""


class Judged(NamedTuple):
    """Moves of an entity with the confidence that they are what they look like."""

    moved: Moves
    confidence: float
    basis: dict[str, Any]


def moves(
    context: ProcessingContext,
    window: Window,
    kinds: Collection[str],
    way: Way,
    least_btc: float,
    *,
    graded: bool = False,
) -> Iterator[Judged]:
    """Of each entity of these kinds the transactions of this block that moved `least_btc` and more that way, by entity
    id.

    What comes from unknown owners may be the entity's own, so it counts only where its labels are known to be nearly
    complete. `graded`: where it paid nobody, so that no change of its own is about, the source's grade of the label
    decides.
    """
    for who, each in sorted(_found(context, kinds, way, least_btc).items()):
        entity, known = context.entities.entities[who], [move for move in each if move.others]
        confidence, basis = _measured(way)
        if way == "arrived" and len(known) < len(each):
            judged = _completeness(context, window, entity, graded=graded)
            if judged is None:
                each = known  # noqa: PLW2901
            else:
                confidence, basis = judged
        if each:
            yield Judged(Moves.of(entity, each), confidence, basis)


def _found(context: ProcessingContext, kinds: Collection[str], way: Way, least_btc: float) -> dict[str, list[Move]]:
    found: dict[str, list[Move]] = defaultdict(list)
    for transfer in context.flows.transfers if context.flows else ():
        if transfer.size < least_btc * COIN:
            break  # the largest come first
        for who, flow in transfer.entities.items() if transfer.pattern != "coinbase" else ():
            amount = _amount(transfer, flow, way)
            if amount >= max(1, least_btc * COIN) and context.entities.entities[who].kind in kinds:
                found[who].append(Move(transfer, amount, _others(transfer, who, way)))
    return found


def _amount(transfer: Transfer, flow: EntityFlow, way: Way) -> int:
    if flow.uncertain:
        return 0
    if way == "within":
        return flow.received if transfer.pattern in WITHIN else 0
    return flow.arrived if way == "arrived" else flow.left_least


def _measured(way: Way) -> tuple[float, dict[str, Any]]:
    right, cases = MEASURED[way]
    return (right + 0.5) / (cases + 1), {
        "basis": "how often such moves were what they looked like in a test economy with part of its labels",
        "cases": cases,
        "calibrated": False,
    }


def return_rate(context: ProcessingContext, window: Window, who: str) -> tuple[int, int]:
    """[payments that brought change back to a labelled script, payments] of an entity over the window and this block:
    how much of its own scripts the labels know."""
    now = Past(context.facts, context.flows)
    version = context.facts.labels_version
    returned = sum(window.series(returned_of, who, version)) + returned_of(now, who, version)
    return returned, sum(window.series(payments_of, who, version)) + payments_of(now, who, version)


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


def _completeness(
    context: ProcessingContext, window: Window, entity: Entity, *, graded: bool
) -> tuple[float, dict[str, Any]] | None:
    """The share of the entity's own payments whose change came back to a label: as likely as that, what comes from no
    label is not its own. None where that is too little, or it paid too rarely to tell."""
    returned, payments = return_rate(context, window, entity.id)
    rate = (returned + 0.5) / (payments + 1)
    if payments >= LEAST_PAYMENTS and rate >= LEAST_RETURN:
        basis = "the share of its own payments whose change labels know"
        return rate, {"basis": basis, "cases": payments, "calibrated": False}
    if graded and not payments:
        worst = min((GRADES[label.confidence] for label in entity.labels), default=0.0)
        basis = "the grade its source gives the label, which is no measured frequency"
        return worst, {"basis": basis, "cases": 1, "calibrated": False}
    return None


def _others(transfer: Transfer, who: str, way: Way) -> dict[str, int]:
    """Who is labelled on the other side, and with how much of what `who` moved."""
    if way == "within":
        return {who: transfer.entities[who].received}
    certain = {other: flow for other, flow in transfer.entities.items() if not flow.uncertain}
    opposite = {other: flow.left if way == "arrived" else flow.arrived for other, flow in certain.items()}
    same = {other: flow.arrived if way == "arrived" else flow.left for other, flow in certain.items()}
    parts = {other: sat * same[who] // sum(same.values()) for other, sat in opposite.items() if other != who}
    return {other: sat for other, sat in parts.items() if sat}
