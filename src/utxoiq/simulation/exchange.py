"""An exchange: deposits to known addresses, sweeps into a hot wallet, withdrawals in batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from utxoiq.simulation.plan import START_HEIGHT
from utxoiq.simulation.wallets import DUST, Payment, Target, Wallet, fee_of, worth
from utxoiq.units import COIN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from utxoiq.simulation.cast import Entity
    from utxoiq.simulation.pending import Pending

SWEEP_AT = 40
"""Deposits waiting before they are swept into the hot wallet."""


class Exchange:
    """It starts with 2,000 BTC in its hot wallet; change goes back to the hot address."""

    def __init__(self, entity: Entity, seed: int, people: Sequence[Wallet], rng: Random) -> None:
        self.entity = entity
        self._people = people
        self._rng = rng
        self._hot_lock, *self._deposit_locks = entity.locks(seed)
        self._hot, self._deposits = Wallet(entity.script_kind, rng), Wallet(entity.script_kind, rng)
        for _ in range(20):
            self._hot.endow(100 * COIN, START_HEIGHT - 1 - rng.randrange(3_000), self._hot_lock)

    def deposit_target(self) -> Target:
        """One of the addresses it gave to its customers."""
        return Target(self._rng.choice(self._deposit_locks), self._deposits)

    def act(self, pending: Pending) -> None:
        """Sweep when enough has come in, else now and then pay customers out."""
        if len(self._deposits.coins) >= SWEEP_AT:
            self._sweep(pending)
        elif self._rng.random() < 0.6:
            self._withdraw(pending)

    def _sweep(self, pending: Pending) -> None:
        inputs, hot, rate = self._deposits.take(SWEEP_AT), self._hot_target(), pending.bid()
        if worth(inputs) < DUST + fee_of(inputs, [hot.lock], rate):
            self._deposits.coins += inputs
            return
        paid = pending.pay(inputs, [], hot, rate)
        pending.log("sweep", exchange=self.entity.id, txid=str(paid.signed.txid), value_sat=worth(inputs))

    def _withdraw(self, pending: Pending) -> None:
        payments = [self._payout() for _ in range(3 + self._rng.randrange(28))]
        inputs = self._hot.gather(sum(payment.value for payment in payments) + COIN)
        if inputs:
            pending.pay(inputs, payments, self._hot_target(), pending.bid())

    def _payout(self) -> Payment:
        value = (100_000 << self._rng.randrange(11)) + self._rng.randrange(100_000)
        return Payment(value, self._rng.choice(self._people).fresh())

    def _hot_target(self) -> Target:
        return Target(self._hot_lock, self._hot)
