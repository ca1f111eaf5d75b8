"""The node's mempool: how much waits, and what the next block would pay."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from utxoiq.chain.hashes import Hash256
from utxoiq.errors import RpcError
from utxoiq.models import BLOCK_WEIGHT, MempoolSnapshot, NextBlock
from utxoiq.sources.node.rpc import METHOD_NOT_FOUND, Rpc, satoshis
from utxoiq.sources.steps import making_sense

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

MOST_LISTED = 20_000
"""Transactions up to which a node without a feerate diagram is asked for its whole listing (455 bytes each)."""
PERCENTS = (5, 10, 25, 50, 75, 90)
MOST_BORDERS = 8
ATTEMPTS = 3
TARGETS = (2, 6, 144)
"""Blocks within which to be confirmed (`estimatesmartfee` knows none below 2)."""


def count(value: Any) -> int:
    """A number of things as the node tells it. Raises ValueError for any other value."""
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise ValueError(f"{value!s:.40} is no count")
    return value


class Chunk(NamedTuple):
    """Transactions mined together, at one rate."""

    weight: int
    fee: int

    @property
    def feerate_kvb(self) -> int:
        return self.fee * 4000 // self.weight


class Mempool:
    """Takes snapshots of one node's mempool."""

    def __init__(self, rpc: Rpc, clock: Callable[[], float] = time.time) -> None:
        self._rpc, self._clock = rpc, clock
        self._has_diagram = True

    def snapshot(self) -> MempoolSnapshot | None:
        """The mempool as it is, None while blocks come faster than it can be read. Raises NodeError."""
        for _ in range(ATTEMPTS):
            tip, info = self._rpc.batch([("getbestblockhash",), ("getmempoolinfo",)])
            with making_sense(self._rpc.where, "the mempool's state"):
                Hash256.from_display(tip)
                basis, chunks = self._chunks(info["size"])
                if self._rpc.call("getbestblockhash") == tip:
                    return MempoolSnapshot(
                        taken_at=int(self._clock()),
                        tip=tip,
                        transactions=count(info["size"]),
                        vsize=count(info["bytes"]),
                        minfee_kvb=satoshis(info["mempoolminfee"]),
                        relayfee_kvb=satoshis(info["minrelaytxfee"]),
                        basis=basis,
                        node_estimates_kvb=self._estimates(),
                        **({} if basis is None else project(chunks)),
                    )
        return None

    def _estimates(self) -> list[int | None] | None:
        """What the node advises for each target, None where it has too little data; None where it gives no advice."""
        try:
            answers = self._rpc.batch([("estimatesmartfee", target) for target in TARGETS])
        except RpcError as error:  # such as of a node that runs without estimation
            log.debug("no fee estimates: %s", error)
            return None
        return [satoshis(answer["feerate"]) if "feerate" in answer else None for answer in answers]

    def _chunks(self, transactions: int) -> tuple[Literal["feerate diagram", "verbose listing"] | None, list[Chunk]]:
        if self._has_diagram:
            try:
                return "feerate diagram", list(_of_diagram(self._rpc.call("getmempoolfeeratediagram")))
            except RpcError as error:
                if error.code != METHOD_NOT_FOUND:
                    raise
                self._has_diagram = False
                log.info("%s has no getmempoolfeeratediagram (Core before 31)", self._rpc.where)
        if transactions > MOST_LISTED:
            return None, []
        return "verbose listing", chunks_of_listing(self._rpc.call("getrawmempool", True))


def _of_diagram(points: list[dict[str, Any]]) -> Iterator[Chunk]:
    """Cumulative points to chunks, best first."""
    weight = fee = 0
    for point in points:
        at, paid = count(point["weight"]), satoshis(point["fee"])
        if at > weight:
            yield Chunk(at - weight, paid - fee)
        weight, fee = at, paid


def chunks_of_listing(listing: dict[str, dict[str, Any]]) -> list[Chunk]:
    """Chunks of `getrawmempool true`, best first: each transaction with the ancestors still missing, by ancestor rate.

    The order of a miner before Core 31 (node/miner.cpp, addPackageTxs), without looking again at descendants of what
    was taken: close where clusters are small.
    """

    def ancestor_rate(txid: str) -> Decimal:
        entry = listing[txid]
        return Decimal(entry["fees"]["ancestor"]) / int(entry["ancestorsize"])

    taken: set[str] = set()
    chunks = []
    for txid in sorted(listing, key=lambda t: (-ancestor_rate(t), t)):
        missing = _with_ancestors(txid, listing, taken)
        taken |= missing
        if missing:
            weight = sum(count(listing[t]["weight"]) for t in missing)
            chunks.append(Chunk(weight, sum(satoshis(listing[t]["fees"]["modified"]) for t in missing)))
    return sorted(chunks, key=lambda chunk: -chunk.feerate_kvb)


def _with_ancestors(txid: str, listing: dict[str, dict[str, Any]], taken: set[str]) -> set[str]:
    found: set[str] = set()
    waiting = [txid]
    while waiting:
        one = waiting.pop()
        if one not in taken and one not in found and one in listing:
            found.add(one)
            waiting += listing[one]["depends"]
    return found


def project(chunks: Iterable[Chunk]) -> dict[str, Any]:
    """The next block, the backlog and the border rates of chunks in the order of mining, best first."""
    first: list[Chunk] = []
    borders: list[int] = []
    backlog = filled = rate = 0
    for chunk in chunks:
        if filled and filled + chunk.weight > BLOCK_WEIGHT:
            borders.append(rate)
            filled = 0
        filled += chunk.weight
        backlog += chunk.weight
        rate = chunk.feerate_kvb
        if not borders:
            first.append(chunk)
    fees = sum(chunk.fee for chunk in first)
    return {
        "next_block": NextBlock(sum(chunk.weight for chunk in first), fees, percentiles(first)),
        "backlog_weight": backlog,
        "border_feerates_kvb": borders[:MOST_BORDERS],
    }


def percentiles(chunks: list[Chunk]) -> list[int]:
    """5, 10, 25, 50, 75, 90 % of their rates by weight (Core's CalculatePercentilesByWeight); [] of none."""
    total = sum(chunk.weight for chunk in chunks)
    found: list[int] = []
    so_far = 0
    for chunk in reversed(chunks):
        so_far += chunk.weight
        while len(found) < len(PERCENTS) and so_far * 100 >= PERCENTS[len(found)] * total:
            found.append(chunk.feerate_kvb)
    return found
