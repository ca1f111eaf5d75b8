"""`utxoiq doctor` on what needs no node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from balances.chains import kernel_chain
from utxoiq.balances.ledger import Ledger
from utxoiq.cli import app


def ledger_check(folder: Path, setting: str) -> list[dict[str, Any]]:
    """What it says of the ledger under these settings."""
    (folder / "utxoiq.toml").write_text(setting)
    result = CliRunner().invoke(app, ["doctor", "--json", "--config", str(folder / "utxoiq.toml")])
    return [row for row in map(json.loads, result.output.splitlines()) if row["name"] == "ledger"]


def of(folder: Path, ledger: Path) -> dict[str, Any]:
    """What it says of this one."""
    (check,) = ledger_check(folder, f"ledger = {json.dumps(str(ledger))}\n")
    return check


def test_no_ledger_is_set(tmp_path: Path) -> None:
    """Then there is nothing to look at."""
    assert ledger_check(tmp_path, "") == []


def test_a_good_ledger(tmp_path: Path) -> None:
    """Is told with its height, and left as it is: it is looked at twice."""
    chain = kernel_chain()
    with Ledger.create(tmp_path / "ledger", chain.network) as ledger:
        for _, one in chain.steps[:5]:
            ledger.connect(one.block, one.spent, one.height)
    for _ in range(2):
        check = of(tmp_path, tmp_path / "ledger")
        assert (check["state"], check["found"]) == ("ok", f"{tmp_path / 'ledger'}: height 4")


def test_a_ledger_with_no_block(tmp_path: Path) -> None:
    Ledger.create(tmp_path / "ledger", kernel_chain().network).close()
    check = of(tmp_path, tmp_path / "ledger")
    assert check["state"] == "warning"
    assert "no block yet" in check["found"]
    assert "utxoiq balances build" in check["advice"]


def test_there_is_no_ledger(tmp_path: Path) -> None:
    """Neither in a folder that is missing, which stays so, nor in one with something else."""
    (tmp_path / "other").mkdir()
    for name in ("missing", "other"):
        check = of(tmp_path, tmp_path / name)
        assert check["state"] == "failed"
        assert "no ledger here" in check["found"]
        assert "docs/balances.md" in check["advice"]
    assert not (tmp_path / "missing").exists()
    assert list((tmp_path / "other").iterdir()) == []


def test_a_ledger_that_is_damaged(tmp_path: Path) -> None:
    Ledger.create(tmp_path / "ledger", kernel_chain().network).close()
    (tmp_path / "ledger" / "manifest").write_bytes(b"{}")
    check = of(tmp_path, tmp_path / "ledger")
    assert check["state"] == "failed"
    assert "manifest" in check["found"]
