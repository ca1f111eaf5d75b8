"""Every emit there is, called as the service calls it, and what Prometheus then reads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from utxoiq.models import Signal, SignalType
from utxoiq.observability import MonitoringModule

CORRELATION_ID = "c0ffee00c0ffee00c0ffee00c0ffee00"
HEIGHT = 881_423
BLOCK_HASH = "00000000000000000001" + 44 * "a"


def signal(signal_type: SignalType = "whale", confidence: float = 0.9) -> Signal:
    """A signal of no block that ever was."""
    return Signal.derive(
        signal_type=signal_type, kind="large_transfer", subject="chain", block_height=HEIGHT, block_hash=BLOCK_HASH,
        confidence=confidence, confidence_basis={}, metadata={}, evidence={}, created_at=1_700_000_000,
        model_version="1", inputs={"digest": "d"},
    )  # fmt: skip


EMITS: dict[str, tuple[Any, ...]] = {
    "emit_pipeline_metrics": (
        CORRELATION_ID,
        HEIGHT,
        {"signal_generation_ms": 30.0, "signal_persistence_ms": 4.0, "total_duration_ms": 41.0},
        3,
    ),
    "emit_signal_metrics": ([signal(), signal("miner", 0.75), signal("miner", 0.7)], CORRELATION_ID),
    "emit_insight_metrics": ("whale", 0.9, 12.0, CORRELATION_ID),
    "emit_entity_metrics": ("Binance", "exchange", 2),
    "emit_error_metric": ("ProcessorHung", "pipeline", "whale"),
    "emit_ai_provider_metrics": ("openai", 900.0, True),
    "emit_backfill_metrics": (1000, 40, datetime(2026, 1, 1, tzinfo=UTC)),
    "emit_live_metrics": (HEIGHT, HEIGHT + 1),
    "emit_block_latency": (1.5, "zmq"),
    "emit_reorg_metric": (2,),
    "emit_stale_signals": (7,),
    "emit_warehouse_metrics": (12, 3.5, 40),
    "emit_config_reload": (False,),
    "emit_zmq_metric": (5, 1),
    "emit_mempool_metrics": (60_000, 40_000_000, 1_000, 2_500),
    "emit_node_state": (True,),
    "emit_balances": (HEIGHT, 0.03),
}


def emit_all(monitoring: MonitoringModule) -> None:
    """Each once."""
    for name, arguments in EMITS.items():
        getattr(monitoring, name)(*arguments)


@dataclass
class Exposed:
    """A name in the exposition: the kind of its family, and the value of each combination of labels."""

    kind: str
    series: dict[tuple[tuple[str, str], ...], float]

    @property
    def labels(self) -> set[str]:
        return {name for series in self.series for name, _ in series}


def exposed(monitoring: MonitoringModule) -> dict[str, Exposed]:
    """What a scrape gives, by sample name. A series that is there twice fails."""
    found: dict[str, Exposed] = {}
    for family in text_string_to_metric_families(monitoring.metrics_text()[0].decode()):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            series = found.setdefault(sample.name, Exposed(family.type, {})).series
            assert labels not in series, f"{sample.name}{labels} twice"
            series[labels] = sample.value
    return found


def value(monitoring: MonitoringModule, name: str, **labels: str) -> float | None:
    """One series, None where there is none."""
    there = exposed(monitoring).get(name)
    return there.series.get(tuple(sorted(labels.items()))) if there else None
