"""When the exchange processor speaks, and when it is silent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from processors.cases import HEIGHT, LABELS, at, case, flows, gets, keeps, past, pays, said, told, trade, transfer
from utxoiq.models import BlockFlows, Signal
from utxoiq.processors import ExchangeProcessor, ProcessorConfig
from utxoiq.processors.exchange import EVERY, net_of, net_of_flows, total
from utxoiq.processors.statistics import tail_p
from utxoiq.units import COIN

SUMS = 120
"""Sums of six blocks before the last, none overlapping."""


def quiet(blocks: int, seed: int = 11, **more: Any) -> list[BlockFlows]:
    """An exchange whose net flow is -2 to 2 BTC a block."""
    rng = Random(seed)
    return [trade(i, rng.randrange(-20, 21) / 10, **more) for i in range(blocks)]


async def signals(moved: Sequence[BlockFlows | None], **thresholds: float) -> list[Signal]:
    """Of the last of these blocks."""
    last = len(moved) - 1
    return await said(ExchangeProcessor(ProcessorConfig(**thresholds)), past(last), at(last), flows=moved)


async def kinds(moved: Sequence[BlockFlows | None], **thresholds: float) -> list[tuple[str, str]]:
    return [(signal.kind, signal.subject) for signal in await signals(moved, **thresholds)]


def ending(*nets: float, before: Sequence[BlockFlows | None] | None = None) -> list[BlockFlows | None]:
    """A quiet past of 120 sums, and blocks of these net flows, the last ones; flows of 99 BTC at most are single."""
    kept = list(quiet(6 * SUMS + 6 - len(nets)) if before is None else before)
    for net in nets:
        i = len(kept)
        parts = [net / 4] * 4
        each = [
            transfer({"borealis": gets(x) if x > 0 else pays(-x)}, f"{i:032x}{n:032x}") for n, x in enumerate(parts)
        ]
        kept.append(flows(at(i), *each, transfer({"borealis": pays(0.1)}, f"{i:032x}{9:032x}"),
                          transfer({"borealis": gets(0.1)}, f"{i:032x}{8:032x}")))  # fmt: skip
    return kept


BOTH = [("net_inflow", "borealis"), ("net_inflow", EVERY)]


async def test_what_a_net_inflow_says() -> None:
    """Sums of six blocks, by hand: 300 BTC beside what the last five brought; p over both that were tested."""
    moved = ending(300)
    nets = [net_of_flows(one, "borealis") for one in moved if one]
    sums = [sum(nets[end - 6 : end]) for end in range(len(nets), 5, -6)]
    now, *before = sums
    signal, every = await signals(moved)
    p = 2 * tail_p(now, [max(0, one) for one in before])
    assert signal.metadata == {
        "entity_id": "borealis",
        "entity_name": "Borealis",
        "amount": now,
        "usual_amount": int(sorted(map(abs, before))[59] + sorted(map(abs, before))[60]) // 2,
        "most_amount": max(before),
        "flow_blocks": 6,
        "sums_compared": 120,
        "entities_tested": 2,
        "p_value": float(f"{p:.3g}"),
        "block_attributed_share": moved[-1].share,  # type: ignore[union-attr]
    }
    assert now > 290 * COIN
    assert signal.confidence == pytest.approx(1 - p, abs=2e-6)
    assert signal.confidence_basis["cases"] == 120
    assert signal.evidence["txids"] == [f"{725:032x}{n:032x}" for n in (0, 1, 2, 3, 8)]
    assert (every.metadata["entity_name"], every.subject) == ("All labelled exchanges", EVERY)
    assert every.metadata["amount"] == signal.metadata["amount"]


@pytest.mark.parametrize(("net", "kind"), [(300, "net_inflow"), (-300, "net_outflow")])
async def test_a_net_flow_goes_one_way(net: float, kind: str) -> None:
    assert await kinds(ending(net)) == [(kind, "borealis"), (kind, EVERY)]


async def test_the_least_net_flow_is_counted_to_the_satoshi() -> None:
    """At `net_btc` it speaks, a satoshi above it is silent."""
    amount = (await signals(ending(300)))[0].metadata["amount"] / COIN
    assert await kinds(ending(300), net_btc=amount) == BOTH
    assert await kinds(ending(300), net_btc=amount + 1 / COIN) == []


async def test_it_is_summed_over_six_blocks() -> None:
    """60 BTC with each of five blocks come to 300 with the last; less than 100 in all is silent."""
    assert await kinds(ending(60, 60, 60, 60, 60)) == []
    assert await kinds(ending(30, 30, 30, 30)) == BOTH
    assert await kinds(ending(20, 20, 20, 20)) == []
    assert await kinds(ending(60, 0, 0, 0, 0, 0, 0.1)) == []


async def test_an_excess_is_told_once() -> None:
    """When it begins, and again, where it is larger still, after twelve blocks without; the other way is another."""
    nets = {700: 300.0, 701: 200.0, 707: 300.0, 740: 6000.0, 747: -400.0}
    moved: list[BlockFlows | None] = list(quiet(700))
    for i in range(700, 760):
        moved = ending(nets.get(i, 0.0), before=moved)
    found = [one for one in await told(ExchangeProcessor(), past(760), moved) if one[1].startswith("net")]
    heights = {"net_inflow": [700, 740], "net_outflow": [747]}
    assert found == [(HEIGHT + i, kind) for kind, each in heights.items() for i in each for _ in range(2)]


async def test_too_few_earlier_sums_say_nothing() -> None:
    """100 of which all is known."""
    for sums, count in ((99, 0), (100, 2)):
        moved = ending(300, before=quiet(6 * sums + 5))
        assert len(await kinds(moved)) == count, sums


@pytest.mark.parametrize("blank", ["unknown", "other labels"])
async def test_a_sum_with_an_unknown_block_is_unknown(blank: str) -> None:
    """Not zero: 21 of 120 sums with one block whose flows nobody knows, or knows under other labels only, leave 99."""
    moved = ending(300)
    for n in range(21):
        moved[6 * n] = None if blank == "unknown" else replace(moved[6 * n], labels_version="older")  # type: ignore[type-var]
        assert len(await kinds(moved)) == (2 if n < 20 else 0), n


@pytest.mark.parametrize("blank", [None, "older"])
async def test_an_unknown_block_among_the_recent_ones(blank: str | None) -> None:
    """The sum itself would be unknown."""
    moved = ending(300)
    assert await kinds(moved) == BOTH
    moved[-3] = blank and replace(moved[-3], labels_version=blank)  # type: ignore[type-var,assignment]
    assert await kinds(moved) == []


async def test_nothing_is_said_where_the_blocks_flows_are_unknown() -> None:
    assert await kinds([*ending(300), None]) == []


async def test_what_is_usual_is_not_told() -> None:
    """A hundred bitcoin where hundreds come and go: the share of the past that was as large is not small."""
    rng = Random(2)
    restless = [trade(i, rng.randrange(-90, 91)) for i in range(6 * SUMS + 5)]
    assert await kinds(ending(300, before=restless)) == []
    assert await kinds(ending(9000, before=restless)) != []


async def test_of_an_exchange_whose_change_is_lost_only_what_is_sure_counts() -> None:
    """Where change does not come back to a label, what left is mostly change: of all together nothing is said then."""
    assert len(await kinds(ending(300, before=quiet(6 * SUMS + 5)))) == 2
    assert await kinds(ending(300, before=quiet(6 * SUMS + 5, change=0))) == [("net_inflow", "borealis")]


async def test_a_payment_whose_change_may_be_all_of_it_is_no_outflow() -> None:
    """Its largest output of unknown owner may be change: so much more than that has to leave."""
    before = quiet(6 * SUMS + 5)
    lost = [transfer({"borealis": pays(90, change=0, least=10)}, f"{n:064x}") for n in range(2)]
    sure = [transfer({"borealis": pays(90, change=0, least=80)}, f"{n:064x}") for n in range(2)]
    assert ("net_outflow", "borealis") not in await kinds([*before, flows(at(len(before)), *lost)])
    assert ("net_outflow", "borealis") in await kinds([*before, flows(at(len(before)), *sure)])


async def test_all_exchanges_need_labels_as_complete() -> None:
    """Borealis knows its change, Cirrus never does: of Borealis alone something can be said."""
    moved: list[BlockFlows | None] = []
    for i, one in enumerate(ending(300)):
        cirrus = transfer({"cirrus": pays(1, change=0)}, f"{i:064x}")
        moved.append(flows(at(i), *one.transfers, cirrus))  # type: ignore[union-attr]
    assert await kinds(moved) == [("net_inflow", "borealis")]


async def test_every_exchange_that_was_active_was_tested() -> None:
    """p is multiplied by those active in the window, and one for all together; what passes between two is no flow of
    all."""
    busy: list[BlockFlows | None] = []
    for i, one in enumerate(ending(300)):
        between = transfer({"cirrus": pays(1), "borealis": gets(1)}, f"{i:064x}")
        busy.append(flows(at(i), *one.transfers, between))  # type: ignore[union-attr]
    both = await signals(busy)
    assert {signal.metadata["entities_tested"] for signal in both} == {3}
    assert {signal.subject for signal in both} == {"borealis", EVERY}
    assert net_of_flows(busy[0], EVERY) == net_of_flows(ending(300)[0], EVERY)  # type: ignore[arg-type]
    assert net_of_flows(busy[0], "borealis") == net_of_flows(ending(300)[0], "borealis") + COIN  # type: ignore[arg-type]


async def test_a_net_flow_among_other_kinds_is_none_of_exchanges() -> None:
    """A pool's and a company's coins are not an exchange's."""
    moved = ending(300)
    moved[-1] = flows(at(len(moved) - 1), transfer({"stratum": gets(99)}), transfer({"aster": pays(99)}, "ab" * 32))
    assert await kinds(moved) == []


