"""`python -m evaluation words`: texts with their signals in, counts of true and false ones that pass out."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from evaluation.__main__ import main

from evaluation import words
from insights.test_checker import signals

TRUE = "Fees rose to 20 sat/vB in block 900,144. The usual rate is 2 sat/vB."
FALSE = "Fees fell to 20 sat/vB in block 900,144. The usual rate is 2 sat/vB."
SLOTS = "Fees rose to {feerate_kvb} in block {height}. The usual rate is {usual_feerate_kvb}."


def line(summary: str, *, is_true: bool, lie: str | None = None) -> str:
    """A line of a corpus."""
    row: dict[str, Any] = {"signal": asdict(signals()["fee_spike"]), "headline": "Fees rose", "summary": summary}
    return json.dumps({**row, "confidence_explanation": "It is a share of cases.", "is_true": is_true, "lie": lie})


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    lines = [line(TRUE, is_true=True), line(FALSE, is_true=False, lie="direction"), "", line(SLOTS, is_true=True)]
    lines += [line(TRUE, is_true=False), line("Dragons rose. Fees rose.", is_true=True)]
    file = tmp_path / "corpus.jsonl"
    file.write_text("\n".join(lines))
    return file


def test_true_and_false_texts_are_counted_apart(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["words", "--corpus", str(corpus), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {
        "false_total": 2,
        "false_passed": 1,
        "true_total": 3,
        "true_passed": 2,
        "by_lie": {"direction": [1, 0], "other": [1, 1]},
    }


def test_counts_are_told_in_words(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["words", "--corpus", str(corpus)]) == 0
    out = capsys.readouterr().out
    assert "2 of 3 true texts pass" in out
    assert "1 of 2 falsehoods pass" in out


@pytest.mark.parametrize("broken", ["{", "[]", "{}", '{"signal": {}}', "null", '{"signal": null}'])
def test_a_broken_line_is_told_in_one_line(broken: str, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus.write_text(f"{line(TRUE, is_true=True)}\n{broken}\n")
    assert main(["words", "--corpus", str(corpus), "--json"]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert f"{corpus}: line 2 is no text with its signal" in err


@pytest.mark.parametrize(
    "changed",
    [{"signal_type": "weather"}, {"kind": "of_another_program"}, {"metadata": {"confidence_interval": [1, 2]}},
     {"metadata": {"seen_at": "2026-01-01", "historical_mean": 3.0, "holdings_as_of": 3}}, {"evidence": {}}],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["fee_spike", "feerate_fall", "congestion"])
def test_signals_of_others_are_read(kind: str, changed: dict[str, Any], tmp_path: Path) -> None:
    """What a signal does not hold, or holds in another form, no text may tell; nothing stops the measuring."""
    row = json.loads(line("It is 1 sat/vB.", is_true=False)) | {"signal": asdict(signals()[kind]) | changed}
    (file := tmp_path / "others.jsonl").write_text(json.dumps(row))
    assert words.measure(file)["false_total"] == 1


def test_a_packed_corpus_is_the_same(corpus: Path, tmp_path: Path) -> None:
    (packed := tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(corpus.read_bytes()))
    assert words.measure(packed) == words.measure(corpus)


@pytest.mark.parametrize("data", [b"", b"no gzip", gzip.compress(b"{}" * 99)[:-9], gzip.compress(b"\xff\n")])
def test_a_packed_corpus_that_is_broken_is_told_in_one_line(
    data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (packed := tmp_path / "packed.jsonl.gz").write_bytes(data)
    assert main(["words", "--corpus", str(packed)]) == (3 if data else 0)
    assert capsys.readouterr().err.count("\n") == (1 if data else 0)


def test_a_missing_corpus_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["words", "--corpus", str(tmp_path / "none.jsonl")]) == 3
    assert capsys.readouterr().err.count("\n") == 1


def test_the_held_out_corpus_is_measured_unless_another_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[tuple[Path, bool]] = []
    monkeypatch.setattr(words, "run", lambda file, as_json: measured.append((file, as_json)))
    assert main(["words", "--json"]) == 0
    assert [(file.name, as_json) for file, as_json in measured] == [("held_out.jsonl", True)]
    assert measured[0][0].is_file()


def test_what_it_was_developed_on_stays_told_apart(tmp_path: Path) -> None:
    """Of every eighth line: no falsehood passes, and nine in ten true texts do."""
    lines = gzip.decompress(words.DEVELOPED_ON.read_bytes()).decode().splitlines()[::8]
    (file := tmp_path / "part.jsonl").write_text("\n".join(lines), "utf-8")
    found = words.measure(file)
    assert found["false_passed"] == 0, found["by_lie"]
    assert found["true_passed"] >= 0.9 * found["true_total"] > 500
