"""From a block to its signals and insights, committed at once: the only writer of blocks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import uuid4

from utxoiq.entities.labels import LabelSet, labels_for
from utxoiq.errors import InsightRefused, UtxoiqError
from utxoiq.models import BlockFacts, BlockRecord, Cursor, Insight, PipelineResult, Signal
from utxoiq.pipeline.runner import ProcessorThread
from utxoiq.processors.base import ProcessingContext, SignalProcessor

if TYPE_CHECKING:
    from utxoiq.chain.hashes import Hash256
    from utxoiq.insights.generator import InsightGenerator
    from utxoiq.models import BlockData, PersistenceResult
    from utxoiq.persistence.module import SignalPersistenceModule

log = logging.getLogger(__name__)
block_log = logging.getLogger("utxoiq.block")
"""Failures that the result also carries: a caller that raises them can silence this."""

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
        *,
        insight_generator: InsightGenerator | None = None,
        labels: LabelSet | None = None,
        processor_timeout: float = PROCESSOR_TIMEOUT,
    ) -> None:
        """`insight_generator`: narrate within the block's own commit; None leaves signals for a worker.
        `labels`: None for the packaged ones of each block's network."""
        self.signal_persistence = signal_persistence
        self._runners = [ProcessorThread(p) for p in signal_processors if p.config.enabled]
        self._window_size = max((r.processor.window_size for r in self._runners), default=0)
        self._generator = insight_generator
        self._labels = labels
        self._timeout = processor_timeout

    async def process_new_block(self, block: BlockData) -> PipelineResult:
        """Facts, signals and insights of one block, committed together."""
        correlation_id, began = uuid4().hex, time.perf_counter()
        timing: dict[str, float] = {}
        try:
            result = await self._derive_and_commit(block, correlation_id, timing)
        except UtxoiqError as refusal:
            block_log.error("block %s: %s", block.block_hash, refusal, extra={"correlation_id": correlation_id})
            error = str(refusal)
            result = PipelineResult(False, block.height, [], correlation_id, timing, error=error, failure=refusal)
        timing["total_duration_ms"] = _ms_since(began)
        outcome = "done" if result.success else "failed"
        log.info("block %s %s", block.block_hash, outcome, extra={"correlation_id": correlation_id, **timing})
        return result

    async def _derive_and_commit(
        self, block: BlockData, correlation_id: str, timing: dict[str, float]
    ) -> PipelineResult:
        from utxoiq.facts.compute import compute_facts  # noqa: PLC0415 kernels load with the first block, not before

        began = time.perf_counter()
        facts = compute_facts(block, self._labels or labels_for(block.network))
        cursor = self._cursor_after(block)
        signals = await self._generate_signals(block, facts, cursor is not None, correlation_id)
        timing["signal_generation_ms"] = _ms_since(began)
        insights = await self._narrate(signals, correlation_id)
        persisting = time.perf_counter()
        record = BlockRecord(block, facts, tuple(signals), tuple(insights), cursor, correlation_id)
        written = await self.signal_persistence.connect(record)
        timing["signal_persistence_ms"] = _ms_since(persisting)
        return PipelineResult(
            written.success, block.height, signals, correlation_id, timing, insights, written.error,
            rows_written=written.written,
        )  # fmt: skip

    async def disconnect_block(self, block_hash: Hash256) -> PersistenceResult:
        """Take the tip off and retract what it said."""
        return await self.signal_persistence.disconnect(block_hash, uuid4().hex)

    def close(self) -> None:
        """End the processors' threads."""
        for runner in self._runners:
            runner.close()

    def _cursor_after(self, block: BlockData) -> Cursor | None:
        """Where the store stands after this block; None for one that does not follow the tip, an island."""
        tip = self.signal_persistence.store.cursor()
        if block.height is None or (tip is not None and tip.block_hash != str(block.prev_hash)):
            return None
        return Cursor(str(block.block_hash), block.height)

    async def _generate_signals(
        self, block: BlockData, facts: BlockFacts, linked: bool, correlation_id: str
    ) -> list[Signal]:
        window = await self.signal_persistence.window(block.prev_hash, self._window_size) if linked else []
        context = ProcessingContext(facts, tuple(window), self._labels or labels_for(block.network), correlation_id)
        found = await asyncio.gather(*(self._run_processor_safe(r, block, context) for r in self._runners))
        return [signal for signals in found for signal in signals]

    async def _run_processor_safe(
        self, runner: ProcessorThread, block: BlockData, context: ProcessingContext
    ) -> list[Signal]:
        """A processor's signals, none where it fails: that is logged and stops nothing else."""
        try:
            return await runner.process(block, context, self._timeout)
        except Exception:
            log.exception(
                "processor %s failed on block %s", runner.processor.signal_type, block.block_hash,
                extra={"correlation_id": context.correlation_id},
            )  # fmt: skip
            return []

    async def _narrate(self, signals: Sequence[Signal], correlation_id: str) -> list[Insight]:
        insights = []
        for signal in signals if self._generator else ():
            try:
                insights.append(await self._generator.generate(signal))  # type: ignore[union-attr]
            except InsightRefused as refusal:
                log.error("signal %s: %s", signal.signal_id, refusal, extra={"correlation_id": correlation_id})
        return insights


def _ms_since(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 3)
