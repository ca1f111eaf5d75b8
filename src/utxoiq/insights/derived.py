"""What follows from a signal's values without being one of them: rests, sums, and values told in relation to others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from math import isfinite, log10
from typing import TYPE_CHECKING, Any, NamedTuple

from utxoiq.units import COIN

if TYPE_CHECKING:
    from utxoiq.models import Signal


class Quantity(NamedTuple):
    """A value of a signal in one unit. `name` is its slot; derived ones are called after what they are derived from."""

    name: str
    unit: str
    value: Decimal

    @property
    def is_usual(self) -> bool:
        """Whether it is what the measured value is compared with."""
        return self.name.startswith(USUAL) or self.name.endswith("_before")


USUAL = ("usual", "most_", "historical", "share_before", "blocks_before", "current_value")
AMOUNTS = (("BTC", Decimal(COIN)), ("sat", Decimal(1)))
"""The units of amounts, each with how many sat it has."""
PAIRS = (
    ("feerate_kvb", "usual_feerate_kvb"), ("backlog_blocks", "usual_backlog_blocks"),
    ("transactions", "usual_transactions"), ("weight_share", "usual_weight_share"), ("amount", "usual_amount"),
    ("amount", "most_amount"), ("coin_blocks", "usual_coin_blocks"), ("share", "share_before"),
    ("predicted_value", "current_value"), ("transactions", "most_before"), ("feerate_kvb", "relayfee_kvb"),
    ("minfee_kvb", "relayfee_kvb"), ("subsidy_before", "subsidy"), ("unclaimed", "entitled"), ("claimed", "entitled"),
    ("balance", "balance_before"), ("balance", "limit"), ("balance_before", "limit"), ("held", "held_before"),
    ("amount", "held_before"), ("amount", "balance_before"), ("amount", "labelled_balance"),
    ("larger_before", "window_blocks"), ("empty_before", "window_blocks"),
)  # fmt: skip
"""Values that a text may set in relation to each other."""
REST = (("recent_blocks", "blocks"), ("amount", "largest"), ("share", "limit_share"))
"""Values of which a text may tell what the second leaves of the first."""
COUNTED_WITH = ("empty_block", "large_transfer", "large_consolidation")
"""Kinds whose block is counted with those before it: the third in 1,081."""
LEAST_ORDERS = 10
"""The least ratio that is told in orders of magnitude."""
RELATED = ("sat/vB", "sat/kvB", "BTC", "sat", "blocks", "transactions", "%", "number")
"""Units in which values are related."""


def derived(signal: Signal) -> Iterator[Quantity]:
    """By the values it holds; what is no number is passed over."""
    told = {name: value for name, value in signal.metadata.items() if _is_number(value)}
    yield Quantity("confidence_rest", "%", 100 * (1 - Decimal(repr(signal.confidence))))
    yield from _counts(signal.kind, told, signal.block_height)
    yield from _of_block(signal.kind, told)
    yield from _known_for(signal)
    limit = (signal.inputs.get("settings") or {}).get("concentration_share")
    if signal.kind == "hashrate_concentration" and _is_number(limit):
        yield Quantity("limit_share", "%", 100 * Decimal(repr(limit)))
    for name, sat in _sums(told):
        yield from (Quantity(name, unit, sat / by) for unit, by in AMOUNTS)


def _counts(kind: str, told: Mapping[str, Any], height: int | None) -> Iterator[Quantity]:
    if "larger_before" in told:
        yield Quantity("larger_before", "transactions", Decimal(told["larger_before"]))
    if "streak" in told:
        yield Quantity("streak_rest", "blocks", Decimal(told["streak"] - 1))
        yield from (Quantity("first_height", "height", Decimal(last - told["streak"] + 1)) for last in [height] if last)
    if "transactions" in told and kind == "fee_overpaid":
        yield Quantity("transactions_rest", "transactions", Decimal(told["transactions"] - 1))
    if kind == "payments_resume":
        yield Quantity("usual_transactions", "transactions", Decimal(0))
    if "flow_blocks" in told and height:
        yield Quantity("first_height", "height", Decimal(height - told["flow_blocks"] + 1))
    for name, unit in (("entities_tested", "entities"), ("pools_tested", "pools")):
        yield from (Quantity(f"{name}_rest", unit, Decimal(told[name] - 1)) for _ in [told] if name in told)
    if {"share_before", "recent_blocks"} <= told.keys():
        yield Quantity("usual_blocks", "blocks", Decimal(round(told["share_before"] * told["recent_blocks"])))


def _of_block(kind: str, told: Mapping[str, Any]) -> Iterator[Quantity]:
    """What a block fills and leaves, told of a block; and windows told with the block itself."""
    if "weight_share" in told:
        filled = Decimal(repr(told["weight_share"]))
        yield Quantity("weight_share", "blocks", filled)
        yield Quantity("weight_share_rest", "blocks", 1 - filled)
    if kind in COUNTED_WITH and "window_blocks" in told:
        yield Quantity("window_and_this", "blocks", Decimal(told["window_blocks"] + 1))
    if told.get("ratio", 0) >= LEAST_ORDERS:
        yield Quantity("ratio_orders", "orders", Decimal(round(log10(told["ratio"]))))


def _known_for(signal: Signal) -> Iterator[Quantity]:
    """How long before the block holdings were known."""
    try:
        known = date.fromisoformat(str(signal.metadata.get("holdings_as_of")))
    except ValueError:
        return
    days = Decimal((datetime.fromtimestamp(signal.created_at, UTC).date() - known).days)
    yield Quantity("known_for", "days", days)
    yield Quantity("known_for", "weeks", days / 7)


def _sums(told: Mapping[str, Any]) -> Iterator[tuple[str, Decimal]]:
    """Amounts that follow from others: (name, sat)."""
    if told.get("holders") and "held" in told:
        yield "mean_held", Decimal(told["held"]) / told["holders"]
    for name in {"attributed_share", "unknown_share"} & told.keys() if "amount" in told else ():
        yield f"amount_{name}", Decimal(repr(told[name])) * Decimal(told["amount"])
    if {"change", "moved"} <= told.keys():
        yield "spent", Decimal(told["moved"] + told["change"] + told.get("fee", 0))


def relations(found: list[Quantity]) -> Iterator[Quantity]:
    """Values in relation to each other."""
    by_name = {(one.name, one.unit): one.value for one in found}
    for first, second in (*PAIRS, *REST):
        for unit in RELATED:
            a, b = by_name.get((first, unit)), by_name.get((second, unit))
            if a is not None and b is not None:
                yield Quantity(f"{first}_difference", unit, abs(a - b))
                yield from _ratios(f"{first}_ratio", a, b) if (first, second) in PAIRS else ()


def _ratios(name: str, a: Decimal, b: Decimal) -> Iterator[Quantity]:
    """One value as a multiple, a share and a change of another; none where either is zero."""
    if a and b:
        yield from (Quantity(name, "times", ratio) for ratio in (a / b, b / a))
        yield from (Quantity(name, "%", abs(100 * part)) for part in (a / b, b / a, a / b - 1, 1 - b / a))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
