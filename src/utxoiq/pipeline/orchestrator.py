"""From a block to its signals and insights, committed at once: the only writer of blocks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

from utxoiq.entities.labels import LabelSet, labels_for
from utxoiq.errors import InsightRefused, NotLinked, Transient, UtxoiqError
from utxoiq.facts.projection import audit
from utxoiq.models import BlockRecord, Cursor, Insight, PipelineResult, Signal
from utxoiq.observability import MonitoringModule, bind_correlation_id
from utxoiq.pipeline.error_handler import ErrorHandler
from utxoiq.pipeline.runner import Found, ProcessorThread
from utxoiq.processors.base import ProcessingContext, SignalProcessor

if TYPE_CHECKING:
    from utxoiq.chain.hashes import Hash256
    from utxoiq.chain.network import Network
    from utxoiq.insights.generator import InsightGenerator
    from utxoiq.models import BlockBalances, BlockData, BlockFlows, PersistenceResult
    from utxoiq.persistence.module import SignalPersistenceModule
    from utxoiq.pipeline.holdings import BalanceKeeper

log = logging.getLogger(__name__)
block_log = logging.getLogger("utxoiq.block")
"""Failures that the result also carries: a caller that raises them can silence this."""


class _WriteFailed(Transient):
    """A commit that may succeed later."""

    def __init__(self, result: PersistenceResult) -> None:
        self.result = result
        super().__init__(result.error)


PROCESSOR_TIMEOUT = 10.0
"""Seconds after which a processor is abandoned and its block goes on without it."""


class PipelineOrchestrator:
    """Runs every enabled processor on each block and commits what they found.

    One processor's failure never stops another; a failed commit leaves nothing behind and is `success=False`, so
    that the block can be given again.
    """

    def __init__(
        self,
        signal_processors: Sequence[SignalProcessor],
        signal_persistence: SignalPersistenceModule,
        monitoring_module: MonitoringModule | None = None,
        *,
        insight_generator: InsightGenerator | None = None,
        balances: BalanceKeeper | None = None,
        labels: LabelSet | Callable[[Network], LabelSet] | None = None,
        processor_timeout: float = PROCESSOR_TIMEOUT,
        commit_retries: int = 0,
    ) -> None:
        """`insight_generator`: narrate within the block's own commit; None leaves signals for a worker.
        `balances`: a ledger kept at the store's tip; None: balances are unknown.
        `labels`: a set, or what gives the one of a network; None for the packaged ones.
        `commit_retries`: how often a commit is tried again, after 1, 2, 4 … s, while the store's trouble may pass."""
        self.signal_persistence = signal_persistence
        self.monitoring = monitoring_module or MonitoringModule(enabled=False)
        self.errors = ErrorHandler(self.monitoring)
        self._runners: list[ProcessorThread] = []
        self.configure(signal_processors)
        self._retries = commit_retries
        self._generator = insight_generator
        self.balances = balances
        self._labels_of: Callable[[Network], LabelSet] = labels_for
        if isinstance(labels, LabelSet):
            self._labels_of = lambda _: labels
        elif labels is not None:
            self._labels_of = labels
        self._timeout = processor_timeout

    def configure(self, signal_processors: Sequence[SignalProcessor]) -> None:
        """Use these processors, those that are enabled, from the next block on."""
        self.close()
        self._runners = [ProcessorThread(p) for p in signal_processors if p.config.enabled]
        self._window_size = max((r.processor.window_size for r in self._runners), default=0)

    def narrate_with(self, generator: InsightGenerator | None) -> None:
        """From the next block on; as `insight_generator` of the constructor."""
        self._generator = generator

    def use_labels(self, labels_of: Callable[[Network], LabelSet]) -> None:
        """Use these labels from the next block on."""
        self._labels_of = labels_of

    async def process_new_block(
        self, block: BlockData, correlation_id: str | None = None, *, follows: bool = False
    ) -> PipelineResult:
        """Facts, signals and insights of one block, committed together; `correlation_id` of its detection, if any.

        A block that does not follow the stored tip is kept as an island, with an empty past. With `follows` it is
        refused with NotLinked: somebody else moved the store meanwhile.
        """
        correlation_id, began = correlation_id or uuid4().hex, time.perf_counter()
        timing: dict[str, float] = {}
        with bind_correlation_id(correlation_id), self.monitoring.span("block", correlation_id, height=block.height):
            try:
                result = await self._derive_and_commit(block, correlation_id, timing, follows)
            except UtxoiqError as refusal:
                self.errors.count(refusal, "block")
                block_log.error("block %s: %s", block.block_hash, refusal, extra={"correlation_id": correlation_id})
                error = str(refusal)
                result = PipelineResult(False, block.height, [], correlation_id, timing, error=error, failure=refusal)
            timing["total_duration_ms"] = _ms_since(began)
            self._tell(block, result)
        return result

    def _tell(self, block: BlockData, result: PipelineResult) -> None:
        said = {"correlation_id": result.correlation_id, "signals": len(result.signals), **result.timing_metrics}
        log.debug("block %s %s", block.block_hash, "done" if result.success else "failed", extra=said)
        counts = len(result.signals) if result.success else 0
        timing = result.timing_metrics
        self.monitoring.emit_pipeline_metrics(
            result.correlation_id, result.block_height, timing, counts, result.success
        )
        if result.success:
            self.monitoring.emit_signal_metrics(result.signals, result.correlation_id)

    async def _derive_and_commit(
        self, block: BlockData, correlation_id: str, timing: dict[str, float], follows: bool
    ) -> PipelineResult:
        from utxoiq.facts.compute import compute_facts  # noqa: PLC0415 kernels load with the first block, not before
        from utxoiq.facts.flows import compute_flows  # noqa: PLC0415

        began, labels = time.perf_counter(), self._labels_of(block.network)
        with self.monitoring.span("facts"):
            facts = compute_facts(block, labels)
            flows = compute_flows(block, labels)
        cursor = await asyncio.to_thread(self._cursor_after, block, follows)
        recorded = await self.signal_persistence.recorded_mempool(block.block_hash)
        block = replace(block, mempool=recorded) if recorded else block
        with self.monitoring.span("signals"):
            window = await self.signal_persistence.window(block.prev_hash, self._window_size if cursor else 0)
            balances = await self._balances_after(block, flows, labels, cursor)
            outcomes = await self.signal_persistence.outcomes(block) if cursor else {}
            context = ProcessingContext(facts, window, labels, correlation_id, flows, balances, outcomes=outcomes)
            signals, forecasts, _ = await self.generate_signals(block, context)
        timing["signal_generation_ms"] = _ms_since(began)
        with self.monitoring.span("insights"):
            insights = await self._narrate(signals, correlation_id)
        persisting = time.perf_counter()
        foretold = audit(block.mempool, facts) if block.mempool else None
        record = BlockRecord(
            block, facts, tuple(signals), tuple(insights), cursor, correlation_id, foretold, flows, tuple(forecasts),
            balances,
        )  # fmt: skip
        with self.monitoring.span("commit"):
            written = await self._commit(record)
        if written.success and facts.pool_name:
            self.monitoring.emit_entity_metrics(facts.pool_name, "mining_pool")
        timing["signal_persistence_ms"] = _ms_since(persisting)
        return PipelineResult(
            written.success, block.height, signals, correlation_id, timing, insights, forecasts, written.error,
            rows_written=written.written,
        )  # fmt: skip

    async def _commit(self, record: BlockRecord) -> PersistenceResult:
        """Try again while the store's trouble may pass; the last result, whatever it is."""

        async def write() -> PersistenceResult:
            result = await self.signal_persistence.connect(record)
            if result.transient:
                raise _WriteFailed(result)
            return result

        try:
            return await self.errors.retry_with_backoff(
                write, what="the commit", correlation_id=record.correlation_id, max_retries=self._retries
            )
        except _WriteFailed as failed:
            return failed.result

    async def disconnect_block(self, block_hash: Hash256) -> PersistenceResult:
        """Take the tip off and retract what it said."""
        result = await self.signal_persistence.disconnect(block_hash, uuid4().hex)
        if result.success and self.balances:
            await self.balances.disconnect(block_hash)
        return result

    def close(self) -> None:
        """End the processors' threads."""
        for runner in self._runners:
            runner.close()
        self._runners = []

    def _cursor_after(self, block: BlockData, follows: bool) -> Cursor | None:
        """Where the store stands after this block; None for one that does not follow the tip, an island."""
        tip = self.signal_persistence.store.cursor()
        if tip is not None and tip.block_hash == str(block.block_hash):
            return tip  # given again: it is seen with the same past
        if tip is not None and tip.block_hash != str(block.prev_hash):
            if follows and self.signal_persistence.store.state(str(block.block_hash)) != "connected":
                raise NotLinked(f"block {block.block_hash} does not follow the stored tip {tip.block_hash}")
            return None
        if block.height is None:
            return None
        return Cursor(str(block.block_hash), block.height)

    async def _balances_after(
        self, block: BlockData, flows: BlockFlows | None, labels: LabelSet, cursor: Cursor | None
    ) -> BlockBalances | None:
        """What the block did to large balances: by the ledger, or as it was recorded when the block was here before."""
        found = await self.balances.connect(block, flows, labels) if self.balances and cursor else None
        return found or await self.signal_persistence.recorded_balances(block.block_hash)

    @property
    def processors(self) -> list[SignalProcessor]:
        """Those that are enabled."""
        return [runner.processor for runner in self._runners]

    @property
    def window_size(self) -> int:
        """Past blocks that the most curious processor looks at."""
        return self._window_size

    async def generate_signals(self, block: BlockData, context: ProcessingContext) -> Found:
        """What all enabled processors find, whatever becomes of one of them."""
        found = await asyncio.gather(*(self._run_processor_safe(r, block, context) for r in self._runners))
        return Found(
            [one for f in found for one in f.signals], [one for f in found for one in f.forecasts],
            tuple(one for f in found for one in f.failed),
        )  # fmt: skip

    async def _run_processor_safe(self, runner: ProcessorThread, block: BlockData, context: ProcessingContext) -> Found:
        """What a processor finds, nothing where it fails: that is logged and stops nothing else."""
        try:
            await runner.prepare()
            return await runner.process(block, context, self._timeout)
        except Exception as error:  # noqa: BLE001 whatever a processor does, the others go on
            self.errors.handle_processor_error(
                error, processor=runner.processor.signal_type, correlation_id=context.correlation_id,
                block_height=block.height, block_hash=str(block.block_hash),
            )  # fmt: skip
            return Found([], [], (runner.processor.signal_type,))

    async def _narrate(self, signals: Sequence[Signal], correlation_id: str) -> list[Insight]:
        insights = []
        for signal in signals if self._generator else ():
            try:
                began = time.perf_counter()
                insight = await self._generator.generate(signal)  # type: ignore[union-attr]
                insights.append(insight)
                self.monitoring.emit_insight_metrics(
                    insight.category, insight.confidence, _ms_since(began), correlation_id
                )
            except InsightRefused as refusal:
                log.error("signal %s: %s", signal.signal_id, refusal, extra={"correlation_id": correlation_id})
            except Exception as error:  # noqa: BLE001 whatever finding words does, the block is committed
                self.errors.handle_ai_provider_error(
                    error, provider="narration", signal_id=signal.signal_id, correlation_id=correlation_id
                )
        return insights


def _ms_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 3)
