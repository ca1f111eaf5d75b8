"""The contract of a signal processor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from utxoiq.errors import ConfigError
from utxoiq.models import BlockFacts, Signal, SignalType, digest

if TYPE_CHECKING:
    from utxoiq.entities.labels import LabelSet
    from utxoiq.models import BlockData, MempoolSnapshot

FACTS_READ_BY_ALL = ("blockhash", "height", "time", "simulated")


class ProcessorConfig:
    """Settings of one processor: whether it runs, the least confidence it reports, its window in blocks, and
    thresholds of its own by name."""

    def __init__(
        self,
        /,
        enabled: bool = True,
        confidence_threshold: float = 0.7,
        time_window: int | None = None,
        **thresholds: float,
    ) -> None:
        """`time_window`: blocks of the past to compare with, None for the processor's own choice.

        Raises ConfigError for a confidence outside 0 to 1 or a window without blocks.
        """
        if not 0 <= confidence_threshold <= 1:
            raise ConfigError(f"confidence_threshold {confidence_threshold} is no probability: give 0 to 1")
        if time_window is not None and time_window < 1:
            raise ConfigError(f"time_window {time_window}: give a number of blocks, 1 and more")
        self.enabled, self.confidence_threshold, self.time_window = enabled, confidence_threshold, time_window
        self.thresholds: Mapping[str, float] = thresholds


@dataclass(frozen=True, slots=True)
class ProcessingContext:
    """All that a processor may see beside the block: nothing of it lies in the block's future."""

    facts: BlockFacts
    window: Sequence[BlockFacts]
    """Facts of the blocks before, same branch, oldest first, without a gap; empty for an island."""
    entities: LabelSet
    correlation_id: str
    mempools: Sequence[MempoolSnapshot | None] = ()
    """The mempool each block of `window` was mined from, None where it was not seen; empty for history."""
    balances: None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


class SignalProcessor(ABC):
    """Finds one type of signal. Pure: the same block and context give the same signals, and change neither.

    A subclass names its `signal_type` and `model_version`, the facts it `reads` (only those go into a signal's
    identity), and its thresholds with their defaults.
    """

    signal_type: ClassVar[SignalType]
    model_version: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    window_blocks: ClassVar[int]
    defaults: ClassVar[Mapping[str, float]] = {}

    def __init__(self, config: ProcessorConfig | None = None) -> None:
        """Raises ConfigError for a threshold this processor does not have."""
        self.config = config or ProcessorConfig()
        unknown = set(self.config.thresholds) - set(self.defaults)
        if unknown:
            known = ", ".join(self.defaults) or "none"
            raise ConfigError(f"{self.signal_type} has no threshold {', '.join(sorted(unknown))}; it has {known}")
        self.thresholds = {**self.defaults, **self.config.thresholds}

    @property
    def window_size(self) -> int:
        """How many past blocks it wants to see."""
        return self.config.time_window or self.window_blocks

    @property
    def minimum_history(self) -> int:
        """Past blocks it must have seen before it compares; never none."""
        return max(1, int(self.thresholds.get("minimum_history", 1)))

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what it says, for the record."""
        return {
            "confidence_threshold": self.config.confidence_threshold,
            "time_window": self.window_size,
            **self.thresholds,
        }

    @abstractmethod
    async def process_block(self, block: BlockData, context: ProcessingContext) -> list[Signal]:
        """The signals of this type in `block`."""

    def window(self, context: ProcessingContext) -> Sequence[BlockFacts]:
        """The last `window_size` blocks before this one."""
        return context.window[max(0, len(context.window) - self.window_size) :]

    def mempools(self, context: ProcessingContext) -> Sequence[MempoolSnapshot | None]:
        """Those of `window`; empty for history."""
        return context.mempools[max(0, len(context.mempools) - self.window_size) :]

    def inputs(self, context: ProcessingContext, mempool: MempoolSnapshot | None = None) -> dict[str, Any]:
        """Digest and versions of all it saw: what `verify` needs to see it again. `mempool`: of this block, for a
        signal that rests on it and on those before."""
        fields = (*FACTS_READ_BY_ALL, *self.reads)
        window = self.window(context)
        seen: list[Any] = [[getattr(facts, name) for name in fields] for facts in (*window, context.facts)]
        inputs = {
            "window": {"blocks": len(window), "first": window[0].blockhash if window else None},
            "settings": self.settings,
            "labels_version": context.facts.labels_version,
            "facts_version": context.facts.facts_version,
        }
        if mempool is not None:
            seen.append([one and one.snapshot_id for one in (*self.mempools(context), mempool)])
            inputs["mempool"] = mempool.snapshot_id
        return {"digest": digest([seen, self.settings]), **inputs}

    def signal(
        self,
        context: ProcessingContext,
        kind: str,
        subject: str,
        confidence: float,
        basis: dict[str, Any],
        metadata: dict[str, Any],
        txids: Sequence[str] = (),
        mempool: MempoolSnapshot | None = None,
    ) -> list[Signal]:
        """The signal, as a list of one; of none where its confidence is below the threshold. `mempool`: the block's,
        where the signal rests on it."""
        if confidence < self.config.confidence_threshold:
            return []
        facts = context.facts
        return [
            Signal.derive(
                signal_type=self.signal_type,
                kind=kind,
                subject=subject,
                block_height=facts.height,
                block_hash=facts.blockhash,
                confidence=round(confidence, 6),
                confidence_basis=basis,
                metadata=metadata,
                evidence={"txids": list(txids), "block_hashes": [facts.blockhash]},
                created_at=facts.time,
                model_version=self.model_version,
                inputs=self.inputs(context, mempool),
                simulated=facts.simulated,
                correlation_id=context.correlation_id,
            )
        ]
