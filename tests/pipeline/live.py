"""A monitor at work, as `utxoiq run` wires it, and what must always be true of the store it writes."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.node.interface import TestNode
from pipeline.simulated import Always, query
from utxoiq.observability import MonitoringModule
from utxoiq.persistence import SignalPersistenceModule, SqliteStore
from utxoiq.pipeline import PipelineOrchestrator
from utxoiq.pipeline.mempool_watch import MempoolWatch
from utxoiq.pipeline.monitor import BlockMonitor
from utxoiq.processors import SignalProcessor
from utxoiq.sources.node.announcements import Announcements
from utxoiq.sources.node.source import NodeSource

HUNG = 40
"""Seconds after which something hangs."""
POLL = 0.02


@dataclass
class Watch:
    """What works together on one store."""

    monitor: BlockMonitor
    orchestrator: PipelineOrchestrator
    monitoring: MonitoringModule
    mempool: MempoolWatch
    task: asyncio.Task[None]

    @property
    def status(self) -> Any:
        return self.monitor.status

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait for it. Raises what the monitor ended with, if it did."""
        try:
            async with asyncio.timeout(HUNG):
                while not reached():
                    if self.task.done():
                        self.task.result()
                        raise AssertionError("the monitor ended")
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"not reached: {self.monitor.status}") from None

    async def at_tip_of(self, node: TestNode) -> None:
        """Wait until the store is where the node is, and live."""
        best = node.rpc("getbestblockhash")
        await self.until(lambda: self.status.state == "live" and self.tip == best and self.is_told)

    async def waiting(self, said: str) -> None:
        """Wait until it waits for a reason in which this is."""
        await self.until(lambda: self.status.state == "waiting" and said in (self.status.reason or ""))
        assert "\n" not in self.status.reason
        assert not self.status.ready

    @property
    def is_told(self) -> bool:
        """Whether the status has what the store has: it follows the commit."""
        cursor = self.monitor.store.cursor()
        return cursor is not None and self.status.store_height == cursor.height

    @property
    def tip(self) -> str | None:
        cursor = self.monitor.store.cursor()
        return cursor.block_hash if cursor else None

    def metric(self, name: str, *labels: str) -> float:
        """The sum of a metric's series that have these labels."""
        rows = self.monitoring.metrics_text()[0].decode().splitlines()
        found = [r for r in rows if r.split("{")[0].split(" ")[0] == name and all(label in r for label in labels)]
        return sum(float(row.rsplit(" ", 1)[1]) for row in found)


@asynccontextmanager
async def watching(
    source: NodeSource,
    store: SqliteStore,
    processors: Sequence[SignalProcessor] | None = None,
    *,
    doorbell: bool = False,
    snapshots: bool = False,
    orchestrated: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Watch]:
    """`orchestrated`, `options`: of the orchestrator and the monitor."""
    monitoring = MonitoringModule()
    persistence = SignalPersistenceModule(store=store)
    chosen = [Always()] if processors is None else processors
    orchestrator = PipelineOrchestrator(chosen, persistence, monitoring, **(orchestrated or {}))
    mempool = MempoolWatch(lambda: source.snapshot() if monitor.status.ready else None, store, monitoring, lambda: 0.05)
    used = {"mempool_of": mempool.of, "after_block": mempool.look} if snapshots else {}
    monitor = BlockMonitor(source, store, orchestrator, **{"poll_seconds": POLL, **used, **options})
    tasks = [asyncio.create_task(monitor.run())]
    if doorbell:
        bell = Announcements(monitor.ring, monitoring.emit_zmq_metric)
        tasks.append(asyncio.create_task(bell.keep_listening(source.announced_at)))
    if snapshots:
        tasks.append(asyncio.create_task(mempool.run()))
    try:
        yield Watch(monitor, orchestrator, monitoring, mempool, tasks[0])
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        orchestrator.close()
        monitoring.shutdown()


def connected(path: Path) -> list[str]:
    """Hashes of the connected blocks, by height."""
    rows = query(path, "SELECT block_hash FROM block_state WHERE state = 'connected' ORDER BY height, block_hash")
    return [row["block_hash"] for row in rows]


def events(path: Path) -> list[tuple[str, str]]:
    """(event, hash) in the order they were written."""
    rows = query(path, "SELECT event, block_hash FROM block_events ORDER BY seq")
    return [(row["event"], row["block_hash"]) for row in rows]


def sound(path: Path) -> None:
    """The history fits step by step, and what holds follows from it: no gap, no duplicate, nothing half."""
    assert query(path, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    assert query(path, "PRAGMA foreign_key_check") == []
    parents = {row["block_hash"]: row["prev_hash"] for row in query(path, "SELECT * FROM blocks")}
    heights = {row["block_hash"]: row["height"] for row in query(path, "SELECT * FROM blocks")}
    stack: list[str] = []
    for event, name in events(path):
        if event == "connected":
            assert not stack or parents[name] == stack[-1], "a gap, or a block connected twice"
            stack.append(name)
        else:
            assert stack, "nothing was there to be taken off"
            assert stack.pop() == name, "not the tip"
    assert connected(path) == stack
    assert [heights[name] for name in stack] == list(range(heights[stack[0]], heights[stack[0]] + len(stack)))
    (cursor,) = query(path, "SELECT * FROM cursor")
    assert (cursor["block_hash"], cursor["height"]) == (stack[-1], heights[stack[-1]])
    facts = Counter(row["block_hash"] for row in query(path, "SELECT block_hash FROM facts"))
    assert set(facts) == set(parents)
    assert set(facts.values()) == {1}
    held = {row["block_hash"] for row in query(path, "SELECT block_hash FROM current_signals")}
    said = {row["block_hash"] for row in query(path, "SELECT block_hash FROM signals")}
    assert held == said & set(stack), "a stale block's signals hold, or a connected one's don't"
    for row in query(
        path, "SELECT block_hash, snapshot FROM block_snapshots JOIN mempool_snapshots USING (snapshot_id)"
    ):
        assert json.loads(row["snapshot"])["tip"] == parents[row["block_hash"]]


def agrees(path: Path, node: TestNode, first: int) -> None:
    """The store holds the node's best chain from this height, every block once, with the facts the node tells."""
    sound(path)
    names = [node.rpc("getblockhash", height) for height in range(first, node.rpc("getblockcount") + 1)]
    assert connected(path) == names
    facts = {row["block_hash"]: json.loads(row["facts"]) for row in query(path, "SELECT * FROM current_facts")}
    for name in names:
        stats = node.rpc("getblockstats", name)
        assert {field: facts[name][field] for field in stats} == stats, name
