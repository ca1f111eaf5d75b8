"""What became of signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from utxoiq.commands.options import DEFAULT_DB, AsJson, Db

if TYPE_CHECKING:
    import typer


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command()(outcomes)


def outcomes(db: Db = DEFAULT_DB, as_json: AsJson = False) -> None:
    """How often signals were right, by type, kind and model, beside the confidence they were said with."""
    from utxoiq.persistence import open_store
    from utxoiq.show import json_lines, outcome_table

    with open_store(db, must_exist=True) as store:
        rows = store.outcomes.table()
    (json_lines if as_json else outcome_table)(rows)
