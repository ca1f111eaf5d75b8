"""From a block to its signals: all processors side by side, none of which can stop another or the block."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.process import python, said
from persistence.records import NEWER, NO_LABELS, chain, rows
from pipeline.simulated import Always, world
from utxoiq.errors import NotLinked, UtxoiqError
from utxoiq.insights.generator import InsightGenerator
from utxoiq.models import BlockData, Forecast, Signal
from utxoiq.persistence import SignalPersistenceModule, SqliteStore, reads
from utxoiq.pipeline import PipelineOrchestrator
from utxoiq.processors import MempoolProcessor, MinerProcessor, ProcessingContext, ProcessorConfig

Orchestrate = Callable[..., PipelineOrchestrator]
TIMINGS = {"signal_generation_ms", "signal_persistence_ms", "total_duration_ms"}


class Fails(Always):
    """Raises what it is told to."""

    signal_type = "treasury"
    model_version = "treasury_test-1"

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    async def process_block(self, block: BlockData, context: ProcessingContext) -> list[Signal]:
        raise self.error


class Gives(Always):
    """Returns what it is told to, made from what it would rightly say."""

    signal_type = "treasury"
    model_version = "treasury_test-1"

    def __init__(self, result: Callable[[Gives, ProcessingContext], Any]) -> None:
        super().__init__()
        self.result = result

    async def process_block(self, block: BlockData, context: ProcessingContext) -> list[Signal]:
        return self.result(self, context)  # type: ignore[no-any-return]


class Blocks(Always):
    """Holds its thread until it is let go."""

    signal_type = "treasury"
    model_version = "treasury_test-1"

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.calls = threading.Event(), 0

    async def process_block(self, block: BlockData, context: ProcessingContext) -> list[Signal]:
        self.calls += 1
        self.gate.wait()
        return self.speak(context)


class NeverEnds(Blocks):
    """Waits for what never comes, until the test lets it go."""

    async def process_block(self, block: BlockData, context: ProcessingContext) -> list[Signal]:
        self.calls += 1
        while not self.gate.is_set():  # noqa: ASYNC110 the gate is another thread's
            await asyncio.sleep(0.01)
        return self.speak(context)


async def test_the_example_of_the_original(store: SqliteStore) -> None:
    """Its lines, with the processors there are and a local store: success, signals and the three timings."""
    persistence = SignalPersistenceModule(store=store)
    processors = [
        MempoolProcessor(ProcessorConfig(enabled=True)),
        MinerProcessor(ProcessorConfig(enabled=True)),
    ]
    orchestrator = PipelineOrchestrator(signal_processors=processors, signal_persistence=persistence)
    for block in chain().best:
        result = await orchestrator.process_new_block(block)
        assert result.success
        assert result.error is None
        assert result.block_height == block.height
        assert isinstance(result.signals, list)
        assert set(result.timing_metrics) == TIMINGS
        assert all(value >= 0 for value in result.timing_metrics.values())
        assert result.correlation_id
    orchestrator.close()
    tip = store.cursor()
    assert tip is not None
    assert tip.block_hash == str(chain().best[-1].block_hash)


async def test_what_a_run_leaves(orchestrate: Orchestrate, store: SqliteStore) -> None:
    """Signals in the result are those in the store, under the run's own correlation id, another each time."""
    orchestrator = orchestrate(Always())
    results = [await orchestrator.process_new_block(block) for block in chain().trunk]
    assert len({result.correlation_id for result in results}) == len(results)
    stored = {row["signal_id"]: row for row in reads.signals(store, 99)}
    assert len(stored) == len(results)
    for result in results:
        (signal,) = result.signals
        assert stored[signal.signal_id]["correlation_id"] == result.correlation_id == signal.correlation_id
        assert reads.signal(store, signal.signal_id).content() == signal.content()  # type: ignore[union-attr]


