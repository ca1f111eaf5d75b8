"""Verify: a stored signal is derived again from raw bytes; equal, different, or nobody can tell."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.simulated import world
from utxoiq.chain.hashes import Hash256
from utxoiq.entities.labels import LabelSet, labels_for
from utxoiq.models import Signal
from utxoiq.persistence import SqliteStore, reads
from utxoiq.pipeline.scan import scan
from utxoiq.pipeline.verify import Verdict, verify
from utxoiq.sources.open import Source, open_source


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the simulated chain."""
    path = tmp_path_factory.mktemp("verify") / "store.db"
    store = SqliteStore(path)
    asyncio.run(scan(world().source, store, labels=world().labels))
    store.close()
    return path


@pytest.fixture(scope="module")
def source() -> Source:
    return world().source


def stored(path: Path, kind: str = "fee_overpaid") -> Signal:
    """The newest signal of a kind."""
    store = SqliteStore(path)
    row = next(row for row in reads.signals(store, 99) if row["kind"] == kind)
    signal = reads.signal(store, row["signal_id"])
    store.close()
    assert signal is not None
    return signal


async def verdict(signal: Signal, source: Source, labels: LabelSet | None = None) -> Verdict:
    return await verify(signal, source, labels or world().labels)


async def test_every_signal_of_a_scan_is_equal(scanned: Path, source: Source) -> None:
    """Derived again from the blocks alone, byte for byte."""
    store = SqliteStore(scanned)
    signals = [reads.signal(store, row["signal_id"]) for row in reads.signals(store, 99)]
    store.close()
    assert {signal.signal_type for signal in signals if signal} >= {
        "exchange",
        "mempool",
        "miner",
        "whale",
        "predictive",
    }
    for signal in signals:
        assert signal is not None
        found = await verdict(signal, source)
        assert found.verdict == "equal", found
        assert signal.signal_id in found.reason


def tampered(path: Path, tmp_path: Path, column: str, change: Callable[[Any], Any]) -> Signal:
    """A signal after somebody wrote into the store's file; its id is as it was."""
    copy = tmp_path / "tampered.db"
    shutil.copy(path, copy)
    signal_id = stored(path).signal_id
    connection = sqlite3.connect(copy)
    (value,) = connection.execute(f"SELECT {column} FROM signals WHERE signal_id = ?", (signal_id,)).fetchone()
    is_json = column in ("metadata", "evidence", "inputs", "confidence_basis")
    changed = json.dumps(change(json.loads(value))) if is_json else change(value)
    with connection:
        connection.execute(f"UPDATE signals SET {column} = ? WHERE signal_id = ?", (changed, signal_id))
    connection.close()
    store = SqliteStore(copy)
    signal = reads.signal(store, signal_id)
    store.close()
    assert signal is not None
    return signal


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("metadata", lambda m: {**m, "fee": m["fee"] + 1}),
        ("metadata", lambda m: {**m, "note": "more"}),
        ("metadata", lambda m: {k: v for k, v in m.items() if k != "fee"}),
        ("evidence", lambda e: {**e, "txids": ["00" * 32]}),
        ("confidence", lambda c: c - 0.000001),
        ("confidence_basis", lambda b: {**b, "cases": b["cases"] + 1}),
        ("created_at", lambda t: t + 1),
        ("block_height", lambda h: h + 1),
        ("simulated", lambda s: 0),
    ],
    ids=["a satoshi", "an addition", "an omission", "evidence", "confidence", "basis", "time", "height", "simulated"],
)
async def test_a_changed_field_is_different_and_named(
    scanned: Path, tmp_path: Path, source: Source, column: str, change: Callable[[Any], Any]
) -> None:
    found = await verdict(tampered(scanned, tmp_path, column, change), source)
    assert found.verdict == "different"
    assert column in found.reason


@pytest.mark.parametrize("column", ["kind", "subject"])
async def test_a_signal_nobody_said_is_different(scanned: Path, tmp_path: Path, source: Source, column: str) -> None:
    """About something else than the blocks give."""
    found = await verdict(tampered(scanned, tmp_path, column, lambda _: "made-up"), source)
    assert found == Verdict("different", "the same blocks give no such signal")


async def test_a_forged_id_is_different(scanned: Path, source: Source) -> None:
    found = await verdict(replace(stored(scanned), signal_id="00000000-0000-5000-8000-000000000000"), source)
    assert found.verdict == "different"
    assert "signal_id" in found.reason


