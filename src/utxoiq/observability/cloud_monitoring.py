"""Export of metrics to Cloud Monitoring by its own API, as `custom.googleapis.com/utxoiq/<metric>`."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import grpc
from google.api.distribution_pb2 import Distribution
from google.api.metric_pb2 import Metric, MetricDescriptor
from google.api.monitored_resource_pb2 import MonitoredResource
from google.cloud.monitoring_v3 import MetricServiceClient, Point, TimeInterval, TimeSeries, TypedValue
from google.cloud.monitoring_v3.services.metric_service.transports import MetricServiceGrpcTransport
from google.protobuf.timestamp_pb2 import Timestamp
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as Measured

from utxoiq.observability.outages import TellsOnce

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

ENDPOINT = "UTXOIQ_MONITORING_ENDPOINT"
"""Variable: HOST:PORT of an emulator, spoken to without TLS and without logging in."""
TYPES = "custom.googleapis.com/"
MOST_SERIES = 200
"""Series that one request may carry."""
LEAST_SECONDS = 10.0
"""Google refuses points of a series that follow each other faster."""
LONGEST_VALUE = 1024
"""Characters of a label's value."""
NO_LABELS = ("correlation_id",)
"""What would make a series of every block."""
ONE_MS = 1_000_000
"""Nanoseconds: what a count must at least have taken."""


class CloudMonitoring(TellsOnce, MetricExporter):
    """Never raises; says once that it fails and once that it works again."""

    def __init__(
        self, project_id: str, credentials: Credentials | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`credentials`: None looks for the application default ones when first used. `clock`: seconds."""
        super().__init__()
        self._project, self._credentials, self._clock = project_id, credentials, clock
        self._client: MetricServiceClient | None = None
        self._last: float | None = None
        self._ended = False

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:
        """Write all series; those of a request that is refused are left out. What comes less than 10 s after the last
        is left to the next: the counts are of all that was since the start."""
        now = self._clock()
        if self._ended or (self._last is not None and now - self._last < LEAST_SECONDS):
            return MetricExportResult.SUCCESS
        self._last = now
        failure = ""
        try:
            series = list(time_series(metrics_data, self._project))
            client = self._client = self._client or open_client(self._credentials)
        except Exception as error:  # noqa: BLE001 whatever it is, the blocks go on
            failure, series = _named(error), []
        for first in range(0, len(series), MOST_SERIES):
            try:
                client.create_time_series(
                    name=f"projects/{self._project}", time_series=series[first : first + MOST_SERIES], retry=None,
                    timeout=timeout_millis / 1000,
                )  # fmt: skip
            except Exception as error:  # noqa: BLE001 likewise
                failure = failure or _named(error)
        if not self._ended:
            self._tell(f"Cloud Monitoring, project {self._project}", failure)
        return MetricExportResult.FAILURE if failure else MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:  # noqa: ARG002
        """Nothing is held back here."""
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:  # noqa: ARG002
        """Give up what is under way."""
        self._ended = True
        if self._client:
            self._client.transport.close()


def open_client(credentials: Credentials | None = None) -> MetricServiceClient:
    """Google's own, or the one at ENDPOINT. Raises GoogleAuthError."""
    endpoint = os.environ.get(ENDPOINT)
    if not endpoint:
        return MetricServiceClient(credentials=credentials)
    return MetricServiceClient(transport=MetricServiceGrpcTransport(channel=grpc.insecure_channel(endpoint)))


def try_write(project_id: str, seconds: float) -> None:
    """Write a point of the metric `utxoiq/doctor`, under a name that nobody had before.

    Raises GoogleAPICallError, GoogleAuthError."""
    now = time.time_ns()
    resource = _resource(project_id, {"service.name": "doctor", "service.instance.id": str(uuid.uuid4())})
    point = Point(interval=TimeInterval(end_time=_timestamp(now)), value=TypedValue(double_value=1.0))
    one = TimeSeries(metric=Metric(type=f"{TYPES}utxoiq/doctor"), resource=resource, points=[point])
    with open_client() as client:
        client.create_time_series(name=f"projects/{project_id}", time_series=[one], retry=None, timeout=seconds)


def time_series(data: MetricsData, project_id: str) -> Iterator[TimeSeries]:
    """One of each metric and set of labels: counters CUMULATIVE INT64, histograms CUMULATIVE DISTRIBUTION, gauges
    GAUGE DOUBLE. A metric keeps its type, whatever the values are: Google fixes it with the first point."""
    for source in data.resource_metrics:
        resource = _resource(project_id, source.resource.attributes)
        for scope in source.scope_metrics:
            for measured in scope.metrics:
                for point in measured.data.data_points:
                    if isinstance(point, (NumberDataPoint, HistogramDataPoint)):
                        yield _series(measured, point, resource)


def _series(measured: Measured, point: NumberDataPoint | HistogramDataPoint, resource: MonitoredResource) -> TimeSeries:
    began, ended = point.start_time_unix_nano or point.time_unix_nano, point.time_unix_nano
    kind, type_ = MetricDescriptor.CUMULATIVE, MetricDescriptor.INT64
    if isinstance(point, HistogramDataPoint):
        type_, value = MetricDescriptor.DISTRIBUTION, TypedValue(distribution_value=_distribution(point))
    elif isinstance(measured.data, Sum):
        value = TypedValue(int64_value=int(point.value))
    else:
        kind, type_, value = MetricDescriptor.GAUGE, MetricDescriptor.DOUBLE, TypedValue(double_value=point.value)
        began = ended
    if kind == MetricDescriptor.CUMULATIVE:
        ended = max(ended, began + ONE_MS)  # the beginning stays where it is, or the next point would overlap this one
    interval = TimeInterval(start_time=_timestamp(began), end_time=_timestamp(ended))
    return TimeSeries(
        metric=Metric(type=TYPES + measured.name.replace(".", "/", 1), labels=_labels(point.attributes or {})),
        resource=resource,
        metric_kind=kind,
        value_type=type_,
        points=[Point(interval=interval, value=value)],
        unit=measured.unit or "1",
        description=measured.description or "",
    )


def _distribution(point: HistogramDataPoint) -> Distribution:
    """Its spread about the mean is not measured."""
    buckets = Distribution.BucketOptions(
        explicit_buckets=Distribution.BucketOptions.Explicit(bounds=point.explicit_bounds)
    )
    mean = point.sum / point.count if point.count else 0.0
    return Distribution(count=point.count, mean=mean, bucket_options=buckets, bucket_counts=point.bucket_counts)


def _labels(attributes: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value)[:LONGEST_VALUE] for name, value in attributes.items() if name not in NO_LABELS}


def _resource(project_id: str, attributes: Mapping[str, Any]) -> MonitoredResource:
    """One process of one service, as far as OTEL_RESOURCE_ATTRIBUTES and we know it."""
    labels = {
        "project_id": project_id,
        "location": attributes.get("cloud.region", "global"),
        "namespace": attributes.get("service.namespace", ""),
        "job": attributes.get("service.name", ""),
        "task_id": attributes.get("service.instance.id", ""),
    }
    return MonitoredResource(type="generic_task", labels=_labels(labels))


def _timestamp(unix_nanoseconds: int) -> Timestamp:
    seconds, nanos = divmod(unix_nanoseconds, 10**9)
    return Timestamp(seconds=seconds, nanos=nanos)


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
