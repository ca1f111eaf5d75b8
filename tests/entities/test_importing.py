"""TagPacks, pool lists and label files as they are imported: what is taken, what is left out and counted, and what is
refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.process import python, said
from utxoiq.chain.network import NETWORKS
from utxoiq.entities.importing import Imported, read_import
from utxoiq.errors import ConfigError, LabelError

MAIN, REGTEST = NETWORKS["main"], NETWORKS["regtest"]
GENESIS, OTHER = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "12cbQLTFMXRnSzktFkuoG3eHoMeFtpTu3S"
P2WPKH = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"

HEADER = {
    "title": "A pack", "creator": "somebody", "category": "exchange", "currency": "BTC", "lastmod": "2021-11-15",
    "confidence": "service_data", "source": "https://example.com/reserves",
}  # fmt: skip


def yaml_of(tags: list[dict[str, Any]], **header: Any) -> str:
    """A TagPack: JSON is YAML, and leaves no doubt about quotes."""
    return json.dumps({**HEADER, **header, "tags": tags})[1:-1].join(["--- {", "}\n"])


def tag(address: str = GENESIS, name: str = "Some Exchange", **more: Any) -> dict[str, Any]:
    return {"address": address, "label": name, **more}


def imported(folder: Path, text: str, name: str = "pack.yaml", as_of: str | None = None) -> Imported:
    (folder / name).write_text(text, "utf-8")
    return read_import(folder / name, MAIN, as_of)


def taken(found: Imported) -> set[tuple[str, str, str, str, str]]:
    return {
        (row["id"], address, label["source"], label["confidence"], label["as_of"])
        for row in found.entities.values() for label in row["labels"] for address in label["addresses"]
    }  # fmt: skip


# --------------------------------------------------------------------------------------------------------- TagPacks


def test_a_tagpack_as_people_write_it(tmp_path: Path) -> None:
    """Block style; a tag says over what the header says; a number, a date and a quote are the text they are."""
    found = imported(
        tmp_path,
        f"""
title: Exchanges
creator: GraphSense Core Team
description: >
  Folded text
  over lines
lastmod: 2021-11-15
currency: BTC
category: exchange
confidence: forensic
source: https://example.com/#addresses
tags:
- address: {GENESIS}
  label: 796
- address: {OTHER}
  label: 'Bit''s'
  lastmod: 2022-10-04 10:00:00
  confidence: ownership
  source: https://example.com/2
- address: {P2WPKH.upper()}
  label: 796
  is_cluster_definer: true
