"""The ledger: what every script holds, at one block, on disk.

A folder with a manifest, runs and a delta (`layers.py`), a journal of steps (`journal.py`), and the scripts of those
that hold much. The journal comes first: a step that is in it has happened. At a start the delta is made again from the
steps the runs do not have yet, so a process may end anywhere.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from utxoiq.balances._siphash import hash_one
from utxoiq.balances.connecting import step_of
from utxoiq.balances.errors import LedgerDamaged, LedgerError, LedgerUnavailable, disk_errors
from utxoiq.balances.files import Lock, sync
from utxoiq.balances.journal import Journal
from utxoiq.balances.kept import KeptScripts, kept_path
from utxoiq.balances.layers import Layers
from utxoiq.balances.manifest import NAME, Manifest, RunPlace, read_manifest
from utxoiq.balances.records import DEFAULTS, KEEP_FROM, Balance, Change, Holder, Settings, Totals
from utxoiq.balances.run import run_path, write_run
from utxoiq.balances.steps import Step, undone
from utxoiq.balances.tally import tally_block
from utxoiq.chain.hashes import NULL_HASH, Hash256
from utxoiq.errors import NotLinked, WrongNetwork

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from utxoiq.chain.block import Block, Spent
    from utxoiq.chain.network import Network

NOTHING = Balance(0, None, None)
USUAL_BLOCK = 1 << 15
"""Scripts for which room is made beforehand; few blocks touch as many."""
ATTEMPTS = 5
"""To read a ledger that another process brings forward."""


class Ledger:
    """An open ledger: for one process and thread, while others may `read` it. Use it as a context, or `close` it."""

    def __init__(self, folder: Path, lock: Lock | None, manifest: Manifest, settings: Settings) -> None:
        """Use `create`, `open` or `read`."""
        self.folder, self.network = folder, manifest.network
        self._lock, self._manifest, self._settings = lock, manifest, settings
        self._secret = np.frombuffer(bytes.fromhex(manifest.secret), np.uint64).copy()
        self._torn = False
        self._journal = Journal(folder, manifest.step, writing=lock is not None)
        if lock is None:  # nothing is merged then
            unmerged = sum(e.head.count for e in self._journal.entries if e.head.serial > manifest.step)
            settings = replace(settings, delta_limit=settings.delta_limit + unmerged)
        self._layers = Layers(folder, bytes.fromhex(manifest.ledger), manifest.runs, manifest.next_number, settings)
        self._kept = KeptScripts(manifest.kept_from)
        self._kept.read(kept_path(folder, manifest.scripts))
        if lock:
            self._delete_strays()
        self._replay()
        self._kept.look_up(self._layers.values)

    @classmethod
    def create(
        cls, folder: Path, network: Network, *, kept_from: int = KEEP_FROM, settings: Settings = DEFAULTS
    ) -> Self:
        """A new ledger, without a tip: it says nothing until genesis is connected. Scripts that hold `kept_from`
        satoshis or more have a name in `changes` and `top`. Raises LedgerError where there is one already."""
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        if (folder / NAME).exists():
            raise LedgerError(f"{folder}: there is a ledger here already; open it, or delete it first")
        lock = Lock(folder)
        try:
            new_manifest(folder, network.name, kept_from).write(folder)
            return cls(folder, lock, read_manifest(folder), settings)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def open(cls, folder: Path, network: Network | None = None, *, settings: Settings = DEFAULTS) -> Self:
        """The ledger in `folder`, at the last step that was written.

        Raises LedgerError where there is none, LedgerUnavailable where another process has it, LedgerDamaged, and
        WrongNetwork where it is not of `network`.
        """
        _manifest_of(folder, network)
        lock = Lock(folder)
        try:
            return cls(folder, lock, read_manifest(folder), settings)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def read(cls, folder: Path, network: Network | None = None, *, settings: Settings = DEFAULTS) -> Self:
        """The ledger as it stands, for questions only, while another process may bring it forward.

        Raises as `open` does, but for the lock, which it does not ask for.
        """
        for _ in range(ATTEMPTS - 1):
            with suppress(LedgerUnavailable, LedgerDamaged):  # a checkpoint replaces files
                return cls(folder, None, _manifest_of(folder, network), settings)
        return cls(folder, None, _manifest_of(folder, network), settings)

    def _delete_strays(self) -> None:
        """Files of a checkpoint that did not come to its end."""
        named = {kept_path(self.folder, self._manifest.scripts)}
        named |= {run_path(self.folder, place.number) for place in self._manifest.runs}
        for path in {*self.folder.glob("run.*"), *self.folder.glob("scripts.*")} - named:
            with disk_errors(path):
                path.unlink()

    def _replay(self) -> None:
        for step in self._journal.since(self._layers.oldest_step):
            if self._lock:
                self._layers.make_room(len(step.keys), step.head.serial - 1)
            self._layers.put_again(step.keys, step.after, step.head.serial)
            if step.head.serial > self._manifest.step:
                self._kept.follow(step)

    @property
    def tip(self) -> tuple[int, Hash256] | None:
        """Height and hash of the last block it stands at, None before the first."""
        if self._journal.entries:
            return self._journal.entries[-1].head.tip
        base = self._manifest.base
        return (base[0], Hash256.from_display(base[1])) if base else None

    @property
    def kept_from(self) -> int:
        """Satoshis from which on scripts have a name in `changes` and `top`."""
        return self._kept.least

    @property
    def undoable(self) -> int:
        """How many blocks can be disconnected."""
        return len(self._journal.branch)

    def connect(self, block: Block, spent: Spent, height: int) -> None:
        """Take up a block with the outputs it spends. Nothing has changed where this raises.

        Raises NotLinked for a block that does not follow the tip, WrongNetwork, LedgerError for one that spends what
        nobody holds, LedgerUnavailable, LedgerDamaged.
        """
        self._refuse_misfit(block, height)
        tally = tally_block(block, spent, height, self._secret)
        before = self._values(tally.keys)
        self._apply(step_of(block, height, tally, before, self._journal.last + 1, self._kept.least))

    def _refuse_misfit(self, block: Block, height: int) -> None:
        if block.network.name != self.network:
            raise WrongNetwork(f"block {block.block_hash} is of {block.network.name}, the ledger of {self.network}")
        what = f"{self.folder}: block {block.block_hash} at {height} does not follow, the ledger"
        if self.tip is None:
            if height or block.header.prev_hash != NULL_HASH or block.network.genesis not in {None, block.block_hash}:
                raise NotLinked(f"{what} has no block yet; begin with genesis, or a snapshot")
        elif self.tip != (height - 1, block.header.prev_hash):
            raise NotLinked(f"{what} stands at {self.tip[0]} {self.tip[1]}; connect what comes next")

    def disconnect(self, block_hash: Hash256) -> None:
        """Take back the block at the tip: every balance, and when it was seen, is as before it. Nothing has changed
        where this raises. Raises NotLinked where it is not the tip, LedgerError where it can't be undone any more."""
        if self.tip is None or self.tip[1] != block_hash:
            raise NotLinked(f"{self.folder}: block {block_hash} is not the ledger's tip; disconnect that first")
        if not self._journal.branch:
            raise LedgerError(f"{self.folder}: block {block_hash} is too deep to be undone; build the ledger anew")
        self._apply(undone(self._journal.read(self._journal.branch[-1]), self._journal.last + 1))

    def _apply(self, step: Step) -> None:
        """Into the journal, then into memory; merges and checkpoints that are due come first."""
        self._refuse_torn()
        if self._lock is None:
            raise LedgerError(f"{self.folder}: was opened to be read only; open it to bring it forward")
        self._layers.make_room(len(step.keys), self._journal.last)
        if self._journal.last - self._manifest.step >= self._settings.checkpoint_steps:
            self.checkpoint()
        with self._whole():
            self._journal.append(step, durable=self._settings.sync)
            self._layers.put(step.keys, step.after)
            self._kept.follow(step)

    def tidy(self) -> None:
        """Do now what the next block would else wait for: merges, and a checkpoint that is due. Raises
        LedgerUnavailable, LedgerDamaged."""
        self._refuse_torn()
        self._layers.make_room(min(USUAL_BLOCK, self._settings.delta_limit // 8), self._journal.last)
        if self._journal.last - self._manifest.step >= self._settings.checkpoint_steps:
            self.checkpoint()

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """What is cut short here, by Ctrl-C say, is whole in the journal or not at all: memory has to be made again."""
        last, self._torn = self._journal.last, True
        try:
            yield
        except LedgerError:
            self._torn = self._journal.last != last
            raise
        self._torn = False

    def _refuse_torn(self) -> None:
        if self._torn:
            raise LedgerError(f"{self.folder}: the last step was interrupted; close the ledger and open it again")

    def checkpoint(self) -> None:
        """Make sure of all that was written, name the new runs, and delete what is no longer needed."""
        last, settings, layers = self._journal.last, self._settings, self._layers
        layers.merge_older(last - settings.replay_steps, last)
        layers.sync()
        self._journal.sync()
        scripts = layers.next_number
        layers.next_number += 1
        self._kept.write(kept_path(self.folder, scripts))
        old = self._manifest
        new = replace(old, step=last, next_number=layers.next_number, runs=layers.places, scripts=scripts)
        new.write(self.folder)
        self._manifest = new
        layers.delete_superseded()
        with disk_errors(self.folder):
            kept_path(self.folder, old.scripts).unlink(missing_ok=True)
        self._journal.drop_before(layers.oldest_step + 1, settings.undo_blocks)

    def balance(self, script: bytes) -> Balance | None:
        """What one script holds at the tip; None before the first block."""
        return self.balances([script])[0]

    def balances(self, scripts: Sequence[bytes]) -> list[Balance | None]:
        """What each script holds at the tip; None before the first block, when nothing is known."""
        if self.tip is None:
            return [None] * len(scripts)
        keys = self.keys_of(scripts)
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        values = np.empty((len(keys), 2), np.uint64)
        values[order] = self._values(np.ascontiguousarray(keys[order]))
        return [_balance(sat, heights) for sat, heights in values.tolist()]

    def sum_of(self, scripts: Sequence[bytes]) -> int:
        """What they hold together at the tip, sat. Give each once."""
        keys = self.keys_of(scripts)
        return int(self._values(np.ascontiguousarray(keys[np.lexsort((keys[:, 1], keys[:, 0]))]))[:, 0].sum())

    def holders(self, at_least: int) -> Totals:
        """The scripts that hold `at_least` satoshis at the tip. Raises LedgerError for less than scripts are kept
        from."""
        self._refuse_torn()
        self._refuse_unkept(at_least)
        large = [sat for sat in self._kept.held.values() if sat >= at_least]
        return Totals(len(large), sum(large))

    def _refuse_unkept(self, at_least: int) -> None:
        if at_least < self._kept.least:
            raise LedgerError(f"{self.folder}: scripts are kept from {self._kept.least} sat on, not from {at_least}")

    def _values(self, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
        self._refuse_torn()
        return self._layers.values(keys)

    def keys_of(self, scripts: Sequence[bytes]) -> NDArray[np.uint64]:
        """The keys of scripts in this ledger, of shape (n, 2); no two scripts share one."""
        keys = np.empty((len(scripts), 2), np.uint64)
        for script, key in zip(scripts, keys, strict=True):
            data = np.frombuffer(script or b"\0", np.uint8)
            hash_one(self._secret[0], self._secret[1], data, 0, len(script), key)
        return keys

    def changes(self, at_least: int) -> tuple[Change, ...]:
        """What the block at the tip did to those that held `at_least` satoshis before or after it, by key. Empty at the
        block of a snapshot. Raises LedgerError for less than scripts are kept from."""
        self._refuse_unkept(at_least)
        self._refuse_torn()
        return tuple(self._journal.read(self._journal.branch[-1]).changes(at_least)) if self._journal.branch else ()

    def top(self, count: int) -> list[Holder]:
        """The richest scripts, richest first. Where fewer hold enough for their scripts to be kept, all records are
        read (a second for 50 million) and the rest have no script."""
        self._refuse_torn()
        rich = [Holder(self._kept.by_key[key], sat) for key, sat in self._kept.held.items()]
        rich.sort(key=lambda holder: (-holder.sat, holder.script))
        if count <= len(rich) or self.tip is None:
            return rich[:count]
        return rich + [Holder(None, sat) for sat in self._below(count - len(rich))]

    def _below(self, count: int) -> list[int]:
        """The largest balances of those whose scripts are not kept."""
        found = np.zeros(0, np.uint64)
        for records in self._layers.ranges():
            sat = records[2::4]
            found = np.sort(np.concatenate([found, sat[sat < self._kept.least]]))[-count:]
        return [int(sat) for sat in found[::-1]]

    def totals(self) -> Totals:
        """All live scripts and what they hold. Reads everything."""
        self._refuse_torn()
        scripts = sat = 0
        for records in self._layers.ranges():
            scripts += len(records) // 4
            sat += int(records[2::4].sum())
        return Totals(scripts, sat)

    def check(self) -> Totals:
        """Verify every byte on disk that a balance can come from, and add up all balances. Raises LedgerDamaged."""
        self._layers.check()
        for entry in self._journal.entries:
            self._journal.read(entry)
        return self.totals()

    def close(self) -> None:
        """Make a checkpoint, so that the next start is quick, and let others open it."""
        try:
            if self._lock and not self._torn and self._journal.last > self._manifest.step:
                self.checkpoint()
        finally:
            self._journal.close()
            if self._lock:
                self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _manifest_of(folder: Path, network: Network | None) -> Manifest:
    """Raises what `read_manifest` does, WrongNetwork."""
    manifest = read_manifest(folder)
    if network is not None and manifest.network != network.name:
        raise WrongNetwork(f"{folder}: is a ledger of {manifest.network}, not of {network.name}; name another folder")
    return manifest


def _balance(sat: int, heights: int) -> Balance:
    """Height 0 stands for unknown: genesis makes no coins."""
    return Balance(sat, heights >> 32 or None, heights & 0xFFFFFFFF or None) if sat else NOTHING


def new_manifest(folder: Path, network: str, kept_from: int) -> Manifest:
    """Of a ledger without records, whose files this writes."""
    ledger = secrets.token_bytes(16)
    write_run(run_path(folder, 0), ledger, 0, np.zeros(0, np.uint64))
    sync(run_path(folder, 0))
    KeptScripts(kept_from).write(kept_path(folder, 1))
    return Manifest(network, ledger.hex(), secrets.token_hex(16), kept_from, None, 0, 2, (RunPlace(0, 0, 0),), 1)
