"""Rows of the store as rows of the warehouse."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from utxoiq.persistence.warehouse.tables import BY_NAME, FLOW_COLUMNS, Table

if TYPE_CHECKING:
    from utxoiq.persistence.database import Database

Row = dict[str, Any]

OF_BLOCK = "JOIN blocks b USING (block_hash)"
ABOUT = "b.height AS block_height, b.time AS block_time"
OF_SIGNAL = "JOIN signals s USING (signal_id) JOIN blocks b USING (block_hash)"
OF_INSIGHT = f"JOIN insights i USING (insight_id) {OF_SIGNAL}"
QUERIES = {
    "blocks": "SELECT r.*, r.height AS block_height, r.time AS block_time, lower(hex(r.header)) AS header, "
    "(SELECT value FROM meta WHERE key = 'network') AS network FROM blocks r WHERE r.block_hash",
    "block_events": f"SELECT r.*, {ABOUT} FROM block_events r {OF_BLOCK} WHERE r.seq",
    "facts": f"SELECT r.*, {ABOUT}, b.simulated FROM facts r {OF_BLOCK} WHERE r.seq",
    "flows": f"SELECT r.*, {ABOUT} FROM flows r {OF_BLOCK} WHERE r.seq",
    "mempools": f"SELECT r.*, m.taken_at, m.snapshot, {ABOUT} "
    f"FROM block_snapshots r JOIN mempool_snapshots m USING (snapshot_id) {OF_BLOCK} WHERE r.block_hash",
    "forecasts": f"SELECT r.*, b.time AS block_time FROM forecasts r {OF_BLOCK} WHERE r.forecast_id",
    "signals": "SELECT r.*, r.created_at AS block_time FROM signals r WHERE r.signal_id",
    "signal_events": f"SELECT r.*, b.time AS block_time FROM signal_events r {OF_SIGNAL} WHERE r.seq",
    "narration_events": f"SELECT r.*, b.time AS block_time FROM narration_events r {OF_SIGNAL} WHERE r.seq",
    "insights": "SELECT r.*, r.created_at AS block_time FROM insights r WHERE r.insight_id",
    "insight_events": f"SELECT r.*, b.time AS block_time FROM insight_events r {OF_INSIGHT} WHERE r.seq",
}
"""Relation -> the statement whose last column is its key."""
AT_ONCE = 500
"""Keys in one statement."""


def read(database: Database, relation: str, keys: Sequence[str | int]) -> Iterator[Row]:
    """The rows of these keys, in their order, with every column of their table. Raises StoreError."""
    if relation == "entity_flows":
        yield from _of_entities(_found(database, "flows", keys))
        return
    table = BY_NAME[relation]
    for row in _found(database, relation, keys):
        parsed = json.loads(row[relation]) if relation in ("facts", "flows") else {}
        yield shaped(table, {**parsed, **row})


def _found(database: Database, relation: str, keys: Sequence[str | int]) -> Iterator[Row]:
    query, key = QUERIES[relation], QUERIES[relation].rsplit(".", 1)[1]
    for start in range(0, len(keys), AT_ONCE):
        some = keys[start : start + AT_ONCE]
        rows = database.query(f"{query} IN ({','.join('?' * len(some))})", *some)
        by_key = {row[key]: dict(zip(row.keys(), row, strict=True)) for row in rows}
        yield from (by_key[one] for one in some)


def _of_entities(flows: Iterable[Row]) -> Iterator[Row]:
    """A row for each entity that rows of flows name."""
    table = BY_NAME["entity_flows"]
    for row in flows:
        for entity, flow in json.loads(row["flows"])["entities"].items():
            amounts = {column: flow[name] for name, column in FLOW_COLUMNS.items()}
            yield shaped(table, {**row, "entity": entity, **amounts})


def shaped(table: Table, row: Row) -> Row:
    """Its columns in the types of Python that the warehouse's client gives back: dates and times aware, JSON parsed."""
    day = _time(row["block_time"]).date() if "block_time" in row else row["day"]
    return {
        column.name: day if column.name == "day" else _value(column.kind, row[column.name]) for column in table.columns
    }


def _value(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind == "TIMESTAMP":
        return _time(value)
    if kind == "JSON":
        return json.loads(value) if isinstance(value, str) else value
    return {"BOOL": bool, "FLOAT64": float, "INT64": int}.get(kind, lambda same: same)(value)


def _time(value: float | datetime) -> datetime:
    return value if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)


def seconds(value: datetime) -> int:
    """The store's spelling of a time that the warehouse gave."""
    return int(value.timestamp())
