"""Files that are there whole or not at all, and the lock that keeps a second writer out."""

from __future__ import annotations

import fcntl
import os
from hashlib import blake2b
from typing import TYPE_CHECKING

from utxoiq.balances.errors import LedgerUnavailable, disk_errors

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

DIGEST = 16
"""Bytes of a digest: BLAKE2b, against damage, not against somebody who can write here."""


def digest_of(*parts: bytes | memoryview) -> bytes:
    """One digest over all parts."""
    digest = blake2b(digest_size=DIGEST)
    for part in parts:
        digest.update(part)
    return digest.digest()


def write_file(path: Path, parts: Iterable[bytes | memoryview]) -> None:
    """A new file with these contents. It is not yet certain to outlive a power cut: see `sync`."""
    with disk_errors(path):
        try:
            with path.open("wb") as file:
                file.writelines(parts)
        except OSError:
            path.unlink(missing_ok=True)
            raise


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, would outlive a power cut."""
    with disk_errors(path):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def replace_file(path: Path, contents: bytes) -> None:
    """Put `contents` in place of what was there, in one step, even if the power goes."""
    aside = path.with_name(path.name + ".new")
    write_file(aside, [contents])
    sync(aside)
    with disk_errors(path):
        aside.replace(path)
    sync(path.parent)


class Lock:
    """The right to write a ledger: ends with the process at the latest."""

    def __init__(self, folder: Path) -> None:
        path = folder / "lock"
        with disk_errors(path):
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise LedgerUnavailable(f"{folder}: another process has this ledger open; stop it first") from error

    def release(self) -> None:
        os.close(self._fd)
