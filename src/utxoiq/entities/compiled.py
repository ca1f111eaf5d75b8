"""Compiled label files: what is read of a large one is read once, and mapped ever after.

    8 bytes   magic and format
    8 bytes   length of the header, little-endian
    32 bytes  SHA-256 of all that follows
    header    JSON: network, digest of the source, entities, conflicts, and where each array is
    arrays    little-endian, each at a multiple of 64 bytes: those of `Scripts` and `Tables`

It is written aside and renamed, so that a reader sees a whole one or none; one that is not whole, or was made from
something else, is refused, and then made anew. It lies in the cache directory, one for each label file and network.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utxoiq.entities.index import Tables
from utxoiq.entities.records import Entity, Label
from utxoiq.entities.scripts import Scripts, key_check
from utxoiq.errors import LabelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from utxoiq.chain.network import Network

MAGIC = b"utxoiqL\x01"
PREAMBLE = 48
ALIGNED = 64


class Compiled:
    """A label file as it was compiled: its names, and its scripts in mapped memory."""

    def __init__(self, path: Path, network: Network, source: str) -> None:
        """Raises LabelError for a file that is damaged, or of another network, source (SHA-256, hex) or format."""
        view = mapped(path)
        if len(view) < PREAMBLE or view[:8] != MAGIC or view[16:PREAMBLE] != digest_of(view, PREAMBLE):
            raise LabelError(f"{path}: is no compiled label file, or is damaged; delete it")
        end = PREAMBLE + int.from_bytes(view[8:16], "little")
        self._header = json.loads(view[PREAMBLE:end])
        self._body = np.frombuffer(view, np.uint8, offset=aligned(end))
        expected = {"network": network.name, "source": source, "key_check": key_check()}
        if any(self._header[name] != value for name, value in expected.items()):
            raise LabelError(f"{path}: was compiled from another label file, network or version; delete it")
        self.version: str = self._header["version"]

    def entities(self) -> tuple[Entity, ...]:
        """Its entities; their labels have counts in place of texts."""
        return tuple(
            Entity(**{**row, "tags": tuple(row["tags"]), "holdings": tuple(row["holdings"]),
                      "labels": tuple(Label(**label) for label in row["labels"])})
            for row in self._header["entities"]
        )  # fmt: skip

    def conflicts(self) -> list[tuple[str, str, str]]:
        return [(address, first, other) for address, first, other in self._header["conflicts"]]

    def scripts(self, owner: NDArray[np.int32]) -> Scripts:
        """Its scripts; `owner` is that of each label."""
        arrays = {
            name: self._body[at : at + np.dtype(dtype).itemsize * length].view(dtype)
            for name, (dtype, length, at) in self._header["arrays"].items()
        }
        tables = Tables(*(arrays[name] for name in Tables._fields))
        return Scripts(arrays["blob"], arrays["offsets"], arrays["label"], tables, owner)


def cache_path(path: Path, network: Network) -> Path:
    """Where a label file's compiled form is: each edition takes the place of the one before."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    return base / "utxoiq-labels" / f"{name}-{network.name}.labels"


def source_digest(path: Path) -> str:
    """SHA-256 of a label file, hex. Raises LabelError where it can't be read."""
    return digest_of(mapped(path), 0).hex()


def aligned(at: int) -> int:
    """The next multiple of ALIGNED."""
    return -(-at // ALIGNED) * ALIGNED


def mapped(path: Path) -> mmap.mmap:
    """A file, mapped read-only. Raises LabelError for one that can't be, such as an empty one."""
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise LabelError(f"{path}: can't be read ({error})") from error


def digest_of(view: mmap.mmap, start: int) -> bytes:
    """SHA-256 of view[start:]."""
    with memoryview(view) as whole, whole[start:] as part:
        return hashlib.sha256(part).digest()
