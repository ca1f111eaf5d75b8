"""Relabel: when labels change, take back the signals that rested on them, and say again what still holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from utxoiq.chain.hashes import Hash256
from utxoiq.facts.compute import compute_facts
from utxoiq.facts.flows import compute_flows
from utxoiq.history import History, Past
from utxoiq.insights.generator import InsightGenerator
from utxoiq.models import BlockFlows, Outcome
from utxoiq.persistence.schema import UNDER_NEW_LABELS, WITHDRAWN
from utxoiq.pipeline.verify import recorded_outcomes, recorded_processor
from utxoiq.processors.base import A_MONTH, ProcessingContext
from utxoiq.processors.exchange import EVERY

if TYPE_CHECKING:
    from utxoiq.entities.labels import LabelSet
    from utxoiq.models import BlockFacts, Signal
    from utxoiq.persistence.sqlite import SqliteStore
    from utxoiq.sources.base import BlockSource

FLOWS = {"exchange", "treasury"}
FLOWS_OF_MINERS = "miner_distribution"
"""Signals that labels explain: whether they hold under better ones tells whether they were right."""
BATCH = 500
"""Blocks whose facts are written in one transaction."""


@dataclass(slots=True)
class Relabelled:
    """What became of the signals that rested on changed labels."""

    affected: list[Signal] = field(default_factory=list)
    superseded: dict[str, Signal] = field(default_factory=dict)
    """Old id -> what was said again under the new labels; the others are retracted."""

    def rows(self, *, planned: bool = False) -> list[dict[str, Any]]:
        """A row an affected signal, for people; `planned`: nothing was done yet."""
        return [
            {
                "signal_id": signal.signal_id,
                "signal_type": signal.signal_type,
                "kind": signal.kind,
                "subject": signal.subject,
                "block_height": signal.block_height,
                "outcome": "to be checked" if planned else self._outcome(signal),
                "superseded_by": getattr(self.superseded.get(signal.signal_id), "signal_id", None),
            }
            for signal in self.affected
        ]

    def _outcome(self, signal: Signal) -> str:
        return "issued anew" if signal.signal_id in self.superseded else "retracted"


def affected_signals(store: SqliteStore, changed: Collection[str], before: LabelSet, after: LabelSet) -> list[Signal]:
    """Signals under other labels than `after` that hold and rest on an entity of `changed`: they are about it, about
    all exchanges where it is one, or about a block in which it had a part. Oldest first. Raises StoreError."""
    entities = {**before.entities, **after.entities}
    exchange = any(entities[one].kind == "exchange" for one in changed)
    subjects = {*changed, EVERY} if exchange else {*changed}
    return [
        signal
        for signal, flows in store.signals_with_flows()
        if signal.inputs.get("labels_version") not in (None, after.version)
        and _rests_on(signal, flows, changed, subjects)
    ]


def _rests_on(signal: Signal, flows: BlockFlows | None, changed: Collection[str], subjects: Collection[str]) -> bool:
    if not {signal.subject, signal.metadata.get("entity_id")}.isdisjoint(subjects):
        return True
    processor = recorded_processor(signal)
    reads = processor is not None and processor.reads_flows != "never"
    return reads and flows is not None and not flows.entities.keys().isdisjoint(changed)


async def relabel(
    store: SqliteStore,
    affected: list[Signal],
    labels: LabelSet,
    source: BlockSource | None,
    on_block: Callable[[], None] = lambda: None,
) -> Relabelled:
    """Retract `affected`; where `source` has the blocks, derive them again under `labels` with their recorded settings
    first, and name what is said again as successor. With a source the last 30 days are also stored under the new
    labels, so that comparisons with the past go on; and signals of flows that could be derived again have an outcome:
    right where they are said again, else wrong.

    Raises StoreError, InputRefused for blocks that can't be read: signals not reached are left as they are.
    """
    done = Relabelled(affected=affected)
    again: dict[str, Signal | None] = {}
    if source is not None:
        again = await _derive(store, affected, labels, source, on_block)
    correlation_id, tip = uuid4().hex, store.cursor()
    for signal in affected:
        successor = again.get(signal.signal_id)
        reason = UNDER_NEW_LABELS if successor else WITHDRAWN
        insights = [await InsightGenerator().generate(successor)] if successor else []
        outcome = _outcome(signal, successor, labels, tip.height) if tip and signal.signal_id in again else None
        store.supersede(signal.signal_id, successor, insights, reason, correlation_id, outcome)
        if successor is not None:
            done.superseded[signal.signal_id] = successor
    return done


def _outcome(signal: Signal, successor: Signal | None, labels: LabelSet, tip: int) -> Outcome | None:
    if signal.signal_type not in FLOWS and signal.kind != FLOWS_OF_MINERS:
        return None
    said = "said again" if successor else "not said again"
    return Outcome(signal.signal_id, successor is not None, f"{said} under labels {labels.version}", tip)


async def _derive(
    store: SqliteStore, affected: list[Signal], labels: LabelSet, source: BlockSource,
    on_block: Callable[[], None],
) -> dict[str, Signal | None]:  # fmt: skip
    """One pass from the first block that matters to the tip: old id -> what its processor says now, None where that is
    nothing; without those that could not be asked about."""
    cursor = store.cursor()
    if cursor is None:
        return {}
    wanted: dict[str, list[Signal]] = defaultdict(list)
    for signal in affected:
        wanted[signal.block_hash].append(signal)
    first = (
        min((s.block_height or 0) - int(s.inputs["window"]["blocks"]) for s in affected) if affected else cursor.height
    )
    size = cursor.height - max(0, min(first, cursor.height - A_MONTH)) + 1
    recorded = {row.facts.blockhash: row for row in store.window(cursor.block_hash, size)}
    history = History()
    again: dict[str, Signal | None] = {}
    unwritten: list[tuple[BlockFacts, BlockFlows | None]] = []
    for block in source.branch(Hash256.from_display(cursor.block_hash), size):
        facts, flows = compute_facts(block, labels), compute_flows(block, labels)
        seen = recorded.get(facts.blockhash, Past(facts))
        for signal in wanted.get(facts.blockhash, ()):
            context = ProcessingContext(
                facts, history.window(signal.inputs["window"]["blocks"]), labels, signal.correlation_id, flows,
                seen.balances, outcomes=recorded_outcomes(signal),
            )  # fmt: skip
            again |= await _say_again(signal, replace(block, mempool=seen.mempool), context)
        history.append(Past(facts, flows and flows.sums(), seen.mempool, seen.balances))
        unwritten.append((facts, flows))
        on_block()
        if len(unwritten) == BATCH:
            _write(store, unwritten)
    _write(store, unwritten)
    return again


def _write(store: SqliteStore, unwritten: list[tuple[BlockFacts, BlockFlows | None]]) -> None:
    store.restate(unwritten)
    unwritten.clear()


async def _say_again(signal: Signal, block: Any, context: ProcessingContext) -> dict[str, Signal | None]:
    processor = recorded_processor(signal)
    if processor is None or (signal.inputs.get("mempool") is not None and block.mempool is None):
        return {}
    said = await processor.process_block(block, context)
    same = [one for one in said if (one.kind, one.subject) == (signal.kind, signal.subject)]
    return {signal.signal_id: same[0] if same else None}
