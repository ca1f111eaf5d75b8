"""The numbers of finished prose: digits, words, fractions and multiples, with unit and bound as they are told."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from utxoiq.insights.lexicon import alternatives

if TYPE_CHECKING:
    from collections.abc import Iterator

STOP = (
    "a an added and are as at but by for from had has have if in into is it its of on onto or per than that the to was "
    "were with"
).split()
"""Words no noun that a number counts stands behind."""
FILLER = rf"(?:(?!(?:{'|'.join(STOP)})\s)[a-z][a-z-]*\s+)"
UNITS = {
    "number": r"(?:btc|coin)[\s-]?blocks?\b|(?:of\s+)?coin[\s-]age\b",
    "BTC": r"btc\b(?!-blocks?|-days?)|₿|"
    r"bitcoins?\b(?!\s+(?:blocks?|transactions?|payments?|pools?|miners?|exchanges?|address\w*)\b)",
    "sat/vB": r"(?:sats?|satoshis?)\s*(?:/|per)\s*(?:vb(?:yte)?s?|virtual\s+bytes?)\b|s/vb\b",
    "sat/kvB": r"(?:sats?|satoshis?)\s*(?:/|per)\s*(?:kvb|kilo-?v(?:irtual\s+)?bytes?)\b",
    "sat": r"(?:(?:more|fewer|less)\s+)?(?:sats?|satoshis?)\b",
    "%": r"%|percent\b|per\s+cent\b|pct\b|(?:percentage\s+)?points?\b|pp\b|(?<=\d)th\s+percentile\b|(?<=\.\d)th\b",
    "orders": r"orders?\s+of\s+magnitude\b",
    "times": r"(?:of\s+)?times\b(?!\s+(?:running|in\s+a\s+row|straight))|x\b|×|-?fold\b",
    "blocks": rf"{FILLER}{{0,2}}?(?:blo?c?ks|heights)\b|blk\b|(?:(?<=-)|(?<=one\s)|(?<=single\s))block\b|"
    r"in\s+a\s+row\b|consecutive\b|block\s+(?:window|lookback|span|period|stretch|range|sums?)\b|straight\b|times\s+running\b",
    "transactions": rf"{FILLER}{{0,2}}?(?:transactions?|txn?s?|transfers?|payments?|deposits?|withdrawals?|spends?)\b",
    "inputs": rf"{FILLER}?(?:inputs?|coins?|pieces?|utxos?)\b",
    "outputs": rf"{FILLER}?(?:outputs?(?!\s+(?:about\s+|some\s+)?\d)|addresses|destinations?)\b",
    "pools": rf"{FILLER}{{0,2}}?(?:pools?|miners?)\b",
    "entities": rf"{FILLER}{{0,2}}?"
    r"(?:entities|entity|exchanges?|owners?|names?|venues?|holders?|treasur(?:y|ies)|compan(?:y|ies))\b",
    "seconds": r"seconds?\b|secs?\b|s\b",
    "minutes": r"minutes?\b|mins?\b",
    "hours": r"hours?\b|hrs?\b|h\b",
    "days": rf"{FILLER}?days?\b|d\b",
    "weeks": r"weeks?\b",
    "months": r"months?\b",
    "years": r"years?\b",
}
UNIT = {name: re.compile(rf"(?:-plus|[\s+-])*(?:{pattern})", re.IGNORECASE) for name, pattern in UNITS.items()}
"""After a number; tried in this order, the longest match counts."""
DURATIONS = ("seconds", "minutes", "hours", "days", "weeks", "months", "years")
SCALES = {"k": 3, "thousand": 3, "m": 6, "mn": 6, "million": 6, "bn": 9, "billion": 9, "tn": 12, "trillion": 12}
NUMBER = re.compile(
    r"(?<![\w.,])(?P<digits>\d{1,3}(?:[,\u202f\u00a0' ]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?(?:e-?\d+)?)"
    r"(?P<half>\s+and\s+a\s+half\b)?(?:\s?(?P<scale>k|thousand|mn|million|bn|billion|tn|trillion|m)\b)?(?![\d])",
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
    "quintuple": Decimal(5), "quintupled": Decimal(5),
    "hundredfold": Decimal(100), "thousandfold": Decimal(1000),
    **{f"{word}fold": Decimal(n) for word, n in WORDS.items() if n > 1},
}  # fmt: skip
DOZENS = {"half a dozen": 6, "a dozen": 12, "two dozen": 24, "three dozen": 36}
ORDINALS = "first second third fourth fifth sixth seventh eighth ninth".split()
PARTS = {
    "half": Decimal(1) / 2, "quarter": Decimal(1) / 4, "tenth": Decimal(1) / 10, "hundredth": Decimal(1) / 100,
    **{word: Decimal(1) / n for n, word in enumerate(ORDINALS[2:], 3)},
    **{f"{word[:-1]}ieth": Decimal(1) / WORDS[word] for word in TENS},
    **{f"{tens}-{word}": Decimal(1) / (WORDS[tens] + n) for tens in TENS for n, word in enumerate(ORDINALS, 1)},
    **{f"{word}-hundredth": Decimal(1) / (100 * n) for n, word in enumerate(SMALL[:10]) if n},
}  # fmt: skip
FRACTION = re.compile(
    rf"\b(?<!and )(a|{'|'.join(SMALL[1:])})[\s-]+({'|'.join(sorted(PARTS, key=len, reverse=True))})s?\b"
    r"(?! of the (?:past|last|previous)| (?:block|time|straight|consecutive)\b)"
    r"(?:\s+of\s+a\s+(?P<scale>million|billion)\b)?",
    re.IGNORECASE,
)
SPELLED = re.compile(
    rf"\b(?:(?P<tens>{'|'.join(TENS)})(?:[\s-](?P<ones>{'|'.join(SMALL[1:10])}))?|(?P<small>{'|'.join(SMALL)}))"
    r"(?:\s+(?P<hundred>hundred)(?:\s+and\s+(?P<rest>[a-z]+(?:-[a-z]+)?))?)?(?P<half>\s+and\s+a\s+half)?"
    r"(?:\s+(?P<scale>thousand|million|billion|trillion))?\b",
    re.IGNORECASE,
)
MULTIPLE = re.compile(rf"\b(?:{'|'.join(MULTIPLES)})\b", re.IGNORECASE)
DOZEN = re.compile(rf"\b(?:{'|'.join(DOZENS)})\b", re.IGNORECASE)
OF_ONE = re.compile(
    r"\s+(?:of\s+)?(?:an?|one)\s+(?:single\s+)?(?=bitcoin|btc|sat|block\b(?!.s)|minute|percent|per cent)",
    re.IGNORECASE,
)
"""Between a fraction and the unit it is of."""
OF_A_BLOCK = re.compile(
    r"\s*(?:%|percent|per cent)\s+of\s+(?:a|one)\s+(?:full\s+|single\s+)?block\b(?!.s)", re.IGNORECASE
)
IN_MANY = re.compile(
    rf"(?<![\w.,])(?P<part>\d+(?:\.\d+)?|{'|'.join(SMALL[1:])})\s+(?:times\s+|cases\s+|chances?\s+)?(?:in|out\s+of)\s+"
    r"(?:(?:every|an?|one)\s+)?(?:(?P<whole>\d{1,3}(?:,?000)*)\b)?(?:\s*(?P<scale>hundred|thousand|million|billion)\b)?",
    re.IGNORECASE,
)
"""A probability or share as so many in a large round number."""
HEIGHT = re.compile(
    r"(?:(?<!usual )(?<!typical )\bblock(?:\s+(?:number|height|no\.?))?|\bheight(?:\s+of)?|#)\s*$", re.IGNORECASE
)
BOUNDS = {
    bound: re.compile(rf"(?:{alternatives(bound)})\s*(?:the\s+|a\s+)?$", re.IGNORECASE)
    for bound in ("about", "floor", "ceiling")
}
"""Before a number; the last that matches counts."""
PART_OF = re.compile(
    rf"(?<![\w.,])(?P<part>{'|'.join(SMALL)}|\d+)\s+(?:\w+\s+)?(?P<way>in|of|out\s+of)\s+(?P<every>every\s+)?"
    rf"(?P<whole>{'|'.join((*SMALL[2:], *TENS))}|\d{{1,3}})\b(?![,.]\d)"
    r"(?P<counted>\s+(?:blocks|hours|days|sums|earlier|such|like|similar|comparable|past|previous)\b)?",
    re.IGNORECASE,
)
"""A share told as so many of others."""
ROUND_WHOLES = {4, 5, 10, 20, 100}
"""Of what shares are told so, where it is not said to be of every so many."""
DIRECT = re.compile(r"[\s-]*(?:(?:full|whole|empty|virtual|recent|past)[\s-]+)?[a-z-]+", re.IGNORECASE)
"""A noun right behind its number, as of parts of a thing."""
PART_STEPS = 8
"""How finely fractions are told: a third stands for what lies within an eighth of it."""
PLAIN_UNITS = ("number", "BTC", "sat/kvB", "sat/vB", "sat", "%", "times", *DURATIONS)
"""Units that stand right behind their number, before any noun that is counted."""
HALF_OF = re.compile(
    r"\s+(?:of\s+)?(?:the\s+|a\s+)?(?:block|transactions|its|past|last|previous|earlier|comparable|other)\b|\s*(?:an\s+)?hour",
    re.IGNORECASE,
)
"""After `half`: no figure, but a median that is told, or thirty minutes."""
LASTED = re.compile(r"\b(\d+)\s+(?:minutes?|min)\s+(?:and\s+)?(\d+)\s+(?:seconds?|s)\b", re.IGNORECASE)
"""A time in two units."""
ONCE_MORE = re.compile(r"\b(?:twice|thrice)\b(?!\s+(?:as|the|its|that|what|more|over))", re.IGNORECASE)
"""How often something was done, and no multiple."""
ROUND = re.compile(
    r"\b(?:(?:tens|hundreds) of (?:thousands|millions)|hundreds|thousands|dozens|scores(?= of)|millions|billions|"
    r"countless)\b(?! of (?:a|sats))",
    re.IGNORECASE,
)
"""A number nobody counted."""
MAGNITUDES = {
    name: Decimal(10) ** power
    for name, power in (("hundreds", 2), ("thousands", 3), ("tens of thousands", 4), ("hundreds of thousands", 5),
                        ("millions", 6), ("tens of millions", 7), ("hundreds of millions", 8))
}  # fmt: skip
HALF_SCALE = re.compile(r"\bhalf a (?P<scale>thousand|million|billion|trillion)\b", re.IGNORECASE)
"""Half of a large round number."""


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
        (LASTED, _composed), (HALF_SCALE, _half_scale), (FRACTION, _composed), (IN_MANY, _in_many),
        (PART_OF, _composed), (DOZEN, _dozen), (NUMBER, _in_digits), (SPELLED, _spelled), (MULTIPLE, _multiple),
        (ROUND, _uncounted),
    ):  # fmt: skip
        for match in pattern.finditer(text):
            figure = None if any(match.start() in one for one in taken) else read(text, match)
            if figure:
                taken.append(range(*match.span()))
                yield figure


def _in_digits(text: str, match: re.Match[str]) -> Figure:
    digits = re.sub(r"[,\u202f\u00a0' ]", "", match["digits"])
    scale = SCALES.get((match["scale"] or "").lower(), 0)
    value, step = Decimal(digits), _step(digits, scale)
    if match["half"]:
        value, step = value + Decimal("0.5"), Decimal("0.5").scaleb(scale)
    figure = _figure(text, match.span(), value.scaleb(scale), step)
    if figure.unit == "%" and OF_A_BLOCK.match(text, match.end()):
        return figure._replace(unit="blocks", value=figure.value / 100, step=figure.step / 100)
    return figure


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
        return _of_one(text, match, part) or _part(text, match, 100 * part)
    part, whole = _whole_number(match["part"]), _whole_number(match["whole"])
    counted, is_in = match["counted"] or "", match["way"].lower() == "in"
    is_share = (
        match["every"]
        or (not counted and whole in ROUND_WHOLES)
        or (is_in and not counted.strip().endswith(("blocks", "hours", "days")))
    )
    return _part(text, match, 100 * part / whole) if is_share and 1 <= part < whole else None


def _of_one(text: str, match: re.Match[str], part: Decimal) -> Figure | None:
    """A fraction of one unit."""
    of = OF_ONE.match(text, match.end())
    if of is None:
        return None
    figure = _figure(text, (match.start(), of.end()), part, part / 5)
    bound = _bound(text, *match.span())
    return figure._replace(bound="about" if bound == "exact" else bound)


def _in_many(text: str, match: re.Match[str]) -> Figure | None:
    """So many in a thousand, a million and the like."""
    scale = {"hundred": 2, **SCALES}.get((match["scale"] or "").lower(), 0)
    whole = Decimal((match["whole"] or "1").replace(",", "")).scaleb(scale)
    part, step = _whole_number(match["part"]), _step(match["part"], 0) if match["part"][0].isdigit() else Decimal(1)
    if whole < 100 or set(str(int(whole))) != {"1", "0"} or not 1 != part < whole:
        return None
    return _figure(text, match.span(), part / whole, step / whole)._replace(unit="number", bound="about")


def _half_scale(text: str, match: re.Match[str]) -> Figure:
    value = Decimal("0.5").scaleb(SCALES[match["scale"].lower()])
    figure = _figure(text, match.span(), value, value / 10)
    return figure._replace(bound="about") if figure.bound == "exact" else figure


def _dozen(text: str, match: re.Match[str]) -> Figure:
    return _figure(text, match.span(), Decimal(DOZENS[match[0].lower()]), Decimal(1))


def _whole_number(word: str) -> Decimal:
    return Decimal(WORDS[word.lower()]) if word.lower() in WORDS else Decimal(word)


def _part(text: str, match: re.Match[str], percent: Decimal) -> Figure:
    figure = _figure(text, match.span(), percent, Decimal(1))._replace(unit="%")
    if figure.bound in ("floor", "ceiling"):
        return figure
    return figure._replace(bound="about", step=percent / PART_STEPS if match.re is FRACTION else figure.step)


def _figure(text: str, span: tuple[int, int], value: Decimal, step: Decimal) -> Figure:
    start, end = span
    return Figure(text[start:end], start, end, value, step, _unit(text, start, end), _bound(text, start, end))


def bound_before(text: str, start: int) -> tuple[int, int] | None:
    """Where the words begin and end that make the number there a bound or a round one."""
    found = [match for pattern in BOUNDS.values() if (match := pattern.search(text[:start]))]
    return min(match.span() for match in found) if found else None


def _bound(text: str, start: int, end: int) -> str:
    """Whether it is told as exact, as a round one, or as a bound."""
    told = [bound for bound, pattern in BOUNDS.items() if pattern.search(text[:start])]
    if told:
        return told[-1]
    if text[end : end + 1] == "+" or text[end : end + 5] == "-plus":
        return "floor"
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
    is_offset = re.match(r"\s+(?:heights?|blocks?)?\s*(?:ahead(?! of)|later)\b", text[end:])
    if HEIGHT.search(text[:start]) and not plain and "." not in text[start:end]:
        return "blocks" if is_offset else "height"
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
    is_pronoun = (not scale and value == 1 and figure.unit not in DURATIONS) or (
        value == 2 and figure.unit is None
    )  # "one of", "the two"
    return None if is_pronoun else figure


def _multiple(text: str, match: re.Match[str]) -> Figure | None:
    value, is_half = MULTIPLES[match[0].lower()], match[0].lower() == "half"
    if is_half and (figure := _of_one(text, match, value)):
        return figure
    if is_half and HALF_OF.match(text, match.end()):
        return None
    figure = _figure(text, match.span(), 100 * value if is_half else value, Decimal(1))
    if ONCE_MORE.match(text, match.start()):
        return figure._replace(unit=None)
    bound = "about" if figure.bound == "exact" else figure.bound
    figure = figure._replace(step=figure.value / PART_STEPS) if is_half and bound == "about" else figure
    return figure._replace(unit="%" if is_half else "times", bound=bound)
