"""The past of a store: filled, and looked over."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sys
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from utxoiq.commands.options import DEFAULT_DB, AsJson, ConfigFile, Db, Labels, NetworkName
from utxoiq.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from utxoiq.observability import MonitoringModule
    from utxoiq.opening import Opening
    from utxoiq.persistence.sqlite import SqliteStore
    from utxoiq.pipeline.audit import Finding
    from utxoiq.pipeline.backfill import HistoricalBackfillModule
    from utxoiq.settings import MetricsSettings

SourceName = Annotated[
    str | None,
    typer.Argument(metavar="[SOURCE]", help="A blocks directory, or a node's address; else what the settings say."),
]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes that read blocks; by default one a core for files.")
]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (backfill, audit):
        app.command()(command)


def backfill(
    source: SourceName = None,
    db: Db = DEFAULT_DB,
    first: Annotated[int | None, typer.Option("--from", min=0, help="First height.")] = None,
    last: Annotated[int | None, typer.Option("--to", min=0, help="Last height.")] = None,
    first_day: Annotated[str | None, typer.Option("--from-day", help="First day, UTC: 2026-01-31.")] = None,
    last_day: Annotated[str | None, typer.Option("--to-day", help="Last day, UTC.")] = None,
    types: Annotated[str | None, typer.Option("--types", help="Only these signal types: exchange,whale.")] = None,
    narrate: Annotated[bool, typer.Option(help="Leave the signals for `narrate`, or mark them as not meant.")] = True,
    rate: Annotated[
        float | None, typer.Option("--rate", min=0.1, help="Blocks a minute; by default 100 from an API of others.")
    ] = None,
    workers: Workers = None,
    network: NetworkName = None,
    labels: Labels = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Fill the past in: facts and signals of blocks by height or day, by default of the last 30 days.

    Chronological, with original timestamps; begun again with the same options it goes on where it was."""
    from utxoiq.opening import Opening
    from utxoiq.persistence import open_store
    from utxoiq.show import json_lines, progress_of

    chosen = types.split(",") if types else None
    with ExitStack() as open_:
        store = open_.enter_context(open_store(db))
        module = _module(open_, Opening(source, network, config), store, workers, labels, rate)
        heights = module.heights(first, last, first_day=_day(first_day), last_day=_day(last_day))
        with progress_of("backfill", "blocks") as tell:
            work = module.backfill(
                heights, chosen, narrate=narrate, on_progress=lambda where: tell(where.done, where.total)
            )
            result = asdict(asyncio.run(work))
    if as_json:
        json_lines([result])
    else:
        typer.echo(
            "blocks {first} to {last}: {blocks_processed} filled in, {signals_generated} signals, {seconds:.1f} s, "
            "store ".format_map(result)
            + db
        )
        if result["poorer"]:
            typer.echo(f"{result['poorer']} blocks left as they are: the store knows more of them than this source")


def audit(
    source: SourceName = None,
    db: Db = DEFAULT_DB,
    heal: Annotated[bool, typer.Option("--heal", help="Derive again what is missing or wrong.")] = False,
    workers: Workers = None,
    network: NetworkName = None,
    labels: Labels = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Look every height over: hash, parent, header, transactions, merkle root, facts. Exit 1 where something is wrong.

    Without a SOURCE only what the store itself shows, unless --heal asks the one in the settings."""
    from utxoiq.opening import Opening
    from utxoiq.persistence import open_store
    from utxoiq.show import finding_table, json_lines

    with ExitStack() as open_:
        store = open_.enter_context(open_store(db, must_exist=True))
        module = None
        if source or heal:
            module = _module(open_, Opening(source, network, config), store, workers, labels, None)
        findings = asyncio.run(_audited(store, module))
        healed = 0
        if heal and findings and module:
            healed = asyncio.run(_healed(module, findings))
            findings = asyncio.run(_audited(store, module))
    rows = [{**asdict(one), "advice": one.advice} for one in findings]
    if as_json:
        json_lines([{"ok": not rows, "healed": healed, "findings": rows}])
    else:
        finding_table(rows, healed)
    sys.exit(1 if rows else 0)


async def _audited(store: SqliteStore, module: HistoricalBackfillModule | None) -> list[Finding]:
    from utxoiq.pipeline.audit import compare, look
    from utxoiq.show import progress

    heights = store.connected_range()
    total = heights[1] - heights[0] + 1 if heights else 0
    with progress("store", total) as step:
        found = list(look(store, step))
    if module and heights:
        with progress("source", total) as step:
            tip = module.source.tip()
            first, last = max(heights[0], module.source.lowest()), min(heights[1], tip.height if tip else -1)
            if first > last:
                raise SourceError(f"the source has none of the store's blocks, {heights[0]} to {heights[1]}")
            found += [one async for one in compare(store, module.read(first, last), step)]
    return sorted(found, key=lambda one: one.height)


async def _healed(module: HistoricalBackfillModule, findings: list[Finding]) -> int:
    from utxoiq.pipeline.audit import heal, to_mend
    from utxoiq.show import progress_of

    total, done = sum(last - first + 1 for first, last in to_mend(findings)), 0
    with progress_of("heal", "blocks") as tell:

        def on_range(blocks: int) -> None:
            nonlocal done
            done += blocks
            tell(done, total)

        return await heal(module, findings, on_range)


def _module(
    open_: ExitStack, opening: Opening, store: SqliteStore, workers: int | None, labels: Path | None, rate: float | None
) -> HistoricalBackfillModule:
    """Reading in one process a core where that helps: local files."""
    from utxoiq.config import Sources
    from utxoiq.opening import is_remote
    from utxoiq.pipeline.backfill import HistoricalBackfillModule
    from utxoiq.processors.discovery import discover

    local = opening.name is not None and not is_remote(opening.name)
    many = workers or ((os.cpu_count() or 1) if local else 1)
    executor: Executor | None = None
    if many > 1:
        executor = ProcessPoolExecutor(many, multiprocessing.get_context("spawn"))
        open_.callback(executor.shutdown, cancel_futures=True)
    settings, _ = Sources.of_environment(opening.config, {}).load()
    return HistoricalBackfillModule(
        opening,
        store,
        processors=discover(settings.processor_configs()),
        labels_file=labels,
        executor=executor,
        workers=many,
        blocks_per_minute=rate,
        monitoring_module=_monitoring(open_, settings.metrics),
    )


def _monitoring(open_: ExitStack, metrics: MetricsSettings) -> MonitoringModule:
    """Where metrics are sent; without such a place nobody would see them."""
    from utxoiq.observability import MonitoringModule

    enabled = metrics.enabled and bool(metrics.project_id or metrics.otlp_endpoint)
    module = MonitoringModule(metrics.project_id, enabled, otlp_endpoint=metrics.otlp_endpoint, direct=metrics.direct)
    open_.callback(module.shutdown)
    return module


def _day(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no day: give one such as 2026-01-31") from None
