"""ZMQ: the node's doorbell. It tells that something happened; what, is asked by RPC, for messages get lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from utxoiq.errors import NodeError, RpcError
from utxoiq.sources.steps import making_sense
from utxoiq.sources.threads import in_thread

if TYPE_CHECKING:
    import zmq.asyncio

    from utxoiq.sources.node.rpc import Rpc

log = logging.getLogger(__name__)

TOPICS = {"pubhashblock": b"hashblock", "pubsequence": b"sequence"}
ASK_SECONDS = 60.0
LABELS_OF_BLOCKS = (b"C", b"D")
"""In `sequence` messages; A and R tell of transactions (Core, doc/zmq.md)."""
EVERYWHERE = {"0.0.0.0", "*", "::", "[::]"}  # noqa: S104 what a node may have bound, not we


def addresses(rpc: Rpc, host: str) -> set[str]:
    """Where the node announces blocks, as seen from here; none where ZMQ is off. Raises NodeError."""
    try:
        notifiers: list[dict[str, Any]] = rpc.call("getzmqnotifications")
    except RpcError:  # built without ZMQ
        return set()
    with making_sense(rpc.where, "getzmqnotifications"):
        return {_reachable(n["address"], host) for n in notifiers if n["type"] in TOPICS}


def _reachable(address: str, host: str) -> str:
    if not isinstance(address, str):
        raise ValueError(f"{address!r} is no address")
    parts = urlsplit(address)
    if parts.scheme != "tcp" or parts.hostname not in EVERYWHERE:
        return address
    bare = host.strip("[]")
    return f"tcp://{f'[{bare}]' if ':' in bare else bare}:{parts.port}"


class Announcements:
    """Listens on sockets that carry `sequence` or `hashblock`, and calls `ring` for each block taken on or off.

    Also rings where the node's counters show that messages were lost, or that it restarted: `on_gap(lost, restarts)`
    is told how many.
    """

    def __init__(self, ring: Callable[[], None], on_gap: Callable[[int, int], None]) -> None:
        self._ring, self._on_gap = ring, on_gap
        self._counters: dict[tuple[str, bytes], int] = {}

    async def listen(self, where: Iterable[str]) -> None:
        """Until cancelled. Sockets reconnect by themselves. Raises ZMQError for what is no address."""
        with _subscriptions(where) as sockets:
            await asyncio.gather(*(self._hear(address, socket) for address, socket in sockets.items()))

    async def keep_listening(self, where: Callable[[], set[str]]) -> None:
        """Until cancelled, to the addresses that `where` gives now and every minute: a node may announce elsewhere
        after a restart. An address that is none is told, and polling does without."""
        told: set[str] | None = None
        hearing: asyncio.Task[None] | None = None
        try:
            while True:
                try:
                    now = await in_thread(where)
                except NodeError as error:
                    log.debug("ZMQ addresses unknown: %s", error)
                    await asyncio.sleep(1)
                    continue
                if now != told:
                    log.info("listening to %s", ", ".join(sorted(now)) or "no ZMQ: polling alone")
                    if hearing:
                        hearing.cancel()
                    told, hearing = now, asyncio.create_task(self._listen_or_tell(now)) if now else None
                await asyncio.sleep(ASK_SECONDS)
        finally:
            if hearing:
                hearing.cancel()

    async def _listen_or_tell(self, where: Iterable[str]) -> None:
        import zmq  # noqa: PLC0415 only a live run needs it

        try:
            await self.listen(where)
        except zmq.ZMQError as error:
            log.error("ZMQ: can't listen to %s (%s): polling alone", ", ".join(where), error)

    async def _hear(self, address: str, socket: zmq.asyncio.Socket) -> None:
        while True:
            parts = await socket.recv_multipart()
            if len(parts) == 3 and len(parts[2]) == 4:
                self.take(address, *parts)

    def take(self, address: str, topic: bytes, body: bytes, counter: bytes) -> None:
        """One message of three parts."""
        number = int.from_bytes(counter, "little")
        before = self._counters.get((address, topic))
        self._counters[address, topic] = number
        lost, restarted = 0, False
        if before is not None and number != (before + 1) & 0xFFFFFFFF:
            restarted = number <= before
            lost = 0 if restarted else number - before - 1
            log.warning("ZMQ %s: %s", address, "the node restarted" if restarted else f"{lost} messages lost")
            self._on_gap(lost, int(restarted))
        if lost or restarted or topic == b"hashblock" or body[32:33] in LABELS_OF_BLOCKS:
            self._ring()


@contextmanager
def _subscriptions(where: Iterable[str]) -> Iterator[dict[str, zmq.asyncio.Socket]]:
    import zmq.asyncio  # noqa: PLC0415 only a live run needs it

    context = zmq.asyncio.Context()
    sockets = {}
    try:
        for address in where:
            sockets[address] = socket = context.socket(zmq.SUB)
            socket.setsockopt(zmq.IPV6, 1)
            socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
            socket.setsockopt(zmq.TCP_KEEPALIVE_IDLE, 60)
            for topic in TOPICS.values():
                socket.setsockopt(zmq.SUBSCRIBE, topic)
            socket.connect(address)
        yield sockets
    finally:
        context.destroy(linger=0)
