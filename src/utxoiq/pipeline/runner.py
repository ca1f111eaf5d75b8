"""Each processor in a thread of its own, so that one that hangs or burns time stops nothing but itself."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, NamedTuple

from utxoiq.errors import UtxoiqError
from utxoiq.models import Forecast, Signal, canonical_json

if TYPE_CHECKING:
    from utxoiq.models import BlockData
    from utxoiq.processors.base import ProcessingContext, SignalProcessor


_WHOLE, _TEXT, _NONE = (int,), (str,), type(None)
STORED: dict[type, dict[str, tuple[type, ...]]] = {
    Signal: {
        **dict.fromkeys(("signal_id", "signal_type", "kind", "subject", "block_hash", "model_version"), _TEXT),
        **dict.fromkeys(("confidence_basis", "metadata", "evidence", "inputs"), (dict,)),
        "block_height": (int, _NONE), "created_at": _WHOLE, "confidence": (int, float), "simulated": (bool,),
    },
    Forecast: {
        **dict.fromkeys(("method", "horizon", "block_hash", "model_version"), _TEXT),
        **dict.fromkeys(("target_height", "value_kvb", "cases"), _WHOLE),
        **dict.fromkeys(("low_kvb", "high_kvb"), (int, _NONE)),
    },
}  # fmt: skip
"""What a store takes of them, field by field."""


class ProcessorHung(UtxoiqError):
    """A processor that has not answered in time; it is left alone until it does."""


class ProcessorFailed(UtxoiqError):
    """A processor that gave something else than signals of the block it was asked about."""


class Found(NamedTuple):
    """What a processor gave for a block."""

    signals: list[Signal]
    forecasts: list[Forecast]
    failed: tuple[str, ...] = ()
    """Signal types that were asked for and gave nothing, since their processor failed."""


class ProcessorThread:
    """A daemon thread with its own event loop for one processor."""

    def __init__(self, processor: SignalProcessor) -> None:
        self.processor = processor
        self._loop = asyncio.new_event_loop()
        self._pending: Future[Found] | None = None
        self._prepared = False
        name = f"utxoiq-{processor.signal_type}"
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    async def prepare(self) -> None:
        """Have the processor load what it needs, once, without a limit of time. Raises what it raises."""
        if not self._prepared:
            self._prepared = True
            await asyncio.to_thread(self.processor.prepare)

    async def process(self, block: BlockData, context: ProcessingContext, seconds: float) -> Found:
        """What it finds. Raises ProcessorHung after `seconds`, or while an earlier call hangs."""
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

    async def _ask(self, block: BlockData, context: ProcessingContext) -> Found:
        """What the processor gives, if it is signals of this block that can be stored. Raises ProcessorFailed else."""
        try:
            signals = await self.processor.process_block(block, context)
            forecasts = self.processor.forecasts(block, context)
        except asyncio.CancelledError as error:  # nobody cancels in here but the processor itself
            raise ProcessorFailed(f"{self.processor.signal_type} cancelled itself") from error
        self._check(signals, Signal, context)
        self._check(forecasts, Forecast, context)
        for signal in signals:
            if not 0 <= signal.confidence <= 1 or signal.block_height != context.facts.height:
                raise ProcessorFailed(f"signal {signal.kind} has no such height, or its confidence is no probability")
            canonical_json(signal.content())
        return Found(signals, forecasts)

    def _check(self, given: object, kind: type[Signal] | type[Forecast], context: ProcessingContext) -> None:
        """Raises ProcessorFailed for anything but a list of these, of this block, that a store can take."""
        name = kind.__name__.lower()
        if not isinstance(given, list) or not all(isinstance(one, kind) for one in given):
            raise ProcessorFailed(f"{self.processor.signal_type} gave no list of {name}s but {str(given)[:100]!r}")
        for one in given:
            wrong = [field for field, types in STORED[kind].items() if type(getattr(one, field)) not in types]
            if wrong or one.block_hash != context.facts.blockhash:
                raise ProcessorFailed(f"a {name} is of another block, or not as declared: {', '.join(wrong)}")

    def close(self) -> None:
        """End the thread; one that hangs ends with the process."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=1)
        if not self._thread.is_alive():
            self._loop.close()
