"""Kernels of the facts: one pass over the outputs of a block and over those it spends."""

from __future__ import annotations

import numpy as np
from numba import types as nt

from utxoiq.chain._jit import BYTES, I32, I64, U8, U32, kernel
from utxoiq.chain._llvm import load8
from utxoiq.chain._script import compact_size_bytes

UTXO_OVERHEAD = 8 + 36 + 4
"""Bytes beside the script and its length: value 8, and PER_UTXO_OVERHEAD (outpoint 36, height and flag 4)."""
MAX_SCRIPT_SIZE = 10_000
OP_RETURN = 0x6A


@kernel(nt.void(BYTES, I64, U32, U32, U8, nt.int64, nt.int64, I64, I64, I64))
def sum_outputs(data, value, offset, length, kind, begin, end, count_by_type, value_by_type, sums):
    """Over rows begin..end: outputs and sat by type; sums = [UTXO bytes, those of spendable ones, spendable ones]."""
    for i in range(begin, end):
        size = np.int64(length[i])
        count_by_type[kind[i]] += 1
        value_by_type[kind[i]] += value[i]
        bytes_added = UTXO_OVERHEAD + size + compact_size_bytes(size)
        sums[0] += bytes_added
        unspendable = size > MAX_SCRIPT_SIZE or (size > 0 and load8(data, np.int64(offset[i])) == OP_RETURN)
        if not unspendable:
            sums[1] += bytes_added
            sums[2] += 1


@kernel(nt.int64(nt.int64, I64, I64, U32, U32, I64, I64, I64))
def fees_and_rates(n_tx, value_in, value_out, size, stripped_size, fee, weight, feerate_kvb):
    """Fee in sat, weight, and feerate in integer sat/kvB of each transaction but the coinbase; the sum of the fees.

    The caller has checked that no fee is negative.
    """
    total = 0
    fee[0] = 0
    for t in range(n_tx):
        weight[t] = 3 * np.int64(stripped_size[t]) + np.int64(size[t])
        if t > 0:
            fee[t] = value_in[t] - value_out[t]
            total += fee[t]
            feerate_kvb[t] = fee[t] * 4000 // weight[t]
    feerate_kvb[0] = 0
    return total


@kernel(nt.void(I64, nt.int64, I64, I64, nt.int64, I64))
def percentiles_by_weight(order, first, feerate, weight, total_weight, result):
    """Core's CalculatePercentilesByWeight: 10, 25, 50, 75, 90 % of `feerate` in ascending `order`.

    `order` are rows counted from `first`. Thresholds are the same floating-point quotients Core compares with.
    """
    n = order.shape[0]
    done = 0
    so_far = 0
    for i in range(n):
        row = order[i] + first
        so_far += weight[row]
        while done < 5:
            if done == 0:
                threshold = total_weight / 10.0
            elif done == 1:
                threshold = total_weight / 4.0
            elif done == 2:
                threshold = total_weight / 2.0
            elif done == 3:
                threshold = (total_weight * 3.0) / 4.0
            else:
                threshold = (total_weight * 9.0) / 10.0
            if so_far < threshold:
                break
            result[done] = feerate[row]
            done += 1
    while done < 5:
        result[done] = 0 if n == 0 else feerate[order[n - 1] + first]
        done += 1


@kernel(nt.void(U32, nt.int64, I32))
def owner_of_rows(first, n_tx, owner):
    """owner[row] = the transaction whose rows first[t]..first[t + 1] hold it."""
    for t in range(n_tx):
        for row in range(np.int64(first[t]), np.int64(first[t + 1])):
            owner[row] = t
