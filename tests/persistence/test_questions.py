"""Each question says what counting by hand in the stored rows says, also where much is unknown or was taken back."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from helpers.economy import REGTEST, economy_labels, unpack_blocks
from persistence.recount import Kinds, answers, handmade_store, simulated_store
from pipeline.simulated import dump
from utxoiq.errors import ConfigError, StoreUnavailable
from utxoiq.persistence import SqliteStore
from utxoiq.persistence.questions import BASE, answer, newest_day, question, questions
from utxoiq.pipeline.scan import scan
from utxoiq.sources.open import open_source

ALWAYS = date(2009, 1, 3), date(2100, 1, 1)
PAGE = (Path(__file__).parents[2] / "docs" / "sql.md").read_text("utf-8")
NAMES = [one.name for one in questions()]
MAKERS: dict[str, Callable[[Path], Kinds]] = {"simulated": simulated_store, "by hand": handmade_store}


class Asked:
    """A store with the labelled entities, and what counting by hand gives."""

    def __init__(self, path: Path, make: Callable[[Path], Kinds]) -> None:
        self.path = path
        self.kinds = make(path)
        self.expected = answers(path, self.kinds)

    @property
    def entities(self) -> list[tuple[str, str, str]]:
        return [(who, *told) for who, told in self.kinds.items()]

    def ask(self, name: str, first: date = ALWAYS[0], last: date = ALWAYS[1]) -> list[dict[str, Any]]:
        with SqliteStore(self.path) as store:
            return answer(store, name, first, last, self.entities)


@pytest.fixture(scope="module", params=MAKERS)
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """The simulated chain as scanned, or twelve blocks made by hand."""
    return Asked(tmp_path_factory.mktemp("asked") / "store.db", MAKERS[request.param])


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    return Asked(tmp_path_factory.mktemp("by-hand") / "store.db", handmade_store)


def test_there_are_ten() -> None:
    """Each with a sentence, and with a column `day` to filter by."""
    assert len(NAMES) == 10
    for one in questions():
        assert one.says.endswith(".")
        assert re.match(r"[A-Z].{40}", one.says)
        assert "@" not in one.sql


@pytest.mark.parametrize("name", NAMES)
def test_the_answer_is_what_a_recount_gives(asked: Asked, name: str) -> None:
    assert asked.ask(name) == asked.expected[name]


def test_a_recorded_economy_is_answered_as_it_is_counted(tmp_path: Path, shared: Path) -> None:
    """Blocks of Bitcoin Core with exchanges, pools and treasuries; one of its lines is in the documentation."""
    labels = economy_labels()

    def make(path: Path) -> Kinds:
        with SqliteStore(path) as store:
            asyncio.run(scan(open_source(unpack_blocks(tmp_path / "core"), REGTEST.name), store, labels=labels))
        return {entity.id: (entity.kind, entity.name) for entity in labels.entities.values()}

    asked = Asked(tmp_path / "store.db", make)
    assert {name: asked.ask(name) for name in NAMES} == asked.expected
    (line,) = re.findall(r"### treasury_changes\n.*?```json\n(.*?)\n```", PAGE, re.DOTALL)
    assert json.loads(line) in [{**row, "network": "regtest"} for row in asked.ask("treasury_changes")]


@pytest.mark.parametrize("name", NAMES)
def test_a_span_of_days_answers_like_all_days_cut_to_it(by_hand: Asked, name: str) -> None:
    """Though only blocks of those days are read."""
    days = sorted({row["day"] for row in by_hand.expected["block_fullness_by_day"]})
    assert len(days) == 3
    middle = date.fromisoformat(days[1])
    expected = [row for row in by_hand.expected[name] if row["day"] == days[1]]
    assert expected
    assert by_hand.ask(name, middle, middle) == expected


@pytest.mark.parametrize("name", NAMES)
def test_every_question_has_something_to_say(by_hand: Asked, name: str) -> None:
    """So that equal answers mean something: several days, and blocks of which something is unknown."""
    rows = by_hand.ask(name)
    assert len({row["day"] for row in rows}) > 1
    if "known" in rows[0]:
        counted = "cases" if "cases" in rows[0] else "blocks"
        assert any(row["known"] < row[counted] for row in rows)


def test_unknown_is_not_zero(store: SqliteStore, path: Path) -> None:
    """Days of which no block's flows are known have neither nets nor shares."""
    handmade_store(path)
    store.database.query("DELETE FROM flows")
    together = answer(store, "exchange_net_flow_by_day", *ALWAYS)
    coverage = answer(store, "label_coverage_by_day", *ALWAYS)
    told = [list(row.values())[1:7] for row in together]
    assert told == [["all_exchanges", "All labelled exchanges", None, None, None, None]] * 3
    assert [row["known"] for row in together] == [0, 0, 0]
    assert [(row["value_in_sat"], row["labelled_in_share"]) for row in coverage] == [(None, None)] * 3


