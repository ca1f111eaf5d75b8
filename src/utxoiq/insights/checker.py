"""The check that words are true: numbers, names and dates only in slots, and no word the signal contradicts.

It reads a text before its slots are filled, since afterwards a figure of the signal and one of a model look alike. What
may stand outside slots is listed, rather than what may not: plain English letters and a little punctuation, so that no
digit, currency sign, markup, link or invisible character of any script comes through.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from utxoiq.insights.slots import HOLE, fill, names_in, prose_of
from utxoiq.insights.vocabulary import contradictions

if TYPE_CHECKING:
    from utxoiq.models import Signal

HEADLINE_LIMIT = 80
SENTENCES = range(2, 4)

NUMBER_WORDS = frozenset(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred hundreds thousand thousands "
    "million millions billion billions trillion trillions dozen dozens half halves third thirds quarter quarters "
    "double doubled triple tripled quadruple quadrupled twice thrice once couple pair".split()
)
DATE_WORDS = frozenset(
    "january february march april may june july august september october november december monday tuesday wednesday "
    "thursday friday saturday sunday today yesterday tomorrow".split()
)
UNIT_WORDS = frozenset(
    "btc sat sats satoshi satoshis bitcoin bitcoins usd eur dollar dollars percent vb kvb wu".split()
)
CLAIMS = frozenset(
    "because cause caused causes causing due dump dumping dumped pump pumping pumped insider insiders manipulation "
    "manipulated manipulating panic panicking fear greed bullish bearish intend intends intended intention plan plans "
    "planned want wants wanted hide hides hiding laundering laundered stolen theft hack hacked fraud scam illegal "
    "suspicious will shall".split()
)
OPENERS = frozenset(
    "a an the from among by at block fees rates it no this each in confidence of over labels nothing change value for "
    "as that whether pressure relief its after large".split()
)
WORD = re.compile(r"[A-Za-z]+(?:['’][A-Za-z]+)*")
PLAIN = re.compile(rf"[A-Za-z ,.:;'’()–{HOLE}-]*")
LINK = re.compile(r"[A-Za-z]\.[A-Za-z]")
WHOLE_SLOT = re.compile(rf"(?:^|(?<=[ (])){HOLE}(?=$|[ )]|[,.;:](?: |$)|['’]s )")


@dataclass(frozen=True, slots=True)
class InsightContent:
    """A text with slots, as a provider gives it, and what it cost to get it."""

    headline: str
    summary: str
    confidence_explanation: str
    tokens_in: int = 0
    tokens_out: int = 0

    @property
    def texts(self) -> dict[str, str]:
        """Its three texts by name."""
        return {name: getattr(self, name) for name in ("headline", "summary", "confidence_explanation")}


def check(content: InsightContent, signal: Signal, slots: dict[str, str]) -> list[str]:
    """Why this text must not be published; empty where nothing speaks against it."""
    reasons: list[str] = []
    for part, text in content.texts.items():
        try:
            reasons += [f"{part}: {reason}" for reason in _check_text(text, signal, slots)]
        except ValueError as error:
            reasons.append(f"{part}: {error}")
    return reasons or check_shape(content, slots)


def _check_text(text: str, signal: Signal, slots: dict[str, str]) -> list[str]:
    unknown = [name for name in names_in(text) if name not in slots]
    if unknown:
        return [f"no such slot: {', '.join(unknown)}"]
    prose = prose_of(text)
    words = [(match.group(), match.start()) for match in WORD.finditer(prose)]
    lower = {word.lower() for word, _ in words}
    strange = set(PLAIN.sub("", prose))
    digits = {character for character in strange if character.isnumeric()}
    findings = {
        "a digit outside a slot": digits,
        "a character outside a slot that is no plain English": strange - digits,
        "a link": LINK.findall(prose),
        "a slot grown together with what is beside it": [t for t in prose.split(" ") if HOLE in WHOLE_SLOT.sub("", t)],
        "a number word outside a slot": lower & NUMBER_WORDS,
        "a date word outside a slot": {w for w in lower & DATE_WORDS if w != "may"} | _months(words),
        "a unit outside a slot": lower & UNIT_WORDS,
        "a cause, intent or promise data can't show": lower & CLAIMS,
        "a direction the signal contradicts": lower & contradictions(signal),
        "a name outside a slot": [word for word, at in words if _is_name(word, prose[:at])],
    }
    return [f"{what} ({', '.join(sorted(set(which)))})" for what, which in findings.items() if which]


def _months(words: list[tuple[str, int]]) -> set[str]:
    """The word "may" is a month where it is capitalised."""
    return {word for word, _ in words if word in ("May", "MAY")}


def _is_name(word: str, before: str) -> bool:
    """Whether a word has capitals that no beginning of a sentence explains."""
    if word.islower():
        return False
    begins = not before.strip() or before.rstrip().endswith((".", ":"))
    capital_only = word[0].isupper() and (word[1:].islower() or len(word) == 1)
    return not (begins and capital_only and word.lower() in OPENERS)


def check_shape(content: InsightContent, slots: dict[str, str]) -> list[str]:
    headline = fill(content.headline, slots)
    sentences = len(re.findall(r"[.!?](?: |$)", prose_of(content.summary)))
    reasons = []
    if not headline.strip() or len(headline) > HEADLINE_LIMIT:
        reasons.append(f"headline: {len(headline)} characters, where 1 to {HEADLINE_LIMIT} fit")
    if sentences not in SENTENCES or not content.summary.endswith((".", "!", "?")):
        reasons.append(f"summary: {sentences} sentences, where it must have two or three")
    return reasons
