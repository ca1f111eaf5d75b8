"""Companies, funds and governments: they buy, sell, pay small bills, and move coins between their own addresses."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

from utxoiq.simulation.cast import OUTSIDE
from utxoiq.simulation.wallets import Payment, Target, Wallet, fee_of
from utxoiq.units import COIN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from utxoiq.simulation.cast import Entity
    from utxoiq.simulation.crowd import Crowd
    from utxoiq.simulation.exchange import Exchange
    from utxoiq.simulation.pending import Pending
    from utxoiq.simulation.plan import Plan
    from utxoiq.simulation.wallets import Owned

THRESHOLD = 10 * COIN
"""What docs/signals/treasury.md takes note of."""
MOST_BY_EXCHANGE = 45 * COIN
"""Larger trades are settled away from exchanges."""
BILLS = 0.03
"""Bills a block."""


class Treasury:
    """One holder; it begins with what its label says it holds."""

    def __init__(self, entity: Entity, seed: int, plan: Plan, exchanges: Sequence[Exchange], rng: Random) -> None:
        self.entity = entity
        self._plan, self._exchanges, self._rng = plan, exchanges, rng
        self._vault = Wallet(entity, rng, entity.locks(seed, "vault"))
        self._own_change = cycle(entity.locks(seed, "change"))
        coins = 24
        value = (entity.holdings_btc or 0) * COIN // coins
        self._vault.coins = [self._vault.endow(value, 1 + rng.randrange(30_000)) for _ in range(coins)]
        self._crowd: Crowd | None = None

    @property
    def coins(self) -> list[Owned]:
        """All it has."""
        return self._vault.coins

    def serve(self, crowd: Crowd) -> None:
        """Let it pay bills of people of `crowd`."""
        self._crowd = crowd

    def act(self, pending: Pending) -> None:
        """What is planned, and perhaps a bill."""
        planned = self._plan.at(self.entity.id, pending.step)
        if planned:
            (self._buy if planned.kind == "accumulation" else self._sell)(int(planned.size * THRESHOLD), pending)
        if reshuffle := self._plan.at(f"{self.entity.id}/reshuffle", pending.step):
            self._reshuffle(int(reshuffle.size * THRESHOLD), pending)
        if self._crowd and self._rng.random() < BILLS:
            value = 5_000_000 + self._rng.randrange(2 * COIN)
            self._spend(value, self._crowd.somebody(), pending)

    def _buy(self, amount: int, pending: Pending) -> None:
        """From an exchange, or where that is too much for one, from somebody nobody knows."""
        if amount <= MOST_BY_EXCHANGE and self._rng.random() < 0.5:
            self._rng.choice(self._exchanges).pay_out(amount, [self._vault.home()], pending)
            return
        seller = Wallet(OUTSIDE, self._rng)
        inputs = seller.fund(amount + COIN // 100, 10_000)
        pending.pay(inputs, [Payment(amount, self._vault.home())], seller.fresh(), pending.bid())

    def _sell(self, amount: int, pending: Pending) -> None:
        by_exchange = amount <= MOST_BY_EXCHANGE and self._rng.random() < 0.5
        buyer = (
            self._rng.choice(self._exchanges).deposit_target() if by_exchange else Wallet(OUTSIDE, self._rng).fresh()
        )
        self._spend(amount, buyer, pending)

    def _spend(self, amount: int, target: Target, pending: Pending) -> None:
        same = self._rng.random() < 0.8
        change = self._vault.home() if same else Target(next(self._own_change), self.entity, self._vault)
        pending.pay(self._vault.fund(amount + COIN // 10, 3_000), [Payment(amount, target)], change, pending.bid())

    def _reshuffle(self, amount: int, pending: Pending) -> None:
        inputs, target, rate = self._vault.fund(amount, 10_000), self._vault.home(), pending.bid()
        value = amount - fee_of(inputs, [target.lock, target.lock], rate)
        pending.pay(inputs, [Payment(value, target)], self._vault.home(), rate)
