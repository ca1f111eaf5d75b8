"""What prose claims, held against what its signal shows. Each check tells why a text must not be published."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from utxoiq.insights.lexicon import (
    NAME,
    OTHER,
    TOKEN,
    Allowed,
    claiming,
    forms_of,
    is_one_of,
    known_words,
    listed,
    pattern,
    pattern_of_kind,
    words_in,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from utxoiq.insights.figures import Traced
    from utxoiq.insights.quantities import Quantity
    from utxoiq.models import Signal

SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
CLAUSE_END = re.compile(r"[.;]")
BEGINNING = re.compile(r"(?:[.!?:;(\"“–—-]\s*|\d\s*|^\W*)$")
"""Before a word that may have a capital."""
GENITIVE = re.compile(r"['’]s$")
DAYS_AND_MONTHS = frozenset(
    "monday tuesday wednesday thursday friday saturday sunday january february march april may june july august "
    "september october november december".split()
)
PROPER = frozenset(
    "bitcoin utc btc core bitcoins p fisher txid tx vb kvb sat sats id ids api i ok btc-blocks coin-blocks".split()
)
"""Words that may have capitals, or are no words."""
CONTRACTED = frozenset({"t", "s", "re", "ve", "ll", "d"})
"""What an apostrophe leaves behind it."""
RELATIONS = ("_ratio", "_difference", "_rest")
"""How values derived from others are called."""
FORETOLD = ("predicted", "interval", "confidence_interval", "target")
"""How the values of a forecast are called."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A text taken apart; all its forms are of the same length."""

    text: str
    """With names masked."""
    rest: str
    """With figures and moments blanked, too."""
    traced: tuple[Traced, ...]
    signal: Signal
    allowed: Allowed
    about_signal: bool
    """Whether it tells what happened, and not how sure that is."""


def _reasons(what: str, found: Iterable[str]) -> list[str]:
    told = sorted({one.strip() for one in found})
    return [f"{what} ({', '.join(told)})"] if told else []


def figures(reading: Reading) -> list[str]:
    """Every figure is a value of the signal."""
    return _reasons("a figure the signal doesn't hold", (one.figure.text for one in reading.traced if not one.values))


def units(reading: Reading) -> list[str]:
    """A figure has one unit."""
    return _reasons("two units of one figure", pattern("double_unit").findall(reading.text))


def usual_as_measured(reading: Reading) -> list[str]:
    """A value of the past is told as one of the past, and the measured one as measured."""
    wrong = []
    for one in reading.traced:
        before, after = reading.text[: one.figure.start], reading.text[one.figure.end :]
        clause = f"{CLAUSE_END.split(before)[-1]} {CLAUSE_END.split(after)[0]}"
        values = _own(one)
        told_before = pattern("called_before").search(before) or re.match(r"[^.;,]{0,12}?\bto\b\s*\d", after)
        if not values:
            continue
        if all(value.is_usual for value in values) and not pattern("baseline").search(clause) and not told_before:
            wrong += _reasons("what is usual told as measured", [one.figure.text])
        compared = values[0].unit in ("sat/vB", "BTC", "transactions", "times")
        is_measured = compared and not any(value.is_usual for value in values)
        if is_measured and pattern("called_usual").search(before[-22:]):
            wrong += _reasons("what was measured told as usual", [one.figure.text])
    return wrong


def order(reading: Reading) -> list[str]:
    """From what to what: the value of before comes first, and it is not the present one."""
    wrong = []
    for first, second in pairwise(reading.traced):
        between = reading.text[first.figure.end : second.figure.start]
        begins = re.search(r"\bfrom\b[^.;]{0,20}$", reading.text[: first.figure.start])
        backwards = _usual_only(second) and not _usual_only(first) and first.values
        if begins and backwards and len(between) < 60 and re.search(r"\bto\b", between):
            wrong += _reasons("told from after to before", [f"{first.figure.text} to {second.figure.text}"])
        is_present = pattern("called_present").search(reading.text[: second.figure.start])
        if is_present and _usual_only(second) and second.figure.unit in ("%", "sat/vB", "BTC"):
            wrong += _reasons("what was before told as now", [second.figure.text])
    return wrong


def _own(one: Traced) -> list[Quantity]:
    """The values a figure may be, without those derived from two."""
    return [value for value in one.values if not value.name.endswith(RELATIONS)]


def _usual_only(one: Traced) -> bool:
    values = [value for value in _own(one) if value.name != "current_value"]
    return bool(values) and all(value.is_usual for value in values)


