"""When the predictive processor speaks, and what it foretells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from statistics import fmean, pstdev
from typing import Any

import numpy as np
import pytest

from processors.cases import (
    HEIGHT,
    LABELS,
    USUAL,
    at,
    block,
    case,
    flows,
    gets,
    past,
    pays,
    rates,
    rows,
    said,
    snapshot,
    told,
    trade,
    transfer,
)
from utxoiq.history import Window
from utxoiq.models import BlockData, BlockFacts, BlockFlows, Forecast, MempoolSnapshot, Signal
from utxoiq.processors import PredictiveProcessor, ProcessingContext, ProcessorConfig
from utxoiq.processors.exchange import EVERY
from utxoiq.processors.feerates import forecast
from utxoiq.processors.predictive import HORIZON_BLOCKS
from utxoiq.units import COIN


def paying(i: int, factor: float) -> BlockFacts:
    return at(i, package_feerate_percentiles_kvb=rates(factor))


def wandering(blocks: int, seed: int = 4) -> tuple[BlockFacts, ...]:
    """Feerates that rise and fall as fees do, in steps of a tenth to a third."""
    rng, factor, chain = Random(seed), 1.0, []
    for i in range(blocks):
        factor = min(20.0, max(0.3, factor * rng.choice([0.75, 0.9, 1.0, 1.0, 1.1, 1.3])))
        chain.append(paying(i, factor))
    return tuple(chain)


def mined_from(seen: MempoolSnapshot | None) -> BlockData:
    return replace(block(), mempool=seen)


def foretold(
    window: Sequence[BlockFacts], now: BlockFacts, mempools: Sequence[MempoolSnapshot | None] = ()
) -> list[Forecast]:
    """The forecasts after `now`; `mempools` are those of the window and of it."""
    context = ProcessingContext(now, Window.of(rows(window, mempools[:-1])), LABELS, "correlation")
    return PredictiveProcessor().forecasts(mined_from(mempools[-1] if mempools else None), context)


# Forecasts


def test_every_method_foretells_every_horizon() -> None:
    """Ours with an interval, the simple ones without, each of the block it means."""
    chain = wandering(600)
    found = foretold(chain[:-1], chain[-1])
    by_method: dict[str, dict[str, Forecast]] = defaultdict(dict)
    for one in found:
        assert one.horizon not in by_method[one.method]
        by_method[one.method][one.horizon] = one
    assert {"utxoiq", "naive", "rolling_median"} <= set(by_method)
    for method, each in by_method.items():
        assert list(each) == ["next_block", "1h", "24h"]
        assert [one.target_height - (HEIGHT + 599) for one in each.values()] == [1, 6, 144]
        assert {one.low_kvb is None for one in each.values()} == {method != "utxoiq"}
        assert {one.cases > 0 for one in each.values()} == {method == "utxoiq"}
    assert {one.value_kvb for one in by_method["naive"].values()} == {chain[-1].package_feerate_percentiles_kvb[2]}  # type: ignore[index]


def test_ours_are_those_of_the_model() -> None:
    """Given the heights, times, feerates and projections of the window and the block, and nothing else."""
    chain = wandering(600)
    mempools = [snapshot(i) if i % 2 else None for i in range(600)]
    columns = [
        np.array(column)
        for column in (
            [one.height for one in chain],
            [one.time for one in chain],
            [one.package_feerate_percentiles_kvb[2] for one in chain],  # type: ignore[index]
            [USUAL if seen else 0 for seen in mempools],
        )
    ]
    wanted = [(one.horizon, one.value_kvb, one.low_kvb, one.high_kvb, one.cases) for one in forecast(*columns)]
    found = [one for one in foretold(chain[:-1], chain[-1], mempools) if one.method == "utxoiq"]
    assert [(one.horizon, one.value_kvb, one.low_kvb, one.high_kvb, one.cases) for one in found] == wanted
    assert len(wanted) == 3


def test_too_short_a_past_has_only_the_simple_ones() -> None:
    """144 settled cases are needed for an interval; before, nothing of ours is foretold."""
    chain = wandering(150)
    assert {one.method for one in foretold(chain[:-1], chain[-1])} >= {"naive"}
    assert "utxoiq" not in {one.method for one in foretold(chain[:-1], chain[-1])}
    assert foretold((), chain[0]) == []


def test_the_nodes_own_advice_is_kept_beside_them() -> None:
    """As far as it was asked and knew: 2, 6 and 144 blocks are the three horizons."""
    chain = wandering(20)
    for advice, known in (([3000, None, 1000], [3000, 1000]), ([None] * 3, []), (None, [])):
        mempools = [*[None] * 19, snapshot(19, node_estimates_kvb=advice)]
        found = [one for one in foretold(chain[:-1], chain[-1], mempools) if one.method == "node"]
        assert [one.value_kvb for one in found] == known
        assert [one.horizon for one in found] == ["next_block", "24h"][: len(known)]
        assert all(one.low_kvb is None for one in found)


def test_a_block_without_height_foretells_nothing() -> None:
    """Nobody could say which block is meant."""
    assert foretold(past(200), at(200, height=None)) == []


def test_unknown_feerates_foretell_nothing() -> None:
    """Neither of this block nor of the past; a block that only has an unknown rate is foretold from the others."""
    unknown: dict[str, Any] = {"package_feerate_percentiles_kvb": None}
    assert foretold(past(200, **unknown), at(200, **unknown)) == []
    found = foretold(past(400), at(400, **unknown))
    assert {one.value_kvb for one in found if one.method == "naive"} == {USUAL}
    assert "utxoiq" in {one.method for one in found}


def test_the_same_block_with_another_mempool_is_foretold_anew() -> None:
    """One processor, one context object: what it was asked before does not answer for another block."""
    chain = wandering(400)
    context = ProcessingContext(chain[-1], Window.of(rows(chain[:-1], [snapshot(i) for i in range(399)])), LABELS, "c")
    high = snapshot(399, next_block=replace(snapshot(399).next_block, feerate_percentiles_kvb=[90_000] * 6))  # type: ignore[type-var]
    processor = PredictiveProcessor()
    processor.forecasts(mined_from(snapshot(399)), context)
    assert processor.forecasts(mined_from(high), context) == PredictiveProcessor().forecasts(mined_from(high), context)


# Feerate signals


async def signals(window: Sequence[BlockFacts], now: BlockFacts, **thresholds: float) -> list[Signal]:
    return await said(PredictiveProcessor(ProcessorConfig(**thresholds)), window, now)


@pytest.mark.parametrize("name", ["feerate_rise", "feerate_fall"])
async def test_what_a_feerate_signal_says(name: str) -> None:
    """The stored forecast itself: value, interval, horizon, the block meant; the value now, mean and spread of the
    window."""
    chosen = case(name)
    paid = [one.package_feerate_percentiles_kvb[2] for one in (*chosen.facts, chosen.now)]  # type: ignore[index]
    stored = {one.horizon: one for one in foretold(chosen.facts, chosen.now) if one.method == "utxoiq"}
    for signal in await chosen.said(PredictiveProcessor()):
        one = stored[signal.subject]  # type: ignore[index]
        assert signal.metadata == {
            "prediction_type": "median feerate of a block",
            "predicted_value": one.value_kvb,
            "confidence_interval": [one.low_kvb, one.high_kvb],
            "interval_low": one.low_kvb,
            "interval_high": one.high_kvb,
            "forecast_horizon": one.horizon,
            "target_height": one.target_height,
            "model_version": PredictiveProcessor.model_version,
            "current_value": paid[-1],
            "historical_mean": round(fmean(paid), 1),
            "historical_std": round(pstdev(paid), 1),
        }
        assert (signal.confidence, signal.confidence_basis["cases"]) == (0.9, one.cases)
        up = one.value_kvb >= 1.5 * paid[-1] and one.low_kvb > paid[-1]  # type: ignore[operator]
        down = 1.5 * one.value_kvb <= paid[-1] and one.high_kvb < paid[-1]  # type: ignore[operator]
        assert (up, down) == (name == "feerate_rise", name == "feerate_fall")


async def test_a_departure_is_half_as_much_again() -> None:
    """At the ratio of what is foretold to what was paid it speaks, just above it is silent."""
    chosen = case("feerate_rise")
    (first, *_) = await chosen.said(PredictiveProcessor())
    ratio = first.metadata["predicted_value"] / first.metadata["current_value"]
    assert ratio >= 1.5
    assert first.subject in [s.subject for s in await signals(chosen.facts, chosen.now, change_ratio=ratio)]
    assert first.subject not in [s.subject for s in await signals(chosen.facts, chosen.now, change_ratio=ratio + 1e-6)]


async def test_steady_fees_are_no_news() -> None:
    assert await told(PredictiveProcessor(), past(260)) == []


async def test_a_departure_is_told_once() -> None:
    """A dip of eight blocks is told in its first; again after six ordinary ones."""
    low = {*range(300, 308), 318}
    chain = [paying(i, 0.4 if i in low else 1) for i in range(320)]
    found = []
    for i in range(298, 320):
        found += [(i, s.kind) for s in await signals(chain[:i], chain[i]) if s.subject == "next_block"]
    assert [i for i, kind in found if kind == "feerate_rise"] == [300, 318]


async def test_it_is_sure_of_less_than_what_an_interval_holds() -> None:
    """Of an 80 % interval a tenth lies beyond each end: 0.9, and silent where more is asked for."""
    chosen = case("feerate_fall")
    assert len(await signals(chosen.facts, chosen.now, confidence_threshold=0.9)) == 2
    assert await signals(chosen.facts, chosen.now, confidence_threshold=0.91) == []


# Liquidity


DAY = 24
"""Blocks of a day in these tests, in place of 144."""


def days(*nets: float, last: float) -> list[BlockFlows]:
    """Days with these net flows in BTC, then this one, of which the last block brings what is missing."""
    each = [net / DAY for net in nets for _ in range(DAY)] + [last * 0.8 / (DAY - 1)] * (DAY - 1) + [last * 0.2]
    return [trade(i, net) for i, net in enumerate(each)]


async def pressure(moved: Sequence[BlockFlows | None], **thresholds: float) -> list[Signal]:
    last, config = len(moved) - 1, ProcessorConfig(pressure_blocks=DAY, **thresholds)
    return await said(PredictiveProcessor(config), past(last), at(last), flows=moved)


async def test_what_a_liquidity_signal_says() -> None:
    """Ten earlier days with as much, nine of which were followed by one the same way."""
    nets = [1200, 1300, -400, 1250, 1350, 1400, 1450, 1500, 1150, 1600, 1180]
    (signal,) = await pressure(days(*nets, last=1100))
    following = [1300, -400, 1350, 1400, 1450, 1500, 1150, 1600, 1180, 1100]
    assert (signal.kind, signal.subject) == ("liquidity_inflow", EVERY)
    told_of = signal.metadata
    assert (told_of["cases_alike"], told_of["cases_followed"], told_of["flow_blocks"]) == (10, 9, DAY)
    assert signal.confidence == pytest.approx(9.5 / 11, abs=1e-6)
    assert signal.confidence_basis["cases"] == 10
    assert told_of["current_value"] == pytest.approx(1100 * COIN, abs=200)
    assert told_of["predicted_value"] == pytest.approx(1325 * COIN, abs=200)
    assert told_of["confidence_interval"] == pytest.approx([-400 * COIN, 1600 * COIN], abs=200)
    assert told_of["historical_mean"] == pytest.approx(fmean(nets) * COIN, abs=200)
    assert told_of["historical_std"] == pytest.approx(pstdev(nets) * COIN, abs=200)
    assert sorted(following)[4:6] == [1300, 1350]


async def test_an_outflow_is_the_same_the_other_way() -> None:
    nets = [1200] * 11
    (came,) = await pressure(days(*nets, last=1100))
    (went,) = await pressure(days(*[-net for net in nets], last=-1100))
    assert (came.kind, went.kind) == ("liquidity_inflow", "liquidity_outflow")
    for name in ("predicted_value", "current_value", "cases_alike", "cases_followed", "confidence_interval"):
        assert went.metadata[name] == came.metadata[name]
    assert went.metadata["historical_mean"] == -came.metadata["historical_mean"]


async def test_pressure_is_a_thousand_a_day() -> None:
    """To the satoshi; or what is set."""
    moved = days(*[1200] * 11, last=1100)
    now = (await pressure(moved))[0].metadata["current_value"]
    assert len(await pressure(moved, pressure_btc=(now - 0.5) / COIN)) == 1
    assert await pressure(moved, pressure_btc=(now + 0.5) / COIN) == []


@pytest.mark.parametrize(("alike", "count"), [(9, 1), (8, 0)])
async def test_too_few_days_alike_say_nothing(alike: int, count: int) -> None:
    """Nine days and more of at least half as much the same way."""
    assert len(await pressure(days(*[200] * 3, *[1200] * alike, last=1100))) == count


@pytest.mark.parametrize(("half", "count"), [(551, 1), (549, 0)])
async def test_half_as_much_is_alike(half: float, count: int) -> None:
    assert len(await pressure(days(*[half] * 10, last=1100))) == count


async def test_pressure_that_seldom_goes_on_is_not_told() -> None:
    """Where every other day turns, the chance is about a half."""
    assert await pressure(days(*[1200, -1200] * 10, last=1100)) == []


async def test_what_is_likelier_wrong_is_never_said() -> None:
    """Below a confidence of one half nothing is foretold, whatever threshold is set: the text would be of an inflow of
    less than nothing."""
    turning = days(*[1200, -900] * 10, last=1100)
    assert await pressure(turning, confidence_threshold=0) == []
    assert await pressure(turning, confidence_threshold=0.3) == []


async def test_pressure_is_told_when_it_begins() -> None:
    """At the first block of a day that shows it, not again while it lasts."""
    first = 11 * DAY - 1
    each = [trade(i, 41) for i in range(first)] + [trade(first + i, 70) for i in range(6)]
    found = []
    for i in range(first - 3, first + 6):
        found += [i for s in await pressure(each[: i + 1]) if s.kind == "liquidity_inflow"]
    assert found == [first]


@pytest.mark.parametrize("blank", ["unknown", "other labels"])
async def test_a_day_with_an_unknown_block_is_unknown(blank: str) -> None:
    """It is neither alike nor what followed; where it is today's, nothing is said."""
    moved: list[Any] = days(*[1200] * 11, last=1100)
    assert (await pressure(moved))[0].metadata["cases_alike"] == 11
    for i, cases in ((2 * DAY + 9, 9), (len(moved) - 10, None)):
        without = [
            *moved[:i],
            None if blank == "unknown" else replace(moved[i], labels_version="older"),
            *moved[i + 1 :],
        ]
        found = await pressure(without)
        assert [signal.metadata["cases_alike"] for signal in found] == ([cases] if cases else [])


