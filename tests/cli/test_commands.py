"""Every command does what its help says, for people and, with --json, for machines."""

from __future__ import annotations

import csv
import gzip
import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest
import typer.main
from typer.testing import CliRunner

from cli.command import Ran, utxoiq
from pipeline.simulated import BLOCKS, STALE, world
from utxoiq.cli import app
from utxoiq.models import BlockFacts, Insight, Signal

ROOT = Path(__file__).resolve().parents[2]


def commands() -> list[str]:
    """Every command there is, as a user types it."""
    top = typer.main.get_command(app)
    names = []
    for name, command in top.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", None)
        names += [f"{name} {sub}" for sub in inner] if inner else [name]
    return names


class Scanned(NamedTuple):
    """A store that a scan has made, and what the scan said."""

    db: str
    ran: Ran


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Scanned:
    """The simulated chain, scanned with its labels."""
    db = f"sqlite:///{tmp_path_factory.mktemp('cli') / 'store.db'}"
    return Scanned(db, utxoiq("scan", world().folder, "--db", db, "--labels", world().label_file, "--json"))


def test_the_commands() -> None:
    """Those of the design that this version has."""
    assert set(commands()) == {
        "run", "chart", "doctor", "config show", "config check", "config init", "mempool", "facts", "flows", "scan",
        "signals", "insights", "verify", "forecasts", "outcomes", "watch", "narrate", "ship", "serve", "store migrate",
        "backfill", "audit", "ask", "export", "entities publish", "entities list", "entities coverage",
        "entities import", "demo", "balances build", "balances import", "balances top", "balances of",
        "balances entity", "balances check",
    }  # fmt: skip


@pytest.mark.parametrize("command", [*commands(), "entities"])
def test_each_has_help(command: str) -> None:
    """With a sentence on what it does and on every option."""
    result = CliRunner().invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert f"{command} [OPTIONS]" in result.output
    described = [line for line in result.output.splitlines() if re.match(r"│ [* ]*--", line)]
    assert described
    assert all(len(line.strip("│ ").split("  ")) > 1 for line in described)


@pytest.mark.parametrize("command", commands())
def test_each_is_in_the_readme(command: str) -> None:
    assert f"utxoiq {command}" in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("settings", "state", "found"),
    [
        ("", "ok", "template"),
        ('[ai]\nprovider = "openai"', "failed", "there is no key"),
        ('[ai]\nprovider = "compatible"\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "m"', "ok", "compatible, model m"),
    ],
)
def test_the_doctor_looks_at_the_provider(settings: str, state: str, found: str, tmp_path: Path) -> None:
    """By its settings; no question is asked."""
    (tmp_path / "utxoiq.toml").write_text(settings)
    result = CliRunner().invoke(app, ["doctor", "--json", "--config", str(tmp_path / "utxoiq.toml")])
    (check,) = [row for row in map(json.loads, result.output.splitlines()) if row["name"] == "AI"]
    assert check["state"] == state
    assert found in check["found"]


def test_facts_of_a_real_block(shared: Path) -> None:
    """One object with Core's names in Core's order first, its hash, height and fees as the index has them."""
    name = "main_0757739_1cabd0ea"
    with (shared / "blocks" / "index.csv").open(newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["file"] == f"{name}.blk.gz")
    with gzip.open(shared / "runs" / "regtest_core31" / "getblockstats.jsonl.gz", "rt") as file:
        core = set(json.loads(file.readline()))
    ran = utxoiq("facts", "--json", shared / "blocks" / f"{name}.blk.gz")
    assert (ran.code, ran.err) == (0, "")
    (facts,) = ran.rows
    assert len(core) > 25
    assert core <= set(facts)
    assert set(facts) == set(BlockFacts.__dataclass_fields__)
    assert (facts["blockhash"], facts["height"], facts["time"]) == (row["hash"], 757_739, int(row["time"]))
    assert (facts["totalfee"], facts["txs"]) == (int(row["fees_sat"]), int(row["n_tx"]))
    assert facts["mediantime"] is None, "its ancestors are not there: unknown, not guessed"
    assert facts["pool"] is not None


def test_facts_of_all_real_blocks(shared: Path) -> None:
    """Seventy-nine lines, each an object, of two networks."""
    ran = utxoiq("facts", "--json", shared / "blocks")
    assert (ran.code, ran.err) == (0, "")
    rows = ran.rows
    assert len(rows) == 79
    assert {row["network"] for row in rows} == {"main", "test3"}
    assert len({row["blockhash"] for row in rows}) == 79


