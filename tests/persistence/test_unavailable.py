"""A store that may come back is told from one that is broken: only the first is tried again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.process import python, said
from persistence.records import chain, record, rows, run, told
from persistence.test_live_tables import snapshot
from utxoiq.errors import NotLinked, StoreError, StoreUnavailable, Transient, WrongNetwork
from utxoiq.persistence import SignalPersistenceModule, SqliteStore, database, reads

WRITES: dict[str, Callable[[SqliteStore], Any]] = {
    "connect": lambda store: store.connect(told(chain().trunk[1], 1)),
    "disconnect": lambda store: store.disconnect(str(chain().trunk[0].block_hash), "run"),
    "persist_signals": lambda store: store.persist_signals([], "run"),
    "add_snapshot": lambda store: store.add_snapshot(snapshot()),
    "add_settings": lambda store: store.add_settings("applied", {}, [], "start"),
    "forget_snapshots": lambda store: store.forget_snapshots(1),
}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for locks."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)


@pytest.fixture
def locked(impatient: None, path: Path) -> Iterator[tuple[SqliteStore, sqlite3.Connection]]:
    """A store with one block, and another process's connection that holds the write lock."""
    with SqliteStore(path) as store:
        store.connect(record(chain().trunk[0]))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        yield store, other
        other.close()


@pytest.mark.parametrize("name", WRITES)
def test_locked_by_another_process(locked: tuple[SqliteStore, sqlite3.Connection], path: Path, name: str) -> None:
    """It may pass: StoreUnavailable with the file's name; nothing is written; readers go on; later it works."""
    store, other = locked
    before = rows(path)
    with pytest.raises(StoreUnavailable, match=r"store\.db: database is locked") as raised:
        WRITES[name](store)
    assert isinstance(raised.value, Transient)
    assert rows(path) == before
    assert store.cursor() is not None
    assert reads.signals(store, 9) == []
    other.execute("ROLLBACK")
    WRITES[name](store)


async def test_the_pipeline_is_told_that_it_may_pass(locked: tuple[SqliteStore, sqlite3.Connection]) -> None:
    """As a result, not as an exception; a block that does not fit will never."""
    store, other = locked
    module = SignalPersistenceModule(store=store)
    result = await module.connect(told(chain().trunk[1], 1))
    assert (result.success, result.transient) == (False, True)
    other.execute("ROLLBACK")
    result = await module.connect(told(chain().trunk[5], 1))
    assert (result.success, result.transient) == (False, False)
    assert (await module.connect(told(chain().trunk[1], 1))).success


def test_a_store_that_is_locked_when_it_is_opened(impatient: None, path: Path) -> None:
    """While another process builds it."""
    SqliteStore(path).close()
    run(path, "PRAGMA journal_mode = DELETE")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreUnavailable, match="locked"):
        SqliteStore(path)
    other.close()
    SqliteStore(path).close()


def test_a_full_disk(path: Path) -> None:
    """A file that may not grow: it may pass; with room again the same write is done, once."""
    with SqliteStore(path) as store:
        store.connect(record(chain().trunk[0]))
        pages = store.database.value("PRAGMA page_count")
        store.database.value(f"PRAGMA max_page_count = {pages}")
        before = rows(path)
        with pytest.raises(StoreUnavailable, match="full"):
            store.add_settings("applied", {"text": "x" * 100_000}, [], "start")
        with pytest.raises(StoreUnavailable, match="full"):
            store.connect(told(chain().trunk[1], "x" * 100_000))
        assert rows(path) == before
        store.database.value("PRAGMA max_page_count = 100000")
        assert store.connect(told(chain().trunk[1], "x" * 100_000)) == 5


READ_ONLY = """
import os, sys
from pathlib import Path
from utxoiq.errors import StoreError
from utxoiq.persistence import SqliteStore, reads
path = Path(sys.argv[1])
os.chdir(path.parent)
if os.getuid() == 0:
    os.setgid(65534), os.setuid(65534)
try:
    with SqliteStore(Path(path.name)) as store:
        print("reads", store.cursor() is not None)
        store.add_settings("applied", {}, [], "start")
except StoreError as error:
    print(type(error).__name__, error)
"""


def test_a_file_that_may_only_be_read(path: Path) -> None:
    """It may pass, as when a disk is remounted: told as such, in one line, to a user without the right to write."""
    with SqliteStore(path) as store:
        store.connect(record(chain().trunk[0]))
    path.chmod(0o444)
    path.parent.chmod(0o555)
    ran = python("-c", READ_ONLY, str(path))
    path.parent.chmod(0o755)
    assert ran.returncode == 0, said(ran)
    assert ran.stdout.splitlines()[-1].startswith("StoreUnavailable "), said(ran)
    assert "readonly" in ran.stdout or "unable to open" in ran.stdout


@pytest.mark.parametrize(
    ("kind", "action"),
    [
        (NotLinked, lambda store: store.connect(record(chain().trunk[5]))),
        (WrongNetwork, lambda store: store.connect(record(chain().trunk[1], network="regtest"))),
        (StoreError, lambda store: store.add_settings("odd", {}, [], "")),
        (StoreError, lambda store: store.database.query("SELECT * FROM nowhere")),
    ],
)
def test_what_will_never_work_is_not_tried_again(
    store: SqliteStore, kind: type[StoreError], action: Callable[[SqliteStore], Any]
) -> None:
    """Wrong blocks and wrong questions are no trouble of the disk's."""
    store.connect(record(chain().trunk[0]))
    with pytest.raises(kind) as raised:
        action(store)
    assert not isinstance(raised.value, Transient)


@pytest.mark.parametrize(
    ("code", "passes"),
    [
        (sqlite3.SQLITE_BUSY, True), (sqlite3.SQLITE_BUSY_SNAPSHOT, True), (sqlite3.SQLITE_LOCKED, True),
        (sqlite3.SQLITE_FULL, True), (sqlite3.SQLITE_IOERR, True), (sqlite3.SQLITE_IOERR_FSYNC, True),
        (sqlite3.SQLITE_CANTOPEN, True), (sqlite3.SQLITE_READONLY, True), (sqlite3.SQLITE_CORRUPT, False),
        (sqlite3.SQLITE_NOTADB, False), (sqlite3.SQLITE_CONSTRAINT_CHECK, False), (sqlite3.SQLITE_ERROR, False),
    ],
)  # fmt: skip
def test_which_codes_may_pass(store: SqliteStore, code: int, passes: bool) -> None:
    """SQLite's extended codes count as their kind."""
    error = sqlite3.OperationalError("made")
    error.sqlite_errorcode = code
    with pytest.raises(StoreError) as raised, store.database._errors():
        raise error
    assert isinstance(raised.value, StoreUnavailable) is passes
