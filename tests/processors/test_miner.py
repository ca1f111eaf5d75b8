"""When the miner processor speaks, and when it is silent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import accumulate
from math import comb
from pathlib import Path
from random import Random
from typing import Any

import pytest

from helpers.recorded import recorded_run
from processors.cases import (
    FIRST_TOLD,
    HEIGHT,
    POOLS,
    SPACING,
    SUBSIDY,
    TIME,
    at,
    block,
    by,
    case,
    context,
    flows,
    gets,
    keeps,
    past,
    pays,
    rising_pool,
    rows,
    said,
    snapshot,
    told,
    transfer,
    unsure,
)
from utxoiq.chain.block import decode_block, read_undo_spent
from utxoiq.chain.network import NETWORKS
from utxoiq.entities.labels import labels_for
from utxoiq.facts.compute import compute_facts
from utxoiq.history import History, Window
from utxoiq.models import BLOCK_WEIGHT, BlockData, BlockFacts, MempoolSnapshot, Signal, Transfer
from utxoiq.processors import MinerProcessor, ProcessorConfig, miner
from utxoiq.processors.metadata import problems
from utxoiq.processors.shares import shifts
from utxoiq.units import COIN


async def signals(window: tuple[BlockFacts, ...], now: BlockFacts, **thresholds: float) -> list[Signal]:
    return await said(MinerProcessor(ProcessorConfig(**thresholds)), window, now)


async def kinds(window: tuple[BlockFacts, ...], now: BlockFacts, **thresholds: float) -> list[str]:
    return [signal.kind for signal in await signals(window, now, **thresholds)]


@pytest.mark.parametrize(("empty", "kind"), [(0, ["empty_block"]), (4, ["empty_block"]), (5, []), (144, [])])
async def test_an_empty_block_is_told_where_hardly_any_are(empty: int, kind: list[str]) -> None:
    """Up to three in a hundred of the window, four of 144; in the years when most were empty it says nothing."""
    window = tuple(at(i, txs=1 if i < empty else 101) for i in range(144))
    assert await kinds(window, at(144, txs=1)) == kind


async def test_what_an_empty_block_says() -> None:
    """Its pool, and by which sign that is known; how many were empty before; the time since its parent."""
    now = at(144, txs=1, time=TIME + 143 * SPACING + 17)
    (signal,) = await signals(past(144), now)
    assert signal.subject == POOLS[0]
    assert signal.metadata == {
        "empty_before": 0,
        "window_blocks": 144,
        "seconds_after_parent": 17,
        "pool_name": "Aster",
        "pool_by": "tag",
    }
    assert signal.confidence == pytest.approx(144.5 / 145, abs=1e-6)


async def test_an_empty_block_needs_a_past_and_a_pool_does_not_matter() -> None:
    assert await kinds(past(143), at(143, txs=1)) == []
    (signal,) = await signals(past(144), at(144, txs=1, pool=None, pool_name=None, pool_by=None))
    assert signal.subject == "unknown"
    assert await kinds(past(144), at(144, txs=2)) == []


async def test_a_clock_that_ran_backwards_is_not_told_as_no_time() -> None:
    """A block may be stamped before its parent: nought seconds would be a false number."""
    (signal,) = await signals(past(144), at(144, txs=1, time=TIME + 143 * SPACING - 45))
    assert signal.metadata["seconds_after_parent"] in (None, -45)


@pytest.mark.parametrize(
    ("left", "least", "kind"), [(1, 1, ["reward_unclaimed"]), (0, 1, []), (None, 1, []), (99, 100, []), (-1, 1, [])]
)
async def test_a_reward_unclaimed(left: int | None, least: int, kind: list[str]) -> None:
    """From one satoshi on, or what is set; unknown is not zero and not something."""
    assert await kinds((), at(5, coinbase_unclaimed=left), unclaimed_sat=least) == kind


async def test_what_an_unclaimed_reward_says() -> None:
    """Claimed and left make up what was due; a rule of consensus is certain."""
    (signal,) = await signals((), at(5, coinbase_value=SUBSIDY - 10, coinbase_unclaimed=10))
    assert (signal.metadata["claimed"], signal.metadata["entitled"]) == (SUBSIDY - 10, SUBSIDY)
    assert signal.metadata["unclaimed"] == 10
    assert signal.confidence == 1
    assert signal.confidence_basis["calibrated"] is True


async def test_genesis_is_not_blamed_for_its_reward() -> None:
    """Its coinbase can't be spent at all; that is not a miner's mistake."""
    assert await kinds((), at(0, height=0, coinbase_unclaimed=50)) == []


@pytest.mark.parametrize(
    ("height", "subsidy", "kind"),
    [(1_050_000, SUBSIDY // 2, ["halving"]), (1_050_001, SUBSIDY // 2, []), (1_049_999, SUBSIDY, []), (0, SUBSIDY, []),
     (None, None, []), (1_050_000, None, [])],
)  # fmt: skip
async def test_a_halving(height: int | None, subsidy: int | None, kind: list[str]) -> None:
    """The first block of each period but the first of all; a height nobody knows is none."""
    assert await kinds((), at(5, height=height, subsidy=subsidy)) == kind
    for signal in await signals((), at(5, height=height, subsidy=subsidy)):
        assert signal.metadata == {"subsidy": SUBSIDY // 2, "subsidy_before": SUBSIDY}


async def test_networks_halve_at_their_own_heights() -> None:
    """Regtest every 150 blocks; where there is no subsidy left, nothing halves."""
    regtest = replace(block(), block=replace(block().block, network=NETWORKS["regtest"]))
    for height, subsidy, count in ((150, 2_500_000_000, 1), (151, 2_500_000_000, 0), (150 * 40, 0, 0)):
        now = at(1, height=height, subsidy=subsidy)
        found = await MinerProcessor().process_block(regtest, context((), now))
        assert len(found) == count, height


async def test_a_share_that_rises_is_told_once() -> None:
    """In the block in which the difference is first beyond chance, and not again while it lasts."""
    chain = rising_pool()
    found = [one for one in await told(MinerProcessor(), chain) if one[1] == "pool_share_shift"]
    assert found == [(HEIGHT + FIRST_TOLD, "pool_share_shift")]
    (signal,) = await signals(chain[:FIRST_TOLD], chain[FIRST_TOLD])
    assert signal.subject == "ember"
    said_of = signal.metadata
    recent, before = chain[FIRST_TOLD - 143 : FIRST_TOLD + 1], chain[FIRST_TOLD - 792 : FIRST_TOLD - 143]
    assert said_of["direction"] == "up"
    assert (said_of["blocks"], said_of["recent_blocks"]) == (sum(f.pool == "ember" for f in recent), 144)
    assert (said_of["blocks_before"], said_of["window_blocks"]) == (sum(f.pool == "ember" for f in before), 649)
    assert said_of["share"] == round(said_of["blocks"] / 144, 4)
    assert said_of["share_before"] == round(said_of["blocks_before"] / 649, 4)
    assert said_of["pools_tested"] == 5
    assert said_of["pool_name"] == "Ember"
    assert signal.confidence == pytest.approx(1 - said_of["p_value"], abs=1e-6)


async def test_every_look_back_at_shares_is_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """One at fewer blocks would not find what was found then, and the shift would be told again."""
    looked: list[int] = []

    def once(pools: Sequence[str | None], thresholds: Mapping[str, float]) -> dict[str, dict[str, Any]]:
        looked.append(len(pools))
        return shifts(pools, thresholds) if len(looked) == 1 else {}

    monkeypatch.setattr(miner, "shifts", once)
    chain = rising_pool()
    await signals(chain[100:1180], chain[1180])
    assert looked == [793] * 289


@pytest.mark.parametrize(("began", "told"), [(936, ["ember"]), (792, [])])
async def test_a_share_that_shifted_long_ago_is_not_told_as_new(began: int, told: list[str]) -> None:
    """Ember finds one of 20 blocks, then one of six: over the last 144 blocks it is told; where it has gone on for
    288, these show it more clearly, and nothing is said."""
    chain = [at(i, pool="ember" if i % (6 if i >= began else 20) == 0 else "aster") for i in range(1080)]
    found = await signals(tuple(chain[:-1]), chain[-1], shift_quiet_blocks=0, share_p=0.001)
    assert [signal.subject for signal in found if signal.subject == "ember"] == told


@cache
def falling_pool() -> tuple[BlockFacts, ...]:
    """Aster finds a third of 1,008 blocks, then none of the next 144."""
    rng = Random(8)
    finders = [rng.choice(["aster", *POOLS[1:3]]) for _ in range(1008)]
    finders += [rng.choice(["basalt", "cobalt"]) for _ in range(144)]
    return tuple(at(i, pool=pool, pool_name=pool.title()) for i, pool in enumerate(finders))


async def test_a_share_that_falls_is_told_too() -> None:
    """Of the pool that vanishes, with its direction; those that take its place may be told beside it."""
    chain = falling_pool()
    found = []
    for i in range(1008, len(chain)):
        found += [(i, s) for s in await signals(chain[i - 1008 : i], chain[i]) if s.subject == "aster"]
    ((i, signal),) = found
    assert signal.metadata["direction"] == "down"
    assert signal.metadata["share"] < signal.metadata["share_before"]
    assert 1008 < i < 1008 + 100


async def test_a_share_shift_needs_a_past_before_the_recent_blocks() -> None:
    """144 recent blocks and 144 before those: a chain of fewer than 288 blocks says nothing."""
    shifted = tuple(at(i, pool="ember" if i >= 143 else POOLS[i % 4]) for i in range(288))
    assert await kinds(shifted[:286], shifted[286], shift_quiet_blocks=0) == []
    assert "pool_share_shift" in await kinds(shifted[:287], shifted[287], shift_quiet_blocks=0)


async def test_blocks_of_nobody_are_no_pool() -> None:
    """Unknown finders are counted as blocks, and never told as a pool of their own."""
    nobody = [at(i, pool=None, pool_name=None, pool_by=None) for i in range(144)]
    window = (*past(1008 - 144), *nobody[1:])
    assert {s.subject for s in await signals(window, nobody[0], shift_quiet_blocks=0)} == set(POOLS)


async def test_equal_shares_seldom_look_shifted() -> None:
    """Six equal pools, 200 windows, told at 5 %: 4 false alarms with this seed, and never more than 5 % expected.

    Were the six tests not counted (Bonferroni), 32 of the windows would raise one.
    """
    rng = Random(2024)
    facts = [at(i, pool=f"pool-{i}", pool_name=f"Pool {i}") for i in range(6)]
    alarms = 0
    for _ in range(200):
        *window, now = rng.choices(facts, k=1009)
        found = await kinds(tuple(window), now, share_p=0.05, share_change=0, shift_quiet_blocks=0)
        alarms += bool(found)
    assert alarms == 4


async def test_every_pool_tested_counts() -> None:
    """The same pool with the same blocks: p is multiplied by the number of pools that were looked at."""
    p_values = []
    for others in (1, 9):
        chain = [at(i, pool="ember" if i % 10 == 0 else f"pool-{i % others}") for i in range(864)]
        chain += [at(i, pool="ember" if i % 4 == 0 else f"pool-{i % others}") for i in range(864, 1008)]
        found = await signals(tuple(chain[:-1]), chain[-1], shift_quiet_blocks=0, share_p=0.01)
        (signal,) = [s for s in found if s.subject == "ember"]
        assert signal.metadata["pools_tested"] == others + 1
        p_values.append(signal.metadata["p_value"])
    assert p_values[1] == pytest.approx(5 * p_values[0], rel=0.01)


async def test_a_shift_is_never_certain() -> None:
    """A test by chance leaves a chance, however small: its confidence stays below 1."""
    chain = [at(i, pool="ember" if i >= 864 else "aster", pool_name="Any") for i in range(1008)]
    found = await signals(tuple(chain[:-1]), chain[-1], shift_quiet_blocks=0)
    assert found
    assert all(signal.confidence < 1 for signal in found), [(s.metadata["p_value"], s.confidence) for s in found]


def main_blocks() -> list[BlockFacts]:
    """Mainnet's first 600 blocks."""
    run, main = recorded_run("main_0-599", NETWORKS["main"]), NETWORKS["main"]
    facts = []
    for height, (block_hash, raw) in enumerate(run.blocks.items()):
        decoded = decode_block(raw, main)
        spent = read_undo_spent(decoded, run.undo[block_hash]) if block_hash in run.undo else None
        facts.append(compute_facts(BlockData(decoded, height, spent, None, "test"), labels_for(main)))
    return facts


