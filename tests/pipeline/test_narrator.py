"""The narrator at work: each signal narrated once, by whichever of several narrators, whatever fails beside it."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import pytest

from persistence.records import chain, insight, record, run, signal
from persistence.test_leases import ELSEWHERE, LONG
from pipeline.simulated import blocks, query, world
from processors.chains import loose
from utxoiq.errors import InsightRefused, LeaseLost, ProviderUnavailable, StoreUnavailable
from utxoiq.insights.generator import InsightGenerator
from utxoiq.models import BlockData, Insight, Signal
from utxoiq.observability import MonitoringModule
from utxoiq.persistence import SignalPersistenceModule, SqliteStore, database, narration
from utxoiq.persistence.ai_calls import Budget
from utxoiq.persistence.leases import Lease
from utxoiq.pipeline import PipelineOrchestrator, narrator
from utxoiq.pipeline.error_handler import ErrorHandler
from utxoiq.pipeline.narrator import Narrator
from utxoiq.pipeline.writer import Writer

TRUNK = chain().trunk
HUNG = 60
"""Seconds after which something hangs."""


class Author:
    """A generator that finds words for all, or refuses those it is told to; each call passes by `when_asked`."""

    def __init__(self, refuses: Callable[[Signal], bool] = lambda _: False) -> None:
        self.asked: list[str] = []
        self._refuses = refuses

    async def when_asked(self, signal: Signal) -> None:
        """Nothing."""

    async def write(self, signal: Signal, lease: Lease, correlation_id: str) -> Insight:
        self.asked.append(signal.signal_id)
        await self.when_asked(signal)
        if self._refuses(signal):
            raise InsightRefused(["a reason", "another"])
        return insight(signal)


class Held(Author):
    """One who begins, and does not end before it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.began, self.may_end = asyncio.Event(), asyncio.Event()

    async def when_asked(self, signal: Signal) -> None:
        self.began.set()
        await self.may_end.wait()


def narrator_of(store: SqliteStore, author: Author, holder: str = "me/0/0/0") -> Narrator:
    return Narrator(store, author, MonitoringModule(enabled=False), ErrorHandler(), holder)  # type: ignore[arg-type]


@asynccontextmanager
async def at_work(made: Narrator) -> AsyncIterator[asyncio.Task[None]]:
    """It runs, and goes on running until the end."""
    task = asyncio.create_task(made.run())
    try:
        yield task
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(reached: Callable[[], Any]) -> None:
    async with asyncio.timeout(HUNG):
        while True:
            if reached():
                return
            await asyncio.sleep(0.005)


def told(path: Path) -> Counter[str]:
    """How many insights each signal has."""
    return Counter(row["signal_id"] for row in query(path, "SELECT signal_id FROM insights"))


def once(signals: Sequence[Signal]) -> Counter[str]:
    return Counter(s.signal_id for s in signals)


def said(data: BlockData, count: int = 2) -> list[Signal]:
    return [signal(data, n, subject=f"subject-{n}") for n in range(count)]


def connected(store: SqliteStore, *several: BlockData, count: int = 2) -> list[Signal]:
    """The signals of blocks that nobody narrated."""
    for data in several:
        store.connect(record(data, said(data, count)))
    return [one for data in several for one in said(data, count)]


@pytest.fixture
def signals(store: SqliteStore) -> list[Signal]:
    """Two of each of three blocks."""
    return connected(store, *TRUNK[:3])


# What it does


