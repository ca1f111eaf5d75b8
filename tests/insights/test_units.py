"""Money is whole satoshis; what is shown of it is exact."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utxoiq.units import COIN, MAX_MONEY, btc, sat_per_vb, utc


@pytest.mark.parametrize(
    ("sat", "text"),
    [
        (0, "0"),
        (1, "0.00000001"),
        (-1, "-0.00000001"),
        (COIN, "1"),
        (150_000_000, "1.5"),
        (-150_000_000, "-1.5"),
        (100_000_010, "1.0000001"),
        (123_456_789_012, "1,234.56789012"),
        (MAX_MONEY, "21,000,000"),
        (MAX_MONEY - 1, "20,999,999.99999999"),
        (-MAX_MONEY, "-21,000,000"),
    ],
)
def test_bitcoin(sat: int, text: str) -> None:
    assert btc(sat) == text


@given(st.integers(-MAX_MONEY, MAX_MONEY))
def test_bitcoin_is_exact(sat: int) -> None:
    """Read back as a decimal it is the same amount, without a trailing zero."""
    text = btc(sat)
    assert Decimal(text.replace(",", "")) * COIN == sat
    assert "." not in text or text[-1] not in "0."


@pytest.mark.parametrize(
    ("kvb", "text"), [(0, "0"), (1, "0.001"), (999, "0.999"), (1000, "1"), (1500, "1.5"), (1_234_567, "1,234.567")]
)
def test_feerates(kvb: int, text: str) -> None:
    assert sat_per_vb(kvb) == text


@given(st.integers(0, 10**15))
def test_feerates_are_exact(kvb: int) -> None:
    assert Decimal(sat_per_vb(kvb).replace(",", "")) * 1000 == kvb


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_231_006_505, "2009-01-03T18:15:05Z"),
        (4_294_967_295, "2106-02-07T06:28:15Z"),
    ],
)
def test_times_are_utc(seconds: int, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the machine is; up to the last second a header can hold."""
    import time

    for zone in ("UTC", "Pacific/Kiritimati", "America/Los_Angeles"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        assert utc(seconds) == text
    monkeypatch.undo()
    time.tzset()
