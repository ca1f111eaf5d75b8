"""Figures of prose: what a number says in whatever form, and which values of a signal it may stand for."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from insights.test_checker import signals
from utxoiq.insights.derived import Quantity
from utxoiq.insights.figures import fits, trace
from utxoiq.insights.numbers import Figure, figures_in


def only(text: str) -> Figure:
    """The one number of a text."""
    (figure,) = figures_in(text)
    return figure


def fit(text: str, value: str, unit: str) -> bool:
    """Whether the number of a text may stand for a value."""
    return fits(only(text), Quantity("amount", unit, Decimal(value)))


def wrong_in(text: str, kind: str, *, of_confidence: bool = False) -> list[str]:
    """Figures and moments of a text that a signal of this kind doesn't hold."""
    traced, wrong, _ = trace(text, signals()[kind], of_confidence=of_confidence)
    return wrong + [one.figure.text for one in traced if not one.values]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("900,144", "900144"),
        ("900 144", "900144"),
        ("900\u202f144", "900144"),
        ("900'144", "900144"),
        ("1,234.5", "1234.5"),
        ("0.05", "0.05"),
        ("2.5k", "2500"),
        ("3 million", "3000000"),
        ("1.2bn", "1200000000"),
        ("six", "6"),
        ("Twenty-one", "21"),
        ("forty", "40"),
        ("three hundred", "300"),
        ("one hundred and forty-four", "144"),
        ("twice", "2"),
        ("fivefold", "5"),
        ("half", "50"),
        ("a quarter", "25"),
        ("two thirds", "66.66666666666666666666666667"),
        ("ninefold", "9"),
        ("half a dozen", "6"),
        ("5.4 trillion", "5400000000000"),
        ("8 in a million", "0.000008"),
        ("995 times in a thousand", "0.995"),
        ("one block in six", "16.66666666666666666666666667"),
        ("seven-tenths of a bitcoin", "0.7"),
        ("40% of a block", "0.4"),
        ("half a million", "500000"),
        ("14 and a half years", "14.5"),
        ("one fifty-ninth", "1.694915254237288135593220339"),
        ("one five-hundredth", "0.2"),
        ("tens of thousands", "10000"),
        ("quintuple", "5"),
    ],
)
def test_a_number_in_digits_or_words_is_read(text: str, value: str) -> None:
    assert abs(only(text).value - Decimal(value)) < Decimal("1e-9")


@pytest.mark.parametrize("text", ["one of them", "the two before it", "no number", "within half an hour", "v1x2"])
def test_words_that_are_pronouns_more_often_than_figures_are_none(text: str) -> None:
    assert list(figures_in(text)) == []


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("20 sat/vB", "sat/vB"),
        ("20 sats per vbyte", "sat/vB"),
        ("20,000 sat/kvB", "sat/kvB"),
        ("5 BTC", "BTC"),
        ("5 bitcoins", "BTC"),
        ("500 sats", "sat"),
        ("99.7%", "%"),
        ("99.7 per cent", "%"),
        ("3.3 times", "times"),
        ("3.3x", "times"),
        ("144 blocks", "blocks"),
        ("144 earlier blocks", "blocks"),
        ("six in a row", "blocks"),
        ("500 transactions", "transactions"),
        ("block 900144", "height"),
        ("at a height of 900144", "height"),
        ("7 years", "years"),
        ("12 minutes", "minutes"),
        ("30.4 BTC-blocks", "number"),
        ("six Bitcoin blocks", "blocks"),
        ("seven-tenths of a bitcoin", "BTC"),
        ("a quarter of a satoshi per vbyte", "sat/vB"),
        ("500 pct", "%"),
        ("five orders of magnitude", "orders"),
        ("the 99.7th", "%"),
        ("1,000-plus BTC addresses", "BTC"),
        ("block six heights ahead", "blocks"),
        ("block 144 ahead of", "height"),
        ("412 lifts block", None),
        ("500", None),
    ],
)
def test_a_unit_is_what_stands_beside_the_number(text: str, unit: str | None) -> None:
    assert only(text).unit == unit


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("20 BTC", "exact"),
        ("about 20 BTC", "about"),
        ("roughly 20 BTC", "about"),
        ("20 BTC or so", "about"),
        ("at least 20 BTC", "floor"),
        ("more than 20 BTC", "floor"),
        ("20 BTC or more", "floor"),
        ("less than 20 BTC", "ceiling"),
        ("up to 20 BTC", "ceiling"),
        ("20+ BTC", "floor"),
        ("20-plus BTC", "floor"),
        ("sub-20 sat/vB", "ceiling"),
        ("near-20 BTC", "about"),
    ],
)
def test_a_bound_is_read_from_the_words_beside_the_number(text: str, bound: str) -> None:
    assert only(text).bound == bound


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("20 BTC", "20", "BTC"),
        ("20.5 BTC", "20.4512", "BTC"),  # rounded
        ("20.4 BTC", "20.4812", "BTC"),  # cut
        ("5,500 BTC", "5486.2", "BTC"),
        ("2.7k BTC", "2747.6", "BTC"),
        ("about 21 BTC", "20", "BTC"),
        ("at least 20 BTC", "20.9", "BTC"),
        ("more than 20 BTC", "20.9", "BTC"),
        ("less than 21 BTC", "20.9", "BTC"),
        ("144", "144", "count"),
        ("144 transactions", "144", "count"),
    ],
)
def test_a_figure_fits_the_value_it_was_rounded_or_cut_from(text: str, value: str, unit: str) -> None:
    assert fit(text, value, unit)


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("21 BTC", "20", "BTC"),
        ("20.6 BTC", "20.4512", "BTC"),
        ("20", "20", "BTC"),  # an amount has its unit
        ("20 sats", "20", "BTC"),
        ("20 sat/kvB", "20", "sat/vB"),
        ("about 25 BTC", "20", "BTC"),
        ("at least 21 BTC", "20", "BTC"),
        ("at least 10 BTC", "20", "BTC"),
        ("less than 19 BTC", "20.9", "BTC"),
        ("less than 40 BTC", "20.9", "BTC"),
        ("block 900,145", "900144", "height"),
        ("about 900,145", "900144", "height"),
        ("7 blocks", "6", "blocks"),
    ],
)
def test_a_figure_does_not_fit_another_value_or_unit(text: str, value: str, unit: str) -> None:
    assert not fit(text, value, unit)


