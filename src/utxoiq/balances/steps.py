"""A step: one block connected or disconnected, with every record it changed as it was and as it became.

    136 bytes  header: magic, kind (C or D), number, height, block hash, parent's hash, changed records, bytes of
               scripts, digest of the body; then its own digest
    body       keys, values before, values after (16 bytes each a record), then scripts: row, length, bytes of those
               that held enough before or after to be kept

Going forward again is writing the values after; undoing it is a new step with before and after exchanged.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from utxoiq.balances.files import DIGEST, digest_of
from utxoiq.balances.records import Change
from utxoiq.chain.hashes import Hash256

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC = b"uqLJ"
HEADER = struct.Struct("<4s4sQQ32s32sQQ16s")
HEAD_SIZE = HEADER.size + DIGEST
ROW = struct.Struct("<II")
CONNECT, DISCONNECT = b"C", b"D"


@dataclass(frozen=True, slots=True)
class Head:
    """What a step is about, and how long it is."""

    kind: bytes
    serial: int
    height: int
    block_hash: Hash256
    prev_hash: Hash256
    count: int
    script_bytes: int
    digest: bytes

    @property
    def body_size(self) -> int:
        return 48 * self.count + self.script_bytes

    @property
    def tip(self) -> tuple[int, Hash256] | None:
        """(height, hash) of the tip after this step."""
        if self.kind == CONNECT:
            return self.height, self.block_hash
        return (self.height - 1, self.prev_hash) if self.height else None

    def pack(self) -> bytes:
        """Its bytes."""
        head = HEADER.pack(
            MAGIC, self.kind, self.serial, self.height, self.block_hash, self.prev_hash, self.count, self.script_bytes,
            self.digest,
        )  # fmt: skip
        return head + digest_of(head)


def read_head(raw: bytes) -> Head | None:
    """The head these bytes begin with, or None where they are not what was written."""
    if len(raw) < HEAD_SIZE or digest_of(raw[: HEADER.size]) != raw[HEADER.size : HEAD_SIZE]:
        return None
    magic, kind, serial, height, block_hash, prev_hash, count, script_bytes, digest = HEADER.unpack_from(raw)
    if magic != MAGIC:
        return None
    return Head(kind[:1], serial, height, Hash256(block_hash), Hash256(prev_hash), count, script_bytes, digest)


@dataclass(frozen=True, slots=True)
class Step:
    """A step and what it changed: arrays of shape (n, 2), the values are sat and heights, in order of keys."""

    head: Head
    keys: NDArray[np.uint64]
    before: NDArray[np.uint64]
    after: NDArray[np.uint64]
    scripts: bytes

    def parts(self) -> list[bytes | memoryview]:
        """Its bytes, in parts, behind a head with their digest."""
        arrays = [array.reshape(-1).view(np.uint8).data for array in (self.keys, self.before, self.after)]
        body: list[bytes | memoryview] = [*(array for array in arrays if array.nbytes), self.scripts]
        return [replace(self.head, digest=digest_of(*body)).pack(), *body]

    def changes(self, at_least: int) -> Iterator[Change]:
        """What it did to the kept scripts that held so much before or after."""
        for row, script in self.kept():
            before, after = int(self.before[row, 0]), int(self.after[row, 0])
            if max(before, after) >= at_least:
                yield Change(script, before, after)

    def kept(self) -> Iterator[tuple[int, bytes]]:
        """Row and script of those whose bytes were kept."""
        at = 0
        while at < len(self.scripts):
            row, length = ROW.unpack_from(self.scripts, at)
            at += ROW.size
            yield row, self.scripts[at : at + length]
            at += length


def read_step(head: Head, body: bytes) -> Step | None:
    """The step with this head and body, or None where the body is not what was written."""
    if len(body) != head.body_size or digest_of(body) != head.digest:
        return None
    words = np.frombuffer(body, np.uint64, 6 * head.count).reshape(3, head.count, 2)
    return Step(head, words[0], words[1], words[2], body[48 * head.count :])


def pack_scripts(rows: Iterator[tuple[int, bytes]]) -> bytes:
    """Rows and scripts as a step keeps them."""
    return b"".join(ROW.pack(row, len(script)) + script for row, script in rows)


def undone(step: Step, serial: int) -> Step:
    """The step that takes `step` back."""
    head = replace(step.head, kind=DISCONNECT, serial=serial)
    return Step(head, step.keys, step.after, step.before, step.scripts)
