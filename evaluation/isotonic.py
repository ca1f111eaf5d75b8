"""Isotonic regression: the rising steps that lie nearest to data (Ayer et al. 1955), by pooling adjacent violators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Step(NamedTuple):
    """Neighbours that share a value."""

    begin: int
    """Of the first of them, its place in the data."""
    weight: float
    value: float


def pool(values: Sequence[float], weights: Sequence[float]) -> list[Step]:
    """The steps f, each higher than the one before, that minimise the sum of weight * (value - f)^2. Weights > 0."""
    steps: list[Step] = []
    for place, (value, weight) in enumerate(zip(values, weights, strict=True)):
        step = Step(place, weight, value)
        while steps and steps[-1].value >= step.value:
            step = _joined(steps.pop(), step)
        steps.append(step)
    return steps


def _joined(left: Step, right: Step) -> Step:
    weight = left.weight + right.weight
    return Step(left.begin, weight, (left.weight * left.value + right.weight * right.value) / weight)
