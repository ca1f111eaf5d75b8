"""One run: a simulated chain on disk, scanned into a store as a mainnet node's would be. Nothing of it is kept."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from evaluation.baseline import say
from evaluation.claims import Claim, Job, Run
from utxoiq.balances.records import DEFAULTS
from utxoiq.chain.network import NETWORKS
from utxoiq.demo import simulated_ledger
from utxoiq.entities.labels import LabelSet, read_labels
from utxoiq.errors import UtxoiqError
from utxoiq.models import Disconnected
from utxoiq.persistence import SignalPersistenceModule, open_store, reads
from utxoiq.pipeline.holdings import BalanceKeeper
from utxoiq.pipeline.orchestrator import PipelineOrchestrator
from utxoiq.processors.base import ProcessorConfig, SignalProcessor
from utxoiq.processors.discovery import discover, discovered
from utxoiq.processors.scoreboard import scoreboard
from utxoiq.simulation.economy import Economy
from utxoiq.simulation.files import write_blocks
from utxoiq.simulation.labels import labels
from utxoiq.simulation.regimes import REGIMES
from utxoiq.sources.open import open_source

if TYPE_CHECKING:
    from utxoiq.models import BlockData
    from utxoiq.persistence import SqliteStore
    from utxoiq.pipeline.runner import Found
    from utxoiq.processors.base import ProcessingContext
    from utxoiq.sources.base import BlockSource

PATIENCE = 600.0
"""Seconds a processor may take for a block: figures must not depend on how busy a machine is."""
NOBODY = ("chain", "unknown")
"""Subjects of signals about no one in particular."""


def perform(job: Job) -> Run:
    """Make the chain, scan it under the regime's labels, and keep what is scored. Raises UtxoiqError."""
    economy = Economy(job.seed, REGIMES[job.regime])
    known = label_set(job)
    with TemporaryDirectory(prefix="utxoiq-laboratory-") as folder:
        write_blocks(Path(folder) / "blocks", economy.blocks(job.blocks))
        source, ledger = open_source(Path(folder)), simulated_ledger(Path(folder), economy)
        with (
            open_store(f"sqlite:///{folder}/store.db") as store,
            closing(BalanceKeeper(ledger, source.block_at, settings=replace(DEFAULTS, sync=False))) as balances,
        ):
            asyncio.run(_scan(source, store, known, _processors(job), balances))
            tip = store.cursor()
            rows = store.window(tip.block_hash, job.blocks) if tip else []
            board = scoreboard(reads.forecasts(store, 2 * job.blocks))
            return Run(job, _signals(store), say(rows, known), economy.events, board)


def label_set(job: Job) -> LabelSet:
    """The labels of the regime, as a label file holds them."""
    found = labels(job.seed, REGIMES[job.regime])
    return read_labels("\n".join(json.dumps(_line(one)) for one in found), NETWORKS["simulated"], "laboratory")


def _line(label: Any) -> dict[str, Any]:
    values = asdict(label)
    evidence = {"source": "laboratory", "confidence": "high", "as_of": "2026-01-05"}
    return {**values, "labels": [{**evidence, "addresses": values.pop("addresses")}]}


def _processors(job: Job) -> list[SignalProcessor]:
    if job.calibrated:
        return discover()
    return discover({name: ProcessorConfig(confidence_threshold=0, calibration=False) for name in discovered()})


class _Strict(PipelineOrchestrator):
    """Where one processor fails, the run is void."""

    async def generate_signals(self, block: BlockData, context: ProcessingContext) -> Found:
        """Raises UtxoiqError."""
        found = await super().generate_signals(block, context)
        if found.failed:
            raise UtxoiqError(f"block {block.height}: the processor of {', '.join(found.failed)} failed")
        return found


async def _scan(
    source: BlockSource, store: SqliteStore, known: LabelSet, processors: list[SignalProcessor], balances: BalanceKeeper
) -> None:
    """As `pipeline.scan` does, but for insights."""
    persistence = SignalPersistenceModule(store=store)
    orchestrator = _Strict(processors, persistence, labels=known, processor_timeout=PATIENCE, balances=balances)
    try:
        async for step in source.follow(None):
            if isinstance(step, Disconnected):
                await orchestrator.disconnect_block(step.block_hash)
                continue
            outcome = await orchestrator.process_new_block(step.block)
            if not outcome.success:
                raise outcome.failure or UtxoiqError(outcome.error or "a commit failed")
            if balances.status.reason:
                raise UtxoiqError(f"block {step.block.height}: balances are unknown: {balances.status.reason}")
    finally:
        orchestrator.close()


def _signals(store: SqliteStore) -> list[Claim]:
    """Those that were not retracted, by height and the order in which they were said."""
    found = [_claim(row) for row in reads.signals(store, 1 << 30)]
    return sorted(found, key=lambda one: (one.height, one.signal_type, one.kind, one.subject or ""))


def _claim(row: dict[str, Any]) -> Claim:
    subject = None if row["subject"] in NOBODY else row["subject"]
    return Claim(
        row["signal_type"], row["kind"], subject, row["block_height"], row["confidence"], row["model_version"],
        row["metadata"].get("direction"),
    )  # fmt: skip
