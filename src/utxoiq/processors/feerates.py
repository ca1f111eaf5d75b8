"""Feerate forecasts: the median feerate of the next block, of the block an hour and of the block a day ahead.

A pure function of a window of the past. Let r be the fourth root of a feerate (between the logarithm, in which quiet
times are regular, and the feerate itself, in which a spike goes on), and the deviation of r from a level l 4 (r/l - 1):

    deviation of the target = beta . (deviations of: last block, its smoothing over 1 and over 6 blocks, the mempool;
                                      1; and beyond the next block: cos and sin of the hour, Sunday)

The level follows the median, by 0.75 % a block at most. beta is fitted anew from the window: least absolute errors in
sat/vB by reweighting (near zero, least squares), forgetting, and drawn to 0. The interval is conformal: quantiles of
how far the same procedure was off within the window, in logarithms.

What it was chosen from and how it does: docs/signals/predictive.md; measure it with `python -m evaluation fees`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from utxoiq.processors._feerates import FEATURES, look, point_roots, scaled_residuals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Whole = NDArray[np.int64]
    Real = NDArray[np.float64]

HorizonName = Literal["next_block", "1h", "24h"]
WINDOW = 4320
"""Rows a forecast sees at most: 30 days of blocks."""
MINIMUM_CASES = 144
"""Settled forecasts below which there is no interval, hence no forecast."""
MISS = 0.1
"""Chance to lie below the interval, and above it: together the 20 % that an 80 % interval leaves out."""
DAY = np.concatenate([f(2 * np.pi * np.arange(144) / 144) for f in (np.cos, np.sin)])


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far ahead, and what was found to matter there."""

    name: HorizonName
    blocks: int
    seconds: int
    clock: bool
    """Whether the hour and the weekday of the target say something."""
    prior: float
    """Cases that say: no deviation from the level. The more, the more a horizon's neighbouring cases are alike."""
    forget: float
    """How fast the interval's width follows the latest misses, a case; 0: not at all."""
    cases: int
    """Latest settled forecasts whose misses make the interval."""


HORIZONS = (
    Horizon("next_block", blocks=1, seconds=600, clock=False, prior=20, forget=0.02, cases=1000),
    Horizon("1h", blocks=6, seconds=3600, clock=True, prior=50, forget=0.02, cases=1000),
    Horizon("24h", blocks=144, seconds=86400, clock=True, prior=200, forget=0.0, cases=1500),
)


@dataclass(frozen=True, slots=True)
class FeerateForecast:
    """A forecast with its 80 % interval, in whole sat/kvB."""

    horizon: HorizonName
    value_kvb: int
    low_kvb: int
    high_kvb: int
    cases: int
    """Settled forecasts that the interval rests on."""


def forecast(heights: Whole, times: Whole, rates_kvb: Whole, mempool_kvb: Whole) -> list[FeerateForecast]:
    """What the last row's past says of the horizons; those with too few settled cases are left out.

    A row a block, oldest first, (n,) each: height; header time; median feerate in the block and the mempool's as last
    seen after it, sat/kvB, 0 or less where unknown. Rows may be missing. Only the last `WINDOW` are used.

    Raises ValueError for columns of unequal lengths or heights that do not increase.
    """
    if not len(heights) == len(times) == len(rates_kvb) == len(mempool_kvb):
        raise ValueError("columns of a feerate window differ in length")
    heights, times, rates, mempool = (a[-WINDOW:] for a in (heights, times, rates_kvb, mempool_kvb))
    if len(heights) == 0 or (np.diff(heights) <= 0).any():
        raise ValueError("heights of a feerate window must increase, and there must be one")
    look = Look.at((heights - heights[0]).astype(np.float64), times, rates, mempool)
    offsets, row_at = heights - heights[0], rows_by_height(heights, rates, HORIZONS[-1].blocks)
    found = [_forecast(horizon, look, row_at[offsets + horizon.blocks]) for horizon in HORIZONS]
    return [one for one in found if one is not None]


def forecast_at(
    horizon: Horizon, position: Real, times: Whole, rates: Whole, mempool: Whole, target: Whole
) -> FeerateForecast | None:
    """The forecast of the last row; None with too few settled cases.

    position (n,): blocks from any origin, or ten minutes of time; target (n,): the row that shows what each row's
    forecast was about, less than 0 where there is none (yet), never decreasing otherwise.
    """
    return _forecast(horizon, Look.at(position, times, rates, mempool), target)


