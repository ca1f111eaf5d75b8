"""Finished prose: true sentences pass, and what the signal doesn't show is refused with its reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from insights.test_checker import signals
from utxoiq.insights.prose import EXPLANATION, check_prose
from utxoiq.processors.calibration import BASIS, RESOLVED


def reasons(text: str, kind: str, part: str = "summary", **told: object) -> str:
    """Why a text on a signal of this kind is refused, in one line. `told`: values of its metadata that differ."""
    signal = signals()[kind]
    return "; ".join(check_prose({part: text}, replace(signal, metadata={**signal.metadata, **told})))


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("fee_spike", "Fees rose to 20 sat/vB in block 900,144, ten times the usual 2 sat/vB."),
        ("fee_drop", "The median fee fell to 0.2 sat/vB, far below the usual 2 sat/vB."),
        ("tx_count_record", "Block 900144 holds 500 transactions, a record for 144 blocks. The most before was 106."),
        ("payments_resume", "Three transactions in block 900,144. The 144 blocks before it held none."),
        ("purging", "The node's mempool was full, with 14,970 transactions waiting."),
        ("halving", "The subsidy halves from 3.125 BTC to 1.5625 BTC."),
        ("pool_share_shift", "Ember found 27 of the last 144 blocks, which is 19%. Before, it was 6.2%."),
        ("pool_streak", "Aster found six blocks in a row."),
        ("large_deposit", "150 BTC came to Borealis in block 900,144. Labels do not know who sent it."),
        ("large_withdrawal", "At least 150 BTC left Borealis in a single transaction."),
        ("exchange/internal_reshuffle", "No coins left or entered."),
        ("accumulation", "Stratum Holdings received 50 BTC, which is 2.5% of the 2,000 BTC it was known to hold."),
        ("dormant_coins", "120 BTC moved after 2,777 days at rest."),
        ("feerate_rise", "The forecast for the next block is 1.98 sat/vB, up from 1 sat/vB."),
    ],
)
def test_true_texts_pass(kind: str, text: str) -> None:
    assert reasons(text, kind) == ""


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("fee_spike", "Fees fell to 20 sat/vB.", "a direction the signal doesn't show (fell)"),
        (
            "fee_spike",
            "At 20 sat/vB, fees are below the usual 2 sat/vB.",
            "a direction the signal doesn't show (below)",
        ),
        ("fee_drop", "Fees climbed to 0.2 sat/vB.", "a direction the signal doesn't show (climbed)"),
        ("large_deposit", "150 BTC left Borealis.", "a flow the signal doesn't show (left)"),
        ("large_withdrawal", "150 BTC arrived at Borealis.", "a flow the signal doesn't show (arrived)"),
        ("exchange/internal_reshuffle", "It was a deposit.", "a flow the signal doesn't show (deposit)"),
        ("fee_spike", "It met an inflow.", "a flow the signal is not about (inflow)"),
        ("large_deposit", "150 BTC was moved from Borealis.", "source and destination are swapped"),
        ("large_withdrawal", "150 BTC moved to Borealis.", "source and destination are swapped"),
        ("large_deposit", "Borealis sent 150 BTC.", "who gave and who took are swapped"),
        ("large_withdrawal", "Borealis received 150 BTC.", "who gave and who took are swapped"),
        ("fee_spike", "Fees definitely rose.", "more than the signal shows (definitely)"),
        ("fee_spike", "Fees are at a record.", "more than the signal shows (record)"),
        ("large_withdrawal", "Exactly 150 BTC left Borealis.", "more than the signal shows (Exactly)"),
        ("large_withdrawal", "All of its coins left Borealis.", "more than the signal shows (All of its)"),
        ("fee_spike", "No other block paid as much.", "a denial of something (No other block paid as much)"),
        ("pool_share_shift", "It was not luck.", "a denial of something (not luck)"),
        ("fee_spike", "Fees will rise.", "a future the signal doesn't speak of (will)"),
        ("fee_spike", "Fees are headed for 20 sat/vB.", "a future the signal doesn't speak of (headed for)"),
        ("feerate_rise", "Fees rose to 1.98 sat/vB.", "a forecast told as a fact"),
        ("feerate_rise", "Fees will be 1.98 sat/vB.", "a forecast told as certain"),
        ("fee_spike", "Fees are 2 sat/vB.", "what is usual told as measured (2)"),
        ("fee_spike", "The usual 20 sat/vB was paid.", "what was measured told as usual (20)"),
        ("halving", "The subsidy goes from 1.5625 BTC to 3.125 BTC.", "told from after to before"),
        ("fee_spike", "The median was 20 sats blocks.", "two units of one figure"),
        ("fee_spike", "Traders are paying 20 sat/vB.", "doings the signal doesn't show"),
        ("fee_spike", "The bitcoin price is high.", "doings the signal doesn't show (bitcoin price)"),
        ("dormant_coins", "120 BTC remained at rest.", "the opposite of what its kind says (remained)"),
        ("halving", "The subsidy doubles.", "the opposite of what its kind says (doubles)"),
        ("fee_spike", "Fees rose because of panic.", "a claim no signal holds (because, panic)"),
        ("fee_spike", "The zebra paid 20 sat/vB.", "a word its kind has no use for (zebra)"),
        ("fee_spike", "In this block Mara paid.", "(Mara)"),
        ("fee_spike", "Fees reached 21 sat/vB.", "a figure the signal doesn't hold (21)"),
        ("fee_spike", "It was 3 May 2020.", "a moment the signal doesn't hold (3 May 2020)"),
    ],
)
def test_what_the_signal_does_not_show_is_refused(kind: str, text: str, reason: str) -> None:
    assert reason in reasons(text, kind)


def test_a_net_flow_may_be_told_by_both_its_sides() -> None:
    assert "flow" not in reasons("More coins came in than went out at Borealis.", "net_inflow")
    assert "a flow the signal doesn't show" in reasons("More coins went out of Borealis than came in.", "net_inflow")


@pytest.mark.parametrize(
    "text", ["Labels do not know who sent it.", "The sender is not known.", "Change is not counted."]
)
@pytest.mark.parametrize("kind", ["large_deposit", "large_withdrawal", "accumulation"])
def test_what_is_not_known_may_be_said(kind: str, text: str) -> None:
    assert "denial" not in reasons(text, kind)


@pytest.mark.parametrize(
    "text", ["It is not calibrated.", "99.66%, from 144 cases.", "No outcomes have been checked against it so far."]
)
def test_what_a_confidence_is_may_be_said(text: str) -> None:
    assert reasons(text, "fee_spike", EXPLANATION) == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("It is a calibrated 99.66%.", "a proof the confidence doesn't have (calibrated)"),
        ("It was counted on the real chain.", "a proof the confidence doesn't have (real chain)"),
        ("99.66%, confirmed by other nodes.", "a source the confidence doesn't have (confirmed by, other nodes)"),
        ("99.67%.", "a figure the signal doesn't hold (99.67)"),
    ],
)
def test_a_confidence_claims_no_proof_it_does_not_have(text: str, reason: str) -> None:
    assert reason in reasons(text, "fee_spike", EXPLANATION)


@pytest.mark.parametrize(
    ("basis", "text", "passes"),
    [
        (RESOLVED, "It is a calibrated 99.66%.", True),
        (RESOLVED, "It was counted on the real chain.", True),
        (RESOLVED, "It is a proven 99.66%.", False),
        (BASIS, "It is a calibrated 99.66%.", True),
        (BASIS, "It was counted on the real chain.", False),
    ],
)
def test_what_was_resolved_may_name_the_real_chain(basis: str, text: str, passes: bool) -> None:
    """What was measured in a simulated economy may not; nothing of either is proven."""
    signal = signals()["fee_spike"]
    measured = {**signal.confidence_basis, "basis": basis, "calibrated": True}
    found = "; ".join(check_prose({EXPLANATION: text}, replace(signal, confidence_basis=measured)))
    assert ("a proof the confidence doesn't have" not in found) is passes


@pytest.mark.parametrize(
    "character",
    ["\u200b", "\u202e", "\N{SKULL}", "{", "}", "<script>{", "|", "`", "\\", "@", "$", "а", "３", "²", "\t", "*"],
)
def test_characters_beyond_plain_english_are_refused(character: str) -> None:
    assert "a character that is no plain English" in reasons(f"Fees {character} rose.", "fee_spike")


def test_names_of_the_signal_may_be_any_words_and_others_may_not() -> None:
    assert reasons("150 BTC came to Zebra Crash.", "large_deposit", entity_name="Zebra Crash") == ""
    assert "(Crash)" in reasons("150 BTC came to Zebra Crash.", "large_deposit")
    assert reasons("150 BTC came to Borealis from Zebra.", "large_deposit", counterparty="Zebra") == ""
    assert "wrong side" in reasons("150 BTC of Borealis went to Zebra.", "large_deposit", counterparty="Zebra")


def test_the_part_that_is_wrong_is_named() -> None:
    texts = {"headline": "Fees rose", "summary": "Fees fell."}
    assert check_prose(texts, signals()["fee_spike"]) == ["summary: a direction the signal doesn't show (fell)"]