async def test_the_first_blocks_of_bitcoin_are_not_called_empty(shared: Path) -> None:
    """Nearly all of blocks 0 to 599 hold nothing but a coinbase: that was usual, and no miner signal is said."""
    chain = main_blocks()
    assert sum(facts.txs == 1 for facts in chain) == 587
    assert await told(MinerProcessor(), chain) == []


async def test_what_a_shift_is_based_on() -> None:
    chosen = case("pool_share_shift")
    (signal,) = await signals(chosen.window, chosen.now)
    assert signal.confidence_basis["cases"] == 793
    assert "Fisher" in signal.confidence_basis["basis"]


# Under-filled blocks


SEEN = snapshot(144, 3)
FULL = past(144)


async def underfilled(now: BlockFacts, seen: MempoolSnapshot | None = SEEN, **more: Any) -> list[Signal]:
    window = more.pop("window", FULL)
    return await said(MinerProcessor(ProcessorConfig(**more)), window, now, [seen])


def filled(share: float, i: int = 144, **changes: Any) -> BlockFacts:
    return at(i, weight=round(share * BLOCK_WEIGHT), **changes)


@pytest.mark.parametrize(("share", "count"), [(0.5, 1), (0.25, 1), (0.5001, 0), (1, 0)])
async def test_an_underfilled_block_is_half_empty(share: float, count: int) -> None:
    """Of the weight that a miner can fill; the limit included."""
    assert len(await underfilled(filled(share))) == count


