"""What Prometheus reads after each emit."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

import pytest
from opentelemetry import metrics as global_metrics
from opentelemetry import trace as global_trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import REGISTRY

from observability.emitting import BLOCK_HASH, CORRELATION_ID, EMITS, HEIGHT, emit_all, exposed, value
from utxoiq.observability import METRICS, MonitoringModule, confidence_bucket, telemetry
from utxoiq.observability.metrics import KNOWN_VALUES

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from utxoiq.observability import Metric

MS = "_duration_milliseconds"


def test_every_emit_is_called_by_these_tests() -> None:
    assert set(EMITS) == {name for name in dir(MonitoringModule) if name.startswith("emit_")}


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda m: m.name)
def test_the_table_is_what_is_exposed(monitoring: MonitoringModule, metric: Metric) -> None:
    """Name, kind and labels of each."""
    emit_all(monitoring)
    found = exposed(monitoring)[metric.prometheus + ("_count" if metric.kind == "histogram" else "")]
    assert found.kind == metric.kind
    assert found.labels == set(metric.labels)


def test_nothing_is_exposed_that_is_not_in_the_table(monitoring: MonitoringModule) -> None:
    emit_all(monitoring)
    series = {"counter": [""], "gauge": [""], "histogram": ["_bucket", "_count", "_sum"]}
    names = {m.prometheus + suffix for m in METRICS.values() for suffix in series[m.kind]}
    assert {name for name in exposed(monitoring) if name.startswith("utxoiq")} == names


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("utxoiq_blocks_processed_total", {"outcome": "success"}, 1),
        ("utxoiq_signals_generated_total", {}, 3),
        (f"utxoiq_signal_generation{MS}_sum", {}, 30),
        (f"utxoiq_signal_persistence{MS}_sum", {}, 4),
        (f"utxoiq_total_pipeline{MS}_sum", {}, 41),
        ("utxoiq_signals_total", {"signal_type": "whale", "confidence_bucket": "high"}, 1),
        ("utxoiq_signals_total", {"signal_type": "miner", "confidence_bucket": "medium"}, 2),
        ("utxoiq_insights_total", {"category": "whale", "confidence_bucket": "high"}, 1),
        (f"utxoiq_insight{MS}_sum", {"category": "whale"}, 12),
        ("utxoiq_entities_total", {"entity_name": "Binance", "entity_type": "exchange"}, 2),
        (
            "utxoiq_errors_total",
            {"error_type": "ProcessorHung", "service_name": "pipeline", "processor": "whale"},
            1,
        ),
        ("utxoiq_ai_requests_total", {"provider": "openai", "outcome": "success"}, 1),
        ("utxoiq_ai_latency_milliseconds_sum", {"provider": "openai"}, 900),
        ("utxoiq_backfill_blocks", {}, 1000),
        ("utxoiq_backfill_signals", {}, 40),
        ("utxoiq_backfill_completion_timestamp_seconds", {}, 1_767_225_600),
        ("utxoiq_store_height", {}, HEIGHT),
        ("utxoiq_source_height", {}, HEIGHT + 1),
        ("utxoiq_block_latency_milliseconds_sum", {"source": "zmq"}, 1500),
        ("utxoiq_reorgs_total", {}, 1),
        ("utxoiq_reorg_depth_sum", {}, 2),
        ("utxoiq_stale_signals", {}, 7),
        ("utxoiq_config_reloads_total", {"outcome": "failure"}, 1),
        ("utxoiq_zmq_messages_lost_total", {}, 5),
        ("utxoiq_zmq_restarts_total", {}, 1),
        ("utxoiq_mempool_transactions", {}, 60_000),
        ("utxoiq_mempool_vsize", {}, 40_000_000),
        ("utxoiq_mempool_min_feerate_kvb", {}, 1_000),
        ("utxoiq_mempool_next_block_feerate_kvb", {}, 2_500),
        ("utxoiq_node_ready", {}, 1),
        ("utxoiq_balances_known", {}, 1),
        ("utxoiq_balances_height", {}, HEIGHT),
        (f"utxoiq_balances{MS}_sum", {}, 30),
    ],
)
def test_each_emit_says_what_it_was_told(
    monitoring: MonitoringModule, name: str, labels: dict[str, str], expected: float
) -> None:
    emit_all(monitoring)
    assert value(monitoring, name, **labels) == expected


def test_failures_have_an_outcome_of_their_own(monitoring: MonitoringModule) -> None:
    monitoring.emit_pipeline_metrics(CORRELATION_ID, None, {"total_duration_ms": 3.0}, 0, success=False)
    monitoring.emit_ai_provider_metrics("grok", 10, False)
    assert value(monitoring, "utxoiq_blocks_processed_total", outcome="failure") == 1
    assert value(monitoring, "utxoiq_blocks_processed_total", outcome="success") == 0
    assert value(monitoring, "utxoiq_ai_requests_total", provider="grok", outcome="failure") == 1
    assert value(monitoring, f"utxoiq_signal_persistence{MS}_count") is None, (
        "a stage that was not reached took no time"
    )


@pytest.mark.parametrize(
    ("confidence", "bucket"),
    [(1.0, "high"), (0.85, "high"), (0.8499, "medium"), (0.7, "medium"), (0.6999, "low"), (0.0, "low")],
)
def test_confidence_buckets(confidence: float, bucket: str) -> None:
    assert confidence_bucket(confidence) == bucket
    assert bucket in KNOWN_VALUES["confidence_bucket"]


@pytest.mark.parametrize("metric", [m for m in METRICS.values() if m.kind == "histogram"], ids=lambda m: m.name)
def test_buckets_are_those_of_the_table(monitoring: MonitoringModule, metric: Metric) -> None:
    emit_all(monitoring)
    bounds = {dict(labels)["le"] for labels in exposed(monitoring)[f"{metric.prometheus}_bucket"].series}
    assert bounds == {*map(str, metric.buckets), "+Inf"}


def test_what_is_unknown_is_not_exposed_as_a_number(monitoring: MonitoringModule) -> None:
    """A height that was known and is not any more goes away; 0 is a number."""
    monitoring.emit_live_metrics(0, 7)
    monitoring.emit_mempool_metrics(0, 0, 0, None)
    assert value(monitoring, "utxoiq_store_height") == 0
    assert value(monitoring, "utxoiq_mempool_next_block_feerate_kvb") is None
    monitoring.emit_live_metrics(None, 8)
    assert value(monitoring, "utxoiq_store_height") is None
    assert value(monitoring, "utxoiq_source_height") == 8


def test_balances_that_are_unknown(monitoring: MonitoringModule) -> None:
    """Are told as 0, without a height and without a time they took; without a ledger nothing is told."""
    assert value(monitoring, "utxoiq_balances_known") is None
    monitoring.emit_balances(HEIGHT, 0.03)
    monitoring.emit_balances(None, None)
    assert value(monitoring, "utxoiq_balances_known") == 0
    assert value(monitoring, "utxoiq_balances_height") is None
    assert value(monitoring, f"utxoiq_balances{MS}_count") == 1


def test_known_counters_start_at_zero(monitoring: MonitoringModule) -> None:
    """So that the first signal of a type is an increase, which Prometheus does not see in a series that is new."""
    assert value(monitoring, "utxoiq_config_reloads_total", outcome="failure") == 0
    assert value(monitoring, "utxoiq_signals_total", signal_type="treasury", confidence_bucket="low") == 0
    assert value(monitoring, "utxoiq_reorgs_total") == 0


@pytest.mark.parametrize("label", ["entity_name", "error_type", "processor"])
def test_series_are_bounded_and_nothing_is_lost(monitoring: MonitoringModule, label: str) -> None:
    """200 values, then `other`."""
    for n in range(250):
        if label == "entity_name":
            monitoring.emit_entity_metrics(f"entity {n}", "exchange")
        elif label == "error_type":
            monitoring.emit_error_metric(f"Error{n}", "pipeline")
        else:
            monitoring.emit_error_metric("Error", "pipeline", f"processor {n}")
    name = "utxoiq_entities_total" if label == "entity_name" else "utxoiq_errors_total"
    series = exposed(monitoring)[name].series
    assert len(series) == 201
    assert sum(series.values()) == 250
    assert [total for labels, total in series.items() if dict(labels)[label] == "other"] == [50]


def test_the_first_200_keep_their_names(monitoring: MonitoringModule) -> None:
    for n in [*range(250), 3]:
        monitoring.emit_entity_metrics(f"entity {n}", "exchange")
    assert value(monitoring, "utxoiq_entities_total", entity_name="entity 3", entity_type="exchange") == 2


@pytest.mark.parametrize("name", ['a"} 1\nutxoiq_forged 1', "\ud800", "\x1b[31m\u202e", "x" * 10_000, "", "\\"])
def test_hostile_names_can_break_no_line(monitoring: MonitoringModule, name: str) -> None:
    """Neither a forged sample, nor a character that can't be sent, nor a label without end."""
    monitoring.emit_entity_metrics(name, "exchange")
    text = monitoring.metrics_text()[0].decode()
    assert all(line.isprintable() and len(line) < 300 for line in text.splitlines())
    found = exposed(monitoring)
    assert "utxoiq_forged" not in found
    assert sum(found["utxoiq_entities_total"].series.values()) == 1


