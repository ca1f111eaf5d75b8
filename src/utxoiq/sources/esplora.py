"""An Esplora or mempool.space API as a source of blocks, for those without a node.

Nothing it says is believed that can be checked: proof of work and its difficulty, merkle root, witness commitment, the
chain of headers, and that spent outputs fit. What can't be had whole is unknown.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any

from utxoiq.chain.block import Block, Spent, decode_block, read_rest_spent, read_undo_spent
from utxoiq.chain.hashes import NULL_HASH, Hash256
from utxoiq.chain.header import Header, read_header
from utxoiq.chain.links import check_spent, in_block_spends
from utxoiq.chain.network import NETWORKS, Network
from utxoiq.chain.retarget import check_bits
from utxoiq.chain.serialize import Coin, spenttxouts_bytes
from utxoiq.errors import DecodeError, NodeRefused, NodeUnavailable, SourceError
from utxoiq.models import BlockData, Connected, Cursor, Disconnected
from utxoiq.sources import http
from utxoiq.sources.http import Answer, Http
from utxoiq.sources.steps import ChainTip, Place, Times, check_height, follow, making_sense
from utxoiq.sources.undo import NOTHING_SPENT
from utxoiq.units import MAX_MONEY, utc

PAGE = 25
"""Transactions the API lists at once."""
RECENT = 6
"""Blocks below the tip for which spent outputs are asked: a catch-up of days would be hours of requests."""
LONGEST_PATIENCE = 120.0
"""Seconds we let the server make one request wait."""
MOST_HEADERS = 4096


class EsploraSource:
    """Blocks of an API by URL. Every call may raise NodeUnavailable, NodeRefused.

    `first`: where `follow` begins for a store without a cursor.
    """

    def __init__(
        self,
        url: str,
        *,
        requests_per_second: float = 4.0,
        most_requests_a_block: int = 200,
        timeout: float = 30.0,
        proxy: str | None = None,
        network: Network | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`most_requests_a_block`: to spend on a block's spent outputs. Raises ConfigError for what is no address."""
        self._http = Http(url, timeout=timeout, proxy=proxy)
        self._spacing, self._most_pages = 1 / requests_per_second, most_requests_a_block
        self._wanted, self._network = network, network
        self._checked = False
        self._lock, self._next, self._sleep = threading.Lock(), 0.0, sleep
        self._tip_height = 0
        self._times = Times(self)
        self.first: int | None = None
        self._headers: dict[Hash256, tuple[Header, int]] = {}

    @property
    def where(self) -> str:
        return self._http.where

    @property
    def network(self) -> Network:
        """The network whose genesis it serves."""
        if not self._checked:
            genesis = self._hash_at(0)
            found = next((n for n in NETWORKS.values() if n.genesis is not None and n.genesis == genesis), None)
            if found is None:
                raise NodeRefused(f"{self.where}: begins with block {genesis}, which is the genesis of none we know")
            if self._wanted not in (None, found):
                raise NodeRefused(f"{self.where}: serves {found.name}, not {self._wanted.name}")
            self._network, self._checked = found, True
        assert self._network
        return self._network

    def forget(self) -> None:
        """Ask again what it serves."""
        self._checked = False
        self._headers.clear()

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def snapshot(self) -> None:
        """It has no mempool we could check."""

    def announced_at(self) -> set[str]:
        """It has no ZMQ."""
        return set()

    # Asking

    def _get(self, path: str) -> Answer:
        """The answer, 200 or 404, no faster than we promised and as late as it wants.

        Raises NodeUnavailable for any other answer, and where it makes us wait for longer than LONGEST_PATIENCE.
        """
        deadline = time.monotonic() + LONGEST_PATIENCE
        while True:
            self._take_turn(path, deadline)
            answer = self._http.request("GET", path)
            if answer.status == http.TOO_MANY_REQUESTS:
                with self._lock:  # everybody waits, not only this thread
                    self._next = max(self._next, time.monotonic() + _asked_to_wait(answer))
            elif answer.status in (http.OK, http.NOT_FOUND):
                return answer
            else:
                raise NodeUnavailable(f"{self.where}{path}: HTTP {answer.status}")

    def _take_turn(self, path: str, deadline: float) -> None:
        """Sleep until the next free moment, and take it."""
        with self._lock:
            now = time.monotonic()
            start = max(self._next, now)
            if start > deadline:
                until = utc(60 * (int(time.time() + start - now) // 60 + 1))  # the same each time it is told
                raise NodeUnavailable(f"{self.where}{path}: asks us to wait until {until} (rate limit)")
            self._next = start + self._spacing
        if start > now:
            self._sleep(start - now)

    def _text(self, path: str) -> str:
        answer = self._get(path)
        if answer.status == http.NOT_FOUND:
            raise SourceError(f"{self.where}{path}: not there; is this the address of an Esplora API?")
        return answer.text.strip()

    def _json(self, path: str) -> Any:
        """The answer as JSON, None where there is none."""
        answer = self._get(path)
        if answer.status == http.NOT_FOUND:
            return None
        with making_sense(self.where, path):
            return json.loads(answer.content, parse_float=str)

    def _hash_at(self, height: int) -> Hash256:
        with making_sense(self.where, "block-height"):
            return Hash256.from_display(self._text(f"/block-height/{height}"))

    def _header(self, block_hash: Hash256) -> tuple[Header, int] | None:
        """A header whose hash was checked, and its height as told; None for a block it does not know."""
        if block_hash not in self._headers:
            found = self._ask_header(block_hash)
            if found is None:
                return None
            if len(self._headers) >= MOST_HEADERS:
                self._headers.clear()
            self._headers[block_hash] = found
        return self._headers[block_hash]

    def _ask_header(self, block_hash: Hash256) -> tuple[Header, int] | None:
        told = self._json(f"/block/{block_hash}")
        if told is None:
            return None
        with making_sense(self.where, "block"):
            header = read_header(bytes.fromhex(self._text(f"/block/{block_hash}/header")), self.network.pow_limit)
            if header.block_hash != block_hash:
                raise DecodeError("header", f"the API gave {header.block_hash} for {block_hash}")
            return header, int(told["height"])

    # What `steps.follow` asks

    def best_hash(self) -> str:
        """The tip's hash in display order."""
        return self._text("/blocks/tip/hash")

    def chain_tip(self) -> ChainTip:
        """The tip; the API tells no work, so its height stands for it."""
        with making_sense(self.where, "tip"):
            best = Hash256.from_display(self.best_hash())
        place = self.place(best)
        if place is None:
            raise NodeUnavailable(f"{self.where}: does not know its own tip {best}")
        self._tip_height = place.height
        return ChainTip(best, place.height, place.height)

    def place(self, block_hash: Hash256) -> Place | None:
        """The header of a block, None for one it does not know."""
        found = self._header(block_hash)
        if found is None:
            return None
        header, height = found
        status = self._json(f"/block/{block_hash}/status") or {}
        with making_sense(self.where, "status"):
            return Place(block_hash, header.prev_hash, height, header.time, height, bool(status["in_best_chain"]))

    def work_of(self, header: Header) -> int:  # noqa: ARG002
        """One a block, like `chain_tip` counts."""
        return 1

    def rejects(self, place: Place) -> bool:  # noqa: ARG002
        """An API that is behind is waited for."""
        return False

    def hashes(self, first: int, count: int) -> list[Hash256]:
        """Up to 32 hashes of the best chain from height `first` up: each is a request."""
        return [self._hash_at(height) for height in range(first, first + min(count, 32))]

    def read(self, block_hash: Hash256, height: int) -> BlockData:
        """A block without its prior times. Raises DecodeError for one that is not what it claims to be."""
        answer = self._get(f"/block/{block_hash}/raw")
        if answer.status == http.NOT_FOUND:
            raise NodeUnavailable(f"{self.where}: has no block {block_hash} any more")
        block = decode_block(answer.content, self.network)
        if block.block_hash != block_hash:
            raise DecodeError("block", f"the API gave {block.block_hash} for {block_hash}")
        check_height(block, height)
        if height > 0:
            parent = self._header(block.header.prev_hash)
            if parent is None:
                raise NodeUnavailable(f"{self.where}: does not know block {block.header.prev_hash}")
            check_bits(block.header, parent[0], height, self.network)
        return BlockData(block, height, self._spent(block, height), None, f"esplora {self.where}")

    def _spent(self, block: Block, height: int) -> Spent | None:
        if block.n_tx == 1:
            return read_undo_spent(block, NOTHING_SPENT)
        if height < self._tip_height - RECENT or -(-block.n_tx // PAGE) > self._most_pages:
            return None
        coins: list[list[Coin]] = []
        for start in range(0, block.n_tx, PAGE):
            page = self._json(f"/block/{block.block_hash}/txs/{start}")
            with making_sense(self.where, "txs"):
                found = _coins_of(page or (), block, start)
            if found is None:
                return None
            coins += found
        if len(coins) != block.n_tx:
            return None
        spent = read_rest_spent(block, spenttxouts_bytes(coins, block.n_tx))
        check_spent(block, spent, in_block_spends(block))
        return spent

    # BlockSource

    def tip(self) -> Cursor:
        """The tip of the best chain."""
        tip = self.chain_tip()
        return Cursor(str(tip.block_hash), tip.height)

    def lowest(self) -> int:
        """It has every block."""
        return 0

    def block_at(self, height: int) -> BlockData:
        """The block of the best chain at `height`. Raises SourceError where there is none."""
        return self._times.complete(self.read(self._hash_at(height), height))

    def blocks(self) -> Iterator[BlockData]:
        """The best chain from `first` (else genesis) up to its tip as it is now."""
        times = Times(self)
        for height in range(self.first or 0, self.chain_tip().height + 1):
            yield times.complete(self.read(self._hash_at(height), height))

    def __len__(self) -> int:
        return self.chain_tip().height + 1 - (self.first or 0)

    def branch(self, block_hash: Hash256, size: int) -> Iterator[BlockData]:
        """Up to `size` linked blocks ending with `block_hash`, oldest first. Raises SourceError where it isn't here."""
        if self._header(block_hash) is None:
            raise SourceError(f"{self.where}: no block {block_hash}")
        wanted = list(islice(self._ancestors(block_hash), size))
        times = Times(self)
        return (times.complete(self.read(one, height)) for one, height in reversed(wanted))

    def _ancestors(self, block_hash: Hash256) -> Iterator[tuple[Hash256, int]]:
        while block_hash != NULL_HASH and (found := self._header(block_hash)) is not None:
            yield block_hash, found[1]
            block_hash = found[0].prev_hash

    def count_from(self, cursor: Cursor | None) -> int:
        """About how many steps `follow(cursor)` will emit."""
        return max(0, self.chain_tip().height - cursor.height) if cursor else len(self)

    async def follow(self, cursor: Cursor | None) -> AsyncIterator[Connected | Disconnected]:
        """Every step from `cursor` to the tip. Raises UnknownTip where the API does not know the cursor's block."""
        async for step in follow(self, cursor, self.first or 0):
            yield step


def _coins_of(page: Sequence[Any], block: Block, start: int) -> list[list[Coin]] | None:
    """What the transactions of a page spend; None where one is another than the block's, or a coin is unknown."""
    found = []
    for t, tx in enumerate(page, start):
        prevouts = [txin["prevout"] for txin in tx["vin"] if not txin["is_coinbase"]]
        if tx["txid"] != str(block.txid(t)) or None in prevouts:
            return None
        coins = [Coin(prevout["value"], bytes.fromhex(prevout["scriptpubkey"])) for prevout in prevouts]
        if any(type(coin.value) is not int or not 0 <= coin.value <= MAX_MONEY for coin in coins):
            raise ValueError("a value that is no amount")
        found.append(coins)
    return found


def _asked_to_wait(answer: Answer) -> float:
    """Seconds, by Retry-After: a number of them or a date (RFC 9110 10.2.3); 10 where it says neither."""
    asked = answer.headers.get("Retry-After", "").strip()
    if asked.isascii() and asked.isdigit():
        return float(asked[:9])
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return 10.0
