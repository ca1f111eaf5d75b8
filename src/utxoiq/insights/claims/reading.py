"""A text taken apart, for the checks of what it claims."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from utxoiq.insights.figures import Traced
    from utxoiq.insights.lexicon import Allowed
    from utxoiq.models import Signal


SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
CLAUSE_END = re.compile(r"[.;](?!\d)")


@dataclass(frozen=True, slots=True)
class Reading:
    """A text taken apart; all its forms are of the same length."""

    text: str
    """With names masked."""
    rest: str
    """With figures and moments blanked, too."""
    traced: tuple[Traced, ...]
    signal: Signal
    allowed: Allowed
    about_signal: bool
    """Whether it tells what happened, and not how sure that is."""


def reasons(what: str, found: Iterable[str]) -> list[str]:
    """One reason that names what was found; none where nothing was."""
    told = sorted({one.strip() for one in found})
    return [f"{what} ({', '.join(told)})"] if told else []


def sentences(text: str) -> list[tuple[int, int]]:
    """Where each begins and ends."""
    ends = [match.end() for match in SENTENCE.finditer(text)]
    return list(pairwise([0, *ends, len(text)]))
