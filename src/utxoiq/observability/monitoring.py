"""What the service tells about itself. Nothing in here may stop or slow a block, so nothing in here raises."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from utxoiq.observability.metrics import OUTCOMES, confidence_bucket
from utxoiq.observability.recorder import Recorder, never_raises

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from utxoiq.models import Signal

log = logging.getLogger(__name__)

STAGES = {
    "signal_generation_ms": "signal_generation_duration",
    "signal_persistence_ms": "signal_persistence_duration",
    "total_duration_ms": "total_pipeline_duration",
}
"""Timing of a `PipelineResult` -> histogram."""


class MonitoringModule(Recorder):
    """Metrics for Prometheus, for a collector by OTLP, or for Google Cloud, and traces for the latter two.

    No method raises; a failure is logged, once a kind. Every measurement is also a line at debug level.
    """

    def __init__(
        self,
        project_id: str | None = None,
        enabled: bool = True,
        *,
        otlp_endpoint: str | None = None,
        service_name: str = "utxoiq",
        credentials: Credentials | None = None,
        direct: bool = False,
    ) -> None:
        """`project_id`: of Google Cloud, which is written to unless `otlp_endpoint` names another place, such as
        http://collector:4318. `credentials`: Google's; None looks for the application default ones, and sends
        none to an endpoint of your own. `direct`: metrics go to the project's Cloud Monitoring by its own API, and
        to no other place; traces go where they would."""
        super().__init__(enabled, project_id, otlp_endpoint, service_name, credentials, direct)

    @never_raises
    def emit_pipeline_metrics(
        self,
        correlation_id: str,
        block_height: int | None,
        timing_metrics: Mapping[str, float],
        signals_generated: int,
        success: bool = True,
    ) -> None:
        """One block through the pipeline. `timing_metrics`: of its `PipelineResult`, in ms; a stage may be missing."""
        log.debug("block at height %s measured", block_height, extra={"correlation_id": correlation_id})
        for timing, metric in STAGES.items():
            if timing in timing_metrics:
                self.record(metric, timing_metrics[timing], correlation_id)
        self.record("blocks_processed", 1, correlation_id, outcome=OUTCOMES[bool(success)])
        self.record("signals_generated", signals_generated, correlation_id)

    @never_raises
    def emit_signal_metrics(self, signals: Iterable[Signal], correlation_id: str) -> None:
        """Signals by type and confidence."""
        counts = Counter((signal.signal_type, confidence_bucket(signal.confidence)) for signal in signals)
        for (kind, bucket), count in counts.items():
            self.record("signals", count, correlation_id, signal_type=kind, confidence_bucket=bucket)

    @never_raises
    def emit_insight_metrics(self, category: str, confidence: float, duration_ms: float, correlation_id: str) -> None:
        """One insight made."""
        bucket = confidence_bucket(confidence)
        self.record("insight_duration", duration_ms, correlation_id, category=category)
        self.record("insights", 1, correlation_id, category=category, confidence_bucket=bucket)

    @never_raises
    def emit_entity_metrics(self, entity_name: str, entity_type: str, count: int = 1) -> None:
        """Entities identified. The first 200 names have series of their own, all others are `other`."""
        self.record("entities", count, entity_name=entity_name, entity_type=entity_type)

    @never_raises
    def emit_error_metric(self, error_type: str, service_name: str, processor: str | None = None) -> None:
        """One error, of which class, where, and in which processor if in one."""
        self.record("errors", 1, error_type=error_type, service_name=service_name, processor=processor)

    @never_raises
    def emit_ai_provider_metrics(self, provider: str, latency_ms: float, success: bool) -> None:
        """One request to an AI provider."""
        self.record("ai_latency", latency_ms, provider=provider)
        self.record("ai_requests", 1, provider=provider, outcome=OUTCOMES[bool(success)])

    @never_raises
    def emit_backfill_metrics(
        self, blocks_processed: int, signals_generated: int, estimated_completion: datetime | None
    ) -> None:
        """Where the running backfill stands: both counts since its start, and when it should end, None if unknown."""
        end = None if estimated_completion is None else estimated_completion.timestamp()
        self.record("backfill_blocks", blocks_processed)
        self.record("backfill_signals", signals_generated)
        self.record("backfill_completion_timestamp", end)

    @never_raises
    def emit_live_metrics(self, store_height: int | None, source_height: int | None) -> None:
        """How far the store is and how far its source; None is unknown."""
        self.record("store_height", store_height)
        self.record("source_height", source_height)

    @never_raises
    def emit_balances(self, ledger_height: int | None, seconds: float | None) -> None:
        """How far the balance ledger is and what a step took it, in seconds; None where balances are unknown."""
        self.record("balances_known", int(seconds is not None))
        self.record("balances_height", ledger_height)
        if seconds is not None:
            self.record("balances_duration", seconds * 1000)

    @never_raises
    def emit_block_latency(self, seconds_from_detection: float, source: str) -> None:
        """From a block's detection by `source` to its commit, in seconds."""
        self.record("block_latency", seconds_from_detection * 1000, source=source)

    @never_raises
    def emit_reorg_metric(self, depth: int) -> None:
        """One reorganisation that took `depth` blocks off."""
        self.record("reorg_depth", depth)
        self.record("reorgs", 1)

    @never_raises
    def emit_warehouse_metrics(self, rows_waiting: int, lag_seconds: float, rows_sent: int) -> None:
        """How far the warehouse is behind, and the rows sent since the last call."""
        self.record("outbox_rows", rows_waiting)
        self.record("outbox_lag", lag_seconds)
        self.record("warehouse_rows", rows_sent)

    @never_raises
    def emit_stale_signals(self, count: int) -> None:
        """Signals that have waited for more than an hour."""
        self.record("stale_signals", count)

    @never_raises
    def emit_config_reload(self, success: bool) -> None:
        """One reload of the configuration, or one refused."""
        self.record("config_reloads", 1, outcome=OUTCOMES[bool(success)])

    @never_raises
    def emit_zmq_metric(self, messages_lost: int = 0, restarts: int = 0) -> None:
        """Notifications lost, and restarts of their sequence, since the last call."""
        self.record("zmq_messages_lost", messages_lost)
        self.record("zmq_restarts", restarts)

    @never_raises
    def emit_mempool_metrics(
        self, transactions: int, vsize: int, min_feerate_kvb: int, next_block_feerate_kvb: int | None
    ) -> None:
        """The mempool: vsize in vB, feerates in sat/kvB."""
        self.record("mempool_transactions", transactions)
        self.record("mempool_vsize", vsize)
        self.record("mempool_min_feerate_kvb", min_feerate_kvb)
        self.record("mempool_next_block_feerate_kvb", next_block_feerate_kvb)

    @never_raises
    def emit_node_state(self, ready: bool) -> None:
        """Whether the node answers and is synchronised."""
        self.record("node_ready", int(ready))
