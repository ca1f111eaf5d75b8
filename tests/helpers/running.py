"""`utxoiq run`, or one of its parts, as a process: started, listened to, signalled, killed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any

from helpers.forking import Forked
from helpers.node.interface import free_ports

HUNG = 60
"""Seconds after which something hangs."""


class Running:
    """A process in `folder`, with a store `store.db`, settings `utxoiq.toml` if there are any, and logs in there."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        command: str = "run",
        listen: bool = False,
        fresh: bool = False,
        constants: Mapping[str, float] | None = None,
        **variables: str,
    ) -> None:
        """`fresh`: by a Python of its own, from the first instruction; else forked, which is quicker. `constants`: of
        our modules, by their full names, other values that this process has from the beginning; it is fresh then."""
        folder.mkdir(exist_ok=True)
        self.folder, self.db = folder, folder / "store.db"
        self.port = free_ports(1)[0] if listen else 0
        self._log = folder / f"log{len(list(folder.glob('log*')))}.jsonl"
        where = f"127.0.0.1:{self.port}" if listen else "off"
        words = [command, "--db", f"sqlite:///{self.db}", "--listen", where, *arguments]
        self._log.touch()
        self.process = (
            self._begun(words, variables, constants or {})
            if fresh or constants
            else Forked(words, folder=folder, variables=variables, output=self._log)
        )

    def _begun(
        self, words: list[str], variables: dict[str, str], constants: Mapping[str, float]
    ) -> subprocess.Popen[bytes]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("UTXOIQ_")}
        set_all = [f"import {name.rpartition('.')[0]}; {name} = {value!r}" for name, value in constants.items()]
        script = "\n".join([*set_all, "from utxoiq.cli import main; main()"])
        begin = ["-c", script] if constants else ["-m", "utxoiq.cli"]
        with self._log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, *begin, *words],
                cwd=self.folder, env=kept | variables, stdout=log, stderr=log,
            )  # fmt: skip

    def __enter__(self) -> Running:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    def kill(self) -> None:
        """As by the kernel, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def terminate(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end: its exit code."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self, seconds: float = HUNG) -> int:
        """Its exit code, once it has one."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end in {seconds:g} s; it said:\n{self.said}") from None

    @property
    def said(self) -> str:
        """All it wrote so far."""
        return self._log.read_text("utf-8")

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The same, each line an object. Raises ValueError for one that is none."""
        written = self.said
        return [json.loads(line) for line in written[: written.rfind("\n") + 1].splitlines()]

    def told(self, part: str) -> bool:
        """Whether it said that."""
        return part in self.said

    def until(self, reached: Callable[[], Any], seconds: float = HUNG, every: float = 0.01) -> Any:
        """Wait for something that is true: what it is."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = reached()
            if found:
                return found
            if self.process.poll() is not None:
                raise AssertionError(f"it ended with {self.process.returncode}; it said:\n{self.said}")
            time.sleep(every)
        raise AssertionError(f"not reached; it said:\n{self.said}")

    def at(self, block_hash: str) -> None:
        """Wait until this is the tip of the store."""
        self.until(lambda: self.tip == block_hash)

    @property
    def tip(self) -> str | None:
        return self.value("SELECT block_hash FROM cursor")

    def value(self, sql: str) -> Any:
        """The first value of a statement, None where there is no row, or no store yet."""
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{self.db}?mode=ro", uri=True)) as db:
            row = db.execute(sql).fetchone()
            return row[0] if row else None
        return None

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of what it serves. Raises OSError, HTTPException."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=HUNG)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def ready(self) -> tuple[int, dict[str, Any]] | None:
        """What /readyz says, None while nobody listens."""
        try:
            status, said = self.get("/readyz")
        except (OSError, HTTPException):
            return None
        return status, json.loads(said)

    def is_ready(self) -> bool:
        answer = self.ready()
        return answer is not None and answer[0] == 200

    def metric(self, name: str, *labels: str) -> float:
        """The sum of a metric's series that have these labels."""
        rows = [r for r in self.get("/metrics")[1].splitlines() if r.replace("{", " ").split(" ")[0] == name]
        return sum(float(row.rsplit(" ", 1)[1]) for row in rows if all(label in row for label in labels))
