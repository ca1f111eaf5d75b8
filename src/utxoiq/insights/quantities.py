"""What a signal lets a text say in figures: every value in every unit people write it in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from utxoiq.processors.discovery import declared_kinds
from utxoiq.processors.metadata import HORIZON_BLOCKS
from utxoiq.units import COIN

if TYPE_CHECKING:
    from utxoiq.models import Signal
    from utxoiq.processors.metadata import Unit


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
PER_BLOCK = Decimal(144)
"""Blocks a day."""
NOUNS: Mapping[str, str] = {
    "most_before": "transactions", "usual_transactions": "transactions", "empty_before": "blocks", "blocks": "blocks",
    "blocks_before": "blocks", "larger_before": "blocks", "age_days": "days", "coins": "coins",
}  # fmt: skip
"""What is counted, where the unit does not say."""
WRITTEN: Mapping[str, tuple[tuple[str, Decimal], ...]] = {
    "sat": (("BTC", Decimal(COIN)), ("sat", Decimal(1))),
    "sat/kvB": (("sat/vB", Decimal(1000)), ("sat/kvB", Decimal(1))),
    "seconds": (("seconds", Decimal(1)), ("minutes", Decimal(60)), ("hours", Decimal(3600))),
}
"""The units people write a unit in, each with how many of the latter it has."""
DAYS = (("days", Decimal(1)), ("weeks", Decimal(7)), ("months", Decimal("30.4")), ("years", Decimal("365.25")))
"""Units of an age with their days."""
MOST_DAYS = 36_500
"""Older coins than a century there are none."""
INTERVAL_PERCENT = 80
"""The forecasts' intervals are meant to hold so often (docs/signals/predictive.md)."""
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
REST = (("recent_blocks", "blocks"), ("amount", "largest"))
"""Values of which a text may tell what the second leaves of the first."""


def quantities_of(signal: Signal) -> list[Quantity]:
    """Every figure a true text may hold."""
    values = {**signal.metadata, "confidence": signal.confidence, "cases": signal.confidence_basis.get("cases")}
    units = {**units_of(signal), "confidence": "share", "cases": "count"}
    found = [one for name, value in values.items() for one in _quantities(name, value, units.get(name), units)]
    if signal.block_height is not None:
        found.append(Quantity("height", "height", Decimal(signal.block_height)))
    if signal.signal_type == "predictive":
        found.append(Quantity("interval", "%", Decimal(INTERVAL_PERCENT)))
        found += [one._replace(unit="days") for one in found if one.name == "cases"]
    found += _composed(signal)
    found.append(Quantity("block", "blocks", Decimal(1)))
    return [*found, *_relations(found)]


def _composed(signal: Signal) -> Iterator[Quantity]:
    """What follows from several values: the first block of a streak, and all that a transaction spent."""
    told = signal.metadata
    if told.get("seen_at") is not None:
        yield Quantity("seen_before", "seconds", Decimal(abs(signal.created_at - told["seen_at"])))
    yield from (Quantity("year", "number", Decimal(moment.year)) for moment in times_of(signal)[:1])
    for born in born_days(signal)[:1]:
        yield Quantity("born_year", "number", Decimal(born.year))
    if told.get("streak") and signal.block_height is not None:
        yield Quantity("first_height", "height", Decimal(signal.block_height - told["streak"] + 1))
    yield Quantity("confidence_rest", "%", 100 * (1 - Decimal(repr(signal.confidence))))
    if told.get("larger_before") is not None:
        yield Quantity("larger_before", "transactions", Decimal(told["larger_before"]))
    if told.get("streak"):
        yield Quantity("streak_rest", "blocks", Decimal(told["streak"] - 1))
    if signal.kind == "fee_overpaid":
        yield Quantity("transactions_rest", "transactions", Decimal(told["transactions"] - 1))
    if told.get("share_before") and told.get("recent_blocks"):
        yield Quantity("usual_blocks", "blocks", Decimal(round(told["share_before"] * told["recent_blocks"])))
    if signal.kind == "hashrate_concentration":
        yield Quantity("limit_share", "%", 100 * Decimal(repr(signal.inputs["settings"].get("concentration_share", 0))))
    yield from _composed_amounts(told)


def _composed_amounts(told: Mapping[str, Any]) -> Iterator[Quantity]:
    if told.get("holders"):
        yield from (
            Quantity("mean_held", shown, Decimal(told["held"]) / told["holders"] / by) for shown, by in WRITTEN["sat"]
        )
    for name in ("attributed_share", "unknown_share"):
        if told.get(name) and told.get("amount"):
            known = Decimal(repr(told[name])) * told["amount"]
            yield from (Quantity(f"amount_{name}", shown, known / divisor) for shown, divisor in WRITTEN["sat"])
    if told.get("change") is not None and told.get("moved") is not None:
        total = Decimal(told["moved"] + told["change"] + told.get("fee", 0))
        yield from (Quantity("spent", shown, total / divisor) for shown, divisor in WRITTEN["sat"])


