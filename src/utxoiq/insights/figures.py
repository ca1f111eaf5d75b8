"""Figures and moments of finished prose, each traced to a value of the signal it speaks of."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from utxoiq.insights.lexicon import alternatives
from utxoiq.insights.quantities import Quantity, days_of, quantities_of, times_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from utxoiq.models import Signal

UNITS = {
    "number": r"(?:btc|coin)[\s-]?blocks?\b",
    "BTC": r"btc\b(?!-)|bitcoins?\b|₿",
    "sat/vB": r"(?:sats?|satoshis?)\s*(?:/|per)\s*(?:vb(?:yte)?s?|virtual\s+bytes?)\b|s/vb\b",
    "sat/kvB": r"(?:sats?|satoshis?)\s*(?:/|per)\s*(?:kvb|kilo-?v(?:irtual\s+)?bytes?)\b",
    "sat": r"sats?\b|satoshis?\b",
    "%": r"%|percent\b|per\s+cent\b|percentage\s+points?\b|pp\b",
    "times": r"times\b|x\b|×|-?fold\b",
    "blocks": r"(?:(?!in\s)\w+\s+){0,2}?blocks?\b|in\s+a\s+row\b|consecutive\b|straight\b",
    "transactions": r"(?:\w+\s+){0,2}?(?:transactions?|txs?|transfers?|payments?|deposits?|withdrawals?|spends?)\b",
    "inputs": r"(?:\w+\s+)?(?:inputs?|coins?|pieces?|utxos?)\b",
    "outputs": r"(?:\w+\s+)?(?:outputs?|addresses|destinations?)\b",
    "pools": r"(?:\w+\s+){0,2}?(?:pools?|miners?)\b",
    "entities": r"(?:\w+\s+){0,2}?"
    r"(?:entities|entity|exchanges?|owners?|names?|venues?|holders?|treasur(?:y|ies)|compan(?:y|ies))\b",
    "seconds": r"seconds?\b|secs?\b|s\b",
    "minutes": r"minutes?\b|mins?\b",
    "hours": r"hours?\b|hrs?\b|h\b",
    "days": r"(?:\w+\s+)?days?\b",
    "weeks": r"weeks?\b",
    "months": r"months?\b",
    "years": r"years?\b",
}
UNIT = {name: re.compile(rf"[\s-]*(?:{pattern})", re.IGNORECASE) for name, pattern in UNITS.items()}
"""After a number; tried in this order, the longest match counts."""
DURATIONS = ("seconds", "minutes", "hours", "days", "weeks", "months", "years")
SCALES = {"k": 3, "thousand": 3, "m": 6, "mn": 6, "million": 6, "bn": 9, "billion": 9}
NUMBER = re.compile(
    r"(?<![\w.,])(?P<digits>\d{1,3}(?:[,\u202f\u00a0' ]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
    r"(?:\s?(?P<scale>k|thousand|mn|million|bn|billion|m)\b)?(?![\d])",
    re.IGNORECASE,
)
SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
WORDS = {word: n for n, word in enumerate(SMALL)} | {word: 10 * n for n, word in enumerate(TENS, 2)}
MULTIPLES = {
    "half": Decimal("0.5"), "double": Decimal(2), "doubled": Decimal(2), "twice": Decimal(2), "triple": Decimal(3),
    "tripled": Decimal(3), "thrice": Decimal(3), "quadruple": Decimal(4), "quadrupled": Decimal(4),
    "twofold": Decimal(2), "threefold": Decimal(3), "fourfold": Decimal(4), "fivefold": Decimal(5),
    "tenfold": Decimal(10),
}  # fmt: skip
PARTS = {"third": Decimal(1) / 3, "quarter": Decimal("0.25"), "fifth": Decimal("0.2"), "tenth": Decimal("0.1")}
FRACTION = re.compile(r"\b(a|one|two|three|four)[\s-]+(third|quarter|fifth|tenth)s?\b", re.IGNORECASE)
SPELLED = re.compile(
    rf"\b(?:(?P<tens>{'|'.join(TENS)})(?:[\s-](?P<ones>{'|'.join(SMALL[1:10])}))?|(?P<small>{'|'.join(SMALL)}))"
    r"(?:\s+(?P<hundred>hundred)(?:\s+and\s+(?P<rest>[a-z]+(?:-[a-z]+)?))?)?\b",
    re.IGNORECASE,
)
MULTIPLE = re.compile(rf"\b(?:{'|'.join(MULTIPLES)})\b", re.IGNORECASE)
MONTHS = "january february march april may june july august september october november december".split()
MONTH = "|".join(f"{name}|{name[:3]}\\.?" for name in MONTHS) + "|sept\\.?"
ISO = re.compile(r"\b(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?(?:\s?(?:UTC|Z|GMT))?)?", re.IGNORECASE)
DAY_FIRST = re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?({MONTH})(?:,?\s+(\d{{4}}))?\b", re.IGNORECASE)
MONTH_FIRST = re.compile(rf"\b({MONTH})\s+(\d{{1,2}})(?:st|nd|rd|th)?(?:,?\s+(\d{{4}}))?\b", re.IGNORECASE)
MONTH_ALONE = re.compile(rf"\b({'|'.join(name.title() for name in MONTHS if name != 'may')})(?:\s+(\d{{4}}))?\b")
CLOCK = re.compile(r"\b(\d{1,2}):(\d\d)(?::(\d\d))?(?:\s?(?:UTC|Z|GMT))?", re.IGNORECASE)
HEIGHT = re.compile(r"(?:\bblock(?:\s+(?:number|height|no\.?))?|\bheight(?:\s+of)?|#)\s*$", re.IGNORECASE)
BOUNDS = {
    bound: re.compile(rf"(?:{alternatives(bound)})\s*(?:the\s+|a\s+)?$", re.IGNORECASE)
    for bound in ("about", "floor", "ceiling")
}
"""Before a number; the last that matches counts."""
COUNTED = {"blocks", "transactions", "inputs", "outputs", "pools", "entities", "count", "coins", "height"}
BARE = {"count", "number", "coins", "times", "height"}
"""Units of figures that may stand without one."""
EXACT_WITHIN, ABOUT_WITHIN, BOUND_WITHIN = Decimal("0.006"), Decimal("0.055"), Decimal("0.11")
"""How far from the value a figure may be, as a share of it."""
ODDS_WITHIN = Decimal("1.1")
"""How much more likely than "one in so many" the signal may be, as a multiple."""

ODDS = re.compile(
    r"\b(?:one|1)\s+in\s+(?:(?P<n>\d[\d,]*)|(?P<word>a|one|ten|a\s+hundred|one\s+hundred)\b)"
    r"\s*(?P<scale>thousand|million|billion)?\b",
    re.IGNORECASE,
)
PER_DAY = re.compile(r"\b144 blocks (?:a|per|each|every) day\b")
PLAIN_UNITS = ("number", "BTC", "sat/kvB", "sat/vB", "sat", "%", "times", *DURATIONS)
"""Units that stand right behind their number, before any noun that is counted."""
HALF_OF = re.compile(r"\s+(?:of\s+)?(?:the\s+)?(?:block|transactions|its)\b|\s*(?:an\s+)?hour", re.IGNORECASE)
"""After `half`: no figure, but a median that is told, or thirty minutes."""


class Figure(NamedTuple):
    """A number of a text."""

    text: str
    start: int
    end: int
    value: Decimal
    step: Decimal
    """Of its last written digit."""
    unit: str | None
    bound: str
    """`exact`, `about`, `floor` or `ceiling`."""


class Traced(NamedTuple):
    """A number with the values it may be; none where the signal holds no such value."""

    figure: Figure
    values: list[Quantity]


def blank(match: re.Match[str]) -> str:
    """Spaces in place of a match, so that what follows stays where it is."""
    return " " * len(match[0])


def trace(text: str, signal: Signal, *, of_confidence: bool = False) -> tuple[list[Traced], list[str], str]:
    """The numbers of a text with what they may be, what is wrong with its moments and odds, and the text with all of
    them blanked. `of_confidence`: how values relate to each other is no matter of the text."""
    rest, wrong = _moments(text, signal)
    rest, wrong_odds = _odds(PER_DAY.sub(blank, rest), signal)
    known = quantities_of(signal)
    if of_confidence:
        known = [one for one in known if not one.name.endswith(("_ratio", "_difference"))]
    figures = list(figures_in(rest))
    for figure in figures:
        rest = rest[: figure.start] + " " * (figure.end - figure.start) + rest[figure.end :]
    return [Traced(figure, [one for one in known if fits(figure, one)]) for figure in figures], wrong + wrong_odds, rest


def fits(figure: Figure, quantity: Quantity) -> bool:
    """Whether a number may stand for a value: its unit, and rounded or cut as it is written."""
    if figure.unit is None:
        same_unit = quantity.unit in BARE | COUNTED
    elif quantity.unit in ("count", "coins"):
        same_unit = figure.unit in COUNTED | {"times"}
    else:
        same_unit = figure.unit == quantity.unit
    return same_unit and _near(figure, quantity)


def _near(figure: Figure, quantity: Quantity) -> bool:
    said, held = figure.value, quantity.value
    is_whole = held == held.to_integral()
    if quantity.unit == "height" or (is_whole and abs(held) < 100 and figure.bound == "exact"):
        return said == held
    cut = not is_whole or figure.step < 1  # figures are cut as often as they are rounded
    slack = figure.step if cut else figure.step / 2
    if figure.bound == "about":
        return abs(said - held) <= max(slack, abs(held) * ABOUT_WITHIN)
    if figure.bound in ("floor", "ceiling"):
        over = said - held if figure.bound == "floor" else held - said
        return -max(slack, abs(held) * BOUND_WITHIN) <= over <= slack
    written = figure.step if "." in figure.text else Decimal(0)  # the digits after a point are meant
    return abs(said - held) <= min(slack, max(written, abs(held) * EXACT_WITHIN, Decimal("0.5")))


def figures_in(text: str) -> Iterator[Figure]:
    """The numbers of a text, in digits and in words."""
    taken: list[tuple[int, int]] = []
    for match in FRACTION.finditer(text):
        percent = 100 * WORDS.get(match[1].lower(), 1) * PARTS[match[2].lower()]
        yield _figure(text, match.span(), percent, Decimal(1))._replace(unit="%", bound="about")
        taken.append(match.span())
    for match in NUMBER.finditer(text):
        digits = re.sub(r"[,\u202f\u00a0' ]", "", match["digits"])
        scale = SCALES.get((match["scale"] or "").lower(), 0)
        yield _figure(text, match.span(), Decimal(digits).scaleb(scale), _step(digits, scale))
        taken.append(match.span())
    for match in SPELLED.finditer(text):
        if not any(start <= match.start() < end for start, end in taken):
            yield from _spelled(text, match)
    for match in MULTIPLE.finditer(text):
        yield from _multiple(text, match)


def _figure(text: str, span: tuple[int, int], value: Decimal, step: Decimal) -> Figure:
    start, end = span
    return Figure(text[start:end], start, end, value, step, _unit(text, start, end), _bound(text, start, end))


def _bound(text: str, start: int, end: int) -> str:
    """Whether it is told as exact, as a round one, or as a bound."""
    told = [bound for bound, pattern in BOUNDS.items() if pattern.search(text[:start])]
    behind = re.match(r"[^.;]{0,12}?\bor\s+(?:so|more)\b", text[end:])
    if told or not behind:
        return told[-1] if told else "exact"
    return "floor" if re.match(r"[^.;]{0,12}?\bor\s+more\b", text[end:]) else "about"


def _unit(text: str, start: int, end: int) -> str | None:
    """The unit that stands behind a number; of nouns that are counted, the nearest."""
    if HEIGHT.search(text[:start]):
        return "height"
    found = {name: match.end() for name, pattern in UNIT.items() if (match := pattern.match(text, end))}
    plain = [(found[name], name) for name in PLAIN_UNITS if name in found]
    if plain:
        return max(plain)[1]
    return min((at, name) for name, at in found.items())[1] if found else None


def _step(digits: str, scale: int) -> Decimal:
    """What one more in the last digit that carries something is worth."""
    if "." in digits:
        return Decimal(1).scaleb(scale - len(digits.split(".")[1]))
    zeros = len(digits) - len(digits.rstrip("0"))
    return Decimal(1).scaleb(scale + (zeros if len(digits) - zeros >= 1 else 0))


def _spelled(text: str, match: re.Match[str]) -> Iterator[Figure]:
    value = sum(WORDS[match[name].lower()] for name in ("tens", "ones", "small") if match[name])
    if match["hundred"]:
        value = value * 100 + sum(WORDS.get(word, 0) for word in (match["rest"] or "").lower().split("-"))
    figure = _figure(text, match.span(), Decimal(value), Decimal(1))
    if value in (0, 1) or (value == 2 and figure.unit is None):
        return  # "one of", "the one before", "the two": pronouns more often than figures
    yield figure


def _multiple(text: str, match: re.Match[str]) -> Iterator[Figure]:
    is_half = match[0].lower() == "half"
    if is_half and HALF_OF.match(text, match.end()):
        return
    value = MULTIPLES[match[0].lower()]
    figure = _figure(text, match.span(), 100 * value if is_half else value, Decimal(1))
    unit, bound = "%" if is_half else "times", "about" if figure.bound == "exact" else figure.bound
    yield figure._replace(unit=unit, bound=bound)


def _odds(text: str, signal: Signal) -> tuple[str, list[str]]:
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


def _moments(text: str, signal: Signal) -> tuple[str, list[str]]:
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
    seconds = match[3] is None or int(match[3]) == moment.second
    return (int(match[1]), int(match[2])) == (moment.hour, moment.minute) and seconds


def _is_month(day: date, month: str) -> bool:
    return MONTHS[day.month - 1].startswith(month.lower().rstrip(".")[:3])
