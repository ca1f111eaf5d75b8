"""The figures of `python -m evaluation fees` and `score`, for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from utxoiq.processors.feerates import HORIZONS

WIDTH = 160
"""Columns the table takes where the terminal has fewer, or there is none."""


def show(rows: list[dict[str, Any]]) -> None:
    """Print the objects of `fees.evaluate` as one table."""
    table = Table(caption="sat/vB; differences: utxoiq less the method, 95 % block bootstrap")
    for title in ("series", "horizon", "method"):
        table.add_column(title, no_wrap=True)
    for title in ("MAE", "MAPE", "interval score", "coverage", "n", "MAE difference", "interval score difference"):
        table.add_column(title, justify="right", no_wrap=True)
    for series in dict.fromkeys(row["series"] for row in rows):
        for horizon in HORIZONS:
            for row in rows:
                if (row["series"], row["horizon"]) == (series, horizon.name):
                    table.add_row(*_cells(row))
            table.add_section()
    console = Console(markup=False)
    console.width = max(console.width, WIDTH)
    console.print(table)


def show_scores(rows: list[dict[str, Any]]) -> None:
    """Print the objects of `score.score` as one table."""
    shown = ("events", "precision", "recall", "f1", "baseline_f1", "delay_blocks", "cases", "ece", "brier_skill", "mae",
             "interval_score")  # fmt: skip
    table = Table(caption="ece and brier_skill over all regimes; mae and interval_score in sat/vB")
    for title in ("regime", "type", *shown):
        table.add_column(title, justify="left" if title in ("regime", "type") else "right", no_wrap=True)
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        cells = ["" if row.get(name) is None else f"{row[name]:g}" for name in shown]
        table.add_row(row["regime"], row["type"], *cells, end_section=not after or after["regime"] != row["regime"])
    console = Console(markup=False)
    console.width = max(console.width, WIDTH)
    console.print(table)


def _cells(row: dict[str, Any]) -> list[str]:
    means = [f"{row[name]:.3f}" if row["n"] else "-" for name in ("mae", "mape", "interval_score", "coverage80")]
    differences = [_difference(row, name) for name in ("mae", "interval_score")]
    return [row["series"], row["horizon"], row["method"], *means, str(row["n"]), *differences]


def _difference(row: dict[str, Any], name: str) -> str:
    if f"{name}_difference" not in row:
        return ""
    mean, low, high = (row[f"{name}_difference{part}"] for part in ("", "_low", "_high"))
    return f"{mean:+.3f} (too short)" if low is None else f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
