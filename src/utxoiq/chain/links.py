"""Spends inside a block, and whether spent outputs fit the block they came with."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from utxoiq.chain._links import FILTER, FREE, first_inconsistent, first_that_makes_money, link_inputs
from utxoiq.errors import DecodeError

if TYPE_CHECKING:
    from utxoiq.chain.block import Block, Spent


class InBlock(NamedTuple):
    """Spends inside one block, by input: its row, the row of the output, and the transaction that made that."""

    spender: NDArray[np.int32]
    row: NDArray[np.int32]
    parent: NDArray[np.int32]


def in_block_spends(block: Block) -> InBlock:
    """The inputs of a block that spend outputs of the same block.

    Raises DecodeError where an input spends an output that its block lacks or has only later.
    """
    columns = np.empty((3, len(block.input_offset)), np.int32)
    table = np.full(1 << (2 * block.n_tx).bit_length(), FREE, np.int64)
    found = link_inputs(
        block.raw, block.txids.reshape(-1), block.n_tx, block.tx.first_input, block.tx.first_output,
        block.input_offset, np.zeros(FILTER, np.uint8), table, *columns,
    )  # fmt: skip
    if found < 0:
        at = int(block.input_offset[-1 - found])
        raise DecodeError("block", "an input that spends what its own block makes only later", at)
    return InBlock(*columns[:, :found])


def check_rows(block: Block, spent: Spent) -> None:
    """Raise DecodeError unless there is a row for each input: kernels rely on it."""
    if len(spent.outputs.value) != len(block.input_offset) or len(spent.tx_value_in) != block.n_tx:
        raise DecodeError("spent outputs", "another number of rows than the block has inputs")


def check_spent(block: Block, spent: Spent, inside: InBlock) -> None:
    """Raise DecodeError unless in-block spends equal the outputs they spend and no transaction makes money."""
    made, used = block.outputs, spent.outputs
    check_rows(block, spent)
    bad = first_inconsistent(
        inside.spender, inside.row, used.data, used.value, used.offset, used.length,
        made.data, made.value, made.offset, made.length,
    )  # fmt: skip
    if bad >= 0:
        raise DecodeError("spent outputs", f"input {bad} spends another output than the one its block makes")
    short = first_that_makes_money(block.n_tx, spent.tx_value_in, block.tx.value_out)
    if short >= 0:
        raise DecodeError("spent outputs", f"transaction {short} would pay out more than it spends")
