"""People who pay each other, and now and then do what people with wallets do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from utxoiq.simulation.cast import OUTSIDE, PEOPLE, person
from utxoiq.simulation.draws import random_bytes
from utxoiq.simulation.locks import DATA
from utxoiq.simulation.wallets import DUST, Payment, Target, Wallet, fee_of, worth
from utxoiq.units import COIN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from utxoiq.simulation.exchange import Exchange
    from utxoiq.simulation.pending import Paid, Pending

REPLACED = 0.06
"""Share of payments that were sent twice, the second time with a higher fee: only that one is mined."""


def make_people(seed: int, rng: Random) -> list[Wallet]:
    """Wallets with six coins each, of 0.02 to 2.5 BTC, made in the days before the run."""
    people = []
    for number in range(PEOPLE):
        owner, home = person(seed, number)
        wallet = Wallet(owner, rng, (home,))
        wallet.coins = [
            wallet.endow((2_000_000 << rng.randrange(7)) + rng.randrange(2_000_000), 1 + rng.randrange(400))
            for _ in range(6)
        ]
        people.append(wallet)
    return people


class Crowd:
    """What people do, one transaction (or a parent with its child) at a time."""

    def __init__(self, people: Sequence[Wallet], exchanges: Sequence[Exchange], rng: Random, *, flows: bool) -> None:
        self._people = people
        self._exchanges = exchanges
        self._rng = rng
        self._habits = (
            (0.76, self._pay),
            (0.88, self._deposit if flows else self._pay),
            (0.91, self._consolidate),
            (0.93, self._bump),
            (0.96, self._inscribe),
            (1.00, self._save),
        )

    def act(self, pending: Pending) -> None:
        """Somebody does something, unless it is too poor for what it chose."""
        draw = self._rng.random()
        next(action for limit, action in self._habits if draw < limit)(pending)

    def somebody(self) -> Target:
        """An address of one of the people: the one given to everybody, or a new one."""
        wallet = self._rng.choice(self._people)
        return wallet.home() if self._rng.random() < 0.4 else wallet.fresh()

    def _pay(self, pending: Pending) -> None:
        rate = pending.bid()
        self._send(pending, self.somebody(), rate * 3 // 2 if self._rng.random() < REPLACED else rate)

    def _deposit(self, pending: Pending) -> None:
        self._send(pending, self._rng.choice(self._exchanges).deposit_target(), pending.bid())

    def _inscribe(self, pending: Pending) -> None:
        note = Payment(0, Target(DATA.lock(random_bytes(self._rng, 32))))
        self._send(pending, self.somebody(), pending.bid(), note)

    def _save(self, pending: Pending) -> None:
        """Savings of a few months are touched again."""
        value, age = 5_000_000 + self._rng.randrange(2 * COIN), 500 + self._rng.randrange(35_000)
        coin = Wallet(OUTSIDE, self._rng).endow(value, age)
        pending.pay([coin], [], self.somebody(), pending.bid())

    def _bump(self, pending: Pending) -> None:
        """A payment too cheap to confirm, and its change spent at a feerate that pays for both."""
        payer = self._rng.choice(self._people)
        parent = self._send(pending, self.somebody(), max(1, pending.feerate // 5), payer=payer)
        if parent is not None and parent.change is not None and parent.change.coin.value > 2_000 * DUST:
            pending.rescue(parent.change, payer.fresh(), 2 * pending.feerate)

    def _consolidate(self, pending: Pending) -> None:
        payer = self._rng.choice(self._people)
        inputs = payer.take(5 + self._rng.randrange(25))
        target, rate = payer.fresh(), pending.bid()
        if len(inputs) < 5 or worth(inputs) < 2 * DUST + fee_of(inputs, [target.lock], rate):
            payer.coins += inputs
            return
        pending.pay(inputs, [], target, rate)

    def _send(
        self, pending: Pending, target: Target, rate: int, *notes: Payment, payer: Wallet | None = None
    ) -> Paid | None:
        """5 to 75 % of one or two coins to `target`, the rest back to the payer; None where fees eat it up."""
        payer = payer or self._rng.choice(self._people)
        inputs = payer.take(1 + self._rng.randrange(2))
        change = payer.home() if self._rng.random() < 0.2 else payer.fresh()
        locks = [target.lock, change.lock, *(note.target.lock for note in notes)]
        room = worth(inputs) - fee_of(inputs, locks, rate)
        if room < 20 * DUST:
            payer.coins += inputs
            return None
        amount = room * (50 + self._rng.randrange(700)) // 1000
        return pending.pay(inputs, [Payment(amount, target), *notes], change, rate)
