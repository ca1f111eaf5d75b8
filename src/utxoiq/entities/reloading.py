"""A label file that may be changed while it is in use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from utxoiq.entities.labels import labels_for
from utxoiq.errors import LabelError

if TYPE_CHECKING:
    from utxoiq.chain.network import Network
    from utxoiq.entities.labels import LabelSet

Signature = tuple[int, int, int] | None
"""Change time of the contents (ns), size and inode of a file, None where there is none."""


class LabelFile:
    """The labels of a file, read again when it changes; while a new edition can't be used, the one before stays.

    Put a new edition in place by renaming: a large file that is written over while it is compiled is read half.
    """

    def __init__(self, path: Path, network: Network, on_error: Callable[[LabelError], None] = lambda _: None) -> None:
        """`on_error` is told once of each edition that can't be used. Raises LabelError if the first one can't."""
        self._path, self._network, self._on_error = path, network, on_error
        self._seen = self._signature()
        self._labels = _ready(path, network)
        self.error: LabelError | None = None
        """Why the newest edition is not the one in use."""

    @property
    def stale(self) -> bool:
        """Whether the file was changed since it was last read: one look at the folder, a few microseconds."""
        return self._signature() != self._seen

    def current(self) -> LabelSet:
        """The labels to use now. Reads the file where it is `stale`, which takes seconds where it is large and new:
        then call it in a thread."""
        signature = self._signature()
        if signature != self._seen:
            self._seen = signature
            self._read()
        return self._labels

    def _read(self) -> None:
        try:
            self._labels, self.error = _ready(self._path, self._network), None
        except LabelError as error:
            self.error = error
            self._on_error(error)

    def _signature(self) -> Signature:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _ready(path: Path, network: Network) -> LabelSet:
    """With its scripts, so that no block waits for them."""
    labels = labels_for(network, path)
    assert len(labels.scripts) >= 0
    return labels
