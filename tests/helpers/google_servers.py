"""Google's services on real ports, as far as utxoiq speaks with them: gRPC servers for the real client libraries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NoReturn

import grpc
from google.api.metric_pb2 import MetricDescriptor
from google.cloud.monitoring_v3 import CreateTimeSeriesRequest, TimeSeries
from google.cloud.secretmanager_v1 import AccessSecretVersionRequest, AccessSecretVersionResponse
from google.protobuf.empty_pb2 import Empty
from google_crc32c import value as crc32c

Refusal = grpc.StatusCode


@contextmanager
def served(service: str, **methods: grpc.RpcMethodHandler) -> Iterator[str]:
    """HOST:PORT of a server of one service."""
    pool = ThreadPoolExecutor(4)
    server = grpc.server(pool)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()
        pool.shutdown()


class Secrets:
    """A Secret Manager: the full name of each version -> its bytes, or how it is refused. Keeps what it is asked."""

    def __init__(self) -> None:
        self.versions: dict[str, bytes | Refusal] = {}
        self.asked: list[str] = []
        self.damaged = False

    def put(self, name: str, data: bytes | Refusal, version: str = "latest", project: str = "my-project") -> str:
        """Add a version: its reference."""
        self.versions[f"projects/{project}/secrets/{name}/versions/{version}"] = data
        return f"sm://{project}/{name}" + ("" if version == "latest" else f"/{version}")

    def answer(self, request: AccessSecretVersionRequest, context: grpc.ServicerContext) -> AccessSecretVersionResponse:
        self.asked.append(request.name)
        data = self.versions.get(request.name, Refusal.NOT_FOUND)
        if isinstance(data, Refusal):
            refuse(context, data)
        return AccessSecretVersionResponse(
            name=request.name, payload={"data": data, "data_crc32c": crc32c(data) ^ self.damaged}
        )

    @contextmanager
    def serve(self) -> Iterator[str]:
        handler = unary(self.answer, AccessSecretVersionRequest.deserialize, AccessSecretVersionResponse.serialize)
        with served("google.cloud.secretmanager.v1.SecretManagerService", AccessSecretVersion=handler) as address:
            yield address


class Monitoring:
    """A Cloud Monitoring that refuses what Google says it refuses, or everything, with `refusal`."""

    def __init__(self) -> None:
        self.requests: list[CreateTimeSeriesRequest] = []
        self.refusal: Refusal | None = None

    @property
    def series(self) -> list[TimeSeries]:
        """All that was written."""
        return [one for request in self.requests for one in request.time_series]

    def answer(self, request: CreateTimeSeriesRequest, context: grpc.ServicerContext) -> Empty:
        self.requests.append(request)
        if self.refusal:
            refuse(context, self.refusal)
        if not 1 <= len(request.time_series) <= 200 or not all(map(acceptable, request.time_series)):
            refuse(context, Refusal.INVALID_ARGUMENT)
        return Empty()

    @contextmanager
    def serve(self) -> Iterator[str]:
        handler = unary(self.answer, CreateTimeSeriesRequest.deserialize, Empty.SerializeToString)
        with served("google.monitoring.v3.MetricService", CreateTimeSeries=handler) as address:
            yield address


def acceptable(series: TimeSeries) -> bool:
    """One point; a cumulative one over some time; a distribution with a count for each bucket; short label values."""
    (point,) = series.points
    start, end = point.interval.start_time, point.interval.end_time
    timed = start < end if kinds(series)[0] == "CUMULATIVE" else not start or start == end
    labels = [*series.metric.labels.values(), *series.resource.labels.values()]
    spread = point.value.distribution_value
    counts, bounds = spread.bucket_counts, spread.bucket_options.explicit_buckets.bounds
    filled = kinds(series)[1] != "DISTRIBUTION" or (
        sum(counts) == spread.count and len(counts) == len(bounds) + 1 and list(bounds) == sorted(set(bounds))
    )
    return timed and filled and all(len(label) <= 1024 for label in labels)


def kinds(series: TimeSeries) -> tuple[str, str]:
    """Its metric kind and its value type."""
    kind, value = MetricDescriptor.MetricKind, MetricDescriptor.ValueType
    return kind.Name(series.metric_kind), value.Name(series.value_type)


def refuse(context: grpc.ServicerContext, code: Refusal) -> NoReturn:
    context.abort(code, "refused by a test")
    raise AssertionError("aborted")


def unary(answer: Callable[..., Any], read: Callable[..., Any], write: Callable[..., Any]) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(answer, request_deserializer=read, response_serializer=write)
