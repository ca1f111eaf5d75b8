"""Imports into a label file: what is kept, replaced, withdrawn, contradicted, and told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from utxoiq.chain.network import NETWORKS, Network
from utxoiq.entities.importing import Imported
from utxoiq.entities.labels import LabelSet, labels_for, packaged_labels, read_labels
from utxoiq.entities.merging import Merged, Mode, merge, merged_file, write_labels
from utxoiq.errors import LabelError

MAIN, REGTEST = NETWORKS["main"], NETWORKS["regtest"]
A, B, C = (
    "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
    "12cbQLTFMXRnSzktFkuoG3eHoMeFtpTu3S",
    "1HLoD9E4SDFFPDiYfNYnkBLQ85Y51J3Zb1",
)
POOLS = "mempool/mining-pools pools-v2.json (MIT)"


def label(source: str, *addresses: str, as_of: str = "2026-01-01") -> dict[str, Any]:
    return {"source": source, "confidence": "high", "as_of": as_of, "addresses": list(addresses)}


def row(name: str, *labels: dict[str, Any], kind: str = "exchange", **more: Any) -> dict[str, Any]:
    return {"id": name, "name": name.title(), "kind": kind, **more, "labels": list(labels)}


def base(*rows: dict[str, Any]) -> LabelSet:
    return read_labels("\n".join(map(json.dumps, rows)), MAIN, "base")


def news(*rows: dict[str, Any], speaks_for: str = "s", form: str = "tagpack") -> Imported:
    found = Imported(form, MAIN, (speaks_for,))
    for one in rows:
        labels = [{**known, "addresses": dict.fromkeys(known["addresses"])} for known in one["labels"]]
        found.entities[one["id"]] = {**one, "labels": labels}
    return found


def held(merged: Merged) -> dict[str, list[tuple[str, str, str]]]:
    """id -> [(source, as_of, address)]"""
    return {
        entity.id: [(one.source, one.as_of, address) for one in entity.labels for address in one.addresses]
        for entity in merged.labels.entities.values()
    }


def counts(merged: Merged) -> tuple[int, int, int]:
    return tuple(merged.report[f"addresses_{what}"] for what in ("added", "withdrawn", "moved"))  # type: ignore[return-value]


def test_what_is_new_is_added() -> None:
    """To a known entity and as a new one; what was there stays, in its place."""
    merged = merge(base(row("a", label("t", A))), news(row("a", label("s", A, B)), row("b", label("s", C))))
    assert held(merged) == {
        "a": [("t", "2026-01-01", A), ("s", "2026-01-01", A), ("s", "2026-01-01", B)], "b": [("s", "2026-01-01", C)],
    }  # fmt: skip
    assert counts(merged) == (2, 0, 0)
    assert (merged.report["entities_added"], merged.report["conflicts"]) == (["b"], [])
    assert merged.report["examples"] == {"addresses_added": B}
    assert merged.report["labels_version"] == merged.labels.version != merged.report["labels_version_before"]


def test_the_same_again_changes_nothing() -> None:
    once = merge(base(row("a", label("t", A))), news(row("b", label("s", B))))
    again = merge(once.labels, news(row("b", label("s", B))))
    assert (again.text, counts(again)) == (once.text, (0, 0, 0))


@pytest.mark.parametrize(("first", "then"), [("2020-01-01", "2021-01-01"), ("2021-01-01", "2020-01-01")])
def test_the_newest_evidence_of_a_source_counts(first: str, then: str) -> None:
    """In whatever order editions come; what the newer one does not repeat keeps its date."""
    merged = merge(base(row("a", label("s", A, B, as_of=first))), news(row("a", label("s", A, C, as_of=then))))
    assert sorted(held(merged)["a"]) == sorted([("s", "2021-01-01", A), ("s", first, B), ("s", then, C)])


@pytest.mark.parametrize(("mode", "expected"), [("add", (1, 0, 0)), ("replace", (1, 1, 0))])
def test_a_new_edition(mode: Mode, expected: tuple[int, int, int]) -> None:
    """`replace` withdraws what the source no longer says, and nothing of another source whose name begins alike."""
    old = base(row("a", label("s, part 1", A), label("sun", A), label("s; x", B, as_of="2020-01-01")))
    merged = merge(old, news(row("a", label("s, part 1", C)), speaks_for="s"), mode)
    assert counts(merged) == expected
    assert ("sun", "2026-01-01", A) in held(merged)["a"]
    assert (("s; x", "2020-01-01", B) in held(merged)["a"]) == (mode == "add")


def test_an_entity_of_which_nothing_is_left_is_withdrawn() -> None:
    """One with a ticker, holdings or tags still says something."""
    known = {"sat": 1, "as_of": "2026-01-01", "source": "x"}
    old = base(
        row("gone", label("s", A)), row("ticker", label("s", B), ticker="T"), row("holds", known_holdings=known),
        row("pool", label("s", C), kind="mining_pool", tags=["/p/"]),
    )  # fmt: skip
    merged = merge(old, news(row("new", label("s", A))), "replace")
    assert list(merged.labels.entities) == ["ticker", "holds", "pool", "new"]
    assert merged.report["entities_withdrawn"] == ["gone"]
    assert counts(merged) == (0, 2, 1)


def test_two_owners_are_told_not_hidden() -> None:
    """The address is nobody's then, and counted as moved."""
    merged = merge(base(row("a", label("t", A, B))), news(row("z", label("s", A))))
    assert merged.report["conflicts"] == [(A, "a", "z")]
    assert counts(merged) == (0, 0, 1)


