"""Spends inside a block, and spent outputs that do or don't fit it."""

from __future__ import annotations

import pytest

from helpers.build import OP_TRUE, coinbase, unmined
from helpers.recorded import Recorded, block_named, every_block, every_block_with_undo, recorded_run
from utxoiq.chain.block import Block, decode_block, read_rest_spent, read_undo_spent
from utxoiq.chain.links import check_spent, in_block_spends
from utxoiq.chain.network import NETWORKS
from utxoiq.chain.serialize import Coin, Tx, TxInput, coins_from_columns, spenttxouts_bytes
from utxoiq.errors import DecodeError

REGTEST = NETWORKS["regtest"]
P2WSH = b"\x00\x20" + bytes(32)


def plainly(block: Block) -> list[tuple[int, int, int]]:
    """(input row, output row, transaction that made it) of each spend inside the block, by a dictionary."""
    made = {block.txids[t].tobytes(): t for t in range(block.n_tx)}
    found = []
    for row, at in enumerate(block.input_offset.tolist()):
        parent = made.get(block.raw[at : at + 32].tobytes())
        if row and parent is not None:
            index = int.from_bytes(block.raw[at + 32 : at + 36].tobytes(), "little")
            found.append((row, int(block.tx.first_output[parent]) + index, parent))
    return found


def linked(block: Block) -> list[tuple[int, int, int]]:
    inside = in_block_spends(block)
    return list(zip(inside.spender.tolist(), inside.row.tolist(), inside.parent.tolist(), strict=True))


@every_block
def test_spends_inside_real_blocks_are_all_found(recorded: Recorded) -> None:
    """Exactly those a dictionary of txids finds."""
    block = recorded.decoded()
    assert linked(block) == plainly(block)


def test_spends_inside_the_blocks_of_a_busy_chain_are_all_found() -> None:
    """The same over 1,213 blocks with chains of up to 24 transactions, and the spent outputs fit each of them."""
    run, found = recorded_run("regtest_core31", REGTEST), 0
    for block_hash, raw in run.blocks.items():
        block = decode_block(raw, REGTEST)
        assert linked(block) == plainly(block)
        found += len(plainly(block))
        if block_hash in run.undo:
            check_spent(block, read_undo_spent(block, run.undo[block_hash]), in_block_spends(block))
    assert found > 600


@every_block_with_undo
def test_recorded_spent_outputs_fit_their_block(recorded: Recorded) -> None:
    """In both forms: in-block spends equal what they spend, and nobody makes money."""
    block = recorded.decoded()
    inside = in_block_spends(block)
    check_spent(block, read_undo_spent(block, recorded.undo), inside)
    check_spent(block, read_rest_spent(block, recorded.spent), inside)


PARENT = Tx((TxInput(b"\7" * 32, 0),), ((1000, OP_TRUE), (2000, P2WSH)))
CHILD = Tx((TxInput(b"\7" * 32, 1), TxInput(bytes(PARENT.txid), 1)), ((2500, OP_TRUE),))


def block_of(*transactions: Tx) -> Block:
    return decode_block(unmined([coinbase(), *transactions]), REGTEST, check=False)


def test_a_child_is_linked_to_its_parents_output() -> None:
    """Row by row: the third input spends the parent's second output."""
    block = block_of(PARENT, CHILD)
    assert linked(block) == [(3, 2, 1)]
    assert linked(block_of(PARENT)) == []


def test_what_is_made_only_later_cannot_be_spent() -> None:
    """A child before its parent, an output the parent lacks, this block's own coinbase: refused, at that input."""
    lacking = Tx((TxInput(bytes(PARENT.txid), 2),), ((1, OP_TRUE),))
    farther = Tx((TxInput(bytes(PARENT.txid), 0xFFFFFFFF),), ((1, OP_TRUE),))
    immature = Tx((TxInput(bytes(coinbase().txid), 0),), ((0, OP_TRUE),))
    for block, row in (
        (block_of(CHILD, PARENT), 2),
        (block_of(PARENT, lacking), 2),
        (block_of(PARENT, farther, CHILD), 2),
        (block_of(PARENT, immature), 2),
    ):
        with pytest.raises(DecodeError) as caught:
            in_block_spends(block)
        assert caught.value.offset == int(block.input_offset[row])


def spent_with(block: Block, *coins: Coin) -> None:
    """Check spent outputs of PARENT's input and of CHILD's two."""
    payload = spenttxouts_bytes([[], [coins[0]], list(coins[1:])], 3)
    check_spent(block, read_rest_spent(block, payload), in_block_spends(block))


def test_spent_outputs_must_equal_what_the_block_makes() -> None:
    """Another value, another script or another length of an in-block spend is refused."""
    block, outside = block_of(PARENT, CHILD), (Coin(3000, OP_TRUE), Coin(500, OP_TRUE))
    spent_with(block, *outside, Coin(2000, P2WSH))
    for wrong in (Coin(2001, P2WSH), Coin(2000, P2WSH[:-1] + b"\1"), Coin(2000, P2WSH + b"\0"), Coin(2000, b"")):
        with pytest.raises(DecodeError, match="input 3 spends another output"):
            spent_with(block, *outside, wrong)


def test_no_transaction_makes_money() -> None:
    """A transaction may pay out all it spends and not a satoshi more."""
    block = block_of(PARENT, CHILD)
    spent_with(block, Coin(3000, OP_TRUE), Coin(500, OP_TRUE), Coin(2000, P2WSH))
    with pytest.raises(DecodeError, match="transaction 1 would pay out more"):
        spent_with(block, Coin(2999, OP_TRUE), Coin(500, OP_TRUE), Coin(2000, P2WSH))
    with pytest.raises(DecodeError, match="transaction 2 would pay out more"):
        spent_with(block, Coin(3000, OP_TRUE), Coin(499, OP_TRUE), Coin(2000, P2WSH))


@pytest.mark.parametrize("name", ["main_0210000", "main_0361582", "main_0866342"])
def test_one_satoshi_too_much_in_an_in_block_spend_is_noticed(name: str) -> None:
    """For the first and last spend inside a real block."""
    recorded = block_named(name)
    block = recorded.decoded()
    inside = in_block_spends(block)
    coins = coins_from_columns(block, read_rest_spent(block, recorded.spent))
    places = [(t, n) for t, row in enumerate(coins) for n in range(len(row))]
    for row in (int(inside.spender[0]), int(inside.spender[-1])):
        t, n = places[row - 1]
        changed = [list(rows) for rows in coins]
        changed[t][n] = changed[t][n]._replace(value=changed[t][n].value + 1)
        spent = read_rest_spent(block, spenttxouts_bytes([[], *changed], block.n_tx))
        with pytest.raises(DecodeError, match=f"input {row} spends another output"):
            check_spent(block, spent, inside)
