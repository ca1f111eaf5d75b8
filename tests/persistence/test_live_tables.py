"""What a live store keeps beside blocks: mempool snapshots and their audits, settings, signals that wait."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from persistence.records import chain, insight, record, rows, run, signal, told
from utxoiq.errors import StoreError
from utxoiq.models import BlockData, BlockRecord, MempoolSnapshot, NextBlock, digest
from utxoiq.persistence import SqliteStore, reads

LIVE = ("mempool_snapshots", "block_snapshots", "settings_events")
AUDIT = {"projected_kvb": [1, 2, 3, 4, 5, 6], "mined_kvb": [1, 2, 3, 4, 5, 6], "projected_fees": 1, "mined_fees": 2,
         "projected_weight": 3, "mined_weight": 4}  # fmt: skip


def snapshot(tip: str = "00" * 32, taken_at: int = 1_700_000_000, **changes: Any) -> MempoolSnapshot:
    return MempoolSnapshot(
        **{
            "taken_at": taken_at, "tip": tip, "transactions": 3, "vsize": 700, "minfee_kvb": 100, "relayfee_kvb": 100,
            "basis": "feerate diagram", "next_block": NextBlock(2_800, 900, [1, 2, 3, 4, 5, 6]),
            "backlog_weight": 2_800, "border_feerates_kvb": [1], **changes,
        }
    )  # fmt: skip


def seen(data: BlockData, audit: dict[str, Any] | None = None, **changes: Any) -> BlockRecord:
    """The record of a block that was mined from a mempool seen before."""
    made = snapshot(str(data.prev_hash), data.block.header.time, **changes)
    plain = record(data)
    return replace(plain, block=replace(data, mempool=made), audit=audit)


def all_rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    return rows(path, (*rows(path), *LIVE))


def mempools(store: SqliteStore, block_hash: str, size: int) -> list[MempoolSnapshot | None]:
    """Of the window that ends with a block."""
    return [row.mempool for row in store.window(block_hash, size)]


# Snapshots


def test_a_snapshot_is_kept_once(store: SqliteStore, path: Path) -> None:
    """By its content: again it writes nothing; another second is another snapshot."""
    assert store.add_snapshot(snapshot()) == 1
    assert store.add_snapshot(snapshot()) == 0
    assert store.add_snapshot(snapshot(taken_at=1_700_000_001)) == 1
    assert len(rows(path, LIVE)["mempool_snapshots"]) == 2


@pytest.mark.parametrize(
    "changes",
    [{}, {"next_block": None}, {"backlog_weight": None, "border_feerates_kvb": None, "basis": None},
     {"next_block": NextBlock(0, 0, [])}, {"border_feerates_kvb": []}],
)  # fmt: skip
def test_a_snapshot_comes_back_as_it_was(store: SqliteStore, changes: dict[str, Any]) -> None:
    """With what is unknown still unknown, and what is empty empty; under the same id."""
    data = chain().trunk[0]
    taken = seen(data, **changes)
    store.connect(taken)
    (back,) = mempools(store, str(data.block_hash), 1)
    assert back == taken.block.mempool
    assert back is not None
    assert taken.block.mempool is not None
    assert back.snapshot_id == taken.block.mempool.snapshot_id
    assert run(store.database.path, "SELECT snapshot_id FROM mempool_snapshots") == [(back.snapshot_id,)]


def test_the_newest_snapshot(store: SqliteStore) -> None:
    """By the time it was taken, of those of one second the last; None in an empty store."""
    assert reads.mempool(store) is None
    for taken_at, transactions in ((10, 1), (30, 2), (20, 3), (30, 4)):
        store.add_snapshot(snapshot(taken_at=taken_at, transactions=transactions))
    newest = reads.mempool(store)
    assert newest is not None
    assert newest["transactions"] == 4
    assert newest["next_block"]["feerate_percentiles_kvb"] == [1, 2, 3, 4, 5, 6]


def test_snapshots_no_block_was_mined_from_are_forgotten(store: SqliteStore, path: Path) -> None:
    """Those before a moment; a block's own stays as long as the store."""
    first, second = chain().trunk[:2]
    store.connect(seen(first))
    for taken_at in (10, 20, 30):
        store.add_snapshot(snapshot(taken_at=taken_at))
    assert store.forget_snapshots(20) == 1
    assert store.forget_snapshots(20) == 0
    assert store.forget_snapshots(1 << 40) == 2
    assert len(rows(path, LIVE)["mempool_snapshots"]) == 1
    store.connect(record(second))
    assert [one is None for one in mempools(store, str(second.block_hash), 9)] == [False, True]


