"""An audit finds what is wrong with a store at its height and calls it by its name; healing mends what can be."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import pytest

from persistence.records import chain, record
from persistence.test_upgrade import make_old
from pipeline.simulated import FORK, STALE, blocks, world
from pipeline.test_backfill import copied, derived, fill, followed, kept, module
from utxoiq.errors import SourceError
from utxoiq.facts.compute import compute_facts
from utxoiq.models import FACTS_VERSION, BlockData
from utxoiq.opening import Opening
from utxoiq.persistence import SqliteStore
from utxoiq.pipeline.audit import ADVICE, MENDABLE, Finding, Problem, compare, heal, look, to_mend
from utxoiq.pipeline.backfill import Heights
from utxoiq.simulation.plan import START_HEIGHT

TURN = START_HEIGHT + FORK
"""The first height that had another block before."""
HEIGHTS = Heights(TURN - 12, TURN + 7)
AT = HEIGHTS.first + 5
Found = list[tuple[int, Problem]]
OF_A_BLOCK = ("forecasts", "flows", "facts", "block_events", "blocks")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of some blocks in which nothing is wrong."""
    path = tmp_path_factory.mktemp("sound") / "store.db"
    fill(path, HEIGHTS)
    return path


@pytest.fixture(scope="module")
def stale() -> list[BlockData]:
    """The blocks that were taken back, upwards."""
    best = {data.block_hash for data in world().source.blocks()}
    found = [data for data in asyncio.run(blocks(world().source)) if data.block_hash not in best]
    assert [data.height for data in found] == list(range(TURN, TURN + STALE))
    return found


async def audited(path: Path, *, against: bool = True, mend: bool = False) -> list[Finding]:
    """What is found, also against the source; `mend`: after what can be mended was."""
    with SqliteStore(path) as store:
        past = module(store)
        if mend:
            findings = await audited(path, against=against)
            ranges: list[int] = []
            blocks = await heal(past, findings, ranges.append)
            mended = to_mend(findings)
            assert ranges == [last - first + 1 for first, last in mended]
            assert blocks <= sum(ranges)
        looked: list[None] = []
        found = list(look(store, lambda: looked.append(None)))
        assert len(looked) == len(set(kept(path)))
        if against:
            heights = store.connected_range()
            assert heights
            found += [one async for one in compare(store, past.read(*heights))]
    return sorted(found, key=lambda one: one.height)


def named(findings: list[Finding]) -> Found:
    return [(one.height, one.problem) for one in findings]


