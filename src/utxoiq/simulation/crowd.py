"""Three hundred people who pay each other, and now and then do what people with wallets do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from utxoiq.simulation.draws import random_bytes
from utxoiq.simulation.locks import COMMON, DATA
from utxoiq.simulation.plan import START_HEIGHT
from utxoiq.simulation.wallets import DUST, Payment, Target, Wallet, fee_of, worth

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from utxoiq.simulation.exchange import Exchange
    from utxoiq.simulation.pending import Paid, Pending

PEOPLE = 300
MIN_FEERATE = 1000
"""sat/kvB: the least nodes used to relay, and what a parent pays that its child will pay for."""


def make_people(rng: Random) -> list[Wallet]:
    """Wallets with five coins each, of 0.02 to 5 BTC, made in the year before the run."""
    people = [Wallet(rng.choice(COMMON), rng) for _ in range(PEOPLE)]
    for person in people:
        for _ in range(5):
            value = (2_000_000 << rng.randrange(8)) + rng.randrange(2_000_000)
            person.endow(value, START_HEIGHT - 1 - rng.randrange(50_000))
    return people


class Crowd:
    """What people do, one transaction (or a parent with its child) at a time."""

    def __init__(self, people: Sequence[Wallet], exchanges: Sequence[Exchange], rng: Random) -> None:
        self._people = people
        self._exchanges = exchanges
        self._rng = rng
        self._habits = (
            (0.84, self._pay),
            (0.92, self._deposit),
            (0.95, self._consolidate),
            (0.97, self._bump),
            (1.00, self._inscribe),
        )

    def act(self, pending: Pending) -> None:
        """Somebody does something, unless it is too poor for what it chose."""
        draw = self._rng.random()
        next(action for limit, action in self._habits if draw < limit)(pending)

    def _somebody(self) -> Wallet:
        return self._rng.choice(self._people)

    def _pay(self, pending: Pending) -> None:
        self._send(pending, self._somebody().fresh(), pending.bid())

    def _deposit(self, pending: Pending) -> None:
        self._send(pending, self._rng.choice(self._exchanges).deposit_target(), pending.bid())

    def _inscribe(self, pending: Pending) -> None:
        note = Payment(0, Target(DATA.lock(random_bytes(self._rng, 32))))
        self._send(pending, self._somebody().fresh(), pending.bid(), note)

    def _bump(self, pending: Pending) -> None:
        """A payment too cheap to confirm, and its change spent at a feerate that pays for both."""
        payer = self._somebody()
        parent = self._send(pending, self._somebody().fresh(), MIN_FEERATE, payer=payer)
        rate = 3 * pending.feerate
        if parent is None or parent.change is None or parent.change.coin.value < 2_000 * DUST:
            return
        payer.coins.remove(parent.change)
        pending.pay([parent.change], [], payer.fresh(), rate)

    def _consolidate(self, pending: Pending) -> None:
        payer = self._somebody()
        inputs = payer.take(5 + self._rng.randrange(35))
        target, rate = payer.fresh(), pending.bid()
        if len(inputs) < 5 or worth(inputs) < 2 * DUST + fee_of(inputs, [target.lock], rate):
            payer.coins += inputs
            return
        pending.pay(inputs, [], target, rate)

    def _send(
        self, pending: Pending, target: Target, rate: int, *notes: Payment, payer: Wallet | None = None
    ) -> Paid | None:
        """5 to 75 % of one or two coins to `target`, the rest back to a new address; None where fees eat it up."""
        payer = payer or self._somebody()
        inputs, change = payer.take(1 + self._rng.randrange(2)), payer.fresh()
        locks = [target.lock, change.lock, *(note.target.lock for note in notes)]
        room = worth(inputs) - fee_of(inputs, locks, rate)
        if room < 20 * DUST:
            payer.coins += inputs
            return None
        amount = room * (50 + self._rng.randrange(700)) // 1000
        return pending.pay(inputs, [Payment(amount, target), *notes], change, rate)
