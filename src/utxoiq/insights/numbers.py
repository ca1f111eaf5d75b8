"""The numbers of finished prose: digits, words, fractions and multiples, with unit and bound as they are told."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from utxoiq.insights.lexicon import alternatives

if TYPE_CHECKING:
    from collections.abc import Iterator

STOP = (
    "a an and are as at but by for from had has have if in into is it its of on onto or per than that the to was were "
    "with"
).split()
"""Words no noun that a number counts stands behind."""
FILLER = rf"(?:(?!(?:{'|'.join(STOP)})\s)[a-z][a-z-]*\s+)"
UNITS = {
    "number": r"(?:btc|coin)[\s-]?blocks?\b|(?:of\s+)?coin[\s-]age\b",
    "BTC": r"btc\b(?!-)|bitcoins?\b|₿",
    "sat/vB": r"(?:sats?|satoshis?)\s*(?:/|per)\s*(?:vb(?:yte)?s?|virtual\s+bytes?)\b|s/vb\b",
    "sat/kvB": r"(?:sats?|satoshis?)\s*(?:/|per)\s*(?:kvb|kilo-?v(?:irtual\s+)?bytes?)\b",
    "sat": r"sats?\b|satoshis?\b",
    "%": r"%|percent\b|per\s+cent\b|(?:percentage\s+)?points?\b|pp\b",
    "times": r"(?:of\s+)?times\b(?!\s+(?:running|in\s+a\s+row|straight))|x\b|×|-?fold\b",
    "blocks": rf"{FILLER}{{0,2}}?blocks?\b|in\s+a\s+row\b|consecutive\b|straight\b|times\s+running\b",
    "transactions": rf"{FILLER}{{0,2}}?(?:transactions?|txs?|transfers?|payments?|deposits?|withdrawals?|spends?)\b",
    "inputs": rf"{FILLER}?(?:inputs?|coins?|pieces?|utxos?)\b",
    "outputs": rf"{FILLER}?(?:outputs?(?!\s+(?:about\s+|some\s+)?\d)|addresses|destinations?)\b",
    "pools": rf"{FILLER}{{0,2}}?(?:pools?|miners?)\b",
    "entities": rf"{FILLER}{{0,2}}?"
    r"(?:entities|entity|exchanges?|owners?|names?|venues?|holders?|treasur(?:y|ies)|compan(?:y|ies))\b",
    "seconds": r"seconds?\b|secs?\b|s\b",
    "minutes": r"minutes?\b|mins?\b",
    "hours": r"hours?\b|hrs?\b|h\b",
    "days": rf"{FILLER}?days?\b",
    "weeks": r"weeks?\b",
    "months": r"months?\b",
    "years": r"years?\b",
}
UNIT = {name: re.compile(rf"[\s-]*(?:{pattern})", re.IGNORECASE) for name, pattern in UNITS.items()}
"""After a number; tried in this order, the longest match counts."""
DURATIONS = ("seconds", "minutes", "hours", "days", "weeks", "months", "years")
SCALES = {"k": 3, "thousand": 3, "m": 6, "mn": 6, "million": 6, "bn": 9, "billion": 9}
NUMBER = re.compile(
    r"(?<![\w.,])(?P<digits>\d{1,3}(?:[,\u202f\u00a0' ]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?(?:e-?\d+)?)"
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
    "tenfold": Decimal(10), "hundredfold": Decimal(100), "thousandfold": Decimal(1000),
}  # fmt: skip
PARTS = {
    "half": Decimal(1) / 2, "third": Decimal(1) / 3, "quarter": Decimal(1) / 4, "fifth": Decimal(1) / 5,
    "sixth": Decimal(1) / 6, "seventh": Decimal(1) / 7, "eighth": Decimal(1) / 8, "ninth": Decimal(1) / 9,
    "tenth": Decimal(1) / 10, "twentieth": Decimal(1) / 20, "fortieth": Decimal(1) / 40,
}  # fmt: skip
FRACTION = re.compile(
    rf"\b(?<!and )(a|one|two|three|four|five|six|seven|eight|nine)[\s-]+({'|'.join(PARTS)})s?\b"
    r"(?! of the (?:past|last|previous))"
    r"(?:\s+of\s+a\s+(?P<scale>million|billion)\b)?",
    re.IGNORECASE,
)
SPELLED = re.compile(
    rf"\b(?:(?P<tens>{'|'.join(TENS)})(?:[\s-](?P<ones>{'|'.join(SMALL[1:10])}))?|(?P<small>{'|'.join(SMALL)}))"
    r"(?:\s+(?P<hundred>hundred)(?:\s+and\s+(?P<rest>[a-z]+(?:-[a-z]+)?))?)?(?P<half>\s+and\s+a\s+half)?"
    r"(?:\s+(?P<scale>thousand|million|billion))?\b",
    re.IGNORECASE,
)
MULTIPLE = re.compile(rf"\b(?:{'|'.join(MULTIPLES)})\b", re.IGNORECASE)
HEIGHT = re.compile(
    r"(?:(?<!usual )(?<!typical )\bblock(?:\s+(?:number|height|no\.?))?|\bheight(?:\s+of)?|#)\s*$", re.IGNORECASE
)
BOUNDS = {
    bound: re.compile(rf"(?:{alternatives(bound)})\s*(?:the\s+|a\s+)?$", re.IGNORECASE)
    for bound in ("about", "floor", "ceiling")
}
"""Before a number; the last that matches counts."""
PART_OF = re.compile(
    rf"\b(?P<part>{'|'.join(SMALL)}|\d+)\s+(?:\w+\s+)?(?:in|of|out\s+of)\s+(?:every\s+)?(?P<whole>four|five|ten|twenty|100)\b"
    r"(?!\s+(?:blocks|sums))",
    re.IGNORECASE,
)
"""A share told as so many of a round number."""
DIRECT = re.compile(r"[\s-]*(?:(?:full|whole|empty|virtual|recent|past)[\s-]+)?[a-z-]+", re.IGNORECASE)
"""A noun right behind its number, as of parts of a thing."""
PLAIN_UNITS = ("number", "BTC", "sat/kvB", "sat/vB", "sat", "%", "times", *DURATIONS)
"""Units that stand right behind their number, before any noun that is counted."""
HALF_OF = re.compile(
    r"\s+(?:of\s+)?(?:the\s+|a\s+)?(?:block|transactions|its|past|last|previous|earlier|comparable|other)\b|\s*(?:an\s+)?hour",
    re.IGNORECASE,
)
LASTED = re.compile(r"\b(\d+)\s+(?:minutes?|min)\s+(?:and\s+)?(\d+)\s+(?:seconds?|s)\b", re.IGNORECASE)
"""A time in two units."""
ONCE_MORE = re.compile(r"\b(?:twice|thrice)\b(?!\s+(?:as|the|its|that|what|more|over))", re.IGNORECASE)
"""How often something was done, and no multiple."""
ROUND = re.compile(
    r"\b(?:hundreds|thousands|dozens|scores(?= of)|millions|billions|countless)\b(?! of (?:a|sats))", re.IGNORECASE
)
"""A number nobody counted."""
MAGNITUDES = {name: Decimal(10) ** power for name, power in (("hundreds", 2), ("thousands", 3), ("millions", 6))}
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
    """`exact`, `about`, `floor`, `ceiling` or `magnitude`."""


def figures_in(text: str) -> Iterator[Figure]:
    """The numbers of a text, in digits and in words."""
    taken: list[range] = []
    for pattern, read in (
        (LASTED, _composed), (FRACTION, _composed), (PART_OF, _composed), (NUMBER, _in_digits), (SPELLED, _spelled),
        (MULTIPLE, _multiple), (ROUND, _uncounted),
    ):  # fmt: skip
        for match in pattern.finditer(text):
            figure = None if any(match.start() in one for one in taken) else read(text, match)
            if figure:
                taken.append(range(*match.span()))
                yield figure


def _in_digits(text: str, match: re.Match[str]) -> Figure:
    digits = re.sub(r"[,\u202f\u00a0' ]", "", match["digits"])
    scale = SCALES.get((match["scale"] or "").lower(), 0)
    return _figure(text, match.span(), Decimal(digits).scaleb(scale), _step(digits, scale))


def _uncounted(text: str, match: re.Match[str]) -> Figure:
    """One of which only the order of magnitude is told."""
    value = MAGNITUDES.get(match[0].lower(), Decimal(-1))
    return _figure(text, match.span(), value, Decimal(1))._replace(bound="magnitude")


def _composed(text: str, match: re.Match[str]) -> Figure | None:
    """A number of several words: a time in two units, a fraction, or so many of a round number."""
    if match.re is LASTED:
        seconds = Decimal(60 * int(match[1]) + int(match[2]))
        return _figure(text, match.span(), seconds, Decimal(1))._replace(unit="seconds")
    if match.re is FRACTION:
        part = WORDS.get(match[1].lower(), 1) * PARTS[match[2].lower()]
        if scale := match["scale"]:
            return _figure(text, match.span(), part.scaleb(SCALES[scale.lower()]), Decimal(1))._replace(bound="about")
        return _part(text, match, 100 * part)
    part, whole = (_whole_number(match[name]) for name in ("part", "whole"))
    return _part(text, match, 100 * part / whole) if 1 <= part < whole else None


def _whole_number(word: str) -> Decimal:
    return Decimal(word) if word.isdigit() else Decimal(WORDS[word.lower()])


def _part(text: str, match: re.Match[str], percent: Decimal) -> Figure:
    figure = _figure(text, match.span(), percent, Decimal(1))
    return figure._replace(unit="%", bound="about" if figure.bound == "exact" else figure.bound)


def _figure(text: str, span: tuple[int, int], value: Decimal, step: Decimal) -> Figure:
    start, end = span
    return Figure(text[start:end], start, end, value, step, _unit(text, start, end), _bound(text, start, end))


def _bound(text: str, start: int, end: int) -> str:
    """Whether it is told as exact, as a round one, or as a bound."""
    told = [bound for bound, pattern in BOUNDS.items() if pattern.search(text[:start])]
    if told:
        return told[-1]
    behind = re.match(r"[^.;]{0,12}?\b(?:or\s+(so|thereabouts)|(?:or|and)\s+(more|upwards?|above|over))\b", text[end:])
    if not behind:
        return "exact"
    return "about" if behind[1] else "floor"


def _unit(text: str, start: int, end: int) -> str | None:
    """The unit that stands behind a number; of nouns that are counted, the nearest."""
    found = {name: match.end() for name, pattern in UNIT.items() if (match := pattern.match(text, end))}
    if "." in text[start:end]:
        found = {name: at for name, at in found.items() if name in PLAIN_UNITS or DIRECT.fullmatch(text, end, at)}
    plain = [(found[name], name) for name in PLAIN_UNITS if name in found]
    if HEIGHT.search(text[:start]) and not plain and "." not in text[start:end]:
        return "height"
    if plain:
        return max(plain)[1]
    return min((at, name) for name, at in found.items())[1] if found else None


def _step(digits: str, scale: int) -> Decimal:
    """What one more in the last digit that carries something is worth."""
    if "." in digits:
        return Decimal(1).scaleb(scale - len(digits.split(".")[1]))
    zeros = len(digits) - len(digits.rstrip("0"))
    return Decimal(1).scaleb(scale + (zeros if len(digits) - zeros >= 1 else 0))


def _spelled(text: str, match: re.Match[str]) -> Figure | None:
    value = Decimal(sum(WORDS[match[name].lower()] for name in ("tens", "ones", "small") if match[name]))
    if match["hundred"]:
        value = value * 100 + sum(WORDS.get(word, 0) for word in (match["rest"] or "").lower().split("-"))
    value += Decimal("0.5") if match["half"] else 0
    scale = SCALES[match["scale"].lower()] if match["scale"] else 0
    figure = _figure(text, match.span(), value.scaleb(scale), Decimal("0.5" if match["half"] else 1).scaleb(scale))
    is_pronoun = (not scale and value in (0, 1)) or (value == 2 and figure.unit is None)  # "one of", "the two"
    return None if is_pronoun else figure


def _multiple(text: str, match: re.Match[str]) -> Figure | None:
    value, is_half = MULTIPLES[match[0].lower()], match[0].lower() == "half"
    if is_half and HALF_OF.match(text, match.end()):
        return None
    figure = _figure(text, match.span(), 100 * value if is_half else value, Decimal(1))
    if ONCE_MORE.match(text, match.start()):
        return figure._replace(unit=None)
    bound = "about" if figure.bound == "exact" else figure.bound
    return figure._replace(unit="%" if is_half else "times", bound=bound)
