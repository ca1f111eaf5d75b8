"""The simulated economy: from a seed to blocks in the order in which a node would see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from utxoiq.chain.hashes import Hash256, double_sha256
from utxoiq.chain.serialize import Coin
from utxoiq.simulation.cast import EXCHANGES, HOLDERS, MINERS, SOLO
from utxoiq.simulation.coinjoin import CoinJoins
from utxoiq.simulation.crowd import Crowd, make_people
from utxoiq.simulation.draws import exponential, stream
from utxoiq.simulation.exchange import Exchange
from utxoiq.simulation.hashrate import Hashrate
from utxoiq.simulation.holders import Hoarders, Sleepers, Whales
from utxoiq.simulation.market import Market
from utxoiq.simulation.mining import Draft, SimulatedBlock, make_coinbase, seal
from utxoiq.simulation.payouts import Mistake, Payouts
from utxoiq.simulation.pending import Pending, Signed
from utxoiq.simulation.plan import START_HEIGHT, Event, make_plan
from utxoiq.simulation.regimes import DEMO, Regime
from utxoiq.simulation.reorg import stale_branch
from utxoiq.simulation.treasury import Treasury
from utxoiq.simulation.truth import Truth
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


def simulate(seed: int, blocks: int, regime: Regime = DEMO) -> Iterator[SimulatedBlock]:
    """Blocks in arrival order, made as they are asked for: `blocks` of them on the best chain, and the stale ones.

    The same seed, number of blocks and regime give the same bytes on any machine.
    """
    return Economy(seed, regime).blocks(blocks)


class Owner(Protocol):
    """Anyone who has coins before the first block."""

    @property
    def coins(self) -> list[Owned]: ...


class Server(Actor, Protocol):
    """One that has customers, or pays bills."""

    def serve(self, crowd: Crowd) -> None: ...


class Economy:
    """One economy. `events` is the truth about it: what has happened in the run so far, whole when the run is over."""

    def __init__(self, seed: int, regime: Regime = DEMO) -> None:
        self.seed, self.regime = seed, regime
        self.events: list[Event] = []
        self.coins: dict[tuple[bytes, int], Coin] = {}
        """Those there were before the first block, by txid (internal order) and index; whole when the run is over."""

    def blocks(self, blocks: int) -> Iterator[SimulatedBlock]:
        """See `simulate`. Each call is a new run from the start, with its own events."""
        self.events = []
        run = _Run(self.seed, blocks, self.regime, self.events)
        self.coins = run.coins
        return run.arrivals()


class _Run:
    """The state of one run."""

    def __init__(self, seed: int, blocks: int, regime: Regime, events: list[Event]) -> None:
        self._rng, self._mining = stream(seed, "actors"), stream(seed, "mining")
        self._plan, self._time = make_plan(seed, blocks, regime), START_TIME
        self._truth = Truth(self._plan, events, self._populate(seed, regime))
        self.coins = self._truth.holdings.coins
        self._market = Market(self._plan, regime, self._truth, stream(seed, "market"))
        self._hashrate = Hashrate(self._plan, self._truth, self._mining)

    def _populate(self, seed: int, regime: Regime) -> list[Owned]:
        """Make everybody; the coins that labelled owners have."""
        rng, plan = self._rng, self._plan
        people = make_people(seed, rng)
        exchanges = [Exchange(entity, seed, plan, rng) for entity in EXCHANGES]
        holders = [Treasury(entity, seed, plan, exchanges, rng) for entity in HOLDERS]
        self._crowd = crowd = Crowd(people, exchanges, rng, flows=regime.flows)
        if regime.flows:
            servers: tuple[Server, ...] = (*exchanges, *holders)
            for served in servers:
                served.serve(crowd)
        self._payouts = {miner.id: Payouts(miner, seed, plan, crowd, rng) for miner in MINERS}
        pools = list(self._payouts.values())
        others = (Whales(seed, plan, rng), Sleepers(plan, rng), Mistake(plan, crowd, rng), Hoarders(plan, rng))
        joins = CoinJoins(regime, people, rng)
        self._others: tuple[Actor, ...] = (*others, *exchanges, *holders, *pools, joins)
        owners: tuple[Owner, ...] = (*exchanges, *holders, *pools)
        return [owned for one in owners for owned in one.coins]

    def arrivals(self) -> Iterator[SimulatedBlock]:
        """Every block of the run."""
        tip, step = UNKNOWN_PARENT, 0
        while step < self._plan.blocks:
            drafts = [self._draft(step + i) for i in range(self._plan.group(step))]
            if len(drafts) > 1:
                yield from self._lose(drafts, tip)
            for draft in drafts:
                block, coinbase = self._seal(draft, tip)
                reward = _reward(draft, coinbase)
                self._payouts[draft.miner.id].reward(reward)
                self._truth.holdings.reward(draft.height, reward.coin.script, reward.coin.value)
                tip = block.block_hash
                step += 1
                if step == self._plan.blocks:
                    self._finish()
                yield block

    def _draft(self, step: int) -> Draft:
        """The next block of the best chain, all but sealed."""
        self._time += 1 + int(SPACING * exponential(self._mining))
        pending = Pending(step, START_HEIGHT + step, self._market.feerate(step), self._rng)
        self._fill(pending, self._market.count(step))
        pending.settle()
        self._truth.close_block(pending)
        miner = self._hashrate.finder(step)
        forgotten = self._plan.at("unclaimed", step)
        draft = Draft(
            pending.height, self._time, miner, self._payouts[miner.id].payout, tuple(pending.transactions),
            int(forgotten.size) if forgotten else 0,
        )  # fmt: skip
        self._truth.add(*_of_miner(draft))
        return draft

    def _fill(self, pending: Pending, count: int) -> None:
        """About `count` transactions; none at all for 0."""
        for actor in self._others if count else ():
            actor.act(pending)
        for _ in range(2 * count):  # some of the people who are asked have nothing to spend
            if len(pending.deals) >= count:
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
        detail: dict[str, int | str] = {"depth": len(hashes), "stale": " ".join(hashes)}
        self._truth.add(Event(None, "reorg", None, winning[-1].height, 1.0, detail))

    def _finish(self) -> None:
        self._truth.finish()
        self._hashrate.finish()


def _of_miner(draft: Draft) -> Iterator[Event]:
    """What only its miner did to a block."""
    pool = None if draft.miner is SOLO else draft.miner.id
    if not draft.transactions:
        yield Event("miner", "empty_block", pool, draft.height, 1.0, {})
    if draft.unclaimed:
        detail: dict[str, int | str] = {"unclaimed_sat": draft.unclaimed}
        yield Event("miner", "reward_unclaimed", pool, draft.height, float(draft.unclaimed), detail)


def _reward(draft: Draft, coinbase: Signed) -> Owned:
    value, script = coinbase.tx.outputs[0]
    coin = Coin(value, script, draft.height, is_coinbase=True)
    return Owned(coinbase.txid, 0, coin, draft.payout.kind, draft.miner)
