"""CoinJoins: many owners' coins in one transaction, out of which comes the same amount for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from utxoiq.simulation.cast import OUTSIDE
from utxoiq.simulation.wallets import DUST, Payment, Wallet, fee_of
from utxoiq.units import COIN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from utxoiq.simulation.pending import Pending
    from utxoiq.simulation.regimes import Regime
    from utxoiq.simulation.wallets import Owned

BIG = 100 * COIN
"""The equal amount of a big one."""


class CoinJoins:
    """Of five to twelve people, or of eleven and more owners of 100 BTC each."""

    def __init__(self, regime: Regime, people: Sequence[Wallet], rng: Random) -> None:
        self._small, self._big = regime.coinjoin_rate, regime.big_coinjoin_rate
        self._people, self._rng = people, rng

    def act(self, pending: Pending) -> None:
        """So many as the regime has a block."""
        whole = int(self._small)
        for _ in range(whole + (self._rng.random() < self._small - whole)):
            self._join_small(pending)
        if self._rng.random() < self._big:
            wallets = [Wallet(OUTSIDE, self._rng) for _ in range(11 + self._rng.randrange(6))]
            coins = [
                wallet.endow(BIG + self._rng.randrange(COIN, 40 * COIN), 1 + self._rng.randrange(500))
                for wallet in wallets
            ]
            self._join(coins, wallets, BIG, pending)

    def _join_small(self, pending: Pending) -> None:
        wallets = [w for w in self._rng.sample(self._people, 5 + self._rng.randrange(8)) if w.coins]
        coins = [wallet.take(1)[0] for wallet in wallets]
        equal = min((owned.coin.value for owned in coins), default=0) * 4 // 5
        if len(coins) >= 4 and equal > 100 * DUST:
            self._join(coins, wallets, equal, pending)
            return
        for wallet, coin in zip(wallets, coins, strict=True):
            wallet.coins.append(coin)

    def _join(self, coins: Sequence[Owned], wallets: Sequence[Wallet], equal: int, pending: Pending) -> None:
        """Each gets `equal` and its own change, and pays the same part of the fee."""
        targets = [wallet.fresh() for wallet in wallets]
        fee = fee_of(coins, [target.lock for target in targets] * 2, pending.bid()) // len(coins) + 1
        payments = [Payment(equal, target) for target in targets]
        rests = [(owned.coin.value - equal - fee, wallet) for owned, wallet in zip(coins, wallets, strict=True)]
        payments += [Payment(rest, wallet.fresh()) for rest, wallet in rests if rest >= DUST]
        self._rng.shuffle(payments)
        pending.pay(coins, payments, None, 0, joint=True)
