"""The labels in use: a changed file is read while blocks go on, and swapped in between two of them."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from utxoiq.entities.labels import labels_for
from utxoiq.entities.reloading import LabelFile

if TYPE_CHECKING:
    from pathlib import Path

    from utxoiq.chain.network import Network
    from utxoiq.entities.labels import LabelSet
    from utxoiq.errors import LabelError

log = logging.getLogger(__name__)


class LabelWatch:
    """Called with a network, it gives the labels of that; the packaged ones where no file is named."""

    def __init__(self, path: Path | None, network: Network | None = None) -> None:
        """`network`: read them for this one now. Raises LabelError for a file that can't be used."""
        self._path = path
        self._file: LabelFile | None = None
        self._held: dict[str, LabelSet] = {}
        self._newer: LabelSet | None = None
        if network is not None:
            self(network)

    def __call__(self, network: Network) -> LabelSet:
        """The same set until `swap`. Raises LabelError."""
        if network.name not in self._held:
            if self._path is None:
                self._held[network.name] = labels_for(network)
            else:
                self._file = LabelFile(self._path, network, self._tell)
                self._held[network.name] = self._file.current()
        return self._held[network.name]

    async def look(self) -> bool:
        """Read the file if it was changed: whether a newer set waits for `swap`."""
        if self._file is None or not self._file.stale:
            return self._newer is not None
        read = await asyncio.to_thread(self._file.current)
        held = self._held[read.network.name]
        self._newer = None if read.version == held.version else read
        return self._newer is not None

    def swap(self) -> bool:
        """Use the newer set from now on: whether there was one."""
        if self._newer is None:
            return False
        name, newer, self._newer = self._newer.network.name, self._newer, None
        log.info("labels %s from the next block on, were %s", newer.version, self._held[name].version)
        self._held[name] = newer
        return True

    @staticmethod
    def _tell(error: LabelError) -> None:
        log.error("labels refused, the old ones stay: %s", error)
