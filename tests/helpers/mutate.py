"""Damaged copies of real bytes, the same ones for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

EDGES = (0, 1, 2, 75, 76, 127, 128, 252, 253, 254, 255)


def mutations(original: bytes, count: int, seed: int, start: int = 0) -> Iterator[bytes]:
    """`count` damaged copies of `original`, damaged from byte `start` on."""
    random = Random(f"{seed} {len(original)} {count}")
    for _ in range(count):
        yield _mutated(original, random, start)


def _mutated(original: bytes, random: Random, start: int) -> bytes:
    data = bytearray(original)
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        at = random.randrange(start, max(start + 1, len(data)))
        # half of all damage goes near the beginning, where the counts are
        if random.random() < 0.5:
            at = min(at, start + random.randrange(600))
        kind = random.randrange(12)
        if kind < 7:
            data[at : at + 1] = bytes([random.choice(EDGES) if kind < 4 else random.randrange(256)])
        elif kind == 7:
            del data[at:]
        elif kind == 8:
            del data[at : at + random.randrange(1, 9)]
        elif kind == 9:
            data[at:at] = random.randbytes(random.randrange(1, 9))
        elif kind == 10:
            data[at:at] = data[at : at + random.randrange(1, 80)]
        else:
            data[at : at + 8] = random.choice((0, 1, 2**63, 2**64 - 1, 2_100_000_000_000_001)).to_bytes(8, "little")
    return bytes(data)
