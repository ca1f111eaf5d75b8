"""`utxoiq run` as a process: how it begins, what it serves and says, how it takes new settings, and how it ends."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from helpers.ai_servers import EXPLANATION, AiServer, Play
from helpers.forking import Forked
from helpers.node.double import NodeDouble
from helpers.node.interface import RPC_USER, TestNode
from helpers.relay import Relay
from helpers.running import Running
from pipeline.live import agrees, sound
from pipeline.simulated import query
from sources.node import conftest as nodes

kind, make_node, node, double = nodes.kind, nodes.make_node, nodes.node, nodes.double
MATURE = nodes.MATURE
WINDOW = 5
SOON = 15
"""Seconds that an end may take at most."""
BASE = f"""
[live]
window_blocks = {WINDOW}

[node]
poll_seconds = 0.2
"""
TALKATIVE = """
[processors.miner]
minimum_history = 1
empty_share = 1.0
confidence_threshold = 0.0
"""
"""The miner processor tells of every empty block."""
SILENT = TALKATIVE + "enabled = false\n"


def started(node: TestNode, folder: Path, settings: str = "", **options: Any) -> Running:
    """A run over this node that listens, with these settings beside the base."""
    folder.mkdir(exist_ok=True)
    (folder / "utxoiq.toml").write_text(BASE + settings)
    variables = {"UTXOIQ_NODE__COOKIE_FILE": str(node.cookie_file), "UTXOIQ_NODE__URL": node.url}
    return Running(folder, listen=True, **{**variables, **options})


def blocks(running: Running) -> int:
    """How many are in the store."""
    return running.value("SELECT count(*) FROM blocks") or 0


def mined(running: Running, node: TestNode, **options: Any) -> str:
    """One more block, in the store."""
    (name,) = node.mine(1, **options)
    running.at(name)
    return name


# From beginning to end


def test_a_run(kind: str, make_node: Callable[..., TestNode], tmp_path: Path) -> None:
    """It catches up, serves health, readiness and metrics, follows, and ends at SIGTERM with exit code 0."""
    node = make_node(kind, blocks=MATURE)
    with started(node, tmp_path / "run", '[log]\nlevel = "DEBUG"\n' + TALKATIVE) as running:
        running.until(running.is_ready)
        status, said = running.ready() or (0, {})
        assert (status, said["ready"], said["state"], said["reason"]) == (200, True, "live", None)
        assert (said["store_height"], said["source_height"], said["connected"]) == (MATURE, MATURE, WINDOW + 1)
        assert said["source"] == node.url
        assert running.get("/healthz") == (200, '{"status":"ok"}')
        assert running.get("/nowhere")[0] == 404
        name = mined(running, node)
        running.until(lambda: running.metric("utxoiq_store_height") == MATURE + 1)
        assert running.metric("utxoiq_blocks_processed_total", 'outcome="success"') == WINDOW + 2
        running.until(lambda: running.metric("utxoiq_block_latency_milliseconds_count") == 1)
        running.until(lambda: running.value("SELECT count(*) FROM mempool_snapshots"))
        assert running.terminate() == 0
        correlated(running, name)
        assert not [line for line in running.lines if line["level"] in ("warning", "error")]
    (first,) = query(running.db, "SELECT event, reason, settings FROM settings_events")
    assert (first["event"], first["reason"]) == ("applied", "start")
    assert json.loads(first["settings"])["node"]["url"] == node.url
    agrees(running.db, node, MATURE - WINDOW)


def correlated(running: Running, name: str) -> None:
    """Every line is JSON, and those of a block, from detection to commit, carry one id, that of its rows."""
    lines = running.lines
    assert len(lines) > 20
    assert all({"timestamp", "level", "logger", "event"} <= set(line) for line in lines)
    of_block = [line for line in lines if name in json.dumps(line) and line["logger"].startswith("utxoiq")]
    ids = {line.get("correlation_id") for line in of_block}
    assert len(ids) == 1, of_block
    (correlation_id,) = ids
    assert correlation_id
    its = [line for line in lines if line.get("correlation_id") == correlation_id]
    events = [line["event"] for line in its]
    assert events[0].startswith(f"block {name} of height {MATURE + 1} found")
    assert any("committed after" in event for event in events[-3:])
    assert len(its) > 5
    between = lines[lines.index(its[0]) : lines.index(its[-1])]
    stray = [x for x in between if "correlation_id" not in x and x["logger"] in ("utxoiq.block", "utxoiq.pipeline")]
    assert stray == []
    for table in ("block_events", "signals"):
        assert running.value(f"SELECT correlation_id FROM {table} WHERE block_hash = '{name}'") == correlation_id
    others = [line["correlation_id"] for line in lines if "correlation_id" in line and line not in its]
    assert len(set(others)) >= WINDOW + 1
    assert correlation_id not in others


def test_a_node_that_goes_and_comes(kind: str, make_node: Callable[..., TestNode], tmp_path: Path) -> None:
    """Ready turns 503 with the reason, in one line, health stays; and 200 when it is back, at another cookie."""
    node = make_node(kind, blocks=MATURE)
    with started(node, tmp_path / "run") as running:
        running.until(running.is_ready)
        node.kill()
        running.until(lambda: not running.is_ready())
        status, said = running.ready() or (0, {})
        assert (status, said["ready"], said["state"]) == (503, False, "waiting")
        assert node.url in said["reason"]
        assert "\n" not in said["reason"]
        assert running.get("/healthz")[0] == 200
        running.until(lambda: running.metric("utxoiq_node_ready") == 0)
        node.start()
        name = mined(running, node)
        running.until(running.is_ready)
        assert running.metric("utxoiq_node_ready") == 1
        assert (running.ready() or (0, {}))[1]["reason"] is None
        assert running.terminate(signal.SIGINT) == 0
        assert running.value("SELECT block_hash FROM cursor") == name
    agrees(running.db, node, MATURE - WINDOW)


def test_a_start_without_a_node(double: NodeDouble, tmp_path: Path) -> None:
    """It serves at once, says why it waits, and begins when the node comes."""
    double.stop()
    with started(double, tmp_path / "run") as running:
        assert running.until(running.ready)[0] == 503
        assert running.get("/healthz")[0] == 200
        running.until(lambda: "cookie" in str((running.ready() or (0, {}))[1].get("reason")))
        double.start()
        running.until(running.is_ready)
        assert running.terminate() == 0


# How it ends


def test_it_ends_while_the_node_hangs(double: NodeDouble, tmp_path: Path) -> None:
    """A question that is not answered delays nothing."""
    with started(double, tmp_path / "run") as running:
        running.until(running.is_ready)
        for _ in range(50):
            double.hang_next(120)
        double.silence_zmq = True
        double.mine(1)
        time.sleep(1)
        began = time.monotonic()
        assert running.terminate() == 0
        assert time.monotonic() - began < SOON
    sound(running.db)


def test_it_ends_while_another_process_locks_the_store(double: NodeDouble, tmp_path: Path) -> None:
    """And health answers all the while."""
    with started(double, tmp_path / "run") as running:
        running.until(running.is_ready)
        with closing(sqlite3.connect(running.db, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            double.mine(2)
            for _ in range(20):
                began = time.monotonic()
                assert running.get("/healthz")[0] == 200
                assert time.monotonic() - began < 5
                time.sleep(0.1)
            running.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
            other.execute("ROLLBACK")
            assert running.ended(SOON) == 0
    sound(running.db)


def test_it_ends_whenever_it_is_asked(double: NodeDouble, tmp_path: Path) -> None:
    """During its start too: by the signal or cleanly, never with a traceback; the store is whole."""
    for after in range(0, 600, 100):
        with started(double, tmp_path / "run") as running:
            time.sleep(after / 1000)
            assert running.terminate() in (0, -signal.SIGTERM), running.said
            assert "Traceback" not in running.said
        if running.tip:
            sound(running.db)


def test_it_ends_while_it_catches_up(double: NodeDouble, tmp_path: Path) -> None:
    """Between two blocks, wherever it is, again and again; and it goes on from there."""
    double.mine(250, spends=1)
    for _ in range(4):
        with started(double, tmp_path / "run", UTXOIQ_LIVE__WINDOW_BLOCKS="359") as running:
            before = blocks(running)
            running.until(lambda run=running, before=before: blocks(run) > before, every=0.001)
            assert running.terminate() == 0, running.said
            assert "Traceback" not in running.said
        sound(running.db)
    with started(double, tmp_path / "run") as running:
        running.until(running.is_ready)
        assert running.terminate() == 0
    agrees(running.db, double, 1)


# Starts that fail


def refused(*arguments: str, folder: Path, code: int, parts: list[str]) -> None:
    """One line, with what, where and what to do, and the exit code."""
    output = folder / "said"
    process = Forked(["run", *arguments], folder=folder, variables={}, output=output)
    try:
        ended = process.wait(SOON)
    finally:
        process.kill()
    told = [line for line in output.read_text().splitlines() if not line.startswith("{")]
    assert ended == code, told
    assert len(told) == 1, told
    assert told[0].startswith("utxoiq: ")
    for part in parts:
        assert part in told[0], told[0]


NODE = ("--node", "http://127.0.0.1:1")


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        refused(*NODE, "--listen", where, folder=tmp_path, code=2, parts=[where, "give another HOST:PORT"])
    assert not (tmp_path / "utxoiq.db").exists()


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ("[processors.nosuch]\nenabled = true\n", ["nosuch", "miner"]),
        ("[processors.miner]\nnosuch = 1\n", ["nosuch", "empty_share"]),
        ("[processors.miner]\nconfidence_threshold = 7\n", ["confidence_threshold", "7"]),
        ("[node]\npoll_seconds = 'often'\n", ["utxoiq.toml", "node.poll_seconds", "often"]),
        ("[node\n", ["utxoiq.toml", "line 1"]),
        ("network = 'nosuch'\n", ["network", "regtest"]),
    ],
)
def test_settings_that_make_no_sense(tmp_path: Path, settings: str, parts: list[str]) -> None:
    (tmp_path / "utxoiq.toml").write_text(settings)
    refused(*NODE, "--listen", "off", folder=tmp_path, code=2, parts=parts)


@pytest.mark.parametrize(
    ("arguments", "code", "parts"),
    [
        ((), 2, ["no node", "--node"]),
        (("--node", "nonsense"), 2, ["nonsense", "http"]),
        ((*NODE, "--db", "postgres://x"), 2, ["postgres://x", "sqlite:///FILE"]),
        ((*NODE, "--db", "sqlite:///"), 2, ["sqlite:///FILE"]),
        ((*NODE, "--db", "sqlite:///nowhere/x.db"), 1, ["nowhere/x.db"]),
        ((*NODE, "--db", "sqlite:///other.db"), 1, ["other.db", "not of utxoiq"]),
        ((*NODE, "--db", "sqlite:///text.db"), 1, ["text.db"]),
        ((*NODE, "--config", "nowhere.toml"), 2, ["nowhere.toml"]),
        ((*NODE, "--listen", "nonsense"), 2, ["nonsense"]),
        ((*NODE, "--network", "regtest", "--labels", "nowhere.jsonl"), 3, ["nowhere.jsonl"]),
    ],
    ids=str,
)
def test_arguments_that_make_no_sense(tmp_path: Path, arguments: tuple[str, ...], code: int, parts: list[str]) -> None:
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE t (x)")
        other.commit()
    (tmp_path / "text.db").write_text("no database at all\n" * 100)
    off = () if "--listen" in arguments else ("--listen", "off")
    refused(*arguments, *off, folder=tmp_path, code=code, parts=parts)


# Settings that change


class Live:
    """A run that is there for several tests; each begins with the same settings in force."""

    def __init__(self, node: NodeDouble, folder: Path) -> None:
        self.node, self.relay = node, Relay(node.url)
        self.running = started(node, folder, TALKATIVE, UTXOIQ_NODE__URL=self.relay.url)
        self.file = folder / "utxoiq.toml"
        self.running.until(self.running.is_ready)

    def begin(self) -> None:
        """The settings of the start, and no trouble with the node."""
        self.relay.straight()
        self.write(TALKATIVE)
        self.running.until(self.running.is_ready)
        for _ in range(50):
            if self.kinds(self.mine()) == {"miner"}:
                return
        raise AssertionError(self.running.said)

    def write(self, settings: str, base: str = BASE) -> None:
        """New settings, in the file at once."""
        written = self.file.with_suffix(".new")
        written.write_text(base + settings)
        written.replace(self.file)

    def told(self, event: str, least: int, part: str = "") -> dict[str, Any]:
        """The newest of at least so many settings events of this kind; waits for it."""

        def found() -> Any:
            rows = query(self.running.db, f"SELECT * FROM settings_events WHERE event = '{event}' ORDER BY seq")
            return rows[-1] if len(rows) >= least and part in json.dumps(rows[-1]) else None

        row: dict[str, Any] = self.running.until(found)
        return row

    def count(self, event: str) -> int:
        return int(self.running.value(f"SELECT count(*) FROM settings_events WHERE event = '{event}'"))

    def mine(self) -> str:
        return mined(self.running, self.node)

    def kinds(self, name: str) -> set[str]:
        """What spoke of a block."""
        rows = query(self.running.db, f"SELECT signal_type FROM signals WHERE block_hash = '{name}'")
        return {row["signal_type"] for row in rows}

    def close(self) -> None:
        self.running.kill()
        self.relay.close()


@pytest.fixture(scope="module")
def shared_live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("live")
    with closing(NodeDouble(folder / "node")) as node:
        node.start()
        node.mine(MATURE)
        with closing(Live(node, folder / "run")) as live:
            yield live


@pytest.fixture
def live(shared_live: Live) -> Live:
    shared_live.begin()
    return shared_live


def test_a_processor_is_disabled(live: Live) -> None:
    """It is silent from the next block on; what changed is stored, and told."""
    applied = live.count("applied")
    live.write(SILENT)
    row = live.told("applied", applied + 1)
    assert json.loads(row["changes"]) == [{"name": "processors.miner.enabled", "old": True, "new": False}]
    assert live.kinds(live.mine()) == set()
    assert json.loads(row["settings"])["processors"]["miner"]["enabled"] is False
    live.running.until(lambda: live.running.told("setting processors.miner"))


BROKEN = {
    "[node\n": ["utxoiq.toml", "line"],
    "[processors.miner]\nenabled = 'perhaps'\n": ["utxoiq.toml", "processors.miner.enabled"],
    "[processors.miner]\nnosuch = 3\n": ["nosuch"],
    "[processors.nosuch]\nenabled = true\n": ["nosuch"],
    "[mempool]\ninterval_seconds = -1\n": ["mempool.interval_seconds"],
}


@pytest.mark.parametrize("settings", BROKEN)
def test_a_broken_file(live: Live, settings: str) -> None:
    """The old settings stay, what and where is told and stored, and an error is counted; a good one is taken again."""
    refused, failures = live.count("refused"), live.running.metric("utxoiq_config_reloads_total", "failure")
    live.write(settings, base="")
    row = live.told("refused", refused + 1)
    for part in BROKEN[settings]:
        assert part in row["reason"]
    assert "\n" not in row["reason"]
    live.running.until(lambda: live.running.metric("utxoiq_config_reloads_total", "failure") == failures + 1)
    assert live.kinds(live.mine()) == {"miner"}
    assert live.running.told("the old ones stay")
    assert live.running.is_ready()


def test_a_file_that_is_gone(live: Live) -> None:
    """No file is no settings: the defaults."""
    applied = live.count("applied")
    live.file.unlink()
    live.told("applied", applied + 1)
    live.mine()


def test_labels_that_are_missing(live: Live) -> None:
    """Refused: blocks go on with the old ones."""
    refused = live.count("refused")
    live.write(TALKATIVE, base=f"labels = 'nowhere.jsonl'\n{BASE}")
    row = live.told("refused", refused + 1)
    assert "nowhere.jsonl" in row["reason"]
    assert live.kinds(live.mine()) == {"miner"}
    assert live.running.is_ready()


def test_the_mempool_is_left_alone(live: Live) -> None:
    """Snapshots end when they are switched off, and begin again."""
    snapshots, applied = "SELECT count(*) FROM mempool_snapshots", live.count("applied")
    live.write(TALKATIVE + "[mempool]\nenabled = false\n")
    live.told("applied", applied + 1)
    live.mine()
    time.sleep(0.3)
    before = live.running.value(snapshots)
    live.node.send(5)
    live.mine()
    time.sleep(0.3)
    assert live.running.value(snapshots) == before
    live.write(TALKATIVE)
    live.told("applied", applied + 2)
    live.mine()
    live.running.until(lambda: live.running.value(snapshots) > before)


def test_changes_while_the_node_is_away(live: Live) -> None:
    """Several, one after the other: all of them are in force when it is back."""
    live.relay.target = "http://127.0.0.1:1"
    try:
        live.running.until(lambda: not live.running.is_ready())
        live.write(SILENT)
        time.sleep(0.4)
        live.write(SILENT + "[log]\nlevel = 'DEBUG'\n")
        time.sleep(0.4)
    finally:
        live.relay.target = live.node.url
    live.write(SILENT + "[log]\nlevel = 'WARNING'\n")
    live.running.until(live.running.is_ready)
    assert live.kinds(live.mine()) == set()
    row = live.told("applied", 1, part="WARNING")
    assert json.loads(row["settings"])["log"]["level"] == "WARNING"


def test_the_level_of_the_log(live: Live) -> None:
    """Taken at once."""
    live.write(TALKATIVE + "[log]\nlevel = 'DEBUG'\n")
    live.running.until(lambda: live.mine() and '"level": "debug"' in live.running.said)
    live.begin()
    time.sleep(0.3)
    quiet = len([line for line in live.running.lines if line["level"] == "debug"])
    live.mine()
    assert len([line for line in live.running.lines if line["level"] == "debug"]) == quiet


def test_a_key_that_means_nothing(live: Live) -> None:
    """Warned of, and left out; the rest is taken."""
    applied = live.count("applied")
    live.write(SILENT + "[node2]\nurl = 'x'\n")
    live.running.until(lambda: live.running.told("node2 is no setting"))
    live.told("applied", applied + 1)
    assert live.kinds(live.mine()) == set()


def test_every_line_it_ever_wrote_is_json(live: Live) -> None:
    """Through all that was done to it."""
    assert len(live.running.lines) > 10
    assert "Traceback" not in live.running.said


def test_a_wrong_password_is_corrected(kind: str, make_node: Callable[..., TestNode], tmp_path: Path) -> None:
    """In the file, without a restart; the password is in no log, table or answer."""
    secret, wrong = "correct-horse-battery", "wrong-horse-battery"
    node = make_node(kind, blocks=MATURE, password=secret)
    folder = tmp_path / "run"
    folder.mkdir()
    settings = f"{BASE}url = '{node.url}'\nuser = '{RPC_USER}'\npassword = '%s'\n"
    (folder / "utxoiq.toml").write_text(settings % wrong)
    with Running(folder, listen=True) as running:
        running.until(lambda: "refuses" in str((running.ready() or (0, {}))[1].get("reason")))
        (folder / "utxoiq.toml").write_text(settings % secret)
        running.until(running.is_ready)
        assert running.terminate() == 0
        said = running.said + json.dumps(query(running.db, "SELECT * FROM settings_events"))
    assert secret not in said
    assert wrong not in said
    agrees(running.db, node, MATURE - WINDOW)


@pytest.mark.parametrize("wrong", ["password = 'wrong'\n", "url = 'http://127.0.0.1:1'\n"], ids=["password", "address"])
def test_settings_that_lead_nowhere(double: NodeDouble, tmp_path: Path, wrong: str) -> None:
    """While it is live: it waits and says why; corrected, it goes on. Nothing ends."""
    double.stop()
    double.start(password="correct-horse-battery")
    folder = tmp_path / "run"
    folder.mkdir()
    right = {"url": f"'{double.url}'", "user": f"'{RPC_USER}'", "password": "'correct-horse-battery'"}
    key, _, value = wrong.partition(" = ")

    def write(settings: dict[str, str]) -> None:
        text = BASE + "".join(f"{name} = {value.strip()}\n" for name, value in settings.items())
        (folder / "new").write_text(text)
        (folder / "new").replace(folder / "utxoiq.toml")

    write(right)
    with Running(folder, listen=True) as running:
        running.until(running.is_ready)
        write({**right, key: value})
        running.until(lambda: not running.is_ready())
        double.mine(2)
        write(right)
        running.at(double.rpc("getbestblockhash"))
        running.until(running.is_ready)
        assert running.terminate() == 0
        assert "Traceback" not in running.said
    agrees(running.db, double, MATURE - WINDOW)


def test_sighup_reloads(double: NodeDouble, tmp_path: Path) -> None:
    """A file behind a link, whose change nobody sees: SIGHUP makes it look."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "real.toml").write_text(BASE + TALKATIVE)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "utxoiq.toml").symlink_to(elsewhere / "real.toml")
    cookie = {"UTXOIQ_NODE__COOKIE_FILE": str(double.cookie_file), "UTXOIQ_NODE__URL": double.url}
    with Running(folder, listen=True, **cookie) as running:
        running.until(running.is_ready)
        (elsewhere / "real.toml").write_text(BASE + SILENT)
        running.process.send_signal(signal.SIGHUP)
        running.until(lambda: running.told("setting processors.miner"))
        name = mined(running, double)
        assert query(running.db, f"SELECT 1 FROM signals WHERE block_hash = '{name}'") == []
        running.process.send_signal(signal.SIGHUP)
        mined(running, double)
        assert running.terminate() == 0
    events = query(running.db, "SELECT event, reason FROM settings_events")
    assert [row["event"] for row in events] == ["applied", "applied"]


