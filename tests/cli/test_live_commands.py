"""`run`, `config` and `mempool` as a user types them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cli.command import Ran, utxoiq
from cli.test_errors import one_line
from helpers.esplora import EsploraDouble
from helpers.recorded import ABSENT, SHARED
from helpers.web import get
from persistence.records import chain, record, run
from persistence.test_live_tables import AUDIT, seen, snapshot
from sources.test_esplora import branches
from utxoiq.facts.projection import PERCENTS, score
from utxoiq.persistence import SqliteStore

SECRET = "hunter2"
PATIENCE = 60.0


# config


def test_config_show(tmp_path: Path) -> None:
    """What is in force, wherever it comes from: a table for people, one object for machines."""
    (tmp_path / "utxoiq.toml").write_text(f'[node]\nurl = "http://127.0.0.1:1"\npassword = "{SECRET}"\n')
    (tmp_path / ".env").write_text("UTXOIQ_NODE__USER=me\n")
    ran = utxoiq("config", "show", "--json", folder=tmp_path, UTXOIQ_DB="sqlite:///env.db")
    assert (ran.code, ran.err) == (0, "")
    (shown,) = ran.rows
    assert (shown["db"], shown["node"]["url"], shown["node"]["user"]) == (
        "sqlite:///env.db",
        "http://127.0.0.1:1",
        "me",
    )
    assert shown["node"]["password"] == "**********"
    table = utxoiq("config", "show", folder=tmp_path)
    assert table.code == 0
    rows = {line.split()[0]: line.split()[1:] for line in table.out.splitlines()}
    assert rows["node.user"] == ["me"]
    assert rows["live.window_blocks"] == ["288"]
    assert SECRET not in table.out + ran.out


def test_config_show_names_what_means_nothing(tmp_path: Path) -> None:
    """On standard error, so that the object can still be read by a machine."""
    (tmp_path / "utxoiq.toml").write_text("[node]\nrset = 1\n")
    for command in ("show", "check"):
        ran = utxoiq("config", command, folder=tmp_path, UTXOIQ_NODE__PASWORD=SECRET)
        assert ran.code == 0
        assert [line.split(":")[1].split()[0] for line in ran.err.splitlines()] == ["node.rset", "UTXOIQ_NODE__PASWORD"]
        assert SECRET not in ran.err + ran.out
    (told,) = utxoiq("config", "check", "--json", folder=tmp_path).rows
    assert told == {"file": "utxoiq.toml", "ok": True, "warnings": ["node.rset is no setting: ignored"]}


def test_config_check(tmp_path: Path) -> None:
    """Exit 0 and a line; 2 and what and where."""
    ran = utxoiq("config", "check", folder=tmp_path)
    assert (ran.code, ran.out, ran.err) == (0, "settings are in order\n", "")
    (tmp_path / "bad.toml").write_text("[log]\nlevel = 'loud'\n")
    for ran in (
        utxoiq("config", "check", "--config", "bad.toml", folder=tmp_path),
        utxoiq("config", "show", "--config", "bad.toml", folder=tmp_path),
        utxoiq("config", "check", folder=tmp_path, UTXOIQ_CONFIG="bad.toml"),
        utxoiq("run", "--config", "bad.toml", folder=tmp_path),
    ):
        one_line(ran, 2, "bad.toml", "log.level", "'loud'")
    one_line(utxoiq("config", "check", "--config", "nowhere.toml", folder=tmp_path), 2, "nowhere.toml", "config init")


@pytest.mark.parametrize(
    "text",
    [
        'db = "postgres://x"\n',
        '[node]\nurl = "127.0.0.1:8332"\n',
        '[esplora]\nurl = "mempool.space/api"\n',
        '[http]\nlisten = "nowhere"\n',
        '[node]\nurl = "http://h:1"\nproxy = "gopher://h:1"\n',
    ],
)
def test_config_check_finds_what_run_would_refuse(tmp_path: Path, text: str) -> None:
    """An address without http://, a store of another kind: said before the service is started with it."""
    (tmp_path / "utxoiq.toml").write_text(text)
    one_line(utxoiq("config", "check", folder=tmp_path), 2)


