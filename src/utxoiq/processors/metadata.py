"""What the metadata of signals holds: each field's type, unit and meaning, said once for all kinds that have it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Unit = Literal[
    "sat", "sat/kvB", "share", "seconds", "time", "blocks", "transactions", "entities", "pools", "inputs", "outputs",
    "count", "ratio", "probability", "height", "horizon", "text", "list",
]  # fmt: skip
"""`time`: Unix seconds UTC. `share` and `probability`: 0 to 1."""

HORIZON_BLOCKS: Mapping[Literal["next_block", "1h", "24h"], int] = {"next_block": 1, "1h": 6, "24h": 144}
"""The horizons of forecasts, and how many blocks ahead each is."""

TYPES: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(
        ("sat", "sat/kvB", "time", "transactions", "entities", "pools", "inputs", "outputs", "count", "height"), (int,)
    ),
    **dict.fromkeys(("share", "ratio", "probability", "seconds", "blocks"), (int, float)),
    **dict.fromkeys(("text", "horizon"), (str,)),
    "list": (list,),
}


@dataclass(frozen=True, slots=True)
class Field:
    """One value of a signal's metadata."""

    unit: Unit
    meaning: str
    optional: bool = False
    """May be absent, or None where it is unknown."""


FIELDS: Mapping[str, Field] = {
    "basis": Field("text", "what the figures were taken from"),
    "window_blocks": Field("blocks", "past blocks it was compared with"),
    "feerate_kvb": Field("sat/kvB", "feerate measured"),
    "usual_feerate_kvb": Field("sat/kvB", "median of the past it is compared with"),
    "ratio": Field("ratio", "measured over usual"),
    "transactions": Field("transactions", "transactions beside the coinbase, or of the kind told"),
    "most_before": Field("count", "the most in any block of the window"),
    "usual_transactions": Field("count", "median number in the window"),
    "fee": Field("sat", "fee of the transaction"),
    "share_of_fees": Field("share", "its part of all fees of the block"),
    "backlog_blocks": Field("blocks", "what waits, in full blocks"),
    "usual_backlog_blocks": Field("blocks", "median of that in the window"),
    "waiting_transactions": Field("transactions", "transactions in the node's mempool"),
    "seen_at": Field("time", "when the mempool was looked at"),
    "minfee_kvb": Field("sat/kvB", "what a transaction must pay to be let in"),
    "relayfee_kvb": Field("sat/kvB", "the node's floor"),
    "subsidy": Field("sat", "new coins of this block"),
    "subsidy_before": Field("sat", "new coins of the block before"),
    "unclaimed": Field("sat", "left to nobody"),
    "claimed": Field("sat", "what the coinbase claims"),
    "entitled": Field("sat", "subsidy and fees"),
    "pool_name": Field("text", "the pool a block is attributed to", optional=True),
    "pool_by": Field("text", "`payout_address` or `tag`", optional=True),
    "empty_before": Field("count", "blocks of the window without payments"),
    "seconds_after_parent": Field("seconds", "by the two blocks' times"),
    "direction": Field("text", "`up` or `down`"),
    "share": Field("share", "share of the recent blocks"),
    "share_before": Field("share", "share of the blocks before those"),
    "blocks": Field("count", "blocks of the pool among the recent ones"),
    "recent_blocks": Field("blocks", "how many are recent"),
    "blocks_before": Field("count", "blocks of the pool among those before"),
    "pools_tested": Field("pools", "pools looked at in the same test"),
    "p_value": Field("probability", "of as much by chance, all that were tested counted"),
    "streak": Field("blocks", "blocks in a row of one pool"),
    "weight_share": Field("share", "of the weight a block may have that is filled"),
    "usual_weight_share": Field("share", "median of that in the window"),
    "entity_id": Field("text", "the entity's id in the label set"),
    "entity_name": Field("text", "the entity's name"),
    "ticker": Field("text", "stock symbol", optional=True),
    "amount": Field("sat", "value moved, as the kind says"),
    "largest": Field("sat", "the largest single transaction in it"),
    "usual_amount": Field("sat", "median size of such sums in the past"),
    "most_amount": Field("sat", "the largest such sum in the past"),
    "coinbase_outputs": Field("sat", "value of coinbase outputs spent, for the first time ever: each can be only once"),
    "counterparty": Field("text", "who is on the other side of most of it, `unknown` where no label says"),
    "attributed_share": Field("share", "part of the amount whose other side carries a label"),
    "unknown_share": Field("share", "the rest of it: no label knows the other side"),
    "inferred_share": Field("share", "part of it in scripts known by being spent with labelled ones", optional=True),
    "block_attributed_share": Field("share", "part of what the block spent that carries a label", optional=True),
    "flow_blocks": Field("blocks", "blocks summed up"),
    "sums_compared": Field("count", "earlier sums of as many blocks, none overlapping"),
    "entities_tested": Field("entities", "entities looked at in the same test"),
    "known_holdings": Field("sat", "what it was last known to hold", optional=True),
    "holdings_as_of": Field("text", "date of that", optional=True),
    "holdings_change": Field("share", "amount over known holdings", optional=True),
    "moved": Field("sat", "sent to scripts the transaction did not spend from: at most so much changed hands"),
    "change": Field("sat", "certain change, to a script it spent from"),
    "inputs": Field("inputs", "outputs it spends"),
    "outputs": Field("outputs", "outputs it makes"),
    "larger_before": Field("count", "blocks of the window with a larger one"),
    "age_blocks": Field("blocks", "age of the oldest of the coins, in blocks"),
    "age_days": Field("count", "the same in days of 144 blocks"),
    "coins": Field("count", "such coins spent"),
    "coin_blocks": Field("ratio", "sum of value and age of all coins spent, in BTC times blocks"),
    "usual_coin_blocks": Field("ratio", "median of that in the window"),
    "address": Field("text", "the address that holds it, or script:HEX of one that has none"),
    "holder": Field("text", "whose it is by labels, `unknown` where no label says"),
    "balance_before": Field("sat", "what it held before"),
    "balance": Field("sat", "what it holds after the block"),
    "limit": Field("sat", "the balance that is watched for"),
    "changed_blocks": Field("blocks", "blocks that changed it the same way"),
    "held_before": Field("sat", "what all that hold the limit and more held together, a window before"),
    "held": Field("sat", "what they hold together after the block"),
    "holders": Field("count", "how many they are"),
    "labelled_balance": Field("sat", "what the entity's labelled addresses hold after the block", optional=True),
    "labelled_addresses": Field("count", "how many they are", optional=True),
    "prediction_type": Field("text", "what is foretold"),
    "predicted_value": Field("sat/kvB", "the value foretold"),
    "interval_low": Field("sat/kvB", "lower end of the 80 % interval"),
    "interval_high": Field("sat/kvB", "upper end of the 80 % interval"),
    "confidence_interval": Field("list", "the interval, [low, high], in the unit of the value"),
    "forecast_horizon": Field("horizon", "`next_block`, `1h` (6 blocks) or `24h` (144 blocks)"),
    "model_version": Field("text", "the forecasting model"),
    "current_value": Field("sat/kvB", "the value now"),
    "historical_mean": Field("ratio", "mean over the window, in the unit of the value"),
    "historical_std": Field("ratio", "standard deviation over the window, in the unit of the value"),
    "target_height": Field("height", "the block meant"),
    "cases_alike": Field("count", "earlier times with as much pressure the same way"),
    "cases_followed": Field("count", "of those, how often the next day's net flow went the same way"),
}  # fmt: skip


def having(*names: str, **others: Field) -> dict[str, Field]:
    """The fields of a kind: by name those that are described here, and its own."""
    return {**{name: FIELDS[name] for name in names}, **others}


def problems(metadata: Mapping[str, Any], schema: Mapping[str, Field]) -> list[str]:
    """What of `metadata` its schema does not allow, a line each."""
    found = [f"{name} is not in the schema" for name in metadata if name not in schema]
    for name, one in schema.items():
        value = metadata.get(name)
        if value is None:
            found += [] if one.optional else [f"{name} is missing"]
        elif type(value) not in TYPES[one.unit] or (one.unit in ("share", "probability") and not -1e9 < value < 1e9):
            found.append(f"{name} is {value!r}, no {one.unit}")
    return found
