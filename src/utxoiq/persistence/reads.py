"""What people and machines ask of a store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from utxoiq.persistence.sqlite import signal_of, values_of

if TYPE_CHECKING:
    from utxoiq.models import Signal
    from utxoiq.persistence.sqlite import SqliteStore


def signals(store: SqliteStore, limit: int, *, retracted: bool = False) -> list[dict[str, Any]]:
    """The newest signals first; with `retracted` also those that no longer hold."""
    return _newest(store, "signal_state" if retracted else "current_signals", limit)


def insights(store: SqliteStore, limit: int, *, retracted: bool = False) -> list[dict[str, Any]]:
    """The newest insights first; with `retracted` also those that no longer hold."""
    return _newest(store, "insight_state" if retracted else "current_insights", limit)


def signal(store: SqliteStore, signal_id: str) -> Signal | None:
    """One signal by its id or the beginning of it, None where none or several begin so."""
    sql = "SELECT * FROM signal_state WHERE substr(signal_id, 1, length(?)) = ? LIMIT 2"
    rows = store.database.query(sql, signal_id, signal_id)
    if len(rows) != 1:
        return None
    return signal_of(rows[0])


def mempool(store: SqliteStore) -> dict[str, Any] | None:
    """The newest mempool snapshot, None where there is none."""
    rows = store.database.query("SELECT snapshot FROM mempool_snapshots ORDER BY taken_at DESC, rowid DESC LIMIT 1")
    newest: dict[str, Any] | None = json.loads(rows[0]["snapshot"]) if rows else None
    return newest


def audits(store: SqliteStore, limit: int) -> list[dict[str, Any]]:
    """What the mempool had foretold of the newest connected blocks, beside what was mined; newest first."""
    rows = store.database.query(
        "SELECT b.block_hash, b.height, m.taken_at, a.audit FROM block_snapshots a "
        "JOIN block_state b USING (block_hash) JOIN mempool_snapshots m USING (snapshot_id) "
        "WHERE a.audit IS NOT NULL AND b.state = 'connected' "
        "ORDER BY b.height DESC LIMIT ?",
        limit,
    )
    return [{**{k: r[k] for k in ("block_hash", "height", "taken_at")}, **json.loads(r["audit"])} for r in rows]


def forecasts(store: SqliteStore, limit: int) -> list[dict[str, Any]]:
    """What was foretold after the newest blocks, with what came where it is known; newest first. `limit`: blocks."""
    rows = store.database.query(
        "SELECT s.* FROM forecast_scores s WHERE s.block_height > "
        "(SELECT max(block_height) - ? FROM forecast_scores) ORDER BY s.block_height DESC, s.horizon, s.method",
        limit,
    )
    return [{name: row[name] for name in row.keys()} for row in rows]  # noqa: SIM118


def _newest(store: SqliteStore, view: str, limit: int) -> list[dict[str, Any]]:
    sql = f"SELECT * FROM {view} ORDER BY created_at DESC, block_height DESC LIMIT ?"  # noqa: S608
    return [values_of(row) for row in store.database.query(sql, limit)]