# Blocks and the mempools they were mined from


def test_mempools_go_with_the_window(store: SqliteStore) -> None:
    """The same blocks in the same order; None where no mempool was seen, and for a block nobody knows nothing."""
    trunk = chain().trunk
    for i, data in enumerate(trunk):
        store.connect(seen(data, transactions=i) if i % 3 else record(data))
    tip = str(trunk[-1].block_hash)
    for size in (1, 3, len(trunk), 99):
        window = store.window(tip, size)
        assert len(window) == min(size, len(trunk))
        for row in window:
            place = [str(data.block_hash) for data in trunk].index(row.facts.blockhash)
            assert (row.mempool and row.mempool.transactions) == (place if place % 3 else None)
    assert store.window("00" * 32, 9) == []
    assert store.window(tip, 0) == []


def test_mempools_follow_the_branch(store: SqliteStore) -> None:
    """Of two blocks of one height each has its own."""
    for data in chain().trunk:
        store.connect(record(data))
    for stale in chain().stale:
        store.connect(seen(stale, transactions=1))
    for stale in reversed(chain().stale):
        store.disconnect(str(stale.block_hash), "run")
    for data in chain().winning:
        store.connect(seen(data, transactions=2))
    tips = [chain().winning[-1], chain().stale[-1]]
    told = [{m.transactions for m in mempools(store, str(t.block_hash), 4) if m} for t in tips]
    assert told == [{2}, {1}]


def test_an_audit_is_part_of_its_block(store: SqliteStore, path: Path) -> None:
    """In the same commit, once; again the same block writes nothing."""
    data = chain().trunk[0]
    assert store.connect(seen(data, AUDIT)) == 3 + 2
    before = all_rows(path)
    assert store.connect(seen(data, AUDIT)) == 0
    assert store.connect(seen(data, {**AUDIT, "mined_fees": 9})) == 0
    assert all_rows(path) == before


def test_a_block_that_fails_leaves_no_snapshot(store: SqliteStore, path: Path) -> None:
    """Neither it nor the audit, if the block's commit is undone."""
    data = chain().trunk[0]
    before = all_rows(path)
    broken = replace(seen(data, AUDIT), insights=(insight(signal(chain().trunk[1])),))
    with pytest.raises(StoreError):
        store.connect(broken)
    assert all_rows(path) == before


def test_audits_newest_first(store: SqliteStore) -> None:
    """Of connected blocks only, with height and the time of the snapshot; those without an audit are left out."""
    for i, data in enumerate(chain().trunk):
        store.connect(seen(data, {**AUDIT, "mined_fees": i} if i != 3 else None))
    store.connect(seen(chain().stale[0], {**AUDIT, "mined_fees": 99}))
    assert reads.audits(store, 1)[0]["mined_fees"] == 99
    store.disconnect(str(chain().stale[0].block_hash), "run")
    found = reads.audits(store, 99)
    assert [row["mined_fees"] for row in found] == [7, 6, 5, 4, 2, 1, 0]
    assert found[0] == {
        "block_hash": str(chain().trunk[7].block_hash), "height": 900_007,
        "taken_at": chain().trunk[7].block.header.time, **AUDIT, "mined_fees": 7,
    }  # fmt: skip
    assert len(reads.audits(store, 2)) == 2