def test_facts_limited(shared: Path) -> None:
    """The first so many; as a table for people, in which unknown is "unknown"."""
    source = shared / "blocks"
    ran = utxoiq("facts", "--json", "--limit", "2", source)
    assert [row["height"] for row in ran.rows] == [0, 1]
    table = utxoiq("facts", "--limit", "3", source)
    assert table.code == 0
    assert "2009-01-03T18:15:05Z" in table.out
    assert "unknown" in table.out
    assert len(table.out.splitlines()) == 1 + 3
    assert [row["network"] for row in utxoiq("facts", "--json", "--network", "test3", source).rows][:1] == ["test3"]


def test_facts_with_labels() -> None:
    """A label file of one's own names the pools."""
    ran = utxoiq("facts", "--json", "--limit", "9", "--labels", world().label_file, world().folder)
    assert {row["labels_version"] for row in ran.rows} == {world().labels.version}
    assert any(row["pool_name"] for row in ran.rows)
    assert all(row["simulated"] for row in ran.rows)


def test_a_scan_says_what_it_did(scanned: Scanned) -> None:
    """One object: blocks connected and disconnected, signals, insights, and where the store now stands."""
    tip = world().source.tip()
    assert tip is not None
    assert (scanned.ran.code, scanned.ran.err) == (0, "")
    said = len(utxoiq("signals", "--db", scanned.db, "--json", "--retracted", "--limit", "999").rows)
    assert said > 7
    assert scanned.ran.rows == [
        {
            "connected": BLOCKS + STALE, "disconnected": STALE, "signals": said, "insights": said,
            "tip": tip.block_hash, "height": tip.height,
        }
    ]  # fmt: skip


def test_a_scan_again_for_people(scanned: Scanned) -> None:
    """Nothing new: a line that says so, and where it stands."""
    ran = utxoiq("scan", world().folder, "--db", scanned.db, "--labels", world().label_file)
    assert ran.code == 0
    assert "0 blocks connected, 0 disconnected, 0 signals, 0 insights" in ran.out
    assert scanned.db in ran.out


@pytest.mark.parametrize(("command", "kind"), [("signals", Signal), ("insights", Insight)])
def test_reading_as_json(scanned: Scanned, command: str, kind: type) -> None:
    """One object a line with every field of the contract, the newest first, at most as many as asked for; what the
    stale branch said is among the rest."""
    ran = utxoiq(command, "--db", scanned.db, "--json", "--limit", "999")
    assert (ran.code, ran.err) == (0, "")
    assert len(ran.rows) > 6
    assert all(set(kind.__dataclass_fields__) <= set(row) for row in ran.rows)
    times = [row["created_at"] for row in ran.rows]
    assert times == sorted(times, reverse=True)
    assert utxoiq(command, "--db", scanned.db, "--json", "--limit", "2").rows == ran.rows[:2]
    every = utxoiq(command, "--db", scanned.db, "--json", "--retracted", "--limit", "999").rows
    gone = [row for row in every if row["retraction_reason"]]
    assert gone
    assert len(every) == len(ran.rows) + len(gone)
    assert all(row["retracted_at"] is not None for row in gone)
    assert not {row["signal_id"] for row in gone} & {row["signal_id"] for row in ran.rows}


def test_reading_for_people(scanned: Scanned) -> None:
    """Headlines, kinds, evidence; what is simulated says so in every entry."""
    insights, signals = utxoiq("insights", "--db", scanned.db), utxoiq("signals", "--db", scanned.db)
    assert (insights.code, signals.code) == (0, 0)
    rows = utxoiq("insights", "--db", scanned.db, "--json").rows
    assert insights.out.count("SIMULATED") == len(rows)
    assert "SIMULATED" in signals.out.splitlines()[0]
    for row in rows:
        assert row["headline"] in insights.out
        assert row["summary"] in insights.out
        assert row["signal_id"] in insights.out
        assert row["signal_id"][:8] in signals.out
    assert "RETRACTED" not in insights.out
    assert "RETRACTED" in utxoiq("insights", "--db", scanned.db, "--retracted").out


def test_the_store_may_be_named_by_the_environment(scanned: Scanned) -> None:
    ran = utxoiq("signals", "--json", "--limit", "1", UTXOIQ_DB=scanned.db)
    assert (ran.code, len(ran.rows)) == (0, 1)


