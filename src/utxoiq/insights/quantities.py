"""What a signal lets a text say in figures: every value in every unit people write it in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from utxoiq.insights.derived import AMOUNTS, Quantity, derived, relations
from utxoiq.processors.discovery import declared_kinds
from utxoiq.processors.metadata import HORIZON_BLOCKS

if TYPE_CHECKING:
    from utxoiq.models import Signal
    from utxoiq.processors.metadata import Unit


PER_BLOCK = Decimal(144)
"""Blocks a day."""
NOUNS: Mapping[str, str] = {
    "most_before": "transactions", "usual_transactions": "transactions", "empty_before": "blocks", "blocks": "blocks",
    "blocks_before": "blocks", "larger_before": "blocks", "age_days": "days", "coins": "coins",
}  # fmt: skip
"""What is counted, where the unit does not say."""
WRITTEN: Mapping[str, tuple[tuple[str, Decimal], ...]] = {
    "sat": AMOUNTS,
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
    found += [*_dates(signal), *derived(signal)]
    found.append(Quantity("block", "blocks", Decimal(1)))
    return [*found, *relations(found)]


def _dates(signal: Signal) -> Iterator[Quantity]:
    """Years, and how long before the block its mempool was looked at."""
    told = signal.metadata
    if isinstance(told.get("seen_at"), int):
        yield Quantity("seen_before", "seconds", Decimal(abs(signal.created_at - told["seen_at"])))
    yield Quantity("year", "number", Decimal(datetime.fromtimestamp(signal.created_at, UTC).year))
    for born in born_days(signal)[:1]:
        yield Quantity("born_year", "number", Decimal(born.year))


def units_of(signal: Signal) -> Mapping[str, Unit]:
    """The unit of each value of its metadata."""
    schema = declared_kinds().get((signal.signal_type, signal.kind), {})
    return {name: field.unit for name, field in schema.items()}


def times_of(signal: Signal) -> list[datetime]:
    """The moments a text may name, UTC."""
    units = units_of(signal)
    told = [value for name, value in signal.metadata.items() if units.get(name) == "time" and isinstance(value, int)]
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
    if signal.metadata.get("forecast_horizon") == "24h":
        days |= {day + timedelta(days=1) for day in days}
    try:
        return days | ({date.fromisoformat(str(known))} if known else set())
    except ValueError:
        return days


def _quantities(name: str, value: Any, unit: Unit | None, units: Mapping[str, Unit]) -> Iterator[Quantity]:
    if isinstance(value, list) and name == "confidence_interval":
        for one in value:
            yield from _quantities(name, one, units.get("predicted_value"), units)
    elif unit == "horizon":
        yield from _in_time(name, Decimal(HORIZON_BLOCKS.get(value, 0)))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        of_forecast = name.startswith("historical")
        yield from _numbers(name, Decimal(repr(value)), units.get("predicted_value") if of_forecast else unit)


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
        "inferred_share",
        "block_attributed_share",
        "share",
        "share_of_fees",
        "weight_share",
    ):
        yield Quantity(f"{name}_rest", "%", 100 * (1 - share))
    if name == "p_value" and share > 0:
        yield Quantity(name, "in", 1 / share)
