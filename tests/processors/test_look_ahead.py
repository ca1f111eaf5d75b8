"""Nothing sees its own future: whatever comes after a block, in whatever order blocks are asked about, each is told the
same."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processors.cases import LABELS, at, block, rates, snapshot
from processors.chains import LOOSE, Seen, chains, loose, shown
from processors.conformance import as_text
from utxoiq.history import History, Past, Window
from utxoiq.processors import PredictiveProcessor, ProcessingContext

PROCESSORS = loose()


async def alone(who: str, chain: list[Seen]) -> list[str]:
    """What it says of each block of a chain, given a window of just what came before."""
    processor, found = PROCESSORS[who], []
    for i, now in enumerate(chain):
        history = History(one.row for one in chain[max(0, i - processor.window_size) : i])
        found.append(as_text(await shown(processor, history, now, len(history.rows))))
    return found


def test_there_is_much_to_say() -> None:
    """The chains used here make every type speak: what follows is no test of silence."""
    told: Counter[str] = Counter()

    @settings(max_examples=40, deadline=None, database=None, derandomize=True)
    @given(chains)
    def listen(chain: list[Seen]) -> None:
        for who in LOOSE:
            told[who] += sum(len(text) > 2 for text in asyncio.run(alone(who, chain)))

    listen()
    assert min(told[who] for who in LOOSE) >= 5, told


@pytest.mark.parametrize("who", LOOSE)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(chains, st.randoms(use_true_random=False), st.data())
def test_what_comes_later_changes_nothing(who: str, chain: list[Seen], rng: Random, data: st.DataObject) -> None:
    """Changed, shuffled or cut off: every block before is told as it is alone. Blocks are asked about in any order, in
    one history that holds the future too."""
    wanted = asyncio.run(alone(who, chain))
    at_ = data.draw(st.integers(0, len(chain) - 1))
    later = [one.row for one in chain[at_ + 1 :]] + [one.row for one in data.draw(chains)]
    rng.shuffle(later)
    history = History([*(one.row for one in chain[: at_ + 1]), *later])
    order = list(range(at_ + 1))
    rng.shuffle(order)
    for i in order:
        assert as_text(asyncio.run(shown(PROCESSORS[who], history, chain[i], i))) == wanted[i]


@pytest.mark.parametrize("who", LOOSE)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(chains)
def test_a_history_that_grows_is_told_as_one_made_anew(who: str, chain: list[Seen]) -> None:
    """Block after block in one history, as it is live: nothing that is kept of earlier blocks is another's."""
    wanted, history = asyncio.run(alone(who, chain)), History()
    for i, now in enumerate(chain):
        assert as_text(asyncio.run(shown(PROCESSORS[who], history, now, i))) == wanted[i]
        history.append(now.row)


def test_forecasts_do_not_see_what_comes() -> None:
    """Of 400 blocks of restless feerates and mempools, forecasts and signals at some of them, with the truth, a lie,
    and nothing behind them in the history."""
    rng, processor = Random(3), PredictiveProcessor()
    paid = [1.0]
    for _ in range(399):
        paid.append(min(40.0, max(0.2, paid[-1] * rng.choice([0.7, 0.9, 1.0, 1.1, 1.5]))))
    rows = [
        Past(at(i, package_feerate_percentiles_kvb=rates(rate)), None, snapshot(i) if i % 3 else None)
        for i, rate in enumerate(paid)
    ]
    true, lie = History(rows), list(rows)

    def ask(history: History, i: int) -> tuple[str, list[object]]:
        now = rows[i]
        seen = ProcessingContext(now.facts, Window(history, 0, i), LABELS, "correlation")
        signals = asyncio.run(processor.process_block(block(), seen))
        return as_text(signals), list(processor.forecasts(block(), seen))

    spoke = 0
    for i in (390, 340, 200, 399, 250):
        lie[i:] = rows[:1] * (len(rows) - i)
        found = ask(History(rows[:i]), i)
        assert found == ask(true, i) == ask(History(lie), i)
        lie[i:] = rows[i:]
        spoke += len(found[1])
    assert spoke > 10
