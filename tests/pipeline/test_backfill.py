"""A backfill says what would have been said, had it all been followed; and goes on wherever it was stopped."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.esplora import EsploraDouble
from helpers.node.double import NodeDouble
from persistence.records import chain, told
from pipeline.live import agrees, watching
from pipeline.simulated import BLOCKS, Always, World, content, dump, query, world
from sources.node.conftest import MakeNode
from sources.test_esplora import branches, recorded_chain
from utxoiq.entities.labels import LabelSet
from utxoiq.errors import ConfigError, NodeError, NotLinked, RpcError, SourceError, UtxoiqError, WrongNetwork
from utxoiq.insights.generator import InsightGenerator
from utxoiq.models import Backfilled, BackfillResult, BlockData
from utxoiq.observability import MonitoringModule
from utxoiq.opening import Opening
from utxoiq.persistence import SignalPersistenceModule, SqliteStore
from utxoiq.persistence.ai_calls import Budget
from utxoiq.persistence.sqlite import BACKFILLED, SUPERSEDED
from utxoiq.pipeline import PipelineOrchestrator, backfill, reading
from utxoiq.pipeline.backfill import POLITE, SETTLED, Heights, HistoricalBackfillModule, Progress
from utxoiq.pipeline.error_handler import ErrorHandler
from utxoiq.pipeline.narrator import Narrator
from utxoiq.pipeline.writer import Writer
from utxoiq.processors import ProcessorConfig
from utxoiq.processors.discovery import discover
from utxoiq.simulation.plan import START_HEIGHT
from utxoiq.sources.base import BlockSource
from utxoiq.sources.esplora import RECENT, EsploraSource
from utxoiq.sources.node.source import NodeSource
from utxoiq.sources.open import open_source

TOP = START_HEIGHT + BLOCKS - 1
WHOLE = Heights(START_HEIGHT, TOP)
MIDDLE = Heights(START_HEIGHT + 100, START_HEIGHT + 179)
FEW = Heights(START_HEIGHT, START_HEIGHT + 39)
REGTEST_BLOCKS = 200
"""Of the recorded chain: enough for signals of several types."""
UNHURRIED = 1e9
"""Blocks a minute: no waiting."""
ALL_DERIVED = {
    "signals": "SELECT s.*, b.height FROM current_signals s JOIN block_state b USING (block_hash)",
    "facts": "SELECT f.*, b.height FROM current_facts f JOIN block_state b USING (block_hash)",
    "flows": "SELECT f.*, b.height FROM current_flows f JOIN block_state b USING (block_hash)",
    "forecasts": "SELECT f.*, b.height FROM forecasts f JOIN block_state b USING (block_hash)",
}
UNDECIDED = ("processed", "seq")
"""Whether somebody found words yet is nothing that is derived."""


def derived(path: Path, heights: Heights | None = None, types: Sequence[str] | None = None) -> dict[str, list[str]]:
    """Facts, flows, forecasts and the signals that hold, of the connected blocks, ids and all."""

    def meant(row: dict[str, Any]) -> bool:
        inside = heights is None or heights.first <= row["height"] <= heights.last
        return inside and (types is None or row.get("signal_type") in types)

    found = {}
    for name, sql in ALL_DERIVED.items():
        rows = [row for row in query(path, sql + " WHERE b.state = 'connected'") if meant(row)]
        found[name] = sorted(str({k: v for k, v in row.items() if k not in UNDECIDED}) for row in rows)
    return found


def kept(path: Path) -> list[int]:
    """The heights of the connected blocks, upwards."""
    rows = query(path, "SELECT height FROM block_state WHERE state = 'connected' ORDER BY height")
    return [row["height"] for row in rows]


def module(store: SqliteStore, of: World | Callable[[], BlockSource] | None = None, **options: Any) -> Any:
    """A backfill of the simulated chain, or of another source."""
    if isinstance(of, World) or of is None:
        there = of or world()
        return HistoricalBackfillModule(Opening(str(there.folder)), store, labels_file=there.label_file, **options)
    return HistoricalBackfillModule(of, store, **options)


def fill(path: Path, heights: Heights = WHOLE, types: Sequence[str] | None = None, **options: Any) -> BackfillResult:
    """Fill a store at `path` with the simulated chain."""
    asked = {name: options.pop(name) for name in ("narrate", "resume", "on_progress") if name in options}
    with SqliteStore(path) as store:
        result: BackfillResult = asyncio.run(module(store, **options).backfill(heights, types, **asked))
    return result


async def follow(
    source: BlockSource, store: SqliteStore, heights: Heights, labels: LabelSet | None, narrated: bool = True
) -> None:
    """Process the blocks of these heights as `scan` and `run` do."""
    generator = InsightGenerator() if narrated else None
    persistence = SignalPersistenceModule(store=store)
    orchestrator = PipelineOrchestrator(discover(), persistence, insight_generator=generator, labels=labels)
    for height in range(heights.first, heights.last + 1):
        result = await orchestrator.process_new_block(source.block_at(height))
        assert result.success, result.error
    orchestrator.close()


def followed(path: Path, heights: Heights = WHOLE) -> Path:
    """A live store of the simulated chain's blocks of these heights."""
    with SqliteStore(path) as store:
        asyncio.run(follow(world().source, store, heights, world().labels))
    return path


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that followed the simulated chain from its first block to its tip."""
    return followed(tmp_path_factory.mktemp("live") / "store.db")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that was filled with all of it."""
    path = tmp_path_factory.mktemp("filled") / "store.db"
    result = fill(path)
    assert (result.first, result.last, result.blocks_processed, result.poorer) == (*WHOLE, BLOCKS, 0)
    return path


