"""Without a disk: the usage example of the original whole, an instance that takes over, and one that loses BigQuery."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.cloud import bigquery

from cli.command import utxoiq
from helpers.emulator import ABSENT, PROGRAM, Emulator
from observability.collector import Collector
from persistence.records import chain, record
from pipeline.simulated import BLOCKS, STALE, Always, steps, world
from utxoiq.errors import ConfigError, WarehouseUnavailable
from utxoiq.models import Backfilled, Connected, Disconnected
from utxoiq.observability import MonitoringModule
from utxoiq.persistence import SignalPersistenceModule, SqliteStore
from utxoiq.persistence.warehouse.bigquery import BigQueryWarehouse
from utxoiq.persistence.warehouse.restoring import PLACES, restore
from utxoiq.persistence.warehouse.shipping import Shipment
from utxoiq.persistence.warehouse.streams import WriteStreams
from utxoiq.pipeline import PipelineOrchestrator
from utxoiq.processors import ExchangeProcessor, MempoolProcessor, MinerProcessor, ProcessorConfig
from warehouse.compared import amend, asked, everything_is_there_once, fill, raw

pytestmark = pytest.mark.warehouse

SOME = 24
"""Blocks of the simulated chain, with a reorg after 16."""
NAMED = {"blocks": "block_hash", "signals": "signal_id", "forecasts": "forecast_id", "insights": "insight_id"}


@pytest.fixture
def client(emulator: Emulator, project: str) -> Iterator[bigquery.Client]:
    with closing(emulator.client(project)) as made:
        yield made


def processors() -> list[Any]:
    """Those of the usage example, and one that always speaks."""
    named = (MempoolProcessor, ExchangeProcessor, MinerProcessor)
    return [*(processor(ProcessorConfig(enabled=True)) for processor in named), Always()]


class Instance:
    """What runs in one container: begun, given steps, gone."""

    def __init__(self, persistence: SignalPersistenceModule) -> None:
        self.persistence = persistence
        self._orchestrator = PipelineOrchestrator(processors(), persistence, labels=world(SOME).labels)

    def __enter__(self) -> Instance:
        return self

    def __exit__(self, *_: object) -> None:
        self._orchestrator.close()
        self.persistence.close()

    async def take(self, step: Connected | Disconnected) -> Any:
        if isinstance(step, Disconnected):
            return await self._orchestrator.disconnect_block(step.block_hash)
        return await self._orchestrator.process_new_block(step.block)

    async def take_all(self, *taken: Connected | Disconnected) -> None:
        for step in taken:
            done = await self.take(step)
            assert done.success, done.error


def direct(client: bigquery.Client, emulator: Emulator) -> Instance:
    return Instance(SignalPersistenceModule(bigquery_client=client, storage_endpoint=emulator.storage))


@pytest.fixture
def undisturbed(tmp_path: Path) -> Iterator[SqliteStore]:
    """A store of the same steps by one that never stopped."""
    with SqliteStore(tmp_path / "undisturbed.db") as store:

        async def follow() -> None:
            with Instance(SignalPersistenceModule(store=store)) as instance:
                await instance.take_all(*await steps(world(SOME).source))

        asyncio.run(follow())
        yield store


def same_as(store: SqliteStore, warehouse: BigQueryWarehouse) -> None:
    """Under the same ids the same signals hold, and the same are taken back; nothing is there twice."""
    for relation, key in NAMED.items():
        assert set(Counter(row[key] for row in raw(warehouse, relation)).values()) <= {1}, relation
    here = {row["signal_id"]: row["retraction_reason"] for row in store.database.query("SELECT * FROM signal_state")}
    there = {row["signal_id"]: row["retraction_reason"] for row in asked(warehouse, "intel.signal_state")}
    assert there == here
    assert any(here.values())
    states = {row["block_hash"]: row["state"] for row in store.database.query("SELECT * FROM block_state")}
    assert {row["block_hash"]: row["state"] for row in asked(warehouse, "btc.block_state")} == states
    foretold = {row["forecast_id"] for row in store.database.query("SELECT forecast_id FROM forecasts")}
    assert {row["forecast_id"] for row in raw(warehouse, "forecasts")} == foretold


async def test_the_usage_example_runs_whole(
    client: bigquery.Client, emulator: Emulator, project: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the original has it, but for where it imports from, and that both services are here and not at Google's."""
    bq_client = client
    block_data = next(step.block for step in await steps(world(SOME).source) if isinstance(step, Connected))
    with Collector() as collector:
        # Initialize components
        monitoring = MonitoringModule(project_id="utxoiq-dev", otlp_endpoint=collector.url)
        persistence = SignalPersistenceModule(bigquery_client=bq_client, storage_endpoint=emulator.storage)

        # Configure processors
        processors = [
            MempoolProcessor(ProcessorConfig(enabled=True)),
            ExchangeProcessor(ProcessorConfig(enabled=True)),
            MinerProcessor(ProcessorConfig(enabled=True)),
        ]

        # Create orchestrator
        orchestrator = PipelineOrchestrator(
            signal_processors=processors,
            signal_persistence=persistence,
            monitoring_module=monitoring,
        )

        # Process new block
        result = await orchestrator.process_new_block(block_data)

        if result.success:
            print(f"Generated {len(result.signals)} signals")  # noqa: T201
            print(f"Total duration: {result.timing_metrics['total_duration_ms']}ms")  # noqa: T201
        else:
            print(f"Pipeline failed: {result.error}")  # noqa: T201

        orchestrator.close()
        persistence.close()
        await asyncio.to_thread(monitoring.shutdown)
        assert collector.requests
    said = capsys.readouterr().out
    assert "Generated" in said
    assert "Total duration" in said
    assert result.error is None
    warehouse = emulator.warehouse(project)
    (block,) = asked(warehouse, "btc.block_state")
    assert (block["block_hash"], block["state"]) == (str(block_data.block_hash), "connected")
    assert {row["signal_id"] for row in raw(warehouse, "signals")} == {one.signal_id for one in result.signals}
    (facts,) = raw(warehouse, "facts")
    assert facts["facts"]["blockhash"] == facts["block_hash"] == str(block_data.block_hash)
    warehouse.client.close()