async def test_a_processor_sees_the_past_of_its_branch(orchestrate: Orchestrate) -> None:
    """The window grows with the chain, up to what the most curious processor asks for."""
    orchestrator = orchestrate(Always(), MempoolProcessor(ProcessorConfig(time_window=6)))
    seen = [(await orchestrator.process_new_block(block)).signals[0].metadata["window"] for block in chain().trunk]
    assert seen == [0, 1, 2, 3, 4, 5, 6, 6]


async def test_a_disabled_processor_is_not_asked(orchestrate: Orchestrate) -> None:
    orchestrator = orchestrate(Always(ProcessorConfig(enabled=False)))
    result = await orchestrator.process_new_block(chain().trunk[0])
    assert result.success
    assert result.signals == []


@pytest.mark.parametrize(
    "error",
    [RuntimeError("boom"), UtxoiqError("boom"), TimeoutError("boom"), KeyError("boom"), asyncio.CancelledError("boom")],
    ids=lambda error: type(error).__name__,
)
async def test_one_that_raises_stops_no_other(
    orchestrate: Orchestrate, error: BaseException, caplog: pytest.LogCaptureFixture, store: SqliteStore
) -> None:
    """The block commits with what the others said; the error is logged with the run's correlation id."""
    orchestrator = orchestrate(Fails(error), Always())
    for block in chain().trunk[:2]:
        caplog.clear()
        result = await orchestrator.process_new_block(block)
        assert result.success
        assert [signal.kind for signal in result.signals] == ["seen"]
        (entry,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
        assert entry.correlation_id == result.correlation_id  # type: ignore[attr-defined]
        assert "treasury" in entry.getMessage()
        assert str(block.block_hash) in entry.getMessage()
        assert "boom" in caplog.text
    assert len(reads.signals(store, 9)) == 2


def _changed(**changes: Any) -> Callable[[Gives, ProcessingContext], list[Signal]]:
    return lambda processor, context: [replace(processor.speak(context)[0], **changes)]


BAD: dict[str, Callable[[Gives, ProcessingContext], Any]] = {
    "nothing": lambda _, __: None,
    "a number": lambda _, __: 7,
    "one signal": lambda processor, context: processor.speak(context)[0],
    "no signals": lambda _, __: ["signal"],
    "impossible confidence": _changed(confidence=1.5),
    "another block's": _changed(block_hash="00" * 32),
    "no kind": _changed(kind=None),
    "a fraction for a time": _changed(created_at=1.5),
    "a text for a height": _changed(block_height="high"),
    "not JSON": _changed(metadata={"set": {1}}),
    "not a number": _changed(metadata={"nan": float("nan")}),
}
"""What a careless third party may return."""


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("narrated", [False, True], ids=["plain", "narrated"])
async def test_one_that_returns_nonsense_stops_no_other(
    orchestrate: Orchestrate, bad: str, narrated: bool, caplog: pytest.LogCaptureFixture, store: SqliteStore
) -> None:
    """Its result is left out and logged like an exception of its own; block and other signals are there."""
    generator = InsightGenerator() if narrated else None
    orchestrator = orchestrate(Always(), Gives(BAD[bad]), insight_generator=generator)
    result = await orchestrator.process_new_block(chain().trunk[0])
    assert result.success, result.error
    assert store.state(str(chain().trunk[0].block_hash)) == "connected"
    assert "whale" in [row["signal_type"] for row in reads.signals(store, 9)]
    assert [r for r in caplog.records if r.levelno >= logging.ERROR]


class Foretells(Always):
    """Speaks, and forecasts what it is told to, made from what it would rightly say."""

    signal_type = "predictive"
    model_version = "predictive_test-1"

    def __init__(self, result: Callable[[Forecast], Any]) -> None:
        super().__init__()
        self.result = result

    def forecasts(self, block: BlockData, context: ProcessingContext) -> list[Forecast]:
        height = context.facts.height or 0
        right = Forecast("mine", "1h", context.facts.blockhash, height + 6, 2000, 1, 3000, 9, self.model_version)
        return self.result(right)  # type: ignore[no-any-return]


def _raises(_: Forecast) -> Any:
    raise RuntimeError("no crystal ball")


BAD_FORECASTS: dict[str, Callable[[Forecast], Any]] = {
    "raises": _raises,
    "nothing": lambda _: None,
    "one": lambda right: right,
    "no forecasts": lambda _: [2000],
    "a tuple": lambda right: (right,),
    "another block's": lambda right: [replace(right, block_hash="00" * 32)],
    "a text for a value": lambda right: [replace(right, value_kvb="many")],
    "a fraction for a value": lambda right: [replace(right, value_kvb=1.5)],
    "no method": lambda right: [replace(right, method=None)],
    "not a number": lambda right: [replace(right, low_kvb=float("nan"))],
}
"""What a careless third party may give."""


@pytest.mark.parametrize("bad", BAD_FORECASTS)
async def test_bad_forecasts_cost_only_their_own_processor(
    orchestrate: Orchestrate, bad: str, caplog: pytest.LogCaptureFixture, store: SqliteStore
) -> None:
    """Neither its signals nor its forecasts are there; the block is, and what others said and foretold."""
    good = Foretells(lambda right: [right])
    good.signal_type, good.model_version = "miner", "miner_test-1"  # type: ignore[misc]
    orchestrator = orchestrate(Always(), Foretells(BAD_FORECASTS[bad]), good)
    result = await orchestrator.process_new_block(chain().trunk[0])
    assert result.success, result.error
    assert sorted(row["signal_type"] for row in reads.signals(store, 9)) == ["miner", "whale"]
    stored = store.database.query("SELECT forecast_id, model_version, value_kvb, correlation_id FROM forecasts")
    assert [(row["model_version"], row["value_kvb"]) for row in stored] == [("miner_test-1", 2000)]
    assert stored[0]["correlation_id"] == result.correlation_id
    assert [one.forecast_id for one in result.forecasts] == [stored[0]["forecast_id"]]
    assert [r for r in caplog.records if r.levelno >= logging.ERROR]


async def test_a_block_given_twice_has_its_flows_and_forecasts_once(orchestrate: Orchestrate, path: Path) -> None:
    """Given again, taken back and given again: not one row more."""
    orchestrator = orchestrate(Foretells(lambda right: [right, replace(right, horizon="24h")]))
    for block in chain().trunk[:2]:
        await orchestrator.process_new_block(block)
    before = rows(path, NEWER)
    assert {table: len(each) for table, each in before.items()} == {"flows": 2, "forecasts": 4}
    await orchestrator.process_new_block(chain().trunk[1])
    await orchestrator.disconnect_block(chain().trunk[1].block_hash)
    result = await orchestrator.process_new_block(chain().trunk[1])
    assert result.success
    assert rows(path, NEWER) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": {"txids": ["ab", "cd"]}},
        {"metadata": {"by": {"pool": 1}}},
        {"metadata": {"fee": "unknown"}},
        {"metadata": {"share": [1]}},
        {"basis": {}},
        {"basis": {"basis": "mine"}},
    ],
    ids=str,
)
async def test_signals_without_words_are_kept(
    orchestrate: Orchestrate, changes: dict[str, Any], store: SqliteStore
) -> None:
    """Any JSON is good metadata: where no text can be made of it, the signal stands without one."""
    speaks = Gives(lambda processor, context: processor.speak(context, **changes))
    orchestrator = orchestrate(Always(), speaks, insight_generator=InsightGenerator())
    result = await orchestrator.process_new_block(chain().trunk[0])
    assert result.success
    assert sorted(row["signal_type"] for row in reads.signals(store, 9)) == ["treasury", "whale"]
    assert reads.insights(store, 9) == []