async def test_what_an_underfilled_block_says() -> None:
    """How full it is beside the usual, what waited when, and how long after its parent it came."""
    (signal,) = await underfilled(filled(0.25, time=TIME + 143 * SPACING + 9))
    assert signal.metadata == {
        "weight_share": 0.25,
        "usual_weight_share": 1.0,
        "backlog_blocks": 3.0,
        "seen_at": SEEN.taken_at,
        "seconds_after_parent": 9,
        "window_blocks": 144,
        "transactions": 104,
        "pool_name": "Aster",
        "pool_by": "tag",
    }
    assert (signal.kind, signal.subject, signal.inputs["mempool"]) == ("underfilled_block", "aster", SEEN.snapshot_id)
    assert signal.confidence == pytest.approx(144.5 / 145, abs=1e-6)


@pytest.mark.parametrize(
    "seen", [None, snapshot(144, 0.99), snapshot(144, 3, backlog_weight=None)], ids=["unseen", "too little", "unknown"]
)
async def test_a_block_with_nothing_waiting_is_not_underfilled(seen: MempoolSnapshot | None) -> None:
    """A whole block must have waited; what is unknown did not."""
    assert await underfilled(filled(0.25), seen) == []
    assert len(await underfilled(filled(0.25), snapshot(144, 1.001))) == 1


