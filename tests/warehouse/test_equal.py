"""The same scan in SQLite and in BigQuery: equal rows, column by column, whoever is asked."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from helpers.emulator import Emulator
from persistence.records import signal
from pipeline.simulated import STALE, blocks, query, world
from utxoiq.models import MempoolSnapshot
from utxoiq.persistence import SqliteStore
from utxoiq.persistence.warehouse.bigquery import BigQueryWarehouse
from utxoiq.persistence.warehouse.shipping import Shipment
from utxoiq.pipeline.scan import scan
from warehouse.compared import VERY_LARGE, asked, everything_is_there_once

pytestmark = [pytest.mark.warehouse, pytest.mark.slow]


class Both(NamedTuple):
    """A store, and the warehouse that was fed by it."""

    path: Path
    warehouse: BigQueryWarehouse


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory, emulator: Emulator) -> Iterator[Both]:
    """A scan of the simulated chain with all processors, and of its reorg; half followed, half shipped at the end."""
    path = tmp_path_factory.mktemp("equal") / "store.db"
    warehouse, streams = emulator.warehouse("equal"), emulator.streams("equal")
    warehouse.migrate()
    with SqliteStore(path) as store:
        store.outbox.open(warehouse.name)
        shipment = Shipment(store.database, store.outbox, warehouse, streams)
        done = asyncio.run(scan(world().source, store, labels=world().labels))
        assert (done.disconnected, store.cursor()) == (STALE, world().source.tip())
        amend(store)
        while shipment.send(batch_rows=900, bulk_rows=2_500):
            pass
        everything_is_there_once(store, warehouse)
    yield Both(path, warehouse)
    streams.close()


def amend(store: SqliteStore) -> None:
    """What a scan of the simulated chain does not lead to: mempools, a successor, dead letters, integers no float
    holds."""
    tip = asyncio.run(blocks(world().source))[-1]
    with store.database.transaction():
        for row in store.database.query("SELECT block_hash, prev_hash, time FROM blocks ORDER BY height LIMIT 20"):
            snapshot = MempoolSnapshot(row["time"], row["prev_hash"], 3, VERY_LARGE, 100, 100, None)
            known = {"snapshot_id": snapshot.snapshot_id, "taken_at": snapshot.taken_at, "tip": snapshot.tip}
            store.database.insert("mempool_snapshots", {**known, "snapshot": snapshot.as_dict()})
            audit = {"projected_fees": row["time"]} if row["time"] % 2 else None
            told = {"block_hash": row["block_hash"], "snapshot_id": snapshot.snapshot_id, "audit": audit}
            store.database.insert("block_snapshots", {**told, "recorded_at": 1_700_000_000})
    old, new = signal(tip, VERY_LARGE, subject="ünïcode ₿ 'quoted'"), signal(tip, "another", subject="ünïcode")
    store.persist_signals([old], "later")
    store.supersede(old.signal_id, new, [], "a test", "later")
    with store.database.transaction():
        dead = {"signal_id": new.signal_id, "event": "dead", "reason": "no words", "correlation_id": "later"}
        store.database.insert("narration_events", {**dead, "recorded_at": 1_700_000_001})


# Both in one spelling. None of it is the code that ships.

AS_TIMES = {"time", "created_at", "recorded_at", "taken_at", "processed_at", "retracted_at", "since"}
AS_FLAGS = {"simulated", "grounded", "processed"}
AS_JSON = {"confidence_basis", "metadata", "evidence", "inputs", "facts", "flows", "snapshot", "audit"}


def of_store(row: dict[str, Any], block_time: int) -> dict[str, Any]:
    def value(name: str) -> Any:
        found = row[name]
        if found is None:
            return None
        if name in AS_TIMES:
            return datetime.fromtimestamp(found, UTC)
        if name in AS_JSON:
            return json.loads(found)
        return bool(found) if name in AS_FLAGS else found

    return {"day": datetime.fromtimestamp(block_time, UTC).date(), **{name: value(name) for name in row}}


def sqlite_rows(path: Path, sql: str) -> list[dict[str, Any]]:
    """Rows, with `block_time` for the day they are about."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    try:
        found = [{name: row[name] for name in row.keys()} for row in connection.execute(sql)]  # noqa: SIM118
    finally:
        connection.close()
    return [of_store(row, row.pop("block_time")) for row in found]


