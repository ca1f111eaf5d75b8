"""What a model is asked: a fixed system prompt, and a signal as quoted data in a prompt of its type.

Nothing of the chain is in the system prompt. In the user prompt it stands in one JSON object only, as cleaned and
length-limited strings of plain ASCII (anything else escaped), so that no text can end the object or hide in it.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from utxoiq.errors import InsightRefused
from utxoiq.insights.slots import clean
from utxoiq.insights.vocabulary import CALIBRATED, KINDS, UNCALIBRATED, Kind, contradictions, summary_of
from utxoiq.processors.discovery import declared_kinds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from utxoiq.insights.generator import Prompt
    from utxoiq.models import Signal

FOLDER = Path(__file__).parent / "prompts"
VALUE_LIMIT = 100
REASON_LIMIT = 160
MOST_REASONS = 10
RUN = 6
"""Words in a row that no text has in common with the system prompt by chance."""
BLANK = "\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
"""Letters and symbols, by their class, that show nothing."""
OF_ALL: Mapping[str, str] = {
    "height": "the block the signal is about",
    "block_time": "when it was mined, by its own clock",
    "confidence": "how sure the signal is, as a probability",
    "cases": "how many cases that rests on",
    "basis": "what the confidence is the share of",
}
"""Meanings of the slots every signal has."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The two texts a model is given."""

    system: str
    user: str


def render(prompt: Prompt) -> Rendered:
    """The texts for a signal. Raises InsightRefused for a kind that has no words."""
    signal = prompt.signal
    kind = KINDS.get((signal.signal_type, signal.kind))
    if kind is None:
        raise InsightRefused([f"no prompt for {clean(signal.signal_type)}/{clean(signal.kind)}"])
    template = _environment().get_template(f"{signal.signal_type}.j2")
    return Rendered(_environment().get_template("system.j2").render(), template.render(data=_data(prompt, kind)))


def quoted(text: str, limit: int) -> str:
    """Somebody's text fit for a prompt: `clean`, and without marks and blanks that can carry what nobody sees."""
    shown = (c for c in text if unicodedata.category(c) not in ("Mn", "Me") and c not in BLANK)
    return clean("".join(shown), limit)


def repeats(text: str, prompt: str) -> bool:
    """Whether a text has a run of words of a prompt in it, whatever stands between the words."""
    return not _runs(text).isdisjoint(_runs(prompt))


def _runs(text: str) -> frozenset[tuple[str, ...]]:
    words = re.findall(r"[a-z]+", text.lower())
    return frozenset(zip(*(words[i:] for i in range(RUN)), strict=False))


def version_of(folder: Path) -> str:
    """The number of the prompts in `folder`, which a person raises, and a digest of their files: `1-0a1b2c3d`."""
    digest = sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".j2", ".toml"):
            text = path.read_bytes()
            digest.update(f"{path.name} {len(text)}\n".encode() + text)
    number = tomllib.loads((folder / "kinds.toml").read_text("utf-8"))["version"]
    return f"{number}-{digest.hexdigest()[:8]}"


PROMPT_VERSION = version_of(FOLDER)


def _data(prompt: Prompt, kind: Kind) -> dict[str, Any]:
    """The JSON object of a signal. Of what it holds, the slots' values and the reasons may be somebody's text."""
    signal, fields = prompt.signal, declared_kinds().get((prompt.signal.signal_type, prompt.signal.kind), {})
    meanings = {**{name: field.meaning for name, field in fields.items()}, **OF_ALL}
    return {
        "kind": signal.kind,
        "direction": _direction(signal, kind),
        "contradicting_words": sorted(contradictions(signal)),
        "slots": {
            name: {"meaning": meanings[name], "value": quoted(value, VALUE_LIMIT)}
            for name, value in prompt.slots.items()
            if name in meanings
        },
        "wrong_when": _wrong_when()[signal.signal_type][signal.kind],
        "calibrated": bool(signal.confidence_basis["calibrated"]),
        "example": _example(signal, kind, prompt.slots),
        "rejected": [quoted(reason, REASON_LIMIT) for reason in prompt.rejected[:MOST_REASONS]],
    }


def _direction(signal: Signal, kind: Kind) -> str | None:
    """Which way its figures went: "up", "down", or None where they went no way."""
    direction = signal.metadata.get("direction") or kind.direction
    return direction if direction in ("up", "down") else None


def _example(signal: Signal, kind: Kind, slots: Mapping[str, str]) -> dict[str, str]:
    explanation = CALIBRATED if signal.confidence_basis["calibrated"] else UNCALIBRATED
    return {"headline": kind.headline, "summary": summary_of(kind, slots), "confidence_explanation": explanation}


@cache
def _environment() -> Environment:
    environment = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined)
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}
    return environment


@cache
def _wrong_when() -> dict[str, dict[str, str]]:
    """Type -> kind -> what would make such a signal wrong."""
    table: dict[str, dict[str, str]] = tomllib.loads((FOLDER / "kinds.toml").read_text("utf-8"))["wrong_when"]
    return table
