"""How true the words are: a corpus of true paraphrases and subtle falsehoods through the checker.

`python -m evaluation words [--corpus FILE] [--json]`: one object with false_total, false_passed,
true_total, true_passed and the classes of falsehood. A file whose name ends in .gz is unpacked.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from utxoiq.errors import InputRefused
from utxoiq.insights.checker import InsightContent
from utxoiq.insights.texts import has_slots, reasons_against, reasons_against_prose
from utxoiq.models import Signal

HELD_OUT = Path(__file__).parent / "corpus" / "held_out.jsonl"
DEVELOPED_ON = HELD_OUT.with_name("dev.jsonl.gz")


class Line(NamedTuple):
    """A text of the corpus."""

    signal: Signal
    content: InsightContent
    is_true: bool
    lie: str | None


def corpus(file: Path) -> Iterator[Line]:
    """The lines of a corpus. Raises InputRefused with the line that can't be read."""
    known = {field.name for field in fields(Signal)}
    try:
        data = file.read_bytes()
        text = (gzip.decompress(data) if file.suffix == ".gz" else data).decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputRefused(f"{file}: can't be read ({error})") from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            signal = Signal(**{name: value for name, value in row["signal"].items() if name in known})
            content = InsightContent(row["headline"], row["summary"], row["confidence_explanation"])
            yield Line(signal, content, bool(row["is_true"]), row.get("lie"))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputRefused(f"{file}: line {number} is no text with its signal ({error!r:.100})") from error


def measure(file: Path) -> dict[str, Any]:
    """Counts over a corpus; `by_lie`: class of falsehood -> [all, passed]."""
    counts: Counter[str] = Counter()
    by_lie: dict[str, list[int]] = {}
    for line in corpus(file):
        passed = not (reasons_against if has_slots(line.content) else reasons_against_prose)(line.content, line.signal)
        name = "true" if line.is_true else "false"
        counts[f"{name}_total"] += 1
        counts[f"{name}_passed"] += passed
        if not line.is_true:
            told = by_lie.setdefault(line.lie or "other", [0, 0])
            told[0] += 1
            told[1] += passed
    names = ("false_total", "false_passed", "true_total", "true_passed")
    return {**{name: counts[name] for name in names}, "by_lie": dict(sorted(by_lie.items()))}


def run(file: Path, as_json: bool) -> None:
    """Print the counts. Raises InputRefused."""
    found = measure(file)
    if as_json:
        print(json.dumps(found))
        return
    print(f"{file}: {found['true_passed']} of {found['true_total']} true texts pass")
    print(f"{found['false_passed']} of {found['false_total']} falsehoods pass:")
    for lie, (total, passed) in found["by_lie"].items():
        print(f"  {lie:16} {passed:4} of {total}")
