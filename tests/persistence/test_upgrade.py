"""A store begun by an earlier version opens today: nothing of it is lost, and it goes on."""

from __future__ import annotations

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from persistence.records import NEWER, TABLES, chain, flows_of, forecast, record, rows, run, told
from pipeline.simulated import Always, world
from processors.chains import loose
from utxoiq.errors import StoreError
from utxoiq.models import MempoolSnapshot
from utxoiq.persistence import SignalPersistenceModule, SqliteStore, reads
from utxoiq.persistence.schema import SCHEMA_VERSION
from utxoiq.pipeline import PipelineOrchestrator
from utxoiq.processors.discovery import discover

NEW_FACTS = {1: ("package_feerate_p5_kvb", "large_coins"), 2: (), 3: ()}
"""What facts of each version did not have."""
LIVE = ("mempool_snapshots", "block_snapshots", "settings_events")
SPLIT = ("narration_events", "leases", "outbox", "shipping")
LACKED = {1: (*LIVE, *NEWER, *SPLIT), 2: (*NEWER, *SPLIT), 3: SPLIT}
"""Tables that each version did not have."""


def make_old(path: Path, recent: Path, version: int) -> None:
    """A store as that version left it, with what the store at `recent` has, as far as that version knew it."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(Path(__file__).with_name(f"schema_{version}.sql").read_text("utf-8"))
        connection.execute("ATTACH ? AS recent", (str(recent),))
        for table in (*TABLES, *(NEWER if version == 3 else ())):
            connection.execute(f"INSERT INTO main.{table} SELECT * FROM recent.{table}")
        old = []
        for seq, text in connection.execute("SELECT seq, facts FROM main.facts").fetchall():
            facts = {name: value for name, value in json.loads(text).items() if name not in NEW_FACTS[version]}
            for one in (facts["large_transfers"] or ()) if version < 3 else ():
                del one["inputs"], one["outputs"]
            old.append((json.dumps({**facts, "facts_version": version}), version, seq))
        connection.executemany("UPDATE main.facts SET facts = ?, facts_version = ? WHERE seq = ?", old)
    finally:
        connection.close()


@pytest.fixture(params=[1, 2, 3])
def version(request: pytest.FixtureRequest) -> int:
    """Of the old store's schema and facts."""
    return int(request.param)


@pytest.fixture
def old(tmp_path: Path, version: int) -> Path:
    """An old store of nine blocks, one of them taken back, with signals and insights."""
    recent = tmp_path / "recent.db"
    with SqliteStore(recent) as store:
        for i, data in enumerate(chain().trunk):
            store.connect(told(data, i, i + 1))
        store.connect(told(chain().stale[0], 99))
        store.disconnect(str(chain().stale[0].block_hash), "run")
    path = tmp_path / "old.db"
    make_old(path, recent, version)
    return path


def schema(path: Path) -> dict[str, str]:
    return {
        name: " ".join(sql.split()) for name, sql in run(path, "SELECT name, sql FROM sqlite_schema WHERE sql > ''")
    }


def test_the_old_schema_is_what_it_was(old: Path, version: int) -> None:
    """Of its version, ours, and without the tables of today."""
    assert run(old, "PRAGMA user_version") == [(version,)]
    assert not {*LACKED[version]} & set(schema(old))
    assert not [name for name in schema(old) if name.startswith("ship_")]
    assert len(rows(old)["blocks"]) == len(chain().trunk) + 1


def test_opening_loses_no_row(old: Path) -> None:
    """Every row of every table is as before, the views say the same; opened again nothing changes."""
    before = rows(old)
    views = ("block_state", "current_facts", "signal_state", "insight_state", "current_signals", "current_insights")
    seen = {view: run(old, f"SELECT * FROM {view}") for view in views}
    for _ in range(2):
        with SqliteStore(old) as store:
            cursor = store.cursor()
        assert rows(old) == before
        assert {view: run(old, f"SELECT * FROM {view}") for view in views} == seen
    assert cursor is not None
    assert cursor.block_hash == str(chain().trunk[-1].block_hash)


def test_it_has_the_schema_of_today(old: Path, tmp_path: Path) -> None:
    """Table by table and view by view what a new store has."""
    SqliteStore(old).close()
    SqliteStore(tmp_path / "new.db").close()
    assert schema(old) == schema(tmp_path / "new.db")
    assert run(old, "PRAGMA user_version") == [(SCHEMA_VERSION,)]


