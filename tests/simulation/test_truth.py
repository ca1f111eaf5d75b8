"""What events say is in the bytes: held against blocks that were decoded again, and against who owns which script."""

from __future__ import annotations

import statistics
from collections import defaultdict
from fractions import Fraction

import pytest

from simulation.worlds import SEED, Seen, World, world
from utxoiq.simulation.accountant import RULES
from utxoiq.simulation.cast import EXCHANGES, HOLDERS, POOLS, Entity
from utxoiq.simulation.plan import START_HEIGHT
from utxoiq.units import COIN

ENTITIES = (*EXCHANGES, *HOLDERS, *POOLS)
REGIME, LENGTH = "heavy_reshuffling", 420


def lab() -> World:
    return world(REGIME, LENGTH)


def owners() -> dict[bytes, Entity]:
    return {lock.script: entity for entity in ENTITIES for lock in entity.locks(SEED)}


def is_joint(values: list[int], inputs: int) -> bool:
    """Many equal outputs and as many inputs."""
    return max(map(values.count, values)) >= 4 and inputs >= 4


def gross(one: World) -> dict[tuple[str, str, int], int]:
    """(entity, kind, height) -> the largest sum that one transaction moved, from the bytes and the owners alone."""
    found: dict[tuple[str, str, int], int] = defaultdict(int)
    mine = owners()
    for seen in one.best:
        for t in range(1, seen.block.n_tx):
            for entity, kind, amount in moved(seen, t, mine):
                key = entity.id, kind, seen.made.height
                found[key] = max(found[key], amount)
    return found


def moved(seen: Seen, t: int, mine: dict[bytes, Entity]) -> list[tuple[Entity, str, int]]:
    coins = [seen.coin(row) for row in seen.inputs(t)]
    values = [int(seen.block.outputs.value[row]) for row in seen.outputs(t)]
    scripts = [seen.block.outputs.script(row) for row in seen.outputs(t)]
    if is_joint(values, len(coins)):
        return []
    spent, got = defaultdict[Entity | None, int](int), defaultdict[Entity | None, int](int)
    for coin in coins:
        spent[mine.get(coin.script)] += coin.value
    for value, script in zip(values, scripts, strict=True):
        got[mine.get(script)] += value
    fee, brought = sum(spent.values()) - sum(values), sum(spent.values())
    found = []
    for entity in {*spent, *got} - {None}:
        assert entity is not None
        rule = RULES[entity.kind]
        net = got[entity] - spent[entity] + fee * spent[entity] // brought
        if {*spent, *got} == {entity}:
            found.append((entity, rule.within, sum(values)))
        else:
            found.append((entity, rule.arrived if net > 0 else rule.left, abs(net)))
    return [
        (entity, kind, amount) for entity, kind, amount in found if kind and 2 * amount >= RULES[entity.kind].threshold
    ]


def test_gross_flows_are_all_told_and_none_is_invented() -> None:
    told = {
        (str(event.entity), event.kind, event.height): event.size
        for event in lab().events
        for entity in ENTITIES
        if event.entity == entity.id
        and event.kind in (RULES[entity.kind].arrived, RULES[entity.kind].left, RULES[entity.kind].within)
    }
    kinds = {entity.id: RULES[entity.kind].threshold for entity in ENTITIES}
    recomputed = {key: Fraction(amount, kinds[key[0]]) for key, amount in gross(lab()).items()}
    assert set(told) == set(recomputed)
    assert all(told[key] == pytest.approx(float(size)) for key, size in recomputed.items())
    assert {kind for _, kind, _ in told} == {
        "large_deposit", "large_withdrawal", "internal_reshuffle", "accumulation", "distribution", "miner_distribution",
    }  # fmt: skip


def test_amounts_are_of_the_transactions_named() -> None:
    for event in lab().of("large_deposit"):
        seen = lab().at(event.height)
        txids = [str(seen.block.txid(t)) for t in range(seen.block.n_tx)]
        named = [txids.index(txid) for txid in str(event.detail["txids"]).split()]
        assert len(named) == event.detail["transactions"]
        amount = sum(amount for t in named for e, _, amount in moved(seen, t, owners()) if e.id == event.entity)
        assert amount == event.detail["amount_sat"]


