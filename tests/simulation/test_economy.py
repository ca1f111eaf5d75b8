"""The simulated chain is a valid chain, twice the same, and has in it what real ones have."""

from __future__ import annotations

import statistics
from collections import Counter
from hashlib import sha256
from itertools import islice, pairwise

import pytest

from simulation.worlds import BLOCKS, NETWORK, SEED, Seen, World, world
from utxoiq.chain.address import address_of
from utxoiq.chain.hashes import Hash256
from utxoiq.chain.scripts import ScriptType
from utxoiq.chain.serialize import Coin
from utxoiq.simulation.economy import START_TIME, UNKNOWN_PARENT, Economy, simulate
from utxoiq.simulation.labels import labels
from utxoiq.simulation.payouts import MATURITY
from utxoiq.simulation.plan import STALE_BLOCKS, START_HEIGHT
from utxoiq.simulation.regimes import REGIMES


def test_every_block_says_what_it_is() -> None:
    for seen in world().arrivals:
        assert seen.block.block_hash == seen.made.block_hash
        assert seen.block.header.prev_hash == seen.made.prev_hash
        assert seen.block.coinbase.height == seen.made.height
        assert seen.block.n_tx == seen.made.n_tx
        assert seen.block.coinbase.witness_reserved_value is not None


def test_coinbases_claim_the_subsidy_and_every_fee_but_what_is_forgotten() -> None:
    forgotten = {event.height: event.detail["unclaimed_sat"] for event in world().of("reward_unclaimed")}
    assert forgotten
    for seen in world().best:
        assert min(seen.fees, default=0) >= 0
        entitled = NETWORK.subsidy(seen.made.height) + sum(seen.fees)
        assert entitled - seen.block.coinbase.value_out == forgotten.get(seen.made.height, 0)
    assert NETWORK.subsidy(START_HEIGHT) == 312_500_000


def test_the_best_chain_is_linked() -> None:
    best = world().best
    assert len(best) == BLOCKS
    assert best[0].made.prev_hash == UNKNOWN_PARENT
    assert [seen.made.height for seen in best] == list(range(START_HEIGHT, START_HEIGHT + BLOCKS))
    times = [seen.block.header.time for seen in best]
    assert times[0] > START_TIME
    assert all(earlier < later for earlier, later in pairwise(times))


def branches() -> list[list[Seen]]:
    calm = world("coinjoin_rich", 300)
    return [world().best, world().branch(world().stale[-1]), calm.best]


@pytest.mark.parametrize("which", range(3))
def test_coins_are_made_before_they_are_spent_and_once(which: int) -> None:
    """An independent set of unspent outputs, over the bytes alone. No transaction makes more than it spends."""
    unspent: dict[bytes, Coin] = {}
    made_here: set[bytes] = set()
    spent: set[bytes] = set()
    for seen in branches()[which]:
        for t in range(seen.block.n_tx):
            for row in seen.inputs(t):
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
            for vout, row in enumerate(seen.outputs(t)):
                value, script = int(seen.block.outputs.value[row]), seen.block.outputs.script(row)
                unspent[txid + vout.to_bytes(4, "little")] = Coin(value, script, seen.made.height, t == 0)
            made = sum(int(seen.block.outputs.value[row]) for row in seen.outputs(t))
            assert t == 0 or made <= sum(seen.coin(row).value for row in seen.inputs(t))
    assert any(coin.is_coinbase and coin.height >= START_HEIGHT for coin in unspent.values())


def test_simulated_coinbases_are_spent_too() -> None:
    coins = (seen.coin(row) for seen in world().best for row in range(1, len(seen.block.input_offset)))
    assert any(coin.is_coinbase and coin.height >= START_HEIGHT for coin in coins)


def test_a_branch_of_two_is_overtaken() -> None:
    stale, best = world().stale, world().best
    assert len(stale) == STALE_BLOCKS
    fork = stale[0].made.height - START_HEIGHT
    assert fork == BLOCKS * 7 // 10
    assert stale[0].made.prev_hash == best[fork].made.prev_hash
    assert stale[1].made.prev_hash == stale[0].made.block_hash
    order = [seen.made.block_hash for seen in world().arrivals]
    assert [order.index(seen.made.block_hash) for seen in stale] == [fork, fork + 1]
    assert order.index(best[fork].made.block_hash) == fork + STALE_BLOCKS
    (event,) = world().of("reorg")
    assert event.signal_type is None
    assert str(event.detail["stale"]).split() == [str(seen.made.block_hash) for seen in stale]
    txids = {seen.block.txid(t) for seen in best for t in range(1, seen.block.n_tx)}
    assert all(seen.block.txid(t) in txids for seen in stale for t in range(1, seen.block.n_tx))


