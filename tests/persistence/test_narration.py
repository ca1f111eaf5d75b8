"""Which signals wait for words, and what becomes of them: insights, dead letters, or nothing where they are gone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.process import python, said
from persistence.records import chain, insight, record, rows, run, signal
from persistence.test_leases import ELSEWHERE, HOLD, LONG, ran_out
from utxoiq.errors import LeaseLost
from utxoiq.models import Insight, Signal
from utxoiq.persistence import SqliteStore, narration, reads
from utxoiq.persistence.narration import Group

TRUNK = chain().trunk
WRITTEN = ("insights", "narration_events", "insight_events")
NOTHING: dict[str, list[Any]] = {table: [] for table in WRITTEN}


def groups(store: SqliteStore, *blocks: int, signal_type: str = "whale") -> list[Group]:
    return [Group(signal_type, str(TRUNK[n].block_hash)) for n in blocks]


def narrated(
    store: SqliteStore, insights: Sequence[Insight] = (), dead: Sequence[tuple[Signal, str]] = (), holder: str = "me"
) -> int:
    """What a narrator that holds a lease stores."""
    lease = store.leases.acquire("narrate/x", holder, LONG)
    assert lease is not None
    try:
        without = [narration.Failure(signal, reason, final=True) for signal, reason in dead]
        return narration.narrated(store, lease, insights, without, "narration")
    finally:
        store.leases.release(lease)


def processed(path: Path) -> dict[str, tuple[int, int | None]]:
    """(processed, processed_at) of each signal, as its view tells."""
    found = run(path, "SELECT signal_id, processed, processed_at FROM signal_state")
    return {name: (flag, at) for name, flag, at in found}


def insights(path: Path) -> list[tuple[Any, ...]]:
    """(signal, retracted?) of each insight."""
    return run(path, "SELECT signal_id, retracted_at IS NOT NULL FROM insight_state ORDER BY rowid")


@pytest.fixture
def told(store: SqliteStore) -> list[Signal]:
    """Three blocks with two whale signals each, the second also with one about miners; nobody narrated them."""
    made = []
    for n, data in enumerate(TRUNK[:3]):
        each = [signal(data, n, subject="a"), signal(data, n, subject="b")]
        each += [signal(data, n, signal_type="miner")] if n == 1 else []
        store.connect(record(data, each))
        made += each
    return made


# What waits


def test_groups_wait_in_the_order_in_which_they_came(store: SqliteStore, told: list[Signal]) -> None:
    """A group is what one type says of one block; each once, the longest waiting first, at most so many."""
    wait = [*groups(store, 0, 1), *groups(store, 1, signal_type="miner"), *groups(store, 2)]
    assert narration.waiting(store, 99) == wait
    assert narration.waiting(store, 2) == wait[:2]
    late = signal(TRUNK[0], "late", signal_type="predictive")
    store.persist_signals([late], "run")
    assert narration.waiting(store, 99) == [*wait, *groups(store, 0, signal_type="predictive")]
    second = [s for s in sorted(told, key=lambda s: s.signal_id) if (s.signal_type, s.block_hash) == wait[1]]
    assert [s.content() for s in narration.signals_of(store, wait[1])] == [s.content() for s in second]


def test_an_empty_store_has_none(store: SqliteStore) -> None:
    """Nothing waits, nothing is dead, and what comes first will be found."""
    assert (narration.waiting(store, 99), narration.dead(store, 99)) == ([], [])
    first = narration.first_waiting(store)
    store.connect(record(TRUNK[0], [signal(TRUNK[0])]))
    assert narration.waiting(store, 99, first) == groups(store, 0)


def test_what_was_narrated_waits_no_more(store: SqliteStore, told: list[Signal]) -> None:
    """A group waits as long as one of its signals does, and only for that one."""
    assert narrated(store, [insight(told[0])]) == 1
    assert narration.waiting(store, 1) == groups(store, 0)
    assert [s.signal_id for s in narration.signals_of(store, groups(store, 0)[0])] == [told[1].signal_id]
    assert narrated(store, [insight(told[1])]) == 1
    assert narration.waiting(store, 1) == groups(store, 1)
    assert narration.signals_of(store, groups(store, 0)[0]) == []


def test_what_was_retracted_does_not_wait(store: SqliteStore, told: list[Signal]) -> None:
    """With its block, or alone; reinstated with its block it waits again."""
    store.supersede(told[0].signal_id, None, [], "a test", "run")
    assert [s.signal_id for s in narration.signals_of(store, groups(store, 0)[0])] == [told[1].signal_id]
    store.supersede(told[1].signal_id, None, [], "a test", "run")
    tip = str(TRUNK[2].block_hash)
    store.disconnect(tip, "run")
    assert narration.waiting(store, 99) == [*groups(store, 1), *groups(store, 1, signal_type="miner")]
    assert narration.signals_of(store, groups(store, 2)[0]) == []
    store.connect(record(TRUNK[2], told[-2:]))
    assert narration.waiting(store, 99)[-1:] == groups(store, 2)
    assert len(narration.signals_of(store, groups(store, 2)[0])) == 2


def test_what_somebody_works_on_does_not_wait(store: SqliteStore, told: list[Signal], path: Path) -> None:
    """For others, while the lease runs: not after it ran out or was released, nor after its holder's process ended."""
    first, second, miner, third = narration.waiting(store, 99)
    held = store.leases.acquire(first.lease, ELSEWHERE, LONG)
    assert held is not None
    assert store.leases.acquire("watch", ELSEWHERE, LONG)
    assert narration.waiting(store, 99) == [second, miner, third]
    assert narration.waiting(store, 1) == [second]
    assert narration.waiting(store, 99, holder=ELSEWHERE) == [first, second, miner, third], "what it left is its own"
    store.leases.release(held)
    assert narration.waiting(store, 1) == [first]
    ended = python("-c", HOLD.replace('"work"', repr(first.lease)), str(path), str(LONG))
    assert ended.returncode == 0, said(ended)
    assert run(path, "SELECT count(*) FROM leases WHERE name = ?", first.lease) == [(1,)]
    assert narration.waiting(store, 1) == [first]
    assert store.leases.acquire(first.lease, "me", 0.0) is not None
    assert narration.waiting(store, 1) == [first]


