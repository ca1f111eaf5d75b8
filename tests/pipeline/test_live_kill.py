"""`utxoiq run` killed at any moment while a chain grows and turns, over a wire that breaks: it leaves no trace."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from threading import Event, Thread
from typing import Any

import pytest

from helpers.node.interface import TestNode
from helpers.relay import Answer, Relay, cut
from helpers.running import Running
from pipeline.live import agrees, connected, events, sound, watching
from pipeline.simulated import query
from pipeline.test_kill import best
from sources.node.chains import source_of
from sources.node.conftest import MATURE, MakeNode
from utxoiq.config import Sources
from utxoiq.insights.generator import InsightGenerator
from utxoiq.persistence import SqliteStore
from utxoiq.processors.discovery import discover

FIRST = MATURE - 10
DEPTH = 6
"""Blocks declared invalid at the end."""
BLOCKS = {"double": 60, "bitcoind": 500}
KILLS = {"double": 6, "bitcoind": 40}
"""At least."""
TALKATIVE = """
[processors.mempool]
minimum_history = 2
spike_ratio = 1.2
spike_rank = 0.0
quiet_blocks = 1
confidence_threshold = 0.0

[processors.miner]
minimum_history = 1
empty_share = 1.0
confidence_threshold = 0.0
"""
"""Thresholds at which nearly every block says something."""


class Miner(Thread):
    """Makes blocks with spends, and now and then a reorg, with pauses and without, until there were so many."""

    def __init__(self, node: TestNode, blocks: int, pause: float) -> None:
        super().__init__()
        self.node, self.blocks, self.pause = node, blocks, pause
        self.random, self.made, self.done = Random(11), 0, Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while self.made < self.blocks:
                self._make()
                time.sleep(self.random.choice((0, 0, self.pause, 2 * self.pause)))
        except BaseException as error:  # noqa: BLE001 for the test to raise
            self.error = error
        finally:
            self.done.set()

    def _make(self) -> None:
        spends = self.random.randrange(6)
        if self.random.random() < 0.1:
            depth = self.random.randrange(1, 4)
            fork = self.node.rpc("getblockhash", self.node.rpc("getblockcount") - depth)
            self.made += len(self.node.side_branch(fork, depth + 1, spends=spends))
        else:
            self.made += len(self.node.mine(1, spends=spends))


@dataclass(frozen=True)
class Setting:
    """A node, the wire before it, and where the process runs."""

    node: TestNode
    relay: Relay
    folder: Path
    random: Random

    def start(self, *, fresh: bool = False) -> Running:
        cookie = {"UTXOIQ_NODE__COOKIE_FILE": str(self.node.cookie_file)}
        return Running(self.folder, "--node", self.relay.url, "--from", str(FIRST), fresh=fresh, **cookie)

    def break_now_and_then(self) -> None:
        """Answers cut short, refused or made up."""

        def broken(answer: Answer) -> Answer:
            chance = self.random.random()
            if chance < 0.02:
                return cut(answer)
            return Answer(503, b"Work queue depth exceeded", "text/plain") if chance < 0.03 else answer

        self.relay.whole[""] = broken


def killed(setting: Setting, *, fresh: bool = False) -> int:
    """Start it, kill it at some moment, and look at what is left: the number of blocks it had written."""
    when = moment(setting.random)
    with setting.start(fresh=fresh) as running:
        before = running.value("SELECT count(*) FROM block_events") or 0
        while running.process.poll() is None and not when(running):
            time.sleep(0.002)
        assert running.process.poll() is None, running.said
        running.kill()
        after = running.value("SELECT count(*) FROM block_events") or 0
    if after:
        sound(running.db)
    return int(after) - int(before)


def moment(random: Random) -> Callable[[Running], bool]:
    """After so many more blocks, or so much time: whichever comes first."""
    end, more = time.monotonic() + random.uniform(0.1, 3), random.choice((1, 2, 7, 12, 60))
    written: list[int] = []

    def reached(running: Running) -> bool:
        written.append(running.value("SELECT count(*) FROM block_events") or 0)
        return time.monotonic() > end or written[-1] >= written[0] + more

    return reached


def undisturbed(setting: Setting) -> Path:
    """The store of somebody who reads the final chain in one go, with the same settings."""
    node, path = setting.node, setting.folder / "undisturbed.db"
    settings, _ = Sources(setting.folder / "utxoiq.toml").load()

    async def follow() -> None:
        with closing(source_of(node, setting.relay)) as source, SqliteStore(path) as store:
            orchestrated = {"insight_generator": InsightGenerator()}
            chosen = discover(settings.processor_configs())
            async with watching(source, store, chosen, orchestrated=orchestrated, from_height=FIRST) as watch:
                await watch.at_tip_of(node)

    asyncio.run(follow())
    return path


@pytest.fixture
def setting(kind: str, make_node: MakeNode, tmp_path: Path) -> Iterator[Setting]:
    node, folder = make_node(kind, blocks=MATURE), tmp_path / "run"
    folder.mkdir()
    (folder / "utxoiq.toml").write_text(TALKATIVE)
    with Relay(node.url) as relay:
        yield Setting(node, relay, folder, Random(5))


def test_kill_9_while_live(kind: str, setting: Setting) -> None:
    """At random moments of start, catching up, following and reorgs; and through an invalidation of six blocks."""
    node, miner = setting.node, Miner(setting.node, BLOCKS[kind], pause=0.04)
    setting.break_now_and_then()
    miner.start()
    progress: list[int] = []
    try:
        while not miner.done.is_set() or len(progress) < KILLS[kind] or sum(progress) <= 2 * KILLS[kind]:
            assert len(progress) < 20 * KILLS[kind], progress
            progress.append(killed(setting, fresh=len(progress) % 4 == 0))
    finally:
        miner.join()
    if miner.error:
        raise miner.error

    setting.relay.straight()
    with setting.start() as running:
        running.at(node.rpc("getbestblockhash"))
        stale = [node.rpc("getblockhash", node.rpc("getblockcount") - n) for n in range(DEPTH)]
        node.invalidate(stale[-1])
        running.until(lambda: running.tip not in stale)
        running.kill()
    node.mine(DEPTH // 2, spends=2)
    killed(setting)
    node.mine(DEPTH, spends=2)
    with setting.start(fresh=True) as running:
        running.at(node.rpc("getbestblockhash"))
        assert running.terminate() == 0

    agrees(running.db, node, FIRST)
    gone = {name for event, name in events(running.db) if event == "disconnected"} - set(connected(running.db))
    assert set(stale) <= gone
    said = {row["block_hash"] for row in query(running.db, "SELECT block_hash FROM signals")}
    assert len(said & gone) >= DEPTH / 2, "stale blocks said nothing that could have been retracted"
    assert without_times(best(running.db)) == without_times(best(undisturbed(setting)))


def without_times(tables: dict[str, list[dict[str, Any]]]) -> dict[str, list[str]]:
    """Rows as text, to be compared one by one."""
    return {name: [json.dumps(row, default=bytes.hex, sort_keys=True) for row in rows] for name, rows in tables.items()}
