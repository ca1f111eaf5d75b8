"""Units and how things are shown. Money is integer satoshis everywhere; BTC exists only as text."""

from __future__ import annotations

import re
from datetime import UTC, datetime

COIN = 100_000_000
"""Satoshis in one bitcoin."""

MAX_MONEY = 21_000_000 * COIN
"""No amount in Bitcoin is larger (Core, consensus/amount.h)."""


def btc(sat: int) -> str:
    """`sat` satoshis as BTC text, exactly, without trailing zeros: 150000000 -> '1.5', 1 -> '0.00000001'."""
    sign, sat = ("-", -sat) if sat < 0 else ("", sat)
    whole, part = divmod(sat, COIN)
    decimals = f"{part:08d}".rstrip("0")
    return f"{sign}{whole:,}" + (f".{decimals}" if decimals else "")


def sat_per_vb(sat_per_kvb: int) -> str:
    """A feerate given in sat/kvB as sat/vB text, exactly: 1500 -> '1.5'."""
    whole, part = divmod(sat_per_kvb, 1000)
    decimals = f"{part:03d}".rstrip("0")
    return f"{whole:,}" + (f".{decimals}" if decimals else "")


def utc(unix_seconds: int) -> str:
    """Unix seconds as ISO 8601 UTC text to the second: 1231006505 -> '2009-01-03T18:15:05Z'."""
    return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def without_user(text: str) -> str:
    """Text with the user and password of any address in it left out: 'http://joe:secret@host' -> 'http://***@host'."""
    return re.sub(r"(?<=//)\S*@", "***@", text)
