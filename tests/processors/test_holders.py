"""When whale signals on balances are said, and when not."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import pytest

from processors.cases import (
    ENTITIES,
    LABELS,
    NETWORK,
    SCRIPT,
    at,
    balances,
    block,
    changed,
    context,
    entity,
    past,
    stepping,
)
from utxoiq.entities.labels import LabelSet
from utxoiq.entities.records import Label
from utxoiq.models import LARGE_HOLDING, BalanceChange, BlockBalances, Signal
from utxoiq.processors import ProcessorConfig, WhaleProcessor
from utxoiq.units import COIN

LIMIT = 1000 * COIN
ADDRESS = changed(0, 0).address
OTHERS = ["0014" + f"{n:02x}" * 20 for n in range(1, 6)]
Steps = dict[int, tuple[float, float]]


async def signals(*each: BlockBalances | None, labels: LabelSet = LABELS, **settings: Any) -> list[Signal]:
    """Of the last block of as many as there are balances of."""
    n = len(each) - 1
    seen = context(past(n), at(n), labels, balances=each)
    return await WhaleProcessor(ProcessorConfig(**settings)).process_block(block(), seen)


async def kinds(*each: BlockBalances | None, **settings: Any) -> list[str]:
    return [signal.kind for signal in await signals(*each, **settings)]


def step(before: int, after: int, script: str = SCRIPT) -> BalanceChange:
    """In sat."""
    return changed(0, 0, script)._replace(before=before, after=after)


# Crossings


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (LIMIT - 1, LIMIT, "balance_above"),
        (0, LIMIT, "balance_above"),
        (LIMIT - 1, 90 * LIMIT, "balance_above"),
        (LIMIT, LIMIT - 1, "balance_below"),
        (90 * LIMIT, 0, "balance_below"),
        (LIMIT, LIMIT, None),
        (LIMIT, LIMIT + 1, None),
        (90 * LIMIT, LIMIT, None),
        (LIMIT - 1, LIMIT - 1, None),
        (LIMIT - 1, LIMIT - 2, None),
        (0, LIMIT - 1, None),
    ],
)
async def test_a_balance_passes_a_thousand(before: int, after: int, kind: str | None) -> None:
    """To the satoshi, either way: exactly the limit is above it."""
    assert await kinds(balances(0, step(before, after))) == ([kind] if kind else [])


async def test_what_a_crossing_says() -> None:
    """Read off the ledger, with the block's transactions that did it."""
    one = changed(900, 1200.5)._replace(untold=10, txids=["aa" * 32, "bb" * 32])
    (signal,) = await signals(balances(0, one))
    assert signal.metadata == {
        "address": ADDRESS, "holder": "unknown", "balance_before": 900 * COIN, "balance": 120_050_000_000,
        "limit": LIMIT, "transactions": 12,
    }  # fmt: skip
    assert (signal.subject, signal.evidence["txids"]) == (ADDRESS, ["aa" * 32, "bb" * 32])
    assert (signal.confidence, signal.confidence_basis["calibrated"]) == (1.0, True)
    assert signal.inputs["balances"] == balances(0, one).digest


async def test_several_cross_in_a_block() -> None:
    """Each for itself, in the order the ledger tells them."""
    pairs = [(900, 1100), (1100, 900), (500, 600), (0, 2000), (3000, 4000)]
    told = [changed(*pair, script) for pair, script in zip(pairs, OTHERS, strict=True)]
    found = await signals(balances(0, *told))
    assert [(one.kind, one.subject) for one in found] == [
        ("balance_above", told[0].address), ("balance_below", told[1].address), ("balance_above", told[3].address),
    ]  # fmt: skip
    assert len({one.signal_id for one in found}) == 3


async def test_nothing_is_said_of_what_is_unknown() -> None:
    """Without balances, and where the ledger does not know them from the limit on."""
    crossing = changed(900, 1200)
    assert await kinds(None) == await kinds(balances(0), None) == []
    assert await kinds(balances(0, crossing, least=LIMIT)) == ["balance_above"]
    assert await kinds(balances(0, crossing, least=LIMIT + 1)) == []
    assert await kinds(balances(0, crossing, least=LIMIT + 1), balance_btc=1001) == ["balance_above"]