def test_another_kind_is_left_out() -> None:
    """An ETF that a TagPack calls an exchange stays what it was."""
    merged = merge(base(row("bitwise", label("t", A), kind="etf")), news(row("bitwise", label("s", B))))
    assert held(merged) == {"bitwise": [("t", "2026-01-01", A)]}
    assert merged.report["left_out"] == {"a exchange that is a etf here": {"count": 1, "first": "bitwise"}}


def pool(identity: str, name: str, *addresses: str, **more: Any) -> dict[str, Any]:
    return row(identity, label("s", *addresses), kind="mining_pool", **more) | {"name": name}


@pytest.mark.parametrize(("unknown", "same"), [
    (pool("x", "Rawpool", B), "pool-raw"),
    (pool("x", "raw.com", B), "pool-raw"),
    (pool("x", "Rawpool.com", B), None),
    (pool("x", "R.A.W.", B), "pool-raw"),
    (pool("x", "Slush", A), "pool-braiins"),
    (pool("x", "Slush", A, B), "pool-braiins"),
    (pool("x", "Slush", A, C), None),
    (pool("x", "Slush", B), None),
    (pool("x", "Rawest", B), None),
    (pool("x", "Twin", B), None),
    (row("x", label("s", A)) | {"name": "Slush"}, None),
    (row("x", label("s", B)) | {"name": "Rawpool"}, None),
    (pool("pool-other", "Rawpool", B), None),
])  # fmt: skip
def test_who_is_taken_for_whom(unknown: dict[str, Any], same: str | None) -> None:
    """By name, or for pools by payout addresses of one pool alone; never across kinds, nor what has a known id."""
    old = base(
        pool("pool-braiins", "Braiins", A), pool("pool-other", "Other", C), pool("pool-raw", "Raw"),
        pool("pool-twin", "Twin"), pool("pool-twin-2", "Twinpool"),
    )  # fmt: skip
    merged = merge(old, news(unknown))
    assert merged.report["same_as"] == ({unknown["id"]: same} if same else {})


def test_a_label_file_means_its_ids() -> None:
    """Nothing of ours is taken for another by its name; its tickers and holdings count."""
    one, two = ({"sat": n, "as_of": f"202{n}-01-01", "source": "x"} for n in (1, 2))
    old = base(row("a", label("s", A), holdings=[two]))
    merged = merge(old, news(row("a", ticker="T", known_holdings=two, holdings=[one, two]), row("A", label("s", B)),
                             form="labels"))  # fmt: skip
    assert merged.report["same_as"] == {}
    entity = merged.labels.entities["a"]
    assert (entity.ticker, entity.known_holdings, entity.holdings) == ("T", two, (one, two))


@pytest.mark.parametrize(("mode", "tags"), [("add", ("/old/", "/both/", "/new/")), ("replace", ("/both/", "/new/"))])
def test_tags(mode: Mode, tags: tuple[str, ...]) -> None:
    old = base(row("p", kind="mining_pool", tags=["/old/", "/both/"]), row("q", kind="mining_pool", tags=["/q/"]))
    merged = merge(old, news(row("p", kind="mining_pool", tags=["/both/", "/new/"])), mode)
    assert {pool.id: pool.tags for pool in merged.labels.entities.values()} == {"p": tags, "q": ("/q/",)}


