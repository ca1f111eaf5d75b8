"""Whale signals: transactions, coins and balances so large or old that few like them were seen, whoever owns them.

Formulas, limits and when such a signal is right: docs/signals/whale.md.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, ClassVar

from utxoiq.processors.base import ProcessingContext, Reach, SignalProcessor
from utxoiq.processors.holders import ALL, CROSSING, LEDGER, WEEK, Said, crossings, together, weekly
from utxoiq.processors.kin import Ground
from utxoiq.processors.metadata import Field, having
from utxoiq.processors.moves import WITHIN, stays_perhaps
from utxoiq.processors.statistics import RULE, chance_confidence, looks, median, rank_confidence, tail_p
from utxoiq.units import COIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from utxoiq.history import Past, Window
    from utxoiq.models import BlockData, Signal, SignalType

BLOCKS_A_DAY = 144
TRANSFER = ("moved", "change", "fee", "inputs", "outputs", "larger_before", "window_blocks", "block_attributed_share")


class WhaleProcessor(SignalProcessor):
    """Large transfers and consolidations, dormant coins waking, blocks that spend unusually much age; and where a
    ledger tells balances, those that pass a limit, change much within a week, or all large ones together."""

    signal_type: ClassVar[SignalType] = "whale"
    model_version = "whale-4"
    reads = ("large_transfers", "large_coins", "coin_blocks_destroyed")
    reads_flows = "of the window"
    kinds: ClassVar[Mapping[str, Mapping[str, Field]]] = {
        **dict.fromkeys(("large_transfer", "large_consolidation"), having(*TRANSFER)),
        "dormant_coins": having("amount", "coins", "age_blocks", "age_days"),
        "coin_age_spike": having("coin_blocks", "usual_coin_blocks", "ratio", "window_blocks", "p_value"),
        **dict.fromkeys(("balance_above", "balance_below"), having(*CROSSING)),
        **dict.fromkeys(("balance_gathered", "balance_given"), having(*WEEK)),
        **dict.fromkeys(("large_holders_gain", "large_holders_loss"), having(*ALL)),
    }
    window_blocks = 1152
    """A week, and the day before whose beginning nothing is told again."""
    defaults: ClassVar[Mapping[str, float]] = {
        "minimum_history": 144,
        "transfer_btc": 1000,
        "consolidation_inputs": 10,
        "consolidation_outputs": 2,
        "dormant_btc": 100,
        "dormant_blocks": 157_680,
        "age_p": 0.002,
        "age_ratio": 3,
        "quiet_blocks": 12,
        "balance_btc": 1000,
        "week_blocks": 1008,
        "week_btc": 1000,
        "week_share": 0.1,
        "week_changes": 3,
        "week_quiet": 144,
        "holders_share": 0.02,
    }

    async def process_block(self, block: BlockData, context: ProcessingContext) -> list[Signal]:  # noqa: ARG002
        """The signals of this block."""
        found = [*self._transfers(context), *self._dormant(context), *self._coin_age(context)]
        return [*found, *self._holders(context)]

    def _week(self, context: ProcessingContext) -> Window:
        return self.window(context).last(int(self.thresholds["week_blocks"]))

    def _holders(self, context: ProcessingContext) -> list[Signal]:
        """What the ledger tells of balances."""
        balances, window = context.balances, self.window(context)
        if balances is None:
            return []
        limit = int(self.thresholds["balance_btc"] * COIN)
        said: list[tuple[Said, Reach]] = [(one, "of the block") for one in crossings(context, balances, limit)]
        said += [(one, "of the window") for one in weekly(context, balances, window, self.thresholds)]
        said += [(one, "of the window") for one in together(balances, window, self.thresholds)]
        signals: list[Signal] = []
        for (kind, subject, metadata, txids), reach in said:
            signals += self.signal(context, kind, subject, 1.0, LEDGER, metadata, txids, balances=reach)
        return signals

    def _transfers(self, context: ProcessingContext) -> list[Signal]:
        """Transactions that moved much to other scripts than they spent from, and not within one labelled entity."""
        least, facts = self.thresholds["transfer_btc"] * COIN, context.facts
        large = [one for one in facts.large_transfers or () if one["moved"] >= least]
        if not large:
            return []
        tops = [top for top in self._week(context).series(largest_transfer) if top is not None]
        if len(tops) < self.minimum_history:
            return []
        passed_over = self._within(context)
        share = context.flows.share if context.flows else None
        signals: list[Signal] = []
        for one in large:
            if one["txid"] in passed_over:
                continue
            larger = sum(top >= one["moved"] for top in tops)
            confidence, basis = rank_confidence(len(tops) - larger, len(tops))
            names = ("moved", "change", "fee", "inputs", "outputs")
            metadata = {name: one[name] for name in names}
            metadata |= {"larger_before": larger, "window_blocks": len(tops), "block_attributed_share": share}
            kind = "large_consolidation" if self._consolidates(one) else "large_transfer"
            signals += self.signal(
                context, kind, one["txid"], confidence, basis, metadata, [one["txid"]], balances="of the block"
            )
        return signals

    def _within(self, context: ProcessingContext) -> set[str]:
        """Transactions within one entity, or that may well be, and CoinJoins."""
        ground = Ground.of(context, self.window(context))
        found = {one.txid for one in context.flows.large if one.is_joint} if context.flows else set()
        for one in ground.owned:
            if one.transfer.pattern in (*WITHIN, "coinjoin") or stays_perhaps(one, ground):
                found.add(one.transfer.txid)
        return found

    def _consolidates(self, transfer: dict[str, Any]) -> bool:
        inputs, outputs = self.thresholds["consolidation_inputs"], self.thresholds["consolidation_outputs"]
        return bool(transfer["inputs"] >= inputs and transfer["outputs"] <= outputs)

    def _dormant(self, context: ProcessingContext) -> list[Signal]:
        """Coins that lay for years, by the transaction that spends them."""
        coins: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for coin in context.facts.large_coins or ():
            age = coin["age_blocks"]
            if age is not None and age >= self.thresholds["dormant_blocks"]:
                coins[coin["txid"]].append(coin)
        signals: list[Signal] = []
        for txid, spent in coins.items():
            amount, age = sum(coin["value"] for coin in spent), max(coin["age_blocks"] for coin in spent)
            if amount < self.thresholds["dormant_btc"] * COIN:
                continue
            metadata = {"amount": amount, "coins": len(spent), "age_blocks": age, "age_days": age // BLOCKS_A_DAY}
            signals += self.signal(context, "dormant_coins", txid, 1.0, RULE, metadata, [txid])
        return signals

    def _coin_age(self, context: ProcessingContext) -> list[Signal]:
        """Value times age of all coins the block spends, at the first block in a while that has so much."""
        every = [*self.window(context).series(coin_age), context.facts.coin_blocks_destroyed]
        seen = looks(every, int(self.thresholds["week_blocks"]) + 1, self.thresholds["quiet_blocks"])
        ages = next(seen)
        p = self._spike(ages)
        if p is None or any(self._spike(earlier) is not None for earlier in seen):
            return []
        now, known = ages[-1] or 0, [age for age in ages[:-1] if age is not None]
        usual = median(known)
        confidence, basis = chance_confidence(p, len(known), "its rank among the blocks before it")
        metadata = {
            "coin_blocks": round(now / COIN, 1),
            "usual_coin_blocks": round(usual / COIN, 1),
            "ratio": round(now / usual, 1),
            "window_blocks": len(known),
            "p_value": float(f"{p:.3g}"),
        }
        return self.signal(context, "coin_age_spike", "chain", confidence, basis, metadata)

    def _spike(self, ages: Sequence[int | None]) -> float | None:
        """The chance of as much as the last one by those before; None where that is not small."""
        now, known = ages[-1], [age for age in ages[:-1] if age is not None]
        if not now or len(known) < self.minimum_history:
            return None
        p = tail_p(now, known)
        if p > self.thresholds["age_p"]:
            return None
        usual = median(known)
        return p if usual and now >= self.thresholds["age_ratio"] * usual else None


def largest_transfer(row: Past) -> int | None:
    """Of a block, sat; 0 where none was listed, None where it is unknown."""
    found = row.facts.large_transfers
    return None if found is None else max((one["moved"] for one in found), default=0)


def coin_age(row: Past) -> int | None:
    return row.facts.coin_blocks_destroyed
