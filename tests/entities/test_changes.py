"""What differs between two label sets, against a comparison of plain dicts."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from utxoiq.chain.address import address_of, script_of
from utxoiq.chain.network import NETWORKS
from utxoiq.entities import labels as module
from utxoiq.entities.changes import Change, changes
from utxoiq.entities.labels import LabelSet, labels_for, packaged_labels, read_labels

MAIN = NETWORKS["main"]
ADDRESSES = [address_of(b"\x00\x14" + bytes([n]) * 20, MAIN) or "" for n in range(10)]


def text_of(owned: dict[str, list[str]], **more: Any) -> str:
    rows = [
        {"id": name, "name": name, "kind": "exchange", "labels": [
            {"source": "t", "confidence": "high", "as_of": "2026-01-01", "addresses": addresses}], **more}
        for name, addresses in owned.items()
    ]  # fmt: skip
    return "\n".join(map(json.dumps, rows))


def labels_of(owned: dict[str, list[str]], **more: Any) -> LabelSet:
    return read_labels(text_of(owned, **more), MAIN, "t")


def owners(owned: dict[str, list[str]]) -> dict[str, str]:
    """Address -> its one owner."""
    found: dict[str, set[str]] = {}
    for name, addresses in owned.items():
        for address in addresses:
            found.setdefault(address, set()).add(name)
    return {address: min(names) for address, names in found.items() if len(names) == 1}


def by_dict(old: dict[str, list[str]], new: dict[str, list[str]]) -> set[Change]:
    before, after = owners(old), owners(new)
    return {
        Change(script_of(address, MAIN), before.get(address), after.get(address))
        for address in {*before, *after} if before.get(address) != after.get(address)
    }  # fmt: skip


owned_sets = st.dictionaries(st.sampled_from("abcd"), st.lists(st.sampled_from(ADDRESSES), max_size=8), max_size=4)


@settings(deadline=None)
@given(owned_sets, owned_sets)
def test_any_two_sets(old: dict[str, list[str]], new: dict[str, list[str]]) -> None:
    """Entities come and go, in any order of their numbers; contested scripts are nobody's."""
    found = changes(labels_of(old), labels_of(dict(reversed(new.items()))))
    assert set(found) == by_dict(old, new)
    assert len(found) == len(list(found)) == len(set(found))
    assert found.lost == count(change.before for change in found)
    assert found.gained == count(change.after for change in found)
    assert found.entities == found.lost.keys() | found.gained.keys()


def count(names: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        if name is not None:
            found[name] = found.get(name, 0) + 1
    return found


def test_a_script_that_becomes_contested_is_withdrawn() -> None:
    """And is given back when the second claim is gone."""
    alone, both = {"a": ADDRESSES[:2]}, {"a": ADDRESSES[:2], "b": ADDRESSES[1:2]}
    contested = script_of(ADDRESSES[1], MAIN)
    assert list(changes(labels_of(alone), labels_of(both))) == [Change(contested, "a", None)]
    assert list(changes(labels_of(both), labels_of(alone))) == [Change(contested, None, "a")]


@pytest.mark.parametrize("more", [{"name": "B"}, {"kind": "etf"}, {"ticker": "T"}, {"tags": ["/t/"]},
                                  {"holdings": [{"sat": 1, "as_of": "2026-01-01", "source": "s"}]}])  # fmt: skip
def test_what_is_said_of_an_entity_otherwise(more: dict[str, Any]) -> None:
    """Its scripts are the same, but not what is said with them."""
    found = changes(labels_of({"a": ADDRESSES}), labels_of({"a": ADDRESSES}, **more))
    assert (list(found), found.restated, found.entities) == ([], {"a"}, {"a"})


def test_an_equal_set_has_no_changes() -> None:
    found = changes(packaged_labels(), packaged_labels())
    assert (len(found), found.entities) == (0, frozenset())


def test_many_changes_between_a_text_and_a_compiled_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the packaged addresses are dropped; a set that was compiled compares like one that was read."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "COMPILED_FROM", 1)
    random = Random(1)
    old = {entity.id: entity.addresses for entity in packaged_labels().entities.values()}
    new = {name: [a for a in addresses if random.random() > 0.1] for name, addresses in old.items()}
    path = tmp_path / "new.jsonl"
    path.write_text(text_of(new))
    assert set(changes(packaged_labels(), labels_for(MAIN, path))) == by_dict(old, new)