def test_the_packaged_labels_survive() -> None:
    """All that a line says comes through a merge: nothing changes but what is imported."""
    merged = merge(packaged_labels(), news(row("zzz", label("s", A))))
    for entity in packaged_labels().entities.values():
        assert merged.labels.entities[entity.id].holdings == entity.holdings
        assert merged.labels.entities[entity.id].known_holdings == entity.known_holdings
        assert merged.labels.entities[entity.id].addresses == entity.addresses
        assert merged.labels.entities[entity.id].tags == entity.tags
    assert counts(merged) == (1, 0, 0)


# -------------------------------------------------------------------------------------------------------- with files


def import_labels(
    source: Path, into: Path, network: Network, mode: Mode = "add", as_of: str | None = None
) -> dict[str, Any]:
    before, merged = merged_file(source, into, network, mode, as_of)
    assert before.version == merged.report["labels_version_before"]
    write_labels(into, merged.text)
    return merged.report


def pools_file(folder: Path, address: str) -> Path:
    path = folder / "pools-v2.json"
    path.write_text(json.dumps([{"id": 1, "name": "Mine", "addresses": [address, "x"], "tags": ["/mine/"]}]))
    return path


def test_into_a_file(tmp_path: Path) -> None:
    """It begins as the packaged labels on mainnet; a new edition withdraws; the report is plain data."""
    into = tmp_path / "mine.jsonl"
    report = import_labels(pools_file(tmp_path, A), into, MAIN, as_of="2026-11-01")
    assert report["entities_added"] == ["pool-mine"]
    assert report["left_out"]["no main address"]["count"] == 1
    assert json.loads(json.dumps(report))["labels_version"] == labels_for(MAIN, into).version
    assert len(labels_for(MAIN, into).entities) == len(packaged_labels().entities) + 1
    report = import_labels(pools_file(tmp_path, B), into, MAIN, mode="replace", as_of="2026-12-01")
    labels = labels_for(MAIN, into)
    assert labels.entities["pool-mine"].labels[0].source == f"{POOLS}, pool id 1"
    assert list(labels.addresses_of(labels.entities["pool-mine"])) == [B]
    assert report["addresses_withdrawn"] > 30  # most are GraphSense's too
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.jsonl", "pools-v2.json"]


def test_elsewhere_it_begins_empty(tmp_path: Path) -> None:
    import_labels(
        pools_file(tmp_path, "mipcBbFg9gMiCh81Kj8tqqdgoZub1ZJRfn"), tmp_path / "l", REGTEST, as_of="2026-11-01"
    )
    assert list(labels_for(REGTEST, tmp_path / "l").entities) == ["pool-mine"]


def test_a_refused_import_leaves_the_file(tmp_path: Path) -> None:
    into = tmp_path / "mine.jsonl"
    into.write_text(json.dumps(row("a", label("s", A))))
    before = into.read_bytes()
    (tmp_path / "refused.yaml").write_text("title: t\ntags: []")
    with pytest.raises(LabelError, match="nothing in it can be used"):
        import_labels(tmp_path / "refused.yaml", into, MAIN)
    (tmp_path / "empty.json").write_text("[]")
    with pytest.raises(LabelError, match="nothing in it can be used"):
        import_labels(tmp_path / "empty.json", into, MAIN, as_of="2026-11-01")
    assert into.read_bytes() == before


def test_a_base_that_is_refused(tmp_path: Path) -> None:
    """A file to import into that is none is not overwritten."""
    into = tmp_path / "mine.jsonl"
    into.write_text("{")
    with pytest.raises(LabelError, match=r"mine\.jsonl line 1"):
        import_labels(pools_file(tmp_path, A), into, MAIN, as_of="2026-11-01")
    assert into.read_text() == "{"


def test_nowhere_to_write(tmp_path: Path) -> None:
    """A LabelError; no half file is left."""
    for path in (tmp_path / "missing" / "l.jsonl", tmp_path):
        with pytest.raises(LabelError, match="can't be written"):
            write_labels(path, "")
    assert [path.name for path in tmp_path.parent.iterdir() if "tmp" in path.suffix] == []
