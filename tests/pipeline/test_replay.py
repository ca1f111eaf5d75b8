"""The same blocks give the same rows, to the byte: at once, one by one with restarts between, and through a reorg.

On the simulated chain with the labels of its economy, and some holders labelled besides; thresholds are low enough for
all six types to speak.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pipeline.simulated import content, query, steps, world
from processors.cases import NETWORK
from utxoiq.chain.address import address_of
from utxoiq.entities.labels import LabelSet, read_labels
from utxoiq.insights.generator import InsightGenerator
from utxoiq.models import BLOCK_WEIGHT, BlockData, Connected, Disconnected, MempoolSnapshot, NextBlock
from utxoiq.persistence import SignalPersistenceModule, SqliteStore, reads
from utxoiq.pipeline import PipelineOrchestrator
from utxoiq.pipeline.verify import recorded_of, verify
from utxoiq.processors import ProcessorConfig, SignalProcessor
from utxoiq.processors.discovery import discovered

TABLES = ("blocks", "facts", "flows", "forecasts", "signals", "insights", "mempool_snapshots", "block_snapshots")
LOW: dict[str, dict[str, Any]] = {
    "exchange": {"large_btc": 20, "net_btc": 5, "net_p": 0.5, "flow_blocks": 2, "minimum_sums": 10},
    "mempool": {"minimum_history": 20, "spike_ratio": 1.5, "spike_rank": 0.9, "congested_blocks": 4},
    "miner": {"minimum_history": 20, "recent_blocks": 20, "share_p": 0.3, "streak_p": 0.2, "concentration_p": 0.2,
              "concentration_share": 0.3, "distribution_btc": 1, "full_share": 0.0001, "underfilled_share": 0.9},
    "predictive": {"change_ratio": 1.05, "pressure_btc": 1, "pressure_blocks": 6, "minimum_alike": 3},
    "treasury": {"moved_btc": 0.01},
    "whale": {"minimum_history": 20, "transfer_btc": 100, "dormant_btc": 10, "age_p": 0.05, "age_ratio": 1.5},
}  # fmt: skip
"""Thresholds for this short chain."""


def processors() -> list[SignalProcessor]:
    """Ours, new ones."""
    windows = {"miner": 60, "predictive": 225}
    configs = {
        who: ProcessorConfig(confidence_threshold=0.3, time_window=windows.get(who), **low) for who, low in LOW.items()
    }
    return list(discovered(configs).values())


@cache
def arrivals() -> tuple[Connected | Disconnected, ...]:
    """All steps of the chain; before every block but each fifth its mempool was seen."""
    told = []
    for n, step in enumerate(asyncio.run(steps(world().source))):
        told.append(
            Connected(replace(step.block, mempool=seen(step.block))) if isinstance(step, Connected) and n % 5 else step
        )
    return tuple(told)


def seen(block: BlockData) -> MempoolSnapshot:
    """What might have waited for a block: more before some than before others, and paying more."""
    weight = BLOCK_WEIGHT * (1 + (block.height or 0) % 7)
    rates = [900 + 400 * ((block.height or 0) % 7) + 100 * i for i in range(6)]
    tip, at = str(block.prev_hash), block.block.header.time - 9
    upcoming = NextBlock(BLOCK_WEIGHT, 10**7, rates)
    return MempoolSnapshot(
        at, tip, 4000, weight // 4, 100, 100, "feerate diagram", upcoming, weight, [1000], [3000, None, 900]
    )


@cache
def labels() -> LabelSet:
    """The economy's own, and of those whom blocks pay and who spend again the first few: a company, a fund, a state."""
    rows = [json.loads(line) for line in world().label_file.read_text("utf-8").splitlines()]
    known = {address for row in rows for label in row["labels"] for address in label["addresses"]}
    found: list[str] = []
    for step in arrivals():
        spent = step.block.spent if isinstance(step, Connected) else None
        for row in range(len(spent.outputs.value) if spent else 0):
            address = address_of(spent.outputs.script(row), NETWORK)  # type: ignore[union-attr]
            if spent.outputs.value[row] > 10**7 and address and address not in {*known, *found}:  # type: ignore[union-attr]
                found.append(address)
        if len(found) > 300:
            break
    holdings = {"sat": 10**11, "as_of": "2026-01-05", "source": "test"}
    for n, (name, kind) in enumerate([("company", "treasury"), ("fund", "etf"), ("state", "government")]):
        label = {"source": "test", "confidence": "high", "as_of": "2026-01-05", "addresses": found[n:300:3]}
        rows.append({"id": name, "name": name.title(), "kind": kind, "known_holdings": holdings, "labels": [label]})
    return read_labels("\n".join(map(json.dumps, rows)), NETWORK, "labels")


async def take(orchestrator: PipelineOrchestrator, step: Connected | Disconnected) -> None:
    if isinstance(step, Disconnected):
        assert (await orchestrator.disconnect_block(step.block_hash)).success
        return
    result = await orchestrator.process_new_block(step.block)
    assert result.success, result.error


def pipeline(store: SqliteStore) -> PipelineOrchestrator:
    persistence = SignalPersistenceModule(store=store)
    return PipelineOrchestrator(processors(), persistence, insight_generator=InsightGenerator(), labels=labels())


