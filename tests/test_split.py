"""`watch`, `narrate` and `serve` as processes of their own over one store: nothing lost or twice, whoever dies."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import pytest

from helpers.node.double import NodeDouble
from helpers.running import HUNG, Running
from helpers.web import get
from pipeline.live import agrees, events, sound
from pipeline.simulated import query
from pipeline.test_live_kill import TALKATIVE
from sources.node import conftest as nodes
from utxoiq.persistence import SqliteStore
from utxoiq.persistence.leases import holder_name
from utxoiq.web.health import health_app, listen_at, serve

make_node, double = nodes.make_node, nodes.double
MATURE = nodes.MATURE
FIRST = MATURE - 5
BASE = f"[live]\nfrom_height = {FIRST}\n\n[node]\npoll_seconds = 0.2\n" + TALKATIVE
QUICK = {"utxoiq.pipeline.leading.RENEW_SECONDS": 0.2, "utxoiq.web.overview.LOOK_SECONDS": 0.2}
HELD = "SELECT count(*) FROM leases WHERE name LIKE 'narrate/%'"
WAITING = "SELECT count(*) FROM current_signals WHERE NOT processed"


class Split:
    """Processes over one store, and the node that one of them follows."""

    def __init__(self, node: NodeDouble, folder: Path) -> None:
        self.node, self.folder, self.db = node, folder, folder / "store.db"
        folder.mkdir()
        (folder / "utxoiq.toml").write_text(BASE)
        self._running = ExitStack()

    def __enter__(self) -> Split:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def start(self, command: str, **options: Any) -> Running:
        """A process that runs until the end, or is killed; only a watch is told of the node."""
        following = {"UTXOIQ_NODE__COOKIE_FILE": str(self.node.cookie_file), "UTXOIQ_NODE__URL": self.node.url}
        variables = following if command in ("watch", "run") else {}
        return self._running.enter_context(Running(self.folder, command=command, **{**variables, **options}))

    def at_tip(self, running: Running) -> None:
        """Wait until the store is where the node is."""
        running.at(self.node.rpc("getbestblockhash"))

    def narrated(self, running: Running) -> None:
        """Wait until no signal waits for words."""
        running.until(lambda: running.value(WAITING) == 0, every=0.05)

    def mine(self, blocks: int, pause: float = 0.0) -> list[str]:
        made = []
        for n in range(blocks):
            made += self.node.mine(1, spends=n % 4)
            time.sleep(pause)
        return made

    def reorg(self, depth: int) -> list[str]:
        """Another branch overtakes the last blocks: those that are stale now."""
        height = self.node.rpc("getblockcount")
        stale = [self.node.rpc("getblockhash", height - n) for n in range(depth)]
        self.node.side_branch(self.node.rpc("getblockhash", height - depth), depth + 1, spends=2)
        return stale


@pytest.fixture
def split(double: NodeDouble, tmp_path: Path) -> Iterator[Split]:
    """Of a node with 110 blocks."""
    with Split(double, tmp_path / "run") as made:
        yield made


def once(path: Path) -> int:
    """Every signal that holds has one insight that holds, no signal has two, and no word was refused: how many."""
    counts = query(
        path,
        "SELECT s.signal_id, count(i.insight_id) AS n, sum(e.retracted_at IS NULL) AS held FROM current_signals s "
        "LEFT JOIN insights i USING (signal_id) LEFT JOIN insight_state e USING (insight_id) GROUP BY s.signal_id",
    )
    assert {(row["n"], row["held"]) for row in counts} == {(1, 1)}
    assert query(path, "SELECT signal_id FROM insights GROUP BY signal_id HAVING count(*) > 1") == []
    held = query(path, "SELECT signal_id FROM current_insights")
    assert {row["signal_id"] for row in held} == {row["signal_id"] for row in counts}
    assert query(path, "SELECT * FROM narration_events") == []
    return len(counts)


def clean(*several: Running) -> None:
    """Each ends when it is asked, cleanly or while it was still starting, and none of them failed."""
    for running in several:
        assert running.terminate() in (0, -signal.SIGTERM), running.said
        assert "Traceback" not in running.said


# Narrated once


def test_one_watches_and_two_narrate(split: Split) -> None:
    """While blocks come and a reorg takes some back, each signal is narrated once, and the chain is the node's."""
    watch = split.start("watch")
    narrators = [split.start("narrate") for _ in range(2)]
    split.mine(12, pause=0.05)
    split.at_tip(watch)
    stale = split.reorg(3)
    split.mine(10, pause=0.02)
    for depth in (1, 4):
        stale += split.reorg(depth)
    split.mine(3)
    split.at_tip(watch)
    for narrator in narrators:
        split.narrated(narrator)
    clean(*narrators, watch)
    agrees(split.db, split.node, FIRST)
    assert once(split.db) > 20
    gone = {name for event, name in events(split.db) if event == "disconnected"}
    assert set(stale[:3]) <= gone <= set(stale)
    told = {narrator: narrator.said.count("insight: ") for narrator in narrators}
    assert sum(told.values()) >= len(query(split.db, "SELECT * FROM insights"))
    assert not watch.told("insight: ")