def test_config_init(tmp_path: Path) -> None:
    """A file in which nothing is set yet, never over another one."""
    ran = utxoiq("config", "init", folder=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("utxoiq.toml: uncomment what you want to change")
    before = utxoiq("config", "show", "--json", "--config", os.devnull, folder=tmp_path).rows[0]
    after = utxoiq("config", "show", "--json", folder=tmp_path).rows[0]
    assert {k: v for k, v in before.items() if k != "processors"} == {
        k: v for k, v in after.items() if k != "processors"
    }
    (tmp_path / "utxoiq.toml").write_text("mine")
    one_line(utxoiq("config", "init", folder=tmp_path), 2, "utxoiq.toml", "is there already")
    assert (tmp_path / "utxoiq.toml").read_text() == "mine"
    assert utxoiq("config", "init", "other.toml", folder=tmp_path).code == 0
    assert utxoiq("config", "check", "--config", "other.toml", folder=tmp_path).code == 0
    one_line(utxoiq("config", "init", "nowhere/x.toml", folder=tmp_path), 2, "nowhere/x.toml", "can't be written")
    (tmp_path / "link.toml").symlink_to("dangling.toml")
    one_line(utxoiq("config", "init", "link.toml", folder=tmp_path), 2, "link.toml")


# mempool


@pytest.fixture
def db(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


def test_mempool_without_a_store(tmp_path: Path, db: str) -> None:
    one_line(utxoiq("mempool", "--db", db), 1, "no store at")
    assert list(tmp_path.iterdir()) == []


def test_mempool_of_an_empty_store(tmp_path: Path, db: str) -> None:
    """Unknown is said, and null; it is no error."""
    SqliteStore(tmp_path / "store.db").close()
    ran = utxoiq("mempool", "--db", db)
    assert (ran.code, ran.err) == (0, "")
    assert "No mempool was seen yet" in ran.out
    assert utxoiq("mempool", "--db", db, "--json").rows == [{"snapshot": None, "score": [], "audits": []}]


def test_mempool_before_the_first_block(tmp_path: Path, db: str) -> None:
    """A snapshot, and no block audited yet; an empty mempool; one whose projection the node can't tell."""
    with SqliteStore(tmp_path / "store.db") as store:
        store.add_snapshot(snapshot(transactions=1234, vsize=5_600_000, backlog_weight=7_984_000))
    ran = utxoiq("mempool", "--db", db)
    assert (ran.code, ran.err) == (0, "")
    assert "2023-11-14T22:13:20Z: 1,234 transactions, 5.60 vMB" in ran.out
    assert "2.0 blocks to clear" in ran.out
    assert "No block was audited yet." in ran.out
    with SqliteStore(tmp_path / "store.db") as store:
        store.add_snapshot(
            replace(snapshot(taken_at=1_800_000_000), next_block=None, backlog_weight=None, border_feerates_kvb=None)
        )
    ran = utxoiq("mempool", "--db", db)
    assert "backlog unknown" in ran.out
    assert "next block" not in ran.out


def test_mempool_with_audits(tmp_path: Path, db: str) -> None:
    """The newest snapshot, a row for each percentile, the last blocks; as JSON all that it was made from."""
    with SqliteStore(tmp_path / "store.db") as store:
        for i, data in enumerate(chain().trunk):
            store.connect(seen(data, {**AUDIT, "mined_fees": i}) if i else record(data))
    (told,) = utxoiq("mempool", "--db", db, "--json").rows
    assert [row["height"] for row in told["audits"]] == list(range(900_007, 900_000, -1))
    assert told["score"] == json.loads(json.dumps(score(told["audits"])))
    assert [row["percentile"] for row in told["score"]] == list(PERCENTS)
    assert told["snapshot"]["tip"] == str(chain().trunk[-1].prev_hash)
    ran = utxoiq("mempool", "--db", db)
    assert (ran.code, ran.err) == (0, "")
    assert all(f"{percent} %" in ran.out for percent in PERCENTS)
    assert "900007" in ran.out
    (fewer,) = utxoiq("mempool", "--db", db, "--json", "--limit", "2").rows
    assert len(fewer["audits"]) == 2
    assert {row["blocks"] for row in fewer["score"]} == {2}


# run


def test_run_without_a_source(tmp_path: Path) -> None:
    """Exit 2 and what to give; no API of others is ever asked instead, and nothing is made."""
    one_line(utxoiq("run", folder=tmp_path), 2, "--node http://127.0.0.1:8332", "node.url", "--esplora URL")
    one_line(utxoiq("run", "--listen", "off", folder=tmp_path), 2, "no node")
    leftovers = {path.name for path in tmp_path.iterdir()}
    assert not {name for name in leftovers if not name.startswith("utxoiq.db")}


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        (["--node", "127.0.0.1:8332"], 2, ["address", "give http://HOST:PORT"]),
        (["--node", "http://127.0.0.1:1", "--network", "mainnet"], 2, ["network", "main, test3"]),
        (["--node", "http://127.0.0.1:1", "--listen", "nowhere"], 2, ["http.listen", "give another HOST:PORT, or off"]),
        (["--node", "http://127.0.0.1:1", "--db", "x.db"], 2, ["give sqlite:///FILE"]),
        (["--node", "http://127.0.0.1:1", "--db", "sqlite:///nowhere/x.db"], 1, ["nowhere/x.db"]),
        (["--node", "http://127.0.0.1:1", "--network", "main", "--labels", "none.jsonl"], 3, ["none.jsonl"]),
    ],
    ids=str,
)
def test_run_with_what_makes_no_sense(tmp_path: Path, arguments: list[str], code: int, parts: list[str]) -> None:
    """One line, before anything is begun."""
    listen = [] if "--listen" in arguments else ["--listen", "off"]
    one_line(utxoiq("run", *arguments, *listen, folder=tmp_path), code, *parts)


