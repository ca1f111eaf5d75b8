"""The simulated economy: from a seed to blocks in the order in which a node would see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from utxoiq.chain.hashes import Hash256, double_sha256
from utxoiq.chain.serialize import Coin
from utxoiq.simulation.cast import EXCHANGES, POOLS, SOLO
from utxoiq.simulation.crowd import Crowd, make_people
from utxoiq.simulation.draws import exponential, stream
from utxoiq.simulation.exchange import Exchange
from utxoiq.simulation.holders import Mistake, Payouts, Sleepers, Whales
from utxoiq.simulation.market import Market
from utxoiq.simulation.mining import Draft, Hashrate, SimulatedBlock, make_coinbase, seal
from utxoiq.simulation.pending import Pending, Signed
from utxoiq.simulation.plan import START_HEIGHT, Event, make_plan
from utxoiq.simulation.reorg import stale_branch
from utxoiq.simulation.wallets import Owned

if TYPE_CHECKING:
    from collections.abc import Iterator

START_TIME = 1_767_571_200
"""2026-01-05T00:00:00Z, in Unix seconds."""
SPACING = 600
"""Mean seconds between blocks."""
UNKNOWN_PARENT = Hash256(double_sha256(b"utxoiq simulated chain: what came before is unknown"))
"""What the first block builds on."""


class Actor(Protocol):
    """Anyone who may add transactions to a block."""

    def act(self, pending: Pending) -> None: ...


def simulate(seed: int, blocks: int) -> Iterator[SimulatedBlock]:
    """Blocks in arrival order, made as they are asked for: `blocks` of them on the best chain, and the stale ones.

    The same seed and number of blocks give the same bytes on any machine.
    """
    return Economy(seed).blocks(blocks)


class Economy:
    """One economy. `events` is the truth about it: what unusual things have happened in the run so far."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.events: list[Event] = []

    def blocks(self, blocks: int) -> Iterator[SimulatedBlock]:
        """See `simulate`. Each call is a new run from the start, with its own events."""
        self.events = []
        return _Run(self.seed, blocks, self.events).arrivals()


class _Run:
    """The state of one run."""

    def __init__(self, seed: int, blocks: int, events: list[Event]) -> None:
        self._rng, self._mining = stream(seed, "actors"), stream(seed, "mining")
        self._plan = make_plan(seed, blocks)
        self._events = events
        self._time = START_TIME
        self._market = Market(self._plan, stream(seed, "market"))
        self._hashrate = Hashrate(self._plan, self._mining)
        self._populate(seed)

    def _populate(self, seed: int) -> None:
        rng, people = self._rng, make_people(self._rng)
        exchanges = [Exchange(entity, seed, people, rng) for entity in EXCHANGES]
        self._payouts = {miner.id: Payouts(miner.locks(seed)[0], people, rng) for miner in (*POOLS, SOLO)}
        self._crowd = Crowd(people, exchanges, rng)
        holders = (Whales(exchanges, rng), Sleepers(rng), Mistake(self._plan, people, rng))
        self._others: tuple[Actor, ...] = (*holders, *exchanges, *self._payouts.values())

    def arrivals(self) -> Iterator[SimulatedBlock]:
        """Every block of the run."""
        tip, step = UNKNOWN_PARENT, 0
        while step < self._plan.blocks:
            drafts = [self._draft(step + i) for i in range(self._plan.group(step))]
            if len(drafts) > 1:
                yield from self._lose(drafts, tip)
            for draft in drafts:
                block, coinbase = self._seal(draft, tip)
                self._payouts[draft.miner.id].reward(_reward(draft, coinbase))
                tip = block.block_hash
                yield block
            step += len(drafts)

    def _draft(self, step: int) -> Draft:
        """The next block of the best chain, all but sealed."""
        self._time += 1 + int(SPACING * exponential(self._mining))
        self._events.extend(self._plan.announce(step))
        pending = Pending(START_HEIGHT + step, self._market.feerate(step), self._rng, self._events)
        self._fill(pending, self._market.count(step))
        miner = self._hashrate.finder(step)
        payout = self._payouts[miner.id].payout
        return Draft(pending.height, self._time, miner, payout, tuple(pending.transactions))

    def _fill(self, pending: Pending, count: int) -> None:
        """About `count` transactions; none at all for 0."""
        for actor in self._others if count else ():
            actor.act(pending)
        for _ in range(2 * count):  # some of the people who are asked have nothing to spend
            if len(pending.transactions) >= count:
                return
            self._crowd.act(pending)

    def _seal(self, draft: Draft, prev_hash: Hash256) -> tuple[SimulatedBlock, Signed]:
        coinbase = make_coinbase(draft, self._mining)
        return seal(draft, coinbase, prev_hash), coinbase

    def _lose(self, winning: list[Draft], tip: Hash256) -> Iterator[SimulatedBlock]:
        """The branch that arrives first and is overtaken."""
        payouts = {miner: owner.payout for miner, owner in self._payouts.items()}
        hashes = []
        for draft in stale_branch(winning, payouts, self._mining):
            block, _ = self._seal(draft, tip)
            tip = block.block_hash
            hashes.append(str(tip))
            yield block
        self._events.append(Event("reorg", winning[-1].height, {"depth": len(hashes), "stale": " ".join(hashes)}))


def _reward(draft: Draft, coinbase: Signed) -> Owned:
    value, script = coinbase.tx.outputs[0]
    return Owned(coinbase.txid, 0, Coin(value, script, draft.height, is_coinbase=True), draft.payout.kind)