def units_of(signal: Signal) -> Mapping[str, Unit]:
    """The unit of each value of its metadata."""
    schema = declared_kinds().get((signal.signal_type, signal.kind), {})
    return {name: field.unit for name, field in schema.items()}


def times_of(signal: Signal) -> list[datetime]:
    """The moments a text may name, UTC."""
    units = units_of(signal)
    told = [value for name, value in signal.metadata.items() if units.get(name) == "time" and value is not None]
    return [datetime.fromtimestamp(value, UTC) for value in (signal.created_at, *told)]


def born_days(signal: Signal) -> list[date]:
    """About when coins at rest were made: their age is told in blocks, so the day within a month."""
    age = signal.metadata.get("age_days")
    if age is None or age > MOST_DAYS:
        return []
    born = datetime.fromtimestamp(signal.created_at, UTC).date() - timedelta(days=age)
    return [born, born - timedelta(days=30), born + timedelta(days=30)]


def days_of(signal: Signal) -> set[date]:
    """The days a text may name."""
    known = signal.metadata.get("holdings_as_of")
    days = {moment.date() for moment in times_of(signal)} | set(born_days(signal))
    try:
        return days | ({date.fromisoformat(known)} if known else set())
    except ValueError:
        return days


def _quantities(name: str, value: Any, unit: Unit | None, units: Mapping[str, Unit]) -> Iterator[Quantity]:
    if isinstance(value, list) and name == "confidence_interval":
        for one in value:
            yield from _quantities(name, one, units["predicted_value"], units)
    elif unit == "horizon":
        yield from _in_time(name, Decimal(HORIZON_BLOCKS.get(value, 0)))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        of_forecast = name.startswith("historical")
        yield from _numbers(name, Decimal(repr(value)), units["predicted_value"] if of_forecast else unit)


def _numbers(name: str, value: Decimal, unit: Unit | None) -> Iterator[Quantity]:
    """A number in every unit people write it in."""
    counted = NOUNS.get(name)
    if written := WRITTEN.get(str(unit)):
        yield from (Quantity(name, shown, value / divisor) for shown, divisor in written)
    elif unit in ("share", "probability"):
        yield from _shares(name, value)
    elif unit == "ratio":
        yield Quantity(name, "number" if "coin_blocks" in name else "times", value)
    elif "blocks" in (unit, counted):
        yield from _in_time(name, value)
    elif counted == "days":
        yield from (Quantity(name, shown, value / days) for shown, days in DAYS)
    else:
        yield Quantity(name, counted or str(unit), value)


def _in_time(name: str, blocks: Decimal) -> Iterator[Quantity]:
    yield Quantity(name, "blocks", blocks)
    for divisor, shown in ((PER_BLOCK, "days"), (PER_BLOCK / 24, "hours"), (PER_BLOCK * 7, "weeks")):
        if blocks / divisor >= 1:
            yield Quantity(name, shown, blocks / divisor)


def _shares(name: str, share: Decimal) -> Iterator[Quantity]:
    yield Quantity(name, "%", 100 * share)
    yield Quantity(name, "number", share)
    if name in (
        "attributed_share",
        "unknown_share",
        "block_attributed_share",
        "share",
        "share_of_fees",
        "weight_share",
    ):
        yield Quantity(f"{name}_rest", "%", 100 * (1 - share))
    if name == "p_value" and share > 0:
        yield Quantity(name, "in", 1 / share)


def _relations(found: list[Quantity]) -> Iterator[Quantity]:
    by_name = {(one.name, one.unit): one.value for one in found}
    for first, second in (*PAIRS, *REST):
        for unit in ("sat/vB", "sat/kvB", "BTC", "sat", "blocks", "transactions", "%", "number"):
            a, b = by_name.get((first, unit)), by_name.get((second, unit))
            if a is not None and b is not None:
                yield Quantity(f"{first}_difference", unit, abs(a - b))
                yield from _ratios(f"{first}_ratio", a, b) if (first, second) in PAIRS else ()


def _ratios(name: str, a: Decimal, b: Decimal) -> Iterator[Quantity]:
    """One value as a multiple, a share and a change of another; none where either is zero."""
    if a and b:
        yield from (Quantity(name, "times", ratio) for ratio in (a / b, b / a))
        yield from (Quantity(name, "%", abs(100 * part)) for part in (a / b, b / a, a / b - 1, 1 - b / a))
