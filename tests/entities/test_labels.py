"""Label sets as they are read and shown, and what is refused in a label file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from utxoiq.chain.address import script_of
from utxoiq.chain.network import NETWORKS
from utxoiq.entities.labels import LabelSet, labels_for, packaged_labels, read_labels, summaries
from utxoiq.errors import ConfigError, LabelError

MAIN, REGTEST = NETWORKS["main"], NETWORKS["regtest"]
GENESIS = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"
OTHER = "12cbQLTFMXRnSzktFkuoG3eHoMeFtpTu3S"
P2WPKH = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"


def row(name: str, *addresses: Any, as_of: str = "2026-01-01", **more: Any) -> dict[str, Any]:
    label = {"source": "test", "confidence": "high", "as_of": as_of, "addresses": list(addresses)}
    return {"id": name, "name": name.title(), "kind": "exchange", "labels": [label], **more}


def read(*rows: dict[str, Any]) -> LabelSet:
    return read_labels("\n".join(map(json.dumps, rows)), MAIN, "mine.jsonl")


def test_summaries_are_rows_for_a_table() -> None:
    """One row an entity in the order of the file, by kind if asked; an unknown kind is wrong use."""
    labels = packaged_labels()
    rows = summaries(labels)
    assert [row["id"] for row in rows] == list(labels.entities)
    assert sum(row["addresses"] for row in rows) == 43_960
    assert {row["labels_version"] for row in rows} == {labels.version}
    assert [row["id"] for row in summaries(labels, "etf")] == ["21co", "bitwise-bitb"]
    assert json.loads(json.dumps(rows)) == rows
    by_id = {row["id"]: row for row in rows}
    assert sum(row["conflicts"] for row in rows) == 13
    assert by_id["pool-canoe"]["conflicts"] == 2
    assert by_id["pool-antpool"]["note"] is None
    assert by_id["pool-emzy"]["note"] == "known by its coinbase tag only"
    assert by_id["treasury-mstr"]["note"] == "no address is published: what it moves can't be seen"
    with pytest.raises(ConfigError, match="unknown kind 'bank': one of exchange, mining_pool"):
        summaries(labels, "bank")


def test_the_packaged_labels_are_for_mainnet(tmp_path: Path) -> None:
    """Elsewhere there are none, unless a file is given."""
    assert labels_for(MAIN) is packaged_labels()
    assert (labels_for(REGTEST).version, labels_for(REGTEST).entities) == ("none", {})
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(row("me", GENESIS)))
    assert list(labels_for(MAIN, path).entities) == ["me"]
    with pytest.raises(LabelError, match=r"entity me: .*is not of network regtest"):
        labels_for(REGTEST, path)


# ---------------------------------------------------------------------------------------------------- any label file


def test_an_owner_is_found_by_script() -> None:
    """By the whole script of each of its addresses, in whatever form the address is written."""
    labels = read(row("a", GENESIS, P2WPKH.upper()), row("b", OTHER))
    assert [getattr(labels.owner_of(script_of(one, MAIN)), "id", None) for one in (GENESIS, P2WPKH, OTHER)] == [
        "a", "a", "b",
    ]  # fmt: skip
    for script in (b"", script_of(GENESIS, MAIN)[:-1], script_of(GENESIS, MAIN) + b"\0", b"\x51"):
        assert labels.owner_of(script) is None


@pytest.mark.parametrize(
    "address",
    [
        GENESIS[:-1] + "b",
        P2WPKH[:-1] + "5",
        "BC1QW508D6QEJXTDG4Y5r3ZARVARY0C5XW7KV8F3T4",
        "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn",
        "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx",
        "",
        "not an address",
    ],
)
def test_a_bad_address_is_refused(address: str) -> None:
    """A wrong checksum, mixed case or another network's address: a LabelError that names the entity."""
    with pytest.raises(LabelError, match="entity wrong: "):
        read(row("right", OTHER), row("wrong", GENESIS, address))


@pytest.mark.parametrize("again", [P2WPKH, P2WPKH.upper()])
def test_an_address_of_two_owners_has_none(again: str) -> None:
    """It is listed as a conflict, as it is usually written, and belongs to nobody; the other addresses of both keep
    their owners."""
    labels = read(row("a", P2WPKH, GENESIS), row("b", OTHER, again))
    assert labels.conflicts == [(P2WPKH, "a", "b")]
    assert labels.owner_of(script_of(P2WPKH, MAIN)) is None
    owners = [labels.owner_of(script_of(address, MAIN)) for address in (GENESIS, OTHER)]
    assert owners == [labels.entities["a"], labels.entities["b"]]


def test_an_address_of_three_owners_has_none() -> None:
    """Each further owner is a conflict with the first."""
    labels = read(row("a", GENESIS), row("b", GENESIS), row("c", GENESIS))
    assert labels.conflicts == [(GENESIS, "a", "b"), (GENESIS, "a", "c")]
    assert labels.owner_of(script_of(GENESIS, MAIN)) is None


