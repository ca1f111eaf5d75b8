"""Compiled label files say what their text says, and nothing is read from one that is not whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entities.test_index import outputs_of, random_scripts
from utxoiq.chain.address import address_of, script_of
from utxoiq.chain.network import NETWORKS
from utxoiq.entities import labels as module
from utxoiq.entities.compiled import Compiled, cache_path, source_digest
from utxoiq.entities.compiling import compile_labels, compiled_for
from utxoiq.entities.labels import LabelSet, labels_for, read_label_file
from utxoiq.errors import LabelError

MAIN, REGTEST = NETWORKS["main"], NETWORKS["regtest"]
ADDRESSES = [address_of(b"\x00\x14" + bytes([n]) * 20, MAIN) or "" for n in range(12)]
ADDRESSES += [address_of(b"\x76\xa9\x14" + bytes([n]) * 20 + b"\x88\xac", MAIN) or "" for n in range(12)]


@pytest.fixture(autouse=True)
def everything_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPILED_FROM", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def label(*addresses: Any, source: str = "test", as_of: str = "2026-01-01") -> dict[str, Any]:
    return {"source": source, "confidence": "high", "as_of": as_of, "addresses": list(addresses)}


def row(name: str, *labels: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": name, "name": name.title(), "kind": "exchange", "labels": list(labels), **more}


def written(folder: Path, *rows: dict[str, Any], **how: Any) -> Path:
    path = folder / "labels.jsonl"
    path.write_text("\n".join(json.dumps(one, **how) for one in rows), "utf-8")
    return path


def alike(compiled: LabelSet, text: LabelSet) -> None:
    """Both sets answer the same."""
    assert compiled.version == text.version
    assert compiled.conflicts == text.conflicts
    assert [(tag, pool.id) for tag, pool in compiled.tags] == [(tag, pool.id) for tag, pool in text.tags]
    assert list(compiled.entities) == list(text.entities)
    for name in ("blob", "offsets", "label", "owner"):
        assert np.array_equal(getattr(compiled.scripts, name), getattr(text.scripts, name)), name
    for one, other in zip(compiled.entities.values(), text.entities.values(), strict=True):
        stated = [(e.id, e.name, e.kind, e.ticker, e.tags, e.known_holdings, e.holdings, e.count) for e in (one, other)]
        assert stated[0] == stated[1]
        assert [(a.source, a.confidence, a.as_of, a.count) for a in one.labels] == [
            (b.source, b.confidence, b.as_of, b.count) for b in other.labels
        ]
        assert list(compiled.addresses_of(one)) == list(text.addresses_of(other))


some_labels = st.lists(
    st.builds(lambda some: label(*some), st.lists(st.sampled_from(ADDRESSES), max_size=6)), max_size=3
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.lists(some_labels, max_size=4), st.booleans())
def test_what_the_text_says(tmp_path: Path, given_labels: list[list[dict[str, Any]]], spaced: bool) -> None:
    """Any entities, with addresses told twice by one and by several."""
    rows = [row(f"e{n}", *labels) for n, labels in enumerate(given_labels)] or [row("alone")]
    path = written(tmp_path, *rows, indent=None, separators=(" , ", " : ") if spaced else (",", ":"))
    alike(labels_for(MAIN, path), read_label_file(path, MAIN))


def test_the_packaged_labels_compiled() -> None:
    """All 43,780 scripts, with every holding and tag."""
    path = Path(module.__file__).with_name("data") / "labels.jsonl"
    compiled = labels_for(MAIN, path)
    alike(compiled, module.packaged_labels())
    random = Random(3)
    asked = [script_of(a, MAIN) for e in module.packaged_labels().entities.values() for a in e.addresses[:20]]
    asked += random_scripts(4, 500)
    random.shuffle(asked)
    assert (
        compiled.owners_of(outputs_of(asked)).tolist() == module.packaged_labels().owners_of(outputs_of(asked)).tolist()
    )
    with pytest.raises(TypeError, match=r"ask LabelSet\.addresses_of"):
        _ = compiled.entities["binance"].addresses


def test_the_key_addresses_in_a_text_is_text(tmp_path: Path) -> None:
    """Names that look like the list the compiler takes out of a line."""
    names = ['"addresses": [1]', 'x\\"addresses": ["', '"addresses":["%s"]' % ADDRESSES[0]]  # noqa: UP031
    rows = [row(f"e{n}", label(ADDRESSES[n], source=name)) | {"name": name} for n, name in enumerate(names)]
    path = written(tmp_path, *rows)
    alike(labels_for(MAIN, path), read_label_file(path, MAIN))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "x"', r"labels\.jsonl line 2: not an entity"),
        ("", r"line 2: not an entity"),
        ("[]", r"line 2: not an entity"),
        ('{"id": "x", "name": "X", "kind": "bank"}', r"line 2: not an entity"),
        (json.dumps(row("x", {**label(), "addresses": 1})), "line 2: not an entity"),
        (json.dumps(row("x", {**label(), "addresses": ADDRESSES[0]})), "line 2: not an entity"),
        (json.dumps(row("x", {"addresses": []})), "line 2: not an entity"),
        (json.dumps(row("x", label(7))), "entity x: '7' is not written as a plain text|entity x: address: '7'"),
        (json.dumps(row("x", label(None))), "entity x: "),
        (json.dumps(row("x", label([ADDRESSES[1]]))), "line 2: not an entity"),
        (json.dumps(row("x", label(ADDRESSES[1][:-1] + "q"))), "entity x: address: .*wrong checksum"),
        (json.dumps(row("x", label("é"))), "entity x: "),
        (json.dumps(row("x", addresses=[])), "line 2: not an entity .addresses outside its labels"),
        (json.dumps(row("a")), "an entity id appears twice"),
    ],
)  # fmt: skip
def test_a_bad_line_is_refused(tmp_path: Path, line: str, message: str) -> None:
    """As in a text, with the line or the entity; nothing is left in the cache."""
    path = tmp_path / "labels.jsonl"
    path.write_text(f"{json.dumps(row('a', label(ADDRESSES[0])))}\n{line}\n{json.dumps(row('b'))}\n")
    with pytest.raises(LabelError, match=message):
        labels_for(MAIN, path)
    assert list((tmp_path / "cache").rglob("*")) == []


def test_many_lists_without_an_end_are_refused(tmp_path: Path) -> None:
    """At once: looking for the end of each from its beginning would take hours."""
    (tmp_path / "labels.jsonl").write_text('"addresses":[' * 300_000)
    with pytest.raises(LabelError, match="line 1: not an entity"):
        labels_for(MAIN, tmp_path / "labels.jsonl")


def test_what_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_bytes(b'{"id": "\xe9"}')
    with pytest.raises(LabelError, match="line 1: is not UTF-8"):
        labels_for(MAIN, tmp_path / "labels.jsonl")


def test_it_is_compiled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And anew for another edition, which takes its place."""
    path = written(tmp_path, row("a", label(ADDRESSES[0])))
    first = labels_for(MAIN, path)
    with monkeypatch.context() as patch:
        patch.setattr("utxoiq.entities.compiling.compile_labels", None)
        assert labels_for(MAIN, path).version == first.version
    written(tmp_path, row("a", label(ADDRESSES[1])))
    assert labels_for(MAIN, path).owner_of(script_of(ADDRESSES[1], MAIN)) is not None
    assert first.owner_of(script_of(ADDRESSES[0], MAIN)) is first.entities["a"]
    assert len(list((tmp_path / "cache" / "utxoiq-labels").iterdir())) == 1


