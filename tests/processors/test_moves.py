"""What labelled entities moved: the ground of exchange, treasury and pool signals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from processors.cases import (
    LABELS,
    at,
    context,
    entity,
    flows,
    gets,
    keeps,
    past,
    pays,
    trade,
    trading,
    transfer,
    unsure,
)
from utxoiq.entities.labels import LabelSet
from utxoiq.models import BlockFlows, EntityFlow, Transfer
from utxoiq.processors.kin import Ground
from utxoiq.processors.moves import DISTRUST, GRADES, KIN_TRUST, MOVES, Judged, moves, return_rate
from utxoiq.units import COIN

WORKING = trading(144)
"""A day in which Borealis paid 144 times, and its change came back to it each time."""


def found(
    *transfers: Transfer, kinds: tuple[str, ...] = ("exchange",), way: Any = "arrived", least: float = 100,
    before: tuple[BlockFlows | None, ...] = WORKING, labels: LabelSet = LABELS, graded: bool = False,
    version: str = LABELS.version,
) -> list[Judged]:  # fmt: skip
    """The moves of a block of these after a day."""
    now = at(144, labels_version=version)
    moved = replace(flows(now, *transfers, labels=labels), labels_version=version)
    seen = context(past(144), now, labels, flows=(*before, moved))
    return list(moves(Ground.of(seen, seen.window), kinds, way, least, graded=graded))


def knowledge(payments: int, returned: int, sightings: int = 0, again: int = 0) -> float:
    """The part of an entity's scripts that is known, by its payments' change and by kin seen again."""
    by_label, by_kin = (returned + 0.5) / (payments + 1), (again + 0.5) / (sightings + 1)
    return by_label + (1 - by_label) * KIN_TRUST * by_kin


def metadata(one: Judged, *transfers: Transfer) -> dict[str, Any]:
    return one.moved.metadata(flows(at(144), *transfers), LABELS)


# How much


@pytest.mark.parametrize(("btc", "count"), [(100, 1), (99.99999999, 0), (250, 1)])
@pytest.mark.parametrize(
    ("way", "flow", "pattern"),
    [
        ("arrived", gets, "payment"),
        ("left", pays, "payment"),
        ("within", keeps, "internal"),
        ("within", keeps, "consolidation"),
    ],
)
def test_the_least_is_counted_to_the_satoshi(btc: float, count: int, way: str, flow: Any, pattern: str) -> None:
    """At it speaks, a satoshi below it is silent, whichever way."""
    assert len(found(transfer({"borealis": flow(btc)}, pattern=pattern), way=way)) == count


@pytest.mark.parametrize("way", ["arrived", "left", "within"])
def test_a_way_is_its_own(way: str) -> None:
    """What arrives did not leave, and neither is a move within."""
    each = [
        transfer({"borealis": gets(200)}, "01" * 32),
        transfer({"borealis": pays(300)}, "02" * 32),
        transfer({"borealis": keeps(400)}, "03" * 32, pattern="internal"),
    ]
    (one,) = found(*each, way=way)
    assert one.moved.amount == {"arrived": 200, "left": 300, "within": 400}[way] * COIN
    assert len(one.moved.txids) == 1


def test_change_within_a_payment_is_no_move_within() -> None:
    """A payment whose change comes back moves nothing within."""
    assert found(transfer({"borealis": pays(200, change=700)}), way="within") == []


def test_what_left_is_what_must_have_left() -> None:
    """Where the largest output of nobody may be change, only the rest is claimed to have left."""
    (one,) = found(transfer({"borealis": pays(500, change=0, least=120)}), way="left")
    assert one.moved.amount == 120 * COIN
    assert found(transfer({"borealis": pays(500, change=0, least=99)}), way="left") == []


def test_transactions_of_one_entity_are_told_together() -> None:
    """Their sum, the largest, and the ids, largest first; of entities in the order of their ids."""
    each = [
        transfer({"borealis": gets(100)}, "01" * 32),
        transfer({"borealis": gets(300)}, "02" * 32),
        transfer({"borealis": gets(99)}, "03" * 32),
        transfer({"cirrus": gets(200), "drift": pays(200)}, "04" * 32),
    ]
    first, second = found(*each)
    assert (first.moved.entity.id, second.moved.entity.id) == ("borealis", "cirrus")
    assert (first.moved.amount, first.moved.largest) == (400 * COIN, 300 * COIN)
    assert first.moved.txids == ["02" * 32, "01" * 32]
    assert list(metadata(first)) == [name for name in MOVES if name != "inferred_share"]
    assert metadata(first)["transactions"] == 2


def test_only_entities_of_the_kinds_asked_for() -> None:
    each = [transfer({who: pays(200)}, f"{n:064x}") for n, who in enumerate(LABELS.entities)]
    assert [one.moved.entity.id for one in found(*each, way="left")] == ["borealis", "cirrus"]
    held = found(*each, way="left", kinds=("treasury", "etf", "government"))
    assert [one.moved.entity.id for one in held] == ["drift", "glacia", "stratum"]


def test_a_coinbase_is_no_move() -> None:
    """New coins of a pool's own block did not come from anybody, even of an exchange that mines."""
    assert found(transfer({"borealis": gets(200)}, pattern="coinbase")) == []


