"""Metrics written to Cloud Monitoring by its own API, with its real client, to a server that refuses as Google does."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult, MetricsData
from opentelemetry.sdk.resources import Resource

from helpers.google_servers import Monitoring, Refusal, kinds
from helpers.process import python, said
from helpers.settings import in_folder
from observability.collector import Collector
from observability.emitting import CORRELATION_ID, emit_all, value
from utxoiq.config import ConfigurationModule
from utxoiq.errors import ConfigError
from utxoiq.observability import METRICS, MonitoringModule
from utxoiq.observability.cloud_monitoring import LEAST_SECONDS, CloudMonitoring, try_write
from utxoiq.service import Service

OK, FAILED = MetricExportResult.SUCCESS, MetricExportResult.FAILURE
PREFIX = "custom.googleapis.com/utxoiq/"
KINDS = {
    "counter": ("CUMULATIVE", "INT64"), "gauge": ("GAUGE", "DOUBLE"), "histogram": ("CUMULATIVE", "DISTRIBUTION"),
}  # fmt: skip


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[Monitoring]:
    """A Cloud Monitoring, named in the environment."""
    monitoring = Monitoring()
    with monitoring.serve() as address:
        monkeypatch.setenv("UTXOIQ_MONITORING_ENDPOINT", address)
        yield monitoring


class Clock:
    """Seconds that pass when told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Measuring:
    """Measurements of anything, and an exporter to give them to."""

    def __init__(self, **resource: str) -> None:
        self._reader = InMemoryMetricReader()
        attributes = {name.replace("_", "."): text for name, text in resource.items()}
        self._provider = MeterProvider([self._reader], Resource(attributes), shutdown_on_exit=False)
        self.meter = self._provider.get_meter("test")
        self.clock = Clock()
        self.exporter = CloudMonitoring("my-project", clock=self.clock)

    def data(self) -> MetricsData:
        data: Any = self._reader.get_metrics_data()
        assert isinstance(data, MetricsData)
        return data

    def export(self) -> MetricExportResult:
        """Some time after the last."""
        self.clock.now += LEAST_SECONDS
        return self.exporter.export(self.data())

    def close(self) -> None:
        self._provider.shutdown()
        self.exporter.shutdown()


@pytest.fixture
def measuring(google: Monitoring) -> Iterator[Measuring]:
    made = Measuring(service_name="utxoiq", service_instance_id="me", cloud_region="europe-west1")
    yield made
    made.close()


def heard(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "Cloud Monitoring" in record.getMessage()]


def run(module: MonitoringModule) -> None:
    emit_all(module)
    with module.span("block", "id"):
        pass
    module.shutdown()


# A whole module


def test_every_metric_arrives(google: Monitoring, collector: Collector) -> None:
    """With its kind, its type, its unit and what it means; the correlation id nowhere."""
    run(MonitoringModule("my-project", otlp_endpoint=collector.url, direct=True))
    assert {request.name for request in google.requests} == {"projects/my-project"}
    series = {one.metric.type.removeprefix(PREFIX): one for one in google.series}
    assert set(series) == set(METRICS)
    for name, metric in METRICS.items():
        one = series[name]
        assert kinds(one) == KINDS[metric.kind]
        assert (one.unit, one.description) == (metric.unit or "1", metric.description)
        assert set(one.metric.labels) <= set(metric.labels)
    assert CORRELATION_ID not in "".join(map(str, google.series))


def test_values(google: Monitoring, collector: Collector) -> None:
    """Counts by label, a gauge, and a distribution in the metric's own buckets."""
    run(MonitoringModule("my-project", otlp_endpoint=collector.url, direct=True))
    found = {(one.metric.type.removeprefix(PREFIX), *sorted(one.metric.labels.items())): one for one in google.series}
    binance = found["entities", ("entity_name", "Binance"), ("entity_type", "exchange")]
    assert binance.points[0].value.int64_value == 2
    assert found["stale_signals",].points[0].value.double_value == 7
    depth = found["reorg_depth",].points[0].value.distribution_value
    assert (depth.count, depth.mean) == (1, 2)
    assert depth.bucket_options.explicit_buckets.bounds == list(METRICS["reorg_depth"].buckets)
    assert depth.bucket_counts == [0, 1, *[0] * 9]


