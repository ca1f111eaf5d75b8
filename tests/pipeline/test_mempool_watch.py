"""The mempool watch: what a block was mined from, and an end when it is told to, whenever that is."""

from __future__ import annotations

import asyncio
from threading import Event

from persistence.records import chain
from processors.cases import snapshot
from utxoiq.models import MempoolSnapshot
from utxoiq.observability import MonitoringModule
from utxoiq.persistence import SqliteStore
from utxoiq.pipeline.mempool_watch import MempoolWatch


async def test_stopping_while_a_block_comes(store: SqliteStore) -> None:
    """A stop in the very moment in which it is asked to look is a stop."""
    looked = Event()
    watch = MempoolWatch(looked.set, store, MonitoringModule(enabled=False), lambda: 3600.0)
    task = asyncio.create_task(watch.run())
    await asyncio.to_thread(looked.wait)
    await asyncio.sleep(0.05)  # until it rests; if it does not yet, the test is only weaker
    watch.look()
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=5)
    stopped = bool(done)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert stopped, "it goes on"


async def test_a_look_upon_the_block_itself_does_not_hide_the_one_before_it(store: SqliteStore) -> None:
    """A node may be looked at when its block has come and is not worked on yet; of old tips nothing is kept."""
    blocks, _, _ = chain()
    tips = [str(block.block_hash) for block in blocks[:5]]
    looks = iter([snapshot(i, tip=tip) for i, tip in enumerate([tips[0], *tips])])
    ended = Event()

    def take() -> MempoolSnapshot | None:
        if (taken := next(looks, None)) is None:
            ended.set()
        return taken

    watch = MempoolWatch(take, store, MonitoringModule(enabled=False), lambda: 0.001)
    task = asyncio.create_task(watch.run())
    await asyncio.to_thread(ended.wait)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    kept = [watch.of(block) for block in blocks[1:5]]
    assert [one.tip if one else None for one in kept] == [None, None, tips[2], tips[3]]
    assert watch.newest is not None
    assert watch.newest.tip == tips[4]
