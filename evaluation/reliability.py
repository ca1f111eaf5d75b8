"""How good probabilities are, once it is known what came."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

BINS = 10
LEAST_CASES = 1000
"""Pooled cases below which no calibration error is told."""


class Case(NamedTuple):
    """A probability and what came: 1 or 0, or a share of cases alike."""

    confidence: float
    right: float


class Bin(NamedTuple):
    """Neighbouring cases: how sure they were, and how often right."""

    cases: int
    confidence: float
    right: float


class Quality(NamedTuple):
    """Of all cases of a type; the figures are None below `LEAST_CASES`."""

    cases: int
    ece: float | None
    brier: float | None
    brier_skill: float | None
    """None too where all were right, or none: there is nothing to be better than."""


def quality(cases: Sequence[Case]) -> Quality:
    """The three figures."""
    if len(cases) < LEAST_CASES:
        return Quality(len(cases), None, None, None)
    return Quality(len(cases), calibration_error(cases), brier(cases), brier_skill(cases))


def bins(cases: Sequence[Case], count: int = BINS) -> list[Bin]:
    """`count` bins of as many cases each, or one more, by rising confidence.

    Cases of equal confidence share the mean of what came: which of them falls to which side of a border is no matter.
    """
    shared = _shared(cases)
    borders = [len(shared) * i // count for i in range(count + 1)]
    parts = [shared[begin:end] for begin, end in pairwise(borders) if end > begin]
    return [Bin(len(part), fmean(c.confidence for c in part), fmean(c.right for c in part)) for part in parts]


def calibration_error(cases: Sequence[Case]) -> float:
    """Expected calibration error: the mean over bins, by cases, of |how sure - how often right| (Naeini et al. 2015,
    with bins of equal count as in Nguyen and O'Connor 2015)."""
    return sum(one.cases * abs(one.confidence - one.right) for one in bins(cases)) / len(cases)


def brier(cases: Sequence[Case]) -> float:
    """The mean squared distance of probability and outcome (Brier 1950)."""
    return fmean((one.confidence - one.right) ** 2 for one in cases)


def brier_skill(cases: Sequence[Case]) -> float | None:
    """1 - Brier score / that of always saying the base rate."""
    rate = fmean(one.right for one in cases)
    usual = rate * (1 - rate)
    return 1 - brier(cases) / usual if usual > 0 else None


def _shared(cases: Sequence[Case]) -> list[Case]:
    alike: dict[float, list[float]] = defaultdict(list)
    for one in cases:
        alike[one.confidence].append(one.right)
    return [Case(sure, fmean(came)) for sure, came in sorted(alike.items()) for _ in came]