def copied(path: Path, folder: Path) -> Path:
    """A copy of a closed store."""
    other = folder / "copy.db"
    other.write_bytes(path.read_bytes())
    return other


# What is filled in


def test_a_filled_store_says_what_a_followed_one_says(live: Path, filled: Path) -> None:
    """Signals, facts, flows and forecasts, each to the id and the letter."""
    assert derived(filled) == derived(live)
    assert {name: bool(rows) for name, rows in derived(filled).items()} == dict.fromkeys(ALL_DERIVED, True)
    assert kept(filled) == list(range(START_HEIGHT, TOP + 1))


@pytest.mark.parametrize(("name", "last"), [("regtest_core31", REGTEST_BLOCKS), ("main_0-599", 200)])
async def test_of_recorded_chains_too(tmp_path: Path, shared: Path, name: str, last: int) -> None:
    """A real node's regtest chain with all kinds of scripts, and mainnet's first blocks."""
    opening, heights = Opening(str(shared / "runs" / name)), Heights(0, last)
    with SqliteStore(tmp_path / "live.db") as store:
        await follow(opening(), store, heights, None)
    with SqliteStore(tmp_path / "filled.db") as store:
        past = module(store, opening)
        assert past.heights(0).first == 0
        await past.backfill(heights)
    assert derived(tmp_path / "filled.db") == derived(tmp_path / "live.db")
    assert derived(tmp_path / "filled.db")["signals"]


def test_a_part_is_that_part_of_the_whole(live: Path, tmp_path: Path) -> None:
    """The blocks before are its context and no more: nothing of them, or of those after, is stored."""
    path = tmp_path / "store.db"
    assert fill(path, MIDDLE).blocks_processed == MIDDLE.last - MIDDLE.first + 1
    assert derived(path) == derived(live, MIDDLE)
    assert derived(path)["signals"]
    assert kept(path) == list(range(MIDDLE.first, MIDDLE.last + 1))
    assert {row["height"] for row in query(path, "SELECT height FROM blocks")} == set(kept(path))


def test_one_type_and_then_another(live: Path, tmp_path: Path) -> None:
    """Only the signals asked for; those of a second run join them, and none is taken back."""
    path = tmp_path / "store.db"
    fill(path, types=["whale"])
    assert derived(path)["signals"] == derived(live, types=["whale"])["signals"] != []
    fill(path, types=["mempool", "miner"])
    assert derived(path)["signals"] == derived(live, types=["whale", "mempool", "miner"])["signals"]
    assert len(derived(path)["signals"]) > len(derived(live, types=["whale"])["signals"])
    assert query(path, "SELECT * FROM signal_events") == []
    assert derived(path)["facts"] == derived(live)["facts"]


