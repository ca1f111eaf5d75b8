"""Appending by the Storage Write API: at offsets of committed streams, every value as it was."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

import grpc
import pytest
from google.api_core import exceptions as google
from google.auth.exceptions import RefreshError, TransportError
from google.cloud.bigquery_storage_v1 import types

from helpers.emulator import Emulator
from persistence.records import chain
from utxoiq.errors import WarehouseError, WarehouseUnavailable
from utxoiq.persistence import SqliteStore
from utxoiq.persistence.warehouse import wire
from utxoiq.persistence.warehouse.bigquery import BigQueryWarehouse, telling
from utxoiq.persistence.warehouse.shipping import Shipment
from utxoiq.persistence.warehouse.streams import StreamLost, WriteStreams, _judge
from utxoiq.persistence.warehouse.tables import BY_NAME, TABLES, Table
from utxoiq.persistence.warehouse.wire import parquet, serialized
from warehouse.compared import everything_is_there_once, raw, rich, spelt

pytestmark = pytest.mark.warehouse

EVENTS = BY_NAME["signal_events"]
AT = datetime(2026, 1, 5, 12, 30, 15, 123_456, tzinfo=UTC)
HARD: dict[str, Sequence[Any]] = {
    "STRING": ["", "x", "ünïcode ₿ 日本 \U0001f409", "'; DROP TABLE x; --", 'a "b" \\ c\n\td', "x" * 20_000],
    "INT64": [0, -1, 2**62, -(2**62), 2**63 - 1, -(2**63), 2**53 + 1],
    "FLOAT64": [0.0, 0.1, 1e300, -2.5, 1 / 3],
    "BOOL": [True, False],
    "DATE": [date(2009, 1, 3), date(1969, 12, 31), date(2100, 1, 1), date(2024, 2, 29)],
    "TIMESTAMP": [AT, datetime(2009, 1, 3, 18, 15, 5, tzinfo=UTC), datetime(2099, 12, 31, 23, 59, 59, 999_999, UTC)],
    "JSON": [{}, [], {"ünï": ["₿", None, True, 0.5]}, {"sat": 2**62 + 1}, [{"a": {"b": []}}], "text", 7,
             {"quote": '"\\\n'}],
}  # fmt: skip
"""Values of each type that are easily lost on the way."""


def event(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "day": AT.date(), "signal_id": f"signal-{number}", "event": "retracted", "reason": "a test",
        "superseded_by": None, "seq": number, "correlation_id": "run", "recorded_at": AT, **changes,
    }  # fmt: skip


def packed(*rows: dict[str, Any], table: Table = EVENTS) -> list[bytes]:
    (piece,) = serialized(table, rows)
    return piece


def hard_rows(table: Table) -> list[dict[str, Any]]:
    """Every hard value in every column that takes it, and null where that may be."""
    rows = []
    for n in range(max(map(len, HARD.values())) + 1):
        row = {}
        for column in table.columns:
            values = HARD[column.kind]
            null = n == len(values) and not column.required
            row[column.name] = None if null else values[n % len(values)]
        rows.append({**row, "day": date(2026, 1, 1 + n % 28)})
    return rows


# Offsets


def test_rows_arrive_in_order_at_their_offsets(warehouse: BigQueryWarehouse, streams: WriteStreams) -> None:
    """Visible at once."""
    stream = streams.create(EVENTS)
    streams.append(EVENTS, stream, 0, packed(event(0), event(1)))
    assert len(raw(warehouse, "signal_events")) == 2
    streams.append(EVENTS, stream, 2, packed(event(2)))
    assert [row["seq"] for row in raw(warehouse, "signal_events")] == [0, 1, 2]


def test_the_stream_is_a_committed_one_of_its_own(warehouse: BigQueryWarehouse, streams: WriteStreams) -> None:
    """Never the default one, which has no offsets."""
    names = {streams.create(EVENTS), streams.create(EVENTS)}
    assert len(names) == 2
    assert raw(warehouse, "signal_events") == []
    for name in names:
        assert not name.endswith("_default")
        assert streams._client.get_write_stream(name=name).type_ == types.WriteStream.Type.COMMITTED


def test_what_is_there_already_is_a_success(warehouse: BigQueryWarehouse, streams: WriteStreams) -> None:
    """The same append again writes nothing, however often; then it goes on."""
    stream = streams.create(EVENTS)
    for _ in range(3):
        streams.append(EVENTS, stream, 0, packed(event(0), event(1)))
    streams.append(EVENTS, stream, 2, packed(event(2)))
    streams.append(EVENTS, stream, 0, packed(event(0), event(1)))
    assert [row["seq"] for row in raw(warehouse, "signal_events")] == [0, 1, 2]


@pytest.mark.usefixtures("warehouse")
def test_a_gap_is_a_lost_stream(streams: WriteStreams) -> None:
    """It is not as long as we thought."""
    stream = streams.create(EVENTS)
    with pytest.raises(StreamLost):
        streams.append(EVENTS, stream, 5, packed(event(0)))


@pytest.mark.usefixtures("warehouse")
def test_an_unknown_stream_is_a_lost_stream(streams: WriteStreams, project: str) -> None:
    """As those of a server that forgot them."""
    with pytest.raises(StreamLost):
        streams.append(EVENTS, f"projects/{project}/datasets/intel/tables/signal_events/streams/0123456789abcdef", 0,
                       packed(event(0)))  # fmt: skip


def test_a_finalised_stream_takes_no_more(warehouse: BigQueryWarehouse, streams: WriteStreams) -> None:
    """That is a lost stream; to finalise again, or one that is gone, is no error."""
    stream = streams.create(EVENTS)
    streams.append(EVENTS, stream, 0, packed(event(0)))
    streams.finalize(stream)
    with pytest.raises(StreamLost):
        streams.append(EVENTS, stream, 1, packed(event(1)))
    assert [row["seq"] for row in raw(warehouse, "signal_events")] == [0]
    streams.finalize(stream)
    streams.finalize(stream.rsplit("/", 1)[0] + "/0123456789abcdef")


# Values


@pytest.mark.parametrize("way", ["stream", "load"])
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_value_comes_back(warehouse: BigQueryWarehouse, streams: WriteStreams, table: Table, way: str) -> None:
    """Of every column, by both ways: null, empty, not ASCII, microseconds, and whole numbers no float holds."""
    rows = hard_rows(table)
    if way == "stream":
        streams.append(table, streams.create(table), 0, packed(*rows, table=table))
    else:
        warehouse.load(table, parquet(table, rows), f"load-{table.name}")
    assert Counter(map(spelt, raw(warehouse, table.name))) == Counter(map(spelt, rows))


def test_whole_numbers_in_json_stay_whole() -> None:
    """Beyond what a float holds they go on their way as they are."""
    assert json.loads(wire.to_json({"sat": 2**62 + 1, "text": "₿"})) == {"sat": 2**62 + 1, "text": "₿"}
    assert "₿" in wire.to_json("₿")


@pytest.mark.parametrize("at", HARD["TIMESTAMP"])
def test_times_are_whole_microseconds(at: datetime) -> None:
    """No float between."""
    micros = wire.micros(at)
    assert datetime.fromtimestamp(micros // 1_000_000, UTC).replace(microsecond=micros % 1_000_000) == at


# Pieces


def test_what_is_too_large_for_one_request_goes_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    """None larger than allowed unless it is one row; together they are all rows in order."""
    rows = [event(n, reason="x" * (n * 37 % 400)) for n in range(50)]
    whole = packed(*rows)
    monkeypatch.setattr(wire, "MOST_BYTES", 500)
    pieces = list(serialized(EVENTS, rows))
    assert len(pieces) > 10
    assert [row for piece in pieces for row in piece] == whole
    assert all(len(piece) == 1 or sum(map(len, piece)) <= 500 for piece in pieces)


def test_a_batch_in_pieces_arrives_once(
    warehouse: BigQueryWarehouse, streams: WriteStreams, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off after any of them, it goes on where it was."""
    monkeypatch.setattr(wire, "MOST_BYTES", 3_000)
    store.outbox.open(warehouse.name)
    for data in chain().trunk:
        store.connect(rich(data))
    append, calls = streams.append, Counter[str]()

    def breaking(table: Table, *rest: Any) -> None:
        append(table, *rest)
        calls[table.name] += 1
        if calls[table.name] in (1, 3):
            raise WarehouseUnavailable("broken off")

    monkeypatch.setattr(streams, "append", breaking)
    shipment, failures = Shipment(store.database, store.outbox, warehouse, streams), 0
    while store.outbox.lag().rows:
        try:
            shipment.send()
        except WarehouseUnavailable:
            failures += 1
    assert calls["facts"] > 8
    assert failures > 10
    everything_is_there_once(store, warehouse)


