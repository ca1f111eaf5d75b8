"""The check of words: what a text may say lets it through, anything else is refused with the reason."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache

import pytest

from processors.cases import KINDS, signal_of
from utxoiq.insights.checker import HEADLINE_LIMIT, InsightContent, check
from utxoiq.insights.slots import names_in, slots_of
from utxoiq.models import Signal

HEADLINE = "Fees reached {feerate_kvb} in block {height}"
SUMMARY = "The median rate was {feerate_kvb}. The usual rate is {usual_feerate_kvb}."
EXPLANATION = "Confidence {confidence}, as {basis}."


@cache
def signals() -> dict[str, Signal]:
    """A signal of each kind, from its case."""

    async def all_of_them() -> dict[str, Signal]:
        return {kind: await signal_of(kind) for kind in KINDS}

    with ThreadPoolExecutor(1) as elsewhere:  # the first to ask may itself run in an event loop
        return elsewhere.submit(asyncio.run, all_of_them()).result()


def reasons(
    headline: str = HEADLINE, summary: str = SUMMARY, explanation: str = EXPLANATION, kind: str = "fee_spike"
) -> str:
    """Why this text of a signal of `kind` is refused, in one line; empty where it is not."""
    signal = signals()[kind]
    return "; ".join(check(InsightContent(headline, summary, explanation), signal, slots_of(signal)))


def refused(sentence: str, kind: str = "fee_spike") -> str:
    """The reasons against one more sentence in a text that is fine, wherever it is put; the same in each place."""
    summary = SUMMARY if kind == "fee_spike" else "It was block {height}. It came at {block_time}."
    headline = "A headline of block {height}"
    explanation = "Confidence {confidence}."
    assert reasons(headline, summary, explanation, kind) == ""
    found = {
        "summary": (headline, f"{summary} {sentence}.", explanation),
        "headline": (sentence, summary, explanation),
        "confidence_explanation": (headline, summary, f"{explanation} {sentence}."),
    }
    texts = {part: reasons(*text, kind).replace(f"{part}: ", "") for part, text in found.items()}
    assert len(set(texts.values())) == 1, texts
    return texts["summary"]


def test_a_text_of_slots_and_plain_words_passes() -> None:
    assert reasons() == ""


@pytest.mark.parametrize(
    "sentence",
    [
        "Rates rose above the usual rate",
        "The block holds {window_blocks}",
        "By the miners' own clocks it came late",
        "It is a block of fees: the rates say so",
        "No miner's fee was that high",
        "Fees fit in a block, it seems",
        "A rate may rise again",
    ],
)
def test_plain_sentences_pass(sentence: str) -> None:
    """The check must leave something to say: possessives, colons, modal "may", slots at the end."""
    assert refused(sentence) == ""


@pytest.mark.parametrize("digit", ["3", "144", "1.5", "٣", "३", "３", "²", "½", "Ⅻ", "ⅻ", "③", "三"])
def test_figures_of_any_script_stand_in_slots_only(digit: str) -> None:
    """Arabic, Devanagari, full-width, superscript, fraction, Roman, circled, Chinese."""
    assert refused(f"It took {digit} blocks")


NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion trillion "
    "dozen dozens hundreds thousands millions half quarter twice thrice double triple"
)


@pytest.mark.parametrize("word", NUMBERS.split(" "))
def test_a_number_word_is_a_number(word: str) -> None:
    """Alone, in capitals, and in a compound."""
    for text in (word, word.upper(), f"{word}-fold"):
        assert refused(f"The rate is {text} of the usual")


@pytest.mark.parametrize(
    "word",
    ["January", "february", "MARCH", "april", "May", "june", "july", "august", "september", "october", "november",
     "december", "monday", "tuesday", "Wednesday", "thursday", "friday", "saturday", "sunday", "today", "yesterday",
     "tomorrow"],
)  # fmt: skip
def test_a_date_stands_in_a_slot_only(word: str) -> None:
    assert refused(f"It was mined in {word}")


@pytest.mark.parametrize(
    "unit",
    ["BTC", "btc", "sats", "satoshi", "sat/vB", "bitcoins", "USD", "dollars", "percent", "%", "$", "€", "₿", "¥"],
)
def test_a_unit_belongs_to_its_slot(unit: str) -> None:
    """`{feerate_kvb}` shows as "20 sat/vB": a second unit would make another amount of it."""
    assert refused(f"It paid {{feerate_kvb}} {unit}")


@pytest.mark.parametrize(
    "text",
    ["http://example.org", "https://example.org", "www.example.org", "example.com", "user@example.org", "<b>high</b>",
     "`code`", "#fees", "[link](there)", "a\\b", "a\nb", "a\rb", "a\tb", "fees\u202ehgih", "mil\u200blion",
     "bell\u0007", "line\u2028break", "soft\u00adhyphen"],
)  # fmt: skip
def test_no_link_no_markup_no_control_character(text: str) -> None:
    """Nothing that a page could act on, nothing invisible that changes what is read."""
    assert refused(f"It shows {text} here")


@pytest.mark.parametrize(
    "text",
    ["It was found by Foundry", "Foundry found it", "The block of AntPool", "Satoshi returned", "it was F2Pool",
     "Binance. It moved", "From Kraken", "MARA rose", "An ETF bought", "It was McDonald", "The NSA knew"],
)  # fmt: skip
def test_a_name_stands_in_a_slot_only(text: str) -> None:
    """At the beginning of a sentence, within it, in capitals, half in capitals."""
    assert "a name outside a slot" in refused(text)


@pytest.mark.parametrize(
    "slot",
    ["{nothing}", "{fees}",
     "{FEERATE_KVB}", "{signal}", "{subject}", "{self}", "{}", "{0}", "{ height }", "{height", "height}",
     "{fee.__class__}", "{height.__class__.__mro__}", "{height!r}", "{height!s}", "{height:>10}", "{height:}}",
     "{height[0]}", "{height:{cases}}", "{height!r:>{cases}}", "{basis.format}", "{__import__}"],
)  # fmt: skip
def test_only_plain_slots_of_the_signal(slot: str) -> None:
    """Unknown names, attributes, indexes, conversions, formats and broken braces are refused, not evaluated."""
    assert refused(f"It was {slot} then")


@pytest.mark.parametrize("text", ["{height}{cases}", "{height}.{cases}", "{height},{cases}", "-{feerate_kvb}",
                                  "{height}k", "−{height}"])  # fmt: skip
def test_slots_are_not_glued_into_another_value(text: str) -> None:
    """Two figures side by side, a sign before one or a letter behind it, read as a figure nobody measured."""
    assert refused(f"It was {text} then")


@pytest.mark.parametrize(
    "word",
    ["because", "caused", "due", "dumped", "pumping", "insiders", "manipulation", "panic", "fear", "greed", "bullish",
     "bearish", "intends", "plans", "wants", "hides", "laundering", "stolen", "hack", "fraud", "scam", "suspicious",
     "will", "shall"],
)  # fmt: skip
def test_no_cause_intent_or_promise(word: str) -> None:
    """Data shows what happened, not why, nor what follows; in capitals neither."""
    assert "can't show" in refused(f"The rate is high {word} of demand")
    assert "can't show" in refused(f"The rate is high {word.upper()} of demand")


@pytest.mark.parametrize(
    ("kind", "word"),
    [("fee_spike", word) for word in ("fell", "lower", "dropped", "less", "down", "declined", "sank")]
    + [("fee_drop", word) for word in ("rose", "higher", "jumped", "more", "up", "spike", "surged")]
    + [("tx_count_record", word) for word in ("fell", "lower", "dropped", "down")],
)
def test_no_direction_the_kind_contradicts(kind: str, word: str) -> None:
    assert "a direction the signal contradicts" in refused(f"The numbers {word} again", kind)


@pytest.mark.parametrize(("kind", "word"), [("fee_spike", "rose"), ("fee_drop", "fell"), ("tx_count_record", "more")])
def test_its_own_direction_may_be_said(kind: str, word: str) -> None:
    assert refused(f"The numbers {word} again", kind) == ""


@pytest.mark.parametrize(("direction", "true", "false"), [("up", "rose", "fell"), ("down", "fell", "rose")])
def test_a_share_goes_the_way_its_signal_says(direction: str, true: str, false: str) -> None:
    """One kind, two directions: the signal's own decides."""
    signal = signals()["pool_share_shift"]
    signal = replace(signal, metadata={**signal.metadata, "direction": direction})

    def found(word: str) -> list[str]:
        content = InsightContent(
            "A share {share}", f"The share {word} to {{share}}. It was {{share_before}}.", "{basis}"
        )
        return check(content, signal, slots_of(signal))

    assert found(true) == []
    assert found(false) != []


