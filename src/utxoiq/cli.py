"""The command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from utxoiq.commands import balances, charts, history, outcomes, past, services
from utxoiq.commands.options import (
    DEFAULT_DB,
    EVERYTHING,
    AsJson,
    BlocksPath,
    ConfigFile,
    Db,
    EsploraUrl,
    Labels,
    LedgerOf,
    Limit,
    NetworkName,
    NodeUrl,
    Retracted,
    RunDb,
    without_none,
)  # fmt: skip
from utxoiq.errors import ConfigError, UtxoiqError
from utxoiq.opening import open_named

if TYPE_CHECKING:
    from utxoiq.entities.labels import LabelSet
    from utxoiq.models import BlockData, BlockFlows
    from utxoiq.persistence.sqlite import SqliteStore
    from utxoiq.pipeline.scan import ScanResult
    from utxoiq.sources.base import BlockSource

app = typer.Typer(
    help="Every Bitcoin block into signals, and insights a person can check.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
entities_app = typer.Typer(help="Who is who: labelled entities, with the source of each label.", no_args_is_help=True)
app.add_typer(entities_app, name="entities")
config_app = typer.Typer(
    help="Settings: what is in force, whether a file is right, and one to begin with.", no_args_is_help=True
)
app.add_typer(config_app, name="config")
balances.register(app)
charts.register(app)
history.register(app)
outcomes.register(app)
past.register(app)
services.register(app, entities_app)


def main() -> None:
    """Run the command line: exit 0 done, 1 failed, 2 wrong use, 3 input refused."""
    logging.getLogger("utxoiq.block").addHandler(logging.NullHandler())
    logging.getLogger("utxoiq.block").propagate = False  # commands raise what it tells
    try:
        app()
    except UtxoiqError as error:
        typer.echo(f"utxoiq: {error}", err=True)
        sys.exit(error.exit_code)


@app.command()
def facts(
    path: BlocksPath,
    as_json: AsJson = False,
    limit: Limit = EVERYTHING,
    network: NetworkName = None,
    labels: Labels = None,
) -> None:
    """Facts of every block at PATH: Bitcoin Core's getblockstats fields, and more. Unknown is null."""
    from utxoiq.facts.compute import compute_facts
    from utxoiq.pipeline.label_watch import LabelWatch
    from utxoiq.show import facts_table, json_lines, progress

    source, names_of = open_named(path, network), LabelWatch(labels)
    total = min(limit, len(source))
    with progress("facts", total) as step:
        rows = (compute_facts(block, names_of(block.network)).as_dict() for block in source.blocks())
        (json_lines if as_json else facts_table)(_counted(islice(rows, total), step))


@app.command()
def flows(
    path: BlocksPath,
    as_json: AsJson = False,
    limit: Limit = EVERYTHING,
    network: NetworkName = None,
    labels: Labels = None,
) -> None:
    """What labelled entities spent, received and passed to each other, block by block; and how much is nobody's."""
    from utxoiq.facts.compute import compute_facts
    from utxoiq.facts.flows import compute_flows, flow_row
    from utxoiq.pipeline.label_watch import LabelWatch
    from utxoiq.show import flow_table, json_lines, progress

    source, names_of = open_named(path, network), LabelWatch(labels)
    total = min(limit, len(source))

    def row(block: BlockData) -> dict[str, Any]:
        names = names_of(block.network)
        compute_facts(block, names)  # refuses spent outputs that do not fit
        return flow_row(block, compute_flows(block, names))

    with progress("flows", total) as step:
        rows = map(row, source.blocks())
        (json_lines if as_json else flow_table)(_counted(islice(rows, total), step))


