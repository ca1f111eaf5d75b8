"""A running Bitcoin Core as a source of blocks."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from email.utils import parsedate_to_datetime
from itertools import islice
from pathlib import Path
from typing import Any

from utxoiq.chain.hashes import Hash256
from utxoiq.chain.header import Header
from utxoiq.chain.network import NETWORKS, Network
from utxoiq.errors import NodeRefused, NodeUnavailable, RpcError, SourceError
from utxoiq.models import BlockData, Connected, Cursor, Disconnected, MempoolSnapshot
from utxoiq.sources.http import Http
from utxoiq.sources.node.announcements import addresses
from utxoiq.sources.node.blocks import Blocks
from utxoiq.sources.node.credentials import Credentials
from utxoiq.sources.node.mempool import Mempool
from utxoiq.sources.node.rpc import NOT_FOUND, OUT_OF_RANGE, Rpc
from utxoiq.sources.steps import AT_ONCE, ChainTip, Place, Times, check_height, follow, making_sense, parent_of

CORE_NAMES = {"main": "main", "test": "test3", "testnet4": "test4", "signet": "signet", "regtest": "regtest"}
"""What Core calls a chain (getblockchaininfo) -> our name of the network."""


class NodeSource:
    """Blocks of a node by RPC and REST. Every call may raise NodeUnavailable, NodeRefused, RpcError.

    `first`: where `follow` begins for a store without a cursor; None for genesis, or for the first block a pruned node
    has.
    """

    def __init__(
        self,
        url: str,
        *,
        user: str = "",
        password: str = "",
        cookie_file: Path | None = None,
        rest: bool = True,
        timeout: float = 30.0,
        proxy: str | None = None,
        first: int | None = None,
        network: Network | None = None,
    ) -> None:
        """`network`: refuse a node of another one. Raises ConfigError for an address or proxy that makes no sense."""
        self._http = Http(url, timeout=timeout, proxy=proxy)
        user, password = user or self._http.user, password or self._http.password
        self.rpc = Rpc(self._http, Credentials(user, password, cookie_file=cookie_file, port=self._http.port))
        self.blocks_of = Blocks(self.rpc, self._http, rest=rest)
        self._times = Times(self)
        self.first = first
        self._mempool = Mempool(self.rpc)
        self._wanted, self._network = network, network
        self._checked = False

    @property
    def where(self) -> str:
        """The node's address, without user or password."""
        return self._http.where

    @property
    def network(self) -> Network:
        """The node's network; asked for once, and again after `forget`."""
        if not self._checked:
            self._check()
        assert self._network
        return self._network

    def _check(self) -> None:
        chain = str(self._info()["chain"])
        network = NETWORKS.get(CORE_NAMES.get(chain, ""))
        if network is None:
            raise NodeRefused(f"{self.where}: its chain {chain!r} is none we know")
        if self._wanted not in (None, network):
            raise NodeRefused(f"{self.where}: is a node of {network.name}, not of {self._wanted.name}")
        genesis = self.rpc.call("getblockhash", 0)
        if genesis != str(network.genesis):
            raise NodeRefused(f"{self.where}: begins with block {genesis}, which is not the genesis of {network.name}")
        self._network, self._checked = network, True

    def forget(self) -> None:
        """Another node may be listening at this address now: ask again what it is."""
        self._checked = False
        self.blocks_of.forget()
        self._mempool = Mempool(self.rpc)

    def snapshot(self) -> MempoolSnapshot | None:
        """Its mempool now, None while blocks come faster than it can be read."""
        return self._mempool.snapshot()

    def announced_at(self) -> set[str]:
        """Where it announces blocks by ZMQ; none where that is off."""
        return addresses(self.rpc, self._http.host)

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    # What `steps.follow` asks

    def chain_tip(self) -> ChainTip:
        """The tip of the best chain."""
        info = self._info()
        with making_sense(self.where, "getblockchaininfo"):
            return ChainTip(
                Hash256.from_display(info["bestblockhash"]), int(info["blocks"]), int(info["chainwork"], 16)
            )

    def _info(self) -> dict[str, Any]:
        info = self.rpc.call("getblockchaininfo")
        if not isinstance(info, dict) or "chain" not in info:
            raise NodeUnavailable(f"{self.where}: getblockchaininfo was answered with something else than expected")
        return info

    def best_hash(self) -> str:
        """The tip's hash in display order: the cheapest question there is."""
        with making_sense(self.where, "getbestblockhash"):
            return str(Hash256.from_display(self.rpc.call("getbestblockhash")))

    def clock_skew(self) -> float:
        """Seconds between our clock and the node's, as its HTTP server tells it."""
        told = self._http.request("GET", "/rest/chaininfo.json").headers.get("Date", "")
        with making_sense(self.where, "the time"):
            return abs(parsedate_to_datetime(told).timestamp() - time.time())

    def place(self, block_hash: Hash256) -> Place | None:
        """The header of a block, None for one the node does not know."""
        try:
            header: dict[str, Any] = self.rpc.call("getblockheader", str(block_hash))
        except RpcError as error:
            if error.code == NOT_FOUND:
                return None
            raise
        with making_sense(self.where, "getblockheader"):
            previous = Hash256.from_display(header.get("previousblockhash", "0" * 64))
            work, active = int(header["chainwork"], 16), header["confirmations"] >= 0
            height, seconds = header["height"], header["time"]
            if type(height) is not int or type(seconds) is not int or height < 0:
                raise ValueError(f"height {height!r}, time {seconds!r}")
            return Place(block_hash, previous, height, seconds, work, active)

    def work_of(self, header: Header) -> int:
        """Of one block."""
        return header.work

    def rejects(self, place: Place) -> bool:
        """Whether the node holds a block for invalid (`invalidateblock`), and not merely has yet to connect it."""
        tips = self.rpc.call("getchaintips")
        with making_sense(self.where, "getchaintips"):
            above = [(tip["height"] - place.height, tip["hash"]) for tip in tips if tip["status"] == "invalid"]
            return any(self._is_above(distance, name, place) for distance, name in above if distance >= 0)

    def _is_above(self, distance: int, tip: str, place: Place) -> bool:
        ancestors = islice(self._ancestors(Hash256.from_display(tip)), distance + 1)
        return any(ancestor.block_hash == place.block_hash for ancestor in ancestors)

    def hashes(self, first: int, count: int) -> list[Hash256]:
        """Up to `count` hashes of the best chain from height `first` up."""
        try:
            found = self.rpc.batch([("getblockhash", height) for height in range(first, first + count)])
        except RpcError as error:
            if error.code == OUT_OF_RANGE:  # the chain became shorter since
                return []
            raise
        with making_sense(self.where, "getblockhash"):
            return [Hash256.from_display(text) for text in found]

    def read(self, block_hash: Hash256, height: int) -> BlockData:
        """A block without its prior times. Raises DecodeError for one that is not what it claims to be."""
        block, spent = self.blocks_of.read(block_hash, self.network)
        check_height(block, height)
        return BlockData(block, height, spent, None, f"node {self.where}")

    # BlockSource

    def tip(self) -> Cursor:
        """The tip of the best chain."""
        tip = self.chain_tip()
        return Cursor(str(tip.block_hash), tip.height)

    def lowest(self) -> int:
        """Height of the first block the node still has."""
        with making_sense(self.where, "getblockchaininfo"):
            return int(self._info().get("pruneheight", 0))

    def block_at(self, height: int) -> BlockData:
        """The block of the best chain at `height`. Raises SourceError where there is none."""
        found = self.hashes(height, 1) if height >= 0 else []
        if not found:
            raise SourceError(f"{self.where}: no block at height {height} on its best chain")
        return self._times.complete(self.read(found[0], height))

    def blocks(self) -> Iterator[BlockData]:
        """The best chain from the first block it has, up to its tip as it is now."""
        times, last = Times(self), self.chain_tip().height
        for first in range(self._begin(), last + 1, AT_ONCE):
            for height, block_hash in enumerate(self.hashes(first, min(AT_ONCE, last + 1 - first)), first):
                yield times.complete(self.read(block_hash, height))

    def __len__(self) -> int:
        return self.chain_tip().height + 1 - self._begin()

    def branch(self, block_hash: Hash256, size: int) -> Iterator[BlockData]:
        """Up to `size` linked blocks ending with `block_hash`, oldest first. Raises SourceError where it isn't here."""
        if self.place(block_hash) is None:
            raise SourceError(f"{self.where}: no block {block_hash}")
        places = list(islice(self._ancestors(block_hash), size))
        times = Times(self)
        return (times.complete(self.read(place.block_hash, place.height)) for place in reversed(places))

    def _ancestors(self, block_hash: Hash256) -> Iterator[Place]:
        place = self.place(block_hash)
        while place is not None:
            yield place
            place = parent_of(self, place)

    def count_from(self, cursor: Cursor | None) -> int:
        """About how many steps `follow(cursor)` will emit."""
        return max(0, self.chain_tip().height - cursor.height) if cursor else len(self)

    def _begin(self) -> int:
        return self.lowest() if self.first is None else self.first

    async def follow(self, cursor: Cursor | None) -> AsyncIterator[Connected | Disconnected]:
        """Every step from `cursor` to the tip.

        Raises UnknownTip where the node does not know the cursor's block, NodeRefused where it pruned what we need.
        """
        begin = self._begin() if cursor is None else 0
        async for step in follow(self, cursor, begin):
            yield step
