"""`utxoiq chart`: the charts of a scanned chain as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli.command import utxoiq
from pipeline.simulated import world
from utxoiq.persistence import open_store, reads
from utxoiq.web.charts import chart_of


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of the simulated chain."""
    db = f"sqlite:///{tmp_path_factory.mktemp('chart') / 'store.db'}"
    assert utxoiq("scan", world().folder, "--db", db, "--labels", world().label_file, "--json").code == 0
    return db


@pytest.fixture(scope="module")
def told(scanned: str) -> list[dict[str, Any]]:
    """Its insights, newest first, retracted ones among them."""
    with open_store(scanned) as store:
        return reads.insights(store, 999, retracted=True)


def test_every_insight_has_a_chart(scanned: str, told: list[dict[str, Any]]) -> None:
    """At the address it gives, with its headline; what a reorg took back says so."""
    assert any(row["retracted_at"] for row in told)
    with open_store(scanned) as store:
        for row in told:
            assert row["chart_url"] == f"/charts/{row['insight_id']}.svg"
            made = chart_of(store, row["insight_id"], "svg", "dark")
            assert made is not None
            assert row["headline"].split()[0] in made.decode()
            assert b"SIMULATED" in made
            assert (b"RETRACTED" in made) == (row["retracted_at"] is not None)


def test_as_a_file(scanned: str, told: list[dict[str, Any]], tmp_path: Path) -> None:
    """Here under its id, or where told; the same bytes as the service gives."""
    name = told[0]["insight_id"]
    ran = utxoiq("chart", name, "--db", scanned, folder=tmp_path)
    assert (ran.code, ran.out, ran.err) == (0, f"{name}.svg\n", "")
    with open_store(scanned) as store:
        assert (tmp_path / f"{name}.svg").read_bytes() == chart_of(store, name, "svg", "light")
    ran = utxoiq("chart", name, "--db", scanned, "--png", "--dark", "--out", tmp_path / "a.png")
    assert ran.code == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_to_standard_output(scanned: str, told: list[dict[str, Any]]) -> None:
    """By the beginning of the signal's id, as the feed shows it."""
    ran = utxoiq("chart", told[0]["signal_id"][:13], "--db", scanned, "--out", "-")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("<?xml")


@pytest.mark.parametrize(("arguments", "code", "message"), [
    (["none"], 1, "no insight, or more than one, begins with none: see `utxoiq insights"),
    ([""], 1, "no insight, or more than one, begins with"),
    (["none", "--db", "sqlite:///missing.db"], 1, "no store at missing.db"),
])  # fmt: skip
def test_refusals(scanned: str, arguments: list[str], code: int, message: str) -> None:
    """In one line."""
    ran = utxoiq("chart", *(["--db", scanned] if "--db" not in arguments else []), *arguments)
    assert ran.code == code
    assert message in ran.err
    assert len(ran.err.splitlines()) == 1


def test_a_file_that_cannot_be_written(scanned: str, told: list[dict[str, Any]], tmp_path: Path) -> None:
    ran = utxoiq("chart", told[0]["insight_id"], "--db", scanned, "--out", tmp_path / "no" / "a.svg")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert "give another --out" in ran.err
