"""A short simulated chain with a reorg, and records of its blocks with signals and insights made by hand."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid5

from utxoiq.chain.block import decode_block, read_undo_spent
from utxoiq.chain.network import NETWORKS
from utxoiq.entities.labels import LabelSet
from utxoiq.facts.compute import compute_facts
from utxoiq.history import Past
from utxoiq.models import (
    BlockData,
    BlockFacts,
    BlockFlows,
    BlockRecord,
    Cursor,
    EntityFlow,
    Forecast,
    Insight,
    Signal,
    SignalType,
    Transfer,
    digest,
)
from utxoiq.simulation.economy import simulate

NETWORK = NETWORKS["simulated"]
NO_LABELS = LabelSet((), "none", NETWORK)
TABLES = ("meta", "cursor", "blocks", "block_events", "facts", "signals", "signal_events", "insights", "insight_events")
NEWER = ("flows", "forecasts")
"""Tables of schema 3."""
HISTORY = tuple(table for table in TABLES if table != "cursor")


class Chain(NamedTuple):
    """Twelve blocks of the best chain; the ninth and tenth came first in another form."""

    trunk: list[BlockData]
    stale: list[BlockData]
    winning: list[BlockData]

    @property
    def best(self) -> list[BlockData]:
        return [*self.trunk, *self.winning]


@cache
def chain() -> Chain:
    """Blocks 0 to 7, two stale ones, and the four that overtake them."""
    arrivals = []
    for made in simulate(1, 12):
        block = decode_block(made.raw, NETWORK)
        arrivals.append(BlockData(block, made.height, read_undo_spent(block, made.undo), None, "test"))
    parts = Chain(arrivals[:8], arrivals[8:10], arrivals[10:])
    assert parts.stale[0].prev_hash == parts.winning[0].prev_hash == parts.trunk[-1].block_hash
    return parts


@cache
def _facts(block_hash: str) -> BlockFacts:
    data = next(b for part in chain() for b in part if str(b.block_hash) == block_hash)
    return compute_facts(data, NO_LABELS)


def facts_of(data: BlockData) -> BlockFacts:
    return _facts(str(data.block_hash))


def past_of(*blocks: BlockData) -> list[Past]:
    """What a store remembers of plain records of these."""
    return [Past(facts_of(data)) for data in blocks]


def flows_of(data: BlockData, sat: int = 7, transfers: int = 3, labels_version: str = "none") -> BlockFlows:
    """Flows made by hand: an exchange received so much in each of some transactions."""
    flow = EntityFlow(0, sat, 0, sat, 0)
    each = [Transfer(f"{n:064x}", "payment", 1, 2, sat, sat, 0, {"exchange": flow}) for n in range(transfers)]
    total = EntityFlow.of({name: transfers * value for name, value in flow.amounts().items()})
    between, kinds = [["unknown", "exchange", transfers * sat]], {"exchange": [transfers * sat, 0]}
    name = str(data.block_hash)
    return BlockFlows(name, labels_version, 100, 0, 100, 50, {"exchange": total}, between, kinds, each)


def forecast(data: BlockData, value: int = 2000, ahead: int = 1, method: str = "naive", **changes: Any) -> Forecast:
    """One said after a block, of the block so many above it."""
    horizon: Any = {1: "next_block", 6: "1h", 144: "24h"}.get(ahead, "next_block")
    said = Forecast(method, horizon, str(data.block_hash), (data.height or 0) + ahead, value, None, None, 0, "test-1")
    return replace(said, **changes)


def signal(
    data: BlockData, value: Any = 1, kind: str = "seen", subject: str = "chain", signal_type: SignalType = "whale"
) -> Signal:
    """A signal of a block; another `value` is another signal about the same thing."""
    return Signal.derive(
        signal_type=signal_type,
        kind=kind,
        subject=subject,
        block_height=data.height,
        block_hash=str(data.block_hash),
        confidence=0.9,
        confidence_basis={"basis": "a test", "cases": 1, "calibrated": False},
        metadata={"value": value},
        evidence={"txids": [str(data.block.txid(0))], "block_hashes": [str(data.block_hash)]},
        created_at=data.block.header.time,
        model_version=f"{signal_type}-test",
        inputs={"digest": digest(value), "settings": {}},
        simulated=True,
    )


def insight(of: Signal, headline: str = "Something was seen") -> Insight:
    return Insight(
        insight_id=str(uuid5(NAMESPACE_URL, of.signal_id)),
        signal_id=of.signal_id,
        category=of.signal_type,
        headline=headline,
        summary="Something was seen. It was in a block.",
        confidence=of.confidence,
        confidence_explanation="A test.",
        evidence={"block_heights": [of.block_height], "transaction_ids": []},
        provider="test",
        model="test",
        prompt_version="test",
        grounded=True,
        created_at=of.created_at,
        simulated=True,
    )


def record(
    data: BlockData,
    signals: Sequence[Signal] = (),
    insights: Sequence[Insight] = (),
    *,
    island: bool = False,
    correlation_id: str = "run",
    **facts: Any,
) -> BlockRecord:
    """The record of a block; `facts` are changed where told."""
    cursor = None if island else Cursor(str(data.block_hash), data.height or 0)
    changed = replace(facts_of(data), **facts)
    return BlockRecord(data, changed, tuple(signals), tuple(insights), cursor, correlation_id)


def told(data: BlockData, *values: Any, island: bool = False, correlation_id: str = "run") -> BlockRecord:
    """The record of a block with a signal for each value, each with an insight."""
    signals = [signal(data, value, subject=f"subject-{i}") for i, value in enumerate(values)]
    return record(data, signals, list(map(insight, signals)), island=island, correlation_id=correlation_id)


def rows(path: Path, tables: Sequence[str] = TABLES) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of these tables with its rowid, read by a connection of our own."""
    connection = sqlite3.connect(path)
    try:
        return {t: connection.execute(f"SELECT rowid, * FROM {t} ORDER BY rowid").fetchall() for t in tables}
    finally:
        connection.close()


def run(path: Path, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """One statement on the file, committed."""
    connection = sqlite3.connect(path)
    try:
        with connection:
            return connection.execute(sql, parameters).fetchall()
    finally:
        connection.close()
