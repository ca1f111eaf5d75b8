"""Rows as the Storage Write API and Parquet want them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from utxoiq.persistence.warehouse.rows import Row
    from utxoiq.persistence.warehouse.tables import Table

WIRE = {
    "STRING": FieldDescriptorProto.TYPE_STRING,
    "JSON": FieldDescriptorProto.TYPE_STRING,
    "INT64": FieldDescriptorProto.TYPE_INT64,
    "TIMESTAMP": FieldDescriptorProto.TYPE_INT64,
    "DATE": FieldDescriptorProto.TYPE_INT32,
    "FLOAT64": FieldDescriptorProto.TYPE_DOUBLE,
    "BOOL": FieldDescriptorProto.TYPE_BOOL,
}
"""https://cloud.google.com/bigquery/docs/supported-data-types: TIMESTAMP in microseconds, DATE in days since 1970."""
MOST_BYTES = 8_000_000
"""Of one request; the API's limit is 10 MB."""
EPOCH = date(1970, 1, 1)


@cache
def descriptor(table: Table) -> DescriptorProto:
    """The table as a message type, its fields in the table's order."""
    message = DescriptorProto(name="Row")
    for number, column in enumerate(table.columns, 1):
        label = FieldDescriptorProto.LABEL_REQUIRED if column.required else FieldDescriptorProto.LABEL_OPTIONAL
        message.field.add(name=column.name, number=number, type=WIRE[column.kind], label=label)
    return message


@cache
def _message(table: Table) -> type[Message]:
    file = FileDescriptorProto(name=f"{table.path}.proto", package=table.path, syntax="proto2")
    file.message_type.add().CopyFrom(descriptor(table))
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"{table.path}.Row"))


def serialized(table: Table, rows: Iterable[Row]) -> Iterator[list[bytes]]:
    """The rows as messages, in pieces that each fit into one request."""
    make, kinds = _message(table), {column.name: column.kind for column in table.columns}
    piece: list[bytes] = []
    size = 0
    for row in rows:
        values = {name: _plain(kinds[name], value) for name, value in row.items() if value is not None}
        data = make(**values).SerializeToString()
        if piece and size + len(data) > MOST_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(data)
        size += len(data)
    if piece:
        yield piece


def _plain(kind: str, value: Any) -> Any:
    if kind == "DATE":
        return (value - EPOCH).days
    if kind == "TIMESTAMP":
        return micros(value)
    return to_json(value) if kind == "JSON" else value


def micros(value: datetime) -> int:
    """Microseconds since 1970, exactly."""
    since = value - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def to_json(value: Any) -> str:
    """JSON text, as short as it gets."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def parquet(table: Table, rows: Sequence[Row]) -> bytes:
    """The rows as a Parquet file that BigQuery, DuckDB and Polars read as it is."""
    import pyarrow.parquet  # noqa: PLC0415 a second to import, for bulk alone

    file = io.BytesIO()
    pyarrow.parquet.write_table(arrow(table, rows), file, compression="zstd")
    return file.getvalue()


def arrow(table: Table, rows: Sequence[Row]) -> Any:
    """The rows as an Arrow table; JSON columns are text."""
    import pyarrow as pa  # noqa: PLC0415

    types = {
        "STRING": pa.string(), "JSON": pa.string(), "INT64": pa.int64(), "FLOAT64": pa.float64(), "BOOL": pa.bool_(),
        "DATE": pa.date32(), "TIMESTAMP": pa.timestamp("us", tz="UTC"),
    }  # fmt: skip
    schema = pa.schema([pa.field(c.name, types[c.kind], not c.required) for c in table.columns])
    columns = {
        c.name: [to_json(v) if c.kind == "JSON" and v is not None else v for v in (row[c.name] for row in rows)]
        for c in table.columns
    }
    return pa.table(columns, schema=schema)
