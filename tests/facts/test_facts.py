"""Facts as a whole: what is known and what is not, the recorded figures, purity, and what is refused."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from facts.made import ANYONE, REGTEST, block_of, facts_of, outpoint_coin, recorded_blocks, run
from helpers.build import OP_TRUE, coinbase, mined
from helpers.recorded import ALL, Recorded, every_block, every_block_with_undo
from utxoiq.chain.address import address_of
from utxoiq.chain.block import decode_block, read_rest_spent
from utxoiq.chain.network import NETWORKS
from utxoiq.chain.serialize import Coin, Tx, TxInput, spenttxouts_bytes
from utxoiq.entities.labels import LabelSet, packaged_labels, read_labels
from utxoiq.errors import DecodeError
from utxoiq.facts.compute import compute_facts
from utxoiq.models import BlockData, BlockFacts
from utxoiq.units import COIN

NEED_SPENT = {
    "totalfee", "avgfee", "medianfee", "minfee", "maxfee", "avgfeerate", "minfeerate", "maxfeerate",
    "feerate_percentiles", "feerate_percentiles_kvb", "package_feerate_percentiles_kvb", "packages", "top_fee",
    "coinbase_unclaimed", "coin_blocks_destroyed", "coin_days_destroyed", "oldest_coin", "large_transfers",
    "large_coins", "package_feerate_p5_kvb",
    "utxo_size_inc", "utxo_size_inc_actual", "spent_types",
}  # fmt: skip
NEED_HEIGHT = {"height", "subsidy", "utxo_increase_actual", "utxo_size_inc_actual", "coinbase_unclaimed"}
NEED_COINS = {"coin_blocks_destroyed", "oldest_coin"}
MAY_BE_NONE = {"pool", "pool_name", "pool_by"}


def unknown(facts: BlockFacts) -> set[str]:
    """The fields that are None, those that say "nobody" left out."""
    return {name for name, value in facts.as_dict().items() if value is None} - MAY_BE_NONE


def known_of(recorded: Recorded) -> BlockFacts:
    return recorded_blocks()[recorded.row["hash"]].facts


# -------------------------------------------------------------------------------------- the recorded single blocks


@every_block
def test_what_the_index_says(recorded: Recorded) -> None:
    """Hash, parent, time, counts, size and weight are those on record; the total fee too, and nothing is unclaimed."""
    facts, row = known_of(recorded), recorded.row
    assert facts.blockhash == row["hash"]
    assert facts.previousblockhash == row["prev"]
    assert (facts.time, facts.txs) == (int(row["time"]), int(row["n_tx"]))
    assert (facts.size, facts.weight) == (int(row["size"]), int(row["weight"]))
    assert facts.height == (int(row["height"]) if row["height"] else None)
    assert facts.network == row["network"]
    if row["n_inputs"]:
        assert facts.ins == int(row["n_inputs"])
    if row["spent_file"]:
        assert facts.totalfee == int(row["fees_sat"])
        assert facts.coinbase_unclaimed == 0


@every_block
def test_what_is_not_known_is_none(recorded: Recorded) -> None:
    """Without spent outputs, heights, or coins' heights exactly the fields that need them are None, and no other."""
    facts, row = known_of(recorded), recorded.row
    expected = set() if recorded.name.startswith(("main_0000000_", "main_0000001_")) else {"mediantime"}
    if not row["spent_file"] and facts.txs > 1:
        expected |= NEED_SPENT
    if not row["height"]:
        expected |= NEED_HEIGHT
    if facts.txs > 1:
        expected |= {"coin_days_destroyed"} | (set() if row["undo_file"] else NEED_COINS)
    else:
        expected |= {"oldest_coin", "top_fee"}
    if facts.totalfee == 0:
        expected |= {"top_fee"}
    assert unknown(facts) == expected


def test_the_recorded_blocks_have_every_case(shared: Path) -> None:
    """Proof that the two tests above mean something."""
    seen = Counter((bool(b.row["spent_file"]), bool(b.row["undo_file"]), bool(b.row["height"])) for b in ALL)
    assert seen[True, True, True] == 13
    assert seen[True, False, True] == 5
    assert seen[False, False, False] == 2
    assert sum(1 for b in ALL if b.row["n_tx"] == "1" and not b.row["spent_file"]) > 3


