"""Miner signals: who found the block, and what is unusual about it.

Formulas, limits and when such a signal is right: docs/signals/miner.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from utxoiq.models import BLOCK_WEIGHT
from utxoiq.processors.base import ProcessingContext, Seen, SignalProcessor
from utxoiq.processors.kin import Ground
from utxoiq.processors.metadata import Field, having
from utxoiq.processors.moves import MOVES, moves
from utxoiq.processors.shares import concentration, run_of, shifts
from utxoiq.processors.statistics import RULE, chance_confidence, looks, median, rank_confidence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from utxoiq.history import Past
    from utxoiq.models import BlockData, BlockFacts, Signal, SignalType

A_DAY, A_WEEK = 144, 1008
"""Blocks."""
POOL = ("pool_name", "pool_by")
COINBASES = Field("sat", "of what was spent, coinbase outputs: each is spent for the first time", optional=True)
SHIFT = ("pool_name", "direction", "share", "share_before", "blocks", "recent_blocks", "blocks_before", "window_blocks",
         "pools_tested", "p_value")  # fmt: skip


class MinerProcessor(SignalProcessor):
    """Pool share shifts, streaks and concentration; empty and under-filled blocks; rewards left unclaimed; halvings;
    what pools pass on."""

    signal_type: ClassVar[SignalType] = "miner"
    model_version = "miner-5"
    reads = ("txs", "pool", "pool_name", "pool_by", "subsidy", "coinbase_unclaimed", "coinbase_value", "weight")
    reads_flows = "of the window"
    kinds: ClassVar[Mapping[str, Mapping[str, Field]]] = {
        "halving": having("subsidy", "subsidy_before"),
        "reward_unclaimed": having("unclaimed", "claimed", "entitled", *POOL),
        "empty_block": having("empty_before", "window_blocks", "seconds_after_parent", *POOL),
        "underfilled_block": having(
            "weight_share",
            "usual_weight_share",
            "backlog_blocks",
            "seen_at",
            "seconds_after_parent",
            "window_blocks",
            "transactions",
            *POOL,
        ),
        "pool_share_shift": having(*SHIFT),
        "pool_streak": having("pool_name", "streak", "share", "window_blocks", "p_value"),
        "hashrate_concentration": having("pool_name", "share", "blocks", "recent_blocks", "p_value"),
        "miner_distribution": having(*MOVES, coinbase_outputs=COINBASES),
    }
    window_blocks = 1080
    defaults: ClassVar[Mapping[str, float]] = {
        "minimum_history": 144,
        "recent_blocks": 144,
        "share_p": 0.0001,
        "share_change": 0.05,
        "quiet_blocks": 72,
        "shift_quiet_blocks": 288,
        "empty_share": 0.03,
        "unclaimed_sat": 1,
        "full_share": 0.9,
        "underfilled_share": 0.5,
        "streak_p": 0.05,
        "concentration_blocks": 1008,
        "concentration_share": 0.4,
        "concentration_p": 0.001,
        "distribution_btc": 50,
    }

    settles_after: ClassVar[Mapping[str, int]] = {"pool_share_shift": A_DAY, "hashrate_concentration": A_WEEK}

    def resolve(self, signal: Signal, after: Sequence[Past]) -> bool | None:
        """By the pool's share of the blocks that follow; blocks of unknown pool are nobody's."""
        size, told = self.settles_after.get(signal.kind, 0), signal.metadata
        if not size or len(after) < size:
            return None
        share = [pool_of(row) for row in after[:size]].count(signal.subject) / size
        if signal.kind == "hashrate_concentration":
            return bool(share > signal.inputs["settings"]["concentration_share"])
        return bool(abs(share - told["share"]) < abs(share - told["share_before"]))

    async def process_block(self, block: BlockData, context: ProcessingContext) -> list[Signal]:
        """The signals of this block."""
        return [
            *self._halving(block, context),
            *self._unclaimed(context),
            *self._empty(context),
            *self._underfilled(block, context),
            *self._share_shift(context),
            *self._streak(context),
            *self._concentration(context),
            *self._distribution(context),
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
        empty = past.series(txs_of).count(1)
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

    def _underfilled(self, block: BlockData, context: ProcessingContext) -> list[Signal]:
        """A block with payments and much room left, while the mempool it was mined from would have filled it."""
        facts, seen = context.facts, block.mempool
        full = facts.weight / BLOCK_WEIGHT
        if facts.txs < 2 or seen is None or full > self.thresholds["underfilled_share"]:
            return []
        past = self.window(context).series(weight_share)
        waiting = (seen.backlog_weight or 0) / BLOCK_WEIGHT
        if len(past) < self.minimum_history or waiting < 1 or median(past) < self.thresholds["full_share"]:
            return []
        confidence, basis = rank_confidence(sum(share > full for share in past), len(past))
        metadata = {
            "weight_share": round(full, 4),
            "usual_weight_share": round(median(past), 4),
            "backlog_blocks": round(waiting, 1),
            "seen_at": seen.taken_at,
            "seconds_after_parent": facts.time - context.window[-1].time,
            "window_blocks": len(past),
            "transactions": facts.txs - 1,
            **_pool(facts),
        }
        subject = facts.pool or "unknown"
        return self.signal(context, "underfilled_block", subject, confidence, basis, metadata, mempools=Seen(seen))

    def _streak(self, context: ProcessingContext) -> list[Signal]:
        """Blocks in a row of one pool, when they become more than its share of the window before explains."""
        pool, run = context.facts.pool, run_of(self._pools(context))
        p, least = run.chance(run.length), self.thresholds["streak_p"]
        too_few = run.before < self.minimum_history or not run.share
        if pool is None or run.length < 2 or too_few or p > least or run.chance(run.length - 1) <= least:
            return []
        confidence, basis = chance_confidence(p, run.before, "such a run anywhere in as many blocks")
        metadata = {
            "pool_name": context.facts.pool_name,
            "streak": run.length,
            "share": round(run.share, 4),
            "window_blocks": run.before,
            "p_value": float(f"{p:.3g}"),
        }
        return self.signal(context, "pool_streak", pool, confidence, basis, metadata)

    def _concentration(self, context: ProcessingContext) -> list[Signal]:
        """A pool whose share of the last `concentration_blocks` is above the limit beyond doubt, and was not so at any
        of the last `quiet_blocks`."""
        pools, pool = self._pools(context), context.facts.pool
        size, quiet = (max(1, int(self.thresholds[name])) for name in ("concentration_blocks", "quiet_blocks"))
        if pool is None or len(pools) < size + quiet:
            return []
        seen = looks(pools, size, quiet)
        recent = next(seen)
        p = concentration(recent, pool, self.thresholds)
        if p is None or any(concentration(earlier, pool, self.thresholds) is not None for earlier in seen):
            return []
        confidence, basis = chance_confidence(p, size, "a share no larger than the limit")
        metadata = {
            "pool_name": context.facts.pool_name,
            "share": round(recent.count(pool) / size, 4),
            "blocks": recent.count(pool),
            "recent_blocks": size,
            "p_value": float(f"{p:.3g}"),
        }
        return self.signal(context, "hashrate_concentration", pool, confidence, basis, metadata)

    def _distribution(self, context: ProcessingContext) -> list[Signal]:
        """What labelled addresses of pools pass on."""
        flows, least = context.flows, self.thresholds["distribution_btc"]
        signals: list[Signal] = []
        ground = Ground.of(context, self.window(context))
        for one, confidence, basis in moves(ground, ("mining_pool",), "left", least):
            metadata = {**one.metadata(flows, context.entities), "coinbase_outputs": one.coinbases}  # type: ignore[arg-type]
            signals += self.signal(
                context, "miner_distribution", one.entity.id, confidence, basis, metadata, one.txids,
                balances="of the block",
            )  # fmt: skip
        return signals

    def _share_shift(self, context: ProcessingContext) -> list[Signal]:
        """Pools whose share has shifted; told when it begins: not one that twice `recent_blocks` show more clearly, nor
        one that had shifted the same way already at some point of the last `shift_quiet_blocks`."""
        seen = self.looks_back(self._pools(context), self.thresholds["shift_quiet_blocks"])
        pools = next(seen)
        found = shifts(pools, self.thresholds)
        while found and (earlier := next(seen, None)):
            known = shifts(earlier, self.thresholds)
            found = {
                pool: shift
                for pool, shift in found.items()
                if pool not in known or known[pool]["direction"] != shift["direction"]
            }
        signals: list[Signal] = []
        for pool, shift in found.items():
            if shift["recent_blocks"] > self.thresholds["recent_blocks"]:
                continue
            test = "Fisher's exact test over all pools"
            confidence, basis = chance_confidence(shift["p_value"], len(pools), test)
            metadata = {"pool_name": self._name(pool, context), **shift}
            signals += self.signal(context, "pool_share_shift", pool, confidence, basis, metadata)
        return signals

    def _pools(self, context: ProcessingContext) -> list[str | None]:
        """Of the window's blocks and this one."""
        return [*self.window(context).series(pool_of), context.facts.pool]

    def _name(self, pool: str, context: ProcessingContext) -> str | None:
        """What the newest block of the pool calls it."""
        if context.facts.pool == pool:
            return context.facts.pool_name
        return next(row.facts.pool_name for row in reversed(self.window(context).rows) if row.facts.pool == pool)


def _pool(facts: BlockFacts) -> dict[str, Any]:
    return {"pool_name": facts.pool_name, "pool_by": facts.pool_by}


def pool_of(row: Past) -> str | None:
    return row.facts.pool


def txs_of(row: Past) -> int:
    return row.facts.txs


def weight_share(row: Past) -> float:
    return row.facts.weight / BLOCK_WEIGHT
