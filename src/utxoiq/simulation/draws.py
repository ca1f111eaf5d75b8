"""Random draws that give the same bits on any machine: no `hash()`, no clock, no mathematics library."""

from __future__ import annotations

from hashlib import sha256
from random import Random

DAY = 144
"""Blocks in a day, at ten minutes each."""


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


def daily_wave(step: int) -> float:
    """-1 to 1 over a day of blocks: Bhaskara's sine, which is four operations every machine rounds alike."""
    second_half, phase = divmod(step % DAY, DAY // 2)
    x = phase / (DAY // 2)
    rise = 16 * x * (1 - x) / (5 - 4 * x * (1 - x))
    return -rise if second_half else rise