def test_the_floor_is_the_first_that_waits(store: SqliteStore, told: list[Signal]) -> None:
    """What is done with before it need not be looked through again; nothing that waits is below it."""
    first = narration.first_waiting(store)
    assert narration.waiting(store, 99, first) == narration.waiting(store, 99)
    narrated(store, [insight(s) for s in told[:3]])
    second = narration.first_waiting(store)
    assert second > first
    assert narration.waiting(store, 99, second) == narration.waiting(store, 99)
    assert store.leases.acquire(narration.waiting(store, 1)[0].lease, ELSEWHERE, LONG)
    assert narration.first_waiting(store) == second, "somebody works on it, who may fail"
    narrated(store, [insight(s) for s in told])
    last = narration.first_waiting(store)
    assert narration.waiting(store, 99, last) == []
    store.persist_signals([signal(TRUNK[0], "new")], "run")
    assert narration.waiting(store, 99, last) == groups(store, 0)


def test_the_floor_hides_nothing_for_good(store: SqliteStore, told: list[Signal]) -> None:
    """What was retracted below it and came back is above the next one."""
    store.disconnect(str(TRUNK[2].block_hash), "run")
    narrated(store, [insight(s) for s in told[:5]])
    floor = narration.first_waiting(store)
    store.connect(record(TRUNK[2], told[-2:]))
    assert narration.waiting(store, 99, floor) == []
    assert narration.waiting(store, 99, narration.first_waiting(store)) == groups(store, 2)


# What counts as processed


def test_words_and_dead_letters_and_what_is_not_to_be_narrated_are_processed(
    store: SqliteStore, told: list[Signal], path: Path
) -> None:
    """With the time of it, in the views and what is read from them; the rest is not, and only that is stale."""
    assert set(processed(path).values()) == {(0, None)}
    before = int(time.time())
    narrated(store, [insight(told[0])], [(told[1], "no template")])
    skipped = (told[2].signal_id, "skipped", "a test", "run", before)
    run(
        path,
        "INSERT INTO narration_events (signal_id, event, reason, correlation_id, recorded_at) VALUES (?, ?, ?, ?, ?)",
        *skipped,
    )
    seen = processed(path)
    for done in told[:3]:
        flag, at = seen.pop(done.signal_id)
        assert flag == 1
        assert at is not None
        assert before <= at <= time.time()
    assert set(seen.values()) == {(0, None)}
    assert {s["signal_id"] for s in reads.signals(store, 99) if s["processed"]} == {s.signal_id for s in told[:3]}
    count, first = store.stale_signals(1 << 40)
    assert (count, first) == (4, min(s["recorded_at"] for s in reads.signals(store, 99)))
    assert store.stale_signals(before - 9) == (0, None)
    assert [group.block_hash for group in narration.waiting(store, 99)] == [told[n].block_hash for n in (3, 4, 5)]


def test_the_first_words_count(store: SqliteStore, told: list[Signal], path: Path) -> None:
    """`processed_at` is when the first came, and stays when the signal is retracted and comes back."""
    narrated(store, [insight(told[-1])])
    run(path, "UPDATE insights SET recorded_at = 1000")
    store.disconnect(str(TRUNK[2].block_hash), "run")
    store.connect(record(TRUNK[2], told[-2:]))
    assert processed(path)[told[-1].signal_id] == (1, 1000)


# What is stored


def test_an_insight_is_stored_once(store: SqliteStore, told: list[Signal], path: Path) -> None:
    """By whomever, under whatever name: a signal that has words gets no others and no dead letter; nor the reverse."""
    other = replace(insight(told[0]), insight_id="another", headline="Other words")
    assert narrated(store, [insight(told[0])], [(told[1], "no template")]) == 2
    before = rows(path, WRITTEN)
    assert narrated(store, [insight(told[0])], [(told[0], "no"), (told[1], "again")], holder="you") == 0
    assert narrated(store, [other, insight(told[1])], holder="you") == 0
    assert rows(path, WRITTEN) == before
    assert [one["signal_id"] for one in narration.dead(store, 99)] == [told[1].signal_id]


