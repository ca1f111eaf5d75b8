"""Persistence as the pipeline sees it: asynchronous, no exception for a store that is down, the window at hand."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from utxoiq.errors import ConfigError, StoreError, Transient, WarehouseError
from utxoiq.history import History, Past, Window
from utxoiq.models import (
    REAL_NETWORK,
    BlockBalances,
    BlockRecord,
    Cursor,
    MempoolSnapshot,
    PersistenceResult,
    Signal,
)

if TYPE_CHECKING:
    from google.cloud.bigquery import Client

    from utxoiq.chain.hashes import Hash256
    from utxoiq.models import BlockData
    from utxoiq.persistence.outcomes import Counts, Outcomes
    from utxoiq.persistence.warehouse.direct import DirectWarehouse

log = logging.getLogger("utxoiq.block")

SLACK = 1008
"""Blocks kept beyond the window before the oldest are let go of."""


class Store(Protocol):
    """Working state: see `SqliteStore` for what each call promises."""

    @property
    def network(self) -> str | None: ...
    @property
    def outcomes(self) -> Outcomes: ...
    def cursor(self) -> Cursor | None: ...
    def state(self, block_hash: str) -> str | None: ...
    def window(self, block_hash: str, size: int) -> list[Past]: ...
    def mempool_of(self, block_hash: str) -> MempoolSnapshot | None: ...
    def balances_of(self, block_hash: str) -> BlockBalances | None: ...
    def connect(self, record: BlockRecord) -> int: ...
    def disconnect(self, block_hash: str, correlation_id: str) -> int: ...
    def persist_signals(self, signals: Sequence[Signal], correlation_id: str) -> int: ...


class SignalPersistenceModule:
    """Writes blocks and signals to a store. A failed write is a result with `success` false, and logged."""

    def __init__(
        self,
        store: Store | None = None,
        *,
        bigquery_client: Client | None = None,
        storage_endpoint: str | None = None,
    ) -> None:
        """`store`: where everything goes. Or `bigquery_client`: then a write that succeeds is in BigQuery, and the past
        is read back from there at the beginning; `storage_endpoint` is an emulator's Storage Write API.

        Raises ConfigError unless one of both is given; with a client WarehouseError, WarehouseUnavailable.
        """
        if (store is None) == (bigquery_client is None):
            raise ConfigError("give SignalPersistenceModule either a store or a bigquery_client")
        self._warehouse: DirectWarehouse | None = None
        if bigquery_client is not None:
            from utxoiq.persistence.warehouse.direct import DirectWarehouse  # noqa: PLC0415 Google's clients are large

            self._warehouse = DirectWarehouse(bigquery_client, storage_endpoint)
            store = self._warehouse.store
        assert store is not None
        self.store: Store = store
        self._history = History()
        self._reaches_root = False

    async def connect(self, record: BlockRecord) -> PersistenceResult:
        """Commit one block with all it led to, or nothing of it."""
        block_hash, known = record.facts.blockhash, False

        def write() -> int:
            nonlocal known
            known = self.store.state(block_hash) is not None
            return self.store.connect(record)

        result = await self._write(record.correlation_id, write)
        if result.success and self._ends_with(record.facts.previousblockhash):
            flows = record.flows.sums() if record.flows else None
            past = [Past(record.facts, flows, record.block.mempool, record.balances)]
            if known:  # what was stored of it before may count beside this
                past = await asyncio.to_thread(self.store.window, block_hash, 1)
            self._history.append(*past)
        return result

    async def recorded_mempool(self, block_hash: Hash256) -> MempoolSnapshot | None:
        """The mempool a block that was here before was mined from: it does not change when the block returns. Raises
        StoreError."""
        return await asyncio.to_thread(self.store.mempool_of, str(block_hash))

    async def recorded_balances(self, block_hash: Hash256) -> BlockBalances | None:
        """What a block that was here before did to large balances. Raises StoreError."""
        return await asyncio.to_thread(self.store.balances_of, str(block_hash))

    async def outcomes(self, block: BlockData) -> Counts:
        """How often signals were right, by model and kind, as far as the store knew at the block's parent; nothing on
        other networks than mainnet. Raises StoreError."""
        if block.network.name != REAL_NETWORK or block.height is None:
            return {}
        return await asyncio.to_thread(self.store.outcomes.counts, block.height)

    async def disconnect(self, block_hash: Hash256, correlation_id: str) -> PersistenceResult:
        """Take the tip off and retract what it said, or change nothing."""
        kept = self._history.rows[:-1] if self._ends_with(str(block_hash)) else []
        self._history = History(kept)  # another, for a processor that hangs may still look at this one
        return await self._write(correlation_id, lambda: self.store.disconnect(str(block_hash), correlation_id))

    async def persist_signals(self, signals: Sequence[Signal], correlation_id: str) -> PersistenceResult:
        """One batch of signals, for callers that have no more than those."""
        return await self._write(correlation_id, lambda: self.store.persist_signals(signals, correlation_id))

    async def window(self, parent: Hash256, size: int) -> Window:
        """Up to `size` blocks ending with `parent`. Raises StoreError."""
        if size <= 0:
            return Window.of()
        follows = self._ends_with(str(parent))
        if not follows or (len(self._history.rows) < size and not self._reaches_root):
            self._history = History(await asyncio.to_thread(self.store.window, str(parent), size))
            self._reaches_root = len(self._history.rows) < size
        if len(self._history.rows) > size + SLACK:
            self._history, self._reaches_root = History(self._history.rows[-size:]), False
        return self._history.window(size)

    def forget(self) -> None:
        """Read the past anew: what is stored of it has changed."""
        self._history = History()

    def close(self) -> None:
        """Let go of BigQuery; a store that was given stays its owner's."""
        if self._warehouse:
            self._warehouse.close()

    def _ends_with(self, block_hash: str) -> bool:
        rows = self._history.rows
        return bool(rows) and rows[-1].facts.blockhash == block_hash

    async def _write(self, correlation_id: str, write: Callable[[], int]) -> PersistenceResult:
        def write_and_ship() -> int:
            rows = write()
            if self._warehouse:
                self._warehouse.ship()
            return rows

        try:
            return PersistenceResult(True, await asyncio.to_thread(write_and_ship))
        except (StoreError, WarehouseError) as error:
            log.error("write failed: %s", error, extra={"correlation_id": correlation_id})
            return PersistenceResult(False, error=str(error), transient=isinstance(error, Transient))
