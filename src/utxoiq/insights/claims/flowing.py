"""Directions and flows, held against the kind of the signal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from utxoiq.insights.claims.reading import Reading, reasons
from utxoiq.insights.lexicon import NAME, OTHER, forms_of, listed, pattern, pattern_of_kind, words_in
from utxoiq.insights.moments import blank
from utxoiq.insights.numbers import bound_before

if TYPE_CHECKING:
    from utxoiq.models import Signal

MULTIPLIED = re.compile(r"\b(?:doubled|tripled|quadrupled|quintupled)\b", re.IGNORECASE)
"""Rises that are figures, too."""


def levels(reading: Reading) -> list[str]:
    """No direction but the one the measured value lies in."""
    rest = _without_bounds(reading)
    if reading.signal.kind == "purging":
        rest = pattern("purged_below").sub(" ", rest)
    beside: list[str] = []
    if reading.allowed.forecast:
        beside = [m[0] for m in pattern("present_beside").finditer(rest) if _is_beside(m, reading.signal) is False]
        rest = pattern("beside_interval").sub(lambda match: _beside(match, reading.signal), rest)
    up, down = forms_of(rest, "rising"), forms_of(rest, "falling")
    up += ["above"] if pattern("told_above").search(rest) else []
    up += MULTIPLIED.findall(reading.text)
    rest = pattern("chance_below").sub(" ", rest)
    up += ["higher"] if pattern("told_higher").search(rest) else []
    down += ["below"] if pattern("told_below").search(rest) and not re.search(r"below\s*$", rest) else []
    down += ["lower"] if pattern("told_lower").search(rest) else []
    neither = [word for word in (*up, *down) if word not in ("above", "below")]
    wrong = {"up": down, "down": up, "both": [], None: neither}[reading.allowed.level]
    return reasons("a direction the signal doesn't show", [*wrong, *beside])


def _beside(match: re.Match[str], signal: Signal) -> str:
    """Blanks for a word that says on which side of the forecast's interval the present value lies, if it does."""
    return blank(match) if _is_beside(match, signal) else match[0]


def _is_beside(match: re.Match[str], signal: Signal) -> bool | None:
    """None where the signal does not tell."""
    told = signal.metadata
    low, high = told.get("confidence_interval") or (None, None)
    now, is_above = told.get("current_value"), match["side"].lower() in ("above", "over", "beyond")
    limit = high if is_above else low
    if now is None or limit is None:
        return None
    return bool(now > limit if is_above else now < limit)


def _without_bounds(reading: Reading) -> str:
    """The text without the words that make a measured figure a bound: they compare it with nothing."""
    rest = reading.rest
    for figure, values in reading.traced:
        limited = reading.signal.kind.startswith(("balance", "hashrate"))
        own = [one for one in values if not (limited and one.name.startswith(("limit", "balance_difference")))]
        measured = [one for one in own if not one.is_usual and (figure.unit == "%" or "_ratio" not in one.name)]
        before = bound_before(reading.text, figure.start) if figure.unit != "times" else None
        if before and not measured and not (values and pattern("of_before").search(reading.text[: before[0]])):
            continue
        if before and not pattern("compares").search(reading.text[: before[0]]):
            rest = rest[: before[0]] + " " * (before[1] - before[0]) + rest[before[1] :]
    return rest


def flows(reading: Reading) -> list[str]:
    """No flow but the one the signal is about; a net flow may be told by both its sides."""
    flow, rest = reading.allowed.flow, reading.rest
    if flow is None:
        return reasons("a flow the signal is not about", listed("trade").intersection(words_in(rest)))
    told = pattern("most_of_it").sub(" ", rest)
    wrong: list[str] = []
    if flow == "within":
        told = pattern("denial_whole").sub(" ", told)
    else:
        net, opposite_net = ("net_in", "net_out") if flow == "in" else ("net_out", "net_in")
        told = pattern(net).sub(" ", told)
        wrong += pattern(opposite_net).findall(told)
    against = {"in": ("outward",), "out": ("inward",), "within": ("inward", "outward")}[flow]
    for name in against:
        wrong += pattern(name).findall(told) + forms_of(told, name)
    if flow in ("in", "out"):
        told = pattern(f"other_in_place_{flow}").sub(" ", told)
    if OTHER in pattern("other_labelled").sub(" ", told) and NAME not in told:
        wrong.append("its counterparty told in its place")
    return reasons("a flow the signal doesn't show", wrong)


def sides(reading: Reading) -> list[str]:
    """Its own name is where the flow goes to, or comes from, and its counterparty is on the other side."""
    if reading.allowed.flow not in ("in", "out"):
        return []
    wrong_for_name, wrong_for_other = {"in": ("from_name", "to_other"), "out": ("to_name", "from_other")}[
        reading.allowed.flow
    ]
    net = "net_in" if reading.allowed.flow == "in" else "net_out"
    told = pattern(net).sub(" ", pattern("labelled_as").sub(NAME, reading.rest))
    swapped = ["source and destination are swapped"] if pattern(wrong_for_name).search(told) else []
    misplaced = pattern(wrong_for_other).search(pattern("other_labelled").sub(OTHER, reading.rest))
    return swapped + (["its counterparty is told on the wrong side"] if misplaced else [])


def givers_and_takers(reading: Reading) -> list[str]:
    """Who is told to have given gave, and who is told to have taken took."""
    if reading.allowed.flow not in ("in", "out"):
        return []
    if reading.signal.kind.startswith("balance"):
        return []
    wrong = {"in": ("name_sent", "other_received"), "out": ("name_received", "other_sent")}[reading.allowed.flow]
    swapped = any(pattern(name).search(reading.rest) for name in wrong)
    return ["who gave and who took are swapped"] if swapped else []


def opposite(reading: Reading) -> list[str]:
    """Nothing that turns its kind into the opposite."""
    against = pattern_of_kind("opposite", reading.signal.signal_type, reading.signal.kind)
    return reasons("the opposite of what its kind says", against.findall(reading.rest) if against else [])
