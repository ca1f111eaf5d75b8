"""A fresh Python process, for what can only be seen from outside: start-up, imports, crashes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def python(*arguments: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments, and these variables set, or unset where None."""
    path = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
    variables = {**os.environ, "PYTHONPATH": path, **environment}
    return subprocess.run(
        [sys.executable, *arguments],
        env={name: value for name, value in variables.items() if value is not None},
        capture_output=True,
        text=True,
        check=False,
    )


def said(process: subprocess.CompletedProcess[str]) -> str:
    """What a process did, for a failed test to show."""
    return f"exit code {process.returncode}\n{process.stdout}\n{process.stderr}"