def test_one_owner_may_be_told_twice() -> None:
    """Two sources that say the same are no conflict."""
    twice = row("a", GENESIS)
    twice["labels"].append({"source": "other", "confidence": "low", "as_of": "2020-01-01", "addresses": [GENESIS]})
    labels = read(twice)
    assert labels.conflicts == []
    assert labels.owner_of(script_of(GENESIS, MAIN)) is labels.entities["a"]


def test_the_version_is_of_the_content() -> None:
    """Another byte is another version; the same text is the same one; the newest evidence is in it to be read."""
    rows = row("a", GENESIS, as_of="2025-06-01"), row("b", OTHER, as_of="2024-01-01")
    version = read(*rows).version
    assert read(*rows).version == version
    assert version.startswith("2025-06-01-")
    changed = [
        read(*rows[::-1]), read(rows[0]), read(*rows, row("c")), read({**rows[0], "name": "An"}, rows[1]),
        read({**rows[0], "tags": ["x"]}, rows[1]),
    ]  # fmt: skip
    assert len({version, *(labels.version for labels in changed)}) == 6


def test_an_empty_file_is_an_empty_set() -> None:
    """No entity, and still a version."""
    labels = read_labels("", MAIN, "mine.jsonl")
    assert labels.entities == {}
    assert labels.version.startswith("none-")


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "",
        "null",
        "[]",
        '"text"',
        "7",
        "{}",
        '{"id": "x", "name": "X"}',
        '{"id": "x", "name": "X", "kind": "bank"}',
        '{"id": "x", "name": "X", "kind": "etf", "labels": 7}',
        '{"id": "x", "name": "X", "kind": "etf", "labels": null}',
        '{"id": "x", "name": "X", "kind": "etf", "labels": [{"source": "s"}]}',
        '{"id": "x", "name": "X", "kind": "etf", "labels": ["s"]}',
        '{"id": "x", "name": "X", "kind": "etf", "tags": 7}',
        '{"id": "x", "name": "X", "kind": ["etf"]}',
    ],
)
def test_a_malformed_line_is_refused_with_its_number(line: str) -> None:
    """Not JSON, not an object, a missing or impossible field: which file, which line."""
    text = f"{json.dumps(row('a', GENESIS))}\n{line}\n{json.dumps(row('b', OTHER))}"
    with pytest.raises(LabelError, match=r"mine\.jsonl line 2: not an entity"):
        read_labels(text, MAIN, "mine.jsonl")


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": [{"source": "s", "confidence": "high", "as_of": "2026-01-01", "addresses": [7]}]},
        {"labels": [{"source": "s", "confidence": "high", "as_of": "2026-01-01", "addresses": [None]}]},
        {"labels": [{"source": "s", "confidence": "high", "as_of": 2026, "addresses": []}]},
        {"labels": [{"source": "s", "confidence": "high", "as_of": "2026-01-01", "addresses": GENESIS}]},
        {"labels": [{"source": "s", "confidence": "surely", "as_of": "2026-01-01", "addresses": []}]},
        {"id": ["x"]},
        {"id": 7},
        {"name": None},
        {"tags": [7]},
        {"tags": "/x/"},
        {"tags": [""]},
    ],
    ids=[
        "address a number", "address null", "date a number", "addresses a text", "unknown confidence", "id a list",
        "id a number", "name null", "tag a number", "tags a text", "tag empty",
    ],
)  # fmt: skip
def test_a_field_of_a_wrong_type_is_refused(changes: dict[str, Any]) -> None:
    """What can't be an entity is a LabelError when it is read, not a TypeError or a wrong match later."""
    with pytest.raises(LabelError):
        read({**row("a", OTHER), "kind": "mining_pool", **changes}, row("b"))


def test_an_id_twice_is_refused() -> None:
    """Two entities of one id would be one in every table."""
    with pytest.raises(LabelError, match="an entity id appears twice"):
        read(row("a", GENESIS), row("a", OTHER))


def test_any_character_may_stand_in_a_name(tmp_path: Path) -> None:
    """Lines end with a line feed alone: other characters that count as line ends to some are part of the text."""
    for character in ("\u2028", "\u2029", "\x85", "é", "鱼"):
        line = json.dumps({**row("a", GENESIS), "name": f"A{character}B"}, ensure_ascii=False)
        assert read_labels(line, MAIN, "mine.jsonl").entities["a"].name == f"A{character}B"


def test_a_file_that_can_not_be_read_is_refused(tmp_path: Path) -> None:
    """Missing, a folder, or no UTF-8: a LabelError with the path."""
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xe9"}')
    for name in ("missing.jsonl", "latin.jsonl", "."):
        with pytest.raises(LabelError, match="can't be read"):
            labels_for(MAIN, tmp_path / name)
