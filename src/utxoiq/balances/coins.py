"""The coins of a UTXO snapshot, as Bitcoin Core's `dumptxoutset` writes it, in the order it hashes them."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np

from utxoiq.balances._coins import LARGEST_COIN, read_coins, read_script
from utxoiq.balances.errors import SnapshotRefused, disk_errors
from utxoiq.chain._walk import CAPACITY, REASONS
from utxoiq.chain.hashes import Hash256
from utxoiq.chain.secp256k1 import lift_x

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from utxoiq.chain.network import Network

HEADER = struct.Struct("<5sH4s32sQ")
MAGIC, VERSION = b"utxo\xff", 2
"""Since Bitcoin Core 28 (node/utxo_snapshot.h)."""
CHUNK = 1 << 18
"""Coins read at once."""
ARENA = 96 * CHUNK
"""Bytes for them as they are hashed: a usual coin takes 75. What fits no more is in the next chunk."""


@dataclass(frozen=True, slots=True)
class Coins:
    """A chunk of coins, one row each. Script i is arena[script[i]:][:length[i]]."""

    arena: NDArray[np.uint8]
    position: NDArray[np.int64]
    """Where in the file the coin is."""
    sat: NDArray[np.int64]
    script: NDArray[np.uint32]
    length: NDArray[np.uint32]


class Snapshot:
    """An open snapshot: its header, then `chunks`, once, after which `hash_serialized` is known."""

    def __init__(self, path: Path, network: Network, height: int) -> None:
        """`height` is that of its base block, which the file does not say. Raises SnapshotRefused for a file that is no
        snapshot of this network, LedgerUnavailable where it can't be read."""
        self.path, self._height = path, height
        with disk_errors(path), path.open("rb") as file:
            head = file.read(HEADER.size)
            if len(head) < HEADER.size:
                raise SnapshotRefused(f"{path}: is no UTXO snapshot (only {len(head)} bytes)")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._data = np.frombuffer(self._map, np.uint8)
        magic, version, net, base, self.count = HEADER.unpack(head)
        if magic != MAGIC or version != VERSION:
            raise SnapshotRefused(f"{path}: is no UTXO snapshot of version {VERSION}; make one with dumptxoutset")
        if net != network.magic:
            raise SnapshotRefused(f"{path}: is a snapshot of another network than {network.name}")
        self.base = Hash256(base)
        self._digest = sha256()

    @property
    def hash_serialized(self) -> Hash256:
        """What `gettxoutsetinfo` calls hash_serialized_3, of all chunks given so far."""
        return Hash256(sha256(self._digest.digest()).digest())

    def chunks(self) -> Iterator[Coins]:
        """All coins, in order; each chunk is gone when the next is asked for. Raises SnapshotRefused."""
        size = min(CHUNK, self.count + 1)
        arena, info = np.empty(ARENA, np.uint8), np.zeros(5, np.int64)
        position, sat = np.empty((2, size), np.int64)
        script, length, vout, to_solve = np.empty((4, size), np.uint32)
        at, left = HEADER.size, self.count
        while left:
            rows = read_coins(
                self._data, at, left, self._height, arena, position, sat, script, length, vout, to_solve, info
            )
            if rows < 0:
                raise self._refusal(REASONS[rows] if rows != CAPACITY else "a transaction with too many coins", info[0])
            at, left = self._release(at, int(info[1])), left - rows
            for row in to_solve[: info[3]].tolist():
                self._solve(arena, int(script[row]))
            found = Coins(arena, position[:rows], sat[:rows], script[:rows], length[:rows])
            self._digest.update(_in_order(found, vout[:rows]) if info[4] else arena[: info[2]].data)
            yield found
        if at != len(self._data):
            raise self._refusal("leftover bytes", at)

    def _release(self, start: int, end: int) -> int:
        """Give what was read back to the system; gives `end`."""
        first, last = start // mmap.PAGESIZE * mmap.PAGESIZE, end // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first:
            self._map.madvise(mmap.MADV_DONTNEED, first, last - first)
        return end

    def script_at(self, position: int) -> bytes:
        """The script of the coin there, which has been read before."""
        arena, info = np.empty(LARGEST_COIN, np.uint8), np.zeros(2, np.int64)
        form = read_script(self._data, position, arena, info)
        start, length = int(info[0]), int(info[1])
        if form in {4, 5}:
            self._solve(arena, start)
        return arena[start : start + length].tobytes()

    def _solve(self, arena: NDArray[np.uint8], script: int) -> None:
        """Core stores an uncompressed key as x and the parity of y; put the whole key back."""
        odd = int(arena[script + 1]) & 1
        y = lift_x(int.from_bytes(arena[script + 2 : script + 34].tobytes(), "big"), odd)
        if y is None:
            raise self._refusal("a compressed public key that is no point of the curve", None)
        arena[script + 1] = 4
        arena[script + 34 : script + 66] = np.frombuffer(y.to_bytes(32, "big"), np.uint8)

    def _refusal(self, reason: str, position: int | None) -> SnapshotRefused:
        where = "" if position is None else f" at byte {position}"
        return SnapshotRefused(f"{self.path}: {reason}{where}; make the snapshot again")


def _in_order(coins: Coins, vout: NDArray[np.uint32]) -> bytes:
    """The bytes that are hashed where the file has the coins of a transaction in another order than by index: it is in
    the order of the database's keys, which differs from index 16,512 on."""
    starts = coins.script.astype(np.int64) - np.where(coins.length < 253, 49, 51)
    ends = coins.script.astype(np.int64) + coins.length
    ids = coins.arena[starts[:, None] + np.arange(32)]
    transaction = np.cumsum(np.r_[False, (ids[1:] != ids[:-1]).any(axis=1)])
    order = np.lexsort((vout, transaction)).tolist()
    return b"".join(coins.arena[starts[i] : ends[i]].tobytes() for i in order)
