"""Claims that are caught, or let pass, by what stands in the signal: roles of figures, windows, causes, purposes,
what labels know, names in their shorter forms."""

from __future__ import annotations

from dataclasses import replace

import pytest

from insights.test_checker import signals
from insights.test_prose import reasons
from utxoiq.insights.prose import EXPLANATION, check_prose
from utxoiq.processors.calibration import BASIS
from utxoiq.units import COIN

UNKNOWN = {"counterparty": "unknown", "unknown_share": 1.0, "attributed_share": 0.0}
KNOWN = {"counterparty": "Zebra", "unknown_share": 0.0, "attributed_share": 1.0}
LONG = "bc1qwkgajmygnemc209qf09ws0y8qkgjguvecpjhux"


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("tx_count_record", "The previous maximum was 103 transactions.", "told as the most one (103)"),
        ("tx_count_record", "The usual number is 106.", "told as the usual one (106)"),
        ("fee_spike", "Normally, the rate is 20 sat/vB.", "told as the usual one (20)"),
        ("pool_share_shift", "Of the last 144 blocks, Ember found 40.", "found in the other window (40)"),
        ("pool_share_shift", "In the 649 blocks before, Ember found 27.", "found in the other window (27)"),
        ("fee_spike", "Fees rose to 20 sat/vB as a result of new tokens.", "doings the signal doesn't show"),
        ("fee_spike", "Fees rose after exchanges batched their payouts.", "doings the signal doesn't show"),
        ("large_deposit", "150 BTC came to Borealis to fund a sale.", "doings the signal doesn't show"),
        ("empty_block", "It was left empty so that senders would pay more.", "doings the signal doesn't show"),
        ("hashrate_concentration", "It found a majority of blocks.", "more than the signal shows (a majority)"),
        ("accumulation", "Its entire treasury arrived.", "more than the signal shows"),
        ("large_deposit", "It was the third such deposit.", "more than the signal shows (third such deposit)"),
        ("dormant_coins", "120 BTC still have not moved.", "the opposite of what its kind says"),
        ("large_deposit", "Coinbase took delivery of 150 BTC.", "(Coinbase)"),
        ("pool_share_shift", "Its share rose by 12.6 percent.", "points told as percent (12.6)"),
        ("halving", "The subsidy doubled.", "a direction the signal doesn't show (doubled)"),
        ("large_transfer", "It did return change to its sender.", "more than the signal shows (did return change)"),
        ("large_transfer", "An exchange moved 3,000 BTC.", "the opposite of what its kind says (exchange moved)"),
        ("balance_gathered", "Its balance grew in every one of 576 blocks.", "the opposite of what its kind says"),
        ("large_holders_gain", "Every large address gained.", "the opposite of what its kind says"),
        ("large_holders_gain", "Every address with 1,000 BTC saw it rise.", "the opposite of what its kind says"),
        ("purging", "Every Bitcoin node asks for more.", "more than the signal shows (Every Bitcoin"),
        ("balance_above", "The owner is known.", "what labels know is told otherwise (owner is known)"),
        ("exchange/internal_reshuffle", "All of Borealis's coins moved within.", "more than the signal shows"),
        ("exchange/internal_reshuffle", "A switch to a new custodian led Borealis to move 150 BTC.", "doings"),
        ("exchange/internal_reshuffle", "The coins rest in a new vault.", "doings the signal doesn't show"),
        ("net_outflow", "The exchange confirmed it.", "doings the signal doesn't show"),
        ("mempool_emptied", "The backlog was up from a usual 3 blocks.", "a direction the signal doesn't show"),
        ("payments_resume", "The number of payments fell.", "the opposite of what its kind says (fell)"),
        ("feerate_fall", "The present rate lies below the forecast range.", "a direction"),
    ],
)
def test_what_only_the_signal_can_tell_to_be_false_is_refused(kind: str, text: str, reason: str) -> None:
    assert reason in reasons(text, kind)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("tx_count_record", "The previous maximum was 106 transactions, the usual number 103."),
        ("fee_spike", "Normally, the rate is 2 sat/vB."),
        ("fee_spike", "The rate came to 20,000 sat per 1,000 vB, against a usual 2,000."),
        ("fee_spike", "A tenfold rise to 20 sat/vB."),
        ("pool_share_shift", "Of the last 144 blocks, Ember found 27, after 40 of the 649 blocks before."),
        ("pool_share_shift", "Nearly one block in five was found by Ember, up from 6.2 to 19 percent."),
        ("pool_streak", "Aster mined block 900,144 and the five before it."),
        ("large_deposit", "Coins sent to Borealis came to 150 BTC."),
        ("pool_share_shift", "Its share rose by 12.6 percentage points."),
        ("feerate_fall", "The present rate lies above the forecast range."),
        ("purging", "Low-fee transactions are being dropped."),
        ("exchange/internal_reshuffle", "Neither inflow nor outflow resulted from the move."),
        ("balance_above", "No label tells who owns it."),
        ("large_holders_gain", "Balances of 1,000 BTC and upwards have grown."),
    ],
)
def test_what_is_true_in_other_words_passes(kind: str, text: str) -> None:
    assert reasons(text, kind) == ""


