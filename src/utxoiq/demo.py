"""The demo: the main job from beginning to end, on a simulated chain or on real block files."""

from __future__ import annotations

import asyncio
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from utxoiq.balances.importing import import_snapshot
from utxoiq.chain.network import NETWORKS
from utxoiq.entities.labels import LabelSet, labels_for, read_labels
from utxoiq.persistence import SqliteStore, open_store, reads
from utxoiq.pipeline.scan import scan
from utxoiq.pipeline.verify import recorded_of, verify
from utxoiq.show import BANNER, insight_feed, progress
from utxoiq.simulation.economy import UNKNOWN_PARENT, Economy
from utxoiq.simulation.files import write_blocks
from utxoiq.simulation.labels import labels as simulated_labels
from utxoiq.simulation.snapshot import BASE_HEIGHT, write_snapshot
from utxoiq.sources.open import Source, open_source

FEED = 12


def run_demo(blocks: Path | None, count: int, seed: int, folder: Path | None) -> None:
    """Scan, show the feed, and derive one of its signals again from raw bytes.

    Raises SourceError for a folder that can't be used, StoreError where the store can't be written.
    """
    console = Console()
    folder = folder or Path(tempfile.mkdtemp(prefix="utxoiq-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    ledger = None
    if blocks:
        source, labels = _real(blocks)
    else:
        source, labels, ledger = simulated_source(folder, count, seed)
    url = f"sqlite:///{folder / 'demo.db'}"
    store = open_store(url)
    mark = BANNER if source.network.simulated else ""
    with progress("scan", source.count_from(store.cursor())) as step:
        result = asyncio.run(scan(source, store, labels=labels, ledger=ledger, on_step=lambda _: step()))
    console.print(f"\n{mark}[bold]The newest insights[/]\n")
    insight_feed(reads.insights(store, FEED), "Nothing unusual in these blocks.")
    retracted = [row for row in reads.insights(store, 1 << 30, retracted=True) if row["retraction_reason"]]
    if retracted:
        console.print(f"{mark}[bold]Taken back after a reorg[/]\n")
        insight_feed(retracted[:3], "")
    console.print(
        f"{mark}{result.connected} blocks connected, {result.disconnected} disconnected by reorgs, {result.signals} "
        f"signals, {len(result.insights)} insights."
    )
    _verify_newest(console, store, source, labels, mark)
    console.print(f"{mark}Look around: [bold]utxoiq insights --db {url}[/]", soft_wrap=True)


def _real(blocks: Path) -> tuple[Source, LabelSet]:
    source = open_source(blocks)
    if len(getattr(source, "networks", ())) > 1:
        source = open_source(blocks, "main")
    return source, labels_for(source.network)


def simulated_source(folder: Path, count: int, seed: int) -> tuple[Source, LabelSet, Path]:
    """A simulated chain, written to `folder`, the labels of its economy, and its ledger of balances."""
    economy = Economy(seed)
    with progress("SIMULATED chain", count) as step:
        write_blocks(folder / "blocks", economy.blocks(count), lambda _: step())
    text = "\n".join(json.dumps(_label_row(asdict(label))) for label in simulated_labels(seed))
    labels = read_labels(text, NETWORKS["simulated"], "simulated labels")
    return open_source(folder), labels, simulated_ledger(folder, economy)


def simulated_ledger(folder: Path, economy: Economy) -> Path:
    """A ledger in `folder` at the block before an economy's first, whose run is over."""
    snapshot, ledger = folder / "coins.dat", folder / "ledger"
    write_snapshot(snapshot, economy.coins, UNKNOWN_PARENT)
    import_snapshot(snapshot, ledger, NETWORKS["simulated"], BASE_HEIGHT)
    return ledger


def _label_row(label: dict[str, object]) -> dict[str, object]:
    addresses = label.pop("addresses")
    evidence = {"source": "the simulation", "confidence": "high", "as_of": "2026-01-05", "addresses": addresses}
    return {**label, "labels": [evidence]}


def _verify_newest(console: Console, store: SqliteStore, source: Source, labels: LabelSet, mark: str) -> None:
    newest = reads.signals(store, 1)
    stored = reads.signal(store, newest[0]["signal_id"]) if newest else None
    if stored:
        verdict = asyncio.run(verify(stored, source, labels, recorded_of(store, stored)))
        console.print(f"{mark}Verified: [bold]{verdict.verdict}[/], {verdict.reason}", soft_wrap=True)