def test_a_longer_past_is_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies before every window is forgotten while a chain of years is filled; windows are as if it were not."""
    lengths: list[int] = []

    class Short(Always):
        async def process_block(self, block: BlockData, context: Any) -> Any:
            lengths.append(len(context.window._history.rows))
            return await super().process_block(block, context)

    monkeypatch.setattr(backfill, "SLACK", 3)
    path = tmp_path / "store.db"
    fill(path, FEW, processors=[Short()])
    found = query(path, "SELECT metadata FROM signals ORDER BY block_height")
    assert ['"window":' + str(min(i, 5)) in row["metadata"].replace(" ", "") for i, row in enumerate(found)] == [
        True
    ] * len(kept(path))
    assert max(lengths) == 5 + 3


def test_times_are_those_of_the_blocks(filled: Path, tmp_path: Path) -> None:
    """A signal is created when its block was made; that it was recorded now is said beside it."""
    before, path = int(time.time()), tmp_path / "store.db"
    fill(path, MIDDLE)
    with SqliteStore(path) as store:
        rows = store.database.query(
            "SELECT s.created_at, s.recorded_at, b.time FROM signals s JOIN blocks b USING (block_hash)"
        )
        assert rows
        for row in rows:
            assert row["created_at"] == row["time"] < before
            assert before <= row["recorded_at"] <= time.time()
        made = store.database.query("SELECT height, time FROM blocks")
    times = {data.height: data.block.header.time for data in world().source.blocks()}
    assert made
    assert all(row["time"] == times[row["height"]] for row in made)


def test_a_disabled_processor_takes_nothing_back(live: Path, tmp_path: Path) -> None:
    """Signals of a type that is turned off now are none that were derived again; to ask for it is an error."""
    path = copied(live, tmp_path)
    before = derived(path)
    off = [one if one.signal_type != "whale" else type(one)(ProcessorConfig(enabled=False)) for one in discover()]
    fill(path, MIDDLE, processors=off)
    assert derived(path) == before
    with pytest.raises(ConfigError, match="no processor of type whale"):
        fill(path, types=["whale"], processors=off)


# Which heights


def test_days_of_the_simulated_chain(store: SqliteStore) -> None:
    """The heights of a UTC day are those of the blocks made on it; together the days are all there is."""
    past = module(store)
    days: dict[date, list[int]] = {}
    for data in world().source.blocks():
        days.setdefault(datetime.fromtimestamp(data.block.header.time, UTC).date(), []).append(data.height or 0)
    assert len(days) == 2
    for day, heights in days.items():
        assert past.heights(first_day=day, last_day=day) == (heights[0], heights[-1])
    first, last = min(days), max(days)
    assert past.heights(first_day=first, last_day=last) == past.heights(last_day=last) == past.heights() == WHOLE
    assert past.heights(first_day=date.min, last_day=date.max) == WHOLE
    for beyond in ((last + timedelta(days=1), None), (None, first - timedelta(days=1)), (None, date.min)):
        with pytest.raises(ConfigError, match="no block"):
            past.heights(first_day=beyond[0], last_day=beyond[1])


def test_midnight_and_thirty_days(make_node: MakeNode, store: SqliteStore) -> None:
    """A block of 00:00:00 is of the day that begins; by default the last thirty days and the one that runs."""
    node = make_node("double")
    midnight = int(datetime(2024, 1, 10, tzinfo=UTC).timestamp())
    day = int(timedelta(days=1).total_seconds())
    for at in (midnight - 1, midnight, midnight + day - 1, midnight + day):
        node.mine(time=at)  # heights 1 to 4
    for n in range(2, 50):
        node.mine(time=midnight + n * day)  # height n + 3
    node.mine(SETTLED, time=midnight + 50 * day)
    past = module(store, lambda: source_over(node))
    try:
        assert past.heights(first_day=date(2024, 1, 10), last_day=date(2024, 1, 10)) == (2, 3)
        assert past.heights(first_day=date(2024, 1, 11), last_day=date(2024, 1, 11)) == (4, 4)
        assert past.heights(last_day=date(2024, 1, 9), first_day=date(2024, 1, 9)) == (1, 1)
        assert past.heights() == (52 - 30, 52)
        assert past.heights(last_day=date(2024, 2, 12)) == (36 - 30, 36)
    finally:
        past.source.close()


def source_over(node: Any) -> NodeSource:
    return NodeSource(node.url, cookie_file=node.cookie_file)


def test_heights_that_make_no_sense(store: SqliteStore) -> None:
    """Beyond the tip, before the first block, upside down: said, in one line; more than there is, is what there is."""
    past = module(store)
    for first, last in ((TOP + 1, None), (TOP, TOP - 1), (None, START_HEIGHT - 1), (0, 5)):
        with pytest.raises(ConfigError, match="no block") as raised:
            past.heights(first, last)
        assert "\n" not in str(raised.value)
    assert past.heights(0, TOP + 999) == WHOLE
    assert past.heights(TOP, TOP) == (TOP, TOP)


async def test_an_unknown_type(store: SqliteStore) -> None:
    """Named, with those there are; nothing is stored."""
    with pytest.raises(ConfigError, match="no processor of type weather: there are exchange, mempool") as raised:
        await module(store).backfill(WHOLE, ["whale", "weather"])
    assert "\n" not in str(raised.value)
    assert store.connected_range() is None


def test_a_short_node_has_nothing_settled(make_node: MakeNode, store: SqliteStore) -> None:
    """Fewer blocks than are left to `run`: an error with the heights there are."""
    node = make_node("double", blocks=SETTLED - 2)
    past = module(store, lambda: source_over(node))
    try:
        with pytest.raises(ConfigError, match="no block"):
            past.heights()
    finally:
        past.source.close()


# A live store


@pytest.fixture(scope="module")
def begun_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return followed(tmp_path_factory.mktemp("begun") / "store.db", Heights(MIDDLE.first, TOP - 20))


@pytest.fixture
def begun(begun_once: Path, tmp_path: Path) -> Path:
    """A store that began to follow the chain in its middle, up to 20 blocks below the tip."""
    return copied(begun_once, tmp_path)


def test_below_its_first_block(begun: Path, live: Path) -> None:
    """Its tip and all it said stay; what lies before is that part of the whole. Then the rest is filled again, with a
    past: what was said with less of one is superseded, by what takes its place if anything does. Forecasts stay."""
    cursor, own = query(begun, "SELECT * FROM cursor"), Heights(MIDDLE.first, TOP - 20)
    before = derived(begun)
    fill(begun, Heights(START_HEIGHT, MIDDLE.first - 1))
    assert query(begun, "SELECT * FROM cursor") == cursor
    assert derived(begun, own) == before
    assert derived(begun, Heights(START_HEIGHT, MIDDLE.first - 1)) == derived(
        live, Heights(START_HEIGHT, MIDDLE.first - 1)
    )
    assert derived(begun, own)["signals"] != derived(live, own)["signals"]
    fill(begun, own)
    assert query(begun, "SELECT * FROM cursor") == cursor
    foretold, whole = derived(begun), derived(live, Heights(START_HEIGHT, TOP - 20))
    assert set(foretold.pop("forecasts")) == {*whole.pop("forecasts"), *before["forecasts"]}
    assert foretold == whole
    gone = query(begun, "SELECT * FROM signal_state WHERE retracted_at IS NOT NULL")
    assert {row["retraction_reason"] for row in gone} == {SUPERSEDED}
    held = {row["signal_id"]: row for row in query(begun, "SELECT * FROM current_signals")}
    heirs = [(row, held[row["superseded_by"]]) for row in gone if row["superseded_by"]]
    assert heirs
    for old, new in heirs:
        assert [old[k] for k in ("block_hash", "kind", "subject")] == [
            new[k] for k in ("block_hash", "kind", "subject")
        ]
    insights = {row["signal_id"] for row in query(begun, "SELECT signal_id FROM current_insights")}
    assert not insights & {row["signal_id"] for row in gone}


def test_never_beyond_its_tip(begun: Path) -> None:
    """What lies above is the monitor's: no height of it is offered, and a block of it is refused."""
    with SqliteStore(begun) as store:
        past = module(store)
        assert past.heights(0) == (START_HEIGHT, TOP - 20)
        with pytest.raises(ConfigError, match=f"blocks end at {TOP - 20}"):
            past.heights(TOP - 19)
        with pytest.raises(NotLinked, match="tip is at height"):
            asyncio.run(past.backfill(Heights(TOP - 21, TOP)))
    assert kept(begun)[-1] == TOP - 20