def test_it_is_what_the_generator_made(store: SqliteStore, told: list[Signal], path: Path) -> None:
    """Field by field, readable as those stored with a block."""
    narrated(store, [insight(told[0])])
    (row,) = reads.insights(store, 9)
    made = insight(told[0])
    names = [name for name in made.__dataclass_fields__ if name not in ("evidence", "retracted_at")]
    assert {name: row[name] for name in names} == {name: getattr(made, name) for name in names}
    assert row["evidence"] == made.evidence
    assert row["block_height"] == told[0].block_height


def test_a_signal_retracted_meanwhile_gets_none(store: SqliteStore, told: list[Signal], path: Path) -> None:
    """Neither words nor a dead letter; the others of the same batch get theirs."""
    store.disconnect(str(TRUNK[2].block_hash), "run")
    assert narrated(store, [insight(told[0]), insight(told[-1])], [(told[-2], "no template")]) == 1
    assert insights(path) == [(told[0].signal_id, 0)]
    assert narration.dead(store, 99) == []
    store.connect(record(TRUNK[2], told[-2:]))
    assert narration.waiting(store, 99)[-1:] == groups(store, 2), "back again, it waits as before"


def test_words_go_and_come_with_their_signal(store: SqliteStore, told: list[Signal], path: Path) -> None:
    """A block that is taken off takes them with it, with the reason; back again they hold, and are not found anew."""
    narrated(store, [insight(s) for s in told])
    for _ in range(2):
        store.disconnect(str(TRUNK[2].block_hash), "run")
        gone = {name for name, retracted in insights(path) if retracted}
        assert gone == {s.signal_id for s in told[-2:]}
        assert len(reads.insights(store, 99)) == len(told) - 2
        store.connect(record(TRUNK[2], told[-2:]))
        assert not any(retracted for _, retracted in insights(path))
        assert narration.waiting(store, 99) == []
    events = run(path, "SELECT event, reason, count(*) FROM insight_events GROUP BY event, reason ORDER BY event")
    assert events == [
        ("reinstated", "its block returned to the best chain", 4),
        ("retracted", "its block was disconnected from the best chain", 4),
    ]
    assert len(insights(path)) == len(told)


def test_words_go_with_a_signal_that_is_superseded(store: SqliteStore, told: list[Signal], path: Path) -> None:
    """And what takes its place waits for its own."""
    narrated(store, [insight(s) for s in told])
    successor = signal(TRUNK[0], "other", subject="a")
    store.supersede(told[0].signal_id, successor, [], "other labels", "run")
    assert (told[0].signal_id, 1) in insights(path)
    assert narration.signals_of(store, groups(store, 0)[0])[0].signal_id == successor.signal_id


def test_a_dead_letter_stays(store: SqliteStore, told: list[Signal], path: Path) -> None:
    """It can be seen with its reason, the newest first; a signal that goes and comes is not tried again."""
    narrated(store, dead=[(told[-1], "not published: no template")])
    narrated(store, dead=[(told[0], "another reason")])
    letters = narration.dead(store, 99)
    assert [(one["signal_id"], one["reason"]) for one in letters] == [
        (told[0].signal_id, "another reason"),
        (told[-1].signal_id, "not published: no template"),
    ]
    assert all(time.time() - one["recorded_at"] < 600 for one in letters)
    assert narration.dead(store, 1) == letters[:1]
    store.disconnect(str(TRUNK[2].block_hash), "run")
    store.connect(record(TRUNK[2], told[-2:]))
    assert told[-1].signal_id not in {s.signal_id for s in narration.signals_of(store, groups(store, 2)[0])}
    assert narration.dead(store, 99) == letters


def test_who_was_overtaken_writes_nothing(store: SqliteStore, told: list[Signal], path: Path) -> None:
    """Not its words, not its dead letters; what the next wrote stays."""
    lost = ran_out(store)
    other = store.leases.acquire(lost.name, "next", LONG)
    assert other is not None
    with pytest.raises(LeaseLost):
        narration.narrated(store, lost, [insight(told[0])], [(told[1], "no template")], "run")
    assert rows(path, WRITTEN) == NOTHING
    assert narration.narrated(store, other, [insight(told[0])], [], "run") == 1
    store.leases.release(other)
    with pytest.raises(LeaseLost):
        narration.narrated(store, other, [insight(told[1])], [], "run")
    assert len(insights(path)) == 1


def test_all_of_a_group_or_nothing(store: SqliteStore, told: list[Signal], path: Path) -> None:
    """Where one insight can't be stored, none of its group is, and all wait on."""
    too_long = replace(insight(told[1]), headline="x" * 81)
    with pytest.raises(Exception, match="CHECK constraint failed"):
        narrated(store, [insight(told[0]), too_long], [(told[2], "no template")])
    assert rows(path, WRITTEN) == NOTHING
    assert len(narration.waiting(store, 99)) == 4
