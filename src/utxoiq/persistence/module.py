"""Persistence as the pipeline sees it: asynchronous, no exception for a store that is down, the window at hand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from utxoiq.errors import StoreError, Transient
from utxoiq.models import BlockFacts, BlockRecord, Cursor, MempoolSnapshot, PersistenceResult, Signal

if TYPE_CHECKING:
    from utxoiq.chain.hashes import Hash256

log = logging.getLogger("utxoiq.block")


class Store(Protocol):
    """Working state: see `SqliteStore` for what each call promises."""

    @property
    def network(self) -> str | None: ...
    def cursor(self) -> Cursor | None: ...
    def state(self, block_hash: str) -> str | None: ...
    def window(self, block_hash: str, size: int) -> list[BlockFacts]: ...
    def mempools(self, block_hash: str, size: int) -> list[MempoolSnapshot | None]: ...
    def connect(self, record: BlockRecord) -> int: ...
    def disconnect(self, block_hash: str, correlation_id: str) -> int: ...
    def persist_signals(self, signals: Sequence[Signal], correlation_id: str) -> int: ...


class SignalPersistenceModule:
    """Writes blocks and signals to a store. A failed write is a result with `success` false, and logged."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._window: list[BlockFacts] = []
        self._reaches_root = False

    async def connect(self, record: BlockRecord) -> PersistenceResult:
        """Commit one block with all it led to, or nothing of it."""
        result = await self._write(record.correlation_id, lambda: self.store.connect(record))
        if result.success and self._window and self._window[-1].blockhash == record.facts.previousblockhash:
            self._window.append(record.facts)
        return result

    async def disconnect(self, block_hash: Hash256, correlation_id: str) -> PersistenceResult:
        """Take the tip off and retract what it said, or change nothing."""
        self._window = []
        return await self._write(correlation_id, lambda: self.store.disconnect(str(block_hash), correlation_id))

    async def persist_signals(self, signals: Sequence[Signal], correlation_id: str) -> PersistenceResult:
        """One batch of signals, for callers that have no more than those."""
        return await self._write(correlation_id, lambda: self.store.persist_signals(signals, correlation_id))

    async def window(self, parent: Hash256, size: int) -> list[BlockFacts]:
        """Facts of up to `size` blocks ending with `parent`. Raises StoreError."""
        if size <= 0:
            return []
        follows = bool(self._window) and self._window[-1].blockhash == str(parent)
        if not follows or (len(self._window) < size and not self._reaches_root):
            self._window = await asyncio.to_thread(self.store.window, str(parent), size)
            self._reaches_root = len(self._window) < size
        if len(self._window) > 2 * size:
            del self._window[:-size]
            self._reaches_root = False
        return self._window[-size:]

    async def mempools(self, parent: Hash256, size: int) -> list[MempoolSnapshot | None]:
        """The mempools of the same blocks as `window`, None where one was not seen. Raises StoreError."""
        return await asyncio.to_thread(self.store.mempools, str(parent), size)

    async def _write(self, correlation_id: str, write: Callable[[], int]) -> PersistenceResult:
        try:
            return PersistenceResult(True, await asyncio.to_thread(write))
        except StoreError as error:
            log.error("write failed: %s", error, extra={"correlation_id": correlation_id})
            return PersistenceResult(False, error=str(error), transient=isinstance(error, Transient))