async def test_an_underfilled_block_is_unusual_and_not_empty() -> None:
    """Where blocks are seldom full it says nothing; an empty one is told as empty; a short past tells nothing."""
    assert await underfilled(filled(0.25), window=past(144, weight=int(0.89 * BLOCK_WEIGHT))) == []
    assert [s.kind for s in await underfilled(filled(0.25, txs=1))] == ["empty_block"]
    assert await underfilled(filled(0.25, i=143), window=past(143)) == []


# Streaks


def streak(length: int, before: int = 144, pools: Sequence[str | None] = POOLS) -> tuple[BlockFacts, ...]:
    """`before` blocks of pools in turn, of which the last is not Aster's, then so many of Aster's."""
    finders = [pools[i % len(pools)] for i in range(before)]
    return tuple(
        at(i, pool=pool, pool_name=pool and pool.title()) for i, pool in enumerate([*finders, *["aster"] * length])
    )


@pytest.mark.parametrize(("length", "count"), [(4, 0), (5, 0), (6, 1), (7, 0), (20, 0)])
async def test_a_streak_is_told_once_when_it_is_beyond_chance(length: int, count: int) -> None:
    """144 · (1/4)^n is below 0.05 from n = 6 on: told at the sixth, not again at the seventh."""
    chain = streak(length)
    found = [s for s in await signals(chain[:-1], chain[-1]) if s.kind == "pool_streak"]
    assert len(found) == count
    for signal in found:
        assert signal.metadata == {
            "pool_name": "Aster", "streak": 6, "share": 0.25, "window_blocks": 144, "p_value": 0.0352,
        }  # fmt: skip
        assert signal.confidence == pytest.approx(1 - 144 / 4**6, abs=1e-6)
        assert (signal.subject, signal.confidence_basis["cases"]) == ("aster", 144)


