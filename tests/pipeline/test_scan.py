"""Scan: everything a source has into the store, once, whatever was there before."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pipeline.simulated import BLOCKS, FORK, SEED, STALE, blocks, content, dump, query, world
from utxoiq.entities.labels import labels_for
from utxoiq.errors import SourceError, WrongNetwork
from utxoiq.insights.vocabulary import KINDS
from utxoiq.models import Connected
from utxoiq.persistence import SqliteStore, reads
from utxoiq.pipeline.scan import ScanResult, scan
from utxoiq.simulation.economy import Economy
from utxoiq.simulation.plan import START_HEIGHT, Event
from utxoiq.sources.open import open_source


def scanned(folder: Path, path: Path, **options: Any) -> ScanResult:
    """Scan a folder into the store at `path`."""
    store = SqliteStore(path)
    try:
        return asyncio.run(scan(open_source(folder), store, **options))
    finally:
        store.close()


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ScanResult]:
    """A store of the simulated chain, and what the scan said."""
    path = tmp_path_factory.mktemp("scan") / "store.db"
    return path, scanned(world().folder, path, labels=world().labels)


@pytest.fixture(scope="module")
def first_blocks(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Path:
    """A store of mainnet's first 600 blocks."""
    path = tmp_path_factory.mktemp("main") / "store.db"
    scanned(shared / "runs" / "main_0-599", path)
    return path


@cache
def arrived() -> int:
    return len(asyncio.run(blocks(world().source)))


def test_a_scan_reaches_the_tip(simulated: tuple[Path, ScanResult]) -> None:
    """All blocks, the stale ones too; the tip of the store is the tip of the source."""
    path, result = simulated
    assert (result.connected, result.disconnected) == (BLOCKS + STALE, STALE)
    assert result.connected == arrived()
    store = SqliteStore(path)
    assert store.cursor() == world().source.tip()
    assert store.network == "simulated"
    assert result.signals == len(reads.signals(store, 999, retracted=True))
    store.close()


def test_a_scan_finds_what_happened(simulated: tuple[Path, ScanResult]) -> None:
    """The economy's bursts, records, empty blocks and mistakes, each with its insight, all marked as simulated."""
    store = SqliteStore(simulated[0])
    signals, insights = reads.signals(store, 999), reads.insights(store, 999)
    gone = [row for row in reads.signals(store, 999, retracted=True) if row["retracted_at"]]
    store.close()
    assert [row["kind"] for row in gone if row["signal_type"] == "miner"] == ["empty_block"], "a stale block was empty"
    told = Counter(row["kind"] for row in signals if row["kind"] in OF_BLOCKS)
    assert told == Counter(event.kind for event in truth() if event.kind in OF_BLOCKS and event.counts)
    assert set(told) >= {"fee_spike", "tx_count_record", "empty_block", "fee_overpaid"}
    assert {row["signal_id"] for row in insights} == {row["signal_id"] for row in signals}
    assert all(row["simulated"] for row in (*signals, *insights))
    assert all(row["processed"] for row in signals)
    assert {(row["signal_type"], row["kind"]) for row in signals} <= set(KINDS)


OF_BLOCKS = ("fee_spike", "fee_drop", "tx_count_record", "fee_overpaid", "empty_block", "reward_unclaimed")


@cache
def truth() -> tuple[Event, ...]:
    """What is known to have happened in the chain."""
    economy = Economy(SEED)
    list(economy.blocks(BLOCKS))
    return tuple(economy.events)


def moved(*kinds: str) -> dict[str, Event]:
    """Events of these kinds, by each transaction they name."""
    named = [(str(e.detail.get("txids", e.detail.get("txid"))).split(), e) for e in truth() if e.kind in kinds]
    return {txid: event for txids, event in named for txid in txids}


def test_what_is_said_of_owners_is_true(simulated: tuple[Path, ScanResult]) -> None:
    """Held against what the economy did: old coins that moved, large transfers, what reached or left an exchange, what
    moved within one. Of coins of a hundred bitcoin that lay for years none is missed. What is taken for a flow and is
    none is what labels can't know: coins that go to an address of its own that they lack, or come from there."""
    store = SqliteStore(simulated[0])
    signals = reads.signals(store, 999)
    store.close()
    by_kind: dict[str, list[Any]] = defaultdict(list)
    for row in signals:
        by_kind[row["kind"]].append(row)
    woken = {txid for txid, event in moved("dormant_coins").items() if event.counts}
    assert {row["subject"] for row in by_kind["dormant_coins"]} == woken != set()
    transfers = {txid: event.detail["moved_sat"] for txid, event in moved("large_transfer").items()}
    assert {row["subject"]: row["metadata"]["moved"] for row in by_kind["large_transfer"]}.items() <= transfers.items()
    assert by_kind["large_transfer"]
    flows = [row for kind in ("large_deposit", "large_withdrawal", "internal_reshuffle") for row in by_kind[kind]]
    true = [moved(row["kind"]).get(row["evidence"]["txids"][0]) for row in flows]
    assert all(event.entity == row["subject"] for event, row in zip(true, flows, strict=True) if event)
    assert sum(event is not None for event in true) > 0.8 * len(flows)
    assert len({row["kind"] for row in flows}) == 3