async def test_the_limit_is_a_setting() -> None:
    """What it is, the signal says."""
    for btc, count in ((5, 1), (5.00000001, 0), (4.9, 0)):
        found = await signals(balances(0, step(5 * COIN - 1, 5 * COIN), least=COIN), balance_btc=btc)
        assert [one.metadata["limit"] for one in found] == [5 * COIN] * count


async def test_whose_it_is_by_labels() -> None:
    """The name of the one who owns the script; an unlabelled one is nobody's."""
    label = Label("made", "high", "2026-01-05", f"script:{SCRIPT}")
    labels = LabelSet((*ENTITIES, replace(entity("ember", "Ember Trust", "etf"), labels=(label,))), "made", NETWORK)
    both = balances(0, changed(900, 1200), changed(900, 1200, OTHERS[0]))
    assert [one.metadata["holder"] for one in await signals(both, labels=labels)] == ["Ember Trust", "unknown"]
    week = stepping({1: (1000, 1400), 2: (1400, 1800), 3: (1800, 2200)})
    assert [one.metadata["holder"] for one in await signals(*week, labels=labels)] == ["Ember Trust"]


async def test_a_script_without_address() -> None:
    (signal,) = await signals(balances(0, changed(900, 1200, "51")))
    assert (signal.subject, signal.metadata["address"]) == ("script:51", "script:51")


# Within a week


async def week(steps: Steps, **settings: Any) -> list[Signal]:
    found = await signals(*stepping(steps), **settings)
    return [one for one in found if one.kind in ("balance_gathered", "balance_given")]


RISING: Steps = {50: (1000, 1400), 300: (1400, 1800), 576: (1800, 2200)}
FALLING: Steps = {50: (3000, 2600), 300: (2600, 2200), 576: (2200, 1800)}


@pytest.mark.parametrize(("steps", "kind"), [(RISING, "balance_gathered"), (FALLING, "balance_given")])
async def test_a_balance_that_gathers_or_gives(steps: Steps, kind: str) -> None:
    """What it held at the beginning, how much that has changed, in how many blocks."""
    (signal,) = await week(steps)
    first, last = steps[50][0], steps[576][1]
    assert (signal.kind, signal.subject, signal.evidence["txids"]) == (kind, ADDRESS, ["fe" * 32])
    assert signal.metadata == {
        "address": ADDRESS, "holder": "unknown", "balance_before": first * COIN, "balance": last * COIN,
        "amount": 1200 * COIN, "changed_blocks": 3, "window_blocks": 576,
    }  # fmt: skip