def test_it_takes_one_or_the_other(client: bigquery.Client, store: SqliteStore) -> None:
    """A store and a client at once, or none of both, is a mistake."""
    for given in ({}, {"store": store, "bigquery_client": client}):
        with pytest.raises(ConfigError, match="either a store or a bigquery_client"):
            SignalPersistenceModule(**given)


@pytest.mark.parametrize("after", [9, 17, 18, 20])
async def test_another_instance_goes_on(
    client: bigquery.Client, emulator: Emulator, project: str, tmp_path: Path, after: int
) -> None:
    """From the warehouse's cursor, with the window and the forecasts of before: in an even stretch, on a stale block,
    and in the middle of a reorg. What the first said of stale blocks the second takes back."""
    all_steps = await steps(world(SOME).source)
    with direct(client, emulator) as first:
        await first.take_all(*all_steps[:after])
        cursor = first.persistence.store.cursor()
        parent = all_steps[8].block.block_hash
        window = list(await first.persistence.window(parent, 50))
    with direct(client, emulator) as second:
        assert second.persistence.store.cursor() == cursor
        assert list(await second.persistence.window(parent, 50)) == window
        assert len(window) == 9
        await second.take_all(*all_steps[after:])
        assert second.persistence.store.cursor() == world(SOME).source.tip()
    with SqliteStore(tmp_path / "undisturbed.db") as store:
        with Instance(SignalPersistenceModule(store=store)) as undisturbed:
            await undisturbed.take_all(*all_steps)
        warehouse = emulator.warehouse(project)
        same_as(store, warehouse)
        warehouse.client.close()


