"""`backfill` and `audit` as a user types them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cli.command import Ran, utxoiq
from cli.test_errors import one_line
from helpers.node.double import NodeDouble
from helpers.relay import Relay
from pipeline.simulated import query, world
from pipeline.test_backfill import FEW, WHOLE, derived, fill, kept
from pipeline.test_kill import count
from sources.node.conftest import double, make_node
from utxoiq.pipeline.audit import ADVICE
from utxoiq.pipeline.backfill import SETTLED

__all__ = ["double", "make_node"]
AT = FEW.first + 9
KEYS = {
    "first", "last", "blocks_processed", "signals_generated", "poorer", "seconds", "correlation_id",
}  # fmt: skip
HUNG = 60


def backfill(path: Path, *arguments: str | Path, **variables: str) -> Ran:
    """Fill a store with the simulated chain, or what these arguments say else."""
    chosen = arguments if "--labels" in arguments or variables else (world().folder, *OWN, *arguments)
    return utxoiq("backfill", *chosen, "--db", f"sqlite:///{path}", **variables)


OWN = ("--labels", str(world().label_file), "--workers", "1")


def audit(path: Path, *arguments: str | Path, **variables: str) -> Ran:
    return utxoiq("audit", *arguments, "--db", f"sqlite:///{path}", **variables)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of the simulated chain's first forty blocks."""
    path = tmp_path_factory.mktemp("sound") / "store.db"
    fill(path, FEW)
    return path


@pytest.fixture
def path(sound: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    copy = tmp_path / "store.db"
    copy.write_bytes(sound.read_bytes())
    return copy


def broken(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement.replace("{of}", f"(SELECT block_hash FROM blocks WHERE height = {AT})"))


# backfill


def test_backfill_as_json(sound: Path, tmp_path: Path) -> None:
    """One object: the heights, how many blocks and signals; the store is that of the module. Again it says the
    same, and what is stored stays."""
    path = tmp_path / "store.db"
    for _ in range(2):
        ran = backfill(path, "--from", "0", "--to", str(FEW.last), "--json")
        assert (ran.code, ran.err) == (0, "")
        (row,) = ran.rows
        assert set(row) == KEYS
        assert (row["first"], row["last"], row["blocks_processed"], row["poorer"]) == (*FEW, 40, 0)
        assert row["signals_generated"] == len(query(path, "SELECT * FROM signals"))
        assert derived(path) == derived(sound)


def test_backfill_as_text(tmp_path: Path) -> None:
    """A line with heights, blocks, signals, and where they are; up to the tip where nothing is said."""
    first = WHOLE.last - 79
    ran = backfill(tmp_path / "store.db", "--types", "whale,miner", "--from", str(first))
    assert (ran.code, ran.err) == (0, "")
    wanted = rf"blocks {first} to {WHOLE.last}: 80 filled in, \d+ signals, \d+\.\d s, store sqlite:///.*store\.db\n"
    assert re.fullmatch(wanted, ran.out)
    assert {row["signal_type"] for row in query(tmp_path / "store.db", "SELECT * FROM signals")} == {"whale", "miner"}


def test_backfill_of_a_day(tmp_path: Path) -> None:
    """The day's blocks, UTC; not to be narrated, so that nothing waits."""
    times = {
        data.height: datetime.fromtimestamp(data.block.header.time, UTC).date() for data in world().source.blocks()
    }
    path, day = tmp_path / "store.db", "2026-01-06"
    arguments = ("--from-day", day, "--to-day", day, "--no-narrate", "--types", "miner", "--json")
    ran = backfill(path, *arguments)
    assert (ran.code, ran.err) == (0, "")
    assert kept(path) == [height for height, at in times.items() if str(at) == day] != []
    assert {row["processed"] for row in query(path, "SELECT processed FROM signal_state")} <= {1}


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("--from-day", "yesterday"), ["'yesterday' is no day", "2026-01-31"]),
        (("--to-day", "2026-02-30"), ["'2026-02-30' is no day"]),
        (("--types", "weather"), ["no processor of type weather", "whale"]),
        (("--types", "whale,,miner"), ["no processor of type"]),
        (("--from", "10", "--to", "5"), ["no block"]),
        (("--from", "1000000"), ["no block from 1000000", f"blocks end at {WHOLE.last}"]),
        (("--from-day", "2027-01-01"), ["no block"]),
        (("--to-day", "0001-01-01"), ["no block"]),
    ],
)
def test_backfill_wrongly_asked(tmp_path: Path, arguments: tuple[str, ...], parts: list[str]) -> None:
    """Exit code 2 and a line; no block is stored."""
    one_line(backfill(tmp_path / "store.db", *arguments), 2, *parts)
    assert kept(tmp_path / "store.db") == []


