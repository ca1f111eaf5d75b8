"""The store: one block one commit, nothing twice, and a window along the branch."""

from __future__ import annotations

from pathlib import Path

import pytest

from persistence.records import chain, insight, past_of, record, rows, signal, told
from utxoiq.errors import NotLinked, StoreError, WrongNetwork
from utxoiq.models import Cursor
from utxoiq.persistence import SqliteStore, reads


def hashes(*blocks: object) -> list[str]:
    return [str(block.block_hash) for block in blocks]  # type: ignore[attr-defined]


def test_a_block_with_all_it_led_to(store: SqliteStore, path: Path) -> None:
    """Block, facts, event, signals and insights in one go; the number of rows is told, and the tip moves."""
    first = chain().trunk[0]
    assert store.connect(told(first, 1, 2)) == 3 + 2 + 2
    assert store.cursor() == Cursor(str(first.block_hash), 900_000)
    assert store.state(str(first.block_hash)) == "connected"
    assert store.network == "simulated"
    assert len(reads.signals(store, 9)) == len(reads.insights(store, 9)) == 2


def test_twice_the_same_writes_nothing(store: SqliteStore, path: Path) -> None:
    """Not even an event or a later time."""
    for data in chain().trunk[:3]:
        store.connect(told(data, 1))
    before = rows(path)
    for data in chain().trunk[:3]:
        assert store.connect(told(data, 1, correlation_id="again")) == 0
        assert store.connect(told(data, 1, island=True)) == 0
    assert rows(path) == before


def test_an_island_twice_writes_nothing(store: SqliteStore, path: Path) -> None:
    store.connect(told(chain().trunk[5], 1, island=True))
    before = rows(path)
    assert store.connect(told(chain().trunk[5], 1, island=True)) == 0
    assert rows(path) == before
    assert store.cursor() is None
    assert store.state(str(chain().trunk[5].block_hash)) == "island"


def test_a_block_must_follow_the_tip(store: SqliteStore, path: Path) -> None:
    """A gap, a rival of the tip: refused, and nothing of it written."""
    trunk = chain().trunk
    for data in trunk:
        store.connect(record(data))
    store.connect(record(chain().stale[0]))
    before = rows(path)
    for data in (chain().winning[0], chain().winning[1]):
        with pytest.raises(NotLinked, match="does not follow the stored tip"):
            store.connect(told(data, 1))
    assert rows(path) == before


def test_only_the_tip_can_be_disconnected(store: SqliteStore, path: Path) -> None:
    """Neither its parent, nor an unknown block, nor anything of an empty store."""
    with pytest.raises(NotLinked, match="the tip is none"):
        store.disconnect("00" * 32, "run")
    for data in chain().trunk[:2]:
        store.connect(record(data))
    before = rows(path)
    for block_hash in (*hashes(chain().trunk[0]), "00" * 32):
        with pytest.raises(NotLinked, match="the tip is"):
            store.disconnect(block_hash, "run")
    assert rows(path) == before


def test_disconnecting_moves_the_tip_down(store: SqliteStore) -> None:
    """To the parent, and below the first block to none."""
    first, second = chain().trunk[:2]
    store.connect(record(first))
    store.connect(record(second))
    store.disconnect(str(second.block_hash), "run")
    assert store.cursor() == Cursor(str(first.block_hash), 900_000)
    assert store.state(str(second.block_hash)) == "disconnected"
    store.disconnect(str(first.block_hash), "run")
    assert store.cursor() is None
    assert store.connect(record(first)) == 1


def test_disconnecting_down_to_an_island_leaves_no_tip(store: SqliteStore) -> None:
    """A parent that was never connected is no tip."""
    first, second = chain().trunk[:2]
    store.connect(record(first, island=True))
    store.connect(record(second))
    store.disconnect(str(second.block_hash), "run")
    assert store.cursor() is None


def test_one_network_a_store(store: SqliteStore, path: Path) -> None:
    """A block of another one is refused before anything is written."""
    store.connect(record(chain().trunk[0]))
    before = rows(path)
    for island in (False, True):
        with pytest.raises(WrongNetwork, match="holds simulated, not regtest"):
            store.connect(record(chain().trunk[1], island=island, network="regtest"))
    assert rows(path) == before


@pytest.mark.parametrize("bad", ["headline", "confidence", "foreign signal", "foreign block"])
def test_one_bad_row_and_nothing_is_written(store: SqliteStore, path: Path, bad: str) -> None:
    """The schema refuses it, and the whole block with it."""
    first, second = chain().trunk[:2]
    store.connect(record(first))
    good = signal(second)
    object.__setattr__(good, "confidence", 1.5 if bad == "confidence" else 0.9)
    signals = [good] if bad != "foreign signal" else []
    if bad == "foreign block":
        signals.append(signal(chain().winning[3]))
    insights = [insight(good, "x" * (81 if bad == "headline" else 80))]
    before = rows(path)
    with pytest.raises(StoreError, match="constraint failed"):
        store.connect(record(second, signals, insights))
    assert rows(path) == before
    assert store.cursor() == Cursor(str(first.block_hash), 900_000)