""",
        "exchanges.yaml",
    )
    start = "GraphSense tagpack exchanges; primary: https://example.com/"
    assert taken(found) == {
        ("796", GENESIS, f"{start}#addresses", "medium", "2021-11-15"),
        ("796", P2WPKH, f"{start}#addresses", "medium", "2021-11-15"),
        ("bit-s", OTHER, f"{start}2", "high", "2022-10-04"),
    }
    assert (found.format, found.left_out) == ("tagpack", {})


@pytest.mark.parametrize(("category", "kind", "identity"), [
    ("exchange", "exchange", "some-pool"), ("miner", "mining_pool", "pool-some-pool"),
])  # fmt: skip
def test_categories_that_are_kinds(tmp_path: Path, category: str, kind: str, identity: str) -> None:
    found = imported(tmp_path, yaml_of([tag(name="Some. Pool")], category=category))
    assert [(row["id"], row["kind"], row["name"]) for row in found.entities.values()] == [
        (identity, kind, "Some. Pool")
    ]


def test_an_actor_is_one_entity(tmp_path: Path) -> None:
    """Under whatever labels; the first gives its name."""
    found = imported(tmp_path, yaml_of([tag(GENESIS, "Huobi cold", actor="huobi"), tag(OTHER, "Huobi", actor="huobi")]))
    assert [(row["id"], row["name"]) for row in found.entities.values()] == [("huobi", "Huobi cold")]
    assert len(taken(found)) == 2


@pytest.mark.parametrize(("said", "ours"), [
    ("ownership", "high"), ("service_api", "high"), ("authority_data", "medium"), ("forensic", "medium"),
    ("web_crawl", "low"), ("unknown", "low"), ("no such thing", "low"), ("", "low"),
])  # fmt: skip
def test_confidences(tmp_path: Path, said: str, ours: str) -> None:
    assert {label[3] for label in taken(imported(tmp_path, yaml_of([tag()], confidence=said)))} == {ours}


@pytest.mark.parametrize(("more", "reason"), [
    ({"currency": "ETH", "address": "0x0"}, "another currency"),
    ({"currency": ["BTC"]}, "another currency"),
    ({"network": "LTC"}, "another currency"),
    ({"category": "ransomware"}, "a category that is no kind of ours"),
    ({"category": "mining_service"}, "a category that is no kind of ours"),
    ({"category": {"exchange": "1"}}, "a category that is no kind of ours"),
    ({"abuse": "service_hack"}, "an address of abuse, not of a service"),
    ({"lastmod": "yesterday"}, "no date"),
    ({"lastmod": "2021-02-30"}, "no date"),
    ({"address": None}, "no main address"),
    ({"address": ["a"]}, "no address"),
    ({"address": OTHER[:-1] + "T"}, "no main address"),
    ({"address": "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn"}, "no main address"),
    ({"label": "!!!"}, "a name without a letter"),
])  # fmt: skip
def test_what_is_left_out_is_counted(tmp_path: Path, more: dict[str, Any], reason: str) -> None:
    """With the first example and where it stands; the rest is taken."""
    found = imported(tmp_path, yaml_of([tag(), {**tag(OTHER), **more}, {**tag(OTHER), **more}]))
    assert {label[1] for label in taken(found)} == {GENESIS}
    assert list(found.left_out) == [reason]
    count, example = found.left_out[reason]
    assert count == 2
    assert example.startswith("pack.yaml tag 2")


def test_a_date_can_be_given(tmp_path: Path) -> None:
    """For what has none itself; a wrong one is wrong use."""
    text = yaml_of([tag(), tag(OTHER, lastmod="")])
    assert {label[4] for label in taken(imported(tmp_path, text, as_of="2020-01-01"))} == {"2021-11-15", "2020-01-01"}
    for wrong in ("2020-1-1", "yesterday", "20200101", ""):
        with pytest.raises(ConfigError, match="is no date: YYYY-MM-DD"):
            imported(tmp_path, text, as_of=wrong)


@pytest.mark.parametrize(("text", "message"), [
    ("", "is neither a TagPack"),
    ("just a text", "is neither a TagPack"),
    ("title: x\ntags: 7", "is neither a TagPack"),
    ("- tags\n", "is neither a TagPack"),
    ("title: x\ntags: []\n---\ntitle: y\n", "is neither a TagPack"),
    ("tags: []", "its title is no text"),
    ("title: x\ntags: []", "nothing in it can be used: it is empty"),
    ("title: x\ntags: [7]", "tag 1: is no tag"),
    ("title: [", "is no YAML"),
    ("title: x\x00y\ntags: []", "is no YAML"),
    ("a: &a [x, x]\ntags: *a\n", "line 2: aliases are not read"),
    ("a: &a {b: c}\nd:\n  <<: *a\ntags: []", "line 3: aliases are not read"),
    ("tags: " + "[" * 100_000, "nested deeper than a TagPack is"),
    ("tags:\n" + "".join(" " * n + "- \n" for n in range(1, 2000)), "nested deeper|is neither"),
    ("{" * 100_000, "not an entity"),
    (yaml_of([tag(name="a\x1b[31mb")]), "tag 1: its label .*control characters"),
    (yaml_of([tag(name="a\u202eb")]), "control characters"),
    (yaml_of([tag(name="a\nb")]), "control characters"),
    (yaml_of([tag(name="x" * 1001)]), "its label is longer than 1000 characters"),
    (yaml_of([tag(name="")]), "its label is no text"),
    (yaml_of([tag(source="a\x07")]), "its source .*control characters"),
    (yaml_of([tag()], title=""), "its title is no text"),
    (yaml_of([tag("x")]), r"nothing in it can be used: no main address \(1, as pack\.yaml tag 1: address: 'x'"),
])  # fmt: skip
def test_a_hostile_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """Bombs, depth, wrong types, control characters: one line that says what and where."""
    with pytest.raises(LabelError, match=message) as caught:
        imported(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_depth_ends_no_process(tmp_path: Path) -> None:
    """The YAML library's own loader overflows the stack here."""
    (tmp_path / "deep.yaml").write_text("tags: " + "[" * 1_000_000)
    code = f"""
from pathlib import Path
from utxoiq.chain.network import NETWORKS
from utxoiq.entities.importing import read_import
from utxoiq.errors import LabelError
try:
    read_import(Path({str(tmp_path / "deep.yaml")!r}), NETWORKS["main"])
except LabelError as error:
    print(error)"""
    process = python("-c", code)
    assert process.returncode == 0, said(process)
    assert "nested deeper" in process.stdout


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.one_of(st.text(max_size=60), st.text("{}[]:-&*!|> \n\"'a1", max_size=60)))
def test_any_text_is_read_or_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(LabelError):
        imported(tmp_path, text)


