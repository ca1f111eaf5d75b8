"""`python -m evaluation score`: signals held against the truth, regime by regime and type by type.

- `events`: those that reach the published threshold and are owed; `precision`, `recall`, `f1` of the signals about
  them (matching.py), null where there was nothing to divide by; `delay_blocks`: mean blocks from an event's first to
  its signal. Moves of an entity within itself (`internal_reshuffle`) are no events of its type, and in none of these.
- `ece`, `brier`, `brier_skill`: of the type's signals, pooled over all regimes and seeds given; a signal is right when
  it is matched, or excused. Null below 1,000 `cases`.
- `baseline_f1`: of one fixed threshold on the raw amount (baseline.py), over the same events.
- Rows of type `predictive` have `forecasts` (settled, all horizons), their `mae` and `interval_score` in sat/vB, and
  `baseline_mae` of the naive forecast (what the last block paid).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TYPE_CHECKING, Any

from evaluation.claims import RESHUFFLE, TYPES, Claim, Run
from evaluation.matching import Matched, match
from evaluation.reliability import Case, Quality, quality

if TYPE_CHECKING:
    from utxoiq.simulation.plan import Event

OURS, NAIVE = "utxoiq", "naive"
FIGURES = ("events", "precision", "recall", "f1", "delay_blocks", "ece", "brier", "brier_skill", "baseline_f1", "cases")
OF_FORECASTS = ("forecasts", "mae", "interval_score", "baseline_mae")


@dataclass(frozen=True, slots=True)
class Tally:
    """Signals of several runs beside the events they are about."""

    matched: list[Matched] = field(default_factory=list)

    @property
    def found(self) -> int:
        """Events that were told."""
        return sum(len(one.found) for one in self.matched)

    @property
    def false(self) -> int:
        """Signals about nothing that counts."""
        return sum(len(one.false) for one in self.matched)

    @property
    def events(self) -> int:
        """Events that are owed."""
        return self.found + sum(len(one.missed) for one in self.matched)

    @property
    def precision(self) -> float | None:
        """None where nothing was said."""
        said = self.found + self.false
        return self.found / said if said else None

    @property
    def recall(self) -> float | None:
        """None where nothing happened."""
        return self.found / self.events if self.events else None

    @property
    def f1(self) -> float | None:
        """None where nothing was said, and nothing happened."""
        whole = self.found + self.false + self.events
        return 2 * self.found / whole if whole else None

    @property
    def delay_blocks(self) -> float | None:
        """None where nothing was found."""
        delays = [pair.claim.height - pair.event.height for one in self.matched for pair in one.found]
        return fmean(delays) if delays else None

    @property
    def cases(self) -> list[Case]:
        """Every signal, with whether it was right."""
        right = [pair.claim for one in self.matched for pair in (*one.found, *one.excused)]
        false = [claim for one in self.matched for claim in one.false]
        return [Case(claim.confidence, 1) for claim in right] + [Case(claim.confidence, 0) for claim in false]


Wanted = Callable[["Claim | Event"], bool]


def tally(runs: Iterable[Run], wanted: Wanted, *, baseline: bool = False) -> Tally:
    """Of the signals, or the baseline's, and events that are wanted."""
    return Tally([
        match(filter(wanted, run.baseline if baseline else run.signals), filter(wanted, run.events)) for run in runs
    ])  # fmt: skip


def of_type(signal_type: str) -> Wanted:
    """What the figures of a type are made of."""
    return lambda one: one.signal_type == signal_type and one.kind != RESHUFFLE


def of_kind(signal_type: str, kind: str) -> Wanted:
    """One kind of a type."""
    return lambda one: (one.signal_type, one.kind) == (signal_type, kind)


def score(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One object a regime and type, in the order of the runs."""
    pooled = {name: quality(tally(runs, of_type(name)).cases) for name in TYPES}
    rows = []
    for regime in dict.fromkeys(run.job.regime for run in runs):
        here = [run for run in runs if run.job.regime == regime]
        rows += [_row(regime, name, here, pooled[name]) for name in TYPES]
        rows.append({"regime": regime, "type": "predictive", **dict.fromkeys(FIGURES), **of_forecasts(here)})
    return rows


def _row(regime: str, signal_type: str, runs: Sequence[Run], pooled: Quality) -> dict[str, Any]:
    ours, theirs = tally(runs, of_type(signal_type)), tally(runs, of_type(signal_type), baseline=True)
    return {
        "regime": regime,
        "type": signal_type,
        "events": ours.events,
        **{name: rounded(getattr(ours, name)) for name in ("precision", "recall", "f1", "delay_blocks")},
        **{name: rounded(getattr(pooled, name)) for name in ("ece", "brier", "brier_skill")},
        "baseline_f1": rounded(theirs.f1),
        "cases": pooled.cases,
    }


def of_forecasts(runs: Sequence[Run], horizon: str | None = None) -> dict[str, Any]:
    """Of one horizon or of all, each forecast counting once."""
    rows = [row for run in runs for row in run.forecasts if horizon in (None, row["horizon"])]
    ours, naive = ([row for row in rows if row["method"] == method] for method in (OURS, NAIVE))
    values = (sum(row["n"] for row in ours), _mean(ours, "mae"), _mean(ours, "interval_score"), _mean(naive, "mae"))
    return dict(zip(OF_FORECASTS, values, strict=True))


def _mean(rows: Sequence[dict[str, Any]], name: str) -> float | None:
    whole = sum(row["n"] for row in rows)
    return rounded(sum(row["n"] * row[name] for row in rows) / whole) if whole else None


def rounded(value: float | None) -> float | None:
    """To four places."""
    return None if value is None else round(value, 4)


def show(rows: Sequence[dict[str, Any]], as_json: bool) -> None:
    """Print the objects of `score`."""
    if as_json:
        print("\n".join(json.dumps(row) for row in rows))
    else:
        from evaluation.table import show_scores  # noqa: PLC0415 - only where a person reads

        show_scores(list(rows))
