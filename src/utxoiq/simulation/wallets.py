"""Coins, who owns them, and what spending them costs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from utxoiq.chain.serialize import Coin
from utxoiq.simulation.draws import random_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from utxoiq.simulation.locks import Kind, Lock

DUST = 1000
"""Satoshis below which nobody makes an output."""


class Owned(NamedTuple):
    """An unspent output somebody can spend; `txid` in internal order."""

    txid: bytes
    vout: int
    coin: Coin
    kind: Kind


@dataclass(slots=True)
class Wallet:
    """The coins of one owner, who makes new addresses of one kind."""

    kind: Kind
    rng: Random
    coins: list[Owned] = field(default_factory=list)

    def fresh(self) -> Target:
        """A script never used before, paying this wallet."""
        return Target(self.kind.lock(random_bytes(self.rng, 32)), self)

    def endow(self, value: int, height: int, lock: Lock | None = None, *, is_coinbase: bool = False) -> Owned:
        """Give it a coin of `value` satoshis made at `height`, before the first block of the run."""
        kind, script = lock or self.fresh().lock
        coin = Coin(value, script, height, is_coinbase)
        owned = Owned(random_bytes(self.rng, 32), 0 if is_coinbase else self.rng.randrange(3), coin, kind)
        self.coins.append(owned)
        return owned

    def take(self, count: int) -> list[Owned]:
        """Up to `count` coins, drawn at random, out of the wallet."""
        taken = []
        for _ in range(min(count, len(self.coins))):
            at = self.rng.randrange(len(self.coins))
            self.coins[at], self.coins[-1] = self.coins[-1], self.coins[at]
            taken.append(self.coins.pop())
        return taken

    def gather(self, value: int) -> list[Owned]:
        """Coins worth at least `value` satoshis, or none and the wallet as it was."""
        taken: list[Owned] = []
        while self.coins and worth(taken) < value:
            taken += self.take(1)
        if worth(taken) >= value:
            return taken
        self.coins += taken
        return []


class Target(NamedTuple):
    """Where an output goes; with no wallet, nobody spends it again in this run."""

    lock: Lock
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
