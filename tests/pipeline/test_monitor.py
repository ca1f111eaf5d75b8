"""The block monitor: whatever happens to node, wire and store, the store ends where the node is, by steps that fit."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from helpers.node.bitcoind import BitcoindNode
from helpers.node.double import NodeDouble
from helpers.node.interface import TestNode
from helpers.relay import Relay, cut
from pipeline.live import HUNG, agrees, connected, events, sound, watching
from pipeline.simulated import Always, dump, query
from pipeline.test_orchestrator import Blocks, Fails, Gives
from sources.node.chains import source_of
from sources.node.conftest import MATURE, MakeNode
from utxoiq.errors import StoreError, StoreUnavailable
from utxoiq.models import BlockRecord
from utxoiq.persistence import SqliteStore, database, reads
from utxoiq.pipeline import monitor as monitor_module
from utxoiq.sources.node.source import NodeSource

WINDOW = 10
FIRST = MATURE - WINDOW


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits, as `BlockMonitor` looks at them."""
    monkeypatch.setattr(monitor_module, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(monitor_module, "LONGEST_WAIT", 0.05)


@pytest.fixture
def relay(node: TestNode) -> Iterator[Relay]:
    with Relay(node.url) as relay:
        yield relay


@pytest.fixture
def source(node: TestNode) -> Iterator[NodeSource]:
    with closing(source_of(node)) as source:
        yield source


@pytest.fixture
def wired(node: TestNode, relay: Relay) -> Iterator[NodeSource]:
    """Over the relay; the nodes behind it may change, so it looks for a cookie nowhere."""
    with closing(source_of(node, relay)) as source:
        yield source


def feed(giver: TestNode, taker: TestNode, last: int) -> None:
    """Give a node another's best chain up to a height."""
    for height in range(taker.rpc("getblockcount") + 1, last + 1):
        taker.rpc("submitblock", giver.rpc("getblock", giver.rpc("getblockhash", height), 0))


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING and r.name.startswith("utxoiq")]


# Where it begins, and where it goes on


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ({"window_blocks": WINDOW}, FIRST),
        ({"window_blocks": 1}, MATURE - 1),
        ({}, 0),
        ({"from_height": 97, "window_blocks": WINDOW}, 97),
        ({"from_height": MATURE}, MATURE),
    ],
)
async def test_where_a_new_store_begins(
    node: TestNode, source: NodeSource, store: SqliteStore, path: Path, options: dict[str, int], first: int
) -> None:
    """A window behind the tip, or where it was told to."""
    async with watching(source, store, **options) as watch:
        await watch.at_tip_of(node)
        assert watch.status.connected == MATURE - first + 1
    agrees(path, node, first)


async def test_a_store_that_is_to_begin_above_the_tip(
    node: TestNode, source: NodeSource, store: SqliteStore, path: Path
) -> None:
    """It waits for that block."""
    async with watching(source, store, from_height=MATURE + 3) as watch:
        await asyncio.sleep(0.2)
        await asyncio.to_thread(node.mine, 2)
        await asyncio.sleep(0.2)
        assert events(path) == []
        await asyncio.to_thread(node.mine, 3)
        await watch.at_tip_of(node)
    agrees(path, node, MATURE + 3)


async def test_it_goes_on_from_the_cursor(node: TestNode, source: NodeSource, store: SqliteStore, path: Path) -> None:
    """As often as it is started; no block is read or written twice."""
    for round_ in range(3):
        async with watching(source, store, window_blocks=WINDOW) as watch:
            await watch.at_tip_of(node)
            assert watch.status.connected == (3 if round_ else WINDOW + 1)
        node.mine(3, spends=2)
    async with watching(source, store) as watch:
        await watch.at_tip_of(node)
    agrees(path, node, FIRST)


async def test_it_can_be_ended_at_any_block(node: TestNode, source: NodeSource, store: SqliteStore, path: Path) -> None:
    """Cancelled while catching up, again and again."""
    for n in range(5):
        async with watching(source, store, from_height=80) as watch:
            await watch.until(lambda watch=watch, n=n: watch.status.connected >= n)
        if watch.tip:
            sound(path)
    async with watching(source, store) as watch:
        await watch.at_tip_of(node)
    agrees(path, node, 80)


@pytest.mark.parametrize("turns", range(8))
async def test_it_can_be_ended_while_the_bell_rings(
    double: NodeDouble, store: SqliteStore, path: Path, turns: int
) -> None:
    """In whatever turn of the loop after the ring: being cancelled is never lost, or `utxoiq run` would not end."""
    with closing(source_of(double)) as source:
        options = {"window_blocks": 1, "poll_seconds": 3600, "snapshots": True}
        async with watching(source, store, **options) as watch:  # type: ignore[arg-type]
            await watch.at_tip_of(double)
            await watch.until(lambda: watch.mempool.newest is not None)
            await asyncio.sleep(0.02)
            tasks = [t for t in asyncio.all_tasks() if t.get_coro().__qualname__.endswith(".run")]  # type: ignore[union-attr]
            assert len(tasks) == 2
            watch.monitor.ring()
            watch.mempool.look()
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            _, pending = await asyncio.wait(tasks, timeout=2)
            for task in pending:
                task.cancel()
            assert not pending


