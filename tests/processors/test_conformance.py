"""What every processor must do, ours and third parties': pure, in its own bounds, and known to the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from processors.cases import KINDS as CASES
from processors.cases import NO_LABELS, at, block, case, cases, context, past, said
from utxoiq.errors import ConfigError
from utxoiq.facts.compute import compute_facts
from utxoiq.insights.vocabulary import KINDS
from utxoiq.models import BlockData, BlockFacts, Signal, canonical_json
from utxoiq.processors.base import FACTS_READ_BY_ALL, ProcessingContext, ProcessorConfig, SignalProcessor
from utxoiq.processors.discovery import discover

DOCS = Path(__file__).resolve().parents[2] / "docs" / "signals"
CLASSES = [type(processor) for processor in discover()]
FOR_THE_RECORD = {"labels_version", "facts_version"}
"""Versions that a signal carries with it; they decide nothing."""

every_processor = pytest.mark.parametrize("kind", CLASSES, ids=lambda c: c.__name__)
every_case = pytest.mark.parametrize("name", CASES)


class Watched:
    """Facts that take note of what is read of them."""

    def __init__(self, facts: BlockFacts) -> None:
        self._facts = facts
        self.read: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.read.add(name)
        return getattr(self._facts, name)


class WatchedBlock(Watched):
    """A block, likewise."""


def as_text(signals: Sequence[Signal]) -> str:
    return canonical_json([signal.content() for signal in signals])


def odd_blocks() -> Iterator[BlockData]:
    """The same block with ever less known about it."""
    data = block()
    yield replace(data, spent=None)
    yield replace(data, height=None)
    yield replace(data, height=None, spent=None, prior_times=None)
    yield replace(data, height=0, spent=None)


def test_each_kind_has_a_case() -> None:
    """The cases name exactly the kinds that have a text."""
    assert {(c.signal_type, c.kind) for c in cases()} == set(KINDS)
    assert tuple(c.kind for c in cases()) == CASES


@every_case
async def test_its_case_makes_it_speak(name: str) -> None:
    """Each kind is said in its case, by the processor of its type, and no other kind is."""
    found = [s for p in discover() for s in await said(p, case(name).window, case(name).now, case(name).mempools)]
    assert [(s.signal_type, s.kind) for s in found] == [(case(name).signal_type, name)]


@every_processor
@every_case
async def test_the_same_input_gives_the_same_bytes(kind: type[SignalProcessor], name: str) -> None:
    """Asked twice, and asked of a new instance, the signals are equal, as canonical JSON too."""
    chosen, processor = case(name), kind()
    first = await said(processor, chosen.window, chosen.now, chosen.mempools)
    again = await said(processor, chosen.window, chosen.now, chosen.mempools)
    other = await said(kind(), list(chosen.window), replace(chosen.now), list(chosen.mempools))
    assert first == again == other
    assert as_text(first) == as_text(again) == as_text(other)


@every_processor
@every_case
async def test_it_changes_nothing_it_is_given(kind: type[SignalProcessor], name: str) -> None:
    """Facts hold lists and dicts; none of them is another afterwards."""
    chosen = case(name)
    before = canonical_json([facts.as_dict() for facts in (*chosen.window, chosen.now)])
    await said(kind(), chosen.window, chosen.now, chosen.mempools)
    assert canonical_json([facts.as_dict() for facts in (*chosen.window, chosen.now)]) == before


@every_processor
@every_case
async def test_it_reads_only_the_facts_it_names(kind: type[SignalProcessor], name: str) -> None:
    """A signal's identity covers what is declared, so nothing else may decide; of the block only its network."""
    chosen = case(name)
    window, now = [Watched(facts) for facts in chosen.window], Watched(chosen.now)
    seen: ProcessingContext = context(window, now)  # type: ignore[arg-type]
    watched = WatchedBlock(block())  # type: ignore[arg-type]
    await kind().process_block(watched, seen)  # type: ignore[arg-type]
    declared = {*FACTS_READ_BY_ALL, *kind.reads}
    assert now.read, "it looked at nothing"
    assert now.read - declared <= FOR_THE_RECORD
    assert set().union(*(facts.read for facts in window)) <= declared
    assert watched.read <= {"network", "height", "block_hash", "prev_hash", "mempool"}


@every_processor
def test_it_names_facts_that_exist(kind: type[SignalProcessor]) -> None:
    """A misspelt name would only fail when a signal is made."""
    assert set(kind.reads) <= {field.name for field in fields(BlockFacts)}
    assert kind.window_blocks >= 1
    assert kind.model_version.startswith(kind.signal_type)


@every_processor
@every_case
async def test_what_lies_before_its_window_does_not_matter(kind: type[SignalProcessor], name: str) -> None:
    """Live, the window given may be longer than its own; the signal, digest included, is the same."""
    chosen, processor = case(name), kind(ProcessorConfig(time_window=144))
    older = [at(-1 - i, txs=9000, pool="older", package_feerate_percentiles_kvb=[1] * 5) for i in range(50)][::-1]
    window = chosen.window[-144:]
    alone = await said(processor, window, chosen.now, chosen.mempools)
    assert as_text(await said(processor, [*older, *window], chosen.now, chosen.mempools)) == as_text(alone)


@every_processor
@every_case
async def test_a_threshold_of_one_lets_only_certainty_through(kind: type[SignalProcessor], name: str) -> None:
    """What is read off a rule stays; everything estimated falls silent."""
    chosen = case(name)
    usual = await said(kind(), chosen.window, chosen.now, chosen.mempools)
    strict = await said(kind(ProcessorConfig(confidence_threshold=1.0)), chosen.window, chosen.now, chosen.mempools)
    assert [s.kind for s in strict] == [s.kind for s in usual if s.confidence == 1]
    assert all(s.confidence_basis["calibrated"] for s in strict)


