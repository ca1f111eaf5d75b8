"""Who plays: pools, a solo miner and exchanges. All names are invented and begin with "Sim "."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from utxoiq.simulation.locks import P2PKH, P2SH, P2TR, P2WPKH, P2WSH, Kind, Lock


@dataclass(frozen=True, slots=True)
class Entity:
    """One actor with addresses of its own. `share` is its part of the hashrate before any drift, 0 for non-miners."""

    id: str
    name: str
    script_kind: Kind
    tag: str = ""
    """What it writes into its coinbases."""
    share: float = 0.0
    n_locks: int = 1

    def locks(self, seed: int) -> tuple[Lock, ...]:
        """The output scripts it uses again and again, the main one first; they depend on nothing but seed and id."""
        programs = (sha256(f"{seed}/{self.id}/{i}".encode()).digest() for i in range(self.n_locks))
        return tuple(self.script_kind.lock(program) for program in programs)


POOLS = (
    Entity("sim-pool-aster", "Sim Pool Aster", P2WPKH, "/sim-aster/", 0.27),
    Entity("sim-pool-basalt", "Sim Pool Basalt", P2PKH, "/sim-basalt/", 0.21),
    Entity("sim-pool-cobalt", "Sim Pool Cobalt", P2SH, "/sim-cobalt/", 0.16),
    Entity("sim-pool-dune", "Sim Pool Dune", P2WPKH, "/sim-dune/", 0.13),
    Entity("sim-pool-ember", "Sim Pool Ember", P2TR, "/sim-ember/", 0.10),
    Entity("sim-pool-fjord", "Sim Pool Fjord", P2WSH, "/sim-fjord/", 0.09),
)
RISING_POOL = POOLS[4]
"""The one whose hashrate jumps."""

SOLO = Entity("sim-solo", "Sim Solo Miner", P2WPKH, share=0.04)
"""Writes no tag and carries no label."""

EXCHANGES = (
    Entity("sim-exchange-borealis", "Sim Exchange Borealis", P2WPKH, n_locks=49),
    Entity("sim-exchange-cinder", "Sim Exchange Cinder", P2SH, n_locks=49),
)
"""Their first lock is the hot wallet, the others take deposits."""
