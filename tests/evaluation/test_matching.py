"""One to one within three blocks: as many pairs as there can be, and what is left over in its place."""

from __future__ import annotations

from itertools import permutations
from random import Random
from typing import Any

import pytest
from evaluation.claims import Claim
from evaluation.matching import match, pair_up, span

from utxoiq.simulation.plan import Event

BOREALIS, CINDER = "sim-exchange-borealis", "sim-exchange-cinder"


def claim(height: int, subject: str | None = BOREALIS, kind: str = "large_deposit", **more: Any) -> Claim:
    return Claim("exchange", kind, subject, height, **more)


def event(
    height: int, entity: str | None = BOREALIS, kind: str = "large_deposit", size: float = 1.0, **detail: Any
) -> Event:
    return Event("exchange", kind, entity, height, size, detail)


@pytest.mark.parametrize(("height", "found"), [(96, 0), (97, 1), (100, 1), (103, 1), (104, 0)])
def test_three_blocks_before_and_after_are_near(height: int, found: int) -> None:
    matched = match([claim(height)], [event(100)])
    assert (len(matched.found), len(matched.false), len(matched.missed)) == (found, 1 - found, 1 - found)


def test_an_event_of_several_blocks_is_near_to_all_of_them() -> None:
    assert span(event(100, blocks=6)) == (97, 108)
    assert span(event(100, kind="pool_share_shift")) == (97, 246)


def test_a_duplicate_is_false() -> None:
    matched = match([claim(100), claim(101)], [event(100)])
    assert [pair.claim.height for pair in matched.found] == [100]
    assert [one.height for one in matched.false] == [101]


def test_one_signal_tells_one_event() -> None:
    matched = match([claim(101)], [event(100), event(102)])
    assert (len(matched.found), len(matched.missed)) == (1, 1)


@pytest.mark.parametrize(
    "other",
    [
        claim(100, CINDER),
        claim(100, None),
        claim(100, kind="large_withdrawal"),
        Claim("treasury", "large_deposit", BOREALIS, 100),
        claim(100, direction="up"),
    ],
)
def test_type_kind_subject_and_direction_must_be_the_same(other: Claim) -> None:
    assert match([other], [event(100)]).false == [other]


def test_an_event_without_an_entity_is_known_by_its_transaction() -> None:
    told = event(100, None, txid="aa")
    assert match([claim(100, "aa")], [told]).found
    assert not match([claim(100, "bb")], [told]).found
    assert match([claim(100, None)], [event(100, None)]).found


def test_below_the_threshold_nothing_counts() -> None:
    matched = match([claim(100)], [event(100, size=0.99)])
    assert (len(matched.false), len(matched.missed)) == (1, 0)
    matched = match([claim(100)], [event(100, size=0.99), event(103, size=1.0)])
    assert [pair.event.height for pair in matched.found] == [103]


def test_what_only_sums_up_excuses_and_is_not_owed() -> None:
    follows = event(100, follows_from="single flows")
    assert not match([], [follows]).missed
    matched = match([claim(100), claim(101)], [follows])
    assert (len(matched.excused), len(matched.false), len(matched.found)) == (1, 1, 0)
    matched = match([claim(100)], [follows, event(102)])
    assert [pair.event.height for pair in matched.found] == [102]


def test_nothing_is_matched_with_nothing() -> None:
    assert match([], []) == ([], [], [], [])


def most_pairs(claims: list[Claim], events: list[Event]) -> int:
    """The size of the largest matching, by trying all."""
    few, many = sorted([[("c", one) for one in claims], [("e", one) for one in events]], key=len)
    best = 0
    for chosen in permutations(many, len(few)):
        near = 0
        for a, b in zip(few, chosen, strict=True):
            said, happened = (a[1], b[1]) if a[0] == "c" else (b[1], a[1])
            first, last = span(happened)  # type: ignore[arg-type]
            near += first <= said.height <= last
        best = max(best, near)
    return best


@pytest.mark.parametrize("seed", range(60))
def test_it_is_one_to_one_and_as_large_as_any(seed: int) -> None:
    rng = Random(seed)
    claims = [claim(100 + rng.randrange(25)) for _ in range(rng.randrange(6))]
    events = [event(100 + rng.randrange(25), blocks=1 + rng.randrange(9)) for _ in range(rng.randrange(6))]
    pairs, rest = pair_up(claims, events)
    assert len(pairs) == most_pairs(claims, events)
    assert len(pairs) + len(rest) == len(claims)
    assert sorted(one.height for one in [*rest, *(pair.claim for pair in pairs)]) == sorted(
        one.height for one in claims
    )
    assert len({id(pair.event) for pair in pairs}) == len(pairs)
    assert all(span(pair.event)[0] <= pair.claim.height <= span(pair.event)[1] for pair in pairs)
