"""Orchestrators that end their threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from utxoiq.persistence import SignalPersistenceModule, SqliteStore
from utxoiq.pipeline import PipelineOrchestrator
from utxoiq.processors import SignalProcessor


@pytest.fixture
def orchestrate(store: SqliteStore) -> Iterator[Callable[..., PipelineOrchestrator]]:
    """An orchestrator of these processors on `store`; its threads are ended after the test."""
    made: list[PipelineOrchestrator] = []

    def make(*processors: SignalProcessor, **options: Any) -> PipelineOrchestrator:
        made.append(PipelineOrchestrator(processors, SignalPersistenceModule(store=store), **options))
        return made[-1]

    yield make
    for orchestrator in made:
        orchestrator.close()
