"""The truth about owners: who, knowing whose every coin is, moved how much. Labels play no part here."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from utxoiq.simulation.plan import Event
from utxoiq.units import COIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from utxoiq.simulation.cast import Entity
    from utxoiq.simulation.pending import Deal

NEAR = 2
"""An event of 1 / NEAR of its threshold and more is written down."""
LARGE_TRANSFER = 1_000 * COIN
CONSOLIDATION_INPUTS, CONSOLIDATION_OUTPUTS = 10, 2
DORMANT, DORMANT_BLOCKS = 100 * COIN, 157_680
"""Thresholds of docs/signals/whale.md."""


class Rule(NamedTuple):
    """What moves of an owner are called, and the published threshold of one transaction in satoshis."""

    signal_type: str
    threshold: int
    arrived: str | None
    left: str | None
    within: str | None


HOLDER = Rule("treasury", 10 * COIN, "accumulation", "distribution", "internal_reshuffle")
RULES = {
    "exchange": Rule("exchange", 100 * COIN, "large_deposit", "large_withdrawal", "internal_reshuffle"),
    "treasury": HOLDER,
    "etf": HOLDER,
    "government": HOLDER,
    "mining_pool": Rule("miner", 50 * COIN, None, "miner_distribution", None),
}
"""By kind of owner: docs/signals/exchange.md, treasury.md, miner.md."""


class Nets(NamedTuple):
    """Of one transaction: what each owner gained (below 0: lost) beside its part of the fee, and whether all stayed
    with one."""

    gained: dict[Entity, int]
    within: Entity | None


def nets_of(deal: Deal) -> Nets:
    """The sender bears the fee; of several, each what it brought in proportion."""
    gained: dict[Entity, int] = defaultdict(int)
    spent: dict[Entity, int] = defaultdict(int)
    for owned in deal.inputs:
        spent[owned.owner] += owned.coin.value
    for payment in deal.outputs:
        if payment.target.owner is not None:
            gained[payment.target.owner] += payment.value
    within = next(iter(spent)) if len(spent) == 1 and set(gained) == set(spent) else None
    fee, brought = deal.signed.fee, sum(spent.values())
    for owner, sat in spent.items():
        gained[owner] += fee * sat // brought - sat
    return Nets(dict(gained), within)


def gross_flows(height: int, deals: Sequence[tuple[Deal, Nets]]) -> list[Event]:
    """Of a block: each entity's transactions of half its threshold and more, one event an entity and kind."""
    found: dict[tuple[Entity, str], list[tuple[int, str]]] = defaultdict(list)
    for deal, nets in deals:
        for owner, gained in nets.gained.items():
            rule = RULES.get(owner.kind)
            if rule is None or deal.joint:
                continue
            kind, amount = rule.arrived if gained > 0 else rule.left, abs(gained)
            if nets.within is owner:
                kind, amount = rule.within, sum(payment.value for payment in deal.outputs)
            if kind is not None and NEAR * amount >= rule.threshold:
                found[owner, kind].append((amount, str(deal.signed.txid)))
    return [_flow_event(height, owner, kind, moved) for (owner, kind), moved in found.items()]


def _flow_event(height: int, owner: Entity, kind: str, moved: list[tuple[int, str]]) -> Event:
    rule, largest = RULES[owner.kind], max(amount for amount, _ in moved)
    told = [(amount, txid) for amount, txid in moved if amount >= min(rule.threshold, largest)]
    detail: dict[str, int | str] = {
        "amount_sat": sum(amount for amount, _ in told),
        "transactions": len(told),
        "txids": " ".join(txid for _, txid in told),
    }
    return Event(rule.signal_type, kind, owner.id, height, largest / rule.threshold, detail)


def large_transfers(height: int, deals: Sequence[tuple[Deal, Nets]]) -> list[Event]:
    """Transactions that move half a threshold and more to scripts they did not spend from, which is what the chain
    shows, whoever owns those. Not what an entity moves within itself, and no CoinJoin."""
    found = []
    for deal, nets in deals:
        if deal.joint or (nets.within is not None and nets.within.kind in RULES):
            continue
        if NEAR * sum(payment.value for payment in deal.outputs) < LARGE_TRANSFER:
            continue
        spent = {owned.coin.script for owned in deal.inputs}
        moved = sum(payment.value for payment in deal.outputs if payment.target.lock.script not in spent)
        if NEAR * moved >= LARGE_TRANSFER:
            found.append(_transfer_event(height, deal, nets, moved))
    return found


def _transfer_event(height: int, deal: Deal, nets: Nets, moved: int) -> Event:
    own = nets.within is not None
    many = len(deal.inputs) >= CONSOLIDATION_INPUTS and len(deal.outputs) <= CONSOLIDATION_OUTPUTS
    detail: dict[str, int | str] = {
        "moved_sat": moved,
        "paid_sat": 0 if own else sum(gained for gained in nets.gained.values() if gained > 0),
        "own": "true" if own else "false",
        "from": deal.inputs[0].owner.id,
        "txid": str(deal.signed.txid),
    }
    kind = "large_consolidation" if own and many else "large_transfer"
    return Event("whale", kind, None, height, moved / LARGE_TRANSFER, detail)


def big_coinjoins(height: int, deals: Sequence[tuple[Deal, Nets]]) -> list[Event]:
    """CoinJoins as large as large transfers: no signal is about them."""
    found = []
    for deal, _ in deals:
        moved = sum(payment.value for payment in deal.outputs)
        if deal.joint and NEAR * moved >= LARGE_TRANSFER:
            detail: dict[str, int | str] = {"moved_sat": moved, "txid": str(deal.signed.txid)}
            found.append(Event(None, "coinjoin", None, height, moved / LARGE_TRANSFER, detail))
    return found


def dormant_coins(height: int, deals: Sequence[tuple[Deal, Nets]]) -> list[Event]:
    """Transactions that spend coins old enough and large enough; those not quite old enough are smaller than 1."""
    found = []
    for deal, _ in deals:
        ages = [(height - owned.coin.height, owned.coin.value) for owned in deal.inputs]
        old = [(age, value) for age, value in ages if NEAR * age >= DORMANT_BLOCKS]
        amount, youngest = sum(value for _, value in old), min((age for age, _ in old), default=0)
        if NEAR * amount < DORMANT:
            continue
        size = amount / DORMANT
        if youngest < DORMANT_BLOCKS:
            size = min(1.0, size) * youngest / DORMANT_BLOCKS
        detail: dict[str, int | str] = {
            "amount_sat": amount, "age_blocks": youngest, "coins": len(old), "txid": str(deal.signed.txid),
        }  # fmt: skip
        found.append(Event("whale", "dormant_coins", None, height, size, detail))
    return found
