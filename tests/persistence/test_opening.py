"""Opening a store: ours, of this version, or an error that says what it is instead."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from persistence.records import chain, record, run, told
from utxoiq.errors import ConfigError, StoreError
from utxoiq.persistence import SqliteStore, open_store, reads
from utxoiq.persistence.schema import SCHEMA_VERSION


def test_a_new_file_becomes_a_store_and_opens_again(path: Path) -> None:
    """What was written is there; opening changes nothing of it."""
    store = open_store(f"sqlite:///{path}")
    assert store.cursor() is None
    assert store.network is None
    store.connect(told(chain().trunk[0], 1))
    before = store.cursor()
    store.close()
    again = open_store(f"sqlite:///{path}", must_exist=True)
    assert again.cursor() == before
    assert again.network == "simulated"
    assert len(reads.signals(again, 9)) == 1
    again.close()


@pytest.mark.parametrize(
    "url",
    ["", "store.db", "sqlite:", "sqlite://", "sqlite:///", "postgres://host/db", "bigquery://project", "SQLITE:///x"],
)
def test_another_url_is_wrong_use(url: str) -> None:
    """The message gives the right form."""
    with pytest.raises(ConfigError, match="give sqlite:///FILE"):
        open_store(url)


def test_a_store_to_read_must_exist(tmp_path: Path) -> None:
    """Reading a misspelt path must not leave an empty store behind."""
    with pytest.raises(StoreError, match=r"no store at .*nothing\.db: run"):
        open_store(f"sqlite:///{tmp_path / 'nothing.db'}", must_exist=True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"nowhere/x\.db"):
        open_store(f"sqlite:///{tmp_path / 'nowhere' / 'x.db'}")


def test_a_folder_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        open_store(f"sqlite:///{tmp_path}")


def test_a_newer_schema_is_left_alone(path: Path) -> None:
    """A store of a later utxoiq is refused, not read wrongly and not changed."""
    SqliteStore(path).close()
    run(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=f"schema {SCHEMA_VERSION + 1} is newer .* upgrade utxoiq"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_another_programs_database_is_left_alone(path: Path) -> None:
    """An SQLite file with other tables is nobody's store."""
    run(path, "CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not of utxoiq"):
        SqliteStore(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("data", [b"hello", b"\x00" * 4096, b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_file_that_is_no_database_is_left_alone(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    with pytest.raises(StoreError, match=path.name):
        SqliteStore(path)
    assert path.read_bytes() == data


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    path.touch()
    store = SqliteStore(path)
    assert store.connect(record(chain().trunk[0])) == 3
    store.close()


def test_a_store_in_a_folder_with_odd_characters(tmp_path: Path) -> None:
    """Neither `?`, `#`, `%` nor a space means anything in a file's name."""
    path = tmp_path / "a b%20c?mode=ro#d.db"
    store = open_store(f"sqlite:///{path}")
    store.connect(record(chain().trunk[0]))
    store.close()
    assert path.exists()


def test_two_may_create_the_same_store_at_once(tmp_path: Path) -> None:
    """`scan` and `serve` started together on a new file: both have it, neither fails."""
    start = Barrier(2)

    def create(path: Path) -> str | None:
        start.wait()
        try:
            SqliteStore(path).close()
        except StoreError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(2) as pool:
        outcomes = [outcome for i in range(20) for outcome in pool.map(create, [tmp_path / f"{i}.db"] * 2)]
    assert [outcome for outcome in outcomes if outcome] == []


def test_a_store_that_was_closed_fails_as_a_store(store: SqliteStore) -> None:
    """Every question to a store that can't be read ends in StoreError, never in SQLite's own."""
    store.close()
    questions = (
        store.cursor,
        lambda: store.network,
        lambda: store.state("00"),
        lambda: store.window("00", 5),
        lambda: store.connect(record(chain().trunk[0])),
        lambda: reads.signals(store, 5),
        lambda: reads.signal(store, "00"),
    )
    for question in questions:
        with pytest.raises(StoreError):
            question()


def test_a_damaged_store_fails_as_a_store(store: SqliteStore, path: Path) -> None:
    """A table that is gone, a row that is no JSON: StoreError with the file's name."""
    store.connect(told(chain().trunk[0], 1))
    run(path, "PRAGMA foreign_keys = OFF")
    run(path, "DROP VIEW block_state")
    run(path, "DROP TABLE meta")
    for question in (lambda: store.network, lambda: store.state("00")):
        with pytest.raises(StoreError, match=r"store\.db"):
            question()


def test_the_file_is_in_wal_mode_and_ours(store: SqliteStore, path: Path) -> None:
    """Readers go on while a writer writes; `file` and other tools can tell whose it is."""
    assert run(path, "PRAGMA journal_mode") == [("wal",)]
    assert run(path, "PRAGMA application_id") == [(int.from_bytes(b"utxo", "big"),)]
    assert run(path, "PRAGMA user_version") == [(SCHEMA_VERSION,)]