def test_a_block_of_another_branch_is_refused(store: SqliteStore) -> None:
    """Beside one that stands, under one that does not follow it, on one it does not follow; the right one is taken."""
    trunk, stale, winning = chain()
    work = Backfilled("test", ("whale",), True, 0, 0, 0)
    for data in (winning[1], winning[2]):
        store.connect(told(data, 1))
    for data, said in ((stale[0], "another's"), (stale[1], "stands")):
        with pytest.raises(NotLinked, match=said):
            store.fill(replace(told(data, 1), cursor=None), work)
    assert store.connected_range() == (winning[1].height, winning[2].height)
    assert store.backfilled("test") is None
    for data in (winning[0], trunk[-1]):
        assert store.fill(replace(told(data, 1), cursor=None), work) > 0
    assert store.connected_range() == (trunk[-1].height, winning[2].height)
    assert store.connected_at(winning[0].height) == str(winning[0].block_hash)
    tip = store.cursor()
    assert tip is not None
    assert tip.height == winning[2].height


async def test_another_network_is_refused(live: Path, tmp_path: Path, make_node: MakeNode) -> None:
    """Before anything of it is stored."""
    path = copied(live, tmp_path)
    before, node = dump(path), make_node("double", blocks=20)
    with SqliteStore(path) as store:
        past = module(store, lambda: source_over(node))
        with pytest.raises(WrongNetwork, match="holds simulated, not regtest"):
            await past.backfill(Heights(0, 3))
        past.source.close()
    assert dump(path) == before


