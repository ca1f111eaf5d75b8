"""One emulator for all tests of a worker, a project of its own for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest

from helpers.emulator import ABSENT, PROGRAM, Emulator
from utxoiq.persistence.warehouse.bigquery import BigQueryWarehouse
from utxoiq.persistence.warehouse.streams import WriteStreams


@pytest.fixture(scope="session")
def emulator() -> Iterator[Emulator]:
    if not PROGRAM.exists():
        pytest.skip(ABSENT)
    started = Emulator()
    started.start()
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture
def project() -> str:
    return f"test-{uuid4().hex[:12]}"


@pytest.fixture
def warehouse(emulator: Emulator, project: str) -> BigQueryWarehouse:
    """With its tables."""
    made = emulator.warehouse(project)
    made.migrate()
    return made


@pytest.fixture
def streams(emulator: Emulator, project: str) -> Iterator[WriteStreams]:
    opened = emulator.streams(project)
    try:
        yield opened
    finally:
        opened.close()
