"""From the outbox into the warehouse: in order, in batches, every row once, wherever it is broken off."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.emulator import Emulator
from persistence.records import chain
from utxoiq.errors import WarehouseError, WarehouseUnavailable
from utxoiq.persistence import SqliteStore
from utxoiq.persistence.schema import SHIPPED
from utxoiq.persistence.warehouse.bigquery import BigQueryWarehouse
from utxoiq.persistence.warehouse.shipping import Shipment
from utxoiq.persistence.warehouse.streams import WriteStreams
from utxoiq.persistence.warehouse.tables import BY_NAME, Table
from utxoiq.persistence.warehouse.wire import serialized
from warehouse.compared import (
    amend,
    asked,
    everything_is_there_once,
    fill,
    raw,
    rich,
    spelt,
    stored,
    what_is_connected_is_whole,
)

pytestmark = pytest.mark.warehouse

NEVER = 10**9


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a reorg, shipped nowhere."""
    path = tmp_path_factory.mktemp("filled") / "store.db"
    with SqliteStore(path) as store:
        fill(store)
        amend(store)
    return path


@pytest.fixture
def full(filled: Path, path: Path) -> Iterator[SqliteStore]:
    """A copy of it."""
    shutil.copy(filled, path)
    with SqliteStore(path) as store:
        yield store


def ship(store: SqliteStore, warehouse: BigQueryWarehouse, streams: WriteStreams, **sizes: int) -> int:
    """All that waits: the rows sent."""
    shipment, total = Shipment(store.database, store.outbox, warehouse, streams), 0
    while sent := shipment.send(**sizes):
        total += sent
    return total


@pytest.mark.parametrize(
    "sizes", [{"batch_rows": 7}, {"batch_rows": 2000}, {"bulk_rows": 1}, {"bulk_rows": 60}], ids=str
)
def test_everything_arrives_once(
    warehouse: BigQueryWarehouse, streams: WriteStreams, full: SqliteStore, sizes: dict[str, int]
) -> None:
    """In small batches, in one, by load jobs alone, and by both."""
    waiting = full.outbox.open(warehouse.name)
    assert ship(full, warehouse, streams, **sizes) == waiting > 80
    everything_is_there_once(full, warehouse)
    assert ship(full, warehouse, streams, **sizes) == 0
    everything_is_there_once(full, warehouse)


def test_every_table_has_rows(full: SqliteStore) -> None:
    """Else the tests here show less than they say."""
    for relation in SHIPPED:
        assert stored(full, relation), relation


@pytest.mark.parametrize("batch_rows", [1, 10, 45])
@pytest.mark.parametrize("late", [False, True])
def test_what_is_connected_there_is_whole(
    warehouse: BigQueryWarehouse, streams: WriteStreams, store: SqliteStore, monkeypatch: pytest.MonkeyPatch,
    batch_rows: int, late: bool,
) -> None:  # fmt: skip
    """At every moment at which a block's event is there, all its other rows are; followed, or shipped afterwards."""
    append, looked = streams.append, 0

    def looking(table: Table, *rest: Any) -> None:
        nonlocal looked
        append(table, *rest)
        if table.name == "block_events":
            looked += 1
            if looked % 3 == 1:
                what_is_connected_is_whole(store, warehouse)

    monkeypatch.setattr(streams, "append", looking)
    if not late:
        store.outbox.open(warehouse.name)
    for data in chain().trunk[:5]:
        store.connect(rich(data))
    if late:
        store.outbox.open(warehouse.name)
    ship(store, warehouse, streams, batch_rows=batch_rows)
    assert looked >= 1
    what_is_connected_is_whole(store, warehouse)
    assert {row["event"] for row in raw(warehouse, "block_events")} == {"connected"}


