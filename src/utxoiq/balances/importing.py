"""A ledger from a UTXO snapshot, without more memory than a range needs: coins are spread over files by the top bits of
their scripts' keys, then each file is added up to the runs of its range."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utxoiq.balances._coins import add_up, spread
from utxoiq.balances._table import collect
from utxoiq.balances.coins import Coins, Snapshot
from utxoiq.balances.delta import SPARE
from utxoiq.balances.errors import LedgerError, SnapshotRefused, disk_errors
from utxoiq.balances.files import sync
from utxoiq.balances.kept import KeptScripts, kept_path
from utxoiq.balances.manifest import NAME, Manifest, RunPlace
from utxoiq.balances.records import DEFAULTS, KEEP_FROM, Settings
from utxoiq.balances.run import run_path, split_records, write_run
from utxoiq.balances.tally import ALL_KEYS
from utxoiq.units import MAX_MONEY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from utxoiq.chain.hashes import Hash256
    from utxoiq.chain.network import Network

COINS_A_RANGE = 1 << 20
MOST_RANGE_BITS = 8
Progress = Callable[[int, int], None]
"""Told how many coins have been read, of how many."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What was in a snapshot."""

    base: Hash256
    height: int
    coins: int
    sat: int
    scripts: int
    """Those that hold anything."""
    hash_serialized: Hash256


def import_snapshot(
    path: Path,
    folder: Path,
    network: Network,
    height: int,
    *,
    expected_hash: Hash256 | None = None,
    kept_from: int = KEEP_FROM,
    settings: Settings = DEFAULTS,
    on_progress: Progress = lambda _done, _of: None,
) -> Imported:
    """Make a ledger in `folder` from a file of `dumptxoutset`, whose base block has this height.

    `expected_hash` is `gettxoutsetinfo`'s hash_serialized_3 at that block: without it the file is believed. Needs disk
    for 32 bytes a coin while it runs. There is a ledger afterwards or there is none. Raises SnapshotRefused,
    LedgerError where there is a ledger already, LedgerUnavailable.
    """
    if (folder / NAME).exists():
        raise LedgerError(f"{folder}: there is a ledger here already; delete it first")
    snapshot = Snapshot(path, network, height)
    aside = folder.with_name(folder.name + ".importing")
    with disk_errors(aside):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    try:
        found = _Import(snapshot, aside, kept_from, settings).run(network, height, expected_hash, on_progress)
        with disk_errors(folder):
            if folder.is_dir():
                folder.rmdir()
            aside.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return found


class _Import:
    """One import into an empty folder."""

    def __init__(self, snapshot: Snapshot, folder: Path, kept_from: int, settings: Settings) -> None:
        self._snapshot, self._folder, self._settings = snapshot, folder, settings
        self._bits = min((snapshot.count // COINS_A_RANGE).bit_length(), MOST_RANGE_BITS)
        self._ledger, self._secret = secrets.token_bytes(16), secrets.token_bytes(16)
        self._kept = KeptScripts(kept_from)
        self._places: list[RunPlace] = []
        self._scripts = self._sat = 0

    def run(self, network: Network, height: int, expected: Hash256 | None, on_progress: Progress) -> Imported:
        done = 0
        for coins in self._snapshot.chunks():
            self._spread(coins)
            done += len(coins.sat)
            on_progress(done, self._snapshot.count)
        self._refuse_unexpected(expected)
        for number in range(1 << self._bits):
            self._add_up(number)
        scripts = len(self._places)
        self._kept.write(kept_path(self._folder, scripts))
        Manifest(
            network.name, self._ledger.hex(), self._secret.hex(), self._kept.least,
            (height, str(self._snapshot.base)), 0, scripts + 1, tuple(self._places), scripts,
        ).write(self._folder)  # fmt: skip
        snapshot = self._snapshot
        return Imported(snapshot.base, height, snapshot.count, self._sat, self._scripts, snapshot.hash_serialized)

    def _refuse_unexpected(self, expected: Hash256 | None) -> None:
        found = self._snapshot.hash_serialized
        if expected is not None and found != expected:
            raise SnapshotRefused(f"{self._snapshot.path}: its coins hash to {found}, not to {expected}; get it again")
        if self._sat > MAX_MONEY:
            raise SnapshotRefused(f"{self._snapshot.path}: holds more than 21 million BTC; get it again")

    def _path(self, number: int) -> Path:
        return self._folder / f"range.{number:03d}"

    def _spread(self, coins: Coins) -> None:
        """Append a chunk's coins to the files of their ranges."""
        rows = len(coins.sat)
        keys, records = np.empty(2 * rows, np.uint64), np.empty(4 * rows, np.uint64)
        ends = np.empty(1 << self._bits, np.int64)
        self._sat += spread(
            np.frombuffer(self._secret, np.uint64).copy(), coins.arena, rows, coins.position, coins.sat, coins.script,
            coins.length, np.uint64(64 - self._bits), keys, records, ends,
        )  # fmt: skip
        begin = 0
        for number, end in enumerate(ends.tolist()):
            if begin < end:
                with disk_errors(self._folder), self._path(number).open("ab") as file:
                    file.write(records[4 * begin : 4 * end].data)
            begin = end

    def _add_up(self, number: int) -> None:
        """Turn one file of coins into runs, and delete it."""
        first = number << (64 - self._bits) if self._bits else 0
        path = self._path(number)
        with disk_errors(path):
            coins = np.fromfile(path, np.uint64) if path.exists() else np.zeros(0, np.uint64)
            path.unlink(missing_ok=True)
        records = self._balances(coins, first)
        for start, piece in split_records(first, records, self._settings.run_records):
            at = len(self._places)
            write_run(run_path(self._folder, at), self._ledger, at, piece)
            sync(run_path(self._folder, at))
            self._places.append(RunPlace(start, at, 0))

    def _balances(self, coins: NDArray[np.uint64], first: int) -> NDArray[np.uint64]:
        """The sum of each script's coins, in order of keys, without those that hold nothing."""
        if not len(coins):
            return coins
        bits = max(4, (len(coins) // 2 - 1).bit_length())
        table = np.zeros(4 * ((1 << bits) + SPARE), np.uint64)
        shift, low = np.uint64(64 - bits), np.uint64(self._bits)
        coins[0::4] <<= low
        assert add_up(coins, table, shift) == 0
        words = np.empty(len(coins), np.uint64)
        records = words[: 4 * collect(table, shift, *ALL_KEYS, words)].reshape(-1, 4)
        records[:, 0] >>= low
        records[:, 0] |= np.uint64(first)
        self._keep(records[records[:, 2] >= self._kept.least])
        records[:, 3] = 0
        records = records[records[:, 2] > 0]
        self._scripts += len(records)
        return np.ascontiguousarray(records).reshape(-1)

    def _keep(self, records: NDArray[np.uint64]) -> None:
        """Fetch the scripts of those that hold enough."""
        for record in records:
            self._kept.by_key[record[:2].tobytes()] = self._snapshot.script_at(int(record[3]))
