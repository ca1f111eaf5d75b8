"""What the base class gives every processor: its settings, its window, and the signal's identity."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

import pytest

from processors.cases import at, block, context, past, rows, said, snapshot, trade, trading
from utxoiq.errors import ConfigError
from utxoiq.history import Window
from utxoiq.models import Signal
from utxoiq.processors.base import ProcessingContext, ProcessorConfig, Seen, SignalProcessor
from utxoiq.processors.metadata import FIELDS, TYPES, Field, having, problems


class Always(SignalProcessor):
    """Speaks about every block, with the confidence it is told."""

    signal_type = "whale"
    model_version = "whale_test-1"
    reads = ("txs",)
    kinds: ClassVar[dict[str, dict[str, Field]]] = {"seen": {"window": Field("blocks", "of the past")}}
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


class Flows(Always):
    """Says that it rests on the block's flows."""

    reads_flows = "of the block"


class PastFlows(Always):
    """Says that it rests on the window's flows too."""

    reads_flows = "of the window"


@pytest.mark.parametrize(
    ("kind", "now", "before"), [(Always, False, False), (Flows, True, False), (PastFlows, True, True)]
)
async def test_flows_go_into_the_digest_where_they_are_read(kind: type[Always], now: bool, before: bool) -> None:
    """Other flows of the block, or of a block of the window, are another signal for those that rest on them."""
    same = trading(4)
    (signal,) = await said(kind(), past(3), at(3), flows=same)
    (of_now,) = await said(kind(), past(3), at(3), flows=[*same[:3], trade(3, 7)])
    (of_past,) = await said(kind(), past(3), at(3), flows=[same[0], trade(1, 7), *same[2:]])
    (unknown,) = await said(kind(), past(3), at(3), flows=[None, *same[1:]])
    assert (of_now.signal_id != signal.signal_id) is now
    assert (of_past.signal_id != signal.signal_id) is before
    assert (unknown.signal_id != signal.signal_id) is before


async def test_the_newest_block_of_a_longer_past_is_the_last_in_the_digest() -> None:
    """The same rows in another order are another past."""
    (signal,) = await said(Always(), past(4), at(4))
    swapped = [*past(4)[:2], *past(4)[2:][::-1]]
    (other,) = await said(Always(), swapped, at(4))
    assert other.inputs["digest"] != signal.inputs["digest"]


class Mempools(Always):
    """Says that it rests on the block's mempool."""

    async def process_block(self, block: Any, context: ProcessingContext) -> list[Signal]:
        basis = {"basis": "a test", "cases": 1, "calibrated": False}
        return self.signal(context, "seen", "chain", 0.9, basis, {"window": 1}, mempools=Seen(block.mempool))


async def test_mempools_go_into_the_digest_with_the_blocks() -> None:
    """Of a signal that rests on one: its own, and those of the window; unknown ones are unknown, not left out."""
    seen = [snapshot(i) for i in range(4)]
    (signal,) = await said(Mempools(), past(3), at(3), seen)
    assert signal.inputs["mempool"] == seen[-1].snapshot_id
    for others in ([*seen[:3], snapshot(3, 9)], [snapshot(0, 9), *seen[1:]], [None, *seen[1:]], [*seen[1:], seen[0]]):
        (other,) = await said(Mempools(), past(3), at(3), others)
        assert other.signal_id != signal.signal_id
    (without,) = await said(Mempools(), past(3), at(3))
    assert without.inputs["mempool"] is None


async def test_another_version_in_the_window_is_on_record() -> None:
    """Labels and facts of earlier blocks that are not those of this one; else nothing is said of it."""
    (signal,) = await said(Always(), past(3), at(3))
    assert "other_versions" not in signal.inputs["window"]
    mixed = [at(0, labels_version="older"), at(1, facts_version=1), at(2)]
    (other,) = await said(Always(), mixed, at(3))
    assert other.inputs["window"]["other_versions"] == ["1", "older"]


async def test_a_window_within_a_history_is_the_same_past() -> None:
    """What the digest covers is the window's own rows, to the byte."""
    history = Window.of(rows(past(30)))
    (alone,) = await said(Always(), past(20), at(20))
    (within,) = await said(Always(), history[:20], at(20))
    (anew,) = await said(Always(), past(20)[10:], at(20))
    assert alone == within == anew


# Metadata

SCHEMA = having("amount", "share", "window_blocks", "pool_name", count=Field("count", "of a test"))
GOOD = {"amount": 1, "share": 0.5, "window_blocks": 144, "pool_name": "Aster", "count": 0}


def test_good_metadata_has_no_problems() -> None:
    """What may be unknown may be absent or None; where a share is expected a whole 0 or 1 is one."""
    assert problems(GOOD, SCHEMA) == []
    assert problems({**GOOD, "share": 1}, SCHEMA) == []
    assert problems({**GOOD, "pool_name": None}, SCHEMA) == []
    assert problems({name: value for name, value in GOOD.items() if name != "pool_name"}, SCHEMA) == []


@pytest.mark.parametrize(
    ("change", "said_of"),
    [
        ({"amount": 1.5}, "amount is 1.5, no sat"),
        ({"amount": True}, "amount is True, no sat"),
        ({"amount": None}, "amount is missing"),
        ({"share": float("nan")}, "share is nan, no share"),
        ({"share": float("inf")}, "share is inf, no share"),
        ({"count": "3"}, "count is '3', no count"),
        ({"pool_name": 7}, "pool_name is 7, no text"),
        ({"more": 1}, "more is not in the schema"),
    ],
    ids=str,
)
def test_bad_metadata_is_told_with_its_name(change: dict[str, Any], said_of: str) -> None:
    """One line each: wrong type, no finite number, missing, unknown."""
    assert problems({**GOOD, **change}, SCHEMA) == [said_of]


def test_every_field_has_a_unit_and_a_meaning() -> None:
    """Those that kinds share; `having` takes them by name, and refuses a name nobody described."""
    assert all(one.unit in TYPES and one.meaning for one in FIELDS.values())
    with pytest.raises(KeyError, match="unheard_of"):
        having("unheard_of")
