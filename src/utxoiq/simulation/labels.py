"""What a label file would say of the simulated owners: part of the truth, and in some regimes not even that."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from utxoiq.chain.address import address_of
from utxoiq.chain.network import NETWORKS
from utxoiq.simulation.cast import EXCHANGES, HOLDERS, PEOPLE, POOLS, WHALES, Entity, person
from utxoiq.simulation.regimes import DEMO, Regime
from utxoiq.units import COIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from utxoiq.simulation.locks import Lock

NETWORK = NETWORKS["simulated"]
AS_OF = "2026-01-05"


@dataclass(frozen=True, slots=True)
class Label:
    """One entity. `kind` is mining_pool, exchange, treasury, etf or government; `tags` are substrings of its coinbase
    scripts; `known_holdings` {sat, as_of, source}."""

    id: str
    name: str
    kind: str
    tags: tuple[str, ...]
    addresses: tuple[str, ...]
    """On the simulated network."""
    ticker: str | None = None
    known_holdings: dict[str, int | str] | None = None


def labels(seed: int, regime: Regime = DEMO) -> list[Label]:
    """Pools, whole; exchanges and holders with the share of their addresses that the regime knows, and its mistakes."""
    owners = (*EXCHANGES, *HOLDERS)
    known = {owner.id: _known(owner, seed, regime.label_coverage) for owner in owners}
    wrong = {owner.id: _drawn(known[owner.id], f"{seed}/wrong", regime.wrong_labels) for owner in owners}
    strangers = _strangers(seed)
    listed = {}
    for owner, victim in zip(owners, (*owners[1:], owners[0]), strict=True):
        mine = [address for address in known[owner.id] if address not in wrong[owner.id]]
        count = len(wrong[owner.id])
        theirs = wrong[victim.id][: count // 2]
        listed[owner.id] = (*mine, *theirs, *(next(strangers) for _ in range(count - len(theirs))))
    return [_label(pool, _addresses(pool.locks(seed))) for pool in POOLS] + [
        _label(owner, listed[owner.id]) for owner in owners
    ]


def _known(owner: Entity, seed: int, coverage: float) -> tuple[str, ...]:
    """Of each use an exact share of its addresses, in the order they were made."""
    known: list[str] = []
    for use, _ in owner.book:
        addresses = _addresses(owner.locks(seed, use))
        chosen = set(_drawn(addresses, f"{seed}/known", coverage))
        known += [address for address in addresses if address in chosen]
    return tuple(known)


def _drawn(addresses: Iterable[str], name: str, share: float) -> list[str]:
    """An exact share of them, rounded, by the hash of each."""
    ranked = sorted(addresses, key=lambda address: sha256(f"{name}/{address}".encode()).digest())
    return ranked[: int(share * len(ranked) + 0.5)]


def _strangers(seed: int) -> Iterator[str]:
    """Addresses of people and whales who use them again."""
    locks = [lock for whale in WHALES for lock in whale.locks(seed)]
    locks += [person(seed, number)[1] for number in range(PEOPLE)]
    yield from _drawn(_addresses(locks), f"{seed}/stranger", 1.0)


def _addresses(locks: Iterable[Lock]) -> tuple[str, ...]:
    found = (address_of(lock.script, NETWORK) for lock in locks)
    return tuple(address for address in found if address is not None)


def _label(entity: Entity, addresses: tuple[str, ...]) -> Label:
    tags = (entity.tag,) if entity.tag else ()
    holdings: dict[str, int | str] | None = None
    if entity.holdings_btc is not None:
        holdings = {"sat": entity.holdings_btc * COIN, "as_of": AS_OF, "source": "the simulation"}
    return Label(entity.id, entity.name, entity.kind, tags, addresses, entity.ticker, holdings)
