"""`python -m evaluation fees`: feerate forecasts against simple methods, on recorded series, walking forward.

At each row every method sees that row and those before it, at most `WINDOW` rows, and no others. Scoring begins after
the first 1,008 blocks (7 days) and the first 1,008 rows of a series, or half of either where there are fewer than
2,016. A row is scored where its target is known and every method has a forecast and an interval, so all are scored on
the same rows. All intervals are made by the same function from each method's own misses (`feerates.conformal`).

- `mae`: mean absolute error, sat/vB; `mape`: the same as a share of what came (0.35 is 35 %).
- `interval_score`: Winkler's, for 80 %: width plus 10 times how far outside what came lies, sat/vB; `coverage80`: the
  share that came inside. All these are null where no row could be scored (`n` is 0).
- `*_difference`: of utxoiq less this method (below 0: utxoiq is better), with `_low` and `_high`, the 95 % interval of
  a block bootstrap with runs of two days of rows, null where there are fewer than four such runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evaluation.bootstrap import mean_interval
from evaluation.series import KVB, Series, read_folder
from utxoiq.processors import feerates
from utxoiq.processors.feerates import HALF_LIFE_BLOCKS, HORIZONS, MEDIAN_BLOCKS, MISS, WINDOW, Horizon

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Whole = NDArray[np.int64]
    Scores = dict[str, NDArray[np.float64]]

OURS = "utxoiq"
HISTORY_BLOCKS = 1008
BLOCK_BLOCKS = 288
"""Blocks' worth of rows in a run of the bootstrap: two days, twice the longest horizon."""


@dataclass(frozen=True)
class Walk:
    """Forecasts of one method: for each scored row [value, low, high] in sat/kvB, NaN where it has none."""

    method: str
    forecasts: NDArray[np.float64]


def run(folder: Path, as_json: bool) -> None:
    """Print the figures of every series of `folder`. Raises as `read_folder` does."""
    rows = [row for series in read_folder(folder) for horizon in HORIZONS for row in evaluate(series, horizon)]
    if as_json:
        print("\n".join(json.dumps(row) for row in rows))
    else:
        from evaluation.table import show  # noqa: PLC0415 - only where a person reads

        show(rows)


def evaluate(series: Series, horizon: Horizon) -> list[dict[str, Any]]:
    """One object a method, ours first."""
    origins = scored_rows(series, horizon)
    walks = [Walk(OURS, walk_ours(series, horizon, origins))]
    walks += [Walk(name, walk_simple(series, horizon, origins, points)) for name, points in simple(series, horizon)]
    shared = np.all([np.isfinite(walk.forecasts).all(axis=1) for walk in walks], axis=0)
    came = series.rates[series.targets[horizon.name][origins[shared]]] / KVB
    scores = {walk.method: score(walk.forecasts[shared] / KVB, came) for walk in walks}
    block = _run_length(series, horizon)
    return [_figures(series.name, horizon.name, method, scores, block) for method in scores]


def scored_rows(series: Series, horizon: Horizon) -> Whole:
    """The rows whose forecasts count, before it is known whether every method has one."""
    history = min(HISTORY_BLOCKS, series.position[-1] / 2)
    begin = max(int(np.searchsorted(series.position, history)), min(HISTORY_BLOCKS, len(series.rates) // 2))
    rows: Whole = begin + np.flatnonzero(series.targets[horizon.name][begin:] >= 0)
    return rows


def walk_ours(series: Series, horizon: Horizon, origins: Whole) -> NDArray[np.float64]:
    """(origins, 3)."""
    target = series.targets[horizon.name]
    found = np.full((len(origins), 3), np.nan)
    for at, row in enumerate(origins):
        seen = _window(row)
        time, rates, mempool = (column[seen] for column in (series.time, series.rates, series.mempool))
        one = feerates.forecast_at(horizon, series.position[seen], time, rates, mempool, _settled(target, seen))
        if one is not None:
            found[at] = one.value_kvb, one.low_kvb, one.high_kvb
    return found


def simple(series: Series, horizon: Horizon) -> list[tuple[str, Whole]]:
    """(method, what it forecasts at each row, 0 for nothing), for every method we are compared with."""
    blocks, half_life = MEDIAN_BLOCKS[horizon.name], HALF_LIFE_BLOCKS[horizon.name]
    found = [
        ("naive", _at_each_row(series, lambda _, rates: feerates.naive(rates))),
        ("rolling_median", _at_each_row(series, lambda x, rates: feerates.rolling_median(x, rates, blocks))),
        ("ses", _at_each_row(series, lambda x, rates: feerates.smoothed(x, rates, half_life))),
    ]
    if horizon.name in series.recommended:
        found.append(("recommended", series.recommended[horizon.name]))
    return found


def walk_simple(series: Series, horizon: Horizon, origins: Whole, points: Whole) -> NDArray[np.float64]:
    """(origins, 3): the same interval as ours around the points of a simple method."""
    target = series.targets[horizon.name]
    logs, rates = feerates.logarithms(points), feerates.logarithms(series.rates)
    found = np.full((len(origins), 3), np.nan)
    for at, row in enumerate(origins):
        seen = _window(row)
        interval = feerates.conformal(horizon, logs[seen], rates[seen], _settled(target, seen))
        if interval is not None:
            found[at] = points[row], *np.rint(np.exp(interval[:2]))
    return found


def score(forecasts: NDArray[np.float64], came: NDArray[np.float64]) -> Scores:
    """Of each row: forecasts (n, 3) as [value, low, high], came (n,)."""
    value, low, high = forecasts.T
    outside = np.maximum(low - came, 0) + np.maximum(came - high, 0)
    return {
        "mae": np.abs(value - came),
        "mape": np.abs(value - came) / came,
        "interval_score": high - low + outside / MISS,
        "coverage80": (outside == 0).astype(np.float64),
    }


def _window(row: int) -> slice:
    return slice(max(0, row + 1 - WINDOW), row + 1)


def _settled(target: Whole, seen: slice) -> Whole:
    """The targets of a window's rows, as rows of the window; -1 for those not there yet."""
    inside = (target[seen] >= 0) & (target[seen] < seen.stop)
    return np.where(inside, target[seen] - seen.start, -1)


def _at_each_row(series: Series, method: Callable[[Any, Whole], int | None]) -> Whole:
    seen = [_window(row) for row in range(len(series.rates))]
    return np.array([method(series.position[rows], series.rates[rows]) or 0 for rows in seen], np.int64)


def _run_length(series: Series, horizon: Horizon) -> int:
    rows_a_block = len(series.rates) / max(float(series.position[-1]), 1.0)
    share = float((series.targets[horizon.name] >= 0).mean())
    return max(1, round(BLOCK_BLOCKS * rows_a_block * share))


def _figures(series: str, horizon: str, method: str, scores: dict[str, Scores], block: int) -> dict[str, Any]:
    mine, ours = scores[method], scores[OURS]
    n = len(mine["mae"])
    figures: dict[str, Any] = {"series": series, "horizon": horizon, "method": method}
    figures |= {name: round(float(values.mean()), 4) if n else None for name, values in mine.items()} | {"n": n}
    for name in ("mae", "interval_score") if method != OURS and n else ():
        difference = ours[name] - mine[name]
        ends = mean_interval(difference, block) or (None, None)
        figures[f"{name}_difference"] = round(float(difference.mean()), 4)
        for side, end in zip(("low", "high"), ends, strict=True):
            figures[f"{name}_difference_{side}"] = None if end is None else round(end, 4)
    return figures
