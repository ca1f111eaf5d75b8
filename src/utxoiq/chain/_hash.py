"""Transaction ids and merkle trees with the SHA instructions, two lanes. Only imported where `has_sha_ni()`."""

from __future__ import annotations

import numpy as np
from numba import types as nt

from utxoiq.chain._jit import BYTES, U8, U32, helper, kernel
from utxoiq.chain._llvm import copy, load64, store64_big_endian
from utxoiq.chain._sha import absorb2, double_hash_pair2, rehash2, reset, write_digest


@helper
def stage(buf, t, offset, size, stripped_size, witness_offset, has_witness, whole, scratch, at):
    """Copy transaction t to scratch[at:], padded for SHA-256, with its witness if `whole`: the number of blocks."""
    begin = np.int64(offset[t])
    end = begin + np.int64(size[t])
    if has_witness[t] and not whole:
        length = np.int64(stripped_size[t])
        body = np.int64(witness_offset[t]) - begin - 6
        copy(scratch, at, buf, begin, 4)
        copy(scratch, at + 4, buf, begin + 6, body)
        copy(scratch, at + 4 + body, buf, end - 4, 4)
    else:
        length = end - begin
        copy(scratch, at, buf, begin, length)
    blocks = (length + 9 + 63) >> 6
    scratch[at + length] = 0x80
    for i in range(at + length + 1, at + blocks * 64 - 8):
        scratch[i] = 0
    store64_big_endian(scratch, at + blocks * 64 - 8, np.uint64(length * 8))
    return blocks


@helper
def following(t, whole, has_witness, witness):
    """The message after (t, whole): each transaction stripped, then, if `witness` and it has one, whole."""
    if witness and t >= 0 and not whole and has_witness[t]:
        return t, True
    return t + 1, False


@helper
def finish_wtxids(n_tx, has_witness, txids, wtxids, spare):
    """The second hash of those with a witness, two by two; the others take their txid."""
    at = wtxids.ctypes.data
    pending = spare
    for t in range(n_tx):
        if not has_witness[t]:
            copy(wtxids, 32 * t, txids, 32 * t, 32)
        elif pending == spare:
            pending = at + 32 * t
        else:
            rehash2(pending, at + 32 * t)
            pending = spare
    if pending != spare:
        rehash2(pending, spare)


@kernel(nt.void(BYTES, nt.int64, U32, U32, U32, U32, U8, nt.boolean, U8, U32, U8, U8))
def hash_transactions(
    buf, n_tx, offset, size, stripped_size, witness_offset, has_witness, witness, scratch, states, txids, wtxids
):  # fmt: skip
    """Double SHA-256 of each transaction without its witness (txid) and, if `witness`, with it (wtxid; the txid where
    it has none).

    Both in one pass, so that a transaction is read from memory once. `scratch` holds two padded transactions of the
    largest size, `states` 16 uint32, `txids` and `wtxids` 32 bytes a transaction.
    """
    half = scratch.shape[0] // 2
    states_at = states.ctypes.data
    scratch_at = scratch.ctypes.data
    txids_at = txids.ctypes.data
    wtxids_at = wtxids.ctypes.data
    t0 = t1 = np.int64(-1)
    left0 = left1 = np.int64(0)
    p0 = p1 = to0 = to1 = scratch_at
    t, whole = following(-1, False, has_witness, witness)
    while True:
        if left0 == 0:
            if t0 >= 0:
                write_digest(states_at, to0)
            t0 = t if t < n_tx else -1
            if t0 >= 0:
                left0 = stage(buf, t, offset, size, stripped_size, witness_offset, has_witness, whole, scratch, 0)
                p0 = scratch_at
                to0 = (wtxids_at if whole else txids_at) + 32 * t
                reset(states_at)
                t, whole = following(t, whole, has_witness, witness)
        if left1 == 0:
            if t1 >= 0:
                write_digest(states_at + 32, to1)
            t1 = t if t < n_tx else -1
            if t1 >= 0:
                left1 = stage(buf, t, offset, size, stripped_size, witness_offset, has_witness, whole, scratch, half)
                p1 = scratch_at + half
                to1 = (wtxids_at if whole else txids_at) + 32 * t
                reset(states_at + 32)
                t, whole = following(t, whole, has_witness, witness)
        if t0 < 0 and t1 < 0:
            break
        blocks = left0 if t1 < 0 or (t0 >= 0 and left0 < left1) else left1
        absorb2(states_at, p0 if t0 >= 0 else p1, p1 if t1 >= 0 else p0, blocks)
        if t0 >= 0:
            left0 -= blocks
            p0 += 64 * blocks
        if t1 >= 0:
            left1 -= blocks
            p1 += 64 * blocks
    for t in range(0, n_tx - 1, 2):
        rehash2(txids_at + 32 * t, txids_at + 32 * t + 32)
    if n_tx & 1:
        rehash2(txids_at + 32 * (n_tx - 1), scratch_at)
    if witness:
        finish_wtxids(n_tx, has_witness, txids, wtxids, scratch_at)


@kernel(nt.int64(U8, nt.int64))
def merkle_in_place(nodes, count):
    """Reduce `count` 32-byte leaves to the root in nodes[0:32]; `nodes` has room for one leaf more.

    Returns 1 where two equal neighbours were hashed together (CVE-2012-2459), else 0.
    """
    at = nodes.ctypes.data
    duplicated = 0
    while count > 1:
        for pair in range(count // 2):
            o = 64 * pair
            if load64(nodes, o) == load64(nodes, o + 32) and load64(nodes, o + 8) == load64(nodes, o + 40):
                if load64(nodes, o + 16) == load64(nodes, o + 48) and load64(nodes, o + 24) == load64(nodes, o + 56):
                    duplicated = 1
        if count & 1:
            copy(nodes, 32 * count, nodes, 32 * (count - 1), 32)
            count += 1
        pairs = count // 2
        for i in range(0, pairs - 1, 2):
            double_hash_pair2(at + 64 * i, at + 64 * i + 64, at + 32 * i, at + 32 * i + 32)
        if pairs & 1:
            last = pairs - 1
            double_hash_pair2(at + 64 * last, at + 64 * last, at + 32 * last, at + 32 * pairs)
        count = pairs
    return duplicated
