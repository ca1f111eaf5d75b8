"""Verify: derive a stored signal again from raw bytes, and say whether it comes out the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from utxoiq.chain.hashes import Hash256
from utxoiq.errors import InputRefused
from utxoiq.facts.compute import compute_facts
from utxoiq.models import FACTS_VERSION, Signal, canonical_json
from utxoiq.processors.base import ProcessingContext, ProcessorConfig
from utxoiq.processors.discovery import discover

if TYPE_CHECKING:
    from utxoiq.entities.labels import LabelSet
    from utxoiq.processors.base import SignalProcessor
    from utxoiq.sources.base import BlockSource


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the signal was derived again; `reason` says what differs or what is missing."""

    verdict: Literal["equal", "different", "cannot tell"]
    reason: str


async def verify(signal: Signal, source: BlockSource, labels: LabelSet) -> Verdict:
    """Read the blocks the signal rests on from `source` and derive it with its recorded settings and versions."""
    recorded = signal.inputs
    processor = _processor(signal)
    if processor is None:
        return Verdict("cannot tell", f"{signal.model_version} is not the installed model of {signal.signal_type}")
    if recorded["facts_version"] != FACTS_VERSION:
        return Verdict("cannot tell", f"it rests on facts version {recorded['facts_version']}, this is {FACTS_VERSION}")
    if recorded["labels_version"] != labels.version:
        return Verdict("cannot tell", f"it rests on labels {recorded['labels_version']}, these are {labels.version}")
    size = recorded["window"]["blocks"] + 1
    try:
        blocks = list(source.branch(Hash256.from_display(signal.block_hash), size))
        facts = [compute_facts(block, labels) for block in blocks]
    except InputRefused as error:
        return Verdict("cannot tell", str(error))
    if len(blocks) < size:
        return Verdict("cannot tell", f"it rests on {size} blocks, of which the source has {len(blocks)}")
    context = ProcessingContext(facts[-1], tuple(facts[:-1]), labels, signal.correlation_id)
    derived = await processor.process_block(blocks[-1], context)
    return _compare(signal, derived)


def _processor(signal: Signal) -> SignalProcessor | None:
    settings = dict(signal.inputs["settings"])
    config = ProcessorConfig(True, settings.pop("confidence_threshold"), settings.pop("time_window"), **settings)
    for processor in discover():
        if (processor.signal_type, processor.model_version) == (signal.signal_type, signal.model_version):
            return type(processor)(config)
    return None


def _compare(signal: Signal, derived: list[Signal]) -> Verdict:
    said: dict[str, Any] = signal.content()
    for again in derived:
        if (again.kind, again.subject) == (signal.kind, signal.subject):
            fields = again.content()
            differing = [name for name in said if canonical_json(said[name]) != canonical_json(fields[name])]
            if differing:
                return Verdict("different", f"derived again, these fields differ: {', '.join(differing)}")
            return Verdict("equal", f"derived again from raw bytes, byte for byte: signal {signal.signal_id}")
    return Verdict("different", "the same blocks give no such signal")
