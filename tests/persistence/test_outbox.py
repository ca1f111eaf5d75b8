"""The outbox: what a warehouse has still to be told, queued in the transaction that wrote it, and sent in order."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from persistence.records import chain, flows_of, forecast, insight, record, rows, run, signal, told
from persistence.test_live_tables import seen, snapshot
from persistence.test_upgrade import make_old
from utxoiq.errors import NotLinked, StoreError, WarehouseError
from utxoiq.models import BlockData, BlockRecord
from utxoiq.persistence import SqliteStore, narration
from utxoiq.persistence.outbox import Outbox, Parcel
from utxoiq.persistence.schema import SHIPPED

HERE = "a warehouse"
ALL = 1 << 30


def full(data: BlockData, value: Any = 1) -> BlockRecord:
    """A block with something for every relation: mempool, flows, forecast, a narrated signal and one that waits."""
    made, waits = told(data, value), signal(data, value, kind="waiting")
    flows, foretold = flows_of(data), (forecast(data),)
    mempool = seen(data).block
    return replace(made, block=mempool, signals=(*made.signals, waits), flows=flows, forecasts=foretold)


def queued(path: Path) -> list[tuple[str, Any]]:
    """(relation, key) in the order they were queued."""
    return run(path, "SELECT relation, key FROM outbox ORDER BY seq")


def stored(path: Path) -> Counter[tuple[str, Any]]:
    """(relation, key) of every row that goes into a warehouse, from the tables themselves."""
    return Counter(
        (relation, key)
        for relation, (table, column) in SHIPPED.items()
        for (key,) in run(path, f"SELECT {column} FROM {table}")
    )


def sent(outbox: Outbox, most: int = ALL) -> list[tuple[str, Any]]:
    """All that waits, sent batch by batch, in the order in which it would arrive."""
    arrived: list[tuple[str, Any]] = []
    while parcels := outbox.parcels(most):
        for parcel in parcels:
            arrived += [(parcel.relation, key) for key in parcel.keys]
            outbox.arrived(parcel, "stream", parcel.offset + len(parcel.keys))
    return arrived


def whole(order: list[tuple[str, Any]], path: Path) -> None:
    """Every block's last word, that it is connected, arrives after all the block's other rows."""
    place = {row: n for n, row in enumerate(order)}
    said = "SELECT max(seq), block_hash FROM block_events WHERE event = 'connected' GROUP BY block_hash"
    for seq, block in run(path, said):
        at = place["block_events", seq]
        for relation in ("blocks", "mempools"):
            assert place.get((relation, block), -1) < at
        for relation, (table, column) in SHIPPED.items():
            if relation in ("facts", "flows", "entity_flows", "forecasts", "signals"):
                for (key,) in run(path, f"SELECT {column} FROM {table} WHERE block_hash = ?", block):
                    assert place[relation, key] < at, (relation, block)


@pytest.fixture
def filled(store: SqliteStore) -> SqliteStore:
    """Three blocks, one of them taken back and with another in its place, an island, a signal no words came of."""
    trunk = chain().trunk
    for data in trunk[:3]:
        store.connect(full(data))
    store.disconnect(str(trunk[2].block_hash), "run")
    store.connect(full(trunk[2]))
    store.connect(record(trunk[6], island=True))
    buried(store, trunk[0])
    return store


def buried(store: SqliteStore, data: BlockData) -> None:
    """No words come of the signal of a block that waits."""
    lease = store.leases.acquire("narrate", "me", 60)
    assert lease is not None
    waits = next(s for s in full(data).signals if s.kind == "waiting")
    assert narration.narrated(store, lease, [], [narration.Failure(waits, "no template", final=True)], "run") == 1


# What is queued


def test_nothing_is_queued_for_nobody(filled: SqliteStore, path: Path) -> None:
    """A store that is not shipped pays nothing: no row, no lag, no parcel, no destination."""
    assert queued(path) == []
    assert filled.outbox.destination is None
    assert (filled.outbox.lag().rows, filled.outbox.lag().seconds) == (0, 0.0)
    assert filled.outbox.parcels(ALL) == []
    assert rows(path, ["shipping"]) == {"shipping": []}


def test_all_that_is_stored_is_queued_at_the_beginning(filled: SqliteStore, path: Path) -> None:
    """Each row of each relation once, the events of blocks last; begun again, nothing more."""
    everything = stored(path)
    assert {relation for relation, _ in everything} == set(SHIPPED), "there is something of each"
    assert filled.outbox.open(HERE) == everything.total()
    assert Counter(queued(path)) == everything
    whole(queued(path), path)
    assert filled.outbox.destination == HERE
    for _ in range(2):
        assert filled.outbox.open(HERE) == 0
    with SqliteStore(path) as again:
        assert again.outbox.open(HERE) == 0
    assert Counter(queued(path)) == everything


def test_another_destination_is_refused(filled: SqliteStore, path: Path) -> None:
    """One line that says where it goes and what to do; nothing is queued anew. Asked for, all is sent there again."""
    filled.outbox.open(HERE)
    sent(filled.outbox)
    with pytest.raises(WarehouseError, match=rf"shipped to {HERE}.*ship --again") as raised:
        filled.outbox.open("another")
    assert "\n" not in str(raised.value)
    assert (filled.outbox.destination, queued(path)) == (HERE, [])
    assert filled.outbox.reopen("another") == stored(path).total()
    assert Counter(queued(path)) == stored(path)
    assert {parcel.stream for parcel in filled.outbox.parcels(ALL)} == {None}, "what was known of streams is forgotten"
    assert filled.outbox.open("another") == 0


def test_each_later_row_is_queued(store: SqliteStore, path: Path) -> None:
    """Whatever writes it, in the order it was written; what writes nothing queues nothing; a mempool alone stays."""
    first, second = chain().trunk[:2]
    store.outbox.open(HERE)
    waits = next(s for s in full(first).signals if s.kind == "waiting")
    blocks = [
        lambda: store.connect(full(first)),
        lambda: store.connect(full(first)),
        lambda: store.connect(full(second)),
        lambda: store.disconnect(str(second.block_hash), "run"),
        lambda: store.connect(full(second)),
    ]
    others = [
        lambda: store.persist_signals([signal(first, "more")], "run"),
        lambda: store.supersede(waits.signal_id, signal(first, 2, kind="waiting"), [], "a test", "run"),
        lambda: store.restate([(record(first, labels_version="other").facts, flows_of(first, 8))]),
        lambda: store.add_snapshot(snapshot(taken_at=5)),
        lambda: store.add_settings("applied", {}, [], "start"),
        lambda: store.connect(record(chain().trunk[6], island=True)),
        lambda: buried(store, second),
    ]
    for writes in (blocks, others):
        for write in writes:
            write()
            assert Counter(queued(path)) == stored(path)
        if writes is blocks:
            whole(queued(path), path)
    assert {relation for relation, _ in queued(path)} == set(SHIPPED)


def test_an_insight_of_a_narrator_is_queued(store: SqliteStore, path: Path) -> None:
    """In the transaction that stores it."""
    store.outbox.open(HERE)
    made = signal(chain().trunk[0])
    store.connect(record(chain().trunk[0], [made]))
    before, lease = len(queued(path)), store.leases.acquire("narrate", "me", 60)
    assert lease is not None
    assert narration.narrated(store, lease, [insight(made)], [], "run") == 1
    assert queued(path)[before:] == [("insights", insight(made).insight_id)]


def test_a_row_and_its_place_in_the_queue_are_one(store: SqliteStore, path: Path) -> None:
    """What is refused, or fails in the middle of its commit, leaves neither."""
    store.outbox.open(HERE)
    store.connect(full(chain().trunk[0]))
    before, was = queued(path), stored(path)
    with pytest.raises(NotLinked):
        store.connect(full(chain().trunk[5]))
    broken = replace(full(chain().trunk[1]), forecasts=(forecast(chain().trunk[1]), None))  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        store.connect(broken)
    with pytest.raises(StoreError, match="syntax"), store.database.transaction():
        _break(store)
    assert (queued(path), stored(path)) == (before, was)
    assert store.connect(full(chain().trunk[1])) > 0


def _break(store: SqliteStore) -> None:
    """Write a row, and fail."""
    before = store.outbox.lag().rows
    store.database.execute("INSERT INTO block_events SELECT NULL, block_hash, event, 'x', 0 FROM block_events")
    assert store.outbox.lag().rows == before + 1
    store.database.execute("no statement")


def test_a_row_whose_place_in_the_queue_fails_is_not_written(store: SqliteStore, path: Path) -> None:
    """A store that can't queue refuses the block: the warehouse never misses one silently."""
    store.outbox.open(HERE)
    run(path, "CREATE TRIGGER broken BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'the disk fails'); END")
    with pytest.raises(StoreError, match="the disk fails"):
        store.connect(full(chain().trunk[0]))
    assert not stored(path)
    run(path, "DROP TRIGGER broken")
    store.connect(full(chain().trunk[0]))
    assert Counter(queued(path)) == stored(path)


