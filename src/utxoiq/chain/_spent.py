"""Spent outputs from both serialisations of Bitcoin Core, to columns: one row an input of the block.

REST `spenttxouts`: CompactSize counts and plain CTxOut. `CBlockUndo` (rev files; `undo.h`, `compressor.cpp`):
counts, coin height and coinbase flag, compressed amounts and scripts; scripts are written out whole to an arena.
"""

from __future__ import annotations

from numba import types as nt

from utxoiq.chain._jit import BYTES, I32, I64, U8, U32, U64, helper, kernel
from utxoiq.chain._llvm import copy, load8, load64_signed
from utxoiq.chain._script import PUBKEY, PUBKEYHASH, SCRIPTHASH, classify, script_key
from utxoiq.chain._walk import (
    CAPACITY,
    COINBASE_SPENDS,
    HEIGHT,
    INPUT_COUNT,
    LEFTOVER,
    MONEY,
    NOT_CANONICAL,
    SCRIPT_SIZE,
    TRUNCATED,
    TX_COUNT,
    compact_size,
)
from utxoiq.units import MAX_MONEY

UNKNOWN_HEIGHT = -1
UNKNOWN_FLAG = 255
MAX_SCRIPT_SIZE = 10_000


@helper
def no_spend(k, value, offset, length, kind, key):
    value[k] = 0
    offset[k] = 0
    length[k] = 0
    kind[k] = 0
    key[k] = 0


@kernel(nt.int64(BYTES, U32, nt.int64, I64, U32, U32, U8, U64, I64, I64))
def read_spenttxouts(buf, first_in, n_tx, value, offset, length, kind, key, tx_value_in, info):
    """Fill the columns from REST bytes; scripts stay where they are in `buf`. The coinbase's row is zero.

    Returns 0, or an error code with its position in info[0].
    """
    n = buf.shape[0]
    info[0] = 0
    count, p = compact_size(buf, 0, n)
    if p < 0:
        return p
    if count != n_tx:
        return TX_COUNT
    info[0] = p
    count, after = compact_size(buf, p, n)
    if after < 0:
        return after
    if count != 0:
        return COINBASE_SPENDS
    p = after
    no_spend(0, value, offset, length, kind, key)
    tx_value_in[0] = 0
    k = 1
    for t in range(1, n_tx):
        info[0] = p
        count, after = compact_size(buf, p, n)
        if after < 0:
            return after
        if count != first_in[t + 1] - first_in[t]:
            return INPUT_COUNT
        p = after
        total = 0
        for _ in range(count):
            info[0] = p
            if n - p < 9:
                return TRUNCATED
            amount = load64_signed(buf, p)
            size, after = compact_size(buf, p + 8, n)
            if after < 0:
                return after
            if size > n - after:
                return TRUNCATED
            total += amount
            if amount < 0 or amount > MAX_MONEY or total > MAX_MONEY:
                return MONEY
            value[k] = amount
            offset[k] = after
            length[k] = size
            kind[k] = classify(buf, after, size)
            key[k] = script_key(buf, after, size)
            k += 1
            p = after + size
        tx_value_in[t] = total
    info[0] = p
    return 0 if p == n else LEFTOVER


@helper
def varint(buf, p, n):
    """Core's base-128 VARINT at p: (value, next position or an error code). Values stay below 2**57."""
    value = 0
    while True:
        if p >= n:
            return 0, TRUNCATED
        if value > 1 << 48:
            return 0, NOT_CANONICAL
        byte = load8(buf, p)
        p += 1
        value = (value << 7) | (byte & 127)
        if byte < 128:
            return value, p
        value += 1


@helper
def decompress_amount(x):
    """Core's DecompressAmount, or -1 where the amount is beyond 21 million BTC."""
    if x == 0:
        return 0
    x -= 1
    exponent = x % 10
    x //= 10
    if exponent < 9:
        digit = x % 9 + 1
        amount = x // 9 * 10 + digit
    else:
        amount = x + 1
    for _ in range(exponent):
        if amount > MAX_MONEY:
            return -1
        amount *= 10
    return amount if amount <= MAX_MONEY else -1


