"""`python -m benchmarks.labels [--scripts N] [--json]`: a label file of N addresses, compiled, mapped and matched.

The file is invented: P2WPKH addresses of random hashes among a thousand entities, an address that two of them claim,
and one in fifty of the scripts of a real block. Compiling, and opening with matching, each run in a process of its own,
so that its memory is its own: private is RssAnon, mapped is RssFile, of the whole process, in MB (10^6 bytes). The
reference is a Python dict over the scripts of REFERENCE of those addresses, asked for the outputs of the same block one
by one. Times a block are the best of ROUNDS.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.stream import stream
from benchmarks.told import tell
from utxoiq.chain.address import BECH32, BECH32_CHECK, FEEDBACK, address_of
from utxoiq.chain.block import Outputs, decode_block
from utxoiq.chain.network import NETWORKS
from utxoiq.entities.changes import changes
from utxoiq.entities.compiled import cache_path
from utxoiq.entities.compiling import compile_labels
from utxoiq.entities.labels import COMPILED_FROM, labels_for

MAIN = NETWORKS["main"]
ENTITIES = 1000
REFERENCE = 200_000
ROUNDS = 30
LETTERS = np.frombuffer(BECH32.encode(), np.uint8)
EXPANDED = [3, 3, 0, 2, 3]
"""The prefix bc as the checksum sees it."""


def main_block() -> Outputs:
    """The outputs of the recorded block that has most."""
    blocks = (decode_block(item.raw, MAIN) for item in stream())
    return max((block.outputs for block in blocks), key=lambda outputs: len(outputs.value))


def addresses_of(hashes: NDArray[np.uint8]) -> list[str]:
    """P2WPKH addresses of 20-byte hashes, shape (n, 20), all at once."""
    bits = np.unpackbits(hashes, axis=1).reshape(len(hashes), 32, 5)
    values = [np.zeros(len(hashes), np.uint8), *(bits @ np.array([16, 8, 4, 2, 1], np.uint8)).T]
    feedback, check = np.array(FEEDBACK, np.uint32), np.ones(len(hashes), np.uint32)
    for value in (*EXPANDED, *values, *[0] * 6):
        check = (check & 0x1FFFFFF) << 5 ^ value ^ feedback[check >> 25]
    check ^= BECH32_CHECK
    text = np.empty((len(hashes), 42), np.uint8)
    text[:, :3] = np.frombuffer(b"bc1", np.uint8)
    for i, value in enumerate([*values, *(check >> 5 * (5 - i) & 31 for i in range(6))]):
        text[:, 3 + i] = LETTERS[value]
    return text.view("S42").ravel().astype(str).tolist()


def write_labels(path: Path, scripts: int) -> None:
    """The invented label file."""
    rng, outputs = np.random.default_rng(1), main_block()
    found = {address_of(outputs.script(row), MAIN) for row in range(0, len(outputs.value), 50)}
    known = sorted(address for address in found if address)
    with path.open("w") as file:
        for number in range(ENTITIES):
            addresses = addresses_of(rng.integers(0, 256, (scripts // ENTITIES, 20), np.uint8))
            addresses += known[number + 1 :: ENTITIES] if number else [known[0], known[-1]]
            label = {"source": "invented", "confidence": "high", "as_of": "2026-01-01", "addresses": addresses}
            row = {"id": f"e{number}", "name": f"Entity {number}", "kind": "exchange", "labels": [label]}
            file.write(json.dumps(row) + "\n")


def memory(*names: str) -> list[int]:
    """Fields of /proc/self/status, in bytes."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return [int(fields[name].split()[0]) * 1024 for name in names]


def compiling(path: Path) -> dict[str, Any]:
    """Compile the file, watching private memory from a thread."""
    peak, done = memory("RssAnon"), threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], memory("RssAnon")[0])

    thread = threading.Thread(target=watch)
    thread.start()
    began = time.perf_counter()
    compile_labels(path, MAIN, cache_path(path, MAIN))
    seconds = time.perf_counter() - began
    done.set()
    thread.join()
    size = cache_path(path, MAIN).stat().st_size
    return {"compile_s": seconds, "compile_peak_private_MB": peak[0] / 1e6, "compiled_MB": size / 1e6}


def matching(path: Path) -> dict[str, Any]:
    """Open the compiled file and match a block against it, and against a dict."""
    outputs = main_block()
    before = memory("RssAnon")
    began = time.perf_counter()
    labels = labels_for(MAIN, path)
    assert labels.scripts
    opening = time.perf_counter() - began
    owners = labels.owners_of(outputs)
    private, mapped = memory("RssAnon", "RssFile")
    ns = best(lambda: labels.owners_of(outputs)) / len(owners)
    rows = min(REFERENCE, len(labels.scripts))
    reference = {labels.scripts.script(row): 0 for row in range(rows)}
    scripts = [outputs.script(row) for row in range(len(owners))]
    dict_ns = best(lambda: [reference.get(script, -1) for script in scripts]) / len(owners)
    began = time.perf_counter()
    assert not len(changes(labels, labels))
    compared = time.perf_counter() - began
    return {
        "scripts": len(labels.scripts), "open_s": opening, "changes_s": compared,
        "private_MB": private / 1e6, "mapped_MB": mapped / 1e6, "imports_private_MB": before[0] / 1e6,
        "conflicts": len(labels.conflicts), "outputs": len(owners), "matched": int((owners >= 0).sum()),
        "ns_an_output": ns, "dict_ns_an_output": dict_ns, "dict_scripts": rows, "ratio_to_dict": ns / dict_ns,
    }  # fmt: skip


def best(call: Any) -> float:
    """Nanoseconds of the fastest of ROUNDS calls."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - began)
    return float(min(times))


def in_process(step: str, path: Path, folder: str) -> dict[str, Any]:
    """One step in a process of its own, with the compiled file in `folder`."""
    environment = {"NUMBA_CACHE_DIR": str(Path.home() / ".cache"), **os.environ, "XDG_CACHE_HOME": folder}
    command = [sys.executable, "-m", "benchmarks.labels", "--step", step, "--file", str(path)]
    result: dict[str, Any] = json.loads(subprocess.run(command, env=environment, check=True, stdout=-1).stdout)
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labels", description=__doc__)
    parser.add_argument("--scripts", type=int, default=10_000_000, help="addresses in the file")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--file", type=Path, help="a label file to use in place of an invented one")
    parser.add_argument("--step", choices=("compile", "match"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps((compiling if arguments.step == "compile" else matching)(arguments.file)))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.file or Path(folder) / "labels.jsonl"
        if not arguments.file:
            write_labels(path, arguments.scripts)
        if path.stat().st_size < COMPILED_FROM:
            raise SystemExit("too small a file to be compiled: give more --scripts")
        steps = in_process("compile", path, folder) | in_process("match", path, folder)
        result = {"file_MB": path.stat().st_size / 1e6, **steps}
    tell(result, as_json=arguments.json)


if __name__ == "__main__":
    main()
