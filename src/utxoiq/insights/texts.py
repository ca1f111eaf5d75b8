"""The whole check of a text, with slots or without, before it is published."""

from __future__ import annotations

from typing import TYPE_CHECKING

from utxoiq.insights.checker import InsightContent, check, check_shape
from utxoiq.insights.lexicon import NAME, OTHER
from utxoiq.insights.prose import check_prose
from utxoiq.insights.slots import fill, names_in, slots_of

if TYPE_CHECKING:
    from utxoiq.models import Signal

MARKS = {"entity_name": NAME, "pool_name": NAME, "ticker": NAME, "entity_id": NAME, "address": NAME,
         "holder": NAME, "counterparty": OTHER}  # fmt: skip
"""Slots that hold somebody's name, which may be any words."""
NAMELESS = ("basis", "holdings_as_of", "prediction_type", "model_version", "pool_by", "direction")
"""Slots of text whose words are the program's own."""


def reasons_against(content: InsightContent, signal: Signal) -> list[str]:
    """Why a text with slots must not be published: checked with them, and filled."""
    slots = slots_of(signal)
    reasons = check(content, signal, slots)
    if reasons:
        return reasons
    marked = {name: MARKS.get(name, "" if name in NAMELESS else text) for name, text in slots.items()}
    return check_prose({part: fill(text, marked) for part, text in content.texts.items()}, signal)


def reasons_against_prose(content: InsightContent, signal: Signal) -> list[str]:
    """Why a finished text, in which figures and names stand as they are, must not be believed."""
    return check_prose(content.texts, signal) or check_shape(content, {})


def has_slots(content: InsightContent) -> bool:
    """Whether a text holds slots, or braces that are none."""
    try:
        return any(names_in(text) for text in content.texts.values())
    except ValueError:
        return True
