"""The part of the service that follows the chain: source, pipeline, mempool and labels, over a store of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from utxoiq.chain.hashes import Hash256
from utxoiq.chain.network import NETWORKS
from utxoiq.errors import StoreError
from utxoiq.insights.generator import InsightGenerator
from utxoiq.opening import source_of
from utxoiq.persistence import SignalPersistenceModule, open_store
from utxoiq.pipeline import PipelineOrchestrator
from utxoiq.pipeline.label_watch import LabelWatch
from utxoiq.pipeline.leading import Leader
from utxoiq.pipeline.mempool_watch import MempoolWatch
from utxoiq.pipeline.monitor import BlockMonitor
from utxoiq.pipeline.outcomes import settle
from utxoiq.processors.discovery import discover
from utxoiq.sources.node.announcements import Announcements

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from utxoiq.config import Settings
    from utxoiq.models import BlockData, MempoolSnapshot
    from utxoiq.observability import MonitoringModule
    from utxoiq.pipeline.holdings import BalanceKeeper
    from utxoiq.warehouse_labels import WarehouseLabels

log = logging.getLogger(__name__)

HOUSEKEEPING_SECONDS = 60.0
LABELS_SECONDS = 5.0
"""How often the label file is looked at."""
COMMIT_RETRIES = 3
SETTLED_A_MINUTE = 100
"""Signals that are asked about at once: a store with many is not to keep a stopping service, nor a block, waiting."""


class Watching:
    """Everything that a block passes through until it is committed."""

    def __init__(
        self,
        settings: Settings,
        monitoring: MonitoringModule,
        holder: str,
        *,
        narrate: bool,
        after_block: Callable[[], None],
        between_blocks: Callable[[], None],
    ) -> None:
        """`narrate`: within the block's commit. `after_block`: called after a live commit. Raises ConfigError,
        StoreError, LabelError."""
        self._settings, self._monitoring = settings, monitoring
        with ExitStack() as built:
            source = source_of(settings)
            built.callback(source.close)
            self.store = open_store(settings.db)
            built.callback(self.store.close)
            self._published = self._published_labels(settings)
            if self._published:
                built.callback(self._published.close)
            self.labels = self._label_watch(settings)
            self.balances = self._balances_of(settings)
            processors = discover(settings.processor_configs())
            built.pop_all()
        self.persistence = SignalPersistenceModule(store=self.store)
        self.orchestrator = PipelineOrchestrator(
            processors, self.persistence, monitoring, labels=self.labels, commit_retries=COMMIT_RETRIES,
            balances=self.balances,
        )  # fmt: skip
        self.narrate(at_once=narrate)
        self.mempool = MempoolWatch(
            self._snapshot, self.store, monitoring, lambda: self._settings.mempool.interval_seconds
        )

        def committed() -> None:
            self.mempool.look()
            after_block()

        self.monitor = BlockMonitor(
            source, self.store, self.orchestrator, poll_seconds=_poll_of(settings),
            window_blocks=settings.live.window_blocks, from_height=settings.live.from_height,
            mempool_of=self.mempool.of, after_block=committed, between_blocks=between_blocks,
        )  # fmt: skip
        self._leader = Leader(self.store, "watch", holder, self.status)

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """What runs side by side."""
        doorbell = Announcements(self.monitor.ring, self._monitoring.emit_zmq_metric)
        work = [
            self._leader.run(self._follow), doorbell.keep_listening(self._announced_at), self.mempool.run(),
            self._keep_house(), self._watch_labels(),
        ]  # fmt: skip
        return [*work, self._published.run()] if self._published else work

    async def _follow(self) -> None:
        """The ledger first, where it lags: a block waits for no more than its own balances. Whoever takes over finds it
        closed."""
        try:
            cursor = await asyncio.to_thread(self.store.cursor)
            if self.balances and cursor:
                await self.balances.catch_up(cursor.height, Hash256.from_display(cursor.block_hash))
            await self.monitor.run()
        finally:
            if self.balances:
                self.balances.close()

    def close(self) -> None:
        """Let go of threads, sockets, the store and the ledger."""
        self.orchestrator.close()
        if self.balances:
            self.balances.close()
        self.monitor.source.close()
        if self._published:
            self._published.close()
        self.store.close()

    def status(self) -> dict[str, Any]:
        """How it stands, for /readyz and for other processes."""
        status = self.monitor.status
        said = {"ready": self._is_live, **asdict(status), "source": self.monitor.source.where}
        if self.balances:
            said["balances"] = self.balances.status._asdict()
        if self._leader.is_standing_by:
            said |= {"state": "waiting", "reason": "another process watches this store: standing by"}
        return said

    @property
    def _is_live(self) -> bool:
        return self.monitor.status.ready and self._leader.lease is not None

    def swap_labels(self) -> None:
        """Between two blocks: use the labels that were read since."""
        if self.labels.swap():
            self.persistence.forget()  # `entities import` may have restated the past

    def apply(self, settings: Settings, names: set[str]) -> None:
        """Build what can be refused first, then swap. Raises ConfigError, LabelError, StoreError."""
        processors = discover(settings.processor_configs())
        labels = self._label_watch(settings) if "labels" in names else None
        source = source_of(settings) if names & {"node", "esplora"} else None
        self._settings = settings
        if labels is not None:
            self.labels = labels
            self.orchestrator.use_labels(labels)
            self.persistence.forget()
        if source is not None:
            old = self.monitor.source
            self.monitor.use(source, _poll_of(settings))
            old.close()
        if "processors" in names:
            self.orchestrator.configure(processors)

    def narrate(self, *, at_once: bool) -> None:
        """Whether the next blocks are narrated within their own commit, or left to a worker."""
        self.orchestrator.narrate_with(InsightGenerator() if at_once else None)

    def _snapshot(self) -> MempoolSnapshot | None:
        live = self._settings.mempool.enabled and self._is_live
        return self.monitor.source.snapshot() if live else None

    def _announced_at(self) -> set[str]:
        """Addresses of ZMQ, none where there is none. Raises NodeError."""
        setting = self._settings.node.zmq
        if setting == "auto":
            return self.monitor.source.announced_at()
        return set() if setting == "off" else {setting}

    def _label_watch(self, settings: Settings) -> LabelWatch:
        """Of the network that is known already, if one is. Raises LabelError."""
        known = settings.network or self.store.network
        file = self._published.file if self._published else settings.labels
        return LabelWatch(file, NETWORKS[known] if known else None)

    def _balances_of(self, settings: Settings) -> BalanceKeeper | None:
        """Raises LedgerError where none is in the folder that is set."""
        if settings.ledger is None:
            return None
        from utxoiq.pipeline.holdings import BalanceKeeper  # noqa: PLC0415 its kernels load only where it is used

        def block_at(height: int) -> BlockData:
            return self.monitor.source.block_at(height)  # whichever the source is by then

        return BalanceKeeper(settings.ledger, block_at, self._monitoring)

    @staticmethod
    def _published_labels(settings: Settings) -> WarehouseLabels | None:
        if not settings.warehouse.labels:
            return None
        from utxoiq.warehouse_labels import WarehouseLabels  # noqa: PLC0415 Google's clients take a second to import

        return WarehouseLabels(settings)

    async def _watch_labels(self) -> None:
        while True:
            if await self.labels.look():
                self.monitor.ring()
            await asyncio.sleep(LABELS_SECONDS)

    async def _keep_house(self) -> None:
        """Alert on signals nobody narrates, drop old snapshots, and record which signals were right."""
        while True:
            if self._leader.is_standing_by:
                await asyncio.sleep(HOUSEKEEPING_SECONDS)
                continue
            try:
                await asyncio.to_thread(self.orchestrator.errors.check_stale_signals, self.store)
                before = int(time.time() - 86_400 * self._settings.mempool.keep_days)
                await asyncio.to_thread(self.store.forget_snapshots, before)
            except StoreError as error:
                log.error("stale signals can't be counted, nor old snapshots dropped: %s", error)
            await self._settle()
            await asyncio.sleep(HOUSEKEEPING_SECONDS)

    async def _settle(self) -> None:
        """Whatever comes of it, blocks go on."""
        try:
            await asyncio.to_thread(settle, self.store, self.orchestrator.processors, SETTLED_A_MINUTE)
        except Exception:
            log.exception("outcomes can't be recorded")


def _poll_of(settings: Settings) -> float:
    return settings.node.poll_seconds if settings.node.url else settings.esplora.poll_seconds
