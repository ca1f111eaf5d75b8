"""Fixtures that every test may use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from helpers.recorded import ABSENT, SHARED

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recorded real data; a test that asks for it is skipped where there is none."""
    if not SHARED.is_dir():
        pytest.skip(ABSENT)
    return SHARED
