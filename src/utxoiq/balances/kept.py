"""The scripts of those that hold much, by key: the runs have only the hashes of scripts."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from utxoiq.balances.errors import LedgerDamaged, disk_errors
from utxoiq.balances.files import DIGEST, digest_of, sync, write_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from utxoiq.balances.steps import Step

ENTRY = struct.Struct("<16sI")


class KeptScripts:
    """Key (16 bytes) -> script of every record of at least `least` satoshis, and what it holds."""

    def __init__(self, least: int) -> None:
        self.least = least
        self.by_key: dict[bytes, bytes] = {}
        self.held: dict[bytes, int] = {}
        """Satoshis by the same keys; not in the file, so looked up once it is read."""

    def follow(self, step: Step) -> None:
        """Take up what a step brought over the limit, drop what it brought below."""
        for row, script in step.kept():
            key, sat = step.keys[row].tobytes(), int(step.after[row, 0])
            if sat >= self.least:
                self.by_key[key], self.held[key] = script, sat
            else:
                self.by_key.pop(key, None)
                self.held.pop(key, None)

    def look_up(self, values: Callable[[NDArray[np.uint64]], NDArray[np.uint64]]) -> None:
        """Take what each holds from `values`, which gives rows of sat and heights for keys."""
        keys = self.keys()
        held = values(keys)[:, 0].tolist()
        self.held = {key.tobytes(): sat for key, sat in zip(keys, held, strict=True)}

    def keys(self) -> NDArray[np.uint64]:
        """Their keys, sorted as the layers want them, of shape (n, 2)."""
        keys = np.frombuffer(b"".join(self.by_key), np.uint64).reshape(-1, 2)
        return np.ascontiguousarray(keys[np.lexsort((keys[:, 1], keys[:, 0]))])

    def write(self, path: Path) -> None:
        """Save them, and make sure of it."""
        body = b"".join(ENTRY.pack(key, len(script)) + script for key, script in self.by_key.items())
        write_file(path, [digest_of(body), body])
        sync(path)

    def read(self, path: Path) -> None:
        """Load what `write` saved. Raises LedgerDamaged."""
        if not path.is_file():
            raise LedgerDamaged(path, "is missing")
        with disk_errors(path):
            raw = path.read_bytes()
        if digest_of(raw[DIGEST:]) != raw[:DIGEST]:
            raise LedgerDamaged(path, "is not what was written")
        at = DIGEST
        while at < len(raw):
            key, length = ENTRY.unpack_from(raw, at)
            at += ENTRY.size
            self.by_key[key] = raw[at : at + length]
            at += length


def kept_path(folder: Path, number: int) -> Path:
    """Where a file of kept scripts is."""
    return folder / f"scripts.{number:012d}"
