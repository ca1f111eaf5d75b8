"""Dates, times and odds of finished prose, held against those of the signal it speaks of."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from utxoiq.insights.numbers import SCALES
from utxoiq.insights.quantities import days_of, times_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from utxoiq.models import Signal

MONTHS = "january february march april may june july august september october november december".split()
MONTH = "|".join(f"{name}|{name[:3]}\\.?" for name in MONTHS) + "|sept\\.?"
ISO = re.compile(r"\b(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?(?:\s?(?:UTC|Z|GMT))?)?", re.IGNORECASE)
DAY_FIRST = re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?({MONTH})(?:,?\s+(\d{{4}}))?\b", re.IGNORECASE)
MONTH_FIRST = re.compile(rf"\b({MONTH})\s+(\d{{1,2}})(?:st|nd|rd|th)?(?:,?\s+(\d{{4}}))?\b", re.IGNORECASE)
MONTH_ALONE = re.compile(rf"\b({'|'.join(name.title() for name in MONTHS if name != 'may')})(?:\s+(\d{{4}}))?\b")
CLOCK = re.compile(
    r"(?:\b(?P<about>about|around|roughly|circa|close to|near|nearly|(?:shortly|just|soon) (?:before|after|past)) )?"
    r"\b(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d))?(?:\s?(?:UTC|Z|GMT))?",
    re.IGNORECASE,
)
HALF_DAY = re.compile(r"\b(?P<hour>\d{1,2})\s?(?P<half>[ap])\.?m\b\.?(?:\s?(?:UTC|Z|GMT))?", re.IGNORECASE)
"""A full hour, told as one of twelve."""
ABOUT_MINUTES = 20
"""How far a time told as a round one may be."""
ODDS_WITHIN = Decimal("1.3")
"""How much more likely than "one in so many" the signal may be, as a multiple."""

ODDS = re.compile(
    r"\b(?:one|1)[\s-]+in[\s-]+(?:(?P<n>\d[\d,]*)|(?P<word>a|one|ten|a\s+hundred|one\s+hundred)\b)"
    r"\s*(?P<scale>thousand|million|billion)?\b",
    re.IGNORECASE,
)
PER_DAY = re.compile(r"\b144 blocks (?:a|per|each|every) day\b")


def blank(match: re.Match[str]) -> str:
    """Spaces in place of a match, so that what follows stays where it is."""
    return " " * len(match[0])


def odds(text: str, signal: Signal) -> tuple[str, list[str]]:
    """Blank "one in so many"; tell of those that the chance the signal holds does not reach."""
    wrong: list[str] = []
    p = signal.metadata.get("p_value")

    def judge(match: re.Match[str]) -> str:
        words = (match["word"] or "").lower().split()
        number = Decimal((match["n"] or "").replace(",", "") or {"hundred": 100, "ten": 10}.get(words[-1], 1))
        odds = number.scaleb(SCALES.get((match["scale"] or "").lower(), 0))
        if odds <= 1:
            return match[0]
        if p is None or Decimal(repr(p)) * odds > ODDS_WITHIN:
            wrong.append(f"odds the signal doesn't hold ({match[0].strip()})")
        return blank(match)

    return ODDS.sub(judge, text), wrong


def moments(text: str, signal: Signal) -> tuple[str, list[str]]:
    """Blank every date and time that the signal holds; tell of those it doesn't."""
    moments, days = times_of(signal), days_of(signal)
    wrong: list[str] = []

    def judged(pattern: re.Pattern[str], holds: Callable[[re.Match[str]], bool], text: str) -> str:
        wrong.extend(match[0] for match in pattern.finditer(text) if not holds(match))
        return pattern.sub(blank, text)

    def is_day(year: str | None, month: str, number: str | None = None) -> bool:
        same = [day for day in days if _is_month(day, month) and year in (None, str(day.year))]
        return any(number is None or day.day == int(number) for day in same)

    rest = judged(ISO, lambda match: _iso_holds(match, moments, days), text)
    rest = judged(DAY_FIRST, lambda match: is_day(match[3], match[2], match[1]), rest)
    rest = judged(MONTH_FIRST, lambda match: is_day(match[3], match[1], match[2]), rest)
    rest = judged(MONTH_ALONE, lambda match: is_day(match[2], match[1]), rest)
    rest = judged(CLOCK, lambda match: any(_same_clock(match, moment) for moment in moments), rest)
    rest = judged(HALF_DAY, lambda match: any(_near_hour(match, moment) for moment in moments), rest)
    return rest, [f"a moment the signal doesn't hold ({one})" for one in wrong]


def _iso_holds(match: re.Match[str], moments: list[datetime], days: set[date]) -> bool:
    try:
        said = date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return False
    if match[4] is None:
        return said in days
    at = datetime(
        said.year, said.month, said.day, int(match[4]) % 24, int(match[5]) % 60, int(match[6] or 0) % 60, tzinfo=UTC
    )
    return any(moment.replace(second=moment.second if match[6] else 0) == at for moment in moments)


def _same_clock(match: re.Match[str], moment: datetime) -> bool:
    seconds = match["second"] is None or int(match["second"]) == moment.second
    apart = abs(60 * int(match["hour"]) + int(match["minute"]) - 60 * moment.hour - moment.minute)
    return apart <= (ABOUT_MINUTES if match["about"] else 0) and seconds


def _near_hour(match: re.Match[str], moment: datetime) -> bool:
    hour = int(match["hour"]) % 12 + (12 if match["half"].lower() == "p" else 0)
    return abs(60 * hour - 60 * moment.hour - moment.minute) <= ABOUT_MINUTES


def _is_month(day: date, month: str) -> bool:
    return MONTHS[day.month - 1].startswith(month.lower().rstrip(".")[:3])
