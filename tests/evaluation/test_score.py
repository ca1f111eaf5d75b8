"""`python -m evaluation score`: figures by hand, and a short run from blocks to the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from evaluation.__main__ import main
from evaluation.breakdown import by_kind, by_size, harmonic
from evaluation.claims import TYPES, Claim, Job, Run
from evaluation.reliability import Case, bins, brier, brier_skill, calibration_error, quality
from evaluation.report import write
from evaluation.score import of_type, score, tally

from evaluation import runs
from utxoiq.errors import InputRefused
from utxoiq.simulation.plan import Event

if TYPE_CHECKING:
    from collections.abc import Sequence

FIELDS = ["regime", "type", "events", "precision", "recall", "f1", "delay_blocks", "ece", "brier", "brier_skill",
          "baseline_f1", "cases"]  # fmt: skip
SHORT = ["--seeds", "1", "--regimes", "calm", "--blocks", "300", "--jobs", "1"]


def transfer(txid: str, size: float = 1.5, height: int = 10) -> Event:
    return Event("whale", "large_transfer", None, height, size, {"txid": txid})


def said(txid: str, confidence: float = 0.9, height: int = 10) -> Claim:
    return Claim("whale", "large_transfer", txid, height, confidence, "whale-0")


@pytest.fixture
def run() -> Run:
    """Three events, of which two are told, one late; one signal is false, one of a small event."""
    events = [transfer("a"), transfer("b", 3), transfer("c", 5), transfer("d", 0.7)]
    signals = [said("a"), said("b", height=12), said("d"), said("e")]
    baseline = [said("a"), said("b"), said("c"), said("x"), said("y")]
    board = [{"horizon": "1h", "method": method, "n": n, "mae": mae, "interval_score": score_}
             for method, n, mae, score_ in (("utxoiq", 10, 2.0, 9.0), ("naive", 10, 4.0, None))]  # fmt: skip
    board.append({"horizon": "24h", "method": "utxoiq", "n": 30, "mae": 4.0, "interval_score": 13.0})
    return Run(Job("calm", 1, 100), signals, baseline, events, board)


def test_the_figures_of_a_type(run: Run) -> None:
    row = next(row for row in score([run]) if row["type"] == "whale")
    assert list(row) == FIELDS
    assert (row["events"], row["precision"], row["recall"]) == (3, 0.5, 0.6667)
    assert row["f1"] == round(4 / 7, 4)
    assert row["baseline_f1"] == round(6 / 8, 4)
    assert row["delay_blocks"] == 1.0
    assert (row["cases"], row["ece"], row["brier"], row["brier_skill"]) == (4, None, None, None)


def test_a_type_that_nothing_happened_to_has_no_figures(run: Run) -> None:
    row = score([run])[0]
    assert (row["type"], row["events"], row["precision"], row["recall"], row["f1"]) == ("mempool", 0, None, None, None)


def test_forecasts_are_scored_by_their_misses(run: Run) -> None:
    row = score([run, run])[-1]
    assert row["type"] == "predictive"
    assert all(row[name] is None for name in FIELDS[2:])
    assert (row["forecasts"], row["mae"], row["interval_score"], row["baseline_mae"]) == (80, 3.5, 12.0, 4.0)


def test_reshuffles_are_in_no_figure_of_their_type() -> None:
    moved = Event("treasury", "internal_reshuffle", "x", 10, 2.0, {})
    told = Claim("treasury", "internal_reshuffle", "x", 10)
    run = Run(Job("calm", 1, 100), [told], [], [moved], [])
    assert tally([run], of_type("treasury")).f1 is None
    assert by_kind([run]) == [["treasury", "`internal_reshuffle`", 1, 1, 1.0, 1.0, 1.0, 0.0]]


def test_by_size(run: Run) -> None:
    line = by_size([run])[TYPES.index("whale")]
    assert line.below == 1.0
    assert line.ours == [harmonic(1, 0.5), harmonic(1, 0.5), 0.0]
    assert line.baseline == [pytest.approx(harmonic(1, 0.6))] * 3
    assert (harmonic(0, 1), harmonic(1, 0)) == (0, 0)


def test_the_calibration_error_by_hand() -> None:
    cases = [Case(0.2, 0), Case(0.4, 1), Case(0.6, 1), Case(0.8, 1)]
    assert bins(cases, 2) == [(2, pytest.approx(0.3), 0.5), (2, pytest.approx(0.7), 1.0)]
    assert calibration_error(cases) == pytest.approx((0.2 + 0.6 + 0.4 + 0.2) / 4)
    assert brier(cases) == pytest.approx((0.04 + 0.36 + 0.16 + 0.04) / 4)
    assert brier_skill(cases) == pytest.approx(1 - 0.15 / (0.75 * 0.25))


def test_the_order_of_equal_confidences_is_no_matter() -> None:
    cases = [Case(0.9, int(i % 10 > 0)) for i in range(1000)]
    assert calibration_error(cases) == pytest.approx(0)
    assert calibration_error(sorted(cases)) == calibration_error(cases[::-1])


def test_bins_hold_equal_counts() -> None:
    assert [one.cases for one in bins([Case(i / 1005, 1) for i in range(1005)])] == [100, 101] * 5
    assert bins([]) == []


def test_below_a_thousand_cases_nothing_is_told_and_without_a_miss_no_skill() -> None:
    assert quality([Case(0.9, 1)] * 999) == (999, None, None, None)
    assert quality([Case(0.9, 1)] * 1000) == (1000, pytest.approx(0.1), pytest.approx(0.01), None)


def test_a_run_survives_being_written_down(run: Run) -> None:
    assert Run.from_text(run.as_text()) == run


def test_the_report_is_the_same_bytes_again(run: Run, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(tmp_path / name, [run], score([run]))
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["README.md", "labels.svg", "reliability.svg", "sizes.svg"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    text = (tmp_path / "one" / "README.md").read_text("utf-8")
    assert "| calm | whale | 3 | 0.500 | 0.667 | 0.571 | 0.750 | 1.000 |" in text
    assert "Date" not in (tmp_path / "one" / "sizes.svg").read_text("utf-8")


def test_from_blocks_to_figures(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ["score", *SHORT, "--cache", str(tmp_path / "cache")]
    assert main([*command, "--json"]) == 0
    first = capsys.readouterr().out
    rows = [json.loads(line) for line in first.splitlines()]
    assert [(row["regime"], row["type"]) for row in rows] == [("calm", name) for name in (*TYPES, "predictive")]
    assert all(list(row)[: len(FIELDS)] == FIELDS for row in rows)
    assert all(row["events"] > 0 and 0 <= row["f1"] <= 1 and 0 <= row["baseline_f1"] <= 1 for row in rows[:-1])
    assert rows[-1]["forecasts"] > 100
    assert main([*command, "--json", "--report", str(tmp_path / "report")]) == 0
    assert capsys.readouterr().out == first
    assert (tmp_path / "report" / "README.md").exists()
    assert main(command) == 0
    assert "baseline_f1" in capsys.readouterr().out
    assert len(list((tmp_path / "cache").iterdir())) == 1


def versions() -> dict[bool, str]:
    return {calibrated: runs.code_version(calibrated=calibrated) for calibrated in (True, False)}


def test_a_cached_run_is_of_the_same_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Run) -> None:
    asked: list[Job] = []
    monkeypatch.setattr(runs, "perform", lambda job: asked.append(job) or run)
    package, cache = tmp_path / "package", tmp_path / "cache"
    (package / "processors").mkdir(parents=True)
    (package / "one.py").write_text("1")
    (package / "processors" / runs.CALIBRATION).write_text("{}")
    monkeypatch.setattr(runs, "PACKAGE", package)
    before = versions()
    assert runs.cached(cache, before, run.job) == runs.cached(cache, before, run.job) == run
    assert len(asked) == 1
    (package / "processors" / runs.CALIBRATION).write_text("{ }")
    fitted = versions()
    assert fitted[True] != before[True]
    assert fitted[False] == before[False]
    runs.cached(cache, fitted, run.job)
    assert len(asked) == 2
    (package / "one.py").write_text("2")
    runs.cached(tmp_path / "changed", fitted, run.job)
    assert not (tmp_path / "changed").exists()


def test_all_regimes_are_those_of_the_laboratory() -> None:
    names = {job.regime for job in runs.jobs_of([1, 2], ["all"], 10)}
    assert {"calm", "half_labels", "reshuffling_only"} <= names
    assert "demo" not in names
    assert runs.jobs_of([1, 2], ["demo"], 10) == [Job("demo", 1, 10), Job("demo", 2, 10)]
    with pytest.raises(InputRefused, match="no such regime: stormy"):
        runs.jobs_of([1], ["stormy"], 10)


def test_each_seed_in_one_regime() -> None:
    """In turn, and round again."""
    jobs = runs.jobs_of([1, 2, 3], ["calm", "bursty"], 10, calibrated=False, in_turn=True)
    assert jobs == [Job("calm", 1, 10, False), Job("bursty", 2, 10, False), Job("calm", 3, 10, False)]


def test_seeds_are_named_one_by_one_or_by_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends of a range belong to it."""
    asked: list[Sequence[int]] = []
    monkeypatch.setattr(runs, "jobs_of", lambda seeds, *_, **__: asked.append(seeds) or [])
    monkeypatch.setattr(runs, "perform_all", lambda *_: [])
    assert main(["score", "--seeds", "1,7-9,3", "--json"]) == 0
    assert asked == [[1, 7, 8, 9, 3]]
    for wrong in ("9-7", "", "a", "1-b"):
        with pytest.raises(SystemExit):
            main(["score", "--seeds", wrong])


@pytest.mark.parametrize("wrong", [["--seeds", "x"], ["--seeds", "1", "--blocks", "0"], []])
def test_wrong_use(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["score", *wrong])
    assert end.value.code == 2