def test_who_writes(google: Monitoring, collector: Collector) -> None:
    """A task of a job, known as the same process in its traces."""
    run(MonitoringModule("my-project", otlp_endpoint=collector.url, service_name="watch", direct=True))
    (process,) = {resource["service.instance.id"] for resource in collector.resources()}
    assert {one.resource.type for one in google.series} == {"generic_task"}
    assert {frozenset(one.resource.labels.items()) for one in google.series} == {
        frozenset({"project_id": "my-project", "location": "global", "namespace": "", "job": "watch",
                   "task_id": process}.items())
    }  # fmt: skip


def test_it_is_the_only_place_for_metrics(google: Monitoring, collector: Collector) -> None:
    """Traces go by OTLP all the same, and Prometheus may scrape."""
    module = MonitoringModule("my-project", otlp_endpoint=collector.url, direct=True)
    emit_all(module)
    assert value(module, "utxoiq_reorgs_total") == 1
    run(module)
    assert {path for path, _, _ in collector.requests} == {"/v1/traces"}
    assert google.series


def test_without_it_nothing_is_written_here(google: Monitoring, collector: Collector) -> None:
    run(MonitoringModule("my-project", otlp_endpoint=collector.url))
    assert google.requests == []
    assert collector.metrics()


def test_a_service_by_its_settings(
    google: Monitoring, collector: Collector, tmp_path: Path, root_logger: logging.Logger
) -> None:
    """What `metrics.direct` does, and that it is refused without a project."""
    address = os.environ["UTXOIQ_MONITORING_ENDPOINT"]
    with in_folder(tmp_path) as here:
        here.env(UTXOIQ_MONITORING_ENDPOINT=address)
        here.toml(f'[metrics]\ndirect = true\notlp_endpoint = "{collector.url}"\n[http]\nlisten = "off"\n')
        with pytest.raises(ConfigError, match=r"metrics: direct needs a project: give metrics\.project_id"):
            here.sources().load()
        here.env(UTXOIQ_METRICS__PROJECT_ID="my-project")
        Service(ConfigurationModule(here.sources()), ["serve"]).close()
    assert f"{PREFIX}blocks_processed" in {one.metric.type for one in google.series}
    assert "/v1/metrics" not in {path for path, _, _ in collector.requests}


def test_without_a_project_prometheus_goes_on(google: Monitoring, caplog: pytest.LogCaptureFixture) -> None:
    """Settings do not let it come so far; a program may."""
    module = MonitoringModule(direct=True)
    emit_all(module)
    assert value(module, "utxoiq_reorgs_total") == 1
    module.shutdown()
    assert google.requests == []
    assert "no export to Cloud Monitoring; it needs a project" in caplog.text


def test_an_interval_that_is_none_leaves_prometheus_alone(
    google: Monitoring, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "0")
    with Collector() as collector:
        module = MonitoringModule("my-project", otlp_endpoint=collector.url, direct=True)
        emit_all(module)
        assert value(module, "utxoiq_reorgs_total") == 1
        module.shutdown()
    assert google.requests == []
    assert "no export to Cloud Monitoring" in caplog.text


# One export


def test_no_more_series_a_request_than_google_takes(google: Monitoring, measuring: Measuring) -> None:
    counter = measuring.meter.create_counter("utxoiq.many")
    for i in range(401):
        counter.add(i, {"entity_name": f"entity {i}"})
    assert measuring.export() is OK
    assert [len(request.time_series) for request in google.requests] == [200, 200, 1]
    assert {one.points[0].value.int64_value for one in google.series} == set(range(401))


def test_a_series_is_written_every_ten_seconds_at_most(google: Monitoring, measuring: Measuring) -> None:
    """What came in between is in the next count."""
    counter = measuring.meter.create_counter("utxoiq.many")
    counter.add(1)
    assert measuring.export() is OK
    counter.add(1)
    measuring.clock.now += LEAST_SECONDS - 0.5
    assert measuring.exporter.export(measuring.data()) is OK
    assert len(google.requests) == 1
    measuring.clock.now += 0.5
    assert measuring.exporter.export(measuring.data()) is OK
    assert [one.points[0].value.int64_value for one in google.series] == [1, 2]
    first, second = (one.points[0].interval for one in google.series)
    assert first.start_time == second.start_time < first.end_time < second.end_time


