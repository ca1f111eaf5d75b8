"""The words of prose and the patterns it is searched for: package files in `words/`, each read once.

`words/neutral.txt` holds words that claim nothing, `words/claims.txt` those that claim what no
signal holds; `words/patterns.toml` holds words that claim a direction, a flow, a future or a certainty, which a kind of
signal must allow, and what those checks look for.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from utxoiq.insights.vocabulary import KINDS

if TYPE_CHECKING:
    from utxoiq.models import Signal

NAME, OTHER = "Xname", "Yname"
"""What stands for the signal's own name and for its counterparty while words are looked at."""
TOKEN = re.compile(r"[A-Za-z]+(?:['’\-‑][A-Za-z]+)*")
PLACE = re.compile(r"\{([A-Za-z_]+)\}")
"""What stands for a part in a pattern; the braces of a count hold digits."""
SUFFIXES = ("'s", "s", "es", "ed", "d", "ing", "er", "est", "ly", "ies", "ied", "ier", "iest")
Flow = Literal["in", "out", "within"]
LEVELS: dict[tuple[str, str], Literal["up", "down", "both"]] = {
    **{kind: told.direction for kind, told in KINDS.items() if told.direction},
    ("miner", "halving"): "down",
    ("miner", "underfilled_block"): "down",
    ("miner", "reward_unclaimed"): "down",
    ("miner", "hashrate_concentration"): "up",
    ("miner", "pool_streak"): "up",
    ("mempool", "fee_overpaid"): "up",
    ("mempool", "payments_resume"): "both",
    ("exchange", "net_inflow"): "up",
    ("exchange", "net_outflow"): "up",
    ("whale", "large_transfer"): "up",
    ("whale", "large_consolidation"): "up",
    ("predictive", "liquidity_inflow"): "both",
    ("treasury", "accumulation"): "up",
    ("treasury", "distribution"): "down",
    ("exchange", "large_deposit"): "up",
    ("predictive", "liquidity_outflow"): "both",
}
"""Which way the measured value lies from the usual one; flows are compared by size."""
FLOWS: dict[tuple[str, str], Flow] = {
    ("exchange", "net_inflow"): "in", ("exchange", "net_outflow"): "out", ("exchange", "large_deposit"): "in",
    ("exchange", "large_withdrawal"): "out", ("exchange", "internal_reshuffle"): "within",
    ("treasury", "accumulation"): "in", ("treasury", "distribution"): "out",
    ("treasury", "internal_reshuffle"): "within", ("miner", "miner_distribution"): "out",
    ("predictive", "liquidity_inflow"): "in", ("predictive", "liquidity_outflow"): "out",
    ("whale", "balance_above"): "in", ("whale", "balance_below"): "out", ("whale", "balance_gathered"): "in",
    ("whale", "balance_given"): "out",
}  # fmt: skip
AT_LEAST = {("exchange", "large_withdrawal"), ("treasury", "distribution"), ("miner", "miner_distribution")}
"""Kinds whose amount is a lower bound."""


class Allowed(NamedTuple):
    """What a signal's kind lets a text claim."""

    level: Literal["up", "down", "both"] | None
    flow: Flow | None
    forecast: bool
    at_least: bool
    extreme: bool


def allowed_of(signal: Signal) -> Allowed:
    """By its kind, and where that does not say, by its figures."""
    kind, told = (signal.signal_type, signal.kind), signal.metadata
    level = told.get("direction") if told.get("direction") in ("up", "down") else LEVELS.get(kind)
    return Allowed(
        level, FLOWS.get(kind), signal.signal_type == "predictive", kind in AT_LEAST,
        kind == ("mempool", "tx_count_record") or told.get("larger_before") == 0
        or (told.get("amount") or 0) > (told.get("most_amount") or 1 << 62),
    )  # fmt: skip


@cache
def tables() -> dict[str, dict[str, Any]]:
    """The tables of `words/patterns.toml`."""
    return tomllib.loads(_text("patterns.toml"))


@cache
def alternatives(name: str, table: str = "patterns") -> str:
    """The alternatives of a pattern as one expression, parts and marks put in place."""

    def put(match: re.Match[str]) -> str:
        marks = {"NAME": NAME, "OTHER": OTHER}
        return marks.get(match[1]) or f"(?:{alternatives(match[1], 'parts')})"

    return "|".join(PLACE.sub(put, one) for one in tables()[table][name])


@cache
def pattern(name: str) -> re.Pattern[str]:
    """A pattern by its name, whatever the case of letters."""
    return re.compile(alternatives(name), re.IGNORECASE)


@cache
def pattern_of_kind(table: str, signal_type: str, kind: str) -> re.Pattern[str] | None:
    """What a table has for a kind of signal, as whole words; None where it has nothing."""
    name = f"{signal_type}.{kind}"
    if name not in tables()[table]:
        return None
    return re.compile(rf"\b(?:{alternatives(name, table)})\b", re.IGNORECASE)


@cache
def listed(name: str, table: str = "words") -> frozenset[str]:
    """A list of words in their base form; empty for a type of signal that has none of its own."""
    words = tables()[table]
    return frozenset((words.get(name, "") if table == "words_of_type" else words[name]).split())


@cache
def neutral() -> frozenset[str]:
    """Words that claim nothing."""
    return _words("neutral.txt")


@cache
def claiming() -> frozenset[str]:
    """Words that claim what no signal holds: a cause, an intent, a judgement."""
    return _words("claims.txt")


@cache
def known_words(signal_type: str) -> frozenset[str]:
    """Every word a text on signals of this type may use where no check objects."""
    return neutral().union(listed(signal_type, "words_of_type"), *map(listed, tables()["words"]))


def _words(name: str) -> frozenset[str]:
    lines = _text(name).lower().splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


def _text(name: str) -> str:
    return (files("utxoiq.insights") / "words" / name).read_text("utf-8")


def bases(word: str) -> set[str]:
    """The word and what it may be a form of."""
    found = {word}
    for suffix in SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 2:
            stem = word[: -len(suffix)]
            found |= {stem, f"{stem}e"}
            if suffix.startswith("ie"):
                found.add(f"{stem}y")
            if len(stem) > 2 and stem[-1] == stem[-2]:
                found.add(stem[:-1])
    return found


def is_one_of(word: str, words: frozenset[str]) -> bool:
    """Whether a word is a form of one of these."""
    return not words.isdisjoint(bases(word))


def words_in(text: str) -> list[str]:
    """Its words in the order they stand, lower case."""
    return [match.group().lower() for match in TOKEN.finditer(text)]


def forms_of(text: str, name: str) -> list[str]:
    """The words of a text that are a form of one in a list."""
    return [word for word in words_in(text) if is_one_of(word, listed(name))]
