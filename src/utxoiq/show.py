"""What people see: feeds, tables, progress. Machines get `--json`, one object a line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
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
    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} {self._unit}/s" if speed else "")


@contextmanager
def progress_of(what: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar with rate and time left on a terminal, nothing elsewhere. Call what it gives with how many `unit` are done,
    of how many."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(unit), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """The same for `total` blocks. Call what it gives once a block."""
    with progress_of(what, "blocks") as tell:
        done = count(1)
        yield lambda: tell(next(done), total)


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
    table = _table("height", "time", "type", "kind", "subject", "confidence", "labelled", "signal")
    made_up = [row for row in rows if row["simulated"]]
    for row in rows:
        mark = "SIMULATED " if made_up and len(made_up) < len(rows) and row["simulated"] else ""
        table.add_row(
            _known(row["block_height"]), utc(row["created_at"])[:16].replace("T", " "), row["signal_type"],
            mark + row["kind"], Text(_short(row["subject"])), f"{row['confidence']:.3f}", _labelled(row["metadata"]),
            row["signal_id"][:8],
        )  # fmt: skip
    if made_up and len(made_up) == len(rows):
        Console().print(BANNER)
    Console().print(table if rows else empty)
    if any(_labelled(row["metadata"]) for row in rows):
        Console().print("[dim]labelled: of the amount, whose other side is known / of all the block spent[/]")


def _labelled(metadata: dict[str, Any]) -> str:
    """What is known behind a signal on an entity: of its amount and of the block; empty where it names none."""
    if "block_attributed_share" not in metadata:
        return ""
    shares = (metadata.get(name) for name in ("attributed_share", "block_attributed_share"))
    return " / ".join("unknown" if share is None else f"{share:.0%}" for share in shares)


def forecast_report(scores: Sequence[dict[str, Any]], newest: Sequence[dict[str, Any]], blocks: int) -> None:
    """The scoreboard of forecasts, and the newest of ours."""
    console = Console()
    if not newest:
        console.print("No forecasts: they need the feerates of some 150 blocks before.")
        return
    table = _table("horizon", "method", "settled", "MAE sat/vB", "ours", "MAPE", "interval score", "in 80 %")
    for row in scores:
        figures = (row["mae"], row["ours_mae"], row["mape"], row["interval_score"], row["coverage80"])
        forms = ("{:.3f}", "{:.3f}", "{:.1%}", "{:.3f}", "{:.1%}")
        cells = ("" if value is None else form.format(value) for form, value in zip(forms, figures, strict=True))
        table.add_row(row["horizon"], row["method"], f"{row['n']:,}", *cells)
    console.print(table if scores else "None of their blocks has come yet.")
    height = newest[0]["block_height"]
    console.print(f"\n[bold]Forecast after block {height:,}[/]")
    ahead = _table("horizon", "block", "sat/vB", "80 % interval", "cases")
    for row in sorted(newest, key=lambda row: row["target_height"]):
        if row["method"] == "utxoiq" and row["block_height"] == height:
            interval = f"{sat_per_vb(row['low_kvb'])} to {sat_per_vb(row['high_kvb'])}"
            ahead.add_row(
                row["horizon"], f"{row['target_height']:,}", sat_per_vb(row["value_kvb"]), interval, f"{row['cases']:,}"
            )
    console.print(ahead)
    console.print(f"[dim]over the forecasts of the last {blocks:,} blocks[/]")


def outcome_table(rows: Sequence[dict[str, Any]]) -> None:
    """How often signals were right, beside what their confidences said."""
    if not rows:
        Console().print("No signal was resolved yet: that takes the blocks after it, or better labels.")
        return
    table = _table("type", "kind", "model", "resolved", "right", "mean confidence", "share right", "Brier")
    for row in rows:
        named = (row["signal_type"], row["kind"], row["model_version"], f"{row['resolved']:,}", f"{row['right']:,}")
        figures = (f"{row['mean_confidence']:.3f}", f"{row['share_right']:.3f}", f"{row['brier']:.4f}")
        table.add_row(*named, *figures)
    Console().print(table)


def import_report(report: dict[str, Any]) -> None:
    """What an import did to the labels and to the signals that rest on them."""
    console = Console()
    console.print(f"labels {report['labels_version']}, were {report['labels_version_before']}")
    for name in ("addresses_added", "addresses_withdrawn", "addresses_moved"):
        console.print(f"  {report[name]:,} {name.replace('_', ' ')}")
    for reason, told in report["left_out"].items():
        console.print(
            f"  left out: {told['count']:,}, {escape(reason)}, such as {escape(told['first'])}", soft_wrap=True
        )
    for address, first, other in report["conflicts"]:
        console.print(f"  two owners, so none counts: {address}, {escape(first)} and {escape(other)}", soft_wrap=True)
    if "affected" not in report:
        return
    table = _table("height", "kind", "subject", "what became of it", "signal", "superseded by")
    for row in report["affected"]:
        table.add_row(_known(row["block_height"]), row["kind"], Text(_short(row["subject"])), row["outcome"],
                      row["signal_id"], row["superseded_by"] or "")  # fmt: skip
    console.print(table if report["affected"] else "No signal rests on what changed.")


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
    """Entities, with how many addresses and tags are known of each, and where nothing can be seen of one."""
    table = _table("id", "name", "kind", "ticker", "addresses", "contested", "tags", "newest evidence", "note")
    for row in rows:
        counts = (f"{row[name]:,}" if row[name] else "" for name in ("addresses", "conflicts", "tags"))
        table.add_row(
            row["id"],
            Text(row["name"]),
            row["kind"],
            row["ticker"] or "",
            *counts,
            row["as_of"] or "",
            row["note"] or "",
        )
    Console().print(table)
    unseen = sum(not row["addresses"] for row in rows)
    version = f"; labels {rows[0]['labels_version']}" if rows else ""
    Console().print(f"[dim]{len(rows)} entities, of {unseen} of them no address is known{version}[/]", soft_wrap=True)


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
    console = Console()
    console.print(table)
    for row in rows:
        if row["note"]:
            console.print(f"[dim]{row['kind']}: {row['note']}[/]", soft_wrap=True)


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


def finding_table(rows: Sequence[dict[str, Any]], healed: int) -> None:
    """What an audit found: height, what is wrong, what to do."""
    console = Console()
    if healed:
        console.print(f"{healed} blocks derived again")
    if not rows:
        console.print("Every height is in order.")
        return
    table = Table("height", "problem", "found", "what to do")
    for row in rows:
        table.add_row(f"{row['height']:,}", row["problem"], escape(row["found"]), row["advice"])
    console.print(table)


def plain_table(rows: Sequence[dict[str, Any]], empty: str) -> None:
    """Rows as they are, a column for each key."""
    console = Console()
    if not rows:
        console.print(empty)
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    console.print(table)
