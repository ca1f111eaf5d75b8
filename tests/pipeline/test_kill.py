"""Killed at any instruction, a scan goes on from the last whole block: no gap, no duplicate, nothing half."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pipeline.simulated import BLOCKS, FORK, STALE, content, query, world
from utxoiq.persistence import SqliteStore
from utxoiq.pipeline.scan import scan

KILLED_AFTER = (1, FORK + 1, FORK + STALE + 20)
"""Blocks in the store when the process is killed; the second time the tip is a stale one, or nearly."""


def start(path: Path) -> subprocess.Popen[bytes]:
    arguments = [
        "scan",
        str(world().folder),
        "--db",
        f"sqlite:///{path}",
        "--labels",
        str(world().label_file),
        "--json",
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "utxoiq.cli", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def count(path: Path) -> int:
    try:
        return int(query(path, "SELECT count(*) AS n FROM blocks")[0]["n"])
    except sqlite3.OperationalError:  # there is no store yet
        return 0


def killed_at(path: Path, blocks: int) -> int:
    """Let a scan run until so many blocks are stored, kill it there, and return how it ended."""
    process = start(path)
    while count(path) < blocks and process.poll() is None:
        time.sleep(0.003)
    process.kill()
    process.communicate()
    return process.returncode


def whole(path: Path) -> None:
    """Every block has its facts and standing, every signal its block and insight, and the cursor is the tip."""
    assert query(path, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    assert query(path, "PRAGMA foreign_key_check") == []
    blocks = {row["block_hash"] for row in query(path, "SELECT block_hash FROM blocks")}
    assert {row["block_hash"] for row in query(path, "SELECT block_hash FROM facts")} == blocks
    states = {row["block_hash"]: row["state"] for row in query(path, "SELECT block_hash, state FROM block_state")}
    assert set(states.values()) <= {"connected", "disconnected"}
    signals = {row["signal_id"] for row in query(path, "SELECT signal_id FROM signals")}
    assert {row["signal_id"] for row in query(path, "SELECT signal_id FROM insights")} == signals
    heights = sorted(row["height"] for row in query(path, "SELECT height FROM block_state WHERE state = 'connected'"))
    assert heights == list(range(heights[0], heights[0] + len(heights))), "a gap or a duplicate"
    (cursor,) = query(path, "SELECT * FROM cursor")
    assert cursor["height"] == heights[-1]
    assert states[cursor["block_hash"]] == "connected"


def best(path: Path) -> dict[str, list[dict[str, Any]]]:
    """What holds: the connected blocks with their facts, and the current signals and insights."""
    facts = "SELECT f.* FROM current_facts f JOIN block_state s USING (block_hash) WHERE state = 'connected'"
    return {
        "blocks": query(path, "SELECT * FROM block_state WHERE state = 'connected' ORDER BY height"),
        "facts": query(path, f"{facts} ORDER BY block_hash"),
        "signals": query(path, "SELECT * FROM current_signals ORDER BY signal_id"),
        "insights": query(path, "SELECT * FROM current_insights ORDER BY insight_id"),
        "cursor": query(path, "SELECT * FROM cursor"),
    }


def test_kill_9(tmp_path: Path) -> None:
    """Three times, in the first blocks, around a reorg and later: the end is that of a scan nobody killed."""
    killed, undisturbed = tmp_path / "killed.db", tmp_path / "undisturbed.db"
    codes = []
    for blocks in KILLED_AFTER:
        codes.append(killed_at(killed, blocks))
        whole(killed)
    assert codes.count(-signal.SIGKILL) >= 2, codes
    process = start(killed)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (0, b"")
    store = SqliteStore(undisturbed)
    asyncio.run(scan(world().source, store, labels=world().labels))
    store.close()
    for path in (killed, undisturbed):
        whole(path)
    assert best(killed) == best(undisturbed)
    there, all_there = content(killed), content(undisturbed)
    assert len(best(killed)["blocks"]) == BLOCKS
    assert len(all_there["blocks"]) == BLOCKS + STALE
    for table, rows in all_there.items():
        assert set(there[table]) <= set(rows), "more than there should be: only stale blocks may never have been seen"