async def test_a_streak_in_a_chain_is_told_at_one_block() -> None:
    chain = streak(12)
    found = [one for one in await told(MinerProcessor(), chain) if one[1] == "pool_streak"]
    assert found == [(HEIGHT + 149, "pool_streak")]


async def test_a_streak_needs_a_share_before_it() -> None:
    """A pool never seen before has no chance to compare with; nor is there one after too short a past."""
    nobody_new = streak(9, pools=POOLS[1:])
    assert "pool_streak" not in await kinds(nobody_new[:-1], nobody_new[-1], quiet_blocks=0)
    short = streak(6, before=143)
    assert await kinds(short[:-1], short[-1]) == []


async def test_blocks_of_nobody_make_no_streak() -> None:
    """Unknown finders need not be one; and they break a streak."""
    chain = [at(i, pool=None, pool_name=None) if i > 143 else at(i) for i in range(160)]
    assert "pool_streak" not in [kind for _, kind in await told(MinerProcessor(), chain)]
    broken = list(streak(6))
    broken[-3] = at(147, pool=None, pool_name=None)
    assert await kinds(tuple(broken[:-1]), broken[-1]) == []


async def test_a_large_pool_has_long_streaks() -> None:
    """At half of the blocks n · (1/2)^12 is below 0.05 first."""
    chain = streak(12, pools=["aster", "basalt"])
    assert "pool_streak" in await kinds(chain[:-1], chain[-1])
    assert "pool_streak" not in await kinds(chain[:-2], chain[-2])


# Concentration


@cache
def finders(low: float, high: float, seed: int) -> tuple[str, ...]:
    rng = Random(seed)
    return tuple("ember" if rng.random() < (low if i < 1008 else high) else rng.choice(POOLS) for i in range(1908))


@cache
def tails(blocks: int) -> list[int]:
    """By number: in how many of 5 ** blocks ways a pool at two of five finds so many and more."""
    ways = [comb(blocks, k) * 2**k * 3 ** (blocks - k) for k in range(blocks + 1)]
    return list(accumulate(reversed(ways)))[::-1]


def beyond_doubt(found: int, blocks: int) -> Fraction:
    """The chance of as many and more at two of five, in whole numbers."""
    return Fraction(tails(blocks)[found], 5**blocks)


async def test_what_a_concentration_says() -> None:
    """The share of the window and this block, and its exact chance at the limit."""
    chosen = case("hashrate_concentration")
    (signal,) = await signals(tuple(chosen.facts), chosen.now)
    blocks = [*(one.pool for one in chosen.facts), chosen.now.pool][-1008:]
    found = blocks.count("ember")
    assert signal.metadata == {
        "pool_name": "Ember",
        "share": round(found / 1008, 4),
        "blocks": found,
        "recent_blocks": 1008,
        "p_value": float(f"{float(beyond_doubt(found, 1008)):.3g}"),
    }
    assert beyond_doubt(found, 1008) < Fraction(1, 1000) <= beyond_doubt(found - 1, 1008)
    assert signal.confidence == pytest.approx(1 - float(beyond_doubt(found, 1008)), abs=1e-6)