# A node


async def test_from_a_node_and_then_run(double: NodeDouble, store: SqliteStore, path: Path) -> None:
    """A new store is filled up to six blocks below the tip, which are left to `run`; it goes on from there to the tip,
    and what the node tells of every block is what is stored. Then all up to the tip may be filled."""
    tip = double.rpc("getblockcount")
    past = module(store, lambda: source_over(double))
    heights = past.heights(0)
    assert heights == (0, tip - SETTLED)
    result = await past.backfill(heights)
    assert (result.blocks_processed, store.cursor()) == (tip - SETTLED + 1, None)
    source = source_over(double)
    async with watching(source, store, window_blocks=20) as watch:
        await watch.at_tip_of(double)
        double.mine(2)
        await watch.at_tip_of(double)
    agrees(path, double, 0)
    assert past.heights(0) == (0, tip + 2)
    source.close()
    past.source.close()


async def test_threads_do_not_share_what_a_source_remembers(double: NodeDouble, tmp_path: Path) -> None:
    """Three at once read a node: every block's times are those of the blocks before it."""
    for name, workers in (("one.db", 1), ("three.db", 3)):
        with SqliteStore(tmp_path / name) as store, ThreadPoolExecutor(workers) as executor:
            past = module(store, lambda: source_over(double), executor=executor, workers=workers)
            await past.backfill(Heights(0, 100), [])
            past.source.close()
    assert derived(tmp_path / "three.db")["facts"] == derived(tmp_path / "one.db")["facts"]
    agrees_with_node = query(tmp_path / "three.db", "SELECT json_extract(facts, '$.mediantime') AS at FROM facts")
    assert None not in {row["at"] for row in agrees_with_node}


# An API of others


def source_of(double: EsploraDouble) -> EsploraSource:
    return EsploraSource(double.url, requests_per_second=1e9, sleep=lambda _: None)


@contextmanager
def paced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock that only sleeping moves; gives when each task was begun."""
    begun: list[float] = []
    now = 0.0

    class Loop:
        def time(self) -> float:
            return now

        def run_in_executor(self, *args: Any) -> asyncio.Future[Any]:
            begun.append(now)
            return asyncio.get_running_loop().run_in_executor(*args)

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += max(seconds, 0.0) + 1e-9

    fast = SimpleNamespace(get_running_loop=Loop, sleep=sleep, gather=asyncio.gather, Future=asyncio.Future)
    with monkeypatch.context() as patch:
        patch.setattr(reading, "asyncio", fast)
        yield begun


@pytest.mark.parametrize(("asked", "wanted"), [(None, 60 / POLITE), (6000.0, 0.01)])
async def test_it_is_polite(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch, asked: float | None, wanted: float
) -> None:
    """A hundred blocks a minute of an API, one by one; or as many as we are told."""
    assert POLITE == 100
    with EsploraDouble(branches()[1]) as double:
        past = module(store, lambda: source_of(double), blocks_per_minute=asked)
        with paced(monkeypatch) as begun:
            read = [one.facts.height async for one in past.read(0, 9)]
        past.source.close()
    assert read == list(range(10))
    gaps = [later - earlier for earlier, later in pairwise(begun)]
    assert len(gaps) == 9
    assert all(gap == pytest.approx(wanted) for gap in gaps)


async def test_local_files_are_read_as_fast_as_it_goes(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for anything."""
    with paced(monkeypatch) as begun:
        assert len([one async for one in module(store).read(*FEW)]) == 40
    assert begun == [0.0] * 5