def test_a_coinbase_alone_has_known_zero_fees(shared: Path) -> None:
    """A block that spends nothing: its fees are known and zero, no coin is destroyed, no transfer made."""
    alone = [known.facts for known in recorded_blocks().values() if known.facts.txs == 1]
    assert len(alone) > 5
    for facts in alone:
        assert (facts.totalfee, facts.avgfee, facts.medianfee, facts.minfee, facts.maxfee) == (0,) * 5
        assert (facts.avgfeerate, facts.minfeerate, facts.maxfeerate) == (0, 0, 0)
        assert facts.feerate_percentiles == facts.feerate_percentiles_kvb == [0] * 5
        assert facts.package_feerate_percentiles_kvb == [0] * 5
        assert (facts.packages, facts.top_fee, facts.large_transfers, facts.spent_types) == (0, None, [], {})
        assert (facts.coin_blocks_destroyed, facts.coin_days_destroyed, facts.oldest_coin) == (0, 0.0, None)


def test_genesis_of_main(shared: Path) -> None:
    """The first block: its coin is not in the UTXO set, its median time is its own time, its text is its tag."""
    facts = known_of(next(b for b in ALL if b.row["height"] == "0"))
    assert facts == run("main_0-599")[0].facts
    assert (facts.height, facts.subsidy, facts.coinbase_value, facts.coinbase_unclaimed) == (0, 50 * COIN, 50 * COIN, 0)
    assert facts.time == facts.mediantime == 1231006505
    assert (facts.txs, facts.ins, facts.outs, facts.total_out) == (1, 0, 1, 0)
    assert (facts.utxo_increase, facts.utxo_increase_actual) == (1, 0)
    assert (facts.utxo_size_inc, facts.utxo_size_inc_actual) == (8 + 1 + 67 + 40, 0)
    assert "The Times 03/Jan/2009 Chancellor on brink of second bailout for banks" in facts.coinbase_tag
    assert facts.merkleroot == "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b"
    assert facts.previousblockhash == "0" * 64
    assert (facts.bits, facts.version, facts.network, facts.simulated) == ("1d00ffff", 1, "main", False)
    (payout,) = facts.coinbase_payouts
    assert payout[0].startswith("4104678afdb0fe5548271967f1a67130b7105cd6a828e03909")
    assert payout[1] == 50 * COIN
    assert (facts.pool, facts.pool_name, facts.pool_by) == (None, None, None)
    assert facts.output_types == {"pubkey": [1, 50 * COIN]}


def sat(btc: Any) -> int:
    return int(Decimal(str(btc)) * COIN)


def test_a_block_as_cores_getblock_shows_it(shared: Path) -> None:
    """Block 361582 with verbosity 3: fees, script types, coin ages and what is spent, worked out from its JSON."""
    with gzip.open(shared / "blocks_json/main_0361582.getblock_v3.json.gz", "rt") as file:
        block = json.load(file, parse_float=Decimal)
    facts = recorded_blocks()[block["hash"]].facts
    coins = [vin["prevout"] for tx in block["tx"][1:] for vin in tx["vin"]]
    fees = {
        tx["txid"]: sum(sat(vin["prevout"]["value"]) for vin in tx["vin"])
        - sum(sat(vout["value"]) for vout in tx["vout"])
        for tx in block["tx"][1:]
    }
    weights = {tx["txid"]: tx["weight"] for tx in block["tx"]}
    top = max(fees, key=fees.__getitem__)
    rate = fees[top] * 4000 // weights[top]
    assert facts.totalfee == sum(fees.values())
    assert (facts.minfee, facts.maxfee) == (min(fees.values()), max(fees.values()))
    assert facts.top_fee == {"txid": top, "fee": fees[top], "feerate_kvb": rate}
    assert facts.total_weight == sum(list(weights.values())[1:])
    ages = [block["height"] - coin["height"] for coin in coins]
    assert facts.coin_blocks_destroyed == sum(sat(c["value"]) * age for c, age in zip(coins, ages, strict=True))
    assert facts.oldest_coin is not None
    assert facts.oldest_coin["age_blocks"] == max(ages)
    assert facts.oldest_coin["value"] == sat(coins[ages.index(max(ages))]["value"])
    assert facts.spent_types == by_type([(coin["scriptPubKey"]["type"], sat(coin["value"])) for coin in coins])
    made = [(vout["scriptPubKey"]["type"], sat(vout["value"])) for tx in block["tx"] for vout in tx["vout"]]
    assert facts.output_types == by_type(made)
    assert facts.version == block["version"]
    assert facts.bits == block["bits"]
    assert facts.merkleroot == block["merkleroot"]
    paid = [[vout["scriptPubKey"]["address"], sat(vout["value"])] for vout in block["tx"][0]["vout"]]
    assert facts.coinbase_payouts == paid


