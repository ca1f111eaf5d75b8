"""The block monitor: keeps the store at the source's tip, for months, whatever happens to either."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol
from uuid import uuid4

from utxoiq.chain.hashes import Hash256
from utxoiq.chain.header import read_header
from utxoiq.errors import NodeRefused, NodeUnavailable, SourceError, StoreError, Transient, UtxoiqError, WrongNetwork
from utxoiq.models import Connected, Disconnected
from utxoiq.observability import bind_correlation_id
from utxoiq.sources.steps import ChainReader, Place, UnknownTip
from utxoiq.sources.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from utxoiq.models import BlockData, Cursor, MempoolSnapshot, PipelineResult
    from utxoiq.persistence.sqlite import SqliteStore
    from utxoiq.pipeline.orchestrator import PipelineOrchestrator

log = logging.getLogger(__name__)

FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
"""Seconds between attempts while something is wrong: doubled each time."""
PROGRESS_SECONDS = 5.0
REMIND_SECONDS = 600.0
"""How often a reason that stays the same is told again."""


class LiveSource(ChainReader, Protocol):
    """A source that can be asked again and again. `best_hash` is its cheapest question."""

    first: int | None

    def best_hash(self) -> str: ...
    def block_at(self, height: int) -> BlockData: ...
    def lowest(self) -> int: ...
    def forget(self) -> None: ...
    def close(self) -> None: ...
    def snapshot(self) -> MempoolSnapshot | None: ...
    def announced_at(self) -> set[str]: ...
    def follow(self, cursor: Cursor | None) -> AsyncIterator[Connected | Disconnected]: ...


@dataclass(slots=True)
class Status:
    """How the monitor stands, for people and for /readyz."""

    state: str = "starting"
    """`starting`, `catching up`, `live`, or `waiting` with a reason."""
    reason: str | None = None
    store_height: int | None = None
    source_height: int | None = None
    connected: int = 0
    disconnected: int = 0
    last_block_at: float | None = None
    """Wall clock of the last commit, Unix seconds UTC."""

    @property
    def ready(self) -> bool:
        return self.state == "live"


class BlockMonitor:
    """Follows `source` from the store's cursor, block by block, each committed before the next.

    Nothing is kept in memory that a restart would miss: after any failure it begins again from the stored cursor.
    """

    def __init__(
        self,
        source: LiveSource,
        store: SqliteStore,
        orchestrator: PipelineOrchestrator,
        *,
        poll_seconds: float = 2.0,
        window_blocks: int = 288,
        from_height: int | None = None,
        mempool_of: Callable[[BlockData], MempoolSnapshot | None] = lambda _: None,
        after_block: Callable[[], None] = lambda: None,
        between_blocks: Callable[[], None] = lambda: None,
    ) -> None:
        """`mempool_of`: the snapshot a block was mined from, asked for while live. `after_block`: called when a block
        was committed while live. `between_blocks`: called where settings may be swapped."""
        self.source, self.store, self.orchestrator = source, store, orchestrator
        self.status = Status()
        self._poll, self._window, self._from = poll_seconds, window_blocks, from_height
        self._mempool_of, self._after_block, self._between_blocks = mempool_of, after_block, between_blocks
        self._bell, self._rang_at = asyncio.Event(), 0.0
        self._told: tuple[str, float] = ("", 0.0)
        self._progress: tuple[float, int | None] = (0.0, None)

    def ring(self) -> None:
        """Something may have happened: look now."""
        if not self._bell.is_set():
            self._rang_at = time.perf_counter()
            self._bell.set()

    def use(self, source: LiveSource, poll_seconds: float) -> None:
        """Follow another source from the next look on."""
        self.source, self._poll = source, poll_seconds
        self.ring()

    async def run(self) -> None:
        """Until cancelled. Whatever fails is told, and tried again."""
        wait = FIRST_WAIT
        while True:
            try:
                await self._look()
            except UtxoiqError as error:
                self._tell(error)
                self._between_blocks()
                await self._rest(wait)
                wait = min(2 * wait, LONGEST_WAIT)
                self.source.forget()
                continue
            wait = FIRST_WAIT
            await self._rest(self._poll)

    async def _rest(self, seconds: float) -> None:
        """Until the bell rings, or it is time to look again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # `wait_for` of 3.11 can lose a cancellation
                await self._bell.wait()
        self._bell.clear()

    async def _look(self) -> None:
        """Be at the source's tip, or raise why not."""
        began = self._rang_at if self._rang_at else time.perf_counter()
        self._rang_at = 0.0
        cursor = await asyncio.to_thread(self.store.cursor)
        best = await in_thread(self.source.best_hash)
        if self.status.state == "live" and cursor is not None and cursor.block_hash == best:
            self._between_blocks()
            return
        await self._catch_up(cursor, began)
        if self.status.state != "live":
            log.info("live at height %s", self.status.store_height)
        self.status.state, self.status.reason = "live", None
        self._told = ("", 0.0)
        self.orchestrator.monitoring.emit_node_state(True)

    async def _catch_up(self, cursor: Cursor | None, began: float) -> None:
        await self._check_network()
        tip = await in_thread(self.source.chain_tip)
        self.status.source_height = tip.height
        self.status.store_height = cursor.height if cursor else None
        if cursor is None:
            self.source.first = await in_thread(self._first, tip.height)
        behind = tip.height - (cursor.height if cursor else (self.source.first or 0) - 1)
        if self.status.state != "live" and behind > 1:
            self.status.state = "catching up"
            log.info("catching up: %d blocks behind %s", behind, self.source.where)
        try:
            await self._follow(cursor, began)
        except UnknownTip:
            if cursor is None:
                raise
            await self._leave_unknown_branch(cursor)
            await self._catch_up(await asyncio.to_thread(self.store.cursor), began)

    async def _check_network(self) -> None:
        network = await in_thread(lambda: self.source.network)
        kept = await asyncio.to_thread(lambda: self.store.network)
        if kept not in (None, network.name):
            raise WrongNetwork(
                f"the store holds {kept}, {self.source.where} is {network.name}: give another db or node"
            )

    def _first(self, tip_height: int) -> int:
        """Where a new store begins. Raises NodeRefused where the node has pruned that."""
        lowest = self.source.lowest()
        if self._from is None:
            return max(lowest, tip_height - self._window, 0)
        if self._from < lowest:
            raise NodeRefused(
                f"{self.source.where}: has pruned all blocks below {lowest}, and --from asks for {self._from}"
            )
        return self._from

    async def _follow(self, cursor: Cursor | None, began: float) -> None:
        taken = 0
        steps = self.source.follow(cursor)
        try:
            async for step in steps:
                if isinstance(step, Disconnected):
                    taken += 1
                    await self._disconnect(step)
                else:
                    if taken:
                        self.orchestrator.monitoring.emit_reorg_metric(taken)
                        log.warning("reorg: %d blocks taken off before block %s", taken, step.block.block_hash)
                    taken = 0
                    await self._connect(step, began)
                    began = time.perf_counter()
                self._between_blocks()
        finally:
            await steps.aclose()  # type: ignore[attr-defined]
        if taken:
            self.orchestrator.monitoring.emit_reorg_metric(taken)

    async def _connect(self, step: Connected, began: float) -> None:
        block, correlation_id = step.block, uuid4().hex
        live = self.status.state == "live"
        with bind_correlation_id(correlation_id):
            log.debug("block %s of height %s found", block.block_hash, block.height)
            if live:
                block = replace(block, mempool=self._mempool_of(block))
            result = await self.orchestrator.process_new_block(block, correlation_id, follows=True)
            if not result.success:
                raise result.failure or StoreError(result.error or "a commit failed")
            self.status.connected += 1
            self.status.last_block_at = time.time()
            self._at(block.height, max(block.height or 0, self.status.source_height or 0))
            if live:
                self._tell_block(block, result, time.perf_counter() - began)
            else:
                self._tell_progress()

    def _tell_block(self, block: BlockData, result: PipelineResult, seconds: float) -> None:
        self._after_block()
        self.orchestrator.monitoring.emit_block_latency(seconds, block.source.split()[0])
        for insight in result.insights:
            log.info("insight: %s", insight.headline, extra={"signal_id": insight.signal_id})
        log.info(
            "block %d: %d transactions, %d signals, committed after %.0f ms",
            block.height, block.block.n_tx, len(result.signals), 1000 * seconds,
            extra={"block_hash": str(block.block_hash), **result.timing_metrics},
        )  # fmt: skip

    def _tell_progress(self) -> None:
        """A line every few seconds while catching up."""
        now, status = time.monotonic(), self.status
        since, height = self._progress
        if now - since < PROGRESS_SECONDS or status.store_height is None or status.source_height is None:
            return
        if height is not None:
            rate, left = (status.store_height - height) / (now - since), status.source_height - status.store_height
            log.info(
                "catching up: at %d of %d, %.0f blocks/s, %s left", status.store_height, status.source_height, rate,
                timedelta(seconds=round(left / rate)) if rate > 0 else "unknown time",
            )  # fmt: skip
        self._progress = now, status.store_height

    async def _disconnect(self, step: Disconnected) -> None:
        result = await self.orchestrator.disconnect_block(step.block_hash)
        if not result.success:
            raise StoreError(result.error or "a disconnect failed")
        self.status.disconnected += 1
        log.warning("block %s of height %d is stale: taken off", step.block_hash, step.height)
        self._at(step.height - 1, self.status.source_height)

    def _at(self, store_height: int | None, source_height: int | None) -> None:
        self.status.store_height, self.status.source_height = store_height, source_height
        self.orchestrator.monitoring.emit_live_metrics(store_height, source_height)

    async def _leave_unknown_branch(self, cursor: Cursor) -> None:
        """The node never heard of our tip, a stale block only its predecessor saw: go down to where both agree.

        Only when its chain has at least our work. Raises NodeUnavailable while it has less, SourceError where there is
        no common block.
        """
        tip = await in_thread(self.source.chain_tip)  # before it is asked what it knows, for it may learn meanwhile
        stale, fork, work = await in_thread(self._unknown_blocks, cursor)
        if not stale:
            return
        if tip.work < fork.work + work:
            raise NodeUnavailable(
                f"{self.source.where}: at height {tip.height} with less work than the store's chain of height "
                f"{cursor.height}, whose tip it does not know; waiting for it to catch up"
            )
        for height, block_hash in stale:
            await self._disconnect(Disconnected(block_hash, height))

    def _unknown_blocks(self, cursor: Cursor) -> tuple[list[tuple[int, Hash256]], Place, int]:
        """Our blocks that the node doesn't know, downwards, the first one it does, and the work of those above."""
        found: list[tuple[int, Hash256]] = []
        work, height = 0, cursor.height
        for display, header in self.store.ancestors(cursor.block_hash):
            block_hash = Hash256.from_display(display)
            place = self.source.place(block_hash)
            if place is not None:
                return found, place, work
            found.append((height, block_hash))
            work += self.source.work_of(read_header(header))
            height -= 1
        raise SourceError(
            f"{self.source.where}: knows none of the {len(found)} blocks of this store; is it the right node? "
            "Else give another db"
        )

    def _tell(self, error: Exception) -> None:
        """Once a reason, and again every ten minutes."""
        reason = str(error)
        self.status.state, self.status.reason = "waiting", reason
        self.orchestrator.monitoring.emit_node_state(False)
        self.orchestrator.errors.count(error, "monitor")
        before, at = self._told
        if reason != before or time.monotonic() - at > REMIND_SECONDS:
            level = logging.WARNING if isinstance(error, Transient) else logging.ERROR
            log.log(level, "waiting: %s", reason)
            self._told = (reason, time.monotonic())
