"""A BigQuery emulator in a process of its own, spoken to with the real client libraries."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from utxoiq.persistence.warehouse.bigquery import BigQueryWarehouse
from utxoiq.persistence.warehouse.opening import streams_of
from utxoiq.persistence.warehouse.streams import WriteStreams

HOME = Path(__file__).resolve().parents[2] / ".emulator"
PROGRAM = HOME / "bin" / "bqemulator"
ABSENT = f"no BigQuery emulator at {PROGRAM.parent.parent.name}/: `make test` sets one up"
START_SECONDS = 60


class Emulator:
    """Started, stopped and killed at will; its data survives where it is given a folder."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self.rest, self.grpc = _free_port(), _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.rest}"

    @property
    def storage(self) -> str:
        return f"127.0.0.1:{self.grpc}"

    def start(self) -> None:
        """Wait until it answers."""
        kept = ["--persistent", "--data-dir", str(self._folder)] if self._folder else ["--ephemeral"]
        self._process = subprocess.Popen(
            [PROGRAM, "start", "--rest-port", str(self.rest), "--grpc-port", str(self.grpc), *kept],
            env={**os.environ, "HOME": str(HOME / "home")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/bigquery/v2/projects/x/datasets", timeout=5):
                    return
            except OSError:
                assert self._process.poll() is None, "the emulator ended"
                assert time.monotonic() < deadline, "the emulator does not answer"
                time.sleep(0.1)

    def kill(self) -> None:
        """At once, as a machine that loses power."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        if self._process is not None:
            self.kill()

    def client(self, project: str) -> bigquery.Client:
        return bigquery.Client(
            project=project, credentials=AnonymousCredentials(), client_options={"api_endpoint": self.url}
        )

    def warehouse(self, project: str) -> BigQueryWarehouse:
        return BigQueryWarehouse(self.client(project))

    def streams(self, project: str) -> WriteStreams:
        return streams_of(self.warehouse(project), self.storage)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port