async def at_once(path: Path, told: Sequence[Connected | Disconnected]) -> None:
    """One store, one persistence module, one orchestrator for all."""
    with SqliteStore(path) as store:
        orchestrator = pipeline(store)
        for step in told:
            await take(orchestrator, step)
        orchestrator.close()


async def one_by_one(path: Path, told: Sequence[Connected | Disconnected]) -> None:
    """All of it new for each step, and every tenth block given twice: nothing is remembered but what is stored."""
    for n, step in enumerate(told):
        with SqliteStore(path) as store:
            orchestrator = pipeline(store)
            await take(orchestrator, step)
            if isinstance(step, Connected) and n % 10 == 0:
                again = await orchestrator.process_new_block(step.block)
                assert again.rows_written == 0
            orchestrator.close()


async def without_stale(path: Path, _: Sequence[Connected | Disconnected]) -> None:
    """As if the branch that lost had never been."""
    stale = {str(step.block_hash) for step in arrivals() if isinstance(step, Disconnected)}
    kept = [s for s in arrivals() if isinstance(s, Connected) and str(s.block.block_hash) not in stale]
    await at_once(path, kept)


async def back_and_forth(path: Path, told: Sequence[Connected | Disconnected]) -> None:
    """Every twentieth block is taken off with the four below it, and all five come again, at each in a new process."""
    with SqliteStore(path) as store:
        orchestrator, blocks = pipeline(store), list[BlockData]()
        for n, step in enumerate(told):
            await take(orchestrator, step)
            blocks = [*blocks, step.block] if isinstance(step, Connected) else blocks[:-1]
            if n % 20 == 19:
                for block in reversed(blocks[-5:]):
                    await take(orchestrator, Disconnected(block.block_hash, block.height or 0))
                if n % 40 == 39:
                    orchestrator.close()
                    orchestrator = pipeline(store)
                for block in blocks[-5:]:
                    await take(orchestrator, Connected(block))
        orchestrator.close()


Way = Callable[[Path, Sequence[Connected | Disconnected]], Any]


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All at once."""
    path = tmp_path_factory.mktemp("replay") / "once.db"
    asyncio.run(at_once(path, arrivals()))
    return path


def test_all_six_types_speak(scanned: Path) -> None:
    """Each more than once, and of three holders; forecasts and flows are there, and most forecasts are settled."""
    types = Counter(row["signal_type"] for row in query(scanned, "SELECT signal_type FROM signals"))
    assert set(types) == set(LOW)
    assert min(types.values()) >= 3, types
    kinds = {(row["signal_type"], row["kind"]) for row in query(scanned, "SELECT signal_type, kind FROM signals")}
    assert len(kinds) >= 15, kinds
    forecasts = query(scanned, "SELECT method, actual_kvb FROM forecast_scores")
    assert {row["method"] for row in forecasts} >= {"utxoiq", "naive", "rolling_median", "node"}
    assert sum(row["actual_kvb"] is not None for row in forecasts) > len(forecasts) // 2
    blocks = [step.block for step in arrivals() if isinstance(step, Connected)]
    assert len(query(scanned, "SELECT block_hash FROM flows")) == len({str(block.block_hash) for block in blocks})


@pytest.mark.parametrize("way", [one_by_one, back_and_forth], ids=lambda way: way.__name__)
async def test_however_it_is_told_it_is_the_same(scanned: Path, tmp_path: Path, way: Way) -> None:
    """Every row of every table, wall clocks and ids of runs aside; and what holds in the end."""
    path = tmp_path / "other.db"
    await way(path, arrivals())
    assert content(path, TABLES) == content(scanned, TABLES)
    for view in ("current_signals", "current_insights", "forecast_scores", "cursor"):
        assert content(path, [view]) == content(scanned, [view]), view


async def test_a_branch_that_lost_leaves_no_trace_in_what_holds(scanned: Path, tmp_path: Path) -> None:
    """Through the reorg, or as if there had been none: the signals, insights and scores that hold are the same."""
    path = tmp_path / "other.db"
    await without_stale(path, arrivals())
    retracted = query(scanned, "SELECT 1 AS one FROM signal_events WHERE event = 'retracted'")
    assert retracted, "the stale branch said nothing: this would test nothing"
    for view in ("current_signals", "current_insights", "forecast_scores", "cursor"):
        assert content(path, [view]) == content(scanned, [view]), view


async def test_signals_of_every_kind_are_verified(scanned: Path) -> None:
    """Derived again from raw bytes, and the mempools on record where the signal names one: equal, the first
    and the last of each kind that holds."""
    source, verdicts = world().source, Counter[str]()
    with SqliteStore(scanned) as store:
        ends: dict[tuple[str, str], list[str]] = defaultdict(list)
        for row in reads.signals(store, 1 << 20):
            ends[row["signal_type"], row["kind"]].append(row["signal_id"])
        for signal_id in {one for each in ends.values() for one in (each[0], each[-1])}:
            signal = reads.signal(store, signal_id)
            assert signal is not None
            rows = recorded_of(store, signal)
            found = await verify(signal, source, labels(), rows)
            assert found.verdict == "equal", (signal.signal_type, signal.kind, found.reason)
            verdicts[signal.signal_type] += 1
    assert set(verdicts) == set(LOW)