def test_backfill_up_to_the_last_day_there_is(tmp_path: Path) -> None:
    """A date at the end of all dates is no error."""
    ran = backfill(tmp_path / "store.db", "--to-day", "9999-12-31", "--from", str(WHOLE.last), "--json")
    assert (ran.code, [row["blocks_processed"] for row in ran.rows]) == (0, [1])


@pytest.mark.parametrize("arguments", [("--from", "-1"), ("--rate", "0"), ("--workers", "0"), ("--from", "x")])
def test_options_of_a_wrong_kind(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """The command line says so itself."""
    ran = backfill(tmp_path / "store.db", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert arguments[0] in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("command", ["backfill", "audit"])
def test_help(command: str) -> None:
    """What it does, and its options."""
    ran = utxoiq(command, "--help")
    assert (ran.code, ran.err) == (0, "")
    wanted = {"backfill": ("--from-day", "--types", "--narrate", "--rate", "30 days"), "audit": ("--heal", "Exit 1")}
    for part in ("SOURCE", "--db", "--json", "--workers", *wanted[command]):
        assert part in ran.out
    assert command in utxoiq("--help").out


def test_without_a_source(path: Path, tmp_path: Path) -> None:
    """None is named and none is set: wrong use. An audit looks at the store alone, unless it is to heal."""
    for ran in (utxoiq("backfill", "--db", "sqlite:///new.db", folder=tmp_path), audit(path, "--heal")):
        one_line(ran, 2, "no node")
    assert audit(path).code == 0


def test_the_node_of_the_settings(double: NodeDouble, tmp_path: Path) -> None:
    """Filled from it and audited against it; blocks it has otherwise now are found."""
    settings = {"UTXOIQ_NODE__URL": double.url, "UTXOIQ_NODE__COOKIE_FILE": str(double.cookie_file)}
    path, last = tmp_path / "store.db", double.rpc("getblockcount") - SETTLED
    ran = backfill(path, "--from", "80", "--json", **settings)
    assert (ran.code, ran.err) == (0, "")
    assert (ran.rows[0]["first"], ran.rows[0]["last"]) == (80, last)
    assert kept(path) == list(range(80, last + 1))
    ran = audit(path, double.url, "--json", **settings)
    assert (ran.code, ran.rows) == (0, [{"ok": True, "healed": 0, "findings": []}])
    stale = double.rpc("getblockhash", last)
    double.invalidate(stale)
    double.mine(10)
    ran = audit(path, "--heal", "--json", **settings)
    assert ran.code == 1
    (found,) = ran.rows[0]["findings"]
    assert (found["height"], found["problem"], found["block_hash"]) == (last, "stale", stale)
    one_line(backfill(path, "--from", "80", "--types", "whale", **settings), 1, "can't be filled in", stale)


def test_a_node_that_is_down(double: NodeDouble, tmp_path: Path) -> None:
    """A line, and exit code 1."""
    double.stop()
    one_line(backfill(tmp_path / "store.db", "--from", "1", UTXOIQ_NODE__URL=double.url), 1, "no connection")


def test_a_chain_that_turns(double: NodeDouble, tmp_path: Path) -> None:
    """While it is read from a node, below blocks that are stored: a line, exit code 3, and those stay. Begun again,
    what does not link to them is refused."""
    path, asked = tmp_path / "store.db", 0
    with Relay(double.url) as relay:

        def turn(name: str) -> None:
            nonlocal asked
            asked += "/rest/block/" in name
            if asked == 30:
                asked += 1
                double.side_branch(double.rpc("getblockhash", 2), 120)

        relay.before = turn
        settings = {"UTXOIQ_NODE__URL": relay.url, "UTXOIQ_NODE__COOKIE_FILE": str(double.cookie_file)}
        one_line(backfill(path, "--from", "0", **settings), 3, "the chain turned")
        there = kept(path)
        assert 0 < len(there) <= 30
        one_line(backfill(path, "--from", "0", **settings), 1, "can't be filled in")
    assert kept(path) == there == list(range(len(there)))


def test_a_block_that_does_not_decode(tmp_path: Path) -> None:
    """Exit code 3 and which; what came before is stored, and a sound copy goes on from there."""
    blocks, path = tmp_path / "blocks", tmp_path / "store.db"
    shutil.copytree(world().folder, blocks)
    data = bytearray((blocks / "blk00000.dat").read_bytes())
    raw = bytes(world().source.block_at(FEW.first + 20).block.raw)
    key = (blocks / "xor.dat").read_bytes() if (blocks / "xor.dat").exists() else bytes(8)
    plain = bytes(byte ^ key[i % 8] for i, byte in enumerate(data))
    data[plain.index(raw[:80]) + len(raw) - 2] ^= 1
    (blocks / "blk00000.dat").write_bytes(data)
    arguments = ("--from", "0", "--to", str(FEW.last), "--json")
    one_line(utxoiq("backfill", blocks, *OWN, *arguments, "--db", f"sqlite:///{path}"), 3, "merkle root")
    there = kept(path)
    assert 0 < len(there) <= 20
    ran = backfill(path, *arguments)
    assert (ran.code, ran.rows[0]["blocks_processed"]) == (0, 40)


def children(process: int) -> list[int]:
    """Its processes that read blocks."""
    folder = Path(f"/proc/{process}/task/{process}/children")
    found = [int(one) for one in folder.read_text().split()] if folder.exists() else []
    return [one for one in found if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="its children are found in /proc")
def test_a_process_that_reads_dies(tmp_path: Path) -> None:
    """Killed by whoever is short of memory: one line, and exit code 1."""
    path = tmp_path / "store.db"
    arguments = ["backfill", str(world().folder), "--workers", "2", "--db", f"sqlite:///{path}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "utxoiq.cli", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + HUNG
    while count(path) == 0 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    out, err = process.communicate(timeout=HUNG)
    one_line(Ran(process.returncode, out, err), 1, "a process that reads blocks died", "begin again")
    assert 0 < len(kept(path)) < WHOLE.last - WHOLE.first + 1


# audit


def test_audit_of_a_sound_store(path: Path) -> None:
    """Exit 0, with and without a source, in words and as JSON."""
    assert audit(path) == (0, "Every height is in order.\n", "")
    ran = audit(path, world().folder, *OWN, "--json")
    assert (ran.code, ran.err, ran.rows) == (0, "", [{"ok": True, "healed": 0, "findings": []}])


def test_audit_finds_and_heals(path: Path, sound: Path) -> None:
    """Exit 1 with height, problem, what was found and what to do; healed, exit 0 and how many blocks; then nothing."""
    broken(path, "DELETE FROM block_events WHERE block_hash = {of}")
    ran = audit(path, "--json")
    wanted = {
        "height": AT, "block_hash": None, "problem": "missing", "found": "no block of this height is connected",
        "advice": ADVICE["missing"],
    }  # fmt: skip
    assert (ran.code, ran.err, ran.rows) == (1, "", [{"ok": False, "healed": 0, "findings": [wanted]}])
    shown = audit(path)
    assert (shown.code, shown.err) == (1, "")
    for part in (f"{AT:,}", "missing", "no block of this height", ADVICE["missing"]):
        assert part in shown.out
    ran = audit(path, world().folder, *OWN, "--heal", "--json")
    assert (ran.code, ran.err, ran.rows) == (0, "", [{"ok": True, "healed": 1, "findings": []}])
    assert derived(path) == derived(sound)
    assert audit(path, world().folder, *OWN, "--heal", "--json").rows == [{"ok": True, "healed": 0, "findings": []}]


def test_audit_against_a_source(path: Path) -> None:
    """Shows what the store alone can't; healed in words."""
    broken(path, "UPDATE facts SET facts = json_set(facts, '$.txs', 7777) WHERE block_hash = {of}")
    assert audit(path).code == 0
    ran = audit(path, world().folder, *OWN, "--json")
    assert ran.code == 1
    (found,) = ran.rows[0]["findings"]
    assert (found["height"], found["problem"], found["advice"]) == (
        AT, "other transactions", ADVICE["other transactions"],
    )  # fmt: skip
    assert "7777 are stored" in found["found"]
    ran = audit(path, world().folder, *OWN, "--heal")
    assert ran == (0, "1 blocks derived again\nEvery height is in order.\n", "")


def test_what_can_not_be_mended_stays(path: Path) -> None:
    """A broken header: exit 1 after healing, too."""
    broken(path, "UPDATE blocks SET header = zeroblob(80) WHERE block_hash = {of}")
    ran = audit(path, world().folder, *OWN, "--heal", "--json")
    assert ran.code == 1
    assert ran.rows[0]["healed"] == 0
    assert [(one["height"], one["problem"]) for one in ran.rows[0]["findings"]] == [(AT, "broken header")]


def test_audit_wrongly_asked(tmp_path: Path, path: Path) -> None:
    """No store there, no source there: a line each. One that ends before is compared as far as it goes."""
    one_line(audit(tmp_path / "nowhere.db"), 1, "no store at")
    one_line(audit(path, tmp_path / "nowhere"), 3, "nowhere: no such folder")
    ran = audit(path, world(12).folder, "--workers", "1", "--json")
    assert (ran.code, {one["problem"] for one in ran.rows[0]["findings"]}) == (1, {"stale"})
    assert not (tmp_path / "nowhere.db").exists()