# What is sent


def order_of(parcels: list[Parcel]) -> list[str]:
    return [parcel.relation for parcel in parcels]


def test_the_events_of_blocks_go_last(filled: SqliteStore) -> None:
    """In a batch of all, relations in their order: whoever sees a block connected there sees all of it."""
    filled.outbox.open(HERE)
    parcels = filled.outbox.parcels(ALL)
    assert order_of(parcels) == list(SHIPPED)
    assert order_of(parcels)[-1] == "block_events"
    assert all(parcel.keys and parcel.stream is None and parcel.job_id is None for parcel in parcels)


@pytest.mark.parametrize("most", [1, 2, 3, 7, 50, ALL])
def test_all_arrives_once_and_in_order(store: SqliteStore, path: Path, most: int) -> None:
    """Of a store of before, while more comes, in batches of any size: each row once, a block's event after its rows."""
    trunk = chain().trunk
    for data in trunk[:3]:
        store.connect(full(data))
    store.outbox.open(HERE)
    arrived = []
    for data in trunk[3:6]:
        store.connect(full(data))
        for parcel in store.outbox.parcels(most):
            arrived += [(parcel.relation, key) for key in parcel.keys]
            store.outbox.arrived(parcel, None, 0)
    store.disconnect(str(trunk[5].block_hash), "run")
    store.connect(full(trunk[5]))
    arrived += sent(store.outbox, most)
    assert Counter(arrived) == stored(path)
    whole(arrived, path)
    assert queued(path) == []


