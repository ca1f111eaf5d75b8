"""The monitor over an Esplora API, from an empty store to the tip and through everything such an API may do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from facts.made import run as recorded
from helpers.build import EASY_BITS
from helpers.esplora import EsploraDouble, Served
from persistence.records import chain as simulated_chain
from persistence.records import record
from pipeline.simulated import query
from sources.test_esplora import ageless, branches, internal, recorded_chain, toy_block
from utxoiq.chain.hashes import Hash256
from utxoiq.chain.network import EASY_LIMIT, NETWORKS
from utxoiq.persistence import SignalPersistenceModule, SqliteStore
from utxoiq.pipeline import PipelineOrchestrator, monitor
from utxoiq.pipeline.monitor import BlockMonitor
from utxoiq.processors.discovery import discover
from utxoiq.sources import esplora
from utxoiq.sources.esplora import RECENT, EsploraSource

FAST = 1e9
PATIENCE = 60.0
"""Seconds after which a test that waits is broken."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    monkeypatch.setattr(monitor, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(monitor, "LONGEST_WAIT", 0.02)


@pytest.fixture
def api() -> Iterator[EsploraDouble]:
    """Regtest's branch A, which B will overtake."""
    with EsploraDouble(branches()[0]) as double:
        yield double


async def until(condition: Callable[[], Any]) -> None:
    """Wait for it."""
    for _ in range(int(PATIENCE / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    pytest.fail("it never came to that")


@asynccontextmanager
async def watching(double: EsploraDouble, store: SqliteStore, **options: Any) -> AsyncIterator[BlockMonitor]:
    """A monitor at work."""
    sleep = {} if options.pop("really_sleeps", False) else {"sleep": lambda _: None}
    source = EsploraSource(double.url, requests_per_second=FAST, **sleep)  # type: ignore[arg-type]
    orchestrator = PipelineOrchestrator(discover(), SignalPersistenceModule(store=store))
    watch = BlockMonitor(source, store, orchestrator, **{"poll_seconds": 0.005, **options})
    try:
        async with asyncio.TaskGroup() as group:  # so that a monitor that fails ends its test
            task = group.create_task(watch.run())
            yield watch
            task.cancel()
    finally:
        orchestrator.close()
        source.close()


def at(store: SqliteStore, block: Served) -> Callable[[], bool]:
    """Whether the store's tip is this block."""

    def reached() -> bool:
        cursor = store.cursor()
        return cursor is not None and cursor.block_hash == block.hash

    return reached


def best(store: SqliteStore) -> list[str]:
    """The hashes of the store's chain, upwards."""
    cursor = store.cursor()
    assert cursor is not None
    return [block_hash for block_hash, _ in store.ancestors(cursor.block_hash)][::-1]


async def test_from_an_empty_store_to_the_tip_and_on(store: SqliteStore, path: Path) -> None:
    """Every block once, marked with the address, its facts those of the block files; new ones as they come."""
    chain = recorded_chain("regtest_core31")
    known = recorded("regtest_core31")
    start, window = len(chain) - 30, 20
    with EsploraDouble(chain[:start]) as double:
        async with watching(double, store, window_blocks=window) as watch:
            await until(lambda: watch.status.ready)
            assert at(store, chain[start - 1])()
            for end in range(start + 1, len(chain) + 1):
                double.follow(chain[:end])
                await until(at(store, chain[end - 1]))
            await until(lambda: watch.status.store_height == len(chain) - 1)  # told just after the commit
            assert watch.status.source_height == len(chain) - 1
            assert (watch.status.connected, watch.status.disconnected) == (window + 1 + 30, 0)
        assert best(store) == [block.hash for block in chain[start - 1 - window :]]
        assert {row["source"] for row in query(path, "SELECT source FROM blocks")} == {double.where}
    stored = [row.facts for row in store.window(chain[-1].hash, 1000)]
    for facts in stored:
        truth = ageless(known[facts.height or 0].facts)
        unknown = facts.totalfee is None
        assert not unknown or (facts.height or 0) < start - 1 - RECENT
        assert facts.txs == truth.txs
        assert facts.mediantime == truth.mediantime
        if not unknown:
            assert facts == truth
    assert any(facts.totalfee for facts in stored)


@pytest.mark.parametrize("remembers", [True, False])
@pytest.mark.parametrize("restarts", [True, False])
async def test_a_reorg(api: EsploraDouble, store: SqliteStore, path: Path, remembers: bool, restarts: bool) -> None:
    """Taken back and followed: by one that saw it, by one that was down, from an API that still knows the stale
    blocks, and from one that forgot them."""
    a, b = branches()
    api.remembers_stale = remembers
    async with watching(api, store, from_height=0) as watch:
        await until(at(store, a[-1]))
        if not restarts:
            api.follow(b)
            await until(at(store, b[-1]))
            assert watch.status.disconnected > 0
    if restarts:
        api.follow(b)
        async with watching(api, store) as watch:
            await until(at(store, b[-1]))
            await until(lambda: watch.status.ready)
    fork = sum(x == y for x, y in zip(a, b, strict=False))
    assert best(store) == [block.hash for block in b]
    stale = query(path, "SELECT block_hash FROM block_state WHERE state = 'disconnected'")
    assert {row["block_hash"] for row in stale} == {block.hash for block in a[fork:]}


@pytest.mark.parametrize("when", range(10, 110, 20))
async def test_a_reorg_in_the_middle(api: EsploraDouble, store: SqliteStore, when: int) -> None:
    """Between any two requests: it ends on the API's chain."""
    b = branches()[1]

    def turn(_: str) -> None:
        if len(api.requests) == when:
            api.follow(b)

    api.before = turn
    async with watching(api, store, from_height=0):
        await until(lambda: len(api.requests) >= when)
        await until(at(store, b[-1]))
    assert best(store) == [block.hash for block in b]


async def test_an_api_that_fails_is_waited_for(api: EsploraDouble, store: SqliteStore) -> None:
    """Not ready, with the reason; back again it goes on without a gap."""
    a, b = branches()
    async with watching(api, store, from_height=0) as watch:
        await until(lambda: watch.status.ready)
        api.answers("", 503, b"<html>\n<h1>Service Unavailable</h1>")
        await until(lambda: watch.status.state == "waiting")
        assert "HTTP 503" in str(watch.status.reason)
        assert "\n" not in str(watch.status.reason)
        assert not watch.status.ready
        api.mend()
        await until(lambda: watch.status.ready)
        assert watch.status.reason is None
        assert at(store, a[-1])()
        api.remembers_stale = True
        api.cuts("/raw$", 30, 3)
        api.follow(b)
        await until(at(store, b[-1]))
    assert best(store) == [block.hash for block in b]


async def test_being_limited_is_told(api: EsploraDouble, store: SqliteStore) -> None:
    """Why no block comes, while the API wants to be left alone for an hour; and it is left alone."""
    async with watching(api, store, from_height=0) as watch:
        await until(lambda: watch.status.ready)
        api.limits(None, "3600")
        await until(lambda: watch.status.state == "waiting")
        assert "asks us to wait until" in str(watch.status.reason)
        asked = len(api.requests)
        watch.ring()
        await asyncio.sleep(0.2)
        assert len(api.requests) == asked


async def test_it_stops_at_once_while_it_has_to_wait(api: EsploraDouble, store: SqliteStore) -> None:
    """A service being stopped does not sleep out what the API asked for."""
    async with asyncio.timeout(30), watching(api, store, from_height=0, really_sleeps=True) as watch:
        await until(lambda: watch.status.ready)
        api.limits(None, "100")
        asked = len(api.requests)
        await until(lambda: len(api.requests) > asked)


async def test_a_block_made_cheaply(monkeypatch: pytest.MonkeyPatch, store: SqliteStore) -> None:
    """It never reaches the store: the monitor waits, says why, and goes on with an honest one."""
    genesis = toy_block(bytes(32), 0, 0x200FFFFF)
    network = replace(NETWORKS["main"], genesis=Hash256(internal(genesis)), pow_limit=EASY_LIMIT)
    monkeypatch.setattr(esplora, "NETWORKS", {"main": network})
    first = toy_block(internal(genesis), 1, 0x200FFFFF)
    forged, honest = (toy_block(internal(first), 2, bits) for bits in (EASY_BITS, 0x200FFFFF))
    with EsploraDouble([genesis, first]) as double:
        async with watching(double, store, from_height=0) as watch:
            await until(lambda: watch.status.ready)
            double.follow([genesis, first, forged])
            await until(lambda: watch.status.state == "waiting")
            assert "changes the difficulty" in str(watch.status.reason)
            assert at(store, first)()
            double.follow([genesis, first, honest])
            await until(at(store, honest))
    assert store.state(forged.hash) is None


async def test_prevouts_that_cannot_be(api: EsploraDouble, store: SqliteStore) -> None:
    """No number of satoshis, as large as JSON likes: an error to wait out, not the end of the service."""
    chain = recorded_chain("main_0-599")[:171]

    def absurd(page: list[dict[str, Any]]) -> list[dict[str, Any]]:
        page[-1]["vin"][0]["prevout"]["value"] = 2**70
        return page

    api.follow(chain)
    api.rewrites("/txs/", absurd)
    async with watching(api, store, from_height=165) as watch:
        await until(lambda: watch.status.state == "waiting")
        await asyncio.sleep(0.05)
        api.mend()
        await until(at(store, chain[-1]))


async def test_a_store_of_another_chain(api: EsploraDouble, store: SqliteStore) -> None:
    """The API knows none of its blocks, though it is of the same network: said, and nothing changed."""
    other = recorded_chain("regtest_core31")[:5]
    with EsploraDouble(other) as double:
        async with watching(double, store, from_height=1):
            await until(at(store, other[-1]))
    before = best(store)
    async with watching(api, store) as watch:
        await until(lambda: watch.status.state == "waiting")
        assert "knows none of the" in str(watch.status.reason)
        assert "another db" in str(watch.status.reason)
    assert best(store) == before


async def test_a_store_of_another_network(api: EsploraDouble, store: SqliteStore) -> None:
    store.connect(record(simulated_chain().trunk[0]))
    async with watching(api, store) as watch:
        await until(lambda: watch.status.state == "waiting")
        assert "the store holds simulated" in str(watch.status.reason)
        assert "regtest" in str(watch.status.reason)
    assert store.network == "simulated"


async def test_an_api_that_is_behind_the_store(api: EsploraDouble, store: SqliteStore) -> None:
    """A server that is being built anew: nothing is taken back."""
    a = branches()[0]
    async with watching(api, store, from_height=0):
        await until(at(store, a[-1]))
    api.follow(a[:4])
    async with watching(api, store) as watch:
        await until(lambda: watch.status.state == "waiting")
        assert "\n" not in str(watch.status.reason)
        assert at(store, a[-1])()
        api.follow(a)
        await until(lambda: watch.status.ready)
        assert watch.status.disconnected == 0


async def test_at_the_tip_it_asks_once_each_time(api: EsploraDouble, store: SqliteStore) -> None:
    """One cheap request a look, nothing else."""
    async with watching(api, store, from_height=0) as watch:
        await until(lambda: watch.status.ready)
        asked = len(api.requests)
        await until(lambda: len(api.requests) > asked + 5)
        assert {path for _, path in api.requests[asked + 1 :]} == {"/api/blocks/tip/hash"}


async def test_stopping_while_the_bell_rings(api: EsploraDouble, store: SqliteStore) -> None:
    """A stop in the very moment of a new block, or of a change of settings, is a stop."""
    async with watching(api, store, from_height=0, poll_seconds=60.0) as watch:
        await until(lambda: watch.status.ready)
        task = next(t for t in asyncio.all_tasks() if t.get_coro().__qualname__ == "BlockMonitor.run")  # type: ignore[union-attr]
        await asyncio.sleep(0.05)
        watch.ring()
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=5)
        assert done, "it goes on"
