"""Coins, who owns them, and what spending them costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from utxoiq.chain.serialize import Coin
from utxoiq.simulation.draws import random_bytes
from utxoiq.simulation.plan import START_HEIGHT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from utxoiq.simulation.cast import Entity
    from utxoiq.simulation.locks import Kind, Lock

DUST = 1000
"""Satoshis below which nobody makes an output."""


class Owned(NamedTuple):
    """An unspent output somebody can spend; `txid` in internal order."""

    txid: bytes
    vout: int
    coin: Coin
    kind: Kind
    owner: Entity


@dataclass(slots=True)
class Wallet:
    """Coins of one owner, who has addresses it uses again (`locks`) or makes new ones of its own kind."""

    owner: Entity
    rng: Random
    locks: Sequence[Lock] = ()
    coins: list[Owned] = field(default_factory=list)

    def fresh(self) -> Target:
        """A script never used before, paying this wallet."""
        return Target(self.owner.script.lock(random_bytes(self.rng, 32)), self.owner, self)

    def home(self) -> Target:
        """One of the addresses it uses again, a fresh one where it has none."""
        return Target(self.rng.choice(self.locks), self.owner, self) if self.locks else self.fresh()

    def endow(self, value: int, age: int) -> Owned:
        """A coin of `value` satoshis, not yet in the wallet, made `age` blocks before the first block of the run."""
        kind, script = self.home().lock
        coin = Coin(value, script, START_HEIGHT - age)
        return Owned(random_bytes(self.rng, 32), self.rng.randrange(3), coin, kind, self.owner)

    def take(self, count: int) -> list[Owned]:
        """Up to `count` coins, drawn at random, out of the wallet."""
        taken = []
        for _ in range(min(count, len(self.coins))):
            at = self.rng.randrange(len(self.coins))
            self.coins[at], self.coins[-1] = self.coins[-1], self.coins[at]
            taken.append(self.coins.pop())
        return taken

    def fund(self, value: int, age: int = 3_000) -> list[Owned]:
        """Coins worth `value` satoshis and at most a quarter more, the largest that fit first; else one made for it
        before the run, at most `age` blocks before its first block."""
        taken: list[Owned] = []
        short = value
        for owned in sorted(self.coins, key=_size, reverse=True):
            if short > 0 and 4 * owned.coin.value <= 4 * short + value and owned.coin.value * 20 >= value:
                taken.append(owned)
                short -= owned.coin.value
        if short > 0:
            return [self.endow(value + value * self.rng.randrange(1, 16) // 100, 1 + self.rng.randrange(age))]
        gone = {(owned.txid, owned.vout) for owned in taken}
        self.coins = [owned for owned in self.coins if (owned.txid, owned.vout) not in gone]
        return taken


def _size(owned: Owned) -> tuple[int, bytes, int]:
    return owned.coin.value, owned.txid, owned.vout


class Target(NamedTuple):
    """Where an output goes; with no wallet, nobody spends it again in this run. Nobody owns what carries no money."""

    lock: Lock
    owner: Entity | None = None
    wallet: Wallet | None = None


class Payment(NamedTuple):
    """An output to be made, in satoshis."""

    value: int
    target: Target


def worth(coins: Sequence[Owned]) -> int:
    """Satoshis of all `coins`."""
    return sum(owned.coin.value for owned in coins)


def fee_of(inputs: Sequence[Owned], locks: Sequence[Lock], rate: int) -> int:
    """The fee in satoshis of a transaction from `inputs` to `locks` at `rate` sat/kvB, rounded up."""
    weight = 42 + sum(owned.kind.input_weight for owned in inputs) + sum(36 + 4 * len(lock.script) for lock in locks)
    vsize = (weight + 3) // 4
    return (vsize * rate + 999) // 1000
