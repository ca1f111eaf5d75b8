"""Labels from the warehouse: its newest edition in a file beside the store, looked at every five minutes."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from utxoiq.errors import UtxoiqError, WarehouseError
from utxoiq.persistence.sqlite import URL
from utxoiq.persistence.warehouse import entities
from utxoiq.persistence.warehouse.opening import open_warehouse

if TYPE_CHECKING:
    from utxoiq.config import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 300.0


class WarehouseLabels:
    """Keeps `file` at the edition that was published last; while the warehouse is away, at the one before."""

    def __init__(self, settings: Settings) -> None:
        """Raises ConfigError; WarehouseError where there are no labels, neither there nor of an earlier look."""
        self.file = Path(settings.db.removeprefix(URL) + ".labels.jsonl")
        self._warehouse = open_warehouse(settings.warehouse)
        self._version: str | None = None
        try:
            self.look()
            if not self.file.exists():
                where = self._warehouse.tables.name
                raise WarehouseError(f"no labels in {where}: `utxoiq entities publish`, or warehouse.labels = false")
        except UtxoiqError as error:
            if not self.file.exists():
                self._warehouse.close()
                raise
            log.warning("labels as of the last look: %s", error)

    def look(self) -> bool:
        """Whether there was a newer edition, which is in the file now. Raises WarehouseError, WarehouseUnavailable."""
        newest = entities.newest(self._warehouse.tables)
        if newest in (None, self._version):
            return False
        text = entities.text_of(self._warehouse.tables, newest)
        fresh = self.file.with_suffix(".new")
        try:
            fresh.write_text(text, "utf-8", newline="")
            os.replace(fresh, self.file)
        except OSError as error:
            raise WarehouseError(f"{self.file}: labels can't be written ({error.strerror})") from error
        self._version = newest
        return True

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                if await asyncio.to_thread(self.look):
                    log.info("labels %s published in the warehouse", self._version)
            except UtxoiqError as error:
                log.warning("labels stay as they are: %s", error)

    def close(self) -> None:
        """Let go of the warehouse."""
        self._warehouse.close()
