"""Questions to what is stored, and its export."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from utxoiq.commands.options import DEFAULT_DB, AsJson, Db, Labels
from utxoiq.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from utxoiq.persistence.questions import Question
    from utxoiq.persistence.sqlite import SqliteStore


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command()(ask)
    app.command()(export)


def ask(
    question: Annotated[
        str | None, typer.Argument(metavar="[QUESTION]", help="Its name; without one, all are listed.")
    ] = None,
    days: Annotated[int, typer.Option("--days", min=1, help="The newest days of the store.")] = 30,
    from_day: Annotated[
        str | None, typer.Option("--from-day", help="YYYY-MM-DD, the first UTC day, instead of --days.")
    ] = None,
    to_day: Annotated[
        str | None, typer.Option("--to-day", help="YYYY-MM-DD, the last UTC day; by default the store's newest.")
    ] = None,
    labels: Labels = None,
    db: Db = DEFAULT_DB,
    as_json: AsJson = False,
) -> None:
    """The questions analysts ask first, answered from the store by days: flows, fees, pools, forecasts, signals."""
    from utxoiq.persistence import open_store
    from utxoiq.persistence.questions import answer, newest_day, questions
    from utxoiq.persistence.questions import question as named
    from utxoiq.show import json_lines

    if question is None:
        asked = questions()
        json_lines({"question": one.name, "says": one.says} for one in asked) if as_json else _list(asked)
        return
    one = named(question)
    first, last = _day("--from-day", from_day), _day("--to-day", to_day)
    with open_store(db, must_exist=True) as store:
        last = last or _day("the store", newest_day(store)) or datetime.now(UTC).date()
        first = first or date.fromordinal(max(1, last.toordinal() - days + 1))
        if last < first:
            raise ConfigError(f"the days {first} to {last} end before they begin")
        rows = answer(store, question, first, last, _entities(store, labels))
        network = store.network
    json_lines({**row, "network": network} for row in rows) if as_json else _table(one, rows, first, last, network)


def export(
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="Where to: DIR/TABLE/FIRST-LAST.parquet.")],
    first: Annotated[int | None, typer.Option("--from", min=0, help="The first height.")] = None,
    last: Annotated[int | None, typer.Option("--to-height", min=0, help="The last height.")] = None,
    tables: Annotated[
        str | None, typer.Option("--tables", help="Some tables only, such as facts,flows,signals.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also stale blocks and islands, if their height is known.")
    ] = False,
    db: Db = DEFAULT_DB,
    as_json: AsJson = False,
) -> None:
    """Write the store as Parquet files of a thousand blocks each, which DuckDB, Polars and BigQuery read as they are.

    A later run writes the last file anew and adds what came; the same range gives the same bytes."""
    from utxoiq.persistence import open_store
    from utxoiq.persistence.export import export as write
    from utxoiq.persistence.export import pieces, relations
    from utxoiq.show import json_lines, progress

    chosen = relations([name.strip() for name in tables.split(",")] if tables else [])
    with open_store(db, must_exist=True) as store:
        parts = pieces(store.database, first, last, every=every)
        with progress("export", sum(len(part.blocks) for part in parts)) as step:
            written = write(store.database, to, chosen, parts, step)
    if as_json:
        json_lines({"table": table, "files": files, "rows": rows} for table, (files, rows) in written.items())
        return
    for table, (files, rows) in written.items():
        typer.echo(f"{table}: {rows:,} rows in {files:,} files")
    typer.echo(f"{sum(len(part.blocks) for part in parts):,} blocks in {to}" if written else "No blocks in that range.")


def _day(option: str, text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{option} {text!r} is no day: give YYYY-MM-DD") from None


def _entities(store: SqliteStore, labels: Path | None) -> list[tuple[str, str, str]]:
    """(id, kind, name) of the labelled entities of the store's network."""
    from utxoiq.chain.network import NETWORKS
    from utxoiq.entities.labels import labels_for

    if store.network is None:
        return []
    known = labels_for(NETWORKS[store.network], labels).entities.values()
    return [(entity.id, entity.kind, entity.name) for entity in known]


def _list(asked: Sequence[Question]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    for one in asked:
        console.print(f"[bold]{one.name}[/]")
        console.print(f"  {one.says}", soft_wrap=not console.is_terminal, markup=False)


def _table(one: Question, rows: Sequence[dict[str, Any]], first: date, last: date, network: str | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from utxoiq.chain.network import NETWORKS
    from utxoiq.show import BANNER

    console = Console(highlight=False)
    if network is not None and NETWORKS[network].simulated:
        console.print(BANNER)
    if not rows:
        console.print(f"Nothing from {first} to {last}: {one.name} has no row on these days.")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in rows[0]:
        table.add_column(_heading(name), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(name, value)) for name, value in row.items()))
    console.print(table)
    console.print(one.says, style="dim", markup=False, soft_wrap=True)


UNITS = {"sat": "BTC", "kvb": "sat/vB", "share": ""}


def _heading(name: str) -> str:
    """A column's name with the unit it is shown in."""
    words = name.split("_")
    return " ".join([*words[:-1], UNITS[words[-1]]] if words[-1] in UNITS else words).strip()


def _cell(name: str, value: Any) -> str:
    from utxoiq.units import btc

    if value is None:
        return "unknown"
    if name.endswith("_sat"):
        return btc(value)
    if name.endswith("_kvb"):
        return f"{value / 1000:,.3f}"
    if name.endswith("_share"):
        return f"{value:.2%}"
    if isinstance(value, int) and name != "block_height":
        return f"{value:,}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