# Failures


@pytest.fixture
def gone(tmp_path_factory: pytest.TempPathFactory) -> Emulator:
    """One that was never started: nobody listens."""
    return Emulator(tmp_path_factory.mktemp("gone"))


def test_a_server_that_is_down_is_waited_for(gone: Emulator) -> None:
    """Every call says that it may pass."""
    streams, warehouse = gone.streams("nobody"), gone.warehouse("nobody")
    stream = "projects/nobody/datasets/intel/tables/signal_events/streams/x"
    calls: list[Any] = [
        lambda: streams.create(EVENTS),
        lambda: streams.append(EVENTS, stream, 0, packed(event(0))),
        lambda: streams.finalize(stream),
        warehouse.migrate,
        warehouse.missing,
        lambda: raw(warehouse, "signals"),
        lambda: warehouse.missing_rows(EVENTS, [event(0)]),
        lambda: warehouse.load(EVENTS, parquet(EVENTS, [event(0)]), "job"),
        lambda: warehouse.loaded("job"),
    ]
    for call in calls:
        with pytest.raises(WarehouseUnavailable, match="BigQuery can't"):
            call()
    streams.close()
    warehouse.client.close()


def test_what_does_not_exist_is_refused(emulator: Emulator, streams: WriteStreams, project: str) -> None:
    """A project without our tables: not worth another attempt."""
    warehouse = emulator.warehouse(project)
    calls: list[Any] = [
        lambda: streams.create(EVENTS),
        lambda: raw(warehouse, "signals"),
        lambda: warehouse.load(EVENTS, parquet(EVENTS, [event(0)]), "job"),
    ]
    for call in calls:
        with pytest.raises(WarehouseError) as refused:
            call()
        assert not isinstance(refused.value, WarehouseUnavailable)


