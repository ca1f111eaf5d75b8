"""The command line as a user runs it: a process with arguments, two streams and an exit code.

Starting Python and loading the kernels takes a second, so one process does that once and forks for every command.
Run as a script it is that process.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
import traceback
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

HEAVY = ("utxoiq.cli", "utxoiq.demo", "utxoiq.pipeline.scan", "utxoiq.pipeline.verify", "utxoiq.facts.compute",
         "utxoiq.sources.open")  # fmt: skip


class Ran(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Its output as JSON, one object a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def utxoiq(*arguments: str | Path, folder: Path | None = None, **variables: str) -> Ran:
    """Run `utxoiq` with these arguments, in `folder`, with these variables and without a store of the user's."""
    with tempfile.TemporaryDirectory() as streams:
        request = {"arguments": list(map(str, arguments)), "folder": str(folder or streams), "variables": variables,
                   "streams": streams}  # fmt: skip
        server = _server()
        assert server.stdin
        assert server.stdout
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        out, err = ((Path(streams) / name).read_text("utf-8") for name in ("out", "err"))
    return Ran(code, out, err)


@cache
def _server() -> subprocess.Popen[str]:
    """It ends when its input does, at the end of this process."""
    variables = {k: v for k, v in os.environ.items() if k != "UTXOIQ_DB"} | {"COLUMNS": "200"}
    server = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
    )
    atexit.register(server.communicate)
    return server


def serve() -> None:
    """Fork for each line of input, and answer with the exit code."""
    for name in HEAVY:
        __import__(name)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _run(json.loads(line))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _run(request: dict[str, Any]) -> NoReturn:
    """Do as a fresh process would, and end."""
    os.chdir(request["folder"])
    os.environ.update(request["variables"])
    for stream, name in ((0, os.devnull), (1, "out"), (2, "err")):
        mode = os.O_RDONLY if stream == 0 else os.O_WRONLY | os.O_CREAT
        os.dup2(os.open(os.path.join(request["streams"], name), mode), stream)
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
