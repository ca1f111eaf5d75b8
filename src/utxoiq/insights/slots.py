"""Slots: the only way a number, name or date gets into a text. Each is filled by the program from the signal."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from utxoiq.processors.discovery import declared_kinds
from utxoiq.processors.metadata import TYPES, Unit
from utxoiq.units import btc, sat_per_vb, utc

if TYPE_CHECKING:
    from utxoiq.models import Signal

NAME_LIMIT = 32
LIMITS = {"basis": 100, "address": 90}
"""Of texts that are no names; a bech32 address has up to 90 characters (BIP 173)."""
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
    units = _units(signal)
    shown = {name: _show(name, value, units.get(name)) for name, value in values.items()}
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


OF_ALL: Mapping[str, Unit] = {
    "height": "height",
    "block_time": "time",
    "confidence": "share",
    "cases": "count",
    "basis": "text",
}
"""Units of the slots every signal has."""
HORIZONS = {"next_block": "the next block", "1h": "about an hour", "24h": "about a day"}
NOUNS: Mapping[Unit, str] = {
    "transactions": "transaction",
    "blocks": "block",
    "pools": "pool",
    "entities": "entity",
    "inputs": "input",
    "outputs": "output",
    "seconds": "second",
}
PLURALS = {"entity": "entities"}


def _units(signal: Signal) -> Mapping[str, Unit]:
    """The unit of each slot, as the signal's processor declares them."""
    schema = declared_kinds().get((signal.signal_type, signal.kind), {})
    return {**{name: field.unit for name, field in schema.items()}, **OF_ALL}


def _show(name: str, value: Any, unit: Unit | None) -> str | None:
    """The text of one value, None where it is unknown or not of the type its unit has."""
    if unit in (None, "list") or type(value) not in TYPES[unit]:
        return None
    if isinstance(value, str):
        return HORIZONS.get(value) if unit == "horizon" else clean(value, LIMITS.get(name, NAME_LIMIT))
    if unit in SHOWN:
        return SHOWN[unit](value)
    number = f"{value:,.0f}" if isinstance(value, float) and abs(value) >= 100 else f"{value:,}"
    noun = NOUNS.get(unit)
    return f"{number} {noun if value == 1 else PLURALS.get(noun, noun + 's')}" if noun else number


def _chance(p: float) -> str:
    """A small probability in percent, to two figures."""
    if p < 0.0001:
        return "less than 0.01%"
    return f"{float(f'{100 * p:.2g}'):g}%"


def _feerate(kvb: int) -> str:
    """Up to three decimals below 10 sat/vB, one below 1,000, then none; cut, not rounded."""
    step = 1 if kvb < 10_000 else 100 if kvb < 1_000_000 else 1000
    return sat_per_vb(kvb // step * step)


def _percent(share: float) -> str:
    """A share as percent, cut (not rounded up) so that nothing short of all reads as 100."""
    return f"{int(share * 1000) / 10:.1f}".removesuffix(".0")


def clean(text: str, limit: int = NAME_LIMIT) -> str:
    """A name fit for a sentence: no control, format or bidirectional character, no mark without a letter, nothing that
    braces, brackets or links are made of, at most `limit` long."""
    plain = SCHEME.sub(" ", unicodedata.normalize("NFC", text))
    spaced = "".join(" " if c.isspace() else c for c in plain)
    kept = (c for c in spaced if unicodedata.category(c) not in HIDDEN and c not in UNFIT)
    return " ".join("".join(kept).split())[:limit].strip()


SCHEME = re.compile(r"://|\b(?:javascript|vbscript|data|file|mailto):", re.IGNORECASE)
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Mn", "Me")
UNFIT = "{}[]<>`\\\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"


SHOWN: Mapping[Unit, Callable[[Any], str]] = {
    "sat": lambda sat: f"{btc(sat)} BTC",
    "share": lambda share: f"{_percent(share)}%",
    "probability": _chance,
    "sat/kvB": lambda kvb: f"{_feerate(kvb)} sat/vB",
    "time": lambda time: utc(time).replace("T", " ").removesuffix("Z") + " UTC",
}
