"""What people see: feeds, tables, progress. Machines get `--json`, one object a line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from utxoiq.models import BLOCK_WEIGHT
from utxoiq.units import btc, sat_per_vb, utc

if TYPE_CHECKING:
    from collections.abc import Callable

BANNER = "[black on yellow] SIMULATED [/] "


def json_lines(rows: Iterable[dict[str, Any]]) -> None:
    """One compact JSON object a line on standard output."""
    try:
        for row in rows:
            sys.stdout.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} blocks/s" if speed else "")


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar with rate and time left on a terminal, nothing elsewhere. Call what it gives once a step."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def insight_feed(rows: Sequence[dict[str, Any]], empty: str) -> None:
    """Insights as a feed: headline, summary, confidence, evidence."""
    console = Console()
    wrap = not console.is_terminal
    if not rows:
        console.print(empty)
    for row in rows:
        label = BANNER if row["simulated"] else ""
        withdrawn = f"[red]RETRACTED, {escape(row['retraction_reason'])}:[/] " if row.get("retraction_reason") else ""
        heights = ", ".join(map(str, row["evidence"]["block_heights"])) or "unknown"
        txids = "".join(f" · tx {txid}" for txid in row["evidence"]["transaction_ids"])
        lines = (
            f"{label}{withdrawn}[bold]{escape(row['headline'])}[/]",
            f"  {escape(row['summary'])}",
            f"  [dim]{escape(row['confidence_explanation'])}[/]",
            f"  [cyan]{utc(row['created_at'])} · {row['category']} · block {heights}{txids}[/]",
            f"  [cyan]signal {row['signal_id']}[/]\n",
        )
        for line in lines:
            console.print(line, soft_wrap=wrap, highlight=False)


def signal_table(rows: Sequence[dict[str, Any]], empty: str) -> None:
    """Signals as a table."""
    table = _table("height", "time", "type", "kind", "subject", "confidence", "signal")
    for row in rows:
        mark = "SIMULATED " if row["simulated"] else ""
        table.add_row(
            _known(row["block_height"]), utc(row["created_at"]), row["signal_type"], mark + row["kind"],
            Text(_short(row["subject"])), f"{row['confidence']:.3f}", row["signal_id"],
        )  # fmt: skip
    Console().print(table if rows else empty)


def facts_table(rows: Iterable[dict[str, Any]]) -> None:
    """The main facts of each block."""
    table = _table("height", "time", "txs", "fees BTC", "median sat/vB", "weight", "pool", "tag")
    for row in rows:
        fees, rates = row["totalfee"], row["package_feerate_percentiles_kvb"]
        table.add_row(
            _known(row["height"]), utc(row["time"]), f"{row['txs']:,}", "unknown" if fees is None else btc(fees),
            "unknown" if rates is None else sat_per_vb(rates[2]), f"{row['weight']:,}",
            Text(row["pool_name"] or "unknown"), Text(row["coinbase_tag"][:30]),
        )  # fmt: skip
    Console().print(table)


def entity_table(rows: Sequence[dict[str, Any]]) -> None:
    """Entities, with how many addresses and tags are known of each."""
    table = _table("id", "name", "kind", "ticker", "addresses", "tags", "newest evidence")
    for row in rows:
        table.add_row(
            row["id"], Text(row["name"]), row["kind"], row["ticker"] or "", str(row["addresses"]), str(row["tags"]),
            row["as_of"] or "",
        )  # fmt: skip
    Console().print(table)


def flow_table(rows: Iterable[dict[str, Any]]) -> None:
    """A line a block and entity that had a flow, and the share of what the block spent that has a known owner."""
    table = _table(
        "height", "time", "entity", "arrived BTC", "left BTC", "moved within BTC", "uncertain BTC", "labelled"
    )
    for row in rows:
        height, at = _known(row["height"]), utc(row["time"])
        if row["entities"] is None:
            table.add_row(height, at, "unknown: no spent outputs", "", "", "", "", "unknown")
            continue
        share = "" if row["share_in"] is None else f"{row['share_in']:.1%}"
        for entity, flow in row["entities"].items():
            within = flow["received"] - flow["arrived"]
            amounts = (btc(sat) for sat in (flow["arrived"], flow["left"], within, flow["uncertain_value"]))
            table.add_row(height, at, Text(entity), *amounts, share)
    Console().print(table)


def coverage_table(rows: Sequence[dict[str, Any]]) -> None:
    """What is known of each kind, and the share of the moved value that is."""
    table = _table("kind", "entities", "with an address", "addresses", "of value spent", "of value received", "blocks")
    for row in rows:
        shares = ("unknown" if row[s] is None else f"{row[s]:.2%}" for s in ("share_spent", "share_received"))
        counts = (f"{row[name]:,}" for name in ("entities", "with_address", "addresses"))
        table.add_row(row["kind"], *counts, *shares, f"{row['blocks']:,}")
    Console().print(table)


def mempool_report(
    newest: dict[str, Any] | None, scores: Sequence[dict[str, Any]], audits: Sequence[dict[str, Any]]
) -> None:
    """The newest snapshot, the score of projections as estimates, and the last audits."""
    console = Console(highlight=False)
    if newest is None:
        console.print("No mempool was seen yet: `utxoiq run --node …` takes snapshots.")
        return
    weight, rates = newest["backlog_weight"], newest["next_block"] and newest["next_block"]["feerate_percentiles_kvb"]
    backlog = "unknown" if weight is None else f"{weight / 4e6:,.2f} vMB, {weight / BLOCK_WEIGHT:,.1f} blocks to clear"
    console.print(
        f"{utc(newest['taken_at'])}: {newest['transactions']:,} transactions, {newest['vsize'] / 1e6:,.2f} vMB; "
        f"backlog {backlog}; lowest rate let in {sat_per_vb(newest['minfee_kvb'])} sat/vB"
    )
    if rates:
        told = ", ".join(f"{p} % {sat_per_vb(r)}" for p, r in zip((5, 10, 25, 50, 75, 90), rates, strict=True))
        console.print(f"next block, sat/vB by weight: {told}")
    if not scores:
        console.print("No block was audited yet.")
        return
    table = _table("projected percentile", "blocks", "miss", "over", "inside 5..75 %", "median error")
    for row in scores:
        error = "unknown" if row["median_error"] is None else f"{row['median_error']:.1%}"
        shares = (f"{row[name]:.1%}" for name in ("miss", "over", "inside"))
        table.add_row(f"{row['percentile']} %", str(row["blocks"]), *shares, error)
    console.print(table)
    last = _table("height", "projected median", "mined median", "projected fees BTC", "mined fees BTC")
    for row in audits[:10]:
        last.add_row(
            str(row["height"]), sat_per_vb(row["projected_kvb"][3]), sat_per_vb(row["mined_kvb"][3]),
            btc(row["projected_fees"]), btc(row["mined_fees"]),
        )  # fmt: skip
    console.print(last)


def check_table(checks: Sequence[dict[str, Any]]) -> None:
    """What `doctor` found, with what to do."""
    colours = {"ok": "green", "warning": "yellow", "failed": "red"}
    table = _table("", "check", "found", "what to do")
    for check in checks:
        state = Text(check["state"], style=colours[check["state"]])
        table.add_row(state, check["name"], Text(check["found"]), Text(check["advice"]))
    Console().print(table)


def settings_table(settings: dict[str, Any]) -> None:
    """Every setting with its value."""
    table = _table("setting", "value")

    def add(values: dict[str, Any], where: str) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                add(value, f"{where}{name}.")
            else:
                table.add_row(f"{where}{name}", Text("" if value is None else str(value)))

    add(settings, "")
    Console().print(table)


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _known(height: int | None) -> str:
    return "unknown" if height is None else str(height)


def _short(subject: str) -> str:
    return f"{subject[:8]}…{subject[-4:]}" if len(subject) == 64 else subject
