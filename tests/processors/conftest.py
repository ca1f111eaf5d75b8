"""Processors are looked at without what a simulated economy made of their confidences: tests/evaluation has that."""

from __future__ import annotations

import pytest

from utxoiq.processors import base
from utxoiq.processors.calibration import Calibration


@pytest.fixture(autouse=True)
def uncalibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Confidences are those of the formulas in docs/signals."""
    monkeypatch.setattr(base, "packaged", lambda: Calibration("none", {}))
