"""When the whale processor speaks, and when it is silent."""

from __future__ import annotations

from typing import Any

import pytest

from processors.cases import HEIGHT, at, flows, gets, keeps, moved, past, pays, said, told, transfer
from utxoiq.models import BlockFacts, BlockFlows, Signal
from utxoiq.processors import ProcessorConfig, WhaleProcessor
from utxoiq.processors.statistics import tail_p
from utxoiq.units import COIN

WHOSE = "ef" * 32


async def signals(
    now: BlockFacts, seen: BlockFlows | None = None, window: tuple[BlockFacts, ...] | None = None, **thresholds: float
) -> list[Signal]:
    before = past(1008)[-(now.height or HEIGHT) + HEIGHT :] if window is None else window
    return await said(WhaleProcessor(ProcessorConfig(**thresholds)), before, now, flows=[seen])


async def kinds(now: BlockFacts, seen: BlockFlows | None = None, **more: Any) -> list[str]:
    return [signal.kind for signal in await signals(now, seen, **more)]


def moving(*transfers: dict[str, Any], i: int = 144, **changes: Any) -> BlockFacts:
    return at(i, large_transfers=list(transfers), **changes)


DAY = past(144)


# Transfers


async def test_a_large_transfer_says_what_moved() -> None:
    """Its sides, its fee, how many window blocks held a larger one, how much of the block labels know."""
    before = tuple(at(i, large_transfers=[moved(4000)] if i < 3 else []) for i in range(144))
    seen = flows(moving(), transfer({"borealis": pays(1000, change=0)}))
    (signal,) = await signals(moving(moved(3000, change=7, fee=9, inputs=2, outputs=3)), seen, window=before)
    assert signal.metadata == {
        "moved": 3000 * COIN,
        "change": 7,
        "fee": 9,
        "inputs": 2,
        "outputs": 3,
        "larger_before": 3,
        "window_blocks": 144,
        "block_attributed_share": 0.1,
    }
    assert (signal.kind, signal.subject, signal.evidence["txids"]) == ("large_transfer", WHOSE, [WHOSE])
    assert signal.confidence == pytest.approx(141.5 / 145, abs=1e-6)


@pytest.mark.parametrize(("btc", "count"), [(1000, 1), (999.99999999, 0), (5000, 1)])
async def test_a_whale_moves_a_thousand(btc: float, count: int) -> None:
    """To the satoshi; or what is set."""
    assert len(await kinds(moving(moved(btc)), window=DAY)) == count
    assert len(await kinds(moving(moved(btc)), window=DAY, transfer_btc=btc)) == 1
    assert await kinds(moving(moved(btc)), window=DAY, transfer_btc=btc + 1e-8) == []


async def test_several_in_a_block_are_told_each() -> None:
    each = [moved(9000, txid="01" * 32), moved(2000, txid="02" * 32), moved(500, txid="03" * 32)]
    assert [signal.subject for signal in await signals(moving(*each), window=DAY)] == ["01" * 32, "02" * 32]


@pytest.mark.parametrize(
    ("inputs", "outputs", "kind"),
    [
        (10, 2, "large_consolidation"),
        (10, 1, "large_consolidation"),
        (9, 2, "large_transfer"),
        (10, 3, "large_transfer"),
        (500, 500, "large_transfer"),
    ],
)
async def test_a_consolidation_has_many_inputs_and_few_outputs(inputs: int, outputs: int, kind: str) -> None:
    """Ten and more into two and fewer."""
    assert await kinds(moving(moved(3000, inputs=inputs, outputs=outputs)), window=DAY) == [kind]


@pytest.mark.parametrize(
    ("pattern", "count"),
    [("internal", 0), ("consolidation", 0), ("coinjoin", 0), ("payment", 1), ("batch", 1)],
)
async def test_moves_within_an_entity_and_mixes_are_no_transfer(pattern: str, count: int) -> None:
    """Where labels tell that nothing changed hands, or that nobody can tell."""
    seen = flows(moving(), transfer({"borealis": keeps(3000)}, WHOSE, pattern=pattern))
    assert len(await kinds(moving(moved(3000)), seen, window=DAY)) == count


async def test_another_transactions_pattern_does_not_matter() -> None:
    seen = flows(moving(), transfer({"borealis": keeps(3000)}, "01" * 32, pattern="internal"))
    assert await kinds(moving(moved(3000)), seen, window=DAY) == ["large_transfer"]


async def test_an_exchange_paying_another_is_a_transfer() -> None:
    """Two labelled entities are not one."""
    seen = flows(moving(), transfer({"borealis": pays(3000), "cirrus": gets(3000)}, WHOSE))
    assert await kinds(moving(moved(3000)), seen, window=DAY) == ["large_transfer"]


async def test_a_transfer_needs_a_past() -> None:
    """144 blocks whose transfers are known; unknown ones are no blocks without any."""
    assert await kinds(moving(moved(3000), i=143), window=past(143)) == []
    unknown = tuple(at(i, large_transfers=None if i == 70 else []) for i in range(144))
    assert await kinds(moving(moved(3000)), window=unknown) == []
    unknown = tuple(at(i, large_transfers=None if i == 70 else []) for i in range(145))
    (signal,) = await signals(moving(moved(3000), i=145), window=unknown)
    assert signal.metadata["window_blocks"] == signal.confidence_basis["cases"] == 144


async def test_what_is_common_is_not_told() -> None:
    """Where nearly half of the blocks hold as large a one, the confidence is below 0.7; unknown flows do not matter."""
    before = tuple(at(i, large_transfers=[moved(3000)] if i % 2 else []) for i in range(144))
    assert await kinds(moving(moved(3000)), window=before) == []
    assert await kinds(moving(moved(3000)), window=before, confidence_threshold=0.5) == ["large_transfer"]
    assert await kinds(at(144, large_transfers=None), window=before) == []