async def test_live_blocks(node: TestNode, source: NodeSource, store: SqliteStore, path: Path) -> None:
    """Each as it comes, with what the status and the metrics say of it."""
    async with watching(source, store, window_blocks=WINDOW) as watch:
        await watch.at_tip_of(node)
        assert watch.status.ready
        for n in range(5):
            await asyncio.to_thread(node.mine, 1, spends=n)
            await watch.at_tip_of(node)
            assert watch.status.store_height == watch.status.source_height == MATURE + 1 + n
            assert watch.status.last_block_at
        assert watch.metric("utxoiq_store_height") == watch.metric("utxoiq_source_height") == MATURE + 5
        assert watch.metric("utxoiq_node_ready") == 1
        assert watch.metric("utxoiq_block_latency_milliseconds_count") == 5
        assert watch.metric("utxoiq_blocks_processed_total", 'outcome="success"') == WINDOW + 6
        assert watch.metric("utxoiq_reorgs_total") == 0
    agrees(path, node, FIRST)


# A node that goes and comes


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_node_that_is_down_for_a_while(
    node: TestNode, source: NodeSource, store: SqliteStore, path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """It waits, says why in one line, once; and goes on by itself."""
    async with watching(source, store, window_blocks=WINDOW) as watch:
        await watch.at_tip_of(node)
        for _ in range(2):
            caplog.clear()
            await asyncio.to_thread(getattr(node, how))
            await watch.waiting(source.where)
            assert watch.metric("utxoiq_node_ready") == 0
            await asyncio.sleep(0.1)
            told = warnings_of(caplog)
            assert len([line for line in told if line == f"waiting: {watch.status.reason}"]) == 1
            assert len(told) <= 2, told
            await asyncio.to_thread(node.start)
            await asyncio.to_thread(node.mine, 2, spends=1)
            await watch.at_tip_of(node)
            assert watch.status.reason is None
        assert watch.metric("utxoiq_errors_total", 'processor="monitor"') > 1
    assert "disconnected" not in dict(events(path))
    agrees(path, node, FIRST)


async def test_a_node_that_is_not_there_at_the_start(
    kind: str, make_node: MakeNode, store: SqliteStore, path: Path
) -> None:
    """No cookie, no connection; then it comes."""
    node = make_node(kind, blocks=3)
    node.stop()
    with closing(source_of(node)) as source:
        async with watching(source, store) as watch:
            await watch.waiting("cookie")
            await asyncio.to_thread(node.start)
            await watch.at_tip_of(node)
    agrees(path, node, 0)


async def test_a_wire_that_breaks(
    node: TestNode, relay: Relay, wired: NodeSource, store: SqliteStore, path: Path
) -> None:
    """One answer in fifteen is cut short: it gets there all the same."""
    random = Random(3)
    relay.whole[""] = lambda answer: cut(answer) if random.random() < 1 / 15 else answer
    async with watching(wired, store, window_blocks=WINDOW) as watch:
        await watch.until(lambda: watch.tip == node.rpc("getbestblockhash"))
        await asyncio.to_thread(node.mine, 4, spends=2)
        await watch.until(lambda: watch.tip == node.rpc("getbestblockhash"))
        assert watch.metric("utxoiq_errors_total", 'processor="monitor"') > 0
    agrees(path, node, FIRST)


async def test_a_block_that_can_not_be_decoded(
    node: TestNode, relay: Relay, wired: NodeSource, store: SqliteStore, path: Path
) -> None:
    """It waits at the block before, says what is wrong, and goes on once the block is whole."""
    bad = node.rpc("getblockhash", MATURE - 2)
    relay.whole[f"/rest/block/{bad}"] = lambda answer: replace(answer, body=b"\0" * 100)
    async with watching(wired, store, window_blocks=WINDOW) as watch:
        await watch.waiting("block")
        assert connected(path)[-1] == node.rpc("getblockhash", MATURE - 3)
        relay.straight()
        await watch.at_tip_of(node)
    agrees(path, node, FIRST)


# A pruned node


async def test_a_new_store_on_a_pruned_node(double: NodeDouble, store: SqliteStore, path: Path) -> None:
    """It begins with the first block there is; where another is asked for, it says which there are."""
    double.pruned_below = MATURE - 3
    before = dump(path)
    with closing(source_of(double)) as source:
        async with watching(source, store, from_height=MATURE - 4) as watch:
            await watch.waiting(f"has pruned all blocks below {MATURE - 3}, and --from asks for {MATURE - 4}")
        assert dump(path) == before
        async with watching(source, store) as watch:
            await watch.at_tip_of(double)
    agrees(path, double, MATURE - 3)


@pytest.mark.parametrize("rest", [True, False])
async def test_blocks_pruned_while_it_was_away(
    double: NodeDouble, store: SqliteStore, path: Path, *, rest: bool
) -> None:
    """It waits, says what to do, and skips nothing; with a node that has them it goes on."""
    with closing(source_of(double, rest=rest)) as source:
        async with watching(source, store, window_blocks=WINDOW) as watch:
            await watch.at_tip_of(double)
        double.mine(20, spends=1)
        double.pruned_below = MATURE + 5
        before = events(path)
        async with watching(source, store) as watch:
            await watch.waiting("was pruned; read it from another source, or begin later")
            await asyncio.sleep(0.1)
            assert events(path) == before
            double.pruned_below = 0
            await watch.at_tip_of(double)
    agrees(path, double, FIRST)


# The wrong node


async def test_a_node_of_another_network(
    node: TestNode, relay: Relay, wired: NodeSource, store: SqliteStore, path: Path
) -> None:
    """It says so, or is so: nothing is written."""
    relay.results["getblockchaininfo"] = lambda _, info: {**info, "chain": "main"}
    before = dump(path)
    async with watching(wired, store) as watch:
        await watch.waiting("not the genesis of main")
        await asyncio.sleep(0.1)
        assert dump(path) == before
        relay.straight()
        await watch.at_tip_of(node)


async def test_a_store_of_another_network(node: TestNode, source: NodeSource, store: SqliteStore, path: Path) -> None:
    """Named with both networks and what to do."""
    with store.database.transaction():
        store.database.insert("meta", {"key": "network", "value": "main"})
    before = dump(path)
    async with watching(source, store) as watch:
        await watch.waiting("the store holds main")
        assert "regtest" in watch.status.reason
        await asyncio.to_thread(node.mine, 2)
        await asyncio.sleep(0.1)
    assert dump(path) == before


async def test_another_network_behind_the_same_address(
    node: TestNode, relay: Relay, wired: NodeSource, store: SqliteStore, path: Path
) -> None:
    """The node is exchanged between two looks, without an error in between."""
    async with watching(wired, store, window_blocks=WINDOW) as watch:
        await watch.at_tip_of(node)
        before = dump(path)
        other = "00" * 32
        relay.results["getblockchaininfo"] = lambda _, info: {**info, "chain": "main", "bestblockhash": other}
        relay.results["getbestblockhash"] = lambda *_: other
        relay.results["getblockhash"] = lambda *_: other
        relay.results["getblockheader"] = lambda *_: None
        await watch.until(lambda: watch.status.state == "waiting")
        await asyncio.sleep(0.2)
        assert dump(path) == before
        relay.straight()
        await watch.at_tip_of(node)


# A node that is behind


@pytest.mark.parametrize(
    ("left", "known"), [(MATURE - 1, "nothing"), (FIRST + 1, "headers"), (FIRST - 5, "nothing"), (0, "headers")]
)
async def test_a_node_that_lost_its_last_blocks(
    node: TestNode, kind: str, make_node: MakeNode, relay: Relay, store: SqliteStore, path: Path, known: str, left: int
) -> None:
    """Or builds its chain anew, knowing our tip's header or not: it waits, retracts nothing, and goes on."""
    behind = make_node(kind)
    feed(node, behind, left)
    if known == "headers":
        for height in range(left + 1, MATURE + 1):
            behind.rpc("submitheader", node.rpc("getblockheader", node.rpc("getblockhash", height), False))
    with closing(source_of(node, relay)) as source:
        async with watching(source, store, window_blocks=WINDOW) as watch:
            await watch.at_tip_of(node)
    before = events(path)
    relay.target = behind.url
    with closing(source_of(behind, relay)) as source:
        async with watching(source, store, window_blocks=WINDOW) as watch:
            await watch.until(lambda: watch.status.state == "waiting")
            await asyncio.sleep(0.1)
            assert events(path) == before
            for height in (left + 1, MATURE - 1, MATURE):
                feed(node, behind, height)
                await asyncio.sleep(0.05)
                assert events(path) == before
            await watch.at_tip_of(behind)
            await asyncio.to_thread(behind.mine, 2)
            await watch.at_tip_of(behind)
    assert "disconnected" not in dict(events(path))
    agrees(path, behind, FIRST)


async def test_a_node_that_gets_our_tip_at_any_moment(
    node: TestNode, kind: str, make_node: MakeNode, relay: Relay, store: SqliteStore, path: Path
) -> None:
    """While it is being asked for it: what it did not know a question ago is no reason to take anything off."""
    behind = make_node(kind)
    with closing(source_of(node, relay)) as source:
        async with watching(source, store, window_blocks=WINDOW) as watch:
            await watch.at_tip_of(node)
    feed(node, behind, MATURE - 1)
    for moment in range(1, 12):
        asked = 0

        def give(_: str, moment: int = moment) -> None:
            nonlocal asked
            asked += 1
            if asked == moment:
                feed(node, behind, node.rpc("getblockcount"))

        relay.target, relay.before = behind.url, give
        with closing(source_of(behind, relay)) as source:
            async with watching(source, store) as watch:
                await watch.at_tip_of(node)
        assert "disconnected" not in dict(events(path)), moment
        relay.target, relay.before = node.url, lambda _: None
        node.mine(1)
        with closing(source_of(node, relay)) as source:
            async with watching(source, store) as watch:
                await watch.at_tip_of(node)


@pytest.mark.node
async def test_a_real_node_that_loses_power(make_node: MakeNode, store: SqliteStore, path: Path) -> None:
    """What Core had not flushed is gone: it comes back lower, gets its blocks again, and nothing was taken off."""
    node = make_node("bitcoind", blocks=MATURE)
    assert isinstance(node, BitcoindNode)
    node.mine(10, spends=2)
    raw = [node.rpc("getblock", node.rpc("getblockhash", height), 0) for height in range(1, MATURE + 11)]
    with closing(source_of(node)) as source:
        async with watching(source, store, window_blocks=WINDOW) as watch:
            await watch.at_tip_of(node)
            before = events(path)
            assert node._process
            node._process.kill()
            node._ended()
            await watch.waiting(source.where)
            await asyncio.to_thread(node.start)
            assert node.rpc("getblockcount") < MATURE
            for block in raw:
                assert events(path) == before
                node.rpc("submitblock", block)
            await watch.at_tip_of(node)
            for option in ("-reindex-chainstate", "-reindex"):
                await asyncio.to_thread(node.stop)
                node._options = (option,)
                await asyncio.to_thread(node.start)
                await asyncio.to_thread(caught_up, node)
                await asyncio.to_thread(node.mine, 2)
                await watch.at_tip_of(node)
    assert "disconnected" not in dict(events(path))
    agrees(path, node, MATURE + 10 - WINDOW)


def caught_up(node: TestNode) -> None:
    """Wait until a node that builds its chain anew is done with the blocks it has."""
    until = time.monotonic() + HUNG
    while node.rpc("getblockcount") < MATURE + 10:
        assert time.monotonic() < until
        time.sleep(0.05)


# A node that never heard of our tip


@pytest.mark.parametrize(("ours", "theirs"), [(1, 1), (5, 7), (8, 8)])
async def test_a_node_on_another_branch(
    node: TestNode, kind: str, make_node: MakeNode, relay: Relay, store: SqliteStore, path: Path, ours: int, theirs: int
) -> None:
    """At least as much work: down to the common block, and up theirs."""
    other = make_node(kind)
    feed(node, other, MATURE)
    other.mine(theirs, time=int(node.rpc("getblockchaininfo")["time"]) + 100)
    node.mine(ours, spends=2)
    stale = [node.rpc("getblockhash", MATURE + 1 + n) for n in range(ours)]
    with closing(source_of(node, relay)) as source:
        async with watching(source, store, window_blocks=WINDOW) as watch:
            await watch.at_tip_of(node)
    relay.target = other.url
    with closing(source_of(other, relay)) as source:
        async with watching(source, store) as watch:
            await watch.at_tip_of(other)
    assert events(path)[-ours - theirs :] == [
        *(("disconnected", name) for name in reversed(stale)),
        *(("connected", other.rpc("getblockhash", MATURE + 1 + n)) for n in range(theirs)),
    ]
    agrees(path, other, FIRST + ours)


async def test_a_node_on_another_branch_with_less_work(
    node: TestNode, kind: str, make_node: MakeNode, relay: Relay, store: SqliteStore, path: Path
) -> None:
    """It waits while the branch has less work than ours; not longer."""
    other = make_node(kind)
    feed(node, other, MATURE)
    node.mine(3, spends=2)
    with closing(source_of(node, relay)) as source:
        async with watching(source, store, window_blocks=WINDOW) as watch:
            await watch.at_tip_of(node)
    before = events(path)
    relay.target = other.url
    with closing(source_of(other, relay)) as source:
        async with watching(source, store) as watch:
            for _ in range(2):
                await asyncio.to_thread(other.mine, 1, time=int(node.rpc("getblockchaininfo")["time"]) + 100)
                await watch.waiting("less work")
                await asyncio.sleep(0.1)
                assert events(path) == before
            await asyncio.to_thread(other.mine, 2)
            await watch.at_tip_of(other)
    agrees(path, other, FIRST + 3)


async def test_a_node_with_nothing_in_common(
    node: TestNode, kind: str, make_node: MakeNode, relay: Relay, store: SqliteStore, path: Path
) -> None:
    """Another chain of the same network, with more work: nothing is written, and the reason says what to do."""
    other = make_node(kind)
    other.mine(MATURE + 20, time=int(node.rpc("getblockchaininfo")["time"]) - 5000)
    with closing(source_of(node, relay)) as source:
        async with watching(source, store, window_blocks=WINDOW) as watch:
            await watch.at_tip_of(node)
    before = dump(path)
    relay.target = other.url
    with closing(source_of(other, relay)) as source:
        async with watching(source, store) as watch:
            await watch.waiting("is it the right node?")
            assert "db" in watch.status.reason
            await asyncio.sleep(0.1)
    assert dump(path) == before


# Reorgs


async def test_reorgs_while_live(node: TestNode, source: NodeSource, store: SqliteStore, path: Path) -> None:
    """Of 1 to 8 blocks: taken off tip downwards, what they said retracted with the reason, then the new branch."""
    expected: list[tuple[str, str]] = []
    gone: list[str] = []
    async with watching(source, store, window_blocks=WINDOW) as watch:
        await watch.at_tip_of(node)
        for depth in range(1, 9):
            fork = node.rpc("getbestblockhash")
            stale = await asyncio.to_thread(node.mine, depth, spends=2)
            await watch.at_tip_of(node)
            branch = await asyncio.to_thread(node.side_branch, fork, depth + 1, spends=3)
            await watch.at_tip_of(node)
            gone += stale
            expected += [("connected", n) for n in stale] + [("disconnected", n) for n in reversed(stale)]
            expected += [("connected", n) for n in branch]
            assert watch.metric("utxoiq_reorgs_total") == depth
            assert watch.metric("utxoiq_reorg_depth_sum") == watch.status.disconnected == len(gone)
    assert events(path)[WINDOW + 1 :] == expected
    retracted = query(path, "SELECT block_hash, retraction_reason FROM signal_state WHERE retracted_at IS NOT NULL")
    assert sorted(row["block_hash"] for row in retracted) == sorted(gone)
    assert {row["retraction_reason"] for row in retracted} == {"its block was disconnected from the best chain"}
    agrees(path, node, FIRST)


async def test_a_branch_that_returns(node: TestNode, source: NodeSource, store: SqliteStore, path: Path) -> None:
    """What its blocks said holds again: they have one row each, and three events."""
    async with watching(source, store, window_blocks=WINDOW) as watch:
        await watch.at_tip_of(node)
        ours = await asyncio.to_thread(node.mine, 2, spends=1)
        await watch.at_tip_of(node)
        await asyncio.to_thread(node.side_branch, node.rpc("getblockhash", MATURE), 3)
        await watch.at_tip_of(node)
        await asyncio.to_thread(node.side_branch, ours[-1], 2)
        await watch.at_tip_of(node)
    history = events(path)
    for name in ours:
        assert [event for event, of in history if of == name] == ["connected", "disconnected", "connected"]
    told = query(path, "SELECT event, block_hash FROM signal_events JOIN signals USING (signal_id) ORDER BY seq")
    assert [row["event"] for row in told if row["block_hash"] in ours] == ["retracted"] * 2 + ["reinstated"] * 2
    agrees(path, node, FIRST)


async def test_a_block_declared_invalid(node: TestNode, source: NodeSource, store: SqliteStore, path: Path) -> None:
    """The node means it: its chain is shorter then."""
    async with watching(source, store, window_blocks=WINDOW) as watch:
        await watch.at_tip_of(node)
        await asyncio.to_thread(node.invalidate, node.rpc("getblockhash", MATURE - 3))
        await watch.at_tip_of(node)
        assert len(connected(path)) == WINDOW - 3
        await asyncio.to_thread(node.mine, 6, spends=1)
        await watch.at_tip_of(node)
    agrees(path, node, FIRST)


async def test_a_reorg_below_the_beginning_of_the_store(
    node: TestNode, source: NodeSource, store: SqliteStore, path: Path
) -> None:
    """All of it is taken off; it begins again a window behind the new tip, and nobody has to help."""
    async with watching(source, store, window_blocks=3) as watch:
        await watch.at_tip_of(node)
        stale = connected(path)
        await asyncio.to_thread(node.side_branch, node.rpc("getblockhash", MATURE - 20), 24)
        await watch.at_tip_of(node)
        assert watch.status.reason is None
    assert not set(stale) & set(connected(path))
    assert connected(path)[-1] == node.rpc("getbestblockhash")
    held = {row["block_hash"] for row in query(path, "SELECT block_hash FROM current_signals")}
    assert held == set(connected(path))


async def test_a_reorg_while_it_was_away(node: TestNode, source: NodeSource, store: SqliteStore, path: Path) -> None:
    """The first thing after the start."""
    async with watching(source, store, window_blocks=WINDOW) as watch:
        await watch.at_tip_of(node)
    node.side_branch(node.rpc("getblockhash", MATURE - 6), 9, spends=1)
    async with watching(source, store) as watch:
        await watch.at_tip_of(node)
    agrees(path, node, FIRST)


async def test_reorgs_without_a_pause(node: TestNode, source: NodeSource, store: SqliteStore, path: Path) -> None:
    """As fast as the node makes them, with blocks and invalidations between."""

    def stir() -> None:
        for n in range(15):
            tip = node.rpc("getblockcount")
            depth = 1 + n % 5
            if n % 4 == 3:
                node.invalidate(node.rpc("getblockhash", tip - depth))
                node.mine(depth + 2)
            else:
                node.side_branch(node.rpc("getblockhash", tip - depth), depth + 1, spends=1)

    async with watching(source, store, window_blocks=50, doorbell=True) as watch:
        await watch.at_tip_of(node)
        await asyncio.to_thread(stir)
        await watch.at_tip_of(node)
    agrees(path, node, MATURE - 50)


# How it hears of blocks


async def test_polling_alone(kind: str, make_node: MakeNode, store: SqliteStore, path: Path) -> None:
    """A node that announces nothing."""
    node = make_node(kind, blocks=MATURE, zmq=False)
    with closing(source_of(node)) as source:
        async with watching(source, store, window_blocks=WINDOW, doorbell=True) as watch:
            await watch.at_tip_of(node)
            for _ in range(3):
                await asyncio.to_thread(node.mine, 1)
                await watch.at_tip_of(node)
    agrees(path, node, FIRST)


async def test_announcements_alone(node: TestNode, source: NodeSource, store: SqliteStore, path: Path) -> None:
    """It polls once in an hour: what is found, the doorbell told."""
    async with watching(source, store, window_blocks=WINDOW, doorbell=True, poll_seconds=3600) as watch:
        await watch.at_tip_of(node)
        await heard(watch, node)
        for n in range(4):
            await asyncio.to_thread(node.mine, 1, spends=n)
            await watch.at_tip_of(node)
        await asyncio.to_thread(node.side_branch, node.rpc("getblockhash", MATURE), 9)
        await watch.at_tip_of(node)
    agrees(path, node, FIRST)


async def heard(watch: Any, node: TestNode) -> None:
    """Mine until the doorbell is heard: subscribing takes a moment."""
    for _ in range(HUNG):
        await asyncio.to_thread(node.mine, 1)
        for _ in range(20):
            if watch.tip == node.rpc("getbestblockhash"):
                return
            await asyncio.sleep(0.05)
    raise AssertionError("no announcement was ever heard")


async def test_announcements_that_are_lost(double: NodeDouble, store: SqliteStore, path: Path) -> None:
    """The next one that is heard tells of the gap; all blocks are found, and the loss is counted."""
    with closing(source_of(double)) as source:
        async with watching(source, store, window_blocks=WINDOW, doorbell=True, poll_seconds=3600) as watch:
            await watch.at_tip_of(double)
            await heard(watch, double)
            for _ in range(HUNG):  # an earlier announcement may still be on its way to the monitor
                double.drop_zmq(1000)
                await asyncio.to_thread(double.mine, 5)
                double.drop_zmq(0)
                await asyncio.sleep(0.2)
                if watch.tip != double.rpc("getbestblockhash"):
                    break
            assert watch.tip != double.rpc("getbestblockhash")
            await asyncio.to_thread(double.send, 5)
            await watch.at_tip_of(double)
            assert watch.metric("utxoiq_zmq_messages_lost_total") >= 5
    agrees(path, double, FIRST)


async def test_a_doorbell_that_never_stops(node: TestNode, source: NodeSource, store: SqliteStore, path: Path) -> None:
    """Rung without a reason, thousands of times: nothing happens twice."""
    async with watching(source, store, window_blocks=WINDOW) as watch:
        for _ in range(2000):
            watch.monitor.ring()
            await asyncio.sleep(0)
        await watch.at_tip_of(node)
        await asyncio.to_thread(node.mine, 2)
        await watch.at_tip_of(node)
    agrees(path, node, FIRST)


# A store that fails


class Failing:
    """Lets a method of the store fail so often."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, method: str, times: int, error: Exception) -> None:
        self.left = times
        honest = getattr(SqliteStore, method)

        def fail(store: SqliteStore, *arguments: Any) -> Any:
            if self.left > 0:
                self.left -= 1
                raise error
            return honest(store, *arguments)

        monkeypatch.setattr(SqliteStore, method, fail)


@pytest.mark.parametrize(
    ("times", "error"),
    [(1, StoreUnavailable("locked")), (7, StoreUnavailable("full")), (3, StoreError("a broken disk"))],
)
async def test_commits_that_fail(
    node: TestNode, source: NodeSource, store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch, times: int,
    error: Exception,
) -> None:  # fmt: skip
    """The block waits, is committed later, and none after it comes first."""
    async with watching(source, store, window_blocks=WINDOW) as watch:
        await watch.at_tip_of(node)
        failing = Failing(monkeypatch, "connect", times, error)
        await asyncio.to_thread(node.mine, 3, spends=2)
        await watch.at_tip_of(node)
        assert failing.left == 0
        assert watch.metric("utxoiq_errors_total", 'processor="monitor"') == times
        assert watch.metric("utxoiq_blocks_processed_total", 'outcome="failure"') == times
    agrees(path, node, FIRST)


@pytest.mark.parametrize("method", ["disconnect", "cursor", "window"])
async def test_other_calls_of_the_store_that_fail(
    node: TestNode, source: NodeSource, store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """In the middle of a reorg."""
    async with watching(source, store, window_blocks=WINDOW) as watch:
        await watch.at_tip_of(node)
        Failing(monkeypatch, method, 3, StoreUnavailable("locked"))
        await asyncio.to_thread(node.side_branch, node.rpc("getblockhash", MATURE - 3), 5, spends=2)
        await watch.until(lambda: connected(path)[-1] == node.rpc("getbestblockhash"))
    monkeypatch.undo()
    agrees(path, node, FIRST)


async def test_retries_within_the_commit(
    node: TestNode, source: NodeSource, store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `commit_retries`, as the service has it: what passes soon is not told as a failure."""
    slept: list[float] = []
    honest = asyncio.sleep

    async def sleep(seconds: float, result: Any = None) -> Any:
        if seconds >= 1:
            slept.append(seconds)
            seconds = 0
        return await honest(seconds, result)

    async with watching(source, store, window_blocks=WINDOW, orchestrated={"commit_retries": 3}) as watch:
        await watch.at_tip_of(node)
        monkeypatch.setattr(asyncio, "sleep", sleep)
        Failing(monkeypatch, "connect", 3, StoreUnavailable("locked"))
        await asyncio.to_thread(node.mine, 1)
        await watch.at_tip_of(node)
        assert slept == [1, 2, 4]
        assert watch.metric("utxoiq_errors_total", 'processor="monitor"') == 0
    agrees(path, node, FIRST)


@pytest.fixture
def impatient_store(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SqliteStore]:
    """Waits for a lock only for a moment."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    with SqliteStore(path) as store:
        yield store


async def test_a_store_that_another_process_locks(
    node: TestNode, source: NodeSource, impatient_store: SqliteStore, path: Path
) -> None:
    """Blocks wait, with the reason; none vanish, none double."""
    async with watching(source, impatient_store, window_blocks=WINDOW) as watch:
        await watch.at_tip_of(node)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await asyncio.to_thread(node.mine, 3, spends=2)
            await watch.waiting("locked")
            await asyncio.sleep(0.3)
            assert len(connected(path)) == WINDOW + 1
            other.execute("ROLLBACK")
            await watch.at_tip_of(node)
    agrees(path, node, FIRST)


async def test_a_lock_does_not_stop_the_loop(
    node: TestNode, source: NodeSource, store: SqliteStore, path: Path
) -> None:
    """While the store waits for its lock, everything else goes on: health is served from the same loop."""
    async with watching(source, store, window_blocks=WINDOW, snapshots=True) as watch:
        await watch.at_tip_of(node)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await asyncio.to_thread(node.mine, 2, spends=2)
            loop, beats, longest = asyncio.get_running_loop(), 0, 0.0
            until = loop.time() + 1.5
            while loop.time() < until:
                before = loop.time()
                await asyncio.sleep(0.01)
                longest, beats = max(longest, loop.time() - before), beats + 1
            other.execute("ROLLBACK")
        assert longest < 1, f"the loop stood still for {longest:.1f} s"
        await watch.at_tip_of(node)
    agrees(path, node, FIRST)


async def test_a_full_disk(node: TestNode, source: NodeSource, store: SqliteStore, path: Path) -> None:
    """By SQLite's own limit of pages."""
    async with watching(source, store, window_blocks=WINDOW) as watch:
        await watch.at_tip_of(node)
        pages = store.database.value("PRAGMA page_count")
        store.database.value(f"PRAGMA max_page_count = {pages}")
        await asyncio.to_thread(node.mine, 12, spends=5)
        await watch.waiting("full")
        await asyncio.sleep(0.2)
        sound(path)
        assert len(connected(path)) < WINDOW + 13
        store.database.value("PRAGMA max_page_count = 1000000")
        await watch.at_tip_of(node)
    agrees(path, node, FIRST)


async def test_a_disk_that_is_read_only_for_a_while(
    node: TestNode, source: NodeSource, store: SqliteStore, path: Path
) -> None:
    """As one remounted after an error."""
    async with watching(source, store, window_blocks=WINDOW) as watch:
        await watch.at_tip_of(node)
        store.database.value("PRAGMA query_only = ON")
        await asyncio.to_thread(node.mine, 2, spends=2)
        await watch.waiting("readonly")
        store.database.value("PRAGMA query_only = OFF")
        await watch.at_tip_of(node)
    agrees(path, node, FIRST)


async def test_a_store_that_somebody_else_moves(
    node: TestNode, source: NodeSource, store: SqliteStore, path: Path
) -> None:
    """Two monitors on one store by mistake: each block is written once, and both end at the tip."""
    with SqliteStore(path) as second:
        async with (
            watching(source, store, window_blocks=WINDOW) as one,
            watching(source, second, window_blocks=WINDOW) as other,
        ):
            await one.until(lambda: one.tip == node.rpc("getbestblockhash"))
            await asyncio.to_thread(node.mine, 5, spends=1)
            await asyncio.to_thread(node.side_branch, node.rpc("getblockhash", MATURE + 2), 5)
            await one.at_tip_of(node)
            await other.at_tip_of(node)
    agrees(path, node, FIRST)


# Processors


def raising() -> Fails:
    return Fails(ValueError("a bug"))


def nonsense() -> Gives:
    return Gives(lambda processor, context: [{"not": "a signal"}])


def of_another_block() -> Gives:
    return Gives(lambda processor, context: [replace(processor.speak(context)[0], block_hash="00" * 32)])


def not_json() -> Gives:
    return Gives(lambda processor, context: processor.speak(context, metadata={"x": float("nan")}))


def not_text() -> Gives:
    return Gives(lambda processor, context: processor.speak(context, metadata={"x": object()}))


BAD: dict[str, tuple[Callable[[], Always], str]] = {
    "raising": (raising, "ValueError"),
    "nonsense": (nonsense, "ProcessorFailed"),
    "of another block": (of_another_block, "ProcessorFailed"),
    "not JSON": (not_json, "ValueError"),
    "no JSON type": (not_text, "TypeError"),
    "ending the loop": (lambda: Fails(asyncio.CancelledError()), "ProcessorFailed"),
    "exiting": (lambda: Fails(SystemExit(3)), ""),
}


@pytest.mark.parametrize("which", [name for name in BAD if name != "exiting"])
async def test_a_processor_that_fails(
    node: TestNode, source: NodeSource, store: SqliteStore, path: Path, which: str
) -> None:
    """The others deliver, the block commits, the error is counted under its name."""
    make, error = BAD[which]
    async with watching(source, store, [make(), Always()], window_blocks=WINDOW) as watch:
        await watch.at_tip_of(node)
        await asyncio.to_thread(node.mine, 2)
        await watch.at_tip_of(node)
        labels = ('processor="treasury"', f'error_type="{error}"')
        assert watch.metric("utxoiq_errors_total", *labels) == WINDOW + 3
    said = {row["signal_type"]: row["n"] for row in query(path, BY_TYPE)}
    assert said == {"whale": WINDOW + 3}
    agrees(path, node, FIRST)


BY_TYPE = "SELECT signal_type, count(*) AS n FROM current_signals GROUP BY signal_type"


async def test_a_processor_that_hangs(node: TestNode, source: NodeSource, store: SqliteStore, path: Path) -> None:
    """It is abandoned and skipped, counted each time; when it wakes it takes part again."""
    hangs = Blocks()
    options = {"processor_timeout": 0.3}
    async with watching(source, store, [hangs, Always()], window_blocks=1, orchestrated=options) as watch:
        await watch.at_tip_of(node)
        await asyncio.to_thread(node.mine, 2)
        await watch.at_tip_of(node)
        assert watch.metric("utxoiq_errors_total", 'error_type="ProcessorHung"', 'processor="treasury"') == 4
        assert hangs.calls == 1
        hangs.gate.set()
        await watch.until(lambda: hangs.calls == 1)
        await asyncio.to_thread(node.mine, 2)
        await watch.at_tip_of(node)
    said = {row["signal_type"]: row["n"] for row in query(path, BY_TYPE)}
    assert said["whale"] == 6
    assert 1 <= said["treasury"] <= 2
    agrees(path, node, MATURE - 1)


# The mempool before a block


async def test_a_block_has_the_mempool_it_was_mined_from(
    node: TestNode, source: NodeSource, store: SqliteStore, path: Path
) -> None:
    """The last snapshot upon its parent, stored beside it, with the audit of what it had foretold."""
    async with watching(source, store, window_blocks=WINDOW, snapshots=True) as watch:
        await watch.at_tip_of(node)
        for feerate in (2, 5, 9, 40):
            await asyncio.to_thread(node.send, feerate)
        await asyncio.to_thread(lambda: node.send(70, spend=node.send(1)))
        await watch.until(lambda: watch.mempool.newest is not None and watch.mempool.newest.transactions == 6)
        expected = watch.mempool.newest
        assert expected
        (name,) = await asyncio.to_thread(node.mine, 1, mempool=True)
        await watch.at_tip_of(node)
        await watch.until(lambda: watch.mempool.newest is not None and watch.mempool.newest.tip == name)
    (row,) = query(path, f"SELECT * FROM block_snapshots WHERE block_hash = '{name}'")
    (audit,) = reads.audits(store, 10)
    assert audit["block_hash"] == name
    assert json.loads(row["audit"])["projected_fees"] == audit["projected_fees"] == audit["mined_fees"]
    assert audit["projected_weight"] == audit["mined_weight"]
    stored = {r["snapshot_id"] for r in query(path, "SELECT snapshot_id FROM mempool_snapshots")}
    assert row["snapshot_id"] in stored
    (seen,) = [row.mempool for row in store.window(name, 1)]
    assert seen is not None
    assert seen.tip == node.rpc("getblockhash", MATURE)
    agrees(path, node, FIRST)


async def test_only_a_snapshot_upon_the_parent_is_used(
    node: TestNode, source: NodeSource, store: SqliteStore, path: Path
) -> None:
    """Blocks in quick succession, of other branches, after a pause: another block's mempool is none."""
    async with watching(source, store, window_blocks=WINDOW, snapshots=True) as watch:
        await watch.at_tip_of(node)
        await watch.until(lambda: watch.mempool.newest is not None)
        await asyncio.to_thread(node.send, 5)
        await asyncio.to_thread(node.mine, 5, mempool=True)
        await watch.at_tip_of(node)
        await asyncio.to_thread(node.side_branch, node.rpc("getblockhash", MATURE + 1), 6)
        await watch.at_tip_of(node)
    rows = query(path, "SELECT block_hash FROM block_snapshots")
    assert len(rows) <= 3, "blocks that came in one go have no mempool of their own"
    agrees(path, node, FIRST)


async def test_history_has_no_mempool(node: TestNode, source: NodeSource, store: SqliteStore, path: Path) -> None:
    """Blocks read while catching up were not foretold."""
    async with watching(source, store, snapshots=True) as watch:
        await watch.at_tip_of(node)
    assert query(path, "SELECT * FROM block_snapshots") == []


async def test_snapshots_that_can_not_be_stored(
    node: TestNode, source: NodeSource, store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are missed; blocks are not."""
    async with watching(source, store, window_blocks=WINDOW, snapshots=True) as watch:
        await watch.at_tip_of(node)
        Failing(monkeypatch, "add_snapshot", 1000, StoreUnavailable("full"))
        await asyncio.to_thread(node.mine, 3)
        await watch.at_tip_of(node)
    agrees(path, node, FIRST)


@pytest.mark.parametrize("wrong", [None, {}, {"size": "x"}])
async def test_a_mempool_that_makes_no_sense(
    node: TestNode, relay: Relay, wired: NodeSource, store: SqliteStore, path: Path, wrong: Any
) -> None:
    """Snapshots are missed, and begin again; nothing ends."""
    relay.results["getmempoolinfo"] = lambda *_: wrong
    async with watching(wired, store, window_blocks=WINDOW, snapshots=True) as watch:
        await watch.at_tip_of(node)
        await asyncio.to_thread(node.mine, 2)
        await watch.at_tip_of(node)
        assert watch.mempool.newest is None
        relay.straight()
        await watch.until(lambda: watch.mempool.newest is not None)
    agrees(path, node, FIRST)


# Settings


async def test_settings_are_swapped_between_blocks(
    node: TestNode, source: NodeSource, store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never while a block is on its way, and often enough; processors exchanged there speak from the next block on."""
    inside, swaps = threading.Event(), []
    honest = SqliteStore.connect

    def connect(store: SqliteStore, record: BlockRecord) -> int:
        inside.set()
        try:
            return honest(store, record)
        finally:
            inside.clear()

    monkeypatch.setattr(SqliteStore, "connect", connect)

    class Other(Always):
        signal_type = "treasury"
        model_version = "treasury_test-1"

    wanted: list[Any] = []

    def swap() -> None:
        assert not inside.is_set()
        swaps.append(1)
        while wanted:
            watch.orchestrator.configure(wanted.pop())

    async with watching(source, store, window_blocks=WINDOW, between_blocks=swap) as watch:
        await watch.at_tip_of(node)
        for n, processors in enumerate(([Always(), Other()], [Other()], [], [Always()])):
            wanted.append(processors)
            before = len(swaps)
            await watch.until(lambda before=before: len(swaps) > before and not wanted)
            (name,) = await asyncio.to_thread(node.mine, 1)
            await watch.at_tip_of(node)
            said = query(path, f"SELECT signal_type FROM current_signals WHERE block_hash = '{name}'")
            assert {row["signal_type"] for row in said} == {p.signal_type for p in processors}, n
    assert len(swaps) > WINDOW


async def test_settings_are_swapped_while_it_waits(
    node: TestNode, relay: Relay, wired: NodeSource, store: SqliteStore, path: Path
) -> None:
    """What is wrong may be what has been corrected: another source is used at once, not after the longest wait."""
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        swaps += 1

    with closing(source_of(node, cookie_file=path.parent / "nowhere")) as refused:
        async with watching(refused, store, window_blocks=WINDOW, between_blocks=swap) as watch:
            await watch.waiting("no cookie")
            before = swaps
            await watch.until(lambda: swaps > before)
            watch.monitor.use(wired, 0.02)
            await watch.at_tip_of(node)
    agrees(path, node, FIRST)
