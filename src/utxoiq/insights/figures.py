"""Figures of finished prose, each traced to a value of the signal it speaks of."""

from __future__ import annotations

import re
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from utxoiq.insights.derived import Quantity
from utxoiq.insights.moments import PER_DAY, blank, moments, odds
from utxoiq.insights.numbers import Figure, figures_in
from utxoiq.insights.quantities import quantities_of

if TYPE_CHECKING:
    from collections.abc import Container

    from utxoiq.models import Signal

COUNTED = {"blocks", "transactions", "inputs", "outputs", "pools", "entities", "count", "coins", "height"}
SHARED = {"BTC", "sat", "sat/vB", "sat/kvB"}
"""Units that one figure of a text may have for another: from 25 to 12.5 BTC."""
BARE = {"count", "number", "coins", "times", "height"}
"""Units of figures that may stand without one."""
PAIRED = re.compile(r"\s*(?:to|and|or|up to|versus|against|–|-)\s+(?:\w+\s+){0,2}", re.IGNORECASE)
PER_VBYTE = re.compile(r"\bper (?:virtual )?v?byte\b", re.IGNORECASE)
OF_RATES = re.compile(r"\b(?:fee ?rates?|median)\b", re.IGNORECASE)
DAYS = re.compile(r"\bdays?\b", re.IGNORECASE)
LOW_HEIGHT = 10_000
"""Heights above it are told from counts by their size."""
ROUND_WITHIN, PART_WITHIN = Decimal("0.03"), Decimal("0.13")
"""The same of a multiple told in round numbers, and of what is told as about a part or a round number."""
EXACT_WITHIN, WHOLE_WITHIN, ABOUT_WITHIN, BOUND_WITHIN = map(Decimal, ("0.006", "0.2", "0.055", "0.35"))
"""How far from the value a figure may be, as a share of it."""
ROUND_LIMIT, POWERS = Decimal("1.4"), {Decimal(10) ** power for power in range(-2, 7)}
"""Round numbers are limits of values further away: this, times BOUND_WITHIN, as a share of them."""


class Traced(NamedTuple):
    """A number with the values it may be; none where the signal holds no such value."""

    figure: Figure
    values: list[Quantity]


def trace(text: str, signal: Signal, *, of_confidence: bool = False) -> tuple[list[Traced], list[str], str]:
    """The numbers of a text with what they may be, what is wrong with its moments and odds, and the text with all of
    them blanked. `of_confidence`: how values relate to each other is no matter of the text."""
    rest, wrong = moments(text, signal)
    rest, wrong_odds = odds(PER_DAY.sub(blank, rest), signal)
    known = quantities_of(signal)
    if of_confidence:
        known = [one for one in known if not one.name.endswith(("_ratio", "_difference"))]
    figures = _percentages(rest, sorted(figures_in(rest), key=lambda one: one.start))
    shared = _shared_units(text, figures, signal)
    for figure in figures:
        rest = rest[: figure.start] + " " * (figure.end - figure.start) + rest[figure.end :]
    cases = [one for one in known if one.name == "cases"] if of_confidence else known
    held = {one: cases if one.bound == "magnitude" else known for one in figures}
    traced = [Traced(figure, [one for one in held[figure] if fits(figure, one, shared)]) for figure in figures]
    return traced, wrong + wrong_odds, rest


def _shared_units(text: str, figures: list[Figure], signal: Signal) -> set[str]:
    """Units that a figure may have without one: those the text has elsewhere, or speaks of."""
    shared = SHARED & {one.unit for one in figures}
    shared |= {"days"} if DAYS.search(text) else set()
    of_rates = signal.signal_type in ("mempool", "predictive") and OF_RATES.search(text)
    shared |= {"sat/vB"} if of_rates or PER_VBYTE.search(text) else set()
    return shared | ({"BTC", "sat"} if signal.kind == "halving" else set())


def _percentages(text: str, figures: list[Figure]) -> list[Figure]:
    """Figures in their order, those percentages that are told as such with the next one only: from 6 to 16 percent."""
    told = [
        first._replace(unit="%")
        if first.unit is None and second.unit == "%" and PAIRED.fullmatch(text, first.end, second.start)
        else first
        for first, second in pairwise(figures)
    ]
    return [*told, *figures[-1:]]


def fits(figure: Figure, quantity: Quantity, shared: Container[str] = ()) -> bool:
    """Whether a number may stand for a value: its unit, or one of those the text has where it is told without, and
    rounded or cut as it is written."""
    if figure.value == 0 and figure.unit is None:
        same_unit = True
    elif figure.unit is None:
        same_unit = quantity.unit in BARE | COUNTED or quantity.unit in shared
    elif quantity.unit == "height" and figure.unit in COUNTED | {"number"} and figure.value > LOW_HEIGHT:
        same_unit = True
    elif figure.unit == "sat" and quantity.unit in ("sat/vB", "sat/kvB"):
        same_unit = quantity.unit in shared
    elif quantity.unit in ("count", "coins"):
        same_unit = figure.unit in COUNTED | {"times"}
    else:
        same_unit = figure.unit == quantity.unit
    return same_unit and _near(figure, quantity)


def _near(figure: Figure, quantity: Quantity) -> bool:
    said, held = figure.value, quantity.value
    if figure.bound == "magnitude":
        return said <= held < 20 * said
    is_whole = held == held.to_integral()
    if (
        quantity.unit == "height"
        or quantity.name == "year"
        or (is_whole and abs(held) < 100 and figure.bound == "exact")
    ):
        return said == held
    apart, share = abs(said - held), abs(held)
    written = figure.step if "." in figure.text else Decimal(0)  # the digits after a point are meant
    tight = max(written, share * EXACT_WITHIN)
    if figure.bound == "about":
        whole = Decimal("0.5") if figure.step == 1 else Decimal(0)
        return apart <= max(min(figure.step, share * PART_WITHIN), share * ABOUT_WITHIN, min(whole, share / 2))
    if figure.bound in ("floor", "ceiling"):
        share = max(share, ROUND_LIMIT * said) if said in POWERS else share
        over = said - held if figure.bound == "floor" else held - said
        return (
            -(said if quantity.name == "p_value" and said < 1 else share * BOUND_WITHIN)
            <= over
            <= min(figure.step, tight)
        )
    if figure.unit == "times" and figure.step > 1:
        return apart <= min(figure.step, share * ROUND_WITHIN)
    cut = not is_whole or figure.step < 1  # figures are cut as often as they are rounded
    slack = figure.step if cut else figure.step / 2
    return apart <= min(slack, max(tight, min(Decimal("0.5"), share * WHOLE_WITHIN)))
