"""Orchestrators that end their threads; nodes; and keepers of a ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from balances.chains import Item
from balances.test_ledger import branches_of
from pipeline.recounting import Led
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


@pytest.fixture
def led(tmp_path: Path) -> Iterator[Led]:
    """Along the kernel's chain, from genesis."""
    led = Led(tmp_path / "ledger")
    yield led
    led.keeper.close()


@pytest.fixture
def old(led: Led) -> list[Item]:
    """The branch before the reorg."""
    return branches_of(led.chain)[0]
