"""The statistics against values from elsewhere."""

from __future__ import annotations

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utxoiq.processors.statistics import fisher_p, median, rank_confidence

# One-sided p-values of SciPy 1.17.1, scipy.stats.fisher_exact([[a, n_a - a], [b, n_b - b]], "less" and "greater")
SCIPY = [
    ((3, 4, 1, 4), 0.9857142857142858, 0.24285714285714283),  # Fisher's lady tasting tea
    ((8, 10, 1, 6), 0.9991258741258742, 0.024475524475524483),  # the example of SciPy's documentation
    ((58, 144, 86, 864), 1.0, 1.691221663519571e-17),
    ((0, 144, 120, 864), 2.5412735525523114e-09, 1.0),
    ((20, 144, 120, 864), 0.5604598830578569, 0.5429221028436373),
    ((144, 144, 0, 864), 1.0, 8.107950599230567e-179),
    ((1, 20, 400, 5000), 0.5173155532712076, 0.8114380709154076),
]


def exact(a: int, n_a: int, b: int, n_b: int) -> Fraction:
    """Fisher's test in whole numbers, doubling the smaller tail."""
    marked, ways = a + b, comb(n_a + n_b, a + b)

    def chance(x: int) -> Fraction:
        return Fraction(comb(n_a, x) * comb(n_b, marked - x), ways)

    low, high = max(0, marked - n_b), min(n_a, marked)
    less = sum((chance(x) for x in range(low, a + 1)), Fraction())
    greater = sum((chance(x) for x in range(a, high + 1)), Fraction())
    return min(Fraction(1), 2 * min(less, greater))


@pytest.mark.parametrize(("table", "less", "greater"), SCIPY)
def test_fisher_as_scipy(table: tuple[int, int, int, int], less: float, greater: float) -> None:
    """Two-sided is twice the smaller of SciPy's tails, and never above 1."""
    assert fisher_p(*table) == pytest.approx(min(1.0, 2 * min(less, greater)), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 120), st.integers(1, 120), st.data())
def test_fisher_as_counted_in_whole_numbers(n_a: int, n_b: int, data: st.DataObject) -> None:
    """Any table, against exact fractions; the same whichever group is named first, and for those without."""
    a, b = data.draw(st.integers(0, n_a)), data.draw(st.integers(0, n_b))
    p = fisher_p(a, n_a, b, n_b)
    assert p == pytest.approx(float(exact(a, n_a, b, n_b)), rel=1e-8)
    assert 0 < p <= 1
    assert fisher_p(b, n_b, a, n_a) == pytest.approx(p, rel=1e-8)
    assert fisher_p(n_a - a, n_a, n_b - b, n_b) == pytest.approx(p, rel=1e-8)


def test_the_median() -> None:
    """The middle one, or the mean of the two middle ones; of any order; the input stays as it is."""
    values = [5, 1, 4]
    assert median(values) == 4
    assert values == [5, 1, 4]
    assert median([1, 2, 3, 10]) == 2.5
    assert median([7]) == 7
    with pytest.raises(ValueError, match="nothing"):
        median([])


@pytest.mark.parametrize(
    ("less", "cases", "confidence"), [(144, 144, 144.5 / 145), (0, 144, 0.5 / 145), (0, 0, 0.5), (9, 9, 0.95)]
)
def test_rank_confidence(less: int, cases: int, confidence: float) -> None:
    """(k + 1/2) / (n + 1): even the most extreme block of all is never certain."""
    found, basis = rank_confidence(less, cases)
    assert found == pytest.approx(confidence)
    assert basis["cases"] == cases
    assert basis["calibrated"] is False
    assert 0 < found < 1