def test_a_net_flow_is_arrived_less_left() -> None:
    """By entity, and over the border of all; None where it is unknown."""
    one = flows(at(0), transfer({"borealis": gets(7)}), transfer({"cirrus": pays(10)}, "ab" * 32))
    assert [net_of_flows(one, who) for who in ("borealis", "cirrus", "stratum", EVERY)] == [
        7 * COIN,
        -10 * COIN,
        0,
        -3 * COIN,
    ]
    row = case("net_inflow").rows[0]
    assert net_of(row, "borealis", LABELS.version) == net_of_flows(row.flows, "borealis")  # type: ignore[arg-type]
    assert net_of(row, "borealis", "older") is None
    assert net_of(row._replace(flows=None), "borealis", LABELS.version) is None
    assert total([1, -3]) == -2
    assert total([1, None]) is None


# Single transactions


@pytest.mark.parametrize(
    ("flow", "pattern", "kind"),
    [(gets, "payment", "large_deposit"), (pays, "batch", "large_withdrawal"), (keeps, "internal", "internal_reshuffle"),
     (keeps, "consolidation", "internal_reshuffle")],
)  # fmt: skip
async def test_large_single_transactions(flow: Any, pattern: str, kind: str) -> None:
    """From 100 BTC, or what is set; what moved within is told as such and never as a flow."""
    now = transfer({"borealis": flow(150)}, pattern=pattern)
    moved = [*quiet(144), flows(at(144), now)]
    (signal,) = await signals(moved)
    assert (signal.kind, signal.subject) == (kind, "borealis")
    assert signal.metadata["amount"] == 150 * COIN
    assert signal.evidence["txids"] == [now.txid]
    assert await kinds(moved, large_btc=150) == [(kind, "borealis")]
    assert await kinds(moved, large_btc=150.00000001) == []


async def test_a_transfer_between_two_exchanges_is_told_of_both() -> None:
    moved = [*quiet(144), flows(at(144), transfer({"borealis": pays(150), "cirrus": gets(150)}))]
    assert await kinds(moved) == [("large_deposit", "cirrus"), ("large_withdrawal", "borealis")]
