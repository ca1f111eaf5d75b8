"""Filling in blocks where the store does not stand: a past below its first block, gaps, and more of what it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from persistence.records import (
    NETWORK,
    chain,
    flows_of,
    forecast,
    insight,
    record,
    rows,
    run,
    signal,
    told,
)
from persistence.test_leases import EVERYTHING, LONG, fenced, ran_out
from persistence.test_outbox import queued, stored
from utxoiq.errors import LeaseLost, NotLinked, WrongNetwork
from utxoiq.models import Backfilled, BlockData, Signal
from utxoiq.persistence import SqliteStore, narration, reads

TRUNK, STALE, WINNING = chain()
ALL_TYPES = ("exchange", "mempool", "miner", "predictive", "treasury", "whale")


def work(
    types: Sequence[str] = ALL_TYPES, *, narrate: bool = True, next_height: int = 7, name: str = "work"
) -> Backfilled:
    """Where a backfill of these types stands."""
    return Backfilled(name, tuple(types), narrate, next_height, 3, 5)


def filled(store: SqliteStore, data: BlockData, *signals: Signal, **changes: Any) -> int:
    """Fill in a block with these signals, each with words."""
    made = record(data, signals, [insight(s) for s in signals], island=True, correlation_id="fill")
    return store.fill(made, work(**changes))


def heights(path: Path) -> list[int]:
    """Of the connected blocks, above the first of the chain."""
    found = run(path, "SELECT height FROM block_state WHERE state = 'connected' ORDER BY height")
    return [height - (TRUNK[0].height or 0) for (height,) in found]


def held(path: Path) -> set[str]:
    return {name for (name,) in run(path, "SELECT signal_id FROM current_signals")}


@pytest.fixture
def upper(store: SqliteStore) -> SqliteStore:
    """A store that began at the fifth block and has three."""
    for data in TRUNK[4:7]:
        store.connect(told(data, 1))
    return store


def test_the_past_is_filled_in(upper: SqliteStore, path: Path) -> None:
    """Downwards or upwards, with gaps in between for a while: the tip stays, and the window reaches as far as it is
    whole."""
    tip = upper.cursor()
    for n, reached in ((3, 4), (0, 4), (2, 5), (1, 7)):
        assert filled(upper, TRUNK[n], signal(TRUNK[n])) == 5
        assert upper.state(str(TRUNK[n].block_hash)) == "connected"
        assert len(upper.window(str(TRUNK[6].block_hash), 99)) == reached
        assert upper.cursor() == tip
    assert heights(path) == list(range(7))
    assert len(reads.signals(upper, 99)) == len(reads.insights(upper, 99)) == 7
    upper.connect(told(TRUNK[7], 1))
    assert heights(path) == list(range(8))


def test_all_of_a_block_is_stored(upper: SqliteStore, path: Path) -> None:
    """Facts, flows, forecasts, signals and words, as a connected block has them, readable as such."""
    data = TRUNK[3]
    made = replace(told(data, 1, 2, correlation_id="fill"), flows=flows_of(data), forecasts=(forecast(data),))
    assert upper.fill(made, work()) == 2 + 1 + 1 + 4 + 1
    (past,) = upper.window(str(data.block_hash), 1)
    assert (past.facts, past.flows) == (made.facts, flows_of(data).sums())
    assert run(path, "SELECT correlation_id FROM forecasts") == [("fill",)]
    event = run(path, "SELECT event, correlation_id FROM block_events WHERE block_hash = ?", str(data.block_hash))
    assert event == [("connected", "fill")]


def test_again_it_writes_nothing(upper: SqliteStore, path: Path) -> None:
    """Below the tip, at the tip, and for a block that was connected as it came."""
    for data in (TRUNK[3], TRUNK[6], TRUNK[4]):
        filled(upper, data, signal(data, "filled"))
        before = rows(path, EVERYTHING)
        assert filled(upper, data, signal(data, "filled")) == 0
        assert rows(path, EVERYTHING) == before


def test_words_that_are_there_are_not_found_again(upper: SqliteStore, path: Path) -> None:
    """A block filled in with what it says already: nothing is retracted, nothing is new."""
    before = rows(path, EVERYTHING)
    assert upper.fill(told(TRUNK[5], 1, correlation_id="fill"), work()) == 0
    assert rows(path, EVERYTHING) == before


@pytest.mark.parametrize("island", [False, True])
def test_a_rival_is_refused(store: SqliteStore, path: Path, island: bool) -> None:
    """A block at whose height another holds, be it the tip, whatever was known of it before: nothing is written."""
    for data in TRUNK:
        store.connect(told(data, 1))
    if island:
        store.connect(told(STALE[0], 9, island=True))
    for data in WINNING[:2]:  # first it is the tip that holds the height, then a block below
        store.connect(told(data, 1))
        before = rows(path, EVERYTHING)
        with pytest.raises(NotLinked, match=f"{STALE[0].block_hash} can't be filled in.*{WINNING[0].block_hash}"):
            filled(store, STALE[0], signal(STALE[0]))
        assert rows(path, EVERYTHING) == before
    assert store.backfilled("work") is None


def test_what_was_taken_off_is_not_filled_in_beside_its_successor(store: SqliteStore, path: Path) -> None:
    """A stale block stays stale, and what it said retracted."""
    for data in (*TRUNK, STALE[0]):
        store.connect(told(data, 1))
    store.disconnect(str(STALE[0].block_hash), "run")
    store.connect(told(WINNING[0], 1))
    with pytest.raises(NotLinked):
        filled(store, STALE[0], signal(STALE[0]))
    assert store.state(str(STALE[0].block_hash)) == "disconnected"


def test_a_block_that_does_not_fit_is_refused(store: SqliteStore, path: Path) -> None:
    """Below one that does not follow it, or above the tip: the store's chain stays one chain."""
    for data in WINNING[1:3]:
        store.connect(told(data, 1))
    before = rows(path, EVERYTHING)
    for data in (STALE[0], WINNING[3]):
        with pytest.raises(NotLinked, match="can't be filled in"):
            filled(store, data, signal(data))
    assert rows(path, EVERYTHING) == before
    assert filled(store, WINNING[0]) == 3
    with pytest.raises(NotLinked):
        filled(store, another_of_its_height(TRUNK[7]))
    assert filled(store, TRUNK[7]) == 3


