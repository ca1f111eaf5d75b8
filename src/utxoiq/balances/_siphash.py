# mypy: ignore-errors
"""SipHash-2-4 with 128 bits of result (Aumasson and Bernstein, 2012): nobody without the ledger's key can make two
scripts that share a record, and among 2**30 scripts chance does so once in 2**68 ledgers."""

from __future__ import annotations

import numpy as np
from numba import types as nt

from utxoiq.chain._jit import BYTES, U64, helper, kernel
from utxoiq.chain._llvm import load8, load64


@helper
def rotated(x, n):
    return (x << np.uint64(n)) | (x >> np.uint64(64 - n))


@helper
def sip_rounds(v0, v1, v2, v3, rounds):
    for _ in range(rounds):
        v0 += v1
        v2 += v3
        v1 = rotated(v1, 13) ^ v0
        v3 = rotated(v3, 16) ^ v2
        v0 = rotated(v0, 32)
        v2 += v1
        v0 += v3
        v1 = rotated(v1, 17) ^ v2
        v3 = rotated(v3, 21) ^ v0
        v2 = rotated(v2, 32)
    return v0, v1, v2, v3


@helper
def siphash(secret0, secret1, buf, at, size):
    """Two words of buf[at:][:size], little-endian; the second is never 0, which marks a free slot."""
    v0 = secret0 ^ np.uint64(0x736F6D6570736575)
    v1 = secret1 ^ np.uint64(0x646F72616E646F6D) ^ np.uint64(0xEE)
    v2 = secret0 ^ np.uint64(0x6C7967656E657261)
    v3 = secret1 ^ np.uint64(0x7465646279746573)
    end = at + (size & ~7)
    p = at
    while p < end:
        m = load64(buf, p)
        v3 ^= m
        v0, v1, v2, v3 = sip_rounds(v0, v1, v2, v3, 2)
        v0 ^= m
        p += 8
    m = np.uint64(size & 255) << np.uint64(56)
    for i in range(size & 7):
        m |= np.uint64(load8(buf, end + i)) << np.uint64(8 * i)
    v3 ^= m
    v0, v1, v2, v3 = sip_rounds(v0, v1, v2, v3, 2)
    v0 ^= m
    v2 ^= np.uint64(0xEE)
    v0, v1, v2, v3 = sip_rounds(v0, v1, v2, v3, 4)
    first = v0 ^ v1 ^ v2 ^ v3
    v1 ^= np.uint64(0xDD)
    v0, v1, v2, v3 = sip_rounds(v0, v1, v2, v3, 4)
    second = v0 ^ v1 ^ v2 ^ v3
    if second == 0:
        second = np.uint64(1)
    return first, second


@kernel(nt.void(nt.uint64, nt.uint64, BYTES, nt.int64, nt.int64, U64))
def hash_one(secret0, secret1, buf, at, size, key):
    """The two words of one script to `key`."""
    key[0], key[1] = siphash(secret0, secret1, buf, at, size)
