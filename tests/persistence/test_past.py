"""What a block's past is made of: flows and forecasts are in its one commit; a window in memory is the one that is
stored."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from persistence.records import (
    HISTORY,
    NEWER,
    chain,
    facts_of,
    flows_of,
    forecast,
    past_of,
    record,
    rows,
    run,
    signal,
    told,
)
from persistence.test_live_tables import snapshot
from utxoiq.errors import StoreError
from utxoiq.history import Past, Window
from utxoiq.models import BlockData, BlockRecord, Forecast
from utxoiq.persistence import SignalPersistenceModule, SqliteStore, module
from utxoiq.persistence.sqlite import MOST_STORED_TRANSFERS
from utxoiq.processors.base import digest_of_series, mempool_of, row_digest


def whole(data: BlockData, n: int = 0, forecasts: Iterable[Forecast] = (), **facts: Any) -> BlockRecord:
    """The record of a block with flows, a forecast and, of every other one, a mempool."""
    plain = record(data, **facts)
    height = data.height or 0
    seen = snapshot(str(data.prev_hash), data.block.header.time, transactions=n) if height % 2 else None
    each = tuple(forecasts) or (forecast(data, 1000 + n),)
    return replace(plain, block=replace(data, mempool=seen), flows=flows_of(data, 7 + n), forecasts=each)


def counts(path: Path) -> dict[str, int]:
    return {table: len(each) for table, each in rows(path, NEWER).items()}


def scores(path: Path, **wanted: Any) -> list[tuple[Any, ...]]:
    """(block height, target height, target hash, value, actual) of scored forecasts, by their target."""
    where = " AND ".join(f"{name} = '{value}'" for name, value in wanted.items()) or "1"
    sql = f"SELECT block_height, target_height, target_hash, value_kvb, actual_kvb FROM forecast_scores WHERE {where}"
    return run(path, sql + " ORDER BY target_height, value_kvb")


def digests(window: Iterable[Past]) -> str:
    """Of all that is remembered of each block."""
    each = list(window)
    fields = tuple(each[0].facts.as_dict()) if each else ()
    return digest_of_series([row_digest(row, fields, True) + mempool_of(row) for row in each])


# Flows


def test_flows_come_back_as_their_sums(store: SqliteStore) -> None:
    """To the digest; unknown ones are unknown."""
    first, second = chain().trunk[:2]
    store.connect(whole(first))
    store.connect(record(second))
    known, unknown = store.window(str(second.block_hash), 9)
    assert known.flows == flows_of(first).sums()
    assert known.flows is not None
    assert known.flows.digest == flows_of(first).sums().digest
    assert unknown.flows is None


def test_the_largest_transfers_are_kept_one_by_one(store: SqliteStore, path: Path) -> None:
    """Twenty of thirty; sums, and the digest, are of all."""
    data = chain().trunk[0]
    store.connect(replace(whole(data), flows=flows_of(data, transfers=30)))
    ((text, digest),) = run(path, "SELECT flows, digest FROM flows")
    assert len(json.loads(text)["transfers"]) == MOST_STORED_TRANSFERS == 20
    assert json.loads(text)["entities"]["exchange"]["arrived"] == 30 * 7
    assert digest == flows_of(data, transfers=30).digest


def test_a_block_with_all_of_it_is_one_commit(store: SqliteStore, path: Path) -> None:
    """A row refused anywhere, and neither flows nor forecasts are there; then all of it at once; then nothing twice."""
    first, second = chain().trunk[:2]
    store.connect(whole(first))
    before = rows(path, (*HISTORY, *NEWER, "cursor"))
    bad = signal(second)
    object.__setattr__(bad, "confidence", 7)
    with pytest.raises(StoreError, match="constraint"):
        store.connect(replace(whole(second), signals=(bad,)))
    misplaced = replace(forecast(second), block_hash="00" * 32)
    with pytest.raises(StoreError, match="constraint"):
        store.connect(whole(second, forecasts=[forecast(second), misplaced]))
    assert rows(path, (*HISTORY, *NEWER, "cursor")) == before
    assert store.connect(whole(second)) == 1 + 1 + 1 + 1 + 1 + 2
    after = rows(path, (*HISTORY, *NEWER, "cursor"))
    assert store.connect(whole(second)) == 0
    assert store.connect(whole(second, 9)) == 0
    assert rows(path, (*HISTORY, *NEWER, "cursor")) == after
    assert counts(path) == {"flows": 2, "forecasts": 2}


def test_a_block_that_returns_writes_nothing_twice(store: SqliteStore, path: Path) -> None:
    """The same flows and forecasts are there already; others are other rows, of which the last flows hold."""
    first, second = chain().trunk[:2]
    store.connect(whole(first))
    for n, wanted in ((0, (2, 2)), (0, (2, 2)), (5, (3, 3)), (0, (4, 3))):
        store.connect(whole(second, n))
        assert tuple(counts(path).values()) == wanted
        assert store.window(str(second.block_hash), 1)[0].flows == flows_of(second, 7 + n).sums()
        store.disconnect(str(second.block_hash), "run")


def test_every_row_stays_as_it_was(store: SqliteStore, path: Path) -> None:
    """Through a reorg: flows and forecasts of the branch that lost are still there, and belong to it."""
    trunk, stale, winning = chain()
    for data in (*trunk, *stale):
        store.connect(whole(data))
    before = rows(path, NEWER)
    for data in reversed(stale):
        store.disconnect(str(data.block_hash), "run")
    assert rows(path, NEWER) == before
    for n, data in enumerate(winning):
        store.connect(whole(data, n))
    after = rows(path, NEWER)
    assert {table: each[: len(before[table])] for table, each in after.items()} == before
    assert [row.flows for row in store.window(str(stale[1].block_hash), 2)] == [flows_of(one).sums() for one in stale]


# Forecasts


def test_a_forecast_is_scored_when_its_block_is_there(store: SqliteStore, path: Path) -> None:
    """Its block's own median package feerate; before, it is unknown."""
    trunk = chain().trunk
    for data in trunk:
        store.connect(whole(data, forecasts=[forecast(data, 1000), forecast(data, 2000, 6, "node")]))
    paid = {d.height: facts_of(d).package_feerate_percentiles_kvb[2] for d in trunk if facts_of(d).txs > 1}  # type: ignore[index]
    assert paid
    last = trunk[-1].height or 0
    names = {data.height: str(data.block_hash) for data in trunk}
    for data in trunk:
        height = data.height or 0
        (one,) = scores(path, block_hash=data.block_hash, method="naive")
        known = height + 1 <= last
        assert one == (height, height + 1, names.get(height + 1), 1000, paid.get(height + 1) if known else None)
    assert [one[1] for one in scores(path, method="node")] == [(data.height or 0) + 6 for data in trunk]


