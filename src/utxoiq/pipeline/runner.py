"""Each processor in a thread of its own, so that one that hangs or burns time stops nothing but itself."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from utxoiq.errors import UtxoiqError
from utxoiq.models import Signal, canonical_json

if TYPE_CHECKING:
    from utxoiq.models import BlockData
    from utxoiq.processors.base import ProcessingContext, SignalProcessor


class ProcessorHung(UtxoiqError):
    """A processor that has not answered in time; it is left alone until it does."""


class ProcessorFailed(UtxoiqError):
    """A processor that gave something else than signals of the block it was asked about."""


class ProcessorThread:
    """A daemon thread with its own event loop for one processor."""

    def __init__(self, processor: SignalProcessor) -> None:
        self.processor = processor
        self._loop = asyncio.new_event_loop()
        self._pending: Future[list[Signal]] | None = None
        name = f"utxoiq-{processor.signal_type}"
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    async def process(self, block: BlockData, context: ProcessingContext, seconds: float) -> list[Signal]:
        """The processor's signals. Raises ProcessorHung after `seconds`, or while an earlier call hangs."""
        if self._pending is not None and not self._pending.done():
            raise ProcessorHung(f"{self.processor.signal_type} still hangs on an earlier block: skipped")
        self._pending = asyncio.run_coroutine_threadsafe(self._ask(block, context), self._loop)
        try:
            async with asyncio.timeout(seconds):
                return await asyncio.shield(asyncio.wrap_future(self._pending))
        except TimeoutError:
            if self._pending.done():
                raise
            raise ProcessorHung(f"{self.processor.signal_type} gave no answer in {seconds:g} s: abandoned") from None

    async def _ask(self, block: BlockData, context: ProcessingContext) -> list[Signal]:
        """What the processor gives, if it is signals of this block that can be stored. Raises ProcessorFailed else."""
        try:
            signals = await self.processor.process_block(block, context)
        except asyncio.CancelledError as error:  # nobody cancels in here but the processor itself
            raise ProcessorFailed(f"{self.processor.signal_type} cancelled itself") from error
        if not isinstance(signals, list) or not all(isinstance(signal, Signal) for signal in signals):
            raise ProcessorFailed(f"{self.processor.signal_type} gave no list of signals but {str(signals)[:100]!r}")
        for signal in signals:
            if signal.block_hash != context.facts.blockhash or not 0 <= signal.confidence <= 1:
                raise ProcessorFailed(f"signal {signal.kind} is of another block, or its confidence is no probability")
            canonical_json(signal.content())
        return signals

    def close(self) -> None:
        """End the thread; one that hangs ends with the process."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=1)
        if not self._thread.is_alive():
            self._loop.close()