@pytest.mark.parametrize(("way", "flow"), [("arrived", gets(200)), ("left", pays(200)), ("within", keeps(200))])
def test_what_is_uncertain_is_no_move(way: str, flow: EntityFlow) -> None:
    """In a CoinJoin, or beside inputs of unknown owner."""
    for pattern in ("coinjoin", "payment", "internal"):
        assert found(transfer({"borealis": unsure(flow)}, pattern=pattern), way=way) == []


def test_nothing_is_said_where_flows_are_unknown() -> None:
    """Unknown is not none: but neither is a word to say of it."""
    seen = context(past(144), at(144), flows=(*WORKING, None))
    assert list(moves(Ground.of(seen, seen.window), ("exchange",), "arrived", 1)) == []


# From whom


def test_the_other_side_is_named_where_it_is_known() -> None:
    """With the share of the amount that it accounts for."""
    one = transfer({"stratum": pays(120), "borealis": gets(120)})
    (left,) = found(one, way="left", kinds=("treasury",))
    (came,) = found(one)
    assert metadata(left, one) | {"entity_id": "", "entity_name": ""} == {
        "entity_id": "", "entity_name": "", "amount": 120 * COIN, "largest": 120 * COIN, "transactions": 1,
        "counterparty": "Borealis", "attributed_share": 1.0, "unknown_share": 0.0, "block_attributed_share": 0.0125,
    }  # fmt: skip
    assert metadata(came, one)["counterparty"] == "Stratum Holdings"


@pytest.mark.parametrize(
    ("to_cirrus", "who", "share"), [(120, "Cirrus", 0.6), (100, "unknown", 0.5), (20, "unknown", 0.1)]
)
def test_the_counterparty_is_on_the_other_side_of_most(to_cirrus: float, who: str, share: float) -> None:
    """Of half, as much is nobody's, and nobody is named; the shares say so."""
    (one,) = found(transfer({"borealis": pays(200), "cirrus": gets(to_cirrus)}), way="left")
    said = metadata(one)
    assert (said["counterparty"], said["attributed_share"]) == (who, share)
    assert said["unknown_share"] == pytest.approx(1 - share)


def test_two_receivers_share_what_left() -> None:
    """80 and 120 of 200: the larger is named, all of it is known."""
    (one,) = found(transfer({"borealis": pays(200), "cirrus": gets(80), "stratum": gets(120)}), way="left")
    assert metadata(one)["counterparty"] == "Stratum Holdings"
    assert metadata(one)["attributed_share"] == 1.0
    assert one.moved.others == {"cirrus": 80 * COIN, "stratum": 120 * COIN}


def test_two_senders_share_what_arrived() -> None:
    """100 arrived, of which 30 and 90 less 20 to nobody were sent: no more is attributed than arrived."""
    (one,) = found(transfer({"borealis": gets(100), "cirrus": pays(30), "stratum": pays(90)}))
    said = metadata(one)
    assert said["counterparty"] == "Stratum Holdings"
    assert (said["attributed_share"], said["unknown_share"]) == (1.0, 0.0)


def test_an_uncertain_sender_is_nobody() -> None:
    """Its inputs are mixed with others': what arrives comes from nobody who could be named."""
    (one,) = found(transfer({"borealis": gets(150), "stratum": unsure(pays(150))}))
    assert metadata(one)["counterparty"] == "unknown"
    assert metadata(one)["unknown_share"] == 1.0


def test_an_entitys_own_coins_are_its_own_counterparty() -> None:
    (one,) = found(transfer({"borealis": keeps(150)}, pattern="internal"), way="within")
    assert metadata(one)["counterparty"] == "Borealis"
    assert metadata(one)["attributed_share"] == 1.0


def test_a_name_is_the_labels_own() -> None:
    """An entity called "unknown" would not be mistaken for nobody: the share tells."""
    labels = LabelSet((*LABELS.entities.values(), entity("unknown", "Unknown Ltd", "exchange")), "made", LABELS.network)
    (one,) = found(transfer({"borealis": pays(200), "unknown": gets(200)}), way="left", labels=labels)
    assert one.moved.counterparty(labels) == "Unknown Ltd"


# Coinbase outputs


@pytest.mark.parametrize(("first", "second", "made"), [(3, 4, 7), (0, 0, 0), (3, None, None), (None, None, None)])
def test_coinbase_outputs_are_summed_where_they_are_known(first: Any, second: Any, made: Any) -> None:
    """One transaction of unknown origin, and the sum is unknown."""
    each = [
        transfer({"aster": pays(200)}, f"{n:064x}", coinbase_value=value) for n, value in enumerate((first, second))
    ]
    (one,) = found(*each, way="left", kinds=("mining_pool",))
    assert one.moved.coinbases == made


# How sure


QUALITY = 0.99
"""Of labels about which no transaction says anything."""


