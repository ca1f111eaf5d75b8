"""Blocks with their facts and flows, read and computed side by side in other processes, given in order."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from utxoiq.entities.labels import labels_for
from utxoiq.errors import NodeError, RpcError
from utxoiq.models import BlockData, BlockFacts, BlockFlows
from utxoiq.sources.esplora import EsploraSource

if TYPE_CHECKING:
    from utxoiq.entities.labels import LabelSet
    from utxoiq.sources.base import BlockSource

Open = Callable[[], "BlockSource"]
"""What each process opens its source with: it must pickle, and compare equal to itself there."""
CHUNK = 8
"""Blocks a task: enough that handing them over costs little beside reading them."""


class Read(NamedTuple):
    """A block and what it did."""

    block: BlockData
    facts: BlockFacts
    flows: BlockFlows | None


def read(open_source: Open, labels_file: Path | None, heights: Sequence[int]) -> list[Read]:
    """The blocks at these heights of the best chain. Raises SourceError, DecodeError, LabelError."""
    from utxoiq.facts.compute import compute_facts  # noqa: PLC0415 kernels load with the first block
    from utxoiq.facts.flows import compute_flows  # noqa: PLC0415

    source, labels = _here.opened(open_source, labels_file)
    found = []
    for height in heights:
        try:
            block = source.block_at(height)
        except RpcError as error:  # it would not find its way back from another process
            raise NodeError(str(error)) from None
        found.append(Read(block, compute_facts(block, labels), compute_flows(block, labels)))
    return found


async def read_in_order(
    executor: Executor,
    workers: int,
    open_source: Open,
    labels_file: Path | None,
    heights: Sequence[int],
    *,
    seconds_a_block: float = 0.0,
) -> AsyncGenerator[Read, None]:
    """The blocks of these heights one after the other, a few tasks ahead of who takes them; no faster than one every
    `seconds_a_block`. Raises what `read` raises."""
    size = 1 if seconds_a_block else CHUNK
    chunks = deque(heights[start : start + size] for start in range(0, len(heights), size))
    loop, ahead = asyncio.get_running_loop(), deque[asyncio.Future[list[Read]]]()
    due = loop.time()
    try:
        while chunks or ahead:
            while chunks and len(ahead) < 2 * workers and loop.time() >= due:
                due = max(due + seconds_a_block * size, loop.time() - seconds_a_block)
                ahead.append(loop.run_in_executor(executor, read, open_source, labels_file, chunks.popleft()))
            if not ahead:
                await asyncio.sleep(max(0.0, due - loop.time()))
                continue
            for one in await ahead.popleft():
                yield one
    finally:
        for task in ahead:
            task.cancel()
        await asyncio.gather(*ahead, return_exceptions=True)


class _Here(threading.local):
    """What this thread reads from: what a source remembers of its last block is of one reader."""

    def __init__(self) -> None:
        self._asked: tuple[Open, Path | None] | None = None
        self._opened: tuple[BlockSource, LabelSet] | None = None

    def opened(self, open_source: Open, labels_file: Path | None) -> tuple[BlockSource, LabelSet]:
        """Opened with the first block, and when others are asked for."""
        if self._opened is None or self._asked != (open_source, labels_file):
            source = open_source()
            if isinstance(source, EsploraSource):
                source.tip()  # so that it does not ask what each old block spent, page by page
            self._asked, self._opened = (open_source, labels_file), (source, labels_for(source.network, labels_file))
        return self._opened


_here = _Here()
