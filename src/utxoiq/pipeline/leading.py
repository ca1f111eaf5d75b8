"""Doing what only one process may do to a store at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from utxoiq.errors import LeaseLost, StoreError

if TYPE_CHECKING:
    from utxoiq.persistence.leases import Lease
    from utxoiq.persistence.sqlite import SqliteStore

log = logging.getLogger(__name__)

LEASE_SECONDS = 15.0
"""After which the work of a process that died is another's."""
RENEW_SECONDS = 4.0


class Leader:
    """Holds one lease while its work runs. The store's writes are fenced by it: overtaken, they are refused."""

    def __init__(self, store: SqliteStore, name: str, holder: str, state: Callable[[], dict[str, Any]] = dict) -> None:
        """`store` must be a connection of this work's own. `state` is what others may read of it."""
        self._store, self._name, self._holder, self._state = store, name, holder, state
        self.lease: Lease | None = None
        self.is_standing_by = False
        """Another process does this work, or the store can't be asked."""

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Until cancelled: wait for the lease, work while it is ours, and wait again where it was lost."""
        while True:
            await self._wait()
            task = asyncio.ensure_future(work())
            try:
                await self._renew_while(task)
            except LeaseLost as lost:
                log.warning("%s", lost)
            finally:
                task.cancel()
                try:
                    with suppress(asyncio.CancelledError, LeaseLost):
                        await task
                finally:
                    await self._let_go()

    @contextmanager
    def held(self) -> Iterator[Callable[[], None]]:
        """The lease for one piece of work, and its fence; call what it gives now and then to keep it. Raises LeaseLost
        while another holds it."""
        lease = self._store.leases.acquire(self._name, self._holder, LEASE_SECONDS)
        if lease is None:
            raise LeaseLost(f"another process does `{self._name}` on this store; stop it first")
        self._store.database.fence = lambda: self._store.leases.check(lease)
        try:
            yield lambda: self._store.leases.renew(lease, LEASE_SECONDS)
        finally:
            self._store.leases.release(lease)

    async def _wait(self) -> None:
        while not await self._acquired():
            if not self.is_standing_by:
                log.info("another process does `%s` on this store: standing by", self._name)
            self.is_standing_by = True
            await asyncio.sleep(RENEW_SECONDS)
        self.is_standing_by = False

    async def _acquired(self) -> bool:
        leases = self._store.leases
        try:
            lease = await asyncio.to_thread(leases.acquire, self._name, self._holder, LEASE_SECONDS)
        except StoreError as error:
            log.warning("waiting for the store: %s", error)
            return False
        if lease is not None:
            self._store.database.fence = lambda: leases.check(lease)
            self.lease = lease
        return lease is not None

    async def _renew_while(self, task: asyncio.Future[None]) -> None:
        assert self.lease is not None
        while not task.done():
            try:
                await asyncio.to_thread(self._store.leases.renew, self.lease, LEASE_SECONDS, self._state())
            except LeaseLost:
                raise
            except StoreError as error:  # the fence holds, whatever the clock says
                log.warning("the lease of `%s` can't be renewed: %s", self._name, error)
            await asyncio.wait({task}, timeout=RENEW_SECONDS)
        await task

    async def _let_go(self) -> None:
        lease, self.lease = self.lease, None
        if lease is not None:
            with suppress(StoreError):
                await asyncio.shield(asyncio.to_thread(self._store.leases.release, lease))
