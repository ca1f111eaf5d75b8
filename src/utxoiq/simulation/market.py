"""The fee market: what block space costs and how many want it, block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from utxoiq.simulation.draws import DAY, WEEK, wave
from utxoiq.simulation.gauges import CROWDED, SPIKE
from utxoiq.simulation.plan import START_HEIGHT

if TYPE_CHECKING:
    from random import Random

    from utxoiq.simulation.plan import Plan
    from utxoiq.simulation.regimes import Regime
    from utxoiq.simulation.truth import Truth

WANDER, PULL = 0.008, 0.002
"""How far the market's level wanders a block at most, and how strongly it is drawn back to the usual."""
CALM_IN_BURST = 0.05
"""Noise of a burst, as a share of its level."""


class Market:
    """Demand with a daily and a weekly rhythm, a level that wanders, noise, and the plan's bursts."""

    def __init__(self, plan: Plan, regime: Regime, truth: Truth, rng: Random) -> None:
        self._plan, self._regime, self._truth, self._rng = plan, regime, truth, rng
        self._level = 1.0
        self._burst, self._left = 0.0, 0

    def feerate(self, step: int) -> int:
        """The usual feerate at `step` in sat/kvB, asked for once a step in order."""
        self._level *= 1 + WANDER * (2 * self._rng.random() - 1) + PULL * (1 - self._level)
        rate = self._regime.feerate * self._level * (1 + 0.3 * wave(step, DAY)) * (1 + 0.12 * wave(step, WEEK))
        rate *= self._noise(self._regime.fee_noise)
        self._begin_burst(step)
        if self._left:
            self._left -= 1
            rate = self._burst * self._noise(CALM_IN_BURST)
        return max(4, int(rate))

    def count(self, step: int) -> int:
        """How many transactions the block of `step` takes beside its coinbase, 0 for an empty one."""
        if self._plan.at("empty", step):
            return 0
        planned, most = self._plan.at("count", step), self._truth.counts.most
        if planned and most:
            return int(planned.size * CROWDED * most) + 1
        return int(self._regime.transactions * (1 + 0.2 * wave(step, DAY)) * self._noise(0.25))

    def _begin_burst(self, step: int) -> None:
        planned, usual = self._plan.at("fees", step), self._truth.fees.usual
        if planned and usual:
            factor = SPIKE * planned.size
            self._burst = usual * factor if planned.kind == "fee_spike" else usual / factor
            self._left = planned.length
            self._truth.fees.begin(planned.kind, START_HEIGHT + step, planned.length)

    def _noise(self, width: float) -> float:
        return 1 - width + 2 * width * self._rng.random()