@helper
def write_script(buf, p, code, size, arena, at):
    """Write the script with compression code `code` (its payload is buf[p:p+size]) to the arena: its length."""
    if code == 0:
        arena[at] = 0x76
        arena[at + 1] = 0xA9
        arena[at + 2] = 20
        copy(arena, at + 3, buf, p, 20)
        arena[at + 23] = 0x88
        arena[at + 24] = 0xAC
        return 25
    if code == 1:
        arena[at] = 0xA9
        arena[at + 1] = 20
        copy(arena, at + 2, buf, p, 20)
        arena[at + 22] = 0x87
        return 23
    if code < 4:
        arena[at] = 33
        arena[at + 1] = code
        copy(arena, at + 2, buf, p, 32)
        arena[at + 34] = 0xAC
        return 35
    if code < 6:  # uncompressed key: x now, y by the caller, who finds the parity in the header byte
        arena[at] = 65
        arena[at + 1] = code
        copy(arena, at + 2, buf, p, 32)
        arena[at + 66] = 0xAC
        return 67
    copy(arena, at, buf, p, size)
    return size


@kernel(nt.int64(BYTES, U32, nt.int64, U8, I64, U32, U32, U8, U64, I32, U8, I64, U32, I64))
def read_undo(
    buf, first_in, n_tx, arena, value, offset, length, kind, key, height, coinbase, tx_value_in, to_solve, info
):  # fmt: skip
    """Fill the columns from CBlockUndo bytes, writing scripts to `arena`. The coinbase's row is zero.

    Uncompressed public keys need their y: their rows are noted in `to_solve` (info[1] of them) with 4 or 5 where the
    key's header byte goes. Returns 0, or an error code with its position in info[0]; info[2] is the arena's use.
    """
    n = buf.shape[0]
    info[0] = 0
    info[1] = 0
    count, p = compact_size(buf, 0, n)
    if p < 0:
        return p
    if count != n_tx - 1:
        return TX_COUNT
    no_spend(0, value, offset, length, kind, key)
    height[0] = UNKNOWN_HEIGHT
    coinbase[0] = UNKNOWN_FLAG
    tx_value_in[0] = 0
    k = 1
    at = 0
    for t in range(1, n_tx):
        info[0] = p
        count, after = compact_size(buf, p, n)
        if after < 0:
            return after
        if count != first_in[t + 1] - first_in[t]:
            return INPUT_COUNT
        p = after
        total = 0
        for _ in range(count):
            info[0] = p
            code, p = varint(buf, p, n)
            if p < 0:
                return p
            if code > 0xFFFFFFFF:
                return HEIGHT
            if code > 1:
                _, p = varint(buf, p, n)
                if p < 0:
                    return p
            packed, p = varint(buf, p, n)
            if p < 0:
                return p
            amount = decompress_amount(packed)
            total += amount
            if amount < 0 or total > MAX_MONEY:
                return MONEY
            form, p = varint(buf, p, n)
            if p < 0:
                return p
            size = 20 if form < 2 else (32 if form < 6 else form - 6)
            if size > MAX_SCRIPT_SIZE:
                return SCRIPT_SIZE
            if size > n - p:
                return TRUNCATED
            if at + size + 35 > arena.shape[0]:
                return CAPACITY
            written = write_script(buf, p, form, size, arena, at)
            p += size
            value[k] = amount
            offset[k] = at
            length[k] = written
            height[k] = code >> 1
            coinbase[k] = code & 1
            if form == 0:
                kind[k] = PUBKEYHASH
            elif form == 1:
                kind[k] = SCRIPTHASH
            elif form < 6:
                kind[k] = PUBKEY
            else:
                kind[k] = classify(arena, at, written)
            if form == 4 or form == 5:
                to_solve[info[1]] = k
                info[1] += 1
            else:
                key[k] = script_key(arena, at, written)
            at += written
            k += 1
        tx_value_in[t] = total
    info[0] = p
    info[2] = at
    return 0 if p == n else LEFTOVER
