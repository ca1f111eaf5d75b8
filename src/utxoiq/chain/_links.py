"""Kernels over the spends inside a block: who spends whom, and which packages that makes."""

from __future__ import annotations

import numpy as np
from numba import types as nt

from utxoiq.chain._jit import BYTES, I32, I64, U8, U32, helper, kernel
from utxoiq.chain._llvm import load32, load64
from utxoiq.chain._script import same_bytes


@kernel(nt.int64(BYTES, U8, nt.int64, U32, U32, U32, I32, I32))
def link_inputs(buf, txids, n_tx, first_in, first_out, input_offset, table, source):
    """source[i] = row of the output of this block that input i spends, or -1 where it comes from an earlier block.

    `table` has a power of two of entries, at least twice n_tx, all -1. Returns -1, or the first input that spends
    an output that a transaction of this block does not have, or has only later (no valid block does).
    """
    mask = table.shape[0] - 1
    for t in range(n_tx):
        slot = np.int64(load64(txids, 32 * t)) & mask
        while table[slot] >= 0:
            slot = (slot + 1) & mask
        table[slot] = t
    for t in range(n_tx):
        for i in range(np.int64(first_in[t]), np.int64(first_in[t + 1])):
            at = np.int64(input_offset[i])
            slot = np.int64(load64(buf, at)) & mask
            source[i] = -1
            while table[slot] >= 0:
                parent = np.int64(table[slot])
                if same_bytes(txids, 32 * parent, buf, at, 32):
                    row = np.int64(first_out[parent]) + load32(buf, at + 32)
                    if parent == 0 or parent >= t or row >= np.int64(first_out[parent + 1]):
                        return i
                    source[i] = row
                    break
                slot = (slot + 1) & mask
    return -1


@kernel(nt.int64(I32, nt.int64, BYTES, I64, U32, U32, BYTES, I64, U32, U32))
def first_inconsistent(source, n_in, spent_bytes, s_value, s_offset, s_length, buf, o_value, o_offset, o_length):
    """The first input whose spent output is not the one made in this block that it spends, or -1."""
    for i in range(n_in):
        row = np.int64(source[i])
        if row < 0:
            continue
        if s_value[i] != o_value[row] or s_length[i] != o_length[row]:
            return i
        if not same_bytes(spent_bytes, np.int64(s_offset[i]), buf, np.int64(o_offset[row]), np.int64(o_length[row])):
            return i
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
    n_tx, first_in, source, output_tx, fee, weight, cluster, last_chunk, chunk, previous, chunk_fee, chunk_weight,
    feerate,
):  # fmt: skip
    """feerate[t] in sat/kvB of the package transaction t was mined in: parents paid for by their children.

    Transactions linked by spends inside the block form a cluster; their order in the block is a linearisation of
    it, and merging each one into what precedes it while that raises the feerate gives its chunks (Core's
    ChunkLinearization, `cluster_linearize.h`). `output_tx` is the transaction of each output row; the seven columns
    from `cluster` on are scratch of n_tx entries. Returns how many chunks have more than one transaction.
    """
    for t in range(n_tx):
        cluster[t] = t
        chunk[t] = t
        last_chunk[t] = -1
    for t in range(1, n_tx):
        for i in range(np.int64(first_in[t]), np.int64(first_in[t + 1])):
            if source[i] >= 0:
                mine = root_of(cluster, np.int64(t))
                theirs = root_of(cluster, np.int64(output_tx[source[i]]))
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
