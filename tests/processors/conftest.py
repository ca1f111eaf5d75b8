"""Processors are looked at without what a simulated economy made of their confidences: tests/evaluation has that."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers.calibration import uncalibrated


@pytest.fixture(autouse=True)
def by_formulas() -> Iterator[None]:
    """Nothing is calibrated."""
    with uncalibrated():
        yield
