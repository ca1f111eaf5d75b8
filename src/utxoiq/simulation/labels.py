"""What a label file would say of the simulated actors."""

from __future__ import annotations

from dataclasses import dataclass

from utxoiq.chain.address import address_of
from utxoiq.chain.network import NETWORKS
from utxoiq.simulation.cast import EXCHANGES, POOLS, Entity


@dataclass(frozen=True, slots=True)
class Label:
    """One entity. `kind` is mining_pool or exchange; `tags` are substrings of its coinbase scripts."""

    id: str
    name: str
    kind: str
    tags: tuple[str, ...]
    addresses: tuple[str, ...]
    """On the simulated network."""


def labels(seed: int) -> list[Label]:
    """The pools and exchanges of the economy of `seed`, with every address they use again."""
    pools = [_label(pool, "mining_pool", seed) for pool in POOLS]
    return pools + [_label(exchange, "exchange", seed) for exchange in EXCHANGES]


def _label(entity: Entity, kind: str, seed: int) -> Label:
    network = NETWORKS["simulated"]
    addresses = (address_of(lock.script, network) for lock in entity.locks(seed))
    tags = (entity.tag,) if entity.tag else ()
    return Label(entity.id, entity.name, kind, tags, tuple(a for a in addresses if a is not None))
