"""What blocks did to large balances: in their one commit, once, and part of a block's past."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from persistence.records import NEWER, TABLES, chain, facts_of, flows_of, forecast, record, rows, run, told
from persistence.test_fill import work
from persistence.test_upgrade import LIVE, SPLIT, schema
from utxoiq.history import Past
from utxoiq.models import BalanceChange, BlockBalances, BlockData, BlockRecord, Held, digest
from utxoiq.persistence import SignalPersistenceModule, SqliteStore
from utxoiq.persistence.schema import SCHEMA_VERSION
from utxoiq.units import COIN

TRUNK, STALE, WINNING = chain()


def balances_of(data: BlockData, sat: int = 21_000_000 * COIN, **changes: Any) -> BlockBalances:
    """Made by hand: one script got so much, in two transactions; another without address gave it."""
    each = [
        BalanceChange("0014" + "11" * 20, "an address", 0, sat, ["aa" * 32, "bb" * 32], 3),
        BalanceChange("51", None, sat, 0, []),
    ]
    held = {"exchange": Held(1, sat, 3), "miner": Held(0, 0, 0)}
    made = BlockBalances(str(data.block_hash), "none", 100 * COIN, each, 1, sat, held)
    return replace(made, **changes)


def with_balances(data: BlockData, found: BlockBalances | None, **more: Any) -> BlockRecord:
    return replace(record(data, **more), balances=found)


def stored(path: Path) -> list[tuple[Any, ...]]:
    return rows(path, ["balances"])["balances"]


def test_they_are_read_back(store: SqliteStore, path: Path) -> None:
    """As they were written, digest and types included; of a block without any, or never seen, nothing is known."""
    for n, data in enumerate(TRUNK):
        written = store.connect(with_balances(data, balances_of(data, n) if n % 2 else None))
        assert written == (4 if n % 2 else 3)
    for n, data in enumerate(TRUNK):
        found = store.balances_of(str(data.block_hash))
        assert found == (balances_of(data, n) if n % 2 else None)
        if found:
            assert found.digest == balances_of(data, n).digest
            assert isinstance(found.changes[0], BalanceChange)
            assert isinstance(found.entities["exchange"], Held)
    assert store.balances_of("00" * 32) is None
    columns = "SELECT block_hash, digest, labels_version FROM balances"
    assert run(path, columns) == [
        (str(data.block_hash), balances_of(data, n).digest, "none") for n, data in enumerate(TRUNK) if n % 2
    ]


def test_they_are_in_the_window(store: SqliteStore) -> None:
    """Each with its own block, beside its flows; also on a branch that was left."""
    for n, data in enumerate([*TRUNK, STALE[0]]):
        flows = flows_of(data) if n % 3 else None
        store.connect(replace(with_balances(data, balances_of(data, n) if n % 2 else None), flows=flows))
    store.disconnect(str(STALE[0].block_hash), "run")
    store.connect(with_balances(WINNING[0], balances_of(WINNING[0], 99)))
    past = [
        Past(
            facts_of(data), flows_of(data).sums() if n % 3 else None, None, balances_of(data, n) if n % 2 else None
        )
        for n, data in enumerate([*TRUNK, STALE[0]])
    ]  # fmt: skip
    assert store.window(str(STALE[0].block_hash), 99) == past
    assert store.window(str(WINNING[0].block_hash), 3)[:-1] == past[-3:-1]
    assert store.window(str(WINNING[0].block_hash), 3)[-1].balances == balances_of(WINNING[0], 99)


def test_they_are_written_once(store: SqliteStore, path: Path) -> None:
    """The same again is no row, whether the block is given again or returns; others are another, and count."""
    for data in TRUNK:
        store.connect(with_balances(data, balances_of(data)))
    before, tip = stored(path), TRUNK[-1]
    assert len(before) == len(TRUNK)
    assert store.connect(with_balances(tip, balances_of(tip))) == 0
    assert store.connect(with_balances(tip, balances_of(tip, 5))) == 0, "it is there already, in the same standing"
    for found, count in ((balances_of(tip), 0), (None, 0), (balances_of(tip, 5), 1), (balances_of(tip, 5), 1)):
        store.disconnect(str(tip.block_hash), "run")
        store.connect(with_balances(tip, found))
        assert stored(path)[: len(before)] == before
        assert len(stored(path)) == len(before) + count
    assert store.balances_of(str(tip.block_hash)) == balances_of(tip, 5)
    assert [row.balances for row in store.window(str(tip.block_hash), 2)] == [
        balances_of(TRUNK[-2]), balances_of(tip, 5),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "changes", [{"labels_version": "other"}, {"entities": {}}, {"held": 1}, {"holders": 2}, {"least": 1}], ids=str
)
def test_all_of_it_is_in_the_digest(store: SqliteStore, path: Path, changes: dict[str, Any]) -> None:
    """Whatever is another makes another row."""
    (data,) = TRUNK[:1]
    other = balances_of(data, **changes)
    assert other.digest != balances_of(data).digest
    store.connect(with_balances(data, balances_of(data)))
    store.disconnect(str(data.block_hash), "run")
    store.connect(with_balances(data, other))
    assert [row[3] for row in stored(path)] == [balances_of(data).digest, other.digest]
    assert store.balances_of(str(data.block_hash)) == other


def test_a_block_that_is_not_stored_leaves_none(store: SqliteStore, path: Path) -> None:
    """All of a commit or nothing."""
    store.connect(with_balances(TRUNK[0], balances_of(TRUNK[0])))
    bad = replace(with_balances(TRUNK[1], balances_of(TRUNK[1])), flows=replace(flows_of(TRUNK[1]), value_in=b"x"))
    with pytest.raises(TypeError):
        store.connect(bad)
    assert store.state(str(TRUNK[1].block_hash)) is None
    assert len(stored(path)) == 1


def test_islands_and_fills(store: SqliteStore) -> None:
    """May have some too; filled in without any, those of before stay."""
    store.connect(with_balances(TRUNK[5], balances_of(TRUNK[5])))
    store.connect(with_balances(TRUNK[2], balances_of(TRUNK[2]), island=True))
    for found in (balances_of(TRUNK[4]), None):
        store.fill(with_balances(TRUNK[4], found, island=True), work())
    known = [store.balances_of(str(TRUNK[n].block_hash)) for n in (2, 4, 5)]
    assert known == [balances_of(TRUNK[n]) for n in (2, 4, 5)]


async def test_the_past_in_memory_is_the_one_that_is_stored(store: SqliteStore) -> None:
    """Block by block, through a reorg, and for a block that returns with none, or with others."""
    module = SignalPersistenceModule(store=store)
    steps: list[tuple[BlockData, BlockBalances | None]] = [
        (data, balances_of(data, n) if n != 3 else None) for n, data in enumerate([*TRUNK, *STALE])
    ]
    for data, found in steps:
        assert (await module.connect(with_balances(data, found))).success
        assert await module.recorded_balances(data.block_hash) == found
        assert (await module.window(data.block_hash, 50)).rows == store.window(str(data.block_hash), 50)
    for _ in STALE:
        tip = store.cursor()
        assert tip
        assert (await module.disconnect(chain_hash(tip.block_hash), "run")).success
    for data, found in ((STALE[0], None), (STALE[1], balances_of(STALE[1], 77))):
        assert (await module.connect(with_balances(data, found))).success
        seen = await module.window(data.block_hash, 50)
        assert seen.rows == store.window(str(data.block_hash), 50)
        assert seen.rows[-1].balances == (found or balances_of(STALE[0], 8))


def chain_hash(block_hash: str) -> Any:
    return next(data.block_hash for part in chain() for data in part if str(data.block_hash) == block_hash)


def make_old(path: Path, recent: Path) -> None:
    """A store as version 4 left it, with what the store at `recent` has, as far as that version knew it."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(Path(__file__).with_name("schema_4.sql").read_text("utf-8"))
        connection.execute("ATTACH ? AS recent", (str(recent),))
        for table in (*TABLES, *NEWER):
            connection.execute(f"INSERT INTO main.{table} SELECT * FROM recent.{table}")
    finally:
        connection.close()


