"""Chains for reading: with everything that makes blocks differ, and sources of several kinds over them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.node.bitcoind import ABSENT, BitcoindNode, bitcoind_path
from helpers.node.double import NodeDouble
from helpers.node.driver import Driver
from helpers.node.interface import TestNode
from helpers.node.miner import OURS, OwnCoin, outputs_of
from helpers.node.wire import internal
from helpers.relay import Relay
from utxoiq.chain.network import NETWORKS
from utxoiq.chain.serialize import Tx
from utxoiq.entities.labels import LabelSet
from utxoiq.facts.compute import compute_facts
from utxoiq.models import BlockData
from utxoiq.sources.node.source import NodeSource
from utxoiq.units import COIN

REGTEST = NETWORKS["regtest"]
NO_LABELS = LabelSet((), "none", REGTEST)
AGES = ("coin_blocks_destroyed", "coin_days_destroyed", "oldest_coin")
FEE = 20_000


@contextmanager
def running(kind: str, folder: Path, blocks: int) -> Iterator[TestNode]:
    """A node that several tests share; skips them where there is none of this kind."""
    if kind == "bitcoind" and bitcoind_path() is None:
        pytest.skip(ABSENT)
    node: NodeDouble | BitcoindNode = NodeDouble(folder) if kind == "double" else BitcoindNode(folder)
    with closing(node):
        node.start()
        node.mine(blocks)
        yield node


def source_of(node: TestNode, relay: Relay | None = None, **options: Any) -> NodeSource:
    """A source over a node with a cookie, or over the relay before it."""
    return NodeSource(relay.url if relay else node.url, **{"cookie_file": node.cookie_file, **options})


def facts_of(block: BlockData) -> dict[str, Any]:
    return compute_facts(block, NO_LABELS).as_dict()


def blocks_folder(node: TestNode) -> Path:
    """Where the node keeps its block files; the double's judge has begun anew for each number."""
    real = node.datadir / "regtest" / "blocks"
    return real if real.is_dir() else max(node.datadir.glob("kernel*/blocks"), key=lambda path: path.stat().st_ctime)


def hashes(node: TestNode) -> list[str]:
    """The best chain, by height."""
    return [node.rpc("getblockhash", height) for height in range(node.rpc("getblockcount") + 1)]


def mature(node: TestNode) -> list[OwnCoin]:
    """Our coins that the next block may spend, oldest first."""
    assert isinstance(node, Driver)
    return node.wallet.mature(internal(node.rpc("getbestblockhash")), node.rpc("getblockcount") + 1)


def put(node: TestNode, *spends: tuple[Tx, list[OwnCoin]]) -> str:
    """A block on the tip with these transactions, each given with what it spends of earlier blocks."""
    assert isinstance(node, Driver)
    transactions, coins = [tx for tx, _ in spends], [coin for _, used in spends for coin in used]
    return node._submit(internal(node.rpc("getbestblockhash")), transactions, coins, time=None, pooled=[])


def payment(coins: list[OwnCoin], *values: int, fee: int = FEE) -> tuple[Tx, list[OwnCoin]]:
    """A transaction that makes coins of ours of these values, the rest in one more; and what it spends."""
    rest = sum(coin.value for coin in coins) - sum(values) - fee
    assert rest > 0
    outputs = [(value, OURS[n % 2]) for n, value in enumerate((*values, rest))]
    return Tx(tuple(coin.spend() for coin in coins), tuple(outputs)), coins


def consolidate(node: TestNode, *values: int) -> list[OwnCoin]:
    """Coins of ours of these values, made in one block from coinbases of 50 BTC."""
    needed = -(-(sum(values) + FEE + 1) // (50 * COIN))
    coins = [coin for coin in mature(node) if coin.value == 50 * COIN][:needed]
    assert len(coins) == needed, "mine more blocks before the first halving"
    tx, used = payment(coins, *values)
    put(node, (tx, used))
    return outputs_of(tx)[: len(values)]


LARGE = [(100 + n) * COIN for n in range(11)]
"""One more than is told of a block."""
BORDER = (100 * COIN, 100 * COIN - 1)
"""The least value that is large, and the most that is not."""


def enrich(node: TestNode) -> TestNode:
    """On 110 blocks: spends of every shape, large coins, a fat block, packages, a reorg, a stale branch."""
    node.mine(34)
    many, border = consolidate(node, *LARGE), consolidate(node, *BORDER)
    node.mine(3)
    put(node, payment(border, 7))
    node.mine(2)
    put(node, *(payment([coin], 1, 57_000_000, fee=FEE + n) for n, coin in enumerate(many)))
    node.mine(12, spends=6)
    parent = node.send(0.2)
    node.send(60, spend=parent)
    node.send(0.15)
    node.mine(1, spends=3, mempool=True)
    node.fat_block(150_000, 250)
    fork = node.mine(1)[0]
    node.mine(2, spends=4)
    node.side_branch(fork, 3, spends=4)
    node.side_branch(node.rpc("getblockhash", 120), 2)
    node.mine(3, spends=5)
    return node
