"""What the README shows is what happens."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_python_example_runs(tmp_path: Path, shared: Path) -> None:
    """As printed, beside a folder with block 210,000: its two signals, and the time it took."""
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    (tmp_path / "blocks").mkdir()
    for path in (shared / "blocks").glob("main_0210000_*"):
        shutil.copy(path, tmp_path / "blocks")
    ran = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert ran.stderr == ""
    assert re.fullmatch(r"Generated 2 signals\nTotal duration: [\d.]+ms\n", ran.stdout)


def test_the_insight_it_shows_is_real(tmp_path: Path, shared: Path) -> None:
    """The headline and the figures of the example come from the recorded block itself."""
    folder = tmp_path / "blocks"
    folder.mkdir()
    for path in (shared / "blocks").glob("main_0210000_*"):
        shutil.copy(path, folder)
    command = [sys.executable, "-m", "utxoiq.cli", "scan", str(folder), "--db", f"sqlite:///{tmp_path / 'x.db'}"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    shown = re.search(r"\n(A transaction paid .*?)\n  Confidence", README.read_text("utf-8"), re.DOTALL)
    assert shown is not None
    assert " ".join(shown[1].split()) in " ".join(ran.stdout.split())
