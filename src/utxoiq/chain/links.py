"""Spends inside a block, and whether spent outputs fit the block they came with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from utxoiq.chain._links import first_inconsistent, link_inputs
from utxoiq.errors import DecodeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from utxoiq.chain.block import Block, Spent


def in_block_sources(block: Block) -> NDArray[np.int32]:
    """For each input the row of the output of this block that it spends, or -1 for one of an earlier block.

    Raises DecodeError where an input spends an output that its block lacks or has only later.
    """
    source = np.empty(len(block.input_offset), np.int32)
    table = np.full(1 << (2 * block.n_tx).bit_length(), -1, np.int32)
    bad = link_inputs(
        block.raw, block.txids.reshape(-1), block.n_tx, block.tx.first_input, block.tx.first_output,
        block.input_offset, table, source,
    )  # fmt: skip
    if bad >= 0:
        raise DecodeError(
            "block", "an input that spends what its own block makes only later", int(block.input_offset[bad])
        )
    return source


def check_spent(block: Block, spent: Spent, source: NDArray[np.int32]) -> None:
    """Raise DecodeError unless in-block spends equal the outputs they spend and no transaction makes money."""
    made, used = block.outputs, spent.outputs
    bad = first_inconsistent(
        source, len(source), used.data, used.value, used.offset, used.length,
        made.data, made.value, made.offset, made.length,
    )  # fmt: skip
    if bad >= 0:
        raise DecodeError("spent outputs", f"input {bad} spends another output than the one its block makes")
    short = np.flatnonzero(spent.tx_value_in[1:] < block.tx.value_out[1:])
    if len(short):
        raise DecodeError("spent outputs", f"transaction {int(short[0]) + 1} would pay out more than it spends")
