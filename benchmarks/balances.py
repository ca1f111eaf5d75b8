"""`python -m benchmarks.balances [--scripts N] [--blocks N] [--json]`: a ledger of N scripts, imported and followed.

The set is invented: N scripts of the usual types in the proportions of mainnet, and three coins for every ten of them
more, written as a file of `dumptxoutset`. It is imported, and its hash computed; then blocks of 8,000 inputs and 10,000
outputs are connected. Half of the coins spent were made in the last 200 blocks, the others lie by twos and ones on old
scripts; four in ten outputs pay a new script, two a recent or an old one, four one that the block pays already. (Block
905,646 pays 4,734 scripts by 9,298 outputs; 866,342 touches 3,719 by 10,327 outputs and 7,972 inputs.) Making,
importing, and following each run in a process of their own, so that memory is their own. A block's time is that of
`connect`, with its journal on the disk; `settled` is the later half. Merges and checkpoints are done between blocks, as
the pipeline does them: `tidy`. The reference is a Python dict of REFERENCE scripts that takes the same block's outputs
and inputs one by one. Sizes in MB (10^6 bytes), times in ms or s.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from itertools import count
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from benchmarks.labels import memory
from benchmarks.told import tell
from utxoiq.balances.coins import HEADER, MAGIC, VERSION
from utxoiq.balances.importing import import_snapshot
from utxoiq.balances.ledger import Ledger
from utxoiq.chain.block import Block, Outputs, Spent, Transactions
from utxoiq.chain.hashes import Hash256, double_sha256
from utxoiq.chain.header import Header
from utxoiq.chain.network import NETWORKS

MAIN = NETWORKS["main"]
HEIGHT = 900_000
INPUTS, MADE = 8_000, 10_000
REFERENCE = 1_000_000
CHUNK = 1 << 20
ROOM = 72
"""Most bytes a coin takes in the snapshot: 32 + 1 + 1, 4 + 8 + 1, and a script of 25."""
RECENT_BLOCKS = 200
STRIDE = 1_000_003
"""A prime: multiples of it meet every script once, in no order."""
LEAST, SPREAD = 10_000, 50_000_000
"""Satoshis of a script's first coin: LEAST to LEAST + SPREAD."""


@numba.njit(cache=False)
def mixed(number: Any) -> Any:
    """SplitMix64: 64 bits that look random, of a number."""
    x = np.uint64(number) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@numba.njit(cache=False)
def worth(number: Any) -> Any:
    """Satoshis of the first coin of script `number`."""
    return np.int64(LEAST + mixed(number) % np.uint64(SPREAD))


