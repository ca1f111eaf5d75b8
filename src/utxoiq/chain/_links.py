"""Kernels over the spends inside a block: who spends whom, and which packages that makes."""

from __future__ import annotations

import numpy as np
from numba import types as nt

from utxoiq.chain._jit import BYTES, I32, I64, U8, U32, helper, kernel
from utxoiq.chain._llvm import load32, load64
from utxoiq.chain._script import same_bytes

INDEX_BITS = 20
"""Enough for the number of any transaction in a block; the rest of a table entry tells txids apart."""
FREE = -1
FILTER = 1 << 15


@kernel(nt.int64(BYTES, U8, nt.int64, U32, U32, U32, U8, I64, I32, I32, I32))
def link_inputs(buf, txids, n_tx, first_in, first_out, input_offset, seen, table, spender, row, parent):
    """Inputs that spend outputs of this very block: spender[i] is the input's row, row[i] the output's, parent[i] the
    transaction that made it. Returns how many, or -1 - input for one that spends what its block lacks or makes only
    later (no valid block does).

    `table` has a power of two of entries, at least twice n_tx, all FREE. `seen` are FILTER zeros: nearly all inputs
    spend other blocks, and one byte that stays in the nearest cache tells most of those.
    """
    mask = table.shape[0] - 1
    low = (1 << INDEX_BITS) - 1
    for t in range(n_tx):
        head = np.int64(load64(txids, 32 * t))
        seen[(head >> INDEX_BITS) & (FILTER - 1)] = 1
        slot = head & mask
        while table[slot] != FREE:
            slot = (slot + 1) & mask
        table[slot] = (head & ~low & 0x7FFFFFFFFFFFFFFF) | t
    found = 0
    for t in range(1, n_tx):
        for i in range(np.int64(first_in[t]), np.int64(first_in[t + 1])):
            at = np.int64(input_offset[i])
            head = np.int64(load64(buf, at))
            if not seen[(head >> INDEX_BITS) & (FILTER - 1)]:
                continue
            tag = head & ~low & 0x7FFFFFFFFFFFFFFF
            slot = head & mask
            while table[slot] != FREE:
                candidate = table[slot] & low
                if table[slot] & ~low == tag and same_bytes(txids, 32 * candidate, buf, at, 32):
                    made = np.int64(first_out[candidate]) + load32(buf, at + 32)
                    if candidate == 0 or candidate >= t or made >= np.int64(first_out[candidate + 1]):
                        return -1 - i
                    spender[found] = i
                    row[found] = made
                    parent[found] = candidate
                    found += 1
                    break
                slot = (slot + 1) & mask
    return found


@kernel(nt.int64(I32, I32, BYTES, I64, U32, U32, BYTES, I64, U32, U32))
def first_inconsistent(spender, row, spent_bytes, s_value, s_offset, s_length, buf, o_value, o_offset, o_length):
    """The first input whose spent output is not the one made in this block that it spends, or -1."""
    for k in range(spender.shape[0]):
        i = spender[k]
        o = row[k]
        size = np.int64(o_length[o])
        if s_value[i] != o_value[o] or s_length[i] != o_length[o]:
            return i
        if not same_bytes(spent_bytes, np.int64(s_offset[i]), buf, np.int64(o_offset[o]), size):
            return i
    return -1


@kernel(nt.int64(nt.int64, I64, I64))
def first_that_makes_money(n_tx, value_in, value_out):
    """The first transaction but the coinbase that pays out more than it spends, or -1."""
    for t in range(1, n_tx):
        if value_in[t] < value_out[t]:
            return t
    return -1


@helper
def root_of(parents, t):
    """The representative of t, with paths halved on the way."""
    while parents[t] != t:
        parents[t] = parents[parents[t]]
        t = np.int64(parents[t])
    return t


@kernel(nt.int64(nt.int64, U32, I32, I32, I64, I64, I32, I32, I32, I32, I64, I64, I64))
def package_feerates(
    n_tx, first_in, spender, parent, fee, weight, cluster, last_chunk, chunk, previous, chunk_fee, chunk_weight, feerate
):
    """feerate[t] in sat/kvB of the package transaction t was mined in: parents paid for by their children.

    Transactions linked by spends inside the block form a cluster; their order in the block is a linearisation of
    it, and merging each one into what precedes it while that raises the feerate gives its chunks (Core's
    ChunkLinearization, `cluster_linearize.h`). The six columns from `cluster` on are scratch of n_tx entries.
    Returns how many chunks have more than one transaction.
    """
    for t in range(n_tx):
        cluster[t] = t
        chunk[t] = t
        last_chunk[t] = -1
    t = np.int64(1)
    for k in range(spender.shape[0]):
        while np.int64(first_in[t + 1]) <= spender[k]:
            t += 1
        mine = root_of(cluster, t)
        theirs = root_of(cluster, np.int64(parent[k]))
        cluster[max(mine, theirs)] = min(mine, theirs)
    packages = 0
    for t in range(1, n_tx):
        root = root_of(cluster, np.int64(t))
        current = np.int64(t)
        chunk_fee[t] = fee[t]
        chunk_weight[t] = weight[t]
        before = np.int64(last_chunk[root])
        while before >= 0 and chunk_fee[current] / chunk_weight[current] > chunk_fee[before] / chunk_weight[before]:
            chunk_fee[before] += chunk_fee[current]
            chunk_weight[before] += chunk_weight[current]
            chunk[current] = before
            current = before
            before = np.int64(previous[current])
        previous[current] = before
        last_chunk[root] = current
    feerate[0] = 0
    for t in range(1, n_tx):
        head = root_of(chunk, np.int64(t))
        feerate[t] = chunk_fee[head] * 4000 // chunk_weight[head]
        if head != t and last_chunk[head] != -2:
            last_chunk[head] = -2
            packages += 1
    return packages
