"""What is never sent to a warehouse: statements that write, questions without days, text put into SQL."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from hypothesis import given
from hypothesis import strategies as st

from helpers.emulator import Emulator
from utxoiq.errors import WarehouseError
from utxoiq.persistence.questions import answer_from, questions
from utxoiq.persistence.warehouse import restoring
from utxoiq.persistence.warehouse.bigquery import PARTITIONS, BigQueryWarehouse, checked
from utxoiq.persistence.warehouse.tables import TABLES, Table

DAYS = date(2020, 1, 1), date(2020, 1, 31)
SIGNALS = f"SELECT * FROM intel.signals WHERE {PARTITIONS}"
WRITING = [
    "UPDATE intel.signals SET kind = 'x' WHERE TRUE",
    "DELETE FROM intel.signals WHERE TRUE",
    "MERGE intel.signals USING btc.blocks ON FALSE WHEN NOT MATCHED THEN DELETE",
    "TRUNCATE TABLE intel.signals",
    "INSERT INTO intel.signals (day) VALUES (CURRENT_DATE())",
    "INSERT intel.signals SELECT * FROM x",
    "DROP TABLE intel.signals",
    "CREATE OR REPLACE TABLE intel.signals AS SELECT 1 AS day",
    "ALTER TABLE intel.signals DROP COLUMN kind",
    "EXPORT DATA OPTIONS (uri = 'gs://x/*') AS SELECT 1",
    "LOAD DATA INTO intel.signals FROM FILES (uris = ['gs://x'])",
    "EXECUTE IMMEDIATE 'DEL' || 'ETE FROM intel.signals WHERE TRUE'",
    "CALL intel.write()",
    "GRANT `roles/owner` ON SCHEMA intel TO 'user:x'",
]
LITERAL = [
    "'UPDATE'", '"delete from"', "'it''s'", r"'a \' DELETE'", "'''it's DELETE'''", '"""say "DROP" """', "r'MERGE'",
    "'-- INSERT'", "'/* DROP'", "'# TRUNCATE'", "'`'",
]  # fmt: skip
COMMENTS = ["-- DELETE it's\n", "# DROP it's\n", "/* MERGE ' \n UPDATE */ "]


@pytest.mark.parametrize("sql", WRITING)
def test_writing_is_refused(sql: str) -> None:
    """Alone, after a question, before one, in a script, in a subquery; large or small."""
    for text in (sql, f"{SIGNALS}; {sql}", f"{sql}; {SIGNALS}", f"BEGIN {SIGNALS};\n\t{sql}; END", f"({sql})"):
        for spelt in (text, text.lower(), text.title()):
            with pytest.raises(WarehouseError, match="never sent"):
                checked(spelt.replace("@First_Day", "@first_day"))


@pytest.mark.parametrize("comment", [*COMMENTS, "\n", "/**/", "\t"])
@pytest.mark.parametrize("literal", LITERAL)
def test_text_does_not_hide_a_statement(literal: str, comment: str) -> None:
    """Where a literal or a comment ends, SQL goes on."""
    with pytest.raises(WarehouseError, match="DELETE is never sent"):
        checked(f"{SIGNALS} AND kind = {literal};{comment}DELETE FROM intel.signals WHERE kind = {literal}")


def test_a_name_in_backticks_does_not_hide_a_statement() -> None:
    """A quote within one begins no text."""
    with pytest.raises(WarehouseError, match="DELETE is never sent"):
        checked(f"SELECT 1 AS `it's`; DELETE FROM intel.signals WHERE 'x' = 'x'; {SIGNALS}")


@pytest.mark.parametrize("comment", [*COMMENTS, ""])
@pytest.mark.parametrize("literal", LITERAL)
def test_words_in_text_are_no_statement(literal: str, comment: str) -> None:
    """What a literal or a comment says is data."""
    sql = f"{comment}SELECT {literal} AS said FROM intel.signals WHERE {comment}{PARTITIONS} AND kind <> {literal}"
    assert checked(sql) == sql


@pytest.mark.parametrize("column", ["updated_at", "deleted", "dropped", "superseded_by", "loader", "inserts", "caller"])
def test_names_that_begin_like_one_are_none(column: str) -> None:
    """Words, not beginnings of words."""
    assert checked(f"SELECT {column} FROM intel.signals WHERE {PARTITIONS}")


@given(st.text(st.characters(exclude_characters="'\\\n"), max_size=40))
def test_any_text_may_stand_in_quotes(text: str) -> None:
    """Whatever it is; and behind it a statement is seen."""
    checked(f"SELECT '{text}' AS said FROM intel.signals WHERE {PARTITIONS}")
    with pytest.raises(WarehouseError, match="DROP is never sent"):
        checked(f"SELECT '{text}' AS said FROM intel.signals WHERE {PARTITIONS}; DROP TABLE intel.signals")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM intel.signals",
        "select * from INTEL.SIGNALS where signal_id = 'x'",
        "SELECT * FROM `intel.signals`",
        "SELECT * FROM `intel`.`signals`",
        "SELECT * FROM `a-project.intel.signals`",
        "SELECT * FROM a_project.intel.signals",
        "SELECT * FROM prefix_intel.signals",
        "SELECT * FROM/* */intel.signals",
        "SELECT * FROM\nintel.signals",
        f"SELECT * FROM intel.signals -- {PARTITIONS}",
        f"SELECT * FROM intel.signals WHERE kind = '{PARTITIONS}'",
        f"SELECT * FROM intel.signals JOIN btc.blocks USING (block_hash) WHERE {PARTITIONS}",
        f"SELECT * FROM intel.signals, btc.blocks WHERE {PARTITIONS}",
        f"SELECT * FROM intel.signals WHERE {PARTITIONS} AND block_hash IN (SELECT block_hash FROM btc.blocks)",
        f"SELECT * FROM (SELECT * FROM intel.signals) JOIN (SELECT * FROM btc.blocks WHERE {PARTITIONS}) USING (day)",
        f"WITH s AS (SELECT * FROM intel.signals) SELECT * FROM s JOIN btc.blocks AS b USING (day) WHERE {PARTITIONS}",
        f"SELECT * FROM intel.signals WHERE {PARTITIONS} UNION ALL SELECT * FROM intel.signals",
        "SELECT * FROM intel.signals WHERE day BETWEEN '2020-01-01' AND '2020-01-31'",
    ],
)
def test_a_table_without_days_is_refused(sql: str) -> None:
    """Every one, wherever it stands and however it is spelt."""
    with pytest.raises(WarehouseError, match="must say"):
        checked(sql)


def test_every_table_with_its_days_is_asked() -> None:
    """Joined, nested and united."""
    blocks = f"SELECT * FROM `btc.blocks` WHERE {PARTITIONS}"
    joined = "SELECT * FROM intel.signals AS s JOIN btc.blocks AS b ON b.day = s.day"
    for sql in (
        SIGNALS,
        f"{SIGNALS} UNION ALL {SIGNALS}",
        f"SELECT * FROM ({SIGNALS}) JOIN ({blocks}) USING (day)",
        f"{joined} WHERE s.{PARTITIONS} AND b.{PARTITIONS}",
        "SELECT 1",
    ):
        assert checked(sql) == sql


class Listening(bigquery.Client):
    """Google's client, asking nobody: what would be sent is kept."""

    def __init__(self) -> None:
        super().__init__("test", AnonymousCredentials())
        self.sent: list[tuple[str, bigquery.QueryJobConfig]] = []

    def query(self, query: str, job_config: bigquery.QueryJobConfig, **_: Any) -> Any:  # type: ignore[override]
        self.sent.append((query, job_config))

        class Job:
            def result(self, **_: Any) -> list[Any]:
                return []

        return Job()

    def get_table(self, table: Any, **_: Any) -> Any:
        """Just as it should be."""
        name = str(table).rsplit(".", 1)[1]
        columns = next(one.columns for one in TABLES if one.name == name)
        return bigquery.Table(table, schema=[bigquery.SchemaField(c.name, c.kind) for c in columns])


