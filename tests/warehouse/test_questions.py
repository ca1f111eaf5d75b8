"""The ten questions asked of BigQuery say what they say of the store that was shipped there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from helpers.emulator import Emulator
from persistence.recount import Kinds, answers, handmade_store, simulated_store
from utxoiq.errors import WarehouseError
from utxoiq.persistence import SqliteStore
from utxoiq.persistence.questions import answer, answer_from, questions
from utxoiq.persistence.warehouse.bigquery import BigQueryWarehouse
from utxoiq.persistence.warehouse.shipping import Shipment
from utxoiq.persistence.warehouse.streams import WriteStreams
from utxoiq.persistence.warehouse.tables import BY_NAME
from utxoiq.persistence.warehouse.wire import parquet

pytestmark = pytest.mark.warehouse

ALWAYS = date(2009, 1, 3), date(2100, 1, 1)
NAMES = [one.name for one in questions()]
MAKERS = {"simulated": simulated_store, "by hand": handmade_store}


class Shipped(NamedTuple):
    """A store, its labelled entities, and the warehouse that has all of both."""

    path: Path
    kinds: Kinds
    warehouse: BigQueryWarehouse


@pytest.fixture(scope="module", params=MAKERS)
def shipped(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, emulator: Emulator
) -> Iterator[Shipped]:
    project = f"questions-{request.param.replace(' ', '-')}"
    warehouse, streams = emulator.warehouse(project), emulator.streams(project)
    warehouse.migrate()
    path = tmp_path_factory.mktemp("shipped") / "store.db"
    kinds = MAKERS[request.param](path)
    load_entities(warehouse, kinds)
    ship(path, warehouse, streams)
    yield Shipped(path, kinds, warehouse)
    streams.close()


def ship(path: Path, warehouse: BigQueryWarehouse, streams: WriteStreams) -> None:
    """All that the store holds, as one load."""
    with SqliteStore(path) as store:
        waiting = store.outbox.open(warehouse.name)
        assert Shipment(store.database, store.outbox, warehouse, streams).send(bulk_rows=waiting) == waiting


def load_entities(
    warehouse: BigQueryWarehouse, kinds: Kinds, version: str = "test", hour: int = 1, lines: int | None = None
) -> None:
    """One edition of the labels, of which `lines` would be all."""
    table, at = BY_NAME["known_entities"], datetime(2026, 1, 5, hour, tzinfo=UTC)
    rows = [
        {"day": at.date(), "labels_version": version, "line": line, "lines": lines or len(kinds), "entity": who,
         "name": name, "kind": kind, "ticker": None, "text": "{}", "recorded_at": at}
        for line, (who, (kind, name)) in enumerate(kinds.items())
    ]  # fmt: skip
    warehouse.load(table, parquet(table, rows), f"entities-{version}")


@pytest.mark.parametrize("name", NAMES)
def test_both_say_the_same(shipped: Shipped, name: str) -> None:
    """And what a recount gives."""
    entities = [(who, *told) for who, told in shipped.kinds.items()]
    with SqliteStore(shipped.path) as store:
        of_store = answer(store, name, *ALWAYS, entities)
    of_warehouse = answer_from(shipped.warehouse, name, *ALWAYS)
    assert of_warehouse == of_store == answers(shipped.path, shipped.kinds)[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_days_are_a_filter(shipped: Shipped, name: str) -> None:
    """Of one day only its rows come; without the filter the warehouse refuses."""
    rows = answer_from(shipped.warehouse, name, *ALWAYS)
    if rows:
        day = rows[-1]["day"]
        only = date.fromisoformat(day)
        assert answer_from(shipped.warehouse, name, only, only) == [row for row in rows if row["day"] == day]
    with pytest.raises(WarehouseError, match="must say"):
        list(shipped.warehouse.query(f"SELECT * FROM intel.{name}", *ALWAYS))


def test_a_row_that_arrived_twice_counts_once(warehouse: BigQueryWarehouse, streams: WriteStreams, path: Path) -> None:
    """Everything is loaded a second time, as after a store that was restored."""
    kinds = handmade_store(path)
    load_entities(warehouse, kinds)
    ship(path, warehouse, streams)
    once = {name: answer_from(warehouse, name, *ALWAYS) for name in NAMES}
    with SqliteStore(path) as store:
        waiting = store.outbox.reopen(warehouse.name)
        assert Shipment(store.database, store.outbox, warehouse, streams).send(bulk_rows=waiting) == waiting
    assert {name: answer_from(warehouse, name, *ALWAYS) for name in NAMES} == once


def test_the_newest_whole_edition_of_the_labels_counts(
    warehouse: BigQueryWarehouse, streams: WriteStreams, path: Path
) -> None:
    """One that has not arrived whole does not."""
    kinds = handmade_store(path)
    ship(path, warehouse, streams)
    load_entities(warehouse, {**kinds, "hoard": ("exchange", "Once a Market")}, "older", 1)
    load_entities(warehouse, kinds, "newer", 2)
    load_entities(warehouse, {"hoard": ("mining_pool", "Not all of it")}, "half", 3, lines=2)
    expected = answers(path, kinds)
    for name in ("treasury_changes", "exchange_net_flow_by_day"):
        assert answer_from(warehouse, name, *ALWAYS) == expected[name]
