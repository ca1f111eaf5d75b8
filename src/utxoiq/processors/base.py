"""The contract of a signal processor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, TypeVar

from utxoiq.errors import ConfigError
from utxoiq.history import Past, Window
from utxoiq.models import REAL_NETWORK, BlockBalances, BlockFacts, BlockFlows, Signal, SignalType, digest
from utxoiq.processors.calibration import Calibrated, packaged, resolved
from utxoiq.processors.statistics import looks

if TYPE_CHECKING:
    from utxoiq.entities.labels import LabelSet
    from utxoiq.models import BlockData, Forecast, MempoolSnapshot
    from utxoiq.processors.metadata import Field

T = TypeVar("T")
FACTS_READ_BY_ALL = ("blockhash", "height", "time", "simulated")
Reach = Literal["never", "of the block", "of the window"]
A_MONTH = 4320
"""Blocks of 30 days."""


class ProcessorConfig:
    """Settings of one processor: whether it runs, the least confidence it reports, its window in blocks, and
    thresholds of its own by name."""

    def __init__(
        self,
        /,
        enabled: bool = True,
        confidence_threshold: float = 0.7,
        time_window: int | None = None,
        calibration: bool = True,
        **thresholds: float,
    ) -> None:
        """`time_window`: blocks of the past to compare with, None for the processor's own choice. `calibration`: use
        confidences that were measured, where there are such (calibration.py).

        Raises ConfigError for a confidence outside 0 to 1 or a window without blocks.
        """
        if not 0 <= confidence_threshold <= 1:
            raise ConfigError(f"confidence_threshold {confidence_threshold} is no probability: give 0 to 1")
        if time_window is not None and time_window < 1:
            raise ConfigError(f"time_window {time_window}: give a number of blocks, 1 and more")
        self.enabled, self.confidence_threshold, self.time_window = enabled, confidence_threshold, time_window
        self.calibration = bool(calibration)
        self.thresholds: Mapping[str, float] = thresholds


@dataclass(frozen=True, slots=True)
class ProcessingContext:
    """All that a processor may see beside the block: nothing of it lies in the block's future."""

    facts: BlockFacts
    window: Window
    """Facts, flows and mempools of the blocks before, same branch, oldest first, without a gap; empty for an island."""
    entities: LabelSet
    correlation_id: str
    flows: BlockFlows | None = None
    """Of this block; None where what it spent is unknown."""
    balances: BlockBalances | None = None
    """What this block did to large balances, before (at the parent) and after; None without a ledger there."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    outcomes: Mapping[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    """(model version, kind) -> of how many signals it was known at the parent that they were right, and of how many
    whether."""


class Seen(NamedTuple):
    """The mempools of the window were looked at, and the one this block was mined from."""

    last: MempoolSnapshot | None


class SignalProcessor(ABC):
    """Finds one type of signal. Pure: the same block and context give the same signals, and change neither.

    A subclass names its `signal_type` and `model_version`, the facts it `reads` (only those go into a signal's
    identity), whether it reads flows and mempools, its `kinds` with the metadata of each, and its thresholds with
    their defaults; and of kinds whose blocks after it tell whether it was right, how many do.
    """

    signal_type: ClassVar[SignalType]
    model_version: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    reads_flows: ClassVar[Reach] = "never"
    kinds: ClassVar[Mapping[str, Mapping[str, Field]]]
    """Kind -> what its metadata holds, by name."""
    window_blocks: ClassVar[int]
    defaults: ClassVar[Mapping[str, float]] = {}
    settles_after: ClassVar[Mapping[str, int]] = {}
    """Kind -> how many blocks after its own tell whether a signal was right; kinds not named are never resolved so."""

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
            **({} if self.config.calibration else {"calibration": False}),
            **self.thresholds,
        }

    @abstractmethod
    async def process_block(self, block: BlockData, context: ProcessingContext) -> list[Signal]:
        """The signals of this type in `block`."""

    def prepare(self) -> None:  # noqa: B027 most need nothing
        """Load what the first block needs, such as kernels that are compiled once, however long that takes."""

    def forecasts(self, block: BlockData, context: ProcessingContext) -> list[Forecast]:  # noqa: ARG002
        """What it expects of later blocks; stored with the block, scored when those come. Pure, too."""
        return []

    def resolve(self, signal: Signal, after: Sequence[Past]) -> bool | None:  # noqa: ARG002
        """Whether a signal of this model was right, by the blocks that followed its own, oldest first; None where they
        do not tell. Pure: it rests on these two alone, on no setting of today."""
        return None

    def window(self, context: ProcessingContext) -> Window:
        """The last `window_size` blocks before this one."""
        return context.window.last(self.window_size)

    def looks_back(self, values: Sequence[T], quiet: float) -> Iterator[Sequence[T]]:
        """Of the window's values and this block's: what is to be seen now, and what was at each of the `quiet` blocks
        before, the newest first. Each look is so much shorter than the window that none is cut off at its edge."""
        blocks = max(0, int(quiet))
        return looks(values, max(1, self.window_size - blocks) + 1, blocks)

    def inputs(
        self, context: ProcessingContext, mempools: Seen | None = None, balances: Reach = "never"
    ) -> dict[str, Any]:
        """Digest and versions of all it saw: what `verify` needs to see it again. `mempools`, `balances`: for a signal
        that rests on them."""
        fields = (*FACTS_READ_BY_ALL, *self.reads)
        window = self.window(context)
        now = Past(context.facts, context.flows)
        seen: list[Any] = [digest_of_series(window.series(row_digest, fields, self.reads_flows == "of the window"))]
        seen.append(row_digest(now, fields, self.reads_flows != "never"))
        inputs: dict[str, Any] = {
            "window": {"blocks": len(window), "first": window[0].blockhash if len(window) else None},
            "settings": self.settings,
            "labels_version": context.facts.labels_version,
            "facts_version": context.facts.facts_version,
        }
        others = {*window.series(labels_of), *window.series(facts_version_of)} - {
            context.facts.labels_version, context.facts.facts_version,
        }  # fmt: skip
        if others:
            inputs["window"]["other_versions"] = sorted(map(str, others))
        if mempools is not None:
            name = mempools.last and mempools.last.snapshot_id
            seen.append(digest_of_series([*window.series(mempool_of), name or ""]))
            inputs["mempool"] = name
        if balances != "never" and context.balances is not None:
            before = window.series(balances_of) if balances == "of the window" else []
            seen.append(digest_of_series([*before, context.balances.digest]))
            inputs["balances"] = context.balances.digest
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
        mempools: Seen | None = None,
        balances: Reach = "never",
    ) -> list[Signal]:
        """The signal, as a list of one; of none where its confidence, calibrated if it can be, is below the threshold.
        `mempools`: where the signal rests on those of the window and of the block. `balances`: where on them."""
        measured = self._measured(context, kind, confidence, basis) if self.config.calibration else None
        if measured is not None:
            confidence, basis = measured.confidence, measured.basis
        if confidence < self.config.confidence_threshold:
            return []
        facts, inputs = context.facts, self.inputs(context, mempools, balances)
        if measured is not None:
            inputs["digest"] = digest([inputs["digest"], *measured.named])
            inputs["calibration"] = measured.inputs
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
                inputs=inputs,
                simulated=facts.simulated,
                correlation_id=context.correlation_id,
            )
        ]

    def _measured(
        self, context: ProcessingContext, kind: str, raw: float, basis: Mapping[str, Any]
    ) -> Calibrated | None:
        """By outcomes on the real chain where there are enough, else by the simulated economy."""
        counts = context.outcomes.get((self.model_version, kind))
        real = counts is not None and context.facts.network == REAL_NETWORK and not context.facts.simulated
        found = resolved(counts, raw, basis) if real else None
        return found or packaged().of(self.model_version, kind, raw, basis)


def row_digest(row: Past, fields: tuple[str, ...], with_flows: bool) -> str:
    """Of these facts of a block, and of its flows."""
    values = [getattr(row.facts, name) for name in fields]
    return digest([values, row.flows and row.flows.digest] if with_flows else values)


def labels_of(row: Past) -> str:
    return row.facts.labels_version


def facts_version_of(row: Past) -> int:
    return row.facts.facts_version


def mempool_of(row: Past) -> str:
    return row.mempool.snapshot_id if row.mempool else ""


def balances_of(row: Past) -> str:
    return row.balances.digest if row.balances else ""


def digest_of_series(digests: list[str]) -> str:
    return sha256(" ".join(digests).encode()).hexdigest()
