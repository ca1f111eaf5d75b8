"""What spending shows of unlabelled scripts: kin, heirs, who met whom, and whether labels agree."""

from __future__ import annotations

import pytest

from facts.test_flows import A2, A3, ABC, B2, BOTH, A, B, C, Made, X, Y, block_with, flows_with, script
from utxoiq.facts.flows import compute_flows, transfer_of
from utxoiq.facts.kinship import COINJOIN_EQUAL, resolve, script_key
from utxoiq.models import BlockFlows, Large, Transfer
from utxoiq.units import COIN

Z, W = script(20), script(21)
KEY = {name: script_key(one) for name, one in (("x", X), ("y", Y), ("z", Z), ("w", W), ("b", B), ("a", A))}


def seen(*made: Made) -> BlockFlows:
    return flows_with(made)


def large_of(made: Made) -> Large:
    (one,) = seen(made).large
    return one


def told(made: Made, known: dict[str, str] | None = None) -> tuple[Transfer, dict[str, int]]:
    """A transaction with owners by these keys too, and what of each was inferred."""
    resolved = resolve(large_of(made), (known or {}).get)
    return transfer_of(resolved), resolved.inferred


# What a block shows


def test_scripts_spent_beside_labelled_ones_are_kin() -> None:
    flows = seen(([(COIN, A), (COIN, X), (COIN, Y)], [(3 * COIN, Z)]))
    assert flows.kin == [["a", *sorted((KEY["x"], KEY["y"]))]]


def test_unlabelled_scripts_of_a_large_transaction_are_kin_of_each_other() -> None:
    assert seen(([(60 * COIN, X), (60 * COIN, Y)], [(120 * COIN, Z)])).kin == [sorted(["", KEY["x"], KEY["y"]])]
    assert seen(([(40 * COIN, X), (40 * COIN, Y)], [(80 * COIN, Z)])).kin == []


