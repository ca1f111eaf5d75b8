"""The insight worker: finds words for signals that wait for them. Several may work on one store."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from typing import TYPE_CHECKING
from uuid import uuid4

from utxoiq.errors import InsightRefused, LeaseLost, ProviderError, StoreError, Transient, UtxoiqError
from utxoiq.observability import bind_correlation_id
from utxoiq.persistence import narration

if TYPE_CHECKING:
    from utxoiq.models import Insight, Signal
    from utxoiq.observability import MonitoringModule
    from utxoiq.persistence.leases import Lease
    from utxoiq.persistence.sqlite import SqliteStore
    from utxoiq.pipeline.error_handler import ErrorHandler
    from utxoiq.pipeline.writer import Writer

log = logging.getLogger(__name__)

LEASE_SECONDS = 120.0
"""After which a group that a worker took and never finished is another's."""
LOOK_SECONDS = 1.0
AT_ONCE = 20
"""Groups taken in one look."""
AGAIN_SECONDS = 600.0
"""How often the whole store is looked through for what an earlier look passed."""


FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"""Seconds between attempts while the provider or the store is away: doubled each time."""
MOST_FAILURES = 3
"""Failures nobody foresaw after which a signal is dead-lettered."""


class Narrator:
    """Narrates what waits, group by group (a type in a block), each under a lease of its own."""

    def __init__(
        self, store: SqliteStore, writer: Writer, monitoring: MonitoringModule, errors: ErrorHandler, holder: str
    ) -> None:
        self._store, self._writer, self._monitoring = store, writer, monitoring
        self._errors, self._holder = errors, holder
        self._bell, self._changed = asyncio.Event(), asyncio.Event()
        self._first, self._looked_at = 0, 0.0
        self._told = ""

    def use(self, writer: Writer) -> None:
        """From the next signal on, and at once where one waits."""
        self._writer = writer
        self._changed.set()
        self.ring()

    def ring(self) -> None:
        """There may be signals: look now."""
        self._bell.set()

    async def run(self) -> None:
        """Until cancelled. A store or a provider that is busy or down is tried again; signals wait meanwhile."""
        wait = FIRST_WAIT
        while True:
            self._changed.clear()
            try:
                found = await self.look()
            except (StoreError, ProviderError) as error:
                self._tell(error)
                wait = FIRST_WAIT if await self._is_changed(wait) else min(2 * wait, LONGEST_WAIT)
                continue
            wait, self._told = FIRST_WAIT, ""
            if not found:
                await self._rest()

    def _tell(self, error: UtxoiqError) -> None:
        """Once a reason."""
        self._errors.count(error, "narration")
        if str(error) != self._told:
            self._told = str(error)
            level = logging.WARNING if isinstance(error, Transient) else logging.ERROR
            log.log(level, "signals wait for narration: %s", error)

    async def look(self) -> int:
        """Narrate up to AT_ONCE groups that wait: how many signals are done with. Raises StoreError, ProviderError."""
        if time.monotonic() - self._looked_at > AGAIN_SECONDS or not self._looked_at:
            self._first = await asyncio.to_thread(narration.first_waiting, self._store)
            self._looked_at = time.monotonic()
        groups = await asyncio.to_thread(narration.waiting, self._store, AT_ONCE, self._first, self._holder)
        return sum([await self._take(group) for group in groups])

    async def _is_changed(self, seconds: float) -> bool:
        """Wait so long, or until there is another writer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        return self._changed.is_set()

    async def _rest(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._bell.wait()
        self._bell.clear()

    async def _take(self, group: narration.Group) -> int:
        leases = self._store.leases
        lease = await asyncio.to_thread(leases.acquire, group.lease, self._holder, LEASE_SECONDS)
        if lease is None:
            return 0
        correlation_id, done = uuid4().hex, 0
        with bind_correlation_id(correlation_id):
            try:
                for signal in await asyncio.to_thread(narration.signals_of, self._store, group):
                    await asyncio.to_thread(leases.renew, lease, LEASE_SECONDS)
                    done += await self._narrate(signal, lease, correlation_id)
            except LeaseLost as lost:
                log.warning("%s", lost)
            finally:
                await asyncio.to_thread(leases.release, lease)
        return done

    async def _narrate(self, signal: Signal, lease: Lease, correlation_id: str) -> int:
        """1 for a signal that has its words, or will have none; its insight and the mark are one commit."""
        began = time.perf_counter()
        try:
            insight = await self._writer.write(signal, lease, correlation_id)
        except InsightRefused as refusal:
            log.error("signal %s: %s", signal.signal_id, refusal)
            failure = narration.Failure(signal, str(refusal), final=True)
            return await self._store_it(lease, [], [failure], correlation_id)
        except UtxoiqError:
            raise
        except Exception as error:  # noqa: BLE001 whatever one signal does to a provider, the others go on
            return await self._fail(signal, error, lease, correlation_id)
        if not await self._store_it(lease, [insight], [], correlation_id):
            return 0  # retracted meanwhile
        spent = 1000 * (time.perf_counter() - began)
        self._monitoring.emit_insight_metrics(insight.category, insight.confidence, spent, correlation_id)
        log.info("insight: %s", insight.headline, extra={"signal_id": insight.signal_id})
        return 1

    async def _fail(self, signal: Signal, error: Exception, lease: Lease, correlation_id: str) -> int:
        """Tried again after a minute, two and four; then dead-lettered."""
        before = await asyncio.to_thread(narration.failures, self._store, signal.signal_id)
        failure = narration.Failure(signal, repr(error), final=before + 1 >= MOST_FAILURES)
        self._errors.handle_ai_provider_error(
            error, provider="narration", signal_id=signal.signal_id, correlation_id=correlation_id
        )
        return await self._store_it(lease, [], [failure], correlation_id)

    async def _store_it(
        self, lease: Lease, insights: list[Insight], without: list[narration.Failure], correlation_id: str
    ) -> int:
        rows = await asyncio.to_thread(narration.narrated, self._store, lease, insights, without, correlation_id)
        return min(rows, 1)
