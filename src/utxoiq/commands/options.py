"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

BlocksPath = Annotated[
    str,
    typer.Argument(
        metavar="PATH",
        help="A Bitcoin Core blocks directory, a folder of *.blk[.gz] files, one of them, or a node's http address.",
    ),
]
Db = Annotated[str, typer.Option("--db", envvar="UTXOIQ_DB", help="The store, sqlite:///FILE.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Limit = Annotated[int, typer.Option("--limit", min=1, help="At most so many rows.")]
NetworkName = Annotated[
    str | None, typer.Option("--network", help="main, test3, test4, signet or regtest: only blocks of this network.")
]
Labels = Annotated[Path | None, typer.Option("--labels", help="A label file instead of the packaged one.")]
LedgerOf = Annotated[
    Path | None, typer.Option("--ledger", help="A ledger of balances (`utxoiq balances build`), kept at the tip too.")
]
Retracted = Annotated[bool, typer.Option("--retracted", help="Also what no longer holds, with the reason.")]
NodeUrl = Annotated[
    str | None, typer.Option("--node", help="A Bitcoin Core node's RPC address, such as http://127.0.0.1:8332.")
]
EsploraUrl = Annotated[
    str | None, typer.Option("--esplora", help="An Esplora or mempool.space API instead, marked on every row.")
]
First = Annotated[
    int | None, typer.Option("--from", min=0, help="First block of a new store; else a window behind the tip.")
]
Listen = Annotated[str | None, typer.Option("--listen", help="HOST:PORT of /healthz, /readyz and /metrics, or off.")]
RunDb = Annotated[str | None, typer.Option("--db", help="The store, sqlite:///FILE.")]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", envvar="UTXOIQ_CONFIG", help="A TOML file; by default utxoiq.toml here.")
]
DEFAULT_DB = "sqlite:///utxoiq.db"
EVERYTHING = 1 << 62


def without_none(given: dict[str, Any]) -> dict[str, Any]:
    """Only what was said on the command line."""
    cut = {k: without_none(v) if isinstance(v, dict) else v for k, v in given.items()}
    return {k: v for k, v in cut.items() if v not in (None, {})}
