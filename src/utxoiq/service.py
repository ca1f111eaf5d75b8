"""`utxoiq run`: monitor, mempool, doorbell, settings, alerts and health in one process."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from utxoiq.chain.network import NETWORKS
from utxoiq.config import ConfigurationModule, Reload, Settings, changes_between
from utxoiq.errors import ConfigError, LabelError, StoreError
from utxoiq.insights.generator import InsightGenerator
from utxoiq.observability import MonitoringModule, configure_logging
from utxoiq.persistence import SignalPersistenceModule, open_store
from utxoiq.pipeline import PipelineOrchestrator
from utxoiq.pipeline.label_watch import LabelWatch
from utxoiq.pipeline.mempool_watch import MempoolWatch
from utxoiq.pipeline.monitor import BlockMonitor
from utxoiq.processors.discovery import discover
from utxoiq.sources.esplora import EsploraSource
from utxoiq.sources.node.announcements import Announcements
from utxoiq.sources.node.source import NodeSource
from utxoiq.web.health import health_app, listen_at, serve

if TYPE_CHECKING:
    from utxoiq.models import MempoolSnapshot

log = logging.getLogger(__name__)

HOUSEKEEPING_SECONDS = 60.0
LABELS_SECONDS = 5.0
"""How often the label file is looked at."""
COMMIT_RETRIES = 3
SWAPPABLE = ("processors", "labels", "mempool", "node", "esplora", "log")
"""Settings that take effect while running; the others at the next start."""


def source_of(settings: Settings) -> NodeSource | EsploraSource:
    """The live source that is set. Raises ConfigError where there is none: an API of others is never the default."""
    wanted = NETWORKS[settings.network] if settings.network else None
    node, esplora = settings.node, settings.esplora
    if node.url:
        return NodeSource(
            node.url, user=node.user, password=node.password.get_secret_value(), cookie_file=node.cookie_file,
            rest=node.rest, timeout=node.timeout_seconds, proxy=node.proxy, network=wanted,
        )  # fmt: skip
    if esplora.url:
        return EsploraSource(
            esplora.url, requests_per_second=esplora.requests_per_second, proxy=esplora.proxy, network=wanted,
            most_requests_a_block=esplora.most_requests_a_block, timeout=esplora.timeout_seconds,
        )  # fmt: skip
    raise ConfigError("no node: give --node http://127.0.0.1:8332 (or node.url in utxoiq.toml), or --esplora URL")


class Service:
    """Everything that runs beside each other, over one store."""

    def __init__(self, configuration: ConfigurationModule) -> None:
        """Raises ConfigError, StoreError, LabelError: a service does not start half."""
        self.configuration = configuration
        settings = self.settings = configuration.settings
        self._refused: Settings | None = None
        configure_logging(settings.log.level, settings.log.as_json)
        with ExitStack() as built:
            self._listening = None if settings.http.listen == "off" else listen_at(settings.http.listen)
            if self._listening:
                built.callback(self._listening.close)
            source = source_of(settings)
            built.callback(source.close)
            self.store = open_store(settings.db)
            built.callback(self.store.close)
            self.labels = self._label_watch(settings)
            processors = discover(settings.processor_configs())
            self.monitoring = MonitoringModule(
                settings.metrics.project_id, settings.metrics.enabled, otlp_endpoint=settings.metrics.otlp_endpoint
            )
            built.pop_all()
        self.persistence = SignalPersistenceModule(store=self.store)
        self.orchestrator = PipelineOrchestrator(
            processors, self.persistence, self.monitoring, insight_generator=InsightGenerator(), labels=self.labels,
            commit_retries=COMMIT_RETRIES,
        )  # fmt: skip
        self.mempool = MempoolWatch(
            self._snapshot, self.store, self.monitoring, lambda: self.settings.mempool.interval_seconds
        )
        self.monitor = BlockMonitor(
            source, self.store, self.orchestrator, poll_seconds=_poll_of(settings),
            window_blocks=settings.live.window_blocks, from_height=settings.live.from_height,
            mempool_of=self.mempool.of, after_block=self.mempool.look, between_blocks=self._between_blocks,
        )  # fmt: skip

    async def run(self) -> None:
        """Until SIGTERM or SIGINT, or a task fails as none should."""
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_now)
        try:
            self.store.add_settings("applied", self.settings.shown(), [], "start")
            for warning in self.configuration.warnings:
                log.warning("settings: %s", warning)
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(work) for work in self._work()]
                await stop.wait()
                log.info("stopping")
                for task in tasks:
                    task.cancel()
        finally:
            self.close()

    def close(self) -> None:
        """Let go of threads, sockets and the store."""
        self.orchestrator.close()
        self.monitoring.shutdown()
        self.monitor.source.close()
        self.store.close()

    def _work(self) -> list[Any]:
        doorbell = Announcements(self.monitor.ring, self.monitoring.emit_zmq_metric)
        work = [self.monitor.run(), doorbell.keep_listening(self._announced_at), self._watch_settings()]
        work += [self.mempool.run(), self._keep_house(), self._watch_labels()]
        if self._listening:
            work.append(serve(health_app(self.status, self.monitoring.metrics_text), self._listening))
        return work

    def status(self) -> dict[str, Any]:
        """How it stands, for /readyz."""
        status = self.monitor.status
        return {"ready": status.ready, **asdict(status), "source": self.monitor.source.where}

    def _snapshot(self) -> MempoolSnapshot | None:
        live = self.settings.mempool.enabled and self.monitor.status.ready
        return self.monitor.source.snapshot() if live else None

    def _announced_at(self) -> set[str]:
        """Addresses of ZMQ, none where there is none. Raises NodeError."""
        setting = self.settings.node.zmq
        if setting == "auto":
            return self.monitor.source.announced_at()
        return set() if setting == "off" else {setting}

    # Labels

    def _label_watch(self, settings: Settings) -> LabelWatch:
        """Of the network that is known already, if one is. Raises LabelError."""
        known = settings.network or self.store.network
        return LabelWatch(settings.labels, NETWORKS[known] if known else None)

    async def _watch_labels(self) -> None:
        while True:
            if await self.labels.look():
                self.monitor.ring()
            await asyncio.sleep(LABELS_SECONDS)

    # Settings

    def _reload_now(self) -> None:
        change = self.configuration.reload()
        if change:
            self._take(change)

    async def _watch_settings(self) -> None:
        async for change in self.configuration.watch():
            self._take(change)

    def _take(self, change: Reload) -> None:
        self.monitoring.emit_config_reload(change.refused is None)
        for warning in change.warnings:
            log.warning("settings: %s", warning)
        if change.refused is None:
            self.monitor.ring()
        else:
            self._refuse(change.settings, change.changes, change.refused)

    def _between_blocks(self) -> None:
        """Swap in what was read since, whole, or not at all."""
        if self.labels.swap():
            self.persistence.forget()  # `entities import` may have restated the past
        settings = self.configuration.settings
        if settings in (self.settings, self._refused):
            return
        changes = changes_between(self.settings, settings)
        try:
            self._apply(settings, {change["name"].split(".")[0] for change in changes})
        except (ConfigError, LabelError, StoreError) as error:
            self._refused = settings
            self.monitoring.emit_config_reload(False)
            self._refuse(settings, changes, str(error))
            return
        self.settings, self._refused = settings, None
        for one in changes:
            later = "" if one["name"].split(".")[0] in SWAPPABLE else " (takes effect at the next start)"
            log.info("setting %s: %s, was %s%s", one["name"], one["new"], one["old"], later)
        self._remember("applied", settings, changes)

    def _refuse(self, settings: Settings, changes: list[dict[str, Any]], reason: str) -> None:
        log.error("settings refused, the old ones stay: %s", reason)
        self._remember("refused", settings, changes, reason)

    def _apply(self, settings: Settings, names: set[str]) -> None:
        """Build what can be refused first, then swap. Raises ConfigError, LabelError, StoreError."""
        processors = discover(settings.processor_configs())
        labels = self._label_watch(settings) if "labels" in names else None
        source = source_of(settings) if names & {"node", "esplora"} else None
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
        if "log" in names:
            configure_logging(settings.log.level, settings.log.as_json)

    def _remember(self, event: str, settings: Settings, changes: list[dict[str, Any]], reason: str = "") -> None:
        try:
            self.store.add_settings(event, settings.shown(), changes, reason)
        except StoreError as error:
            log.error("the change of settings can't be stored: %s", error)

    # Alerts and old snapshots

    async def _keep_house(self) -> None:
        while True:
            try:
                await asyncio.to_thread(self.orchestrator.errors.check_stale_signals, self.store)
                before = int(time.time() - 86_400 * self.settings.mempool.keep_days)
                await asyncio.to_thread(self.store.forget_snapshots, before)
            except StoreError as error:
                log.error("stale signals can't be counted, nor old snapshots dropped: %s", error)
            await asyncio.sleep(HOUSEKEEPING_SECONDS)


def _poll_of(settings: Settings) -> float:
    return settings.node.poll_seconds if settings.node.url else settings.esplora.poll_seconds
