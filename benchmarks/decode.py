"""`python -m benchmarks.decode [--json]`: a block from bytes to facts, against hashlib, libbitcoinkernel and
python-bitcoinlib over the same bytes.

All candidates run in one process, one thread, in an order shuffled anew for each block, over distinct real blocks; a
figure is the median over passes of the mean over blocks.

- `sha256`: one pass of hashlib.sha256 over the block.
- `kernel`: libbitcoinkernel creates (deserialises and hashes) the block.
- `facts_ids`: columns, txids, merkle root, spent outputs, fees and percentiles, matching against 10 million labels.
- `facts_checked`: the same with the witness commitment, spent outputs checked against the block, and every field of
  `utxoiq facts`.
- `bitcoinlib`: python-bitcoinlib deserialises the block.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import hashlib
import json
import random
import statistics
import sys
import time
from collections.abc import Callable

import bitcoin.core
import numpy as np
import pbk.capi.bindings as kernel
from rich.console import Console
from rich.table import Table

from benchmarks.stream import Item, stream
from utxoiq.chain import hashing
from utxoiq.chain.block import Block, columns_of, decode_block, read_rest_spent
from utxoiq.chain.header import read_header
from utxoiq.chain.network import NETWORKS
from utxoiq.entities.index import ScriptIndex
from utxoiq.entities.labels import packaged_labels
from utxoiq.facts.compute import compute_facts
from utxoiq.facts.fees import by_weight, compute_fees, compute_sizes, fee_stats
from utxoiq.models import BlockData

MAIN = NETWORKS["main"]
LABELS = 10_000_000
PASSES = 15
SLOW_PASSES = 2
TARGETS = (
    ("facts_ids", "sha256", "at most", 2.0),
    ("kernel", "facts_ids", "at least", 2.0),
    ("facts_checked", "sha256", "at most", 2.8),
    ("kernel", "facts_checked", "at least", 1.4),
    ("bitcoinlib", "facts_checked", "at least", 40.0),
)
"""(numerator, denominator, direction, limit)."""


def label_index(items: list[Item]) -> ScriptIndex:
    """Ten million P2PKH scripts of random hashes, and one in fifty of the scripts the stream pays to."""
    rng = np.random.default_rng(1)
    blob = np.empty((LABELS, 25), np.uint8)
    blob[:] = np.frombuffer(b"\x76\xa9\x14" + bytes(20) + b"\x88\xac", np.uint8)
    blob[:, 3:23] = rng.integers(0, 256, (LABELS, 20), np.uint8)
    paid = {
        block.outputs.script(row)
        for item in items
        for block in [decode_block(item.raw, MAIN)]
        for row in range(0, len(block.outputs.value), 50)
    }
    lengths = [25] * LABELS + [len(script) for script in sorted(paid)]
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    tail = np.frombuffer(b"".join(sorted(paid)), np.uint8)
    return ScriptIndex.from_blob(np.concatenate([blob.reshape(-1), tail]), offsets)


def facts_ids(item: Item, index: ScriptIndex) -> None:
    """The scope of the measured prototype: no witness commitment, no cross-checks, fee fields only."""
    header = read_header(item.raw, MAIN.pow_limit)
    data, tx, input_offset, outputs = columns_of(item.raw)
    txids, _ = hashing.transaction_ids(data, tx, witness=False)
    root, _ = hashing.merkle_root(txids)
    assert root == header.merkle_root
    block = Block(data, MAIN, header, tx, input_offset, outputs, txids, None)  # type: ignore[arg-type]
    spent = read_rest_spent(block, item.spent)
    sizes = compute_sizes(block)
    fees = compute_fees(block, spent, sizes)
    fee_stats(fees, sizes, by_weight(fees.feerate_kvb, sizes))
    index.match(outputs)
    index.match(spent.outputs)


def facts_checked(item: Item, index: ScriptIndex) -> None:
    """All that `utxoiq facts` does, and the labels."""
    block = decode_block(item.raw, MAIN)
    spent = read_rest_spent(block, item.spent)
    compute_facts(BlockData(block, None, spent, None, "benchmark"), packaged_labels())
    index.match(block.outputs)
    index.match(spent.outputs)


def kernel_create(item: Item) -> None:
    """libbitcoinkernel's own C call, without the Python binding's copy of the bytes."""
    block = kernel.btck_block_create(ctypes.cast(ctypes.c_char_p(item.raw), ctypes.c_void_p), len(item.raw))
    assert block
    kernel.btck_block_destroy(block)


def measure(items: list[Item], index: ScriptIndex) -> dict[str, float]:
    """Median over passes of the mean milliseconds a block, by candidate."""
    candidates: dict[str, Callable[[Item], object]] = {
        "sha256": lambda item: hashlib.sha256(item.raw).digest(),
        "kernel": kernel_create,
        "facts_ids": lambda item: facts_ids(item, index),
        "facts_checked": lambda item: facts_checked(item, index),
        "bitcoinlib": lambda item: bitcoin.core.CBlock.deserialize(item.raw),
    }
    rng = random.Random(7)
    totals: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(PASSES + 1):
        spent = dict.fromkeys(candidates, 0.0)
        for item in rng.sample(items, len(items)):
            for name in rng.sample(list(candidates), len(candidates)):
                if name == "bitcoinlib" and number > SLOW_PASSES:
                    continue
                began = time.perf_counter()
                candidates[name](item)
                spent[name] += time.perf_counter() - began
        for name, seconds in spent.items():
            if number and seconds:  # the first pass warms up
                totals[name].append(1000 * seconds / len(items))
    return {name: statistics.median(values) for name, values in totals.items()}


def report(milliseconds: dict[str, float], items: list[Item]) -> dict[str, object]:
    """Figures and ratios, with whether each target is met."""
    size = sum(len(item.raw) for item in items) / len(items)
    ratios = {
        f"{top}/{bottom}": {
            "ratio": round(milliseconds[top] / milliseconds[bottom], 2),
            "target": f"{direction} {limit:g}",
            "met": (milliseconds[top] / milliseconds[bottom] <= limit) == (direction == "at most"),
        }
        for top, bottom, direction, limit in TARGETS
    }
    return {
        "blocks": len(items),
        "mean_block_bytes": round(size),
        "labels": LABELS,
        "sha_ni": hashing.SHA_NI,
        "ms_a_block": {name: round(value, 3) for name, value in milliseconds.items()},
        "MB_a_second": {name: round(size / 1000 / value, 1) for name, value in milliseconds.items()},
        "ratios": ratios,
    }


def show(result: dict[str, object]) -> None:
    console = Console()
    figures = Table(
        "candidate", "ms a block", "MB/s", title=f"{result['blocks']} blocks, {result['mean_block_bytes']:,} bytes each"
    )
    for name, value in result["ms_a_block"].items():  # type: ignore[attr-defined]
        figures.add_row(name, f"{value:.3f}", f"{result['MB_a_second'][name]:,}")  # type: ignore[index]
    console.print(figures)
    ratios = Table("ratio", "measured", "target", "met")
    for name, row in result["ratios"].items():  # type: ignore[attr-defined]
        ratios.add_row(name, f"{row['ratio']:.2f}", row["target"], "yes" if row["met"] else "NO")
    console.print(ratios)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    items = stream()
    index = label_index(items)
    gc.disable()
    result = report(measure(items, index), items)
    if arguments.json:
        json.dump(result, sys.stdout)
        print()
    else:
        show(result)


if __name__ == "__main__":
    main()