def test_a_laboratory_has_no_reorg() -> None:
    assert world("coinjoin_rich", 300).stale == []


def test_a_seed_is_a_chain() -> None:
    first, again, other = ([block.raw for block in simulate(seed, 12)] for seed in (1, 1, 2))
    assert first == again
    assert not set(first) & set(other)


@pytest.mark.parametrize(
    ("regime", "digest"),
    [
        ("demo", "b601bcaaa6d82519ca5af6251b3e857ebc14635b5ca9adf44a4b25cf024872e6"),
        ("calm", "302cc277281c8ab8c7545a6151b23f0f828b69af515517e11365ed1becfb62c2"),
    ],
)
def test_the_bytes_are_the_same_on_every_machine(regime: str, digest: str) -> None:
    hashed = sha256(b"".join(block.raw + block.undo for block in simulate(1, 24, REGIMES[regime])))
    assert hashed.hexdigest() == digest


def test_a_run_is_lazy_and_repeatable() -> None:
    economy = Economy(3)
    first = list(islice(economy.blocks(5_000), 2))
    assert [block.height for block in first] == [START_HEIGHT, START_HEIGHT + 1]
    assert list(islice(economy.blocks(5_000), 2)) == first


def test_a_run_has_the_same_events_twice() -> None:
    economy = Economy(3, REGIMES["bursty"])
    for _ in economy.blocks(130):
        pass
    before = economy.events
    for _ in economy.blocks(130):
        pass
    assert economy.events == before != []


@pytest.mark.parametrize("blocks", range(12))
def test_short_runs_are_whole(blocks: int) -> None:
    assert {block.height - START_HEIGHT for block in simulate(4, blocks)} == set(range(blocks))


def test_labels_name_who_mined() -> None:
    pools = {address: one for one in labels(SEED) if one.kind == "mining_pool" for address in one.addresses}
    unnamed = 0
    for seen in world().arrivals:
        pool = pools.get(address_of(seen.block.coinbase.payouts[0][1], NETWORK) or "")
        assert seen.block.coinbase.tag == (pool.tags[0] if pool else "")
        unnamed += pool is None
    assert 0 < unnamed < BLOCKS // 5


def test_all_script_types_are_used() -> None:
    made = Counter(kind for seen in world().best for kind in seen.block.outputs.type.tolist())
    expected = {"pubkeyhash", "scripthash", "nulldata"}
    expected |= {"witness_v0_keyhash", "witness_v0_scripthash", "witness_v1_taproot"}
    assert {str(ScriptType(kind)) for kind in made} == expected


def children(one: World) -> int:
    """Inputs that spend what the same block made."""
    found = 0
    for seen in one.best:
        here = {bytes(seen.block.txid(t)) for t in range(1, seen.block.n_tx)}
        found += sum(seen.outpoint(row)[:32] in here for row in range(1, len(seen.block.input_offset)))
    return found


def test_children_pay_for_parents() -> None:
    assert children(world()) > BLOCKS // 4


def test_the_median_feerate_steps_as_a_market_does() -> None:
    """Half the usual to twice it, and from block to block hardly ever twice as much; no step needs an event."""
    quiet = world("coinjoin_rich", 300)
    busy = {h for e in quiet.of("fee_spike") + quiet.of("fee_drop") for h in range(e.height, e.height + 15)}
    rates = [statistics.median(seen.feerates) for seen in quiet.best if seen.fees and seen.made.height not in busy]
    usual = statistics.median(rates)
    assert 2 < usual < 8
    assert usual / 3 < min(rates)
    assert max(rates) < 3 * usual
    steps = [max(a, b) / min(a, b) for a, b in pairwise(rates)]
    assert sum(step < 2 for step in steps) > 0.95 * len(steps)
    assert statistics.stdev(rates) > usual / 20


def test_hashes_are_of_the_type_that_knows_its_byte_order() -> None:
    assert isinstance(world().arrivals[0].made.block_hash, Hash256)
    assert isinstance(world().arrivals[0].made.prev_hash, Hash256)
