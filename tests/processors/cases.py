"""Windows of facts made by hand: an ordinary past, and for each kind of signal a case in which it must be said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from random import Random
from typing import Any

from utxoiq.chain.block import decode_block, read_undo_spent
from utxoiq.chain.network import NETWORKS
from utxoiq.entities.labels import LabelSet
from utxoiq.facts.compute import compute_facts
from utxoiq.models import BLOCK_WEIGHT, BlockData, BlockFacts, MempoolSnapshot, NextBlock, Signal
from utxoiq.processors.base import ProcessingContext, SignalProcessor
from utxoiq.simulation.economy import simulate
from utxoiq.units import COIN

NETWORK = NETWORKS["simulated"]
NO_LABELS = LabelSet((), "none", NETWORK)
HEIGHT, TIME, SPACING = 900_000, 1_700_000_000, 600
RATES = [1000, 1500, 2000, 3000, 5000]
"""Percentiles of an ordinary block, in sat/kvB."""
USUAL = RATES[2]
POOLS = ("aster", "basalt", "cobalt", "dune")
SUBSIDY = 312_500_000


@cache
def block() -> BlockData:
    """A decoded block with payments, its spent outputs, and nothing before it."""
    made = next(islice((b for b in simulate(3, 4) if b.n_tx > 1), 1))
    decoded = decode_block(made.raw, NETWORK)
    return BlockData(decoded, made.height, read_undo_spent(decoded, made.undo), None, "test")


@cache
def _facts() -> BlockFacts:
    return compute_facts(block(), NO_LABELS)


def at(i: int, **changes: Any) -> BlockFacts:
    """The facts of an ordinary block, `i` after the first; changed where told."""
    pool = POOLS[i % len(POOLS)]
    usual: dict[str, Any] = {
        "blockhash": f"{i + 1:064x}",
        "previousblockhash": f"{i:064x}",
        "height": HEIGHT + i,
        "time": TIME + SPACING * i,
        "txs": 101 + i % 7,
        "subsidy": SUBSIDY,
        "totalfee": 400_000,
        "package_feerate_percentiles_kvb": RATES,
        "top_fee": {"txid": f"{i:064x}", "fee": 20_000, "feerate_kvb": 9000},
        "pool": pool,
        "pool_name": pool.title(),
        "pool_by": "tag",
        "coinbase_value": SUBSIDY + 400_000,
        "coinbase_unclaimed": 0,
    }
    return replace(_facts(), **{**usual, **changes})


@cache
def past(blocks: int, **changes: Any) -> tuple[BlockFacts, ...]:
    """`blocks` ordinary blocks in a row, all changed alike."""
    return tuple(at(i, **changes) for i in range(blocks))


def rates(factor: float) -> list[int]:
    """The percentiles of a block that pays `factor` times the usual."""
    return [int(rate * factor) for rate in RATES]


def snapshot(i: int, backlog_blocks: float = 3, **changes: Any) -> MempoolSnapshot:
    """What waited before the block `at(i)`: so many full blocks."""
    weight = int(backlog_blocks * BLOCK_WEIGHT)
    usual: dict[str, Any] = {
        "taken_at": TIME + SPACING * i - 20,
        "tip": f"{i:064x}",
        "transactions": weight // 800,
        "vsize": weight // 4,
        "minfee_kvb": 100,
        "relayfee_kvb": 100,
        "basis": "feerate diagram",
        "next_block": NextBlock(min(weight, BLOCK_WEIGHT), 400_000, [900, *RATES]),
        "backlog_weight": weight,
        "border_feerates_kvb": [1000] * int(backlog_blocks),
    }
    return MempoolSnapshot(**{**usual, **changes})


@cache
def waiting(blocks: int, backlog_blocks: float = 3) -> tuple[MempoolSnapshot, ...]:
    """The mempools of `blocks` ordinary blocks in a row."""
    return tuple(snapshot(i, backlog_blocks) for i in range(blocks))


def context(
    window: Sequence[BlockFacts], now: BlockFacts, labels: LabelSet = NO_LABELS,
    mempools: Sequence[MempoolSnapshot | None] = (),
) -> ProcessingContext:  # fmt: skip
    return ProcessingContext(now, tuple(window), labels, "correlation", tuple(mempools))


async def said(
    processor: SignalProcessor, window: Sequence[BlockFacts], now: BlockFacts,
    mempools: Sequence[MempoolSnapshot | None] = (),
) -> list[Signal]:  # fmt: skip
    """The signals of `now` after `window`; `mempools` are those of the window and of `now`."""
    seen = context(window, now, mempools=mempools[:-1])
    return await processor.process_block(replace(block(), mempool=mempools[-1] if mempools else None), seen)


async def told(processor: SignalProcessor, blocks: Sequence[BlockFacts]) -> list[tuple[int, str]]:
    """(height, kind) of all signals in a chain, each block seen after those before it."""
    found: list[tuple[int, str]] = []
    for i, now in enumerate(blocks):
        signals = await said(processor, blocks[max(0, i - processor.window_size) : i], now)
        found += [(now.height or 0, signal.kind) for signal in signals]
    return found


@dataclass(frozen=True)
class Case:
    """A block that one kind of signal is about."""

    signal_type: str
    kind: str
    window: tuple[BlockFacts, ...]
    now: BlockFacts
    mempools: tuple[MempoolSnapshot, ...] = ()

    def __str__(self) -> str:
        return self.kind


@cache
def rising_pool() -> tuple[BlockFacts, ...]:
    """1,008 blocks in which Ember finds one of 20, then 200 in which it finds two of five; others find the rest."""
    rng = Random(5)
    chances = [0.05] * 1008 + [0.4] * 200
    finders = ["ember" if rng.random() < chance else rng.choice(POOLS) for chance in chances]
    return tuple(at(i, pool=pool, pool_name=pool.title()) for i, pool in enumerate(finders))


FIRST_TOLD = 1040
"""The block of `rising_pool` after which its share is told: found once, and fixed."""


@cache
def cases() -> tuple[Case, ...]:
    """One for each kind, in the order of the vocabulary."""
    usual, coinbases, rising = past(144), past(144, txs=1), rising_pool()
    overpaid = {"txid": "ab" * 32, "fee": 2 * COIN, "feerate_kvb": 90_000_000}
    return (
        Case("mempool", "fee_spike", usual, at(144, package_feerate_percentiles_kvb=rates(10))),
        Case("mempool", "fee_drop", usual, at(144, package_feerate_percentiles_kvb=rates(0.1))),
        Case("mempool", "tx_count_record", usual, at(144, txs=501)),
        Case("mempool", "payments_resume", coinbases, at(144, txs=4)),
        Case("mempool", "fee_overpaid", usual, at(144, totalfee=2 * COIN + 380_000, top_fee=overpaid)),
        Case("mempool", "congestion", usual, at(144), (*waiting(144), snapshot(144, 30))),
        Case("mempool", "mempool_emptied", usual, at(144), (*waiting(144), snapshot(144, 0.5))),
        Case("mempool", "purging", usual, at(144), (*waiting(144), snapshot(144, minfee_kvb=2000))),
        Case("miner", "halving", usual, at(144, height=1_050_000, subsidy=SUBSIDY // 2)),
        Case("miner", "reward_unclaimed", usual, at(144, coinbase_unclaimed=SUBSIDY)),
        Case("miner", "empty_block", usual, at(144, txs=1, totalfee=0, top_fee=None)),
        Case("miner", "pool_share_shift", rising[FIRST_TOLD - 1008 : FIRST_TOLD], rising[FIRST_TOLD]),
    )


KINDS = ("fee_spike", "fee_drop", "tx_count_record", "payments_resume", "fee_overpaid", "congestion",
         "mempool_emptied", "purging", "halving", "reward_unclaimed", "empty_block", "pool_share_shift")  # fmt: skip


def case(kind: str) -> Case:
    return next(c for c in cases() if c.kind == kind)


async def signal_of(kind: str) -> Signal:
    """The one signal of its case."""
    from utxoiq.processors.discovery import discover

    chosen = case(kind)
    processor = next(p for p in discover() if p.signal_type == chosen.signal_type)
    (signal,) = [s for s in await said(processor, chosen.window, chosen.now, chosen.mempools) if s.kind == kind]
    return signal
