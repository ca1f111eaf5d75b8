"""A node for tests: played by the double, and, where there is one, a real Bitcoin Core."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.node.bitcoind import ABSENT, BitcoindNode, bitcoind_path
from helpers.node.double import NodeDouble
from helpers.node.interface import TestNode

KINDS = ["double", pytest.param("bitcoind", marks=pytest.mark.node)]
MATURE = 110

MakeNode = Callable[..., TestNode]


@pytest.fixture
def make_node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MakeNode]:
    """Makes nodes: `make_node(kind="double", blocks=0, start=True, **options of start)`."""
    made: list[NodeDouble | BitcoindNode] = []

    def make(kind: str = "double", *, blocks: int = 0, start: bool = True, **options: Any) -> TestNode:
        if kind == "bitcoind" and bitcoind_path() is None:
            pytest.skip(ABSENT)
        folder = tmp_path / f"node{len(made)}"
        made.append(NodeDouble(folder) if kind == "double" else BitcoindNode(folder))
        if start:
            made[-1].start(**options)
            if blocks:
                made[-1].mine(blocks)
        return made[-1]

    yield make
    for node in made:
        node.close()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which node: for tests that make their own."""
    return str(request.param)


@pytest.fixture
def node(kind: str, make_node: MakeNode) -> TestNode:
    """A running node with 110 blocks, so that ten coins can be spent."""
    return make_node(kind, blocks=MATURE)


@pytest.fixture
def double(make_node: MakeNode) -> NodeDouble:
    """The double alone, with 110 blocks: for what only it can be made to do."""
    made = make_node("double", blocks=MATURE)
    assert isinstance(made, NodeDouble)
    return made
