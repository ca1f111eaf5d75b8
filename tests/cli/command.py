"""The command line as a user runs it: a process with arguments, two streams and an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

COMMAND = (sys.executable, "-m", "utxoiq.cli")


class Ran(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Its output as JSON, one object a line."""
        return [json.loads(line) for line in self.out.splitlines()]


def environment(**variables: str) -> dict[str, str]:
    """Ours, without a store of the user's."""
    return {**{k: v for k, v in os.environ.items() if k != "UTXOIQ_DB"}, "COLUMNS": "200", **variables}


def utxoiq(*arguments: str | Path, folder: Path | None = None, **variables: str) -> Ran:
    """Run `utxoiq` with these arguments, in `folder`."""
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, cwd=folder,
        env=environment(**variables),
    )  # fmt: skip
    return Ran(done.returncode, done.stdout, done.stderr)
