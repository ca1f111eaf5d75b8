"""Those who move seldom and much: whales, sleepers, pools paying out, and one who mistypes a fee."""

from __future__ import annotations

from typing import TYPE_CHECKING

from utxoiq.simulation.locks import P2PKH, P2TR, P2WPKH, Lock
from utxoiq.simulation.plan import START_HEIGHT, Plan
from utxoiq.simulation.wallets import Owned, Payment, Target, Wallet, worth
from utxoiq.units import COIN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from utxoiq.simulation.exchange import Exchange
    from utxoiq.simulation.pending import Pending

MATURITY = 100
"""Blocks on top of a coinbase's before its output may be spent, its own included."""


class Whales:
    """Two wallets of 60,000 BTC each; about every 40 blocks one moves 1,000 to 2,500 BTC, some to an exchange."""

    def __init__(self, exchanges: Sequence[Exchange], rng: Random) -> None:
        self._exchanges = exchanges
        self._rng = rng
        self._wallets = [Wallet(kind, rng) for kind in (P2WPKH, P2TR)]
        for wallet in self._wallets:
            for _ in range(12):
                wallet.endow(5_000 * COIN, START_HEIGHT - 1 - rng.randrange(200_000))

    def act(self, pending: Pending) -> None:
        """Perhaps one transfer, with change to the script it came from or to a new one."""
        if self._rng.random() >= 1 / 40:
            return
        payer, other = self._rng.choice((self._wallets, self._wallets[::-1]))
        amount = (1_000 + self._rng.randrange(1_500)) * COIN + self._rng.randrange(COIN)
        inputs = payer.gather(amount + COIN)
        if inputs:
            self._transfer(pending, payer, other, inputs, amount)

    def _transfer(self, pending: Pending, payer: Wallet, other: Wallet, inputs: list[Owned], amount: int) -> None:
        to, target = self._payee(other)
        same = self._rng.random() < 0.5
        change = Target(Lock(inputs[0].kind, inputs[0].coin.script), payer) if same else payer.fresh()
        paid = pending.pay(inputs, [Payment(amount, target)], change, pending.bid())
        kept = "same_script" if same else "fresh_script"
        pending.log("whale_transfer", txid=str(paid.signed.txid), amount_sat=amount, to=to, change=kept)

    def _payee(self, other: Wallet) -> tuple[str, Target]:
        if self._rng.random() < 0.75:
            return "whale", other.fresh()
        exchange = self._rng.choice(self._exchanges)
        return exchange.entity.id, exchange.deposit_target()


class Sleepers:
    """Coins of 10 to 200 BTC untouched for years; about every 30 blocks one moves to a new address, whole."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def act(self, pending: Pending) -> None:
        """Perhaps one wakes."""
        if self._rng.random() >= 1 / 30:
            return
        value, height = (10 + self._rng.randrange(191)) * COIN, 100_000 + self._rng.randrange(400_000)
        coin = Wallet(P2PKH, self._rng).endow(value, height)
        paid = pending.pay([coin], [], Wallet(P2WPKH, self._rng).fresh(), pending.bid())
        pending.log("dormant_wakes", txid=str(paid.signed.txid), value_sat=value, coin_height=height)


class Payouts:
    """A pool's rewards, paid to its miners eight at a time once they are mature."""

    def __init__(self, payout: Lock, people: Sequence[Wallet], rng: Random) -> None:
        self.payout = payout
        self._people = people
        self._rng = rng
        self._rewards = Wallet(payout.kind, rng)
        for _ in range(8):
            value = 312_500_000 + self._rng.randrange(10_000_000)
            self._rewards.endow(value, START_HEIGHT - 1 - self._rng.randrange(2_000), payout, is_coinbase=True)

    def reward(self, coin: Owned) -> None:
        """Keep the output of a coinbase on the best chain."""
        self._rewards.coins.append(coin)

    def act(self, pending: Pending) -> None:
        """Perhaps pay out eight rewards; the remainder goes back to the pool's address."""
        mature = [owned for owned in self._rewards.coins if pending.height - owned.coin.height >= MATURITY]
        if len(mature) < 8 or self._rng.random() >= 1 / 20:
            return
        inputs = mature[:8]
        self._rewards.coins = [owned for owned in self._rewards.coins if owned not in inputs]
        share = worth(inputs) // 25
        payments = [Payment(share, self._rng.choice(self._people).fresh()) for _ in range(20)]
        pending.pay(inputs, payments, Target(self.payout, self._rewards), pending.bid())


class Mistake:
    """The one payment that leaves 12 BTC to the miner."""

    def __init__(self, plan: Plan, people: Sequence[Wallet], rng: Random) -> None:
        self._height = START_HEIGHT + plan.overpaid_fee
        self._people = people
        self._rng = rng

    def act(self, pending: Pending) -> None:
        """At its height, forget the change."""
        if pending.height != self._height:
            return
        value = 1_000_000 + self._rng.randrange(1_000_000)
        coin = Wallet(P2WPKH, self._rng).endow(value + 12 * COIN, self._height - 5_000)
        payment = Payment(value, self._rng.choice(self._people).fresh())
        paid = pending.pay([coin], [payment], None, pending.feerate)
        pending.log("overpaid_fee", txid=str(paid.signed.txid), fee_sat=paid.signed.fee)
