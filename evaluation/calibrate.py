"""`python -m evaluation calibrate`: how often signals of each raw confidence were right, for the packaged calibration.

Of each model and kind, cases are put into groups of at least 25 neighbours by raw confidence; isotonic regression
makes rising steps of them; Jeffreys' prior keeps each from 0 and 1: (right + 1/2) / (cases + 1). What that leaves out
of order is pooled again. Below 25 cases nothing is fitted.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

from evaluation.claims import TYPES, Claim, Run
from evaluation.isotonic import pool
from evaluation.matching import match
from evaluation.reliability import Case
from utxoiq.errors import InputRefused

PACKAGED = Path(__file__).parent.parent / "src" / "utxoiq" / "processors" / "calibration.json"
LEAST_CASES = 25
BY_RULE = 1.0
"""What only a signal read off a rule has: nothing to measure."""


class Group(NamedTuple):
    """Cases of neighbouring raw confidences."""

    score: float
    """The lowest of them."""
    cases: int
    right: float


def run(runs: Sequence[Run], file: Path) -> None:
    """Fit, write the file and say what was fitted. Raises InputRefused where nothing could be."""
    fits = fit_all(runs)
    if not fits:
        raise InputRefused(f"no kind has {LEAST_CASES} signals: give more seeds, regimes or blocks")
    jobs = [run.job for run in runs]
    made_of = {
        "seeds": sorted({job.seed for job in jobs}),
        "regimes": sorted({job.regime for job in jobs}),
        "blocks": jobs[0].blocks,
    }
    file.write_text(json.dumps({**made_of, "fits": fits}, indent=1, sort_keys=True) + "\n", "utf-8")
    for one in fits:
        print(f"{one['model_version']} {one['kind']}: {one['right']} of {one['cases']} right, "
              f"{len(one['scores'])} steps")  # fmt: skip


def fit_all(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """An entry for each model version and kind with enough signals."""
    cases: dict[tuple[str, str], list[Case]] = defaultdict(list)
    for one in runs:
        said = [claim for claim in one.signals if claim.signal_type in TYPES and claim.confidence < BY_RULE]
        matched = match(said, one.events)
        for pair in (*matched.found, *matched.excused):
            cases[_key(pair.claim)].append(Case(pair.claim.confidence, 1))
        for claim in matched.false:
            cases[_key(claim)].append(Case(claim.confidence, 0))
    fitted = [(key, of) for key, of in sorted(cases.items()) if len(of) >= LEAST_CASES]
    return [_entry(*key, of) for key, of in fitted]


def _key(claim: Claim) -> tuple[str, str]:
    return claim.model_version, claim.kind


def _entry(model_version: str, kind: str, cases: Sequence[Case]) -> dict[str, Any]:
    steps = fit(cases)
    return {
        "model_version": model_version,
        "kind": kind,
        "cases": len(cases),
        "right": int(sum(case.right for case in cases)),
        "scores": [round(score, 6) for score, _ in steps],
        "confidences": [round(confidence, 6) for _, confidence in steps],
    }


def fit(cases: Sequence[Case]) -> list[tuple[float, float]]:
    """[raw confidence from which on it holds, probability of being right], both rising."""
    groups = grouped(cases)
    first = pool([one.right / one.cases for one in groups], [one.cases for one in groups])
    ends = [*(step.begin for step in first), len(groups)]
    joined = [_join(groups[begin:end]) for begin, end in pairwise(ends)]
    smooth = pool([(one.right + 0.5) / (one.cases + 1) for one in joined], [one.cases for one in joined])
    return [(joined[step.begin].score, step.value) for step in smooth]


def grouped(cases: Sequence[Case]) -> list[Group]:
    """By raw confidence, equal ones together; what is left over at the top joins the last group."""
    groups: list[Group] = []
    for score, alike in groupby(sorted(cases), key=lambda case: case.confidence):
        came = [case.right for case in alike]
        groups.append(Group(score, len(came), sum(came)))
        if len(groups) > 1 and groups[-2].cases < LEAST_CASES:
            groups[-2:] = [_join(groups[-2:])]
    if len(groups) > 1 and groups[-1].cases < LEAST_CASES:
        groups[-2:] = [_join(groups[-2:])]
    return groups


def _join(groups: Sequence[Group]) -> Group:
    return Group(groups[0].score, sum(one.cases for one in groups), sum(one.right for one in groups))
