"""Kernels that find scripts among millions of labelled ones: a blocked Bloom filter, then buckets of eight keys.

A 64-byte bucket is one cache line; both passes ask for their lines ahead. An equal 64-bit key is only a candidate:
the whole script is compared, so a made-up collision finds nothing.
"""

from __future__ import annotations

import numpy as np
from numba import types as nt

from utxoiq.chain._jit import BYTES, I32, U32, U64, helper, kernel
from utxoiq.chain._llvm import prefetch
from utxoiq.chain._script import same_bytes

AHEAD = 16
BUCKET = 8
OFFSETS, WORDS, ROWS = (nt.Array(kind, 1, "C", readonly=True) for kind in (nt.int64, nt.uint64, nt.int32))
"""As `BYTES`, these may lie in a file that is mapped read-only."""


@helper
def bloom_mask(key):
    """Four bits of a 64-bit word."""
    one = np.uint64(1)
    sixtythree = np.uint64(63)
    mask = one << (key & sixtythree)
    mask |= one << ((key >> np.uint64(6)) & sixtythree)
    mask |= one << ((key >> np.uint64(12)) & sixtythree)
    return mask | (one << ((key >> np.uint64(18)) & sixtythree))


@helper
def bucket_of(key, buckets):
    return np.int64(key >> np.uint64(20)) & (buckets - 1)


@kernel(nt.int64(U64, U64, nt.int64, U64, I32))
def build(keys, bloom, bloom_bits, table, entry):
    """Put row i of `keys` into the filter and, as i + 1, into the table, where 0 is a free slot: all three begin as
    zeros, as a new file does. Returns -1 where the table is full, else 0."""
    buckets = table.shape[0] // BUCKET
    for i in range(keys.shape[0]):
        key = keys[i]
        bloom[np.int64(key >> np.uint64(64 - bloom_bits))] |= bloom_mask(key)
        bucket = bucket_of(key, buckets)
        placed = False
        for _ in range(buckets):
            for slot in range(bucket * BUCKET, bucket * BUCKET + BUCKET):
                if entry[slot] == 0:
                    table[slot] = key
                    entry[slot] = i + 1
                    placed = True
                    break
            if placed:
                break
            bucket = (bucket + 1) & (buckets - 1)
        if not placed:
            return -1
    return 0


@helper
def find(key, data, at, size, table, entry, blob, blob_offset):
    """The row of this very script, or -1."""
    buckets = table.shape[0] // BUCKET
    bucket = bucket_of(key, buckets)
    for _ in range(buckets):
        for slot in range(bucket * BUCKET, bucket * BUCKET + BUCKET):
            row = np.int64(entry[slot]) - 1
            if row < 0:
                return -1
            if table[slot] == key:
                start = blob_offset[row]
                if blob_offset[row + 1] - start == size and same_bytes(data, at, blob, start, size):
                    return row
        bucket = (bucket + 1) & (buckets - 1)
    return -1


@kernel(nt.int64(BYTES, U32, U32, U64, nt.int64, BYTES, OFFSETS, WORDS, nt.int64, WORDS, ROWS, I32, I32))
def match(
    data, offset, length, keys, count, blob, blob_offset, bloom, bloom_bits, table, entry, candidates, found
):  # fmt: skip
    """found[i] = the labelled row whose script is data[offset[i]:][:length[i]], or -1. Returns the number found.

    `candidates` is scratch of `count` entries.
    """
    shift = np.uint64(64 - bloom_bits)
    buckets = table.shape[0] // BUCKET
    passed = 0
    for i in range(count):
        if i + AHEAD < count:
            prefetch(bloom, np.int64(keys[i + AHEAD] >> shift) * 8)
        key = keys[i]
        mask = bloom_mask(key)
        found[i] = -1
        candidates[passed] = i
        passed += 1 if bloom[np.int64(key >> shift)] & mask == mask else 0
    hits = 0
    for j in range(passed):
        if j + AHEAD < passed:
            line = bucket_of(keys[candidates[j + AHEAD]], buckets) * BUCKET
            prefetch(table, line * 8)
            prefetch(entry, line * 4)
        i = np.int64(candidates[j])
        row = find(keys[i], data, np.int64(offset[i]), np.int64(length[i]), table, entry, blob, blob_offset)
        if row >= 0:
            found[i] = row
            hits += 1
    return hits