def test_scanning_again_changes_nothing(simulated: tuple[Path, ScanResult]) -> None:
    """Not one row, not one time."""
    path, _ = simulated
    before = dump(path)
    again = scanned(world().folder, path, labels=world().labels)
    assert (again.connected, again.disconnected, again.signals, again.insights) == (0, 0, 0, [])
    assert dump(path) == before


def test_scanning_a_folder_of_single_blocks_again_changes_nothing(tmp_path: Path, shared: Path) -> None:
    """Islands too are there once."""
    source = tmp_path / "blocks"
    source.mkdir()
    for found in sorted((shared / "blocks").glob("main_0[01]*")):
        (source / found.name).write_bytes(found.read_bytes())
    path = tmp_path / "store.db"
    count = scanned(source, path).connected
    assert count == len(list(source.glob("*.blk.gz"))) > 9
    before = dump(path)
    again = scanned(source, path)
    assert again.signals == 0
    assert dump(path) == before


def test_two_scans_say_the_same(first_blocks: Path, tmp_path: Path, shared: Path) -> None:
    """Of real blocks in a fresh store each: blocks, facts, signals and insights are equal, ids included."""
    other = tmp_path / "other.db"
    scanned(shared / "runs" / "main_0-599", other)
    assert content(other) == content(first_blocks)
    assert len(content(other)["signals"]) == 3


def test_mainnets_first_blocks_hold_no_miner_signals(first_blocks: Path) -> None:
    """Nearly all were empty, none was found by a pool; what there is to say is when payments came."""
    store = SqliteStore(first_blocks)
    kinds = Counter((row["kind"], row["block_height"]) for row in reads.signals(store, 999, retracted=True))
    store.close()
    assert {kind for kind, _ in kinds} == {"payments_resume", "tx_count_record"}


def test_a_scan_in_parts_is_a_scan(simulated: tuple[Path, ScanResult], tmp_path: Path) -> None:
    """Stopped anywhere, also between a stale block and its end: the next scan goes on, and all is the same."""

    class Stopped(Exception):
        pass

    path, limits = tmp_path / "store.db", (7, 100, FORK + 1 - 107, 1, 30)

    def stop_after(limit: int) -> Any:
        seen: list[Any] = []

        def step(done: Any) -> None:
            seen.append(done)
            if len(seen) == limit:
                raise Stopped

        return step

    for limit in limits:
        with pytest.raises(Stopped):
            scanned(world().folder, path, labels=world().labels, on_step=stop_after(limit))
    scanned(world().folder, path, labels=world().labels)
    whole, parts = content(simulated[0]), content(path)
    assert all(set(parts[table]) <= set(rows) for table, rows in whole.items())
    assert len(parts["facts"]) >= BLOCKS
    for view in ("current_signals", "current_insights", "cursor"):
        assert sorted(map(str, query(path, f"SELECT * FROM {view}"))) == sorted(
            map(str, query(simulated[0], f"SELECT * FROM {view}"))
        )


def test_every_step_is_told(tmp_path: Path) -> None:
    """One call a step, as many as the source announced: what a progress bar needs."""
    told: list[Any] = []
    scanned(world(12).folder, tmp_path / "store.db", on_step=told.append)
    assert len(told) == world(12).source.count_from(None) == 12 + 2 * STALE
    assert isinstance(told[0], Connected)
    assert told[0].block.height == START_HEIGHT


def test_another_network_is_refused(first_blocks: Path, simulated: tuple[Path, ScanResult]) -> None:
    """Before a block of it is read; the store stays as it was."""
    before = dump(first_blocks)
    with pytest.raises(WrongNetwork, match="holds main, the source simulated"):
        scanned(world().folder, first_blocks)
    assert dump(first_blocks) == before


def test_a_source_that_lacks_the_tip_is_refused(simulated: tuple[Path, ScanResult], tmp_path: Path) -> None:
    """Another chain of the same network, or a shorter copy: said, not guessed."""
    path = tmp_path / "store.db"
    path.write_bytes(simulated[0].read_bytes())
    before = dump(path)
    with pytest.raises(SourceError, match="tip of the store, is not in this source"):
        scanned(world(12).folder, path)
    assert dump(path) == before


def test_labels_name_the_pools(simulated: tuple[Path, ScanResult], tmp_path: Path) -> None:
    """With the chain's labels its pools are known; without, nobody is guessed."""
    store = SqliteStore(simulated[0])
    tip = store.cursor()
    assert tip is not None
    named = {row.facts.pool for row in store.window(tip.block_hash, 100)}
    store.close()
    assert len(named - {None}) >= 5
    path = tmp_path / "nobody.db"
    scanned(world(12).folder, path, labels=labels_for(world(12).source.network))
    store = SqliteStore(path)
    tip = store.cursor()
    assert tip is not None
    assert {row.facts.pool for row in store.window(tip.block_hash, 100)} == {None}
    store.close()
