"""Monitoring that breaks, or is told nonsense, stops nothing."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytest

from observability.emitting import EMITS, emit_all, value
from utxoiq.observability import MonitoringModule, telemetry

NONSENSE = [None, object(), "text", math.nan, -1, [None]]


class Refuses:
    """Whatever is asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.mark.parametrize("name", EMITS)
@pytest.mark.parametrize("nonsense", NONSENSE, ids=lambda value: type(value).__name__)
def test_nonsense_is_swallowed_and_told(
    monitoring: MonitoringModule, caplog: pytest.LogCaptureFixture, name: str, nonsense: Any
) -> None:
    """Whichever argument it is, the next emit works."""
    for position in range(len(EMITS[name])):
        arguments = list(EMITS[name])
        arguments[position] = nonsense
        getattr(monitoring, name)(*arguments)
    getattr(monitoring, name)()
    getattr(monitoring, name)(*NONSENSE)
    emit_all(monitoring)
    assert value(monitoring, "utxoiq_node_ready") == 1
    if name not in ("emit_zmq_metric", "emit_config_reload"):  # of which every argument is a number or a truth
        assert any(name in line for line in warnings(caplog))


def test_a_kind_of_failure_is_told_once(monitoring: MonitoringModule, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(50):
        monitoring.emit_reorg_metric("deep")  # type: ignore[arg-type]
    assert len(warnings(caplog)) == 1
    monitoring.emit_stale_signals("many")  # type: ignore[arg-type]
    assert len(warnings(caplog)) == 2


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -0.5])
def test_what_is_no_duration_spoils_no_histogram(
    monitoring: MonitoringModule, caplog: pytest.LogCaptureFixture, wrong: float
) -> None:
    """One NaN would make a sum NaN for good; what was measured beside it counts."""
    timing = {"signal_generation_ms": wrong, "total_duration_ms": 10.0}
    for _ in range(3):
        monitoring.emit_pipeline_metrics("c", 1, timing, 2)
    assert value(monitoring, "utxoiq_signal_generation_duration_milliseconds_count") is None
    assert value(monitoring, "utxoiq_total_pipeline_duration_milliseconds_sum") == 30
    assert value(monitoring, "utxoiq_signals_generated_total") == 6
    assert len(warnings(caplog)) == 1


def test_a_counter_never_goes_down(monitoring: MonitoringModule) -> None:
    monitoring.emit_zmq_metric(messages_lost=3)
    monitoring.emit_zmq_metric(messages_lost=-2)
    assert value(monitoring, "utxoiq_zmq_messages_lost_total") == 3


def test_a_broken_sdk_stops_nothing(monitoring: MonitoringModule, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "_telemetry", Refuses())
    emit_all(monitoring)
    with monitoring.span("block"):
        reached = True
    assert reached
    assert monitoring.metrics_text()[0] == b""
    monitoring.shutdown()


def test_a_module_that_cannot_start_is_a_disabled_one(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> None:
        raise OSError("no SDK")

    monkeypatch.setattr(telemetry, "Telemetry", fails)
    module = MonitoringModule()
    emit_all(module)
    assert module.metrics_text()[0] == b""
    assert ["no SDK" in line for line in warnings(caplog)] == [True]
    module.shutdown()


@pytest.mark.parametrize("setting", ["OTEL_METRIC_EXPORT_INTERVAL", "OTEL_BSP_MAX_QUEUE_SIZE"])
def test_prometheus_goes_on_without_the_exporters(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, setting: str
) -> None:
    """Here because of an environment they refuse."""
    monkeypatch.setenv(setting, "-1")
    module = MonitoringModule(otlp_endpoint="http://127.0.0.1:9")
    emit_all(module)
    with module.span("block"):
        pass
    assert value(module, "utxoiq_node_ready") == 1
    assert ["no OTLP export" in line for line in warnings(caplog)] == [True]
    module.shutdown()


@pytest.mark.parametrize("enabled", [True, False])
def test_what_fails_within_a_span_is_not_swallowed(enabled: bool) -> None:
    module = MonitoringModule(enabled=enabled)
    with pytest.raises(KeyError, match="mine"), module.span("stage"):
        raise KeyError("mine")
    module.shutdown()
