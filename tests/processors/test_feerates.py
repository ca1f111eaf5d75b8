"""The feerate forecast: a pure function of its window, and right where what is right can be known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from utxoiq.processors import feerates
from utxoiq.processors.feerates import HORIZONS, forecast, forecast_at, rows_ahead

HOUR = HORIZONS[1]


def chain(n: int = 1200, seed: int = 7, step: float = 0.2, memory: float = 0.9) -> list[np.ndarray]:
    """Heights, times, rates, mempool of n blocks: a feerate that wanders around 5 sat/vB."""
    rng = np.random.default_rng(seed)
    wander = np.zeros(n)
    for row in range(1, n):
        wander[row] = memory * wander[row - 1] + step * rng.standard_normal()
    rates = np.rint(5000 * np.exp(wander)).astype(np.int64)
    mempool = np.rint(rates * np.exp(0.1 * rng.standard_normal(n))).astype(np.int64)
    return [np.arange(800_000, 800_000 + n), 1_700_000_000 + 600 * np.arange(n), rates, mempool]


def test_a_steady_feerate_is_foretold_exactly() -> None:
    """No method has an excuse where nothing ever changes."""
    heights, times, _, mempool = chain(400)
    flat = np.full(400, 3210)
    found = forecast(heights, times, flat, np.zeros_like(mempool))
    assert [(one.horizon, one.value_kvb, one.low_kvb, one.high_kvb) for one in found] == [
        (name, 3210, 3210, 3210) for name in ("next_block", "1h", "24h")
    ]


def test_cases_are_the_settled_forecasts() -> None:
    """Of 400 rows the first 36 make none and the last `blocks` are not settled; up to an hour ahead the first `blocks`
    more have no scale yet."""
    found = forecast(*chain(400))
    assert {one.horizon: one.cases for one in found} == {"next_block": 362, "1h": 352, "24h": 220}


def test_too_short_a_past_gives_no_forecast() -> None:
    """The next block takes 36 + 1 + 144 + 1 rows; one row less has none."""
    assert [one.horizon for one in forecast(*chain(182))] == ["next_block"]
    assert forecast(*chain(181)) == []
    assert forecast(*chain(1)) == []


def test_the_interval_holds_four_fifths_and_follows_the_demand() -> None:
    """On a wandering feerate the next block lies inside about 80 % of the time, and nearer than the last block."""
    columns = chain(1600, memory=0.5)
    inside, ours, last = [], [], []
    for end in range(600, 1599):
        one = forecast_at(
            HORIZONS[0],
            np.arange(end, dtype=float),
            *(column[:end] for column in columns[1:]),
            rows_ahead(columns[0][:end], columns[2][:end], 1),
        )
        assert one is not None
        came = int(columns[2][end])
        inside.append(one.low_kvb <= came <= one.high_kvb)
        ours.append(abs(one.value_kvb - came))
        last.append(abs(int(columns[2][end - 1]) - came))
    assert 0.77 <= np.mean(inside) <= 0.83
    assert np.mean(ours) < np.mean(last)


def test_a_mempool_that_knows_the_next_block_is_believed() -> None:
    """Where the mempool has always shown the next block's feerate, the forecast is that."""
    heights, times, rates, _ = chain(step=0.5)
    knowing = np.append(rates[1:], 20_000)
    told = forecast(heights, times, rates, knowing)[0]
    blind = forecast(heights, times, rates, np.zeros_like(rates))[0]
    assert abs(told.value_kvb / 20_000 - 1) < 0.1
    assert told.high_kvb - told.low_kvb < (blind.high_kvb - blind.low_kvb) / 2


def test_the_hour_of_the_target_is_learned() -> None:
    """Twice the feerate from 12 to 24 UTC: a day ahead, afternoon is foretold above night."""
    n = 4000
    times = 1_700_000_000 // 86400 * 86400 + 600 * np.arange(n)
    rates = np.where(times % 86400 >= 43200, 8000, 4000)
    values = {}
    for end in (n, n - 72):
        values[int(times[end - 1] % 86400 >= 43200)] = forecast(
            np.arange(end), times[:end], rates[:end], np.zeros(end, np.int64)
        )[2].value_kvb
    assert values[1] > 1.3 * values[0]


