"""A store begun by the first version opens today: nothing of it is lost, and it goes on."""

from __future__ import annotations

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from persistence.records import TABLES, chain, record, rows, run, told
from pipeline.simulated import world
from utxoiq.errors import StoreError
from utxoiq.models import MempoolSnapshot
from utxoiq.persistence import SignalPersistenceModule, SqliteStore, reads
from utxoiq.persistence.schema import SCHEMA_VERSION
from utxoiq.pipeline import PipelineOrchestrator
from utxoiq.processors.discovery import discover

SCHEMA_1 = Path(__file__).with_name("schema_1.sql")
NEW_FACTS = ("package_feerate_p5_kvb", "large_coins")
"""What facts of version 1 did not have."""


def make_old(path: Path, recent: Path) -> None:
    """A store as the first version left it, with what the store at `recent` has, as far as that version knew it."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(SCHEMA_1.read_text("utf-8"))
        connection.execute("ATTACH ? AS recent", (str(recent),))
        for table in TABLES:
            connection.execute(f"INSERT INTO main.{table} SELECT * FROM recent.{table}")
        old = []
        for seq, text in connection.execute("SELECT seq, facts FROM main.facts").fetchall():
            facts = {name: value for name, value in json.loads(text).items() if name not in NEW_FACTS}
            old.append((json.dumps({**facts, "facts_version": 1}), seq))
        connection.executemany("UPDATE main.facts SET facts = ?, facts_version = 1 WHERE seq = ?", old)
    finally:
        connection.close()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """An old store of six blocks, one of them taken back, with signals and insights."""
    recent = tmp_path / "recent.db"
    with SqliteStore(recent) as store:
        for i, data in enumerate(chain().trunk):
            store.connect(told(data, i, i + 1))
        store.connect(told(chain().stale[0], 99))
        store.disconnect(str(chain().stale[0].block_hash), "run")
    path = tmp_path / "old.db"
    make_old(path, recent)
    return path


def schema(path: Path) -> dict[str, str]:
    return {
        name: " ".join(sql.split()) for name, sql in run(path, "SELECT name, sql FROM sqlite_schema WHERE sql > ''")
    }


def test_the_old_schema_is_what_it_was(old: Path) -> None:
    """Version 1, ours, and without the tables of today."""
    assert run(old, "PRAGMA user_version") == [(1,)]
    assert "mempool_snapshots" not in schema(old)
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


def test_its_facts_can_be_read(old: Path) -> None:
    """What they did not tell then is unknown, not an error."""
    with SqliteStore(old) as store:
        window = store.window(str(chain().trunk[-1].block_hash), 99)
    assert [facts.blockhash for facts in window] == [str(data.block_hash) for data in chain().trunk]
    assert {facts.facts_version for facts in window} == {1}
    assert all(facts.package_feerate_p5_kvb is None and facts.large_coins is None for facts in window)


async def test_the_pipeline_goes_on_from_it(old: Path) -> None:
    """A window of old facts before a new block: processed like any other."""
    with SqliteStore(old) as store:
        orchestrator = PipelineOrchestrator(discover(), SignalPersistenceModule(store=store), labels=world(12).labels)
        for data in chain().winning:
            result = await orchestrator.process_new_block(data)
            assert result.success, result.error
        orchestrator.close()
        assert store.cursor() is not None


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


def test_an_upgrade_that_is_interrupted_is_none(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it in one transaction: where it fails in the middle the store is as it was, and opens the next time."""
    from utxoiq.persistence import database

    before, was = rows(old), schema(old)
    with monkeypatch.context() as patch:
        patch.setattr(database, "SCHEMA", database.SCHEMA + "CREATE TABLE broken (;")
        with pytest.raises(StoreError):
            SqliteStore(old)
    assert (rows(old), schema(old), run(old, "PRAGMA user_version")) == (before, was, [(1,)])
    SqliteStore(old).close()
    assert rows(old) == before


def test_a_reader_of_an_old_store_writes_nothing_twice(old: Path) -> None:
    """A block that is there already, given again by today's code: no second row of facts, no event."""
    before: dict[str, list[tuple[Any, ...]]] = rows(old)
    with SqliteStore(old) as store:
        assert store.connect(record(chain().trunk[-1])) == 0
    assert rows(old) == before