def words(reading: Reading) -> list[str]:
    """Every word is in a list, and has capitals only where a sentence begins."""
    known = known_words(reading.signal.signal_type)
    strange, names, claimed = [], [], []
    for match in TOKEN.finditer(reading.rest):
        word = GENITIVE.sub("", match.group()).replace("’", "'")
        lower = word.lower()
        if word in (NAME, OTHER) or lower in PROPER:
            continue
        if _claims(lower, reading.allowed):
            claimed.append(word)
        elif not _is_known(lower, known):
            strange.append(word)
        elif _is_name(word) and not BEGINNING.search(reading.rest[: match.start()]):
            names.append(word)
    return [
        *_reasons("a claim no signal holds", claimed),
        *_reasons("a word its kind has no use for", strange),
        *_reasons("a name the signal doesn't hold", names),
    ]


def _claims(word: str, allowed: Allowed) -> bool:
    """Whether a word claims what no signal holds; those of flows are judged by the flow where there is one."""
    is_of_flow = allowed.flow in ("in", "out") and word in listed("inward") | listed("outward")
    return is_one_of(word, claiming()) and not is_of_flow


def _is_known(word: str, known: frozenset[str]) -> bool:
    """Whether it, or each part of it, is a form of a known word."""
    if is_one_of(word, known):
        return True
    return all(not part or is_one_of(part, known | CONTRACTED) for part in re.split(r"[-‑']", word))


def _is_name(word: str) -> bool:
    return not word.islower() and not word.isupper() and word.lower() not in DAYS_AND_MONTHS


def levels(reading: Reading) -> list[str]:
    """No direction but the one the measured value lies in."""
    rest = reading.rest
    if reading.signal.kind == "purging":
        rest = pattern("purged_below").sub(" ", rest)
    up, down = forms_of(rest, "rising"), forms_of(rest, "falling")
    up += ["above"] if pattern("told_above").search(rest) else []
    rest = pattern("chance_below").sub(" ", rest)
    up += ["higher"] if pattern("told_higher").search(rest) else []
    down += ["below"] if pattern("told_below").search(rest) and not re.search(r"below\s*$", rest) else []
    down += ["lower"] if pattern("told_lower").search(rest) else []
    neither = [word for word in (*up, *down) if word not in ("above", "below")]
    wrong = {"up": down, "down": up, "both": [], None: neither}[reading.allowed.level]
    return _reasons("a direction the signal doesn't show", wrong)


def flows(reading: Reading) -> list[str]:
    """No flow but the one the signal is about; a net flow may be told by both its sides."""
    flow, rest = reading.allowed.flow, reading.rest
    if flow is None:
        return _reasons("a flow the signal is not about", listed("trade").intersection(words_in(rest)))
    told = pattern("most_of_it").sub(" ", rest)
    wrong: list[str] = []
    if flow == "within":
        told = pattern("denial").sub(" ", told)
    else:
        net, opposite_net = ("net_in", "net_out") if flow == "in" else ("net_out", "net_in")
        told = pattern(net).sub(" ", told)
        wrong += pattern(opposite_net).findall(told)
    against = {"in": ("outward",), "out": ("inward",), "within": ("inward", "outward")}[flow]
    for name in against:
        wrong += pattern(name).findall(told) + forms_of(told, name)
    if OTHER in told and NAME not in told:
        wrong.append("its counterparty told in its place")
    return _reasons("a flow the signal doesn't show", wrong)


def sides(reading: Reading) -> list[str]:
    """Its own name is where the flow goes to, or comes from, and its counterparty is on the other side."""
    if reading.allowed.flow not in ("in", "out"):
        return []
    wrong_for_name, wrong_for_other = {"in": ("from_name", "to_other"), "out": ("to_name", "from_other")}[
        reading.allowed.flow
    ]
    told = pattern("labelled_as").sub(NAME, reading.rest)
    swapped = ["source and destination are swapped"] if pattern(wrong_for_name).search(told) else []
    misplaced = pattern(wrong_for_other).search(reading.rest)
    return swapped + (["its counterparty is told on the wrong side"] if misplaced else [])


def givers_and_takers(reading: Reading) -> list[str]:
    """Who is told to have given gave, and who is told to have taken took."""
    if reading.allowed.flow not in ("in", "out"):
        return []
    wrong = {"in": ("name_sent", "other_received"), "out": ("name_received", "other_sent")}[reading.allowed.flow]
    swapped = any(pattern(name).search(reading.rest) for name in wrong)
    return ["who gave and who took are swapped"] if swapped else []