async def test_a_new_instance_of_nothing_begins_at_nothing(client: bigquery.Client, emulator: Emulator) -> None:
    """It makes the tables, and has no cursor; so does the next."""
    for _ in range(2):
        with direct(client, emulator) as instance:
            assert instance.persistence.store.cursor() is None
            assert instance.persistence.store.network is None


async def test_a_block_waits_for_a_warehouse_that_is_away(tmp_path: Path) -> None:
    """It fails, as what may pass; given again, it succeeds, and every row of it is there once. So does a block that is
    taken back."""
    if not PROGRAM.exists():
        pytest.skip(ABSENT)
    mine = Emulator(tmp_path / "emulator")
    mine.start()
    client = mine.client("mine")
    all_steps = await steps(world(SOME).source)
    try:
        with direct(client, mine) as instance:
            await instance.take_all(*all_steps[:3])
            for step in (all_steps[3], all_steps[4]):
                mine.kill()
                failed = await instance.take(step)
                assert not failed.success
                assert "BigQuery can't" in (failed.error or "")
                assert (await instance.persistence.persist_signals([], "run")).transient
                mine.start()
                async with asyncio.timeout(60):
                    while not (await instance.take(step)).success:  # noqa: ASYNC110 nobody tells
                        await asyncio.sleep(0.2)
                everything_is_there_once(instance.persistence.store, mine.warehouse("mine"))
    finally:
        mine.stop()
        client.close()


async def test_what_is_away_may_pass(tmp_path: Path) -> None:
    """A beginning without BigQuery fails at once, as what may pass, and leaves nothing open."""
    gone = Emulator(tmp_path)
    with closing(gone.client("nobody")) as client, pytest.raises(WarehouseUnavailable):
        SignalPersistenceModule(bigquery_client=client, storage_endpoint=gone.storage)


# A new disk


def ship(store: SqliteStore, warehouse: BigQueryWarehouse, streams: WriteStreams) -> None:
    shipment = Shipment(store.database, store.outbox, warehouse, streams)
    while shipment.send(batch_rows=200):
        pass


async def test_a_new_store_goes_on_shipping(
    warehouse: BigQueryWarehouse, streams: WriteStreams, undisturbed: SqliteStore, tmp_path: Path
) -> None:
    """Restored from the warehouse in the middle of a reorg, it follows the chain to its tip, and the warehouse has all
    of it once."""
    all_steps = await steps(world(SOME).source)
    with SqliteStore(tmp_path / "lost.db") as lost:
        lost.outbox.open(warehouse.name)
        with Instance(SignalPersistenceModule(store=lost)) as first:
            await first.take_all(*all_steps[:18])
        ship(lost, warehouse, streams)
        cursor = lost.cursor()
    with SqliteStore(tmp_path / "new.db") as new:
        assert restore(new, warehouse) == (cursor.block_hash, cursor.height)
        assert (new.cursor(), new.network, new.outbox.lag().rows) == (cursor, "simulated", 0)
        with Instance(SignalPersistenceModule(store=new)) as second:
            await second.take_all(*[step async for step in world(SOME).source.follow(cursor)])
        assert new.outbox.lag().rows > 0
        ship(new, warehouse, streams)
        same_as(new, warehouse)
    same_as(undisturbed, warehouse)


@pytest.mark.parametrize("relation", [place for place, _ in PLACES.values()])
def test_a_restored_store_is_the_store(
    emulator: Emulator, filled: tuple[Path, BigQueryWarehouse], tmp_path: Path, relation: str
) -> None:
    """Row by row, but for the numbers of rows."""
    path, warehouse = filled
    with SqliteStore(path) as before, SqliteStore(tmp_path / "restored.db") as after:
        restore(after, warehouse)
        sql = f"SELECT * FROM {relation} ORDER BY rowid"
        here, there = ([{k: row[k] for k in row.keys() if k != "seq"} for row in one.database.query(sql)]  # noqa: SIM118
                       for one in (before, after))  # fmt: skip
        assert sorted(map(without_order, there)) == sorted(map(without_order, here)) != []