def test_another_node_by_setting(make_node: Callable[..., TestNode], tmp_path: Path) -> None:
    """The address of another node of the same chain: followed from then on."""
    first, second = make_node("double", blocks=MATURE), make_node("double")
    for height in range(1, MATURE + 1):
        second.rpc("submitblock", first.rpc("getblock", first.rpc("getblockhash", height), 0))
    folder = tmp_path / "run"
    folder.mkdir()
    settings = f"{BASE}url = '%s'\ncookie_file = '%s'\n"
    (folder / "utxoiq.toml").write_text(settings % (first.url, first.cookie_file))
    with Running(folder, listen=True) as running:
        running.until(running.is_ready)
        (folder / "utxoiq.toml").write_text(settings % (second.url, second.cookie_file))
        running.until(lambda: (running.ready() or (0, {}))[1].get("source") == second.url)
        first.stop()
        mined(running, second)
        running.until(running.is_ready)
        assert running.terminate() == 0
    agrees(running.db, second, MATURE - WINDOW)


def test_another_provider_by_setting(double: NodeDouble, tmp_path: Path) -> None:
    """Whoever the settings name writes of the next block; what no key makes possible is refused; where a provider turns
    us away, signals wait until the settings name another."""
    text = {"headline": "Block {height} is empty", "summary": "It holds no payment. Before it, {empty_before} were so.",
            "confidence_explanation": EXPLANATION}  # fmt: skip

    def ai(**settings: Any) -> None:
        lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        (tmp_path / "new").write_text("\n".join([BASE + TALKATIVE + "[ai]", *lines]))
        (tmp_path / "new").replace(tmp_path / "run" / "utxoiq.toml")

    def writers(block_hash: str) -> set[str]:
        of_block = f"signal_id IN (SELECT signal_id FROM signals WHERE block_hash = '{block_hash}')"
        return {row["provider"] for row in query(running.db, f"SELECT provider FROM insights WHERE {of_block}")}

    with AiServer().serve() as server, started(double, tmp_path / "run", TALKATIVE) as running:
        compatible = {"provider": "compatible", "model": "llama", "base_url": server.address("compatible"),
                      "confidence_threshold": 0.0}  # fmt: skip
        server.plays = [Play(json.dumps(text))]
        running.until(running.is_ready)
        assert writers(mined(running, double)) == {"template"}
        ai(provider="openai")
        running.until(lambda: running.told("settings refused"))
        assert writers(mined(running, double)) == {"template"}
        ai(**compatible)
        running.until(lambda: writers(mined(running, double)) != {"template"})
        running.until(lambda: running.value("SELECT count(*) FROM current_signals WHERE NOT processed") == 0)
        server.plays = [Play(status=401)]
        waits = mined(running, double)
        running.until(lambda: running.told("signals wait for narration"))
        assert writers(waits) == set()
        ai(provider="template")
        assert writers(mined(running, double)) <= {"template"}
        running.until(lambda: writers(waits) == {"template"})
        assert running.terminate() == 0
    assert len(server.asked) >= 2
    assert {asked.body["model"] for asked in server.asked} == {"llama"}
    agrees(running.db, double, MATURE - WINDOW)


