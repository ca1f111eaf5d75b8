"""Parquet by height range: the store's rows, each once, in files that are whole or absent."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from helpers.emulator import HOME
from persistence import records
from persistence.recount import answers, handmade_store, simulated_store
from pipeline.simulated import query
from utxoiq.errors import ConfigError, StoreError
from utxoiq.persistence import SqliteStore
from utxoiq.persistence.export import export, pieces, relations
from utxoiq.persistence.schema import SHIPPED
from utxoiq.persistence.warehouse.rows import read
from utxoiq.persistence.warehouse.tables import BY_NAME
from utxoiq.persistence.warehouse.wire import arrow

DUCKDB = HOME / "bin" / "python"
PAGE = (Path(__file__).parents[2] / "docs" / "sql.md").read_text("utf-8")
TALLY = "import json, sys, duckdb; print(json.dumps(duckdb.sql(sys.argv[1]).fetchall(), default=str))"


def run(path: Path, folder: Path, *tables: str, **chosen: Any) -> dict[str, tuple[int, int]]:
    """Export from a store."""
    with SqliteStore(path) as store:
        return export(store.database, folder, relations(tables), pieces(store.database, **chosen))


def files(folder: Path) -> dict[str, bytes]:
    """All there is below a folder, hidden names too."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def together(folder: Path, table: str) -> Any:
    """A table's files, read as one."""
    return pyarrow.parquet.read_table(folder / table)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan of the simulated chain."""
    path = tmp_path_factory.mktemp("export") / "store.db"
    simulated_store(path)
    return path


@pytest.fixture
def by_hand(path: Path) -> Path:
    handmade_store(path)
    return path


def connect_at(path: Path, *heights: int) -> list[str]:
    """Blocks at these heights, as the parents of one another: their hashes."""
    with SqliteStore(path) as store:
        for data, height in zip(records.chain().trunk, heights, strict=False):
            signals = [records.signal(data)]
            store.connect(records.record(data, signals, list(map(records.insight, signals)), height=height))
    return [str(data.block_hash) for data in records.chain().trunk[: len(heights)]]


def test_every_row_of_a_connected_block_is_there_as_the_warehouse_would_have_it(simulated: Path, folder: Path) -> None:
    """Columns, types and values, in the order of the chain."""
    written = run(simulated, folder)
    assert {"blocks", "block_events", "facts", "flows", "entity_flows", "forecasts", "signals", "insights"} <= set(
        written
    )
    for table, (number, rows) in written.items():
        stored, key = SHIPPED[table]
        keys = [row[key] for row in keyed(simulated, stored, key)]
        with SqliteStore(simulated) as store:
            expected = arrow(BY_NAME[table], list(read(store.database, table, keys)))
        found = together(folder, table)
        assert found.schema.names == [column.name for column in BY_NAME[table].columns]
        assert (found.num_rows, number) == (rows, 1)
        assert sorted(map(repr, found.to_pylist())) == sorted(map(repr, expected.to_pylist()))


def keyed(path: Path, stored: str, key: str) -> list[dict[str, Any]]:
    """Keys of rows about connected blocks."""
    joins = {"signal_events": "JOIN signals USING (signal_id)", "insights": "JOIN signals USING (signal_id)"}
    block = "signals.block_hash" if stored in joins else f"{stored}.block_hash"
    sql = (
        f"SELECT {stored}.{key} AS k FROM {stored} {joins.get(stored, '')} "
        f"WHERE (SELECT event FROM block_events e WHERE e.block_hash = {block} ORDER BY seq DESC LIMIT 1) = 'connected'"
    )
    return [{key: row["k"]} for row in query(path, sql)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out" / "parquet"


def test_a_second_run_gives_the_same_bytes(by_hand: Path, folder: Path, tmp_path: Path) -> None:
    """In the same place and in another, and leaves nothing else behind."""
    run(by_hand, folder)
    first = files(folder)
    run(by_hand, folder)
    run(by_hand, tmp_path / "again")
    assert files(folder) == first == files(tmp_path / "again")
    assert all(name.endswith(".parquet") for name in first)


def test_stale_blocks_and_islands_are_left_out_unless_all_are_wanted(by_hand: Path, folder: Path) -> None:
    chain = records.chain()
    connected = {str(data.block_hash) for data in [*chain.trunk, *chain.winning[:-1]]}
    run(by_hand, folder, "blocks", "signals")
    assert set(together(folder, "blocks")["block_hash"].to_pylist()) == connected
    assert set(together(folder, "signals")["block_hash"].to_pylist()) == connected
    run(by_hand, folder, "blocks", "signals", every=True)
    others = {str(data.block_hash) for data in [*chain.stale, chain.winning[-1]]}
    assert set(together(folder, "blocks")["block_hash"].to_pylist()) == connected | others
    assert set(together(folder, "signals")["block_hash"].to_pylist()) == connected | others


def test_rows_of_one_block_are_in_its_file(path: Path, folder: Path) -> None:
    """A thousand heights each; events and insights with the block of their signal."""
    hashes = connect_at(path, 998, 999, 1000, 1001, 2000)
    with SqliteStore(path) as store:
        for row in store.database.query("SELECT signal_id FROM signals"):
            store.supersede(row["signal_id"], None, [], "a test", "run")
    run(path, folder)
    expected = {
        "000000000-000000999": hashes[:2],
        "000001000-000001999": hashes[2:4],
        "000002000-000002999": hashes[4:],
    }
    for name, blocks in expected.items():
        file = f"{name}.parquet"
        signals = pyarrow.parquet.read_table(folder / "signals" / file)
        assert pyarrow.parquet.read_table(folder / "facts" / file)["block_hash"].to_pylist() == blocks
        assert signals["block_hash"].to_pylist() == blocks
        for table in ("signal_events", "insights"):
            named = pyarrow.parquet.read_table(folder / table / file)["signal_id"].to_pylist()
            assert named == signals["signal_id"].to_pylist()
        insights = pyarrow.parquet.read_table(folder / "insights" / file)["insight_id"].to_pylist()
        assert pyarrow.parquet.read_table(folder / "insight_events" / file)["insight_id"].to_pylist() == insights


def test_a_range_is_cut_and_named_by_its_ends(path: Path, folder: Path) -> None:
    connect_at(path, 998, 999, 1000, 1001)
    run(path, folder, "facts", first=999, last=1000)
    assert sorted(files(folder)) == ["facts/000000999-000000999.parquet", "facts/000001000-000001000.parquet"]
    assert together(folder, "facts")["block_height"].to_pylist() == [999, 1000]


def test_heights_that_another_file_holds_are_refused(path: Path, folder: Path) -> None:
    """Before anything is written: a reader of all files would count them twice."""
    connect_at(path, 998, 999, 1000, 1001)
    run(path, folder, "facts", first=999, last=1000)
    before = files(folder)
    with pytest.raises(ConfigError, match=r"facts/000000999-000000999\.parquet holds some of the heights 0 to 999"):
        run(path, folder, "blocks", "facts")
    assert files(folder) == before


def test_what_came_since_is_added(path: Path, folder: Path) -> None:
    """The last file is written anew, under the same name."""
    connect_at(path, 998, 999, 1000)
    run(path, folder, "facts")
    old = (folder / "facts" / "000000000-000000999.parquet").stat().st_mtime_ns
    with SqliteStore(path) as store:
        data = records.chain().trunk[3]
        store.connect(records.record(data, height=1001))
    run(path, folder, "facts")
    assert together(folder, "facts")["block_height"].to_pylist() == [998, 999, 1000, 1001]
    assert (folder / "facts" / "000000000-000000999.parquet").stat().st_mtime_ns >= old


def test_a_file_whose_rows_were_all_taken_back_is_removed(path: Path, folder: Path) -> None:
    """After a reorg nobody reads the signals of the stale block from an earlier run."""
    (stale,) = connect_at(path, 998)
    run(path, folder, "facts", "signals")
    assert together(folder, "signals").num_rows == 1
    with SqliteStore(path) as store:
        store.disconnect(stale, "reorg")
        store.connect(records.record(records.chain().trunk[1], height=998))
    run(path, folder, "facts", "signals")
    assert list(files(folder)) == ["facts/000000000-000000999.parquet"]


@pytest.mark.parametrize(
    ("table", "column", "kinds"),
    [("facts", "totalfee", "BIGINT"), ("facts", "facts", "VARCHAR"), ("facts", "time", "TIMESTAMP WITH TIME ZONE"),
     ("facts", "day", "DATE"), ("signals", "confidence", "DOUBLE"), ("signals", "metadata", "VARCHAR"),
     ("blocks", "simulated", "BOOLEAN"), ("entity_flows", "departed", "BIGINT")],
)  # fmt: skip
def test_duckdb_reads_them_as_they_are(
    simulated: Path, folder: Path, table: str, column: str, kinds: str, duckdb: Callable[..., list[list[Any]]]
) -> None:
    run(simulated, folder, table)
    source = f"read_parquet('{folder}/{table}/*.parquet')"
    (number, kind), *_ = duckdb(f"SELECT count(*), any_value(typeof({column})) FROM {source} GROUP BY typeof({column})")
    assert (number, kind) == (together(folder, table).num_rows, kinds)


def test_duckdb_reads_what_is_in_json_columns(
    simulated: Path, folder: Path, duckdb: Callable[..., list[list[Any]]]
) -> None:
    """The median feerates as the store has them."""
    run(simulated, folder, "facts")
    sql = (
        "SELECT block_height, (facts->>'$.package_feerate_percentiles_kvb[2]')::BIGINT "
        f"FROM read_parquet('{folder}/facts/*.parquet') ORDER BY 1"
    )
    sqlite = (
        "SELECT height, json_extract(facts, '$.package_feerate_percentiles_kvb[2]') AS rate FROM current_facts "
        "JOIN block_state USING (block_hash) WHERE state = 'connected' ORDER BY 1"
    )
    assert duckdb(sql) == [[row["height"], row["rate"]] for row in query(simulated, sqlite)]


def test_the_statements_of_the_page_run_in_duckdb(
    path: Path, tmp_path: Path, duckdb: Callable[[str], list[list[Any]]]
) -> None:
    """On a store with restated facts and flows, of which the newest count."""
    expected = answers(path, handmade_store(path))
    run(path, tmp_path / "out")
    fees, moved = map(duckdb, re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL))
    told = expected["fee_percentiles_by_day"]
    assert [row[:4] for row in fees] == [[r["day"], r["blocks"], r["known"], r["total_fees_sat"]] for r in told]
    changes = [row for name in ("treasury_changes", "exchange_net_flow_by_day") for row in expected[name]]
    sums = [[row["day"], row["entity"], row["arrived_sat"], row["departed_sat"]] for row in changes]
    assert [row for row in sums if row[1] != "all_exchanges"] == [row for row in sums if row in moved]
    assert {row[1] for row in moved} == {"market", "bourse", "hoard", "fund", "state", "pit", "nobody's"}


@pytest.fixture
def duckdb(tmp_path: Path) -> Callable[[str], list[list[Any]]]:
    """DuckDB in another interpreter that has it, in the folder of the test."""
    if not DUCKDB.exists():
        pytest.skip(f"no DuckDB at {DUCKDB.parent.parent.name}/: `make test` sets one up")

    def ask(sql: str) -> list[list[Any]]:
        command = [DUCKDB, "-c", TALLY, sql]
        ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd=tmp_path)
        rows: list[list[Any]] = json.loads(ran.stdout)
        return rows

    return ask


def test_polars_reads_them_as_they_are(simulated: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    polars = pytest.importorskip("polars", reason="no Polars here")
    run(simulated, folder, "facts", "signals")
    monkeypatch.chdir(folder.parent)
    (folder.parent / "out").symlink_to(folder)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(example, {})
    for table in ("facts", "signals"):
        frame = polars.read_parquet(folder / table / "*.parquet")
        expected = together(folder, table)
        assert frame.columns == expected.schema.names
        assert frame.height == expected.num_rows
    assert polars.read_parquet(folder / "facts" / "*.parquet")["totalfee"].sum() == sum(
        together(folder, "facts")["totalfee"].to_pylist()
    )


def test_a_table_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigError, match="no table 'fees' to export: one of blocks, facts, "):
        relations(["fees"])


def test_a_range_that_ends_before_it_begins_is_refused(store: SqliteStore) -> None:
    with pytest.raises(ConfigError, match="the range 5 to 4 ends before it begins"):
        pieces(store.database, 5, 4)


def test_a_place_that_is_no_folder_is_refused(by_hand: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=r"file.*: can't be written to \(.*\); give another --to"):
            run(by_hand, place)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_disk_that_takes_no_more_leaves_no_half_file(simulated: Path, folder: Path) -> None:
    """Here a limit on file sizes; what was there before stays, byte by byte."""
    run(simulated, folder, "blocks")
    before = files(folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with SqliteStore(simulated) as store:
        chosen = pieces(store.database)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        try:
            with pytest.raises(StoreError, match=r"000900000-000900999\.parquet: can't be written \(File too large\)"):
                export(store.database, folder, ["blocks"], chosen)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(folder) == before


def test_without_pyarrow_it_says_what_to_install(by_hand: Path, folder: Path) -> None:
    program = "import sys; sys.modules['pyarrow'] = None; from utxoiq.cli import main; main()"
    command = [sys.executable, "-c", program, "export", "--to", folder, "--db", f"sqlite:///{by_hand}"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stderr) == (
        2,
        "utxoiq: Parquet needs one more package: pip install 'utxoiq[parquet]'\n",
    )
