"""Real blocks and their spent outputs, decoded and compared with what is known about them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from helpers.build import coinbase, unmined
from helpers.recorded import (
    Recorded,
    block_named,
    every_block,
    every_block_of_known_height,
    every_block_with_spent,
    every_block_with_undo,
    recorded_run,
)
from utxoiq.chain import serialize
from utxoiq.chain.address import address_of
from utxoiq.chain.block import Block, Spent, decode_block, read_rest_spent, read_undo_spent, with_times
from utxoiq.chain.hashes import Hash256
from utxoiq.chain.network import NETWORKS, Network
from utxoiq.chain.scripts import ScriptType
from utxoiq.chain.serialize import Tx, TxInput

if TYPE_CHECKING:
    from pathlib import Path

REGTEST = NETWORKS["regtest"]


def stripped_size(block: Block) -> int:
    return 80 + len(serialize.compact_size(block.n_tx)) + int(block.tx.stripped_size.sum())


def fees(block: Block, spent: Spent) -> int:
    return int((spent.tx_value_in[1:] - block.tx.value_out[1:]).sum())


def sat(btc: Any) -> int:
    return int(Decimal(btc) * 100_000_000)


@every_block
def test_a_real_block_is_what_the_index_says(recorded: Recorded) -> None:
    """Hash, parent, time, transactions, size, weight and witness flag are those that were recorded."""
    block, row = recorded.decoded(), recorded.row
    assert str(block.block_hash) == row["hash"]
    assert str(block.header.prev_hash) == row["prev"]
    assert block.header.time == int(row["time"])
    assert block.n_tx == len(block.txids) == int(row["n_tx"])
    assert len(block.raw) == int(row["size"])
    assert 3 * stripped_size(block) + len(block.raw) == int(row["weight"])
    assert int(bool(block.tx.has_witness.any())) == int(row["segwit"])
    if row["n_inputs"]:
        assert len(block.input_offset) - 1 == int(row["n_inputs"])


@every_block_of_known_height
def test_the_coinbase_height_is_the_block_height(recorded: Recorded) -> None:
    """Where BIP 34 was in force the coinbase names the height, and before there is none."""
    height = int(recorded.row["height"])
    in_force = height >= recorded.network.bip34_height
    assert recorded.decoded().coinbase.height == (height if in_force else None)


@every_block
def test_columns_give_the_same_bytes_again(recorded: Recorded) -> None:
    """Decoding loses nothing: the columns serialise to the bytes they came from."""
    assert serialize.block_from_columns(recorded.decoded()) == recorded.raw


@every_block
def test_transactions_follow_each_other_without_a_gap(recorded: Recorded) -> None:
    """Each transaction begins where the one before ends, and the last ends with the block."""
    tx = recorded.decoded().tx
    ends = tx.offset + tx.size
    assert np.array_equal(tx.offset[1:], ends[:-1])
    assert ends[-1] == recorded.size
    assert np.all(np.where(tx.has_witness, tx.stripped_size < tx.size, tx.stripped_size == tx.size))


@every_block
def test_value_out_is_the_sum_of_a_transactions_outputs(recorded: Recorded) -> None:
    """`value_out` adds up the rows `first_output` marks."""
    block = recorded.decoded()
    sums = np.add.reduceat(block.outputs.value, block.tx.first_output[:-1])
    assert np.array_equal(block.tx.value_out, sums)
    assert block.coinbase.value_out == sums[0] == sum(value for value, _ in block.coinbase.payouts)


@every_block_with_spent
def test_fees_are_the_recorded_fees(recorded: Recorded) -> None:
    """Spent minus created satoshis are the recorded fees, and subsidy plus fees is what the coinbase claims."""
    block = recorded.decoded()
    spent = read_rest_spent(block, recorded.spent)
    assert fees(block, spent) == int(recorded.row["fees_sat"])
    if recorded.row["height"]:
        assert recorded.network.subsidy(int(recorded.row["height"])) + fees(block, spent) == block.coinbase.value_out


@every_block_with_spent
def test_rest_payload_survives_the_round_trip(recorded: Recorded) -> None:
    """REST spent outputs come out of their columns byte for byte."""
    block = recorded.decoded()
    coins = serialize.coins_from_columns(block, read_rest_spent(block, recorded.spent))
    assert serialize.spenttxouts_bytes([[], *coins], block.n_tx) == recorded.spent


@every_block_with_undo
def test_undo_payload_survives_the_round_trip(recorded: Recorded) -> None:
    """Undo data comes out of its columns byte for byte, heights, flags and compressed scripts included."""
    block = recorded.decoded()
    coins = serialize.coins_from_columns(block, read_undo_spent(block, recorded.undo))
    assert serialize.undo_bytes(coins) == recorded.undo


@every_block_with_undo
def test_both_forms_of_spent_outputs_agree(recorded: Recorded) -> None:
    """REST and undo data give equal values, lengths, types, keys, sums and scripts for every input."""
    block = recorded.decoded()
    rest, undo = read_rest_spent(block, recorded.spent), read_undo_spent(block, recorded.undo)
    for column in ("value", "length", "type", "key"):
        assert np.array_equal(getattr(rest.outputs, column), getattr(undo.outputs, column)), column
    assert np.array_equal(rest.tx_value_in, undo.tx_value_in)
    rows = range(1, len(block.input_offset))
    assert [rest.outputs.script(row) for row in rows] == [undo.outputs.script(row) for row in rows]


@every_block_with_undo
def test_only_undo_data_knows_heights(recorded: Recorded) -> None:
    """Coin heights lie below the block's own; REST gives none; the coinbase's row says unknown."""
    block = recorded.decoded()
    spent = read_undo_spent(block, recorded.undo)
    assert spent.height is not None
    assert spent.is_coinbase is not None
    assert spent.height[0] == -1
    assert spent.is_coinbase[0] == 255
    assert set(spent.is_coinbase[1:].tolist()) <= {0, 1}
    if len(spent.height) > 1:
        assert spent.height[1:].min() >= 0
        assert spent.height.max() <= int(recorded.row["height"])
    rest = read_rest_spent(block, recorded.spent)
    assert rest.height is None
    assert rest.is_coinbase is None


@every_block_with_undo
def test_equal_keys_mean_equal_scripts_in_real_blocks(recorded: Recorded) -> None:
    """Over all scripts of a block, created and spent, a script has one key and a key one script."""
    block = recorded.decoded()
    spent = read_undo_spent(block, recorded.undo).outputs
    pairs = {(int(block.outputs.key[row]), block.outputs.script(row)) for row in range(len(block.outputs.key))}
    pairs |= {(int(spent.key[row]), spent.script(row)) for row in range(1, len(spent.key))}
    assert len(pairs) == len({key for key, _ in pairs}) == len({script for _, script in pairs})


def assert_output_is(expected: dict[str, Any], block: Block, network: Network, row: int) -> None:
    """One output against a `vout` of `getblock`."""
    script = block.outputs.script(row)
    known = expected["scriptPubKey"]
    assert int(block.outputs.value[row]) == sat(expected["value"])
    assert script.hex() == known["hex"]
    kind = ScriptType(block.outputs.type[row])
    assert str(kind) == known["type"]
    if kind in (ScriptType.PUBKEY, ScriptType.MULTISIG):  # old versions of Core made up an address for these
        assert address_of(script, network) is None
    else:
        addresses = known.get("addresses", [known["address"]] if "address" in known else [])
        assert address_of(script, network) == (addresses[0] if addresses else None)


def assert_block_is(expected: dict[str, Any], block: Block, network: Network) -> None:
    """A block against what `getblock` says of it."""
    assert str(block.block_hash) == expected["hash"]
    assert block.header.bits == int(expected["bits"], 16)
    assert block.header.nonce == expected["nonce"]
    assert bytes.fromhex(expected["merkleroot"])[::-1] == block.header.merkle_root
    assert [str(block.txid(t)) for t in range(block.n_tx)] == [tx["txid"] for tx in expected["tx"]]
    tx = block.tx
    for t, known in enumerate(expected["tx"]):
        assert int(tx.size[t]) == known["size"]
        if "weight" in known:
            assert 3 * int(tx.stripped_size[t]) + int(tx.size[t]) == known["weight"]
        assert int(tx.first_input[t + 1] - tx.first_input[t]) == len(known["vin"])
        assert int(tx.first_output[t + 1] - tx.first_output[t]) == len(known["vout"])
        for n, output in enumerate(known["vout"]):
            assert_output_is(output, block, network, int(tx.first_output[t]) + n)


def assert_spent_is(expected: dict[str, Any], block: Block, spent: Spent) -> None:
    """Spent outputs against the `prevout` fields of `getblock` with verbosity 3."""
    assert spent.height is not None
    assert spent.is_coinbase is not None
    row = 1
    for known in expected["tx"][1:]:
        for txin in known["vin"]:
            prevout = txin["prevout"]
            assert int(spent.outputs.value[row]) == sat(prevout["value"])
            assert spent.outputs.script(row).hex() == prevout["scriptPubKey"]["hex"]
            assert str(ScriptType(spent.outputs.type[row])) == prevout["scriptPubKey"]["type"]
            assert int(spent.height[row]) == prevout["height"]
            assert bool(spent.is_coinbase[row]) == prevout["generated"]
            at = int(block.input_offset[row])
            outpoint = block.raw[at : at + 36].tobytes()
            assert outpoint == bytes.fromhex(txin["txid"])[::-1] + txin["vout"].to_bytes(4, "little")
            row += 1
    assert row == len(block.input_offset)


@pytest.mark.parametrize("name", ["main_0225000", "main_0257644", "main_0549400", "main_0587500"])
def test_core_says_the_same_of_a_block(shared: Path, name: str) -> None:
    """Txids, sizes, weights, values, scripts, types and addresses are those of Core's `getblock` 2."""
    path = shared / "blocks_json" / f"{name}.getblock_v2.json.gz"
    expected = json.loads(gzip.decompress(path.read_bytes()), parse_float=Decimal)
    recorded = block_named(name)
    assert_block_is(expected, recorded.decoded(), recorded.network)


