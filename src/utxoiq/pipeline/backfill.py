"""The past, block after block: what the processors would have said, had they been there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from concurrent.futures import BrokenExecutor, Executor, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from utxoiq.entities.labels import labels_for
from utxoiq.errors import ConfigError, SourceError, UtxoiqError
from utxoiq.history import History, Past
from utxoiq.models import FACTS_VERSION, Backfilled, BackfillResult, BlockRecord, digest
from utxoiq.observability import MonitoringModule, bind_correlation_id
from utxoiq.persistence import SignalPersistenceModule
from utxoiq.persistence.module import SLACK
from utxoiq.pipeline.orchestrator import PipelineOrchestrator
from utxoiq.pipeline.outcomes import settle
from utxoiq.pipeline.reading import Open, Read, read_in_order
from utxoiq.processors.base import ProcessingContext
from utxoiq.processors.discovery import discover
from utxoiq.sources.esplora import EsploraSource
from utxoiq.sources.open import Source

if TYPE_CHECKING:
    from utxoiq.history import Window
    from utxoiq.models import BlockData, BlockFacts, Signal
    from utxoiq.persistence.sqlite import SqliteStore
    from utxoiq.processors.base import SignalProcessor
    from utxoiq.sources.base import BlockSource

DAYS = 30
"""What is filled by default."""
SETTLED = 6
"""Blocks below the tip of a live chain that a new store's backfill leaves to `run`, which can take them back."""
POLITE = 100.0
"""Blocks a minute from an API of others, unless told otherwise."""
METRICS_SECONDS = 2.0


class Heights(NamedTuple):
    """A range of the best chain, both ends included."""

    first: int
    last: int


class Progress(NamedTuple):
    """Where a backfill stands."""

    done: int
    total: int
    signals: int
    ends_at: datetime | None
    """UTC, None while the rate is unknown."""


