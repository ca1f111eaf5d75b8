"""Those who move seldom and much: whales, sleepers whose coins wake after years, and hoarders of one address."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from utxoiq.simulation.cast import OUTSIDE, WHALES
from utxoiq.simulation.locks import Lock
from utxoiq.simulation.wallets import Payment, Target, Wallet
from utxoiq.units import COIN

if TYPE_CHECKING:
    from random import Random

    from utxoiq.simulation.pending import Pending
    from utxoiq.simulation.plan import Plan

TRANSFER = 1_000 * COIN
"""docs/signals/whale.md: a large transfer."""
DORMANT, DORMANT_BLOCKS = 100 * COIN, 157_680
"""docs/signals/whale.md: dormant coins, and how long they lay."""
AGE = 2_500
"""Blocks that coins of whales lie at most before the run; far from dormant."""


class Whales:
    """Eight owners of thousands of bitcoins, no label knows them."""

    def __init__(self, seed: int, plan: Plan, rng: Random) -> None:
        self._plan, self._rng = plan, rng
        self._wallets = [Wallet(entity, rng, entity.locks(seed)) for entity in WHALES]

    def act(self, pending: Pending) -> None:
        """What is planned."""
        planned = self._plan.at("whales", pending.step)
        if planned is None:
            return
        payer, other = self._rng.sample(self._wallets, 2)
        amount = int(planned.size * TRANSFER)
        if planned.kind == "large_consolidation":
            self._consolidate(payer, amount, pending)
        elif planned.kind == "own_move":
            self._transfer(payer, payer.fresh(), amount, pending)
        else:
            self._transfer(payer, other.home() if self._rng.random() < 0.5 else other.fresh(), amount, pending)

    def _transfer(self, payer: Wallet, target: Target, amount: int, pending: Pending) -> None:
        """Change goes back to a script it came from, or where it is little to a new one."""
        inputs = payer.fund(amount + COIN, AGE)
        same = self._rng.random() < 0.7
        kind, script = inputs[0].kind, inputs[0].coin.script
        change = Target(Lock(kind, script), payer.owner, payer) if same else payer.fresh()
        pending.pay(inputs, [Payment(amount, target)], change, pending.bid())

    def _consolidate(self, payer: Wallet, amount: int, pending: Pending) -> None:
        """Many coins of its own into one."""
        parts = 10 + self._rng.randrange(20)
        inputs = [
            payer.endow(amount // parts + self._rng.randrange(COIN), 1 + self._rng.randrange(AGE)) for _ in range(parts)
        ]
        pending.pay(inputs, [], payer.fresh(), pending.bid())


class Sleepers:
    """Coins untouched for three to seventeen years, and some for not quite so long."""

    def __init__(self, plan: Plan, rng: Random) -> None:
        self._plan, self._rng = plan, rng

    def act(self, pending: Pending) -> None:
        """Perhaps one wakes."""
        planned = self._plan.at("sleepers", pending.step)
        if planned is None:
            return
        young = self._rng.random() < 0.2
        age = (
            DORMANT_BLOCKS * (11 + self._rng.randrange(8)) // 20
            if young
            else DORMANT_BLOCKS + self._rng.randrange(640_000)
        )
        amount = int(planned.size * DORMANT)
        coins = 1 + self._rng.randrange(3) if planned.size >= 3.5 else 1
        sleeper = Wallet(OUTSIDE, self._rng)
        inputs = [sleeper.endow(amount // coins, age - pending.step) for _ in range(coins)]
        pending.pay(inputs, [], sleeper.fresh()._replace(wallet=None), pending.bid())


class Hoarders:
    """Each has one address, that it fills or empties part by part within some days."""

    def __init__(self, plan: Plan, rng: Random) -> None:
        self._plan, self._rng = plan, rng
        self._due: dict[int, list[Callable[[Pending], object]]] = defaultdict(list)

    def act(self, pending: Pending) -> None:
        """What is due, and what is planned to be due later."""
        planned = self._plan.at("hoarders", pending.step)
        if planned:
            parts, amount = 4 + self._rng.randrange(5), int(planned.size * TRANSFER)
            hoard = Wallet(OUTSIDE, self._rng)
            hoard.locks = (hoard.fresh().lock,)
            act = self._gather if planned.kind == "balance_gathered" else self._give
            step = pending.step
            for _ in range(parts):
                self._due[step].append(partial(act, hoard, amount // parts))
                step += 1 + self._rng.randrange(60)
        for do in self._due.pop(pending.step, ()):
            do(pending)

    def _gather(self, hoard: Wallet, part: int, pending: Pending) -> None:
        other = Wallet(OUTSIDE, self._rng)
        inputs = other.fund(part + COIN // 100, AGE)
        pending.pay(inputs, [Payment(part, hoard.home())], other.fresh()._replace(wallet=None), pending.bid())

    def _give(self, hoard: Wallet, part: int, pending: Pending) -> None:
        target = Wallet(OUTSIDE, self._rng).fresh()._replace(wallet=None)
        pending.pay([hoard.endow(part, 1 + self._rng.randrange(AGE))], [], target, pending.bid())
