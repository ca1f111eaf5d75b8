"""Kernels that put millions of scripts in order, and compare two such orders without an object for any of them.

The order is by 64-bit key and then by the bytes themselves, a beginning before what it begins.
"""

from __future__ import annotations

from numba import types as nt

from utxoiq.chain._jit import BYTES, I32, I64, U8, U64, helper, kernel
from utxoiq.chain._llvm import copy, load8
from utxoiq.chain._script import script_key
from utxoiq.entities._lookup import OFFSETS, ROWS


@helper
def compared(a, start_a, end_a, b, start_b, end_b):
    """Below, at or above zero as the bytes a[start_a:end_a] come before, equal or come after those of b."""
    for i in range(min(end_a - start_a, end_b - start_b)):
        difference = load8(a, start_a + i) - load8(b, start_b + i)
        if difference:
            return difference
    return (end_a - start_a) - (end_b - start_b)


@helper
def compared_rows(a, a_offsets, i, b, b_offsets, j):
    return compared(a, a_offsets[i], a_offsets[i + 1], b, b_offsets[j], b_offsets[j + 1])


@kernel(nt.void(BYTES, OFFSETS, U64))
def keys_of(blob, offsets, keys):
    """keys[i] of script i; blobs may be larger than 4 GiB."""
    for i in range(keys.shape[0]):
        keys[i] = script_key(blob, offsets[i], offsets[i + 1] - offsets[i])


@kernel(nt.void(U64, I64, BYTES, OFFSETS, ROWS, ROWS, U8, I64))
def settle(keys, order, blob, offsets, label, owner, fate, totals):
    """Sort runs of equal keys in `order` (by key already) by their bytes, and tell for each place in it what it is:
    fate[p] = 0 where its script repeats the one before, 1 where it is the first of a script with one owner, 2 where it
    is the first of a script with several. totals[0:2] are how many are 1, and their bytes. `owner` is that of each
    label."""
    n = order.shape[0]
    totals[0] = 0
    totals[1] = 0
    start = 0
    while start < n:
        end = start + 1
        while end < n and keys[order[end]] == keys[order[start]]:
            row = order[end]
            p = end
            while p > start and compared_rows(blob, offsets, order[p - 1], blob, offsets, row) > 0:
                order[p] = order[p - 1]
                p -= 1
            order[p] = row
            end += 1
        first = start
        while first < end:
            one = order[first]
            same = first + 1
            alone = True
            while same < end and compared_rows(blob, offsets, one, blob, offsets, order[same]) == 0:
                alone &= owner[label[order[same]]] == owner[label[one]]
                fate[same] = 0
                same += 1
            fate[first] = 1 if alone else 2
            if alone:
                totals[0] += 1
                totals[1] += offsets[one + 1] - offsets[one]
            first = same
        start = end


@kernel(nt.void(I64, U8, BYTES, OFFSETS, ROWS, U8, I64, I32))
def gather(order, fate, blob, offsets, label, out_blob, out_offsets, out_label):
    """Lay the kept scripts end to end in `out_blob`, with offsets and labels, in order."""
    row = 0
    to = 0
    for p in range(order.shape[0]):
        if fate[p] == 1:
            source = order[p]
            out_offsets[row] = to
            out_label[row] = label[source]
            size = offsets[source + 1] - offsets[source]
            copy(out_blob, to, blob, offsets[source], size)
            to += size
            row += 1
    out_offsets[row] = to


@kernel(
    nt.int64(BYTES, OFFSETS, ROWS, U64, ROWS, BYTES, OFFSETS, ROWS, U64, ROWS, nt.boolean, I64, I64)
)  # fmt: skip
def differences(
    old, old_offsets, old_label, old_keys, old_owner, new, new_offsets, new_label, new_keys, new_owner, write,
    old_row, new_row,
):  # fmt: skip
    """Rows of scripts whose owner is not the same in two ordered sets, -1 on the side that has none. Returns their
    number; fills old_row and new_row only if `write`. Owners are numbered alike on both sides."""
    i = 0
    j = 0
    found = 0
    n = old_keys.shape[0]
    m = new_keys.shape[0]
    while i < n or j < m:
        if i == n:
            order = 1
        elif j == m:
            order = -1
        elif old_keys[i] != new_keys[j]:
            order = -1 if old_keys[i] < new_keys[j] else 1
        else:
            order = compared_rows(old, old_offsets, i, new, new_offsets, j)
        if order or old_owner[old_label[i]] != new_owner[new_label[j]]:
            if write:
                old_row[found] = i if order <= 0 else -1
                new_row[found] = j if order >= 0 else -1
            found += 1
        if order <= 0:
            i += 1
        if order >= 0:
            j += 1
    return found
