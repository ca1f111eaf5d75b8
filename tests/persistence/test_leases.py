"""Leases: one holder at a time, overtaken when it stalls or is gone, and fenced off from then on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from helpers.process import python, said
from persistence.records import chain, insight, record, rows, run, signal, told
from persistence.test_live_tables import snapshot
from utxoiq.errors import LeaseLost
from utxoiq.persistence import SqliteStore, narration
from utxoiq.persistence.leases import Lease, holder_name, is_gone

LONG, SHORT = 600.0, 0.02
"""Seconds that nobody waits for, and seconds that are soon over."""
ELSEWHERE = "another-machine:1/1/1/00000000"
HOLD = """
import sys
from pathlib import Path
from utxoiq.persistence import SqliteStore
from utxoiq.persistence.leases import holder_name

store, holder = SqliteStore(Path(sys.argv[1])), holder_name()
lease = store.leases.acquire("work", holder, float(sys.argv[2]))
store.database.fence = lambda: store.leases.check(lease)
print(holder, flush=True)
"""
"""A process that takes the lease and tells its name."""


def taken(store: SqliteStore, holder: str = "me", seconds: float = LONG, name: str = "work") -> Lease:
    """The lease, which is there for the taking."""
    lease = store.leases.acquire(name, holder, seconds)
    assert lease is not None
    return lease


def fenced(store: SqliteStore, lease: Lease) -> None:
    """All that this store writes from now on is written under the lease."""
    store.database.fence = lambda: store.leases.check(lease)


def ran_out(store: SqliteStore, holder: str = "stalled") -> Lease:
    """A lease of somebody who does not renew it, after its time."""
    lease = taken(store, holder, SHORT)
    time.sleep(2 * SHORT)
    return lease


@contextmanager
def holding(path: Path, seconds: float = LONG, then: str = "input()") -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A process of its own that holds the lease, with its name; it does `then` until it is told or killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD + then, str(path), str(seconds)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


# One at a time


def test_it_is_taken_and_let_go(store: SqliteStore) -> None:
    """Whoever asks first has it, until it is released; then the next."""
    lease = taken(store, "first")
    assert (lease.name, lease.holder) == ("work", "first")
    store.leases.check(lease)
    assert store.leases.acquire("work", "second", LONG) is None
    store.leases.check(lease)
    store.leases.release(lease)
    assert taken(store, "second").holder == "second"


def test_each_work_has_its_own(store: SqliteStore) -> None:
    """Leases of other names are in nobody's way."""
    one, other = taken(store, "first", name="watch"), taken(store, "second", name="ship")
    store.leases.check(one)
    store.leases.check(other)
    store.leases.release(one)
    store.leases.check(other)


def test_it_runs_out(store: SqliteStore) -> None:
    """After its seconds another may take it, and the holder before has lost it."""
    lease = ran_out(store)
    taken(store, "next")
    with pytest.raises(LeaseLost, match="work: another process took over from stalled"):
        store.leases.check(lease)
    with pytest.raises(LeaseLost):
        store.leases.renew(lease, LONG)


def test_one_that_ran_out_is_still_held_while_nobody_took_it(store: SqliteStore) -> None:
    """A holder that was late goes on where it can: no time is lost by a pause alone."""
    lease = ran_out(store)
    store.leases.check(lease)
    store.leases.renew(lease, LONG)
    assert store.leases.acquire("work", "other", LONG) is None


def test_it_is_renewed(store: SqliteStore) -> None:
    """Again and again, for so many seconds each time."""
    lease = taken(store, "me", SHORT)
    store.leases.renew(lease, LONG)
    time.sleep(2 * SHORT)
    assert store.leases.acquire("work", "other", LONG) is None
    store.leases.check(lease)


def test_release_is_only_of_ones_own(store: SqliteStore) -> None:
    """Who was overtaken takes nothing from the next, and may let go twice."""
    lost = ran_out(store)
    held = taken(store, "next")
    store.leases.release(lost)
    store.leases.check(held)
    for _ in range(2):
        store.leases.release(held)
    with pytest.raises(LeaseLost):
        store.leases.check(held)


def test_the_holder_may_ask_again(store: SqliteStore) -> None:
    """It gets a new token, and what it had before is void: its own earlier work is fenced off too."""
    first = taken(store, "me")
    second = taken(store, "me")
    assert second.token > first.token
    with pytest.raises(LeaseLost):
        store.leases.check(first)
    store.leases.check(second)


def test_tokens_grow_and_never_repeat(path: Path) -> None:
    """Whoever takes a lease after whomever, of any name: after a release, after it ran out, in a file opened again, and
    where none is left."""
    tokens = []
    for _ in range(3):
        with SqliteStore(path) as store:
            released = taken(store, "first")
            store.leases.release(released)
            tokens += [released.token, ran_out(store).token, taken(store, "next").token]
            other = taken(store, "other", name="other work")
            tokens.append(other.token)
            store.leases.release(other)
        run(path, "DELETE FROM leases")
    assert tokens == sorted(set(tokens))
    assert len(tokens) == 3 * 4


