"""Keeps the newest mempool snapshot at hand, and stores each."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from utxoiq.errors import UtxoiqError
from utxoiq.sources.threads import in_thread

if TYPE_CHECKING:
    from utxoiq.models import BlockData, MempoolSnapshot
    from utxoiq.observability import MonitoringModule
    from utxoiq.persistence.sqlite import SqliteStore

log = logging.getLogger(__name__)

TYPICAL = 3
"""Index of the median among a snapshot's percentiles."""
KEPT_TIPS = 3
"""Of so many tips the last snapshot is kept: one may be taken upon a block before that block is worked on."""


class MempoolWatch:
    """Takes a snapshot every so many seconds, and at once when `look` is called."""

    def __init__(
        self,
        take: Callable[[], MempoolSnapshot | None],
        store: SqliteStore,
        monitoring: MonitoringModule,
        interval: Callable[[], float],
    ) -> None:
        """`take`: one snapshot, as the source gives it. `interval`: seconds, asked anew each time."""
        self._take, self._store, self._monitoring, self._interval = take, store, monitoring, interval
        self._now = asyncio.Event()
        self.newest: MempoolSnapshot | None = None
        self._upon: dict[str, MempoolSnapshot] = {}

    def look(self) -> None:
        """Take one now: a block has come."""
        self._now.set()

    def of(self, block: BlockData) -> MempoolSnapshot | None:
        """The last snapshot that was taken upon the block's parent; a later one may be upon the block already."""
        return self._upon.get(str(block.prev_hash))

    async def run(self) -> None:
        """Until cancelled. A node or store that fails is the monitor's to tell; here it is only missed."""
        while True:
            try:
                snapshot = await in_thread(self._take)
                if snapshot is not None:
                    self._keep(snapshot)
                    await asyncio.to_thread(self._store.add_snapshot, snapshot)
                    self._measure(snapshot)
            except UtxoiqError as error:
                log.debug("no mempool snapshot: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval()):
                    await self._now.wait()
            self._now.clear()

    def _keep(self, snapshot: MempoolSnapshot) -> None:
        self.newest = snapshot
        self._upon.pop(snapshot.tip, None)
        self._upon[snapshot.tip] = snapshot
        for tip in list(self._upon)[:-KEPT_TIPS]:
            del self._upon[tip]

    def _measure(self, snapshot: MempoolSnapshot) -> None:
        rates = snapshot.next_block.feerate_percentiles_kvb if snapshot.next_block else []
        self._monitoring.emit_mempool_metrics(
            snapshot.transactions, snapshot.vsize, snapshot.minfee_kvb, rates[TYPICAL] if rates else None
        )