# Dormant coins


def coin(btc: float, age: int | None, txid: str = WHOSE) -> dict[str, Any]:
    return {"txid": txid, "value": round(btc * COIN), "age_blocks": age}


@pytest.mark.parametrize(
    ("coins", "count"),
    [
        ([(100, 157_680)], 1),
        ([(100, 157_679)], 0),
        ([(99.99999999, 157_680)], 0),
        ([(100, None)], 0),
        ([(5000, None), (100, 0)], 0),
        ([(60, 200_000), (40, 300_000)], 1),
        ([(60, 200_000), (40, None)], 0),
        ([(60, 200_000), (40, 100)], 0),
    ],
)
async def test_dormant_coins(coins: list[tuple[float, int | None]], count: int) -> None:
    """A hundred bitcoin and more that lay three years of blocks; a coin of unknown age is not counted as old."""
    now = at(0, large_coins=[coin(*one) for one in coins])
    assert await kinds(now, window=()) == ["dormant_coins"] * count


async def test_what_dormant_coins_say() -> None:
    """Value and number of the old ones, the age of the oldest in blocks and days; a rule, so certain."""
    each = [coin(60, 200_000), coin(50, 300_000), coin(900, 10)]
    (signal,) = await signals(at(0, large_coins=each), window=())
    assert signal.metadata == {"amount": 110 * COIN, "coins": 2, "age_blocks": 300_000, "age_days": 2083}
    assert (signal.subject, signal.confidence, signal.confidence_basis["calibrated"]) == (WHOSE, 1.0, True)


async def test_coins_of_two_transactions_are_not_added() -> None:
    """60 and 60 of two owners are no 120; 120 and 130 are two signals."""
    other = "01" * 32
    assert await kinds(at(0, large_coins=[coin(60, 200_000), coin(60, 200_000, other)]), window=()) == []
    found = await signals(at(0, large_coins=[coin(120, 200_000), coin(130, 200_000, other)]), window=())
    assert [signal.subject for signal in found] == [WHOSE, other]
    assert await kinds(at(0, large_coins=None), window=()) == []


# Coin age


def aged(i: int, coin_blocks: float | None) -> BlockFacts:
    return at(i, coin_blocks_destroyed=None if coin_blocks is None else round(coin_blocks * COIN))


async def test_what_a_spike_of_coin_age_says() -> None:
    """The sum of value and age, the median before it, their ratio, and how likely that is by chance."""
    known = [one.coin_blocks_destroyed or 0 for one in past(1008)]
    (signal,) = await signals(aged(1008, 30_000), window=past(1008))
    p = tail_p(30_000 * COIN, known)
    usual = sorted(known)[503:505]
    assert signal.metadata == {
        "coin_blocks": 30_000.0,
        "usual_coin_blocks": round(sum(usual) / 2 / COIN, 1),
        "ratio": round(30_000 / (sum(usual) / 2 / COIN), 1),
        "window_blocks": 1008,
        "p_value": float(f"{p:.3g}"),
    }
    assert signal.confidence == pytest.approx(min(1 - p, 0.999999), abs=1e-6)


@pytest.mark.parametrize(("coin_blocks", "count"), [(5664, 1), (5663.9, 0), (0, 0), (None, 0)])
async def test_a_spike_is_thrice_the_usual(coin_blocks: float | None, count: int) -> None:
    """The median of 1,008 blocks is 1,888: at thrice that it speaks, below it is silent, though never seen before."""
    usual = sorted(one.coin_blocks_destroyed or 0 for one in past(1008))[503:505]
    assert 3 * sum(usual) // 2 == 5664 * COIN
    assert len(await kinds(aged(1008, coin_blocks), window=past(1008))) == count


async def test_a_spike_needs_a_known_past() -> None:
    """144 blocks of known coin age: unknown is not zero."""
    assert await kinds(aged(143, 10**6), window=past(143), age_p=0.01) == []
    assert await kinds(aged(144, 10**6), window=DAY, age_p=0.01) == ["coin_age_spike"]
    unknown = (aged(0, None), *DAY[1:])
    assert await kinds(aged(144, 10**6), window=unknown, age_p=0.01) == []


async def test_a_spike_is_rare_in_its_window() -> None:
    """Where three of 1,008 blocks were as large, it is not among the two in a thousand."""
    for larger, count in ((0, 1), (1, 1), (2, 0)):
        window = tuple(aged(i, 9000) if i in range(500, 500 + larger) else at(i) for i in range(1008))
        assert len(await kinds(aged(1008, 9000), window=window)) == count, larger


@pytest.mark.parametrize("size", [1008, 300])
async def test_a_spike_is_told_once(size: int) -> None:
    """When it begins, and again after twelve ordinary blocks; in a short window as in a whole one."""
    high = {size: 20_000.0, size + 3: 60_000.0, size + 30: 400_000.0}
    chain = [aged(i, high[i]) if i in high else at(i) for i in range(size + 40)]
    assert await told(WhaleProcessor(), chain) == [
        (HEIGHT + size, "coin_age_spike"),
        (HEIGHT + size + 30, "coin_age_spike"),
    ]


async def test_without_quiet_every_spike_is_told() -> None:
    """`quiet_blocks` of 0 asks for no silence at all."""
    chain = [aged(i, {1008: 20_000.0, 1010: 60_000.0}.get(i, 1500 + i % 50)) for i in range(1012)]
    processor = WhaleProcessor(ProcessorConfig(quiet_blocks=0))
    assert await told(processor, chain) == [(HEIGHT + 1008, "coin_age_spike"), (HEIGHT + 1010, "coin_age_spike")]