async def test_a_source_that_knows_less(tmp_path: Path, shared: Path) -> None:
    """An API does not tell what old blocks spent: a store that knows it stays as it is. A store filled from the API
    alone has those as unknown, and is filled again from files."""
    served, heights = recorded_chain("regtest_core31")[:130], Heights(0, 116)
    files = Opening(str(shared / "runs" / "regtest_core31"))
    full, other = tmp_path / "full.db", tmp_path / "other.db"
    with SqliteStore(full) as store:
        await module(store, files).backfill(heights)
    before = derived(full)
    with EsploraDouble(served) as double:
        there = files()
        spend = [height for height in range(117) if there.block_at(height).block.n_tx > 1]
        assert 0 < len(spend) < 117
        told: list[Progress] = []
        for path, poorer in ((full, len(spend)), (other, 0)):
            with SqliteStore(path) as store:
                past = module(store, lambda: source_of(double), blocks_per_minute=UNHURRIED)
                result = await past.backfill(heights, on_progress=told.append)
                past.source.close()
            assert (result.poorer, result.blocks_processed) == (poorer, 117 - poorer)
            assert told[-1][:2] == (117, 117)
    assert derived(full) == before
    unknown = "json_extract(facts, '$.totalfee') IS NULL"
    poor = query(other, f"SELECT height FROM current_facts JOIN blocks USING (block_hash) WHERE {unknown}")
    assert {row["height"] for row in poor} == set(spend)
    assert heights.last < len(served) - 1 - RECENT
    with SqliteStore(other) as store:
        assert (await module(store, files).backfill(heights)).blocks_processed == 117
    assert derived(other) == before


# Words


def narrator_of(store: SqliteStore) -> Narrator:
    writer = Writer(store, InsightGenerator(), Budget())
    return Narrator(store, writer, MonitoringModule(enabled=False), ErrorHandler(), "test")


async def test_left_for_the_narrator(live: Path, tmp_path: Path) -> None:
    """They wait, as live ones do, and the narrator finds for them the words a scan found."""
    path = tmp_path / "store.db"
    with SqliteStore(path) as store:
        past = module(store)
        result = await past.backfill(MIDDLE)
        assert store.stale_signals(int(time.time()) + 10)[0] == result.signals_generated > 0
        narrator = narrator_of(store)
        while await narrator.look():
            pass
        assert store.stale_signals(int(time.time()) + 10) == (0, None)
    found = [query(one, "SELECT insight_id, block_height FROM current_insights") for one in (path, live)]
    names = [
        {row["insight_id"] for row in rows if MIDDLE.first <= row["block_height"] <= MIDDLE.last} for rows in found
    ]
    assert names[0] == names[1] != set()


async def test_not_meant_for_narration(store: SqliteStore, path: Path) -> None:
    """Marked as processed, with the reason: no alert for them, and the narrator passes them by."""
    result = await module(store).backfill(MIDDLE, narrate=False)
    assert result.signals_generated
    assert store.stale_signals(int(time.time()) + 10) == (0, None)
    assert {row["processed"] for row in query(path, "SELECT processed FROM current_signals")} == {1}
    marks = query(path, "SELECT signal_id, event, reason FROM narration_events")
    assert {(row["event"], row["reason"]) for row in marks} == {("skipped", BACKFILLED)}
    assert len(marks) == len({row["signal_id"] for row in marks}) == result.signals_generated
    narrator = narrator_of(store)
    assert await narrator.look() == 0
    assert query(path, "SELECT * FROM insights") == []


# Side by side


def thread_pool() -> tuple[Executor, Executor]:
    pool = ThreadPoolExecutor(2)
    return pool, pool


def process_pool() -> tuple[Executor, Executor]:
    pool = ProcessPoolExecutor(2, multiprocessing.get_context("spawn"))
    return pool, pool


def dask() -> tuple[Executor, Any]:
    distributed = pytest.importorskip("distributed")
    client = distributed.Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None)
    return client.get_executor(), SimpleNamespace(shutdown=client.close)