def test_it_goes_on(old: Path) -> None:
    """Blocks, reorgs, snapshots, settings."""
    snapshot = MempoolSnapshot(1, "00" * 32, 0, 0, 100, 100, None)
    with SqliteStore(old) as store:
        for data in chain().winning:
            store.connect(told(data, 1))
        store.disconnect(str(chain().winning[-1].block_hash), "run")
        assert store.add_snapshot(snapshot) == 1
        store.add_settings("applied", {}, [], "start")
        assert reads.mempool(store) is not None
        assert len(reads.signals(store, 99)) == 2 * len(chain().trunk) + len(chain().winning) - 1


def test_its_facts_can_be_read(old: Path, version: int) -> None:
    """What they did not tell then is unknown, not an error; of flows nothing is known."""
    with SqliteStore(old) as store:
        window = store.window(str(chain().trunk[-1].block_hash), 99)
    assert [row.facts.blockhash for row in window] == [str(data.block_hash) for data in chain().trunk]
    assert {row.facts.facts_version for row in window} == {version}
    assert {row.facts.large_coins is None for row in window} == {version == 1}
    assert {(row.flows, row.mempool) for row in window} == {(None, None)}


def test_flows_and_forecasts_begin_with_the_next_block(old: Path) -> None:
    """Stored and read beside the facts of before."""
    first = chain().winning[0]
    with SqliteStore(old) as store:
        store.connect(replace(record(first), flows=flows_of(first), forecasts=(forecast(first),)))
        *before, newest = store.window(str(first.block_hash), 99)
    assert newest.flows == flows_of(first).sums()
    assert {row.flows for row in before} == {None}
    assert {table: len(each) for table, each in rows(old, NEWER).items()} == {"flows": 1, "forecasts": 1}


def test_what_version_3_had_of_flows_and_forecasts_is_kept(tmp_path: Path) -> None:
    """Row by row, in the window too."""
    first, second = chain().trunk[:2]
    with SqliteStore(tmp_path / "recent.db") as store:
        for data in (first, second):
            store.connect(replace(record(data), flows=flows_of(data), forecasts=(forecast(data),)))
    make_old(tmp_path / "old.db", tmp_path / "recent.db", 3)
    before = rows(tmp_path / "old.db", NEWER)
    assert {table: len(each) for table, each in before.items()} == {"flows": 2, "forecasts": 2}
    with SqliteStore(tmp_path / "old.db") as store:
        window = store.window(str(second.block_hash), 9)
    assert rows(tmp_path / "old.db", NEWER) == before
    assert [row.flows for row in window] == [flows_of(first).sums(), flows_of(second).sums()]


async def test_the_pipeline_goes_on_from_it(old: Path) -> None:
    """A window of old facts before a new block: processed like any other, by all processors and those that take notice
    of little; its signals say that there were other versions."""
    with SqliteStore(old) as store:
        processors = [*discover(), *loose().values(), Always()]
        orchestrator = PipelineOrchestrator(processors, SignalPersistenceModule(store=store), labels=world(12).labels)
        for data in chain().winning:
            result = await orchestrator.process_new_block(data)
            assert result.success, result.error
            seen = next(s for s in result.signals if s.model_version == Always.model_version)
            assert "none" in seen.inputs["window"]["other_versions"]
        orchestrator.close()
        assert store.cursor() is not None
        assert rows(old, NEWER)["forecasts"]


def test_two_may_upgrade_it_at_once(old: Path) -> None:
    """A service and a person's shell, started together after an upgrade."""
    before, start = rows(old), Barrier(2)

    def open_it(_: int) -> str | None:
        start.wait()
        try:
            SqliteStore(old).close()
        except StoreError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(open_it, range(2))) == [None, None]
    assert rows(old) == before


def test_an_upgrade_that_is_interrupted_is_none(old: Path, version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it in one transaction: where it fails in the middle the store is as it was, and opens the next time."""
    from utxoiq.persistence import database

    before, was = rows(old), schema(old)
    with monkeypatch.context() as patch:
        patch.setattr(database, "SCHEMA", database.SCHEMA + "CREATE TABLE broken (;")
        with pytest.raises(StoreError):
            SqliteStore(old)
    assert (rows(old), schema(old), run(old, "PRAGMA user_version")) == (before, was, [(version,)])
    SqliteStore(old).close()
    assert rows(old) == before


def test_a_reader_of_an_old_store_writes_nothing_twice(old: Path) -> None:
    """A block that is there already, given again by today's code: no second row of facts, no event."""
    before: dict[str, list[tuple[Any, ...]]] = rows(old)
    with SqliteStore(old) as store:
        assert store.connect(record(chain().trunk[-1])) == 0
    assert rows(old) == before
