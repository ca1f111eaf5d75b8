"""Balances beside the chain: a ledger kept at the store's tip, and what each block did to it.

The ledger is no part of a block's commit. Where it can't follow, balances are unknown, that is told, and blocks go on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from utxoiq.balances.changes import told
from utxoiq.balances.errors import LedgerError
from utxoiq.balances.ledger import Ledger
from utxoiq.balances.manifest import read_manifest
from utxoiq.balances.records import DEFAULTS
from utxoiq.balances.records import Settings as LedgerSettings
from utxoiq.balances.rolling import roll
from utxoiq.errors import SourceError, UtxoiqError
from utxoiq.models import LARGE_HOLDING, BlockBalances, Held
from utxoiq.observability import MonitoringModule

if TYPE_CHECKING:
    from collections.abc import Callable

    from utxoiq.chain.block import Block, Spent
    from utxoiq.chain.hashes import Hash256
    from utxoiq.entities.labels import LabelSet
    from utxoiq.models import BlockData, BlockFlows

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_BEHIND = 2016
"""Blocks that a ledger is brought forward while a block waits for it."""


class HoldingsStatus(NamedTuple):
    """How the ledger stands, for people."""

    height: int | None
    block_hash: str | None
    reason: str | None
    """Why balances are unknown; None while they are known."""


class BalanceKeeper:
    """One ledger, opened when it is first needed. `block_at` gives the best chain's block of a height, to catch up
    with."""

    def __init__(
        self,
        folder: Path,
        block_at: Callable[[int], BlockData],
        monitoring: MonitoringModule | None = None,
        settings: LedgerSettings = DEFAULTS,
    ) -> None:
        """Raises LedgerError where there is no ledger."""
        read_manifest(folder)
        self.folder, self._block_at, self._settings = folder, block_at, settings
        self._monitoring = monitoring or MonitoringModule(enabled=False)
        self._ledger: Ledger | None = None
        self._entities: dict[str, Held] = {}
        self._labels_version = ""
        self._reason: str | None = None
        self._alone = Lock()
        self._tidying: asyncio.Future[None] | None = None
        """Beside the rest of the block; the next one waits for it."""

    @property
    def status(self) -> HoldingsStatus:
        """How the ledger stands."""
        tip = self._ledger.tip if self._ledger else None
        return HoldingsStatus(tip and tip[0], tip and str(tip[1]), self._reason)

    async def catch_up(self, height: int, block_hash: Hash256) -> None:
        """Bring the ledger to a block, where it is not there yet. What hinders it is told."""
        await asyncio.to_thread(self._safely, lambda ledger: self._roll_to(ledger, height, block_hash))

    async def connect(self, block: BlockData, flows: BlockFlows | None, labels: LabelSet) -> BlockBalances | None:
        """Take up a block: what it did to large balances. None where that is unknown."""
        began = time.perf_counter()
        found = await asyncio.to_thread(self._safely, lambda ledger: self._connect(ledger, block, flows, labels))
        if found is not None:
            self._recover()
            self._monitoring.emit_balances(block.height, time.perf_counter() - began)
            self._tidying = asyncio.get_running_loop().run_in_executor(None, self._tidy)
        return found

    async def disconnect(self, block_hash: Hash256) -> None:
        """Take a block back; one it does not stand at was never taken up."""
        await asyncio.to_thread(self._safely, lambda ledger: self._disconnect(ledger, block_hash))

    def close(self) -> None:
        """Save what saves the next start some time, and let others open it. What hinders that is told: nothing is
        lost."""
        with self._alone:
            ledger, self._ledger = self._ledger, None
            try:
                if ledger:
                    ledger.close()
            except Exception as error:  # noqa: BLE001 whatever happens to a ledger, others are closed too
                log.error("the ledger reads more at its next start: %s", str(error) or repr(error))

    def _tidy(self) -> None:
        self._safely(Ledger.tidy, opening=False)

    def _safely(self, work: Callable[[Ledger], T], *, opening: bool = True) -> T | None:
        """What comes of it, None where that fails or, unless `opening`, the ledger was closed meanwhile."""
        with self._alone:
            if self._ledger is None and not opening:
                return None
            try:
                if self._ledger is None:
                    self._ledger = Ledger.open(self.folder, settings=self._settings)
                found = work(self._ledger)
            except _NotYet as reason:
                self._wait(reason)
                return None
            except Exception as error:  # noqa: BLE001 whatever happens to a ledger, blocks go on
                self._give_up(error)
                return None
        return found

    def _recover(self) -> None:
        if self._reason is not None:
            self._reason = None
            log.info("balances are known again")

    def _wait(self, reason: _NotYet) -> None:
        if str(reason) != self._reason:
            log.info("balances are unknown yet: %s", reason)
        self._reason = str(reason)
        self._monitoring.emit_balances(None, None)

    def _give_up(self, error: Exception) -> None:
        """Tell a reason once and count every failure; the ledger is opened anew at the next block."""
        reason = str(error) or repr(error)
        if reason != self._reason:
            log.error("balances are unknown: %s", reason)
        self._reason = reason
        self._monitoring.emit_balances(None, None)
        self._monitoring.emit_error_metric(type(error).__name__, "balances")
        self._entities.clear()
        ledger, self._ledger = self._ledger, None
        if ledger:
            with suppress(Exception):
                ledger.close()

    def _connect(
        self, ledger: Ledger, block: BlockData, flows: BlockFlows | None, labels: LabelSet
    ) -> BlockBalances | None:
        height, spent = _whole(block)
        if ledger.tip != (height, block.block_hash):
            self._roll_to(ledger, height - 1, block.prev_hash)
            ledger.connect(block.block, spent, height)
            self._follow(flows)
        if not ledger.undoable:
            return None  # what the block of a snapshot did is not known
        least = ledger.kept_from
        large = ledger.holders(max(LARGE_HOLDING, least))
        return BlockBalances(
            str(block.block_hash), labels.version, least, told(block.block, spent, ledger.changes(least)),
            large.scripts, large.sat, self._held_by(ledger, flows, labels),
        )  # fmt: skip

    def _disconnect(self, ledger: Ledger, block_hash: Hash256) -> None:
        if ledger.tip is not None and ledger.tip[1] == block_hash:
            self._entities.clear()
            ledger.disconnect(block_hash)

    def _roll_to(self, ledger: Ledger, height: int, block_hash: Hash256) -> None:
        """Raises LedgerError where that is too far, SourceError where the chain turns meanwhile."""
        tip = ledger.tip
        if tip == (height, block_hash) or (tip is None and height < 0):
            return
        if tip and tip[0] - height > ledger.undoable:
            raise _NotYet(f"the ledger begins with block {tip[0] - ledger.undoable}")
        missing = height - (tip[0] if tip else -1)
        if missing > MOST_BEHIND:
            where = f"{self.folder}: stands at {f'height {tip[0]}' if tip else 'no block'}"
            raise LedgerError(f"{where}, more than {MOST_BEHIND} behind; bring it up with `utxoiq balances build`")
        self._entities.clear()
        if missing > 1:
            log.info("the ledger follows %d blocks to height %d", missing, height)
        roll(ledger, height, lambda at: self._block_at(at).block_hash, self._read)
        if ledger.tip != ((height, block_hash) if height >= 0 else None):
            raise SourceError(f"block {block_hash} of height {height} is not on the chain that its source has now")

    def _read(self, height: int) -> tuple[Block, Spent]:
        block = self._block_at(height)
        return block.block, _whole(block)[1]

    # Entities

    def _follow(self, flows: BlockFlows | None) -> None:
        """What is known of entities before a block becomes what it is after it."""
        if flows is None or flows.labels_version != self._labels_version:
            self._entities.clear()
        gains = Counter[str]()
        for transfer in flows.transfers if flows else ():
            gains.update({who: flow.received - flow.spent for who, flow in transfer.entities.items()})
        for who, held in self._entities.items():
            self._entities[who] = Held(held.after, held.after + gains[who], held.scripts)

    def _held_by(self, ledger: Ledger, flows: BlockFlows | None, labels: LabelSet) -> dict[str, Held]:
        """Of the entities that a block touched: counted once over all scripts of an entity, then followed."""
        if flows is None:
            return {}
        if labels.version != self._labels_version:
            self._entities, self._labels_version = {}, labels.version
        return {who: self._held(ledger, who, flows, labels) for who in sorted(flows.entities)}

    def _held(self, ledger: Ledger, who: str, flows: BlockFlows, labels: LabelSet) -> Held:
        if who not in self._entities:
            scripts = list(labels.scripts_of(labels.entities[who]))
            after = ledger.sum_of(scripts)
            moved = (transfer.entities.get(who) for transfer in flows.transfers)
            gain = sum(flow.received - flow.spent for flow in moved if flow)
            self._entities[who] = Held(after - gain, after, len(scripts))
        return self._entities[who]


class _NotYet(UtxoiqError):
    """The ledger knows nothing of a block below its first, and will of later ones."""


def _whole(block: BlockData) -> tuple[int, Spent]:
    """Raises SourceError for a block that no ledger can take up."""
    if block.height is None or block.spent is None:
        raise SourceError(f"what blocks spend, or their height, is not known to {block.source}")
    return block.height, block.spent