async def test_another_writer_is_not_kept_waiting(
    store: SqliteStore, path: Path, signals: list[Signal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever pause the failures of the one before had brought on; and his own failure brings on a pause again."""

    class Away(Author):
        async def when_asked(self, signal: Signal) -> None:
            raise ProviderUnavailable("nobody there")

    monkeypatch.setattr(narrator, "FIRST_WAIT", 10.0 * HUNG)
    away, made = Away(), narrator_of(store, Away())
    made.use(Author())
    async with at_work(made):
        await until(lambda: told(path) == once(signals))
        made.use(away)
        more = connected(store, TRUNK[3])
        await until(lambda: len(away.asked) == 1)
        await asyncio.sleep(0.1)
        assert len(away.asked) == 1
        made.use(Author())
        await until(lambda: told(path) == once([*signals, *more]))


async def test_it_narrates_what_waits(store: SqliteStore, path: Path, signals: list[Signal]) -> None:
    """All of it, each once; then there is nothing to do, and every lease is let go."""
    author = Author()
    made = narrator_of(store, author)
    assert await made.look() == len(signals)
    assert told(path) == once(signals)
    assert await made.look() == 0
    assert Counter(author.asked) == once(signals)
    assert run(path, "SELECT * FROM leases") == []
    more = connected(store, TRUNK[3])
    assert await made.look() == len(more)
    assert told(path) == once([*signals, *more])


async def test_the_words_are_those_of_a_block_narrated_at_once(tmp_path: Path) -> None:
    """`watch` and `narrate` beside each other leave what `run` does: the same insights to the byte."""
    processors = list(loose().values())
    stores = {name: SqliteStore(tmp_path / name) for name in ("split", "one")}
    for name, store in stores.items():
        generator = InsightGenerator() if name == "one" else None
        orchestrator = PipelineOrchestrator(
            processors, SignalPersistenceModule(store=store), labels=world(40).labels, insight_generator=generator
        )
        for data in await blocks(world(40).source):
            assert (await orchestrator.process_new_block(data)).success
        orchestrator.close()
    writer = Writer(stores["split"], InsightGenerator(), Budget())
    made = narrator_of(stores["split"], writer)  # type: ignore[arg-type]
    while await made.look():
        pass
    rows = {name: sorted(map(repr, query(tmp_path / name, "SELECT * FROM insights"))) for name in stores}
    for store in stores.values():
        store.close()
    assert rows["split"] == rows["one"]
    assert len(rows["one"]) > 30


async def test_a_refusal_is_a_dead_letter_once(
    store: SqliteStore, path: Path, signals: list[Signal], caplog: pytest.LogCaptureFixture
) -> None:
    """Told, stored with its reasons where a person can see it, never asked again; the others are narrated."""
    author = Author(refuses=lambda s: s.subject == "subject-1")
    made = narrator_of(store, author)
    for _ in range(3):
        await made.look()
    letters = narration.dead(store, 99)
    assert Counter(one["signal_id"] for one in letters) == once(s for s in signals if s.subject == "subject-1")
    assert {one["reason"] for one in letters} == {"not published: a reason; another"}
    assert told(path) == once(s for s in signals if s.subject != "subject-1")
    assert Counter(author.asked) == once(signals)
    lines = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(lines) == len(letters)
    ids = {row["correlation_id"] for row in _rows(path, "SELECT correlation_id FROM narration_events")}
    assert len(ids) == 3, "a group has a correlation id of its own"


def _rows(path: Path, sql: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql)]


async def test_a_signal_retracted_while_it_is_narrated_gets_no_words(
    store: SqliteStore, path: Path, signals: list[Signal]
) -> None:
    """Its block was taken off meanwhile. When the block returns, the words are found again."""

    class Slow(Author):
        async def when_asked(self, signal: Signal) -> None:
            if signal.block_hash == str(TRUNK[2].block_hash) and len(self.asked) == 5:
                store.disconnect(signal.block_hash, "run")

    made = narrator_of(store, Slow())
    await made.look()
    assert told(path) == once(signals[:4])
    assert await made.look() == 0
    store.connect(record(TRUNK[2], said(TRUNK[2])))
    assert await made.look() == 2
    assert told(path) == once(signals)


async def test_a_bell_wakes_it(
    store: SqliteStore, path: Path, signals: list[Signal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it rests, as after each block of the same process."""
    monkeypatch.setattr(narrator, "LOOK_SECONDS", 10 * HUNG)
    made = narrator_of(store, Author())
    async with at_work(made):
        await until(lambda: told(path) == once(signals))
        await asyncio.sleep(0.1)
        more = connected(store, TRUNK[3])
        made.ring()
        await until(lambda: told(path) == once([*signals, *more]))


async def test_it_looks_by_itself(
    store: SqliteStore, path: Path, signals: list[Signal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another process committed is found without a bell."""
    monkeypatch.setattr(narrator, "LOOK_SECONDS", 0.05)
    async with at_work(narrator_of(store, Author())):
        await until(lambda: told(path) == once(signals))
        with SqliteStore(path) as other:
            more = connected(other, TRUNK[3])
        await until(lambda: told(path) == once([*signals, *more]))


async def test_the_floor_hides_nothing_for_good(
    store: SqliteStore, path: Path, signals: list[Signal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was retracted when the floor was found, and comes back below it, is found by the next look at all."""
    monkeypatch.setattr(narrator, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(narrator, "AGAIN_SECONDS", 0.2)
    store.disconnect(str(TRUNK[2].block_hash), "run")
    async with at_work(narrator_of(store, Author())):
        await until(lambda: told(path) == once(signals[:4]))
        await asyncio.sleep(0.5)
        with SqliteStore(path) as other:
            other.connect(record(TRUNK[2], said(TRUNK[2])))
        await until(lambda: told(path) == once(signals))


# Several of them


async def test_who_was_overtaken_writes_nothing(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A narrator that stalls longer than its lease: the next finds the words, and its own, late, are not stored."""
    monkeypatch.setattr(narrator, "LEASE_SECONDS", 0.05)
    signals = connected(store, TRUNK[0])
    stalled = Held()
    first = narrator_of(store, stalled, "first/0/0/0")
    task = asyncio.create_task(first.look())
    await stalled.began.wait()
    await asyncio.sleep(0.1)
    monkeypatch.setattr(narrator, "LEASE_SECONDS", LONG)
    quick = Held()
    with SqliteStore(path) as other:
        second = asyncio.create_task(narrator_of(other, quick, "second/0/0/0").look())
        await quick.began.wait()
        stalled.may_end.set()
        assert await task == 0
        assert told(path) == Counter()
        assert "another process took over from first" in caplog.text
        quick.may_end.set()
        assert await second == len(signals)
    assert told(path) == once(signals)
    assert run(path, "SELECT * FROM leases") == []


async def test_a_narrator_that_is_stopped_lets_go(store: SqliteStore, path: Path, signals: list[Signal]) -> None:
    """In the middle of a group: it writes nothing of it, and the next need not wait for the lease."""
    held = Held()
    task = asyncio.create_task(narrator_of(store, held, "first/0/0/0").run())
    await held.began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told(path) == Counter()
    assert run(path, "SELECT * FROM leases") == []
    assert await narrator_of(store, Author(), "second/0/0/0").look() == len(signals)


async def test_what_another_works_on_is_left_to_it(store: SqliteStore, path: Path, signals: list[Signal]) -> None:
    """Its group is passed over; the rest is narrated."""
    (group, *_) = narration.waiting(store, 1)
    lease = store.leases.acquire(group.lease, ELSEWHERE, LONG)
    assert lease is not None
    made = narrator_of(store, Author())
    assert await made.look() == 4
    assert told(path) == once(signals[2:])
    store.leases.release(lease)
    assert await made.look() == 2
    assert told(path) == once(signals)


def test_several_at_once(path: Path) -> None:
    """Four narrators, each with its own connection, while blocks come: each signal asked for once and told once."""
    authors = [Author() for _ in range(4)]
    with SqliteStore(path) as store:
        connected(store, *TRUNK[:2], count=40)

        def work(author: Author) -> None:
            async def until_done() -> None:
                with SqliteStore(path) as own:
                    made = narrator_of(own, author, f"one/{authors.index(author)}/0/0")
                    async with asyncio.timeout(HUNG):
                        while told(path).total() < 8 * 40:
                            if not await made.look():
                                await asyncio.sleep(0.002)

            asyncio.run(until_done())

        with ThreadPoolExecutor(4) as pool:
            working = [pool.submit(work, author) for author in authors]
            for data in TRUNK[2:8]:
                store.connect(record(data, said(data, 40)))
            for one in working:
                one.result()
    everything = once([s for data in TRUNK[:8] for s in said(data, 40)])
    assert told(path) == everything
    assert sum((Counter(author.asked) for author in authors), Counter()) == everything


# A store that is busy


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little waiting for locks, and between looks."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    monkeypatch.setattr(narrator, "LOOK_SECONDS", 0.02)


async def test_a_store_that_is_busy(impatient: None, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Locked by another process for a while: told, and tried again until it goes."""
    with SqliteStore(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        signals = connected(store, *TRUNK[:3])
        other.execute("BEGIN IMMEDIATE")
        async with at_work(narrator_of(store, Author())):
            await until(lambda: "signals wait for narration" in caplog.text)
            assert told(path) == Counter()
            other.execute("ROLLBACK")
            await until(lambda: told(path) == once(signals))


async def test_a_store_that_gets_busy_in_the_middle(impatient: None, path: Path) -> None:
    """When the words are found and can't be stored, nor the lease let go: the same narrator goes on once it can."""
    held = Held()
    with SqliteStore(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        signals = connected(store, TRUNK[0])
        async with at_work(narrator_of(store, held)):
            await held.began.wait()
            other.execute("BEGIN IMMEDIATE")
            held.may_end.set()
            await asyncio.sleep(0.5)
            assert told(path) == Counter()
            other.execute("ROLLBACK")
            await until(lambda: told(path) == once(signals))
    assert run(path, "SELECT * FROM leases") == []


@pytest.mark.parametrize("failure", [StoreUnavailable("the disk is full"), LeaseLost("overtaken")], ids=str)
@pytest.mark.parametrize("where", ["acquire", "release"])
async def test_whatever_of_the_store_fails(
    store: SqliteStore,
    path: Path,
    signals: list[Signal],
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    failure: Exception,
) -> None:
    """Once, at each place: it is the store's trouble, and passes; nothing is told twice."""
    monkeypatch.setattr(narrator, "LOOK_SECONDS", 0.02)
    works, failures = getattr(store.leases, where), [failure, failure]

    def fails(*arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return works(*arguments)

    monkeypatch.setattr(store.leases, where, fails)
    async with at_work(narrator_of(store, Author())):
        await until(lambda: told(path) == once(signals))
    assert not failures
