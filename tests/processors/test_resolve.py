"""Whether signals were right, by hand-made blocks after them: right, wrong, and not to be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from processors.cases import LABELS, USUAL, at, case, flows, gets, pays, processor_of, rates, snapshot, transfer
from utxoiq.history import Past
from utxoiq.models import Signal
from utxoiq.processors.base import ProcessorConfig


async def signal_of(kind: str) -> Signal:
    """The first of the kind's case."""
    processor = type(processor_of(kind))(ProcessorConfig(confidence_threshold=0))
    found: Signal = next(one for one in await case(kind).said(processor) if one.kind == kind)
    return found


async def resolved(kind: str, after: Sequence[Past], **told: Any) -> bool | None:
    signal = await signal_of(kind)
    return processor_of(kind).resolve(replace(signal, metadata={**signal.metadata, **told}), after)


def paying(*factors: float | None) -> list[Past]:
    """Blocks that pay so many times the usual, None where that is unknown."""
    return [Past(at(i, package_feerate_percentiles_kvb=f and rates(f))) for i, f in enumerate(factors)]


@pytest.mark.parametrize(
    ("kind", "factors", "right"),
    [
        ("fee_spike", [2.1] * 6, True),
        ("fee_spike", [9, 9, 9, 9, 0.1, 0.1], True),
        ("fee_spike", [9, 9, 1, 1, 1, 1], False),
        ("fee_spike", [2.0] * 6, False),
        ("fee_spike", [9] * 5, None),
        ("fee_spike", [None, None, 3, 3, None, None], True),
        ("fee_spike", [None] * 6, None),
        ("fee_drop", [0.4] * 6, True),
        ("fee_drop", [0.5] * 6, False),
        ("fee_drop", [0.1, 0.1, 0.1, 1, 1, 1], False),
        ("fee_drop", [0.4] * 5, None),
    ],
)
async def test_a_spike_stays(kind: str, factors: list[float | None], right: bool | None) -> None:
    """The median of the six blocks after it is above twice the usual feerate, or below half of it."""
    assert await resolved(kind, paying(*factors), usual_feerate_kvb=USUAL) is right


def waiting(*backlogs: float | None) -> list[Past]:
    """Blocks mined from mempools of so many full blocks, None where nobody looked."""
    return [Past(at(i), None, None if b is None else snapshot(i, b)) for i, b in enumerate(backlogs)]


@pytest.mark.parametrize(
    ("kind", "backlogs", "right"),
    [
        ("congestion", [30, 30, 30, 30, 30, 15.1], True),
        ("congestion", [30, 30, 30, 30, 30, 15], False),
        ("congestion", [None] * 5 + [40], True),
        ("congestion", [30] * 5 + [None], None),
        ("congestion", [30] * 5, None),
        ("mempool_emptied", [0.9, 5], True),
        ("mempool_emptied", [5, 0.9], True),
        ("mempool_emptied", [None, 0.9], True),
        ("mempool_emptied", [1, 1], False),
        ("mempool_emptied", [None, 5], None),
        ("mempool_emptied", [5], None),
        ("purging", [0.1] * 20, None),
    ],
)
async def test_a_backlog(kind: str, backlogs: list[float | None], right: bool | None) -> None:
    """Six blocks later more than half waits still; all that waits before one of two blocks fits into it."""
    assert await resolved(kind, waiting(*backlogs), backlog_blocks=30.0) is right


def mined(blocks: int, of_it: int, pool: str, others: str | None = "somebody") -> list[Past]:
    """So many blocks, of which a pool found some."""
    return [Past(at(i, pool=pool if i < of_it else others)) for i in range(blocks)]


@pytest.mark.parametrize(
    ("blocks", "of_it", "right"),
    [(144, 37, True), (144, 36, False), (144, 35, False), (143, 143, None), (200, 37, True)],
)
async def test_a_share_has_shifted(blocks: int, of_it: int, right: bool | None) -> None:
    """From 20 to 30 %: the next 144 blocks are nearer to the new share, so above 25 %."""
    pool = (await signal_of("pool_share_shift")).subject
    after = mined(blocks, of_it, pool, None)
    assert await resolved("pool_share_shift", after, share=0.3, share_before=0.2) is right


@pytest.mark.parametrize(("blocks", "of_it", "right"), [(1008, 404, True), (1008, 403, False), (1007, 1007, None)])
async def test_hashrate_stays_concentrated(blocks: int, of_it: int, right: bool | None) -> None:
    """Above the recorded limit of 40 % over the next 1,008 blocks, whatever the limit is today."""
    pool = (await signal_of("hashrate_concentration")).subject
    assert await resolved("hashrate_concentration", mined(blocks, of_it, pool)) is right


@pytest.mark.parametrize(
    ("kind", "paid", "right"),
    [
        ("feerate_rise", 1001, True),
        ("feerate_rise", 1000, False),
        ("feerate_fall", 999, True),
        ("feerate_fall", 1000, False),
        ("feerate_rise", None, None),
    ],
)
async def test_a_feerate_is_met(kind: str, paid: int | None, right: bool | None) -> None:
    """By the block that was meant, and no other."""
    facts = [at(i, package_feerate_percentiles_kvb=[500 if kind == "feerate_rise" else 5000] * 5) for i in range(6)]
    facts[4] = replace(facts[4], package_feerate_percentiles_kvb=paid and [paid] * 5)
    after = [Past(one) for one in facts]
    target = facts[4].height
    assert await resolved(kind, after, current_value=1000, target_height=target) is right
    assert await resolved(kind, after[:4], current_value=1000, target_height=target) is None


@pytest.mark.parametrize(
    ("kind", "last", "right"),
    [
        ("liquidity_inflow", 0.5, True),
        ("liquidity_inflow", -2, False),
        ("liquidity_outflow", -2, True),
        ("liquidity_outflow", 0.5, False),
        ("liquidity_inflow", None, None),
    ],
)
async def test_a_flow_goes_on(kind: str, last: float | None, right: bool | None) -> None:
    """The net flow of 144 blocks, of which all must be known under the same labels."""
    after = [
        Past(at(i), flows(at(i), transfer({"borealis": gets(1) if i % 2 else pays(1)})).sums()) for i in range(143)
    ]
    after = [*after, Past(at(143), None)]
    if last is not None:
        moved = gets(last + 1) if last > 0 else pays(-last)
        after[-1] = after[-1]._replace(flows=flows(at(143), transfer({"borealis": moved})).sums())
    assert await resolved(kind, after) is right
    assert await resolved(kind, after[:143]) is None
    others = [row._replace(flows=row.flows and replace(row.flows, labels_version="newer")) for row in after]
    assert await resolved(kind, others) is None
    assert LABELS.version != "newer"