class Look(NamedTuple):
    """What all horizons see of the rows, (n,) each."""

    times: Whole
    roots: Real
    """Fourth roots of the feerates, 0 where unknown."""
    logs: Real
    """Their logarithms, NaN where unknown."""
    levels: Real
    features: Real
    """(n, FEATURES)."""

    @classmethod
    def at(cls, position: Real, times: Whole, rates: Whole, mempool: Whole) -> Look:
        roots, levels, features = fourth_roots(rates), np.zeros(len(rates)), np.zeros((len(rates), FEATURES))
        look(position, roots, fourth_roots(mempool), levels, features)
        return cls(np.ascontiguousarray(times, np.int64), roots, logarithms(rates), levels, features)


def _forecast(horizon: Horizon, seen: Look, target: Whole) -> FeerateForecast | None:
    if not seen.levels[0]:
        return None
    target = np.ascontiguousarray(target, np.int64)
    terms = horizon.seconds, horizon.clock, horizon.prior
    points = 4 * np.log(point_roots(seen.times, seen.roots, target, *terms, DAY, seen.levels, seen.features))
    interval = conformal(horizon, points, seen.logs, target)
    if interval is None:
        return None
    low, high, cases = interval
    value, below, above = (round(math.exp(x)) for x in (max(points[-1], np.nanmin(seen.logs)), low, high))
    return FeerateForecast(horizon.name, value, below, above, cases)


def conformal(horizon: Horizon, points: Real, rates: Real, target: Whole) -> tuple[float, float, int] | None:
    """(low, high, cases) of the 80 % interval around the last of `points`; None with too few settled cases.

    points, rates (n,): logarithms of each row's forecast (NaN where none was made) and of what it showed. With m
    misses, scaled and sorted, the ends are the floor(0.1 (m + 1))th and the ceil(0.9 (m + 1))th (split conformal
    prediction, Vovk et al. 2005, on the latest misses only, since fees drift). No end lies below the lowest feerate
    of the window.
    """
    misses, scale = scaled_residuals(points, rates, np.ascontiguousarray(target, np.int64), horizon.forget)
    misses = misses[-horizon.cases :]
    m = len(misses)
    if m < MINIMUM_CASES or math.isnan(points[-1]):
        return None
    ends = (math.floor(MISS * (m + 1)) - 1, math.ceil((1 - MISS) * (m + 1)) - 1)
    ordered = np.partition(misses, ends)
    floor = np.nanmin(rates)
    low, high = (float(max(floor, points[-1] + scale * ordered[end])) for end in ends)
    return low, high, m


def rows_ahead(heights: Whole, rates: Whole, blocks: int) -> Whole:
    """(n,): the row `blocks` heights above each row, -1 where it is missing, not there yet, or of unknown feerate."""
    rows: Whole = rows_by_height(heights, rates, blocks)[heights - heights[0] + blocks]
    return rows


def rows_by_height(heights: Whole, rates: Whole, ahead: int) -> Whole:
    """The row of each height from the first on to `ahead` above the last, -1 where there is none of known feerate."""
    row_at = np.full(heights[-1] - heights[0] + ahead + 1, -1)
    known = rates > 0
    row_at[heights[known] - heights[0]] = np.flatnonzero(known)
    return row_at


def fourth_roots(rates: Whole) -> Real:
    """0 where a feerate is unknown."""
    return np.sqrt(np.sqrt(np.maximum(rates, 0).astype(np.float64)))


def logarithms(rates: Whole) -> Real:
    """Natural logarithms, NaN where a feerate is unknown."""
    return np.log(np.where(rates > 0, rates, np.nan).astype(np.float64))


MEDIAN_BLOCKS: dict[HorizonName, float] = {"next_block": 2, "1h": 144, "24h": 288}
HALF_LIFE_BLOCKS: dict[HorizonName, float] = {"next_block": 0.5, "1h": 1, "24h": 288}
"""What the simple methods are run with: best of eleven to twelve each on the first half of two series, the 1 h median
and the 24 h smoothing moved to what was steadier."""


def naive(rates: Whole) -> int | None:
    """The last known feerate; None where none is known."""
    known = rates[rates > 0]
    return int(known[-1]) if len(known) else None


def rolling_median(position: Real, rates: Whole, blocks: float) -> int | None:
    """The median of the known feerates at most so many blocks old, whole sat/kvB; None without any."""
    recent = rates[np.searchsorted(position, position[-1] - blocks, side="right") :]
    recent = recent[recent > 0]
    return round(float(np.median(recent))) if len(recent) else None


def smoothed(position: Real, rates: Whole, half_life: float) -> int | None:
    """Simple exponential smoothing: weights of known feerates halve each `half_life` blocks; None without any."""
    start = np.searchsorted(position, position[-1] - 40 * half_life, side="right")
    ages, rates = position[-1] - position[start:], rates[start:]
    known = rates > 0
    if not known.any():
        return None
    weights = np.exp2(-ages[known] / half_life)
    return round(float((weights * rates[known]).sum() / weights.sum()))