def test_nothing_is_left_behind_in_the_store(by_hand: Asked) -> None:
    before = dump(by_hand.path)
    for name in NAMES:
        by_hand.ask(name)
    assert dump(by_hand.path) == before


def test_whoever_asks_does_not_wait_for_whoever_writes(by_hand: Asked) -> None:
    """Another process' transaction is open while the answer comes."""
    with SqliteStore(by_hand.path) as writer, writer.database.transaction():
        writer.database.insert("meta", {"key": "note", "value": "not committed"})
        assert by_hand.ask("pool_shares_by_day") == by_hand.expected["pool_shares_by_day"]
        writer.database.execute("DELETE FROM meta WHERE key = 'note'")


def test_a_store_without_blocks_has_no_answers(store: SqliteStore) -> None:
    assert newest_day(store) is None
    assert [answer(store, name, *ALWAYS) for name in NAMES] == [[]] * len(NAMES)


def test_the_newest_day_is_of_the_highest_connected_block(by_hand: Asked) -> None:
    """Not of the island above it."""
    with SqliteStore(by_hand.path) as store:
        sql = "SELECT date(time, 'unixepoch') FROM blocks JOIN cursor USING (block_hash)"
        assert newest_day(store) == store.database.value(sql)


def test_an_unknown_question_is_told_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no question 'fees': one of block_fullness_by_day, dormant_coins, .*"):
        question("fees")


def test_a_store_that_is_gone_may_come_back(store: SqliteStore, path: Path) -> None:
    for file in path.parent.glob("store.db*"):
        file.unlink()
    with pytest.raises(StoreUnavailable, match=r"store\.db: unable to open"):
        answer(store, NAMES[0], *ALWAYS)


def test_the_questions_use_the_portable_views_alone() -> None:
    """None of a dialect's own, so that both run the same text."""
    base = (files("utxoiq.persistence.questions") / BASE).read_text("utf-8")
    portable = set(re.findall(r"CREATE TEMP VIEW IF NOT EXISTS (\w+)", base)) - {"asked_blocks"}
    for one in questions():
        own = set(re.findall(r"(\w+) AS \(", one.sql))
        assert set(re.findall(r"\b(?:FROM|JOIN) (\w+)", one.sql)) <= portable | own


def test_the_page_lists_the_views_with_their_columns(store: SqliteStore) -> None:
    base = (files("utxoiq.persistence.questions") / BASE).read_text("utf-8")
    rows = {name: told.split(" (")[0].split(", ") for name, told in re.findall(r"\| `(\w+)` \| `.*\| (.*) \|", PAGE)}
    views = re.findall(r"CREATE TEMP VIEW IF NOT EXISTS (\w+)", base)
    assert ["asked_blocks", *rows] == views
    with closing(sqlite3.connect(store.database.path)) as db:
        db.executescript(base)
        for name, columns in rows.items():
            of_block = ["day"] if name == "settled_forecasts" else ["day", "block_hash", "block_height"]
            assert [row[1] for row in db.execute(f"PRAGMA table_info({name})")] == of_block + columns
