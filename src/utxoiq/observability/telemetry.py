"""The OpenTelemetry SDK behind `MonitoringModule`: instruments, spans, exporters, the Prometheus exposition.

Providers and registry are its own; the global ones are left to whoever else lives in the process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, generate_latest

from utxoiq.errors import ConfigError
from utxoiq.observability.metrics import METRICS

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from opentelemetry.sdk.metrics.export import MetricReader

    from utxoiq.observability.cloud_monitoring import CloudMonitoring
    from utxoiq.observability.otlp import Otlp

log = logging.getLogger(__name__)

SCOPE = "utxoiq"
"""What meter and tracer are called."""


class Telemetry:
    """Takes measurements, holds the present values of gauges, and gives them to whoever collects."""

    def __init__(
        self,
        project_id: str | None,
        otlp_endpoint: str | None,
        service_name: str,
        credentials: Credentials | None,
        direct: bool,
    ) -> None:
        resource = _resource(project_id, service_name)
        self._registry = CollectorRegistry()
        self._scrape = threading.Lock()
        readers: list[MetricReader] = [PrometheusMetricReader(scope_info_enabled=False, registry=self._registry)]
        self._otlp = _open_otlp(project_id, otlp_endpoint, credentials, resource, metrics=not direct)
        if self._otlp and self._otlp.metric_reader:
            readers.append(self._otlp.metric_reader)
        self._direct = _open_direct(project_id, credentials, readers) if direct else None
        self._meters = MeterProvider(readers, resource, shutdown_on_exit=False)
        self._sync: dict[str, Counter | Histogram] = {}
        self._gauges: dict[str, float | None] = {}
        self._make_instruments()

    def record(self, name: str, value: float | None, labels: Mapping[str, str]) -> None:
        """Count or observe; a gauge is replaced, and one that is None, unknown, is not exposed at all."""
        instrument = self._sync.get(name)
        if instrument is None:
            self._gauges[name] = value
        elif value is not None:
            (instrument.add if isinstance(instrument, Counter) else instrument.record)(value, labels)

    def span(self, name: str, attributes: Mapping[str, Any]) -> AbstractContextManager[Any]:
        """A span under the current one, current itself while entered. Without OTLP there is nowhere to send it."""
        if self._otlp is None:
            return nullcontext()
        known = {_text(key): _attribute(value) for key, value in attributes.items() if value is not None}
        parent = getattr(trace.get_current_span(), "attributes", None) or {}
        if "correlation_id" in parent:
            known.setdefault("correlation_id", parent["correlation_id"])
        return _current(self._otlp.tracer.start_span(_text(name), attributes=known))

    def exposition(self) -> bytes:
        """All metrics in the Prometheus text format."""
        with self._scrape:  # the reader mixes up what two scrapes at once collect
            return generate_latest(self._registry)

    def shutdown(self, seconds: float) -> None:
        """Send what is left, as far as that can be done in `seconds`."""
        stops: list[Callable[[], object]] = [lambda: self._meters.shutdown(seconds * 1000)]
        if self._otlp:
            stops.append(self._otlp.stop_tracing)
        threads = [threading.Thread(target=_run_logged, args=(stop,), daemon=True) for stop in stops]
        deadline = time.monotonic() + seconds
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._otlp:
            self._otlp.give_up()
        if self._direct:
            self._direct.shutdown()

    def _make_instruments(self) -> None:
        meter = self._meters.get_meter(SCOPE)
        for metric in METRICS.values():
            name, unit, description = metric.opentelemetry, metric.unit, metric.description
            if metric.kind == "gauge":
                meter.create_observable_gauge(name, [self._present(metric.name)], unit, description)
            elif metric.kind == "histogram":
                self._sync[metric.name] = meter.create_histogram(
                    name, unit, description, explicit_bucket_boundaries_advisory=metric.buckets
                )
            else:
                self._sync[metric.name] = meter.create_counter(name, unit, description)

    def _present(self, name: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_: CallbackOptions) -> list[Observation]:
            value = self._gauges.get(name)
            return [] if value is None else [Observation(value)]

        return observe


def _resource(project_id: str | None, service_name: str) -> Resource:
    """Who is speaking. Google refuses points without a location, which OTEL_RESOURCE_ATTRIBUTES may make exact."""
    named = {"service.name": service_name}
    if project_id is None:
        return Resource.create(named)
    place = Resource({"cloud.region": "global"})
    return place.merge(Resource.create({**named, "gcp.project_id": project_id}))


def _open_otlp(
    project_id: str | None, endpoint: str | None, credentials: Credentials | None, resource: Resource, *, metrics: bool
) -> Otlp | None:
    """The OTLP exporters, if any are asked for and can be made: Prometheus goes on without them."""
    if project_id is None and endpoint is None:
        return None
    try:
        from utxoiq.observability.otlp import Otlp  # noqa: PLC0415 requests, protobuf and Google's library

        return Otlp(endpoint, credentials, resource, SCOPE, metrics=metrics)
    except Exception:
        log.exception("no OTLP export of metrics and traces")
        return None


def _open_direct(
    project_id: str | None, credentials: Credentials | None, readers: list[MetricReader]
) -> CloudMonitoring | None:
    """The exporter to Cloud Monitoring's own API, its reader added to the others; None where it can't be made."""
    try:
        from utxoiq.observability.cloud_monitoring import CloudMonitoring  # noqa: PLC0415 gRPC

        if project_id is None:
            raise ConfigError("give the project to write to")
        exporter = CloudMonitoring(project_id, credentials)
        readers.append(PeriodicExportingMetricReader(exporter))
        return exporter
    except Exception:
        log.exception("no export to Cloud Monitoring; it needs a project, and `pip install 'utxoiq[gcp]'`")
        return None


@contextmanager
def _current(span: trace.Span) -> Iterator[None]:
    """Make a span current until its stage ends or fails."""
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield
        except Exception as error:
            with suppress(Exception):
                span.set_status(trace.Status(trace.StatusCode.ERROR, f"{type(error).__name__}: {_text(error)}"))
            raise


def _attribute(value: object) -> bool | int | float | str:
    return value if isinstance(value, bool | int | float) else _text(value)


def _text(value: object) -> str:
    """As OTLP can carry it, which drops a whole batch for one string that is no UTF-8."""
    return str(value).encode("utf-8", "replace").decode()


def _run_logged(stop: Callable[[], object]) -> None:
    try:
        stop()
    except Exception as error:  # noqa: BLE001 whatever it is, the process is ending
        log.debug("telemetry did not stop cleanly: %s", error)
