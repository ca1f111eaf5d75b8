"""The manifest: which files make up a ledger. Replaced whole at each checkpoint, so there is always exactly one."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from utxoiq.balances.errors import LedgerDamaged, LedgerError, disk_errors
from utxoiq.balances.files import digest_of, replace_file

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
NAME = "manifest"


@dataclass(frozen=True, slots=True)
class RunPlace:
    """A run: the first word of the first key of its range, its file's number, and the last step merged into it."""

    first: int
    number: int
    step: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a ledger is, and of what files."""

    network: str
    ledger: str
    """16 bytes that are this ledger's only, hex."""
    secret: str
    """The key its scripts are hashed with, hex."""
    kept_from: int
    """Satoshis from which on scripts are kept."""
    base: tuple[int, str] | None
    """Height and hash of the block whose snapshot it began with."""
    step: int
    """The last step that is certain to be in the journal."""
    next_number: int
    runs: tuple[RunPlace, ...]
    scripts: int
    """The number of the file of kept scripts, as of `step`."""

    def write(self, folder: Path) -> None:
        """Put it in place of the one before."""
        body = json.dumps({"format": FORMAT, **asdict(self)}).encode()
        replace_file(folder / NAME, digest_of(body).hex().encode() + b"\n" + body + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """Raises LedgerError where there is no ledger, or one of another version; LedgerDamaged; LedgerUnavailable."""
    path = folder / NAME
    if not path.is_file():
        raise LedgerError(f"{folder}: no ledger here; create one, or import a snapshot")
    with disk_errors(path):
        digest, _, body = path.read_bytes().partition(b"\n")
    if digest_of(body.removesuffix(b"\n")).hex().encode() != digest:
        raise LedgerDamaged(path, "is not what was written")
    values = json.loads(body)
    if values.pop("format") != FORMAT:
        raise LedgerError(f"{path}: was written by another version of utxoiq; build the ledger anew")
    found = Manifest(**values)
    runs = tuple(RunPlace(**run) for run in values["runs"])
    return replace(found, runs=runs, base=(values["base"][0], values["base"][1]) if values["base"] else None)
