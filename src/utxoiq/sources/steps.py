"""Following a live chain: from where we stand to its tip, by steps that a reorg at any moment can't confuse."""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from utxoiq.chain.hashes import NULL_HASH, Hash256
from utxoiq.errors import DecodeError, NodeUnavailable, SourceError
from utxoiq.models import BlockData, Connected, Cursor, Disconnected
from utxoiq.sources.base import MEDIAN_TIME_ANCESTORS
from utxoiq.sources.threads import in_thread

if TYPE_CHECKING:
    from utxoiq.chain.block import Block
    from utxoiq.chain.header import Header
    from utxoiq.chain.network import Network

NONSENSE = (
    ArithmeticError, AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError, struct.error,
)  # fmt: skip
"""What reading an answer that is not as it should be can raise."""
MOST_TURNS = 3
"""Rounds in a row that may gain nothing while the chain turns under us."""
AT_ONCE = 512
"""Hashes asked ahead of the blocks read."""
READ_AHEAD = 3
"""Blocks in flight or decoded while one is being processed."""


@dataclass(frozen=True, slots=True)
class Place:
    """A header as the node knows it."""

    block_hash: Hash256
    prev_hash: Hash256
    height: int
    time: int
    work: int
    """Of the whole chain up to it."""
    on_best_chain: bool


class ChainTip(NamedTuple):
    """The best chain's tip, and the work of all of it."""

    block_hash: Hash256
    height: int
    work: int


class ChainReader(Protocol):
    """What a live source must answer. All calls may block, and raise NodeError."""

    @property
    def where(self) -> str: ...
    @property
    def network(self) -> Network: ...
    def chain_tip(self) -> ChainTip: ...
    def place(self, block_hash: Hash256) -> Place | None: ...
    def rejects(self, place: Place) -> bool: ...
    def work_of(self, header: Header) -> int: ...
    def hashes(self, first: int, count: int) -> list[Hash256]: ...
    def read(self, block_hash: Hash256, height: int) -> BlockData: ...


@contextmanager
def making_sense(where: str, what: str) -> Iterator[None]:
    """Around code that reads an answer: one that is not as it should be raises NodeUnavailable."""
    try:
        yield
    except NONSENSE as error:
        raise NodeUnavailable(
            f"{where}: {what} was answered with something else than expected ({error!r:.200})"
        ) from error


def check_height(block: Block, height: int) -> None:
    """Raise DecodeError for a block whose coinbase says another height (BIP 34)."""
    told = block.coinbase.height
    if told is not None and told != height:
        raise DecodeError("block", f"{block.block_hash} says it has height {told}, its chain gives {height}")


class UnknownTip(SourceError):
    """The source never heard of the block we stand on."""


class Route(NamedTuple):
    """The way to the tip: blocks to take off, tip downwards, and hashes to connect, upwards from `fork` + 1."""

    down: list[Place]
    fork: int
    up: list[Hash256]


def route(reader: ChainReader, here: Hash256 | None, first: int) -> Route:
    """The way from `here` (None: from height `first` on) to the tip, at most AT_ONCE blocks of it.

    Raises UnknownTip, NodeUnavailable for a node that is catching up with us, NodeError.
    """
    tip = reader.chain_tip()
    if here is None:
        return Route([], first - 1, reader.hashes(first, min(AT_ONCE, tip.height + 1 - first)))
    if here == tip.block_hash:
        return Route([], tip.height, [])
    place = reader.place(here)
    if place is None:
        raise UnknownTip(f"{reader.where}: does not know block {here}, on which the store stands")
    if tip.work < place.work and not reader.rejects(place):  # it restarted, or builds its chain anew
        raise NodeUnavailable(
            f"{reader.where}: at height {tip.height} and catching up, while the store is at {place.height}"
        )
    down = []
    while not place.on_best_chain:
        down.append(place)
        parent = parent_of(reader, place)
        if parent is None:
            raise UnknownTip(f"{reader.where}: does not know block {place.prev_hash}")
        place = parent
    up = reader.hashes(place.height + 1, min(AT_ONCE, tip.height - place.height))
    return Route(down, place.height, up)


def parent_of(reader: ChainReader, place: Place) -> Place | None:
    """The header below, None for one the source does not know. Raises NodeUnavailable for one of another height."""
    parent = reader.place(place.prev_hash) if place.height > 0 else None
    if parent is not None and parent.height != place.height - 1:
        raise NodeUnavailable(f"{reader.where}: tells heights of its headers that do not follow each other")
    return parent


async def follow(reader: ChainReader, cursor: Cursor | None, first: int) -> AsyncIterator[Connected | Disconnected]:
    """Every step from `cursor` (None: from height `first`) to the tip as it is when we get there."""
    here = None if cursor is None else Hash256.from_display(cursor.block_hash)
    times, turns = Times(reader), 0
    while turns < MOST_TURNS:
        way = await in_thread(route, reader, here, first)
        if not way.down and not way.up:
            return
        turns += 1
        for place in way.down:
            yield Disconnected(place.block_hash, place.height)
            here, turns = place.prev_hash, 0
        async for block in _read_ahead(reader, way.up, way.fork + 1):
            if here is not None and block.prev_hash != here:
                break  # the chain turned while we read: find the way anew
            yield Connected(await in_thread(times.complete, block))
            here, turns = block.block_hash, 0
    raise NodeUnavailable(f"{reader.where}: its best chain does not link; are there several nodes behind this address?")


async def _read_ahead(reader: ChainReader, hashes: Sequence[Hash256], height: int) -> AsyncIterator[BlockData]:
    ahead: deque[asyncio.Task[BlockData]] = deque()
    waiting = deque(enumerate(hashes, height))
    try:
        while waiting or ahead:
            while waiting and len(ahead) < READ_AHEAD:
                at, block_hash = waiting.popleft()
                ahead.append(asyncio.create_task(in_thread(reader.read, block_hash, at)))
            yield await ahead.popleft()
    finally:
        for task in ahead:
            task.cancel()
        await asyncio.gather(*ahead, return_exceptions=True)


class Times:
    """The header times before each block, carried along a branch so that only its beginning is asked for."""

    def __init__(self, reader: ChainReader) -> None:
        self._reader = reader
        self._last: Hash256 | None = None
        self._times: tuple[int, ...] = ()
        self._whole = False

    def complete(self, block: BlockData) -> BlockData:
        """The block with the times of the (up to ten) before it; None where one is unknown. Raises NodeError."""
        if self._last is None or block.prev_hash != self._last:
            self._times, self._whole = self._ask(block.prev_hash)
        prior = self._times if self._whole else None
        self._last = block.block_hash
        self._times = (*self._times, block.block.header.time)[-MEDIAN_TIME_ANCESTORS:]
        return replace(block, prior_times=prior)

    def _ask(self, block_hash: Hash256) -> tuple[tuple[int, ...], bool]:
        times: list[int] = []
        while len(times) < MEDIAN_TIME_ANCESTORS and block_hash != NULL_HASH:
            place = self._reader.place(block_hash)
            if place is None:
                return (), False
            times.append(place.time)
            block_hash = place.prev_hash
        return tuple(reversed(times)), True
