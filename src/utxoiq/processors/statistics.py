"""The few statistics processors share. Plain Python: windows are short, and importing SciPy costs more than they do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two middle ones. Raises ValueError for none."""
    if not values:
        raise ValueError("the median of nothing")
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def tail(values: Sequence[T], size: float) -> Sequence[T]:
    """The last `size` values: none for 0, all where there are not as many."""
    return values[max(0, len(values) - int(size)) :]


def looks(values: Sequence[T], size: int, quiet: float) -> Iterator[Sequence[T]]:
    """What was to be seen at the last of these and at each of the `quiet` before it, the newest first: the last `size`
    of them, or as many as there were. Of `size` + `quiet` values each look is what it was when it was taken."""
    for end in range(len(values), max(0, len(values) - max(0, int(quiet)) - 1), -1):
        yield values[max(0, end - size) : end]


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
    low, high, x = max(0, marked - n_b), min(n_a, marked), successes_a
    here = math.exp(log_choose(marked, x) + log_choose(total - marked, n_a - x) - log_choose(total, n_a))

    def tail(step: int) -> float:
        """From the observed table outwards, each term by its ratio to the one before."""
        whole, term, k = here, here, x
        while term > NEGLIGIBLE * whole and low <= k + step <= high:
            if step > 0:
                term *= (marked - k) * (n_a - k) / ((k + 1) * (n_b - marked + k + 1))
            else:
                term *= k * (n_b - marked + k) / ((marked - k + 1) * (n_a - k + 1))
            whole, k = whole + term, k + step
        return whole

    return min(1.0, 2 * min(tail(-1), tail(1)))


NEGLIGIBLE = 1e-17


def binomial_p(successes: int, n: int, chance: float) -> float:
    """The chance of `successes` and more in n draws, each with this chance (0 < chance < 1)."""
    hit, miss = math.log(chance), math.log1p(-chance)
    return min(1.0, sum(math.exp(log_choose(n, k) + k * hit + (n - k) * miss) for k in range(successes, n + 1)))


HILL_SHARE, HILL_LEAST, THINNEST_TAIL = 0.1, 10, 3.0
"""The Hill estimate is made of the largest tenth, of ten values at least; a tail is never taken for thinner than x^-3,
the exponent that markets' large moves have (Gopikrishnan et al. 1999), so that luck in a few values claims little."""


def tail_p(value: float, past: Sequence[float]) -> float:
    """The chance that one more of the past's kind is as large as `value` (> 0).

    Within what the past has seen it is (k + 1) / (n + 1), k of n being as large. Beyond, where ranks end, the largest
    values are taken to go on as a power law: the chance at the largest, times (value / largest)^-a, a by Hill's
    estimate (Hill 1975, Weissman 1978).
    """
    n, as_large = len(past), sum(v >= value for v in past)
    at_rank = (as_large + 1) / (n + 1)
    if as_large:
        return at_rank
    top = sorted((v for v in past if v > 0), reverse=True)[: max(HILL_LEAST, int(HILL_SHARE * n)) + 1]
    if len(top) <= HILL_LEAST or top[0] == top[-1]:
        return at_rank
    mean_log = sum(math.log(v / top[-1]) for v in top[:-1]) / (len(top) - 1)
    exponent = min(THINNEST_TAIL, 1 / mean_log)
    return float(at_rank * (value / top[0]) ** -exponent)


def chance_confidence(p: float, cases: int, what: str) -> tuple[float, dict[str, Any]]:
    """One minus the chance of as much without anything unusual, and what that rests on. `what`: the test."""
    return min(1 - p, MOST_CERTAIN), {"basis": f"one minus the p-value of {what}", "cases": cases, "calibrated": False}


MOST_CERTAIN = 0.999999
"""A test by chance leaves a chance, however small."""

RULE: dict[str, Any] = {"basis": "a rule, read off the block", "cases": 1, "calibrated": True}