@pytest.fixture
def listening() -> Iterator[Listening]:
    client = Listening()
    yield client
    client.close()


def ask_everything(warehouse: BigQueryWarehouse) -> None:
    """All that the program ever asks."""
    for table in TABLES:
        warehouse.missing_rows(table, [{**{column.name: None for column in table.columns}, "day": DAYS[0]}])
        list(restoring._rows(warehouse, table.name, *DAYS))
    restoring._tip(warehouse, DAYS[1])
    for question in questions():
        answer_from(warehouse, question.name, *DAYS)


def test_all_that_is_asked_is_guarded(listening: Listening) -> None:
    """Every text has the filter of days as parameters, a limit of what it may cost, and the label of who asks."""
    ask_everything(BigQueryWarehouse(listening, most_bytes_billed=12_345_678))
    assert len(listening.sent) >= 2 * len(TABLES) + len(questions()) + 1
    for sql, config in listening.sent:
        assert checked(sql) == sql
        assert PARTITIONS in sql
        assert config.maximum_bytes_billed == 12_345_678
        assert config.labels == {"app": "utxoiq"}
        assert {(one.name, one.type_) for one in config.query_parameters} >= {
            ("first_day", "DATE"), ("last_day", "DATE")
        }  # fmt: skip


def test_the_limit_has_a_default(listening: Listening) -> None:
    """Nobody need think of it."""
    list(BigQueryWarehouse(listening).query(SIGNALS, *DAYS))
    ((_, config),) = listening.sent
    assert 0 < config.maximum_bytes_billed <= 10**11


