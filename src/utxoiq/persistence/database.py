"""An SQLite file in WAL mode: opened, checked, and never half written."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utxoiq.errors import StoreError, StoreUnavailable
from utxoiq.models import canonical_json
from utxoiq.persistence.schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION

BUSY_SECONDS = 10.0
PASSING = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
}  # fmt: skip
"""Result codes of what may pass: another process writes, a disk is full, remounted or failing."""


class Database:
    """A file of our schema. Safe to call from several threads; one transaction at a time."""

    def __init__(self, path: Path) -> None:
        """Open or create. Raises StoreError for a file that is no such store, or of a newer version."""
        self.path = path
        self.fence: Callable[[], None] = lambda: None
        """Called at the beginning of every transaction: raises LeaseLost where this process was overtaken."""
        self._lock = threading.RLock()
        with self._errors():
            self._db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            try:
                self._open_patiently()
            except BaseException:
                self._db.close()
                raise

    def _open_patiently(self) -> None:
        """Another process may be creating the same file; SQLite does not wait for that by itself."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                return self._open()
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                self._db.rollback()
                time.sleep(0.02)

    def _open(self) -> None:
        self._db.execute("BEGIN")  # one look at all three: another process may be creating the file
        version = self.value("PRAGMA user_version")
        owner = self.value("PRAGMA application_id")
        tables = self.value("SELECT count(*) FROM sqlite_schema")
        self._db.execute("ROLLBACK")
        if tables and owner != APPLICATION_ID:
            raise StoreError(f"{self.path}: an SQLite file, but not of utxoiq; give another --db")
        if version > SCHEMA_VERSION:
            raise StoreError(
                f"{self.path}: schema {version} is newer than this utxoiq's {SCHEMA_VERSION}; upgrade utxoiq"
            )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA foreign_keys = ON")
        if version < SCHEMA_VERSION:  # all of it is IF NOT EXISTS, so it also adds what an older store lacks
            self._db.executescript(
                f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA application_id = {APPLICATION_ID};"
                f"PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )

    def close(self) -> None:
        """Let go of the file, once no thread is at it: SQLite does not survive being closed under one. Where one still
        waits for another process, the end of this one closes it; WAL makes that safe."""
        if self._lock.acquire(timeout=BUSY_SECONDS + 1):
            try:
                self._db.close()
            finally:
                self._lock.release()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            kind = StoreUnavailable if (getattr(error, "sqlite_errorcode", 0) & 0xFF) in PASSING else StoreError
            raise kind(f"{self.path}: {error}") from error

    @contextmanager
    def transaction(self, *, fenced: bool = True) -> Iterator[None]:
        """All statements inside are committed together, or none of them."""
        with self._lock, self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                if fenced:
                    self.fence()
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def value(self, sql: str, *parameters: Any) -> Any:
        """The first column of the first row, None where there is no row."""
        with self._lock, self._errors():
            row = self._db.execute(sql, parameters).fetchone()
        return None if row is None else row[0]

    def query(self, sql: str, *parameters: Any) -> list[sqlite3.Row]:
        """Rows of a reading statement. Raises StoreError."""
        with self._lock, self._errors():
            return self._db.execute(sql, parameters).fetchall()

    def execute(self, sql: str, *parameters: Any) -> int:
        """Run a writing statement inside a transaction: the number of rows it changed."""
        return self._db.execute(sql, parameters).rowcount

    def insert(self, table: str, row: dict[str, Any]) -> int:
        """Append a row unless its key is there already: 1 or 0. Dicts and lists are stored as JSON."""
        names = ", ".join(row)
        marks = ", ".join("?" * len(row))
        values = [canonical_json(v) if isinstance(v, (dict, list)) else v for v in row.values()]
        return self.execute(f"INSERT INTO {table} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING", *values)  # noqa: S608
