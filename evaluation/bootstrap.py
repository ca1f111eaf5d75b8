"""Whether a difference of means could be chance, where neighbours are alike: the moving-block bootstrap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

DRAWS = 2000
SEED = 1
LEVEL = 0.95
LEAST_BLOCKS = 4
"""Runs a series must hold for its own runs to say anything."""


def mean_interval(values: NDArray[np.float64], block: int) -> tuple[float, float] | None:
    """(low, high): 95 % of the means of series as long as this one, made of its own runs of `block` values.

    values (n,); None where they are not four runs long. Runs begin anywhere and wrap around (circular block bootstrap,
    Politis and Romano 1992); the same are drawn at every call of the same n and block, so figures never change.
    """
    n = len(values)
    if n < LEAST_BLOCKS * block:
        return None
    whole, rest = divmod(n, block)
    sums = np.concatenate([[0.0], np.cumsum(np.concatenate([values, values[:block]]))])
    starts = np.random.Generator(np.random.PCG64(SEED)).integers(0, n, (DRAWS, whole + 1))
    totals = (sums[starts[:, :whole] + block] - sums[starts[:, :whole]]).sum(axis=1)
    totals += sums[starts[:, whole] + rest] - sums[starts[:, whole]]
    low, high = np.quantile(totals / n, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
