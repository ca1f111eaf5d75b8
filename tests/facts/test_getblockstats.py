"""Bitcoin Core's `getblockstats` is the oracle: every field of every recorded block, exactly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from facts.made import REGTEST, facts_of, json_lines, run
from helpers.recorded import recorded_run
from utxoiq.chain.block import Block, decode_block
from utxoiq.chain.hashes import Hash256
from utxoiq.chain.serialize import Coin, spenttxouts_bytes, undo_bytes
from utxoiq.models import BlockFacts
from utxoiq.sources.open import open_source
from utxoiq.sources.recorded import RecordedFolder

FIELDS = 31
"""What `getblockstats` answers with."""


def differences(facts: BlockFacts, stats: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Field -> (ours, Core's) wherever ours is missing, None, or not the same value of the same type."""
    ours = facts.as_dict()
    return {
        name: (ours.get(name), value)
        for name, value in stats.items()
        if ours.get(name) != value or type(ours.get(name)) is not type(value)
    }


def test_every_field_of_every_block_of_a_real_chain(shared: Path) -> None:
    """1,201 blocks with all output types, packages, reorgs and feerates below 1 sat/vB: no field differs."""
    stats = json_lines("runs/regtest_core31/getblockstats.jsonl.gz")
    known = run("regtest_core31")
    assert len(stats) == len(known) == 1201
    wrong = {}
    for expected, block in zip(stats, known, strict=True):
        assert len(expected) == FIELDS
        found = differences(block.facts, expected)
        if found:
            wrong[expected["height"]] = found
    assert wrong == {}


def test_the_chain_has_what_makes_the_fields_differ(shared: Path) -> None:
    """Proof that the comparison means something: every field takes many values, or is known to take few."""
    stats = json_lines("runs/regtest_core31/getblockstats.jsonl.gz")
    values = {name: len({json.dumps(row[name]) for row in stats}) for name in stats[0]}
    assert values.pop("subsidy") == 9
    assert min(values.values()) > 50, values
    assert any(row["utxo_increase"] != row["utxo_increase_actual"] for row in stats)
    assert any(row["minfeerate"] == 0 < row["minfee"] for row in stats)
    assert any(row["mediantime"] > row["time"] - 600 for row in stats)


def coins_spent_by(block: Block, unspent: dict[bytes, Coin], height: int) -> list[list[Coin]]:
    """What each transaction but the coinbase spends, by a map of unspent outputs that is kept up to date here."""
    first_in, first_out = block.tx.first_input.tolist(), block.tx.first_output.tolist()
    spent = []
    for t in range(block.n_tx):
        rows = range(first_in[t], first_in[t + 1]) if t else ()
        points = [block.raw[at : at + 36].tobytes() for at in (int(block.input_offset[row]) for row in rows)]
        spent.append([unspent.pop(point) for point in points])
        for n, row in enumerate(range(first_out[t], first_out[t + 1])):
            coin = Coin(int(block.outputs.value[row]), block.outputs.script(row), height, t == 0)
            unspent[bytes(block.txid(t)) + n.to_bytes(4, "little")] = coin
    return spent[1:]


def write_recordings(folder: Path, blocks: list[bytes], form: str) -> None:
    """A recorded folder of a chain, with the spent outputs in one of the forms."""
    unspent: dict[bytes, Coin] = {}
    for height, raw in enumerate(blocks):
        block = decode_block(raw, REGTEST)
        stem = f"regtest_{height:07d}_{str(block.block_hash)[-8:]}"
        coins = coins_spent_by(block, unspent, height)
        spent = undo_bytes(coins) if form == "undo" else spenttxouts_bytes([[], *coins], block.n_tx)
        (folder / f"{stem}.blk").write_bytes(raw)
        (folder / f"{stem}.{form}").write_bytes(spent)


@pytest.mark.parametrize("form", ["undo", "spent"])
def test_cores_own_test_of_getblockstats(tmp_path: Path, shared: Path, form: str) -> None:
    """The blocks and the answers Core's functional test checks itself against, read as a recorded folder."""
    expected = json.loads((shared / "runs/regtest_rpc_getblockstats.json").read_text())
    write_recordings(tmp_path, [bytes.fromhex(block) for block in expected["blocks"]], form)
    source = open_source(tmp_path)
    assert isinstance(source, RecordedFolder)
    assert len(source) == 104
    assert [row["height"] for row in expected["stats"]] == [101, 102, 103]
    for stats in expected["stats"]:
        assert len(stats) == FIELDS
        assert differences(facts_of(source.block_at(stats["height"])), stats) == {}
    assert [stats["txs"] for stats in expected["stats"]] == [1, 2, 5]


def test_spent_outputs_found_by_hand_are_the_undo_data(shared: Path) -> None:
    """The little map of unspent outputs above gives, byte for byte, the undo records of a real node."""
    recorded, unspent = recorded_run("regtest_kernel", REGTEST), {}
    for height, (block_hash, raw) in enumerate(recorded.blocks.items()):
        coins = coins_spent_by(decode_block(raw, REGTEST), unspent, height)
        if height:
            assert undo_bytes(coins) == recorded.undo[block_hash], str(Hash256(block_hash))


def test_mainnets_first_blocks_by_hand(shared: Path) -> None:
    """Block 170, the first payment: 50 BTC become 10 and 40, to public keys, without a fee."""
    facts = run("main_0-599")[170].facts
    assert (facts.txs, facts.ins, facts.outs) == (2, 1, 3)
    assert facts.total_out == 50 * 10**8
    assert (facts.totalfee, facts.avgfeerate, facts.feerate_percentiles) == (0, 0, [0] * 5)
    assert (facts.utxo_increase, facts.utxo_increase_actual) == (2, 2)
    output = 8 + 1 + 67 + 40
    assert (facts.utxo_size_inc, facts.utxo_size_inc_actual) == (2 * output, 2 * output)
    assert facts.total_size == facts.mediantxsize == 275
    assert facts.size == 490
