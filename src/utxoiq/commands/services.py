"""What runs for good: `run`, its parts as processes of their own, and what they ship to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from utxoiq.commands.options import (
    AsJson,
    ConfigFile,
    EsploraUrl,
    First,
    Labels,
    LedgerOf,
    Listen,
    NetworkName,
    NodeUrl,
    RunDb,
    without_none,
)  # fmt: skip

if TYPE_CHECKING:
    from utxoiq.config import Settings
    from utxoiq.service import Part

store_app = typer.Typer(help="The warehouse's tables: made and kept up to date.", no_args_is_help=True)


def register(app: typer.Typer, entities_app: typer.Typer) -> None:
    """Add these commands."""
    entities_app.command()(publish)
    for command in (run, watch, narrate, ship, serve):
        app.command()(command)
    app.add_typer(store_app, name="store")


def run(
    node: NodeUrl = None,
    esplora: EsploraUrl = None,
    db: RunDb = None,
    first: First = None,
    network: NetworkName = None,
    labels: Labels = None,
    ledger: LedgerOf = None,
    listen: Listen = None,
    config: ConfigFile = None,
) -> None:
    """Follow a node for good: each block within a second into facts, signals and insights, reorgs taken back.

    Watches, narrates, ships to the warehouse if one is set, and serves health and metrics, in one process."""
    from utxoiq.service import PARTS

    given = {"node": {"url": node}, "esplora": {"url": esplora}, "live": {"from_height": first}}
    _serve(
        PARTS,
        config,
        {**given, "http": {"listen": listen}, "db": db, "network": network, "labels": labels, "ledger": ledger},
    )


def watch(
    node: NodeUrl = None,
    esplora: EsploraUrl = None,
    db: RunDb = None,
    first: First = None,
    network: NetworkName = None,
    labels: Labels = None,
    ledger: LedgerOf = None,
    listen: Listen = "off",
    config: ConfigFile = None,
) -> None:
    """Only follow a node: facts and signals of each block. One process a store; another one stands by."""
    given = {"node": {"url": node}, "esplora": {"url": esplora}, "live": {"from_height": first}}
    _serve(
        ("watch",),
        config,
        {**given, "http": {"listen": listen}, "db": db, "network": network, "labels": labels, "ledger": ledger},
    )


def narrate(db: RunDb = None, listen: Listen = "off", config: ConfigFile = None) -> None:
    """Only find words for signals that wait. Several processes may do so on one store."""
    _serve(("narrate",), config, {"http": {"listen": listen}, "db": db})


def serve(db: RunDb = None, listen: Listen = None, config: ConfigFile = None) -> None:
    """Only serve health and metrics of a store that other processes work on."""
    _serve(("serve",), config, {"http": {"listen": listen}, "db": db})


def ship(
    db: RunDb = None,
    listen: Listen = "off",
    config: ConfigFile = None,
    once: Annotated[bool, typer.Option("--once", help="Send what waits, and end.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Send all that is stored, whatever was sent before.")] = False,
) -> None:
    """Only ship the store to the warehouse. One process a store; another one stands by."""
    given = {"http": {"listen": listen}, "db": db}
    if not once and not again:
        _serve(("ship",), config, given)
        return
    from utxoiq.shipping import ship_once
    from utxoiq.show import progress_of

    settings = _settings(config, given)
    with progress_of("shipped", "rows") as tell:
        sent = ship_once(settings, again=again, on_sent=lambda sent, waiting: tell(sent, sent + waiting))
    typer.echo(f"{sent} rows shipped to {settings.warehouse.project}")


@store_app.command("migrate")
def migrate(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Create the warehouse's datasets, tables and views, add what is new, and drop nothing."""
    from contextlib import closing

    from utxoiq.persistence.warehouse.opening import open_warehouse
    from utxoiq.show import json_lines

    with closing(open_warehouse(_settings(config, {}).warehouse)) as warehouse:
        done = warehouse.tables.migrate()
    if as_json:
        json_lines([{"warehouse": warehouse.tables.name, "done": done}])
    else:
        typer.echo("\n".join(done))


def publish(
    labels: Labels = None, network: NetworkName = None, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Put a label file (by default the packaged one) into the warehouse, where `warehouse.labels` finds it."""
    from contextlib import closing

    from utxoiq.chain.network import network_named
    from utxoiq.entities.labels import edition_of
    from utxoiq.persistence.warehouse.entities import publish as publish_text
    from utxoiq.persistence.warehouse.opening import open_warehouse
    from utxoiq.show import json_lines

    version, text = edition_of(network_named("main" if network is None else network), labels)
    with closing(open_warehouse(_settings(config, {}).warehouse)) as warehouse:
        warehouse.tables.migrate()
        lines = publish_text(warehouse.tables, version, text)
    if as_json:
        json_lines([{"labels_version": version, "lines": lines}])
    else:
        typer.echo(f"labels {version}: {lines} entities written" if lines else f"labels {version} were there")


def _settings(config: ConfigFile, given: dict[str, Any]) -> Settings:
    from utxoiq.config import Sources

    settings, warnings = Sources.of_environment(config, without_none(given)).load()
    for warning in warnings:
        typer.echo(f"utxoiq: {warning}", err=True)
    return settings


def _serve(parts: tuple[Part, ...], config: ConfigFile, given: dict[str, Any]) -> None:
    from utxoiq.config import ConfigurationModule, Sources
    from utxoiq.service import Service

    service = Service(ConfigurationModule(Sources.of_environment(config, without_none(given))), parts)
    asyncio.run(service.run())