@pytest.mark.parametrize(
    "change",
    [
        lambda i: {**i, "settings": {**i["settings"], "overpaid_btc": 0.1}},
        lambda i: {**i, "digest": "00" * 32},
        lambda i: {**i, "window": {**i["window"], "blocks": i["window"]["blocks"] - 1}},
        lambda i: {},
        lambda i: {**i, "settings": {}},
        lambda i: {**i, "settings": {**i["settings"], "unheard_of": 1}},
        lambda i: {**i, "settings": {**i["settings"], "confidence_threshold": 7}},
        lambda i: {**i, "settings": {**i["settings"], "time_window": "all"}},
        lambda i: {**i, "window": {"blocks": "many", "first": None}},
        lambda i: {**i, "window": {"blocks": -5, "first": None}},
        lambda i: {k: v for k, v in i.items() if k != "window"},
    ],
    ids=["a setting", "the digest", "the window", "no inputs", "no settings", "an unknown setting", "no probability",
         "no number", "no count", "a negative count", "no window"],
)  # fmt: skip
async def test_forged_inputs_are_never_equal(
    scanned: Path, tmp_path: Path, source: Source, change: Callable[[Any], Any]
) -> None:
    """Whatever is on record as its inputs: a verdict with a reason, and never a crash."""
    found = await verdict(tampered(scanned, tmp_path, "inputs", change), source)
    assert found.verdict in ("different", "cannot tell")
    assert found.reason


async def test_other_labels_cannot_tell(scanned: Path, source: Source) -> None:
    """Neither none nor newer ones: the run names the one version it used."""
    signal = stored(scanned)
    found = await verdict(signal, source, labels_for(source.network))
    assert found.verdict == "cannot tell"
    assert world().labels.version in found.reason


@pytest.mark.parametrize(
    ("column", "change", "reason"),
    [
        ("model_version", lambda v: "mempool-0", "mempool-0 is not the installed model of mempool"),
        ("signal_type", lambda t: "whale", "is not the installed model of whale"),
        ("inputs", lambda i: {**i, "facts_version": 999}, "facts version 999"),
        ("inputs", lambda i: {**i, "labels_version": "1999"}, "labels 1999"),
    ],
    ids=["model", "type", "facts", "labels"],
)
async def test_another_version_cannot_tell(
    scanned: Path, tmp_path: Path, source: Source, column: str, change: Callable[[Any], Any], reason: str
) -> None:
    """What is not installed can't be asked; that is no accusation."""
    found = await verdict(tampered(scanned, tmp_path, column, change), source)
    assert found.verdict == "cannot tell"
    assert reason in found.reason


async def test_a_source_without_the_block_cannot_tell(scanned: Path) -> None:
    found = await verdict(stored(scanned), world(12).source)
    assert found.verdict == "cannot tell"
    assert stored(scanned).block_hash in found.reason


def recorded(folder: Path, source: Source, block_hash: str) -> Source:
    """A folder with this block alone."""
    folder.mkdir()
    (block,) = source.branch(Hash256.from_display(block_hash), 1)
    name = f"simulated_{block.height:07d}_{block_hash[-8:]}.blk"
    (folder / name).write_bytes(block.block.raw.tobytes())
    return open_source(folder)


async def test_a_source_without_its_past_cannot_tell(scanned: Path, source: Source, tmp_path: Path) -> None:
    """It says how many blocks the signal rests on and how many there are."""
    signal = stored(scanned, "tx_count_record")
    found = await verdict(signal, recorded(tmp_path / "one", source, signal.block_hash))
    assert found.verdict == "cannot tell"
    assert f"rests on {signal.inputs['window']['blocks'] + 1} blocks, of which the source has 1" in found.reason


@pytest.mark.parametrize("kind", ["fee_overpaid", "fee_spike", "tx_count_record"])
async def test_a_source_without_spent_outputs_cannot_tell(scanned: Path, tmp_path: Path, kind: str) -> None:
    """The same blocks without their rev files: fees are unknown there, which is no sign that they were others."""
    for file in world().folder.glob("*.dat"):
        if not file.name.startswith("rev"):
            shutil.copy(file, tmp_path)
    found = await verdict(stored(scanned, kind), open_source(tmp_path))
    assert found.verdict == "cannot tell", found
