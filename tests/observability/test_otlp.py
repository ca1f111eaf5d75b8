"""Metrics and traces over real HTTP, to a collector, or authorised, to Google Cloud."""

from __future__ import annotations

from typing import Any

import google.auth
import pytest
import requests
from google.auth.credentials import AnonymousCredentials, Scoped
from google.oauth2.credentials import Credentials

from observability.collector import Collector
from observability.emitting import emit_all, value
from utxoiq.observability import METRICS, MonitoringModule

TOKEN = Credentials("token-of-a-test")  # type: ignore[no-untyped-call]


def run(module: MonitoringModule) -> None:
    """One block's worth."""
    emit_all(module)
    with module.span("block", "id"):
        pass
    module.shutdown()


def test_every_metric_arrives(collector: Collector) -> None:
    """With its name, unit and description, and its value."""
    run(MonitoringModule(otlp_endpoint=collector.url))
    metrics = collector.metrics()
    for metric in METRICS.values():
        sent = metrics.pop(metric.opentelemetry)
        assert (sent.unit, sent.description) == (metric.unit, metric.description)
        assert sent.WhichOneof("data") == {"counter": "sum"}.get(metric.kind, metric.kind)
    assert metrics == {}
    assert collector.metrics()["utxoiq.stale_signals"].gauge.data_points[0].as_int == 7


def test_who_sends(collector: Collector) -> None:
    run(MonitoringModule(otlp_endpoint=collector.url, service_name="utxoiq-backfill"))
    resources = collector.resources()
    assert len(resources) == 2, "metrics and traces"
    for resource in resources:
        assert resource["service.name"] == "utxoiq-backfill"
        assert resource["service.instance.id"]
        assert "gcp.project_id" not in resource


def test_credentials_are_given_the_scope_they_need(collector: Collector) -> None:
    """A service account has none of itself."""
    asked: list[Any] = []

    class Unscoped(AnonymousCredentials, Scoped):
        requires_scopes = True

        def with_scopes(self, scopes: Any, default_scopes: Any = None) -> Credentials:
            asked.append(scopes)
            return TOKEN

    run(MonitoringModule("my-project", otlp_endpoint=collector.url, credentials=Unscoped()))  # type: ignore[no-untyped-call]
    assert asked[0] == ["https://www.googleapis.com/auth/cloud-platform"]
    assert collector.headers("/v1/metrics")["authorization"] == "Bearer token-of-a-test"


@pytest.mark.parametrize("base", ["/otlp", "/otlp/"])
def test_an_endpoint_with_a_path(collector: Collector, base: str) -> None:
    run(MonitoringModule(otlp_endpoint=collector.url + base))
    assert {path for path, _, _ in collector.requests} == {"/otlp/v1/metrics", "/otlp/v1/traces"}


def test_prometheus_is_scraped_beside_it(collector: Collector) -> None:
    module = MonitoringModule(otlp_endpoint=collector.url)
    emit_all(module)
    assert value(module, "utxoiq_reorgs_total") == 1
    run(module)


def test_with_credentials_requests_are_authorised(collector: Collector) -> None:
    """The way to Google, to another place."""
    run(MonitoringModule("my-project", otlp_endpoint=collector.url, credentials=TOKEN))
    for path in ("/v1/metrics", "/v1/traces"):
        assert collector.headers(path)["authorization"] == "Bearer token-of-a-test"
    for resource in collector.resources():
        assert resource["gcp.project_id"] == "my-project"
        assert resource["cloud.region"] == "global", "Google refuses points without a location"


def test_anonymous_credentials(collector: Collector) -> None:
    run(MonitoringModule("my-project", otlp_endpoint=collector.url, credentials=AnonymousCredentials()))  # type: ignore[no-untyped-call]
    assert collector.metrics()
    assert "authorization" not in {name.lower() for name in collector.headers("/v1/metrics")}


def test_the_region_can_be_told(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "cloud.region=europe-west1")
    run(MonitoringModule("my-project", otlp_endpoint=collector.url))
    assert {resource["cloud.region"] for resource in collector.resources()} == {"europe-west1"}


def test_headers_of_the_environment_are_sent(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """As hosted collectors ask for."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-scope=me")
    run(MonitoringModule(otlp_endpoint=collector.url))
    assert collector.headers("/v1/metrics")["x-scope"] == "me"


class Adapter:
    """Stands where requests would leave the machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[requests.PreparedRequest] = []
        monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", self.send)

    def send(self, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        self.sent.append(request)
        response = requests.Response()
        response.status_code, response.request, response._content = 200, request, b""
        return response


def test_a_project_is_written_to_google(monkeypatch: pytest.MonkeyPatch) -> None:
    adapter = Adapter(monkeypatch)
    run(MonitoringModule("my-project", credentials=TOKEN))
    assert {request.url for request in adapter.sent} == {
        "https://telemetry.googleapis.com/v1/metrics",
        "https://telemetry.googleapis.com/v1/traces",
    }
    assert {request.headers["authorization"] for request in adapter.sent} == {"Bearer token-of-a-test"}


def test_default_credentials_are_looked_for_when_first_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when the module is made: asking a metadata server may take seconds."""
    adapter, asked = Adapter(monkeypatch), []

    def default(**options: Any) -> tuple[Credentials, str]:
        asked.append(options["scopes"])
        return TOKEN, "some-project"

    monkeypatch.setattr(google.auth, "default", default)
    module = MonitoringModule("my-project")
    assert asked == []
    run(module)
    assert asked
    assert all(request.headers["authorization"] == "Bearer token-of-a-test" for request in adapter.sent)


def test_default_credentials_go_to_google_alone(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    def default(**_: Any) -> None:
        raise AssertionError("asked for")

    monkeypatch.setattr(google.auth, "default", default)
    run(MonitoringModule("my-project", otlp_endpoint=collector.url))
    assert "authorization" not in {name.lower() for name in collector.headers("/v1/traces")}
    assert collector.resources()[0]["gcp.project_id"] == "my-project"
