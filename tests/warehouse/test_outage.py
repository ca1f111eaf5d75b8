"""Outages: the warehouse is gone in the middle of a scan, the shipper is killed. Afterwards every row is there once."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from helpers.emulator import ABSENT, PROGRAM, Emulator
from pipeline.simulated import Always, steps, world
from utxoiq.models import Disconnected
from utxoiq.observability import MonitoringModule
from utxoiq.persistence import SignalPersistenceModule, SqliteStore
from utxoiq.persistence.warehouse.opening import OpenWarehouse
from utxoiq.pipeline import PipelineOrchestrator
from utxoiq.pipeline import shipper as shipper_module
from utxoiq.pipeline.error_handler import ErrorHandler
from utxoiq.pipeline.scan import scan
from utxoiq.pipeline.shipper import Shipper
from warehouse.compared import asked, everything_is_there_once

pytestmark = [pytest.mark.warehouse, pytest.mark.slow]

HUNG = 120
MANY = 600
OUTAGES = ((60, 90), (140, 440), (480, 500), (520, 560))
"""From the first to the second block of the scan the emulator is down; the second time for half of the scan."""
KILLS = 50
SEED = 7


@pytest.fixture
def mine(tmp_path: Path) -> Iterator[Emulator]:
    """An emulator of the test's own that keeps what it was given."""
    if not PROGRAM.exists():
        pytest.skip(ABSENT)
    emulator = Emulator(tmp_path / "emulator")
    emulator.start()
    try:
        yield emulator
    finally:
        emulator.stop()


class Weather:
    """Takes the emulator down and up as a scan goes on."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._steps = 0
        self._up: threading.Thread | None = None
        self.outages = 0

    def step(self, _: Any) -> None:
        self._steps += 1
        if self._steps in [first for first, _ in OUTAGES]:
            self.settle()
            self._emulator.kill()
            self.outages += 1
        if self._steps in [last for _, last in OUTAGES]:
            self._up = threading.Thread(target=self._emulator.start)
            self._up.start()

    def settle(self) -> None:
        """Wait until it is up."""
        if self._up:
            self._up.join()


async def test_outages_during_a_scan(mine: Emulator, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 600 blocks, with the warehouse gone four times, once for half of it and each time with its streams: the scan
    does not wait for it, and in the end every row is there once."""
    monkeypatch.setattr(shipper_module, "FIRST_WAIT", 0.05)
    monkeypatch.setattr(shipper_module, "LONGEST_WAIT", 0.4)
    monkeypatch.setattr(shipper_module, "LOOK_SECONDS", 0.05)
    monitoring, weather = MonitoringModule(enabled=False), Weather(mine)
    with SqliteStore(path) as written, SqliteStore(path) as shipped:
        warehouse = OpenWarehouse(mine.warehouse("outage"), mine.streams("outage"))
        warehouse.tables.migrate()
        shipped.outbox.open(warehouse.tables.name)
        shipper = Shipper(shipped, warehouse, monitoring, ErrorHandler(monitoring))
        task = asyncio.create_task(shipper.run())
        done = await scan(world(MANY).source, written, labels=world(MANY).labels, on_step=weather.step)
        assert done.connected > MANY
        weather.settle()
        async with asyncio.timeout(HUNG):
            while not task.done() and shipped.outbox.lag().rows:  # noqa: ASYNC110 nobody tells
                await asyncio.sleep(0.05)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert weather.outages == len(OUTAGES)
        everything_is_there_once(written, warehouse.tables)
        signals = written.database.query("SELECT signal_id FROM signal_state")
        assert len(asked(warehouse.tables, "intel.signal_state")) == len(signals) > 20
        warehouse.close()


# Kills


def command(arguments: list[str], variables: dict[str, str], output: str) -> None:
    """`utxoiq` in a process of its own, to its end."""
    for name in [name for name in os.environ if name.startswith("UTXOIQ_")]:
        del os.environ[name]
    os.environ.update(variables)
    os.chdir(Path(output).parent)
    said = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = ["utxoiq", *arguments]
    from utxoiq.cli import main

    main()


class Shippers:
    """Processes that ship one store, each forked where all is imported already."""

    def __init__(self, path: Path, emulator: Emulator) -> None:
        self.path, self.output = path, path.parent / "output"
        self._variables = {
            "UTXOIQ_WAREHOUSE__PROJECT": "killed",
            "UTXOIQ_WAREHOUSE__ENDPOINT": emulator.url,
            "UTXOIQ_WAREHOUSE__STORAGE_ENDPOINT": emulator.storage,
        }
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(
            ["utxoiq.cli", "utxoiq.service", "utxoiq.shipping", "utxoiq.persistence.warehouse.shipping",
             "google.cloud.bigquery_storage_v1.services.big_query_write.transports", "warehouse.test_outage"]
        )  # fmt: skip

    def start(self, *more: str) -> Any:
        arguments = ["ship", "--db", f"sqlite:///{self.path}", *more]
        process = self._context.Process(target=command, args=(arguments, self._variables, str(self.output)))
        process.start()
        return process

    def value(self, sql: str) -> Any:
        with closing(sqlite3.connect(self.path)) as db:
            return db.execute(sql).fetchone()[0]


def wait_for_a_batch(shippers: Shippers, process: Any) -> None:
    """Until a batch is on its way, or nothing is left to wait for."""
    end = time.monotonic() + HUNG
    while process.is_alive() and time.monotonic() < end:
        if shippers.value("SELECT count(*) FROM shipping WHERE last_seq IS NOT NULL"):
            return
        if not shippers.value("SELECT count(*) FROM outbox"):
            return
        time.sleep(0.002)


async def test_kills_of_the_shipper(mine: Emulator, tmp_path: Path) -> None:
    """Fifty times, half of them anywhere after its start and half in the middle of a batch, while blocks arrive and
    some are taken back: the one that is left alone in the end completes it, and every row is there once."""
    chance, folder = random.Random(SEED), tmp_path / "shipped"
    folder.mkdir()
    shippers, waiting = Shippers(folder / "store.db", mine), await steps(world().source)
    share, in_a_batch = -(-len(waiting) // KILLS), 0
    with SqliteStore(shippers.path) as store:
        store.outbox.open("bigquery:killed")
        orchestrator = PipelineOrchestrator([Always()], SignalPersistenceModule(store=store), labels=world().labels)
        for number in range(KILLS):
            process = shippers.start()
            for step in waiting[number * share : (number + 1) * share]:
                taken = (
                    await orchestrator.disconnect_block(step.block_hash)
                    if isinstance(step, Disconnected)
                    else await orchestrator.process_new_block(step.block)
                )
                assert taken.success
            if number % 2:
                await asyncio.to_thread(wait_for_a_batch, shippers, process)
                await asyncio.sleep(chance.uniform(0, 0.12))
            else:
                await asyncio.sleep(chance.uniform(0, 0.5))
            assert process.is_alive(), shippers.output.read_text()
            process.kill()
            process.join()
            assert process.exitcode == -9
            process.close()
            in_a_batch += bool(shippers.value("SELECT count(*) FROM shipping WHERE last_seq IS NOT NULL"))
        orchestrator.close()
        last = shippers.start("--once")
        await asyncio.to_thread(last.join, HUNG)
        assert last.exitcode == 0, shippers.output.read_text()
        last.close()
        assert store.outbox.lag().rows == 0
        assert store.cursor() == world().source.tip()
        warehouse = mine.warehouse("killed")
        everything_is_there_once(store, warehouse)
        assert in_a_batch > 2, "the kills hit nothing"
        warehouse.client.close()