@numba.njit(cache=False)
def fill(out: Any, at: Any, number: Any, size: Any) -> Any:
    """`size` bytes that depend on a number; returns where they end."""
    word = np.uint64(0)
    for i in range(size):
        if i % 8 == 0:
            word = mixed(np.uint64(number) * np.uint64(8) + np.uint64(i // 8))
        out[at + i] = word & np.uint64(255)
        word >>= np.uint64(8)
    return at + size


@numba.njit(cache=False)
def write_script(out: Any, at: Any, number: Any) -> Any:
    """Script `number`: four in ten P2WPKH, two P2PKH, one P2SH, two P2TR, one P2WSH; returns where it ends."""
    kind = number % 10
    if kind < 4:
        out[at], out[at + 1] = 0, 20
        return fill(out, at + 2, number, 20)
    if kind < 6:
        out[at], out[at + 1], out[at + 2] = 0x76, 0xA9, 20
        end = fill(out, at + 3, number, 20)
        out[end], out[end + 1] = 0x88, 0xAC
        return end + 2
    if kind == 6:
        out[at], out[at + 1] = 0xA9, 20
        end = fill(out, at + 2, number, 20)
        out[end] = 0x87
        return end + 1
    out[at], out[at + 1] = (0x51 if kind < 9 else 0), 32
    return fill(out, at + 2, number, 32)


@numba.njit(cache=False)
def varint(out: Any, at: Any, value: Any) -> Any:
    """Core's VARINT; returns where it ends."""
    size = 1
    rest = value
    while rest > 127:
        rest = (rest >> 7) - 1
        size += 1
    for i in range(size):
        out[at + size - 1 - i] = (value & 127) | (128 if i else 0)
        value = (value >> 7) - 1
    return at + size


@numba.njit(cache=False)
def compressed(sat: Any) -> Any:
    """Core's CompressAmount."""
    if sat == 0:
        return 0
    exponent = 0
    while sat % 10 == 0 and exponent < 9:
        sat //= 10
        exponent += 1
    if exponent < 9:
        return 1 + (sat // 10 * 9 + sat % 10 - 1) * 10 + exponent
    return 1 + (sat - 1) * 10 + 9


@numba.njit(cache=False)
def write_coins(out: Any, begin: Any, end: Any, scripts: Any, script: Any) -> Any:
    """Coins begin..end, each of a transaction of its own: returns the bytes used."""
    at = 0
    for coin in range(begin, end):
        owner = coin if coin < scripts else np.int64(mixed(coin) % np.uint64(scripts))
        at = fill(out, at, ~coin, 32)
        out[at], out[at + 1] = 1, coin % 3
        at = varint(out, at + 2, (1 + np.int64(mixed(coin) % np.uint64(HEIGHT))) * 2)
        at = varint(out, at, compressed(worth(owner) if coin < scripts else 1_000 + coin % 1_000_000))
        size = write_script(script, 0, owner)
        kind = owner % 10
        if kind in (4, 5):
            out[at] = 0
            out[at + 1 : at + 21] = script[3:23]
            at += 21
        elif kind == 6:
            out[at] = 1
            out[at + 1 : at + 21] = script[2:22]
            at += 21
        else:
            at = varint(out, at, size + 6)
            out[at : at + size] = script[:size]
            at += size
    return at


@numba.njit(cache=False)
def write_scripts(numbers: Any, data: Any, offset: Any, length: Any) -> None:
    """The scripts of these numbers, one behind the other."""
    at = 0
    for i in range(len(numbers)):
        end = write_script(data, at, numbers[i])
        offset[i] = at
        length[i] = end - at
        at = end


def make_snapshot(path: Path, scripts: int) -> None:
    """The invented set as Core would dump it."""
    coins = scripts + scripts * 3 // 10
    out, script = np.empty(CHUNK * 96, np.uint8), np.empty(64, np.uint8)
    with path.open("wb") as file:
        file.write(HEADER.pack(MAGIC, VERSION, MAIN.magic, double_sha256(b"base"), coins))
        for begin in range(0, coins, CHUNK):
            size = write_coins(out, begin, min(begin + CHUNK, coins), scripts, script)
            file.write(out[:size].data)


def outputs_of(numbers: NDArray[np.int64], values: NDArray[np.int64]) -> Outputs:
    """Columns of outputs that pay these scripts."""
    data = np.empty(40 * len(numbers), np.uint8)
    offset, length = np.empty((2, len(numbers)), np.uint32)
    write_scripts(numbers, data, offset, length)
    values = np.ascontiguousarray(values)
    return Outputs(data, values, offset, length, np.zeros(len(numbers), np.uint8), np.zeros(len(numbers), np.uint64))


class Economy:
    """Blocks that fit the set, one after the other."""

    def __init__(self, scripts: int) -> None:
        self.scripts, self.next_script = scripts, scripts
        self.rng = np.random.default_rng(7)
        self.old = ((n * STRIDE) % scripts for n in count())
        self.recent: list[NDArray[np.int64]] = []
        self.hash = Hash256(double_sha256(b"base"))

    def block(self, height: int) -> tuple[Block, Spent]:
        """The next one."""
        used = self._spend()
        made = self._make()
        self.recent = [*self.recent, made][-RECENT_BLOCKS:]
        header = Header(0, self.hash, bytes(32), 0, 0, 0, Hash256(double_sha256(height.to_bytes(8, "little"))))
        self.hash = header.block_hash
        return _block(header, outputs_of(made[:, 0], made[:, 1])), _spent(outputs_of(used[:, 0], used[:, 1]))

    def _spend(self) -> NDArray[np.int64]:
        """(script, sat) of the coins spent, behind a row for the coinbase; half of them recent ones."""
        taken = [np.zeros((1, 2), np.int64)]
        share = INPUTS // 2 // len(self.recent) if self.recent else 0
        for i, coins in enumerate(self.recent if share else []):
            order = self.rng.permutation(len(coins))
            taken.append(coins[order[:share]])
            self.recent[i] = coins[order[share:]]
        missing = INPUTS + 1 - sum(map(len, taken))
        numbers = np.array([next(self.old) for _ in range(missing * 2 // 3)])
        halves = np.array([(n, worth(n) // 2) for n in numbers], np.int64)
        return np.concatenate([*taken, halves, halves[: missing - len(halves)]])

    def _make(self) -> NDArray[np.int64]:
        """(script, sat) of the coins made: two in five pay a script that the block pays already."""
        new, once = MADE * 2 // 5, MADE // 10
        numbers = [np.arange(self.next_script, self.next_script + new)]
        self.next_script += new
        numbers.append(self.rng.integers(max(self.next_script - 50 * new, 0), self.next_script, once))
        numbers.append(self.rng.integers(0, self.scripts, once))
        different = np.concatenate(numbers)
        again = self.rng.choice(different, MADE - len(different))
        return np.stack([np.concatenate([different, again]), self.rng.integers(LEAST, SPREAD, MADE)], axis=1)


def _block(header: Header, outputs: Outputs) -> Block:
    none, at = np.zeros(0, np.uint32), np.array([0, 1], np.uint32)
    flags, sums = np.zeros(1, np.uint8), np.zeros(1, np.int64)
    tx = Transactions(none, none, none, none, flags, at, at, sums)
    return Block(outputs.data, MAIN, header, tx, none, outputs, np.zeros((1, 32), np.uint8), None)  # type: ignore[arg-type]


def _spent(outputs: Outputs) -> Spent:
    return Spent(outputs, np.zeros(1, np.int64), None, None)


class Watched:
    """The most resident memory while something runs, in MB, seen from a thread."""

    def __enter__(self) -> Watched:
        self.peak, self.peak_private, self._done = 0, 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.005):
            resident, private = memory("VmRSS", "RssAnon")
            self.peak, self.peak_private = max(self.peak, resident), max(self.peak_private, private)

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def importing(folder: Path) -> dict[str, Any]:
    """Import the snapshot; its hash is computed whether it is expected to be some or not."""
    with Watched() as watched:
        began = time.perf_counter()
        found = import_snapshot(folder / "utxo.dat", folder / "ledger", MAIN, HEIGHT)
        seconds = time.perf_counter() - began
        cpu = time.process_time()
    return {
        "coins": found.coins, "scripts": found.scripts, "import_s": seconds,
        "import_coins_a_s": found.coins / seconds, "import_cpu_s": cpu, "import_peak_MB": watched.peak / 1e6,
    }  # fmt: skip


def disk_of(folder: Path) -> int:
    """Bytes the files in a folder take."""
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


def following(folder: Path, scripts: int, blocks: int) -> dict[str, Any]:
    """Open the ledger, connect blocks, take the last ones back, open it again."""
    economy = Economy(scripts)
    before = memory("VmRSS")[0]
    began = time.perf_counter()
    ledger = Ledger.open(folder / "ledger", MAIN)
    opening = time.perf_counter() - began
    times, cpu, tidying, disk = [], [], [], 0
    with Watched() as watched:
        for height in range(HEIGHT + 1, HEIGHT + 1 + blocks):
            block, spent = economy.block(height)
            began, cpu_began = time.perf_counter(), time.process_time()
            ledger.connect(block, spent, height)
            times.append(1000 * (time.perf_counter() - began))
            cpu.append(1000 * (time.process_time() - cpu_began))
            began = time.perf_counter()
            ledger.tidy()
            tidying.append(1000 * (time.perf_counter() - began))
            disk = max(disk, disk_of(ledger.folder)) if height % 16 == 0 else disk
    undo = []
    for _ in range(6):
        began = time.perf_counter()
        assert ledger.tip
        ledger.disconnect(ledger.tip[1])
        undo.append(1000 * (time.perf_counter() - began))
    began = time.perf_counter()
    ledger.top(100)
    top = time.perf_counter() - began
    settled = times[len(times) // 2 :]
    return {
        "open_s": opening, "blocks": blocks, "block_median_ms": float(np.median(times)),
        "block_p95_ms": float(np.percentile(times, 95)), "block_max_ms": max(times),
        "settled_median_ms": float(np.median(settled)), "settled_p95_ms": float(np.percentile(settled, 95)),
        "cpu_median_ms": float(np.median(cpu)),
        "tidy_mean_ms": float(np.mean(tidying)), "tidy_p95_ms": float(np.percentile(tidying, 95)),
        "tidy_max_ms": max(tidying), "undo_median_ms": float(np.median(undo)), "top_100_s": top,
        "peak_MB": watched.peak / 1e6, "peak_private_MB": watched.peak_private / 1e6, "bare_MB": before / 1e6,
        "peak_disk_MB": disk / 1e6, **_dict_reference(),
    }  # fmt: skip


def reopening(folder: Path) -> dict[str, Any]:
    """Open a ledger whose process ended without closing it; then verify every byte."""
    began = time.perf_counter()
    ledger = Ledger.open(folder / "ledger", MAIN)
    opening = time.perf_counter() - began
    began = time.perf_counter()
    totals = ledger.check()
    return {"open_after_kill_s": opening, "check_s": time.perf_counter() - began, "scripts_at_end": totals.scripts}


def _dict_reference() -> dict[str, Any]:
    """The same kind of block against a dict of REFERENCE scripts."""
    economy = Economy(REFERENCE)
    outputs = outputs_of(np.arange(REFERENCE), np.array([worth(n) for n in range(REFERENCE)], np.int64))
    held = {outputs.script(row): (int(outputs.value[row]), 1, 1) for row in range(REFERENCE)}
    times = []
    for height in range(1, 21):
        block, spent = economy.block(height)
        began = time.perf_counter()
        for rows, sign, first in ((block.outputs, 1, 0), (spent.outputs, -1, 1)):
            for row in range(first, len(rows.value)):
                script = rows.script(row)
                sat, since, _ = held.get(script, (0, height, 0))
                held[script] = (sat + sign * int(rows.value[row]), since, height)
        times.append(1000 * (time.perf_counter() - began))
    return {"dict_scripts": REFERENCE, "dict_median_ms": float(np.median(times))}


def in_process(step: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """One step in a process of its own, which ends without closing anything."""
    command = [
        sys.executable, "-m", "benchmarks.balances", "--step", step, "--folder", str(folder),
        "--scripts", str(arguments.scripts), "--blocks", str(arguments.blocks),
    ]  # fmt: skip
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=-1).stdout)
    return result


def run_step(arguments: argparse.Namespace) -> dict[str, Any]:
    if arguments.step == "make":
        make_snapshot(arguments.folder / "utxo.dat", arguments.scripts)
        return {"snapshot_MB": (arguments.folder / "utxo.dat").stat().st_size / 1e6}
    if arguments.step == "import":
        return importing(arguments.folder)
    if arguments.step == "follow":
        return following(arguments.folder, arguments.scripts, arguments.blocks)
    return reopening(arguments.folder)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.balances", description=__doc__)
    parser.add_argument("--scripts", type=int, default=50_000_000, help="live scripts")
    parser.add_argument("--blocks", type=int, default=400, help="blocks to connect")
    parser.add_argument("--folder", type=Path, help="where to put the files (default: a temporary folder)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--step", choices=("make", "import", "follow", "reopen"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(run_step(arguments)), flush=True)
        os._exit(0)
    folder = Path(tempfile.mkdtemp(dir=arguments.folder))
    result: dict[str, Any] = {}
    try:
        for step in ("make", "import", "follow", "reopen"):
            result |= in_process(step, folder, arguments)
            if step == "import":
                (folder / "utxo.dat").unlink()
    finally:
        shutil.rmtree(folder)
    result["ratio_to_dict"] = result["settled_median_ms"] / result["dict_median_ms"]
    tell(result, as_json=arguments.json)


if __name__ == "__main__":
    main()