def by_type(outputs: list[tuple[str, int]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for kind, value in outputs:
        count, total = found.get(kind, [0, 0])
        found[kind] = [count + 1, total + value]
    return found


@every_block_with_undo
def test_output_and_spent_types_add_up(recorded: Recorded) -> None:
    """Over all types: every output and every input once, and their satoshis differ by subsidy alone."""
    facts = known_of(recorded)
    assert facts.spent_types is not None
    assert facts.subsidy is not None
    made, gone = (list(map(sum, zip(*types.values(), strict=True))) or [0, 0] for types in
                  (facts.output_types, facts.spent_types))  # fmt: skip
    assert (made[0], gone[0]) == (facts.outs, facts.ins)
    assert made[1] - gone[1] == facts.subsidy
    assert made[1] == facts.total_out + facts.coinbase_value


def test_median_time_needs_every_ancestor(shared: Path) -> None:
    """Alone, a block's median time past is unknown; on its chain it is the middle of the eleven times."""
    chain = run("main_0-599")
    times = [known.facts.time for known in chain]
    for height in (0, 1, 2, 9, 10, 11, 170, 599):
        eleven = sorted(times[max(0, height - 10) : height + 1])
        assert chain[height].facts.mediantime == eleven[len(eleven) // 2]
    alone = recorded_blocks()[chain[170].facts.blockhash].facts
    assert alone.mediantime is None
    assert dataclasses.replace(alone, mediantime=chain[170].facts.mediantime, coin_days_destroyed=0.0) == (
        dataclasses.replace(chain[170].facts, coin_days_destroyed=0.0)
    )


# ------------------------------------------------------------------------------------------------ purity and JSON


@every_block
def test_facts_are_deterministic(recorded: Recorded) -> None:
    """Decoded and computed anew: the same facts, to the last byte of their JSON."""
    known = recorded_blocks()[recorded.row["hash"]]
    block = decode_block(recorded.raw, recorded.network)
    again = dataclasses.replace(known.data, block=block)
    if recorded.row["spent_file"] and not recorded.row["undo_file"]:
        again = dataclasses.replace(again, spent=read_rest_spent(block, recorded.spent))
    assert json.dumps(facts_of(again).as_dict()) == json.dumps(known.facts.as_dict())


@every_block
def test_facts_round_trip_through_json(recorded: Recorded) -> None:
    """What is stored as JSON comes back equal: plain ints, floats, texts, lists and dicts, no NumPy scalars."""
    facts = known_of(recorded)
    assert BlockFacts.from_dict(json.loads(json.dumps(facts.as_dict(), allow_nan=False))) == facts


def test_facts_of_a_chain_round_trip_through_json(shared: Path) -> None:
    """The same for each of 1,201 blocks with every kind of output."""
    for known in run("regtest_core31"):
        facts = known.facts
        assert BlockFacts.from_dict(json.loads(json.dumps(facts.as_dict()))) == facts


def test_missing_and_unknown_fields_are_refused(shared: Path) -> None:
    """Facts are read whole or not at all."""
    values = run("regtest_reorg")[0].facts.as_dict()
    with pytest.raises(TypeError):
        BlockFacts.from_dict({name: value for name, value in values.items() if name != "txs"})
    with pytest.raises(TypeError):
        BlockFacts.from_dict({**values, "unheard_of": 1})


def test_computing_leaves_the_block_as_it_was(shared: Path) -> None:
    """No column of the block or of its spent outputs is written to."""
    known = next(k for k in recorded_blocks().values() if k.facts.network == "main" and k.facts.height == 361_582)
    block, spent = known.data.block, known.data.spent
    assert spent is not None
    columns = [*block.outputs.columns, block.tx.value_out, block.input_offset, block.txids, block.raw,
               *spent.outputs.columns, spent.tx_value_in]  # fmt: skip
    before = [column.tobytes() for column in columns]
    assert facts_of(known.data) == known.facts
    assert [column.tobytes() for column in columns] == before


def test_the_source_and_its_name_are_no_part_of_the_facts() -> None:
    """Two sources that give the same bytes give the same facts."""
    data = block_of(height=200)
    assert facts_of(dataclasses.replace(data, source="elsewhere")) == facts_of(data)


def test_labels_are_named_by_their_version(shared: Path) -> None:
    """Facts say which label set they were computed with, and the pool comes from it alone."""
    known = next(k for k in recorded_blocks().values() if k.facts.pool)
    assert known.facts.labels_version == packaged_labels().version
    bare = compute_facts(known.data, LabelSet((), "none", known.data.network))
    assert (bare.labels_version, bare.pool, bare.pool_name, bare.pool_by) == ("none", None, None, None)
    nobody: dict[str, Any] = {"labels_version": "", "pool": None, "pool_name": None, "pool_by": None}
    assert dataclasses.replace(bare, **nobody) == dataclasses.replace(known.facts, **nobody)


def test_only_a_simulated_chain_is_simulated() -> None:
    """The mark of simulation is the network's, and nothing a caller can forget."""
    simulated = NETWORKS["simulated"]
    assert facts_of(block_of(height=200, network=simulated)).simulated
    assert not facts_of(block_of(height=200)).simulated


# -------------------------------------------------------------------------------------------- coinbases made by hand


def paying(value: int, out: int, origin: int = 1) -> tuple[Tx, list[Coin]]:
    """A transaction that spends `value` sat and pays `out` of them."""
    txin, coin = outpoint_coin(origin, value)
    return Tx((txin,), ((out, OP_TRUE),)), [coin]


SUBSIDY_AT_500 = 50 * COIN >> 3


@pytest.mark.parametrize("left", [0, 1, 400, SUBSIDY_AT_500 + 400])
def test_what_a_miner_leaves_is_unclaimed(left: int) -> None:
    """Subsidy and fees less what the coinbase claims."""
    facts = facts_of(block_of(paying(1000, 600), claim=SUBSIDY_AT_500 + 400 - left))
    assert (facts.subsidy, facts.totalfee) == (SUBSIDY_AT_500, 400)
    assert facts.coinbase_unclaimed == left
    assert facts.coinbase_value == SUBSIDY_AT_500 + 400 - left


@pytest.mark.parametrize("too_much", [1, 10 * COIN])
def test_a_coinbase_that_claims_too_much_is_refused(too_much: int) -> None:
    """No valid block pays its miner more than subsidy and fees: the spent outputs or the height must be wrong."""
    data = block_of(paying(1000, 600), claim=SUBSIDY_AT_500 + 400 + too_much)
    with pytest.raises(DecodeError, match=f"claims {too_much} sat more than subsidy and fees"):
        facts_of(data)
    assert facts_of(dataclasses.replace(data, spent=None)).coinbase_unclaimed is None


def test_without_a_height_no_claim_is_too_much() -> None:
    """Where the height is unknown so is the subsidy, and what is left of it."""
    facts = facts_of(dataclasses.replace(block_of(paying(1000, 600), claim=21 * COIN), height=None))
    assert (facts.subsidy, facts.coinbase_unclaimed, facts.totalfee) == (None, None, 400)


def test_an_easy_subsidy_runs_out() -> None:
    """After 64 halvings there is none; before, each halving cuts the rest to whole satoshis."""
    for height, subsidy in ((0, 50 * COIN), (149, 50 * COIN), (150, 25 * COIN), (150 * 33, 0), (150 * 64, 0)):
        assert REGTEST.subsidy(height) == subsidy
    assert facts_of(block_of(height=150 * 32)).subsidy == 1


def test_payouts_are_addresses_where_there_are_any(shared: Path) -> None:
    """An address of the network, or else the script; outputs worth nothing are not payouts; at most ten are listed."""
    outputs = [(7, ANYONE), (5, OP_TRUE), (0, b"\x6a\x01x"), *((n, ANYONE) for n in range(1, 12))]
    raw = mined([coinbase(outputs, b"\x02\xf4\x01\x04test")])
    data = BlockData(decode_block(raw, REGTEST), 500, None, None, "made")
    facts = facts_of(data)
    address = address_of(ANYONE, REGTEST)
    assert facts.coinbase_payouts[:2] == [[address, 7], [OP_TRUE.hex(), 5]]
    assert len(facts.coinbase_payouts) == 10
    assert facts.coinbase_value == 7 + 5 + sum(range(1, 12))
    assert facts.output_types["nulldata"] == [1, 0]


def test_the_pool_comes_with_what_it_was_known_by() -> None:
    """A payout address of the label set makes the pool; its name and the reason are in the facts."""
    address = address_of(ANYONE, REGTEST)
    label = {"source": "test", "confidence": "high", "as_of": "2026-01-01", "addresses": [address]}
    row = {"id": "pool-x", "name": "X", "kind": "mining_pool", "tags": ["/xyz/"], "labels": [label]}
    labels = read_labels(json.dumps(row), REGTEST, "test")
    paid = compute_facts(block_of(claim=1, payout=ANYONE), labels)
    assert (paid.pool, paid.pool_name, paid.pool_by) == ("pool-x", "X", "payout_address")
    tagged = compute_facts(block_of(claim=1, tag=b"\x06 /XYZ/"), labels)
    assert (tagged.pool, tagged.pool_name, tagged.pool_by) == ("pool-x", "X", "tag")
    assert tagged.coinbase_tag == "/XYZ/"


# ------------------------------------------------------------------------------------------- spent outputs that lie


def test_spent_outputs_that_make_money_are_refused() -> None:
    """A transaction that pays out more than it is said to spend."""
    with pytest.raises(DecodeError, match="transaction 2 would pay out more than it spends"):
        facts_of(block_of(paying(1000, 1000), paying(599, 600, 2)))


@pytest.mark.parametrize("lie", [Coin(901, OP_TRUE), Coin(899, OP_TRUE), Coin(900, ANYONE), Coin(900, b"")])
def test_spent_outputs_that_contradict_the_block_are_refused(lie: Coin) -> None:
    """An input that spends an output of its own block spends that value and script, whatever the source says."""
    parent, coins = paying(1000, 900)
    child = Tx((TxInput(bytes(parent.txid), 0),), ((800, OP_TRUE),))
    truth = block_of((parent, coins), (child, [Coin(900, OP_TRUE, 500)]))
    assert facts_of(truth).totalfee == 200
    with pytest.raises(DecodeError, match="input 2 spends another output than the one its block makes"):
        facts_of(block_of((parent, coins), (child, [lie])))


def test_the_rest_form_is_checked_as_well() -> None:
    """The same holds for spent outputs without heights."""
    data = block_of(paying(1000, 900), spent=False)
    for value, fee in ((1000, 100), (899, None)):
        payload = spenttxouts_bytes([[], [Coin(value, OP_TRUE)]], 2)
        told = dataclasses.replace(data, spent=read_rest_spent(data.block, payload))
        if fee is None:
            with pytest.raises(DecodeError, match="would pay out more than it spends"):
                facts_of(told)
        else:
            assert facts_of(told).totalfee == fee
            assert facts_of(told).coin_blocks_destroyed is None