def run(path: Path, *statements: str, **values: Any) -> None:
    """Do by hand what should never happen."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement, {"at": AT, **values})


def of(height: str = ":at") -> str:
    return f"block_hash IN (SELECT block_hash FROM blocks WHERE height = {height})"


def change(name: str, value: str) -> str:
    """The statement that changes the facts at a height."""
    return f"UPDATE facts SET facts = json_set(facts, '$.{name}', {value}) WHERE {of()}"


def connect(path: Path, data: BlockData) -> None:
    """A block with its facts beside the others, as if it were of the best chain."""
    facts = compute_facts(data, world().labels).as_dict()
    run(
        path,
        "INSERT INTO blocks VALUES (:name, :at, :parent, 0, :header, 'by hand', 1, 0)",
        "INSERT INTO block_events (block_hash, event, correlation_id, recorded_at) VALUES (:name, 'connected', '', 0)",
        "INSERT INTO facts (block_hash, digest, facts_version, labels_version, facts, recorded_at) "
        "VALUES (:name, '', 0, '', :facts, 0)",
        at=data.height,
        name=str(data.block_hash),
        parent=str(data.prev_hash),
        header=data.block.raw[:80].tobytes(),
        facts=json.dumps(facts),
    )


PLANTED: dict[str, tuple[tuple[str, ...], Found, Found]] = {
    "a block that was never connected": ((f"DELETE FROM block_events WHERE {of()}",), [(AT, "missing")], []),
    "a block that is not there": (
        (
            f"DELETE FROM signals WHERE {of()}",
            *(f"DELETE FROM {table} WHERE {of()}" for table in OF_A_BLOCK),
        ),
        [(AT, "missing")],
        [],
    ),
    "a gap": (
        tuple(f"DELETE FROM block_events WHERE {of(str(height))}" for height in range(AT, AT + 4)),
        [(height, "missing") for height in range(AT, AT + 4)],
        [],
    ),
    "two gaps": (
        tuple(f"DELETE FROM block_events WHERE {of(str(height))}" for height in (AT, AT + 2, AT + 3)),
        [(AT, "missing"), (AT + 2, "missing"), (AT + 3, "missing")],
        [],
    ),
    "no facts": ((f"DELETE FROM facts WHERE {of()}",), [(AT, "no facts")], []),
    "facts of another height": ((change("height", ":at + 1"),), [(AT, "other facts")], []),
    "facts of another time": ((change("time", "7"),), [(AT, "other facts")], []),
    "another merkle root": (
        (change("merkleroot", f"'{'ab' * 32}'"),),
        [(AT, "other facts")],
        [(AT, "other merkle root")],
    ),
    "another number of transactions": ((change("txs", "7777"),), [], [(AT, "other transactions")]),
    "facts of an earlier version": ((change("facts_version", "2"),), [(AT, "outdated facts")], []),
    "several at once": (
        (f"DELETE FROM facts WHERE {of(':at + 2')}", f"DELETE FROM block_events WHERE {of()}"),
        [(AT, "missing"), (AT + 2, "no facts")],
        [],
    ),
}
"""What is planted -> by which statements, what the store alone shows, and what a source shows beside."""


async def test_a_sound_store(sound: Path, tmp_path: Path) -> None:
    """Nothing is found, also against the source, and healing it does nothing; one that followed the chain through a
    reorg, or is empty, is as sound."""
    assert await audited(sound) == []
    assert await audited(copied(sound, tmp_path), mend=True) == []
    with SqliteStore(tmp_path / "empty.db") as store:
        assert list(look(store)) == []


def test_a_store_that_saw_a_reorg(tmp_path: Path) -> None:
    """Blocks that were taken back are none of the chain."""
    trunk, stale, winning = chain()
    with SqliteStore(tmp_path / "store.db") as store:
        for data in (*trunk, *stale):
            store.connect(record(data))
        for data in reversed(stale):
            store.disconnect(str(data.block_hash), "test")
        for data in winning:
            store.connect(record(data))
        assert list(look(store)) == []


def test_a_store_that_followed(tmp_path: Path) -> None:
    """A monitor's own store has nothing wrong."""
    assert asyncio.run(audited(followed(tmp_path / "store.db", HEIGHTS))) == []


@pytest.mark.parametrize("planted", PLANTED)
async def test_what_is_planted_is_found_and_mended(sound: Path, tmp_path: Path, planted: str) -> None:
    """At its height, by its name, with what to do, and nothing else; the source shows what the store can't. All is
    mended, so that the store is as before, and found no more."""
    statements, alone, beside = PLANTED[planted]
    path = copied(sound, tmp_path)
    run(path, *statements)
    findings = await audited(path, against=False)
    assert named(findings) == alone
    for one in findings:
        assert one.advice == ADVICE[one.problem]
        assert "--heal" in one.advice
        assert one.found
        assert (one.block_hash is None) == (one.problem == "missing")
    assert sorted(named(await audited(path))) == sorted(alone + beside)
    assert await audited(path, mend=True) == []
    assert derived(path) == derived(sound)
    assert kept(path) == kept(sound)