def test_a_batch_has_at_most_so_many_rows(filled: SqliteStore, path: Path) -> None:
    """The oldest; what is too much waits for the next."""
    filled.outbox.open(HERE)
    first = queued(path)[:4]
    parcels = filled.outbox.parcels(4)
    assert [(parcel.relation, key) for parcel in parcels for key in parcel.keys] == first


def test_the_same_parcels_after_a_crash(filled: SqliteStore, path: Path) -> None:
    """Begun and not told to have arrived: the same rows to the same place, whatever was written since, in any process;
    what did arrive does not come again."""
    filled.outbox.open(HERE)
    begun = filled.outbox.parcels(8)
    for parcel in begun:
        filled.outbox.begin(parcel.relation, f"stream of {parcel.relation}", 40, job_id="job")
    for data in chain().trunk[3:5]:
        filled.connect(full(data))
    with SqliteStore(path) as other:
        again = other.outbox.parcels(ALL)
        assert again == filled.outbox.parcels(1)
        assert [(one.relation, one.keys, one.last_seq) for one in again] == [
            (one.relation, one.keys, one.last_seq) for one in begun
        ]
        assert {(one.stream, one.offset, one.job_id) for one in again} == {
            (f"stream of {one.relation}", 40, "job") for one in begun
        }
        other.outbox.arrived(again[0], "stream of blocks", 43)
        assert other.outbox.parcels(ALL) == again[1:]
        arrived = [(parcel.relation, key) for parcel in begun[:1] for key in parcel.keys] + sent(other.outbox)
    assert Counter(arrived) == stored(path)