def test_a_store_of_version_4_is_extended_in_place(tmp_path: Path) -> None:
    """Nothing of it is lost, nothing is known of balances, and those of the next block are stored."""
    recent, old = tmp_path / "recent.db", tmp_path / "old.db"
    with SqliteStore(recent) as store:
        for data in TRUNK:
            store.connect(replace(told(data, 1), flows=flows_of(data), forecasts=(forecast(data),)))
    make_old(old, recent)
    tables = (*TABLES, *NEWER, *LIVE, *SPLIT)
    before = rows(old, tables)
    assert run(old, "PRAGMA user_version") == [(4,)]
    assert "balances" not in schema(old)
    for _ in range(2):
        with SqliteStore(old) as store:
            assert {row.balances for row in store.window(str(TRUNK[-1].block_hash), 99)} == {None}
            assert store.balances_of(str(TRUNK[0].block_hash)) is None
        assert rows(old, tables) == before
        assert stored(old) == []
        assert run(old, "PRAGMA user_version") == [(SCHEMA_VERSION,)]
    SqliteStore(tmp_path / "new.db").close()
    assert schema(old) == schema(tmp_path / "new.db")
    with SqliteStore(old) as store:
        store.connect(with_balances(WINNING[0], balances_of(WINNING[0])))
        assert store.window(str(WINNING[0].block_hash), 9)[-1].balances == balances_of(WINNING[0])
    (row,) = stored(old)
    assert json.loads(row[5]) == json.loads(json.dumps(balances_of(WINNING[0]).as_dict()))


def test_what_was_stored_before_more_than_ten_transactions_were_counted() -> None:
    """Is read as it was: no more are known, and its digest is the same."""
    found = balances_of(TRUNK[0])
    before = replace(found, changes=[one._replace(untold=0) for one in found.changes])
    plain = {**before.as_dict(), "changes": [list(one)[:5] for one in found.changes]}
    read = BlockBalances.from_dict(json.loads(json.dumps(plain)))
    assert read == before
    assert read.digest == before.digest == digest(plain)
    assert [one.transactions for one in read.changes] == [2, 0]
    assert [one.transactions for one in found.changes] == [5, 0]
    assert found.digest != before.digest
