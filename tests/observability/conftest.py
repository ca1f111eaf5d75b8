"""A module to measure with, a collector to send to, and logs as they were before."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest

from observability.collector import Collector
from utxoiq.observability import MonitoringModule
from utxoiq.observability.logs import QUIET

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def monitoring() -> Iterator[MonitoringModule]:
    """One that exports to nobody."""
    module = MonitoringModule()
    yield module
    module.shutdown()


@pytest.fixture
def collector() -> Iterator[Collector]:
    """An OTLP collector."""
    with Collector() as running:
        yield running


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    """Exporters end once their module was shut down: at the latest when the request they are in times out."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=15)
        assert not thread.is_alive(), f"{thread.name} goes on"


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    """The root logger; its handlers and the levels are put back."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    levels = {logger: logger.level for logger in (root, *map(logging.getLogger, QUIET))}
    yield root
    for logger, level in levels.items():
        logger.setLevel(level)
    for handler in [h for h in root.handlers if h not in handlers]:
        root.removeHandler(handler)