SAID: dict[str, tuple[Steps, dict[str, Any], list[int]]] = {
    "two changes only": ({50: (1000, 1800), 576: (1800, 2600)}, {}, []),
    "two are enough where that is set": ({50: (1000, 1800), 576: (1800, 2600)}, {"week_changes": 2}, [1600]),
    "one of three went back": ({50: (1000, 3000), 300: (3000, 2900), 576: (2900, 3300)}, {}, []),
    "the last went back": ({**RISING, 580: (2200, 2400), 590: (2400, 2390)}, {"week_quiet": 0}, []),
    "not quite a thousand": ({50: (1000, 1400), 300: (1400, 1800), 576: (1800, 1999.99999999)}, {}, []),
    "a thousand": ({50: (1000, 1400), 300: (1400, 1800), 576: (1800, 2000)}, {}, [1000]),
    "less than a tenth": ({50: (20000, 20500), 300: (20500, 21000), 576: (21000, 21999.99999999)}, {}, []),
    "a tenth": ({50: (20000, 20500), 300: (20500, 21000), 576: (21000, 22000)}, {}, [2000]),
    "small before and after": ({50: (700, 800), 300: (800, 900), 576: (900, 999)}, {"week_btc": 200}, []),
    "large after": ({50: (700, 800), 300: (800, 900), 576: (900, 1000)}, {"week_btc": 200}, [300]),
    "large before": ({50: (1000, 900), 300: (900, 800), 576: (800, 700)}, {"week_btc": 200}, [300]),
    "a step before the week": ({276: (1000, 1400), 300: (1400, 1800), 576: (1800, 2200)}, {"week_blocks": 300}, []),
    "a step at its beginning": (
        {277: (1000, 1400), 300: (1400, 1800), 576: (1800, 2200)}, {"week_blocks": 300}, [1200],
    ),
    "from the beginning of the week": (
        {100: (0, 1000), 300: (1000, 1500), 400: (1500, 2000), 576: (2000, 2500)}, {"week_blocks": 300}, [1500],
    ),
    "unknown in between": ({50: (1000, 1400), 300: (1450, 1850), 576: (1850, 2300)}, {}, []),
    "after what is unknown": (
        {50: (0, 1000), 100: (1100, 1500), 300: (1500, 1900), 576: (1900, 2300)}, {}, [1200],
    ),
    "untold below what the ledger tells": (
        {50: (0, 150), 60: (150, 50), 300: (99.9, 800), 576: (800, 1300)}, {}, [1300],
    ),
    "unknown at what the ledger tells": ({50: (0, 150), 60: (150, 50), 300: (100, 800), 576: (800, 1300)}, {}, []),
    "nothing gained is no step": ({50: (1000, 2500), 300: (2500, 2500), 576: (2500, 2600)}, {}, []),
    "nothing given is no step": ({50: (3000, 1500), 300: (1500, 1500), 576: (1500, 1400)}, {}, []),
    "nothing given at last": ({**FALLING, 721: (1800, 1800)}, {}, []),
    "the same goes on": ({**RISING, 720: (2200, 2300)}, {}, []),
    "again after a day": ({**RISING, 721: (2200, 2300)}, {}, [1300]),
    "the same goes on while its beginning passes out of the week": (
        {100: (1000, 1400), 500: (1400, 1800), 1100: (1800, 2200), 1150: (2200, 2700)}, {}, [],
    ),
    "it turns": ({**RISING, 580: (2200, 1500), 590: (1500, 800), 600: (800, 0)}, {}, [1000]),
    "again where that is set": ({**RISING, 577: (2200, 2300)}, {"week_quiet": 0}, [1300]),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
async def test_a_week_is_said(name: str) -> None:
    """The amount of each signal, in BTC."""
    steps, settings, amounts = SAID[name]
    assert [one.metadata["amount"] for one in await week(steps, **settings)] == [btc * COIN for btc in amounts]


LEAST = 12 * COIN


def recounted(steps: dict[int, tuple[int, int]], now: int, settings: dict[str, int]) -> int:
    """What a script gained at block `now`, less what it gave, where that is to be said; else 0. By walking back."""
    path: dict[int, tuple[int, int]] = {}
    for height in range(now, now - min(now, settings["time_window"]) - 1, -1):
        if height not in steps:
            continue
        left, begins = steps[height][1], path[min(path)][0] if path else steps[height][1]
        if left != begins and not (left < LEAST and begins < LEAST):
            break
        path[height] = steps[height]

    def gain(end: int) -> int:
        seen = [path[height] for height in sorted(path) if end - settings["week_blocks"] < height <= end]
        net = seen[-1][1] - seen[0][0]
        same = [pair[1] != pair[0] and (pair[1] > pair[0]) == (net > 0) for pair in seen]
        large = max(seen[0][0], seen[-1][1]) >= settings["balance_btc"] * COIN
        enough = abs(net) >= settings["week_btc"] * COIN and 10 * abs(net) >= seen[0][0]
        return net if large and enough and sum(same) >= settings["week_changes"] and same[-1] else 0

    before = [height for height in path if now - settings["week_quiet"] <= height < now]
    return 0 if any(gain(height) * gain(now) > 0 for height in before) else gain(now)


async def test_a_week_is_what_a_recount_says() -> None:
    """Of balances that go up and down at random, now and then unseen, at every block."""
    settings = {
        "time_window": 17, "week_blocks": 12, "balance_btc": 20, "week_btc": 8, "week_changes": 3, "week_quiet": 5,
    }  # fmt: skip
    found, quiet = 0, 0
    for seed in range(16):
        rng, held = Random(seed), 20
        steps: dict[int, tuple[int, int]] = {}
        for height in range(40):
            before, held = held, max(0, held + rng.choice([0, 3, 4, -5, 2]) * rng.choice([1, 1, seed % 2 * 2 - 1]))
            if rng.random() < 0.3:
                held = before
            elif max(before, held) * COIN >= LEAST and rng.random() < 0.95:
                steps[height] = before * COIN, held * COIN
        each = [balances(i, *([step(*steps[i])] if i in steps else []), least=LEAST) for i in range(40)]
        for now in sorted(steps):
            said = [one for one in await signals(*each[: now + 1], **settings) if one.kind.startswith("balance_g")]
            told = [one.metadata["amount"] * (1 if one.kind == "balance_gathered" else -1) for one in said]
            net = recounted(steps, now, settings)
            assert told == ([net] if net else []), (seed, now)
            found, quiet = found + bool(net), quiet + (not net)
    assert found > 20 < quiet


# All large ones together


def held(*sat: int | None, **values: Any) -> list[BlockBalances | None]:
    return [None if one is None else balances(i, held=one, **values) for i, one in enumerate(sat)]


MANY = 2_000_000 * COIN
TWO_PERCENT = MANY // 50


@pytest.mark.parametrize(
    ("now", "kind"),
    [(MANY + TWO_PERCENT, "large_holders_gain"), (MANY - TWO_PERCENT, "large_holders_loss"),
     (MANY + TWO_PERCENT - 1, None), (MANY - TWO_PERCENT + 1, None), (MANY, None)],
)  # fmt: skip
async def test_all_large_holders_gain_or_lose(now: int, kind: str | None) -> None:
    """Two in a hundred since the beginning of the window, to the satoshi."""
    found = await signals(*held(*[MANY] * 144, now))
    assert [one.kind for one in found] == ([kind] if kind else [])
    for signal in found:
        assert (signal.subject, signal.evidence["txids"]) == ("chain", [])
        assert signal.metadata == {
            "amount": TWO_PERCENT, "held_before": MANY, "held": now, "holders": 2000, "limit": LARGE_HOLDING,
            "window_blocks": 144,
        }  # fmt: skip


LESS, MORE = MANY * 97 // 100, MANY * 103 // 100


@pytest.mark.parametrize(
    ("each", "settings", "count"),
    [
        ([MANY] * 143, {}, 0),
        ([None, *[MANY] * 143], {}, 0),
        ([None] * 9 + [MANY] * 144, {}, 1),
        ([MANY] * 9, {"minimum_history": 9}, 1),
        ([], {"minimum_history": 0}, 0),
        ([0] * 144, {}, 0),
        ([MANY] * 200 + [MORE] + [MANY] * 143, {}, 0),
        ([MANY] * 200 + [MORE] + [MANY] * 144, {}, 1),
        ([MANY] * 200 + [LESS], {}, 0),
        ([MANY] * 200 + [MORE], {"week_quiet": 0}, 1),
        ([LESS] * 50 + [MANY] * 145, {"time_window": 145}, 1),
        ([MANY] * 144, {"holders_share": 0.04}, 0),
    ],
)
async def test_all_large_holders_are_told_once(each: list[int | None], settings: dict[str, Any], count: int) -> None:
    """With enough of a past that is known, and where it was not so for a day."""
    assert len(await kinds(*held(*each, MORE), **settings)) == count


async def test_what_was_told_then_is_known_by_what_was_seen_then() -> None:
    """A gain on the week before was told. A block later the week begins with another block, on which there is a loss,
    and the gain would have been none: of the day after it nothing is said all the same."""
    permille = MANY // 1000
    path = [MANY, *[MANY + 19 * permille] * 1007, MANY + 20 * permille]
    assert await kinds(*held(*path)) == ["large_holders_gain"]
    assert await kinds(*held(*path, MANY - 2 * permille), week_quiet=0) == ["large_holders_loss"]
    assert await kinds(*held(*path, MANY - 2 * permille)) == []


async def test_large_ones_are_not_those_a_ledger_does_not_know() -> None:
    """One that keeps scripts from more than a thousand on tells others than the signal claims."""
    assert await kinds(*held(*[MANY] * 144, MORE, least=LARGE_HOLDING)) == ["large_holders_gain"]
    assert await kinds(*held(*[MANY] * 144, MORE, least=LARGE_HOLDING + 1)) == []
    assert await kinds(*held(*[MANY] * 144, least=LARGE_HOLDING + 1), balances(144, held=MORE)) == []
