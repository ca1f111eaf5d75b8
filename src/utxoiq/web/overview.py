"""How a store stands, for a process that only serves: told by the leases of the processes that work on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from utxoiq.errors import StoreError

if TYPE_CHECKING:
    from utxoiq.observability import MonitoringModule
    from utxoiq.persistence.sqlite import SqliteStore

log = logging.getLogger(__name__)

LOOK_SECONDS = 10.0


class Overview:
    """Reads one store. `run` keeps its gauges."""

    def __init__(self, store: SqliteStore, monitoring: MonitoringModule) -> None:
        self._store, self._monitoring = store, monitoring

    def status(self, parts: Collection[str]) -> dict[str, Any]:
        """For /readyz: a process that serves is ready while somebody watches and is at the tip; one that narrates or
        ships, while it can read the store."""
        try:
            cursor, lag = self._store.cursor(), self._store.outbox.lag()
            held = {row["name"]: row for row in self._store.leases.held()}
        except StoreError as error:
            return {"ready": False, "reason": str(error)}
        watch = held.get("watch", {"state": {}})["state"]
        return {
            "ready": bool(watch.get("ready")) or "serve" not in parts,
            "reason": watch.get("reason") if watch else "nobody watches: start `utxoiq watch`",
            "store_height": cursor.height if cursor else None,
            "outbox_rows": lag.rows,
            "outbox_seconds": round(lag.seconds, 1),
            "watch": watch or None,
            "work": {name: row["holder"] for name, row in held.items()},
        }

    async def run(self) -> None:
        """Until cancelled: gauges of height and outbox, every few seconds."""
        while True:
            try:
                await asyncio.to_thread(self._measure)
            except StoreError as error:
                log.warning("the store can't be read: %s", error)
            await asyncio.sleep(LOOK_SECONDS)

    def _measure(self) -> None:
        status = self.status(("serve",))
        watch = status.get("watch") or {}
        self._monitoring.emit_live_metrics(status.get("store_height"), watch.get("source_height"))
        self._monitoring.emit_node_state(status["ready"])
        if "outbox_rows" in status:
            self._monitoring.emit_warehouse_metrics(status["outbox_rows"], status["outbox_seconds"], 0)
