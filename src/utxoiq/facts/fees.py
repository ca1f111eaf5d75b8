"""Fees and feerates of one block, by transaction and by in-block package."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from utxoiq.chain._links import package_feerates
from utxoiq.errors import DecodeError
from utxoiq.facts._sums import fees_and_rates, owner_of_rows, percentiles_by_weight
from utxoiq.units import MAX_MONEY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from utxoiq.chain.block import Block, Spent


@dataclass(frozen=True, slots=True)
class Fees:
    """Per-transaction columns, row 0 (the coinbase) zero; and what `getblockstats` makes of them."""

    fee: NDArray[np.int64]
    weight: NDArray[np.int64]
    feerate_kvb: NDArray[np.int64]
    total: int

    def stats(self) -> dict[str, Any]:
        """The fee fields of `getblockstats`, and the percentiles in sat/kvB."""
        fee, rate = self.fee[1:], self.feerate_kvb[1:]
        total_weight = int(self.weight[1:].sum())
        percentiles = by_weight(self.feerate_kvb, self.weight)
        return {
            "totalfee": self.total,
            "avgfee": self.total // len(fee) if len(fee) else 0,
            "medianfee": truncated_median(fee),
            "minfee": int(fee.min(initial=MAX_MONEY)) if len(fee) else 0,
            "maxfee": int(fee.max(initial=0)),
            "avgfeerate": self.total * 4 // total_weight if total_weight else 0,
            "minfeerate": int(rate.min()) // 1000 if len(rate) else 0,
            "maxfeerate": int(rate.max(initial=0)) // 1000,
            "feerate_percentiles": [rate // 1000 for rate in percentiles],
            "feerate_percentiles_kvb": percentiles,
        }


def compute_fees(block: Block, spent: Spent) -> Fees:
    """Fees of a block whose spent outputs have been checked. Raises DecodeError where they exceed all money."""
    n, tx = block.n_tx, block.tx
    fee, weight, rate = np.empty((3, n), np.int64)
    total = fees_and_rates(n, spent.tx_value_in, tx.value_out, tx.size, tx.stripped_size, fee, weight, rate)
    if not 0 <= total <= MAX_MONEY:
        raise DecodeError("spent outputs", "fees of more than 21 million BTC")
    return Fees(fee, weight, rate, int(total))


def compute_packages(block: Block, fees: Fees, source: NDArray[np.int32]) -> tuple[list[int], int]:
    """Percentiles of the package feerate in sat/kvB, and the number of packages of two transactions and more."""
    n = block.n_tx
    if n > 1 and source.max() < 0:
        return by_weight(fees.feerate_kvb, fees.weight), 0
    owner = np.empty(len(block.outputs.value), np.int32)
    owner_of_rows(block.tx.first_output, n, owner)
    cluster, last, chunk, previous = np.empty((4, n), np.int32)
    chunk_fee, chunk_weight, rate = np.empty((3, n), np.int64)
    packages = package_feerates(
        n, block.tx.first_input, source, owner, fees.fee, fees.weight, cluster, last, chunk, previous,
        chunk_fee, chunk_weight, rate,
    )  # fmt: skip
    return by_weight(rate, fees.weight), int(packages)


def by_weight(feerate: NDArray[np.int64], weight: NDArray[np.int64]) -> list[int]:
    """10, 25, 50, 75, 90 % by weight over all rows but the coinbase's."""
    result = np.empty(5, np.int64)
    percentiles_by_weight(np.argsort(feerate[1:]), 1, feerate, weight, int(weight[1:].sum()), result)
    return [int(rate) for rate in result]


def truncated_median(values: NDArray[Any]) -> int:
    """Core's CalculateTruncatedMedian: the middle value, or the mean of the two middle ones cut down; 0 of none."""
    n = len(values)
    if n == 0:
        return 0
    ordered = np.sort(values)
    if n % 2:
        return int(ordered[n // 2])
    return (int(ordered[n // 2 - 1]) + int(ordered[n // 2])) // 2
