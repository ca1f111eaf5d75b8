"""Signals are worded with the confidences that formulas give: what a simulated economy makes of them changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers.calibration import uncalibrated


@pytest.fixture(autouse=True)
def by_formulas() -> Iterator[None]:
    """Nothing is calibrated."""
    with uncalibrated():
        yield