@app.command()
def scan(
    path: BlocksPath,
    db: Db = DEFAULT_DB,
    as_json: AsJson = False,
    limit: Limit = 20,
    network: NetworkName = None,
    labels: Labels = None,
    ledger: LedgerOf = None,
) -> None:
    """Follow PATH from where the store stands to its tip: facts, signals and insights, block by block."""
    from utxoiq.persistence import open_store, reads
    from utxoiq.show import insight_feed, json_lines

    source = open_named(path, network)
    names = _labels_of(source, labels)
    with open_store(db) as store:
        result = _scan(source, store, names, ledger)
        tip = store.cursor()
        shown = reads.insights(store, limit) if result.connected else []
    for name, position, size in getattr(source, "skipped", ()):
        typer.echo(f"utxoiq: {name}: {size:,} bytes from byte {position:,} hold no block, passed over", err=True)
    done = {
        "connected": result.connected,
        "disconnected": result.disconnected,
        "signals": result.signals,
        "insights": len(result.insights),
        "tip": tip.block_hash if tip else None,
        "height": tip.height if tip else None,
    }
    if as_json:
        json_lines([done])
        return
    insight_feed(shown, "Nothing unusual." if result.connected else "Nothing new.")
    typer.echo(
        "{connected} blocks connected, {disconnected} disconnected, {signals} signals, {insights} insights; "
        "tip {tip_height}, store ".format_map({**done, "tip_height": tip.height if tip else "none"})
        + db
    )


@app.command()
def signals(db: Db = DEFAULT_DB, as_json: AsJson = False, limit: Limit = 50, retracted: Retracted = False) -> None:
    """The newest signals of the store."""
    from utxoiq.persistence import open_store, reads
    from utxoiq.show import json_lines, signal_table

    with open_store(db, must_exist=True) as store:
        rows = reads.signals(store, limit, retracted=retracted)
    json_lines(rows) if as_json else signal_table(rows, "No signals.")


@app.command()
def insights(
    db: Db = DEFAULT_DB,
    as_json: AsJson = False,
    limit: Limit = 20,
    retracted: Retracted = False,
    dead: Annotated[bool, typer.Option("--dead", help="Signals that no words came of, with the reason.")] = False,
    costs: Annotated[
        bool, typer.Option("--costs", help="What AI providers were asked, day by day, and the cost.")
    ] = False,
) -> None:
    """The newest insights of the store, with their evidence."""
    from utxoiq.persistence import ai_calls, narration, open_store, reads
    from utxoiq.show import insight_feed, json_lines, plain_table

    with open_store(db, must_exist=True) as store:
        if dead or costs:
            rows = narration.dead(store, limit) if dead else ai_calls.costs(store, limit)
        else:
            rows = reads.insights(store, limit, retracted=retracted)
    if as_json:
        json_lines(rows)
    elif dead or costs:
        plain_table(rows, "None.")
    else:
        insight_feed(rows, "No insights.")


@app.command()
def verify(
    signal_id: Annotated[str, typer.Argument(metavar="ID", help="A signal's id, or the beginning of it.")],
    source: Annotated[str, typer.Option("--source", help="Where the raw blocks are: a path, or a node's address.")],
    db: Db = DEFAULT_DB,
    as_json: AsJson = False,
    network: NetworkName = None,
    labels: Labels = None,
) -> None:
    """Derive a signal again from raw bytes: equal (exit 0), different (1), or cannot tell (3)."""
    from utxoiq.persistence import open_store, reads
    from utxoiq.pipeline.verify import recorded_of
    from utxoiq.pipeline.verify import verify as verify_signal
    from utxoiq.show import json_lines

    with open_store(db, must_exist=True) as store:
        stored, kept_network = reads.signal(store, signal_id), store.network
        recorded = recorded_of(store, stored) if stored else []
    if stored is None:
        raise UtxoiqError(f"no signal, or more than one, begins with {signal_id}: see `utxoiq signals --db {db}`")
    blocks = open_named(source, network or kept_network)
    verdict = asyncio.run(verify_signal(stored, blocks, _labels_of(blocks, labels), recorded))
    if as_json:
        json_lines([{"signal_id": stored.signal_id, "verdict": verdict.verdict, "reason": verdict.reason}])
    else:
        typer.echo(f"{verdict.verdict}: {verdict.reason}")
    sys.exit({"equal": 0, "different": 1, "cannot tell": 3}[verdict.verdict])