@pytest.mark.parametrize("make", [thread_pool, process_pool, dask])
def test_any_executor_will_do(filled: Path, tmp_path: Path, make: Callable[[], tuple[Executor, Any]]) -> None:
    """Threads, processes that begin with nothing, another machine's: the store is the same."""
    executor, owner = make()
    try:
        fill(tmp_path / "store.db", executor=executor, workers=2)
    finally:
        owner.shutdown()
    assert derived(tmp_path / "store.db") == derived(filled)
    assert content(tmp_path / "store.db") == content(filled)


@dataclass(frozen=True)
class Deadly:
    """Opens the simulated chain; a block of it ends the process that reads it."""

    folder: str
    height: int

    def __call__(self) -> BlockSource:
        source = open_source(Path(self.folder))
        block_at = source.block_at

        def at(height: int) -> BlockData:
            if height == self.height and multiprocessing.parent_process() is not None:
                os.kill(os.getpid(), signal.SIGKILL)
            return block_at(height)

        source.block_at = at  # type: ignore[method-assign]
        return source


def test_what_was_done_stays(filled: Path, tmp_path: Path) -> None:
    """A process that reads dies: one line of ours; what came before is stored, and it goes on from there."""
    path, at = tmp_path / "store.db", START_HEIGHT + 70
    heights = Heights(START_HEIGHT, START_HEIGHT + 89)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor, SqliteStore(path) as store:
        opening = Deadly(str(world().folder), at)
        options = {"labels_file": world().label_file, "executor": executor, "workers": 1}
        with pytest.raises(UtxoiqError, match="died") as raised:
            asyncio.run(module(store, opening, **options).backfill(heights))
        assert "\n" not in str(raised.value)
    there = kept(path)
    assert there == list(range(START_HEIGHT, START_HEIGHT + len(there)))
    assert at - 3 * reading.CHUNK <= there[-1] < at
    counted: list[Progress] = []
    assert fill(path, heights, on_progress=counted.append).blocks_processed == 90
    assert len(counted) == 90 - len(there) + 1
    assert derived(path) == derived(filled, heights)


def test_a_nodes_error_finds_its_way_back() -> None:
    """From another process: what reading raises pickles."""

    class Refusing:
        network = world().source.network

        def block_at(self, height: int) -> BlockData:
            raise RpcError("http://node", "getblockhash", -28, "Loading block index")

    with pytest.raises(NodeError, match=r"getblockhash failed \(-28: Loading block index\)") as raised:
        reading.read(Refusing, None, [1])  # type: ignore[arg-type]
    again = pickle.loads(pickle.dumps(raised.value))
    assert (type(again), str(again), again.exit_code) == (NodeError, str(raised.value), 1)


async def test_a_chain_that_turns(double: NodeDouble, store: SqliteStore, path: Path) -> None:
    """Blocks below those read already become others: said, and what was stored links."""
    past = module(store, lambda: source_over(double))

    def turn(progress: Progress) -> None:
        if progress.done == 3:
            double.side_branch(double.rpc("getblockhash", 2), 120)

    with pytest.raises(SourceError, match="does not follow the one before: the chain turned"):
        await past.backfill(Heights(0, 104), [], on_progress=turn)
    there = kept(path)
    assert 3 <= len(there) < 60
    parents = {row["block_hash"]: row["prev_hash"] for row in query(path, "SELECT * FROM blocks ORDER BY height")}
    assert list(parents.values())[1:] == list(parents)[:-1]
    with pytest.raises(NotLinked, match="can't be filled in"):
        await past.backfill(Heights(0, 104), [])
    assert kept(path) == there
    past.source.close()


# Stopped anywhere


class Stopped(Exception):
    """The process ends here."""


