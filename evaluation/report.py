"""The report of the laboratory: README.md and plots, the same bytes for the same runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evaluation import plots
from evaluation.breakdown import COVERAGES, by_coverage, by_kind, by_size
from evaluation.claims import TYPES, Run
from evaluation.reliability import LEAST_CASES, bins, quality
from evaluation.score import of_forecasts, of_type, tally
from utxoiq.processors.calibration import packaged

HORIZONS = ("next_block", "1h", "24h")
OF_TYPES = ("events", "precision", "recall", "f1", "baseline_f1", "delay_blocks")
INTRODUCTION = """\
# The laboratory's report

What signals say, held against the truth of simulated economies: blocks of real consensus bytes with exchanges,
treasuries, whales, pools and a fee market, scanned as a node's files are, by processors that see blocks and labels and
nothing of what made them. How signals are matched with events, and which count: `evaluation/matching.py`. What the
figures are: `evaluation/score.py`. The baseline, fixed thresholds on raw amounts: `evaluation/baseline.py`. It is an
economy of our own making: what it leaves out, it can't show.
"""
CONFIDENCES = f"""\
## Are confidences probabilities?

Signals of all regimes and seeds; one is right when it is matched. Expected calibration error over ten bins of equal
count, told from {LEAST_CASES:,} cases on; Brier skill against always saying the base rate.
"""
BY_SIZE = """\
![Reliability curves](reliability.svg)

## By size of the event

Size 1 is the published threshold. F1 of the recall of a size and the precision of all: a false signal is about no size.
Below 1 nothing is owed; the open dot is the share of such events that a signal spoke of all the same.

![F1 by size](sizes.svg)
"""
BY_COVERAGE = """\
## By what labels know

Regimes that differ in nothing but the share of exchanges' and holders' addresses that labels know.

![F1 by label coverage](labels.svg)
"""
BY_KIND = """\
## By kind

All regimes together. Moves of an entity within itself (`internal_reshuffle`) are in none of the figures above.
"""
FORECASTS = """\
## Forecasts

All regimes together; sat/vB. Interval score: Winkler's, for 80 %. Naive: what the last block paid.
"""


def write(folder: Path, runs: Sequence[Run], rows: Sequence[dict[str, Any]]) -> None:
    """Write `README.md` and the plots it shows, over what is there. `rows`: of `score.score`."""
    folder.mkdir(parents=True, exist_ok=True)
    known = [name for name in COVERAGES if any(run.job.regime == name for run in runs)]
    curves = [plots.Curve(name, bins(tally(runs, of_type(name)).cases)) for name in TYPES]
    files = {"reliability.svg": plots.reliability(curves), "sizes.svg": plots.sizes(by_size(runs))}
    if known:
        files["labels.svg"] = plots.coverage(by_coverage(rows, known), [COVERAGES[name] for name in known])
    files["README.md"] = "\n".join(_text(runs, rows, has_coverage=bool(known)))
    for name, text in files.items():
        (folder / name).write_text(text, "utf-8")


def _text(runs: Sequence[Run], rows: Sequence[dict[str, Any]], *, has_coverage: bool) -> Iterator[str]:
    yield INTRODUCTION
    yield from _made_of(runs)
    yield "## By regime and type\n"
    titles = ("regime", "type", *OF_TYPES)
    yield from _table(titles, [[row[name] for name in titles] for row in rows if row["type"] in TYPES])
    yield CONFIDENCES
    yield from _table(("type", "cases", "right", "calibration error", "Brier score", "Brier skill"), _confidences(runs))
    yield BY_SIZE
    if has_coverage:
        yield BY_COVERAGE
    yield BY_KIND
    yield from _table(("type", "kind", "events", "signals", "precision", "recall", "f1", "baseline_f1"), by_kind(runs))
    yield FORECASTS
    of_horizons = [[name, *of_forecasts(runs, name).values()] for name in HORIZONS]
    yield from _table(("horizon", "forecasts", "MAE", "interval score", "MAE of naive"), of_horizons)


def _made_of(runs: Sequence[Run]) -> Iterator[str]:
    seeds, regimes = ([*dict.fromkeys(str(getattr(run.job, name)) for run in runs)] for name in ("seed", "regime"))
    models = sorted({one.model_version for run in runs for one in run.signals})
    blocks = runs[0].job.blocks
    yield f"Seeds {', '.join(seeds)}; {blocks:,} blocks a run; calibration `{packaged().version}`.\n"
    yield f"Models: {', '.join(models)}.\n"
    command = f"python -m evaluation score --seeds {','.join(seeds)} --regimes {','.join(regimes)} --blocks {blocks}"
    yield f"```\n{command} --report docs/laboratory\n```\n"


def _confidences(runs: Sequence[Run]) -> Iterator[list[Any]]:
    for name in TYPES:
        cases = tally(runs, of_type(name)).cases
        right = sum(case.right for case in cases)
        yield [name, len(cases), right / len(cases) if cases else None, *quality(cases)[1:]]


def _table(titles: Sequence[str], rows: Sequence[list[Any]] | Iterator[list[Any]]) -> Iterator[str]:
    """Markdown; nothing where a figure is unknown."""
    yield "| " + " | ".join(titles) + " |"
    yield "|" + "---|" * len(titles)
    for row in rows:
        yield "| " + " | ".join(map(_cell, row)) + " |"
    yield ""


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