async def test_a_generator_that_breaks_stops_no_block(
    orchestrate: Orchestrate, monkeypatch: pytest.MonkeyPatch, store: SqliteStore, caplog: pytest.LogCaptureFixture
) -> None:
    """The signal is kept and waits for a worker."""

    async def broken(self: InsightGenerator, signal: Signal) -> None:
        raise RuntimeError("out of words")

    monkeypatch.setattr(InsightGenerator, "generate", broken)
    result = await orchestrate(Always(), insight_generator=InsightGenerator()).process_new_block(chain().trunk[0])
    assert result.success
    assert [row["processed"] for row in reads.signals(store, 9)] == [0]
    assert "out of words" in caplog.text


@pytest.mark.parametrize("kind", [Blocks, NeverEnds])
async def test_one_that_hangs_is_abandoned_until_it_returns(
    orchestrate: Orchestrate, kind: type[Blocks], caplog: pytest.LogCaptureFixture, store: SqliteStore
) -> None:
    """Its block commits without it, the next ones do not even ask it; when it is back it is asked again."""
    hangs = kind()
    orchestrator = orchestrate(hangs, Always(), processor_timeout=0.2)
    trunk = chain().trunk
    try:
        result = await orchestrator.process_new_block(trunk[0])
        assert result.success
        assert [signal.signal_type for signal in result.signals] == ["whale"]
        assert "gave no answer in 0.2 s" in caplog.text
        caplog.clear()
        result = await orchestrator.process_new_block(trunk[1])
        assert result.success
        assert [signal.signal_type for signal in result.signals] == ["whale"]
        assert "still hangs" in caplog.text
        assert hangs.calls == 1
    finally:
        hangs.gate.set()
    found: list[str] = []
    for block in trunk[2:]:
        found = [signal.signal_type for signal in (await orchestrator.process_new_block(block)).signals]
        if "treasury" in found:
            break
        await asyncio.sleep(0.05)
    assert sorted(found) == ["treasury", "whale"]
    assert hangs.calls == 2
    late = [row["block_height"] for row in reads.signals(store, 99) if row["signal_type"] == "treasury"]
    assert late == [block.height], "what it said too late belongs to no block"


