"""Appending by the Storage Write API, exactly once: at an offset of a committed stream, never to the default one."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from google.api_core import exceptions as google
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient, types
from google.rpc.code_pb2 import ALREADY_EXISTS, Code

from utxoiq.errors import WarehouseError, WarehouseUnavailable
from utxoiq.persistence.warehouse.bigquery import telling
from utxoiq.persistence.warehouse.wire import descriptor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from utxoiq.persistence.warehouse.tables import Table

PASSING = {"UNAVAILABLE", "INTERNAL", "ABORTED", "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
"""Codes after which the same append at the same offset may succeed."""


class StreamLost(Exception):
    """The stream is gone, closed, or not as long as it was: what it has must be read back."""


class WriteStreams:
    """Committed streams of one project."""

    def __init__(self, client: BigQueryWriteClient, project: str, prefix: str = "", timeout: float = 60.0) -> None:
        self._client, self._project, self._prefix, self._timeout = client, project, prefix, timeout

    def close(self) -> None:
        """Let go of the connection."""
        self._client.transport.close()

    def create(self, table: Table) -> str:
        """A new stream into a table: its name. Raises WarehouseError, WarehouseUnavailable."""
        parent = f"projects/{self._project}/datasets/{self._prefix}{table.dataset}/tables/{table.name}"
        stream = types.WriteStream(type_=types.WriteStream.Type.COMMITTED)
        with telling(f"a stream into {table.path}"):
            made = self._client.create_write_stream(
                parent=parent, write_stream=stream, retry=None, timeout=self._timeout
            )
        return str(made.name)

    def append(self, table: Table, stream: str, offset: int, rows: Sequence[bytes]) -> None:
        """Rows at `offset` of `stream`; success too where they are there already.

        Raises StreamLost, WarehouseError, WarehouseUnavailable.
        """
        request = types.AppendRowsRequest(
            write_stream=stream,
            offset=offset,
            proto_rows=types.AppendRowsRequest.ProtoData(
                writer_schema=types.ProtoSchema(proto_descriptor=descriptor(table)),
                rows=types.ProtoRows(serialized_rows=rows),
            ),
        )
        routing = (("x-goog-request-params", f"write_stream={stream}"),)
        with telling(f"an append to {table.path}"):
            try:
                answers = self._client.append_rows(iter([request]), metadata=routing, retry=None, timeout=self._timeout)
                answer = next(iter(answers))
            except google.AlreadyExists:
                return
            except (google.NotFound, google.OutOfRange, google.FailedPrecondition) as error:
                raise StreamLost(str(error)) from error
            except StopIteration:
                raise WarehouseUnavailable(f"BigQuery closed stream {stream} without an answer") from None
        _judge(answer, table)

    def finalize(self, stream: str) -> None:
        """Let no more be appended to a stream, if it is there. Raises WarehouseError, WarehouseUnavailable."""
        with telling("the end of a stream"), suppress(google.NotFound, google.FailedPrecondition):
            self._client.finalize_write_stream(name=stream, retry=None, timeout=self._timeout)


def _judge(answer: types.AppendRowsResponse, table: Table) -> None:
    code = answer.error.code
    if code in (0, ALREADY_EXISTS):
        return
    name, said = Code.Name(code), answer.error.message
    if name in ("NOT_FOUND", "OUT_OF_RANGE", "FAILED_PRECONDITION"):
        raise StreamLost(said)
    if name in PASSING:
        raise WarehouseUnavailable(f"BigQuery can't append to {table.path} now: {name}, {said}")
    bad = "; ".join(f"row {row.index}: {row.message}" for row in list(answer.row_errors)[:3])
    raise WarehouseError(f"BigQuery refused an append to {table.path}: {name}, {bad or said}")
