"""Persistence as the pipeline sees it: a store that is down is a result, and the window is at hand."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest

from persistence.records import chain, past_of, record, rows, signal, told
from utxoiq.models import Cursor, PersistenceResult
from utxoiq.persistence import SignalPersistenceModule, SqliteStore, database, reads


@pytest.fixture
def module(store: SqliteStore) -> SignalPersistenceModule:
    return SignalPersistenceModule(store=store)


async def test_how_a_write_went(module: SignalPersistenceModule) -> None:
    """The number of rows that were not there before."""
    first = chain().trunk[0]
    assert await module.connect(told(first, 1)) == PersistenceResult(True, 5)
    assert await module.connect(told(first, 1)) == PersistenceResult(True, 0)
    assert await module.disconnect(first.block_hash, "run") == PersistenceResult(True, 3)


async def test_a_refused_write_is_a_result_and_logged(
    module: SignalPersistenceModule, caplog: pytest.LogCaptureFixture
) -> None:
    """NotLinked too: no exception, the reason in the result, the correlation id in the log."""
    await module.connect(record(chain().trunk[0]))
    result = await module.connect(record(chain().trunk[5], correlation_id="abc"))
    assert not result.success
    assert result.written == 0
    assert "does not follow the stored tip" in str(result.error)
    (entry,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert entry.correlation_id == "abc"  # type: ignore[attr-defined]
    assert not (await module.disconnect(chain().trunk[5].block_hash, "abc")).success


async def test_signals_alone(module: SignalPersistenceModule, store: SqliteStore) -> None:
    """One batch for a block that is there; twice writes nothing; for an unknown block nothing at all."""
    first, second = chain().trunk[:2]
    await module.connect(record(first))
    batch = [signal(first, 1, subject="a"), signal(first, 2, subject="b")]
    assert await module.persist_signals(batch, "run") == PersistenceResult(True, 2)
    assert await module.persist_signals(batch, "run") == PersistenceResult(True, 0)
    assert await module.persist_signals([], "run") == PersistenceResult(True, 0)
    mixed = await module.persist_signals([signal(first, 3), signal(second, 4)], "run")
    assert not mixed.success
    assert len(reads.signals(store, 9)) == 2


async def test_signals_of_a_disconnected_block_do_not_hold(module: SignalPersistenceModule, store: SqliteStore) -> None:
    """They come too late: neither new ones nor retracted ones said again are current, since the block is not."""
    first, second = chain().trunk[:2]
    await module.connect(record(first))
    await module.connect(told(second, 1))
    await module.disconnect(second.block_hash, "run")
    await module.persist_signals([signal(second, 1, subject="subject-0"), signal(second, 9)], "late")
    assert reads.signals(store, 9) == []


async def test_a_full_disk_writes_nothing_and_heals(
    module: SignalPersistenceModule, store: SqliteStore, path: Path
) -> None:
    """The failed block leaves no row behind; with room again the same call succeeds."""
    first, second = chain().trunk[:2]
    await module.connect(told(first, 1))
    before, pages = rows(path), store.database.value("PRAGMA page_count")
    store.database.value(f"PRAGMA max_page_count = {pages}")
    large = record(second, [signal(second, "x" * 1_000_000)])
    for _ in range(2):
        result = await module.connect(large)
        assert not result.success
        assert "full" in str(result.error)
        assert rows(path) == before
        assert store.cursor() == Cursor(str(first.block_hash), 900_000)
    store.database.value(f"PRAGMA max_page_count = {pages + 100_000}")
    assert await module.connect(large) == PersistenceResult(True, 4)
    assert len(rows(path)["signals"]) == 2


@pytest.fixture
def other(path: Path, store: SqliteStore) -> Iterator[sqlite3.Connection]:
    """Another program with the file open."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=0)
    yield connection
    connection.close()


