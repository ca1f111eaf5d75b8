"""The table of script owners finds what a plain dict would."""

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
from utxoiq.entities.index import ScriptIndex
from utxoiq.entities.labels import Entity, Label, LabelSet
from utxoiq.entities.owners import Owners

REGTEST = NETWORKS["regtest"]
Owned = Sequence[tuple[bytes, int]]

LONG = [253, 254, 255, 256, 257, 520, 10_000, 10_001, 65_534, 65_535, 65_536, 65_537, 70_000, 131_072]
"""Around the lengths at which one, two or three bytes no longer tell them."""

few_scripts = st.one_of(st.binary(max_size=3), st.text("ab", max_size=6).map(str.encode), st.binary(max_size=80))
few_owned = st.lists(st.tuples(few_scripts, st.sampled_from([0, 1, 2, 3, 255, 256, 2**31 - 1])), max_size=40)


def by_dict(owned: Owned) -> dict[bytes, list[int]]:
    """Script -> its owners in order, each once."""
    found = defaultdict[bytes, set[int]](set)
    for script, owner in owned:
        found[script].add(owner)
    return {script: sorted(owners) for script, owners in found.items()}


def by_length(script: bytes) -> tuple[int, bytes]:
    return len(script), script


def check(owned: Owned) -> Owners:
    """The whole table against the dict, row by row, and its answers for these scripts and for others like them."""
    table, expected = Owners(owned), by_dict(owned)
    alone = sorted((script for script, owners in expected.items() if len(owners) == 1), key=by_length)
    contested = sorted((script for script, owners in expected.items() if len(owners) > 1), key=by_length)
    assert len(table) == len(table.owners) == len(alone)
    assert len(table.ends) == len(alone) + 1
    assert [bytes(table.scripts[a:b]) for a, b in zip(table.ends, table.ends[1:], strict=False)] == alone
    assert list(table.owners) == [expected[script][0] for script in alone]
    assert table.contested == [(script, expected[script]) for script in contested]
    for script in expected:
        for asked in (script, script[:-1], script[1:], script + b"\0", script + b"\xff", b"\0" + script, script[::-1]):
            owners = expected.get(asked, [])
            assert table.of(asked) == (owners[0] if len(owners) == 1 else None)
    return table


def test_nothing_is_owned_by_nobody() -> None:
    table = check([])
    assert table.of(b"") is None
    assert table.of(b"\x51") is None


def test_the_empty_script_may_be_owned() -> None:
    assert check([(b"", 3)]).of(b"") == 3
    assert check([(b"", 3), (b"\0", 4), (b"\0\0", 5)]).of(b"\0") == 4
    assert check([(b"", 3), (b"", 4)]).of(b"") is None


@settings(deadline=None)
@given(few_owned)
def test_any_scripts(owned: Owned) -> None:
    """Short ones that share beginnings, with the same one often twice, of one owner or of several."""
    check(owned)


@settings(deadline=None)
@given(few_owned, st.randoms(use_true_random=False))
def test_the_order_they_come_in_does_not_matter(owned: Owned, random: Random) -> None:
    table, again = Owners(owned), Owners(random.sample(owned, len(owned)))
    assert (again.scripts, again.ends, again.owners) == (table.scripts, table.ends, table.owners)
    assert again.contested == table.contested


@pytest.mark.parametrize("fill", [b"\0", b"\xff", b"\x01"])
def test_scripts_of_every_length(fill: bytes) -> None:
    """Each the beginning of the next: none is taken for another."""
    lengths = [*range(300), *LONG]
    check([(fill * length, n) for n, length in enumerate(lengths)])


def test_long_scripts_that_differ_in_one_byte() -> None:
    """Anywhere in more than 65,535 bytes."""
    random = Random(5)
    long = random.randbytes(70_000)
    changed = [long[:at] + bytes([long[at] ^ 1]) + long[at + 1 :] for at in (0, 1, 65_534, 65_535, 65_536, 69_999)]
    table = check([(script, n) for n, script in enumerate([long, *changed])])
    assert [table.of(script) for script in (long, *changed)] == list(range(7))
    assert table.of(long[:100] + bytes([long[100] ^ 1]) + long[101:]) is None


def test_a_script_that_looks_like_another_with_its_owner() -> None:
    """Lengths and numbers stand beside scripts while they are sorted: scripts that end or begin like these."""
    tail, head = (7).to_bytes(4, "big"), (4).to_bytes(4, "big")
    check([(b"", 7), (tail, 7), (head, 4), (head + tail, 7), (tail + tail, 4), (tail, 7), (b"\0" * 4, 0), (b"", 7)])


def test_one_script_of_several_owners_has_none() -> None:
    """However often and in whatever order they are named; its neighbours keep theirs."""
    table = check([(b"b", 5), (b"a", 1), (b"b", 2), (b"b", 5), (b"c", 3), (b"b", 9), (b"c", 3)])
    assert table.contested == [(b"b", [2, 5, 9])]
    assert [table.of(script) for script in (b"a", b"b", b"c")] == [1, None, 3]


def test_the_same_owner_twice_is_one() -> None:
    table = check([(b"a", 1)] * 3)
    assert (len(table), table.of(b"a"), table.contested) == (1, 1, [])


def test_many_scripts() -> None:
    """Twelve thousand of all forms, a tenth of them of two owners."""
    random = Random(11)
    scripts = [random.randbytes(random.choice((0, 1, 2, 20, 22, 23, 25, 34, 35, 67))) for _ in range(12_000)]
    owned = [(script, random.randrange(40)) for script in scripts]
    check(owned + [(script, random.randrange(40)) for script in scripts[::10]])


def test_rows_are_those_of_an_index_over_the_same_bytes() -> None:
    """The flows look scripts up by an index over the table: row by row they agree, for long and empty scripts too."""
    random = Random(12)
    scripts = [b"", *(random.randbytes(length) for length in (*range(1, 90), *LONG))]
    owned = [(script, n % 7) for n, script in enumerate(scripts)] + [(script, 8) for script in scripts[::9]]
    table, expected = Owners(owned), by_dict(owned)
    index = ScriptIndex.from_blob(np.frombuffer(bytes(table.scripts), np.uint8), np.array(table.ends, np.int64))
    asked = [*scripts, *(script + b"\0" for script in scripts), *(script[:-1] for script in scripts)]
    random.shuffle(asked)
    rows = index.match(outputs_of(asked)).tolist()
    for script, row in zip(asked, rows, strict=True):
        owners = expected.get(script, [])
        assert (table.owners[row] if row >= 0 else None) == (owners[0] if len(owners) == 1 else None)


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
        assert owner is None or owner.id == f"e{number}"
    contested = sum(len(owners) - 1 for owners in expected.values())
    assert len(labels.conflicts) == contested > 50


def test_a_label_set_without_labels_owns_nothing() -> None:
    labels = LabelSet((), "none", REGTEST)
    assert labels.owners_of(outputs_of([b"", b"\x51"])).tolist() == [-1, -1]
    assert labels.owners_of(outputs_of([])).tolist() == []
