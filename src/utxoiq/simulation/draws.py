"""Random draws that give the same bits on any machine: no `hash()`, no clock, no mathematics library."""

from __future__ import annotations

from fractions import Fraction
from hashlib import sha256
from math import isqrt
from random import Random

DAY, WEEK = 144, 1008
"""Blocks in a day and in a week, at ten minutes each."""
ONE = 1 << 64
"""1 in the fixed point of `log_uniform`."""
HALVINGS = 24
"""Binary digits of the exponent it draws."""


def stream(seed: int, name: str) -> Random:
    """A generator for one part of the economy, independent of what the other parts draw."""
    digest = sha256(f"{seed}/{name}".encode()).digest()
    return Random(int.from_bytes(digest, "big"))  # noqa: S311 - not cryptography: it has to be foreseeable


def random_bytes(rng: Random, size: int) -> bytes:
    """`size` bytes; `Random.randbytes`, spelled in the method whose output Python promises to keep."""
    return rng.getrandbits(8 * size).to_bytes(size, "little")


def exponential(rng: Random) -> float:
    """One exponential draw of mean 1. Von Neumann's method needs comparisons only: `math.log` differs by platform."""
    whole = 0
    while True:
        first = last = rng.random()
        falls = 0
        while (draw := rng.random()) < last:
            last, falls = draw, falls + 1
        if falls % 2 == 0:
            return whole + first
        whole += 1


def log_uniform(rng: Random, low: Fraction | int, high: Fraction | int) -> float:
    """One draw between `low` and `high` (0 < low <= high), each doubling as likely as any other.

    low * (high / low)^u, the binary digits of u drawn one by one: each that is 1 multiplies by the next square root of
    the ratio, in integers.
    """
    root, value = int(Fraction(high) / low * ONE), int(Fraction(low) * ONE)
    for _ in range(HALVINGS):
        root = isqrt(root * ONE)
        if rng.getrandbits(1):
            value = value * root // ONE
    return value / ONE


def spread(rng: Random, begin: int, end: int, count: int, gap: int) -> list[int]:
    """`count` steps of [begin, end) in order, `gap` apart at least; fewer where there is no room for as many."""
    count = min(count, max(0, end - begin - 1) // gap + 1 if end > begin else 0)
    room = end - begin - gap * (count - 1)
    return [begin + i * gap + offset for i, offset in enumerate(sorted(rng.randrange(room) for _ in range(count)))]


def wave(step: int, period: int) -> float:
    """-1 to 1 over `period` blocks: Bhaskara's sine, which is four operations every machine rounds alike."""
    second_half, phase = divmod(step % period, period // 2)
    x = phase / (period // 2)
    rise = 16 * x * (1 - x) / (5 - 4 * x * (1 - x))
    return -rise if second_half else rise
