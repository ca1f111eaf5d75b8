"""The part of the service that ships to the warehouse, and brings a new store to where the warehouse is."""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing
from typing import TYPE_CHECKING

from utxoiq.observability import MonitoringModule
from utxoiq.persistence import open_store
from utxoiq.persistence.leases import holder_name
from utxoiq.persistence.warehouse.opening import open_warehouse
from utxoiq.pipeline.error_handler import ErrorHandler
from utxoiq.pipeline.leading import Leader
from utxoiq.pipeline.shipper import Shipper

if TYPE_CHECKING:
    from collections.abc import Callable

    from utxoiq.config import Settings

log = logging.getLogger(__name__)


class Shipping:
    """A connection to the store of its own, fenced by the lease of who ships."""

    def __init__(self, settings: Settings, monitoring: MonitoringModule, holder: str) -> None:
        """Raises ConfigError, StoreError; where the store is new, WarehouseError too: its past is asked for."""
        self._warehouse = open_warehouse(settings.warehouse)
        try:
            self._store = open_store(settings.db)
        except BaseException:
            self._warehouse.close()
            raise
        self._shipper = Shipper(self._store, self._warehouse, monitoring, ErrorHandler(monitoring))
        self._leader = Leader(self._store, "ship", holder)
        if self._store.network is None:  # not a block yet, filled in or followed
            self._restore()

    def _restore(self) -> None:
        from utxoiq.persistence.warehouse.restoring import restore  # noqa: PLC0415 once in the life of a store

        try:
            self._warehouse.tables.migrate()
            found = restore(self._store, self._warehouse.tables)
        except BaseException:
            self.close()
            raise
        if found:
            log.info("a new store: goes on from block %s of height %d, as the warehouse has it", *found)

    def send(self, again: bool, on_sent: Callable[[int, int], None]) -> int:
        """All that waits, or with `again` all that is stored. Raises LeaseLost while another ships."""
        with self._leader.held() as renew:
            if again:
                self._store.outbox.reopen(self._warehouse.tables.name)

            def tell(sent: int, waiting: int) -> None:
                renew()
                on_sent(sent, waiting)

            return asyncio.run(self._shipper.drain(tell))

    async def run(self) -> None:
        """Until cancelled."""
        await self._leader.run(self._shipper.run)

    def ring(self) -> None:
        """There may be rows: look now."""
        self._shipper.ring()

    def close(self) -> None:
        """Let go of the store and the warehouse."""
        self._store.close()
        self._warehouse.close()


def ship_once(settings: Settings, *, again: bool, on_sent: Callable[[int, int], None]) -> int:
    """Send what waits: the rows sent; `on_sent` is called with how many were sent and how many wait.

    Raises ConfigError, StoreError, LeaseLost, WarehouseError.
    """
    with closing(Shipping(settings, MonitoringModule(enabled=False), holder_name())) as shipping:
        return shipping.send(again, on_sent)
