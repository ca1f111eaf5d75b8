"""Metrics, traces, and logs that carry correlation ids. Importing this loads neither OpenTelemetry nor structlog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from utxoiq.observability.correlation import bind_correlation_id, current_correlation_id
from utxoiq.observability.metrics import METRICS, Metric, confidence_bucket
from utxoiq.observability.monitoring import MonitoringModule

if TYPE_CHECKING:
    from utxoiq.observability.logs import configure_logging

__all__ = [
    "METRICS",
    "Metric",
    "MonitoringModule",
    "bind_correlation_id",
    "confidence_bucket",
    "configure_logging",
    "current_correlation_id",
]


def __getattr__(name: str) -> Any:
    if name == "configure_logging":
        from utxoiq.observability.logs import configure_logging  # noqa: PLC0415 structlog takes 100 ms

        return configure_logging
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