def test_an_empty_block_settles_nothing(store: SqliteStore, path: Path) -> None:
    """Nobody paid in it, nor where fees are unknown: the target is there, and what it paid is not."""
    first, second, third = chain().trunk[:3]
    store.connect(whole(first))
    store.connect(whole(second, txs=1, package_feerate_percentiles_kvb=[0] * 5))
    store.connect(whole(third, txs=9, package_feerate_percentiles_kvb=None))
    by_first, by_second, _ = scores(path)
    assert by_first[2:] == (str(second.block_hash), 1000, None)
    assert by_second[2:] == (str(third.block_hash), 1000, None)


def test_the_target_is_the_block_of_the_best_chain(store: SqliteStore, path: Path) -> None:
    """Foretold before a reorg, scored against what won; what the lost branch foretold is not scored while it is off."""
    trunk, stale, winning = chain()
    for data in (*trunk, *stale):
        store.connect(whole(data, forecasts=[forecast(data, 1000, 1), forecast(data, 1500, 2)]))
    of_tip = {"block_hash": trunk[-1].block_hash}
    assert [one[2] for one in scores(path, **of_tip)] == [str(one.block_hash) for one in stale]
    for data in reversed(stale):
        store.disconnect(str(data.block_hash), "run")
    assert [one[2:] for one in scores(path, **of_tip)] == [(None, 1000, None), (None, 1500, None)]
    assert [scores(path, block_hash=one.block_hash) for one in stale] == [[], []]
    for data in winning:
        store.connect(whole(data))
    assert [one[2] for one in scores(path, **of_tip)] == [str(one.block_hash) for one in winning[:2]]
    paid = [facts_of(one).package_feerate_percentiles_kvb for one in winning[:2]]
    assert [one[4] for one in scores(path, **of_tip)] == [one and one[2] for one in paid]
    assert len(scores(path)) == len({(one[0], one[1], one[3]) for one in scores(path)}), "each is scored once"
    for data in reversed(winning):
        store.disconnect(str(data.block_hash), "run")
    for data in stale:
        store.connect(whole(data, forecasts=[forecast(data, 1000, 1), forecast(data, 1500, 2)]))
    assert [one[2] for one in scores(path, **of_tip)] == [str(one.block_hash) for one in stale]
    assert len(scores(path, block_hash=stale[0].block_hash)) == 2


