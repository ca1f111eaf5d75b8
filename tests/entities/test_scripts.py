"""The arrays of owned scripts find what a plain dict would."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entities.test_index import outputs_of
from utxoiq.chain.address import address_of
from utxoiq.chain.network import NETWORKS
from utxoiq.entities.labels import Entity, Label, LabelSet
from utxoiq.entities.scripts import Scripts, Sorted, Written
from utxoiq.errors import LabelError

REGTEST = NETWORKS["regtest"]
Owned = Sequence[tuple[bytes, int]]

LONG = [253, 254, 255, 256, 257, 520, 10_000, 65_535, 65_536, 70_000]

few_scripts = st.one_of(st.binary(max_size=3), st.text("ab", max_size=6).map(str.encode), st.binary(max_size=80))
few_owned = st.lists(st.tuples(few_scripts, st.integers(0, 6)), max_size=40)


def written(owned: Owned) -> Written:
    """Scripts of any form, as if they had been read: script i under label i."""
    table = Written.__new__(Written)
    table.blob = np.frombuffer(b"".join(script for script, _ in owned) + b"\0", np.uint8)
    table.offsets = np.cumsum([0, *(len(script) for script, _ in owned)]).astype(np.int64)
    table.label = np.arange(len(owned), dtype=np.int32)
    return table


def in_order(owned: Owned) -> Sorted:
    return Sorted(written(owned), np.array([owner for _, owner in owned], np.int32))


def by_dict(owned: Owned) -> dict[bytes, list[int]]:
    """Script -> its owners in order, each once."""
    found = defaultdict[bytes, set[int]](set)
    for script, owner in owned:
        found[script].add(owner)
    return {script: sorted(owners) for script, owners in found.items()}


def check(owned: Owned) -> Scripts:
    """The whole table against the dict, and its answers for these scripts and for others like them."""
    ordered, expected = in_order(owned), by_dict(owned)
    table = ordered.scripts()
    alone = {script: owners[0] for script, owners in expected.items() if len(owners) == 1}
    assert {table.script(row): table.owner[table.label[row]] for row in range(len(table))} == alone
    assert len(table) == len(alone)
    assert sorted(ordered.contested()) == sorted((s, owners) for s, owners in expected.items() if len(owners) > 1)
    order = [(key, table.script(row)) for row, key in enumerate(table.keys().tolist())]
    assert order == sorted(order)
    first = {script: min(n for n, (other, _) in enumerate(owned) if other == script) for script in alone}
    asked = [
        like for script in expected
        for like in (script, script[:-1], script[1:], script + b"\0", script + b"\xff", b"\0" + script)
    ]  # fmt: skip
    assert [table.label_of(script) for script in asked] == [first.get(script) for script in asked]
    assert table.owners_of(outputs_of(asked)).tolist() == [alone.get(script, -1) for script in asked]
    return table


def test_nothing_is_owned_by_nobody() -> None:
    assert check([]).label_of(b"\x51") is None


def test_the_empty_script_may_be_owned() -> None:
    check([(b"", 3)])
    check([(b"", 3), (b"\0", 4), (b"\0\0", 5)])
    check([(b"", 3), (b"", 4)])


@settings(deadline=None)
@given(few_owned)
def test_any_scripts(owned: Owned) -> None:
    """Short ones that share beginnings, with the same one often twice, of one owner or of several."""
    check(owned)


@settings(deadline=None)
@given(few_owned, st.randoms(use_true_random=False))
def test_the_order_they_come_in_does_not_matter(owned: Owned, random: Random) -> None:
    table, again = (in_order(some).scripts() for some in (owned, random.sample(owned, len(owned))))
    assert bytes(table.blob) == bytes(again.blob)
    assert np.array_equal(table.offsets, again.offsets)


@pytest.mark.parametrize("fill", [b"\0", b"\xff", b"\x01"])
def test_scripts_of_every_length(fill: bytes) -> None:
    """Each the beginning of the next: none is taken for another."""
    check([(fill * length, n) for n, length in enumerate([*range(100), *LONG])])


def test_long_scripts_that_differ_in_one_byte() -> None:
    """Anywhere in 70,000 bytes."""
    long = Random(5).randbytes(70_000)
    changed = [long[:at] + bytes([long[at] ^ 1]) + long[at + 1 :] for at in (0, 1, 65_534, 65_535, 65_536, 69_999)]
    check([(script, n) for n, script in enumerate([long, *changed])])


def test_scripts_of_one_key_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were all keys the same, the order, the owners and the contested ones would still be those of the bytes."""
    import utxoiq.entities.scripts as module

    def same(_blob: object, _offsets: object, keys: np.ndarray) -> None:
        keys[:] = 7

    random = Random(6)
    owned = [(random.randbytes(random.randrange(4)), random.randrange(3)) for _ in range(200)]
    monkeypatch.setattr(module, "keys_of", same)
    ordered, expected = in_order(owned), by_dict(owned)
    alone = sorted(script for script, owners in expected.items() if len(owners) == 1)
    table = ordered.scripts()
    assert [table.script(row) for row in range(len(table))] == alone
    assert list(ordered.contested()) == sorted((s, owners) for s, owners in expected.items() if len(owners) > 1)


