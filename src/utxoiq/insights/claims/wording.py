"""Words, each of which must be in a list, and none of which may claim what no signal holds."""

from __future__ import annotations

import re

from utxoiq.insights.claims.reading import Reading, reasons
from utxoiq.insights.lexicon import (
    NAME,
    OTHER,
    TOKEN,
    Allowed,
    claiming,
    is_one_of,
    known_words,
    listed,
)

BEGINNING = re.compile(r"(?:[.!?:;(\"“–—-]\s*|\d\s*|^\W*)$")
"""Before a word that may have a capital."""
MIXED = re.compile(r"\b(?=\w*\d)(?=\w*[A-Za-z])\w+")
"""Letters and digits in one word."""
COUNTING = re.compile(r"\d+(?:k|m|mn|bn|x|h|s|d|w|y|st|nd|rd|th|btc|sats?|utc|z|pct)|p2\w+", re.IGNORECASE)
"""A number with its unit or ending, or a type of script."""
COINBASE = re.compile(r"\s+(?:transactions?|txs?|outputs?|tags?|rewards?|scripts?|values?|claim\w*|payouts?|coins?)\b")
"""Behind the word: it is a transaction's, and no exchange's."""
GENITIVE = re.compile(r"['’]s$")
DAYS_AND_MONTHS = frozenset(
    "monday tuesday wednesday thursday friday saturday sunday january february march april may june july august "
    "september october november december".split()
)
PROPER = frozenset(
    "bitcoin utc btc core bitcoins p fisher txid tx vb kvb sat sats id ids api i ok btc-blocks btc-plus "
    "coin-blocks".split()
)
"""Words that may have capitals, or are no words."""
MARKS = frozenset({NAME.lower(), OTHER.lower()})
LONGEST_SMALL = 4
"""Words as long may be small in a headline whose words have capitals."""
CONTRACTED = frozenset({"t", "s", "re", "ve", "ll", "d"})
"""What an apostrophe leaves behind it."""


def words(reading: Reading) -> list[str]:
    """Every word is in a list, and has capitals only where a sentence begins."""
    known = known_words(reading.signal.signal_type)
    strange, claimed = [], []
    titled = _is_titled(reading.rest)
    names = [word for word in MIXED.findall(reading.rest) if not COUNTING.fullmatch(word)]
    for match in TOKEN.finditer(reading.rest):
        word = GENITIVE.sub("", match.group()).replace("’", "'")
        lower = word.lower()
        if word == "Coinbase" and not COINBASE.match(reading.text, match.end()):
            names.append(word)
        if word in (NAME, OTHER) or lower in PROPER:
            continue
        if not reading.about_signal and is_one_of(lower, listed("of_method")):
            continue
        if _claims(lower, reading.allowed):
            claimed.append(word)
        elif not _is_known(lower, known):
            strange.append(word)
        elif (
            not titled
            and not word.startswith((NAME, OTHER))
            and _is_name(word)
            and not BEGINNING.search(reading.rest[: match.start()])
        ):
            names.append(word)
    return [
        *reasons("a claim no signal holds", claimed),
        *reasons("a word its kind has no use for", strange),
        *reasons("a name the signal doesn't hold", names),
    ]


def _claims(word: str, allowed: Allowed) -> bool:
    """Whether a word claims what no signal holds; those of flows are judged by the flow where there is one."""
    is_of_flow = allowed.flow in ("in", "out") and word in listed("inward") | listed("outward")
    return is_one_of(word, claiming()) and not is_of_flow


def _is_known(word: str, known: frozenset[str]) -> bool:
    """Whether it, or each part of it, is a form of a known word."""
    if is_one_of(word, known):
        return True
    return all(not part or is_one_of(part, known | CONTRACTED | MARKS) for part in re.split(r"[-‑']", word))


def _is_titled(text: str) -> bool:
    """Whether its words have capitals throughout, as headlines may have; a sentence that ends is none."""
    long = [word for word in TOKEN.findall(text)[1:] if len(word) > LONGEST_SMALL and word not in (NAME, OTHER)]
    return not text.rstrip().endswith((".", "!", "?")) and bool(long) and all(word[0].isupper() for word in long)


def _is_name(word: str) -> bool:
    return not word.islower() and not word.isupper() and word.lower() not in DAYS_AND_MONTHS