def test_core_says_the_same_of_spent_outputs(shared: Path) -> None:
    """Values, scripts, types, heights and coinbase flags of spent outputs are those of Core's `getblock` 3."""
    path = shared / "blocks_json" / "main_0361582.getblock_v3.json.gz"
    expected = json.loads(gzip.decompress(path.read_bytes()), parse_float=Decimal)
    recorded = block_named("main_0361582")
    block = recorded.decoded()
    assert_block_is(expected, block, recorded.network)
    assert_spent_is(expected, block, read_undo_spent(block, recorded.undo))


def test_core_31_says_the_same_of_its_blocks(shared: Path) -> None:
    """The same for 15 blocks of Core 31 with every kind of output, read from its own block directory."""
    run, count = recorded_run("regtest_core31", REGTEST), 0
    path = shared / "runs" / "regtest_core31" / "getblock_v3.jsonl.gz"
    for line in gzip.decompress(path.read_bytes()).splitlines():
        expected = json.loads(line, parse_float=Decimal)
        block_hash = bytes(Hash256.from_display(expected["hash"]))
        block = decode_block(run.blocks[block_hash], REGTEST)
        assert_block_is(expected, block, REGTEST)
        if expected["height"]:
            assert_spent_is(expected, block, read_undo_spent(block, run.undo[block_hash]))
        count += 1
    assert count == 15


