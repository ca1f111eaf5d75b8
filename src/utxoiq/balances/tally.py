"""What one block does to each script: a pure function of its columns and those of the outputs it spends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from utxoiq.balances._table import collect, tally
from utxoiq.balances.delta import new_table
from utxoiq.chain.hashes import Hash256

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from utxoiq.chain.block import Block, Outputs, Spent

ALL_KEYS = np.uint64(0), np.uint64(2**64 - 1)
OVERWRITING = {
    (91_842, Hash256.from_display("00000000000a4d0a398161ffc163c503763b1f4360639393e0e4c8e300e0caec")),
    (91_880, Hash256.from_display("00000000000743f190a18c5577a3c2d2a1f610ae9601ac046a38084ccb7cd721")),
}
"""The two blocks whose coinbase has the txid of an earlier one that was unspent, and took the place of its coin: they
add nothing (BIP 30; Core, validation.cpp, IsBIP30Repeat)."""


@dataclass(frozen=True, slots=True)
class Tally:
    """One row a script that a block paid or spent from, in order of its key."""

    keys: NDArray[np.uint64]
    net: NDArray[np.int64]
    """Satoshis paid to it, less those spent from it."""
    row: NDArray[np.int64]
    """2 * row of an output with that script, + 1 where it is a spent one."""
    made: Outputs
    used: Outputs

    def script(self, i: int) -> bytes:
        """The script of row i."""
        row, is_spent = divmod(int(self.row[i]), 2)
        return (self.used if is_spent else self.made).script(row)


def tally_block(block: Block, spent: Spent, height: int, secret: NDArray[np.uint64]) -> Tally:
    """What the block at this height pays and spends; nothing for genesis, whose coinbase is no coin."""
    made, used = block.outputs, spent.outputs
    first = int(block.tx.first_output[1]) if (height, block.block_hash) in OVERWRITING else 0
    rows = len(made.value) + len(used.value)
    table, shift = new_table(rows)
    if height > 0:
        _add(table, shift, secret, made, first, 1, 0)
        _add(table, shift, secret, used, 1, -1, 1)
    records = np.empty(4 * rows, np.uint64)
    found = records[: 4 * collect(table, shift, *ALL_KEYS, records)].reshape(-1, 4)
    values = found[:, 2:].astype(np.int64)
    return Tally(np.ascontiguousarray(found[:, :2]), values[:, 0], values[:, 1], made, used)


def _add(
    table: NDArray[np.uint64], shift: np.uint64, secret: NDArray[np.uint64], rows: Outputs, begin: int, sign: int,
    side: int,
) -> None:  # fmt: skip
    code = tally(table, shift, secret, rows.data, rows.value, rows.offset, rows.length, begin, sign, side)
    assert code == 0
