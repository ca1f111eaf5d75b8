"""Killed at any moment, a scan with a ledger goes on without a gap, and both say what a recount says."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from balances.chains import REGTEST, Steps, core_run, of_run
from balances.oracle import assert_equal
from helpers.economy import economy_labels, unpack_blocks
from helpers.recorded import recorded_run
from pipeline.live import events, sound
from pipeline.recounting import LEAST, Counted
from pipeline.simulated import query
from pipeline.test_holdings_fail import balances_in
from pipeline.test_scan_ledger import processors, scanned
from utxoiq.balances.ledger import Ledger
from utxoiq.models import BlockRecord
from utxoiq.persistence import SqliteStore
from utxoiq.sources.open import open_source

__all__ = ["processors"]


def in_a_child(work: Callable[[], Any], seconds: float | None = None) -> bool:
    """Whether a process that did this was killed, by us after so many seconds or else by itself."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, -signal.SIGKILL}
    return code != 0


def right(folder: Path, path: Path, ledger: Path, chain: Steps) -> None:
    """The store is sound and has all blocks, balances of each are known and right, the ledger is at the tip."""
    sound(path)
    items = {item.hash: item for connect, item in chain.steps if connect}
    best = [items[block.block_hash] for block in open_source(folder).blocks()]
    counted = Counted(chain)
    assert balances_in(path) == [counted.connect(item, economy_labels()) for item in best]
    with Ledger.open(ledger) as opened:
        assert opened.tip == (best[-1].height, best[-1].hash)
        assert_equal(opened, counted.now, counted.now.ever)


@pytest.fixture
def first_blocks(tmp_path: Path, shared: Path) -> Path:
    """A folder of the first blocks of the recorded economy."""
    folder = unpack_blocks(tmp_path / "core") / "blocks"
    size = sum(8 + len(raw) for raw in list(recorded_run("regtest_core31", REGTEST).blocks.values())[:300])
    with (folder / "blk00000.dat").open("r+b") as file:
        file.truncate(size)
    return folder


@pytest.mark.usefixtures("processors")
def test_kill_9(first_blocks: Path, tmp_path: Path) -> None:
    """At random moments, in the middle of anything."""
    path, ledger, rng = tmp_path / "killed.db", tmp_path / "ledger", random.Random(4)
    Ledger.create(ledger, REGTEST, kept_from=LEAST).close()
    kills, seen = 0, 0

    def life() -> None:
        scanned(first_blocks, path, ledger, labels=economy_labels())

    while kills < 12 and in_a_child(life, rng.uniform(0.1, 0.6)):
        kills += 1
        blocks = len(events(path)) if path.exists() and query(path, "SELECT * FROM sqlite_schema") else 0
        assert blocks >= seen, "what was committed is gone"
        seen = blocks
    life()
    assert kills > 2
    right(first_blocks, path, ledger, core_run())


@pytest.mark.usefixtures("processors")
@pytest.mark.parametrize("when", ["before the commit", "after the commit"])
@pytest.mark.parametrize("at", [1, 9, 11, 13, 16, 20])
def test_killed_at_a_block(shared: Path, tmp_path: Path, at: int, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a chain whose blocks 11 to 15 become stale: the ledger is a block ahead of the store then, or where it is."""
    folder, path, ledger = shared / "runs" / "regtest_reorg", tmp_path / "store.db", tmp_path / "ledger"
    Ledger.create(ledger, REGTEST, kept_from=LEAST).close()
    honest, count = SqliteStore.connect, 0

    def connect(store: SqliteStore, record: BlockRecord) -> int:
        nonlocal count
        count += 1
        if count == at and when == "before the commit":
            os.kill(os.getpid(), signal.SIGKILL)
        rows = honest(store, record)
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return rows

    with monkeypatch.context() as patch:
        patch.setattr(SqliteStore, "connect", connect)
        assert in_a_child(lambda: scanned(folder, path, ledger, labels=economy_labels()))
    committed = len(query(path, "SELECT * FROM blocks"))
    assert committed == (at if when == "after the commit" else at - 1)
    with Ledger.open(ledger) as opened:
        assert opened.tip
    scanned(folder, path, ledger, labels=economy_labels())
    right(folder, path, ledger, of_run("regtest_reorg"))