def without_order(row: dict[str, Any]) -> str:
    """Comparable, JSON in one order."""
    read = {k: json.loads(v) if isinstance(v, str) and v[:2] in ('{"', "[]", "[{", "{}") else v for k, v in row.items()}
    return json.dumps(read, sort_keys=True, default=bytes.hex)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, emulator: Emulator) -> Iterator[tuple[Path, BigQueryWarehouse]]:
    """A store with rows for every table, and its warehouse."""
    path = tmp_path_factory.mktemp("filled") / "store.db"
    warehouse, streams = emulator.warehouse("filled"), emulator.streams("filled")
    warehouse.migrate()
    with SqliteStore(path) as store:
        fill(store)
        amend(store)
        store.outbox.open(warehouse.name)
        ship(store, warehouse, streams)
    yield path, warehouse
    streams.close()
    warehouse.client.close()


def test_the_command_restores_a_new_store(
    emulator: Emulator, filled: tuple[Path, BigQueryWarehouse], tmp_path: Path
) -> None:
    """`utxoiq ship` of a store that is not there yet: it begins where the warehouse is, and sends nothing again."""
    path, warehouse = filled
    variables = {"UTXOIQ_WAREHOUSE__PROJECT": "filled", "UTXOIQ_WAREHOUSE__ENDPOINT": emulator.url,
                 "UTXOIQ_WAREHOUSE__STORAGE_ENDPOINT": emulator.storage}  # fmt: skip
    before = len(raw(warehouse, "signals"))
    ran = utxoiq("ship", "--once", "--db", f"sqlite:///{tmp_path}/new.db", folder=tmp_path, **variables)
    assert (ran.code, ran.out) == (0, "0 rows shipped to filled\n"), ran.err
    with SqliteStore(tmp_path / "new.db") as new, SqliteStore(path) as old:
        assert new.cursor() == old.cursor()
    assert len(raw(warehouse, "signals")) == before


def test_a_store_that_was_filled_in_is_no_new_one(emulator: Emulator, project: str, tmp_path: Path) -> None:
    """It follows nothing yet, so has no tip: what a backfill put there is shipped, and nothing is laid over it."""
    old, early = chain().trunk[3], chain().trunk[0]
    variables = {"UTXOIQ_WAREHOUSE__PROJECT": project, "UTXOIQ_WAREHOUSE__ENDPOINT": emulator.url,
                 "UTXOIQ_WAREHOUSE__STORAGE_ENDPOINT": emulator.storage}  # fmt: skip
    for name, data in (("followed", old), ("filled", early)):
        with SqliteStore(tmp_path / name) as store:
            if name == "followed":
                store.connect(record(data))
            else:
                store.fill(replace(record(data), cursor=None), Backfilled("work", (), True, 1, 1, 0))
        ran = utxoiq("ship", "--once", "--db", f"sqlite:///{tmp_path / name}", folder=tmp_path, **variables)
        assert (ran.code, ran.out) == (0, f"3 rows shipped to {project}\n"), ran.err
    with SqliteStore(tmp_path / "filled") as store:
        assert (store.cursor(), store.connected_range()) == (None, (early.height, early.height))
    warehouse = emulator.warehouse(project)
    assert {row["block_hash"] for row in raw(warehouse, "blocks")} == {str(old.block_hash), str(early.block_hash)}
    warehouse.client.close()


def test_nothing_is_restored_from_nothing(emulator: Emulator, project: str, store: SqliteStore) -> None:
    """The tables alone have no tip."""
    warehouse = emulator.warehouse(project)
    warehouse.migrate()
    assert restore(store, warehouse) is None
    assert (store.cursor(), store.outbox.destination) == (None, None)
    warehouse.client.close()


def test_the_world_has_what_is_tested() -> None:
    """A reorg of two after sixteen blocks."""
    told = asyncio.run(steps(world(SOME).source))
    gone = [n for n, step in enumerate(told) if isinstance(step, Disconnected)]
    assert (gone, BLOCKS > SOME) == (list(range(18, 18 + STALE)), True)