@pytest.mark.parametrize(
    ("name", "network", "blocks", "undo"),
    [
        ("main_0-599", "main", 600, 599),
        ("regtest_kernel", "regtest", 207, 206),
        ("regtest_reorg", "regtest", 22, 21),
        ("regtest_core31", "regtest", 1213, 1210),
    ],
)
def test_whole_recorded_chains_survive_the_round_trip(name: str, network: str, blocks: int, undo: int) -> None:
    """Every block and undo record of a node's block directory decodes and comes out byte for byte."""
    run = recorded_run(name, NETWORKS[network])
    assert (len(run.blocks), len(run.undo)) == (blocks, undo)
    for block_hash, raw in run.blocks.items():
        block = decode_block(raw, NETWORKS[network])
        assert bytes(block.block_hash) == block_hash
        assert serialize.block_from_columns(block) == raw
        if block_hash in run.undo:
            spent = read_undo_spent(block, run.undo[block_hash])
            assert serialize.undo_bytes(serialize.coins_from_columns(block, spent)) == run.undo[block_hash]


def best_chain(shared: Path) -> Iterator[tuple[dict[str, Any], bytes, bytes | None]]:
    run = recorded_run("regtest_core31", REGTEST)
    path = shared / "runs" / "regtest_core31" / "getblockstats.jsonl.gz"
    for line in gzip.decompress(path.read_bytes()).splitlines():
        stats = json.loads(line)
        block_hash = bytes(Hash256.from_display(stats["blockhash"]))
        yield stats, run.blocks[block_hash], run.undo.get(block_hash)


