# mypy: ignore-errors
"""A table in memory that is both hashed and sorted: records of four words (two of key, two of value) by linear
probing, where the place to begin grows with the key and neighbours are kept in order of their keys.

So a range of keys lies together, comes out sorted, and can be taken away without leaving marks (ordered hash tables:
Amble and Knuth, 1974). A slot whose second word is 0 is free. The last slots are spare: nothing begins there.
"""

from __future__ import annotations

import numpy as np
from numba import types as nt

from utxoiq.balances._siphash import siphash
from utxoiq.chain._jit import BYTES, U8, U32, U64, helper, kernel
from utxoiq.chain._llvm import load8, prefetch

MAX_SCRIPT_SIZE = 10_000
"""A longer script can't be spent (Core, script.h), so no coin has one."""
OP_RETURN = 0x6A
AHEAD = 8
VALUES, WORDS = (nt.Array(kind, 1, "C", readonly=True) for kind in (nt.int64, nt.uint64))


@helper
def place(table, shift, first, second):
    """Where a key is, or belongs: the first slot that is free, or has a key not smaller."""
    at = np.int64(first >> shift) * 4
    while table[at + 1] != 0 and (table[at] < first or (table[at] == first and table[at + 1] < second)):
        at += 4
    return at


@helper
def holds(table, at, first, second):
    return table[at] == first and table[at + 1] == second


@helper
def make_room(table, at):
    """Move what begins at `at` one slot up: False where the table is full."""
    end = at
    while table[end + 1] != 0:
        end += 4
    if end + 8 > table.shape[0]:
        return False
    while end > at:
        for i in range(4):
            table[end + i] = table[end - 4 + i]
        end -= 4
    return True


@kernel(nt.int64(U64, nt.uint64, WORDS, WORDS, U8))
def put(table, shift, keys, values, fresh):
    """Set keys[2 * i] to values[2 * i]; fresh[i] = 1 for a key that was not there. Returns how many, -1 for full."""
    added = 0
    for i in range(fresh.shape[0]):
        if i + AHEAD < fresh.shape[0]:
            prefetch(table, np.int64(keys[2 * (i + AHEAD)] >> shift) * 32)
        first = keys[2 * i]
        second = keys[2 * i + 1]
        at = place(table, shift, first, second)
        fresh[i] = 0
        if not holds(table, at, first, second):
            if not make_room(table, at):
                return -1
            table[at] = first
            table[at + 1] = second
            fresh[i] = 1
            added += 1
        table[at + 2] = values[2 * i]
        table[at + 3] = values[2 * i + 1]
    return added


@kernel(nt.void(U64, nt.uint64, WORDS, U64, U8))
def find(table, shift, keys, values, pending):
    """values[2 * i] of keys[2 * i] and pending[i] = 0 where it is there, else pending[i] = 1."""
    for i in range(pending.shape[0]):
        if i + AHEAD < pending.shape[0]:
            prefetch(table, np.int64(keys[2 * (i + AHEAD)] >> shift) * 32)
        at = place(table, shift, keys[2 * i], keys[2 * i + 1])
        pending[i] = 1
        if holds(table, at, keys[2 * i], keys[2 * i + 1]):
            values[2 * i] = table[at + 2]
            values[2 * i + 1] = table[at + 3]
            pending[i] = 0


@helper
def range_end(table, shift, last):
    """Behind all slots that may hold a key up to `last`."""
    at = np.int64(last >> shift) * 4 + 4
    while at < table.shape[0] and table[at + 1] != 0 and table[at] <= last:
        at += 4
    return at


@kernel(nt.int64(U64, nt.uint64, nt.uint64, nt.uint64, U64))
def collect(table, shift, first, last, records):
    """Copy the records with a first word of first to last, in order: how many."""
    n = 0
    for at in range(np.int64(first >> shift) * 4, range_end(table, shift, last), 4):
        if table[at + 1] != 0 and table[at] >= first and table[at] <= last:
            for i in range(4):
                records[4 * n + i] = table[at + i]
            n += 1
    return n


@kernel(nt.void(U64, nt.uint64, nt.uint64, nt.uint64))
def forget(table, shift, first, last):
    """Take away the records with a first word of first to last; those behind move to where they belong."""
    start = np.int64(first >> shift) * 4
    end = range_end(table, shift, last)
    for at in range(start, end, 4):
        if table[at] >= first and table[at] <= last:
            table[at + 1] = 0
    free = start
    at = start
    while at < table.shape[0] and (at < end or table[at + 1] != 0):
        if table[at + 1] != 0:
            home = np.int64(table[at] >> shift) * 4
            free = max(free, home)
            if free != at:
                for i in range(4):
                    table[free + i] = table[at + i]
                table[at + 1] = 0
            free += 4
        at += 4


@kernel(nt.int64(U64, nt.uint64, U64, BYTES, VALUES, U32, U32, nt.int64, nt.int64, nt.int64))
def tally(table, shift, secret, data, value, offset, length, begin, sign, side):
    """Add `sign` times the value of each output from row `begin` on to its script's record, which is: key, sum, and
    2 * row + side of an output with that script. Leaves out what can't be spent. Returns -1 where the table is full."""
    for row in range(begin, value.shape[0]):
        size = np.int64(length[row])
        at_script = np.int64(offset[row])
        if size > MAX_SCRIPT_SIZE or (size > 0 and load8(data, at_script) == OP_RETURN):
            continue
        first, second = siphash(secret[0], secret[1], data, at_script, size)
        at = place(table, shift, first, second)
        if not holds(table, at, first, second):
            if not make_room(table, at):
                return -1
            table[at] = first
            table[at + 1] = second
            table[at + 2] = 0
            table[at + 3] = np.uint64(2 * row + side)
        table[at + 2] = np.uint64(np.int64(table[at + 2]) + sign * value[row])
    return 0