def test_words_for_what_was_committed_before(split: Split) -> None:
    """Signals wait as long as nobody narrates, and nothing is in a watch's way; then they are narrated in order."""
    watch = split.start("watch")
    split.mine(5)
    split.at_tip(watch)
    waited = watch.value(WAITING)
    assert waited > 5
    assert watch.value("SELECT count(*) FROM insights") == 0
    narrator = split.start("narrate")
    split.narrated(narrator)
    clean(watch, narrator)
    assert once(split.db) == waited
    heights = query(split.db, "SELECT s.block_height AS height FROM insights i JOIN signals s USING (signal_id) "
                              "ORDER BY i.rowid")  # fmt: skip
    assert [row["height"] for row in heights] == sorted(row["height"] for row in heights)


def test_a_run_with_others_beside_it(split: Split) -> None:
    """`run` is all of them in one: a watch stands by, a narrator finds what is left to it, each signal is told once."""
    run = split.start("run")
    split.at_tip(run)
    watch, narrator = split.start("watch"), split.start("narrate")
    split.mine(6, pause=0.05)
    split.reorg(2)
    split.at_tip(run)
    split.narrated(narrator)
    assert not watch.told("live at height")
    clean(watch, narrator, run)
    agrees(split.db, split.node, FIRST)
    assert once(split.db) > 5


def test_narrators_killed_in_the_middle(split: Split) -> None:
    """At any moment, one of them with a group in hand: what it left is another's at once, and nothing is told twice."""
    watch = split.start("watch")
    split.mine(40)
    split.at_tip(watch)
    random, left = Random(3), 0
    for _ in range(40):
        narrator = split.start("narrate")
        end = time.monotonic() + random.uniform(0.1, 0.8)
        narrator.until(lambda end=end: time.monotonic() > end or watch.value(HELD), every=0.0)
        narrator.kill()
        left = watch.value(HELD)
        if left:
            break
        split.mine(2)
    assert left, "none was killed in the middle"
    survivors = [split.start("narrate") for _ in range(2)]
    split.mine(3)
    split.at_tip(watch)
    for survivor in survivors:
        split.narrated(survivor)
    clean(*survivors, watch)
    agrees(split.db, split.node, FIRST)
    assert once(split.db) > 30


# One watches


def standing_by(running: Running) -> bool:
    """Whether it says so."""
    status, said = running.ready() or (0, {})
    return status == 503 and "standing by" in (said["reason"] or "") and not said["ready"]


def test_a_second_watch_takes_over(split: Split) -> None:
    """It stands by, and says so; the first is killed, and it goes on without waiting for the lease; no block is lost or
    twice."""
    first = split.start("watch", listen=True)
    first.until(first.is_ready)
    second = split.start("watch", listen=True)
    second.until(lambda: standing_by(second))
    split.mine(3)
    split.at_tip(first)
    split.mine(2)
    first.kill()
    expires(split.db, f"expires_at + 3600 WHERE holder LIKE '%/{first.process.pid}/%'")
    split.mine(2)
    split.at_tip(second)
    second.until(second.is_ready)
    split.reorg(2)
    split.at_tip(second)
    clean(second)
    agrees(split.db, split.node, FIRST)
    assert second.told("standing by")
    assert not first.told("standing by")


def test_watches_killed_again_and_again(split: Split) -> None:
    """Two at any time, whichever holds the lease is killed or ends, while blocks come and go: the store is sound."""
    watches = [split.start("watch"), split.start("watch")]
    random = Random(7)
    for n in range(4):
        holder = watches[0].until(lambda: holder_of(watches))
        split.mine(random.randrange(1, 4))
        if n % 2:
            split.reorg(2)
        time.sleep(random.uniform(0, 0.3))
        holder.terminate() if n == 2 else holder.kill()
        watches.remove(holder)
        watches.append(split.start("watch"))
    split.at_tip(watches[-1])
    narrator = split.start("narrate")
    split.narrated(narrator)
    clean(*watches, narrator)
    agrees(split.db, split.node, FIRST)
    once(split.db)


def holder_of(watches: list[Running]) -> Running | None:
    """Which of them holds the lease."""
    name = watches[0].value("SELECT holder FROM leases WHERE name = 'watch'") or ""
    return next((one for one in watches if f"/{one.process.pid}/" in name), None)


def expires(path: Path, when: str) -> None:
    """Let the lease of who watches run out at another time."""
    with closing(sqlite3.connect(path, timeout=HUNG)) as db, db:
        db.execute(f"UPDATE leases SET expires_at = {when}")


def freeze(running: Running) -> None:
    """Stop it where it stands, but not in the middle of a write: then nobody else could write either."""
    for _ in range(100):
        running.process.send_signal(signal.SIGSTOP)
        db = sqlite3.connect(running.db, timeout=1, isolation_level=None)
        with closing(db), suppress(sqlite3.OperationalError):
            db.execute("BEGIN IMMEDIATE")
            db.execute("ROLLBACK")
            return
        running.process.send_signal(signal.SIGCONT)
        time.sleep(0.05)
    raise AssertionError("always in the middle of a write")


