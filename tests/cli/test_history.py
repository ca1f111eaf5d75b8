"""Asking the stored history by its ten questions, and exporting it."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path

import pyarrow.parquet
import pytest

from cli.command import utxoiq
from pipeline.simulated import world
from utxoiq.persistence import SqliteStore, open_store
from utxoiq.persistence.questions import answer, questions

NAMES = [one.name for one in questions()]
PAGE = (Path(__file__).parents[2] / "docs" / "sql.md").read_text("utf-8")


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A scan of the simulated chain with its labels."""
    url = f"sqlite:///{tmp_path_factory.mktemp('history') / 'store.db'}"
    assert utxoiq("scan", world().folder, "--db", url, "--labels", world().label_file, "--json").code == 0
    return url


def test_without_a_question_all_are_listed() -> None:
    """With what they say; no store is needed."""
    ran, told = utxoiq("ask"), utxoiq("ask", "--json")
    assert (ran.code, told.code) == (0, 0)
    assert told.rows == [{"question": one.name, "says": one.says} for one in questions()]
    for one in questions():
        assert f"{one.name}\n  {one.says}\n" in ran.out


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_is_a_line_a_row(db: str, name: str) -> None:
    """Of all days of this store, with its network on each."""
    ran = utxoiq("ask", name, "--db", db, "--labels", world().label_file, "--json")
    entities = [(one.id, one.kind, one.name) for one in world().labels.entities.values()]
    with open_store(db) as store:
        rows = answer(store, name, date(2009, 1, 3), date(2100, 1, 1), entities)
    assert ran.rows == [{**row, "network": "simulated"} for row in rows]
    assert rows or name == "treasury_changes"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "treasury_changes"])
def test_the_page_shows_what_the_command_prints(db: str, name: str) -> None:
    """The sentences, and a line of the simulated chain."""
    said, line = re.findall(rf"### {name}\n\n(.*?)\n\n```json\n(.*)\n```", PAGE, re.DOTALL)[0]
    assert " ".join(said.split()) == next(one.says for one in questions() if one.name == name)
    assert json.loads(line.split("\n")[0]) in utxoiq("ask", name, "--db", db, "--json").rows


def test_a_table_has_units_and_the_mark_of_a_made_up_chain(db: str) -> None:
    """Amounts in BTC, feerates in sat/vB, shares in percent: the figures of the JSON."""
    row = utxoiq("ask", "fee_percentiles_by_day", "--db", db, "--json").rows[-1]
    ran = utxoiq("ask", "fee_percentiles_by_day", "--db", db)
    assert "SIMULATED" in ran.out
    assert "p50 sat/vB" in ran.out
    assert "total fees BTC" in ran.out
    assert f"{row['p50_kvb'] / 1000:,.3f}" in ran.out
    assert f"{row['total_fees_sat'] / 1e8:.8f}".rstrip("0") in ran.out
    coverage = utxoiq("ask", "label_coverage_by_day", "--db", db, "--json").rows[-1]
    assert f"{coverage['labelled_in_share']:.2%}" in utxoiq("ask", "label_coverage_by_day", "--db", db).out


def test_days_are_counted_back_from_the_newest(db: str) -> None:
    everything = utxoiq("ask", "pool_shares_by_day", "--db", db, "--json").rows
    days = sorted({row["day"] for row in everything})
    assert len(days) == 2
    newest = [row for row in everything if row["day"] == days[1]]
    oldest = [row for row in everything if row["day"] == days[0]]
    assert utxoiq("ask", "pool_shares_by_day", "--db", db, "--days", "1", "--json").rows == newest
    assert utxoiq("ask", "pool_shares_by_day", "--db", db, "--to-day", days[0], "--json").rows == oldest
    assert utxoiq("ask", "pool_shares_by_day", "--db", db, "--from-day", days[1], "--json").rows == newest
    assert utxoiq("ask", "pool_shares_by_day", "--db", db, "--days", "9999999", "--json").rows == everything


