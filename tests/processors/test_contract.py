"""What the base class gives every processor: its settings, its window, and the signal's identity."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

import pytest

from processors.cases import at, block, context, past, said
from utxoiq.errors import ConfigError
from utxoiq.models import Signal
from utxoiq.processors.base import ProcessingContext, ProcessorConfig, SignalProcessor


class Always(SignalProcessor):
    """Speaks about every block, with the confidence it is told."""

    signal_type = "whale"
    model_version = "whale-test"
    reads = ("txs",)
    window_blocks = 10
    defaults: ClassVar[dict[str, float]] = {"says": 0.9}

    async def process_block(self, block: Any, context: ProcessingContext) -> list[Signal]:
        basis = {"basis": "a test", "cases": 1, "calibrated": False}
        metadata = {"window": len(self.window(context))}
        return self.signal(context, "seen", "chain", self.thresholds["says"], basis, metadata, ["ab" * 32])


class NoPast(Always):
    """Wants no block of the past: an absolute rule."""

    window_blocks = 0


@pytest.mark.parametrize("confidence", [-0.01, 1.01, float("nan")])
def test_a_confidence_outside_zero_to_one_is_refused(confidence: float) -> None:
    with pytest.raises(ConfigError, match="no probability"):
        ProcessorConfig(confidence_threshold=confidence)


@pytest.mark.parametrize("blocks", [0, -1])
def test_a_window_without_blocks_is_refused(blocks: int) -> None:
    with pytest.raises(ConfigError, match="number of blocks"):
        ProcessorConfig(time_window=blocks)


def test_defaults_stand_where_nothing_is_set() -> None:
    """0.7 as in the original, the processor's own window, its own thresholds; what is set takes their place."""
    assert Always().settings == {"confidence_threshold": 0.7, "time_window": 10, "says": 0.9}
    config = ProcessorConfig(confidence_threshold=0.2, time_window=3, says=0.4)
    assert Always(config).settings == {"confidence_threshold": 0.2, "time_window": 3, "says": 0.4}
    assert ProcessorConfig().enabled


def test_a_processor_must_process() -> None:
    """One without `process_block` can't be made."""
    with pytest.raises(TypeError, match="abstract"):
        SignalProcessor()  # type: ignore[abstract]


@pytest.mark.parametrize(("says", "count"), [(0.69999, 0), (0.7, 1), (1.0, 1)])
async def test_the_threshold_is_the_least_reported(says: float, count: int) -> None:
    signals = await said(Always(ProcessorConfig(says=says)), (), at(0))
    assert len(signals) == count


async def test_it_sees_the_last_blocks_of_its_window() -> None:
    """As many as it asks for, the newest of them, fewer where there are fewer."""
    for given, seen in ((25, 10), (10, 10), (4, 4), (0, 0)):
        (signal,) = await said(Always(), past(given), at(given))
        assert signal.metadata == {"window": seen}
        first = past(given)[given - seen].blockhash if seen else None
        assert signal.inputs["window"] == {"blocks": seen, "first": first}


async def test_one_that_wants_no_past_sees_none() -> None:
    """Its signal is the same whatever window other processors have asked for."""
    alone, together = await said(NoPast(), (), at(5)), await said(NoPast(), past(5), at(5))
    assert together == alone
    assert together[0].metadata == {"window": 0}


async def test_the_id_is_derived() -> None:
    """A version 5 UUID over block, type, kind, subject, model and inputs: equal content, equal id."""
    (first,) = await said(Always(), past(3), at(3))
    (again,) = await said(Always(), past(3), at(3))
    assert UUID(first.signal_id).version == 5
    assert first.signal_id == again.signal_id


async def test_a_declared_fact_goes_into_the_digest_and_another_does_not() -> None:
    """`reads` decides the identity: a fact it does not name changes nothing."""
    (signal,) = await said(Always(), past(3), at(3))
    (unread,) = await said(Always(), past(3), at(3, totalfee=1))
    (read,) = await said(Always(), past(3), at(3, txs=7))
    assert unread.signal_id == signal.signal_id
    assert read.signal_id != signal.signal_id


async def test_content_leaves_out_what_passes() -> None:
    """Wall clock, correlation and state of processing are not part of what a replay must give again."""
    (signal,) = await Always().process_block(block(), context((), at(0)))
    assert not {"correlation_id", "recorded_at", "processed", "processed_at"} & set(signal.content())
    assert {"signal_id", "metadata", "inputs", "confidence"} <= set(signal.content())
