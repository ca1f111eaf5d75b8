"""Kernel helpers over output scripts: type, 64-bit key, equality. Callers guarantee the bounds of [at, at + size)."""

from __future__ import annotations

import numpy as np

from utxoiq.chain._jit import helper
from utxoiq.chain._llvm import fold_multiply, load8, load16, load32, load64
from utxoiq.chain.scripts import ScriptType

NONSTANDARD, PUBKEY, PUBKEYHASH, SCRIPTHASH, MULTISIG, NULLDATA = (int(ScriptType(i)) for i in range(6))
KEYHASH_V0, SCRIPTHASH_V0, TAPROOT, ANCHOR, WITNESS_UNKNOWN = (int(ScriptType(i)) for i in range(6, 11))
N_TYPES = len(ScriptType)

SEED = np.uint64(0x243F6A8885A308D3)
MIX0, MIX1, MIX2 = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3))


@helper
def push(buf, at, end):
    """The push operation at `at`: (start of its data, size), or (0, -1) where there is none within bounds."""
    op = load8(buf, at)
    start = at + 1
    size = op
    if op > 78:
        return 0, -1
    if op >= 76:
        width = 1 << (op - 76)
        if end - start < width:
            return 0, -1
        size = load8(buf, start)
        for i in range(1, width):
            size |= load8(buf, start + i) << (8 * i)
        start += width
    if size > end - start:
        return 0, -1
    return start, size


@helper
def is_push_only(buf, at, end):
    while at < end:
        op = load8(buf, at)
        if op > 96:
            return False
        if op > 78:
            at += 1
            continue
        start, size = push(buf, at, end)
        if size < 0:
            return False
        at = start + size
    return True


@helper
def is_pubkey(buf, at, size):
    """Core's CPubKey::ValidSize: the header byte announces this size."""
    if size == 33:
        return load8(buf, at) == 2 or load8(buf, at) == 3
    if size == 65:
        head = load8(buf, at)
        return head == 4 or head == 6 or head == 7
    return False


@helper
def small_number(buf, at, end):
    """A key count at `at`: (value 1..20, next position), or (0, at)."""
    op = load8(buf, at)
    if op >= 81 and op <= 96:
        return op - 80, at + 1
    if op == 1 and end - at >= 2 and load8(buf, at + 1) > 16 and load8(buf, at + 1) <= 20:
        return load8(buf, at + 1), at + 2
    return 0, at


@helper
def is_multisig(buf, at, size):
    """Core's MatchMultisig: M, then N keys, then N, then OP_CHECKMULTISIG, with 1 <= M <= N <= 20."""
    end = at + size - 1
    required, p = small_number(buf, at, end)
    if required == 0:
        return False
    keys = 0
    while p < end:
        start, length = push(buf, p, end)
        if length < 0 or not is_pubkey(buf, start, length):
            break
        keys += 1
        p = start + length
    if p >= end:
        return False
    total, p = small_number(buf, p, end)
    return p == end and total == keys and required <= keys


@helper
def classify(buf, at, size):
    """The ScriptType of a script."""
    if size == 0:
        return NONSTANDARD
    first = load8(buf, at)
    if size == 22:
        if load16(buf, at) == 0x1400:
            return KEYHASH_V0
    elif size == 34:
        head = load16(buf, at)
        if head == 0x2051:
            return TAPROOT
        if head == 0x2000:
            return SCRIPTHASH_V0
    elif size == 25:
        if load32(buf, at) & 0xFFFFFF == 0x14A976 and load16(buf, at + 23) == 0xAC88:
            return PUBKEYHASH
    elif size == 23 and load16(buf, at) == 0x14A9 and load8(buf, at + 22) == 0x87:
        return SCRIPTHASH
    if size >= 4 and size <= 42 and (first == 0 or (first >= 81 and first <= 96)):
        if load8(buf, at + 1) == size - 2:
            if first == 0:
                return NONSTANDARD
            if size == 4 and load32(buf, at) == 0x734E0251:
                return ANCHOR
            return WITNESS_UNKNOWN
    if first == 0x6A:
        if is_push_only(buf, at + 1, at + size):
            return NULLDATA
        return NONSTANDARD
    last = load8(buf, at + size - 1)
    if last == 0xAC and first == size - 2 and is_pubkey(buf, at + 1, size - 2):
        return PUBKEY
    if last == 0xAE and is_multisig(buf, at, size):
        return MULTISIG
    return NONSTANDARD


@helper
def script_key(buf, at, size):
    """A 64-bit key of a script, never 0: eight bytes a step and an overlapping last step, after wyhash."""
    h = fold_multiply(SEED ^ np.uint64(size), MIX0)
    if size >= 8:
        p = at
        last = at + size - 8
        while p < last:
            h = fold_multiply(h ^ load64(buf, p), MIX1)
            p += 8
        h = fold_multiply(h ^ load64(buf, last), MIX2)
    else:
        tail = np.uint64(0)
        for i in range(size):
            tail = (tail << np.uint64(8)) | np.uint64(load8(buf, at + i))
        h = fold_multiply(h ^ tail, MIX2)
    if h == 0:
        h = np.uint64(1)
    return h


@helper
def same_bytes(a, at_a, b, at_b, size):
    i = 0
    while i + 8 <= size:
        if load64(a, at_a + i) != load64(b, at_b + i):
            return False
        i += 8
    while i < size:
        if load8(a, at_a + i) != load8(b, at_b + i):
            return False
        i += 1
    return True


@helper
def compact_size_bytes(value):
    """How many bytes CompactSize takes for `value`."""
    if value < 253:
        return 1
    if value < 0x10000:
        return 3
    return 5
