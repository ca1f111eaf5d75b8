"""Kernels of the facts: one pass over the outputs of a block and over those it spends."""

from __future__ import annotations

import numpy as np
from numba import types as nt

from utxoiq.chain._jit import BYTES, I32, I64, U8, U32, U64, kernel
from utxoiq.chain._llvm import load8
from utxoiq.chain._script import NONSTANDARD, NULLDATA, compact_size_bytes, same_bytes

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
        odd = kind[i] == NULLDATA or (kind[i] == NONSTANDARD and size > 0)
        if size <= MAX_SCRIPT_SIZE and not (odd and load8(data, np.int64(offset[i])) == OP_RETURN):
            sums[1] += bytes_added
            sums[2] += 1


@kernel(nt.void(nt.int64, U32, U32, U8, I64, I64))
def sum_transactions(n_tx, size, stripped_size, has_witness, weight, sums):
    """Weight of each transaction; sums over all but the coinbase: [size, weight, then number, size and weight of
    those with a witness, smallest size, largest size, and the weight of the coinbase]."""
    sums[5] = size[1] if n_tx > 1 else 0
    for t in range(n_tx):
        bytes_ = np.int64(size[t])
        weight[t] = 3 * np.int64(stripped_size[t]) + bytes_
        if t == 0:
            sums[7] = weight[0]
            continue
        sums[0] += bytes_
        sums[1] += weight[t]
        sums[5] = min(sums[5], bytes_)
        sums[6] = max(sums[6], bytes_)
        if has_witness[t]:
            sums[2] += 1
            sums[3] += bytes_
            sums[4] += weight[t]


@kernel(nt.void(nt.int64, I64, I64, I64, I64, I64, I64))
def sum_fees(n_tx, value_in, value_out, weight, fee, feerate_kvb, sums):
    """Fee in sat and feerate in integer sat/kvB of each transaction, the coinbase's zero; sums = [total, then least
    and largest fee, least and largest feerate, and the row of the largest fee].

    The caller has checked that no fee is negative.
    """
    fee[0] = 0
    feerate_kvb[0] = 0
    for t in range(1, n_tx):
        fee[t] = value_in[t] - value_out[t]
        feerate_kvb[t] = fee[t] * 4000 // weight[t]
        sums[0] += fee[t]
        if t == 1 or fee[t] < sums[1]:
            sums[1] = fee[t]
        if t == 1 or fee[t] > sums[2]:
            sums[2] = fee[t]
            sums[5] = t
        if t == 1 or feerate_kvb[t] < sums[3]:
            sums[3] = feerate_kvb[t]
        if t == 1 or feerate_kvb[t] > sums[4]:
            sums[4] = feerate_kvb[t]


RADIX_BITS = 11


@kernel(nt.void(I64, nt.int64, nt.int64, I32, I32, I64))
def order_by(values, n, largest, order, scratch, count):
    """order[1:n] = rows 1 to n - 1 by ascending value, in turns of eleven bits (a stable radix sort).

    Values are not negative and at most `largest`; `order` and `scratch` have n entries, `count` 2**RADIX_BITS. It
    takes a third of the time of sorting by comparison.
    """
    for t in range(1, n):
        order[t] = t
    shift = 0
    while largest >> shift > 0:
        count[:] = 0
        for t in range(1, n):
            count[(values[t] >> shift) & ((1 << RADIX_BITS) - 1)] += 1
        at = 1
        for digit in range(1 << RADIX_BITS):
            size = count[digit]
            count[digit] = at
            at += size
        for i in range(1, n):
            row = order[i]
            digit = (values[row] >> shift) & ((1 << RADIX_BITS) - 1)
            scratch[count[digit]] = row
            count[digit] += 1
        order[1:n] = scratch[1:n]
        shift += RADIX_BITS


@kernel(nt.void(I32, I64, I64, nt.int64, I64))
def percentiles_by_weight(order, feerate, weight, total_weight, result):
    """5, 10, 25, 50, 75, 90 % of `feerate`, for rows order[1:] ascending in it (Core's CalculatePercentilesByWeight).

    Thresholds are the same floating-point quotients Core compares with.
    """
    n = order.shape[0]
    thresholds = (
        total_weight / 20.0, total_weight / 10.0, total_weight / 4.0, total_weight / 2.0,
        (total_weight * 3.0) / 4.0, (total_weight * 9.0) / 10.0,
    )  # fmt: skip
    done = 0
    so_far = 0
    row = 0
    for i in range(1, n):
        row = order[i]
        so_far += weight[row]
        while done < 6 and so_far >= thresholds[done]:
            result[done] = feerate[row]
            done += 1
    while done < 6:
        result[done] = feerate[row] if n > 1 else 0
        done += 1


@kernel(
    nt.int64(nt.int64, nt.int64, U32, U32, I64, I64, U64, BYTES, U32, U32, U64, BYTES, U32, U32, I64, I64)
)  # fmt: skip
def find_large(
    n_tx, threshold, first_in, first_out, value_out, out_value, out_key, out_data, out_offset, out_length,
    in_key, in_data, in_offset, in_length, rows, change,
):  # fmt: skip
    """Transactions that move `threshold` sat and more beside what they pay back to scripts they spend from.

    Fills rows[i] and change[i] (sat); returns how many. Equal keys find a script again, equal bytes decide.
    """
    found = 0
    for t in range(1, n_tx):
        if value_out[t] < threshold:
            continue
        back = 0
        for o in range(np.int64(first_out[t]), np.int64(first_out[t + 1])):
            size = np.int64(out_length[o])
            for i in range(np.int64(first_in[t]), np.int64(first_in[t + 1])):
                if out_key[o] == in_key[i] and size == np.int64(in_length[i]):
                    if same_bytes(out_data, np.int64(out_offset[o]), in_data, np.int64(in_offset[i]), size):
                        back += out_value[o]
                        break
        if value_out[t] - back >= threshold:
            rows[found] = t
            change[found] = back
            found += 1
    return found
