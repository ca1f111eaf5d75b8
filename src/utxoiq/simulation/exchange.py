"""An exchange: deposits to known addresses, sweeps, withdrawals in batches, and moves between its own wallets."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

from utxoiq.simulation.cast import OUTSIDE
from utxoiq.simulation.plan import SURGE_BLOCKS
from utxoiq.simulation.wallets import DUST, Payment, Target, Wallet, fee_of, worth
from utxoiq.units import COIN

if TYPE_CHECKING:
    from random import Random

    from utxoiq.simulation.cast import Entity
    from utxoiq.simulation.crowd import Crowd
    from utxoiq.simulation.pending import Pending
    from utxoiq.simulation.plan import Plan, Planned
    from utxoiq.simulation.wallets import Owned

SWEEP_AT = 24
"""Deposits waiting before they are swept into the hot wallet."""
SMALL = 5 * COIN
"""Deposits up to which a sweep takes them; larger ones wait for the next move between wallets."""
THRESHOLD = 100 * COIN
"""What docs/signals/exchange.md calls large."""
MOST_A_PART = 40 * COIN
"""Of a surge, what one transaction moves: well below half of what is large."""

PEELED = 250 * COIN
"""The coin that single customers are paid from, one after the other."""


class Exchange:
    """A hot wallet of 2,000 BTC, a cold one of 12,000, and addresses given to customers."""

    def __init__(self, entity: Entity, seed: int, plan: Plan, rng: Random) -> None:
        self.entity = entity
        self._plan, self._rng = plan, rng
        self._hot, self._cold, self._deposits = (
            Wallet(entity, rng, entity.locks(seed, use)) for use in ("hot", "cold", "deposit")
        )
        self._own_change = cycle(entity.locks(seed, "change"))
        self._hot.coins = [self._hot.endow(100 * COIN, 1 + rng.randrange(300)) for _ in range(20)]
        self._cold.coins = [self._cold.endow(600 * COIN, 1 + rng.randrange(20_000)) for _ in range(20)]
        self._surge: list[int] = []
        self._crowd: Crowd | None = None

    @property
    def coins(self) -> list[Owned]:
        """All it has."""
        return [*self._hot.coins, *self._cold.coins, *self._deposits.coins]

    def serve(self, crowd: Crowd) -> None:
        """Let it pay out to the people of `crowd`."""
        self._crowd = crowd

    def deposit_target(self) -> Target:
        """One of the addresses it gave to its customers."""
        return self._deposits.home()

    def act(self, pending: Pending) -> None:
        """What is planned, and an exchange's everyday."""
        self._begin(self._plan.at(self.entity.id, pending.step), pending)
        if self._surge:
            self._go_on(self._surge.pop(), pending)
        if reshuffle := self._plan.at(f"{self.entity.id}/reshuffle", pending.step):
            self._reshuffle(int(reshuffle.size * THRESHOLD), pending)
        if self._crowd:
            self._everyday(pending)

    def pay_out(self, amount: int, targets: list[Target], pending: Pending) -> None:
        """`amount` in equal parts to `targets`, from the hot wallet; change to an address of its own."""
        part = amount // len(targets)
        inputs = self._hot.fund(amount + COIN, 300)
        pending.pay(inputs, [Payment(part, target) for target in targets], self._change(), pending.bid())

    def _everyday(self, pending: Pending) -> None:
        draw = self._rng.random()
        if sum(owned.coin.value <= SMALL for owned in self._deposits.coins) >= SWEEP_AT:
            self._sweep(pending)
        elif draw < 0.4:
            self._batch(pending)
        elif draw < 0.42:
            self._peel(pending)
        elif draw < 0.52:
            self._trade(pending)

    def _begin(self, planned: Planned | None, pending: Pending) -> None:
        if planned is None:
            return
        amount = int(planned.size * THRESHOLD)
        if planned.kind == "large_deposit":
            self._receive(amount, pending)
        elif planned.kind == "large_withdrawal":
            self.pay_out(amount, [_outside(self._rng)], pending)
        else:
            sign = 1 if planned.kind == "net_inflow" else -1
            self._surge = [sign * amount // SURGE_BLOCKS] * SURGE_BLOCKS

    def _go_on(self, net: int, pending: Pending) -> None:
        """One block of a surge: so much in (or out, below 0), in parts."""
        parts = 1 + abs(net) // MOST_A_PART
        for _ in range(parts):
            if net > 0:
                self._receive(net // parts, pending)
            else:
                self.pay_out(-net // parts, [_outside(self._rng) for _ in range(1 + self._rng.randrange(4))], pending)

    def _receive(self, amount: int, pending: Pending) -> None:
        """A customer nobody knows brings coins."""
        customer = Wallet(OUTSIDE, self._rng)
        inputs = customer.fund(amount + COIN // 100, 2_000)
        pending.pay(inputs, [Payment(amount, self.deposit_target())], customer.fresh(), pending.bid())

    def _trade(self, pending: Pending) -> None:
        """A customer with more than most, in or out."""
        amount = COIN + self._rng.randrange(11 * COIN)
        if self._rng.random() < 0.5:
            self._receive(amount, pending)
        else:
            self.pay_out(amount, [_outside(self._rng)], pending)

    def _reshuffle(self, amount: int, pending: Pending) -> None:
        """Hot to cold, cold to hot, or deposits to either; all of it stays its own."""
        draw = self._rng.random()
        source = self._deposits if draw < 0.2 else self._hot if draw < 0.6 else self._cold
        sink = self._hot if source is self._cold else self._cold
        inputs, rate, parts = source.fund(amount, 3_000), pending.bid(), 1 + self._rng.randrange(3)
        rest = amount - fee_of(inputs, [sink.home().lock] * (parts + 1), rate)
        payments = [Payment(rest // parts, sink.home()) for _ in range(parts)]
        pending.pay(inputs, payments, self._hot.home(), rate)

    def _sweep(self, pending: Pending) -> None:
        small = [owned for owned in self._deposits.coins if owned.coin.value <= SMALL]
        inputs, hot, rate = small[:SWEEP_AT], self._hot.home(), pending.bid()
        if worth(inputs) < DUST + fee_of(inputs, [hot.lock], rate):
            return
        self._deposits.coins = [owned for owned in self._deposits.coins if owned not in inputs]
        pending.pay(inputs, [], hot, rate)

    def _batch(self, pending: Pending) -> None:
        assert self._crowd is not None
        values = [(100_000 << self._rng.randrange(9)) + self._rng.randrange(100_000) for _ in range(self._size())]
        payments = [Payment(value, self._crowd.somebody()) for value in values]
        pending.pay(self._hot.fund(sum(values) + COIN, 300), payments, self._change(), pending.bid())

    def _peel(self, pending: Pending) -> None:
        """One customer is paid from a large coin; the rest goes on to a new address, to be peeled again."""
        assert self._crowd is not None
        value = 5_000_000 + self._rng.randrange(2 * COIN)
        change = Target(next(self._own_change), self.entity, self._hot)
        pending.pay(self._hot.fund(PEELED, 300), [Payment(value, self._crowd.somebody())], change, pending.bid())

    def _size(self) -> int:
        return 3 + self._rng.randrange(16)

    def _change(self) -> Target:
        """Back to a hot address, or to one of those it has for change."""
        if self._rng.random() < 0.7:
            return self._hot.home()
        return Target(next(self._own_change), self.entity, self._hot)


def _outside(rng: Random) -> Target:
    return Wallet(OUTSIDE, rng).fresh()._replace(wallet=None)
