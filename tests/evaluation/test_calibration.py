"""From raw confidences to how often they were right: the fit, the file, and what signals say of it."""

from __future__ import annotations

import json
from itertools import combinations, pairwise
from pathlib import Path
from random import Random

import pytest
from evaluation.calibrate import LEAST_CASES, fit, grouped
from evaluation.claims import Claim, Job, Run
from evaluation.isotonic import pool
from evaluation.reliability import Case

from evaluation import calibrate
from processors.cases import at, said
from processors.test_contract import Always
from utxoiq.errors import InputRefused
from utxoiq.processors import base, calibration
from utxoiq.processors.base import ProcessorConfig
from utxoiq.simulation.plan import Event


def by_trying(values: list[float], weights: list[float]) -> float:
    """The least weighted sum of squares of any rising steps: each way to cut the data into runs of one value."""
    best = float("inf")
    for count in range(len(values)):
        for cuts in combinations(range(1, len(values)), count):
            runs = [range(*ends) for ends in pairwise((0, *cuts, len(values)))]
            means = [sum(weights[i] * values[i] for i in run) / sum(weights[i] for i in run) for run in runs]
            if means == sorted(means):
                errors = (
                    weights[i] * (values[i] - mean) ** 2 for run, mean in zip(runs, means, strict=True) for i in run
                )
                best = min(best, sum(errors))
    return best


@pytest.mark.parametrize("seed", range(30))
def test_pooling_is_as_near_as_any_rising_steps(seed: int) -> None:
    rng = Random(seed)
    n = 1 + rng.randrange(8)
    values, weights = [rng.random() for _ in range(n)], [1 + rng.randrange(5) for _ in range(n)]
    steps = pool(values, weights)
    assert all(one.value < two.value for one, two in pairwise(steps))
    ends = [*(step.begin for step in steps), n]
    fitted = [step.value for step, (begin, end) in zip(steps, pairwise(ends), strict=True) for _ in range(begin, end)]
    error = sum(w * (v - f) ** 2 for w, v, f in zip(weights, values, fitted, strict=True))
    assert error == pytest.approx(by_trying(values, [float(w) for w in weights]))


def test_groups_hold_enough_cases_and_equal_confidences_stay_together() -> None:
    cases = [Case(0.5, 1)] * 40 + [Case(0.6 + i / 1000, 0) for i in range(60)]
    groups = grouped(cases)
    assert groups[0] == (0.5, 40, 40)
    assert all(one.cases >= LEAST_CASES for one in groups)
    assert sum(one.cases for one in groups) == 100


def test_a_fit_rises_and_is_never_certain() -> None:
    steps = fit([Case(0.8, int(i % 2)) for i in range(100)] + [Case(0.99, 1)] * 100)
    assert steps == [(0.8, pytest.approx(0.5)), (0.99, pytest.approx(100.5 / 101))]
    assert fit([Case(0.9, 0)] * 30) == [(0.9, pytest.approx(0.5 / 31))]


def test_what_the_raw_confidence_gets_wrong_way_round_is_one_step() -> None:
    steps = fit([Case(0.7, 1)] * 50 + [Case(0.9, 0)] * 50)
    assert steps == [(0.7, pytest.approx(0.5))]


def run_of(count: int) -> Run:
    """So many signals, every fourth of them about nothing."""
    events = [Event("whale", "large_transfer", None, 10, 2.0, {"txid": str(i)}) for i in range(count) if i % 4]
    signals = [Claim("whale", "large_transfer", str(i), 10, 0.9, "whale-0") for i in range(count)]
    return Run(Job("calm", 7, 100, calibrated=False), signals, [], events, [])


def test_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calibrate.run([run_of(40)], tmp_path / "file.json")
    assert capsys.readouterr().out == "whale-0 large_transfer: 30 of 40 right, 1 steps\n"
    text = (tmp_path / "file.json").read_text("utf-8")
    told = json.loads(text)
    assert (told["seeds"], told["regimes"], told["blocks"]) == ([7], ["calm"], 100)
    read = calibration.read(text)
    fit_ = read.fits["whale-0", "large_transfer"]
    assert fit_ == (40, (0.9,), (pytest.approx(30.5 / 41, abs=1e-6),))
    assert calibration.read(text + " ").version != read.version


def test_too_few_cases_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="give more seeds"):
        calibrate.run([run_of(20)], tmp_path / "file.json")
    assert not (tmp_path / "file.json").exists()


def test_steps_hold_from_their_score_on() -> None:
    one = calibration.Fit(10, (0.5, 0.8), (0.3, 0.9))
    assert [one.confidence(raw) for raw in (0.1, 0.5, 0.79, 0.8, 1.0)] == [0.3, 0.3, 0.3, 0.9, 0.9]


def test_the_packaged_file_can_be_read() -> None:
    for fit_ in calibration.packaged().fits.values():
        assert len(fit_.scores) == len(fit_.confidences) > 0
        assert list(fit_.scores) == sorted(set(fit_.scores))
        assert list(fit_.confidences) == sorted(set(fit_.confidences))
        assert fit_.confidences[0] > 0
        assert fit_.confidences[-1] < 1
        assert fit_.cases >= LEAST_CASES


FITTED = calibration.Calibration("v1", {("whale_test-1", "seen"): calibration.Fit(40, (0.5, 0.9), (0.3, 0.81))})


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "packaged", lambda: FITTED)


@pytest.mark.usefixtures("fitted")
async def test_a_signal_has_the_confidence_that_was_measured() -> None:
    (signal,) = await said(Always(), (), at(0))
    assert signal.confidence == 0.81
    assert signal.confidence_basis == {"basis": calibration.BASIS, "cases": 40, "calibrated": True}
    assert signal.inputs["calibration"] == {"version": "v1", "raw": 0.9, "raw_basis": "a test", "raw_cases": 1}


@pytest.mark.usefixtures("fitted")
async def test_what_is_measured_to_be_unlikely_is_not_said() -> None:
    assert await said(Always(ProcessorConfig(says=0.8)), (), at(0)) == []
    assert len(await said(Always(ProcessorConfig(says=0.8, confidence_threshold=0.3)), (), at(0))) == 1


@pytest.mark.usefixtures("fitted")
async def test_without_calibration_it_stays_as_it_was() -> None:
    (signal,) = await said(Always(ProcessorConfig(calibration=False)), (), at(0))
    assert (signal.confidence, signal.confidence_basis["calibrated"]) == (0.9, False)
    assert "calibration" not in signal.inputs
    assert signal.inputs["settings"]["calibration"] is False


async def test_another_calibration_makes_another_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = []
    for version in ("v1", "v1", "v2"):
        monkeypatch.setattr(base, "packaged", lambda version=version: FITTED._replace(version=version))
        ids += [one.signal_id for one in await said(Always(), (), at(0))]
    assert ids[0] == ids[1] != ids[2]


def test_rules_and_what_has_no_fit_are_left_alone() -> None:
    rule, chance = ({"basis": "any", "cases": 1, "calibrated": known} for known in (True, False))
    assert FITTED.of("whale_test-1", "seen", 0.9, rule) is None
    assert FITTED.of("whale_test-1", "other", 0.9, chance) is None
    assert FITTED.of("whale_test-2", "seen", 0.9, chance) is None
    assert FITTED.of("whale_test-1", "seen", 0.9, chance) is not None