async def test_a_locked_store_is_a_failed_result(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else writes and does not end: no exception, nothing written, reading goes on; afterwards it works."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    store = SqliteStore(path)
    module = SignalPersistenceModule(store=store)
    await module.connect(told(chain().trunk[0], 1))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        result = await module.connect(record(chain().trunk[1]))
        assert not result.success
        assert "locked" in str(result.error)
        assert len(reads.signals(store, 9)) == 1
        assert (await module.window(chain().trunk[0].block_hash, 5)).rows == past_of(chain().trunk[0])
        other.execute("ROLLBACK")
        assert (await module.connect(record(chain().trunk[1]))).success
    finally:
        other.close()
        store.close()


async def test_a_store_that_is_locked_for_a_while_is_waited_for(
    module: SignalPersistenceModule, other: sqlite3.Connection
) -> None:
    """Within its time a lock costs time, not the block."""
    other.execute("BEGIN IMMEDIATE")
    writing = asyncio.create_task(module.connect(record(chain().trunk[0])))
    await asyncio.sleep(0.1)
    assert not writing.done()
    other.execute("ROLLBACK")
    assert (await writing).success


async def test_the_window_follows_what_is_connected(module: SignalPersistenceModule, store: SqliteStore) -> None:
    """Block by block it is what the store would give, of any size asked for."""
    for size in (1, 3, 100):
        for i, data in enumerate(chain().trunk):
            before = chain().trunk[max(0, i - size) : i]
            assert (await module.window(data.prev_hash, size)).rows == past_of(*before)
            await module.connect(record(data))
        tip = chain().trunk[-1].block_hash
        assert (await module.window(tip, size)).rows == store.window(str(tip), size)
        for data in reversed(chain().trunk):
            await module.disconnect(data.block_hash, "run")


async def test_the_window_after_a_reorg(module: SignalPersistenceModule) -> None:
    """Nothing of the branch that was taken off is left in it."""
    trunk, stale, winning = chain()
    for data in (*trunk, *stale):
        await module.window(data.prev_hash, 4)
        await module.connect(record(data))
    for data in reversed(stale):
        await module.disconnect(data.block_hash, "run")
    for i, data in enumerate(winning):
        past = [*trunk, *winning[:i]][-4:]
        assert (await module.window(data.prev_hash, 4)).rows == past_of(*past)
        await module.connect(record(data))


async def test_a_window_may_grow(module: SignalPersistenceModule) -> None:
    """After many blocks with a small window, a larger one is still all that the store has."""
    for data in chain().trunk:
        await module.window(data.prev_hash, 3)
        await module.connect(record(data))
    tip, wanted = chain().trunk[-1].block_hash, past_of(*chain().trunk)
    assert (await module.window(tip, 3)).rows == wanted[-3:]
    assert (await module.window(tip, 100)).rows == wanted


async def test_a_window_of_nothing(module: SignalPersistenceModule) -> None:
    """No processor that looks back asks for 0 blocks, and gets none."""
    for data in chain().trunk:
        assert (await module.window(data.prev_hash, 0)).rows == []
        await module.connect(record(data))


async def test_a_failed_write_does_not_enter_the_window(module: SignalPersistenceModule, store: SqliteStore) -> None:
    """What is not in the store is not in the window either."""
    first, second = chain().trunk[:2]
    await module.connect(record(first))
    await module.window(first.block_hash, 5)
    bad = signal(second)
    object.__setattr__(bad, "confidence", 2.0)
    assert not (await module.connect(record(second, [bad]))).success
    assert (await module.window(second.block_hash, 5)).rows == []
    assert (await module.window(first.block_hash, 5)).rows == past_of(first)


def test_two_threads_share_a_store(store: SqliteStore) -> None:
    """One writes, one reads: the reader sees whole blocks, each with its three signals and insights."""
    done, seen = Event(), []

    def read() -> None:
        while not done.is_set():
            signals, insights = len(reads.signals(store, 999)), len(reads.insights(store, 999))
            seen.append((signals, insights))

    reader = Thread(target=read)
    reader.start()
    try:
        for data in chain().best:
            store.connect(told(data, 1, 2, 3))
    finally:
        done.set()
        reader.join()
    assert seen
    assert {signals % 3 for signals, _ in seen} == {insights % 3 for _, insights in seen} == {0}
    assert len(reads.signals(store, 999)) == 3 * 12


def test_a_thread_does_not_see_what_another_has_not_committed(store: SqliteStore) -> None:
    """The question waits, or is answered from before: a row that is taken back was never there."""
    answers: list[str | None] = []
    reader = Thread(target=lambda: answers.append(store.network))

    def write_and_fail() -> None:
        with store.database.transaction():
            store.database.insert("meta", {"key": "network", "value": "main"})
            reader.start()
            reader.join(0.2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    reader.join()
    assert answers == [None]
