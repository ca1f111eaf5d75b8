"""The page of examples: one of each kind, each with its chart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from evaluation.claims import Job

from evaluation import examples

COMMITTED = Path(__file__).parents[2] / "docs" / "examples"


def charts_of(folder: Path) -> list[str]:
    """The charts that a page shows, each of which must be there."""
    charts = re.findall(r"\]\((\S+\.svg)\)", (folder / "README.md").read_text("utf-8"))
    assert all((folder / chart).read_text("utf-8").rstrip().endswith("</svg>") for chart in charts)
    return charts


def test_a_page_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(examples, "JOB", Job("demo", 1, 120))
    examples.run(tmp_path / "made")
    assert len(charts_of(tmp_path / "made")) >= 4


def test_the_committed_page_is_whole() -> None:
    """Twenty kinds and more, of every type."""
    charts = charts_of(COMMITTED)
    assert len(charts) >= 20
    types = {"exchange", "mempool", "miner", "predictive", "treasury", "whale"}
    assert {chart.split("-")[0] for chart in charts} == types
