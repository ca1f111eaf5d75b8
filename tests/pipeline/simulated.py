"""A simulated chain on disk with its labels, made once a run; and third parties' processors for the pipeline."""

from __future__ import annotations

import atexit
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from utxoiq.chain.network import NETWORKS
from utxoiq.entities.labels import LabelSet, read_labels
from utxoiq.models import BlockData, Connected, Disconnected, Signal
from utxoiq.processors.base import ProcessingContext, SignalProcessor
from utxoiq.processors.metadata import Field
from utxoiq.simulation.economy import simulate
from utxoiq.simulation.files import write_blocks
from utxoiq.simulation.labels import labels
from utxoiq.sources.open import Source, open_source

SEED = 1
BLOCKS = 230
"""Enough for a spike, a drop, records, empty blocks, an overpaid fee and a reorg, and little enough to be quick."""
FORK = BLOCKS * 7 // 10
"""Blocks before the reorg."""
STALE = 2


@dataclass(frozen=True)
class World:
    """A blocks directory, the file of its labels, and the labels."""

    folder: Path
    label_file: Path
    labels: LabelSet

    @property
    def source(self) -> Source:
        """The directory, opened anew."""
        return open_source(self.folder)


@cache
def world(blocks: int = BLOCKS) -> World:
    """The simulated chain of so many blocks, in a folder that is gone after the run."""
    folder = Path(tempfile.mkdtemp(prefix="utxoiq-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    write_blocks(folder / "blocks", simulate(SEED, blocks))
    text = "\n".join(map(json.dumps, map(_row, labels(SEED))))
    (folder / "labels.jsonl").write_text(text, "utf-8")
    return World(folder / "blocks", folder / "labels.jsonl", read_labels(text, NETWORKS["simulated"], "labels"))


def _row(label: Any) -> dict[str, Any]:
    evidence = {"source": "test", "confidence": "high", "as_of": "2026-01-05", "addresses": label.addresses}
    named = {"id": label.id, "name": label.name, "kind": label.kind, "tags": label.tags, "labels": [evidence]}
    return {**named, "ticker": label.ticker, "known_holdings": label.known_holdings}


async def steps(source: Source) -> list[Connected | Disconnected]:
    """All that a source tells from the beginning."""
    return [step async for step in source.follow(None)]


async def blocks(source: Source) -> list[BlockData]:
    """The blocks a source connects, in that order, stale ones included."""
    return [step.block for step in await steps(source) if isinstance(step, Connected)]


class Always(SignalProcessor):
    """Speaks about every block, of how many came before it."""

    signal_type = "whale"
    model_version = "whale_test-1"
    reads = ("txs",)
    kinds: ClassVar[Mapping[str, Mapping[str, Field]]] = {
        "seen": {"txs": Field("transactions", "in the block"), "window": Field("blocks", "before it")}
    }
    window_blocks = 5

    async def process_block(self, block: BlockData, context: ProcessingContext) -> list[Signal]:
        return self.speak(context)

    def speak(self, context: ProcessingContext, **changes: Any) -> list[Signal]:
        values: dict[str, Any] = {
            "kind": "seen",
            "subject": "chain",
            "confidence": 0.9,
            "basis": {"basis": "a test", "cases": 1, "calibrated": False},
            "metadata": {"txs": context.facts.txs, "window": len(context.window)},
        }
        return self.signal(context, **{**values, **changes})


PASSING = {"recorded_at", "correlation_id", "processed_at", "seq"}


def content(path: Path, tables: Sequence[str] = ("blocks", "facts", "signals", "insights")) -> dict[str, list[str]]:
    """What a store holds that replaying must give again: all rows, without wall clocks, ids of runs and row numbers."""
    return {
        table: sorted(json.dumps(row, default=bytes.hex) for row in query(path, f"SELECT * FROM {table}"))
        for table in tables
    }


def query(path: Path, sql: str) -> list[dict[str, Any]]:
    """Rows of a statement as dicts without what passes, read by a connection of our own."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    try:
        return [{k: row[k] for k in row.keys() if k not in PASSING} for row in connection.execute(sql)]  # noqa: SIM118
    finally:
        connection.close()


def dump(path: Path) -> list[str]:
    """The whole database as SQL."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return list(connection.iterdump())
    finally:
        connection.close()
