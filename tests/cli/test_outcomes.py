"""`utxoiq outcomes` as a user types it."""

from __future__ import annotations

from pathlib import Path

from cli.command import utxoiq
from persistence.records import chain, signal, told
from utxoiq.models import Outcome
from utxoiq.persistence import SqliteStore

SAID = 0.9


def store(path: Path) -> str:
    """Four signals, of which three were right, and one nobody resolved."""
    with SqliteStore(path) as made:
        for i, data in enumerate(chain().trunk[:5]):
            made.connect(told(data, i))
        found = [signal(data, i, subject="subject-0") for i, data in enumerate(chain().trunk[:4])]
        made.outcomes.record([Outcome(one.signal_id, i > 0, "a test", 900_000) for i, one in enumerate(found)])
    return f"sqlite:///{path}"


def test_as_json(tmp_path: Path) -> None:
    """A line a type, kind and model: how often right, beside what was said."""
    ran = utxoiq("outcomes", "--db", store(tmp_path / "store.db"), "--json")
    assert (ran.code, ran.err) == (0, "")
    (row,) = ran.rows
    brier = (SAID**2 + 3 * (1 - SAID) ** 2) / 4
    assert {**row, "mean_confidence": 0, "brier": 0} == {
        "signal_type": "whale", "kind": "seen", "model_version": "whale-test", "resolved": 4, "right": 3,
        "mean_confidence": 0, "share_right": 0.75, "brier": 0,
    }  # fmt: skip
    assert (round(row["mean_confidence"], 9), round(row["brier"], 9)) == (SAID, round(brier, 9))


def test_as_a_table(tmp_path: Path) -> None:
    ran = utxoiq("outcomes", "--db", store(tmp_path / "store.db"), COLUMNS="120")
    assert ran.code == 0
    for word in ("whale-test", "resolved", "Brier", "0.900", "0.750", "0.2100"):
        assert word in ran.out


def test_of_none(tmp_path: Path) -> None:
    """Nothing was resolved; no store is refused in a line."""
    SqliteStore(tmp_path / "store.db").close()
    url = f"sqlite:///{tmp_path / 'store.db'}"
    assert utxoiq("outcomes", "--db", url, "--json").out == ""
    assert "No signal was resolved yet" in utxoiq("outcomes", "--db", url).out
    assert utxoiq("outcomes", "--db", f"sqlite:///{tmp_path / 'none.db'}").code == 1
