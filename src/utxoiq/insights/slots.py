"""Slots: the only way a number, name or date gets into a text. Each is filled by the program from the signal."""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from utxoiq.units import btc, sat_per_vb, utc

if TYPE_CHECKING:
    from utxoiq.models import Signal

NAME_LIMIT = 32
BASIS_LIMIT = 100
HOLE = "•"
"""What stands for a slot in prose."""


def slots_of(signal: Signal) -> dict[str, str]:
    """Slot name -> text, with its unit, for every value of the signal that is known.

    Amounts in BTC, feerates in sat/vB, shares in percent, times UTC. Names are cut and cleaned: a label or a tag is
    somebody's text.
    """
    values: dict[str, Any] = {
        **signal.metadata,
        "basis": signal.confidence_basis.get("basis"),
        "height": signal.block_height,
        "block_time": signal.created_at,
        "confidence": signal.confidence,
        "cases": signal.confidence_basis.get("cases"),
    }
    shown = {name: _show(name, value) for name, value in values.items()}
    return {name: text for name, text in shown.items() if text}


def fill(text: str, slots: dict[str, str]) -> str:
    """`text` with its {slots} filled. Raises KeyError for a slot the signal does not have."""
    return string.Formatter().vformat(text, (), slots)


def names_in(text: str) -> list[str]:
    """The slots of a text, in order. Raises ValueError for broken braces, indexes, conversions or formats."""
    names = []
    for _, name, spec, conversion in string.Formatter().parse(text):
        if name is None:
            continue
        if spec or conversion or not name.isidentifier():
            raise ValueError(f"{{{name}}} is no plain slot")
        names.append(name)
    return names


def prose_of(text: str) -> str:
    """What is left of a text without its slots; each leaves a HOLE."""
    return "".join(
        literal + (HOLE if name is not None else "") for literal, name, _, _ in string.Formatter().parse(text)
    )


AMOUNTS = {"fee", "unclaimed", "claimed", "entitled", "subsidy", "subsidy_before"}
PERCENTS = {"share", "share_before", "share_of_fees", "confidence"}
COUNTED = {
    "transactions": "transaction",
    "waiting_transactions": "transaction",
    "window_blocks": "block",
    "recent_blocks": "block",
    "pools_tested": "pool",
    "seconds_after_parent": "second",
}


def _show(name: str, value: Any) -> str | None:
    """The text of one value, None where it is unknown or not of the type its name promises."""
    if isinstance(value, str):
        return None if _unit_of(name) else clean(value, BASIS_LIMIT if name == "basis" else NAME_LIMIT)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    show = _unit_of(name)
    if show:
        return show(value) if isinstance(value, int) or name in PERCENTS else None
    if name in COUNTED:
        return f"{value:,} {COUNTED[name]}{'' if value == 1 else 's'}"
    return f"{value:,.0f}" if isinstance(value, float) and value >= 100 else f"{value:,}"


def _unit_of(name: str) -> Callable[[Any], str] | None:
    """How values of this name are shown, None for plain numbers and texts."""
    if name in AMOUNTS:
        return lambda sat: f"{btc(sat)} BTC"
    if name in PERCENTS:
        return lambda share: f"{_percent(share)}%"
    if name.endswith("_kvb"):
        return lambda kvb: f"{_feerate(kvb)} sat/vB"
    if name in ("block_time", "seen_at"):
        return lambda time: utc(time).replace("T", " ").removesuffix("Z") + " UTC"
    return None


def _feerate(kvb: int) -> str:
    """Up to three decimals below 10 sat/vB, one below 100, then none; cut, not rounded."""
    step = 1 if kvb < 10_000 else 100 if kvb < 100_000 else 1000
    return sat_per_vb(kvb // step * step)


def _percent(share: float) -> str:
    """A share as percent, cut (not rounded up) so that nothing short of all reads as 100."""
    return f"{int(share * 1000) / 10:.1f}".removesuffix(".0")


def clean(text: str, limit: int = NAME_LIMIT) -> str:
    """A name fit for a sentence: no control, format or bidirectional characters, no braces, at most `limit` long."""
    kept = (c for c in text if unicodedata.category(c)[0] != "C" and c not in "{}")
    return " ".join("".join(kept).split())[:limit].strip()