@pytest.mark.parametrize(
    "made",
    [
        ([(COIN, A)], [(COIN, X)]),
        ([(COIN, A), (COIN // 100, X)], [(COIN, Z)]),
        ([(COIN, A), (COIN, B), (COIN, X)], [(3 * COIN, Z)]),
        ([(COIN, BOTH), (COIN, A)], [(2 * COIN, Z)][:0] or [(2 * COIN, A)]),
    ],
    ids=["alone", "small", "two owners", "claimed twice"],
)
def test_what_shows_nothing(made: Made) -> None:
    flows = seen(made)
    assert [group for group in flows.kin if KEY["x"] in group] == []


def test_a_coinjoin_shows_nothing() -> None:
    ins = [(50 * COIN, A), (50 * COIN, X), (50 * COIN, Y)]
    assert seen((ins, [(50 * COIN, one) for one in (Z, W, C)])).kin == []
    assert COINJOIN_EQUAL == 3


def test_a_label_in_a_small_minority_is_taken_to_be_wrong() -> None:
    """Three of A and one of B are spent together: the one is kin of A, and counted against B."""
    flows = seen(([(COIN, A), (COIN, A2), (COIN, A3), (COIN, B)], [(4 * COIN, Z)]))
    assert flows.kin == [["a", KEY["b"]]]
    assert flows.agreed == {"a": [3, 0], "b": [0, 1]}
    tie = seen(([(COIN, A), (COIN, B)], [(2 * COIN, Z)]))
    assert (tie.kin, tie.agreed) == ([], {"a": [0, 1], "b": [0, 1]})
    assert seen(([(COIN, A), (COIN, A2)], [(2 * COIN, Z)])).agreed == {"a": [2, 0]}


def test_who_met_whom_is_remembered_from_ten_bitcoin() -> None:
    paid = seen(([(30 * COIN, A)], [(20 * COIN, X), (9 * COIN, Y)]))
    assert paid.met == {"a": [KEY["x"]]}
    assert seen(([(30 * COIN, X)], [(30 * COIN, A)])).met == {"a": [KEY["x"]]}
    assert seen(([(30 * COIN, A)], [(30 * COIN, B)])).met == {}
    mixed = [(50 * COIN, A), (50 * COIN, X), (50 * COIN, Y)]
    assert seen((mixed, [(50 * COIN, one) for one in (Z, W, C)])).met == {}  # a CoinJoin


def test_the_heir_got_more_than_half() -> None:
    assert seen(([(30 * COIN, A)], [(16 * COIN, X), (14 * COIN, Y)])).heirs == [[KEY["x"], "a"]]
    assert seen(([(30 * COIN, A)], [(15 * COIN, X), (15 * COIN, Y)])).heirs == []
    assert seen(([(200 * COIN, X)], [(200 * COIN, Y)])).heirs == [[KEY["y"], "", KEY["x"]]]
    assert seen(([(50 * COIN, X)], [(50 * COIN, Y)])).heirs == []


def test_single_large_moves_are_named() -> None:
    assert seen(([(100 * COIN, X)], [(100 * COIN, A)])).singles == ["a"]
    assert seen(([(60 * COIN, X)], [(60 * COIN, A)]), ([(60 * COIN, Y)], [(60 * COIN, A)])).singles == []


def test_nothing_is_looked_at_without_labels() -> None:
    data = block_with([([(COIN, A), (COIN, X)], [(2 * COIN, Z)])])
    flows = compute_flows(data, type(ABC)((), "none", ABC.network))
    assert flows is not None
    assert (flows.kin, flows.large, flows.met, flows.heirs) == ([], [], {}, [])


def test_older_flows_keep_their_digest() -> None:
    """What a block without kin is called does not change by there being such a thing."""
    flows = seen(([(COIN, A)], [(COIN, X)]))
    assert (flows.kin, flows.met, flows.heirs, flows.agreed, flows.singles) == ([], {}, [], {}, [])
    assert BlockFlows.from_dict({**vars(flows.sums()), "entities": {}, "transfers": []}).digest
    assert flows.sums().digest == BlockFlows(**{**vars(flows.sums())} | {"large": []}).digest


# Owners by kin


def test_a_change_to_kin_is_change() -> None:
    """300 in, 250 back to a script that is known: 50 left, and of the entity's scripts 250 are inferred."""
    made = ([(300 * COIN, A)], [(50 * COIN, X), (250 * COIN, Y)])
    by_labels, _ = told(made)
    assert (by_labels.entities["a"].left, by_labels.entities["a"].left_least) == (300 * COIN, 50 * COIN)
    known, inferred = told(made, {KEY["y"]: "a"})
    assert (known.entities["a"].left, known.entities["a"].left_least) == (50 * COIN, 50 * COIN)
    assert inferred == {"a": 250 * COIN}


def test_all_that_is_spent_together_is_one_owners() -> None:
    """An unlabelled coin beside a labelled one is the entity's at once, as is change back to it."""
    transfer, inferred = told(([(20 * COIN, A), (20 * COIN, X)], [(30 * COIN, Y), (10 * COIN, X)]))
    flow = transfer.entities["a"]
    assert (flow.spent, flow.received, flow.left, flow.uncertain) == (40 * COIN, 10 * COIN, 30 * COIN, False)
    assert inferred == {"a": 30 * COIN}


def test_two_owners_are_not_one() -> None:
    transfer, _ = told(([(20 * COIN, A), (20 * COIN, B), (20 * COIN, X)], [(60 * COIN, Y)]))
    assert {who: flow.uncertain for who, flow in transfer.entities.items()} == {"a": True, "b": True}


def test_a_move_to_kin_is_within() -> None:
    transfer, _ = told(([(200 * COIN, A)], [(200 * COIN, X)]), {KEY["x"]: "a"})
    assert transfer.pattern == "internal"
    assert (transfer.entities["a"].left, transfer.entities["a"].arrived) == (0, 0)


def test_kin_goes_before_a_label() -> None:
    """A label that a transaction has shown to be wrong names nobody."""
    transfer, inferred = told(([(200 * COIN, A)], [(200 * COIN, B)]), {KEY["b"]: "a"})
    assert (transfer.pattern, list(transfer.entities), inferred) == ("internal", ["a"], {"a": 200 * COIN})


def test_a_coinjoin_stays_uncertain() -> None:
    ins = [(50 * COIN, A), (50 * COIN, X), (50 * COIN, Y)]
    transfer, _ = told((ins, [(50 * COIN, one) for one in (Z, W, B2)]), {KEY["z"]: "a"})
    assert transfer.pattern == "coinjoin"
    assert transfer.entities["a"].uncertain