def test_what_is_held_can_be_read(store: SqliteStore) -> None:
    """Name, holder, token, until when, and what the holder says of itself; none that ran out or was released."""
    assert store.leases.held() == []
    ran_out(store)
    released = taken(store, name="released")
    store.leases.release(released)
    before = time.time()
    watch, ship = taken(store, "a", name="watch"), taken(store, "b", name="ship")
    store.leases.renew(watch, LONG, {"state": "live", "store_height": 7, "reason": None})
    first, second = store.leases.held()
    assert [(row["name"], row["holder"], row["token"], row["state"]) for row in (first, second)] == [
        ("ship", "b", ship.token, {}),
        ("watch", "a", watch.token, {"state": "live", "store_height": 7, "reason": None}),
    ]
    assert all(before + LONG <= row["expires_at"] <= time.time() + LONG for row in (first, second))


# Holders that are gone


def test_a_process_that_ended_is_overtaken_at_once(store: SqliteStore, path: Path) -> None:
    """However long its lease still runs, nobody waits for it, nor is it said to hold it."""
    process = python("-c", HOLD, str(path), str(LONG))
    assert process.returncode == 0, said(process)
    assert process.stdout.strip() != holder_name()
    assert store.leases.held() == []
    taken(store, "next")


def test_a_process_that_runs_is_not_overtaken(store: SqliteStore, path: Path) -> None:
    """Killed, it is, even before its parent has asked how it ended."""
    with holding(path) as (holder, process):
        assert store.leases.acquire("work", "next", LONG) is None
        assert [row["holder"] for row in store.leases.held()] == [holder]
        assert not is_gone(holder)
        process.kill()
        end = time.monotonic() + 60
        while not is_gone(holder):
            assert time.monotonic() < end
            time.sleep(0.01)
        taken(store, "next")


@pytest.mark.parametrize("holder", [ELSEWHERE, "somebody", "", "a/b", "a/b/c", "a/b/c/d/e"])
def test_who_can_not_be_told_is_waited_for(store: SqliteStore, holder: str) -> None:
    """A holder on another machine, or of a name that tells nothing, may be alive as long as its lease runs."""
    taken(store, holder)
    assert not is_gone(holder)
    assert store.leases.acquire("work", "next", LONG) is None
    assert [row["holder"] for row in store.leases.held()] == [holder]


def test_who_is_gone_is_told_by_machine_number_and_start() -> None:
    """We are here; another of our number, started at another time, is not; on another machine it may be."""
    machine, number, started, mine = holder_name().rsplit("/", 3)
    assert not is_gone(f"{machine}/{number}/{started}/{mine}")
    assert is_gone(f"{machine}/{number}/{int(started) - 1}/{mine}")
    assert not is_gone(f"{machine}-2/{number}/{int(started) - 1}/{mine}")
    assert not is_gone(f"{machine}/{number}//{mine}"), "where no start can be told, none is compared"
    assert len({holder_name() for _ in range(9)}) == 9


# Fences


def _restated(store: SqliteStore) -> Any:
    other = record(chain().trunk[1], labels_version="other").facts
    return store.restate([(other, None)])


def _narrated(store: SqliteStore) -> Any:
    held = taken(store, "a narrator", name="narrate/x")
    try:
        return narration.narrated(store, held, [insight(signal(chain().trunk[1], 7))], [], "run")
    finally:
        store.leases.release(held)


WRITES: dict[str, Callable[[SqliteStore], Any]] = {
    "connect": lambda store: store.connect(told(chain().trunk[2], 1)),
    "connect an island": lambda store: store.connect(told(chain().trunk[5], 1, island=True)),
    "disconnect": lambda store: store.disconnect(str(chain().trunk[1].block_hash), "run"),
    "persist_signals": lambda store: store.persist_signals([signal(chain().trunk[0], "new")], "run"),
    "supersede": lambda store: store.supersede(
        signal(chain().trunk[1], 7).signal_id, signal(chain().trunk[1], 8), [], "a test", "run"
    ),
    "restate": _restated,
    "add_snapshot": lambda store: store.add_snapshot(snapshot(taken_at=5)),
    "forget_snapshots": lambda store: store.forget_snapshots(1 << 40),
    "add_settings": lambda store: store.add_settings("applied", {}, [], "start"),
    "narrated": _narrated,
    "open": lambda store: store.outbox.open("elsewhere"),
    "reopen": lambda store: store.outbox.reopen("elsewhere"),
}
EVERYTHING = (
    "meta", "cursor", "blocks", "block_events", "facts", "flows", "forecasts", "signals", "signal_events", "insights",
    "insight_events", "narration_events", "mempool_snapshots", "block_snapshots", "settings_events", "outbox",
    "shipping",
)  # fmt: skip


@pytest.fixture
def written(store: SqliteStore) -> SqliteStore:
    """Two blocks, a signal nobody narrated, a mempool."""
    store.connect(told(chain().trunk[0], 1))
    store.connect(record(chain().trunk[1], [signal(chain().trunk[1], 7)]))
    store.add_snapshot(snapshot())
    return store


