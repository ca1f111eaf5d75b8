"""F1 by what an event is: its size, what labels know, its kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from evaluation.claims import TYPES, Run
from evaluation.matching import Pair, pair_up
from evaluation.score import Tally, of_kind, of_type, tally

SMALL = (0.5, 1.0)
"""Below the published threshold."""
SIZES = ((1.0, 2.0), (2.0, 4.0), (4.0, 10.0))
COVERAGES: Mapping[str, float] = {"thin_labels": 0.2, "half_labels": 0.5, "calm": 1.0}
"""Regimes that differ in nothing but the share of addresses that labels know."""


class Line(NamedTuple):
    """A type's F1 along an axis; None where nothing happened."""

    name: str
    ours: list[float | None]
    baseline: list[float | None]
    below: float | None = None
    """Of events below the threshold, the share that a signal spoke of."""


def by_size(runs: Sequence[Run]) -> list[Line]:
    """A line a type, along `SIZES`."""
    lines = []
    for name in TYPES:
        ours, theirs = tally(runs, of_type(name)), tally(runs, of_type(name), baseline=True)
        lines.append(Line(name, list(_along_sizes(ours)), list(_along_sizes(theirs)), _told_below(runs, ours, name)))
    return lines


def _along_sizes(of: Tally) -> Iterator[float | None]:
    """Recall of the size, precision of all sizes: a false signal is about no size."""
    found = [pair.event.size for one in of.matched for pair in one.found]
    missed = [event.size for one in of.matched for event in one.missed]
    for low, high in SIZES:
        told, events = (sum(low <= size < high for size in sizes) for sizes in (found, [*found, *missed]))
        yield harmonic(told / events, of.precision or 0.0) if events else None


def harmonic(recall: float, precision: float) -> float:
    """F1."""
    return 2 * recall * precision / (recall + precision) if recall and precision else 0.0


def _told_below(runs: Sequence[Run], of: Tally, signal_type: str) -> float | None:
    wanted, told, events = of_type(signal_type), list[Pair](), 0
    for run, matched in zip(runs, of.matched, strict=True):
        small = [event for event in run.events if wanted(event) and SMALL[0] <= event.size < SMALL[1]]
        told += pair_up(matched.false, small)[0]
        events += len(small)
    return len(told) / events if events else None


def by_coverage(rows: Sequence[Mapping[str, Any]], regimes: Sequence[str]) -> list[Line]:
    """A line a type along these regimes, from the objects of `score`."""
    of = {(row["regime"], row["type"]): row for row in rows}
    return [
        Line(name, [of[one, name]["f1"] for one in regimes], [of[one, name]["baseline_f1"] for one in regimes])
        for name in TYPES
    ]


def by_kind(runs: Sequence[Run]) -> list[list[Any]]:
    """[type, kind, events, signals, precision, recall, F1, F1 of the baseline] of all runs together."""
    counting = {(event.signal_type or "", event.kind) for run in runs for event in run.events if event.counts}
    said = {(claim.signal_type, claim.kind) for run in runs for claim in run.signals}
    found: list[list[Any]] = []
    for signal_type, kind in sorted(one for one in counting | said if one[0] in TYPES):
        ours, theirs = (tally(runs, of_kind(signal_type, kind), baseline=which) for which in (False, True))
        figures = (ours.events, len(ours.cases), ours.precision, ours.recall, ours.f1, theirs.f1)
        found.append([signal_type, f"`{kind}`", *figures])
    return found
