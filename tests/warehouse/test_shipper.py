"""The shipper: at the store's heels, patient while the warehouse is away, and done when told to stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from helpers.emulator import Emulator
from persistence.records import chain
from utxoiq.errors import LeaseLost, WarehouseError, WarehouseUnavailable
from utxoiq.observability import MonitoringModule
from utxoiq.persistence import SqliteStore
from utxoiq.persistence.warehouse.bigquery import BigQueryWarehouse
from utxoiq.persistence.warehouse.opening import OpenWarehouse
from utxoiq.persistence.warehouse.streams import WriteStreams
from utxoiq.pipeline import shipper as shipper_module
from utxoiq.pipeline.error_handler import ErrorHandler
from utxoiq.pipeline.leading import Leader
from utxoiq.pipeline.shipper import Shipper
from warehouse.compared import everything_is_there_once, rich

pytestmark = pytest.mark.warehouse

HUNG = 30


@pytest.fixture
def monitoring() -> Iterator[MonitoringModule]:
    module = MonitoringModule()
    yield module
    module.shutdown()


@pytest.fixture
def make(
    store: SqliteStore, monitoring: MonitoringModule, monkeypatch: pytest.MonkeyPatch
) -> Callable[[BigQueryWarehouse, WriteStreams], Shipper]:
    """A shipper that does not rest for long."""
    monkeypatch.setattr(shipper_module, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(shipper_module, "LOOK_SECONDS", 0.02)

    def made(warehouse: BigQueryWarehouse, streams: WriteStreams) -> Shipper:
        return Shipper(store, OpenWarehouse(warehouse, streams), monitoring, ErrorHandler(monitoring))

    return made


@pytest.fixture
def shipper(make: Any, warehouse: BigQueryWarehouse, streams: WriteStreams) -> Shipper:
    made: Shipper = make(warehouse, streams)
    return made


async def until(reached: Callable[[], Any]) -> None:
    async with asyncio.timeout(HUNG):
        while not reached():  # noqa: ASYNC110 nobody tells
            await asyncio.sleep(0.005)


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def metric(monitoring: MonitoringModule, name: str) -> float:
    """The sum of a metric's series as Prometheus reads it."""
    rows = monitoring.metrics_text()[0].decode().splitlines()
    found = [float(row.rsplit(" ", 1)[1]) for row in rows if row.split("{")[0].split(" ")[0] == name]
    assert found, name
    return sum(found)