@pytest.mark.parametrize("byte", [0, 20, 50, 79])
async def test_a_broken_header(sound: Path, tmp_path: Path, byte: int) -> None:
    """Whichever byte is another: found, and for a backup to mend; it stays what it is."""
    path = copied(sound, tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        header = bytearray(connection.execute("SELECT header FROM blocks WHERE height = ?", (AT,)).fetchone()[0])
    header[byte] ^= 1
    run(path, "UPDATE blocks SET header = :header WHERE height = :at", header=bytes(header))
    for mend in (False, True):
        findings = await audited(path, mend=mend)
        assert named(findings) == [(AT, "broken header")]
        assert "backup" in findings[0].advice


@pytest.mark.parametrize("number", [0, 1])
async def test_two_blocks_of_a_height(sound: Path, tmp_path: Path, stale: list[BlockData], number: int) -> None:
    """Both are named; neither is taken off by healing, and what is wrong beside it is mended."""
    path, height = copied(sound, tmp_path), TURN
    connect(path, stale[0])
    if number:  # whichever of them comes first in the table
        run(path, "CREATE TABLE kept AS SELECT * FROM blocks WHERE height = :at AND source <> 'by hand'", at=height)
        run(path, "DELETE FROM blocks WHERE height = :at AND source <> 'by hand'", at=height)
        run(path, "INSERT INTO blocks SELECT * FROM kept", "DROP TABLE kept")
    run(path, f"DELETE FROM facts WHERE {of()}")
    findings = await audited(path, against=False)
    assert named(findings) == [(AT, "no facts"), (height, "two blocks")]
    assert str(stale[0].block_hash) in findings[1].found
    left = await audited(path, against=False, mend=True)
    assert named(left) == [(height, "two blocks")]


async def test_a_stale_block(sound: Path, tmp_path: Path, stale: list[BlockData]) -> None:
    """One that the source has otherwise, under a block that does not follow it: `run` takes it off. Healing does
    not, and mends what else is wrong."""
    path = copied(sound, tmp_path)
    run(path, f"DELETE FROM block_events WHERE {of()}", at=TURN)
    connect(path, stale[0])
    run(path, change("txs", "7777"))
    run(path, f"DELETE FROM facts WHERE {of()}", at=TURN)
    assert named(await audited(path, against=False)) == [(TURN, "no facts"), (TURN + 1, "not linked")]
    wanted: Found = [(TURN, "no facts"), (TURN, "stale"), (TURN + 1, "not linked")]
    assert named(await audited(path)) == [(AT, "other transactions"), *wanted]
    left = await audited(path, mend=True)
    assert named(left) == wanted
    assert "`utxoiq run`" in left[1].advice


async def test_a_gap_below_a_stale_block(sound: Path, tmp_path: Path, stale: list[BlockData]) -> None:
    """What the source has for it does not link to what stands above: left out, and still found."""
    path = copied(sound, tmp_path)
    run(path, f"DELETE FROM block_events WHERE {of()} OR {of(':at + 1')}", at=TURN)
    connect(path, stale[1])
    run(path, f"DELETE FROM facts WHERE {of()}", at=TURN + 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("utxoiq.pipeline.audit.log.warning", lambda *_: None)
        left = await audited(path, mend=True)
    assert named(left) == [(TURN, "missing"), (TURN + 1, "stale"), (TURN + 2, "not linked")]


async def test_an_older_store(sound: Path, tmp_path: Path) -> None:
    """Its facts are outdated at every height; healed they are today's, and with them come flows and forecasts. The
    rows of before are still there."""
    path, version = tmp_path / "old.db", 2
    make_old(path, sound, version)
    findings = await audited(path, against=False)
    assert named(findings) == [(height, "outdated facts") for height in range(HEIGHTS.first, HEIGHTS.last + 1)]
    assert {one.found for one in findings} == {f"version {version}, now {FACTS_VERSION}"}
    assert await audited(path, mend=True) == []
    assert derived(path) == derived(sound)
    with closing(sqlite3.connect(path)) as connection:
        versions = connection.execute("SELECT facts_version, count(*) FROM facts GROUP BY 1 ORDER BY 1").fetchall()
    assert versions == [(version, 20), (FACTS_VERSION, 20)]


async def test_a_source_that_ends_before(sound: Path) -> None:
    """A shorter copy can't tell: said, with where it ends."""
    with SqliteStore(sound) as store:
        past = module(store, Opening(str(world(12).folder)))
        with pytest.raises(SourceError, match=f"no block at height {HEIGHTS.first}"):
            [one async for one in compare(store, past.read(*HEIGHTS))]


def test_each_problem_has_its_advice() -> None:
    """And what is called mendable says so."""
    assert set(ADVICE) == set(get_args(Problem))
    assert {problem for problem, text in ADVICE.items() if "--heal d" in text or "fills it in" in text} == MENDABLE


def finding(height: int, problem: Problem) -> Finding:
    return Finding(height, None, problem, "")


@pytest.mark.parametrize(
    ("findings", "ranges"),
    [
        ([], []),
        ([finding(3, "missing"), finding(4, "no facts"), finding(4, "other merkle root")], [(3, 4)]),
        ([finding(5, "missing"), finding(3, "outdated facts")], [(3, 3), (5, 5)]),
        ([finding(3, "stale"), finding(4, "missing"), finding(5, "broken header"), finding(5, "no facts")], [(4, 4)]),
        ([finding(3, "two blocks"), finding(3, "no facts"), finding(4, "not linked")], []),
    ],
)
def test_ranges_to_mend(findings: list[Finding], ranges: list[tuple[int, int]]) -> None:
    """Neighbours together, each height once, none that can't be mended."""
    assert to_mend(findings) == ranges
