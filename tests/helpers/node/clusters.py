"""The order in which a mempool would be mined: clusters, their linearisation, and its chunks (Core's txgraph)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import Protocol

EXACT = 10
"""Up to so many transactions every subset is looked at; beyond, only each transaction with its ancestors."""


class Item(Protocol):
    """What the order depends on."""

    txid: bytes
    fee: int
    weight: int


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


def closure(start: Iterable[bytes], next_of: Mapping[bytes, set[bytes]]) -> set[bytes]:
    """Everything that can be reached, the start included."""
    found: set[bytes] = set()
    waiting = list(start)
    while waiting:
        txid = waiting.pop()
        if txid not in found:
            found.add(txid)
            waiting += next_of[txid]
    return found


def chunks_of(
    items: Mapping[bytes, Item], parents: Mapping[bytes, set[bytes]], children: Mapping[bytes, set[bytes]]
) -> list[Chunk]:
    """All chunks of a mempool, in the order of mining."""
    linked = {txid: parents[txid] | children[txid] for txid in items}
    seen: set[bytes] = set()
    chunks: list[Chunk] = []
    for txid in items:
        if txid not in seen:
            cluster = closure([txid], linked)
            seen |= cluster
            chunks += _linearise(cluster, items, parents)
    return sorted(chunks, key=lambda chunk: chunk.order)


def _linearise(cluster: set[bytes], items: Mapping[bytes, Item], parents: Mapping[bytes, set[bytes]]) -> list[Chunk]:
    chunks: list[Chunk] = []
    left = set(cluster)
    rate, prefix = Fraction(0), 0
    while left:
        within = {txid: parents[txid] & left for txid in left}
        best = max(_choices(within), key=lambda choice: _worth(choice, items))
        fee, weight = sum(items[txid].fee for txid in best), sum(items[txid].weight for txid in best)
        prefix = prefix + weight if chunks and Fraction(fee, weight) == rate else weight
        rate = Fraction(fee, weight)
        chunks.append(Chunk(tuple(_topological(best, within)), fee, weight, prefix))
        left -= best
    return chunks


def _worth(choice: frozenset[bytes], items: Mapping[bytes, Item]) -> tuple[Fraction, int]:
    """The highest feerate, and of those the smallest set."""
    fee, weight = sum(items[txid].fee for txid in choice), sum(items[txid].weight for txid in choice)
    return Fraction(fee, weight), -weight


def _choices(parents: Mapping[bytes, set[bytes]]) -> Iterator[frozenset[bytes]]:
    """Sets that hold the ancestors of all their members."""
    if len(parents) > EXACT:
        yield from (frozenset(closure([txid], parents)) for txid in parents)
        return
    for size in range(1, len(parents) + 1):
        for choice in combinations(sorted(parents), size):
            members = frozenset(choice)
            if all(parents[txid] <= members for txid in members):
                yield members


def _topological(members: frozenset[bytes], parents: Mapping[bytes, set[bytes]]) -> list[bytes]:
    return sorted(members, key=lambda txid: (len(closure([txid], parents)), txid))