def failing(shipper: Shipper, monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> list[Exception]:
    """Its next batches fail so, in turn; those left."""
    left, send = list(errors), shipper._shipment.send

    def broken(**sizes: int) -> int:
        if left:
            raise left.pop(0)
        return send(**sizes)

    monkeypatch.setattr(shipper._shipment, "send", broken)
    return left


async def test_it_makes_the_tables_and_follows(
    emulator: Emulator, project: str, make: Any, streams: WriteStreams, store: SqliteStore
) -> None:
    """What was stored before it began, and every block committed while it runs, rung for or not."""
    warehouse = emulator.warehouse(project)
    store.connect(rich(chain().trunk[0]))
    shipper = make(warehouse, streams)
    task = asyncio.create_task(shipper.run())
    for number, data in enumerate(chain().trunk[1:4]):
        await asyncio.to_thread(store.connect, rich(data))
        if number % 2:
            shipper.ring()
        await until(lambda: store.outbox.destination and not store.outbox.lag().rows)
    assert warehouse.missing() == []
    everything_is_there_once(store, warehouse)
    await ended(task)
    warehouse.client.close()


async def test_its_lag_is_a_metric(shipper: Shipper, store: SqliteStore, monitoring: MonitoringModule) -> None:
    """Rows that wait, how old the oldest is, and how many were sent."""
    store.outbox.open(shipper._warehouse.tables.name)
    store.connect(rich(chain().trunk[0]))
    waiting = store.outbox.lag().rows
    await shipper.drain()
    assert metric(monitoring, "utxoiq_outbox_rows") == 0
    assert metric(monitoring, "utxoiq_outbox_lag_seconds") == 0
    assert metric(monitoring, "utxoiq_warehouse_rows_total") == waiting > 5


async def test_the_lag_is_told_while_the_warehouse_is_away(
    emulator: Emulator, make: Any, store: SqliteStore, monitoring: MonitoringModule, tmp_path: Any
) -> None:
    """That is when somebody looks; each failure is counted."""
    gone = Emulator(tmp_path / "gone")
    warehouse, streams = gone.warehouse("nobody"), gone.streams("nobody")
    shipper = make(warehouse, streams)
    store.outbox.open(warehouse.name)
    store.connect(rich(chain().trunk[0]))
    with store.database.transaction():
        store.database.execute("UPDATE outbox SET recorded_at = recorded_at - 7200")
    task = asyncio.create_task(shipper.run())
    await until(lambda: shipper._told[0])
    assert metric(monitoring, "utxoiq_outbox_rows") == store.outbox.lag().rows > 0
    assert metric(monitoring, "utxoiq_outbox_lag_seconds") >= 7200
    assert metric(monitoring, "utxoiq_errors_total") >= 1
    await ended(task)
    streams.close()
    warehouse.client.close()


async def test_waits_grow(shipper: Shipper, store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Doubled up to the longest, and small again after a success."""
    monkeypatch.setattr(shipper_module, "FIRST_WAIT", 1.0)
    waits: list[float] = []
    sleep = asyncio.sleep

    async def waiting(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    down = [WarehouseUnavailable(f"down {n}") for n in range(9)]
    store.outbox.open(shipper._warehouse.tables.name)
    store.connect(rich(chain().trunk[0]))
    left = failing(shipper, monkeypatch, *down)
    with monkeypatch.context() as patched:
        patched.setattr(shipper_module.asyncio, "sleep", waiting)
        task = asyncio.create_task(shipper.run())
        async with asyncio.timeout(HUNG):
            while left or store.outbox.lag().rows:
                await sleep(0.005)
        assert waits == [1, 2, 4, 8, 15, 15, 15, 15, 15]
        left += down[:2]
        async with asyncio.timeout(HUNG):
            while len(waits) < 11:
                await sleep(0.005)
        assert waits[9:] == [1, 2]
        await ended(task)


@pytest.mark.parametrize(("kind", "level"), [(WarehouseUnavailable, "WARNING"), (WarehouseError, "ERROR")])
async def test_it_tells_once(
    shipper: Shipper, store: SqliteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    kind: type[Exception], level: str,
) -> None:  # fmt: skip
    """One line a reason, however often; and one when the warehouse is back. What may pass is no error."""
    store.outbox.open(shipper._warehouse.tables.name)
    store.connect(rich(chain().trunk[0]))
    failing(shipper, monkeypatch, *[kind("first reason")] * 5, *[kind("second reason")] * 5)
    with caplog.at_level(logging.INFO, "utxoiq.pipeline.shipper"):
        task = asyncio.create_task(shipper.run())
        await until(lambda: "is reached again" in caplog.text)
        await ended(task)
    said = [(one.levelname, one.message) for one in caplog.records if one.name == "utxoiq.pipeline.shipper"]
    assert [row for row in said if "rows wait for" in row[1]] == [
        (level, "rows wait for the warehouse: first reason"), (level, "rows wait for the warehouse: second reason")
    ]  # fmt: skip
    assert sum("is reached again" in message for _, message in said) == 1


async def test_a_stop_sends_what_is_left(
    shipper: Shipper, store: SqliteStore, warehouse: BigQueryWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of the last moment are in the warehouse when it has ended."""
    monkeypatch.setattr(shipper_module, "LOOK_SECONDS", HUNG)
    task = asyncio.create_task(shipper.run())
    await until(lambda: store.outbox.destination and shipper._ready)
    for data in chain().trunk:
        store.connect(rich(data))
    await ended(task)
    assert task.cancelled()
    assert store.outbox.lag().rows == 0
    everything_is_there_once(store, warehouse)


async def test_a_stop_does_not_wait_for_a_warehouse_that_is_away(
    shipper: Shipper, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left stays in the outbox."""
    store.outbox.open(shipper._warehouse.tables.name)
    store.connect(rich(chain().trunk[0]))
    failing(shipper, monkeypatch, *[WarehouseUnavailable("down")] * 10_000)
    task = asyncio.create_task(shipper.run())
    await until(lambda: shipper._told[0])
    await ended(task)
    assert task.cancelled()
    assert store.outbox.lag().rows > 0


async def test_it_tells_how_far_it_is(shipper: Shipper, store: SqliteStore) -> None:
    """After each batch: what was sent in all, and what waits."""
    store.outbox.open(shipper._warehouse.tables.name)
    for data in chain().trunk[:3]:
        store.connect(rich(data))
    waiting, told = store.outbox.lag().rows, []
    assert await shipper.drain(lambda *progress: told.append(progress)) == waiting
    assert told == [(waiting, 0)]


async def test_who_was_overtaken_ends(
    shipper: Shipper, store: SqliteStore, warehouse: BigQueryWarehouse, path: Any
) -> None:
    """Another ships this store now: nothing more is written to it, and the other sends everything once."""
    with SqliteStore(path) as other:
        lease = store.leases.acquire("ship", "first/1/1/1", 600)
        assert lease is not None
        store.database.fence = lambda: store.leases.check(lease)
        task = asyncio.create_task(shipper.run())
        await until(lambda: store.outbox.destination and shipper._ready)
        with other.database.transaction():
            other.database.execute("DELETE FROM leases")
        assert other.leases.acquire("ship", "second", 600)
        other.connect(rich(chain().trunk[0]))
        shipper.ring()
        with pytest.raises(LeaseLost):
            async with asyncio.timeout(HUNG):
                await task
        waiting = other.outbox.lag().rows
        assert waiting > 0
        store.database.fence = lambda: None
        await shipper.drain()
        everything_is_there_once(other, warehouse)


async def test_two_take_turns(shipper: Shipper, store: SqliteStore, path: Any, warehouse: BigQueryWarehouse) -> None:
    """With leases, one stands by while the other ships, and goes on when it has ended."""
    work: Callable[[], Awaitable[None]] = shipper.run
    with SqliteStore(path) as other:
        first = asyncio.create_task(Leader(store, "ship", "first").run(work))
        await until(lambda: store.outbox.destination and shipper._ready)
        held = other.leases.held()
        assert [(one["name"], one["holder"]) for one in held] == [("ship", "first")]
        assert other.leases.acquire("ship", "second", 600) is None
        other.connect(rich(chain().trunk[0]))
        await until(lambda: not other.outbox.lag().rows)
        await ended(first)
        assert other.leases.acquire("ship", "second", 600) is not None
        everything_is_there_once(other, warehouse)
