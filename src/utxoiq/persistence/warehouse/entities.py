"""Label files in the warehouse: each edition once, whole, line by line."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from utxoiq.errors import WarehouseError
from utxoiq.persistence.warehouse.tables import BY_NAME
from utxoiq.persistence.warehouse.wire import parquet

if TYPE_CHECKING:
    from utxoiq.persistence.warehouse.bigquery import BigQueryWarehouse
    from utxoiq.persistence.warehouse.rows import Row

EVER = date(2009, 1, 3), date(2200, 1, 1)
TABLE = BY_NAME["known_entities"]
MOST_BYTES = 50_000_000
"""Of the lines in one load job."""


def publish(warehouse: BigQueryWarehouse, version: str, text: str) -> int:
    """Put the edition `version` of a label file into `btc.known_entities`: the lines written, 0 where it is there.

    A publication that was cut short is completed. Raises WarehouseError, WarehouseUnavailable.
    """
    lines, now = text.removesuffix("\n").split("\n"), datetime.now(UTC)
    there = {row["line"] for row in _lines(warehouse, version)}
    rows = [_row(version, number, len(lines), line, now) for number, line in enumerate(lines, 1) if number not in there]
    for part in _in_parts(rows):
        warehouse.load(TABLE, parquet(TABLE, part), f"utxoiq_known_entities_{uuid4().hex}")
    return len(rows)


def newest(warehouse: BigQueryWarehouse) -> str | None:
    """The version of the edition that was completed last, None where there is none. Raises WarehouseError,
    WarehouseUnavailable."""
    rows = warehouse.query(
        "SELECT labels_version FROM btc.known_entities WHERE day BETWEEN @first_day AND @last_day "
        "GROUP BY labels_version HAVING COUNT(DISTINCT line) = MAX(`lines`) ORDER BY MAX(recorded_at) DESC LIMIT 1",
        *EVER,
    )
    return next((row["labels_version"] for row in rows), None)


def text_of(warehouse: BigQueryWarehouse, version: str) -> str:
    """The label file of an edition. Raises WarehouseError where it is not whole, WarehouseUnavailable."""
    found = {row["line"]: row["text"] for row in _lines(warehouse, version, "text")}
    if not found or sorted(found) != list(range(1, len(found) + 1)):
        raise WarehouseError(f"labels {version} are not whole in {warehouse.name}: `utxoiq entities publish` again")
    return "".join(f"{found[number]}\n" for number in sorted(found))


def _lines(warehouse: BigQueryWarehouse, version: str, *columns: str) -> list[Row]:
    names = ", ".join(("line", *columns))
    sql = f"SELECT {names} FROM {TABLE.path} WHERE day BETWEEN @first_day AND @last_day AND labels_version = @version"
    return list(warehouse.query(sql, *EVER, {"version": version}))


def _row(version: str, number: int, lines: int, line: str, now: datetime) -> Row:
    entity = json.loads(line)
    return {
        "day": now.date(), "labels_version": version, "line": number, "lines": lines, "entity": entity["id"],
        "name": entity["name"], "kind": entity["kind"], "ticker": entity.get("ticker"), "text": line,
        "recorded_at": now,
    }  # fmt: skip


def _in_parts(rows: list[Row]) -> list[list[Row]]:
    parts: list[list[Row]] = []
    size = MOST_BYTES
    for row in rows:
        if size + len(row["text"]) > MOST_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(row)
        size += len(row["text"])
    return parts
