"""Scan: everything a source has, from where the store stands to the tip."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from utxoiq.errors import StoreError, WrongNetwork
from utxoiq.insights.generator import InsightGenerator
from utxoiq.models import Connected, Disconnected
from utxoiq.persistence.module import SignalPersistenceModule
from utxoiq.pipeline.orchestrator import PipelineOrchestrator
from utxoiq.pipeline.outcomes import settle
from utxoiq.processors.discovery import discover

if TYPE_CHECKING:
    from pathlib import Path

    from utxoiq.entities.labels import LabelSet
    from utxoiq.models import Insight
    from utxoiq.persistence.sqlite import SqliteStore
    from utxoiq.pipeline.holdings import BalanceKeeper
    from utxoiq.sources.base import BlockSource


@dataclass(slots=True)
class ScanResult:
    """What a scan did; blocks that the store had already are in none of it."""

    connected: int = 0
    disconnected: int = 0
    signals: int = 0
    insights: list[Insight] = field(default_factory=list)


async def scan(
    source: BlockSource,
    store: SqliteStore,
    *,
    labels: LabelSet | None = None,
    ledger: Path | None = None,
    on_step: Callable[[Connected | Disconnected], None] | None = None,
) -> ScanResult:
    """Follow `source` from the store's cursor to its tip, committing block by block.

    `ledger`: the folder of a ledger of balances, kept at the tip too; a new one where the source and the store begin
    with genesis.

    Raises LedgerError where there is none, WrongNetwork, StoreError where a commit fails (all before it is kept),
    SourceError, DecodeError.
    """
    if store.network not in (None, source.network.name):
        raise WrongNetwork(f"the store holds {store.network}, the source {source.network.name}: give another --db")
    persistence, balances = SignalPersistenceModule(store=store), _keeper(ledger, source, store)
    processors = discover()
    orchestrator = PipelineOrchestrator(
        processors, persistence, insight_generator=InsightGenerator(), labels=labels, balances=balances
    )
    result = ScanResult()
    try:
        async for step in source.follow(store.cursor()):
            await _take(step, orchestrator, result)
            if on_step:
                on_step(step)
    finally:
        orchestrator.close()
        if balances:
            balances.close()
    if result.connected:
        await asyncio.to_thread(settle, store, processors)
    return result


def _keeper(ledger: Path | None, source: BlockSource, store: SqliteStore) -> BalanceKeeper | None:
    """A power cut may cost the ledger some blocks, which it reads again: a scan need not wait for the disk."""
    if ledger is None:
        return None
    from utxoiq.balances.ledger import Ledger  # noqa: PLC0415 its kernels load only where it is used
    from utxoiq.balances.manifest import NAME  # noqa: PLC0415
    from utxoiq.balances.records import DEFAULTS  # noqa: PLC0415
    from utxoiq.pipeline.holdings import BalanceKeeper  # noqa: PLC0415

    if not (ledger / NAME).exists() and store.cursor() is None and source.tip() and source.lowest() == 0:
        Ledger.create(ledger, source.network).close()
    return BalanceKeeper(ledger, source.block_at, settings=replace(DEFAULTS, sync=False))


async def _take(step: Connected | Disconnected, orchestrator: PipelineOrchestrator, result: ScanResult) -> None:
    if isinstance(step, Disconnected):
        taken = await orchestrator.disconnect_block(step.block_hash)
        if not taken.success:
            raise StoreError(taken.error or "a disconnect failed")
        result.disconnected += 1
        return
    outcome = await orchestrator.process_new_block(step.block)
    if not outcome.success:
        raise outcome.failure or StoreError(outcome.error or "a commit failed")
    if not outcome.rows_written:
        return
    result.connected += 1
    result.signals += len(outcome.signals)
    result.insights += outcome.insights