def test_no_series_of_a_single_piece_of_work(monitoring: MonitoringModule) -> None:
    """Correlation ids, heights, txids and hashes would make a series each."""
    emit_all(monitoring)
    text = monitoring.metrics_text()[0].decode()
    labels = {label for metric in METRICS.values() for label in metric.labels}
    assert CORRELATION_ID not in text
    assert BLOCK_HASH not in text
    assert f'"{HEIGHT}"' not in text
    assert labels == {
        "outcome", "source", "signal_type", "confidence_bucket", "category", "entity_name", "entity_type",
        "error_type", "service_name", "processor", "provider",
    }  # fmt: skip


def test_content_type(monitoring: MonitoringModule) -> None:
    assert monitoring.metrics_text()[1].startswith("text/plain; version=")


def test_scrapes_at_once_wait_for_each_other(monitoring: MonitoringModule, monkeypatch: pytest.MonkeyPatch) -> None:
    """Now and then, one of two collections at once would give every series three times, and the other none."""
    collect, inside, together = telemetry.generate_latest, set(), []

    def watched(registry: CollectorRegistry) -> bytes:
        inside.add(threading.get_ident())
        time.sleep(0.01)
        together.append(len(inside))
        inside.discard(threading.get_ident())
        return collect(registry)

    monkeypatch.setattr(telemetry, "generate_latest", watched)
    threads = [threading.Thread(target=monitoring.metrics_text) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == [1, 1, 1, 1]


def test_modules_are_apart_from_each_other_and_from_the_globals(monitoring: MonitoringModule) -> None:
    other = MonitoringModule()
    monitoring.emit_reorg_metric(1)
    assert value(other, "utxoiq_reorgs_total") == 0
    other.shutdown()
    assert value(monitoring, "utxoiq_reorgs_total") == 1
    assert not any(family.name.startswith("utxoiq") for family in REGISTRY.collect())
    assert not isinstance(global_metrics.get_meter_provider(), MeterProvider)
    assert not isinstance(global_trace.get_tracer_provider(), TracerProvider)


def test_after_shutdown_all_is_silent(monitoring: MonitoringModule, caplog: pytest.LogCaptureFixture) -> None:
    monitoring.shutdown()
    monitoring.shutdown()
    assert caplog.records == []
    emit_all(monitoring)
    with monitoring.span("block"):
        pass
    assert monitoring.metrics_text()[0] == b""


@pytest.mark.parametrize("enabled", [True, False])
def test_measurements_are_logged_with_their_correlation_id(caplog: pytest.LogCaptureFixture, enabled: bool) -> None:
    module = MonitoringModule(enabled=enabled)
    with caplog.at_level(logging.DEBUG, "utxoiq"):
        module.emit_pipeline_metrics(CORRELATION_ID, HEIGHT, {"total_duration_ms": 41.25}, 3)
    module.shutdown()
    (line,) = [r for r in caplog.records if "41.25" in r.getMessage()]
    assert "total_pipeline_duration" in line.getMessage()
    assert line.correlation_id == CORRELATION_ID  # type: ignore[attr-defined]
    assert str(HEIGHT) in caplog.text


def test_disabled_exposes_nothing() -> None:
    module = MonitoringModule(enabled=False)
    emit_all(module)
    assert module.metrics_text()[0] == b""
    module.shutdown()