def test_rows_go_in_order(
    warehouse: BigQueryWarehouse, streams: WriteStreams, full: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No batch larger than told; its relations in their order; each stream without a gap; the oldest first."""
    sent: list[tuple[str, str, int, int]] = []
    append = streams.append

    def keeping(table: Table, stream: str, offset: int, rows: Any) -> None:
        append(table, stream, offset, rows)
        sent.append((table.name, stream, offset, len(rows)))

    monkeypatch.setattr(streams, "append", keeping)
    full.outbox.open(warehouse.name)
    shipment, order = Shipment(full.database, full.outbox, warehouse, streams), list(SHIPPED)
    while True:
        begun = len(sent)
        count = shipment.send(batch_rows=25)
        if not count:
            break
        assert count <= 25
        positions = [order.index(name) for name, *_ in sent[begun:]]
        assert positions == sorted(set(positions))
    for relation in SHIPPED:
        mine = [one for one in sent if one[0] == relation]
        assert len({stream for _, stream, _, _ in mine}) == 1
        assert [offset for *_, offset, _ in mine] == [sum(rows for *_, rows in mine[:n]) for n in range(len(mine))]
    assert [row["seq"] for row in raw(warehouse, "block_events")] == [
        row["seq"] for row in stored(full, "block_events")
    ]


def test_the_place_is_saved_before_each_append(
    warehouse: BigQueryWarehouse, streams: WriteStreams, full: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name and offset are in the file when the server hears of them."""
    append, places = streams.append, 0

    def looking(table: Table, stream: str, offset: int, rows: Any) -> None:
        nonlocal places
        (saved,) = full.database.query("SELECT stream, next_offset FROM shipping WHERE relation = ?", table.name)
        assert tuple(saved) == (stream, offset)
        places += 1
        append(table, stream, offset, rows)

    monkeypatch.setattr(streams, "append", looking)
    full.outbox.open(warehouse.name)
    ship(full, warehouse, streams, batch_rows=30)
    assert places > len(SHIPPED)


# Broken off


class Killed(BaseException):
    """What nothing catches, as little as a kill."""


def relation_of(first: Any) -> str:
    """Of which relation a call is, by its first argument: a parcel, a table, or a name."""
    if isinstance(first, Table):
        return first.name
    if "/tables/" in str(first):
        return str(first).split("/tables/")[1].split("/")[0]
    if str(first).startswith("utxoiq_"):
        return str(first).removeprefix("utxoiq_").rsplit("_", 1)[0]
    return str(getattr(first, "relation", first))


class Breaking:
    """Ends with the first, third, fifth and seventh call for each relation, before or after it is done."""

    def __init__(self, after: bool) -> None:
        self._after = after
        self.ended: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def broken(first: Any, *rest: Any) -> Any:
            relation = relation_of(first)
            self._calls[relation] += 1
            ends = self._calls[relation] in (1, 3, 5, 7)
            self.ended[relation] += ends
            if ends and not self._after:
                raise Killed
            result = call(first, *rest)
            if ends:
                raise Killed
            return result

        return broken


def ship_through(
    store: SqliteStore, warehouse: BigQueryWarehouse, streams: WriteStreams, sizes: list[dict[str, int]]
) -> None:
    """Again and again, each time as after a new start, the sizes in turn."""
    for attempt in range(1000):
        try:
            if not Shipment(store.database, store.outbox, warehouse, streams).send(**sizes[attempt % len(sizes)]):
                return
        except (Killed, WarehouseUnavailable):
            pass
    raise AssertionError("it does not end")


ALL = 0
SIZES = {
    "streamed": [{"batch_rows": 70}],
    "loaded": [{"bulk_rows": ALL}],
    "by turns": [{"batch_rows": 50}, {"bulk_rows": 20}],
}
CALLS = {
    "begin": ("streamed", "loaded", "by turns"), "arrived": ("streamed", "loaded", "by turns"),
    "append": ("streamed", "by turns"), "create": ("streamed",), "missing_rows": ("streamed",),
    "load": ("loaded", "by turns"), "loaded": ("loaded",),
}  # fmt: skip


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(("name", "way"), [(name, way) for name, ways in CALLS.items() for way in ways])
def test_broken_off_anywhere_it_goes_on(
    warehouse: BigQueryWarehouse, streams: WriteStreams, full: SqliteStore, monkeypatch: pytest.MonkeyPatch,
    name: str, way: str, after: bool,
) -> None:  # fmt: skip
    """Before or after any step, of any table, when its stream was new and later: every row is there once."""
    breaking = Breaking(after)
    target = next(one for one in (full.outbox, streams, warehouse) if hasattr(one, name))
    if name == "loaded":  # asked only where a load was broken off
        monkeypatch.setattr(warehouse, "load", Breaking(after=True).wrap(warehouse.load))
    monkeypatch.setattr(target, name, breaking.wrap(getattr(target, name)))
    waiting = full.outbox.open(warehouse.name)
    sizes = [{name: size or waiting for name, size in some.items()} for some in SIZES[way]]
    ship_through(full, warehouse, streams, sizes)
    assert way == "by turns" or set(breaking.ended) == set(SHIPPED)
    assert sum(breaking.ended.values()) >= (2 if way == "by turns" else len(SHIPPED))
    assert full.outbox.lag().rows == 0
    everything_is_there_once(full, warehouse)


def test_a_load_that_went_through_is_not_done_again(
    warehouse: BigQueryWarehouse, streams: WriteStreams, full: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BigQuery knows jobs by their names (the emulator does not, so they are remembered here): it is asked before the
    rows themselves are."""
    done: set[str] = set()
    load = warehouse.load

    def remembering(table: Table, parquet: bytes, job_id: str) -> None:
        load(table, parquet, job_id)
        done.add(job_id)
        raise WarehouseUnavailable("no answer")

    def unasked(*_: Any) -> Any:
        raise AssertionError("the rows are asked for")

    monkeypatch.setattr(warehouse, "load", remembering)
    monkeypatch.setattr(warehouse, "loaded", done.__contains__)
    monkeypatch.setattr(warehouse, "missing_rows", unasked)
    waiting = full.outbox.open(warehouse.name)
    ship_through(full, warehouse, streams, [{"bulk_rows": waiting}])
    assert len(done) == len(SHIPPED)
    everything_is_there_once(full, warehouse)


def test_a_backlog_does_not_load_what_a_stream_may_have(
    warehouse: BigQueryWarehouse, streams: WriteStreams, full: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch whose append went unanswered goes on by its stream, though so much waits by now that all else is
    loaded."""
    full.outbox.open(warehouse.name)
    append = streams.append

    def unanswered(*arguments: Any) -> None:
        append(*arguments)
        raise WarehouseUnavailable("no answer")

    shipment = Shipment(full.database, full.outbox, warehouse, streams)
    shipment.send(batch_rows=40, bulk_rows=NEVER)
    with monkeypatch.context() as broken:
        broken.setattr(streams, "append", unanswered)
        with pytest.raises(WarehouseUnavailable):
            shipment.send(batch_rows=40, bulk_rows=NEVER)
    assert shipment.send(bulk_rows=50) <= 40
    ship(full, warehouse, streams, bulk_rows=50)
    everything_is_there_once(full, warehouse)


# Lost streams


def names_of_streams(store: SqliteStore) -> list[str]:
    return [row[0] for row in store.database.query("SELECT stream FROM shipping WHERE stream IS NOT NULL")]


@pytest.mark.parametrize("appended", [False, True])
def test_a_lost_stream_is_read_back(
    warehouse: BigQueryWarehouse, streams: WriteStreams, full: SqliteStore, monkeypatch: pytest.MonkeyPatch,
    appended: bool,
) -> None:  # fmt: skip
    """Its last batch had arrived or had not: the rows themselves tell, and a new stream takes the rest."""
    full.outbox.open(warehouse.name)
    shipment = Shipment(full.database, full.outbox, warehouse, streams)
    shipment.send(batch_rows=60, bulk_rows=NEVER)
    before = set(names_of_streams(full))
    with monkeypatch.context() as broken:
        broken.setattr(streams, "append", Breaking(appended).wrap(streams.append))
        for _ in range(4):
            with pytest.raises(Killed):
                shipment.send(batch_rows=150, bulk_rows=NEVER)
    for name in names_of_streams(full):
        streams.finalize(name)
    ship(full, warehouse, streams, batch_rows=150, bulk_rows=NEVER)
    assert set(names_of_streams(full)) - before
    everything_is_there_once(full, warehouse)


def test_half_a_batch_of_a_lost_stream_is_completed(
    warehouse: BigQueryWarehouse, streams: WriteStreams, full: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the rows of one batch some are there: only the others are sent."""
    full.outbox.open(warehouse.name)
    half = stored(full, "signals")[:7]
    table, append = BY_NAME["signals"], streams.append
    (piece,) = serialized(table, half)
    append(table, streams.create(table), 0, piece)
    counts = Counter[str]()

    def counting(table: Table, stream: str, offset: int, rows: Any) -> None:
        append(table, stream, offset, rows)
        counts[table.name] += len(rows)

    monkeypatch.setattr(streams, "append", counting)
    ship(full, warehouse, streams)
    assert counts["signals"] == len(stored(full, "signals")) - 7
    everything_is_there_once(full, warehouse)


def test_a_stream_that_is_lost_at_once_may_be_tried_again(
    warehouse: BigQueryWarehouse, streams: WriteStreams, full: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a server that restarts between a stream's beginning and its first rows: nothing else than that it may
    pass."""
    full.outbox.open(warehouse.name)
    create, made = streams.create, Counter[str]()

    def losing(table: Table) -> str:
        name = create(table)
        made[table.name] += 1
        if made[table.name] == 1:
            streams.finalize(name)
        return name

    monkeypatch.setattr(streams, "create", losing)
    shipment = Shipment(full.database, full.outbox, warehouse, streams)
    with pytest.raises(WarehouseUnavailable, match="lost a new stream"):
        shipment.send()
    ship_through(full, warehouse, streams, [{"batch_rows": 100}])
    assert set(made) == set(SHIPPED)
    everything_is_there_once(full, warehouse)


# Where to


@pytest.mark.usefixtures("emulator")
def test_a_store_has_one_warehouse(emulator: Emulator, full: SqliteStore) -> None:
    """Another is refused, and told how; the first again is not, and nothing is queued a second time."""
    first, other = emulator.warehouse("first"), emulator.warehouse("other")
    waiting = full.outbox.open(first.name)
    assert full.outbox.open(first.name) == 0
    with pytest.raises(WarehouseError, match=r"shipped to bigquery:first: `utxoiq ship --again`"):
        full.outbox.open(other.name)
    assert (full.outbox.destination, full.outbox.lag().rows) == (first.name, waiting)
    assert full.outbox.reopen(other.name) == waiting
    assert (full.outbox.destination, full.outbox.lag().rows) == (other.name, waiting)


@pytest.mark.parametrize(("bulk_rows", "copies"), [(NEVER, 1), (50, 2)], ids=["streamed", "loaded"])
def test_all_of_it_again_is_still_one_row_an_id(
    warehouse: BigQueryWarehouse, streams: WriteStreams, full: SqliteStore, bulk_rows: int, copies: int
) -> None:
    """A new stream asks first what is there; after loads the tables have each row twice. The views have it once, with
    the same values."""
    views = {"signals": "intel.signal_state", "insights": "intel.insight_state", "blocks": "btc.block_state",
             "forecasts": "intel.current_forecasts", "mempools": "btc.current_mempools", "facts": "btc.current_facts",
             "flows": "btc.current_flows", "entity_flows": "btc.current_entity_flows"}  # fmt: skip
    full.outbox.open(warehouse.name)
    ship(full, warehouse, streams)
    once = {view: sorted(map(spelt, asked(warehouse, view))) for view in views.values()}
    full.outbox.reopen(warehouse.name)
    ship(full, warehouse, streams, bulk_rows=bulk_rows)
    for relation, view in views.items():
        if relation != "mempools":
            assert set(Counter(map(spelt, raw(warehouse, relation))).values()) == {copies}
        assert sorted(map(spelt, asked(warehouse, view))) == once[view] != []
    assert len(once["intel.signal_state"]) == len(stored(full, "signals"))


def test_sent_again_while_it_is_sent(warehouse: BigQueryWarehouse, streams: WriteStreams, full: SqliteStore) -> None:
    """To begin anew in the middle of a batch forgets the batch."""
    full.outbox.open(warehouse.name)
    Shipment(full.database, full.outbox, warehouse, streams).send(batch_rows=50)
    full.outbox.parcels(50)
    waiting = full.outbox.reopen(warehouse.name)
    assert ship(full, warehouse, streams, batch_rows=1000) == waiting
    assert {row["signal_id"] for row in asked(warehouse, "intel.signal_state")} == {
        row["signal_id"] for row in stored(full, "signals")
    }


def test_a_store_without_a_warehouse_queues_nothing(store: SqliteStore) -> None:
    """Its outbox stays empty until it is shipped for the first time."""
    fill(store)
    assert (store.outbox.lag().rows, store.outbox.destination, store.outbox.parcels(100)) == (0, None, [])


def test_the_lag_is_what_waits(warehouse: BigQueryWarehouse, streams: WriteStreams, full: SqliteStore) -> None:
    """In rows, and the age of the oldest of them."""
    waiting = full.outbox.open(warehouse.name)
    with full.database.transaction():
        full.database.execute("UPDATE outbox SET recorded_at = recorded_at - 7200 WHERE seq <= 30")
    assert full.outbox.lag().rows == waiting
    assert full.outbox.lag().seconds >= 7200
    shipment = Shipment(full.database, full.outbox, warehouse, streams)
    sent = shipment.send(batch_rows=30)
    assert full.outbox.lag().rows == waiting - sent
    assert 0 <= full.outbox.lag().seconds < 7200
    ship(full, warehouse, streams)
    assert (full.outbox.lag().rows, full.outbox.lag().seconds) == (0, 0.0)