@pytest.mark.parametrize("arguments", [["--from", "-1"], ["--from", "tip"], ["--nod", "x"], ["extra"]], ids=" ".join)
def test_run_wrong_arguments(tmp_path: Path, arguments: list[str]) -> None:
    ran: Ran = utxoiq("run", *arguments, folder=tmp_path)
    assert ran.code == 2
    assert "Usage: " in ran.out + ran.err


@pytest.fixture
def api() -> Iterator[EsploraDouble]:
    if not SHARED.is_dir():
        pytest.skip(ABSENT)
    with EsploraDouble(branches()[0]) as double:
        yield double


class Service:
    """`utxoiq run` as a process of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        variables = {k: v for k, v in os.environ.items() if not k.startswith("UTXOIQ_")}
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "utxoiq.cli", "run", *arguments],
                cwd=folder,
                env=variables,
                stderr=log,
                stdout=log,
            )

    def until(self, text: str) -> list[dict[str, str]]:
        """Its log as JSON lines, once it says this."""
        for _ in range(int(PATIENCE / 0.02)):
            lines = self.log.read_text("utf-8").splitlines()
            if any(text in line for line in lines):
                return [json.loads(line) for line in lines]
            assert self.process.poll() is None, lines
            time.sleep(0.02)
        raise AssertionError(self.log.read_text("utf-8"))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit code."""
        self.process.send_signal(number)
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
    return port


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda n: n.name)
def test_run_over_an_api_until_it_is_stopped(tmp_path: Path, api: EsploraDouble, number: int) -> None:
    """From an empty folder to the tip, health by HTTP, a log of JSON lines, a clean end, and every row marked."""
    port = free_port()
    (tmp_path / "utxoiq.toml").write_text("[esplora]\nrequests_per_second = 100\n")
    service = Service(tmp_path, "--esplora", api.url, "--from", "0", "--listen", f"127.0.0.1:{port}")
    try:
        lines = service.until("live at height")
        ready = get(f"http://127.0.0.1:{port}/readyz")
        assert (ready.status, ready.json()["source"]) == (200, api.url)
    finally:
        code = service.stop(number)
    assert code == 0
    assert {"timestamp", "level", "logger", "event"} <= set(lines[0])
    assert not any("Traceback" in line for line in service.log.read_text().splitlines())
    sources = run(tmp_path / "utxoiq.db", "SELECT DISTINCT source FROM blocks")
    assert sources == [(api.where,)]
    heights = run(tmp_path / "utxoiq.db", "SELECT height FROM blocks ORDER BY height")
    assert heights == [(h,) for h in range(len(branches()[0]))]


def test_run_is_stopped_while_an_api_makes_it_wait(tmp_path: Path, api: EsploraDouble) -> None:
    """An hour of Retry-After or a hundred seconds: a service manager does not wait for that."""
    (tmp_path / "utxoiq.toml").write_text("[esplora]\nrequests_per_second = 100\npoll_seconds = 1\n")
    service = Service(tmp_path, "--esplora", api.url, "--from", "0", "--listen", "off")
    try:
        service.until("live at height")
        api.limits(None, "100")
        asked = len(api.requests)
        for _ in range(int(PATIENCE / 0.02)):
            if len(api.requests) > asked:
                break
            time.sleep(0.02)
    finally:
        began = time.monotonic()
        code = service.stop()
    assert code == 0
    assert time.monotonic() - began < 30


def test_run_does_not_show_a_password(tmp_path: Path, api: EsploraDouble) -> None:
    """Neither in its log nor anywhere in its store."""
    url = api.url.replace("//", f"//me:{SECRET}@")
    (tmp_path / "utxoiq.toml").write_text("[esplora]\nrequests_per_second = 100\n")
    service = Service(tmp_path, "--esplora", url, "--from", "0", "--listen", "off")
    try:
        service.until("live at height")
    finally:
        service.stop()
    assert SECRET not in service.log.read_text()
    assert all(SECRET.encode() not in path.read_bytes() for path in tmp_path.glob("utxoiq.db*"))


def test_the_help_of_run_tells_the_defaults() -> None:
    """What `--help` names exists as a setting too, so that it can be set for good."""
    ran = utxoiq("run", "--help")
    options = set(re.findall(r"(--[a-z]+)\b", ran.out))
    assert {"--node", "--esplora", "--db", "--from", "--network", "--labels", "--listen", "--config"} <= options
