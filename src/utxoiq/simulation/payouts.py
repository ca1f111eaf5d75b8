"""Pools: they pay their miners, and now and then sell from their reserve. And one who mistypes a fee."""

from __future__ import annotations

from typing import TYPE_CHECKING

from utxoiq.simulation.cast import OUTSIDE
from utxoiq.simulation.wallets import Owned, Payment, Wallet, worth
from utxoiq.units import COIN

if TYPE_CHECKING:
    from random import Random

    from utxoiq.simulation.cast import Entity
    from utxoiq.simulation.crowd import Crowd
    from utxoiq.simulation.locks import Lock
    from utxoiq.simulation.pending import Pending
    from utxoiq.simulation.plan import Plan

MATURITY = 100
"""Blocks on top of a coinbase's before its output may be spent, its own included."""
DISTRIBUTION = 50 * COIN
"""docs/signals/miner.md: what a pool passes on at once to be told."""
OVERPAID = COIN // 2
"""docs/signals/mempool.md: an absurd fee."""
AT_ONCE = 5
"""Rewards paid out together: a third of what would be told."""


class Payouts:
    """A miner's rewards, paid to its people five at a time once they are mature, and its reserve of 2,000 BTC."""

    def __init__(self, miner: Entity, seed: int, plan: Plan, crowd: Crowd, rng: Random) -> None:
        self._miner, self._plan, self._crowd, self._rng = miner, plan, crowd, rng
        locks = miner.locks(seed)
        self.payout: Lock = locks[0]
        """Where its coinbases pay."""
        self._rewards, self._reserve = Wallet(miner, rng, locks[:1]), Wallet(miner, rng, locks)
        self._reserve.coins = [self._reserve.endow(100 * COIN, 1 + rng.randrange(4_000)) for _ in range(20)]

    @property
    def coins(self) -> list[Owned]:
        """Its reserve."""
        return self._reserve.coins

    def reward(self, coin: Owned) -> None:
        """Keep the output of a coinbase on the best chain."""
        self._rewards.coins.append(coin)

    def act(self, pending: Pending) -> None:
        """A sale where one is planned, else perhaps a payout; the remainder goes back to the pool's address."""
        if planned := self._plan.at(self._miner.id, pending.step):
            amount, buyer = int(planned.size * DISTRIBUTION), Wallet(OUTSIDE, self._rng).fresh()
            inputs = self._reserve.fund(amount + COIN // 10, 4_000)
            payment = Payment(amount, buyer._replace(wallet=None))
            pending.pay(inputs, [payment], self._reserve.home(), pending.bid())
        elif self._rng.random() < 0.05:
            self._pay_miners(pending)

    def _pay_miners(self, pending: Pending) -> None:
        mature = [owned for owned in self._rewards.coins if pending.height - owned.coin.height >= MATURITY]
        if len(mature) < AT_ONCE:
            return
        inputs = mature[:AT_ONCE]
        self._rewards.coins = [owned for owned in self._rewards.coins if owned not in inputs]
        share = worth(inputs) // 25
        payments = [Payment(share, self._crowd.somebody()) for _ in range(20)]
        pending.pay(inputs, payments, self._reserve.home(), pending.bid())


class Mistake:
    """Payments that leave half a bitcoin and more to the miner."""

    def __init__(self, plan: Plan, crowd: Crowd, rng: Random) -> None:
        self._plan, self._crowd, self._rng = plan, crowd, rng

    def act(self, pending: Pending) -> None:
        """Where it is planned, somebody forgets the change."""
        planned = self._plan.at("mistake", pending.step)
        if planned is None:
            return
        value, fee = 1_000_000 + self._rng.randrange(1_000_000), int(planned.size * OVERPAID)
        coin = Wallet(OUTSIDE, self._rng).endow(value + fee, 1 + self._rng.randrange(3_000))
        pending.pay([coin], [Payment(value, self._crowd.somebody())], None, pending.feerate)