@pytest.mark.parametrize(("length", "passes"), [(80, True), (81, False)])
def test_a_headline_has_eighty_characters_when_filled(length: int, passes: bool) -> None:
    """Counted as it is shown, not as it is written."""
    signal = signals()["fee_spike"]
    headline = "a" * (length - len(slots_of(signal)["feerate_kvb"])) + "{feerate_kvb}"
    headline = headline.replace("a{", " {", 1)
    assert (reasons(headline) == "") is passes
    assert HEADLINE_LIMIT == 80


@pytest.mark.parametrize("headline", ["", " ", "   "])
def test_a_headline_says_something(headline: str) -> None:
    assert "headline" in reasons(headline)


@pytest.mark.parametrize(
    ("summary", "passes"),
    [
        ("", False),
        ("It rose.", False),
        ("It rose. It stayed.", True),
        ("It rose. It stayed. It is high.", True),
        ("It rose. It stayed. It is high. It lasts.", False),
        ("It rose. It stayed", False),
        ("It rose to {feerate_kvb}. It was {usual_feerate_kvb}.", True),
    ],
)
def test_a_summary_has_two_or_three_sentences(summary: str, passes: bool) -> None:
    """The points within a filled slot are none of its sentences."""
    found = reasons(summary=summary)
    assert ("summary" in found) is not passes


def test_every_reason_is_told_at_once() -> None:
    """With the part of the text it is about, for a provider that tries again."""
    found = reasons("Foundry paid 3 BTC", "It rose because of {nothing}. It stayed.", "Confidence {confidence!r}.")
    for expected in (
        "headline: a digit outside a slot (3)",
        "headline: a name outside a slot (BTC, Foundry)",
        "summary: no such slot: nothing",
        "confidence_explanation: {confidence} is no plain slot",
    ):
        assert expected in found


def test_every_slot_of_every_signal_may_be_used() -> None:
    """A text that lists all slots of a signal passes: their own figures, units and names are not held against it."""
    for kind, signal in signals().items():
        slots = slots_of(signal)
        listed = ", ".join(f"{{{name}}}" for name in slots)
        content = InsightContent("A list", f"The slots are {listed}. It is all of them.", "{confidence}")
        assert check(content, signal, slots) == [], kind
        assert names_in(content.summary) == list(slots)
