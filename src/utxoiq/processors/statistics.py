"""The few statistics processors share. Plain Python: windows are short, and importing SciPy costs more than they do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two middle ones. Raises ValueError for none."""
    if not values:
        raise ValueError("the median of nothing")
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def rank_confidence(less_extreme: int, cases: int) -> tuple[float, dict[str, Any]]:
    """The chance that a block like those of the window is less extreme than this one, and what that rests on.

    With n past blocks of which k are less extreme it is (k + 1/2) / (n + 1): the mean of the Beta(k + 1/2, n - k + 1/2)
    that Jeffreys' prior gives. It is a share of the past, not yet a calibrated probability of being right.
    """
    confidence = (less_extreme + 0.5) / (cases + 1)
    return confidence, {
        "basis": "the share of the past window that was less extreme",
        "cases": cases,
        "calibrated": False,
    }


def log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def fisher_p(successes_a: int, n_a: int, successes_b: int, n_b: int) -> float:
    """Two-sided p-value that two shares differ by chance (Fisher's exact test, doubling the smaller tail)."""
    marked, total = successes_a + successes_b, n_a + n_b
    low, high = max(0, marked - n_b), min(n_a, marked)
    whole = log_choose(total, n_a)

    def tail(values: range) -> float:
        return sum(math.exp(log_choose(marked, x) + log_choose(total - marked, n_a - x) - whole) for x in values)

    return min(1.0, 2 * min(tail(range(low, successes_a + 1)), tail(range(successes_a, high + 1))))
