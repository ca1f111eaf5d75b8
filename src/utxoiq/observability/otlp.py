"""Export of metrics and traces by OTLP/HTTP, to a collector or to Google Cloud."""

from __future__ import annotations

import logging
import os
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any, Literal

import google.auth
import requests
from google.auth.credentials import Credentials, with_scopes_if_required
from google.auth.transport.requests import AuthorizedSession
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.util.re import parse_env_headers

from utxoiq.observability.outages import TellsOnce

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

GOOGLE_ENDPOINT = "https://telemetry.googleapis.com"
GOOGLE_SCOPE = "https://www.googleapis.com/auth/cloud-platform"

_TALKATIVE = (
    "opentelemetry.exporter.otlp.proto.http.metric_exporter",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk._shared_internal",
)
"""Loggers that repeat themselves with each attempt while a collector is down; `TellsOnce` says it once."""


def refusal(endpoint: str | None, signal: Literal["metrics", "traces"], seconds: float) -> str:
    """What an endpoint answers to an export of nothing: a status and its name where it is not taken, else "".

    Raises RequestException, GoogleAuthError."""
    headers = {"Content-Type": "application/x-protobuf"}
    headers |= parse_env_headers(os.environ.get("OTEL_EXPORTER_OTLP_HEADERS", ""), liberal=True)
    base = (endpoint or GOOGLE_ENDPOINT).rstrip("/")
    session = requests.Session() if endpoint else AuthorizedSession(_ApplicationDefault())  # type: ignore[no-untyped-call]
    with session:
        answer = session.post(f"{base}/v1/{signal}", b"", headers=headers, timeout=seconds)
        return "" if answer.ok else f"{answer.status_code} {answer.reason}"


class Otlp:
    """Exporters to one endpoint. OTEL_EXPORTER_OTLP_HEADERS, _TIMEOUT, ... and OTEL_METRIC_EXPORT_INTERVAL hold."""

    def __init__(
        self,
        endpoint: str | None,
        credentials: Credentials | None,
        resource: Resource,
        scope: str,
        *,
        metrics: bool = True,
    ) -> None:
        """`endpoint`: without `/v1/...`; None is Google. Google's own credentials go to Google alone, others to
        any endpoint they are given with. `metrics`: else only traces are sent."""
        for name in _TALKATIVE:
            logging.getLogger(name).addFilter(_only_at_debug)
        if endpoint is None:
            endpoint, credentials = GOOGLE_ENDPOINT, credentials or _ApplicationDefault()  # type: ignore[no-untyped-call]
        base, unmeasured = endpoint.rstrip("/"), NoOpMeterProvider()
        self._metrics = OTLPMetricExporter(f"{base}/v1/metrics", session=_session(credentials)) if metrics else None
        self._spans = OTLPSpanExporter(f"{base}/v1/traces", session=_session(credentials))
        self._tracing = TracerProvider(resource=resource, shutdown_on_exit=False, meter_provider=unmeasured)
        self._tracing.add_span_processor(BatchSpanProcessor(self._spans, meter_provider=unmeasured))
        self.tracer = self._tracing.get_tracer(scope)
        try:
            self.metric_reader = PeriodicExportingMetricReader(self._metrics) if self._metrics else None
        except ValueError:  # an interval that is none
            self._tracing.shutdown()
            raise

    def stop_tracing(self) -> None:
        """Send the spans there are."""
        self._tracing.shutdown()

    def give_up(self) -> None:
        """Try nothing again from now on."""
        if self._metrics:
            self._metrics.shutdown()
        self._spans.shutdown()  # type: ignore[no-untyped-call]


class _Watched(TellsOnce, requests.Session):
    """A session that says once that its endpoint is down, and once that it is back."""

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        place = str(url).rpartition("@")[2]
        try:
            response = super().request(method, url, *args, **kwargs)
        except Exception as error:
            self._tell(place, f"{type(error).__name__}: {error}")
            raise
        self._tell(place, "" if response.ok else f"{response.status_code} {response.reason}")
        return response


class _WatchedGoogle(_Watched, AuthorizedSession):
    """The same, its requests authorised."""


class _ApplicationDefault(Credentials):
    """Application default credentials, looked for when first used: that may take a metadata server's time."""

    _found: Credentials | None = None

    def before_request(self, request: Any, method: str, url: str, headers: MutableMapping[str, str]) -> None:
        self._find(request).before_request(request, method, url, headers)  # type: ignore[no-untyped-call]

    def refresh(self, request: Any) -> None:
        self._find(request).refresh(request)  # type: ignore[no-untyped-call]

    def _find(self, request: Any) -> Credentials:
        if self._found is None:
            self._found, _ = google.auth.default(scopes=[GOOGLE_SCOPE], request=request)
        return self._found


def _session(credentials: Credentials | None) -> requests.Session:
    if credentials is None:
        return _Watched()
    return _WatchedGoogle(with_scopes_if_required(credentials, [GOOGLE_SCOPE]))  # type: ignore[no-untyped-call]


def _only_at_debug(record: logging.LogRecord) -> bool:
    return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)
