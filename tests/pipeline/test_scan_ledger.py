"""Scans that keep a ledger: what is stored and said of balances is what a node gave, can be verified, and outlives a
kill."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from balances.chains import REGTEST, SIMULATED
from helpers.economy import FOLDER, economy_labels, unpack_blocks
from pipeline.recounting import LEAST, core_run
from pipeline.simulated import query, world
from pipeline.test_holdings import told
from pipeline.test_holdings_fail import balances_in
from utxoiq.balances.errors import LedgerError
from utxoiq.balances.ledger import Ledger
from utxoiq.models import BlockBalances, Signal
from utxoiq.persistence import SqliteStore, reads
from utxoiq.pipeline import holdings
from utxoiq.pipeline import scan as scan_module
from utxoiq.pipeline.scan import ScanResult, scan
from utxoiq.pipeline.verify import verify
from utxoiq.processors import ProcessorConfig
from utxoiq.processors.discovery import discover
from utxoiq.sources.open import open_source
from utxoiq.units import COIN

CONFIGS = {
    "whale": ProcessorConfig(
        time_window=60, balance_btc=500, week_btc=100, week_changes=2, week_quiet=3, holders_share=0.05,
        minimum_history=40, transfer_btc=5000,
    ),
    "exchange": ProcessorConfig(time_window=60, large_btc=60),
    "treasury": ProcessorConfig(time_window=60, moved_btc=10),
}  # fmt: skip
"""As large as the recorded economy is small."""
ON_BALANCES = {
    "balance_above", "balance_below", "balance_gathered", "balance_given", "large_holders_gain", "large_holders_loss",
    "large_deposit", "large_withdrawal", "internal_reshuffle", "accumulation", "distribution",
}  # fmt: skip


def scanned(folder: Path, path: Path, ledger: Path | None, **options: Any) -> ScanResult:
    """Scan a folder into the store at `path`, without words."""
    with SqliteStore(path) as store:
        return asyncio.run(scan(open_source(folder), store, ledger=ledger, **options))


@pytest.fixture
def processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that read balances, and nobody who narrates."""
    chosen = lambda: [one for one in discover(CONFIGS) if one.signal_type in CONFIGS]  # noqa: E731
    monkeypatch.setattr(scan_module, "discover", chosen)
    monkeypatch.setattr(scan_module, "InsightGenerator", lambda: None)


def last_of(each: list[BlockBalances]) -> tuple[dict[str, int], dict[str, int]]:
    """What scripts and entities held after the last block that changed that."""
    scripts = {change.script: change.after for one in each for change in one.changes}
    return scripts, {who: held.after for one in each for who, held in one.entities.items()}


