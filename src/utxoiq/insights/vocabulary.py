"""What may be said of each kind of signal: its templates, and the words that would make a text of it false."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from utxoiq.insights.slots import names_in

if TYPE_CHECKING:
    from collections.abc import Collection

    from utxoiq.models import Signal


@dataclass(frozen=True, slots=True)
class Kind:
    """How one kind of signal is told. Texts hold slots; `direction` says which way its figures went, if any."""

    headline: str
    summary: str
    more: str = ""
    """A sentence that follows where all its slots are known."""
    direction: Literal["up", "down"] | None = None


UPWARD = frozenset("rose risen rises rising higher more jumped surged climbed increased increase up grew spike".split())
DOWNWARD = frozenset(
    "fell fallen falls falling lower less dropped sank declined decreased decrease down shrank".split()
)

KNOWN = "Labels know the other side of {attributed_share} of it, and {block_attributed_share} of all the block spent."
"""How much is known, in every text on an entity."""
INFERRED = "; of the amount, {inferred_share} is in scripts known only by being spent with labelled ones."
"""In place of the summary's last full stop, where that is so."""
HOLDINGS = "It was last known to hold {known_holdings}, as of {holdings_as_of}: this is {holdings_change} of that."

HELD = "After the block, the {labelled_addresses} addresses of it that labels know held {labelled_balance}."
"""Where a ledger tells it; in place of the last full stop where that would be a sentence too many."""

MOST_SENTENCES = 3