def test_forecasts_of_an_island_are_not_scored(store: SqliteStore, path: Path) -> None:
    """Nobody knows that its target followed it."""
    first, second, third = chain().trunk[:3]
    store.connect(whole(first))
    store.connect(replace(whole(third), cursor=None))
    assert [one[0] for one in scores(path)] == [first.height]
    store.connect(whole(second))
    assert scores(path)[-1][2] is None


def test_a_forecast_is_named_by_all_it_says() -> None:
    """Another value, block, method or model is another forecast."""
    data = chain().trunk[0]
    one = forecast(data)
    others = [forecast(data, 2001), forecast(data, ahead=6), forecast(data, method="node"), forecast(chain().trunk[1]),
              forecast(data, low_kvb=1), forecast(data, model_version="test-2")]  # fmt: skip
    assert forecast(data).forecast_id == one.forecast_id
    assert len({one.forecast_id, *(other.forecast_id for other in others)}) == 7


# The window


async def go_on(persistence: SignalPersistenceModule, data: BlockData, size: int, n: int = 0) -> Window:
    """The window before a block, which is then connected."""
    window = await persistence.window(data.prev_hash, size)
    assert (await persistence.connect(whole(data, n))).success
    return window


async def test_a_window_in_memory_is_the_stored_one(store: SqliteStore, path: Path) -> None:
    """To the digest of facts, flows and mempools: kept over many blocks, read anew after a restart, through a reorg."""
    persistence = SignalPersistenceModule(store=store)
    trunk, stale, winning = chain()

    async def compare(tip: BlockData) -> None:
        for size in (4, 99):
            kept = await persistence.window(tip.block_hash, size)
            with SqliteStore(path) as again:
                anew = await SignalPersistenceModule(store=again).window(tip.block_hash, size)
            assert kept.rows == anew.rows
            assert digests(kept.rows) == digests(anew.rows)
            assert [row.flows and row.flows.digest for row in kept.rows] == [
                row.flows and row.flows.digest for row in anew.rows
            ]

    for data in (*trunk, *stale):
        await go_on(persistence, data, 4)
        await compare(data)
    for data, below in zip(reversed(stale), (stale[0], trunk[-1]), strict=True):
        assert (await persistence.disconnect(data.block_hash, "run")).success
        await compare(below)
    for n, data in enumerate(winning):
        await go_on(persistence, data, 4, n)
        await compare(data)


@pytest.mark.parametrize("change", ["flows", "mempool"])
async def test_a_block_that_returns_with_less_or_other_beside_it(store: SqliteStore, path: Path, change: str) -> None:
    """Taken off and given again, its flows now unknown, or mined from a mempool seen later: what is kept in memory, and
    what signals rest on, is what is stored."""
    persistence = SignalPersistenceModule(store=store)
    for data in chain().trunk[:3]:
        await go_on(persistence, data, 9)
    last = chain().trunk[3]
    seen = [replace(last, mempool=snapshot(str(last.prev_hash), at)) for at in (1_700_000_000, 1_700_000_099)]
    again = replace(whole(last), block=seen[1]) if change == "mempool" else replace(whole(last), flows=None)
    await persistence.window(last.prev_hash, 9)
    await persistence.connect(replace(whole(last), block=seen[0]) if change == "mempool" else whole(last))
    await persistence.disconnect(last.block_hash, "run")
    await persistence.window(last.prev_hash, 9)
    assert (await persistence.connect(again)).success
    kept = await persistence.window(last.block_hash, 9)
    assert kept.rows == store.window(str(last.block_hash), 9)