@app.command()
def doctor(
    node: NodeUrl = None,
    esplora: EsploraUrl = None,
    db: RunDb = None,
    network: NetworkName = None,
    labels: Labels = None,
    config: ConfigFile = None,
    cloud: Annotated[
        bool, typer.Option("--cloud", help="Look at Google Cloud instead: login, secrets, warehouse, metrics, traces.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check all that `run` needs: node, REST, ZMQ, clock, store, disk, labels; and for each say what to do."""
    from dataclasses import asdict

    from utxoiq.config import Sources
    from utxoiq.doctor import examine
    from utxoiq.doctor_cloud import examine_cloud
    from utxoiq.show import check_table, json_lines

    given = {"node": {"url": node}, "esplora": {"url": esplora}, "db": db, "network": network, "labels": labels}
    settings, warnings = Sources.of_environment(config, without_none(given)).load(secrets_too=not cloud)
    for warning in warnings:
        typer.echo(f"utxoiq: {warning}", err=True)
    checks = [asdict(check) for check in (examine_cloud if cloud else examine)(settings)]
    (json_lines if as_json else check_table)(checks)
    sys.exit(1 if any(check["state"] == "failed" for check in checks) else 0)


@app.command()
def mempool(db: Db = DEFAULT_DB, as_json: AsJson = False, limit: Limit = 144) -> None:
    """The mempool as it was last seen, and how well such projections foretold the last blocks."""
    from utxoiq.facts.projection import score
    from utxoiq.persistence import open_store, reads
    from utxoiq.show import json_lines, mempool_report

    with open_store(db, must_exist=True) as store:
        newest, audits = reads.mempool(store), reads.audits(store, limit)
    scores = score(audits)
    if as_json:
        json_lines([{"snapshot": newest, "score": scores, "audits": audits}])
    else:
        mempool_report(newest, scores, audits)


@app.command()
def forecasts(db: Db = DEFAULT_DB, as_json: AsJson = False, limit: Limit = 1008) -> None:
    """How feerate forecasts did, ours beside simple methods and the node's own advice; and what is forecast now.

    --limit: over the forecasts of so many newest blocks."""
    from utxoiq.persistence import open_store, reads
    from utxoiq.processors.scoreboard import scoreboard
    from utxoiq.show import forecast_report, json_lines

    with open_store(db, must_exist=True) as store:
        rows = reads.forecasts(store, limit)
    scores = scoreboard(rows)
    if as_json:
        json_lines([{"score": scores, "forecasts": rows}])
    else:
        forecast_report(scores, rows, limit)


@config_app.command("show")
def config_show(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """All settings as they are in force, secrets masked."""
    from utxoiq.config import Sources
    from utxoiq.show import json_lines, settings_table

    settings, warnings = Sources.of_environment(config).load()
    for warning in warnings:
        typer.echo(f"utxoiq: {warning}", err=True)
    (json_lines([settings.shown()])) if as_json else settings_table(settings.shown())


@config_app.command("check")
def config_check(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Whether the settings make sense: exit 0, or 2 with what and where."""
    from utxoiq.config import Sources
    from utxoiq.show import json_lines

    sources = Sources.of_environment(config)
    _, warnings = sources.load()
    if as_json:
        json_lines([{"file": str(sources.path), "ok": True, "warnings": warnings}])
        return
    for warning in warnings:
        typer.echo(f"utxoiq: {warning}", err=True)
    typer.echo("settings are in order")


@config_app.command("init")
def config_init(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")] = Path("utxoiq.toml"),
) -> None:
    """Write a file with every setting, its meaning and its default, all commented out."""
    from utxoiq.template import settings_template

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(settings_template())
    except FileExistsError:
        raise ConfigError(f"{path}: is there already; give another FILE") from None
    except OSError as error:
        raise ConfigError(f"{path}: can't be written ({error.strerror})") from error
    typer.echo(f"{path}: uncomment what you want to change; `utxoiq config check` tells whether it makes sense")


@entities_app.command("list")
def entities_list(
    as_json: AsJson = False,
    limit: Limit = EVERYTHING,
    kind: Annotated[
        str | None, typer.Option("--kind", help="exchange, mining_pool, treasury, etf or government.")
    ] = None,
    labels: Labels = None,
) -> None:
    """The labelled entities."""
    from utxoiq.chain.network import NETWORKS
    from utxoiq.entities.labels import labels_for, summaries
    from utxoiq.show import entity_table, json_lines

    rows = summaries(labels_for(NETWORKS["main"], labels), kind)[:limit]
    json_lines(rows) if as_json else entity_table(rows)


@entities_app.command("import")
def entities_import(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A GraphSense TagPack (YAML), mempool's pools JSON, or a label file.")
    ],
    into: Annotated[
        Path, typer.Option("--labels", help="The label file to change; a new one starts as the packaged labels.")
    ],
    edition: Annotated[
        bool, typer.Option("--replace", help="FILE is a new edition: withdraw what earlier ones of it said.")
    ] = False,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="YYYY-MM-DD: the date of evidence that FILE itself does not date.")
    ] = None,
    db: Annotated[str | None, typer.Option("--db", help="A store whose signals to check against the change.")] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="Where the raw blocks are: say again what still holds.")
    ] = None,
    network: NetworkName = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what it would do.")] = False,
    as_json: AsJson = False,
) -> None:
    """Merge labels into a label file, and take back the signals that rested on labels it withdraws.

    Signals of the store that rest on an entity whose addresses changed are retracted; with --source they are derived
    again from raw blocks first, and what still holds is issued anew under the new labels, named as successor."""
    from utxoiq.chain.network import network_named
    from utxoiq.entities.merging import merged_file, write_labels
    from utxoiq.persistence import open_store
    from utxoiq.show import import_report, json_lines

    of = network_named("main" if network is None else network)
    before, merged = merged_file(file, into, of, "replace" if edition else "add", as_of)
    report = dict(merged.report)
    if db is not None:
        blocks = open_named(source, network) if source else None
        with open_store(db, must_exist=True) as store:
            report["affected"] = _relabel(store, before, merged.labels, blocks, dry_run=dry_run)
    if not dry_run:
        write_labels(into, merged.text)
    json_lines([report]) if as_json else import_report(report)


@entities_app.command("coverage")
def entities_coverage(
    path: BlocksPath,
    as_json: AsJson = False,
    limit: Limit = EVERYTHING,
    network: NetworkName = None,
    labels: Labels = None,
) -> None:
    """How much of the value that moves at PATH carries a label, by kind of entity."""
    from utxoiq.entities.labels import labels_for
    from utxoiq.facts.compute import compute_facts
    from utxoiq.facts.coverage import coverage
    from utxoiq.facts.flows import compute_flows
    from utxoiq.show import coverage_table, json_lines, progress

    source = open_named(path, network)
    names, total = labels_for(source.network, labels), min(limit, len(source))

    def flow(block: BlockData) -> BlockFlows | None:
        compute_facts(block, names)  # refuses spent outputs that do not fit
        step()
        return compute_flows(block, names)

    with progress("coverage", total) as step:
        rows = coverage(map(flow, islice(source.blocks(), total)), names)
    (json_lines if as_json else coverage_table)(rows)


@app.command()
def demo(
    blocks: Annotated[
        Path | None, typer.Option("--blocks", help="Real block files instead of a simulated chain.")
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, help="How many blocks to simulate.")] = 500,
    seed: Annotated[int, typer.Option("--seed", help="Another seed is another economy.")] = 1,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Where to leave blocks and store; a new temporary folder by default."),
    ] = None,
) -> None:
    """See it work: no node, no network, no key. A simulated chain, plainly marked, or your own block files."""
    from utxoiq.demo import run_demo

    run_demo(blocks, count, seed, folder)


def _scan(source: BlockSource, store: SqliteStore, labels: LabelSet | None, ledger: Path | None) -> ScanResult:
    from utxoiq.pipeline.scan import scan as scan_source
    from utxoiq.show import progress

    with progress("scan", source.count_from(store.cursor())) as step:
        return asyncio.run(scan_source(source, store, labels=labels, ledger=ledger, on_step=lambda _: step()))


def _relabel(
    store: SqliteStore, before: LabelSet, after: LabelSet, source: BlockSource | None, *, dry_run: bool
) -> list[dict[str, Any]]:
    """What becomes of the signals that rest on changed labels."""
    from utxoiq.entities.changes import changes
    from utxoiq.pipeline.relabel import Relabelled, affected_signals, relabel
    from utxoiq.show import progress

    changed = changes(before, after)
    doubtful = changed.entities if source else changed.lost.keys()  # without blocks only what was withdrawn is certain
    affected = affected_signals(store, doubtful, before, after)
    if dry_run:
        return Relabelled(affected).rows(planned=True)
    with progress("relabel", len(source) if source else 0) as step:
        return asyncio.run(relabel(store, affected, after, source, step)).rows()


def _labels_of(source: BlockSource, path: Path | None) -> LabelSet:
    from utxoiq.entities.labels import labels_for

    return labels_for(source.network, path)


def _counted(rows: Iterable[dict[str, Any]], step: Callable[[], None]) -> Iterator[dict[str, Any]]:
    for row in rows:
        step()
        yield row


if __name__ == "__main__":
    main()
