"""Errors of the ledger, below UtxoiqError. Messages are one line: what, where, what to do.

LedgerError                      it can't do what was asked
├── LedgerUnavailable            (transient) open in another process, no space, no right to write, or its disk fails
├── LedgerDamaged                what is on disk is not what was written: build it anew
└── SnapshotRefused              exit code 3: a file that is no snapshot, of another network, or not the one expected

A block of another network is `WrongNetwork`, one that does not fit the tip `NotLinked`, as in the store.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from utxoiq.errors import InputRefused, Transient, UtxoiqError


class LedgerError(UtxoiqError):
    """The ledger can't do what was asked of it."""


class LedgerUnavailable(LedgerError, Transient):
    """Another process has it open, there is no space, or its folder can't be read or written."""


class LedgerDamaged(LedgerError):
    """A part of it is not what was written. No balance was read from that part."""

    def __init__(self, where: object, reason: str) -> None:
        super().__init__(f"{where}: {reason}; delete the ledger and build it anew, from genesis or a snapshot")


class SnapshotRefused(LedgerError, InputRefused):
    """A file that is no snapshot, of another network or version, or with another hash than expected."""

    exit_code = 3


@contextmanager
def disk_errors(where: object) -> Iterator[None]:
    """Tell what the system says about a file as LedgerUnavailable."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise LedgerUnavailable(f"{where}: {reason}; see to its disk and its rights, then try again") from error