async def test_windows_of_changing_size(store: SqliteStore) -> None:
    """Larger, smaller, none at all and large again, with blocks in between: each time what the store has."""
    persistence = SignalPersistenceModule(store=store)
    sizes = (3, 0, 7, 2, 99, 1, 5, 4, 99, 0, 99, 6)
    for i, (data, size) in enumerate(zip(chain().best, sizes, strict=True)):
        window = await go_on(persistence, data, size, i)
        assert window.rows == store.window(str(data.prev_hash), size), (i, size)
        assert len(window) == min(i, size)


async def test_what_a_processor_holds_stays(store: SqliteStore) -> None:
    """One that is abandoned may still look at its window while blocks come and go."""
    persistence = SignalPersistenceModule(store=store)
    trunk, stale, _ = chain()
    for data in trunk:
        await go_on(persistence, data, 5)
    held = await persistence.window(trunk[-1].block_hash, 5)
    await go_on(persistence, stale[0], 5)
    await persistence.disconnect(stale[0].block_hash, "run")
    await persistence.disconnect(trunk[-1].block_hash, "run")
    persistence.forget()
    assert [facts.blockhash for facts in held] == [str(data.block_hash) for data in trunk[-5:]]
    assert held.series(mempool_of) == [mempool_of(row) for row in held.rows]


async def test_forgetting_reads_anew(store: SqliteStore) -> None:
    """What another wrote meanwhile is seen."""
    persistence = SignalPersistenceModule(store=store)
    for data in chain().trunk[:4]:
        await go_on(persistence, data, 9)
    last = chain().trunk[3]
    store.disconnect(str(last.block_hash), "other")
    store.connect(whole(last, 8))
    persistence.forget()
    window = await persistence.window(last.block_hash, 9)
    assert window.rows[-1].flows == flows_of(last, 15).sums()


class Counting(SqliteStore):
    """A store that counts how often a window is read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.read: list[int] = []

    def window(self, block_hash: str, size: int) -> list[Past]:
        self.read.append(size)
        return super().window(block_hash, size)


async def test_the_oldest_are_let_go_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once more than the slack is kept beyond the window; nothing is read anew for that, and a larger window is."""
    monkeypatch.setattr(module, "SLACK", 3)
    with Counting(tmp_path / "counted.db") as store:
        persistence = SignalPersistenceModule(store=store)
        kept = []
        for i, data in enumerate(chain().best):
            window = await persistence.window(data.prev_hash, 2)
            kept.append(len(window._history.rows))
            await persistence.connect(whole(data, i))
            assert window.rows == SqliteStore.window(store, str(data.prev_hash), 2), i
        assert max(kept) == 2 + 3
        assert kept.count(2) > 1, "it was never cut back"
        reads = len(store.read)
        assert reads <= 2
        tip = chain().best[-1].block_hash
        assert len(await persistence.window(tip, 12)) == 12
        assert store.read[reads:] == [12]
        assert len(await persistence.window(tip, 12)) == 12
        assert store.read[reads:] == [12]


async def test_a_short_chain_is_read_once(tmp_path: Path) -> None:
    """Where the window reaches the first block there is, nothing more is looked for."""
    with Counting(tmp_path / "counted.db") as store:
        persistence = SignalPersistenceModule(store=store)
        for data in chain().best:
            await go_on(persistence, data, 1000)
        assert store.read == [1000, 1000], "before the first block, and when it was there"


async def test_an_island_is_not_in_the_window(store: SqliteStore) -> None:
    """Nor is a block whose write failed."""
    persistence = SignalPersistenceModule(store=store)
    first, second, third = chain().trunk[:3]
    await go_on(persistence, first, 9)
    assert (await persistence.connect(replace(whole(third), cursor=None))).success
    assert (await persistence.window(first.block_hash, 9)).rows == store.window(str(first.block_hash), 9)
    assert not (await persistence.connect(whole(chain().trunk[5]))).success
    await go_on(persistence, second, 9)
    window = await persistence.window(second.block_hash, 9)
    assert window.rows == store.window(str(second.block_hash), 9)
    assert len(window) == 2


def test_plain_records_have_no_flows(store: SqliteStore) -> None:
    """A caller that knows none writes none."""
    data = chain().trunk[0]
    store.connect(told(data, 1))
    assert store.window(str(data.block_hash), 1) == past_of(data)
