"""Chains as steps, and a ledger and a recount that take them together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pbk

from balances.oracle import Recount
from chain.test_kernel_oracle import Chain, economy, judge_in, spending
from helpers.recorded import recorded_run
from utxoiq.balances.ledger import Ledger
from utxoiq.balances.records import Settings
from utxoiq.chain.block import Block, Spent, decode_block, read_undo_spent
from utxoiq.chain.hashes import Hash256
from utxoiq.chain.network import NETWORKS, Network
from utxoiq.simulation.economy import simulate
from utxoiq.sources.tree import HeaderTree, Node

REGTEST, SIMULATED = NETWORKS["regtest"], NETWORKS["simulated"]
NOTHING_SPENT = b"\x00"
SMALL = Settings(delta_limit=700, run_records=400, checkpoint_steps=7, replay_steps=40, undo_blocks=30, sync=False)
"""So small that everything happens often: merges, splits, checkpoints, files that are dropped."""


@dataclass(frozen=True)
class Item:
    """A block at its height, with what it spends."""

    raw: bytes
    block: Block
    spent: Spent
    height: int

    @property
    def hash(self) -> Hash256:
        return self.block.block_hash

    @property
    def prev(self) -> Hash256:
        return Hash256(self.block.header.prev_hash)


def item(raw: bytes, undo: bytes, height: int, network: Network) -> Item:
    block = decode_block(raw, network)
    return Item(raw, block, read_undo_spent(block, undo), height)


@dataclass(frozen=True)
class Steps:
    """What a node did: connect (True) or disconnect (False) a block."""

    network: Network
    steps: list[tuple[bool, Item]] = field(default_factory=list)

    @property
    def reorgs(self) -> int:
        return sum(before and not now for (before, _), (now, _) in zip(self.steps, self.steps[1:], strict=False))


def as_followed(items: Iterable[Item], network: Network, root: int) -> Steps:
    """The steps to take when these blocks arrive in this order: the branch with most work is followed."""
    kept = list(items)
    nodes = [Node(i.hash, i.prev, i.block.header.work, i.block.header.time, n) for n, i in enumerate(kept)]
    tree = HeaderTree(iter(nodes), lambda _: root)
    return Steps(network, [(connect, kept[node.place]) for connect, node in tree.steps(None)])


def of_run(name: str) -> Steps:
    """A recorded run of a node. Blocks that were never connected have no undo data and are left out."""
    run, heights = recorded_run(name, REGTEST), {bytes(32): -1}
    items = []
    for block_hash, raw in run.blocks.items():
        heights[block_hash] = heights[raw[4:36]] + 1
        if block_hash in run.undo or raw[4:36] == bytes(32):
            undo = run.undo.get(block_hash, NOTHING_SPENT)
            items.append(item(raw, undo, heights[block_hash], REGTEST))
    return as_followed(items, REGTEST, 0)


@cache
def core_run() -> Steps:
    """1,200 blocks made by a Core node, with three reorgs."""
    return of_run("regtest_core31")


@cache
def kernel_chain() -> Steps:
    """115 blocks with every kind of script, validated by libbitcoinkernel; then a branch of seven overtakes four."""
    with TemporaryDirectory() as folder, judge_in(Path(folder)) as judge:
        genesis = bytes(judge.chainman.blocks[judge.entries[0]])
        chain = economy(genesis)
        fork = chain.blocks[-4]
        other = Chain(Hash256(fork[4:36]), chain.time - 2000, chain.blocks[:-4], chain.coins[:-4])
        for coin in chain.coins[3:10]:
            other.extend(spending([coin], [(1234, b"\x51"), (10**9, b"\x00\x14" + bytes(20)), (5, b"\x6a")]))
        raws = [*chain.blocks, *other.blocks[len(chain.blocks) - 4 :]]
        for raw in raws:
            judge.chainman.process_block(pbk.Block(raw))
        files = judge.files()
        assert bytes(judge.entries[-1].block_hash) == bytes(other.tip)
    heights = {genesis[4:36]: -1}
    items = []
    for block_hash, raw in files.blocks.items():
        heights[block_hash] = heights[raw[4:36]] + 1
        items.append(item(raw, files.undo.get(block_hash, NOTHING_SPENT), heights[block_hash], REGTEST))
    return as_followed(items, REGTEST, 0)


@cache
def simulated() -> Steps:
    """A simulated chain with its stale branches; it begins at some height, above coins nobody saw being made."""
    made = [item(block.raw, block.undo, block.height, SIMULATED) for block in simulate(11, 120)]
    return as_followed(made, SIMULATED, made[0].height)


@dataclass
class Followed:
    """A ledger and a recount of the same steps; the recount is remembered wherever `chain` comes back to."""

    ledger: Ledger
    chain: Steps
    now: Recount = field(default_factory=Recount)
    ever: set[bytes] = field(default_factory=set)
    """Every script seen on any branch."""

    def __post_init__(self) -> None:
        self.ever |= self.now.ever
        self._returns = {item.prev for connect, item in self.chain.steps if not connect}
        self._remembered: dict[Hash256, Recount] = {}

    def take(self, connect: bool, step: Item) -> None:
        """One step, by both."""
        if connect:
            self.ledger.connect(step.block, step.spent, step.height)
        else:
            self.ledger.disconnect(step.hash)
        self.recount(connect, step)

    def recount(self, connect: bool, step: Item) -> None:
        """One step, by the recount only."""
        if not connect:
            self.now = self._remembered[step.prev].copy()
            return
        if step.prev in self._returns:
            self._remembered[step.prev] = self.now.copy()
        self.ever |= self.now.connect(step.raw, step.height)


def after(step: tuple[bool, Item]) -> tuple[int, Hash256] | None:
    """The tip after a step."""
    connect, item = step
    return (item.height, item.hash) if connect else (item.height - 1, item.prev) if item.height else None
