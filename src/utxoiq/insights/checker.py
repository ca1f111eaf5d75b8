"""The check that words are true: numbers, names and dates only in slots, and no word the signal contradicts.

It reads a text before its slots are filled, since afterwards a figure of the signal and one of a model look alike,
and once more when they are: every figure of the finished text must stand in a slot.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from utxoiq.insights.slots import fill, names_in, prose_of
from utxoiq.insights.vocabulary import KINDS

if TYPE_CHECKING:
    from utxoiq.models import Signal

HEADLINE_LIMIT = 80
SENTENCES = range(2, 4)

NUMBER_WORDS = frozenset(
    [
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
        "twenty",
        "thirty",
        "forty",
        "fifty",
        "hundred",
        "hundreds",
        "thousand",
        "thousands",
        "million",
        "millions",
        "billion",
        "billions",
        "trillion",
        "dozen",
        "dozens",
        "half",
        "halves",
        "third",
        "quarter",
        "double",
        "doubled",
        "triple",
        "tripled",
        "twice",
        "thrice",
        "once",
        "couple",
    ]
)
DATE_WORDS = frozenset(
    [
        "january",
        "february",
        "march",
        "april",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
        "sunday",
        "today",
        "yesterday",
        "tomorrow",
    ]
)
UNIT_WORDS = frozenset(
    [
        "btc",
        "sat",
        "sats",
        "satoshi",
        "satoshis",
        "bitcoin",
        "bitcoins",
        "usd",
        "eur",
        "dollar",
        "dollars",
        "percent",
        "vb",
        "kvb",
        "wu",
    ]
)
CLAIMS = frozenset(
    [
        "because",
        "cause",
        "caused",
        "causes",
        "causing",
        "due",
        "dump",
        "dumping",
        "dumped",
        "pump",
        "pumping",
        "pumped",
        "insider",
        "insiders",
        "manipulation",
        "manipulated",
        "manipulating",
        "panic",
        "panicking",
        "fear",
        "greed",
        "bullish",
        "bearish",
        "intends",
        "intended",
        "intention",
        "plans",
        "planned",
        "wants",
        "wanted",
        "hides",
        "hiding",
        "laundering",
        "laundered",
        "stolen",
        "theft",
        "hack",
        "hacked",
        "fraud",
        "scam",
        "illegal",
        "suspicious",
        "will",
        "shall",
    ]
)
OPENERS = frozenset(
    ["a", "an", "the", "from", "among", "by", "at", "block", "fees", "rates", "it", "no", "this", "each", "in"]
)
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
FIGURE = re.compile(r"\d[\d.,:\-]*")
ACTIVE = re.compile(r"https?:|www\.|[<>`@#$%€£\\\n\r\t]|\]\(")


class InsightContent(NamedTuple):
    """A text with slots, as a provider gives it."""

    headline: str
    summary: str
    confidence_explanation: str


def check(content: InsightContent, signal: Signal, slots: dict[str, str]) -> list[str]:
    """Why this text must not be published; empty where nothing speaks against it."""
    reasons: list[str] = []
    for part, text in content._asdict().items():
        try:
            reasons += [f"{part}: {reason}" for reason in _check_text(text, signal, slots)]
        except ValueError as error:
            reasons.append(f"{part}: {error}")
    return reasons or _check_shape(content, slots)


def _check_text(text: str, signal: Signal, slots: dict[str, str]) -> list[str]:
    unknown = [name for name in names_in(text) if name not in slots]
    if unknown:
        return [f"no such slot: {', '.join(unknown)}"]
    prose = prose_of(text)
    words = [(match.group(), match.start()) for match in WORD.finditer(prose)]
    lower = {word.lower() for word, _ in words}
    kind = KINDS.get((signal.signal_type, signal.kind))
    findings = {
        "a digit outside a slot": re.findall(r"\d", prose),
        "a link, markup or currency sign": ACTIVE.findall(prose),
        "a number word outside a slot": lower & NUMBER_WORDS,
        "a date word outside a slot": lower & DATE_WORDS,
        "a unit outside a slot": lower & UNIT_WORDS,
        "a cause, intent or promise data can't show": lower & CLAIMS,
        "a direction the signal contradicts": lower & (kind.contradictions if kind else frozenset()),
        "a name outside a slot": [word for word, at in words if _is_name(word, prose[:at])],
    }
    found = [f"{what} ({', '.join(sorted(set(which)))})" for what, which in findings.items() if which]
    figures = set(FIGURE.findall(fill(text, slots))) - {f for value in slots.values() for f in FIGURE.findall(value)}
    loose = [figure for figure in figures if not any(figure.rstrip(".,:-") in value for value in slots.values())]
    return found + ([f"a figure that is not the signal's ({', '.join(loose)})"] if loose else [])


def _is_name(word: str, before: str) -> bool:
    if word.islower() or word == "Confidence":
        return False
    begins = not before.strip() or before.rstrip().endswith((".", ":"))
    return not (begins and word.lower() in OPENERS and word[1:].islower() | (len(word) == 1))


def _check_shape(content: InsightContent, slots: dict[str, str]) -> list[str]:
    headline = fill(content.headline, slots)
    sentences = len(re.findall(r"[.!?](?:\s|$)", prose_of(content.summary)))
    reasons = []
    if not 1 <= len(headline) <= HEADLINE_LIMIT:
        reasons.append(f"headline: {len(headline)} characters, where 1 to {HEADLINE_LIMIT} fit")
    if sentences not in SENTENCES or not content.summary.rstrip().endswith("."):
        reasons.append(f"summary: {sentences} sentences, where it must have two or three")
    return reasons