# ------------------------------------------------------------------------------------------------------- pool lists


def pool(number: int, name: str, *addresses: Any, tags: Any = ()) -> dict[str, Any]:
    return {"id": number, "name": name, "addresses": list(addresses), "tags": list(tags), "link": "https://example.com"}


def test_a_list_of_pools(tmp_path: Path) -> None:
    """Addresses with the pool's number in the source, tags as they are; a pool with neither says nothing."""
    pools = [pool(1, "F2Pool", GENESIS, tags=["/F2Pool/", "🐟"]), pool(2, "OCEAN", tags=["OCEAN.XYZ"]), pool(3, "None")]
    found = imported(tmp_path, json.dumps(pools), "pools-v2.json", "2026-11-01")
    source = "mempool/mining-pools pools-v2.json (MIT), pool id 1"
    assert taken(Imported("", MAIN, (), {"pool-f2pool": found.entities["pool-f2pool"]})) == {
        ("pool-f2pool", GENESIS, source, "high", "2026-11-01")
    }
    assert {name: row.get("tags") for name, row in found.entities.items()} == {
        "pool-f2pool": ["/F2Pool/", "🐟"], "pool-ocean": ["OCEAN.XYZ"],
    }  # fmt: skip


@pytest.mark.parametrize(("text", "message"), [
    ("[", "is no JSON"), ("[" * 100_000, "is no JSON"), ("[7]", "pool 1: is no pool"),
    ('[{"id": "1"}]', "pool 1: is no pool"),
    ('[{"id": 1}]', "pool 1: its name is no text"),
    (json.dumps([pool(1, "a") | {"tags": "x"}]), "pool 1: its tags are no list of texts"),
    (json.dumps([pool(1, "a", 7)]), "pool 1: its addresses are no list of texts"),
    (json.dumps([pool(1, "a", tags=["\x00"])]), "pool 1: a tag .*control characters"),
    ("[]", "nothing in it can be used"), (json.dumps([pool(1, "a", "x")]), "nothing in it can be used"),
])  # fmt: skip
def test_a_bad_list_of_pools_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        imported(tmp_path, text, "pools.json", "2026-11-01")


def test_a_list_of_pools_needs_a_date(tmp_path: Path) -> None:
    """It has none, and when it was fetched is not when it was true."""
    with pytest.raises(LabelError, match="say with --as-of when it was published"):
        imported(tmp_path, json.dumps([pool(1, "F2Pool", GENESIS)]), "pools.json")


# ------------------------------------------------------------------------------------------------------ label files


def test_a_label_file(tmp_path: Path) -> None:
    """All it says; a bad address is left out, which reading it as labels would refuse."""
    label = {"source": "s", "confidence": "low", "as_of": "2020-01-01", "addresses": [GENESIS, GENESIS, "x"]}
    known = {"sat": 5, "as_of": "2020-01-01", "source": "s"}
    row = {"id": "t", "name": "T", "kind": "treasury", "ticker": "TT", "known_holdings": known, "holdings": [known]}
    found = imported(tmp_path, json.dumps({**row, "labels": [label]}), "labels.jsonl")
    assert taken(found) == {("t", GENESIS, "s", "low", "2020-01-01")}
    assert {name: value for name, value in found.entities["t"].items() if name != "labels"} == row
    assert found.left_out["no main address"][0] == 1


def test_what_can_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "latin").write_bytes(b"title: \xe9")
    for name in ("missing", "latin", "."):
        with pytest.raises(LabelError, match="can't be read"):
            read_import(tmp_path / name, MAIN)
    monkeypatch.setattr("utxoiq.entities.importing.LARGEST", 3)
    with pytest.raises(LabelError, match="split it"):
        read_import(tmp_path / "latin", MAIN)


def test_another_network(tmp_path: Path) -> None:
    """Its addresses are its own."""
    (tmp_path / "p.json").write_text(json.dumps([pool(1, "a", GENESIS, "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn")]))
    found = read_import(tmp_path / "p.json", REGTEST, "2026-01-01")
    assert [label[1] for label in taken(found)] == ["mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn"]
    assert list(found.left_out) == ["no regtest address"]
