"""The fee market: what block space costs and how many want it, block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from utxoiq.simulation.draws import daily_wave

if TYPE_CHECKING:
    from random import Random

    from utxoiq.simulation.plan import Plan


class Market:
    """Demand with a daily rhythm, noise, and the plan's bursts."""

    def __init__(self, plan: Plan, rng: Random) -> None:
        self._plan = plan
        self._rng = rng

    def feerate(self, step: int) -> int:
        """The usual feerate at `step` in sat/kvB: 2,000 to 6,000 over the day, times a burst."""
        rate = (4000 + 2000 * daily_wave(step)) * self._noise(0.10)
        for burst in self._plan.fee_bursts:
            rate *= burst.at(step)
        return int(rate)

    def count(self, step: int) -> int:
        """How many transactions the block of `step` takes beside its coinbase, 0 for an empty one."""
        if step in self._plan.empty:
            return 0
        count = (165 + 30 * daily_wave(step)) * self._noise(0.25)
        return int(count * self._plan.count_burst.at(step))

    def _noise(self, width: float) -> float:
        return 1 - width + 2 * width * self._rng.random()
