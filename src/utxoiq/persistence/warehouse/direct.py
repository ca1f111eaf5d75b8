"""Persistence for those who have no disk: a store in memory, begun from the warehouse, and shipped with each write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from utxoiq.persistence.sqlite import SqliteStore
from utxoiq.persistence.warehouse.bigquery import BigQueryWarehouse
from utxoiq.persistence.warehouse.opening import streams_of
from utxoiq.persistence.warehouse.restoring import restore
from utxoiq.persistence.warehouse.shipping import Shipment

if TYPE_CHECKING:
    from google.cloud.bigquery import Client


class DirectWarehouse:
    """One instance at a time may write to a warehouse so."""

    def __init__(self, client: Client, storage_endpoint: str | None = None) -> None:
        """Makes the tables, and reads the newest blocks back into `store`. `storage_endpoint`: of an emulator.

        Raises WarehouseError, WarehouseUnavailable.
        """
        self.warehouse = BigQueryWarehouse(client)
        self._streams = streams_of(self.warehouse, storage_endpoint)
        self.store = SqliteStore(Path(":memory:"))
        try:
            self.warehouse.migrate()
            restore(self.store, self.warehouse)
            self.store.outbox.open(self.warehouse.name)
        except BaseException:
            self.close()
            raise
        self._shipment = Shipment(self.store.database, self.store.outbox, self.warehouse, self._streams)

    def ship(self) -> None:
        """Send what the store has and the warehouse has not. Raises WarehouseError, WarehouseUnavailable."""
        while self._shipment.send():
            pass

    def close(self) -> None:
        """Let go of both; the client stays its owner's."""
        self._streams.close()
        self.store.close()
