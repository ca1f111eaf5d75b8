# mypy: ignore-errors
"""Kernels that read a UTXO snapshot: coins to the bytes their hash is over, and those to records by range of keys.

In the file: for each transaction its id, a CompactSize count, and for each coin a CompactSize index, VARINT
height * 2 + coinbase, compressed amount, compressed script (Core, rpc/blockchain.cpp, WriteUTXOSnapshot; coins.h;
compressor.h). Hashed, in order: id, uint32 index, uint32 height * 2 + coinbase, CTxOut
(kernel/coinstats.cpp, TxOutSer).
"""

from __future__ import annotations

import numpy as np
from numba import types as nt

from utxoiq.balances._siphash import siphash
from utxoiq.balances._table import WORDS, holds, make_room, place
from utxoiq.chain._jit import BYTES, I64, U8, U32, U64, helper, kernel
from utxoiq.chain._llvm import copy
from utxoiq.chain._spent import MAX_SCRIPT_SIZE, decompress_amount, varint, write_script
from utxoiq.chain._walk import CAPACITY, HEIGHT, MONEY, NOT_CANONICAL, SCRIPT_SIZE, TRUNCATED, compact_size

LARGEST_COIN = 36 + 4 + 8 + 3 + MAX_SCRIPT_SIZE
"""Bytes the hash is over, for one coin."""


@helper
def range_of(first, shift):
    """The range of a key; a shift of 64 means there is only one."""
    return 0 if shift == 64 else np.int64(first >> shift)


@helper
def store(out, at, value, size):
    for i in range(size):
        out[at + i] = (value >> (8 * i)) & 255


@helper
def write_coin(buf, p, n, txid, vout, arena, at, max_height):
    """The coin at p, as it is hashed, to the arena: (where in the file it ends or an error code, where in the arena,
    its amount, where its script is, how long, and in which form it was)."""
    code, p = varint(buf, p, n)
    if p < 0:
        return p, at, 0, 0, 0, 0
    if code >> 1 > max_height:
        return HEIGHT, at, 0, 0, 0, 0
    packed, p = varint(buf, p, n)
    if p < 0:
        return p, at, 0, 0, 0, 0
    sat = decompress_amount(packed)
    if sat < 0:
        return MONEY, at, 0, 0, 0, 0
    form, p = varint(buf, p, n)
    if p < 0:
        return p, at, 0, 0, 0, 0
    size = 20 if form < 2 else (32 if form < 6 else form - 6)
    if size > MAX_SCRIPT_SIZE:
        return SCRIPT_SIZE, at, 0, 0, 0, 0
    if size > n - p:
        return TRUNCATED, at, 0, 0, 0, 0
    copy(arena, at, buf, txid, 32)
    store(arena, at + 32, vout, 4)
    store(arena, at + 36, code, 4)
    store(arena, at + 40, sat, 8)
    whole = 25 if form == 0 else (23 if form == 1 else (35 if form < 4 else (67 if form < 6 else size)))
    if whole < 253:
        arena[at + 48] = whole
        script = at + 49
    else:
        arena[at + 48] = 253
        store(arena, at + 49, whole, 2)
        script = at + 51
    write_script(buf, p, form, size, arena, script)
    return p + size, script + whole, sat, script, whole, form


@kernel(nt.int64(BYTES, nt.int64, nt.int64, nt.int64, U8, I64, I64, U32, U32, U32, U32, I64))
def read_coins(buf, p, left, max_height, arena, position, sat, script, length, vout, to_solve, info):
    """Read whole transactions from buf[p:] until `left` coins are read or a column or the arena is full.

    Rows whose public key needs its y are noted in `to_solve`. Returns the number of rows, or an error code with its
    position in info[0]; info[1] is where in the file it ended, info[2] the arena's use, info[3] the rows to solve, and
    info[4] is 1 where some transaction's coins are not in order of their index.
    """
    n = buf.shape[0]
    rows = 0
    at = 0
    info[3] = 0
    info[4] = 0
    while rows < left:
        info[0] = p
        start = p
        first_row = rows
        first_at = at
        if n - p < 33:
            return TRUNCATED
        count, p = compact_size(buf, p + 32, n)
        if p < 0:
            return p
        if count == 0 or count > left - rows:
            return NOT_CANONICAL
        for _ in range(count):
            if rows == sat.shape[0] or at + LARGEST_COIN > arena.shape[0]:
                info[1] = start
                info[2] = first_at
                return first_row if first_row else CAPACITY
            info[0] = p
            index, p = compact_size(buf, p, n)
            if p < 0:
                return p
            position[rows] = p
            vout[rows] = index
            if rows > first_row and index <= vout[rows - 1]:
                info[4] = 1
            p, after, sat[rows], where, size, form = write_coin(buf, p, n, start, index, arena, at, max_height)
            if p < 0:
                return p
            at = after
            script[rows] = where
            length[rows] = size
            if form == 4 or form == 5:
                to_solve[info[3]] = rows
                info[3] += 1
            rows += 1
    info[1] = p
    info[2] = at
    return rows


@kernel(nt.int64(BYTES, nt.int64, U8, I64))
def read_script(buf, p, arena, info):
    """The script of the coin at p to arena[info[0]:][:info[1]]; returns its form, or an error code."""
    p, _, _, info[0], info[1], form = write_coin(buf, p, buf.shape[0], p, 0, arena, 0, np.int64(2**31 - 1))
    return p if p < 0 else form


@kernel(nt.int64(U64, U8, nt.int64, I64, I64, U32, U32, nt.uint64, U64, U64, I64))
def spread(secret, arena, rows, position, sat, script, length, shift, keys, records, ends):
    """The coins as records, ordered by the top bits of their keys: those of range r end at ends[r].

    A record is the key, the amount, and where the coin is in the file. Returns the sum of all amounts.
    """
    ends[:] = 0
    total = 0
    for i in range(rows):
        first, second = siphash(secret[0], secret[1], arena, np.int64(script[i]), np.int64(length[i]))
        keys[2 * i] = first
        keys[2 * i + 1] = second
        ends[range_of(first, shift)] += 1
        total += sat[i]
    before = 0
    for r in range(ends.shape[0]):
        before += ends[r]
        ends[r] = before - ends[r]
    for i in range(rows):
        r = range_of(keys[2 * i], shift)
        at = 4 * ends[r]
        ends[r] += 1
        records[at] = keys[2 * i]
        records[at + 1] = keys[2 * i + 1]
        records[at + 2] = np.uint64(sat[i])
        records[at + 3] = np.uint64(position[i])
    return total


@kernel(nt.int64(WORDS, U64, nt.uint64))
def add_up(records, table, shift):
    """Put records into an empty table whose shift leaves the range's own bits out, adding amounts of equal keys: -1
    where it is full, else 0."""
    for i in range(0, records.shape[0], 4):
        at = place(table, shift, records[i], records[i + 1])
        if not holds(table, at, records[i], records[i + 1]):
            if not make_room(table, at):
                return -1
            for k in range(4):
                table[at + k] = records[i + k]
        else:
            table[at + 2] += records[i + 2]
    return 0
