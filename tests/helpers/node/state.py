"""The state of the double: its chain, its mempool, and the publisher that tells of both."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from threading import RLock

from helpers.node.chainstate import Chainstate
from helpers.node.faults import Faults
from helpers.node.kernel import Kernel
from helpers.node.mempool import EXPIRY, Mempool, Rejected
from helpers.node.publisher import Publisher
from helpers.node.tree import Entry
from helpers.node.wire import Transaction, read_transaction

DAY = 24 * 3600


class NodeState:
    """Everything RPC and REST read and change, under one lock."""

    def __init__(self, folder: Path, zmq_address: str, faults: Faults, *, txindex: bool) -> None:
        self.folder = folder
        self.faults = faults
        self.txindex = txindex
        self.lock = RLock()
        self.mock_time: int | None = None
        self.stopping = False
        self.started = time.time()
        self.publisher = Publisher(zmq_address)
        self.chainstate = Chainstate(Kernel(folder), self)
        self.mempool = Mempool(self.chainstate, self, self.now)
        self._behind = True
        self._saved: list[tuple[bytes, int, bool]] = []

    def now(self) -> float:
        return self.mock_time if self.mock_time is not None else time.time()

    @property
    def initial_download(self) -> bool:
        """Until the tip is recent once; a start begins anew."""
        if self._behind and self.chainstate.tip.time > self.now() - DAY:
            self._behind = False
        return self._behind if self.faults.ibd is None else self.faults.ibd

    @property
    def best_header(self) -> Entry:
        valid = [entry for entry in self.chainstate.tree.entries.values() if not entry.invalid]
        return max(valid, key=lambda entry: entry.work)

    def begin(self, *, fresh: bool) -> None:
        """What happens at a start. The first one connects genesis; each loads the mempool kept by the last stop."""
        self.started, self._behind = time.time(), True
        for entry in self.chainstate.tree.entries.values():
            if entry.sequence is not None and not fresh:
                entry.sequence = 0 if self.chainstate.contains(entry) else 1
        if fresh:
            self.publisher.connected(self.chainstate.tree.genesis)
        _ = self.initial_download
        self.mempool.clear()
        for raw, when, unbroadcast in self._saved:
            if when > self.now() - EXPIRY:
                with suppress(Rejected):
                    self.mempool.accept(read_transaction(raw), unbroadcast=unbroadcast, time=when)

    def end(self, *, cleanly: bool) -> None:
        """What happens when it ends: the mempool is written only by a clean stop."""
        self.mock_time = None
        if cleanly:
            entries = self.mempool.ordered
            self._saved = [(entry.transaction.raw, entry.time, entry.unbroadcast) for entry in entries]

    def is_pruned(self, entry: Entry) -> bool:
        return entry.raw is not None and 0 < entry.height < self.faults.pruned_below

    def block_disconnected(self, entry: Entry) -> None:
        self.publisher.disconnected(entry)

    def block_connected(self, entry: Entry) -> None:
        self.publisher.connected(entry)

    def tip_changed(self, tip: Entry, fork: Entry) -> None:
        if not self.initial_download:
            self.publisher.tip(tip)

    def block_joins(self, transactions: list[Transaction]) -> None:
        self.mempool.block_joins(transactions)

    def blocks_left(self, transactions: list[Transaction], *, resurrect: bool) -> None:
        self.mempool.blocks_left(transactions, resurrect=resurrect)

    def transaction_added(self, transaction: Transaction, sequence: int) -> None:
        self.publisher.added(transaction, sequence)

    def transaction_removed(self, transaction: Transaction, sequence: int) -> None:
        self.publisher.removed(transaction, sequence)
