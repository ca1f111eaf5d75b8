"""Fees and feerates of one block, by transaction and by in-block package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from utxoiq.chain._links import package_feerates
from utxoiq.errors import DecodeError
from utxoiq.facts._sums import RADIX_BITS, order_by, percentiles_by_weight, sum_fees, sum_transactions
from utxoiq.units import MAX_MONEY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from utxoiq.chain.block import Block, Spent
    from utxoiq.chain.links import InBlock


@dataclass(frozen=True, slots=True)
class Sizes:
    """Weight of each transaction, and the sums `getblockstats` makes of sizes; the coinbase is in none of them."""

    weight: NDArray[np.int64]
    total_size: int
    total_weight: int
    swtxs: int
    swtotal_size: int
    swtotal_weight: int
    mintxsize: int
    maxtxsize: int
    coinbase_weight: int


def compute_sizes(block: Block) -> Sizes:
    """Sizes of a block's transactions, in bytes and weight units."""
    weight, sums = np.empty(block.n_tx, np.int64), np.zeros(8, np.int64)
    sum_transactions(block.n_tx, block.tx.size, block.tx.stripped_size, block.tx.has_witness, weight, sums)
    return Sizes(weight, *sums.tolist())


@dataclass(frozen=True, slots=True)
class Fees:
    """Fees in sat and feerates in sat/kvB of each transaction, row 0 (the coinbase) zero; and their extremes."""

    fee: NDArray[np.int64]
    feerate_kvb: NDArray[np.int64]
    total: int
    minfee: int
    maxfee: int
    minfeerate_kvb: int
    maxfeerate_kvb: int
    top: int
    """Row of the largest fee."""


def compute_fees(block: Block, spent: Spent, sizes: Sizes) -> Fees:
    """Fees of a block whose spent outputs have been checked. Raises DecodeError where they exceed all money."""
    fee, rate = np.empty((2, block.n_tx), np.int64)
    sums = np.zeros(6, np.int64)
    sum_fees(block.n_tx, spent.tx_value_in, block.tx.value_out, sizes.weight, fee, rate, sums)
    fees = Fees(fee, rate, *sums.tolist())
    if not 0 <= fees.total <= MAX_MONEY:
        raise DecodeError("spent outputs", "fees of more than 21 million BTC")
    return fees


def fee_stats(fees: Fees, sizes: Sizes, percentiles: list[int]) -> dict[str, Any]:
    """The fee fields of `getblockstats`, and the percentiles in sat/kvB. `percentiles`: as `by_weight` gives them."""
    payments = len(fees.fee) - 1
    percentiles = percentiles[1:]
    return {
        "totalfee": fees.total,
        "avgfee": fees.total // payments if payments else 0,
        "medianfee": truncated_median(fees.fee[1:]),
        "minfee": fees.minfee,
        "maxfee": fees.maxfee,
        "avgfeerate": fees.total * 4 // sizes.total_weight if payments else 0,
        "minfeerate": fees.minfeerate_kvb // 1000,
        "maxfeerate": fees.maxfeerate_kvb // 1000,
        "feerate_percentiles": [rate // 1000 for rate in percentiles],
        "feerate_percentiles_kvb": percentiles,
    }


def compute_packages(
    block: Block, fees: Fees, sizes: Sizes, inside: InBlock, alone: list[int]
) -> tuple[list[int], int]:
    """Percentiles of the package feerate in sat/kvB, and the number of packages of two transactions and more.

    `alone`: the percentiles of the transactions by themselves, which hold where nothing in the block spends another.
    """
    n = block.n_tx
    if not len(inside.spender):
        return alone, 0
    cluster, last, chunk, previous = np.empty((4, n), np.int32)
    chunk_fee, chunk_weight, rate = np.empty((3, n), np.int64)
    packages = package_feerates(
        n, block.tx.first_input, inside.spender, inside.parent, fees.fee, sizes.weight, cluster, last, chunk, previous,
        chunk_fee, chunk_weight, rate,
    )  # fmt: skip
    return by_weight(rate, sizes), int(packages)


def by_weight(feerate: NDArray[np.int64], sizes: Sizes) -> list[int]:
    """5, 10, 25, 50, 75, 90 % by weight over all rows but the coinbase's."""
    n, result = len(feerate), np.empty(6, np.int64)
    order, scratch = np.empty((2, n), np.int32)
    order_by(feerate, n, int(feerate.max()), order, scratch, np.empty(1 << RADIX_BITS, np.int64))
    percentiles_by_weight(order, feerate, sizes.weight, sizes.total_weight, result)
    percentiles: list[int] = result.tolist()
    return percentiles


def truncated_median(values: NDArray[Any]) -> int:
    """Core's CalculateTruncatedMedian: the middle value, or the mean of the two middle ones cut down; 0 of none."""
    n = len(values)
    if n == 0:
        return 0
    middle = n // 2
    if n % 2:
        return int(np.partition(values, middle)[middle])
    low, high = np.partition(values, (middle - 1, middle))[middle - 1 : middle + 1]
    return (int(low) + int(high)) // 2
