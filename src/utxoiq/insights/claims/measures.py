"""Figures, held against what they are told to be: measured or usual, of one or of all, before or now."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from utxoiq.insights.claims.reading import CLAUSE_END, Reading, reasons, sentences
from utxoiq.insights.lexicon import pattern
from utxoiq.units import COIN

if TYPE_CHECKING:
    from utxoiq.insights.derived import Quantity
    from utxoiq.insights.figures import Traced


HEIGHT = re.compile(r"\bblock\s{2,}")
SAME_ROLE = (
    "historical", "window", "confidence", "cases", "height", "block", "flow_blocks", "sums", "larger", "p_value",
)  # fmt: skip
"""Values that may stand where a usual one is told: they tell of how many it is the usual one, or what it is not."""
SHARE_DIFFERENCES = ("share_difference", "weight_share_difference")
PERCENT = re.compile(r"\s*(?:%|per ?cent\b)(?![\s-]*points?\b)", re.IGNORECASE)
RELATIONS = ("_ratio", "_difference", "_rest")
"""How values derived from others are called."""


def figures(reading: Reading) -> list[str]:
    """Every figure is a value of the signal."""
    strange = (one for one in reading.traced if not one.values or _is_unsaid_rest(one, reading.text))
    return reasons("a figure the signal doesn't hold", (one.figure.text for one in strange))


def _is_unsaid_rest(one: Traced, text: str) -> bool:
    """Whether it can only be what a share leaves, in a sentence that does not say so."""
    begin, end = next(span for span in sentences(text) if span[0] <= one.figure.start < span[1])
    is_rest = all(value.name.endswith("_rest") for value in one.values)
    return is_rest and not pattern("told_of_rest").search(text, begin, end)


def units(reading: Reading) -> list[str]:
    """A figure has one unit, and is of one thing where it is of all."""
    each = pattern("of_each_day" if reading.signal.kind == "halving" else "of_each").findall(reading.text)
    return [
        *reasons("two units of one figure", pattern("double_unit").findall(reading.text)),
        *reasons("a sum told as that of each", each),
    ]


def points(reading: Reading) -> list[str]:
    """How far a share has shifted is told in points, or as a part of what it was."""
    wrong = [
        one.figure.text
        for one in reading.traced
        if one.values
        and all(value.name in SHARE_DIFFERENCES for value in one.values)
        and PERCENT.match(reading.text, one.figure.end)
    ]
    return reasons("points told as percent", wrong)


def usual_as_measured(reading: Reading) -> list[str]:
    """A value of the past is told as one of the past, and the measured one as measured."""
    wrong = []
    for one in () if reading.signal.kind.startswith("balance") else reading.traced:
        before, after = reading.text[: one.figure.start], reading.text[one.figure.end :]
        clause = f"{CLAUSE_END.split(before)[-1]} {CLAUSE_END.split(after)[0]}"
        values = _own(one)
        told_before = pattern("called_before").search(before) or re.match(r"[^.;,]{0,12}?\bto\b\s*\d", after)
        if not values:
            continue
        if all(value.is_usual for value in values) and not pattern("baseline").search(clause) and not told_before:
            wrong += reasons("what is usual told as measured", [one.figure.text])
        compared = values[0].unit in ("sat/vB", "BTC", "transactions", "times")
        compared |= values[0].name.startswith("backlog") and "usual_backlog_blocks" in reading.signal.metadata
        is_measured = compared and not any(value.is_usual for value in values)
        if is_measured and (pattern("called_usual").search(before[-22:]) or pattern("had_been").search(after)):
            wrong += reasons("what was measured told as usual", [one.figure.text])
    return wrong


def order(reading: Reading) -> list[str]:
    """From what to what: the value of before comes first, and it is not the present one."""
    wrong = []
    for one in reading.traced:
        is_present = pattern("called_present").search(reading.text[: one.figure.start])
        if is_present and _usual_only(one) and one.figure.unit in ("%", "sat/vB", "BTC"):
            wrong += reasons("what was before told as now", [one.figure.text])
    for first, second in pairwise(reading.traced):
        between = reading.text[first.figure.end : second.figure.start]
        begins = re.search(r"\bfrom\b[^.;]{0,20}$", reading.text[: first.figure.start])
        goes = begins and len(between) < 60 and re.search(r"\bto\b", between)
        backwards = _usual_only(second) and not _usual_only(first) and first.values
        if backwards and (goes or pattern("became").search(between)):
            wrong += reasons("told from after to before", [f"{first.figure.text} to {second.figure.text}"])
    return wrong


def usual_and_most(reading: Reading) -> list[str]:
    """What is told as usual is no largest of before, and the other way round."""
    names = {name.split("_")[0] for name in reading.signal.metadata}
    wrong = []
    for one in (one for one in reading.traced if one.figure.unit not in ("times", "number")):
        own = {value.name for value in _own(one)}
        before, after = HEIGHT.sub("block #", reading.rest[: one.figure.start]), reading.text[one.figure.end :]
        for told, prefix in (("usual", "usual"), ("most", "most")):
            match = pattern(f"told_{told}").search(before)
            called = bool(match and not pattern("apart").search(match[0])) or pattern(f"is_{told}").search(after)
            if called and prefix in names and own and not any(name.startswith((prefix, *SAME_ROLE)) for name in own):
                wrong += reasons(f"told as the {told} one", [one.figure.text])
    return wrong


def windows(reading: Reading) -> list[str]:
    """Of two windows, what was found in each is told of it."""
    wrong = []
    for begin, end in sentences(reading.text):
        inside = [one for one in reading.traced if begin <= one.figure.start < end]
        names = [{value.name for value in one.values} for one in inside]
        recent, before = (any(name in each for each in names) for name in ("recent_blocks", "window_blocks"))
        told = {"blocks_before"} if recent and not before else {"blocks"} if before and not recent else set()
        wrong += [one.figure.text for one, each in zip(inside, names, strict=True) if each and each <= told]
    return reasons("found in the other window", wrong)


def roles(reading: Reading) -> list[str]:
    """What is called a fee is one, and so are change, a share of holdings, and what was left unclaimed."""
    wrong = [one.figure.text for one in reading.traced if one.values and not _in_its_role(one, reading)]
    return reasons("an amount told as another one", wrong)


def _in_its_role(one: Traced, reading: Reading) -> bool:
    before, after = reading.text[: one.figure.start], reading.text[one.figure.end :]
    names = [value.name for value in one.values]
    if "holdings_change" in reading.signal.metadata and pattern("of_holdings").search(after):
        return any(name.startswith(("holdings", "inferred", "known")) for name in names)
    if one.figure.unit not in ("BTC", "sat"):
        return True
    left = pattern("called_left").search(before) or pattern("is_left").search(after)
    if reading.signal.kind == "reward_unclaimed" and left:
        return "unclaimed" in names
    own = _own(one)
    held = own and all(value.name.startswith(("labelled", "known", "held")) for value in own)
    if held and pattern("called_amount").search(before):
        return False
    called = [name for name in ("fee", "change") if pattern(f"called_{name}").search(before)]
    return not called or any(name.startswith(called[-1]) for name in names)


def holdings(reading: Reading) -> list[str]:
    """What labels know to be held lies above, or below, what was last told to be held as it is told."""
    told = reading.signal.metadata
    balance, known = told.get("labelled_balance"), told.get("known_holdings")
    if balance is None or known is None:
        return []
    untrue = "floor" if balance <= known else "ceiling"
    alone = [one for one in reading.traced if {value.name for value in one.values} == {"known_holdings"}]
    exact = [one.figure for one in alone if one.figure.unit == "BTC" and one.figure.value * COIN == known]
    return reasons("a comparison that does not hold", [one.text for one in exact if one.bound == untrue])


def _own(one: Traced) -> list[Quantity]:
    """The values a figure may be, without those derived from two."""
    return [value for value in one.values if not value.name.endswith(RELATIONS)]


def _usual_only(one: Traced) -> bool:
    values = [value for value in _own(one) if value.name != "current_value"]
    return bool(values) and all(value.is_usual for value in values)
