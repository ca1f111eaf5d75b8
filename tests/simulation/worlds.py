"""Simulated chains, decoded again from their bytes, with what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from utxoiq.chain.block import Block, Spent, decode_block, read_undo_spent
from utxoiq.chain.network import NETWORKS
from utxoiq.chain.serialize import Coin
from utxoiq.simulation.economy import Economy
from utxoiq.simulation.mining import SimulatedBlock
from utxoiq.simulation.plan import START_HEIGHT, Event
from utxoiq.simulation.regimes import REGIMES

NETWORK = NETWORKS["simulated"]
SEED, BLOCKS = 7, 230


@dataclass(frozen=True)
class Seen:
    """A simulated block and what decoding makes of it."""

    made: SimulatedBlock
    block: Block
    spent: Spent

    @property
    def fees(self) -> list[int]:
        return [int(fee) for fee in (self.spent.tx_value_in - self.block.tx.value_out)[1:]]

    @property
    def feerates(self) -> list[float]:
        """sat/vB"""
        vsizes = (3 * self.block.tx.stripped_size[1:] + self.block.tx.size[1:]) / 4
        return [float(rate) for rate in np.array(self.fees) / vsizes]

    def outpoint(self, row: int) -> bytes:
        at = int(self.block.input_offset[row])
        return self.block.raw[at : at + 36].tobytes()

    def inputs(self, t: int) -> range:
        first = self.block.tx.first_input
        return range(int(first[t]), int(first[t + 1])) if t else range(0)

    def outputs(self, t: int) -> range:
        first = self.block.tx.first_output
        return range(int(first[t]), int(first[t + 1]))

    def coin(self, row: int) -> Coin:
        spent = self.spent
        assert spent.height is not None
        assert spent.is_coinbase is not None
        flag = bool(spent.is_coinbase[row])
        return Coin(int(spent.outputs.value[row]), spent.outputs.script(row), int(spent.height[row]), flag)


@dataclass(frozen=True)
class World:
    """A run: what arrived, in that order, and what happened."""

    arrivals: list[Seen]
    events: list[Event]

    def branch(self, tip: Seen) -> list[Seen]:
        """The chain that ends in `tip`, first block first."""
        by_hash = {seen.made.block_hash: seen for seen in self.arrivals}
        chain = [tip]
        while chain[-1].made.prev_hash in by_hash:
            chain.append(by_hash[chain[-1].made.prev_hash])
        return chain[::-1]

    @property
    def best(self) -> list[Seen]:
        return self.branch(self.arrivals[-1])

    @property
    def stale(self) -> list[Seen]:
        best = {seen.made.block_hash for seen in self.best}
        return [seen for seen in self.arrivals if seen.made.block_hash not in best]

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    def at(self, height: int) -> Seen:
        return self.best[height - START_HEIGHT]

    def counted(self, kind: str) -> list[Event]:
        return [event for event in self.of(kind) if event.counts]

    def find(self, event: Event) -> tuple[Seen, int]:
        """The block and row of the transaction an event names."""
        seen = self.at(event.height)
        txids = [str(seen.block.txid(t)) for t in range(seen.block.n_tx)]
        return seen, txids.index(str(event.detail["txid"]))


def decoded(made: SimulatedBlock) -> Seen:
    block = decode_block(made.raw, NETWORK)
    return Seen(made, block, read_undo_spent(block, made.undo))


@cache
def world(regime: str = "demo", blocks: int = BLOCKS, seed: int = SEED) -> World:
    """A whole run."""
    economy = Economy(seed, REGIMES[regime])
    arrivals = [decoded(made) for made in economy.blocks(blocks)]
    return World(arrivals, economy.events)
