"""Verify: derive a stored signal again from raw bytes, and say whether it comes out the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from utxoiq.chain.hashes import Hash256
from utxoiq.errors import ConfigError, InputRefused, UtxoiqError
from utxoiq.facts.compute import compute_facts
from utxoiq.facts.flows import compute_flows
from utxoiq.history import Past, Window
from utxoiq.models import FACTS_VERSION, Signal, canonical_json
from utxoiq.processors.base import ProcessingContext, ProcessorConfig
from utxoiq.processors.calibration import OUTCOMES, packaged
from utxoiq.processors.discovery import discover

if TYPE_CHECKING:
    from utxoiq.entities.labels import LabelSet
    from utxoiq.persistence.sqlite import SqliteStore
    from utxoiq.processors.base import SignalProcessor
    from utxoiq.sources.base import BlockSource


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the signal was derived again; `reason` says what differs or what is missing."""

    verdict: Literal["equal", "different", "cannot tell"]
    reason: str


async def verify(signal: Signal, source: BlockSource, labels: LabelSet, recorded: Sequence[Past] = ()) -> Verdict:
    """Read the blocks the signal rests on from `source` and derive it with its recorded settings and versions.

    `recorded`: what the store has of the same blocks, the last of them last; their mempools and balances can't be read
    again from blocks.
    """
    try:
        processor, size = _recorded_inputs(signal, labels)
        blocks = list(source.branch(Hash256.from_display(signal.block_hash), size))
        rows = [Past(compute_facts(block, labels), compute_flows(block, labels)) for block in blocks]
    except (_OtherInputs, InputRefused) as error:
        return Verdict("cannot tell", str(error))
    if len(blocks) < size:
        return Verdict("cannot tell", f"it rests on {size} blocks, of which the source has {len(blocks)}")
    seen = {row.facts.blockhash: row for row in recorded}
    rows = [_with_recorded(row, seen.get(row.facts.blockhash)) for row in rows]
    if missing := _missing(signal, last := rows[-1]):
        return Verdict("cannot tell", f"it rests on {missing}, which is not here")
    past = [row._replace(flows=row.flows and row.flows.sums()) for row in rows[:-1]]
    context = ProcessingContext(
        last.facts, Window.of(past), labels, signal.correlation_id, last.flows, last.balances,
        outcomes=recorded_outcomes(signal),
    )  # fmt: skip
    verdict = _compare(signal, await processor.process_block(replace(blocks[-1], mempool=last.mempool), context))
    unknown = sum(block.spent is None for block in blocks)
    if verdict.verdict == "different" and unknown:
        return Verdict("cannot tell", f"the source has no spent outputs for {unknown} of the {size} blocks it rests on")
    return verdict


def recorded_of(store: SqliteStore, signal: Signal) -> list[Past]:
    """What the store has of the blocks that a signal rests on, where it rests on more than those. Raises StoreError."""
    more = {"mempool", "balances"} & {*signal.inputs}
    return store.window(signal.block_hash, int(signal.inputs["window"]["blocks"]) + 1) if more else []


def _with_recorded(row: Past, recorded: Past | None) -> Past:
    return row._replace(mempool=recorded.mempool, balances=recorded.balances) if recorded else row


def _missing(signal: Signal, last: Past) -> str | None:
    """What no block tells again and the signal rests on."""
    if signal.inputs.get("mempool") is not None and last.mempool is None:
        return "a mempool snapshot"
    if signal.inputs.get("balances") not in (None, last.balances and last.balances.digest):
        return "what a ledger knew of balances"
    return None


class _OtherInputs(UtxoiqError):
    """What the signal was derived with is not what is here."""


def _recorded_inputs(signal: Signal, labels: LabelSet) -> tuple[SignalProcessor, int]:
    """Its processor with its recorded settings, and how many blocks it saw. Raises _OtherInputs."""
    recorded = signal.inputs
    try:
        processor, size = recorded_processor(signal), int(recorded["window"]["blocks"]) + 1
        facts_version, labels_version = recorded["facts_version"], recorded["labels_version"]
        recorded_outcomes(signal)
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise _OtherInputs(f"its recorded inputs can't be used ({error})") from error
    if size < 1:
        raise _OtherInputs(f"its recorded window has {size - 1} blocks")
    if processor is None:
        raise _OtherInputs(f"{signal.model_version} is not the installed model of {signal.signal_type}")
    if facts_version != FACTS_VERSION:
        raise _OtherInputs(f"it rests on facts version {facts_version}, this is {FACTS_VERSION}")
    if recorded["window"].get("other_versions"):
        raise _OtherInputs(f"it rests on blocks recorded under {', '.join(recorded['window']['other_versions'])} too")
    calibration = recorded.get("calibration", {}).get("version")
    if calibration not in (None, OUTCOMES, packaged().version):
        raise _OtherInputs(f"it was calibrated by version {calibration}, this is {packaged().version}")
    if labels_version != labels.version:
        raise _OtherInputs(f"it rests on labels {labels_version}, these are {labels.version}")
    return processor, size


def recorded_processor(signal: Signal) -> SignalProcessor | None:
    """The installed processor of its model, with its recorded settings; None for another model. Raises ConfigError,
    KeyError for settings that can't be used."""
    settings = dict(signal.inputs["settings"])
    config = ProcessorConfig(True, settings.pop("confidence_threshold"), settings.pop("time_window"), **settings)
    for processor in discover():
        if (processor.signal_type, processor.model_version) == (signal.signal_type, signal.model_version):
            return type(processor)(config)
    return None


def recorded_outcomes(signal: Signal) -> dict[tuple[str, str], tuple[int, int]]:
    """What was known of earlier signals of its kind, if its confidence rests on that. Raises KeyError, TypeError,
    ValueError for what can't be used."""
    used = signal.inputs.get("calibration", {})
    if used.get("version") != OUTCOMES:
        return {}
    return {(signal.model_version, signal.kind): (int(used["right"]), int(used["cases"]))}


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
