"""`utxoiq scan --ledger`: balances beside blocks, from the command line; and what goes wrong with that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.command import utxoiq
from cli.test_errors import one_line
from pipeline.simulated import query, world
from utxoiq.balances.ledger import Ledger


@pytest.fixture
def blocks(shared: Path) -> Path:
    """A recorded chain that begins with genesis."""
    return shared / "runs" / "regtest_reorg"


def unknown(db: Path) -> tuple[int, int]:
    """Connected blocks, and those of them whose balances are not stored."""
    rows = query(
        db, "SELECT digest FROM block_state LEFT JOIN current_balances USING (block_hash) WHERE state = 'connected'"
    )  # fmt: skip
    return len(rows), sum(row["digest"] is None for row in rows)


def test_a_scan_with_a_ledger(blocks: Path, tmp_path: Path) -> None:
    """Both are at the tip; the ledger is one like any other; again, nothing is new."""
    store, ledger = f"sqlite:///{tmp_path / 'store.db'}", tmp_path / "ledger"
    ran = utxoiq("scan", blocks, "--db", store, "--ledger", ledger, "--json")
    assert (ran.code, ran.err) == (0, "")
    (done,) = ran.rows
    assert done["disconnected"] > 0
    count, missing = unknown(tmp_path / "store.db")
    assert (count, missing) == (done["height"] + 1, 0)
    top = utxoiq("balances", "top", "--ledger", ledger, "--count", "1", "--json").rows[0]
    assert (top["height"], top["block_hash"]) == (done["height"], done["tip"])
    assert utxoiq("balances", "check", "--ledger", ledger).code == 0
    again = utxoiq("scan", blocks, "--db", store, "--ledger", ledger, "--json")
    assert (again.code, again.err, again.rows[0]["connected"]) == (0, "", 0)


def test_the_ledger_is_built_elsewhere(blocks: Path, tmp_path: Path) -> None:
    """`balances build` and a scan make the same, and one goes on where the other stands."""
    stores = [tmp_path / "one.db", tmp_path / "two.db"]
    assert utxoiq("balances", "build", blocks, "--ledger", tmp_path / "built").code == 0
    for db, ledger in zip(stores, ("built", "scanned"), strict=True):
        ran = utxoiq("scan", blocks, "--db", f"sqlite:///{db}", "--ledger", tmp_path / ledger)
        assert (ran.code, ran.err) == (0, "")
    tops = [utxoiq("balances", "top", "--ledger", tmp_path / name, "--json").out for name in ("built", "scanned")]
    assert tops[0] == tops[1] != ""
    assert [unknown(db)[1] for db in stores] == [0, 0]
    one, two = (query(db, "SELECT balances FROM balances ORDER BY block_hash") for db in stores)
    assert one == two
    assert all(json.loads(row["balances"])["labels_version"] == "none" for row in one)


def test_no_ledger_and_no_genesis(tmp_path: Path) -> None:
    """Exit code 1, one line, no ledger, no block."""
    db = tmp_path / "store.db"
    ran = utxoiq("scan", world(12).folder, "--db", f"sqlite:///{db}", "--ledger", tmp_path / "none")
    one_line(ran, 1, "none: no ledger here", "import a snapshot")
    assert not (tmp_path / "none").exists()
    assert query(db, "SELECT * FROM blocks") == []


def test_no_ledger_and_a_store_with_blocks(blocks: Path, tmp_path: Path) -> None:
    """The same: a new ledger would have to begin where the store does."""
    store = f"sqlite:///{tmp_path / 'store.db'}"
    assert utxoiq("scan", blocks, "--db", store).code == 0
    ran = utxoiq("scan", blocks, "--db", store, "--ledger", tmp_path / "none")
    one_line(ran, 1, "none: no ledger here", "import a snapshot")


@pytest.mark.parametrize("what", ["locked", "damaged"])
def test_a_ledger_that_can_not_be_used(blocks: Path, tmp_path: Path, what: str) -> None:
    """One that is locked is told and passed over: blocks are stored. One that is damaged is refused at once."""
    store, ledger = f"sqlite:///{tmp_path / 'store.db'}", tmp_path / "ledger"
    assert utxoiq("balances", "build", blocks, "--ledger", ledger).code == 0
    if what == "damaged":
        (ledger / "manifest").write_bytes(b"x")
        one_line(utxoiq("scan", blocks, "--db", store, "--ledger", ledger), 1, "manifest", "build it anew")
        return
    with Ledger.open(ledger):
        ran = utxoiq("scan", blocks, "--db", store, "--ledger", ledger)
    assert ran.code == 0
    assert ran.err.count("another process has this ledger open; stop it first") == 1
    assert "Traceback" not in ran.err
    count, missing = unknown(tmp_path / "store.db")
    assert count == missing > 10
