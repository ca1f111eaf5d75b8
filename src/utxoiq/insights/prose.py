"""The check of finished prose: every figure, name and date is of the signal, every word one that its kind allows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from utxoiq.insights.claims import OF_ANY, OF_CONFIDENCE, OF_SIGNAL
from utxoiq.insights.claims.reading import Reading
from utxoiq.insights.figures import trace
from utxoiq.insights.lexicon import NAME, OTHER, allowed_of, known_words, pattern, pattern_of_kind
from utxoiq.insights.moments import blank

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from utxoiq.models import Signal

EXPLANATION = "confidence_explanation"
"""The part that tells how sure a signal is; the others tell what happened."""
PLAIN = re.compile(r"[A-Za-z0-9 ,.:;!?'’‘“”\"()\[\]%/=~≈±×₿–—‑+<>&#→\u00a0\u202f-]")
PER_KVB = re.compile(r"(?:(?<=per )|(?<=/))(?:1,?000|(?:a )?thousand) v(?:irtual )?b(?:ytes?)?\b", re.IGNORECASE)
TO_AND_FRO = re.compile(rf"\b({NAME}|{OTHER})-to-({NAME}|{OTHER})\b")
GENERIC = re.compile(r"^(?:sim|pool|exchange|government of|republic of|the|\s)+\b\s*", re.IGNORECASE)
SUFFIX = re.compile(
    r",? (?:Platforms|Holdings|USA|Pool|Scientific|Inc\.?|Mining|Corp\w*|Group|Digital|Technologies|Fund|ETF|Trust)$"
)
"""What a name may be told without."""
NAMES = re.compile(rf"({NAME}|{OTHER}|\b[A-Z]\w+)")
OWN_NAMES = ("entity_name", "pool_name", "ticker", "entity_id", "address", "holder")
DEMONYMS = (
    ("El Salvador", "Salvadoran"), ("Bhutan", "Bhutanese"), ("German", "German"), ("German", "Germany"),
    ("Ukrain", "Ukrainian"), ("Ukrain", "Ukraine"),
)  # fmt: skip
SHORTEST = 3
"""Letters of a name that may stand for a longer one."""
SHORTENED, SURE = 20, 4
"""Longer addresses are told by how they begin and end, by so many letters at least."""
NOBODY = "unknown"


def check_prose(texts: Mapping[str, str], signal: Signal) -> list[str]:
    """Why finished texts (by the name of their part) must not be published; empty where nothing speaks against them."""
    return [f"{part}: {reason}" for part, text in texts.items() for reason in _check(part, text, signal)]


def _check(part: str, text: str, signal: Signal) -> list[str]:
    strange = sorted(set(PLAIN.sub("", text.replace("…", "..."))))
    if strange:
        return [f"a character that is no plain English ({', '.join(map(repr, strange))})"]
    about_signal = part != EXPLANATION
    reading, wrong = read(text, signal, about_signal=about_signal)
    checks = (*OF_ANY, *(OF_SIGNAL if about_signal else OF_CONFIDENCE))
    return wrong + [reason for check in checks for reason in check(reading)]


def read(text: str, signal: Signal, *, about_signal: bool) -> tuple[Reading, list[str]]:
    """A text taken apart, and why its moments are not the signal's."""
    allowed = allowed_of(signal)
    masked = mask(text, signal)
    traced, wrong, rest = trace(masked, signal, of_confidence=not about_signal)
    for harmless in ("left_open", "harmless", *(() if about_signal else ("harmless_of_confidence",))):
        rest = pattern(harmless).sub(_blank_but_names, rest)
    if of_kind := pattern_of_kind("harmless_of_kind", signal.signal_type, signal.kind):
        rest = of_kind.sub(blank, rest)
    if allowed.flow == "within":
        rest = pattern("no_sale").sub(blank, rest)
    if signal.kind == "purging":
        rest = pattern("purged").sub(blank, rest)
    if allowed.flow in ("in", "out"):
        rest = pattern(f"signed_{allowed.flow}").sub(blank, rest)
    return Reading(masked, rest, tuple(traced), signal, allowed, about_signal), wrong


def _blank_but_names(match: re.Match[str]) -> str:
    first, *others = re.split(r"(?<=\w)(?=\W)", match[0], maxsplit=1)
    kept = first if first in (NAME, OTHER) else " " * len(first)
    return kept + "".join(
        part if NAMES.match(part) else " " * len(part) for other in others for part in NAMES.split(other)
    )


def _short(name: str, words: frozenset[str]) -> Iterator[str]:
    """A name without its generic part; none where a plain word would be left."""
    first = "" if "Government" in name else name.strip().partition(" ")[0].strip(",")
    symbols = (word for word in name.split() if word.isupper())
    special = GENERIC.sub("", name)
    own = special.partition(" ")[0].strip(",") if GENERIC.match(name) else ""
    for short in (special, SUFFIX.sub("", name), first, own, *symbols):
        if len(short) >= SHORTEST and short.lower() not in words:
            yield short


def _replace_short(text: str, whole: str, letter: str, mark: str) -> str:
    """The text with a mark, or blanks, in place of an id that begins, and ends behind an ellipsis, as it is written."""

    def replaced(match: re.Match[str]) -> str:
        begins, dots, ends = whole[:SURE] + match[1], match[2], match[3] or ""
        same = whole.startswith(begins) and whole.endswith(ends) and (dots or len(begins) >= SURE + 2)
        return (mark or blank(match)) if same else match[0]

    return re.sub(rf"\b{re.escape(whole[:SURE])}({letter}*)(?:(…|\.{{3}})({letter}*))?", replaced, text)


def mask(text: str, signal: Signal) -> str:
    """The text with NAME and OTHER in place of names, and blanks in place of what its confidence is based on."""
    text = PER_KVB.sub(lambda match: "kvB".ljust(len(match[0])), text)
    for txid in signal.evidence.get("txids", ()):
        text = _replace_short(text, txid, "[0-9a-f]", "")
    told = signal.metadata
    bases = {str(values["basis"]) for values in (told, signal.confidence_basis) if values.get("basis")}
    bases |= {signal.model_version, str(told.get("model_version", signal.model_version))}
    for basis in sorted(bases, key=len, reverse=True):
        text = re.sub(re.escape(basis), blank, text, flags=re.IGNORECASE)
    marks = {str(told[key]): NAME for key in OWN_NAMES if told.get(key) not in (None, "", NOBODY)}
    if told.get("counterparty") not in (None, "", NOBODY):
        marks.setdefault(str(told["counterparty"]), OTHER)
    words = known_words(signal.signal_type)
    marks |= {short: mark for name, mark in marks.items() for short in _short(name, words)}
    marks |= {who: mark for name, mark in marks.items() for place, who in DEMONYMS if place in name}
    marks |= {name.replace("United States", us): mark for name, mark in marks.items() for us in ("US", "U.S.")}
    if len(address := str(told.get("address"))) > SHORTENED:
        text = _replace_short(text, address, r"\w", NAME)
    for name in sorted(marks, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", marks[name], text, flags=re.IGNORECASE)
    return TO_AND_FRO.sub(r"from \1 to \2", text)
