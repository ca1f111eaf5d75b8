"""The shipper: keeps the warehouse at the store's heels, through outages of hours."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from utxoiq.errors import LeaseLost, StoreError, Transient, UtxoiqError
from utxoiq.persistence.warehouse.shipping import Shipment

if TYPE_CHECKING:
    from utxoiq.observability import MonitoringModule
    from utxoiq.persistence.sqlite import SqliteStore
    from utxoiq.persistence.warehouse.opening import OpenWarehouse
    from utxoiq.pipeline.error_handler import ErrorHandler

log = logging.getLogger(__name__)

FIRST_WAIT, LONGEST_WAIT = 1.0, 15.0
"""Seconds between attempts while the warehouse can't be reached: doubled each time."""
LOOK_SECONDS = 2.0
REMIND_SECONDS = 600.0
LEAVE_SECONDS = 8.0
"""How long a stop may take to send what is left: Cloud Run kills after ten."""


class Shipper:
    """Sends a store's outbox to a warehouse, batch by batch."""

    def __init__(
        self, store: SqliteStore, warehouse: OpenWarehouse, monitoring: MonitoringModule, errors: ErrorHandler
    ) -> None:
        self._store, self._warehouse, self._monitoring, self._errors = store, warehouse, monitoring, errors
        self._shipment = Shipment(store.database, store.outbox, warehouse.tables, warehouse.streams)
        self._ready = False
        self._bell = asyncio.Event()
        self._told: tuple[str, float] = ("", 0.0)

    def ring(self) -> None:
        """There may be rows: look now."""
        self._bell.set()

    async def run(self) -> None:
        """Until cancelled; then what is left is sent, if that takes no longer than a stop may. Raises LeaseLost."""
        wait = FIRST_WAIT
        try:
            while True:
                try:
                    sent = await self._step()
                except LeaseLost:
                    raise
                except UtxoiqError as error:
                    self._tell(error)
                    await asyncio.sleep(wait)
                    wait = min(2 * wait, LONGEST_WAIT)
                    continue
                wait = FIRST_WAIT
                if not sent:
                    await self._rest()
        except asyncio.CancelledError:
            with suppress(UtxoiqError, TimeoutError):
                async with asyncio.timeout(LEAVE_SECONDS):
                    await self.drain()
            raise

    async def drain(self, on_sent: Callable[[int, int], None] = lambda _sent, _waiting: None) -> int:
        """Send all that waits: the rows sent. `on_sent` is told of them, and of those that wait, after each batch.

        Raises WarehouseError, StoreError; what was sent stays sent.
        """
        total = 0
        while sent := await self._step():
            total += sent
            on_sent(total, self._store.outbox.lag().rows)
        return total

    async def _step(self) -> int:
        """One batch, in a thread of its own: a stop waits for it, so that no half is left to be found again."""
        if not self._ready:
            await asyncio.to_thread(self._prepare)
        sent = await asyncio.shield(asyncio.to_thread(self._shipment.send))
        lag = await asyncio.to_thread(self._store.outbox.lag)
        self._monitoring.emit_warehouse_metrics(lag.rows, lag.seconds, sent)
        if sent and self._told[0]:
            log.info("the warehouse is reached again, %d rows wait", lag.rows)
            self._told = ("", 0.0)
        return sent

    def _prepare(self) -> None:
        queued = self._store.outbox.open(self._warehouse.tables.name)
        if queued:
            log.info("shipping to %s: %d rows stored before go first", self._warehouse.tables.name, queued)
        for done in self._warehouse.tables.migrate():
            log.debug("warehouse: %s", done)
        self._ready = True

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._bell.wait()
        self._bell.clear()

    def _tell(self, error: UtxoiqError) -> None:
        """Once a reason, and again every ten minutes."""
        with suppress(StoreError):
            lag = self._store.outbox.lag()
            self._monitoring.emit_warehouse_metrics(lag.rows, lag.seconds, 0)
        reason, now = str(error), time.monotonic()
        self._errors.count(error, "bigquery")
        if reason != self._told[0] or now - self._told[1] > REMIND_SECONDS:
            level = logging.WARNING if isinstance(error, Transient) else logging.ERROR
            log.log(level, "rows wait for the warehouse: %s", reason)
            self._told = (reason, now)
