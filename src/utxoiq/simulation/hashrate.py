"""Who finds a block: pools whose shares of the hashrate drift, and shift where it is planned."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from utxoiq.simulation.cast import MINERS, POOLS, SOLO, Entity
from utxoiq.simulation.plan import START_HEIGHT, Event

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from utxoiq.simulation.plan import Plan
    from utxoiq.simulation.truth import Truth

POINTS = 0.05
"""docs/signals/miner.md: by how much a share must differ."""
LEAST, MOST = 0.02, 0.37
"""Shares a shift may lead to: nobody vanishes, and nobody comes near the 40 % of a concentration."""
DRIFT, FARTHEST = 0.002, 0.05
"""How far a hashrate drifts a block, and in all, as a share of it."""
WINDOW, HISTORY, STREAK_ODDS = 1080, 144, 20
"""docs/signals/miner.md: blocks before a run, the least of them, and how rare one must be: once in 20 windows."""


class Hashrate:
    """The miners and what each can hash."""

    def __init__(self, plan: Plan, truth: Truth, rng: Random) -> None:
        self._plan, self._truth, self._rng = plan, truth, rng
        self._shares = {miner.id: miner.share for miner in MINERS}
        self._drift = {miner.id: 1.0 for miner in MINERS}
        self._runs = Runs()
        self._forced: list[Entity] = []

    def finder(self, step: int) -> Entity:
        """Who finds the block of `step`, asked for once a step in order."""
        self._shift(step)
        if planned := self._plan.at("streak", step):
            pool = self._rng.choice([pool for pool in POOLS if pool is not self._runs.latest])
            self._forced = [pool] * max(2, int(planned.size * self._runs.least(pool) + 0.5))
        found = self._forced.pop() if self._forced else self._draw()
        self._truth.add(*self._runs.extend(found, START_HEIGHT + step))
        return found

    def finish(self) -> None:
        """Write down the run that the last block ends."""
        self._truth.add(*self._runs.finish())

    def _draw(self) -> Entity:
        powers = [self._power(miner) for miner in MINERS]
        draw = self._rng.random() * sum(powers)
        for miner, power in zip(MINERS, powers, strict=True):
            draw -= power
            if draw < 0:
                return miner
        return MINERS[-1]

    def _power(self, miner: Entity) -> float:
        drift = self._drift[miner.id] + DRIFT * (2 * self._rng.random() - 1)
        self._drift[miner.id] = drift = min(1 + FARTHEST, max(1 - FARTHEST, drift))
        return self._shares[miner.id] * drift

    def _shift(self, step: int) -> None:
        """One pool gains or loses against all others; each whose share moves by half of what counts is told."""
        planned = self._plan.at("shift", step)
        if planned is None:
            return
        wanted, before = planned.size * POINTS, dict(self._shares)
        moves = [(pool, sign * wanted) for pool in POOLS for sign in (1, -1)]
        fitting = [(pool, by) for pool, by in moves if LEAST <= before[pool.id] + by <= MOST]
        pool, by = self._rng.choice(fitting) if fitting else (min(POOLS, key=lambda one: before[one.id]), wanted)
        after = min(MOST, before[pool.id] + by)
        rest = (1 - after) / (1 - before[pool.id])
        self._shares = {who: share * rest for who, share in before.items()} | {pool.id: after}
        self._truth.add(*_shifts(before, self._shares, START_HEIGHT + step))


def _shifts(before: dict[str, float], after: dict[str, float], height: int) -> list[Event]:
    found = []
    for who, share in after.items():
        size = abs(share - before[who]) / POINTS
        if size >= 0.5 and who != SOLO.id:
            direction = "up" if share > before[who] else "down"
            permille: dict[str, int | str] = {"permille": int(1000 * share), "permille_before": int(1000 * before[who])}
            found.append(Event("miner", "pool_share_shift", who, height, size, {"direction": direction, **permille}))
    return found


class Runs:
    """Blocks of one pool in a row, told when they end where they were rarer than chance explains."""

    def __init__(self) -> None:
        self._past: deque[Entity] = deque(maxlen=WINDOW)
        self._run: list[Entity] = []
        self._begin, self._least = 0, 0

    @property
    def latest(self) -> Entity | None:
        """Who found the last block."""
        return self._run[-1] if self._run else None

    def extend(self, pool: Entity, height: int) -> list[Event]:
        """The run that this block ends, if it was a rare one."""
        ended: list[Event] = []
        if pool is not self.latest:
            ended = self.finish()
            self._past.extend(self._run)
            self._run, self._begin, self._least = [], height, self.least(pool)
        self._run.append(pool)
        return ended

    def finish(self) -> list[Event]:
        """The run as it stands."""
        length, pool = len(self._run), self.latest
        if pool is None or pool is SOLO or len(self._past) < HISTORY or length < max(2, 0.75 * self._least):
            return []
        detail: dict[str, int | str] = {"length": length, "blocks": length}
        return [Event("miner", "pool_streak", pool.id, self._begin, length / self._least, detail)]

    def least(self, pool: Entity) -> int:
        """The shortest run of `pool` that is rare: n s^L <= 1/20 of n blocks before it, s its share of them."""
        return least_run(self._past, pool)


def least_run(past: Sequence[Entity], pool: Entity) -> int:
    """In whole numbers: 20 n k^L <= n^L, where k of the n blocks of `past` are its."""
    n, k = len(past), sum(one is pool for one in past)
    length = 2
    while 0 < k < n and STREAK_ODDS * n * k**length > n**length:
        length += 1
    return length
