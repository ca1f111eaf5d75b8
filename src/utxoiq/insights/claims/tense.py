"""Forecasts, which are no facts, and facts, which are no forecasts."""

from __future__ import annotations

from utxoiq.insights.claims.reading import Reading, reasons, sentences
from utxoiq.insights.lexicon import pattern

FORETOLD = ("predicted", "interval", "confidence_interval", "target")
"""How the values of a forecast are called."""


def tense(reading: Reading) -> list[str]:
    """Forecasts are no facts, and facts no forecasts."""
    if not reading.allowed.forecast:
        told = pattern("by_chance").sub("", reading.rest)
        is_headline = not told.rstrip().endswith((".", "!", "?"))
        futures = ("future", "to_come") if is_headline and reading.about_signal else ("future",)
        return reasons(
            "a future the signal doesn't speak of", (one for name in futures for one in pattern(name).findall(told))
        )
    told = pattern("conditional").sub(" ", reading.rest)
    wrong = ["a forecast told as certain"] if pattern("certain_future").search(told) else []
    before = ""
    for begin, end in sentences(reading.text):
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
    return wrong + reasons("a forecast told as having come", pattern("came_true").findall(sentence))


def _only_foretold(names: set[str]) -> bool:
    """Whether a figure can be nothing but a value that was forecast."""
    own = {name for name in names if not name.endswith(("_ratio", "_difference")) and not name.startswith("historical")}
    return bool(own) and all(name.startswith(FORETOLD) for name in own)