async def test_lost_change_is_no_pressure() -> None:
    """Exchanges whose change does not come back to labels seem to pay out more than they do."""
    lost = [replace(one, entities={who: replace(flow, returned=0) for who, flow in one.entities.items()})
            for one in days(*[1200] * 11, last=1100)]  # fmt: skip
    assert await pressure(lost) == []


async def test_what_passes_between_exchanges_is_no_pressure() -> None:
    """Only what crosses the border of all of them."""
    moved = []
    for i, one in enumerate(days(*[1200] * 11, last=1100)):
        net = one.entities["borealis"].arrived - one.entities["borealis"].left
        between = transfer({"borealis": gets(net / COIN + 2), "cirrus": pays(net / COIN + 2)}, f"{i:064x}")
        moved.append(flows(at(i), between, transfer({"borealis": pays(2)}, f"{i:032x}{7:032x}")))
    assert await pressure(moved) == []


async def test_few_alike_may_be_asked_for() -> None:
    """With `minimum_alike` of 0 a day like no other is no error."""
    assert await pressure(days(*[1] * 2, last=1100), minimum_alike=0, confidence_threshold=0.6) == []


def test_horizons_are_in_blocks() -> None:
    assert HORIZON_BLOCKS == {"next_block": 1, "1h": 6, "24h": 144}