def test_the_window_is_the_branch_below(store: SqliteStore) -> None:
    """Oldest first, as many as asked for, the facts as they were; unknown blocks have none."""
    for data in chain().trunk:
        store.connect(record(data))
    tip = str(chain().trunk[-1].block_hash)
    assert store.window(tip, 3) == past_of(*chain().trunk[-3:])
    assert store.window(tip, 100) == past_of(*chain().trunk)
    assert store.window("00" * 32, 3) == []
    assert store.window(tip, 1) == past_of(chain().trunk[-1])


def test_a_window_of_no_blocks_is_empty(store: SqliteStore) -> None:
    """Up to 0 blocks are none."""
    store.connect(record(chain().trunk[0]))
    assert store.window(str(chain().trunk[0].block_hash), 0) == []


def test_the_window_stops_at_a_gap(store: SqliteStore) -> None:
    """Blocks of lower height that are not its ancestors, or not linked to it, are not in it."""
    trunk = chain().trunk
    for data in trunk[:2]:
        store.connect(record(data))
    for data in trunk[4:6]:
        store.connect(record(data, island=True))
    assert store.window(str(trunk[5].block_hash), 9) == past_of(*trunk[4:6])
    assert store.window(str(trunk[1].block_hash), 9) == past_of(*trunk[:2])


def test_the_window_keeps_to_its_branch(store: SqliteStore) -> None:
    """After a reorg neither branch sees the other."""
    trunk, stale, winning = chain()
    for data in (*trunk, *stale):
        store.connect(record(data))
    for data in reversed(stale):
        store.disconnect(str(data.block_hash), "run")
    for data in winning:
        store.connect(record(data))
    assert store.window(str(winning[1].block_hash), 4) == past_of(*trunk[-2:], *winning[:2])
    assert store.window(str(stale[1].block_hash), 4) == past_of(*trunk[-2:], *stale)


def test_the_facts_that_hold_are_those_of_the_last_connect(store: SqliteStore) -> None:
    """Under new labels and back under the old ones: both are kept, the window gives the last."""
    (data,) = chain().trunk[:1]
    block_hash = str(data.block_hash)
    for pool in ("old", "new", "old"):
        store.connect(record(data, pool=pool))
        assert [row.facts.pool for row in store.window(block_hash, 1)] == [pool]
        store.disconnect(block_hash, "run")


def test_reading_newest_first(store: SqliteStore) -> None:
    """By block time, with as many as asked for, and JSON back as values."""
    for i, data in enumerate(chain().trunk):
        store.connect(told(data, i))
    found = reads.signals(store, 3)
    assert [row["metadata"]["value"] for row in found] == [7, 6, 5]
    assert [row["block_height"] for row in reads.insights(store, 3)] == [900_007, 900_006, 900_005]
    assert found[0]["simulated"] is True
    assert found[0]["evidence"]["block_hashes"] == hashes(chain().trunk[7])


def test_a_signal_comes_back_as_it_was(store: SqliteStore) -> None:
    """By its id or the beginning of it; its content to the byte."""
    data = chain().trunk[0]
    stored = signal(data, {"nested": [1, 2.5, None, "ü"]})
    store.connect(record(data, [stored, signal(data, 2, subject="other")]))
    for name in (stored.signal_id, stored.signal_id[:13]):
        found = reads.signal(store, name)
        assert found is not None
        assert found.content() == stored.content()
        assert found.recorded_at is not None
    assert reads.signal(store, "") is None
    assert reads.signal(store, "ffffffff-") is None


@pytest.mark.parametrize("name", ["%", "_", "________-____", "%-%"])
def test_a_wildcard_is_no_beginning_of_an_id(store: SqliteStore, name: str) -> None:
    """Even where there is only one signal that it could mean."""
    data = chain().trunk[0]
    store.connect(record(data, [signal(data)]))
    assert reads.signal(store, name) is None


def test_a_signal_is_processed_when_it_has_an_insight(store: SqliteStore) -> None:
    """Derived from the insight's row: before there is none, processed_at is unknown."""
    data = chain().trunk[0]
    with_insight, without = signal(data, 1, subject="a"), signal(data, 2, subject="b")
    store.connect(record(data, [with_insight, without], [insight(with_insight)]))
    by_subject = {row["subject"]: row for row in reads.signals(store, 9)}
    assert by_subject["a"]["processed"] is True
    assert by_subject["a"]["processed_at"] == reads.insights(store, 1)[0]["recorded_at"]
    assert by_subject["b"]["processed"] is False
    assert by_subject["b"]["processed_at"] is None
