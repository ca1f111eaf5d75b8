"""BigQuery as a warehouse: append-only tables, and questions that never cost more than they may."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from google.api_core import exceptions as google
from google.api_core.retry import Retry, if_exception_type
from google.auth.exceptions import GoogleAuthError, TransportError
from google.cloud import bigquery
from requests.exceptions import RequestException

from utxoiq.errors import WarehouseError, WarehouseUnavailable
from utxoiq.persistence.questions import DATASET, questions
from utxoiq.persistence.warehouse.tables import TABLES, Table

if TYPE_CHECKING:
    from utxoiq.persistence.warehouse.rows import Row

ONCE = Retry(predicate=if_exception_type())
"""Nothing is tried again down here: whoever ships knows how long to wait."""
MOST_BYTES_BILLED = 20 * 10**9
"""Of one query, unless told otherwise: about 0.13 USD at the list price of 6.25 USD a TiB."""
WRITES = re.compile(
    r"\b(UPDATE|DELETE|MERGE|TRUNCATE|INSERT|DROP|EXPORT|LOAD|CREATE|ALTER|EXECUTE|CALL|GRANT|REVOKE)\b", re.IGNORECASE
)
LITERALS = re.compile(
    r"""(`[^`]*`)|'''(?:[^\\]|\\.)*?'''|\"{3}(?:[^\\]|\\.)*?\"{3}|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*\""""
    r"""|(?:--|\#)[^\n]*|/\*.*?\*/""",
    re.DOTALL,
)
"""Text and comments; names in backticks, which are the first group, are neither."""
PARTITIONS = "day BETWEEN @first_day AND @last_day"
LABELS = {"app": "utxoiq"}
PASSING = (google.TooManyRequests, google.Aborted, google.Cancelled, TransportError)
"""What may pass, though its kind or its number says that it was refused."""


def checked(sql: str) -> str:
    """`sql`, if it only reads, and only days it was asked for: rows of a streamed table may not be changed, and nobody
    means to read every partition. Raises WarehouseError."""
    bare = LITERALS.sub(lambda found: found[1] or " ", sql)
    found = WRITES.search(bare)
    if found:
        raise WarehouseError(f"{found[0].upper()} is never sent to the warehouse: its tables are append-only")
    tables = re.findall(r"\b\w*(?:intel|btc)`?\s*\.\s*`?\w+", bare, re.IGNORECASE)
    if len(tables) != bare.count(PARTITIONS):
        raise WarehouseError(
            f"a query of {len(tables)} tables must say `{PARTITIONS}` of each: {' '.join(sql.split())}"
        )
    return sql


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Raise our own errors: WarehouseUnavailable for what may pass, WarehouseError for the rest."""
    try:
        yield
    except (google.GoogleAPICallError, google.RetryError, RequestException, GoogleAuthError, OSError) as error:
        status = getattr(error, "code", None)
        refused = isinstance(status, int) and 400 <= status < 500 and not isinstance(error, PASSING)
        first = (str(getattr(error, "message", error)) or type(error).__name__).splitlines()[0]
        if refused or (isinstance(error, GoogleAuthError) and not isinstance(error, PASSING)):
            raise WarehouseError(f"BigQuery refused {what}: {first}") from error
        raise WarehouseUnavailable(f"BigQuery can't be asked for {what}: {first}") from error


class BigQueryWarehouse:
    """The tables of one project. Every call blocks, and raises WarehouseError or WarehouseUnavailable."""

    def __init__(
        self,
        client: bigquery.Client,
        *,
        prefix: str = "",
        most_bytes_billed: int = MOST_BYTES_BILLED,
        timeout: float = 60.0,
    ) -> None:
        """`prefix` goes before the names of both datasets."""
        self.client, self.prefix, self._most_bytes = client, prefix, most_bytes_billed
        self.timeout = timeout

    @property
    def name(self) -> str:
        """What this warehouse is called in messages, and in a store that ships to it."""
        return f"bigquery:{self.client.project}" + (f"/{self.prefix}" if self.prefix else "")

    def path(self, table: Table) -> str:
        """project.dataset.table."""
        return f"{self.client.project}.{self.prefix}{table.path}"

    # Schema

    def migrate(self) -> list[str]:
        """Create what is missing, add new columns, put the views in place: what was done. Nothing is dropped."""
        done = []
        with telling("its datasets"):
            for dataset in dict.fromkeys(table.dataset for table in TABLES):
                done += self._ensure_dataset(dataset)
            for table in TABLES:
                done += self._ensure_table(table)
            for name, sql in views():
                done += self._ensure_view(name, self._placed(sql))
        return done

    def _ensure_dataset(self, name: str) -> list[str]:
        dataset = bigquery.Dataset(f"{self.client.project}.{self.prefix}{name}")
        if self.client.location:
            dataset.location = self.client.location
        try:
            self.client.get_dataset(dataset.reference, retry=ONCE, timeout=self.timeout)
        except google.NotFound:
            self.client.create_dataset(dataset, exists_ok=True, retry=ONCE, timeout=self.timeout)
            return [f"dataset {name}"]
        return []

    def _ensure_table(self, table: Table) -> list[str]:
        wanted = [_field(column.name, column.kind, column.required) for column in table.columns]
        try:
            there = self.client.get_table(self.path(table), retry=ONCE, timeout=self.timeout)
        except google.NotFound:
            made = bigquery.Table(self.path(table), schema=wanted)
            made.time_partitioning = bigquery.TimePartitioning(field="day")
            made.clustering_fields = list(table.cluster)
            self.client.create_table(made, exists_ok=True, retry=ONCE, timeout=self.timeout)
            return [f"table {table.path}"]
        known = {field.name: field for field in there.schema}
        for field in wanted:
            if field.name in known and known[field.name].field_type != field.field_type:
                raise WarehouseError(
                    f"{table.path}.{field.name} is {known[field.name].field_type} there, {field.field_type} here: "
                    "is the dataset another program's? give warehouse.prefix"
                )
        missing = [field for field in wanted if field.name not in known]
        if missing:  # what rows of before lack must be null
            there.schema = [*there.schema, *(_field(field.name, field.field_type, False) for field in missing)]
            self.client.update_table(there, ["schema"], retry=ONCE, timeout=self.timeout)
        return [f"column {table.path}.{field.name}" for field in missing]

    def _ensure_view(self, name: str, sql: str) -> list[str]:
        """A label says which text a view was made from, for BigQuery may give it back in another form."""
        wanted = bigquery.Table(self._named(name))
        wanted.view_query = sql
        wanted.labels = {**LABELS, "text": hashlib.sha256(sql.encode()).hexdigest()[:16]}
        try:
            there = self.client.get_table(wanted.reference, retry=ONCE, timeout=self.timeout)
        except google.NotFound:
            self.client.create_table(wanted, exists_ok=True, retry=ONCE, timeout=self.timeout)
            return [f"view {name}"]
        if there.labels == wanted.labels:
            return []
        self.client.update_table(wanted, ["view_query", "labels"], retry=ONCE, timeout=self.timeout)
        return [f"view {name}"]

    def missing(self) -> list[str]:
        """Tables that `migrate` would create or extend."""
        lacking = []
        for table in TABLES:
            try:
                with telling(f"table {table.path}"):
                    there = self.client.get_table(self.path(table), retry=ONCE, timeout=self.timeout)
            except WarehouseError as error:
                if not isinstance(error.__cause__, google.NotFound):
                    raise
                lacking.append(table.path)
            else:
                known = {field.name for field in there.schema}
                lacking += [f"{table.path}.{column.name}" for column in table.columns if column.name not in known]
        return lacking

    # Questions

    def query(
        self, sql: str, first_day: date, last_day: date, parameters: Mapping[str, Any] | None = None
    ) -> Iterator[Row]:
        """The rows of a reading statement over these days, both included.

        In `sql` each table is dataset.table with the filter PARTITIONS on it. Parameters are scalars, or lists of text.
        """
        values = {"first_day": first_day, "last_day": last_day, **(parameters or {})}
        for row in self._run(self._placed(checked(sql)), "a query", [_parameter(k, v) for k, v in values.items()]):
            yield dict(row.items())

    def missing_rows(self, table: Table, rows: Sequence[Row]) -> list[Row]:
        """Those that are not in the table yet."""
        if not rows:
            return []
        days = [row["day"] for row in rows]
        sql = f"SELECT {', '.join(table.identity)} FROM {table.path} WHERE {PARTITIONS}"
        there = {tuple(row.values()) for row in self.query(sql, min(days), max(days))}
        return [row for row in rows if tuple(row[name] for name in table.identity) not in there]

    def _run(self, sql: str, what: str, parameters: Sequence[Any] = ()) -> Sequence[Any]:
        config = bigquery.QueryJobConfig(
            query_parameters=list(parameters), maximum_bytes_billed=self._most_bytes, labels=LABELS
        )
        with telling(what):
            job = self.client.query(sql, job_config=config, retry=ONCE, timeout=self.timeout, job_retry=None)
            return list(job.result(timeout=self.timeout, retry=ONCE, job_retry=None))

    def _named(self, path: str) -> str:
        return f"{self.client.project}.{self.prefix}{path}"

    def _placed(self, sql: str) -> str:
        """With the project and the prefix before every dataset."""
        return re.sub(r"\b(intel|btc)\.(\w+)", lambda m: f"`{self._named(m[0])}`", sql)

    # Bulk

    def load(self, table: Table, parquet: bytes, job_id: str) -> None:
        """Append a Parquet file by a load job of this name, and wait for it."""
        config = bigquery.LoadJobConfig(
            source_format=bigquery.SourceFormat.PARQUET, create_disposition="CREATE_NEVER",
            write_disposition="WRITE_APPEND", labels=LABELS,
        )  # fmt: skip
        with telling(f"a load into {table.path}"):
            job = self.client.load_table_from_file(
                io.BytesIO(parquet), self.path(table), job_id=job_id, job_config=config, num_retries=0,
                timeout=self.timeout,
            )  # fmt: skip
            job.result(retry=ONCE, timeout=600)

    def loaded(self, job_id: str) -> bool:
        """Whether a load job of this name went through; waits for one that runs."""
        with telling(f"load job {job_id}"):
            try:
                job = self.client.get_job(job_id, retry=ONCE, timeout=self.timeout)
            except google.NotFound:
                return False
            try:
                job.result(retry=ONCE, timeout=600)
            except google.GoogleAPICallError:
                if not job.error_result:
                    raise
        return not job.error_result


def views() -> list[tuple[str, str]]:
    """(dataset.view, its SELECT), those that others are made from first, the questions last."""
    folder = files("utxoiq.persistence.warehouse") / "views"
    names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql"))
    found = {name.split("-", 1)[1].removesuffix(".sql"): (folder / name).read_text("utf-8") for name in names}
    asked = [(f"{DATASET}.{question.name}", question.over(found)) for question in questions()]
    return [*found.items(), *asked]


def _field(name: str, kind: str, required: bool) -> bigquery.SchemaField:
    legacy = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN"}
    return bigquery.SchemaField(name, legacy.get(kind, kind), "REQUIRED" if required else "NULLABLE")


def _parameter(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return bigquery.ArrayQueryParameter(name, "STRING", value)
    kinds = {date: "DATE", int: "INT64", float: "FLOAT64", str: "STRING", bool: "BOOL"}
    return bigquery.ScalarQueryParameter(name, kinds[type(value)], value)
