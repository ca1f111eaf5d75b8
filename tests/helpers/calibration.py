"""Confidences as the formulas in docs/signals give them: what a simulated economy makes of them changes by the fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from utxoiq.processors import base
from utxoiq.processors.calibration import Calibration


@contextmanager
def uncalibrated() -> Iterator[None]:
    """Inside, nothing is calibrated but what is read off a rule."""
    with patch.object(base, "packaged", lambda: Calibration("none", {})):
        yield
