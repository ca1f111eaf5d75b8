"""What a window of blocks shows of unlabelled scripts, and what follows for the next block's transactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from processors.cases import LABELS, SCRIPT, at, balances, changed, context, flows, past, trading
from utxoiq.facts.kinship import script_key
from utxoiq.history import Past, Window
from utxoiq.models import BlockBalances, Large, Part
from utxoiq.processors.kin import LATEST_SIGHTINGS, Ground, Kin
from utxoiq.processors.moves import moves
from utxoiq.units import COIN

PAYS_BACK = 12


def window(*shown: dict[str, Any], version: str = LABELS.version) -> Window:
    """Of blocks of which each showed this."""
    rows = past(len(shown))
    told = [replace(flows(row), labels_version=version, **what) for row, what in zip(rows, shown, strict=True)]
    return Window.of(Past(row, one) for row, one in zip(rows, told, strict=True))


def kin(*shown: dict[str, Any], version: str = LABELS.version) -> Kin:
    return Kin(window(*shown, version=version), LABELS.version)


def test_kin_of_a_labelled_script() -> None:
    assert kin({"kin": [["borealis", "x"]]}).owner("x") == "borealis"
    assert kin({"kin": [["borealis", "x"]]}).owner("y") is None


def test_kin_of_kin() -> None:
    """Through scripts that no label names, whenever it was."""
    shown = kin({"kin": [["", "x", "y"]]}, {"kin": [["", "y", "z"]]}, {"kin": [["borealis", "z"]]})
    assert [shown.owner(key) for key in "xyz"] == ["borealis"] * 3


def test_kin_of_two_is_nobodys() -> None:
    shown = kin({"kin": [["borealis", "x"]]}, {"kin": [["cirrus", "x"]]})
    assert shown.owner("x") is None


def test_other_labels_show_nothing() -> None:
    assert kin({"kin": [["borealis", "x"]]}, version="older").owner("x") is None


def test_only_the_window_counts() -> None:
    seen = window({"kin": [["borealis", "x"]]}, {}, {})
    assert Kin(seen, LABELS.version).owner("x") == "borealis"
    assert Kin(seen.last(2), LABELS.version).owner("x") is None


def test_what_had_to_do_with_an_entity() -> None:
    """It paid, was paid, or has what was once most of a payment of its."""
    shown = kin(
        {"met": {"borealis": ["x"]}}, {"heirs": [["y", "", "x"]]}, {"heirs": [["z", "cirrus"]]},
        {"heirs": [["w", "", "y"]]}, {"kin": [["cirrus", "k"]], "heirs": [["v", "", "k"]]},
    )  # fmt: skip
    assert {key for key in "xyzwv" if shown.had_to_do(key, "borealis")} == {"x", "y", "w"}
    assert {key for key in "xyzwv" if shown.had_to_do(key, "cirrus")} == {"z", "v"}


def test_how_much_was_seen_again() -> None:
    """Of the latest sightings: those of which an earlier block told."""
    assert kin().seen_again("borealis") == (0, 0)
    assert kin({"kin": [["borealis", "x", "y"]]}, {"kin": [["borealis", "x", "z"]]}).seen_again("borealis") == (1, 4)
    many = kin(*[{"kin": [["borealis", str(i % 3)]]} for i in range(LATEST_SIGHTINGS + 50)])
    assert many.seen_again("borealis") == (LATEST_SIGHTINGS, LATEST_SIGHTINGS)


def test_labels_that_disagree_lower_the_quality() -> None:
    assert kin().quality("borealis") == pytest.approx(0.99)
    good, bad = kin({"agreed": {"borealis": [90, 0]}}), kin({"agreed": {"borealis": [90, 10]}})
    assert good.quality("borealis") == pytest.approx(99.9 / 100)
    assert bad.quality("borealis") == pytest.approx(99.9 / 110)


# What follows


def large(spent: Sequence[Part], made: Sequence[Part], txid: str = "aa" * 32) -> Large:
    value = sum(part.sat for part in spent)
    return Large(txid, len(spent), len(made), value, value, 0, 0, False, list(spent), list(made))


def found(
    way: Any, one: Large, *shown: dict[str, Any], held: BlockBalances | None = None
) -> list[tuple[str, int, float]]:
    """(entity, sat, sat inferred) of the moves of exchanges that a block with this transaction has; `held`: what it did
    to balances."""
    now = at(len(shown))
    moved = [*(row.flows for row in window(*shown).rows), replace(flows(now), large=[one])]
    seen = context(past(len(shown)), now, flows=moved, balances=[held])
    each = moves(Ground.of(seen, seen.window), ("exchange",), way, 100)
    return [(judged.moved.entity.id, judged.moved.amount, judged.moved.inferred) for judged in each]


def test_a_withdrawal_by_kin() -> None:
    """No label names the spender: another block showed whose it is."""
    one = large([Part(None, "x", 300 * COIN)], [Part(None, "p", 200 * COIN), Part("borealis", "b", 100 * COIN)])
    assert found("left", one, {"kin": [["borealis", "x"]]}) == [("borealis", 200 * COIN, 200 * COIN)]
    assert found("left", one, {}) == []
    (seen,) = found("arrived", one, {})
    assert seen[:2] == ("borealis", 100 * COIN)


def test_a_move_to_kin_is_no_withdrawal() -> None:
    one = large([Part("borealis", "b", 300 * COIN)], [Part(None, "x", 300 * COIN)])
    shown = {"kin": [["borealis", "x"]]}
    assert found("left", one, shown) == []
    assert found("within", one, shown) == [("borealis", 300 * COIN, 300 * COIN)]


@pytest.mark.parametrize("shown", [{"met": {"borealis": ["x"]}}, {"heirs": [["x", "borealis"]]}])
def test_what_came_from_it_may_be_its_own(shown: dict[str, Any]) -> None:
    """Coins that go to, or come from, a script it had to do with before are neither withdrawn nor deposited, where its
    own scripts are not nearly all known."""
    came = large([Part(None, "x", 300 * COIN)], [Part("borealis", "b", 300 * COIN)])
    assert found("arrived", came, {}) == [("borealis", 300 * COIN, 0)]
    assert found("arrived", came, shown) == []


@pytest.mark.parametrize(
    ("way", "before", "after", "count"),
    [("left", 0, 300, 1), ("left", 99.99, 399.99, 1), ("left", 100, 400, 0), ("arrived", 300, 0, 1),
     ("arrived", 399.99, 99.99, 1), ("arrived", 400, 100, 0)],
)  # fmt: skip
def test_what_holds_much_beside_may_be_its_own(way: str, before: float, after: float, count: int) -> None:
    """A script that held 100 BTC before it got more, or holds as much when it has given, is no one-off customer."""
    other = Part(None, script_key(bytes.fromhex(SCRIPT)), 300 * COIN)
    its, change = Part("borealis", "b", 400 * COIN), Part("borealis", "c", 100 * COIN)
    one = large([its], [other, change]) if way == "left" else large([other], [Part("borealis", "b", 300 * COIN)])
    held = balances(0, changed(before, after))
    assert len(found(way, one, held=held)) == count
    assert len(found(way, one)) == 1
    elsewhere = balances(0, changed(before, after, "0014" + "77" * 20))
    assert len(found(way, one, held=elsewhere)) == 1


def test_where_labels_know_nearly_all_there_is_no_doubt() -> None:
    """Its own wallets are known: whoever else holds much is somebody else."""
    other = Part(None, script_key(bytes.fromhex(SCRIPT)), 300 * COIN)
    one = large([Part("borealis", "b", 400 * COIN)], [other, Part("borealis", "c", 100 * COIN)])
    now, held = at(144), balances(144, changed(500, 800))
    moved = [*trading(144), replace(flows(now), large=[one])]
    known = context(past(144), now, flows=moved, balances=[held])
    assert len(list(moves(Ground.of(known, known.window), ("exchange",), "left", 100))) == 1


def test_the_largest_come_first() -> None:
    now = at(0)
    each = [large([Part("borealis", "b", n * COIN)], [Part(None, "x", n * COIN)], f"{n:064x}") for n in (20, 40, 30)]
    seen = context((), now, flows=[replace(flows(now), large=each)])
    sizes = [one.transfer.size for one in Ground.of(seen, seen.window).owned]
    assert sizes == [40 * COIN, 30 * COIN, 20 * COIN]