def test_labels(google: Monitoring, measuring: Measuring) -> None:
    """Cut to what Google takes; never a correlation id, wherever it comes from."""
    measuring.meter.create_counter("utxoiq.many").add(1, {"entity_name": "x" * 2000, "correlation_id": CORRELATION_ID})
    assert measuring.export() is OK
    (one,) = google.series
    assert dict(one.metric.labels) == {"entity_name": "x" * 1024}
    assert one.resource.labels["location"] == "europe-west1"
    assert one.resource.labels["task_id"] == "me"


def test_a_gauge_keeps_its_type(google: Monitoring, measuring: Measuring) -> None:
    """Whether it happens to be whole or not: Google would refuse the second."""
    gauge = measuring.meter.create_gauge("utxoiq.level")
    for amount in (1, 1.5):
        gauge.set(amount)
        assert measuring.export() is OK
    assert [kinds(one) for one in google.series] == [("GAUGE", "DOUBLE")] * 2
    assert [one.points[0].value.double_value for one in google.series] == [1.0, 1.5]


def test_nothing_measured_is_nothing_sent(google: Monitoring, measuring: Measuring) -> None:
    measuring.meter.create_counter("utxoiq.many")
    measuring.exporter.export(MetricsData([]))
    assert google.requests == []


# What goes wrong


@pytest.mark.parametrize("code", [Refusal.PERMISSION_DENIED, Refusal.UNAVAILABLE, Refusal.INTERNAL])
def test_a_refusal_is_told_once(
    google: Monitoring, measuring: Measuring, caplog: pytest.LogCaptureFixture, code: Refusal
) -> None:
    """And once that it works again."""
    caplog.set_level(logging.INFO)
    measuring.meter.create_counter("utxoiq.many").add(1)
    google.refusal = code
    assert [measuring.export() for _ in range(3)] == [FAILED] * 3
    (told,) = heard(caplog)
    assert "project my-project fails, tried on without another word" in told
    assert "refused by a test" in told
    google.refusal = None
    assert [measuring.export() for _ in range(2)] == [OK] * 2
    assert [line.partition("project ")[2] for line in heard(caplog)[1:]] == ["my-project works again"]


def test_one_refused_request_does_not_stop_the_next(
    google: Monitoring, measuring: Measuring, caplog: pytest.LogCaptureFixture
) -> None:
    counter = measuring.meter.create_counter("utxoiq.many")
    for i in range(201):
        counter.add(1, {"entity_name": str(i)})
    google.refusal = Refusal.INVALID_ARGUMENT
    assert measuring.export() is FAILED
    assert [len(request.time_series) for request in google.requests] == [200, 1]
    assert len(heard(caplog)) == 1


def test_nobody_listens(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The module goes on and ends."""
    with Monitoring().serve() as address:
        pass
    monkeypatch.setenv("UTXOIQ_MONITORING_ENDPOINT", address)
    module = MonitoringModule("my-project", otlp_endpoint=collector.url, direct=True)
    emit_all(module)
    assert value(module, "utxoiq_reorgs_total") == 1
    module.shutdown()
    (told,) = heard(caplog)
    assert "ServiceUnavailable" in told


def test_nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Told when it is first needed, not when the module is made."""
    monkeypatch.delenv("UTXOIQ_MONITORING_ENDPOINT", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file")
    made = Measuring()
    assert heard(caplog) == []
    made.meter.create_counter("utxoiq.many").add(1)
    assert [made.export() for _ in range(2)] == [FAILED] * 2
    (told,) = heard(caplog)
    assert "DefaultCredentialsError" in told
    made.close()


def test_after_its_end_nothing_is_sent(google: Monitoring, measuring: Measuring) -> None:
    measuring.meter.create_counter("utxoiq.many").add(1)
    measuring.exporter.shutdown()
    assert measuring.export() is OK
    assert google.requests == []


def test_a_try(google: Monitoring) -> None:
    """A point of a series of its own each time: two within ten seconds are taken."""
    try_write("my-project", 5.0)
    try_write("my-project", 5.0)
    assert {one.metric.type for one in google.series} == {f"{PREFIX}doctor"}
    assert len({one.resource.labels["task_id"] for one in google.series}) == 2


def test_it_is_loaded_for_those_who_want_it() -> None:
    process = python(
        "-c",
        "from utxoiq.observability import MonitoringModule\n"
        "MonitoringModule(otlp_endpoint='http://127.0.0.1:1').shutdown()\n"
        "import sys; print(*sys.modules)",
    )
    assert process.returncode == 0, said(process)
    assert not [name for name in process.stdout.split() if name.startswith(("google.cloud", "grpc"))]
