"""`utxoiq run` and its parts, each of which can be a process of its own over the same store."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Collection, Coroutine
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal, get_args

from utxoiq.config import ConfigurationModule, Reload, Settings, changes_between
from utxoiq.errors import ConfigError, LabelError, StoreError
from utxoiq.insights.generator import InsightGenerator, TemplateProvider
from utxoiq.insights.providers import provider_of
from utxoiq.observability import MonitoringModule, configure_logging
from utxoiq.persistence import open_store
from utxoiq.persistence.ai_calls import Budget
from utxoiq.persistence.leases import holder_name
from utxoiq.pipeline.error_handler import ErrorHandler
from utxoiq.pipeline.narrator import Narrator
from utxoiq.pipeline.writer import Writer
from utxoiq.watching import Watching
from utxoiq.web.charts import Charts
from utxoiq.web.health import health_app, listen_at, serve
from utxoiq.web.overview import Overview

if TYPE_CHECKING:
    from utxoiq.insights.generator import AIProvider
    from utxoiq.shipping import Shipping

log = logging.getLogger(__name__)

Part = Literal["watch", "narrate", "ship", "serve"]
PARTS: tuple[Part, ...] = get_args(Part)
SWAPPABLE = ("processors", "labels", "mempool", "node", "esplora", "ai", "log")
"""Settings that take effect while running; the others at the next start."""


class Service:
    """The parts asked for, beside each other."""

    def __init__(self, configuration: ConfigurationModule, parts: Collection[Part] = PARTS) -> None:
        """Raises ConfigError, StoreError, LabelError, WarehouseError: a service does not start half."""
        self.configuration, self._parts = configuration, parts
        settings = self.settings = configuration.settings
        self._refused: Settings | None = None
        self._providers: list[AIProvider] = []
        configure_logging(settings.log.level, settings.log.as_json)
        holder = holder_name()
        with ExitStack() as built:
            self._listening = None if settings.http.listen == "off" else listen_at(settings.http.listen)
            if self._listening:
                built.callback(self._listening.close)
            self.monitoring = MonitoringModule(
                settings.metrics.project_id, settings.metrics.enabled, otlp_endpoint=settings.metrics.otlp_endpoint,
                direct=settings.metrics.direct,
            )  # fmt: skip
            built.callback(self.monitoring.shutdown)
            self.shipping = self._shipping_of(settings, holder)
            if self.shipping:
                built.callback(self.shipping.close)
            self.watching = None
            if "watch" in parts:
                self.watching = Watching(
                    settings, self.monitoring, holder, narrate=self._narrates_at_once(settings), after_block=self._ring,
                    between_blocks=self._between_blocks,
                )  # fmt: skip
                built.callback(self.watching.close)
            self.store = open_store(settings.db)
            built.callback(self.store.close)
            self._close = built.pop_all().close
        self.narrator = Narrator(
            self.store, self._writer_of(settings), self.monitoring, ErrorHandler(self.monitoring), holder
        )
        self.overview = Overview(self.store, self.monitoring)

    def _narrates_at_once(self, settings: Settings) -> bool:
        """Whether a block's commit holds its insights, since nobody is to be asked for words."""
        return "narrate" in self._parts and settings.ai.provider == "template"

    def _writer_of(self, settings: Settings) -> Writer:
        """Raises ConfigError."""
        ai = settings.ai
        budget = Budget(
            ai.usd_a_day, ai.calls_a_day, ai.usd_per_million_tokens_in, ai.usd_per_million_tokens_out, ai.max_tokens
        )
        provider = provider_of(ai, self.monitoring) if "narrate" in self._parts else TemplateProvider()
        self._providers.append(provider)
        return Writer(self.store, InsightGenerator(provider), budget, confidence_threshold=ai.confidence_threshold)

    def _shipping_of(self, settings: Settings, holder: str) -> Shipping | None:
        if "ship" not in self._parts or (settings.warehouse.project is None and len(self._parts) > 1):
            return None
        from utxoiq.shipping import Shipping  # noqa: PLC0415 Google's clients take a second to import

        return Shipping(settings, self.monitoring, holder)

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
            for provider in self._providers:
                await provider.close()
            self.close()

    def close(self) -> None:
        """Let go of threads, sockets and the store."""
        self._close()

    def _work(self) -> list[Coroutine[Any, Any, None]]:
        work = [self._watch_settings()]
        if self.watching:
            work += self.watching.work()
        if "narrate" in self._parts:
            work.append(self.narrator.run())
        if self.shipping:
            work.append(self.shipping.run())
        if "serve" in self._parts and not self.watching:
            work.append(self.overview.run())
        if self._listening:
            app = health_app(self.status, self.monitoring.metrics_text, Charts(self.store))
            work.append(serve(app, self._listening))
        return work

    def status(self) -> dict[str, Any]:
        """How it stands, for /readyz."""
        return self.watching.status() if self.watching else self.overview.status(self._parts)

    def _ring(self) -> None:
        """A block was committed."""
        self.narrator.ring()
        if self.shipping:
            self.shipping.ring()

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
        if change.refused is not None:
            self._refuse(change.settings, change.changes, change.refused)
        elif self.watching:
            self.watching.monitor.ring()
        else:
            self._swap_settings()

    def _between_blocks(self) -> None:
        """Swap in what was read since, whole, or not at all."""
        assert self.watching is not None
        self.watching.swap_labels()
        self._swap_settings()

    def _swap_settings(self) -> None:
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

    def _apply(self, settings: Settings, names: set[str]) -> None:
        writer = self._writer_of(settings) if "ai" in names else None
        if self.watching:
            self.watching.apply(settings, names)
        if writer:
            self.narrator.use(writer)
            if self.watching:
                self.watching.narrate(at_once=self._narrates_at_once(settings))
        if "log" in names:
            configure_logging(settings.log.level, settings.log.as_json)

    def _refuse(self, settings: Settings, changes: list[dict[str, Any]], reason: str) -> None:
        log.error("settings refused, the old ones stay: %s", reason)
        self._remember("refused", settings, changes, reason)

    def _remember(self, event: str, settings: Settings, changes: list[dict[str, Any]], reason: str = "") -> None:
        try:
            self.store.add_settings(event, settings.shown(), changes, reason)
        except StoreError as error:
            log.error("the change of settings can't be stored: %s", error)
