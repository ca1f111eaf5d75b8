"""Processes that begin where starting Python and loading the kernels has been done already, once for all.

Run as a script it is the process that forks for each.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import time
import traceback
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

HEAVY = ("utxoiq.cli", "utxoiq.service", "utxoiq.facts.compute", "utxoiq.sources.node.blocks", "zmq.asyncio",
         "opentelemetry.sdk.metrics", "utxoiq.observability.telemetry")  # fmt: skip


class Forked:
    """A process as `subprocess.Popen` has it, as far as tests ask."""

    def __init__(self, arguments: list[str], *, folder: Path, variables: dict[str, str], output: Path) -> None:
        request = {"arguments": arguments, "folder": str(folder), "variables": variables, "output": str(output)}
        self.pid = int(_ask(request))
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code, None while it runs; negative for a signal."""
        if self.returncode is None:
            self.returncode = _ask({"pid": self.pid})
        return self.returncode

    def wait(self, timeout: float = 3600) -> int:
        """Its exit code. Raises subprocess.TimeoutExpired."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            code = self.poll()
            if code is not None:
                return code
            time.sleep(0.005)
        raise subprocess.TimeoutExpired(str(self.pid), timeout)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(9)


def _ask(request: dict[str, Any]) -> Any:
    server = _server()
    assert server.stdin
    assert server.stdout
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    return json.loads(server.stdout.readline())


@cache
def _server() -> subprocess.Popen[str]:
    """It ends when its input does, at the end of this process, and all it began with it."""
    server = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(server.communicate)
    return server


def serve() -> None:
    """Fork for each request to start, and tell exit codes."""
    for name in HEAVY:
        __import__(name)
    running: dict[int, int | None] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "pid" in request:
            answer = running[request["pid"]] = _code(request["pid"], running[request["pid"]])
        else:
            answer = os.fork()
            if answer == 0:
                _run(request)
            running[answer] = None
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()
    for pid, code in running.items():
        if code is None:
            with suppress(ProcessLookupError):
                os.kill(pid, 9)


def _code(pid: int, known: int | None) -> int | None:
    if known is not None:
        return known
    ended, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if ended else None


def _run(request: dict[str, Any]) -> NoReturn:
    """Do as a fresh process would, and end."""
    os.chdir(request["folder"])
    for name in [name for name in os.environ if name.startswith("UTXOIQ_")]:
        del os.environ[name]
    os.environ.update(request["variables"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream in (1, 2):
        os.dup2(os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    sys.argv = ["utxoiq", *request["arguments"]]
    code: Any = 0
    try:
        sys.modules["utxoiq.cli"].main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001 as the interpreter does it
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve()