def test_labels_are_reloaded(double: NodeDouble, tmp_path: Path) -> None:
    """A new edition of the label file is used from the next block on, without a restart; a broken one is refused."""
    folder = tmp_path / "run"
    folder.mkdir()

    def write(*entities: str) -> None:
        label = {"source": "test", "confidence": "high", "as_of": "2026-01-05", "addresses": ["script:51"]}
        rows = [{"id": who, "name": who, "kind": "exchange", "labels": [label]} for who in entities]
        (folder / "new").write_text("\n".join(map(json.dumps, rows)) if entities else "no labels")
        (folder / "new").replace(folder / "labels.jsonl")

    def version(block_hash: str) -> str:
        (row,) = query(running.db, f"SELECT labels_version FROM flows WHERE block_hash = '{block_hash}'")
        return str(row["labels_version"])

    write("first")
    with started(double, folder, UTXOIQ_LABELS=str(folder / "labels.jsonl")) as running:
        running.until(running.is_ready)
        before = version(mined(running, double))
        write("first", "second")
        running.until(lambda: running.told("from the next block on"))
        after = version(mined(running, double))
        assert after != before
        write()
        running.until(lambda: running.told("labels refused"))
        assert version(mined(running, double)) == after
        assert running.terminate() == 0
    agrees(running.db, double, MATURE - WINDOW)
