"""What analysts ask first, each question once in SQL that SQLite and BigQuery both run, over views of the same names
and columns in both. Only connected blocks count, and signals that hold; null is unknown."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from utxoiq.errors import ConfigError, StoreError, StoreUnavailable
from utxoiq.persistence.database import PASSING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from utxoiq.persistence.sqlite import SqliteStore
    from utxoiq.persistence.warehouse.bigquery import BigQueryWarehouse

BASE = "sqlite_base.sql"
DATASET = "intel"
"""Where the questions are views of the warehouse."""
SOURCE = re.compile(r"\b(FROM|JOIN)\s+(\w+)")


@dataclass(frozen=True, slots=True)
class Question:
    """A question, answered by days. Names of columns tell units: `_sat`, `_kvb` (sat/kvB), `_share` (0 to 1)."""

    name: str
    says: str
    """What it answers, in a sentence or two."""
    sql: str
    """A SELECT over the portable views, with a column `day`."""

    def over(self, views: Iterable[str]) -> str:
        """Its SQL with each portable view under its path, of these dataset.view."""
        paths = {path.split(".", 1)[1]: path for path in views}
        return SOURCE.sub(lambda found: f"{found[1]} {paths.get(found[2], found[2])}", self.sql)


@cache
def questions() -> tuple[Question, ...]:
    """All of them, by name."""
    folder = files(__name__)
    names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql") and file.name != BASE)
    return tuple(_read(name.removesuffix(".sql"), (folder / name).read_text("utf-8")) for name in names)


def _read(name: str, text: str) -> Question:
    first, sql = text.split("\n", 1)
    return Question(name, first.removeprefix("-- "), sql)


def question(name: str) -> Question:
    """The question of this name. Raises ConfigError where there is none."""
    for one in questions():
        if one.name == name:
            return one
    raise ConfigError(f"no question {name!r}: one of {', '.join(one.name for one in questions())}")


def newest_day(store: SqliteStore) -> str | None:
    """The UTC day of the highest connected block, YYYY-MM-DD; None where there is none. Raises StoreError."""
    sql = "SELECT date(time, 'unixepoch') FROM block_state WHERE state = 'connected' ORDER BY height DESC LIMIT 1"
    day: str | None = store.database.value(sql)
    return day


def answer(
    store: SqliteStore, name: str, first_day: date, last_day: date, entities: Iterable[tuple[str, str, str]] = ()
) -> list[dict[str, Any]]:
    """The answer over these UTC days, both included, in order; `day` as YYYY-MM-DD.

    `entities`: (id, kind, name) of the labelled ones, whom flows by kind of entity are asked of. It is read by a
    connection of its own, so that nobody who writes waits for it. Raises ConfigError for an unknown name, StoreError.
    """
    asked, path = question(name), store.database.path
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            db.row_factory = sqlite3.Row
            db.executescript((files(__name__) / BASE).read_text("utf-8"))
            db.executemany("INSERT INTO entity_kinds VALUES (?, ?, ?)", entities)
            db.execute("UPDATE asked_days SET first_day = ?, last_day = ?", (str(first_day), str(last_day)))
            db.execute(f"CREATE TEMP VIEW {asked.name} AS {asked.sql}")
            rows = db.execute(f"SELECT * FROM {asked.name} ORDER BY 1, 2, 3, 4").fetchall()  # noqa: S608
            return [dict(zip(row.keys(), row, strict=True)) for row in rows]
    except sqlite3.Error as error:
        kind = StoreUnavailable if (getattr(error, "sqlite_errorcode", 0) & 0xFF) in PASSING else StoreError
        raise kind(f"{path}: {error}") from error


def answer_from(warehouse: BigQueryWarehouse, name: str, first_day: date, last_day: date) -> list[dict[str, Any]]:
    """The same answer of a warehouse. Raises ConfigError, WarehouseError, WarehouseUnavailable."""
    view = f"{DATASET}.{question(name).name}"
    sql = f"SELECT * FROM {view} WHERE day BETWEEN @first_day AND @last_day ORDER BY 1, 2, 3, 4"  # noqa: S608
    return [{**row, "day": str(row["day"])} for row in warehouse.query(sql, first_day, last_day)]