@pytest.mark.parametrize(("way", "flow"), [("left", pays(200)), ("arrived", gets(200)), ("within", keeps(200))])
def test_a_move_is_as_sure_as_the_labels_are_good(way: Any, flow: EntityFlow) -> None:
    """Within, labels alone decide; else the unknown side may be the entity's own, as far as its scripts are unknown."""
    (one,) = found(transfer({"borealis": flow}, pattern="internal" if way == "within" else "payment"), way=way)
    paid = 144 + (way == "left")
    known = 1 if way == "within" else knowledge(paid, paid)
    assert one.confidence == pytest.approx(QUALITY**DISTRUST * known)
    assert one.basis["cases"] >= 144
    assert one.basis["calibrated"] is False


def test_a_known_other_side_needs_no_complete_labels() -> None:
    """Cirrus never paid anybody: a deposit from another labelled entity is one all the same."""
    (known,) = found(transfer({"cirrus": gets(150), "stratum": pays(150)}), before=())
    assert known.confidence == pytest.approx(QUALITY ** (2 * DISTRUST))
    (unknown,) = found(transfer({"cirrus": gets(150)}), before=())
    assert unknown.confidence == pytest.approx(QUALITY**DISTRUST * knowledge(0, 0))
    (half,) = found(transfer({"cirrus": gets(150), "stratum": pays(75)}), before=())
    assert half.confidence == pytest.approx((known.confidence + unknown.confidence) / 2)


def history_of(payments: int, returned: int) -> tuple[BlockFlows, ...]:
    """Blocks in which Cirrus paid so often, and its change came back so often."""
    return tuple(trade(i, who="cirrus", change=5 if i < returned else 0) for i in range(payments))


@pytest.mark.parametrize(("payments", "returned"), [(10, 10), (0, 0), (100, 90), (30, 27), (10, 0)])
def test_what_comes_from_unknown_owners_is_as_sure_as_labels_are_complete(payments: int, returned: int) -> None:
    """Of its own payments, the share whose change came back to a label."""
    (one,) = found(transfer({"cirrus": gets(150)}), before=history_of(payments, returned))
    assert one.confidence == pytest.approx(QUALITY**DISTRUST * knowledge(payments, returned))


def test_payments_of_this_block_count_too() -> None:
    each = [transfer({"cirrus": gets(150)}), *[transfer({"cirrus": pays(1)}, f"{n:064x}") for n in range(2)]]
    (one,) = found(*each, before=history_of(7, 7))
    assert one.confidence == pytest.approx(QUALITY**DISTRUST * knowledge(9, 9))


def test_what_was_recorded_under_other_labels_does_not_count() -> None:
    """Another edition may know other addresses: its payments say nothing of today's."""
    older = tuple(replace(one, labels_version="older") for one in history_of(100, 100))
    (now,) = found(transfer({"cirrus": gets(150)}), before=older)
    (then,) = found(transfer({"cirrus": gets(150)}), before=older, version="older")
    assert now.confidence == pytest.approx(QUALITY**DISTRUST * knowledge(0, 0))
    assert then.confidence == pytest.approx(QUALITY**DISTRUST * knowledge(100, 100))


def test_the_return_rate_is_of_the_window_and_the_block() -> None:
    seen = context(past(144), at(144), flows=(*history_of(100, 93), trade(144, who="cirrus")))
    assert return_rate(seen, seen.window, "cirrus") == (94, 101)
    assert return_rate(seen, seen.window.last(50), "cirrus") == (44, 51)
    assert return_rate(seen, seen.window, "stratum") == (0, 0)
    assert return_rate(context((), at(0)), context((), at(0)).window, "cirrus") == (0, 0)


@pytest.mark.parametrize(("who", "grade"), [("stratum", "high"), ("drift", "medium"), ("glacia", "low")])
def test_where_it_never_paid_the_grade_of_its_label_decides(who: str, grade: str) -> None:
    """Only where that is asked for, and only while it has paid nobody."""
    holders, one = ("treasury", "etf", "government"), transfer({who: gets(150)})
    (judged,) = found(one, kinds=holders, graded=True)
    assert judged.confidence == GRADES[grade]
    assert judged.basis["calibrated"] is False
    paid = (trade(0, who=who), *[None] * 143)
    for other in (found(one, kinds=holders), found(one, kinds=holders, graded=True, before=paid)):
        assert other[0].confidence != GRADES[grade]


def test_the_worst_of_several_labels_decides() -> None:
    """Nobody says which label the script was of."""
    mixed = entity("mixed", "Mixed", "treasury")
    labels = (*mixed.labels, replace(mixed.labels[0], confidence="low"))
    known = LabelSet((replace(mixed, labels=labels), replace(mixed, id="none", labels=())), "made", LABELS.network)
    (one,) = found(transfer({"mixed": gets(150)}), kinds=("treasury",), graded=True, labels=known, before=())
    assert one.confidence == GRADES["low"]
    (none,) = found(transfer({"none": gets(150)}), kinds=("treasury",), graded=True, labels=known, before=())
    assert none.confidence == 0
