"""Plans: how many events of each kind, how large, and how far apart; and the draws they are made of."""

from __future__ import annotations

import statistics
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import pytest

from utxoiq.simulation.cast import MINERS, POOLS
from utxoiq.simulation.draws import exponential, log_uniform, spread, stream
from utxoiq.simulation.hashrate import Hashrate, least_run
from utxoiq.simulation.plan import Plan, Planned, make_plan, timelines
from utxoiq.simulation.regimes import REGIMES, Regime
from utxoiq.simulation.truth import Truth

TYPES = {
    "mempool": {"fee_spike", "fee_drop", "tx_count_record", "fee_overpaid"},
    "miner": {"pool_share_shift", "pool_streak", "reward_unclaimed", "miner_distribution", "empty_block"},
    "whale": {"large_transfer", "own_move", "large_consolidation", "dormant_coins"},
    "exchange": {"large_deposit", "large_withdrawal", "net_inflow", "net_outflow"},
    "treasury": {"accumulation", "distribution"},
}
LEAST = {"mempool": 25, "miner": 25, "whale": 60, "exchange": 60, "treasury": 60}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("regime", ["calm", "bursty", "low_fee"])
def test_enough_happens_in_3000_blocks(seed: int, regime: str) -> None:
    plan = make_plan(seed, 3000, REGIMES[regime])
    kinds = Counter(what.kind for planned in plan.planned.values() for what in planned.values())
    for signal_type, of_it in TYPES.items():
        assert sum(kinds[kind] for kind in of_it) >= LEAST[signal_type], signal_type
        assert all(kinds[kind] > 0 for kind in of_it), kinds


def test_sizes_are_log_uniform_from_half_a_threshold_to_ten() -> None:
    plans = [make_plan(seed, 3000, REGIMES["calm"]) for seed in range(4)]
    kinds = TYPES["exchange"] | TYPES["treasury"] | TYPES["whale"]
    sizes = [w.size for plan in plans for planned in plan.planned.values() for w in planned.values() if w.kind in kinds]
    assert min(sizes) >= 0.5
    assert max(sizes) <= 10
    for low, high in ((0.5, 1), (1, 2), (2, 4), (4, 8)):
        assert sum(low <= size < high for size in sizes) / len(sizes) == pytest.approx(0.2314, abs=0.05)


@pytest.mark.parametrize("regime", list(REGIMES))
def test_events_of_a_subject_do_not_overlap(regime: str) -> None:
    plan = make_plan(3, 3000, REGIMES[regime])
    lines = {line.subject: line for line in timelines(REGIMES[regime])}
    for subject, planned in plan.planned.items():
        steps = sorted(planned)
        assert all(later - earlier >= 1 for earlier, later in pairwise(steps))
        if subject in lines:
            gap = max(15, lines[subject].gap // REGIMES[regime].crowding)
            assert all(later - earlier >= gap for earlier, later in pairwise(steps)), subject
            assert steps == [] or steps[-1] < 3000 - 14


def test_empty_blocks_come_where_nothing_else_is_planned() -> None:
    plan = make_plan(1, 3000, REGIMES["heavy_reshuffling"])
    others = {step for subject, planned in plan.planned.items() if subject != "empty" for step in planned}
    assert len(plan.planned["empty"]) >= 9
    assert not others & set(plan.planned["empty"])


def test_without_flows_nothing_is_planned_of_exchanges_and_holders() -> None:
    plan = make_plan(1, 3000, REGIMES["reshuffling_only"])
    kinds = {what.kind for planned in plan.planned.values() for what in planned.values()}
    assert not kinds & (TYPES["exchange"] | TYPES["treasury"])
    assert "internal_reshuffle" in kinds


def test_spread_keeps_its_gap_and_its_room() -> None:
    rng = stream(1, "test")
    for count, gap in ((1, 5), (4, 20), (40, 20), (0, 3)):
        steps = spread(rng, 10, 100, count, gap)
        assert len(steps) == min(count, (100 - 10 - 1) // gap + 1)
        assert all(10 <= step < 100 for step in steps)
        assert all(later - earlier >= gap for earlier, later in pairwise(steps))
    assert spread(rng, 10, 5, 3, 2) == []


def test_log_uniform_is_exact_at_its_ends_and_even_between() -> None:
    rng = stream(1, "test")
    draws = [log_uniform(rng, Fraction(1, 2), 8) for _ in range(4_000)]
    assert all(0.5 <= draw <= 8 for draw in draws)
    assert statistics.median(draws) == pytest.approx(2, rel=0.08)
    assert log_uniform(rng, 3, 3) == 3


def test_gaps_between_blocks_are_exponential() -> None:
    rng = stream(1, "test")
    draws = [exponential(rng) for _ in range(20_000)]
    assert statistics.mean(draws) == pytest.approx(1, abs=0.03)
    assert statistics.median(draws) == pytest.approx(0.6931, abs=0.03)
    assert statistics.stdev(draws) == pytest.approx(1, abs=0.05)


def hashrate(blocks: int, **planned: dict[int, Planned]) -> tuple[Hashrate, list[str], Truth]:
    plan = Plan(blocks, planned=dict(planned))
    truth = Truth(plan, [])
    one = Hashrate(plan, truth, stream(1, "test"))
    return one, [one.finder(step).id for step in range(blocks)], truth


def test_shares_drift_little() -> None:
    _, found, _ = hashrate(6_000)
    for miner in MINERS:
        assert found.count(miner.id) / 6_000 == pytest.approx(miner.share, abs=0.03)


def test_a_shift_is_as_large_as_it_says() -> None:
    _, found, truth = hashrate(8_000, shift={4_000: Planned("pool_share_shift", 3.0, 1)})
    events = [event for event in truth.events if event.kind == "pool_share_shift"]
    assert max(event.size for event in events) == pytest.approx(3, abs=0.01)
    for event in events:
        assert event.height == 904_000
        before, after = (found[part].count(str(event.entity)) for part in (slice(4_000), slice(4_000, None)))
        assert abs(after - before) / 4_000 == pytest.approx(event.size * 0.05, abs=0.03)
        assert (after > before) == (event.detail["direction"] == "up")


def test_a_streak_is_as_long_as_it_says() -> None:
    one, found, truth = hashrate(1_500, streak={1_200: Planned("pool_streak", 1.5, 1)})
    one.finish()
    events = {event.height - 900_000: event for event in truth.events if event.kind == "pool_streak"}
    assert 1_200 in events
    for begin, event in events.items():
        length = int(event.detail["length"])
        assert set(found[begin : begin + length]) == {event.entity}
        assert found[begin + length] != event.entity
    assert events[1_200].counts


def test_the_least_run_is_the_published_one() -> None:
    """n s^L <= 1/20: of 1,000 blocks with a tenth, five are too few for 0.01 and six make 0.001."""
    past = [*[POOLS[0]] * 100, *[POOLS[1]] * 900]
    assert least_run(past, POOLS[0]) == 5
    assert 1_000 * 0.1**5 <= 0.05 < 1_000 * 0.1**4


def test_regimes_are_frozen_and_named() -> None:
    assert set(REGIMES) >= {
        "calm", "bursty", "half_labels", "thin_labels", "wrong_labels", "heavy_reshuffling", "coinjoin_rich", "low_fee",
        "reshuffling_only",
    }  # fmt: skip
    assert REGIMES["calm"] == Regime()