class HistoricalBackfillModule:
    """Fills a store from a source: chronological, earlier blocks only as context, original timestamps."""

    def __init__(
        self,
        open_source: Open,
        store: SqliteStore,
        *,
        processors: Sequence[SignalProcessor] | None = None,
        labels_file: Path | None = None,
        monitoring_module: MonitoringModule | None = None,
        executor: Executor | None = None,
        workers: int = 1,
        blocks_per_minute: float | None = None,
    ) -> None:
        """`executor`: where facts are computed, `workers` at once; None for a thread. Any `concurrent.futures` executor
        whose processes can import utxoiq will do, a Dask client's `get_executor()` too; then `open_source` must pickle.
        `blocks_per_minute`: no faster than that; None: 100 from an API of others, else as fast as it goes."""
        self._open, self.source, self._store = open_source, open_source(), store
        self._labels_file = labels_file
        self._labels = labels_for(self.source.network, labels_file)
        self._monitoring = monitoring_module or MonitoringModule(enabled=False)
        installed = discover() if processors is None else processors
        self._processors = [one for one in installed if one.config.enabled]
        self._executor, self._workers = executor or ThreadPoolExecutor(1), workers
        rate = blocks_per_minute or (POLITE if isinstance(self.source, EsploraSource) else None)
        self._seconds_a_block = 60.0 / rate if rate else 0.0

    def heights(
        self,
        first: int | None = None,
        last: int | None = None,
        *,
        first_day: date | None = None,
        last_day: date | None = None,
    ) -> Heights:
        """The range that is meant, by height or by UTC date, by default the last 30 days; never beyond the store's tip.

        Raises ConfigError for one that is empty, SourceError.
        """
        top, lowest = self._top(), self._lowest
        if last is None:
            ends = None if last_day in (None, date.max) else last_day + timedelta(days=1)
            last = top if ends is None else _first_since(self.source, ends, top) - 1
        if min(last, top) < lowest:
            raise ConfigError(f"no block up to {last}: the source's blocks to fill in are {lowest} to {top}")
        if first is None:
            if first_day is None:
                newest = self.source.block_at(min(last, top)).block.header.time
                first_day = datetime.fromtimestamp(newest, UTC).date() - timedelta(days=DAYS)
            first = _first_since(self.source, first_day, top)
        found = Heights(max(first, lowest), min(last, top))
        if found.first > found.last:
            raise ConfigError(f"no block from {first} to {last}: the source's blocks end at {top}")
        return found

    def _top(self) -> int:
        cursor, tip = self._store.cursor(), self.source.tip()
        if tip is None:
            raise SourceError("the source has no block")
        if cursor is not None:
            return min(cursor.height, tip.height)
        return tip.height - (0 if isinstance(self.source, Source) else SETTLED)

    async def backfill(
        self,
        heights: Heights,
        signal_types: Collection[str] | None = None,
        *,
        narrate: bool = True,
        resume: bool = True,
        on_progress: Callable[[Progress], None] = lambda _: None,
    ) -> BackfillResult:
        """Facts, flows and signals of each block, one commit a block; `narrate`: leave the signals for narration.

        Begun again with the same arguments it goes on where it was killed, unless `resume` is false. Raises
        ConfigError for an unknown type, SourceError, DecodeError, StoreError.
        """
        processors = self._chosen(signal_types)
        types = tuple(sorted(processor.signal_type for processor in processors))
        name = self._name_of(heights.first, processors, narrate)
        at, blocks, signals = (self._store.backfilled(name) if resume else None) or (heights.first, 0, 0)
        tally = _Tally(heights, blocks, signals, self._monitoring, on_progress)
        persistence = SignalPersistenceModule(store=self._store)
        orchestrator = PipelineOrchestrator(processors, persistence, self._monitoring, labels=self._labels)
        blocks_with_past = self._with_past(at, heights.last, orchestrator.window_size)
        with bind_correlation_id(tally.correlation_id):
            try:
                async for read, window in blocks_with_past:
                    if self._is_poorer(read.facts):
                        tally.poorer += 1
                        tally.tell()
                        continue
                    block = await self._as_seen(read, persistence)
                    balances = await persistence.recorded_balances(read.block.block_hash)
                    context = ProcessingContext(
                        read.facts, window, self._labels, tally.correlation_id, read.flows, balances,
                        outcomes=await persistence.outcomes(block),
                    )  # fmt: skip
                    found = await orchestrator.generate_signals(block, context)
                    tally.add(found.signals)
                    record = BlockRecord(
                        block, read.facts, tuple(found.signals), (), None, tally.correlation_id, None, read.flows,
                        tuple(found.forecasts),
                    )  # fmt: skip
                    told = tuple(one for one in types if one not in found.failed)
                    work = Backfilled(name, told, narrate, (block.height or 0) + 1, tally.blocks, tally.signals)
                    await asyncio.to_thread(self._store.fill, record, work)
                    tally.tell()
            finally:
                await blocks_with_past.aclose()
                orchestrator.close()
            await asyncio.to_thread(settle, self._store, processors)
        return tally.result()

    def _chosen(self, signal_types: Collection[str] | None) -> list[SignalProcessor]:
        known = {processor.signal_type for processor in self._processors}
        unknown = sorted(set(signal_types or ()) - known)
        if unknown:
            raise ConfigError(f"no processor of type {unknown[0]}: there are {', '.join(sorted(known))}")
        return [p for p in self._processors if signal_types is None or p.signal_type in signal_types]

    def _name_of(self, first: int, processors: Sequence[SignalProcessor], narrate: bool) -> str:
        """Work whose result would be the same has the same name; the last height is none of it: a live tip moves."""
        models = [[p.model_version, p.settings, p.config.confidence_threshold] for p in processors]
        source = type(self.source).__name__
        return digest([first, source, models, narrate, self._labels.version, FACTS_VERSION])

    async def _with_past(self, first: int, last: int, size: int) -> AsyncGenerator[tuple[Read, Window], None]:
        """Each block of the range with the window before it. Raises SourceError where the chain does not link."""
        if first > last:
            return
        history = History(await asyncio.to_thread(self._remembered, first, size))
        begin = first if history.rows else max(first - size, self._lowest)
        blocks = self.read(begin, last)
        try:
            async for read in blocks:
                facts, flows = read.facts, read.flows
                if history.rows and history.rows[-1].facts.blockhash != facts.previousblockhash:
                    raise SourceError(
                        f"block {facts.blockhash} does not follow the one before: the chain turned, again"
                    )
                if (facts.height or 0) >= first:
                    yield read, history.window(size)
                snapshot = await asyncio.to_thread(self._store.mempool_of, facts.blockhash)
                balances = await asyncio.to_thread(self._store.balances_of, facts.blockhash)
                history.append(Past(facts, flows.sums() if flows else None, snapshot, balances))
                if len(history.rows) > size + SLACK:
                    history = History(history.rows[-max(size, 1) :])
        finally:
            await blocks.aclose()

    async def read(self, first: int, last: int) -> AsyncGenerator[Read, None]:
        """The source's blocks of these heights, both included, with their facts and flows. Raises SourceError,
        DecodeError, UtxoiqError where a process that reads dies."""
        blocks = read_in_order(
            self._executor, self._workers, self._open, self._labels_file, range(first, last + 1),
            seconds_a_block=self._seconds_a_block,
        )  # fmt: skip
        try:
            async for read in blocks:
                yield read
        except BrokenExecutor as error:
            raise UtxoiqError("a process that reads blocks died, of too little memory perhaps: begin again") from error
        finally:
            await blocks.aclose()

    @property
    def _lowest(self) -> int:
        return self.source.lowest()

    def _remembered(self, first: int, size: int) -> list[Past]:
        """The past before a height as the store has it, if it has all of it under these labels."""
        parent = str(self.source.block_at(first).prev_hash)
        rows = self._store.window(parent, size)
        now = (FACTS_VERSION, self._labels.version)
        same = all((row.facts.facts_version, row.facts.labels_version) == now for row in rows)
        return rows if same and len(rows) == min(size, first - self._lowest) else []

    def _is_poorer(self, facts: BlockFacts) -> bool:
        """Whether the store knows something of a block that this source does not tell."""
        rows = self._store.window(facts.blockhash, 1)
        if not rows or rows[0].facts.facts_version != facts.facts_version:
            return False
        known, told = rows[0].facts.as_dict(), facts.as_dict()
        return any(told[name] is None and value is not None for name, value in known.items())

    async def _as_seen(self, read: Read, persistence: SignalPersistenceModule) -> BlockData:
        """With the mempool it was mined from, where that was seen."""
        return replace(read.block, mempool=await persistence.recorded_mempool(read.block.block_hash))