def test_a_watch_that_slept_writes_nothing_more(split: Split) -> None:
    """Frozen until another overtook it, it wakes up and finds a block: it is refused, says that it stands by, and
    writes again only when it holds the lease again."""
    first = split.start("watch", listen=True)
    first.until(first.is_ready)
    second = split.start("watch")
    second.until(lambda: second.told("standing by"))
    freeze(first)
    expires(split.db, "0")
    split.mine(3)
    split.at_tip(second)
    assert holder_of([first, second]) is second
    freeze(second)
    expires(split.db, "expires_at + 3600")
    before = events(split.db)
    split.mine(1)
    first.process.send_signal(signal.SIGCONT)
    first.until(lambda: first.told("another process took over"))
    first.until(lambda: standing_by(first))
    split.reorg(1)
    time.sleep(0.5)
    assert events(split.db) == before
    assert holder_of([first, second]) is second
    second.process.send_signal(signal.SIGCONT)
    split.at_tip(second)
    assert standing_by(first)
    second.kill()
    split.mine(2)
    split.at_tip(first)
    first.until(first.is_ready)
    clean(first)
    agrees(split.db, split.node, FIRST)


def test_a_watch_that_does_not_know_that_it_was_overtaken(split: Split) -> None:
    """It finds a block before it asks after its lease: the store itself refuses it, and says why."""
    watch = split.start("watch", constants={"utxoiq.pipeline.leading.RENEW_SECONDS": 3600.0})
    split.at_tip(watch)
    watch.until(lambda: watch.told("live at height"))
    expires(split.db, "0")
    with SqliteStore(split.db) as store:
        watch.until(lambda: store.leases.acquire("watch", holder_name(), 600))
        before = events(split.db)
        split.mine(1)
        watch.until(lambda: watch.told("another process took over"))
        split.reorg(1)
        time.sleep(0.5)
        assert events(split.db) == before
    clean(watch)
    sound(split.db)


# What is served


def test_serve_tells_of_the_others(split: Split) -> None:
    """Not ready, with the reason, while nobody watches or the watch waits; ready with heights while one is at the tip;
    and gauges of it all."""
    server = split.start("serve", listen=True, constants=QUICK)
    status, said = server.until(server.ready)
    assert (status, said["ready"], said["store_height"], said["watch"]) == (503, False, None, None)
    assert "nobody watches" in said["reason"]
    assert server.get("/healthz") == (200, '{"status":"ok"}')

    watch = split.start("watch", constants=QUICK)
    server.until(server.is_ready)
    split.mine(2)
    tip = MATURE + 2

    def at_tip() -> bool:
        said: dict[str, Any] = (server.ready() or (0, {}))[1]
        return (said["store_height"], (said["watch"] or {}).get("source_height")) == (tip, tip)

    server.until(at_tip)
    status, said = server.ready() or (0, {})
    assert (status, said["ready"], said["reason"]) == (200, True, None)
    assert (said["watch"]["state"], said["watch"]["source"]) == ("live", split.node.url)
    assert f"/{watch.process.pid}/" in said["work"]["watch"]
    assert (said["outbox_rows"], said["outbox_seconds"]) == (0, 0.0)
    for name, value in {"store_height": tip, "source_height": tip, "node_ready": 1, "outbox_rows": 0}.items():
        server.until(lambda name=name, value=value: server.metric(f"utxoiq_{name}") == value)

    split.node.stop()
    server.until(lambda: not server.is_ready())
    assert split.node.url in (server.ready() or (0, {}))[1]["reason"]
    server.until(lambda: server.metric("utxoiq_node_ready") == 0)
    split.node.start()
    server.until(server.is_ready)

    watch.kill()
    server.until(lambda: not server.is_ready())
    status, said = server.ready() or (0, {})
    assert (status, said["watch"], said["store_height"]) == (503, None, tip)
    assert "nobody watches" in said["reason"]
    clean(server)
    sound(split.db)


def test_a_narrator_serves_its_own_health(split: Split) -> None:
    """Ready while it can read the store, whether somebody watches or not."""
    narrator = split.start("narrate", listen=True)
    narrator.until(narrator.is_ready)
    assert narrator.get("/healthz")[0] == 200
    assert "utxoiq_" in narrator.get("/metrics")[1]
    clean(narrator)


async def test_health_answers_while_the_store_can_not_be_read() -> None:
    """What waits for the store is the question after it alone."""
    asked, may_answer = Event(), Event()

    def status() -> dict[str, Any]:
        asked.set()
        may_answer.wait(HUNG)
        return {"ready": True}

    with closing(listen_at("127.0.0.1:0")) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        task = asyncio.create_task(serve(health_app(status, lambda: (b"", "text/plain")), listening))
        ready = asyncio.create_task(asyncio.to_thread(get, url + "/readyz"))
        assert await asyncio.to_thread(asked.wait, HUNG)
        assert (await asyncio.to_thread(get, url + "/healthz")).status == 200
        assert not ready.done()
        may_answer.set()
        assert (await ready).status == 200
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
