"""A reorg is a step, not an exception: what stale blocks said is retracted, and said again if they return."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from persistence.records import chain
from pipeline.simulated import Always, content, steps, world
from utxoiq.insights.checker import InsightContent
from utxoiq.insights.generator import InsightGenerator, Prompt
from utxoiq.models import Connected, Disconnected
from utxoiq.persistence import SignalPersistenceModule, SqliteStore, reads
from utxoiq.pipeline import PipelineOrchestrator
from utxoiq.processors.discovery import discover
from utxoiq.sources.open import Source, open_source

REORG = "its block was disconnected from the best chain"
RETURNED = "its block returned to the best chain"


class Narrator:
    """Has a text for every signal."""

    name, model, prompt_version = "test", "test", "test"

    async def generate(self, prompt: Prompt) -> InsightContent:
        return InsightContent("A block was seen", "A block was seen. It was confirmed.", "Confidence {confidence}.")


async def take(orchestrator: PipelineOrchestrator, step: Connected | Disconnected) -> None:
    if isinstance(step, Connected):
        result = await orchestrator.process_new_block(step.block)
        assert result.success, result.error
    else:
        taken = await orchestrator.disconnect_block(step.block_hash)
        assert taken.success, taken.error


class Followed(NamedTuple):
    """A store that followed a source with a processor that speaks about every block."""

    source: Source
    store: SqliteStore
    stale: set[str]
    """Blocks that were connected and taken off."""
    best: set[str]


RUNS = ["simulated", "regtest_core31", "regtest_reorg"]


@pytest.fixture(scope="module", params=RUNS)
def followed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    """One simulated chain and two real ones, with reorgs of 1 to 6 blocks."""
    name = request.param
    folder = world().folder if name == "simulated" else request.getfixturevalue("shared") / "runs" / name
    source, store = open_source(folder), SqliteStore(tmp_path_factory.mktemp(name) / "store.db")
    seen = asyncio.run(_follow(source, store))
    best = {str(block.block_hash) for block in source.blocks()}
    yield Followed(source, store, {str(s.block_hash) for s in seen if isinstance(s, Disconnected)}, best)
    store.close()


async def _follow(source: Source, store: SqliteStore) -> list[Connected | Disconnected]:
    generator = InsightGenerator(Narrator())
    persistence = SignalPersistenceModule(store=store)
    orchestrator = PipelineOrchestrator([Always(), *discover()], persistence, insight_generator=generator)
    seen = await steps(source)
    for step in seen:
        await take(orchestrator, step)
    orchestrator.close()
    return seen


def test_the_store_ends_where_the_source_does(followed: Followed) -> None:
    """After real reorgs too; every block has the standing it has on the node."""
    assert followed.store.cursor() == followed.source.tip()
    assert followed.stale
    states = {r["block_hash"]: r["state"] for r in followed.store.database.query("SELECT * FROM block_state")}
    assert {h for h, state in states.items() if state == "connected"} == followed.best
    assert {h for h, state in states.items() if state == "disconnected"} == followed.stale - followed.best


def test_only_the_best_chain_speaks(followed: Followed) -> None:
    """Each of its blocks does, once; no stale block does, neither by signals nor by insights."""
    signals = reads.signals(followed.store, 1 << 20)
    always = [row["block_hash"] for row in signals if row["model_version"] == Always.model_version]
    assert sorted(always) == sorted(followed.best)
    assert {row["block_hash"] for row in signals} <= followed.best
    spoken = {row["signal_id"] for row in signals}
    assert {row["signal_id"] for row in reads.insights(followed.store, 1 << 20)} == spoken


def test_what_stale_blocks_said_is_retracted_with_the_reason(followed: Followed) -> None:
    """It is kept, marked, and dated; readers of retracted words find why."""
    for rows in (
        reads.signals(followed.store, 1 << 20, retracted=True),
        reads.insights(followed.store, 1 << 20, retracted=True),
    ):
        gone = [row for row in rows if row["retracted_at"] is not None]
        assert {row["retraction_reason"] for row in gone} == {REORG}
        assert all(row["retracted_at"] >= row["recorded_at"] for row in gone)
    signals = reads.signals(followed.store, 1 << 20, retracted=True)
    gone = {row["block_hash"] for row in signals if row["retracted_at"] is not None}
    assert gone == followed.stale - followed.best


async def test_a_stale_branch_that_returns_speaks_again(
    orchestrate: Callable[..., PipelineOrchestrator], store: SqliteStore, path: Path
) -> None:
    """There, back, and there again: the same signals under the same ids, retracted and reinstated by events."""
    orchestrator = orchestrate(Always(), insight_generator=InsightGenerator(Narrator()))
    trunk, stale, winning = chain()

    async def connect(blocks: list) -> None:  # type: ignore[type-arg]
        for block in blocks:
            await take(orchestrator, Connected(block))

    async def disconnect(blocks: list) -> None:  # type: ignore[type-arg]
        for block in reversed(blocks):
            await take(orchestrator, Disconnected(block.block_hash, block.height))

    def spoken() -> set[str]:
        insights = {row["signal_id"] for row in reads.insights(store, 99)}
        signals = {row["signal_id"]: row["block_hash"] for row in reads.signals(store, 99)}
        assert insights == set(signals)
        return set(signals.values())

    await connect([*trunk, *stale])
    first = content(path)
    await disconnect(stale)
    await connect(winning[:3])
    assert spoken() == {str(b.block_hash) for b in (*trunk, *winning[:3])}
    await disconnect(winning[:3])
    await connect(stale)
    assert spoken() == {str(b.block_hash) for b in (*trunk, *stale)}
    now = content(path)
    assert all(set(first[table]) <= set(now[table]) for table in first)
    sql = "SELECT event, reason, block_hash FROM signal_events JOIN signals USING (signal_id) ORDER BY seq"
    events = [tuple(row) for row in store.database.query(sql)]
    assert {(event, reason) for event, reason, _ in events} == {("retracted", REORG), ("reinstated", RETURNED)}
    for block in stale:
        of_block = [event for event, _, block_hash in events if block_hash == str(block.block_hash)]
        assert of_block == ["retracted", "reinstated"]