BLOCK = "JOIN blocks b USING (block_hash)"
OF_INSIGHTS = "JOIN insights i USING (insight_id) JOIN signals s USING (signal_id)"
OF_MEMPOOLS = "r.*, m.taken_at, m.snapshot, b.height AS block_height, b.time AS block_time"
OF_BLOCKS = (
    "b.block_hash, b.height AS block_height, b.prev_hash, 'simulated' AS network, b.source, b.time, b.simulated, "
    "lower(hex(b.header)) AS header, b.recorded_at, b.state, b.time AS block_time, "
    "(SELECT recorded_at FROM block_events e WHERE e.block_hash = b.block_hash ORDER BY seq DESC LIMIT 1) AS since"
)
SUMS = ", ".join(
    f"json_extract(flows, '$.{name}') AS {name}"
    for name in ("value_in", "value_in_labelled", "value_out", "value_out_labelled")
)
RELATIONS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "intel.signal_state": (
        "SELECT s.*, s.created_at AS block_time FROM signal_state s", "all", ("signal_id",)
    ),
    "intel.current_signals": (
        "SELECT s.*, s.created_at AS block_time FROM current_signals s", "all", ("signal_id",)
    ),
    "intel.insight_state": ("SELECT i.*, i.created_at AS block_time FROM insight_state i", "all", ("insight_id",)),
    "intel.current_insights": (
        "SELECT i.*, i.created_at AS block_time FROM current_insights i", "all", ("insight_id",)
    ),
    "btc.block_state": (
        f"SELECT {OF_BLOCKS} FROM block_state b", "all", ("block_hash",)
    ),
    "btc.current_flows": (
        f"SELECT f.*, {SUMS}, b.height AS block_height, b.time AS block_time FROM current_flows f {BLOCK}",
        "all", ("block_hash",)
    ),
    "btc.current_facts": (
        f"SELECT f.*, b.height AS block_height, b.time, b.simulated, b.time AS block_time FROM current_facts f {BLOCK}",
        "some", ("block_hash",)
    ),
    "intel.current_forecasts": (f"SELECT f.*, b.time AS block_time FROM forecasts f {BLOCK}", "all", ("forecast_id",)),
    "btc.current_mempools": (
        ("SELECT r.*, m.taken_at, m.snapshot, b.height AS block_height, b.time AS block_time "
         f"FROM block_snapshots r JOIN mempool_snapshots m USING (snapshot_id) {BLOCK}"), "all", ("block_hash",)
    ),
    "intel.signal_events": (
        f"SELECT e.*, b.time AS block_time FROM signal_events e JOIN signals s USING (signal_id) {BLOCK}", "all",
        ("seq",)
    ),
    "intel.narration_events": (
        f"SELECT e.*, b.time AS block_time FROM narration_events e JOIN signals s USING (signal_id) {BLOCK}", "all",
        ("seq",)
    ),
    "intel.insight_events": (
        ("SELECT e.*, b.time AS block_time FROM insight_events e JOIN insights i USING (insight_id) "
         f"JOIN signals s USING (signal_id) {BLOCK}"), "all", ("seq",)
    ),
    "btc.block_events": (
        f"SELECT e.*, b.height AS block_height, b.time AS block_time FROM block_events e {BLOCK}", "all", ("seq",)
    ),
}  # fmt: skip
"""Relation of the warehouse -> the same of the store, whether that has all of its columns, and what names a row."""


@pytest.mark.parametrize("name", RELATIONS)
def test_rows_are_equal(both: Both, name: str) -> None:
    """As many, of the same names, and the same in every column; times, flags and JSON are what they are."""
    sql, columns, key = RELATIONS[name]
    here = {tuple(row[k] for k in key): row for row in sqlite_rows(both.path, sql)}
    rows = asked(both.warehouse, name)
    there = {tuple(row[k] for k in key): row for row in rows}
    assert len(there) == len(rows) > 0, "one row an id"
    assert set(there) == set(here)
    for named, row in here.items():
        if columns == "all":
            assert set(there[named]) == set(row)
        assert {name: there[named][name] for name in row} == row


def test_every_fact_has_its_value_in_a_column(both: Both) -> None:
    """Those with a column of their own are as in the JSON beside them, which is the store's."""
    for row in asked(both.warehouse, "btc.current_facts"):
        plain = {name: value for name, value in row["facts"].items() if name in row and name not in ("facts", "time")}
        assert len(plain) > 20
        assert {name: row[name] for name in plain} == plain


def test_entity_flows_are_those_of_the_blocks(both: Both) -> None:
    """A row for each entity that a block's flows name, with its amounts; and none for any other."""
    here = {}
    for row in query(both.path, "SELECT block_hash, flows FROM current_flows"):
        for entity, flow in json.loads(row["flows"])["entities"].items():
            here[row["block_hash"], entity] = {"departed" if k == "left" else k: v for k, v in flow.items()}
    rows = asked(both.warehouse, "btc.current_entity_flows")
    there = {(row["block_hash"], row["entity"]): row for row in rows}
    assert len(rows) == len(there) > 100
    assert set(there) == set(here)
    for name, amounts in here.items():
        told = {k: v for k, v in amounts.items() if k in there[name]}
        assert len(told) >= 5
        assert {k: there[name][k] for k in told} == told


def test_what_was_taken_back_is_taken_back_there(both: Both) -> None:
    """With the reason and the successor; processed where there are words, or will be none."""
    rows = asked(both.warehouse, "intel.signal_state")
    assert [row for row in rows if row["retraction_reason"] == "its block was disconnected from the best chain"]
    (replaced,) = [row for row in rows if row["retraction_reason"] == "a test"]
    assert replaced["superseded_by"] is not None
    assert replaced["metadata"] == {"value": VERY_LARGE}
    (successor,) = [row for row in rows if row["signal_id"] == replaced["superseded_by"]]
    assert successor["processed"] is True
    assert successor["processed_at"] == datetime.fromtimestamp(1_700_000_001, UTC)


def test_days_are_those_of_the_blocks(both: Both) -> None:
    """In UTC: what the partitions are made of."""
    days = {row["block_hash"]: row["day"] for row in asked(both.warehouse, "btc.block_state")}
    for relation in ("intel.signals", "btc.facts", "btc.flows", "btc.block_events", "btc.entity_flows"):
        assert all(row["day"] == days[row["block_hash"]] for row in asked(both.warehouse, relation))
    assert len(set(days.values())) > 1
    assert all(isinstance(day, date) for day in days.values())