def cut(data: bytes) -> bytes:
    return data[: len(data) - 70]


def emptied(data: bytes) -> bytes:
    return b""


def beginning(data: bytes) -> bytes:
    return data[:20]


def flipped(data: bytes) -> bytes:
    return data[:-30] + bytes([data[-30] ^ 1]) + data[-29:]


def other_format(data: bytes) -> bytes:
    return b"utxoiqL\x00" + data[8:]


def foreign(data: bytes) -> bytes:
    return b"SQLite format 3\0" * 100


@pytest.mark.parametrize("damage", [cut, emptied, beginning, flipped, other_format, foreign])
def test_a_damaged_file_is_refused_and_made_anew(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    """Torn, cut, changed in one bit, or something else: a LabelError with what to do; labels come from the source."""
    path = written(tmp_path, row("a", label(*ADDRESSES)))
    sound = labels_for(MAIN, path)
    target = cache_path(path, MAIN)
    data = target.read_bytes()
    target.unlink()
    target.write_bytes(damage(data))
    with pytest.raises(LabelError, match=r"delete it|can't be read"):
        Compiled(target, MAIN, source_digest(path))
    alike(labels_for(MAIN, path), sound)
    assert target.read_bytes() == data


def test_one_of_something_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another network, another source, or other keys."""
    path = written(tmp_path, row("a"))
    target = cache_path(path, MAIN)
    source = compile_labels(path, MAIN, target)
    assert Compiled(target, MAIN, source).version.startswith("none-")
    for network, digest in ((REGTEST, source), (MAIN, "0" * 64)):
        with pytest.raises(LabelError, match="was compiled from another label file, network or version"):
            Compiled(target, network, digest)
    monkeypatch.setattr("utxoiq.entities.compiled.key_check", lambda: "0" * 16)
    with pytest.raises(LabelError, match="was compiled from another"):
        Compiled(target, MAIN, source)


def test_nowhere_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A LabelError that says what to set, and nothing half made."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(LabelError, match=r"can't be written .*set XDG_CACHE_HOME"):
        compiled_for(written(tmp_path, row("a")), MAIN)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(LabelError, match="No space left on device"):
        labels_for(MAIN, written(tmp_path, row("a")))
    assert list((tmp_path / "cache" / "utxoiq-labels").iterdir()) == []


def test_scripts_are_mapped_not_copied(tmp_path: Path) -> None:
    """Every array of a compiled set is a read-only view."""
    labels = labels_for(MAIN, written(tmp_path, row("a", label(*ADDRESSES))))
    arrays = [labels.scripts.blob, labels.scripts.offsets, labels.scripts.label]
    assert not any(array.flags.owndata or array.flags.writeable for array in arrays)


def test_a_large_file_is_compiled_and_a_small_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = written(tmp_path, row("a", label(*ADDRESSES)))
    labels_for(MAIN, path)
    assert not cache_path(path, MAIN).exists()
    path.write_text(path.read_text().replace(": [", ": [" + " " * (1 << 20), 1))
    labels_for(MAIN, path)
    assert cache_path(path, MAIN).exists()