@pytest.mark.parametrize(
    ("told", "text", "passes"),
    [
        (UNKNOWN, "None of it could be attributed.", True),
        (KNOWN, "None of it could be attributed.", False),
        (KNOWN, "Nothing of it went to an unknown party.", True),
        (UNKNOWN, "The sender is not unknown.", False),
        (UNKNOWN, "The counterparty is known.", False),
        (KNOWN, "150 BTC came from Zebra.", True),
        (KNOWN, "150 BTC went to Zebra.", False),
    ],
)
def test_what_labels_know_is_told_as_they_know_it(told: dict[str, object], text: str, passes: bool) -> None:
    assert (reasons(text, "large_deposit", **told) == "") is passes


@pytest.mark.parametrize(
    ("headline", "passes"),
    [
        ("Median Feerate Jumps to 20 sat/vB, Ten Times the Usual", True),
        ("Median feerate Jumps to 20 sat/vB", False),
        ("Zebra Feerate Jumps to 20 sat/vB", False),
    ],
)
def test_a_headline_may_have_capitals_throughout(headline: str, passes: bool) -> None:
    assert (reasons(headline, "fee_spike", "headline") == "") is passes


@pytest.mark.parametrize(
    ("name", "told", "passes"),
    [
        ("Riot Platforms", "Riot", True),
        ("Grayscale GBTC", "GBTC", True),
        ("Government of El Salvador", "the Salvadoran government", True),
        ("United States Government", "the US Government", True),
        ("Block, Inc.", "Block", False),
        ("Riot Platforms", "Strategy", False),
    ],
)
def test_a_name_may_be_told_in_short(name: str, told: str, passes: bool) -> None:
    """But not by a word that anybody may use."""
    found = reasons(f"50 BTC came to {told}.", "accumulation", entity_name=name)
    assert (found == "") is passes


@pytest.mark.parametrize(
    ("address", "passes"), [(LONG, True), ("bc1qwkga…jhux", True), ("bc1qwkgaj...", True), ("bc1qwkga…jhuy", False)]
)
def test_an_address_may_be_shortened(address: str, passes: bool) -> None:
    signal = signals()["large_deposit"]
    told = replace(signal, metadata={**signal.metadata, "address": LONG})
    assert (check_prose({"summary": f"150 BTC came to {address}."}, told) == []) is passes


@pytest.mark.parametrize(
    ("txid", "passes"), [("abababab…abab", True), ("abab...abab", True), ("abababab", True), ("abababab…abac", False)]
)
def test_a_txid_may_be_shortened(txid: str, passes: bool) -> None:
    """Where it ends as it is written, too."""
    signal = replace(signals()["large_deposit"], evidence={"txids": ["ab" * 32], "block_hashes": []})
    text = f"Transaction {txid} moved 150 BTC to Borealis."
    assert (check_prose({"summary": text}, signal) == []) is passes


@pytest.mark.parametrize("name", [" ", "\t", ",", "  , "])
def test_a_name_of_no_letters_stops_nothing(name: str) -> None:
    assert "(Zebra)" in reasons("150 BTC came to Zebra.", "large_deposit", entity_name=name)


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("Such signals proved right in nearly all of 1,000 cases.", True),
        ("It is a calibrated 99.66%.", True),
        ("It is not calibrated.", False),
        ("It leaves no possibility of a mistake.", False),
        ("It is certain that fees stay high.", False),
        ("Every one of the 1,000 signals was right.", False),
    ],
)
def test_a_calibrated_confidence_is_a_share_and_no_certainty(text: str, passes: bool) -> None:
    signal = signals()["fee_spike"]
    basis = {"basis": BASIS, "cases": 1000, "calibrated": True}
    assert (check_prose({EXPLANATION: text}, replace(signal, confidence_basis=basis)) == []) is passes


@pytest.mark.parametrize("metadata", [{}, {"transactions": "many"}, {"streak": None, "held": [1]}], ids=str)
def test_signals_of_others_may_lack_any_value(metadata: dict[str, object]) -> None:
    """A text on such a signal is judged by what is there."""
    for signal in signals().values():
        strange = replace(signal, metadata=metadata, inputs={}, confidence_basis={})
        assert check_prose({"summary": "It paid 21 sat/vB."}, strange)


@pytest.mark.parametrize(("bound", "told"), [("less", ""), ("more", "a comparison that does not hold (2,000)")])
def test_what_is_held_is_compared_with_what_was_known(bound: str, told: str) -> None:
    """Of 2,000 BTC known, labels know 1,900."""
    text = f"Its labelled addresses held {bound} than the 2,000 BTC known on 5 January 2026."
    found = reasons(text, "treasury/internal_reshuffle", labelled_balance=1_900 * COIN, labelled_addresses=9)
    assert found == (f"summary: {told}" if told else "")
