"""The simulated chain is a valid chain, twice the same, and what its events say is in its bytes."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import islice, pairwise

import numpy as np
import pytest

from utxoiq.chain.address import address_of
from utxoiq.chain.block import Block, Spent, decode_block, read_undo_spent
from utxoiq.chain.hashes import Hash256
from utxoiq.chain.network import NETWORKS
from utxoiq.chain.scripts import ScriptType
from utxoiq.chain.serialize import Coin
from utxoiq.simulation.cast import RISING_POOL
from utxoiq.simulation.draws import exponential, stream
from utxoiq.simulation.economy import START_TIME, UNKNOWN_PARENT, Economy, simulate
from utxoiq.simulation.holders import MATURITY
from utxoiq.simulation.labels import labels
from utxoiq.simulation.mining import Hashrate, SimulatedBlock
from utxoiq.simulation.plan import EMPTY_AFTER, STALE_BLOCKS, START_HEIGHT, Event, make_plan
from utxoiq.units import COIN

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

    def coin(self, row: int) -> Coin:
        spent = self.spent
        assert spent.height is not None
        assert spent.is_coinbase is not None
        flag = bool(spent.is_coinbase[row])
        return Coin(int(spent.outputs.value[row]), spent.outputs.script(row), int(spent.height[row]), flag)


@dataclass(frozen=True)
class World:
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

    def find(self, event: Event) -> tuple[Seen, int]:
        """The block and row of the transaction an event names."""
        seen = self.at(event.height)
        txids = [str(seen.block.txid(t)) for t in range(seen.block.n_tx)]
        return seen, txids.index(str(event.detail["txid"]))


def decoded(made: SimulatedBlock) -> Seen:
    block = decode_block(made.raw, NETWORK)
    return Seen(made, block, read_undo_spent(block, made.undo))


@pytest.fixture(scope="module")
def world() -> World:
    economy = Economy(SEED)
    arrivals = [decoded(made) for made in economy.blocks(BLOCKS)]
    return World(arrivals, economy.events)


def test_every_block_says_what_it_is(world: World) -> None:
    for seen in world.arrivals:
        assert seen.block.block_hash == seen.made.block_hash
        assert seen.block.header.prev_hash == seen.made.prev_hash
        assert seen.block.coinbase.height == seen.made.height
        assert seen.block.n_tx == seen.made.n_tx
        assert seen.block.coinbase.witness_reserved_value is not None


def test_coinbases_claim_the_subsidy_and_every_fee(world: World) -> None:
    for seen in world.arrivals:
        assert min(seen.fees, default=0) >= 0
        assert seen.block.coinbase.value_out == NETWORK.subsidy(seen.made.height) + sum(seen.fees)
    assert NETWORK.subsidy(START_HEIGHT) == 312_500_000


def test_the_best_chain_is_linked(world: World) -> None:
    best = world.best
    assert len(best) == BLOCKS
    assert best[0].made.prev_hash == UNKNOWN_PARENT
    assert [seen.made.height for seen in best] == list(range(START_HEIGHT, START_HEIGHT + BLOCKS))
    times = [seen.block.header.time for seen in best]
    assert times[0] > START_TIME
    assert all(earlier < later for earlier, later in pairwise(times))


@pytest.mark.parametrize("branch", ["best", "stale"])
def test_coins_are_made_before_they_are_spent_and_once(world: World, branch: str) -> None:
    chain = world.best if branch == "best" else world.branch(world.stale[-1])
    unspent: dict[bytes, Coin] = {}
    made_here: set[bytes] = set()
    spent: set[bytes] = set()
    for seen in chain:
        for t in range(seen.block.n_tx):
            for row in range(int(seen.block.tx.first_input[t]), int(seen.block.tx.first_input[t + 1])) if t else ():
                outpoint, coin = seen.outpoint(row), seen.coin(row)
                assert outpoint not in spent
                spent.add(outpoint)
                if coin.height < START_HEIGHT:
                    assert coin.height > 0
                    assert outpoint[:32] not in made_here
                else:
                    assert unspent.pop(outpoint) == coin
                assert not coin.is_coinbase or seen.made.height - coin.height >= MATURITY
            txid = bytes(seen.block.txid(t))
            made_here.add(txid)
            first = int(seen.block.tx.first_output[t])
            for row in range(first, int(seen.block.tx.first_output[t + 1])):
                coin = Coin(
                    int(seen.block.outputs.value[row]), seen.block.outputs.script(row), seen.made.height, t == 0
                )
                unspent[txid + (row - first).to_bytes(4, "little")] = coin
    assert any(coin.is_coinbase and coin.height >= START_HEIGHT for coin in unspent.values())


def test_simulated_coinbases_are_spent_too(world: World) -> None:
    coins = (seen.coin(row) for seen in world.best for row in range(1, len(seen.block.input_offset)))
    assert any(coin.is_coinbase and coin.height >= START_HEIGHT for coin in coins)


def test_a_branch_of_two_is_overtaken(world: World) -> None:
    stale, best = world.stale, world.best
    assert len(stale) == STALE_BLOCKS
    fork = stale[0].made.height - START_HEIGHT
    assert fork == BLOCKS * 7 // 10
    assert stale[0].made.prev_hash == best[fork].made.prev_hash
    assert stale[1].made.prev_hash == stale[0].made.block_hash
    order = [seen.made.block_hash for seen in world.arrivals]
    assert [order.index(seen.made.block_hash) for seen in stale] == [fork, fork + 1]
    assert order.index(best[fork].made.block_hash) == fork + STALE_BLOCKS
    (event,) = world.of("reorg")
    assert str(event.detail["stale"]).split() == [str(seen.made.block_hash) for seen in stale]
    txids = {seen.block.txid(t) for seen in best for t in range(1, seen.block.n_tx)}
    assert all(seen.block.txid(t) in txids for seen in stale for t in range(1, seen.block.n_tx))


def test_a_seed_is_a_chain() -> None:
    first, again, other = ([block.raw for block in simulate(seed, 12)] for seed in (1, 1, 2))
    assert first == again
    assert not set(first) & set(other)


def test_the_bytes_are_the_same_on_every_machine() -> None:
    digest = sha256(b"".join(block.raw + block.undo for block in simulate(1, 12)))
    assert digest.hexdigest() == "095f9302919a4c682ca363f91270b1065081d648aaaa03f86dd71649603b7724"


def test_a_run_is_lazy_and_repeatable() -> None:
    economy = Economy(3)
    first = list(islice(economy.blocks(5_000), 2))
    assert [block.height for block in first] == [START_HEIGHT, START_HEIGHT + 1]
    assert list(islice(economy.blocks(5_000), 2)) == first


@pytest.mark.parametrize("blocks", range(12))
def test_short_runs_are_whole(blocks: int) -> None:
    assert {block.height - START_HEIGHT for block in simulate(4, blocks)} == set(range(blocks))


def test_labels_name_who_mined(world: World) -> None:
    pools = {label.addresses[0]: label for label in labels(SEED) if label.kind == "mining_pool"}
    unnamed = 0
    for seen in world.arrivals:
        pool = pools.get(address_of(seen.block.coinbase.payouts[0][1], NETWORK) or "")
        assert seen.block.coinbase.tag == (pool.tags[0] if pool else "")
        unnamed += pool is None
    assert 0 < unnamed < BLOCKS // 5


def test_all_script_types_are_used(world: World) -> None:
    made = Counter(kind for seen in world.best for kind in seen.block.outputs.type.tolist())
    expected = {"pubkeyhash", "scripthash", "nulldata"}
    expected |= {"witness_v0_keyhash", "witness_v0_scripthash", "witness_v1_taproot"}
    assert {str(ScriptType(kind)) for kind in made} == expected


def test_fee_bursts_cost_what_they_say(world: World) -> None:
    bursts = world.of("fee_burst")
    assert len(bursts) == 2
    usual = statistics.median(rate for seen in world.best for rate in seen.feerates)
    assert 2 < usual < 8
    for event in bursts:
        heights = range(event.height, event.height + int(event.detail["blocks"]))
        during = statistics.median(rate for height in heights for rate in world.at(height).feerates)
        assert during > usual * int(event.detail["percent"]) / 100 / 3


def test_blocks_are_full_empty_and_crowded_when_they_should_be(world: World) -> None:
    counts = [seen.made.n_tx for seen in world.best]
    usual = statistics.median(counts)
    assert 100 < usual < 250
    (burst,) = world.of("tx_count_burst")
    assert world.at(burst.height).made.n_tx > 2 * usual
    empty = {event.height for event in world.of("empty_block")}
    assert empty == {START_HEIGHT + step for step, count in enumerate(counts) if count == 1}
    assert 1 <= len(empty) <= 3
    assert min(empty) >= START_HEIGHT + EMPTY_AFTER


def test_one_fee_is_absurd(world: World) -> None:
    (event,) = world.of("overpaid_fee")
    seen, t = world.find(event)
    assert event.detail["fee_sat"] == seen.fees[t - 1] == 12 * COIN
    assert sorted(fee for seen in world.best for fee in seen.fees)[-2] < COIN


def test_whales_move_what_the_events_say(world: World) -> None:
    transfers = world.of("whale_transfer")
    assert {event.detail["change"] for event in transfers} == {"same_script", "fresh_script"}
    for event in transfers:
        seen, t = world.find(event)
        rows = range(int(seen.block.tx.first_output[t]), int(seen.block.tx.first_output[t + 1]))
        assert int(event.detail["amount_sat"]) in seen.block.outputs.value[rows].tolist()
        assert int(event.detail["amount_sat"]) >= 1_000 * COIN
        spent = {seen.coin(row).script for row in range(*seen.block.tx.first_input[t : t + 2].tolist())}
        back = any(seen.block.outputs.script(row) in spent for row in rows)
        assert back == (event.detail["change"] == "same_script")


def test_sleepers_are_old(world: World) -> None:
    for event in world.of("dormant_wakes"):
        seen, t = world.find(event)
        coin = seen.coin(int(seen.block.tx.first_input[t]))
        assert coin.height == event.detail["coin_height"]
        assert coin.height <= 500_000


def test_children_pay_for_parents(world: World) -> None:
    pairs = 0
    for seen in world.best:
        cheap = {bytes(seen.block.txid(t)) for t, rate in enumerate(seen.feerates, 1) if rate < 1.1}
        rows = range(1, len(seen.block.input_offset))
        pairs += sum(seen.outpoint(row)[:32] in cheap for row in rows)
    assert pairs > BLOCKS


def test_one_pool_triples_its_share() -> None:
    plan = replace(make_plan(SEED, 10), hashrate_shift=4_000)
    hashrate = Hashrate(plan, stream(SEED, "test"))
    found = [hashrate.finder(step) is RISING_POOL for step in range(8_000)]
    assert 2.2 < sum(found[4_000:]) / sum(found[:4_000]) < 3.8


def test_gaps_between_blocks_are_exponential() -> None:
    rng = stream(SEED, "test")
    draws = [exponential(rng) for _ in range(20_000)]
    assert statistics.mean(draws) == pytest.approx(1, abs=0.03)
    assert statistics.median(draws) == pytest.approx(0.6931, abs=0.03)
    assert statistics.stdev(draws) == pytest.approx(1, abs=0.05)


def test_hashes_are_of_the_type_that_knows_its_byte_order(world: World) -> None:
    assert isinstance(world.arrivals[0].made.block_hash, Hash256)
    assert isinstance(world.arrivals[0].made.prev_hash, Hash256)
