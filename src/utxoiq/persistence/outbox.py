"""What a warehouse has still to be told: rows queued in the transaction that wrote them, and how far they were sent."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from utxoiq.errors import WarehouseError
from utxoiq.persistence.schema import SHIPPED

if TYPE_CHECKING:
    import sqlite3

    from utxoiq.persistence.database import Database


UNNAMED = ""


@dataclass(frozen=True, slots=True)
class Parcel:
    """The rows of one relation that are sent in one request, and the same rows again after a failure."""

    relation: str
    keys: list[str | int]
    last_seq: int
    stream: str | None
    """Where to append it at `offset`; None before there is a stream."""
    offset: int
    job_id: str | None
    """Of the load job that takes it, where it is too large for a stream; `UNNAMED` before there is one."""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the warehouse is behind."""

    rows: int
    seconds: float
    """Age of the oldest row that waits, 0 where none does."""


class Outbox:
    """The outbox of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def destination(self) -> str | None:
        """The warehouse this store is shipped to, None before the first time."""
        name: str | None = self._database.value("SELECT value FROM meta WHERE key = 'warehouse'")
        return name

    def open(self, destination: str) -> int:
        """Ship to `destination` from now on, beginning with all that is stored: the rows queued.

        Raises WarehouseError where this store is shipped elsewhere, StoreError.
        """
        with self._database.transaction():
            known = self.destination
            if known not in (None, destination):
                raise WarehouseError(
                    f"this store is shipped to {known}: `utxoiq ship --again` sends it to {destination}"
                )
            return 0 if known else self._fill(destination)

    def reopen(self, destination: str) -> int:
        """Ship all that is stored to `destination`, whatever was shipped before: the rows queued. Raises StoreError."""
        with self._database.transaction():
            self._database.execute("DELETE FROM outbox")
            self._database.execute("DELETE FROM shipping")
            self._database.execute("DELETE FROM meta WHERE key = 'warehouse'")
            return self._fill(destination)

    def _fill(self, destination: str) -> int:
        """Oldest block first; a block's event after its rows, as the triggers queue them."""
        rows = 0
        for relation, (table, key) in SHIPPED.items():
            rows += self._database.execute(
                f"INSERT INTO outbox (relation, key) SELECT '{relation}', {key} FROM {table} ORDER BY rowid"  # noqa: S608
            )
        self._database.insert("meta", {"key": "warehouse", "value": destination})
        return rows

    def mark_restored(self, destination: str) -> None:
        """Inside a transaction: all that is stored came from `destination`, so that only what comes now is shipped."""
        self._database.insert("meta", {"key": "warehouse", "value": destination})

    def lag(self) -> Lag:
        """Raises StoreError."""
        rows, oldest = self._database.query("SELECT count(*), min(recorded_at) FROM outbox")[0]
        return Lag(rows, max(0.0, time.time() - oldest) if rows else 0.0)

    def parcels(self, most_rows: int, *, bulk: bool = False) -> list[Parcel]:
        """What to send now, in this order: what an earlier attempt began, in the way it began it, for it may have
        arrived; else the next rows, with `bulk` by load jobs. Raises StoreError."""
        begun = self._begun()
        if begun:
            return begun
        last = self._database.value("SELECT max(seq) FROM (SELECT seq FROM outbox ORDER BY seq LIMIT ?)", most_rows)
        if last is None:
            return []
        with self._database.transaction():
            for relation in SHIPPED:
                self._database.insert("shipping", {"relation": relation, "next_offset": 0})
            self._database.execute(
                "UPDATE shipping SET last_seq = ?, job_id = ? "
                "WHERE relation IN (SELECT relation FROM outbox WHERE seq <= ?)",
                last, UNNAMED if bulk else None, last,
            )  # fmt: skip
        return self._begun()

    def _begun(self) -> list[Parcel]:
        rows = self._database.query("SELECT * FROM shipping WHERE last_seq IS NOT NULL")
        found = {row["relation"]: row for row in rows}
        return [self._parcel(found[relation]) for relation in SHIPPED if relation in found]

    def _parcel(self, row: sqlite3.Row) -> Parcel:
        relation, last = row["relation"], row["last_seq"]
        return Parcel(relation, self._keys(relation, last), last, row["stream"], row["next_offset"], row["job_id"])

    def _keys(self, relation: str, last_seq: int) -> list[str | int]:
        sql = "SELECT key FROM outbox WHERE relation = ? AND seq <= ? ORDER BY seq"
        return [row["key"] for row in self._database.query(sql, relation, last_seq)]

    def forget_streams(self) -> None:
        """Begin new streams, but for what is under way. Raises LeaseLost, StoreError."""
        with self._database.transaction():
            self._database.execute("UPDATE shipping SET stream = NULL, next_offset = 0 WHERE last_seq IS NULL")

    def begin(self, relation: str, stream: str | None, offset: int, job_id: str | None = None) -> None:
        """Remember where a parcel goes, before it is sent: `offset` of `stream`, or a load job. Raises LeaseLost,
        StoreError."""
        with self._database.transaction():
            self._database.execute(
                "UPDATE shipping SET stream = ?, next_offset = ?, job_id = ? WHERE relation = ?",
                stream, offset, job_id, relation,
            )  # fmt: skip

    def arrived(self, parcel: Parcel, stream: str | None, next_offset: int) -> None:
        """A parcel is in the warehouse; the next goes to `next_offset` of `stream`. Raises LeaseLost, StoreError."""
        with self._database.transaction():
            self._database.execute(
                "DELETE FROM outbox WHERE relation = ? AND seq <= ?", parcel.relation, parcel.last_seq
            )
            self._database.execute(
                "UPDATE shipping SET last_seq = NULL, job_id = NULL, stream = ?, next_offset = ? WHERE relation = ?",
                stream, next_offset, parcel.relation,
            )  # fmt: skip
