"""Mempool signals: what the transactions inside blocks, and live the node's mempool, say of the demand for block space.

Formulas, limits and when such a signal is right: docs/signals/mempool.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from utxoiq.models import BLOCK_WEIGHT
from utxoiq.processors.base import ProcessingContext, Seen, SignalProcessor
from utxoiq.processors.metadata import Field, having
from utxoiq.processors.statistics import median, rank_confidence, tail
from utxoiq.units import COIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from utxoiq.history import Past
    from utxoiq.models import BlockData, BlockFacts, MempoolSnapshot, Signal, SignalType

MIDDLE = 2
"""Index of the median among the percentiles."""
AN_HOUR, NEXT_TWO = 6, 2
"""Blocks."""
FEERATE = ("basis", "feerate_kvb", "usual_feerate_kvb", "ratio", "window_blocks")
BACKLOG = ("basis", "backlog_blocks", "usual_backlog_blocks", "waiting_transactions", "seen_at", "window_blocks")


class MempoolProcessor(SignalProcessor):
    """Fee spikes and drops, sudden changes of the transaction count, absurd single fees, from blocks alone; congestion,
    emptying and purging where the node's mempool was seen before the block."""

    signal_type: ClassVar[SignalType] = "mempool"
    model_version = "mempool-3"
    reads = ("txs", "totalfee", "package_feerate_percentiles_kvb", "top_fee")
    kinds: ClassVar[Mapping[str, Mapping[str, Field]]] = {
        **dict.fromkeys(("fee_spike", "fee_drop"), having(*FEERATE)),
        "tx_count_record": having("basis", "transactions", "window_blocks", "most_before", "usual_transactions"),
        "payments_resume": having("basis", "transactions", "window_blocks"),
        "fee_overpaid": having(
            "basis", "fee", "feerate_kvb", "usual_feerate_kvb", "ratio", "share_of_fees", "transactions"
        ),
        **dict.fromkeys(("congestion", "mempool_emptied"), having(*BACKLOG)),
        "purging": having("basis", "minfee_kvb", "relayfee_kvb", "waiting_transactions", "seen_at", "window_blocks"),
    }
    window_blocks = 144
    defaults: ClassVar[Mapping[str, float]] = {
        "minimum_history": 72,
        "spike_ratio": 3.0,
        "spike_rank": 0.97,
        "quiet_blocks": 12,
        "count_ratio": 2.0,
        "overpaid_btc": 0.5,
        "overpaid_ratio": 20.0,
        "overpaid_share": 0.5,
        "overpaid_minimum_txs": 10,
        "congested_blocks": 24,
        "congestion_ratio": 2.0,
        "emptied_from_blocks": 3,
    }

    settles_after: ClassVar[Mapping[str, int]] = {
        "fee_spike": AN_HOUR, "fee_drop": AN_HOUR, "congestion": AN_HOUR, "mempool_emptied": NEXT_TWO,
    }  # fmt: skip

    def resolve(self, signal: Signal, after: Sequence[Past]) -> bool | None:
        """By what the next six blocks pay, or by the mempools that later blocks were mined from."""
        told, last = signal.metadata, self.settles_after.get(signal.kind, 0)
        if not last or len(after) < last:
            return None
        if signal.kind == "mempool_emptied":
            return _has_room([backlog_weight(row) for row in after[:last]])
        if signal.kind == "congestion":
            waiting = backlog_weight(after[last - 1])
            return None if waiting is None else bool(2 * waiting > told["backlog_blocks"] * BLOCK_WEIGHT)
        rates = [rate for rate in map(feerate_of, after[:last]) if rate is not None]
        if not rates:
            return None
        then, usual = median(rates), told["usual_feerate_kvb"]
        return bool(then > 2 * usual if signal.kind == "fee_spike" else 2 * then < usual)

    async def process_block(self, block: BlockData, context: ProcessingContext) -> list[Signal]:
        """The signals of this block."""
        found = [*self._feerate(context), *self._count(context), *self._overpaid(context)]
        if block.mempool is not None:
            found += self._backlog(block.mempool, context) + self._purging(block.mempool, context)
        return found

    def _backlog(self, now: MempoolSnapshot, context: ProcessingContext) -> list[Signal]:
        """The backlog in full blocks: at its first crossing of a border in a while."""
        weights = self.window(context).series(backlog_weight)
        past = [weight for weight in weights if weight is not None]
        if now.backlog_weight is None or len(past) < self.minimum_history:
            return []
        blocks, usual = now.backlog_weight / BLOCK_WEIGHT, median(past)
        full = max(self.thresholds["congested_blocks"] * BLOCK_WEIGHT, self.thresholds["congestion_ratio"] * usual)
        recent = [weight for weight in tail(weights, self.thresholds["quiet_blocks"]) if weight is not None]
        metadata = {
            "basis": "this node's mempool before the block",
            "backlog_blocks": round(blocks, 1),
            "usual_backlog_blocks": round(usual / BLOCK_WEIGHT, 1),
            "waiting_transactions": now.transactions,
            "seen_at": now.taken_at,
            "window_blocks": len(past),
        }
        if now.backlog_weight >= full and all(weight < full for weight in recent):
            confidence, basis = rank_confidence(sum(weight < now.backlog_weight for weight in past), len(past))
            return self.signal(context, "congestion", "chain", confidence, basis, metadata, mempools=Seen(now))
        emptied = now.backlog_weight < BLOCK_WEIGHT and all(weight >= BLOCK_WEIGHT for weight in recent)
        if emptied and usual >= self.thresholds["emptied_from_blocks"] * BLOCK_WEIGHT:
            confidence, basis = rank_confidence(sum(weight > now.backlog_weight for weight in past), len(past))
            return self.signal(context, "mempool_emptied", "chain", confidence, basis, metadata, mempools=Seen(now))
        return []

    def _purging(self, now: MempoolSnapshot, context: ProcessingContext) -> list[Signal]:
        """The node throws out what pays least, and none of the window's mempools did."""
        past = [row.mempool for row in self.window(context).rows if row.mempool is not None]
        quiet = tail(past, self.thresholds["quiet_blocks"])
        if now.minfee_kvb <= now.relayfee_kvb or len(past) < self.minimum_history:
            return []
        if any(seen.minfee_kvb > seen.relayfee_kvb for seen in quiet):
            return []
        metadata = {
            "basis": "this node's mempool before the block",
            "minfee_kvb": now.minfee_kvb,
            "relayfee_kvb": now.relayfee_kvb,
            "waiting_transactions": now.transactions,
            "seen_at": now.taken_at,
            "window_blocks": len(past),
        }
        confidence, basis = rank_confidence(sum(seen.minfee_kvb < now.minfee_kvb for seen in past), len(past))
        return self.signal(context, "purging", "chain", confidence, basis, metadata, mempools=Seen(now))

    def _feerate(self, context: ProcessingContext) -> list[Signal]:
        past, now = self.window(context).series(feerate_of), feerate(context.facts)
        rates = [rate for rate in past if rate is not None]
        if now is None or len(rates) < self.minimum_history:
            return []
        usual, up = median(rates), now > median(rates)
        confidence, basis = rank_confidence(sum(rate < now if up else rate > now for rate in rates), len(rates))
        if self._direction(now, usual) == 0 or confidence < self.thresholds["spike_rank"]:
            return []
        quiet = tail(past, self.thresholds["quiet_blocks"])
        if any(self._direction(rate or 0, usual) == self._direction(now, usual) for rate in quiet):
            return []  # the same excursion goes on
        metadata = {
            "basis": "in-block feerates",
            "feerate_kvb": now,
            "usual_feerate_kvb": int(usual),
            "ratio": round(now / usual, 2),
            "window_blocks": len(rates),
        }
        kind = "fee_spike" if up else "fee_drop"
        return self.signal(context, kind, "chain", confidence, basis, metadata)

    def _direction(self, rate: float, usual: float) -> int:
        ratio = self.thresholds["spike_ratio"]
        return (rate >= usual * ratio > 0) - (0 < rate * ratio <= usual)

    def _count(self, context: ProcessingContext) -> list[Signal]:
        counts, now = self.window(context).series(payments_of), _payments(context.facts)
        if len(counts) < self.minimum_history:
            return []
        if now == 0 or now < self.thresholds["count_ratio"] * max(counts):
            return []
        confidence, basis = rank_confidence(len(counts), len(counts))
        metadata = {"basis": "in-block transaction count", "transactions": now, "window_blocks": len(counts)}
        if max(counts) == 0:
            return self.signal(context, "payments_resume", "chain", confidence, basis, metadata)
        metadata |= {"most_before": max(counts), "usual_transactions": int(median(counts))}
        return self.signal(context, "tx_count_record", "chain", confidence, basis, metadata)

    def _overpaid(self, context: ProcessingContext) -> list[Signal]:
        facts, top = context.facts, context.facts.top_fee
        usual = feerate(facts)
        if top is None or not facts.totalfee or not usual or facts.txs <= self.thresholds["overpaid_minimum_txs"]:
            return []
        share = top["fee"] / facts.totalfee
        if (
            top["fee"] < self.thresholds["overpaid_btc"] * COIN
            or top["feerate_kvb"] < self.thresholds["overpaid_ratio"] * usual
            or share < self.thresholds["overpaid_share"]
        ):
            return []
        others = _payments(facts) - 1
        confidence, basis = rank_confidence(others, others)
        metadata = {
            "basis": "fees inside this block",
            "fee": top["fee"],
            "feerate_kvb": top["feerate_kvb"],
            "usual_feerate_kvb": usual,
            "ratio": round(top["feerate_kvb"] / usual, 1),
            "share_of_fees": round(share, 4),
            "transactions": _payments(facts),
        }
        basis["basis"] = "the share of the block's other transactions with a smaller fee"
        return self.signal(context, "fee_overpaid", top["txid"], confidence, basis, metadata, [top["txid"]])


def _payments(facts: BlockFacts) -> int:
    """Transactions beside the coinbase."""
    return facts.txs - 1


def _has_room(weights: Sequence[int | None]) -> bool | None:
    """Whether one of the blocks takes all that waits before it; None where that is not seen."""
    if any(weight is not None and weight < BLOCK_WEIGHT for weight in weights):
        return True
    return None if None in weights else False


def payments_of(row: Past) -> int:
    return _payments(row.facts)


def feerate(facts: BlockFacts) -> int | None:
    """The median package feerate in sat/kvB, None where unknown or where there was nothing to measure."""
    percentiles: Sequence[int] | None = facts.package_feerate_percentiles_kvb
    return None if percentiles is None or facts.txs < MIDDLE else percentiles[MIDDLE]


def feerate_of(row: Past) -> int | None:
    return feerate(row.facts)


def backlog_weight(row: Past) -> int | None:
    return row.mempool.backlog_weight if row.mempool else None