def test_large_transfers_are_all_told() -> None:
    """By scripts, as the chain shows them; but for what entities move within."""
    told = {
        event.detail["txid"]: event for kind in ("large_transfer", "large_consolidation") for event in lab().of(kind)
    }
    mine, found = owners(), {}
    for seen in lab().best:
        for t in range(1, seen.block.n_tx):
            coins = [seen.coin(row) for row in seen.inputs(t)]
            scripts = {coin.script for coin in coins}
            outs = [(int(seen.block.outputs.value[r]), seen.block.outputs.script(r)) for r in seen.outputs(t)]
            amount = sum(value for value, script in outs if script not in scripts)
            within = {mine.get(script) for script in [*scripts, *(script for _, script in outs)]}
            if amount >= 500 * COIN and (len(within) > 1 or None in within):
                found[str(seen.block.txid(t))] = amount
    assert {txid: event.detail["moved_sat"] for txid, event in told.items()} == found
    assert len(found) > 5
    assert {event.detail["own"] for event in told.values()} == {"true", "false"}


def test_dormant_coins_are_old() -> None:
    events = lab().of("dormant_coins")
    assert events
    for event in events:
        seen, t = lab().find(event)
        coins = [seen.coin(row) for row in seen.inputs(t)]
        ages = [event.height - coin.height for coin in coins]
        assert min(ages) == event.detail["age_blocks"]
        assert sum(coin.value for coin in coins) == event.detail["amount_sat"]
        assert event.counts == (min(ages) >= 157_680 and sum(coin.value for coin in coins) >= 100 * COIN)
    named = {event.detail["txid"] for event in events}
    for seen in lab().best:
        for t in range(1, seen.block.n_tx):
            old = any(seen.made.height - seen.coin(row).height >= 78_840 for row in seen.inputs(t))
            assert old == (str(seen.block.txid(t)) in named)


def net_of_block(seen: Seen, who: str) -> int:
    mine, net = owners(), 0
    for t in range(1, seen.block.n_tx):
        spent = sum(c.value for c in map(seen.coin, seen.inputs(t)) if (o := mine.get(c.script)) and o.id == who)
        outs = [(int(seen.block.outputs.value[r]), seen.block.outputs.script(r)) for r in seen.outputs(t)]
        got = sum(value for value, script in outs if (o := mine.get(script)) and o.id == who)
        net += got - spent + (seen.fees[t - 1] if spent else 0)
    return net


def test_net_flows_are_all_told() -> None:
    """Every six blocks that gain or lose half the threshold lie in an episode of that way."""
    one = world("calm", 330)
    for exchange in EXCHANGES[:2]:
        nets = [net_of_block(seen, exchange.id) for seen in one.best]
        sums = {at: sum(nets[max(0, at - 5) : at + 1]) for at in range(len(nets))}
        for kind, sign in (("net_inflow", 1), ("net_outflow", -1)):
            episodes = [event for event in one.of(kind) if event.entity == exchange.id]
            inside = {event.height - START_HEIGHT + i for event in episodes for i in range(int(event.detail["blocks"]))}
            assert {at for at, net in sums.items() if sign * net >= 50 * COIN} <= inside
            assert [event.detail["amount_sat"] for event in episodes] == [
                max(
                    sign * sums[at]
                    for at in range(e.height - START_HEIGHT, e.height - START_HEIGHT + int(e.detail["blocks"]))
                )
                for e in episodes
            ]


def test_bursts_cost_what_they_say() -> None:
    events = world().of("fee_spike") + world().of("fee_drop")
    assert events
    for event in events:
        begin = event.height - START_HEIGHT
        usual = statistics.median(
            statistics.median(s.feerates) for s in world().best[max(0, begin - 144) : begin] if s.fees
        )
        during = [statistics.median(world().at(event.height + i).feerates) for i in range(int(event.detail["blocks"]))]
        factor = max(during) / usual if event.kind == "fee_spike" else usual / min(during)
        assert factor / 3 == pytest.approx(event.size, rel=0.15)


def test_counts_fees_and_empty_blocks_are_what_they_say() -> None:
    for event in world().of("tx_count_record"):
        assert world().at(event.height).made.n_tx - 1 == event.detail["transactions"]
    assert world().counted("tx_count_record")
    empty = {event.height for event in world().of("empty_block")}
    assert empty == {seen.made.height for seen in world().best if seen.made.n_tx == 1} != set()
    for event in world().of("fee_overpaid"):
        seen, t = world().find(event)
        assert seen.fees[t - 1] == event.detail["fee_sat"] == max(seen.fees)
        assert event.size == pytest.approx(seen.fees[t - 1] / (COIN / 2))
    others = [fee for seen in world().best for fee in seen.fees if fee >= COIN // 4]
    assert sorted(others) == sorted(event.detail["fee_sat"] for event in world().of("fee_overpaid"))
