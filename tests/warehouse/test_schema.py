"""The tables and views of the warehouse: made, found again, extended, and never taken from another program."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.cloud import bigquery

from cli.command import utxoiq
from helpers.emulator import Emulator
from utxoiq.errors import WarehouseError
from utxoiq.persistence.questions import questions
from utxoiq.persistence.warehouse.bigquery import BigQueryWarehouse, views
from utxoiq.persistence.warehouse.tables import BY_NAME, TABLES, Table
from utxoiq.persistence.warehouse.wire import parquet
from warehouse.compared import raw

pytestmark = pytest.mark.warehouse

KINDS = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}


def test_what_is_missing_is_made_once(emulator: Emulator, project: str) -> None:
    """On nothing both datasets, every table and every view; the second time nothing at all."""
    warehouse = emulator.warehouse(project)
    assert warehouse.missing() == [table.path for table in TABLES]
    done = warehouse.migrate()
    assert done[:2] == ["dataset intel", "dataset btc"]
    assert done[2 : 2 + len(TABLES)] == [f"table {table.path}" for table in TABLES]
    assert done[2 + len(TABLES) :] == [f"view {name}" for name, _ in views()]
    assert warehouse.missing() == []
    assert warehouse.migrate() == []


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_tables_are_as_told(warehouse: BigQueryWarehouse, table: Table) -> None:
    """Partitioned by day, clustered, each column of its type, required where it is never null."""
    there = warehouse.client.get_table(warehouse.path(table))
    assert (there.time_partitioning.type_, there.time_partitioning.field) == ("DAY", "day")
    assert there.clustering_fields == list(table.cluster)
    fields = [(field.name, KINDS.get(field.field_type, field.field_type), field.mode) for field in there.schema]
    assert fields == [(c.name, c.kind, "REQUIRED" if c.required else "NULLABLE") for c in table.columns]


def test_what_is_a_json_in_the_store_is_one_there() -> None:
    """Metadata, evidence and the rest can be asked into, not only read."""
    kinds = {column.name: column.kind for column in BY_NAME["signals"].columns}
    assert {kinds[name] for name in ("metadata", "evidence", "confidence_basis", "inputs")} == {"JSON"}


def test_every_view_can_be_asked(warehouse: BigQueryWarehouse) -> None:
    """Each answers with columns; the questions made from them have tests of their own."""
    for name, _ in views():
        if name.split(".")[1] not in {question.name for question in questions()}:
            assert _columns_of(warehouse, name)


def _columns_of(warehouse: BigQueryWarehouse, name: str) -> list[str]:
    rows = warehouse.client.query_and_wait(f"SELECT * FROM `{warehouse._named(name)}` LIMIT 0")
    return [field.name for field in rows.schema]


def test_a_view_of_another_text_is_put_right(warehouse: BigQueryWarehouse) -> None:
    """As after an upgrade: that one alone."""
    old = bigquery.Table(f"{warehouse.client.project}.intel.signal_state")
    old.view_query, old.labels = "SELECT 1 AS nothing", {"app": "utxoiq", "text": "older"}
    warehouse.client.update_table(old, ["view_query", "labels"])
    assert _columns_of(warehouse, "intel.signal_state") == ["nothing"]
    assert warehouse.migrate() == ["view intel.signal_state"]
    assert "retraction_reason" in _columns_of(warehouse, "intel.signal_state")


def test_a_column_that_lacks_is_added(emulator: Emulator, project: str) -> None:
    """It may be null, as it must be in rows of before; what was there stays as it was. (That rows go on this emulator
    can't show: it tells the new columns and does not make them.)"""
    warehouse, table = emulator.warehouse(project), BY_NAME["signal_events"]
    columns = [bigquery.SchemaField("day", "DATE", "REQUIRED"), bigquery.SchemaField("signal_id", "STRING", "REQUIRED")]
    warehouse.client.create_dataset(f"{project}.intel")
    warehouse.client.create_table(bigquery.Table(warehouse.path(table), schema=columns))
    lacking = [f"intel.signal_events.{column.name}" for column in table.columns[2:]]
    assert warehouse.missing()[1 : 1 + len(lacking)] == lacking
    assert [done for done in warehouse.migrate() if done.startswith("column")] == [f"column {one}" for one in lacking]
    assert warehouse.missing() == []
    there = warehouse.client.get_table(warehouse.path(table)).schema
    assert [(field.name, field.mode) for field in there] == [
        (column.name, "REQUIRED" if column.name in ("day", "signal_id") else "NULLABLE") for column in table.columns
    ]
    assert warehouse.migrate() == []


def test_a_column_of_another_type_is_refused(emulator: Emulator, project: str) -> None:
    """Said with a way out; the table stays as it was."""
    warehouse, table = emulator.warehouse(project), BY_NAME["blocks"]
    warehouse.client.create_dataset(f"{project}.btc")
    mine = [bigquery.SchemaField("day", "DATE"), bigquery.SchemaField("block_height", "STRING")]
    warehouse.client.create_table(bigquery.Table(warehouse.path(table), schema=mine))
    with pytest.raises(WarehouseError, match=r"block_height is STRING there, INTEGER here.*warehouse.prefix"):
        warehouse.migrate()
    there = warehouse.client.get_table(warehouse.path(table))
    assert [field.name for field in there.schema] == ["day", "block_height"]


def test_a_prefix_keeps_two_apart(emulator: Emulator, project: str, warehouse: BigQueryWarehouse) -> None:
    """In one project: each has its own name, its own tables, and its own rows."""
    other = BigQueryWarehouse(emulator.client(project), prefix="other_")
    assert other.missing() == [table.path for table in TABLES]
    other.migrate()
    assert other.name != warehouse.name
    table, at = BY_NAME["signal_events"], datetime(2026, 1, 5, tzinfo=UTC)
    row = {"day": at.date(), "signal_id": "one", "event": "retracted", "reason": "a test", "superseded_by": None,
           "seq": 1, "correlation_id": "run", "recorded_at": at}  # fmt: skip
    other.load(table, parquet(table, [row]), "one")
    assert raw(other, "signal_events") == [row]
    assert raw(warehouse, "signal_events") == []
    names = {dataset.dataset_id for dataset in warehouse.client.list_datasets()}
    assert names == {"intel", "btc", "other_intel", "other_btc"}


def settings(emulator: Emulator, project: str, **more: str) -> dict[str, str]:
    told = {"project": project, "endpoint": emulator.url, "storage_endpoint": emulator.storage, **more}
    return {f"UTXOIQ_WAREHOUSE__{name.upper()}": value for name, value in told.items()}


def test_the_command_makes_them(emulator: Emulator, project: str, tmp_path: Path) -> None:
    """`utxoiq store migrate` says what it did; again it says that there was nothing to do, in JSON too."""
    variables = settings(emulator, project, prefix="mine_")
    first = utxoiq("store", "migrate", folder=tmp_path, **variables)
    assert (first.code, first.err) == (0, "")
    assert {"dataset intel", "table btc.facts", "view intel.current_signals"} <= set(first.out.splitlines())
    assert BigQueryWarehouse(emulator.client(project), prefix="mine_").missing() == []
    again = utxoiq("store", "migrate", "--json", folder=tmp_path, **variables)
    assert (again.code, again.rows) == (0, [{"warehouse": f"bigquery:{project}/mine_", "done": []}])


def test_the_command_says_what_is_wrong(emulator: Emulator, project: str, tmp_path: Path) -> None:
    """No project; nobody at the address: one line, without a traceback."""
    nowhere = utxoiq("store", "migrate", folder=tmp_path)
    assert nowhere.code != 0
    assert "warehouse.project" in nowhere.err
    unreachable = utxoiq(
        "store", "migrate", folder=tmp_path, **settings(emulator, project) | {
            "UTXOIQ_WAREHOUSE__ENDPOINT": "http://127.0.0.1:9"
        },
    )  # fmt: skip
    assert unreachable.code == 1
    assert "BigQuery can't be asked for its datasets" in unreachable.err
    assert "Traceback" not in unreachable.err