def test_values_are_parameters(listening: Listening) -> None:
    """Never text of the statement, whatever they hold; lists too."""
    hostile, sql = "' OR TRUE; DROP TABLE intel.signals; --", f"{SIGNALS} AND kind = @kind AND subject IN UNNEST(@some)"
    warehouse = BigQueryWarehouse(listening)
    list(warehouse.query(sql, *DAYS, {"kind": hostile, "some": [hostile, "x"], "n": 2**62, "share": 0.5, "yes": True}))
    ((sent, config),) = listening.sent
    assert hostile not in sent
    told = {one.name: one.to_api_repr() for one in config.query_parameters}
    assert told["kind"]["parameterValue"] == {"value": hostile}
    assert told["some"]["parameterValue"]["arrayValues"] == [{"value": hostile}, {"value": "x"}]
    kinds = {name: one["parameterType"]["type"] for name, one in told.items()}
    assert kinds == {"kind": "STRING", "some": "ARRAY", "n": "INT64", "share": "FLOAT64", "yes": "BOOL",
                     "first_day": "DATE", "last_day": "DATE"}  # fmt: skip


def test_a_refused_statement_is_not_sent(listening: Listening) -> None:
    """Nothing leaves the process."""
    for sql in WRITING:
        with pytest.raises(WarehouseError):
            list(BigQueryWarehouse(listening).query(sql, *DAYS))
    assert listening.sent == []


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_prefix_goes_before_every_dataset(listening: Listening, table: Table) -> None:
    """And the project before that."""
    list(BigQueryWarehouse(listening, prefix="mine_").query(f"SELECT 1 FROM {table.path} WHERE {PARTITIONS}", *DAYS))
    assert listening.sent[0][0] == f"SELECT 1 FROM `test.mine_{table.path}` WHERE {PARTITIONS}"


@pytest.mark.warehouse
def test_the_limit_reaches_the_server(warehouse: BigQueryWarehouse, emulator: Emulator, project: str) -> None:
    """In the request itself, as the client's own transport sends it."""
    client, sent = emulator.client(project), []
    post = client._connection.api_request

    def keep(*arguments: Any, **named: Any) -> Any:
        sent.append(named.get("data"))
        return post(*arguments, **named)

    client._connection.api_request = keep
    limited = BigQueryWarehouse(client, most_bytes_billed=87_654_321)
    list(limited.query(SIGNALS, *DAYS))
    (job,) = [data["configuration"]["query"] for data in sent if data and "configuration" in data]
    assert job["maximumBytesBilled"] == "87654321"
    assert job["useLegacySql"] is False
    assert {one["name"] for one in job["queryParameters"]} == {"first_day", "last_day"}
    client.close()
