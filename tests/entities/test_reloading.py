"""A label file that changes while it is in use."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from utxoiq.chain.network import NETWORKS
from utxoiq.entities.reloading import LabelFile
from utxoiq.errors import LabelError

MAIN = NETWORKS["main"]


def put(path: Path, name: str) -> None:
    """A new edition in place, by renaming."""
    aside = path.with_suffix(".new")
    aside.write_text(json.dumps({"id": name, "name": name, "kind": "exchange"}) if name else "{")
    aside.replace(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    put(tmp_path / "labels.jsonl", "one")
    return tmp_path / "labels.jsonl"


def test_the_same_set_until_the_file_changes(path: Path) -> None:
    """The very same object; then the new one."""
    file = LabelFile(path, MAIN)
    first = file.current()
    assert file.current() is first
    assert not file.stale
    put(path, "two")
    assert file.stale
    assert list(file.current().entities) == ["two"]
    assert list(first.entities) == ["one"]


def test_a_change_of_the_same_length_is_seen(path: Path) -> None:
    """By its time, where it is written over in place."""
    file = LabelFile(path, MAIN)
    path.write_text(path.read_text().replace("one", "six"))
    os.utime(path, ns=(1, 1))
    assert list(file.current().entities) == ["six"]


@pytest.mark.parametrize("removed", [False, True])
def test_a_bad_edition_keeps_the_old_set_and_is_told_once(path: Path, removed: bool) -> None:
    """Until a good one comes."""
    told: list[LabelError] = []
    file = LabelFile(path, MAIN, told.append)
    first = file.current()
    path.unlink() if removed else put(path, "")
    assert [file.current() for _ in range(3)] == [first] * 3
    assert len(told) == 1
    assert file.error is told[0]
    put(path, "two")
    assert list(file.current().entities) == ["two"]
    assert (file.error, len(told)) == (None, 1)
    put(path, "")
    file.current()
    assert len(told) == 2


def test_a_first_edition_must_be_good(path: Path, tmp_path: Path) -> None:
    put(path, "")
    for bad in (path, tmp_path / "missing.jsonl"):
        with pytest.raises(LabelError):
            LabelFile(bad, MAIN)