async def test_processors_run_side_by_side(orchestrate: Orchestrate) -> None:
    """Two that each wait for the other to have begun both end."""
    both = threading.Barrier(2)

    def meet(processor: Gives, context: ProcessingContext) -> list[Signal]:
        both.wait(timeout=5)
        return processor.speak(context, subject=f"meeting-{id(processor)}")

    result = await orchestrate(Gives(meet), Gives(meet)).process_new_block(chain().trunk[0])
    assert len(result.signals) == 2


async def test_a_failed_commit_leaves_nothing_and_the_block_can_be_given_again(
    orchestrate: Orchestrate, store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No exception: `success` is false, `error` says why, and the block waits until there is room."""
    orchestrator = orchestrate(Gives(lambda p, context: p.speak(context, metadata={"x": "x" * 1_000_000})))
    pages = store.database.value("PRAGMA page_count")
    store.database.value(f"PRAGMA max_page_count = {pages}")
    before = rows(path)
    for _ in range(2):
        result = await orchestrator.process_new_block(chain().trunk[0])
        assert not result.success
        assert "full" in str(result.error)
        assert rows(path) == before
        assert result.correlation_id in {getattr(r, "correlation_id", None) for r in caplog.records}
    store.database.value(f"PRAGMA max_page_count = {pages + 100_000}")
    result = await orchestrator.process_new_block(chain().trunk[0])
    assert result.success
    assert len(reads.signals(store, 9)) == 1


async def test_a_store_that_is_gone_is_a_failed_result(orchestrate: Orchestrate, store: SqliteStore) -> None:
    """Nor does one that can't even be read raise."""
    orchestrator = orchestrate(Always())
    store.close()
    result = await orchestrator.process_new_block(chain().trunk[0])
    assert not result.success
    assert result.error
    assert "total_duration_ms" in result.timing_metrics


async def test_a_block_twice_writes_nothing(orchestrate: Orchestrate, path: Path) -> None:
    """The tip again, and an older block again: success, and not a row more."""
    orchestrator = orchestrate(Always(), MempoolProcessor())
    for block in chain().trunk:
        assert (await orchestrator.process_new_block(block)).success
    before = rows(path)
    for block in (chain().trunk[-1], chain().trunk[3], *chain().trunk):
        assert (await orchestrator.process_new_block(block)).success
    assert rows(path) == before


async def test_a_block_that_does_not_follow_is_an_island(orchestrate: Orchestrate, store: SqliteStore) -> None:
    """Facts yes, the tip stays, and its window is empty, whatever the store knows of its parent."""
    orchestrator = orchestrate(Always())
    trunk, stale, winning = chain()
    for block in (*trunk, *stale):
        await orchestrator.process_new_block(block)
    tip = store.cursor()
    for block in (winning[2], winning[0]):
        result = await orchestrator.process_new_block(block)
        assert result.success
        assert store.state(str(block.block_hash)) == "island"
        assert [signal.metadata["window"] for signal in result.signals] == [0]
    assert store.cursor() == tip


async def test_a_step_of_a_chain_never_becomes_an_island(orchestrate: Orchestrate, path: Path) -> None:
    """A follower whose store was moved by another is told so, and leaves no signal that nobody would retract."""
    orchestrator = orchestrate(Always())
    trunk, stale, winning = chain()
    for block in (*trunk, *stale):
        assert (await orchestrator.process_new_block(block, follows=True)).success
    before = rows(path)
    for block in (winning[2], winning[0]):
        result = await orchestrator.process_new_block(block, follows=True)
        assert isinstance(result.failure, NotLinked)
        assert "does not follow the stored tip" in str(result.error)
    assert (await orchestrator.process_new_block(trunk[3], follows=True)).success, "it is there: nothing to do"
    assert rows(path) == before


async def test_a_block_that_makes_money_is_a_failed_result(orchestrate: Orchestrate, store: SqliteStore) -> None:
    """Refused by the facts: nothing is stored, and the next block goes on."""
    orchestrator = orchestrate(Always())
    first, second = chain().trunk[:2]
    assert first.spent is not None
    poor = replace(first, spent=replace(first.spent, tx_value_in=first.spent.tx_value_in // 2))
    result = await orchestrator.process_new_block(poor)
    assert not result.success
    assert "more than it spends" in str(result.error)
    assert store.cursor() is None
    assert (await orchestrator.process_new_block(second)).success


def test_spent_outputs_of_another_block_are_refused() -> None:
    """Too few or too many of them: an error, and not a read or write beyond the columns (seen from outside)."""
    script = """
from dataclasses import replace
from persistence.records import NO_LABELS, chain
from utxoiq.errors import DecodeError
from utxoiq.facts.compute import compute_facts
for block in chain().trunk:
    for other in chain().trunk:
        try:
            compute_facts(replace(block, spent=other.spent), NO_LABELS)
            assert other is block
        except DecodeError:
            assert other is not block
print("refused")
"""
    process = python("-c", script)
    assert process.returncode == 0, said(process)
    assert process.stdout == "refused\n"


async def test_labels_given_are_the_ones_used(orchestrate: Orchestrate, store: SqliteStore) -> None:
    """Packaged labels know nobody on the simulated network; the chain's own know its pools."""
    block = world().source.block_at(900_000)
    await orchestrate(Always()).process_new_block(block)
    assert store.window(str(block.block_hash), 1)[0].facts.pool is None
    await orchestrate(Always()).disconnect_block(block.block_hash)
    await orchestrate(Always(), labels=world().labels).process_new_block(block)
    (row,) = store.window(str(block.block_hash), 1)
    assert row.facts.labels_version == world().labels.version != NO_LABELS.version


async def test_disconnecting_takes_back_what_was_said(orchestrate: Orchestrate, store: SqliteStore) -> None:
    orchestrator = orchestrate(Always())
    for block in chain().trunk[:2]:
        result = await orchestrator.process_new_block(block)
        assert result.success, result.error
    taken = await orchestrator.disconnect_block(chain().trunk[1].block_hash)
    assert taken.success
    assert [row["block_height"] for row in reads.signals(store, 9)] == [900_000]
    refused = await orchestrator.disconnect_block(chain().trunk[1].block_hash)
    assert not refused.success
