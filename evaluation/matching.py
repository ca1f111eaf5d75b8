"""Which signal is about which event: one to one, within three blocks.

A signal may be about an event of the same type, kind and subject (entity, or txid where the event names one; a shift of
share also of the same direction) whose blocks, three more on either side allowed, it lies in. Each signal is about one
event at most and each event told by one signal: every further one is false. As many as possible are matched.

Only events that reach the published threshold count. One below it plays no part: a signal about it is false. Events
that only sum up others (`is_consequence`) are not owed; a signal about one is excused: it is right, but no merit.
"""

from __future__ import annotations

from collections import defaultdict
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from evaluation.claims import Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from utxoiq.simulation.plan import Event

T = TypeVar("T")
NEAR = 3
"""Blocks."""
SHOWN_OVER = {"pool_share_shift": 144}
"""Blocks over which an event of a kind shows, where it says no length: the share of so many blocks is what is meant
(docs/signals/miner.md, `recent_blocks`)."""


class Pair(NamedTuple):
    """A signal and the event it is about."""

    claim: Claim
    event: Event


class Matched(NamedTuple):
    """Every signal and every event that counts, in one of four places."""

    found: list[Pair]
    false: list[Claim]
    missed: list[Event]
    excused: list[Pair]
    """Right, and neither owed nor counted."""


def match(claims: Iterable[Claim], events: Iterable[Event]) -> Matched:
    """Events that are owed come first; what is left over may be excused."""
    counting = [event for event in events if event.counts]
    owed = [event for event in counting if not event.is_consequence]
    found, rest = pair_up(claims, owed)
    excused, false = pair_up(rest, [event for event in counting if event.is_consequence])
    told = {id(pair.event) for pair in found}
    return Matched(found, false, [event for event in owed if id(event) not in told], excused)


def pair_up(claims: Iterable[Claim], events: Iterable[Event]) -> tuple[list[Pair], list[Claim]]:
    """As many pairs as there can be, and the claims left over, both by height."""
    waiting = _grouped(events, _key_of_event)
    pairs: list[Pair] = []
    rest: list[Claim] = []
    for key, said in _grouped(claims, _key_of_claim).items():
        for claim, event in _assign(sorted(said, key=lambda one: one.height), waiting.get(key, [])):
            if event is None:
                rest.append(claim)
            else:
                pairs.append(Pair(claim, event))
    return sorted(pairs, key=lambda pair: pair.claim.height), sorted(rest, key=lambda claim: claim.height)


def span(event: Event) -> tuple[int, int]:
    """(first, last) height at which a signal may be about it."""
    length = int(event.detail.get("blocks", SHOWN_OVER.get(event.kind, 1)))
    return event.height - NEAR, event.height + length - 1 + NEAR


def _assign(claims: Iterable[Claim], events: Iterable[Event]) -> Iterator[tuple[Claim, Event | None]]:
    """In order of height, each to that event still open which closes first: the largest matching, since each event
    takes a range of heights (Glover 1967)."""
    ahead = sorted(events, key=lambda event: span(event)[0], reverse=True)
    open_: list[tuple[int, int, Event]] = []
    for claim in claims:
        while ahead and span(ahead[-1])[0] <= claim.height:
            event = ahead.pop()
            heappush(open_, (span(event)[1], len(ahead), event))
        while open_ and open_[0][0] < claim.height:
            heappop(open_)
        yield claim, heappop(open_)[2] if open_ else None


def _key_of_event(event: Event) -> Hashable:
    who = event.detail.get("txid", event.detail.get("address")) if event.entity is None else event.entity
    return event.signal_type, event.kind, who, event.detail.get("direction")


def _key_of_claim(claim: Claim) -> Hashable:
    return claim.signal_type, claim.kind, claim.subject, claim.direction


def _grouped(items: Iterable[T], key: Callable[[T], Hashable]) -> dict[Hashable, list[T]]:
    groups: dict[Hashable, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return groups