def test_a_span_without_rows_says_so(db: str) -> None:
    ran = utxoiq("ask", "whale_transfers", "--db", db, "--from-day", "2010-01-01", "--to-day", "2010-02-01")
    assert (ran.code, ran.err) == (0, "")
    assert "Nothing from 2010-01-01 to 2010-02-01" in ran.out


def test_exchanges_are_named_by_the_labels(db: str) -> None:
    """Without a label file this network has none: then all of them together is what can be told."""
    told = utxoiq("ask", "exchange_net_flow_by_day", "--db", db, "--labels", world().label_file, "--json").rows
    bare = utxoiq("ask", "exchange_net_flow_by_day", "--db", db, "--json").rows
    assert {row["entity"] for row in told} > {"all_exchanges", "sim-exchange-cinder"}
    assert bare == [row for row in told if row["entity"] == "all_exchanges"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("ask", "nothing"), 2, "no question 'nothing': one of "),
        (("ask", NAMES[0], "--from-day", "yesterday"), 2, "--from-day 'yesterday' is no day: give YYYY-MM-DD"),
        (("ask", NAMES[0], "--from-day", "2026-01-02", "--to-day", "2026-01-01"), 2, "end before they begin"),
        (("export", "--to", "out", "--from", "9", "--to-height", "8"), 2, "the range 9 to 8 ends before it begins"),
        (("export", "--to", "out", "--tables", "facts,fees"), 2, "no table 'fees' to export: one of "),
        (("export", "--to", "/dev/null/out"), 2, "/dev/null/out: can't be written to (Not a directory)"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    db: str, arguments: tuple[str, ...], code: int, message: str, tmp_path: Path
) -> None:
    ran = utxoiq(*arguments, "--db", db, folder=tmp_path)
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [("ask", NAMES[0]), ("export", "--to", "out")])
def test_a_store_that_is_not_there_is_not_made(arguments: tuple[str, ...], tmp_path: Path) -> None:
    ran = utxoiq(*arguments, "--db", "sqlite:///none.db", folder=tmp_path)
    assert (ran.code, ran.err.startswith("utxoiq: no store at none.db")) == (1, True)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_store_has_nothing_to_tell(tmp_path: Path) -> None:
    SqliteStore(tmp_path / "empty.db").close()
    url = f"sqlite:///{tmp_path / 'empty.db'}"
    assert "Nothing from " in utxoiq("ask", NAMES[0], "--db", url).out
    ran = utxoiq("export", "--to", tmp_path / "out", "--db", url)
    assert (ran.code, ran.out) == (0, "No blocks in that range.\n")


def test_export_says_what_it_wrote(db: str, tmp_path: Path) -> None:
    """For people and for machines; the files hold so many rows."""
    ran = utxoiq("export", "--to", "out", "--db", db, folder=tmp_path)
    told = utxoiq("export", "--to", "again", "--db", db, "--json", folder=tmp_path).rows
    assert {"table": "facts", "files": 1, "rows": 230} in told
    assert ran.out.endswith("230 blocks in out\n")
    for row in told:
        assert f"{row['table']}: {row['rows']:,} rows in {row['files']:,} files\n" in ran.out
        found = sorted((tmp_path / "out" / row["table"]).iterdir())
        assert [file.name for file in found] == ["000900000-000900999.parquet"]
        assert pyarrow.parquet.read_metadata(found[0]).num_rows == row["rows"]
        assert found[0].read_bytes() == (tmp_path / "again" / row["table"] / found[0].name).read_bytes()


def test_export_of_a_range_and_of_some_tables(db: str, tmp_path: Path) -> None:
    ran = utxoiq("export", "--to", "out", "--from", "900010", "--to-height", "900019", "--tables", "facts, flows",
                 "--db", db, "--json", folder=tmp_path)  # fmt: skip
    assert ran.rows == [{"table": "facts", "files": 1, "rows": 10}, {"table": "flows", "files": 1, "rows": 10}]
    assert (tmp_path / "out" / "facts" / "000900010-000900019.parquet").exists()
