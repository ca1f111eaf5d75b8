# mypy: ignore-errors
"""Kernels over the pages of a run: 32 sorted records of four words each, with a sum of each page, the first word of
each page's first key (its fence), and a Bloom filter over all keys, so that most scripts the run does not have cost no
page."""

from __future__ import annotations

import numpy as np
from numba import types as nt

from utxoiq.balances._table import WORDS
from utxoiq.chain._jit import U8, U64, helper, kernel
from utxoiq.chain._llvm import fold_multiply

PAGE_RECORDS = 32
PAGE_WORDS = 4 * PAGE_RECORDS
PAGE = 8 * PAGE_WORDS
"""Bytes."""
BLOOM_RECORDS = 5
"""Records a word of the filter: with four bits each, three in a hundred absent keys get past it."""
ODD = (
    np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F),
    np.uint64(0x165667B19E3779F9), np.uint64(0xD6E8FEB86659FD93),
)  # fmt: skip
pread = nt.ExternalFunction("pread", nt.int64(nt.int32, nt.intp, nt.uint64, nt.int64))
"""POSIX. Why pages are not mapped: ADR 14."""


@helper
def page_sum(words, start, page, salt):
    """A 64-bit sum of the page at words[start:], in its place in its run: four lanes of wyhash's mixer."""
    a = salt ^ ODD[0]
    b = salt ^ ODD[1]
    c = np.uint64(page) ^ ODD[2]
    d = np.uint64(page) ^ ODD[3]
    for at in range(start, start + PAGE_WORDS, 8):
        a = fold_multiply(a ^ words[at], words[at + 1] ^ ODD[0])
        b = fold_multiply(b ^ words[at + 2], words[at + 3] ^ ODD[1])
        c = fold_multiply(c ^ words[at + 4], words[at + 5] ^ ODD[2])
        d = fold_multiply(d ^ words[at + 6], words[at + 7] ^ ODD[3])
    return fold_multiply(a ^ fold_multiply(c, ODD[0]), b ^ fold_multiply(d, ODD[1]))


@helper
def bloom_mask(second):
    """Four bits of a word."""
    one = np.uint64(1)
    low = np.uint64(63)
    mask = (one << (second & low)) | (one << ((second >> np.uint64(6)) & low))
    return mask | (one << ((second >> np.uint64(12)) & low)) | (one << ((second >> np.uint64(18)) & low))


@helper
def bloom_word(second, size):
    return np.int64((second >> np.uint64(24)) % np.uint64(size))


@helper
def enter(words, page, place, salt, fences, sums):
    """Fence and sum of a page, which is `place` in `words`."""
    fences[page] = words[place * PAGE_WORDS]
    sums[page] = page_sum(words, place * PAGE_WORDS, page, salt)


@helper
def enter_keys(words, count, bloom):
    for i in range(count):
        second = words[4 * i + 1]
        bloom[bloom_word(second, bloom.shape[0])] |= bloom_mask(second)


@kernel(nt.void(WORDS, WORDS, nt.int64, nt.uint64, U64, U64, U64))
def finish(whole, last, count, salt, fences, sums, bloom):
    """Fill in the tables of a run of `count` records: whole pages, and a last one that may be empty; `bloom` begins as
    zeros."""
    pages = whole.shape[0] // PAGE_WORDS
    for page in range(pages):
        enter(whole, page, page, salt, fences, sums)
    if last.shape[0]:
        enter(last, pages, 0, salt, fences, sums)
    enter_keys(whole, pages * PAGE_RECORDS, bloom)
    enter_keys(last, count - pages * PAGE_RECORDS, bloom)


@kernel(nt.int64(WORDS, nt.uint64, U64))
def verify(words, salt, sums):
    """-1, or the first page that is not what was written."""
    for page in range(sums.shape[0]):
        if page_sum(words, page * PAGE_WORDS, page, salt) != sums[page]:
            return page
    return -1


@helper
def search(words, start, end, first, second):
    """The record among start..end with this key, or -1."""
    while start < end:
        middle = (start + end) >> 1
        if words[4 * middle] < first or (words[4 * middle] == first and words[4 * middle + 1] < second):
            start = middle + 1
        else:
            end = middle
    return start


@helper
def page_of(fences, first):
    """The first page that can hold a key with this first word."""
    low = 0
    high = fences.shape[0]
    while low < high:
        middle = (low + high) >> 1
        if fences[middle] < first:
            low = middle + 1
        else:
            high = middle
    return max(low - 1, 0)


@kernel(nt.int64(nt.int32, nt.int64, nt.uint64, U64, U64, U64, WORDS, nt.int64, nt.int64, U8, U64, U64))
def lookup(file, count, salt, fences, sums, bloom, keys, begin, end, pending, values, buffer):
    """values[2 * i] of keys[2 * i], which are sorted, for each i in begin..end that is pending and in the run.

    Every page is verified whenever it is read, into `buffer`. Returns -1, or the page that is not what was written.
    """
    loaded = -1
    for i in range(begin, end):
        first = keys[2 * i]
        second = keys[2 * i + 1]
        mask = bloom_mask(second)
        if not pending[i] or bloom[bloom_word(second, bloom.shape[0])] & mask != mask:
            continue
        page = page_of(fences, first)
        while page < fences.shape[0] and fences[page] <= first:
            if page != loaded:
                if pread(file, buffer.ctypes.data, PAGE, PAGE * (page + 1)) != PAGE:
                    return page
                if page_sum(buffer, 0, page, salt) != sums[page]:
                    return page
                loaded = page
            stop = min(PAGE_RECORDS, count - page * PAGE_RECORDS)
            at = search(buffer, 0, stop, first, second)
            if at < stop:
                if buffer[4 * at] == first and buffer[4 * at + 1] == second:
                    values[2 * i] = buffer[4 * at + 2]
                    values[2 * i + 1] = buffer[4 * at + 3]
                break
            page += 1
    return -1


@helper
def append(out, n, source, i):
    for k in range(4):
        out[4 * n + k] = source[4 * i + k]
    return n + 1


@kernel(nt.int64(WORDS, nt.int64, WORDS, nt.int64, U64))
def merge(old, n_old, new, n_new, out):
    """Records of `old`, with those of `new` put in their places, and without those that hold nothing: how many."""
    n = 0
    i = 0
    for j in range(n_new):
        first = new[4 * j]
        second = new[4 * j + 1]
        while i < n_old and (old[4 * i] < first or (old[4 * i] == first and old[4 * i + 1] < second)):
            n = append(out, n, old, i)
            i += 1
        if i < n_old and old[4 * i] == first and old[4 * i + 1] == second:
            i += 1
        if new[4 * j + 2] != 0:
            n = append(out, n, new, j)
    while i < n_old:
        n = append(out, n, old, i)
        i += 1
    return n


@kernel(nt.boolean(WORDS, nt.int64))
def in_order(words, count):
    """Whether keys grow and every balance is above zero."""
    for i in range(count):
        if np.int64(words[4 * i + 2]) <= 0:
            return False
        if i and (
            words[4 * i - 4] > words[4 * i]
            or (words[4 * i - 4] == words[4 * i] and words[4 * i - 3] >= words[4 * i + 1])
        ):
            return False
    return True
