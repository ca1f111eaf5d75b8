"""The journal: every step in order, in files of SEGMENT steps each, from the oldest that is still needed.

Only the last file grows. A step cut short by a crash is the last thing in it, and is dropped when it is opened; damage
before what a checkpoint has seen on the disk can't come from a crash, and is refused.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from utxoiq.balances.errors import LedgerDamaged, disk_errors
from utxoiq.balances.steps import CONNECT, HEAD_SIZE, Head, Step, read_head, read_step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEGMENT = 64
NAME = "journal.{:012d}"


class Entry(NamedTuple):
    """Where a step is."""

    head: Head
    path: Path
    position: int


class Journal:
    """The steps from the oldest kept to the last, and the blocks of the present branch that can be undone."""

    def __init__(self, folder: Path, durable: int, *, writing: bool = True) -> None:
        """`durable` is the last step a checkpoint has made sure of. Not `writing`: another process may be; a step that
        is not whole yet is passed over. Raises LedgerDamaged where one up to `durable` is not whole."""
        self.folder, self._writing = folder, writing
        self.entries: list[Entry] = []
        self.branch: list[Entry] = []
        self._durable = durable
        self._fd, self._path = -1, folder
        for path in sorted(folder.glob("journal.*")):
            self._read(path)
        if self.last < durable:
            raise LedgerDamaged(folder, f"step {self.last + 1} of its journal is missing")

    @property
    def last(self) -> int:
        """The number of the last step, 0 before the first."""
        return self.entries[-1].head.serial if self.entries else 0

    def _read(self, path: Path) -> None:
        """Note all steps of one file; cut off what is not whole."""
        with disk_errors(path), path.open("r+b" if self._writing else "rb") as file:
            at, size = 0, path.stat().st_size
            while (head := read_head(os.pread(file.fileno(), HEAD_SIZE, at))) is not None:
                end = at + HEAD_SIZE + head.body_size
                expected = self.last + 1 if self.entries else head.serial
                if head.serial != expected or end > size or not self._whole(file.fileno(), head, at):
                    break
                self._note(Entry(head, path, at))
                at = end
            if at < size:
                if self.last < self._durable:
                    raise LedgerDamaged(path, f"step {self.last + 1} is not what was written")
                if self._writing:
                    file.truncate(at)

    def _whole(self, fd: int, head: Head, at: int) -> bool:
        """Of steps a checkpoint has seen, bodies are verified when they are used."""
        return head.serial <= self._durable or read_step(head, os.pread(fd, head.body_size, at + HEAD_SIZE)) is not None

    def _note(self, entry: Entry) -> None:
        self.entries.append(entry)
        if entry.head.kind == CONNECT:
            self.branch.append(entry)
        elif self.branch:
            self.branch.pop()

    def append(self, step: Step, *, durable: bool) -> None:
        """Write a step behind the last; all of it, or nothing that will be read. Raises LedgerUnavailable."""
        path, position = self._place(step.head.serial)
        parts = step.parts()
        with disk_errors(path):
            fd = self._open(path)
            try:
                if os.pwritev(fd, parts, position) != sum(memoryview(part).nbytes for part in parts):
                    raise OSError(errno.ENOSPC, "")
                if durable:
                    os.fdatasync(fd)
            except OSError:
                os.ftruncate(fd, position)
                raise
        head = read_head(bytes(parts[0]))
        assert head
        self._note(Entry(head, path, position))

    def _place(self, serial: int) -> tuple[Path, int]:
        if self.entries and (serial - 1) % SEGMENT:
            last = self.entries[-1]
            return last.path, last.position + HEAD_SIZE + last.head.body_size
        return self.folder / NAME.format(serial), 0

    def _open(self, path: Path) -> int:
        if self._fd >= 0 and self._path == path:
            return self._fd
        self.close()
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._path = path
        return self._fd

    def read(self, entry: Entry) -> Step:
        """A step, whole. Raises LedgerDamaged."""
        with disk_errors(entry.path), entry.path.open("rb") as file:
            body = os.pread(file.fileno(), entry.head.body_size, entry.position + HEAD_SIZE)
        step = read_step(entry.head, body)
        if step is None:
            raise LedgerDamaged(entry.path, f"step {entry.head.serial} is not what was written")
        return step

    def since(self, serial: int) -> Iterator[Step]:
        """All steps after that one. Raises LedgerDamaged where one is missing."""
        if self.entries and self.entries[0].head.serial > serial + 1:
            raise LedgerDamaged(self.folder, f"step {serial + 1} of its journal is missing")
        return (self.read(entry) for entry in self.entries if entry.head.serial > serial)

    def sync(self) -> None:
        """Make sure of all steps up to the last."""
        if self._fd >= 0:
            with disk_errors(self._path):
                os.fsync(self._fd)
        self._durable = self.last

    def drop_before(self, serial: int, undo: int) -> None:
        """Delete files in which no step is needed: none from `serial` on, and none of the last `undo` blocks."""
        kept = self.branch[-undo:]
        needed = min(serial, kept[0].head.serial if kept else serial)
        last_of = {entry.path: entry.head.serial for entry in self.entries}
        gone = {path for path, last in last_of.items() if last < needed and path != self.entries[-1].path}
        for path in sorted(gone):
            with disk_errors(path):
                path.unlink(missing_ok=True)
        self.entries = [entry for entry in self.entries if entry.path not in gone]
        self.branch = [entry for entry in kept if entry.path not in gone]

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
