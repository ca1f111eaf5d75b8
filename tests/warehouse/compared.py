"""What a warehouse has, held against the store that was shipped to it."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from persistence.records import chain, facts_of, flows_of, forecast, insight, record, signal
from utxoiq.models import BlockData, BlockRecord, MempoolSnapshot
from utxoiq.persistence import SqliteStore
from utxoiq.persistence.schema import SHIPPED
from utxoiq.persistence.warehouse.bigquery import PARTITIONS, BigQueryWarehouse
from utxoiq.persistence.warehouse.rows import Row, read
from utxoiq.persistence.warehouse.tables import BY_NAME

ALWAYS = date(2009, 1, 3), date(2100, 1, 1)
VERY_LARGE = 2**62 + 1
"""No float holds it."""


def asked(warehouse: BigQueryWarehouse, path: str, columns: str = "*") -> list[Row]:
    """All rows of a table or view."""
    return list(warehouse.query(f"SELECT {columns} FROM {path} WHERE {PARTITIONS}", *ALWAYS))


def raw(warehouse: BigQueryWarehouse, relation: str) -> list[Row]:
    """All rows of a table, as often as they are there."""
    return asked(warehouse, BY_NAME[relation].path)


def spelt(row: Row) -> str:
    """A row, comparable: its times in UTC, its JSON in one order."""
    return json.dumps(row, sort_keys=True, default=_plain)


def _plain(value: Any) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)


def stored(store: SqliteStore, relation: str) -> list[Row]:
    """What a warehouse should have of a relation."""
    table, key = SHIPPED[relation]
    keys = [row[0] for row in store.database.query(f"SELECT {key} FROM {table} ORDER BY rowid")]
    return list(read(store.database, relation, keys))


def everything_is_there_once(store: SqliteStore, warehouse: BigQueryWarehouse) -> None:
    """Every row of the store with every column, none twice, and nothing else."""
    for relation in SHIPPED:
        here, there = (Counter(map(spelt, rows)) for rows in (stored(store, relation), raw(warehouse, relation)))
        assert set(here.values()) <= {1}
        assert there == here, relation


def what_is_connected_is_whole(store: SqliteStore, warehouse: BigQueryWarehouse) -> None:
    """A block with an event there has all its rows there that were written with it or before."""
    known = {row["block_hash"] for row in raw(warehouse, "block_events")}
    if not known:
        return
    for relation in ("blocks", "facts", "flows", "entity_flows", "mempools", "forecasts", "signals"):
        there = Counter(row["block_hash"] for row in raw(warehouse, relation))
        here = Counter(row["block_hash"] for row in stored(store, relation))
        assert {name: there[name] for name in known} == {name: here[name] for name in known}, relation


def rich(data: BlockData, *, correlation_id: str = "run", value: Any = 1) -> BlockRecord:
    """The record of a block with a row for every table."""
    snapshot = MempoolSnapshot(data.block.header.time, str(data.prev_hash), 3, 700, 100, 100, None)
    signals = [signal(data, value, "seen", "ünïcode ₿"), signal(data, VERY_LARGE, "counted"), signal(data, 3, "lost")]
    plain = record(replace(data, mempool=snapshot), signals, [insight(signals[0])], correlation_id=correlation_id)
    foretold = tuple(forecast(data, 2000, ahead) for ahead in (1, 6, 144))
    return replace(plain, facts=facts_of(data), audit={"projected_fees": 1}, flows=flows_of(data), forecasts=foretold)


def fill(store: SqliteStore) -> None:
    """A few blocks with a reorg of two."""
    parts = chain()
    for data in [*parts.trunk[-2:], *parts.stale]:
        store.connect(rich(data))
    for data in reversed(parts.stale):
        store.disconnect(str(data.block_hash), "reorg")
    for data in parts.winning[:3]:
        store.connect(rich(data))


def amend(store: SqliteStore) -> None:
    """What is written of blocks later: facts and flows restated, a signal superseded, one no words came of."""
    first, second = chain().trunk[-2:]
    store.restate([(replace(facts_of(first), labels_version="newer"), flows_of(first, 9, labels_version="newer"))])
    store.supersede(signal(second, 3, "lost").signal_id, signal(second, 4, "lost"), [], "a test", "run")
    with store.database.transaction():
        dead = {"signal_id": signal(first, 3, "lost").signal_id, "event": "dead", "reason": "no words"}
        store.database.insert("narration_events", {**dead, "correlation_id": "run", "recorded_at": 1_700_000_000})
