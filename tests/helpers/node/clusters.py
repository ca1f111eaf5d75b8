"""The order in which a mempool would be mined: clusters, their linearisation, and its chunks (Core's txgraph).

A chunk is the set of the highest feerate among those that hold the ancestors of all their members; of equals, the
smallest. It is found by cutting a network in two: what is worth more than a feerate from what is worth less.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Protocol

SOURCE, SINK = b"source", b"sink"
Links = Mapping[bytes, set[bytes]]


class Item(Protocol):
    """What the order depends on."""

    @property
    def fee(self) -> int: ...

    @property
    def weight(self) -> int: ...


@dataclass(frozen=True)
class Chunk:
    """Transactions of one cluster that are mined together, in an order that respects who spends whom."""

    txids: tuple[bytes, ...]
    fee: int
    weight: int
    prefix: int
    """The weight of the chunks of its own feerate in its cluster, up to and with this one."""

    @property
    def order(self) -> tuple[Fraction, int, bytes]:
        """Dearest first; then Core's tie-breaks."""
        return (Fraction(-self.fee, self.weight), self.prefix, max(self.txids))


def closure(start: Iterable[bytes], next_of: Links) -> set[bytes]:
    """Everything that can be reached, the start included."""
    found: set[bytes] = set()
    waiting = list(start)
    while waiting:
        txid = waiting.pop()
        if txid not in found:
            found.add(txid)
            waiting += next_of[txid]
    return found


def chunks_of(items: Mapping[bytes, Item], parents: Links, children: Links) -> list[Chunk]:
    """All chunks of a mempool, in the order of mining."""
    seen: set[bytes] = set()
    chunks: list[Chunk] = []
    for txid in items:
        if txid not in seen:
            cluster = connected([txid], parents, children)
            seen |= cluster
            chunks += _linearise(cluster, items, parents)
    return sorted(chunks, key=lambda chunk: chunk.order)


def connected(start: Iterable[bytes], parents: Links, children: Links) -> set[bytes]:
    """The clusters of some transactions."""
    found = set(start)
    waiting = list(found)
    while waiting:
        txid = waiting.pop()
        near = (parents[txid] | children[txid]) - found
        found |= near
        waiting += near
    return found


def improves(before: list[Chunk], after: list[Chunk]) -> bool:
    """Whether one diagram of fee against weight is nowhere below another, and somewhere above it."""
    weights = {point[0] for chunks in (before, after) for point in _diagram(chunks)}
    gains = [_fee_at(_diagram(after), weight) - _fee_at(_diagram(before), weight) for weight in weights]
    return min(gains) >= 0 and max(gains) > 0


def _diagram(chunks: list[Chunk]) -> list[tuple[int, int]]:
    points = [(0, 0)]
    for chunk in chunks:
        points.append((points[-1][0] + chunk.weight, points[-1][1] + chunk.fee))
    return points


def _fee_at(points: list[tuple[int, int]], weight: int) -> Fraction:
    for (left, low), (right, high) in pairwise(points):
        if weight <= right:
            return low + Fraction((high - low) * (weight - left), right - left)
    return Fraction(points[-1][1])


def _linearise(cluster: set[bytes], items: Mapping[bytes, Item], parents: Links) -> list[Chunk]:
    chunks: list[Chunk] = []
    left = set(cluster)
    rate, prefix = Fraction(-1), 0
    while left:
        within = {txid: parents[txid] & left for txid in left}
        best = left if len(left) == 1 else _best(within, items)
        fee, weight = _total(best, items)
        prefix = prefix + weight if Fraction(fee, weight) == rate else weight
        rate = Fraction(fee, weight)
        chunks.append(Chunk(tuple(_topological(best, within, items)), fee, weight, prefix))
        left = left - best
    return chunks


def _total(members: Iterable[bytes], items: Mapping[bytes, Item]) -> tuple[int, int]:
    chosen = [items[txid] for txid in members]
    return sum(item.fee for item in chosen), sum(item.weight for item in chosen)


def _best(parents: Links, items: Mapping[bytes, Item]) -> set[bytes]:
    """The next chunk of a cluster."""
    best = better = set(parents)
    while better:
        best = better
        worth = _worth(best, parents, items)
        better = _profitable(worth, parents)
    smallest = []
    for txid in best:
        # at the best feerate nothing is worth more than nothing: what comes with a member for free?
        members = _profitable(worth | {txid: sum(map(abs, worth.values())) + 1}, parents)
        if sum(worth[member] for member in members) == 0:
            smallest.append(members)
    return min(smallest, key=lambda members: (_total(members, items)[1], max(members)))


def _worth(members: set[bytes], parents: Links, items: Mapping[bytes, Item]) -> dict[bytes, int]:
    """What each transaction pays beyond the feerate of some of them, times a constant."""
    fee, weight = _total(members, items)
    return {txid: items[txid].fee * weight - items[txid].weight * fee for txid in parents}


def _profitable(worth: Mapping[bytes, int], parents: Links) -> set[bytes]:
    """The smallest set, with all ancestors of its members, that is worth the most: a minimum cut."""
    room: dict[bytes, dict[bytes, int]] = {txid: {} for txid in (*parents, SOURCE, SINK)}
    endless = sum(map(abs, worth.values())) + 1
    for txid, value in worth.items():
        start, end = (SOURCE, txid) if value > 0 else (txid, SINK)
        room[start][end], room[end][start] = abs(value), 0
        for parent in parents[txid]:
            room[txid][parent] = endless
            room[parent].setdefault(txid, 0)
    while True:
        came_from = _reach(room)
        if SINK not in came_from:
            return came_from.keys() - {SOURCE}
        way = [SINK]
        while way[-1] != SOURCE:
            way.append(came_from[way[-1]])
        steps = list(zip(way[1:], way, strict=False))
        flow = min(room[a][b] for a, b in steps)
        for a, b in steps:
            room[a][b] -= flow
            room[b][a] += flow


def _reach(room: Mapping[bytes, Mapping[bytes, int]]) -> dict[bytes, bytes]:
    """Where there is still room to, from the source, by the shortest way."""
    came_from, waiting = {SOURCE: SOURCE}, deque([SOURCE])
    while waiting:
        at = waiting.popleft()
        for to, left in room[at].items():
            if left > 0 and to not in came_from:
                came_from[to] = at
                waiting.append(to)
    return came_from


def _topological(members: set[bytes], parents: Links, items: Mapping[bytes, Item]) -> list[bytes]:
    """Parents first; of those that may come next the dearest, then the smallest, then the lowest hash."""
    ordered: list[bytes] = []
    left = set(members)
    while left:
        ready = [txid for txid in left if not parents[txid] & left]
        ordered.append(min(ready, key=lambda t: (Fraction(-items[t].fee, items[t].weight), items[t].weight, t)))
        left.discard(ordered[-1])
    return ordered