def certainty(reading: Reading) -> list[str]:
    """Nothing surer, greater or more complete than data can show."""
    rest, allowed = reading.rest, reading.allowed
    names = ["overstated", "first"]
    names += ["whole_amount"] if allowed.at_least else []
    names += [] if allowed.extreme else ["ever"]
    names += [] if allowed.extreme or pattern("on_record").search(rest) else ["record"]
    names += [] if reading.signal.signal_type == "treasury" else ["balance"]
    found = [one for name in names for one in pattern(name).findall(rest)]
    found += pattern("all_of").findall(pattern("nearly_all").sub("", rest))
    deniable = ("guarantee", "definit") if pattern("certain_denied").search(rest) else ()
    found += [one for one in pattern("certain").findall(rest) if not one.lower().startswith(deniable)]
    return _reasons("more than the signal shows", found)


def denials(reading: Reading) -> list[str]:
    """Only what is known not to be is denied."""
    wrong = [match[0] for match in pattern("denial").finditer(reading.rest) if not _may_deny(match, reading)]
    return _reasons("a denial of something", wrong)


def _may_deny(match: re.Match[str], reading: Reading) -> bool:
    denial = match[0]
    if pattern("safe_denial").search(reading.rest[max(0, match.start() - 12) : match.end()]):
        return True
    if reading.allowed.extreme and pattern("unequalled").search(denial):
        return True
    if not reading.about_signal and pattern("safe_of_method").search(denial):
        return True
    of_kind = pattern_of_kind("safe_of_kind", reading.signal.signal_type, reading.signal.kind)
    return of_kind is not None and of_kind.match(denial) is not None


def opposite(reading: Reading) -> list[str]:
    """Nothing that turns its kind into the opposite."""
    against = pattern_of_kind("opposite", reading.signal.signal_type, reading.signal.kind)
    return _reasons("the opposite of what its kind says", against.findall(reading.rest) if against else [])


def doings(reading: Reading) -> list[str]:
    """Nobody's doings, no cause and no price: no signal holds them."""
    names = ("doers", "brought_about", "under_way", "price", "identities", "namesakes")
    rest = pattern("flowing").sub(" ", reading.rest) if reading.allowed.flow in ("in", "out") else reading.rest
    found = [one for name in names for one in pattern(name).findall(rest)]
    return _reasons("doings the signal doesn't show", found)


def calibration(reading: Reading) -> list[str]:
    """A confidence that was not calibrated is told as no proof."""
    if reading.signal.confidence_basis.get("calibrated"):
        return []
    claimed = [sentence for sentence in SENTENCE.split(reading.rest) if not pattern("denied").search(sentence)]
    found = [one for sentence in claimed for one in pattern("proven").findall(sentence)]
    found += [one for sentence in claimed for one in pattern("real_chain").findall(sentence)]
    return _reasons("a proof the confidence doesn't have", found)


def sources(reading: Reading) -> list[str]:
    """A confidence comes from what the program counted, and from nobody's word."""
    return _reasons("a source the confidence doesn't have", pattern("sources").findall(reading.rest))


def tense(reading: Reading) -> list[str]:
    """Forecasts are no facts, and facts no forecasts."""
    if not reading.allowed.forecast:
        told = pattern("by_chance").sub("", reading.rest)
        return _reasons("a future the signal doesn't speak of", pattern("future").findall(told))
    wrong = ["a forecast told as certain"] if pattern("certain_future").search(reading.rest) else []
    ends = [match.end() for match in SENTENCE.finditer(reading.text)]
    spans = pairwise([0, *ends, len(reading.text)])
    before = ""
    for begin, end in spans:
        names = [{value.name for value in one.values} for one in reading.traced if begin <= one.figure.start < end]
        sentence = reading.text[begin:end]
        if any(map(_only_foretold, names)):
            wrong += _told_as_fact(before, sentence, measured=any("current_value" in one for one in names))
        before = sentence
    return wrong


def _told_as_fact(before: str, sentence: str, *, measured: bool) -> list[str]:
    """What is wrong with a sentence that holds a forecast. `measured`: it holds the present value, too."""
    goes_on = pattern("goes_on").search(sentence) and pattern("forecast").search(before)
    wrong = [] if goes_on or pattern("forecast").search(sentence) else ["a forecast told as a fact"]
    if measured or pattern("was_forecast").search(sentence):
        return wrong
    return wrong + _reasons("a forecast told as having come", pattern("came_true").findall(sentence))


def _only_foretold(names: set[str]) -> bool:
    """Whether a figure can be nothing but a value that was forecast."""
    own = {name for name in names if not name.endswith(("_ratio", "_difference")) and not name.startswith("historical")}
    return bool(own) and all(name.startswith(FORETOLD) for name in own)
