"""How long after a node's block are its signals committed? And what does a waiting run cost?

    python -m benchmarks.live [--json] [--blocks 100] [--labels 1000000]

Mines blocks of 1 to 2 MB on a real Bitcoin Core (UTXOIQ_BITCOIND or bitcoind on PATH; regtest) while a block monitor
follows it, everything on this machine. `total` is from the node's announcement to the commit, `node` the part of it
spent waiting for the node's answers, `own` the rest. Then a `utxoiq run` process with that many labelled scripts is
measured while nothing happens.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from helpers.node.bitcoind import ABSENT, BitcoindNode, bitcoind_path
from utxoiq.chain.address import address_of
from utxoiq.chain.network import NETWORKS
from utxoiq.insights.generator import InsightGenerator
from utxoiq.persistence import SignalPersistenceModule, SqliteStore
from utxoiq.pipeline import PipelineOrchestrator
from utxoiq.pipeline.mempool_watch import MempoolWatch
from utxoiq.pipeline.monitor import BlockMonitor
from utxoiq.processors.discovery import discover
from utxoiq.sources.http import Http
from utxoiq.sources.node.announcements import Announcements
from utxoiq.sources.node.source import NodeSource

IDLE_SECONDS = 30
PATIENCE = 60.0


class Waiting:
    """Time spent in requests to the node while a block is on its way: the union, as several may run at once."""

    def __init__(self) -> None:
        self._lock, self._running, self._since, self.seconds = threading.Lock(), 0, 0.0, 0.0

    def __enter__(self) -> None:
        with self._lock:
            if self._running == 0:
                self._since = time.perf_counter()
            self._running += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._running -= 1
            if self._running == 0:
                self.seconds += time.perf_counter() - self._since


def timed(waiting: Waiting) -> None:
    """Count every request of the source."""
    request = Http.request

    def counted(self: Http, *arguments: Any, **options: Any) -> Any:
        with waiting:
            return request(self, *arguments, **options)

    Http.request = counted  # type: ignore[method-assign]


async def latencies(node: BitcoindNode, folder: Path, blocks: int) -> list[dict[str, float]]:
    """Milliseconds of each block: total, node, own."""
    source = NodeSource(node.url, cookie_file=node.cookie_file)
    rows: list[dict[str, float]] = []
    waiting = Waiting()
    timed(waiting)
    with SqliteStore(folder / "live.db") as store:
        orchestrator = PipelineOrchestrator(
            discover(), SignalPersistenceModule(store=store), insight_generator=InsightGenerator()
        )
        watch = MempoolWatch(source.snapshot, store, orchestrator.monitoring, lambda: 3600)
        monitor = BlockMonitor(source, store, orchestrator, mempool_of=watch.of)
        began = [0.0]
        committed = asyncio.Event()

        def ring() -> None:
            if not began[0]:
                began[0], waiting.seconds = time.perf_counter(), 0.0
            monitor.ring()

        def done() -> None:
            if began[0]:
                total = 1000 * (time.perf_counter() - began[0])
                rows.append({"total": total, "node": 1000 * waiting.seconds, "own": total - 1000 * waiting.seconds})
            committed.set()

        monitor._after_block = done
        bell = Announcements(ring, lambda *_: None)
        tasks = [asyncio.create_task(monitor.run()), asyncio.create_task(bell.keep_listening(source.announced_at))]
        while monitor.status.state != "live":  # noqa: ASYNC110 what is measured knows no event
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        for number in range(blocks):
            began[0] = 0.0
            committed.clear()
            size, transactions = 1_000_000 + 250_000 * (number % 5), 2000 + 250 * (number % 5)
            await asyncio.to_thread(node.fat_block, size, transactions)
            await asyncio.wait_for(committed.wait(), PATIENCE)
            await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        orchestrator.close()
    source.close()
    return rows


def footprint(node: BitcoindNode, folder: Path, labels: int) -> dict[str, float]:
    """Resident memory (MiB, files mapped by the process apart) and CPU (percent of a core) of an idle run."""
    names = folder / "labels.jsonl"
    with names.open("w", encoding="utf-8") as file:
        for entity in range(100):
            addresses = [_address(number) for number in range(entity, labels, 100)]
            evidence = [{"source": "bench", "confidence": "high", "as_of": "2026-01-01", "addresses": addresses}]
            row = {"id": f"e{entity}", "name": f"E {entity}", "kind": "exchange", "labels": evidence}
            file.write(json.dumps(row) + "\n")
    command = [sys.executable, "-m", "utxoiq.cli", "run", "--node", node.url, "--db", f"sqlite:///{folder}/idle.db",
               "--labels", str(names), "--listen", "off"]  # fmt: skip
    environment = {**os.environ, "UTXOIQ_NODE__COOKIE_FILE": str(node.cookie_file)}
    with (folder / "run.log").open("wb") as said, subprocess.Popen(command, env=environment, stderr=said) as run:
        while b"live at height" not in (folder / "run.log").read_bytes():
            time.sleep(0.5)
            if run.poll() is not None:
                raise SystemExit((folder / "run.log").read_text())
        node.fat_block()
        time.sleep(5)
        before = _cpu_seconds(run.pid)
        time.sleep(IDLE_SECONDS)
        used = _cpu_seconds(run.pid) - before
        status = dict(line.split(":", 1) for line in Path(f"/proc/{run.pid}/status").read_text().splitlines())
        memory = {name: int(status[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile", "VmHWM")}
        run.terminate()
    return {"labels": labels, "cpu_percent": 100 * used / IDLE_SECONDS, **memory}


def _address(number: int) -> str:
    script = b"\x00\x14" + number.to_bytes(20, "big")
    return address_of(script, NETWORKS["regtest"]) or ""


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--blocks", type=int, default=100)
    parser.add_argument("--labels", type=int, default=1_000_000)
    options = parser.parse_args()
    if bitcoind_path() is None:
        raise SystemExit(ABSENT)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        node = BitcoindNode(folder / "node")
        node.start()
        try:
            node.mine(150)
            rows = asyncio.run(latencies(node, folder, options.blocks))
            idle = footprint(node, folder, options.labels) if options.labels else {}
        finally:
            node.close()
    figures = {
        part: {
            "p50": statistics.median(row[part] for row in rows),
            "p99": sorted(row[part] for row in rows)[max(0, -(-99 * len(rows) // 100) - 1)],
            "max": max(row[part] for row in rows),
        }
        for part in ("total", "node", "own")
    }
    if options.json:
        print(json.dumps({"blocks": len(rows), "milliseconds": figures, "idle": idle}))
        return
    for part, values in figures.items():
        print(f"{part:>6} ms  " + "  ".join(f"{k} {v:.1f}" for k, v in values.items()))
    print("  ".join(f"{k} {v:,.1f}" for k, v in idle.items()))


if __name__ == "__main__":
    main()