@pytest.mark.parametrize("name", WRITES)
def test_a_lost_lease_refuses_every_write(written: SqliteStore, path: Path, name: str) -> None:
    """And leaves nothing; reading goes on. Held again, the same call writes."""
    fenced(written, ran_out(written))
    with SqliteStore(path) as other:
        now = taken(other, "next")
        before = rows(path, EVERYTHING)
        with pytest.raises(LeaseLost):
            WRITES[name](written)
        assert rows(path, EVERYTHING) == before
        assert written.cursor() is not None
        fenced(other, now)
        WRITES[name](other)
        assert rows(path, EVERYTHING) != before


def test_shipping_is_fenced(written: SqliteStore, path: Path) -> None:
    """Neither begun nor told to have arrived by who was overtaken."""
    written.outbox.open("a warehouse")
    fenced(written, ran_out(written))
    with SqliteStore(path) as other:
        taken(other, "next")
        parcels = other.outbox.parcels(99)
        before = rows(path, EVERYTHING)
        with pytest.raises(LeaseLost):
            written.outbox.begin("blocks", "a stream", 0)
        for parcel in parcels:
            with pytest.raises(LeaseLost):
                written.outbox.arrived(parcel, "a stream", 9)
        assert rows(path, EVERYTHING) == before
        other.outbox.arrived(parcels[0], "a stream", 9)
        with pytest.raises(LeaseLost):
            written.outbox.reopen("a warehouse")


def test_a_fence_holds_to_the_end_of_the_transaction(written: SqliteStore, path: Path) -> None:
    """Nobody takes the lease between the check and the commit: who asks waits."""
    from threading import Thread

    lease = ran_out(written)
    fenced(written, lease)
    order: list[str] = []

    def overtake() -> None:
        with SqliteStore(path) as other:
            taken(other, "next")
            order.append("overtaken")

    thread = Thread(target=overtake)
    with written.database.transaction():
        thread.start()
        thread.join(0.2)
        written.database.insert("meta", {"key": "test", "value": "written"})
        order.append("written")
    thread.join()
    assert order == ["written", "overtaken"]
    with pytest.raises(LeaseLost):
        written.add_snapshot(snapshot(taken_at=7))


def test_who_wakes_up_after_it_was_overtaken_writes_nothing(store: SqliteStore, path: Path) -> None:
    """A process that stalled in the middle of its work, with all in hand: the block of the next stays alone."""
    store.connect(record(chain().trunk[0]))
    then = """
from persistence.records import chain, told
from utxoiq.errors import LeaseLost
made = told(chain().trunk[1], "late", correlation_id="late")
print("ready", flush=True)
input()
for write in (lambda: store.connect(made), lambda: store.leases.renew(lease, 600)):
    try:
        write()
    except LeaseLost as error:
        print(error, flush=True)
"""
    path_of_tests = str(Path(__file__).parents[1])
    with holding(path, SHORT, f"sys.path.insert(0, {path_of_tests!r})\n{then}") as (holder, process):
        assert process.stdout
        assert process.stdin
        assert process.stdout.readline() == "ready\n"
        lease = taken(store, "next")
        fenced(store, lease)
        process.stdin.write("\n")
        process.stdin.flush()
        refused = [process.stdout.readline() for _ in range(2)]
        assert process.wait(60) == 0
    assert refused == [f"work: another process took over from {holder}\n"] * 2
    store.connect(told(chain().trunk[1], "in time"))
    assert run(path, "SELECT DISTINCT correlation_id FROM block_events") == [("run",)]
    assert len(rows(path)["signals"]) == 1


RACE = """
import os, sys, time
from pathlib import Path
from utxoiq.persistence import SqliteStore
from utxoiq.persistence.leases import holder_name

path, inside, holder, tokens = Path(sys.argv[1]), sys.argv[2], holder_name(), []
with SqliteStore(path) as store:
    while len(tokens) < int(sys.argv[3]):
        lease = store.leases.acquire("work", holder, 600)
        if lease is None:
            time.sleep(0.001)
            continue
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails while another is inside
        time.sleep(0.002)
        store.leases.check(lease)
        os.unlink(inside)
        tokens.append(lease.token)
        store.leases.release(lease)
print(tokens)
"""


def test_many_race_for_one(path: Path, tmp_path: Path) -> None:
    """From a store that none of them finds made: each gets it in the end, never two at a time, no token twice."""
    times, command = 15, [sys.executable, "-c", RACE, str(path), str(tmp_path / "inside")]
    racers = [
        subprocess.Popen([*command, str(times)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    ended = [(*racer.communicate(timeout=60), racer.returncode) for racer in racers]
    assert [code for _, _, code in ended] == [0] * 4, ended
    tokens = [json.loads(out) for out, _, _ in ended]
    assert all(one == sorted(one) for one in tokens)
    assert sorted(token for one in tokens for token in one) == list(range(1, 4 * times + 1))