def another_of_its_height(data: BlockData) -> BlockData:
    """Another block of the same height."""
    other = next(one for one in (*STALE, *WINNING) if one.height != data.height)
    return replace(other, height=data.height)


def test_an_island_becomes_connected(upper: SqliteStore, path: Path) -> None:
    """With what it said, if that is said again, and more; its facts are not stored twice."""
    upper.connect(told(TRUNK[3], 1, island=True))
    upper.connect(told(TRUNK[1], 1, island=True))
    before = rows(path, ["blocks", "facts", "flows"])
    assert upper.fill(told(TRUNK[3], 1, 2, correlation_id="fill"), work()) == 2 + 1
    assert upper.state(str(TRUNK[3].block_hash)) == "connected"
    assert upper.state(str(TRUNK[1].block_hash)) == "island"
    assert rows(path, ["blocks", "facts", "flows"]) == before
    assert len(held(path)) == 3 + 2 + 1


def test_only_types_that_were_derived_are_superseded(upper: SqliteStore, path: Path) -> None:
    """What the block said of them before is retracted with what takes its place; other types are left alone, with their
    words."""
    data = TRUNK[5]
    miner = signal(data, 1, signal_type="miner")
    gone = signal(data, 1, subject="gone")
    upper.persist_signals([miner, gone, signal(data, 1)], "run")
    before = held(path)
    now = signal(data, 2)
    assert filled(upper, data, now, types=("whale",)) == 2 + 3 + 1
    first, *_ = told(data, 1).signals
    assert held(path) == before - {gone.signal_id, signal(data, 1).signal_id, first.signal_id} | {now.signal_id}
    events = run(path, "SELECT signal_id, reason, superseded_by FROM signal_events WHERE event = 'retracted'")
    assert {(name, successor) for name, _, successor in events} == {
        (signal(data, 1).signal_id, now.signal_id),
        (gone.signal_id, None),
        (first.signal_id, None),
    }
    assert {reason for _, reason, _ in events} == {"derived again from fuller inputs"}
    assert miner.signal_id in held(path)
    assert filled(upper, data, types=("miner",)) == 1
    assert now.signal_id in held(path)
    assert miner.signal_id not in held(path)


def test_other_facts_of_the_same_block(upper: SqliteStore, path: Path) -> None:
    """Fuller ones are stored beside the old, and count."""
    made = record(TRUNK[5], island=True, labels_version="other")
    assert upper.fill(made, work(())) == 1
    (past,) = upper.window(str(TRUNK[5].block_hash), 1)
    assert past.facts == made.facts


