"""The chart of an insight, as a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from utxoiq.commands.options import DEFAULT_DB, Db
from utxoiq.errors import ConfigError, UtxoiqError

if TYPE_CHECKING:
    from utxoiq.web.charts import Form, Theme


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(chart)


def chart(
    name: Annotated[
        str, typer.Argument(metavar="ID", help="An insight's id or its signal's, or the beginning of either.")
    ],
    db: Db = DEFAULT_DB,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write it; by default its id here, - for the standard output.")
    ] = None,
    png: Annotated[bool, typer.Option("--png", help="PNG instead of SVG.")] = False,
    dark: Annotated[bool, typer.Option("--dark", help="Light on dark.")] = False,
) -> None:
    """Draw the chart of an insight: its metric over the blocks before it, with its block marked."""
    from utxoiq.persistence import open_store
    from utxoiq.web.charts import chart_of, insight_named

    form: Form = "png" if png else "svg"
    theme: Theme = "dark" if dark else "light"
    with open_store(db, must_exist=True) as store:
        insight_id = insight_named(store, name)
        made = chart_of(store, insight_id, form, theme) if insight_id else None
    if insight_id is None:
        raise UtxoiqError(f"no insight, or more than one, begins with {name}: see `utxoiq insights --db {db}`")
    if made is None:
        raise UtxoiqError(f"insight {insight_id} is of a kind that has no chart")
    if out == Path("-"):
        sys.stdout.buffer.write(made)
        return
    path = out or Path(f"{insight_id}.{form}")
    try:
        path.write_bytes(made)
    except OSError as error:
        raise ConfigError(f"{path}: can't be written ({error.strerror}); give another --out") from error
    typer.echo(path)
