"""The active chain: which blocks are on it, what is unspent, and the steps from one tip to the next.

The steps and their order are Bitcoin Core's (validation.cpp: ActivateBestChain, InvalidateBlock), because what a
subscriber hears follows from them.
"""

from __future__ import annotations

from itertools import takewhile
from typing import Protocol

from helpers.node.kernel import Kernel
from helpers.node.tree import BlockTree, Entry
from helpers.node.wire import Transaction
from helpers.reference import sha256d
from utxoiq.chain.serialize import Coin


class Watcher(Protocol):
    """Who is told what happens to the chain, in the order Core tells it."""

    def block_disconnected(self, entry: Entry) -> None: ...

    def block_connected(self, entry: Entry) -> None: ...

    def tip_changed(self, tip: Entry, fork: Entry) -> None: ...

    def block_joins(self, transactions: list[Transaction]) -> None:
        """A block is on the chain now: the mempool lets go of what it confirms and what contradicts it."""

    def blocks_left(self, transactions: list[Transaction], *, resurrect: bool) -> None:
        """Blocks were taken off: their transactions, in block order, may return to the mempool."""


class Chainstate:
    """The active chain over a block tree."""

    def __init__(self, kernel: Kernel, watcher: Watcher) -> None:
        self.kernel = kernel
        self.watcher = watcher
        self.tree = BlockTree(kernel.genesis)
        self.active = [self.tree.genesis]
        self.coins: dict[bytes, Coin] = {}
        """Unspent outputs by outpoint; genesis has none that could be spent."""
        self.tree.genesis.undo = []
        self.confirmed: dict[bytes, Entry] = {}
        """The block of each transaction on the active chain."""
        self._confirm(self.tree.genesis)
        self._candidates: set[Entry] = set()

    @property
    def tip(self) -> Entry:
        return self.active[-1]

    def contains(self, entry: Entry) -> bool:
        return entry.height < len(self.active) and self.active[entry.height] is entry

    def find_fork(self, entry: Entry) -> Entry:
        """The last block an entry has in common with the active chain."""
        return next(other for other in entry.ancestry() if self.contains(other))

    def receive_header(self, header: bytes) -> str | None:
        """What `submitheader` does with a header: why it is refused, or None."""
        prev = self.tree.entries.get(header[4:36])
        if prev is None:
            return f"Must submit previous header ({header[4:36][::-1].hex()}) first"
        if prev.invalid:
            return "bad-prevblk"
        self._bring_up_to_date(prev)
        if not self.kernel.submit_header(header):
            return "invalid header"
        self.tree.add_header(header)
        return None

    def receive(self, raw: bytes, transactions: list[Transaction]) -> str | None:
        """What `submitblock` says of a block, after everything that follows from it has been done."""
        block_hash = sha256d(raw[:80])
        known, prev = self.tree.entries.get(block_hash), self.tree.entries.get(raw[4:36])
        if known is not None and (known.invalid or known.raw is not None):
            return "duplicate-invalid" if known.invalid else "duplicate"
        if prev is None or prev.invalid:
            return "prev-blk-not-found" if prev is None else "bad-prevblk"
        self._bring_up_to_date(prev)
        outcome = self.kernel.submit(raw)
        if outcome.reason is not None:
            if outcome.header_known:
                self.tree.mark_invalid(self.tree.add_header(raw[:80]))
            return outcome.reason
        seen = self.tree.add_header(raw[:80])
        seen.transactions = transactions
        linked = self.tree.add_block(seen, raw)
        self._candidates.update(entry for entry in linked if not self.tip.better_than(entry))
        self.activate()
        if seen.undo is None and not seen.invalid:
            return "inconclusive"
        return self.kernel.verdicts.get(block_hash, "inconclusive")

    def invalidate(self, entry: Entry) -> None:
        """Mark a block invalid, and go where the most work is then."""
        left = 0
        while self.contains(entry):
            block = self._disconnect_tip()
            left += 1
            self.watcher.blocks_left(block.transactions, resurrect=left <= 10)
        self.tree.mark_invalid(entry)
        self._gather_candidates()
        self.activate()

    def reconsider(self, entry: Entry) -> None:
        """Take that back."""
        self.tree.reconsider(entry)
        self._gather_candidates()
        self.activate()

    def activate(self) -> None:
        """Go to the best chain there is, telling of each stretch."""
        target: Entry | None = None
        while True:
            start, moved = self.tip, False
            while True:
                target = target or self._best()
                if target is None or target is self.tip:
                    break
                connected, failed = self._step(target)
                moved = True
                if failed:
                    target = None
                for entry in connected:
                    self.watcher.block_connected(entry)
                if not start.better_than(self.tip):
                    break
            if not moved:
                return
            fork = self.find_fork(start)
            if fork is not self.tip:
                self.watcher.tip_changed(self.tip, fork)
            if self.tip is target:
                return

    def _step(self, target: Entry) -> tuple[list[Entry], bool]:
        """Towards `target`, until there is more work than before; and whether a block on the way was invalid."""
        before, fork = self.tip, self.find_fork(target)
        pool: list[Transaction] = []
        disconnected = self.tip is not fork
        while self.tip is not fork:
            pool = self._disconnect_tip().transactions + pool
        way = list(takewhile(lambda entry: entry is not fork, target.ancestry()))
        connected, failed = [], False
        for entry in reversed(way):
            if not self._connect_tip(entry):
                failed = True
                break
            confirmed = {transaction.txid for transaction in entry.transactions}
            pool = [transaction for transaction in pool if transaction.txid not in confirmed]
            connected.append(entry)
            if self.tip.work > before.work:
                break
        self._candidates = {entry for entry in self._candidates if not self.tip.better_than(entry)}
        if disconnected:
            self.watcher.blocks_left(pool, resurrect=True)
        return connected, failed

    def _disconnect_tip(self) -> Entry:
        entry = self.active.pop()
        self._spend(entry, back=True)
        for transaction in entry.transactions:
            self.confirmed.pop(transaction.txid, None)
        self.watcher.block_disconnected(entry)
        return entry

    def _connect_tip(self, entry: Entry) -> bool:
        assert entry.prev is self.tip
        if entry.hash not in self.kernel.verdicts:
            self._restart_kernel()
        if self.kernel.verdicts[entry.hash] is not None:
            self.tree.mark_invalid(entry)
            self._gather_candidates()
            return False
        self._spend(entry, back=False)
        self.active.append(entry)
        self._confirm(entry)
        self.watcher.block_joins(entry.transactions)
        return True

    def _confirm(self, entry: Entry) -> None:
        for transaction in entry.transactions:
            self.confirmed[transaction.txid] = entry

    def _spend(self, entry: Entry, *, back: bool) -> None:
        """Apply a block to the unspent outputs, or take it back."""
        if back:
            assert entry.undo is not None
            for transaction, spent in zip(entry.transactions[:0:-1], reversed(entry.undo), strict=True):
                self._remove_outputs(transaction)
                self.coins.update(zip(transaction.outpoints, spent, strict=True))
            self._remove_outputs(entry.transactions[0])
            return
        undo = []
        for transaction in entry.transactions:
            if not transaction.is_coinbase:
                undo.append([self.coins.pop(outpoint) for outpoint in transaction.outpoints])
            for index, (value, script) in enumerate(transaction.outputs):
                if not unspendable(script):
                    self.coins[transaction.created(index)] = Coin(value, script, entry.height, transaction.is_coinbase)
        entry.undo = undo

    def _remove_outputs(self, transaction: Transaction) -> None:
        for index in range(len(transaction.outputs)):
            self.coins.pop(transaction.created(index), None)

    def _best(self) -> Entry | None:
        best: Entry | None = None
        for entry in self._candidates:
            if not entry.invalid and (best is None or entry.better_than(best)):
                best = entry
        return best

    def _gather_candidates(self) -> None:
        self._candidates = {
            entry
            for entry in self.tree.entries.values()
            if entry.sequence is not None and not entry.invalid and not self.tip.better_than(entry)
        }

    def _bring_up_to_date(self, prev: Entry) -> None:
        """Begin the kernel again if it doesn't know the parent of what comes."""
        if not self.kernel.knows(prev.hash):
            self._restart_kernel()

    def _restart_kernel(self) -> None:
        wanted = [entry for entry in self.tree.entries.values() if not entry.invalid and entry.prev is not None]
        linked = sorted((entry.sequence, entry.raw) for entry in wanted if entry.sequence is not None and entry.raw)
        self.kernel.again((raw for _, raw in linked), (entry.header for entry in wanted if entry.sequence is None))


def unspendable(script: bytes) -> bool:
    """Outputs that never enter the set of unspent ones."""
    return script[:1] == b"\x6a" or len(script) > 10_000
