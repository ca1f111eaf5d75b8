"""Orchestrators that end their threads; and nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sources.node.conftest import double, kind, make_node, node
from utxoiq.persistence import SignalPersistenceModule, SqliteStore
from utxoiq.pipeline import PipelineOrchestrator
from utxoiq.processors import SignalProcessor

__all__ = ["double", "kind", "make_node", "node", "orchestrate"]


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
