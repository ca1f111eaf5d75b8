"""The tables of the warehouse: one description from which DDL, wire format, Parquet and queries are made."""

from __future__ import annotations

from dataclasses import dataclass, fields
from types import UnionType
from typing import Literal, get_type_hints

from utxoiq.models import BlockFacts, EntityFlow

Kind = Literal["STRING", "INT64", "FLOAT64", "BOOL", "DATE", "TIMESTAMP", "JSON"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column; TIMESTAMP and DATE are UTC, satoshis and vbytes INT64."""

    name: str
    kind: Kind
    required: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """An append-only table, partitioned by `day`: the UTC date of the block its rows are about."""

    dataset: Literal["intel", "btc"]
    name: str
    columns: tuple[Column, ...]
    identity: tuple[str, ...]
    """What makes a row the same row when it is sent twice."""
    cluster: tuple[str, ...]

    @property
    def path(self) -> str:
        return f"{self.dataset}.{self.name}"


def _columns(*groups: str) -> tuple[Column, ...]:
    """`KIND name name! …` in each group; with `!` it is never null."""
    found = [Column("day", "DATE", True)]
    for group in groups:
        kind, *names = group.split()
        found += [Column(name.rstrip("!"), kind, name.endswith("!")) for name in names]  # type: ignore[arg-type]
    return tuple(found)


SCALARS: dict[type, Kind] = {int: "INT64", float: "FLOAT64", str: "STRING", bool: "BOOL"}


def _of_facts() -> list[str]:
    """Every fact that is one value has a column of its own; lists and objects are in `facts`."""
    hints = get_type_hints(BlockFacts)
    kinds = {
        name: SCALARS.get(hint.__args__[0] if isinstance(hint, UnionType) else hint) for name, hint in hints.items()
    }
    renamed = {"blockhash", "height", "time", "simulated", "labels_version", "facts_version"}
    return [f"{kinds[f.name]} {f.name}" for f in fields(BlockFacts) if kinds[f.name] and f.name not in renamed]


FLOW_COLUMNS = {name: "departed" if name == "left" else name for name in (*EntityFlow.SUMMED, "uncertain_value")}
"""Amounts of an entity's flow -> their columns: LEFT is a word of SQL."""

OF_BLOCK = "STRING block_hash!", "INT64 block_height"
WRITTEN = "INT64 seq!", "STRING correlation_id!", "TIMESTAMP recorded_at!"

TABLES = (
    Table(
        "intel", "signals",
        _columns(
            "STRING signal_id! signal_type! kind! subject!", *OF_BLOCK, "FLOAT64 confidence!",
            "JSON confidence_basis! metadata! evidence!", "TIMESTAMP created_at!", "STRING model_version!",
            "JSON inputs!", "BOOL simulated!", "STRING correlation_id!", "TIMESTAMP recorded_at!",
        ),
        ("signal_id",), ("signal_type", "kind", "signal_id"),
    ),
    Table(
        "intel", "signal_events",
        _columns("STRING signal_id! event! reason! superseded_by", *WRITTEN),
        ("signal_id", "seq", "recorded_at"), ("signal_id",),
    ),
    Table(
        "intel", "insights",
        _columns(
            "STRING insight_id! signal_id! category! headline! summary!", "FLOAT64 confidence!",
            "STRING confidence_explanation!", "JSON evidence!", "STRING provider! model! prompt_version!",
            "BOOL grounded!", "TIMESTAMP created_at!", "BOOL simulated!", "STRING chart_url", "TIMESTAMP recorded_at!",
        ),
        ("insight_id",), ("category", "signal_id"),
    ),
    Table(
        "intel", "insight_events",
        _columns("STRING insight_id! event! reason!", *WRITTEN),
        ("insight_id", "seq", "recorded_at"), ("insight_id",),
    ),
    Table(
        "intel", "narration_events",
        _columns("STRING signal_id! event! reason!", *WRITTEN),
        ("signal_id", "seq", "recorded_at"), ("signal_id",),
    ),
    Table(
        "intel", "forecasts",
        _columns(
            "STRING forecast_id! block_hash! method! horizon!",
            "INT64 target_height! value_kvb! low_kvb high_kvb cases!", "STRING model_version! correlation_id!",
            "TIMESTAMP recorded_at!",
        ),
        ("forecast_id",), ("method", "horizon"),
    ),
    Table(
        "btc", "blocks",
        _columns(
            *OF_BLOCK, "STRING prev_hash! network! source! header!", "TIMESTAMP time!", "BOOL simulated!",
            "TIMESTAMP recorded_at!",
        ),
        ("block_hash",), ("block_height",),
    ),
    Table(
        "btc", "block_events",
        _columns(*OF_BLOCK, "STRING event!", *WRITTEN),
        ("block_hash", "seq", "recorded_at"), ("block_height",),
    ),
    Table(
        "btc", "facts",
        _columns(
            *OF_BLOCK, "INT64 seq! facts_version!", "STRING digest! labels_version!", "TIMESTAMP time! recorded_at!",
            "BOOL simulated!", *_of_facts(), "JSON facts!",
        ),
        ("block_hash", "digest", "seq", "recorded_at"), ("block_height",),
    ),
    Table(
        "btc", "flows",
        _columns(
            *OF_BLOCK, "INT64 seq!", "STRING digest! labels_version!", "TIMESTAMP recorded_at!",
            "INT64 value_in! value_in_labelled! value_out! value_out_labelled!", "JSON flows!",
        ),
        ("block_hash", "digest", "seq", "recorded_at"), ("block_height",),
    ),
    Table(
        "btc", "entity_flows",
        _columns(
            *OF_BLOCK, "STRING entity!", "INT64 seq!", "STRING labels_version!", "TIMESTAMP recorded_at!",
            f"INT64 {' '.join(f'{name}!' for name in FLOW_COLUMNS.values())}",
        ),
        ("block_hash", "entity", "seq", "recorded_at"), ("entity",),
    ),
    Table(
        "btc", "mempools",
        _columns(*OF_BLOCK, "STRING snapshot_id!", "JSON snapshot! audit", "TIMESTAMP taken_at! recorded_at!"),
        ("block_hash",), ("block_height",),
    ),
    Table(
        "btc", "known_entities",
        _columns(
            "STRING labels_version!", "INT64 line! lines!", "STRING entity! name! kind! ticker text!",
            "TIMESTAMP recorded_at!",
        ),
        ("labels_version", "line"), ("labels_version",),
    ),
)  # fmt: skip
BY_NAME = {table.name: table for table in TABLES}