def test_what_is_not_to_be_narrated_does_not_wait(upper: SqliteStore, path: Path) -> None:
    """Processed as skipped, with the reason, unless it has words; with words asked for it waits like any other."""
    for n, narrate in ((3, True), (2, False)):
        made = record(TRUNK[n], [signal(TRUNK[n])], island=True, correlation_id="fill")
        assert upper.fill(made, work(narrate=narrate)) == 4 + (not narrate)
        assert upper.fill(made, work(narrate=narrate)) == 0
    assert [group.block_hash for group in narration.waiting(upper, 99)] == [str(TRUNK[3].block_hash)]
    (event,) = run(path, "SELECT signal_id, event, reason FROM narration_events")
    assert event == (signal(TRUNK[2]).signal_id, "skipped", "found by a backfill that was asked not to narrate")
    assert narration.dead(upper, 99) == []
    assert upper.fill(told(TRUNK[5], 1), work(narrate=False)) == 0, "this one has words"


def test_where_it_stands_is_kept_with_each_block(upper: SqliteStore, path: Path) -> None:
    """In the same transaction: a block that is refused leaves it where it was. Each work has its own."""
    assert upper.backfilled("work") is None
    filled(upper, TRUNK[3], next_height=4)
    assert upper.backfilled("work") == (4, 3, 5)
    filled(upper, TRUNK[2], next_height=5, name="another")
    with pytest.raises(NotLinked):
        filled(upper, TRUNK[7], next_height=9)
    assert upper.backfilled("work") == (4, 3, 5)
    assert upper.backfilled("another") == (5, 3, 5)


def test_another_network_is_refused(upper: SqliteStore, path: Path) -> None:
    """One network a store."""
    before = rows(path, EVERYTHING)
    with pytest.raises(WrongNetwork, match=NETWORK.name):
        upper.fill(record(TRUNK[3], island=True, network="main"), work())
    assert rows(path, EVERYTHING) == before


def test_who_was_overtaken_fills_nothing_in(upper: SqliteStore, path: Path) -> None:
    """A fence holds for this too."""
    lost = ran_out(upper)
    fenced(upper, lost)
    with SqliteStore(path) as other:
        assert other.leases.acquire(lost.name, "next", LONG)
        before = rows(path, EVERYTHING)
        with pytest.raises(LeaseLost):
            filled(upper, TRUNK[3], signal(TRUNK[3]))
        assert rows(path, EVERYTHING) == before
        assert other.backfilled("work") is None
        assert filled(other, TRUNK[3], signal(TRUNK[3])) == 5


def test_it_is_shipped(upper: SqliteStore, path: Path) -> None:
    """Rows filled in are queued like others, a block's event after them."""
    upper.outbox.open("a warehouse")
    before = len(queued(path))
    filled(upper, TRUNK[3], signal(TRUNK[3]), narrate=False)
    since = queued(path)[before:]
    assert sorted(map(repr, queued(path))) == sorted(map(repr, stored(path)))
    assert {relation for relation, _ in since} == {"blocks", "facts", "signals", "insights", "block_events"}
    assert since[-1][0] == "block_events"


def test_a_reorg_reaches_down_into_it(upper: SqliteStore, path: Path) -> None:
    """The tip goes from a block that came down to one that was filled in, which can be taken off in its turn."""
    filled(upper, TRUNK[3], signal(TRUNK[3]))
    for data in reversed(TRUNK[3:7]):
        upper.disconnect(str(data.block_hash), "run")
    assert (upper.cursor(), heights(path), held(path)) == (None, [], set())
    for data in TRUNK[3:7]:
        upper.connect(told(data, 1))
    assert heights(path) == [3, 4, 5, 6]


def test_a_store_that_was_filled_in_first(store: SqliteStore, path: Path) -> None:
    """It has no tip; following it from any of its blocks on moves the tip over what is there, which is not stored
    again, and a reorg takes off what it must."""
    for data in (*TRUNK, STALE[0]):
        filled(store, data, signal(data))
    assert store.cursor() is None
    before = rows(path, [table for table in EVERYTHING if table != "cursor"])
    for data in (*TRUNK[5:], STALE[0]):
        assert store.connect(told(data, 1)) == 0
        tip = store.cursor()
        assert tip is not None
        assert tip.block_hash == str(data.block_hash)
    assert rows(path, [table for table in EVERYTHING if table != "cursor"]) == before
    with pytest.raises(NotLinked):
        store.connect(told(WINNING[0], 1))
    store.disconnect(str(STALE[0].block_hash), "run")
    for data in WINNING:
        store.connect(told(data, 1))
    assert heights(path) == list(range(len(TRUNK) + len(WINNING)))


def test_a_block_below_the_tip_given_again_moves_nothing(upper: SqliteStore) -> None:
    """The tip goes only to what follows it."""
    tip = upper.cursor()
    filled(upper, TRUNK[3])
    for data in (TRUNK[3], *TRUNK[4:7]):
        assert upper.connect(told(data, 1)) == 0
        assert upper.cursor() == tip
