"""Every metric there is: the one table that instruments, dashboard, alerts, docs and tests are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from utxoiq.models import SignalType

HIGH_CONFIDENCE = 0.85
MEDIUM_CONFIDENCE = 0.7

OUTCOMES = {True: "success", False: "failure"}

KNOWN_VALUES: dict[str, tuple[str, ...]] = {
    "outcome": tuple(OUTCOMES.values()),
    "confidence_bucket": ("high", "medium", "low"),
    "signal_type": get_args(SignalType),
    "category": get_args(SignalType),
}
"""Labels whose values are known beforehand: a counter with no others is exposed at 0 from the start, so that
Prometheus sees its first increase as one."""

_STAGE_MS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000)
_CALL_MS = (10, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 120_000)
_LATENCY_MS = (50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000, 1_800_000)
_DEPTHS = (1, 2, 3, 4, 5, 6, 10, 20, 50, 100)

_PROMETHEUS_UNITS = {"ms": "_milliseconds", "s": "_seconds"}


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, its name without the `utxoiq` that every name starts with."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    """In UCUM; `{...}` is what is counted."""
    description: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram, in its unit."""

    @property
    def opentelemetry(self) -> str:
        """The name of its instrument."""
        return f"utxoiq.{self.name}"

    @property
    def prometheus(self) -> str:
        """The name Prometheus sees; a histogram's series add `_bucket`, `_sum` and `_count`."""
        total = "_total" if self.kind == "counter" else ""
        return f"utxoiq_{self.name}{_PROMETHEUS_UNITS.get(self.unit, '')}{total}"


def _counter(name: str, unit: str, description: str, *labels: str) -> Metric:
    return Metric(name, "counter", unit, description, labels)


def _gauge(name: str, unit: str, description: str) -> Metric:
    return Metric(name, "gauge", unit, description)


def _histogram(name: str, unit: str, buckets: tuple[float, ...], description: str, *labels: str) -> Metric:
    return Metric(name, "histogram", unit, description, labels, tuple(map(float, buckets)))


METRICS = {
    metric.name: metric
    for metric in (
        _counter("blocks_processed", "{block}", "Blocks given to the pipeline", "outcome"),
        _histogram("signal_generation_duration", "ms", _STAGE_MS, "Facts and signals of a block"),
        _histogram("signal_persistence_duration", "ms", _STAGE_MS, "The commit of a block"),
        _histogram("total_pipeline_duration", "ms", _STAGE_MS, "A block from bytes to commit"),
        _histogram("block_latency", "ms", _LATENCY_MS, "From a block's detection to its commit", "source"),
        _counter("signals_generated", "{signal}", "Signals of all blocks"),
        _counter("signals", "{signal}", "Signals by type and confidence", "signal_type", "confidence_bucket"),
        _counter("insights", "{insight}", "Insights by category and confidence", "category", "confidence_bucket"),
        _histogram("insight_duration", "ms", _CALL_MS, "The making of an insight", "category"),
        _counter("entities", "{match}", "Entities identified", "entity_name", "entity_type"),
        _counter("errors", "{error}", "Errors by type and place", "error_type", "service_name", "processor"),
        _counter("ai_requests", "{request}", "Requests to AI providers", "provider", "outcome"),
        _histogram("ai_latency", "ms", _CALL_MS, "Answer times of AI providers", "provider"),
        _gauge("backfill_blocks", "{block}", "Blocks done by the running backfill"),
        _gauge("backfill_signals", "{signal}", "Signals found by the running backfill"),
        _gauge("backfill_completion_timestamp", "s", "When the running backfill should end, Unix time"),
        _gauge("balances_known", "", "1 where the balance ledger stands at the store's tip, else 0"),
        _gauge("balances_height", "{block}", "Height the balance ledger has reached"),
        _histogram("balances_duration", "ms", _STAGE_MS, "The balance ledger's share of a block"),
        _gauge("store_height", "{block}", "Height the store has reached"),
        _gauge("source_height", "{block}", "Height of the source's tip"),
        _gauge("node_ready", "", "1 where the node answers and is synchronised, else 0"),
        _counter("reorgs", "{reorg}", "Reorganisations followed"),
        _histogram("reorg_depth", "{block}", _DEPTHS, "Blocks taken off by a reorganisation"),
        _gauge("outbox_rows", "{row}", "Rows that wait for the warehouse"),
        _gauge("outbox_lag", "s", "Age of the oldest row that waits for the warehouse"),
        _counter("warehouse_rows", "{row}", "Rows shipped to the warehouse"),
        _gauge("stale_signals", "{signal}", "Signals unprocessed for more than an hour"),
        _counter("config_reloads", "{reload}", "Configuration reloads", "outcome"),
        _counter("zmq_messages_lost", "{message}", "Notifications the node sent and we did not get"),
        _counter("zmq_restarts", "{restart}", "Restarts of the notification sequence"),
        _gauge("mempool_transactions", "{transaction}", "Transactions in the mempool"),
        _gauge("mempool_vsize", "{vB}", "Virtual size of the mempool"),
        _gauge("mempool_min_feerate_kvb", "{sat}/{kvB}", "The least feerate the mempool takes, sat/kvB"),
        _gauge("mempool_next_block_feerate_kvb", "{sat}/{kvB}", "Feerate to be in the next block, sat/kvB"),
    )
}


def confidence_bucket(confidence: float) -> Literal["high", "medium", "low"]:
    """high from 0.85, medium from 0.7, else low."""
    if confidence >= HIGH_CONFIDENCE:
        return "high"
    return "medium" if confidence >= MEDIUM_CONFIDENCE else "low"
