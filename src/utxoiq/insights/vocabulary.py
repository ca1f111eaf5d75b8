"""What may be said of each kind of signal: its templates, and the words that would make a text of it false."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from utxoiq.models import Signal


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of signal is told. Texts hold slots; `direction` says which way its figures went, if any."""

    headline: str
    summary: str
    direction: Literal["up", "down"] | None = None


UPWARD = frozenset(
    [
        "rose",
        "risen",
        "rises",
        "rising",
        "higher",
        "more",
        "jumped",
        "surged",
        "climbed",
        "increased",
        "increase",
        "up",
        "grew",
        "spike",
    ]
)
DOWNWARD = frozenset(
    [
        "fell",
        "fallen",
        "falls",
        "falling",
        "lower",
        "less",
        "dropped",
        "sank",
        "declined",
        "decreased",
        "decrease",
        "down",
        "shrank",
    ]
)

KINDS: dict[tuple[str, str], Kind] = {
    ("mempool", "fee_spike"): Kind(
        "Fees rose to {feerate_kvb}, {ratio} times the usual rate",
        "The median transaction in block {height} paid {feerate_kvb}, against {usual_feerate_kvb} in the median of the "
        "{window_blocks} before it. Rates are taken from transactions inside blocks, with parents counted at "
        "the rate their children paid for them.",
        "up",
    ),
    ("mempool", "fee_drop"): Kind(
        "Fees fell to {feerate_kvb}, far below the usual {usual_feerate_kvb}",
        "The median transaction in block {height} paid {feerate_kvb}, against {usual_feerate_kvb} in the median of the "
        "{window_blocks} before it. Rates are taken from transactions inside blocks, with parents counted at "
        "the rate their children paid for them.",
        "down",
    ),
    ("mempool", "tx_count_record"): Kind(
        "Block {height} holds {transactions}, a record for {window_blocks}",
        "Block {height} of {block_time} holds {transactions} beside its coinbase. The most in any of the "
        "{window_blocks} before it was {most_before}, and the usual number is {usual_transactions}.",
        "up",
    ),
    ("mempool", "payments_resume"): Kind(
        "Block {height} carries {transactions}, after {window_blocks} with none",
        "Block {height} of {block_time} holds {transactions} beside its coinbase. The {window_blocks} before it held "
        "nothing but coinbases.",
    ),
    ("mempool", "fee_overpaid"): Kind(
        "A transaction paid {fee} in fees, {share_of_fees} of its block's total",
        "Among the {transactions} of block {height}, a single transaction paid {fee}, at a rate of {feerate_kvb}. "
        "The median rate in the same block was {usual_feerate_kvb}, so it paid {ratio} times as much for its space.",
    ),
    ("mempool", "congestion"): Kind(
        "The mempool holds {backlog_blocks} blocks of transactions",
        "At {seen_at}, before block {height}, {waiting_transactions} filled {backlog_blocks} full blocks in the node's "
        "mempool. The usual backlog before each of the last {window_blocks} was {usual_backlog_blocks}.",
        "up",
    ),
    ("mempool", "mempool_emptied"): Kind(
        "The mempool emptied to {backlog_blocks} blocks of transactions",
        "At {seen_at}, before block {height}, {waiting_transactions} filled {backlog_blocks} full blocks in the node's "
        "mempool. The usual backlog before each of the last {window_blocks} was {usual_backlog_blocks}.",
        "down",
    ),
    ("mempool", "purging"): Kind(
        "The full mempool asks for at least {minfee_kvb}",
        "At {seen_at}, before block {height}, the node's mempool held {waiting_transactions} and let none in below "
        "{minfee_kvb}, above its floor of {relayfee_kvb}. A node does so when its mempool has no room left.",
        "up",
    ),
    ("miner", "halving"): Kind(
        "The block subsidy halved to {subsidy} at block {height}",
        "From block {height} of {block_time} on, each block creates {subsidy} of new coins, where it created "
        "{subsidy_before} before. The consensus rules set this by height alone.",
    ),
    ("miner", "reward_unclaimed"): Kind(
        "The miner of block {height} left {unclaimed} unclaimed",
        "The coinbase of block {height} claims {claimed}, while subsidy and fees entitled it to {entitled}. "
        "The difference of {unclaimed} belongs to nobody and can never be spent.",
    ),
    ("miner", "empty_block"): Kind(
        "Block {height} is empty, unlike nearly all before it",
        "Block {height} holds no transaction beside its coinbase, as did {empty_before} of the {window_blocks} before "
        "it. By the miners' clocks it came {seconds_after_parent} after its parent.",
    ),
    ("miner", "pool_share_shift"): Kind(
        "{pool_name} found {share} of recent blocks, {share_before} before",
        "{pool_name} found {blocks} of the last {recent_blocks}, after {blocks_before} of the {window_blocks} "
        "before those. A difference this large would come by chance with a probability of {p_value}, counting that "
        "{pools_tested} were tested.",
    ),
}

CALIBRATED = "Confidence {confidence}, as {basis}; cases: {cases}."
UNCALIBRATED = "Confidence {confidence}, as {basis}; cases: {cases}. It is not calibrated against outcomes yet."


def contradictions(signal: Signal) -> frozenset[str]:
    """Words that would say the opposite of what the signal's figures did."""
    kind = KINDS.get((signal.signal_type, signal.kind))
    direction = signal.metadata.get("direction") or (kind.direction if kind else None)
    return {"up": DOWNWARD, "down": UPWARD}.get(str(direction), frozenset())