def test_only_the_last_rows_count() -> None:
    """A restart that reads the window only says the same as a process that has seen everything."""
    columns = chain(feerates.WINDOW + 500)
    assert forecast(*columns) == forecast(*(column[-feerates.WINDOW :] for column in columns))
    assert forecast(*columns) == forecast(*columns)


def test_the_columns_are_left_alone() -> None:
    """The caller keeps its columns."""
    columns = chain(500)
    before = [column.copy() for column in columns]
    forecast(*columns)
    assert all((now == then).all() for now, then in zip(columns, before, strict=True))


def test_rows_ahead_go_by_height() -> None:
    """102 is missing and the feerate of 104 is unknown: neither is anyone's target."""
    heights, rates = np.array([100, 101, 103, 104, 105]), np.array([5, 6, 7, 0, 8])
    assert rows_ahead(heights, rates, 1).tolist() == [1, -1, -1, 4, -1]
    assert rows_ahead(heights, rates, 2).tolist() == [-1, 2, 4, -1, -1]


def test_missing_and_unknown_blocks_are_borne() -> None:
    """A tenth of the rows gone, a tenth unknown: there is a forecast, and it rests on fewer cases."""
    columns = chain(1000)
    kept = np.arange(1000) % 10 != 3
    thinned = [column[kept].copy() for column in columns]
    thinned[2][5::10] = 0
    thinned[3][:] = -1
    whole, holed = forecast(*columns), forecast(*thinned)
    assert [one.horizon for one in holed] == [one.horizon for one in whole]
    assert all(less.cases < more.cases for less, more in zip(holed, whole, strict=True))
    assert all(0 < one.low_kvb <= one.value_kvb <= one.high_kvb for one in holed)


def test_extreme_feerates_stay_numbers() -> None:
    """1 sat/kvB and 21 million BTC a kvB in one window."""
    columns = chain(600)
    columns[2][400], columns[2][401] = 2_100_000_000_000_000, 1
    assert all(1 <= one.low_kvb <= one.high_kvb < 2**62 for one in forecast(*columns))


def test_conformal_ends_are_the_ordered_misses() -> None:
    """199 misses of -99..99 hundredths: floor(0.1 * 200) is the 20th, ceil(0.9 * 200) the 180th."""
    rates = np.append(np.random.default_rng(3).permutation(np.arange(-99, 100)) / 100, 0.0)
    points = np.append(np.zeros(199), 0.5)
    truth = np.append(-1.0, rates[:199])
    low, high, cases = feerates.conformal(HORIZONS[2], points, truth, np.append(np.arange(1, 200), -1)) or (0, 0, 0)
    assert (low, high, cases) == (pytest.approx(0.5 - 0.80), pytest.approx(0.5 + 0.80), 199)


def test_no_interval_lies_below_all_that_was_seen() -> None:
    """Low ends stop at the lowest feerate of the window."""
    points, truth = np.zeros(300), np.random.default_rng(5).uniform(0, 1, 300)
    points[-1] = -3.0
    low, high, _ = feerates.conformal(HORIZONS[2], points, truth, np.append(np.arange(1, 300), -1)) or (0, 0, 0)
    assert low == high == truth.min()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda columns: columns[2].resize(5, refcheck=False), "differ in length"),
        (lambda columns: columns[0].fill(7), "must increase"),
    ],
)
def test_columns_that_make_no_sense_are_refused(change, message) -> None:  # type: ignore[no-untyped-def]
    """The error says what is wrong."""
    columns = [column.copy() for column in chain(50)]
    change(columns)
    with pytest.raises(ValueError, match=message):
        forecast(*columns)


def test_simple_methods_by_hand() -> None:
    """Unknown feerates are passed over; age is in blocks, not in rows."""
    position, rates = np.array([0.0, 1.0, 4.0, 5.0]), np.array([1000, 3000, 5000, 0])
    assert feerates.naive(rates) == 5000
    assert feerates.rolling_median(position, rates, 2) == 5000
    assert feerates.rolling_median(position, rates, 5) == 4000
    weights = [2.0**-5, 2.0**-4, 2.0**-1]
    expected = math.fsum(w * r for w, r in zip(weights, rates, strict=False)) / math.fsum(weights)
    assert feerates.smoothed(position, rates, 1) == round(expected)
    nothing = np.zeros(4, np.int64)
    assert feerates.naive(nothing) is None
    assert feerates.rolling_median(position, nothing, 9) is None
    assert feerates.smoothed(position, nothing, 1) is None
