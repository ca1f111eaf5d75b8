"""A backend that is down, hangs or refuses costs nothing but the measurements."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator

import google.auth
import pytest
import requests
from google.auth.exceptions import DefaultCredentialsError

from observability.collector import Collector
from observability.emitting import emit_all, value
from utxoiq.observability import MonitoringModule

TOO_LONG = 6.0
"""Seconds; what is promised is about 2, and a hang lasts 10 and more."""


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export without waiting for a minute."""
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "20")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")


@pytest.fixture
def closed_port() -> Iterator[str]:
    """Address and port that nobody listens at."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def work(module: MonitoringModule, seconds: float = 0.3) -> None:
    """Many blocks, while exports fail."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        with module.span("block", "id"):
            emit_all(module)
        assert time.monotonic() - began < TOO_LONG
        time.sleep(0.005)


def shut(module: MonitoringModule) -> None:
    began = time.monotonic()
    module.shutdown()
    assert time.monotonic() - began < TOO_LONG


def until(true: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def heard(caplog: pytest.LogCaptureFixture, level: int = logging.WARNING) -> list[str]:
    """What an operator is told of exports."""
    return [r.getMessage() for r in caplog.records if r.levelno >= level and "export" in r.getMessage()]


def test_a_closed_port(closed_port: str, caplog: pytest.LogCaptureFixture) -> None:
    """Told once for metrics, once for traces, without the password; scraping goes on."""
    module = MonitoringModule(otlp_endpoint=f"http://me:hunter2@{closed_port}")
    work(module)
    until(lambda: len(heard(caplog)) == 2)
    work(module)
    assert (value(module, "utxoiq_reorgs_total") or 0) > 2
    shut(module)
    assert {line.split()[2] for line in heard(caplog)} == {f"{closed_port}/v1/metrics", f"{closed_port}/v1/traces"}
    assert len(heard(caplog)) == 2
    assert "hunter2" not in caplog.text


def test_a_collector_that_hangs(collector: Collector) -> None:
    """Shut down in the middle of a request that would take ten seconds more."""
    collector.hang = True
    module = MonitoringModule(otlp_endpoint=collector.url)
    work(module)
    until(lambda: len(collector.requests) >= 2)
    work(module)
    shut(module)


def test_a_collector_that_hangs_is_told_once(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.05")
    collector.hang = True
    module = MonitoringModule(otlp_endpoint=collector.url)
    until(lambda: work(module, 0.05) or len(collector.requests) > 8)
    shut(module)
    assert ["timed out" in line for line in heard(caplog)] == [True, True]


@pytest.mark.parametrize("status", [400, 401, 503])
def test_a_collector_that_refuses_and_recovers(
    collector: Collector, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """Told when it begins, with the reason, and when it is over."""
    collector.status = status
    caplog.set_level(logging.INFO)
    module = MonitoringModule(otlp_endpoint=collector.url)
    work(module)
    until(lambda: len(heard(caplog)) == 2)
    work(module)
    assert all(f"fails, tried on without another word: {status}" in line for line in heard(caplog))
    assert len(heard(caplog)) == 2
    collector.status = 200
    until(lambda: work(module, 0.02) or sum("works again" in line for line in heard(caplog, logging.INFO)) == 2)
    shut(module)
    assert len(heard(caplog)) == 2
    points = collector.metrics()["utxoiq.reorgs"].sum.data_points
    assert points[0].as_int > 2, "nothing that was counted meanwhile is lost"


def test_no_credentials(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def default(**_: object) -> None:
        raise DefaultCredentialsError("none were found")  # type: ignore[no-untyped-call]

    monkeypatch.setattr(google.auth, "default", default)
    module = MonitoringModule("my-project")
    work(module)
    until(lambda: len(heard(caplog)) == 2)
    work(module)
    shut(module)
    assert ["none were found" in line for line in heard(caplog)] == [True, True]


def test_an_error_without_a_word(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It is told by its name."""

    def send(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    module = MonitoringModule(otlp_endpoint="http://127.0.0.1:9")
    work(module)
    until(lambda: len(heard(caplog)) == 2)
    shut(module)
    assert ["TimeoutError" in line for line in heard(caplog)] == [True, True]


def test_an_endpoint_that_is_none(caplog: pytest.LogCaptureFixture) -> None:
    module = MonitoringModule(otlp_endpoint="collector")
    work(module)
    until(lambda: len(heard(caplog)) == 2)
    shut(module)


def test_after_shutdown_nothing_is_tried_again(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next attempt, some three seconds after the first, does not come."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "60000")
    collector.status = 503
    module = MonitoringModule(otlp_endpoint=collector.url)
    with module.span("block"):
        pass
    shut(module)
    tried = len(collector.requests)
    until(lambda: not any(thread.name.startswith("Otel") for thread in threading.enumerate()))
    assert tried >= 2
    assert len(collector.requests) == tried