KINDS: dict[tuple[str, str], Kind] = {
    ("mempool", "fee_spike"): Kind(
        "Fees rose to {feerate_kvb}, {ratio} times the usual rate",
        "The median transaction in block {height} paid {feerate_kvb}, against {usual_feerate_kvb} in the median of the "
        "{window_blocks} before it. Rates are taken from transactions inside blocks, with parents counted at "
        "the rate their children paid for them.",
        direction="up",
    ),
    ("mempool", "fee_drop"): Kind(
        "Fees fell to {feerate_kvb}, far below the usual {usual_feerate_kvb}",
        "The median transaction in block {height} paid {feerate_kvb}, against {usual_feerate_kvb} in the median of the "
        "{window_blocks} before it. Rates are taken from transactions inside blocks, with parents counted at "
        "the rate their children paid for them.",
        direction="down",
    ),
    ("mempool", "tx_count_record"): Kind(
        "Block {height} holds {transactions}, a record for {window_blocks}",
        "Block {height} of {block_time} holds {transactions} beside its coinbase. The most in any of the "
        "{window_blocks} before it was {most_before}, and the usual number is {usual_transactions}.",
        direction="up",
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
        "The mempool holds {backlog_blocks} of transactions",
        "At {seen_at}, before block {height}, {waiting_transactions} would fill {backlog_blocks} from the "
        "node's mempool. The usual backlog before each of the last {window_blocks} was {usual_backlog_blocks}.",
        direction="up",
    ),
    ("mempool", "mempool_emptied"): Kind(
        "The mempool emptied to {backlog_blocks} of transactions",
        "At {seen_at}, before block {height}, {waiting_transactions} would fill {backlog_blocks} from the "
        "node's mempool. The usual backlog before each of the last {window_blocks} was {usual_backlog_blocks}.",
        direction="down",
    ),
    ("mempool", "purging"): Kind(
        "The full mempool asks for at least {minfee_kvb}",
        "At {seen_at}, before block {height}, the node's mempool held {waiting_transactions} and let none in below "
        "{minfee_kvb}, above its floor of {relayfee_kvb}. A node does so when its mempool has no room left.",
        direction="up",
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
    ("miner", "underfilled_block"): Kind(
        "Block {height} is {weight_share} full while {backlog_blocks} waited",
        "Block {height} holds {transactions} beside its coinbase and fills {weight_share} of its room, where blocks "
        "before it filled {usual_weight_share}. At {seen_at} the node's mempool would have filled {backlog_blocks}; by the "
        "miners' clocks the block came {seconds_after_parent} after its parent.",
    ),
    ("miner", "pool_streak"): Kind(
        "{pool_name} found {streak} in a row",
        "{pool_name} found the last {streak} in a row, with {share} of the {window_blocks} before those. A run as long "
        "would come by chance, somewhere in as many blocks, with a probability of {p_value}.",
    ),
    ("miner", "hashrate_concentration"): Kind(
        "{pool_name} found {share} of the last {recent_blocks}",
        "{pool_name} found {blocks} of the last {recent_blocks}, {share} of them. At a share no larger than the limit "
        "watched for, as many would come by chance with a probability of {p_value}.",
    ),
    ("miner", "miner_distribution"): Kind(
        "{entity_name} passed on at least {amount}",
        "In block {height}, {transactions} from addresses of the pool {entity_name} sent at least {amount} elsewhere; "
        "counterparty of most: {counterparty}. " + KNOWN,
        "Of what was spent, {coinbase_outputs} were block rewards never spent before.",
    ),
    ("exchange", "net_inflow"): Kind(
        "{entity_name}: net inflow of {amount}",
        "Over the {flow_blocks} up to block {height}, {amount} net reached addresses of {entity_name}; of {sums_compared} "
        "earlier sums free of large single moves the largest was {most_amount}, the usual {usual_amount}. As much would come by chance with a "
        "probability of {p_value}, counting that {entities_tested} were tested. Labels cover {block_attributed_share} of "
        "what the block spent.",
    ),
    ("exchange", "net_outflow"): Kind(
        "{entity_name}: net outflow of {amount}",
        "Over the {flow_blocks} up to block {height}, {amount} net left addresses of {entity_name}; of {sums_compared} "
        "earlier sums free of large single moves the largest was {most_amount}, the usual {usual_amount}. As much would come by chance with a "
        "probability of {p_value}, counting that {entities_tested} were tested. Labels cover {block_attributed_share} of "
        "what the block spent.",
    ),
    ("exchange", "large_deposit"): Kind(
        "{amount} arrived at {entity_name}",
        "In block {height}, {transactions} brought {amount} to addresses of {entity_name}, its own coins not "
        "counted; counterparty of most: {counterparty}. " + KNOWN,
    ),
    ("exchange", "large_withdrawal"): Kind(
        "At least {amount} left {entity_name}",
        "In block {height}, {transactions} took at least {amount} from addresses of {entity_name} elsewhere, change "
        "not counted; counterparty of most: {counterparty}. " + KNOWN,
    ),
    ("exchange", "internal_reshuffle"): Kind(
        "{entity_name}: {amount} moved within",
        "In block {height}, {transactions} moved {amount} from addresses of {entity_name} to others of its own. "
        "Nothing of it came in or went out, so it is no flow; labels cover {block_attributed_share} of what the block "
        "spent.",
    ),
    ("treasury", "accumulation"): Kind(
        "{entity_name} received {amount}",
        "In block {height}, {transactions} brought {amount} to addresses of {entity_name}, its own coins not "
        "counted; counterparty of most: {counterparty}. " + KNOWN,
        HOLDINGS,
    ),
    ("treasury", "distribution"): Kind(
        "At least {amount} left {entity_name}",
        "In block {height}, {transactions} took at least {amount} from addresses of {entity_name} elsewhere, change "
        "not counted; counterparty of most: {counterparty}. " + KNOWN,
        HOLDINGS,
    ),
    ("treasury", "internal_reshuffle"): Kind(
        "{entity_name}: {amount} moved within",
        "In block {height}, {transactions} moved {amount} from addresses of {entity_name} to others of its own. "
        "Nothing of it came in or went out, so it is no flow; labels cover {block_attributed_share} of what the block "
        "spent.",
        HOLDINGS,
    ),
    ("whale", "large_transfer"): Kind(
        "A transaction moved {moved} to other addresses",
        "In block {height}, a transaction of {inputs} and {outputs} sent {moved} to addresses it did not spend "
        "from, and {change} back to those it did. Change to a fresh address can't be told from a payment, so at most so "
        "much changed hands; of the {window_blocks} before, {larger_before} held a larger transfer.",
    ),
    ("whale", "large_consolidation"): Kind(
        "A transaction gathered {moved} from {inputs}",
        "In block {height}, a transaction gathered {moved} from {inputs} into {outputs}, as owners do with their "
        "own coins. Whether it changed hands can't be told; of the {window_blocks} before, {larger_before} held a larger "
        "transfer.",
    ),
    ("whale", "dormant_coins"): Kind(
        "{amount} moved after {age_days} days at rest",
        "In block {height}, a transaction spent {amount} that had lain still, the oldest of it for {age_blocks}. That is "
        "about {age_days} days; that they moved says nothing of who holds them now.",
    ),
    ("whale", "coin_age_spike"): Kind(
        "Block {height} spent {ratio} times the usual coin age",
        "Value times age of all coins spent in block {height} came to {coin_blocks}, counted in coins times blocks, "
        "against a usual {usual_coin_blocks} in the {window_blocks} before. As much would come by chance with a "
        "probability of {p_value}.",
        direction="up",
    ),
    ("whale", "balance_above"): Kind(
        "An address rose above {limit}, to {balance}",
        "In block {height}, {transactions} raised the balance of {address} from {balance_before} to {balance}. Its owner, "
        "by labels: {holder}.",
        direction="up",
    ),
    ("whale", "balance_below"): Kind(
        "An address fell below {limit}, to {balance}",
        "In block {height}, {transactions} lowered the balance of {address} from {balance_before} to {balance}. Its owner, "
        "by labels: {holder}.",
        direction="down",
    ),
    ("whale", "balance_gathered"): Kind(
        "An address gained {amount} over {window_blocks}",
        "Over the {window_blocks} that end with block {height}, the balance of {address} rose from {balance_before} to {balance}, "
        "in {changed_blocks} that added to it. Its owner, by labels: {holder}.",
        direction="up",
    ),
    ("whale", "balance_given"): Kind(
        "An address passed on {amount} over {window_blocks}",
        "Over the {window_blocks} that end with block {height}, the balance of {address} fell from {balance_before} to {balance}, "
        "in {changed_blocks} that took from it. Its owner, by labels: {holder}.",
        direction="down",
    ),
    ("whale", "large_holders_gain"): Kind(
        "Large addresses hold {held}, up by {amount}",
        "After block {height}, the addresses that hold at least {limit}, {holders} in number, held {held} together, "
        "against {held_before} at the beginning of the {window_blocks} before. An address that passes the limit "
        "counts with what it holds.",
        direction="up",
    ),
    ("whale", "large_holders_loss"): Kind(
        "Large addresses hold {held}, down by {amount}",
        "After block {height}, the addresses that hold at least {limit}, {holders} in number, held {held} together, "
        "against {held_before} at the beginning of the {window_blocks} before. An address that falls below the limit is "
        "no longer counted.",
        direction="down",
    ),
    ("predictive", "feerate_rise"): Kind(
        "Fees forecast to rise to {predicted_value} for {forecast_horizon}",
        "For block {target_height} a median rate of {predicted_value} is forecast, between {interval_low} and "
        "{interval_high} in most cases like this. Block {height} paid {current_value}.",
        direction="up",
    ),
    ("predictive", "feerate_fall"): Kind(
        "Fees forecast to fall to {predicted_value} for {forecast_horizon}",
        "For block {target_height} a median rate of {predicted_value} is forecast, between {interval_low} and "
        "{interval_high} in most cases like this. Block {height} paid {current_value}.",
        direction="down",
    ),
    ("predictive", "liquidity_inflow"): Kind(
        "Pressure on exchanges: net inflow of {predicted_value} forecast",
        "Over the {flow_blocks} up to block {height}, {current_value} net reached labelled exchanges. Of {cases_alike} "
        "earlier times with as much pressure, {cases_followed} were followed by a net inflow over as many blocks; "
        "{predicted_value} is forecast.",
    ),
    ("predictive", "liquidity_outflow"): Kind(
        "Relief at exchanges: net outflow of {predicted_value} forecast",
        "Over the {flow_blocks} up to block {height}, {current_value} net left labelled exchanges. Of {cases_alike} "
        "earlier times with as much pressure, {cases_followed} were followed by a net outflow over as many blocks; "
        "{predicted_value} is forecast.",
    ),
}

CALIBRATED = "Confidence {confidence}, as {basis}; cases: {cases}."
UNCALIBRATED = "Confidence {confidence}, as {basis}; cases: {cases}. It is not calibrated against outcomes yet."


def summary_of(kind: Kind, slots: Collection[str]) -> str:
    """The template's summary, with what only some signals of the kind can tell."""
    summary = kind.summary.removesuffix(".") + INFERRED if "inferred_share" in slots else kind.summary
    if kind.more and set(names_in(kind.more)) <= set(slots):
        summary = f"{summary} {kind.more}"
    if set(names_in(HELD)) <= set(slots):
        few = summary.count(". ") < MOST_SENTENCES - 1
        summary = f"{summary} {HELD}" if few else f"{summary.removesuffix('.')}; {HELD[0].lower()}{HELD[1:]}"
    return summary


def contradictions(signal: Signal) -> frozenset[str]:
    """Words that would say the opposite of what the signal's figures did."""
    kind = KINDS.get((signal.signal_type, signal.kind))
    direction = signal.metadata.get("direction") or (kind.direction if kind else None)
    return {"up": DOWNWARD, "down": UPWARD}.get(str(direction), frozenset())
