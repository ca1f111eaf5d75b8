"""The statistics against values from elsewhere."""

from __future__ import annotations

from fractions import Fraction
from math import comb, log, prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utxoiq.processors.statistics import (
    MOST_CERTAIN,
    binomial_p,
    chance_confidence,
    fisher_p,
    looks,
    median,
    rank_confidence,
    tail_p,
)

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


# Binomial


def exactly(successes: int, n: int, chance: Fraction) -> Fraction:
    """The upper tail in whole numbers."""
    each = (comb(n, k) * chance**k * (1 - chance) ** (n - k) for k in range(successes, n + 1))
    return sum(each, Fraction())


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 200), st.integers(1, 99), st.data())
def test_binomial_as_counted_in_whole_numbers(n: int, percent: int, data: st.DataObject) -> None:
    """Any number of draws, any chance, against exact fractions; never above 1."""
    successes = data.draw(st.integers(0, n))
    p = binomial_p(successes, n, percent / 100)
    assert p == pytest.approx(float(exactly(successes, n, Fraction(percent, 100))), rel=1e-9)
    assert 0 <= p <= 1


@pytest.mark.parametrize(
    ("successes", "n", "chance", "p"),
    [
        (10, 10, 0.5, 2**-10),
        (0, 10, 0.5, 1.0),
        (1, 2, 0.5, 0.75),
        (452, 1009, 0.4, float(exactly(452, 1009, Fraction(2, 5)))),
        (1009, 1009, 0.4, 0.4**1009),
    ],
)
def test_binomial(successes: int, n: int, chance: float, p: float) -> None:
    """By hand; also where the chance is too small for a float."""
    assert binomial_p(successes, n, chance) == pytest.approx(p, rel=1e-9)


# The tail


def slowly(value: float, past: list[float]) -> float:
    """The same written another way: the exponent by the geometric mean of the largest tenth over the next."""
    as_large = len([1 for one in past if one >= value])
    chance = Fraction(1 + as_large, 1 + len(past))
    positive = sorted(one for one in past if one > 0)
    size = max(10, len(past) // 10)
    if as_large or len(positive) < 11:
        return float(chance)
    over = positive[-size - 1 :] if len(positive) > size else positive
    least, upper = over[0], over[1:]
    if over[-1] == least:
        return float(chance)
    geometric = prod((one / least) ** (1 / len(upper)) for one in upper)
    exponent = min(3.0, 1 / log(geometric))
    return float(chance) * (over[-1] / value) ** exponent


values = st.floats(0.001, 1e6, allow_nan=False)


@settings(max_examples=200, deadline=None)
@given(values, st.lists(st.just(0.0) | values, max_size=150))
def test_the_tail_as_computed_slowly(value: float, past: list[float]) -> None:
    """Any past, zeros included; a chance, and never more than the rank alone would give."""
    p = tail_p(value, past)
    assert p == pytest.approx(slowly(value, past), rel=1e-6)
    assert 0 < p <= (1 + sum(one >= value for one in past)) / (1 + len(past))


def test_within_what_was_seen_the_rank_decides() -> None:
    """(k + 1) / (n + 1), equal ones counted as as large."""
    past = [float(i) for i in range(1, 100)]
    assert tail_p(99, past) == 2 / 100
    assert tail_p(50, past) == 51 / 100
    assert tail_p(0.5, past) == 1


def test_beyond_it_a_power_law_goes_on() -> None:
    """Of 99 values 1 / u the exponent is near 1, so at ten times the largest the chance is near a tenth; values in a
    narrow band fall no faster than the third power."""
    pareto = [100 / i for i in range(1, 100)]
    assert tail_p(1000, pareto) == pytest.approx(0.01 * 0.1, rel=0.5)
    narrow = [100 + i / 100 for i in range(99)]
    assert tail_p(2 * narrow[-1], narrow) == pytest.approx(0.01 / 8)


@pytest.mark.parametrize("past", [[], [0.0] * 500, [5.0] * 10, [5.0] * 500, [*[0.0] * 500, *[1.0, 2.0] * 5]], ids=len)
def test_too_little_to_judge_a_tail_by(past: list[float]) -> None:
    """No past, one of nothing, too few values, all alike: the rank alone, however large the value is."""
    assert tail_p(10**12, past) == 1 / (len(past) + 1)


@settings(max_examples=100, deadline=None)
@given(st.lists(values, min_size=1, max_size=60), values, st.floats(1, 100))
def test_what_is_larger_is_not_likelier(past: list[float], value: float, factor: float) -> None:
    """And scale does not matter: satoshis or bitcoin give the same chance."""
    assert tail_p(value * factor, past) <= tail_p(value, past) * (1 + 1e-9)
    assert tail_p(value * 2**20, [one * 2**20 for one in past]) == pytest.approx(tail_p(value, past), rel=1e-9)


def test_a_chance_is_never_certainty() -> None:
    """However small the chance; and it says what the test was."""
    assert chance_confidence(0.25, 7, "a test")[0] == 0.75
    found, basis = chance_confidence(0.0, 7, "a test")
    assert found == MOST_CERTAIN < 1
    assert basis == {"basis": "one minus the p-value of a test", "cases": 7, "calibrated": False}


def test_a_look_back_sees_what_was_seen_then() -> None:
    """As many values as the last look, where there are as many; the newest first."""
    values = list(range(400))
    seen = list(looks(values[-144:], 133, 11))
    assert seen == [next(looks(values[len(values) - k - 144 : len(values) - k], 133, 11)) for k in range(12)]
    assert [len(one) for one in looks([1, 2, 3], 2, 9)] == [2, 2, 1]
    assert list(looks([1, 2, 3], 5, 0)) == [[1, 2, 3]]
    assert list(looks([], 5, 3)) == []