@every_processor
@every_case
async def test_confidence_is_a_probability_that_says_of_what(kind: type[SignalProcessor], name: str) -> None:
    """Between 0 and 1, not under the threshold, with its basis and the number of cases it rests on."""
    processor = kind(ProcessorConfig(confidence_threshold=0.9))
    for signal in await said(processor, case(name).window, case(name).now, case(name).mempools):
        assert 0.9 <= signal.confidence <= 1
        assert set(signal.confidence_basis) == {"basis", "cases", "calibrated"}
        assert signal.confidence_basis["cases"] >= 1


@every_processor
@pytest.mark.parametrize("window", [(), past(144)], ids=["island", "usual past"])
async def test_odd_blocks_raise_nothing(kind: type[SignalProcessor], window: tuple[BlockFacts, ...]) -> None:
    """No spent outputs, no height, no ancestors: nothing is raised, and what is said is of that block."""
    for data in odd_blocks():
        facts = compute_facts(data, NO_LABELS)
        for signal in await kind().process_block(data, context(window, facts)):
            assert (signal.block_hash, signal.block_height) == (facts.blockhash, data.height)


@every_processor
async def test_unknown_facts_of_the_past_raise_nothing(kind: type[SignalProcessor]) -> None:
    """A window whose fees, pools and claims nobody knows is a window."""
    unknown = dict.fromkeys(("totalfee", "package_feerate_percentiles_kvb", "top_fee", "subsidy", "pool", "pool_name",
                             "pool_by", "coinbase_unclaimed"))  # fmt: skip
    assert await said(kind(), past(144, **unknown), at(144, **unknown)) == []


@every_processor
@pytest.mark.parametrize("blocks", [0, 1, 144])
async def test_no_threshold_at_zero_raises(kind: type[SignalProcessor], blocks: int) -> None:
    """Zero is a setting like any other: it may silence or loosen, not break."""
    for name in kind.defaults:
        processor = kind(ProcessorConfig(**{name: 0}))
        for chosen in cases():
            await said(processor, past(blocks), chosen.now)


@every_processor
def test_an_unknown_threshold_is_wrong_use(kind: type[SignalProcessor]) -> None:
    """A misspelt setting is said at once, with those there are."""
    with pytest.raises(ConfigError, match="no threshold spike_ration") as caught:
        kind(ProcessorConfig(spike_ration=2))
    assert all(name in str(caught.value) for name in kind.defaults)


@every_processor
@every_case
async def test_a_signal_is_json(kind: type[SignalProcessor], name: str) -> None:
    """Its content goes through JSON and comes back the same: no tuples, no NaN, no other types."""
    for signal in await said(kind(), case(name).window, case(name).now, case(name).mempools):
        assert json.loads(json.dumps(signal.content(), allow_nan=False)) == signal.content()


@every_processor
@every_case
async def test_a_signal_carries_its_block_and_its_inputs(kind: type[SignalProcessor], name: str) -> None:
    """Hash, height and time of the block, versions and settings of the run, evidence in the block."""
    chosen, processor = case(name), kind()
    for signal in await said(processor, chosen.window, chosen.now, chosen.mempools):
        now, window = chosen.now, processor.window(context(chosen.window, chosen.now))
        assert (signal.block_hash, signal.block_height, signal.created_at) == (now.blockhash, now.height, now.time)
        assert signal.evidence["block_hashes"] == [now.blockhash]
        assert signal.inputs["settings"] == processor.settings
        assert signal.inputs["window"] == {"blocks": len(window), "first": window[0].blockhash}
        assert signal.inputs["labels_version"] == now.labels_version
        assert (signal.simulated, signal.correlation_id) == (now.simulated, "correlation")
        assert signal.model_version == kind.model_version


@every_processor
@every_case
async def test_the_id_follows_from_what_was_seen(kind: type[SignalProcessor], name: str) -> None:
    """Another past, or another setting, is another signal; another correlation id is not."""
    chosen = case(name)
    changed = (replace(chosen.window[0], txs=chosen.window[0].txs + 1), *chosen.window[1:])
    for signal in await said(kind(ProcessorConfig(time_window=1008)), chosen.window, chosen.now, chosen.mempools):
        others = await said(kind(ProcessorConfig(time_window=1008)), changed, chosen.now, chosen.mempools)
        others += await said(
            kind(ProcessorConfig(confidence_threshold=0.6)), chosen.window, chosen.now, chosen.mempools
        )
        assert len(others) == 2
        assert signal.signal_id not in {other.signal_id for other in others}
        seen = context(chosen.window, chosen.now, mempools=chosen.mempools[:-1])
        watched = replace(block(), mempool=chosen.mempools[-1] if chosen.mempools else None)
        elsewhere = replace(seen, correlation_id="another")
        again = await kind(ProcessorConfig(time_window=1008)).process_block(watched, elsewhere)
        assert [other.signal_id for other in again] == [signal.signal_id]


@every_processor
def test_its_kinds_are_documented(kind: type[SignalProcessor]) -> None:
    """docs/signals has a page for the type, which names every kind and every threshold of it."""
    page = DOCS / f"{kind.signal_type}.md"
    assert page.is_file()
    text = page.read_text("utf-8")
    kinds = [name for signal_type, name in KINDS if signal_type == kind.signal_type]
    assert kinds
    assert [name for name in (*kinds, *kind.defaults) if name not in text] == []
