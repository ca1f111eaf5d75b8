"""Calibration: from a processor's raw confidence to how often such signals were right.

`calibration.json` holds a fit for each model version and kind: steps of an isotonic regression, made by
`python -m evaluation calibrate` on development seeds of the simulated economy. Where enough such signals were resolved
on the real chain, that takes over. What has neither stays as it is, and says so.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = "calibration.json"
BASIS = "how often such signals were right in a simulated economy"
RESOLVED = "how often such signals were right on this chain"
OUTCOMES = "outcomes"
"""Stands for a version in the inputs of signals whose confidence rests on outcomes."""
LEAST_OUTCOMES = 200
"""Of a kind of a model, before they take over: then the standard error is 3.5 points at most."""


class Fit(NamedTuple):
    """Of one kind of one model: a confidence holds from its score up to the next."""

    cases: int
    scores: tuple[float, ...]
    """Raw confidences, rising; below the first, the first step holds too."""
    confidences: tuple[float, ...]
    """Rising, each above 0 and below 1."""

    def confidence(self, raw: float) -> float:
        """How often signals of this raw confidence were right."""
        return self.confidences[max(0, bisect_right(self.scores, raw) - 1)]


class Calibrated(NamedTuple):
    """A confidence that was measured, and what it was before."""

    confidence: float
    basis: dict[str, Any]
    inputs: dict[str, Any]
    """For the record of the signal's inputs."""
    named: tuple[Any, ...]
    """What of them a signal's identity covers."""


class Calibration(NamedTuple):
    """All fits; `version` is the hash of the file."""

    version: str
    fits: Mapping[tuple[str, str], Fit]
    """(model version, kind) -> fit."""

    def of(self, model_version: str, kind: str, raw: float, basis: Mapping[str, Any]) -> Calibrated | None:
        """None where there is no fit, or nothing to fit: what is read off a rule is calibrated as it is."""
        fit = self.fits.get((model_version, kind))
        if fit is None or basis["calibrated"]:
            return None
        return Calibrated(
            fit.confidence(raw),
            {"basis": BASIS, "cases": fit.cases, "calibrated": True},
            {"version": self.version, **_raw(raw, basis)},
            (self.version,),
        )


def resolved(counts: tuple[int, int] | None, raw: float, basis: Mapping[str, Any]) -> Calibrated | None:
    """By `counts`, (right, cases) of the kind: the mean of the Beta posterior under Jeffreys' prior. None where they
    are too few, or where nothing is to be measured."""
    if counts is None or counts[1] < LEAST_OUTCOMES or basis["calibrated"]:
        return None
    right, cases = counts
    return Calibrated(
        (right + 0.5) / (cases + 1),
        {"basis": RESOLVED, "cases": cases, "calibrated": True},
        {"version": OUTCOMES, "right": right, "cases": cases, **_raw(raw, basis)},
        (OUTCOMES, right, cases),
    )


def _raw(raw: float, basis: Mapping[str, Any]) -> dict[str, Any]:
    return {"raw": round(raw, 6), "raw_basis": basis["basis"], "raw_cases": basis["cases"]}


@cache
def packaged() -> Calibration:
    """The one that comes with this program."""
    return read(resources.files(__package__).joinpath(FILE).read_text("utf-8"))


def read(text: str) -> Calibration:
    """The calibration of a file's text. Raises ValueError, KeyError, TypeError for any other text."""
    fits = {
        (one["model_version"], one["kind"]): Fit(one["cases"], tuple(one["scores"]), tuple(one["confidences"]))
        for one in json.loads(text)["fits"]
    }
    return Calibration(sha256(text.encode()).hexdigest()[:16], fits)