def test_core_31_counts_the_same_in_every_block(shared: Path) -> None:
    """Transactions, inputs, outputs, sizes, weights, values and fees are those of `getblockstats`, height by height."""
    for stats, raw, undo in best_chain(shared):
        block = decode_block(raw, REGTEST)
        tx = block.tx
        counted = {
            "txs": block.n_tx,
            "ins": len(block.input_offset) - 1,
            "outs": len(block.outputs.value),
            "total_size": int(tx.size[1:].sum()),
            "total_weight": int((3 * tx.stripped_size + tx.size)[1:].sum()),
            "total_out": int(tx.value_out[1:].sum()),
            "swtxs": int(tx.has_witness[1:].sum()),
            "swtotal_size": int(tx.size[1:][tx.has_witness[1:] == 1].sum()),
            "subsidy": REGTEST.subsidy(stats["height"]),
        }
        if undo is not None:
            counted["totalfee"] = fees(block, read_undo_spent(block, undo))
        assert {name: stats[name] for name in counted} == counted, stats["height"]


def test_the_first_blocks_are_the_ones_that_spend() -> None:
    """In mainnet's first 600 blocks exactly the known ones spend anything."""
    main = NETWORKS["main"]
    run = recorded_run("main_0-599", main)
    heights = {raw[4:36]: height for height, raw in enumerate(run.blocks.values())}
    assert len(heights) == 600
    spending = [h for h, raw in enumerate(run.blocks.values()) if decode_block(raw, main).n_tx > 1]
    assert spending == [170, 181, 182, 183, 187, 221, 248, 496, 524, 545, 546, 586, 593]


def test_times_of_coins_come_from_their_heights() -> None:
    """`with_times` looks a coin's height up, and leaves what it can't know at -1."""
    recorded = block_named("main_0116928")
    block = recorded.decoded()
    spent = read_undo_spent(block, recorded.undo)
    assert spent.height is not None
    known = int(np.median(spent.height[1:]))
    timed = with_times(spent, np.arange(known + 1, dtype=np.int64) * 600)
    expected = [h * 600 if 0 <= h <= known else -1 for h in spent.height.tolist()]
    assert timed.time is not None
    assert timed.time.tolist() == expected
    assert -1 in expected[1:]
    assert len(set(expected)) > 2
    without = with_times(spent, np.zeros(0, np.int64))
    assert without.time is not None
    assert set(without.time.tolist()) == {-1}
    rest = read_rest_spent(block, recorded.spent)
    assert with_times(rest, np.zeros(9, np.int64)) is rest


@pytest.mark.parametrize("shape", ["transactions", "inputs", "outputs"])
def test_blocks_of_the_smallest_parts_decode(shape: str) -> None:
    """More transactions, inputs or outputs for their bytes than any usual block: as many as fit."""
    n_tx, n_in, n_out = {"transactions": (5000, 1, 1), "inputs": (1, 9000, 1), "outputs": (1, 1, 40_000)}[shape]
    made = Tx(tuple(TxInput(b"\1" * 32, n) for n in range(n_in)), ((0, b""),) * n_out)
    raw = unmined([coinbase(), *[made] * n_tx])
    block = decode_block(raw, REGTEST, check=False)
    assert (block.n_tx, len(block.input_offset), len(block.outputs.value)) == (
        1 + n_tx,
        1 + n_tx * n_in,
        1 + n_tx * n_out,
    )
    assert serialize.block_from_columns(block) == raw
    coins = [[serialize.Coin(0, b"")] * n_in] * n_tx
    rest = read_rest_spent(block, serialize.spenttxouts_bytes([[], *coins], block.n_tx))
    undo = read_undo_spent(block, serialize.undo_bytes(coins))
    assert len(rest.outputs.value) == len(undo.outputs.value) == 1 + n_tx * n_in


def test_columns_have_the_documented_types() -> None:
    """Every column has the type its annotation names, so that stores can rely on it."""
    recorded = block_named("main_0116928")
    block = recorded.decoded()
    spent = read_undo_spent(block, recorded.undo)
    for columns in (block.tx, block.outputs, spent.outputs, spent):
        for field in fields(columns):
            column = getattr(columns, field.name)
            if isinstance(column, np.ndarray):
                assert f"np.{column.dtype.name}]" in str(field.type), field.name
    assert block.txids.shape == (block.n_tx, 32)
    assert str(block.txid(1)) == block.txids[1][::-1].tobytes().hex()
