"""Small chains in which much happens, and processors that speak of nearly all of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from processors.cases import LABELS, POOLS, at, block, flows, gets, keeps, moved, pays, rates, snapshot, transfer
from utxoiq.history import History, Past, Window
from utxoiq.models import BlockFacts, BlockFlows, MempoolSnapshot, Signal
from utxoiq.processors.base import ProcessingContext, ProcessorConfig, SignalProcessor
from utxoiq.processors.discovery import discovered
from utxoiq.units import COIN

LOOSE: dict[str, dict[str, Any]] = {
    "mempool": {"minimum_history": 2, "spike_ratio": 1.5, "spike_rank": 0, "quiet_blocks": 1, "count_ratio": 1},
    "miner": {"minimum_history": 2, "recent_blocks": 3, "share_p": 1.1, "share_change": 0.1, "quiet_blocks": 1,
              "shift_quiet_blocks": 1, "streak_p": 0.9, "concentration_p": 0.9, "concentration_share": 0.3,
              "distribution_btc": 1, "full_share": 0.1, "empty_share": 0.5},
    "exchange": {"large_btc": 5, "net_btc": 1, "net_p": 1, "flow_blocks": 2, "minimum_sums": 1, "quiet_blocks": 1},
    "treasury": {"moved_btc": 1},
    "whale": {"minimum_history": 2, "transfer_btc": 1, "dormant_btc": 1, "dormant_blocks": 10, "age_p": 0.9,
              "age_ratio": 0.5, "quiet_blocks": 1, "consolidation_inputs": 2},
    "predictive": {"pressure_btc": 1, "pressure_blocks": 1, "minimum_alike": 1, "quiet_blocks": 1},
}  # fmt: skip
"""Thresholds low enough that chains of some blocks are spoken of."""
WINDOW = 8


def loose() -> dict[str, SignalProcessor]:
    """Our processors, that take notice of little."""
    configs = {
        who: ProcessorConfig(confidence_threshold=0, time_window=WINDOW, **thresholds)
        for who, thresholds in LOOSE.items()
    }
    return {who: one for who, one in discovered(configs).items() if who in LOOSE}


@dataclass(frozen=True)
class Seen:
    """One block, as a processor is shown it."""

    facts: BlockFacts
    flows: BlockFlows | None
    mempool: MempoolSnapshot | None

    @property
    def row(self) -> Past:
        return Past(self.facts, self.flows and self.flows.sums(), self.mempool)


def seen(i: int, what: dict[str, Any]) -> Seen:
    """A block `i` in which this happened."""
    pool = what["pool"]
    facts = at(
        i, txs=what["txs"], package_feerate_percentiles_kvb=what["rate"] and rates(what["rate"]), pool=pool,
        pool_name=pool and pool.title(), coin_blocks_destroyed=what["age"] and what["age"] * COIN,
        large_transfers=None if what["moved"] is None else [moved(btc) for btc in what["moved"]],
        large_coins=[{"txid": "ab" * 32, "value": 7 * COIN, "age_blocks": what["age"]}],
        coinbase_unclaimed=what["unclaimed"], weight=what["weight"],
    )  # fmt: skip
    moves = [
        transfer({who: flow}, f"{i:032x}{n:032x}", pattern="internal" if flow.spent == flow.received else "payment")
        for n, (who, flow) in enumerate(what["flows"] or ())
    ]
    mempool = snapshot(i, what["backlog"]) if what["backlog"] is not None else None
    return Seen(facts, None if what["flows"] is None else flows(facts, *moves), mempool)


SURE = ("borealis", replace(pays(0.5), payments=12, returned=12))
"""Its labels know its change."""
FLOWS = [
    (who, flow) for who in sorted(LABELS.entities) for flow in (gets(2), gets(9), pays(4), pays(9, 0, 1), keeps(6))
]
FLOWS += [("borealis", flow) for flow in (gets(3), gets(4), pays(3), pays(5))] * 5
happenings = st.fixed_dictionaries(
    {
        "txs": st.sampled_from([1, 2, 50, 101, 400]),
        "rate": st.sampled_from([None, 0.2, 1.0, 1.0, 4.0]),
        "pool": st.sampled_from([None, *POOLS[:2]]),
        "age": st.sampled_from([None, 0, 100, 5000]),
        "moved": st.sampled_from([None, (), (2000,), (100, 3000)]),
        "unclaimed": st.sampled_from([None, 0, 0, 5]),
        "weight": st.sampled_from([4000, 3_900_000]),
        "flows": st.one_of(
            *[st.lists(st.sampled_from(FLOWS), max_size=3).map(lambda each: [SURE, *each])] * 9, st.none()
        ),
        "backlog": st.sampled_from([None, 0.5, 3, 30]),
    }
)
chains = st.lists(happenings, min_size=6, max_size=14).map(lambda each: [seen(i, what) for i, what in enumerate(each)])


async def shown(processor: SignalProcessor, history: History, now: Seen, i: int) -> list[Signal]:
    """What it says of block `i` after those before it in `history`, whatever else that holds."""
    window = Window(history, max(0, i - processor.window_size), i)
    context = ProcessingContext(now.facts, window, LABELS, "correlation", now.flows)
    return await processor.process_block(replace(block(), mempool=now.mempool), context)
