"""JSON as Bitcoin Core writes it: no spaces, amounts with eight decimals, numbers with sixteen digits.

Numbers whose text matters travel through `json.dumps` as strings between two private characters.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from utxoiq.units import COIN

OPEN, CLOSE = "\ue000", "\ue001"


def verbatim(text: str) -> str:
    """A value that is to stand in the JSON as it is."""
    return f"{OPEN}{text}{CLOSE}"


def amount(sat: int) -> str:
    """Satoshis as BTC."""
    whole, rest = divmod(abs(sat), COIN)
    return verbatim(f"{'-' if sat < 0 else ''}{whole}.{rest:08d}")


def number(value: float) -> str:
    """A floating point number as C++ prints it with sixteen digits."""
    return verbatim(f"{value:.16g}")


def _decimal(value: Any) -> str:
    if isinstance(value, Decimal):
        return verbatim(str(value))
    raise TypeError(f"{value!r} is no JSON value")


def write(value: Any) -> str:
    """`value` as JSON text."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_decimal)
    return text.replace(f'"{OPEN}', "").replace(f'{CLOSE}"', "").replace("\x7f", "\\u007f")