@pytest.mark.parametrize(("low", "high", "seed"), [(0.2, 0.9, 0), (0.3, 0.8, 1), (0.38, 0.55, 3), (0.39, 0.5, 2)])
async def test_a_concentration_that_comes_is_told_once(low: float, high: float, seed: int) -> None:
    """However fast it comes: at the first block whose window is beyond doubt, and not again while that lasts."""
    pools = finders(low, high, seed)
    rare = next(n for n in range(404, 1009) if beyond_doubt(n, 1008) < Fraction(1, 1000))
    first = next(i for i in range(1008, len(pools)) if pools[i - 1007 : i + 1].count("ember") >= rare)
    chain = by(pools[: first + 100])
    history, found_at = History(rows(chain)), []
    for i in range(first - 100, first + 100):
        seen = await said(MinerProcessor(), Window(history, i - 1080, i), chain[i])
        found_at += [i for signal in seen if signal.kind == "hashrate_concentration"]
    assert found_at == [first]


async def test_a_concentration_needs_a_whole_window() -> None:
    """A week of blocks: a share of two days is luck."""
    chain = by(["ember"] * 500 + list(POOLS) * 20)
    found = await told(MinerProcessor(), chain)
    assert "hashrate_concentration" not in [kind for _, kind in found]


async def test_a_pool_that_finds_every_block_is_told() -> None:
    """After 200 blocks of others, looked at 100 at a time: when its own are beyond doubt, once."""
    rare = next(n for n in range(41, 101) if beyond_doubt(n, 100) < Fraction(1, 1000))
    small = MinerProcessor(ProcessorConfig(time_window=172, concentration_blocks=100))
    found = [one for one in await told(small, by([*POOLS * 50, *["ember"] * 90])) if one[1] == "hashrate_concentration"]
    assert found == [(HEIGHT + 199 + rare, "hashrate_concentration")]


# Distribution


async def passing_on(*transfers: Transfer, **thresholds: float) -> list[Signal]:
    moved = flows(at(144), *transfers)
    return await said(MinerProcessor(ProcessorConfig(**thresholds)), past(144), at(144), flows=[moved])


@pytest.mark.parametrize(("btc", "count"), [(50, 1), (49.99999999, 0)])
async def test_what_a_pool_passes_on(btc: float, count: int) -> None:
    """From 50 BTC, of a pool's labelled addresses, and what of it were rewards never spent before."""
    found = await passing_on(transfer({"aster": pays(btc)}, coinbase_value=3 * COIN, outputs=20, pattern="batch"))
    assert len(found) == count
    for signal in found:
        assert (signal.kind, signal.subject) == ("miner_distribution", "aster")
        assert signal.metadata["amount"] == 50 * COIN
        assert signal.metadata["coinbase_outputs"] == 3 * COIN


async def test_what_a_pool_receives_or_moves_within_is_no_distribution() -> None:
    """Nor what others pay, nor its own coinbase, nor what is mixed."""
    assert await passing_on(
        transfer({"aster": gets(50)}, "01" * 32, pattern="coinbase"),
        transfer({"aster": gets(50)}, "02" * 32),
        transfer({"aster": keeps(50)}, "03" * 32, pattern="consolidation"),
        transfer({"aster": unsure(pays(50))}, "04" * 32),
        transfer({"borealis": pays(50)}, "05" * 32),
    ) == []  # fmt: skip


async def test_unknown_coinbase_outputs_are_not_told_as_none() -> None:
    """A source that does not tell which coins were coinbases': the amount stands, that figure does not."""
    (signal,) = await passing_on(transfer({"aster": pays(50)}, coinbase_value=None))
    assert signal.metadata["coinbase_outputs"] is None
    assert problems(signal.metadata, MinerProcessor.kinds["miner_distribution"]) == []