class _Tally:
    """Counts, and tells how far a backfill is."""

    def __init__(
        self,
        heights: Heights,
        blocks: int,
        signals: int,
        monitoring: MonitoringModule,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self.blocks, self.signals, self.poorer, self.correlation_id = blocks, signals, 0, uuid4().hex
        self._heights, self._before, self._monitoring, self._on_progress = heights, blocks, monitoring, on_progress
        self._began, self._told_at = time.monotonic(), 0.0

    def add(self, signals: Sequence[Signal]) -> None:
        self.blocks += 1
        self.signals += len(signals)

    def tell(self, *, last: bool = False) -> None:
        """People at every block, metrics now and then."""
        now = time.monotonic()
        total, done = self._heights.last - self._heights.first + 1, self.blocks + self.poorer
        rate = (done - self._before) / max(now - self._began, 1e-9)
        left = timedelta(seconds=(total - done) / rate) if rate else None
        progress = Progress(done, total, self.signals, None if left is None else datetime.now(UTC) + left)
        self._on_progress(progress)
        if last or now - self._told_at > METRICS_SECONDS:
            self._told_at = now
            self._monitoring.emit_backfill_metrics(self.blocks, self.signals, progress.ends_at)

    def result(self) -> BackfillResult:
        self.tell(last=True)
        spent = round(time.monotonic() - self._began, 3)
        return BackfillResult(*self._heights, self.blocks, self.signals, self.poorer, spent, self.correlation_id)


def _first_since(source: BlockSource, day: date, top: int) -> int:
    """The height of the first block of a UTC day or later, by bisection; `top` + 1 where there is none. Block times are
    nearly in order: a block or two at midnight may count to the other day."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
    low, high = source.lowest(), top + 1
    while low < high:
        middle = (low + high) // 2
        if source.block_at(middle).block.header.time < start:
            low = middle + 1
        else:
            high = middle
    return low
