"""The mempool watch ends when it is told to, whenever that is."""

from __future__ import annotations

import asyncio
from threading import Event

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
