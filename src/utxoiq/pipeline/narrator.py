"""The insight worker: finds words for signals that wait for them. Several may work on one store."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from utxoiq.errors import InsightRefused, LeaseLost, StoreError
from utxoiq.observability import bind_correlation_id
from utxoiq.persistence import narration

if TYPE_CHECKING:
    from utxoiq.insights.generator import InsightGenerator
    from utxoiq.models import Insight, Signal
    from utxoiq.observability import MonitoringModule
    from utxoiq.persistence.leases import Lease
    from utxoiq.persistence.sqlite import SqliteStore

log = logging.getLogger(__name__)

LEASE_SECONDS = 120.0
"""After which a group that a worker took and never finished is another's."""
LOOK_SECONDS = 1.0
AT_ONCE = 20
"""Groups taken in one look."""
AGAIN_SECONDS = 600.0
"""How often the whole store is looked through for what an earlier look passed."""


class Narrator:
    """Narrates what waits, group by group (a type in a block), each under a lease of its own."""

    def __init__(
        self, store: SqliteStore, generator: InsightGenerator, monitoring: MonitoringModule, holder: str
    ) -> None:
        self._store, self._generator, self._monitoring, self._holder = store, generator, monitoring, holder
        self._bell = asyncio.Event()
        self._first, self._looked_at = 0, 0.0

    def ring(self) -> None:
        """There may be signals: look now."""
        self._bell.set()

    async def run(self) -> None:
        """Until cancelled. A store that is busy or down is tried again."""
        while True:
            try:
                found = await self.look()
            except StoreError as error:
                log.warning("signals wait for narration: %s", error)
                found = 0
            if not found:
                await self._rest()

    async def look(self) -> int:
        """Narrate up to AT_ONCE groups that wait: how many insights were written. Raises StoreError."""
        if time.monotonic() - self._looked_at > AGAIN_SECONDS or not self._looked_at:
            self._first, self._looked_at = (
                await asyncio.to_thread(narration.first_waiting, self._store),
                time.monotonic(),
            )
        groups = await asyncio.to_thread(narration.waiting, self._store, AT_ONCE, self._first, self._holder)
        return sum([await self._take(group) for group in groups])

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._bell.wait()
        except TimeoutError:
            pass
        self._bell.clear()

    async def _take(self, group: narration.Group) -> int:
        leases = self._store.leases
        lease = await asyncio.to_thread(leases.acquire, group.lease, self._holder, LEASE_SECONDS)
        if lease is None:
            return 0
        correlation_id = uuid4().hex
        with bind_correlation_id(correlation_id):
            try:
                return await self._narrate(group, lease, correlation_id)
            except LeaseLost as lost:
                log.warning("%s", lost)
                return 0
            finally:
                await asyncio.to_thread(leases.release, lease)

    async def _narrate(self, group: narration.Group, lease: Lease, correlation_id: str) -> int:
        insights: list[Insight] = []
        dead: list[tuple[Signal, str]] = []
        for signal in await asyncio.to_thread(narration.signals_of, self._store, group):
            began = time.perf_counter()
            try:
                insight = await self._generator.generate(signal)
            except InsightRefused as refusal:
                log.error("signal %s: %s", signal.signal_id, refusal)
                dead.append((signal, str(refusal)))
            else:
                insights.append(insight)
                spent = 1000 * (time.perf_counter() - began)
                self._monitoring.emit_insight_metrics(insight.category, insight.confidence, spent, correlation_id)
        if insights or dead:
            await asyncio.to_thread(narration.narrated, self._store, lease, insights, dead, correlation_id)
        for insight in insights:
            log.info("insight: %s", insight.headline, extra={"signal_id": insight.signal_id})
        return len(insights) + len(dead)