@pytest.mark.usefixtures("processors", "shared")
def test_a_scan_of_an_economy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What scripts and entities hold at the end is what the node gave; signals tell what was stored; and those of each
    kind are derived again from raw bytes, byte for byte, as long as balances are there."""
    monkeypatch.setattr(holdings, "LARGE_HOLDING", 100 * COIN)
    blocks, db, ledger = unpack_blocks(tmp_path / "core"), tmp_path / "store.db", tmp_path / "ledger"
    Ledger.create(ledger, REGTEST, kept_from=LEAST).close()
    result = scanned(blocks, db, ledger, labels=economy_labels())
    assert result.connected == sum(connect for connect, _ in core_run().steps)
    node = json.loads((FOLDER / "balances.json").read_text())
    each = [one for one in balances_in(db) if one]
    assert len(each) == node["height"] + 1
    scripts, entities = last_of(each)
    rich = {row["script_hex"]: row["balance_sat"] for row in node["top_scripts"] if row["balance_sat"] >= 2 * LEAST}
    assert len(rich) > 30
    assert {script: scripts[script] for script in rich} == rich
    assert set(entities) == set(economy_labels().entities)
    assert entities == {who: node["entities"][who]["balance_sat"] for who in entities}
    said: dict[str, list[Signal]] = defaultdict(list)
    with SqliteStore(db) as store:
        for row in reads.signals(store, 10**6):
            if "balances" in row["inputs"]:
                said[row["kind"]].append(signal := store_signal(store, row["signal_id"]))
                agrees(signal, store.balances_of(signal.block_hash))
        assert set(said) == ON_BALANCES
        for found in said.values():
            asyncio.run(verifies(min(found, key=lambda one: one.block_height or 0), store, blocks))


def store_signal(store: SqliteStore, signal_id: str) -> Signal:
    signal = reads.signal(store, signal_id)
    assert signal
    return signal


def agrees(signal: Signal, balances: BlockBalances | None) -> None:
    """A signal says what is stored of its block."""
    assert balances
    assert signal.inputs["balances"] == balances.digest
    told = signal.metadata
    if "labelled_balance" in told:
        held = balances.entities[signal.subject]
        assert (told["labelled_balance"], told["labelled_addresses"]) == (held.after, held.scripts)
    elif signal.subject == "chain":
        assert (told["held"], told["holders"]) == (balances.held, balances.holders)
    else:
        (one,) = [c for c in balances.changes if (c.address or f"script:{c.script}") == told["address"]]
        assert (told["balance"], signal.evidence["txids"]) == (one.after, one.txids)
        owner = economy_labels().owner_of(bytes.fromhex(one.script))
        assert told["holder"] == (owner.name if owner else "unknown")


async def verifies(signal: Signal, store: SqliteStore, blocks: Path) -> None:
    """Equal with what the store has; without it nobody can tell."""
    source, labels = open_source(blocks), economy_labels()
    rows = store.window(signal.block_hash, signal.inputs["window"]["blocks"] + 1)
    found = await verify(signal, source, labels, rows)
    assert found.verdict == "equal", (signal.kind, found)
    found = await verify(signal, source, labels, [row._replace(balances=None) for row in rows])
    assert found.verdict == "cannot tell", (signal.kind, found)
    assert "what a ledger knew of balances" in found.reason


# Where a ledger is made


@pytest.fixture
def small(shared: Path) -> Path:
    """A recorded chain from genesis, of a few blocks, with a reorg."""
    return shared / "runs" / "regtest_reorg"


def known(path: Path) -> list[bool]:
    """Of each connected block, whether its balances are stored."""
    return [one is not None for one in balances_in(path)]


@pytest.mark.usefixtures("processors")
def test_a_new_ledger_is_made(small: Path, tmp_path: Path) -> None:
    """Where source and store begin with genesis; it is at the tip, and goes on from there another time."""
    result = scanned(small, tmp_path / "store.db", tmp_path / "deep" / "ledger")
    assert result.disconnected > 0
    assert all(known(tmp_path / "store.db"))
    for _ in range(2):
        with Ledger.open(tmp_path / "deep" / "ledger") as ledger:
            tip = open_source(small).tip()
            assert tip
            assert ledger.tip
            assert (ledger.tip[0], str(ledger.tip[1])) == (tip.height, tip.block_hash)
        again = scanned(small, tmp_path / "store.db", tmp_path / "deep" / "ledger")
        assert (again.connected, again.disconnected) == (0, 0)


@pytest.mark.usefixtures("processors")
def test_no_new_ledger_is_made(small: Path, tmp_path: Path) -> None:
    """Where the source does not begin with genesis, or the store has blocks already: that is refused, and nothing is
    done."""
    for blocks, path in ((world(12).folder, tmp_path / "late.db"), (small, tmp_path / "begun.db")):
        if blocks == small:
            scanned(small, path, None)
            assert not any(known(path))
        before = query(path, "SELECT * FROM block_events") if path.exists() else []
        with pytest.raises(LedgerError, match="ledger: no ledger here"):
            scanned(blocks, path, tmp_path / "ledger")
        assert not (tmp_path / "ledger").exists()
        assert query(path, "SELECT * FROM block_events") == before


@pytest.mark.usefixtures("processors")
def test_a_ledger_that_is_there_is_taken_up(small: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One of another store's scan; one of another network knows nothing here, which stops no block."""
    scanned(small, tmp_path / "one.db", tmp_path / "ledger")
    scanned(small, tmp_path / "two.db", tmp_path / "ledger")
    assert balances_in(tmp_path / "two.db") == balances_in(tmp_path / "one.db")
    assert told(caplog) == []
    Ledger.create(tmp_path / "other", SIMULATED).close()
    assert scanned(small, tmp_path / "three.db", tmp_path / "other").connected
    assert not any(known(tmp_path / "three.db"))
    assert len(known(tmp_path / "three.db")) == len(known(tmp_path / "one.db"))
