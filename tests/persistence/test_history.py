"""History is append-only: what was said is retracted, reinstated, superseded by rows of their own, never rewritten."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from persistence.records import HISTORY, chain, insight, record, rows, run, signal, told
from utxoiq.persistence import SqliteStore, reads


def lasting(path: Path, step: Callable[[], Any]) -> dict[str, int]:
    """Do a step: every row there was is there as it was; how many came, by table."""
    before = rows(path, HISTORY)
    step()
    after = rows(path, HISTORY)
    for table in HISTORY:
        assert after[table][: len(before[table])] == before[table], table
    return {t: len(after[t]) - len(before[t]) for t in HISTORY if len(after[t]) > len(before[t])}


def current(store: SqliteStore) -> list[Any]:
    return sorted(row["metadata"]["value"] for row in reads.signals(store, 99))


def test_a_disconnect_retracts_with_the_reason(store: SqliteStore, path: Path) -> None:
    """Signals and insights of the block, no others; one event each, and the rows stay."""
    first, second = chain().trunk[:2]
    store.connect(told(first, "kept"))
    store.connect(told(second, "a", "b"))
    added = lasting(path, lambda: store.disconnect(str(second.block_hash), "reorg-run"))
    assert added == {"block_events": 1, "signal_events": 2, "insight_events": 2}
    assert current(store) == ["kept"]
    assert len(reads.insights(store, 9)) == 1
    gone = [row for row in reads.signals(store, 9, retracted=True) if row["retracted_at"]]
    assert sorted(row["metadata"]["value"] for row in gone) == ["a", "b"]
    assert {row["retraction_reason"] for row in gone} == {"its block was disconnected from the best chain"}
    assert {row["superseded_by"] for row in gone} == {None}
    told_gone = [row for row in reads.insights(store, 9, retracted=True) if row["retracted_at"]]
    assert {row["retraction_reason"] for row in told_gone} == {"its block was disconnected from the best chain"}
    assert len(told_gone) == 2
    events = run(path, "SELECT event, correlation_id FROM signal_events")
    assert events == [("retracted", "reorg-run")] * 2


def test_a_block_that_returns_reinstates(store: SqliteStore, path: Path) -> None:
    """As events of their own, again and again; the signals themselves are written once."""
    first, second = chain().trunk[:2]
    store.connect(told(first))
    store.connect(told(second, "a"))
    for _ in range(3):
        assert lasting(path, lambda: store.disconnect(str(second.block_hash), "run")) == {
            "block_events": 1,
            "signal_events": 1,
            "insight_events": 1,
        }
        assert current(store) == []
        assert lasting(path, lambda: store.connect(told(second, "a"))) == {
            "block_events": 1,
            "signal_events": 1,
            "insight_events": 1,
        }
        assert current(store) == ["a"]
        assert len(reads.insights(store, 9)) == 1
    events = run(path, "SELECT event, reason FROM signal_events ORDER BY seq")
    assert [event for event, _ in events] == ["retracted", "reinstated"] * 3
    assert {reason for event, reason in events if event == "reinstated"} == {"its block returned to the best chain"}
    (row,) = reads.signals(store, 9, retracted=True)
    assert (row["retracted_at"], row["retraction_reason"]) == (None, None)


def test_a_block_that_returns_saying_something_else(store: SqliteStore, path: Path) -> None:
    """The old words stay retracted by the reorg; the new ones are new rows."""
    (data,) = chain().trunk[:1]
    store.connect(told(data, "old"))
    store.disconnect(str(data.block_hash), "run")
    added = lasting(path, lambda: store.connect(told(data, "new")))
    assert added == {"block_events": 1, "signals": 1, "insights": 1}
    assert current(store) == ["new"]


def test_an_island_that_links_keeps_or_supersedes(store: SqliteStore, path: Path) -> None:
    """With a past in view a block is judged anew: the same stays, another takes the place of the first, by name."""
    first, second, third = chain().trunk[:3]
    store.connect(record(first))
    same, poor, gone = signal(third, 1, "same"), signal(third, 2, "grown"), signal(third, 3, "gone")
    store.connect(record(third, [same, poor, gone], list(map(insight, (same, poor, gone))), island=True))
    store.connect(record(second))
    grown = signal(third, 4, "grown")
    added = lasting(path, lambda: store.connect(record(third, [same, grown], list(map(insight, (same, grown))))))
    assert added == {"block_events": 1, "signals": 1, "signal_events": 2, "insights": 1, "insight_events": 2}
    assert current(store) == [1, 4]
    state = {row["kind"] + str(row["metadata"]["value"]): row for row in reads.signals(store, 9, retracted=True)}
    assert state["grown2"]["superseded_by"] == grown.signal_id
    assert state["gone3"]["superseded_by"] is None
    assert {state[k]["retraction_reason"] for k in ("grown2", "gone3")} == {"derived again from fuller inputs"}
    assert len(reads.insights(store, 9)) == 2


def test_a_superseded_signal_is_not_reinstated_by_another_reorg(store: SqliteStore) -> None:
    """Only what the block says now returns with it."""
    first, second = chain().trunk[:2]
    store.connect(told(second, "poor", island=True))
    store.connect(record(first))
    store.connect(told(second, "full"))
    store.disconnect(str(second.block_hash), "run")
    assert current(store) == []
    store.connect(told(second, "full"))
    assert current(store) == ["full"]


def test_nothing_of_a_reorg_is_rewritten(store: SqliteStore, path: Path) -> None:
    """A whole reorg, there and back: every row ever written is still there, unchanged."""
    trunk, stale, winning = chain()
    steps: list[Callable[[], Any]] = [lambda d=d: store.connect(told(d, "x")) for d in (*trunk, *stale)]  # type: ignore[misc]
    steps += [lambda d=d: store.disconnect(str(d.block_hash), "run") for d in reversed(stale)]  # type: ignore[misc]
    steps += [lambda d=d: store.connect(told(d, "y")) for d in winning]  # type: ignore[misc]
    steps += [lambda d=d: store.disconnect(str(d.block_hash), "run") for d in reversed(winning)]  # type: ignore[misc]
    steps += [lambda d=d: store.connect(told(d, "x")) for d in stale]  # type: ignore[misc]
    for step in steps:
        assert lasting(path, step)
    tip = store.cursor()
    assert tip is not None
    assert tip.block_hash == str(stale[1].block_hash)
    best = {str(d.block_hash) for d in (*trunk, *stale)}
    assert {row["block_hash"] for row in reads.signals(store, 99)} == best
    assert len(reads.insights(store, 99)) == len(best)


def test_a_stale_block_given_again_does_not_return(store: SqliteStore) -> None:
    """Offered as an island it is not on the best chain: nothing is reinstated as if it were."""
    trunk, stale, winning = chain()
    for data in (*trunk, stale[0]):
        store.connect(told(data, "x"))
    store.disconnect(str(stale[0].block_hash), "run")
    for data in winning:
        store.connect(told(data, "y"))
    store.connect(told(stale[0], "x", island=True))
    assert str(stale[0].block_hash) not in {row["block_hash"] for row in reads.signals(store, 99)}
    assert str(stale[0].block_hash) not in {row["block_hash"] for row in _events(store)}


def _events(store: SqliteStore) -> list[Any]:
    sql = "SELECT block_hash FROM signal_events JOIN signals USING (signal_id) WHERE event = 'reinstated'"
    return store.database.query(sql)
