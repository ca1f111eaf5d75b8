"""A new store from what the warehouse has: the newest blocks with all that was said of them, and the cursor."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from utxoiq.persistence.warehouse.rows import seconds
from utxoiq.persistence.warehouse.tables import BY_NAME

if TYPE_CHECKING:
    from utxoiq.persistence.sqlite import SqliteStore
    from utxoiq.persistence.warehouse.bigquery import BigQueryWarehouse
    from utxoiq.persistence.warehouse.rows import Row

WINDOW_BLOCKS = 4_464
"""Brought back: the month the processors look at, and a day."""
BLOCKS_A_DAY = 144
LOOK_BACK = (3, 60, 400, 20_000)
"""Days in which the newest block is looked for, one after the other."""
PLACES: dict[str, tuple[str, dict[str, str]]] = {
    "blocks": ("blocks", {"height": "block_height"}),
    "facts": ("facts", {}),
    "flows": ("flows", {}),
    "mempools": ("block_snapshots", {}),
    "forecasts": ("forecasts", {}),
    "signals": ("signals", {}),
    "signal_events": ("signal_events", {}),
    "insights": ("insights", {}),
    "insight_events": ("insight_events", {}),
    "narration_events": ("narration_events", {}),
    "block_events": ("block_events", {}),
}
"""Table of the warehouse -> that of the store, and its columns of another name."""


def restore(store: SqliteStore, warehouse: BigQueryWarehouse, today: date | None = None) -> tuple[str, int] | None:
    """Fill an empty store up to the tip of a migrated warehouse, which is returned; None where it has no block.

    Raises WarehouseError, WarehouseUnavailable, StoreError; then nothing of it is stored.
    """
    tip = _tip(warehouse, today or datetime.now(UTC).date())
    if tip is None:
        return None
    first = tip["day"] - timedelta(days=WINDOW_BLOCKS // BLOCKS_A_DAY + 3)
    found = {name: _rows(warehouse, name, first, tip["day"] + timedelta(days=2)) for name in PLACES}
    with store.database.transaction():
        for name, rows in found.items():
            _write(store, name, rows)
        for row in found["blocks"][:1]:
            store.database.insert("meta", {"key": "network", "value": row["network"]})
        cursor = {"one": 1, "block_hash": tip["block_hash"], "height": tip["block_height"]}
        store.database.insert("cursor", cursor)
        store.outbox.mark_restored(warehouse.name)
    return tip["block_hash"], tip["block_height"]


def _tip(warehouse: BigQueryWarehouse, today: date) -> Row | None:
    for days in LOOK_BACK:
        rows = list(
            warehouse.query(
                "SELECT day, block_hash, block_height FROM btc.block_state WHERE day BETWEEN @first_day AND @last_day "
                "AND state = 'connected' ORDER BY block_height DESC LIMIT 1",
                today - timedelta(days=days), today + timedelta(days=1),
            )
        )  # fmt: skip
        if rows:
            return rows[0]
    return None


def _rows(warehouse: BigQueryWarehouse, name: str, first: date, last: date) -> list[Row]:
    """Each row once, in the order in which it was written."""
    table = BY_NAME[name]
    written = "recorded_at, seq" if any(column.name == "seq" for column in table.columns) else "recorded_at"
    sql = f"SELECT * FROM {table.path} WHERE day BETWEEN @first_day AND @last_day ORDER BY {written}"
    found: dict[tuple[Any, ...], Row] = {}
    for row in warehouse.query(sql, first, last):
        found.setdefault(tuple(row[key] for key in table.identity), row)
    return list(found.values())


def _write(store: SqliteStore, name: str, rows: list[Row]) -> None:
    place, renamed = PLACES[name]
    columns = {
        row["name"]: renamed.get(row["name"], row["name"])
        for row in store.database.query(f"PRAGMA table_info({place})")
    }
    after = max((row["seq"] for row in rows if "seq" in row), default=0)
    for position, row in enumerate(rows, 1):
        values = {column: _value(row[there]) for column, there in columns.items() if there in row}
        if "seq" in values:  # what is written from now on comes after all of it
            values["seq"] = after + position
        if name == "blocks":
            values["header"] = bytes.fromhex(row["header"])
        if name == "mempools":
            told = {"snapshot_id": row["snapshot_id"], "taken_at": _value(row["taken_at"])}
            snapshot = row["snapshot"]
            store.database.insert("mempool_snapshots", {**told, "tip": snapshot["tip"], "snapshot": snapshot})
        store.database.insert(place, values)


def _value(value: Any) -> Any:
    plain: dict[type, Callable[[Any], Any]] = {datetime: seconds, bool: int}
    return plain.get(type(value), lambda same: same)(value)
