"""From a store's outbox into the warehouse: in order, in batches, each row once, whatever is killed in between."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING
from uuid import uuid4

from utxoiq.errors import WarehouseUnavailable
from utxoiq.persistence.outbox import UNNAMED
from utxoiq.persistence.warehouse import rows as warehouse_rows
from utxoiq.persistence.warehouse.streams import StreamLost
from utxoiq.persistence.warehouse.tables import BY_NAME, Table
from utxoiq.persistence.warehouse.wire import parquet, serialized

if TYPE_CHECKING:
    from collections.abc import Sequence

    from utxoiq.persistence.database import Database
    from utxoiq.persistence.outbox import Outbox, Parcel
    from utxoiq.persistence.warehouse.bigquery import BigQueryWarehouse
    from utxoiq.persistence.warehouse.rows import Row
    from utxoiq.persistence.warehouse.streams import WriteStreams

BATCH_ROWS = 2_000
"""Sent at once while following."""
BULK_ROWS = 50_000
"""From so many waiting rows on they go by load jobs, which cost nothing, so many at once."""


class Shipment:
    """Ships one store. Raises StoreError, WarehouseError, WarehouseUnavailable; then begins where it was."""

    def __init__(self, database: Database, outbox: Outbox, warehouse: BigQueryWarehouse, streams: WriteStreams) -> None:
        self._database, self._outbox, self._warehouse, self._streams = database, outbox, warehouse, streams
        self._one_at_a_time = Lock()
        self._own: set[str] | None = None
        """Streams made by us, None before the first batch."""

    def send(self, *, batch_rows: int = BATCH_ROWS, bulk_rows: int = BULK_ROWS) -> int:
        """Send one batch: how many rows of the store it was, 0 where nothing waits."""
        with self._one_at_a_time:
            if self._own is None:  # a store put back from a backup knows less of a stream than was appended to it
                self._outbox.forget_streams()
                self._own = set()
            bulk = self._outbox.lag().rows >= bulk_rows
            parcels = self._outbox.parcels(bulk_rows if bulk else batch_rows, bulk=bulk)
            for parcel in parcels:
                self._send(parcel)
            return sum(len(parcel.keys) for parcel in parcels)

    def _send(self, parcel: Parcel) -> None:
        table = BY_NAME[parcel.relation]
        rows = list(warehouse_rows.read(self._database, parcel.relation, parcel.keys))
        if parcel.job_id == UNNAMED:
            self._load(parcel, table, rows)
        elif parcel.job_id is not None:
            self._finish_load(parcel, table, rows)
        elif parcel.stream is None:
            self._append_to_new(parcel, table, rows)
        else:
            self._append(parcel, table, rows, parcel.stream, parcel.offset)

    def _append(self, parcel: Parcel, table: Table, rows: Sequence[Row], stream: str, offset: int) -> None:
        try:
            end = self._write(table, rows, stream, offset)
        except StreamLost:
            self._streams.finalize(stream)  # nothing that is still on its way may arrive after we looked
            self._outbox.begin(parcel.relation, None, 0)
            self._append_to_new(parcel, table, rows)
        else:
            known = self._own is not None and stream in self._own
            self._outbox.arrived(parcel, stream if known else None, end if known else 0)

    def _append_to_new(self, parcel: Parcel, table: Table, rows: Sequence[Row]) -> None:
        """Where no stream tells how far we came, the rows that are there do."""
        missing = self._warehouse.missing_rows(table, rows)
        stream = self._streams.create(table)
        assert self._own is not None
        self._own.add(stream)
        if len(missing) == len(rows):
            self._outbox.begin(parcel.relation, stream, 0)
        try:
            end = self._write(table, missing, stream, 0)
        except StreamLost as lost:
            raise WarehouseUnavailable(f"BigQuery lost a new stream into {table.path}: {lost}") from lost
        self._outbox.arrived(parcel, stream, end)

    def _write(self, table: Table, rows: Sequence[Row], stream: str, offset: int) -> int:
        for piece in serialized(table, rows):
            self._streams.append(table, stream, offset, piece)
            offset += len(piece)
        return offset

    def _load(self, parcel: Parcel, table: Table, rows: Sequence[Row]) -> None:
        job_id = f"utxoiq_{table.name}_{uuid4().hex}"
        self._outbox.begin(parcel.relation, parcel.stream, parcel.offset, job_id)
        if rows:
            self._warehouse.load(table, parquet(table, rows), job_id)
        self._outbox.arrived(parcel, parcel.stream, parcel.offset)

    def _finish_load(self, parcel: Parcel, table: Table, rows: Sequence[Row]) -> None:
        assert parcel.job_id is not None
        if self._warehouse.loaded(parcel.job_id):
            self._outbox.arrived(parcel, parcel.stream, parcel.offset)
        else:
            self._load(parcel, table, self._warehouse.missing_rows(table, rows))
