"""SHA-256 of one block, in plain operations: for kernels that must run where there are no SHA instructions."""

from __future__ import annotations

import numpy as np

from utxoiq.chain._jit import helper


def _roots(count: int, root: int) -> np.ndarray:
    """The first 32 bits of the fractions of the roots (2: square, 3: cube) of the first primes (FIPS 180-4)."""
    primes = [n for n in range(2, 312) if all(n % d for d in range(2, n))][:count]
    return np.array([_integer_root(p << 32 * root, root) & 0xFFFFFFFF for p in primes], np.uint32)


def _integer_root(value: int, root: int) -> int:
    low, high = 0, 1 << 64
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**root <= value else (low, middle)
    return low


ROUNDS = _roots(64, 3)
INITIAL = _roots(8, 2)


@helper
def rotated(x, n):
    return (x >> np.uint32(n)) | (x << np.uint32(32 - n))


@helper
def compress(s):
    """SHA-256 of the one block s[0:16], from the initial state, to s[16:24]. The block is spoilt."""
    a = INITIAL[0]
    b = INITIAL[1]
    c = INITIAL[2]
    d = INITIAL[3]
    e = INITIAL[4]
    f = INITIAL[5]
    g = INITIAL[6]
    h = INITIAL[7]
    for i in range(64):
        if i >= 16:
            x = s[(i + 1) & 15]
            y = s[(i + 14) & 15]
            low = rotated(x, 7) ^ rotated(x, 18) ^ (x >> np.uint32(3))
            high = rotated(y, 17) ^ rotated(y, 19) ^ (y >> np.uint32(10))
            s[i & 15] = np.uint32(s[i & 15] + low + s[(i + 9) & 15] + high)
        mix = rotated(e, 6) ^ rotated(e, 11) ^ rotated(e, 25)
        t1 = np.uint32(h + mix + ((e & f) ^ (~e & g)) + ROUNDS[i] + s[i & 15])
        t2 = np.uint32((rotated(a, 2) ^ rotated(a, 13) ^ rotated(a, 22)) + ((a & b) ^ (a & c) ^ (b & c)))
        h = g
        g = f
        f = e
        e = np.uint32(d + t1)
        d = c
        c = b
        b = a
        a = np.uint32(t1 + t2)
    for i in range(8):
        v = a
        if i == 1:
            v = b
        elif i == 2:
            v = c
        elif i == 3:
            v = d
        elif i == 4:
            v = e
        elif i == 5:
            v = f
        elif i == 6:
            v = g
        elif i == 7:
            v = h
        s[16 + i] = np.uint32(INITIAL[i] + v)
