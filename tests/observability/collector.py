"""An OTLP/HTTP collector on a real port: keeps what it is sent, or hangs, or refuses."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """`status` is what it answers; with `hang` it reads a request and never answers."""

    def __init__(self) -> None:
        self.status = 200
        self.hang = False
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self._ended = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.requests.append((self.path, dict(self.headers), body))
                if collector.hang:
                    collector._ended.wait()
                    return
                self.send_response(collector.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Collector:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def headers(self, path: str) -> dict[str, str]:
        """Of the first request to this path."""
        return next(headers for there, headers, _ in self.requests if there == path)

    def resources(self) -> list[dict[str, str]]:
        """Attributes of everybody who sent metrics or traces."""
        sent = [r.resource for request in self._metric_requests() for r in request.resource_metrics]
        sent += [r.resource for request in self._trace_requests() for r in request.resource_spans]
        return [{a.key: a.value.string_value for a in resource.attributes} for resource in sent]

    def metrics(self) -> dict[str, Any]:
        """Metrics by name, the last sent of each."""
        return {
            metric.name: metric
            for request in self._metric_requests()
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def spans(self) -> dict[str, Any]:
        """Spans by name."""
        return {
            span.name: span
            for request in self._trace_requests()
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }

    def _metric_requests(self) -> list[Any]:
        return [ExportMetricsServiceRequest.FromString(b) for p, _, b in self.requests if p == "/v1/metrics"]

    def _trace_requests(self) -> list[Any]:
        return [ExportTraceServiceRequest.FromString(b) for p, _, b in self.requests if p == "/v1/traces"]


def attributes(span: Any) -> dict[str, Any]:
    """A span's own."""
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}