def test_resumed_after_every_few_blocks(filled: Path, tmp_path: Path) -> None:
    """Stopped after each 23 blocks: each run goes on behind the last, no block is derived twice, and the end is that
    of one that nobody stopped."""
    path, each, blocks = tmp_path / "store.db", 23, 120
    heights = Heights(START_HEIGHT, START_HEIGHT + blocks - 1)
    done: list[int] = []

    def stop(progress: Progress) -> None:
        done.append(progress.done)
        if progress.done % each == 0:
            raise Stopped

    for run in range(1, blocks // each + 1):
        with pytest.raises(Stopped):
            fill(path, heights, on_progress=stop)
        assert len(kept(path)) == each * run
    result = fill(path, heights, on_progress=lambda progress: done.append(progress.done))
    assert result.blocks_processed == blocks
    assert done == [*range(1, blocks + 1), blocks]
    assert derived(path) == derived(filled, heights)
    before = dump(path)
    again = fill(path, heights)
    assert (again.blocks_processed, again.signals_generated) == (blocks, result.signals_generated)
    assert dump(path) == before


def test_a_tip_that_moved_is_no_other_work(filled: Path, tmp_path: Path) -> None:
    """Begun again with the same options after new blocks came, it goes on; with another beginning, type or wish for
    words it is other work."""
    path, counted, more = tmp_path / "store.db", list[int](), Heights(FEW.first, FEW.last + 40)
    fill(path, FEW)
    fill(path, more, on_progress=lambda progress: counted.append(progress.done))
    assert counted[0] == FEW.last - FEW.first + 2
    assert derived(path) == derived(filled, more)
    for heights, types, options in (
        (Heights(FEW.first + 1, FEW.last), None, {}),
        (FEW, ["whale"], {}),
        (FEW, None, {"narrate": False}),
        (FEW, None, {"resume": False}),
    ):
        counted.clear()
        fill(path, heights, types, on_progress=lambda progress: counted.append(progress.done), **options)
        assert counted[0] == 1
    assert derived(path) == derived(filled, more)


SCRIPT = """
import asyncio, sys
from utxoiq.opening import Opening
from utxoiq.persistence import SqliteStore
from utxoiq.pipeline.backfill import Heights, HistoricalBackfillModule
from pathlib import Path
folder, labels, path, first, last = sys.argv[1:]
with SqliteStore(Path(path)) as store:
    past = HistoricalBackfillModule(Opening(folder), store, labels_file=Path(labels))
    tell = lambda where: print(where.done, flush=True)
    asyncio.run(past.backfill(Heights(int(first), int(last)), on_progress=tell))
"""


def test_kill_9(filled: Path, tmp_path: Path) -> None:
    """Killed at moments drawn by lot: what was begun is whole or not there; the next process goes on behind it."""
    path, lots, last = tmp_path / "store.db", random.Random(7), 0
    arguments = [str(world().folder), str(world().label_file), str(path), str(WHOLE.first), str(WHOLE.last)]
    for lines in (lots.randrange(5, 90), lots.randrange(5, 90), None):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout
        told = [int(process.stdout.readline()) for _ in range(lines or 1)]
        assert told[0] == last + 1, "it began anew"
        if lines:
            time.sleep(lots.random() / 100)
            process.kill()
        _, errors = process.communicate()
        assert (process.returncode, errors) == (0 if lines is None else -signal.SIGKILL, "")
        there = kept(path)
        assert there == list(range(START_HEIGHT, START_HEIGHT + len(there)))
        (mark,) = query(path, "SELECT * FROM backfills")
        assert (mark["blocks"], mark["next_height"]) == (len(there), there[-1] + 1)
        assert mark["signals"] == len(query(path, "SELECT * FROM signals"))
        assert query(path, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]
        last = len(there)
    assert content(path) == content(filled)
    assert derived(path) == derived(filled)


# Progress


async def test_progress_and_metrics(store: SqliteStore) -> None:
    """Told after each block: how many of how many, signals so far, and when it should end; the last is in the
    metrics, too."""
    told: list[Progress] = []
    monitoring = MonitoringModule()
    result = await module(store, monitoring_module=monitoring).backfill(MIDDLE, on_progress=told.append)
    total = MIDDLE.last - MIDDLE.first + 1
    assert [one.done for one in told] == [*range(1, total + 1), total]
    assert {one.total for one in told} == {total}
    assert [one.signals for one in told] == sorted(one.signals for one in told)
    assert told[-1].signals == result.signals_generated > 0
    assert all(one.ends_at is not None and one.ends_at.tzinfo is UTC for one in told)
    rows = dict(line.rsplit(" ", 1) for line in monitoring.metrics_text()[0].decode().splitlines() if line[0] != "#")
    monitoring.shutdown()
    assert float(rows["utxoiq_backfill_blocks"]) == total
    assert float(rows["utxoiq_backfill_signals"]) == result.signals_generated
    ends_at = told[-1].ends_at
    assert ends_at is not None
    assert float(rows["utxoiq_backfill_completion_timestamp_seconds"]) == pytest.approx(ends_at.timestamp(), abs=1e-3)