def test_many_scripts() -> None:
    """Twelve thousand of all forms, a tenth of them of two owners."""
    random = Random(11)
    scripts = [random.randbytes(random.choice((0, 1, 2, 20, 22, 23, 25, 34, 35, 67))) for _ in range(6_000)]
    owned = [(script, random.randrange(40)) for script in scripts]
    ordered = in_order(owned + [(script, random.randrange(40)) for script in scripts[::10]])
    assert ordered.kept + len(list(ordered.contested())) == len(set(scripts))


def entity(name: str, scripts: Sequence[bytes]) -> Entity:
    addresses = " ".join(address_of(script, REGTEST) or "" for script in scripts)
    return Entity(name, name, "exchange", None, (), None, (Label("test", "high", "2026-01-01", addresses),))


def test_a_label_set_answers_alike_for_one_script_and_for_a_block() -> None:
    """`owner_of` a script and `owners_of` outputs: the same entity, or none, also for what two of them claim."""
    random = Random(13)
    scripts = [b"\x00\x14" + random.randbytes(20) for _ in range(300)]
    scripts += [b"\x51\x20" + random.randbytes(32) for _ in range(300)]
    parts = [random.sample(scripts, 150) for _ in range(4)]
    labels = LabelSet(tuple(entity(f"e{n}", part) for n, part in enumerate(parts)), "test", REGTEST)
    expected = by_dict([(script, n) for n, part in enumerate(parts) for script in part])
    asked = [*scripts, b"", b"\x6a", *(script[:-1] for script in scripts[:50])]
    for script, number in zip(asked, labels.owners_of(outputs_of(asked)).tolist(), strict=True):
        owners = expected.get(script, [])
        assert number == (owners[0] if len(owners) == 1 else -1)
        owner = labels.owner_of(script)
        assert owner is (labels.numbered(number) if number >= 0 else None)
    contested = sum(len(owners) - 1 for owners in expected.values())
    assert len(labels.conflicts) == contested > 50
    for one in labels.entities.values():
        alone = {a for a in one.addresses if a not in {address for address, *_ in labels.conflicts}}
        assert set(labels.addresses_of(one)) == alone


def test_a_label_set_without_labels_owns_nothing() -> None:
    labels = LabelSet((), "none", REGTEST)
    assert labels.owners_of(outputs_of([b"", b"\x51"])).tolist() == [-1, -1]
    assert labels.owners_of(outputs_of([])).tolist() == []


def test_an_address_that_nobody_checked_is_refused_when_scripts_are_made() -> None:
    """A set made by hand of what is no address: a LabelError that names the entity."""
    one = Entity("x", "X", "exchange", None, (), None, (Label("s", "high", "2026-01-01", "nonsense"),))
    with pytest.raises(LabelError, match="entity x: address: 'nonsense'"):
        LabelSet((one,), "test", REGTEST).owner_of(b"")
