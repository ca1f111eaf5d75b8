"""Signals that wait for words, and what became of them."""

from __future__ import annotations

import json
import time
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

from utxoiq.models import Insight, Signal
from utxoiq.persistence.sqlite import signal_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from utxoiq.persistence.leases import Lease
    from utxoiq.persistence.sqlite import SqliteStore


class Group(NamedTuple):
    """The signals of one type in one block: they are narrated together."""

    signal_type: str
    block_hash: str

    @property
    def lease(self) -> str:
        """What whoever narrates it holds."""
        return f"narrate/{self.signal_type}/{self.block_hash}"


class Failure(NamedTuple):
    """Why a signal got no words; `final`: none will come, it is dead-lettered."""

    signal: Signal
    reason: str
    final: bool


WAITING = """
FROM signals s
WHERE s.rowid >= ?
    AND NOT EXISTS (SELECT 1 FROM insights WHERE signal_id = s.signal_id)
    AND NOT EXISTS (SELECT 1 FROM narration_events WHERE signal_id = s.signal_id AND event <> 'failed')
    AND coalesce(
        (SELECT event FROM signal_events WHERE signal_id = s.signal_id ORDER BY seq DESC LIMIT 1), 'none'
    ) <> 'retracted'
"""
"""`current_signals` that are not processed, by probes of indices: a look a second at a store of years."""


AGAIN_SECONDS = 60
"""After a failure nobody foresaw; doubled each time."""
RESTED = (
    "coalesce((SELECT max(recorded_at) + (? << (count(*) - 1)) FROM narration_events "
    "WHERE signal_id = s.signal_id AND event = 'failed'), 0) <= ?"
)


def first_waiting(store: SqliteStore) -> int:
    """Where `waiting` may begin: every signal before is done with, unless it is reinstated later. Raises StoreError."""
    found: int = store.database.value(
        f"SELECT coalesce(min(s.rowid), (SELECT coalesce(max(rowid), 0) + 1 FROM signals)) {WAITING}",
        0,
    )
    return found


def waiting(store: SqliteStore, most: int, first: int = 0, holder: str = "") -> list[Group]:
    """Groups with signals that hold and are not processed, that nobody but `holder` works on and that did not fail just
    now; longest waiting first. Raises StoreError."""
    taken = [lease["name"] for lease in store.leases.held() if lease["holder"] != holder]
    rows = store.database.query(
        f"SELECT signal_type, block_hash {WAITING} AND {RESTED} "
        "AND 'narrate/' || s.signal_type || '/' || s.block_hash NOT IN (SELECT value FROM json_each(?)) "
        "GROUP BY signal_type, block_hash ORDER BY min(s.rowid) LIMIT ?",
        first, AGAIN_SECONDS, int(time.time()), json.dumps(taken), most,
    )  # fmt: skip
    return [Group(*row) for row in rows]


def signals_of(store: SqliteStore, group: Group) -> list[Signal]:
    """Those of a group that still wait. Raises StoreError."""
    rows = store.database.query(
        "SELECT * FROM current_signals WHERE NOT processed AND signal_type = ? AND block_hash = ? ORDER BY signal_id",
        *group,
    )
    return [signal_of(row) for row in rows]


def narrated(
    store: SqliteStore,
    lease: Lease,
    insights: Sequence[Insight],
    without: Sequence[Failure],
    correlation_id: str,
) -> int:
    """Store what was written, and why no words came of the rest, in one transaction; the rows written.

    A signal that was retracted meanwhile gets none. Raises LeaseLost, StoreError.
    """
    at, rows = int(time.time()), 0
    names = [f.name for f in fields(Insight) if f.name != "retracted_at"]
    with store.database.transaction():
        store.leases.check(lease)
        for insight in insights:
            if _holds(store, insight.signal_id):
                values = {name: getattr(insight, name) for name in names}
                rows += store.database.insert("insights", {**values, "recorded_at": at})
        for failure in without:
            rows += _mark(store, failure, correlation_id, at)
    return rows


def failures(store: SqliteStore, signal_id: str) -> int:
    """How often words were looked for and something failed that nobody foresaw. Raises StoreError."""
    sql = "SELECT count(*) FROM narration_events WHERE signal_id = ? AND event = 'failed'"
    count: int = store.database.value(sql, signal_id)
    return count


def dead(store: SqliteStore, limit: int) -> list[dict[str, Any]]:
    """Signals that no words came of, newest first: signal_id, reason, recorded_at. Raises StoreError."""
    rows = store.database.query(
        "SELECT signal_id, reason, recorded_at FROM narration_events WHERE event = 'dead' ORDER BY seq DESC LIMIT ?",
        limit,
    )
    return [dict(zip(row.keys(), row, strict=True)) for row in rows]


def _holds(store: SqliteStore, signal_id: str) -> bool:
    return bool(store.database.value("SELECT 1 FROM current_signals WHERE signal_id = ? AND NOT processed", signal_id))


def _mark(store: SqliteStore, failure: Failure, correlation_id: str, at: int) -> int:
    if not _holds(store, failure.signal.signal_id):
        return 0
    row = {"signal_id": failure.signal.signal_id, "event": "dead" if failure.final else "failed"}
    told = {"reason": failure.reason, "correlation_id": correlation_id, "recorded_at": at}
    return store.database.insert("narration_events", {**row, **told})
