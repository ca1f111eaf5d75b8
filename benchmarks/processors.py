"""`python -m benchmarks.processors [--json]`: six processors over a block's facts and a window of 30 days.

A simulated economy of 400 labelled, busy blocks is laid end to end, over and over, under new hashes and heights, until
a window of 4,320 blocks is full and some hundred blocks follow it; each of those is given to all six processors, and
then joins the window, as it does live. What is timed, in CPU time of one thread, is `process_block` and `forecasts` of
the six, one after the other. The reference of the same run is one canonical JSON of the block's own facts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from utxoiq.demo import simulated_source
from utxoiq.facts.compute import compute_facts
from utxoiq.facts.flows import compute_flows
from utxoiq.history import History, Past
from utxoiq.models import BLOCK_WEIGHT, BlockData, BlockFlows, MempoolSnapshot, NextBlock, canonical_json
from utxoiq.processors.base import A_MONTH, ProcessingContext, SignalProcessor
from utxoiq.processors.discovery import discover

MADE, TIMED = 400, 300
AIM_MS, AIM_BYTES = 3.0, 200_000_000


def economy(folder: Path) -> tuple[list[tuple[BlockData, Past]], object]:
    """Blocks with their facts and flows, and the labels they were made under."""
    source, labels, _ = simulated_source(folder, MADE, seed=1)
    blocks = [data for data in source.blocks() if data.spent is not None]
    return [(data, Past(compute_facts(data, labels), compute_flows(data, labels))) for data in blocks], labels


def endless(made: list[tuple[BlockData, Past]]) -> Iterator[tuple[BlockData, Past]]:
    """The same blocks again and again, each a block of its own with a mempool."""
    height = 800_000
    while True:
        for data, past in made:
            facts = replace(
                past.facts, blockhash=f"{height + 1:064x}", previousblockhash=f"{height:064x}", height=height,
                time=1_700_000_000 + 600 * height,
            )  # fmt: skip
            rates = [900, *(facts.package_feerate_percentiles_kvb or [1000] * 5)]
            mempool = MempoolSnapshot(
                facts.time - 20, f"{height:064x}", 5000, 2_000_000, 100, 100, "feerate diagram",
                NextBlock(BLOCK_WEIGHT, 10_000_000, rates), 2 * BLOCK_WEIGHT, [1000, 500],
            )  # fmt: skip
            flows = replace(past.flows, blockhash=facts.blockhash) if past.flows else None
            yield replace(data, height=height, mempool=mempool), Past(facts, flows, mempool)
            height += 1


def fresh(past: Past) -> Past:
    """A copy that shares nothing with another block of the window, as read from a store."""
    facts = type(past.facts).from_dict(json.loads(canonical_json(past.facts.as_dict())))
    flows = None if past.flows is None else BlockFlows.from_dict(json.loads(canonical_json(asdict(past.flows.sums()))))
    return Past(facts, flows, past.mempool)


def measure() -> dict[str, float]:
    """Milliseconds a block, and bytes of a full window with all that is derived of it."""
    with TemporaryDirectory() as folder:
        made, labels = economy(Path(folder))
    blocks, processors = endless(made), discover()
    tracemalloc.start()
    history = History(fresh(next(blocks)[1]) for _ in range(A_MONTH))
    asyncio.run(_pass(processors, history, blocks, labels, 3))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    times, reference, found = asyncio.run(_pass(processors, history, blocks, labels, TIMED))
    return {
        "median_ms": statistics.median(times),
        "p99_ms": sorted(times)[int(0.99 * len(times))],
        "mean_ms": statistics.fmean(times),
        "reference_ms": statistics.median(reference),
        "ratio": statistics.median(times) / statistics.median(reference),
        "signals_a_block": found / len(times),
        "window_bytes": held,
        "blocks": len(times),
    }


async def _pass(
    processors: list[SignalProcessor],
    history: History,
    blocks: Iterator[tuple[BlockData, Past]],
    labels: object,
    n: int,
) -> tuple[list[float], list[float], int]:
    times, reference, found = [], [], 0
    for data, past in (next(blocks) for _ in range(n)):
        row = fresh(past)
        context = ProcessingContext(row.facts, history.window(A_MONTH), labels, "benchmark", past.flows)  # type: ignore[arg-type]
        began = time.thread_time()
        for processor in processors:
            found += len(await processor.process_block(data, context))
            processor.forecasts(data, context)
        ended = time.thread_time()
        canonical_json(row.facts.as_dict())
        reference.append(1000 * (time.thread_time() - ended))
        times.append(1000 * (ended - began))
        history.append(row)
    return times, reference, found


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one JSON object")
    as_json = parser.parse_args().json
    figures = measure()
    if as_json:
        json.dump(figures, sys.stdout)
        print()
        return
    met = figures["median_ms"] < AIM_MS, figures["window_bytes"] < AIM_BYTES
    print(
        f"six processors, a block after {A_MONTH:,}: median {figures['median_ms']:.2f} ms, mean "
        f"{figures['mean_ms']:.2f}, "
        f"p99 {figures['p99_ms']:.2f} (aim under {AIM_MS:g}: {'met' if met[0] else 'missed'}); "
        f"{figures['ratio']:.1f} times the canonical JSON of the block's facts\n"
        f"the window and all derived of it: {figures['window_bytes'] / 1e6:.0f} MB (aim under {AIM_BYTES / 1e6:.0f}: "
        f"{'met' if met[1] else 'missed'})"
    )


if __name__ == "__main__":
    main()