@pytest.mark.parametrize(
    "text",
    [
        "20 sat/vB in block 900,144, 10 times the usual 2 sat/vB",
        "20,000 sat/kvB, a tenfold of 2,000 sat/kvB",
        "18 sat/vB more than the usual",
        "900% above the 144 blocks before",
        "one day of blocks, 24 hours",
    ],
)
def test_values_and_how_they_relate_are_traced(text: str) -> None:
    assert wrong_in(text, "fee_spike") == []


@pytest.mark.parametrize("text", ["21 sat/vB", "20 BTC", "block 900,145", "12 times", "145 blocks", "2 days"])
def test_a_figure_the_signal_does_not_hold_is_told(text: str) -> None:
    assert len(wrong_in(text, "fee_spike")) == 1


def test_the_confidence_is_no_relation_of_two_values() -> None:
    assert wrong_in("1,000%", "fee_spike") == []
    assert wrong_in("1,000%", "fee_spike", of_confidence=True) == ["1,000"]
    assert wrong_in("99.66%, from 144 cases", "fee_spike", of_confidence=True) == []


@pytest.mark.parametrize(
    "date",
    [
        "2023-11-15",
        "15 November 2023",
        "15th of November",
        "November 15, 2023",
        "Nov 15",
        "November 2023",
        "2023-11-15 22:13 UTC",
        "2023-11-15T22:13:20Z",
        "22:13 UTC",
    ],
)
def test_a_date_in_any_form_is_that_of_the_signal(date: str) -> None:
    assert wrong_in(f"It came on {date}", "fee_spike") == []


@pytest.mark.parametrize(
    "date",
    [
        "2023-11-16",
        "2023-13-45",
        "16 November",
        "15 November 2024",
        "October 15",
        "December",
        "22:14",
        "2023-11-15 21:13",
    ],
)
def test_another_moment_is_told(date: str) -> None:
    assert wrong_in(f"It came on {date}", "fee_spike") == [f"a moment the signal doesn't hold ({date})"]


def test_text_keeps_its_length_when_figures_are_blanked() -> None:
    text = "On 15 November 2023, 20 sat/vB in block 900,144"
    assert trace(text, signals()["fee_spike"])[2] == "On                 ,    sat/vB in block        "


@pytest.mark.parametrize("odds", ["one in a thousand", "1 in 1,000", "one in a hundred", "one in ten", "1 in 15,000"])
def test_odds_that_chance_falls_short_of_hold(odds: str) -> None:
    assert wrong_in(f"Chance alone gives {odds}", "pool_share_shift") == []  # its p-value is 0.0000701


@pytest.mark.parametrize("odds", ["1 in 20,000", "one in 50,000", "one in a million"])
def test_longer_odds_than_the_signal_holds_are_told(odds: str) -> None:
    assert wrong_in(f"Chance alone gives {odds}", "pool_share_shift") == [f"odds the signal doesn't hold ({odds})"]
    assert len(wrong_in(odds, "fee_spike")) == 1


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("fee_overpaid", "45,000 times the usual, five orders of magnitude"),
        ("underfilled_block", "75% of a block unused"),
        ("empty_block", "the first in 145 blocks"),
        ("fee_spike", "around 10 p.m."),
    ],
)
def test_what_follows_from_values_is_held(kind: str, text: str) -> None:
    assert wrong_in(text, kind) == []


def test_a_round_limit_may_be_further_from_the_value() -> None:
    """1 is told of what lies below it, as 10 and 100 are; 2 is no such limit."""
    assert fit("under 1 sat/vB", "0.654", "sat/vB")
    assert not fit("under 1 sat/vB", "1.1", "sat/vB")
    assert not fit("under 2 sat/vB", "1.2", "sat/vB")


def test_how_long_ago_holdings_were_known() -> None:
    signal = replace(signals()["accumulation"], created_at=1768867200)  # 20 January 2026
    traced, wrong, _ = trace("two weeks after they were told, on 5 January 2026", signal)
    assert (wrong, [one.figure.text for one in traced if not one.values]) == ([], [])
    traced, _, _ = trace("three weeks after they were told", signal)
    assert [one.values for one in traced] == [[]]