def test_what_arrived_is_taken_out_alone(filled: SqliteStore, path: Path) -> None:
    """Its own rows; those of other relations, and later ones of the same, stay. Where the next goes is kept."""
    filled.outbox.open(HERE)
    parcels = filled.outbox.parcels(ALL)
    filled.connect(full(chain().trunk[3]))
    later = len(queued(path)) - sum(len(parcel.keys) for parcel in parcels)
    for n, parcel in enumerate(parcels, 1):
        before = queued(path)
        filled.outbox.arrived(parcel, f"stream of {parcel.relation}", 100 + n)
        mine = {(parcel.relation, key) for key in parcel.keys}
        assert queued(path) == [row for row in before if row not in mine]
    assert len(queued(path)) == later
    rest = filled.outbox.parcels(ALL)
    assert [(one.relation, one.stream, one.job_id) for one in rest] == [
        (one.relation, f"stream of {one.relation}", None) for one in rest
    ]
    offsets = dict(zip(SHIPPED, range(101, 200), strict=False))
    assert {one.relation: one.offset for one in rest} == {one.relation: offsets[one.relation] for one in rest}


def test_the_lag_is_of_what_waits(filled: SqliteStore, path: Path) -> None:
    """Its rows and the age of the oldest; none once all arrived; never below zero, whatever a clock did."""
    count = filled.outbox.open(HERE)
    assert filled.outbox.lag().rows == count
    run(path, "UPDATE outbox SET recorded_at = recorded_at - 500 WHERE seq = (SELECT max(seq) FROM outbox)")
    assert 500 <= filled.outbox.lag().seconds < 700
    run(path, "UPDATE outbox SET recorded_at = ?", int(time.time()) + 9000)
    assert filled.outbox.lag().seconds == 0.0
    sent(filled.outbox)
    assert (filled.outbox.lag().rows, filled.outbox.lag().seconds) == (0, 0.0)


def test_a_number_in_the_queue_is_never_used_again(store: SqliteStore, path: Path) -> None:
    """After the queue was empty too: what is acknowledged late takes nothing that came since."""
    store.outbox.open(HERE)
    store.connect(full(chain().trunk[0]))
    parcels = store.outbox.parcels(ALL)
    for parcel in parcels:
        store.outbox.arrived(parcel, None, 0)
    assert queued(path) == []
    store.connect(full(chain().trunk[1]))
    since = queued(path)
    for parcel in parcels:
        store.outbox.arrived(parcel, None, 0)
    assert queued(path) == since


# Stores of before


@pytest.mark.parametrize("version", [1, 2, 3])
def test_an_older_store_is_shipped(tmp_path: Path, version: int) -> None:
    """Whole, from its first block on, and what comes later with it."""
    with SqliteStore(tmp_path / "recent.db") as store:
        for data in chain().trunk[:4]:
            store.connect(told(data, 1, 2))
        store.disconnect(str(chain().trunk[3].block_hash), "run")
    old = tmp_path / "old.db"
    make_old(old, tmp_path / "recent.db", version)
    with SqliteStore(old) as store:
        assert store.outbox.destination is None
        assert store.outbox.open(HERE) == stored(old).total() > 20
        arrived = sent(store.outbox, 5)
        store.connect(full(chain().trunk[3]))
        arrived += sent(store.outbox)
    assert Counter(arrived) == stored(old)
    whole(arrived, old)


def test_an_older_program_is_told_that_it_is_old(filled: SqliteStore, path: Path) -> None:
    """A store of ours that it could open would lose rows for the warehouse: the version says it can't."""
    filled.outbox.open(HERE)
    (version,) = run(path, "PRAGMA user_version")[0]
    assert version >= 4
    run(path, f"PRAGMA user_version = {version + 1}")
    with pytest.raises(StoreError, match="newer than this utxoiq"):
        SqliteStore(path)


def test_rows_written_by_hand_are_queued_too(filled: SqliteStore, path: Path) -> None:
    """By any connection to the file: it is the file that queues, not the program."""
    filled.outbox.open(HERE)
    sent(filled.outbox)
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("INSERT INTO block_events SELECT NULL, block_hash, 'disconnected', 'x', 0 FROM cursor")
    connection.close()
    assert [relation for relation, _ in queued(path)] == ["block_events"]