def test_a_block_that_returns_keeps_its_first_audit(store: SqliteStore) -> None:
    """What was foretold before it was known is not foretold anew when it comes back."""
    for data in chain().trunk:
        store.connect(record(data))
    back = chain().stale[0]
    store.connect(seen(back, {**AUDIT, "mined_fees": 1}))
    store.disconnect(str(back.block_hash), "run")
    store.connect(seen(back, {**AUDIT, "mined_fees": 2}, transactions=77))
    assert [row["mined_fees"] for row in reads.audits(store, 9)] == [1]


# Ancestors


def test_ancestors_downwards(store: SqliteStore) -> None:
    """Hash and header of each, as far as they are stored and linked; of stale branches too."""
    for data in (*chain().trunk, *chain().stale):
        store.connect(record(data))
    for stale in reversed(chain().stale):
        store.disconnect(str(stale.block_hash), "run")
    branch = [*chain().trunk, *chain().stale][::-1]
    found = list(store.ancestors(str(branch[0].block_hash)))
    assert [block_hash for block_hash, _ in found] == [str(data.block_hash) for data in branch]
    assert [header for _, header in found] == [data.block.raw[:80].tobytes() for data in branch]
    assert list(store.ancestors("00" * 32)) == []


def test_ancestors_are_read_as_they_are_needed(store: SqliteStore) -> None:
    """The first one costs no walk over the whole chain."""
    for data in chain().trunk:
        store.connect(record(data))
    steps = store.ancestors(str(chain().trunk[-1].block_hash))
    assert next(steps)[0] == str(chain().trunk[-1].block_hash)


# Settings


def test_settings_events(store: SqliteStore, path: Path) -> None:
    """Each is a row: what, when, why; the same settings have the same digest."""
    store.add_settings("applied", {"a": 1, "b": {"c": None}}, [], "start")
    store.add_settings("refused", {"a": 1, "b": {"c": None}}, [], "utxoiq.toml: no")
    changes = [{"name": "a", "old": 1, "new": 2}]
    store.add_settings("applied", {"b": {"c": None}, "a": 2}, changes, "")
    found = run(path, "SELECT event, digest, settings, changes, reason FROM settings_events ORDER BY seq")
    assert [row[0] for row in found] == ["applied", "refused", "applied"]
    assert found[0][1] == found[1][1] == digest({"b": {"c": None}, "a": 1}) != found[2][1]
    assert (json.loads(found[2][2]), json.loads(found[2][3]), found[1][4]) == (
        {"a": 2, "b": {"c": None}}, changes, "utxoiq.toml: no",
    )  # fmt: skip


def test_another_event_is_refused(store: SqliteStore, path: Path) -> None:
    with pytest.raises(StoreError):
        store.add_settings("thought about", {}, [], "")
    assert rows(path, LIVE)["settings_events"] == []


# Signals that wait


def test_stale_signals(store: SqliteStore, path: Path) -> None:
    """Those that hold, are not narrated, and were recorded before; and when the first of them was."""
    assert store.stale_signals(1 << 40) == (0, None)
    first, second, third = chain().trunk[:3]
    told_of = signal(first, 1, subject="told")
    store.connect(record(first, [told_of, signal(first, 2, subject="waits")], [insight(told_of)]))
    store.connect(record(second, [signal(second, 3)]))
    store.connect(told(third, 4))
    run(path, "UPDATE signals SET recorded_at = block_height - 899900")
    assert store.stale_signals(1 << 40) == (2, 100)
    assert store.stale_signals(101) == (1, 100)
    assert store.stale_signals(100) == (0, None)


def test_stale_signals_are_of_the_chain(store: SqliteStore) -> None:
    """What was retracted waits for nobody."""
    for data in chain().trunk:
        store.connect(record(data))
    back = chain().stale[0]
    store.connect(record(back, [signal(back)]))
    assert store.stale_signals(1 << 40)[0] == 1
    store.disconnect(str(back.block_hash), "run")
    assert store.stale_signals(1 << 40) == (0, None)
