"""Who plays. All names are invented and begin with "Sim "."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from utxoiq.simulation.locks import COMMON, P2PKH, P2SH, P2TR, P2WPKH, P2WSH, Kind, Lock

Book = tuple[tuple[str, int], ...]
"""What addresses an owner has: of each use, how many."""
PAYOUT: Book = (("payout", 2),)
EXCHANGE_BOOK: Book = (("hot", 4), ("cold", 6), ("deposit", 48), ("change", 240))
HOLDER_BOOK: Book = (("vault", 12), ("change", 60))
WHALE_BOOK: Book = (("vault", 3),)


@dataclass(frozen=True, slots=True, eq=False)
class Entity:
    """One owner of coins with addresses of its own."""

    id: str
    name: str
    kind: str
    """Of a label: mining_pool, exchange, treasury, etf, government; or whale, person, for those who carry none."""
    script: Kind
    book: Book = ()
    tag: str = ""
    """What it writes into its coinbases."""
    share: float = 0.0
    """Its part of the hashrate at the start, 0 for non-miners."""
    ticker: str | None = None
    holdings_btc: int | None = None
    """What it was last known to hold, BTC."""

    def locks(self, seed: int, use: str | None = None) -> tuple[Lock, ...]:
        """The output scripts of one use, or all it has; they depend on nothing but seed, id and use."""
        books = [(name, count) for name, count in self.book if use in (None, name)]
        programs = (sha256(f"{seed}/{self.id}/{name}/{i}".encode()).digest() for name, n in books for i in range(n))
        return tuple(self.script.lock(program) for program in programs)


def _pool(name: str, script: Kind, share: float) -> Entity:
    title = name.capitalize()
    return Entity(f"sim-pool-{name}", f"Sim Pool {title}", "mining_pool", script, PAYOUT, f"/sim-{name}/", share)


def _exchange(name: str, script: Kind) -> Entity:
    return Entity(f"sim-exchange-{name}", f"Sim Exchange {name.capitalize()}", "exchange", script, EXCHANGE_BOOK)


POOLS = (
    _pool("aster", P2WPKH, 0.27),
    _pool("basalt", P2PKH, 0.21),
    _pool("cobalt", P2SH, 0.16),
    _pool("dune", P2WPKH, 0.13),
    _pool("ember", P2TR, 0.10),
    _pool("fjord", P2WSH, 0.09),
)
SOLO = Entity("sim-solo", "Sim Solo Miner", "person", P2WPKH, PAYOUT, share=0.04)
"""Writes no tag and carries no label."""
MINERS = (*POOLS, SOLO)

EXCHANGES = (
    _exchange("borealis", P2WPKH),
    _exchange("cinder", P2SH),
    _exchange("delphin", P2WPKH),
    _exchange("equinox", P2PKH),
    _exchange("fathom", P2WSH),
)
HOLDERS = (
    Entity("sim-treasury-gneiss", "Sim Gneiss Holdings", "treasury", P2WPKH, HOLDER_BOOK, "", 0, "SGNS", 6_400),
    Entity("sim-treasury-halcyon", "Sim Halcyon Works", "treasury", P2TR, HOLDER_BOOK, "", 0, "SHAL", 2_150),
    Entity("sim-etf-isthmus", "Sim Isthmus Bitcoin Fund", "etf", P2WSH, HOLDER_BOOK, "", 0, "SIBF", 18_900),
    Entity("sim-government-juniper", "Sim Republic of Juniper", "government", P2SH, HOLDER_BOOK, "", 0, None, 5_700),
)
WHALES = tuple(
    Entity(f"sim-whale-{i}", f"Sim Whale {i}", "whale", (P2WPKH, P2TR, P2PKH)[i % 3], WHALE_BOOK) for i in range(8)
)
OUTSIDE = Entity("sim-outside", "Sim Outside World", "person", P2WPKH)
"""Everybody who is seen once: buyers, sellers, customers' customers."""
PEOPLE = 420
"""How many pay each other."""


def person(seed: int, number: int) -> tuple[Entity, Lock]:
    """One of the people, and the address he gives to everybody."""
    program = sha256(f"{seed}/person/{number}".encode()).digest()
    script = COMMON[program[-1] % len(COMMON)]
    return Entity(f"sim-person-{number}", f"Sim Person {number}", "person", script), script.lock(program)