def test_a_row_that_does_not_fit_is_refused(warehouse: BigQueryWarehouse, streams: WriteStreams) -> None:
    """With nothing of it stored."""
    with pytest.raises((WarehouseError, StreamLost)):
        streams.append(EVENTS, streams.create(EVENTS), 0, [b"\xff\xff\xff\xff"])
    assert raw(warehouse, "signal_events") == []


@pytest.mark.parametrize(
    ("code", "raised"),
    [
        ("OK", None), ("ALREADY_EXISTS", None), ("NOT_FOUND", StreamLost), ("OUT_OF_RANGE", StreamLost),
        ("FAILED_PRECONDITION", StreamLost), ("UNAVAILABLE", WarehouseUnavailable), ("ABORTED", WarehouseUnavailable),
        ("INTERNAL", WarehouseUnavailable), ("RESOURCE_EXHAUSTED", WarehouseUnavailable),
        ("DEADLINE_EXCEEDED", WarehouseUnavailable), ("CANCELLED", WarehouseUnavailable),
        ("INVALID_ARGUMENT", WarehouseError), ("PERMISSION_DENIED", WarehouseError),
    ],
)  # fmt: skip
def test_an_answer_within_a_stream_is_judged(code: str, raised: type[Exception] | None) -> None:
    """As the same code would be that ends the call."""
    number = grpc.StatusCode[code].value[0]
    answer = (
        types.AppendRowsResponse(error={"code": number, "message": "said"}) if number else types.AppendRowsResponse()
    )
    if raised is None:
        _judge(answer, EVENTS)
        return
    with pytest.raises(raised) as judged:
        _judge(answer, EVENTS)
    assert type(judged.value) is raised


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (google.ServiceUnavailable("x"), True), (google.InternalServerError("x"), True), (google.BadGateway("x"), True),
        (google.DeadlineExceeded("x"), True), (google.TooManyRequests("x"), True),
        (google.ResourceExhausted("x"), True), (google.Aborted("x"), True), (google.Cancelled("x"), True),
        (google.RetryError("x", None), True), (TransportError("x"), True), (ConnectionResetError("x"), True),
        (TimeoutError(), True), (google.BadRequest("x"), False), (google.Forbidden("x"), False),
        (google.NotFound("x"), False), (google.Conflict("x"), False), (google.Unauthorized("x"), False),
        (RefreshError("x"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)  # fmt: skip
def test_what_may_pass_is_told_from_what_does_not(error: Exception, passes: bool) -> None:
    """Every failure of Google's clients is ours, with its cause."""
    with pytest.raises(WarehouseError) as told, telling("a test"):
        raise error
    assert isinstance(told.value, WarehouseUnavailable) is passes
    assert told.value.__cause__ is error


# Load jobs


def test_a_load_is_known_by_its_name(warehouse: BigQueryWarehouse) -> None:
    """One that was never begun is not there."""
    assert not warehouse.loaded("nobody-began-it")


def test_a_load_that_failed_was_none(warehouse: BigQueryWarehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the reason: what it should have loaded is sent again, and not asked about for ever."""

    class Failed:
        def __init__(self, error: google.GoogleAPICallError) -> None:
            self.error, self.error_result = error, {"reason": "backendError"}

        def result(self, **_: Any) -> None:
            raise self.error

    for error in (google.BadRequest("x"), google.InternalServerError("x"), google.Forbidden("x")):
        monkeypatch.setattr(warehouse.client, "get_job", lambda *_, error=error, **__: Failed(error))
        assert not warehouse.loaded("job")


def test_a_load_that_cannot_be_asked_about_is_unknown(
    warehouse: BigQueryWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither there nor not: ask again later."""

    class Unknown:
        error_result = None

        def result(self, **_: Any) -> None:
            raise google.ServiceUnavailable("x")

    monkeypatch.setattr(warehouse.client, "get_job", lambda *_, **__: Unknown())
    with pytest.raises(WarehouseUnavailable):
        warehouse.loaded("job")