def test_verify_equal(scanned: Scanned) -> None:
    """Exit code 0; by id or the beginning of it; for people and machines; one of each type."""
    rows = utxoiq("signals", "--db", scanned.db, "--json", "--limit", "999").rows
    row = rows[0]
    arguments = ["--source", world().folder, "--db", scanned.db, "--labels", world().label_file]
    ran = utxoiq("verify", row["signal_id"][:8], *arguments)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("equal: ")
    ran = utxoiq("verify", row["signal_id"], *arguments, "--json")
    assert ran.rows[0]["verdict"] == "equal"
    assert ran.rows[0]["signal_id"] == row["signal_id"]
    for each in {row["signal_type"]: row for row in rows}.values():
        ran = utxoiq("verify", each["signal_id"], *arguments)
        assert ran.out.startswith("equal: "), (each["signal_type"], each["kind"], ran.out)


def test_forecasts(scanned: Scanned) -> None:
    """What is foretold of blocks to come and how that of the past did, for machines and people."""
    ran = utxoiq("forecasts", "--db", scanned.db, "--json")
    assert (ran.code, ran.err) == (0, "")
    (told,) = ran.rows
    assert {row["method"] for row in told["forecasts"]} >= {"utxoiq", "naive", "rolling_median"}
    waiting = [row for row in told["forecasts"] if row["actual_kvb"] is None]
    assert {row["horizon"] for row in waiting} == {"next_block", "1h", "24h"}
    assert {row["method"] for row in told["score"]} >= {"utxoiq", "naive"}
    assert all(row["n"] > 0 for row in told["score"])
    shown = utxoiq("forecasts", "--db", scanned.db)
    assert (shown.code, shown.err) == (0, "")
    assert "naive" in shown.out


def test_verify_cannot_tell(scanned: Scanned) -> None:
    """Exit code 3 without the labels it rests on; 1 for an id nobody has."""
    row = utxoiq("signals", "--db", scanned.db, "--json").rows[0]
    ran = utxoiq("verify", row["signal_id"], "--source", world().folder, "--db", scanned.db)
    assert (ran.code, ran.err) == (3, "")
    assert ran.out.startswith("cannot tell: it rests on labels ")
    unknown = utxoiq("verify", "ffff", "--source", world().folder, "--db", scanned.db)
    assert (unknown.code, unknown.out) == (1, "")
    assert "begins with ffff" in unknown.err


def test_entities() -> None:
    """Who is known, of which kind, with the sources of each; the newest evidence is dated."""
    ran = utxoiq("entities", "list", "--json")
    assert (ran.code, ran.err) == (0, "")
    rows = ran.rows
    assert len({row["id"] for row in rows}) == len(rows) > 100
    assert {row["kind"] for row in rows} == {"exchange", "mining_pool", "treasury", "etf", "government"}
    assert all(row["labels_version"] == rows[0]["labels_version"] for row in rows)
    pools = utxoiq("entities", "list", "--json", "--kind", "mining_pool", "--limit", "3").rows
    assert [row["kind"] for row in pools] == ["mining_pool"] * 3
    table = utxoiq("entities", "list", "--limit", "3")
    assert len([line for line in table.out.splitlines() if line.startswith(tuple(row["id"] for row in rows[:3]))]) == 3
    assert rows[0]["name"] in table.out


def test_the_demo(tmp_path: Path) -> None:
    """From nothing to a verified signal, marked as simulated throughout; its store can be read afterwards."""
    ran = utxoiq("demo", "--count", "60", "--folder", tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert "SIMULATED" in ran.out
    assert "62 blocks connected, 2 disconnected by reorgs" in ran.out
    db = f"sqlite:///{tmp_path / 'demo.db'}"
    signals = utxoiq("signals", "--db", db, "--json").rows
    assert "Verified: equal" in ran.out or not signals
    assert db in ran.out
    again = utxoiq("demo", "--count", "60", "--folder", tmp_path)
    assert again.code == 3
    assert "already holds block files" in again.err


def test_the_demo_on_real_blocks(tmp_path: Path, shared: Path) -> None:
    """One's own block files instead: nothing is called simulated."""
    ran = utxoiq("demo", "--blocks", shared / "runs" / "regtest_kernel", "--folder", tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert "SIMULATED" not in ran.out
    assert "207 blocks connected" in ran.out
    assert "Verified: equal" in ran.out
