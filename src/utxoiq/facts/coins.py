"""What was spent: script types, coin age, and the transactions that moved most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from utxoiq.chain._script import N_TYPES
from utxoiq.chain.block import largest_coins
from utxoiq.chain.scripts import ScriptType
from utxoiq.errors import DecodeError
from utxoiq.facts._sums import find_large, sum_outputs
from utxoiq.models import LARGE_COIN, MOST_LARGE_COINS
from utxoiq.units import COIN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from utxoiq.chain.block import Block, Outputs, Spent
    from utxoiq.facts.fees import Fees

LARGE_TRANSFER = 100 * COIN
"""Satoshis a transaction must move to be listed."""
MOST_TRANSFERS = 10
TYPE_NAMES = tuple(map(str, ScriptType))
SECONDS_A_DAY = 86_400


def type_sums(outputs: Outputs, begin: int, end: int) -> tuple[dict[str, list[int]], list[int]]:
    """Type -> [outputs, sat] over rows begin..end; and [UTXO bytes, those of spendable ones, spendable outputs]."""
    count, value, sums = np.zeros((3, N_TYPES), np.int64)
    sum_outputs(
        outputs.data, outputs.value, outputs.offset, outputs.length, outputs.type, begin, end, count, value, sums
    )
    rows = zip(TYPE_NAMES, count.tolist(), value.tolist(), strict=True)
    return {name: [outputs, sat] for name, outputs, sat in rows if outputs}, sums.tolist()[:3]


def coin_age(block: Block, spent: Spent, height: int | None) -> dict[str, Any]:
    """`coin_blocks_destroyed`, `coin_days_destroyed`, `oldest_coin`: None wherever a height or time is unknown.

    Raises DecodeError for a coin from a later block.
    """
    unknown = {"coin_blocks_destroyed": None, "coin_days_destroyed": None, "oldest_coin": None}
    if len(block.input_offset) == 1:
        return {"coin_blocks_destroyed": 0, "coin_days_destroyed": 0.0, "oldest_coin": None}
    if spent.height is None or height is None or (spent.height[1:] < 0).any():
        return unknown
    if (spent.height[1:] > height).any():
        raise DecodeError("undo data", "a coin made after the block that spends it")
    value = spent.outputs.value[1:]
    age = height - spent.height[1:].astype(np.int64)
    oldest = int(age.argmax())
    spender = int(np.searchsorted(block.tx.first_input, oldest + 1, side="right")) - 1
    return {
        "coin_blocks_destroyed": exact_dot(value, age),
        "coin_days_destroyed": _days(block, spent),
        "oldest_coin": {
            "txid": str(block.txid(spender)),
            "value": int(value[oldest]),
            "age_blocks": int(age[oldest]),
        },
    }


def large_coins(block: Block, spent: Spent, height: int | None) -> list[dict[str, Any]]:
    """The largest coins spent, largest first, of equal ones the first; `age_blocks` None where it is unknown.

    Raises DecodeError for a coin from a later block.
    """
    rows = largest_coins(spent, LARGE_COIN, MOST_LARGE_COINS)
    spenders = np.searchsorted(block.tx.first_input, rows, side="right") - 1
    found = []
    for row, spender in zip(rows.tolist(), spenders.tolist(), strict=True):
        made = -1 if spent.height is None else int(spent.height[row])
        if height is not None and made > height:
            raise DecodeError("spent outputs", "a coin made after the block that spends it")
        age = None if height is None or made < 0 else height - made
        found.append({"txid": str(block.txid(spender)), "value": int(spent.outputs.value[row]), "age_blocks": age})
    return found


def _days(block: Block, spent: Spent) -> float | None:
    if spent.time is None or (spent.time[1:] < 0).any():
        return None
    seconds = np.maximum(block.header.time - spent.time[1:], 0)
    return round(exact_dot(spent.outputs.value[1:], seconds) / (COIN * SECONDS_A_DAY), 8)


def exact_dot(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    """The exact sum of a x b, for a < 2**51 (all money) and b < 2**30 (blocks, or seconds of 34 years)."""
    starts = np.arange(0, len(a), 64)
    high, low = np.add.reduceat((a >> 26) * b, starts), np.add.reduceat((a & 0x3FFFFFF) * b, starts)
    whole: int = (sum(high.tolist()) << 26) + sum(low.tolist())
    return whole


def large_transfers(block: Block, spent: Spent, fees: Fees) -> list[dict[str, Any]]:
    """The transactions that moved at least 100 BTC to scripts they did not spend from, largest first, at most 10.

    Change to a script among the transaction's own inputs is certain change and taken off; change to a fresh script
    can't be told from a payment, so `moved` is an upper bound of what changed hands.
    """
    n, made, used = block.n_tx, block.outputs, spent.outputs
    rows, change = np.empty((2, n), np.int64)
    count = find_large(
        n, LARGE_TRANSFER, block.tx.first_input, block.tx.first_output, block.tx.value_out,
        made.value, made.key, made.data, made.offset, made.length, used.key, used.data, used.offset, used.length,
        rows, change,
    )  # fmt: skip
    moved = block.tx.value_out[rows[:count]] - change[:count]
    largest = np.argsort(-moved, kind="stable")[:MOST_TRANSFERS].tolist()
    return [
        {
            "txid": str(block.txid(int(rows[i]))),
            "moved": int(moved[i]),
            "change": int(change[i]),
            "fee": int(fees.fee[rows[i]]),
            "inputs": int(block.tx.first_input[rows[i] + 1] - block.tx.first_input[rows[i]]),
            "outputs": int(block.tx.first_output[rows[i] + 1] - block.tx.first_output[rows[i]]),
        }
        for i in largest
    ]
