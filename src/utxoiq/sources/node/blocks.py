"""Blocks of a node with what they spend: REST bytes where it offers them, else `getblock` 0 and 3."""

from __future__ import annotations

import logging
from dataclasses import replace
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from utxoiq.chain.block import Block, Spent, decode_block, largest_coins, read_rest_spent, read_undo_spent
from utxoiq.chain.serialize import Coin, undo_bytes
from utxoiq.errors import DecodeError, NodeRefused, NodeUnavailable, RpcError
from utxoiq.models import LARGE_COIN, MOST_LARGE_COINS
from utxoiq.sources import http
from utxoiq.sources.node.rpc import MISC, NOT_FOUND, Rpc, satoshis
from utxoiq.sources.steps import making_sense
from utxoiq.sources.undo import NOTHING_SPENT

if TYPE_CHECKING:
    from utxoiq.chain.hashes import Hash256
    from utxoiq.chain.network import Network
from utxoiq.sources.http import Answer, Http

log = logging.getLogger(__name__)


HIGHEST = 1 << 31
"""Heights are below, in Core too."""


class Offer(Enum):
    """What a node's REST server gives."""

    BLOCKS_AND_SPENT = "blocks and spent outputs"
    BLOCKS = "blocks only (Core before 30)"
    NOTHING = "nothing: it is off"


class Blocks:
    """Reads blocks by hash. What REST lacks is asked by RPC, more slowly; the offer is learnt anew with `forget`."""

    def __init__(self, rpc: Rpc, http: Http, *, rest: bool = True) -> None:
        self._rpc, self._http = rpc, http
        self._allowed = Offer.BLOCKS_AND_SPENT if rest else Offer.NOTHING
        self.offer = self._allowed

    def forget(self) -> None:
        """The node may have restarted with other settings."""
        self.offer = self._allowed

    def read(self, block_hash: Hash256, network: Network) -> tuple[Block, Spent | None]:
        """A block and what it spent, None where the node does not know that.

        Raises NodeRefused for a block that was pruned, NodeUnavailable, RpcError, DecodeError.
        """
        raw = self._rest(f"/rest/block/{block_hash}.bin", Offer.NOTHING)
        if raw is None:
            with making_sense(self._rpc.where, "getblock 0"):
                raw = bytes.fromhex(self._getblock(block_hash, 0))
        block = decode_block(raw, network)
        if block.block_hash != block_hash:
            raise DecodeError("block", f"the node gave {block.block_hash} for {block_hash}")
        if block.n_tx == 1:
            return block, read_undo_spent(block, NOTHING_SPENT)
        return block, self._spent(block)

    def _spent(self, block: Block) -> Spent | None:
        if self.offer is Offer.BLOCKS_AND_SPENT:
            path = f"/rest/spenttxouts/{block.block_hash}.bin"
            answer = self._get(path)
            if answer.status == http.OK:
                return self._with_large_heights(block, read_rest_spent(block, answer.content))
            if answer.status != http.NOT_FOUND:
                raise NodeUnavailable(f"{self._http.where}: spent outputs: HTTP {answer.status}")
            if b"undo not available" in answer.content:
                return None
            if not _says_something(answer):
                self._learn(Offer.BLOCKS)
        return self._spent_of_verbose(block)

    def _spent_of_verbose(self, block: Block) -> Spent | None:
        told = self._getblock(block.block_hash, 3)
        with making_sense(self._rpc.where, "getblock 3"):
            coins = [_coins(tx) for tx in told["tx"][1:]]
            known = [[coin for coin in tx if coin is not None] for tx in coins]
            payload = undo_bytes(known)
        return read_undo_spent(block, payload) if known == coins else None

    def _with_large_heights(self, block: Block, spent: Spent) -> Spent:
        """Heights of the largest coins, which REST does not give: -1 elsewhere."""
        rows = largest_coins(spent, LARGE_COIN, MOST_LARGE_COINS)
        if not len(rows):
            return spent
        height = np.full(len(block.input_offset), -1, np.int32)
        is_coinbase = np.zeros(len(block.input_offset), np.uint8)
        spenders = np.unique(np.searchsorted(block.tx.first_input, rows, side="right") - 1).tolist()
        questions = [("getrawtransaction", str(block.txid(t)), 2, str(block.block_hash)) for t in spenders]
        try:
            answers = self._rpc.batch(questions)
        except RpcError as error:  # Core before 25
            log.debug("coin heights stay unknown: %s", error)
            return spent
        with making_sense(self._rpc.where, "getrawtransaction"):
            for t, told in zip(spenders, answers, strict=True):
                for row, coin in enumerate(_coins(told), int(block.tx.first_input[t])):
                    if coin is not None and row in rows:
                        height[row], is_coinbase[row] = coin.height, coin.is_coinbase
        return replace(spent, height=height, is_coinbase=is_coinbase)

    def _rest(self, path: str, without: Offer) -> bytes | None:
        """The bytes, None where REST does not offer them."""
        if self.offer is without:
            return None
        answer = self._get(path)
        if answer.status == http.OK:
            return answer.content
        if _says_something(answer):
            return None  # RPC says why
        self._learn(without)
        return None

    def _get(self, path: str) -> Answer:
        answer = self._http.request("GET", path)
        if answer.status == http.UNAVAILABLE:
            raise NodeUnavailable(f"{self._http.where}: {answer.text.strip()[:120]}")
        return answer

    def _learn(self, offer: Offer) -> None:
        self.offer = offer
        log.warning("REST of %s gives %s: asking getblock instead, which is slower", self._http.where, offer.value)

    def _getblock(self, block_hash: Hash256, verbosity: int) -> Any:
        try:
            return self._rpc.call("getblock", str(block_hash), verbosity)
        except RpcError as error:
            if error.code == MISC and "pruned" in error.message:
                raise NodeRefused(
                    f"{self._rpc.where}: block {block_hash} was pruned; read it from another source, or begin later"
                ) from error
            if error.code in (MISC, NOT_FOUND):
                raise NodeUnavailable(
                    f"{self._rpc.where}: block {block_hash} is not here yet: {error.message}"
                ) from error
            raise


def _says_something(answer: Answer) -> bool:
    """An error about this block; an endpoint that does not exist answers with nothing."""
    return bool(answer.content.strip())


def _coins(tx: dict[str, Any]) -> list[Coin | None]:
    """The coins a transaction spends, as `getblock` 3 and `getrawtransaction` 2 tell them."""
    return [_coin(txin.get("prevout")) for txin in tx["vin"]]


def _coin(prevout: dict[str, Any] | None) -> Coin | None:
    if prevout is None:
        return None
    script, height = bytes.fromhex(prevout["scriptPubKey"]["hex"]), prevout["height"]
    if type(height) is not int or not 0 <= height < HIGHEST or not isinstance(prevout["generated"], bool):
        raise ValueError(f"height {height!r}, generated {prevout['generated']!r}")
    return Coin(satoshis(prevout["value"]), script, height, prevout["generated"])
