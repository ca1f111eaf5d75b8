"""Miner signals: who found the block, and what is unusual about it.

Formulas, limits and when such a signal is right: docs/signals/miner.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from utxoiq.processors.base import ProcessingContext, SignalProcessor
from utxoiq.processors.statistics import fisher_p, rank_confidence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from utxoiq.models import BlockData, BlockFacts, Signal, SignalType

RULE: dict[str, Any] = {"basis": "a consensus rule, read off the block", "cases": 1, "calibrated": True}
MOST_CERTAIN = 0.999999
"""A test by chance leaves a chance, however small."""


class MinerProcessor(SignalProcessor):
    """Pool share shifts, empty blocks, rewards left unclaimed, halvings."""

    signal_type: ClassVar[SignalType] = "miner"
    model_version = "miner-1"
    reads = ("txs", "pool", "pool_name", "pool_by", "subsidy", "coinbase_unclaimed", "coinbase_value")
    window_blocks = 1008
    defaults: ClassVar[Mapping[str, float]] = {
        "minimum_history": 144,
        "recent_blocks": 144,
        "share_p": 0.001,
        "share_change": 0.05,
        "quiet_blocks": 72,
        "empty_share": 0.03,
        "unclaimed_sat": 1,
    }

    async def process_block(self, block: BlockData, context: ProcessingContext) -> list[Signal]:
        """The signals of this block."""
        return [
            *self._halving(block, context),
            *self._unclaimed(context),
            *self._empty(context),
            *self._share_shift(context),
        ]

    def _halving(self, block: BlockData, context: ProcessingContext) -> list[Signal]:
        height, subsidy = context.facts.height, context.facts.subsidy
        if not height or height % block.network.halving_interval or subsidy is None:
            return []
        before = block.network.subsidy(height - 1)
        if before == 0:
            return []
        metadata = {"subsidy": subsidy, "subsidy_before": before}
        return self.signal(context, "halving", "chain", 1.0, RULE, metadata)

    def _unclaimed(self, context: ProcessingContext) -> list[Signal]:
        left = context.facts.coinbase_unclaimed
        if left is None or left < self.thresholds["unclaimed_sat"] or context.facts.height == 0:
            return []
        facts = context.facts
        metadata = {
            "unclaimed": left,
            "claimed": facts.coinbase_value,
            "entitled": facts.coinbase_value + left,
            **_pool(facts),
        }
        return self.signal(context, "reward_unclaimed", facts.pool or "unknown", 1.0, RULE, metadata)

    def _empty(self, context: ProcessingContext) -> list[Signal]:
        """A block without payments where nearly all have some; in the years when most were empty it says nothing."""
        past, facts = self.window(context), context.facts
        if facts.txs > 1 or len(past) < self.minimum_history:
            return []
        empty = sum(earlier.txs == 1 for earlier in past)
        if empty > self.thresholds["empty_share"] * len(past):
            return []
        confidence, basis = rank_confidence(len(past) - empty, len(past))
        metadata = {
            "empty_before": empty,
            "window_blocks": len(past),
            "seconds_after_parent": facts.time - past[-1].time,
            **_pool(facts),
        }
        return self.signal(context, "empty_block", facts.pool or "unknown", confidence, basis, metadata)

    def _share_shift(self, context: ProcessingContext) -> list[Signal]:
        """Pools whose share of the recent blocks differs from their share of the blocks before those.

        Fisher's exact test, with all pools tested at once accounted for (Bonferroni). Said when it begins: a pool
        whose share had already shifted at some point of the last `quiet_blocks` is not told again.
        """
        blocks = [*self.window(context), context.facts]
        names = {facts.pool: facts.pool_name for facts in blocks if facts.pool}
        signals: list[Signal] = []
        for pool, name in sorted(names.items()):
            shift = self._shift(pool, blocks, len(names))
            earlier = range(1, int(self.thresholds["quiet_blocks"]) + 1) if shift else ()
            if shift and not any(self._shift(pool, blocks[:-k], len(names)) for k in earlier):
                basis = {
                    "basis": "one minus the p-value of Fisher's exact test over all pools",
                    "cases": len(blocks),
                    "calibrated": False,
                }
                confidence = min(1 - shift["p_value"], MOST_CERTAIN)
                signals += self.signal(
                    context, "pool_share_shift", pool, confidence, basis, {"pool_name": name, **shift}
                )
        return signals

    def _shift(self, pool: str, blocks: Sequence[BlockFacts], pools: int) -> dict[str, Any] | None:
        """How the share of `pool` differs between the recent blocks and those before, None where it does not."""
        recent_size = int(self.thresholds["recent_blocks"])
        recent, before = blocks[-recent_size:], blocks[:-recent_size]
        if len(before) < self.minimum_history:
            return None
        now, then = (sum(facts.pool == pool for facts in part) for part in (recent, before))
        share, share_before = now / len(recent), then / len(before)
        if abs(share - share_before) < self.thresholds["share_change"]:
            return None
        p = min(1.0, fisher_p(now, len(recent), then, len(before)) * pools)
        if p >= self.thresholds["share_p"]:
            return None
        return {
            "direction": "up" if share > share_before else "down",
            "share": round(share, 4),
            "share_before": round(share_before, 4),
            "blocks": now,
            "recent_blocks": len(recent),
            "blocks_before": then,
            "window_blocks": len(before),
            "pools_tested": pools,
            "p_value": float(f"{p:.3g}"),
        }


def _pool(facts: BlockFacts) -> dict[str, Any]:
    return {"pool_name": facts.pool_name, "pool_by": facts.pool_by}
