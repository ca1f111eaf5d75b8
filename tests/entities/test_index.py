"""The index of labelled scripts finds exactly those, against a plain dict."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest

from helpers.build import coinbase, unmined
from helpers.recorded import Recorded, every_block_with_spent
from utxoiq.chain.address import script_of
from utxoiq.chain.block import Outputs, decode_block, read_rest_spent
from utxoiq.chain.network import NETWORKS
from utxoiq.chain.serialize import Tx, TxInput
from utxoiq.entities.index import ScriptIndex
from utxoiq.entities.labels import packaged_labels

MAIN = NETWORKS["main"]


def outputs_of(scripts: Sequence[bytes]) -> Outputs:
    """The outputs of a decoded block that pays one satoshi to each of these, after a coinbase that pays to nobody."""
    payment = Tx((TxInput(b"\x01" * 32, 0),), tuple((1, script) for script in scripts) or ((0, b""),))
    outputs = decode_block(unmined([coinbase([(0, b"\x6a")]), payment]), MAIN, check=False).outputs
    columns = (outputs.value, outputs.offset, outputs.length, outputs.type, outputs.key)
    return Outputs(outputs.data, *(column[1 : 1 + len(scripts)] for column in columns))


def random_script(random: Random) -> bytes:
    """One of the usual forms, or any bytes."""
    form = random.randrange(6)
    if form == 0:
        return b"\x76\xa9\x14" + random.randbytes(20) + b"\x88\xac"
    if form == 1:
        return b"\xa9\x14" + random.randbytes(20) + b"\x87"
    if form == 2:
        return b"\x00\x14" + random.randbytes(20)
    if form == 3:
        return b"\x51\x20" + random.randbytes(32)
    return random.randbytes(random.randrange(9 if form == 4 else 120))


def random_scripts(seed: int, count: int) -> list[bytes]:
    random, found = Random(seed), dict[bytes, None]()
    while len(found) < count:
        found[random_script(random)] = None
    return list(found)


def by_dict(labelled: Sequence[bytes], scripts: Sequence[bytes]) -> list[int]:
    rows = {script: row for row, script in enumerate(labelled)}
    return [rows.get(script, -1) for script in scripts]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 7, 8, 9, 23, 24, 100, 1000, 5000])
def test_exactly_the_labelled_ones_are_found(count: int) -> None:
    """Among as many strangers, in any order, some of them twice: the row of each labelled script, and else -1."""
    scripts = random_scripts(count, 2 * count)
    labelled, random = scripts[:count], Random(count)
    asked = random.choices(scripts, k=2 * count) + scripts
    assert ScriptIndex(labelled).match(outputs_of(asked)).tolist() == by_dict(labelled, asked)


def test_a_hundred_thousand_scripts() -> None:
    """The same at a size of which the tables no longer fit a cache; all of them are found, and no stranger."""
    scripts = random_scripts(1, 160_000)
    labelled, strangers = scripts[:100_000], scripts[100_000:]
    index = ScriptIndex(labelled)
    for part in (labelled[:50_000], labelled[50_000:], strangers):
        assert index.match(outputs_of(part)).tolist() == by_dict(labelled, part)
    assert index.nbytes < 100 * len(labelled)


def test_an_empty_set_finds_nothing() -> None:
    """No labels, no matches; and no outputs, no rows."""
    asked = outputs_of([b"", b"\x51", *random_scripts(2, 50)])
    assert ScriptIndex([]).match(asked).tolist() == [-1] * 52
    assert ScriptIndex([b"\x51"]).match(outputs_of([])).tolist() == []
    assert ScriptIndex([]).match(outputs_of([])).tolist() == []


def test_the_empty_script_is_a_script() -> None:
    """It is found where it is labelled, and only there."""
    assert ScriptIndex([b"\x51", b""]).match(outputs_of([b"", b"\x51", b"\0"])).tolist() == [1, 0, -1]
    assert ScriptIndex([b"\x51"]).match(outputs_of([b""])).tolist() == [-1]


def test_scripts_that_begin_alike_are_told_apart() -> None:
    """Every beginning of one long script is another script."""
    long = Random(4).randbytes(300)
    beginnings = [long[:size] for size in range(301)]
    labelled = beginnings[::2]
    assert ScriptIndex(labelled).match(outputs_of(beginnings)).tolist() == by_dict(labelled, beginnings)


def from_blob(scripts: Sequence[bytes]) -> ScriptIndex:
    offsets = np.cumsum([0, *map(len, scripts)]).astype(np.int64)
    return ScriptIndex.from_blob(np.frombuffer(b"".join(scripts), np.uint8), offsets)


@pytest.mark.parametrize("make", [ScriptIndex, from_blob])
def test_an_equal_key_does_not_match(make: type[ScriptIndex]) -> None:
    """Scripts made to collide: with the key of a labelled script but other bytes, or other length, nothing is found."""
    labelled = [b"\x00\x14" + bytes([n]) * 20 for n in range(2)]
    forged = [
        b"\x00\x14" + b"\xff" * 20,  # a stranger
        labelled[1],  # labelled itself, but not under this key
        labelled[0][:-1],
        labelled[0] + b"\0",
        b"",
        labelled[0],
    ]
    asked = outputs_of(forged)
    key = outputs_of(labelled).key[0]
    index = make(labelled)
    collided = dataclasses.replace(asked, key=np.full(len(forged), key, np.uint64))
    assert index.match(collided).tolist() == [-1, -1, -1, -1, -1, 0]
    assert index.match(asked).tolist() == [-1, 1, -1, -1, -1, 0]


def test_a_blob_is_the_same_as_a_list() -> None:
    """Scripts laid end to end give the same rows."""
    scripts = random_scripts(6, 3000)
    asked = outputs_of(scripts)
    assert np.array_equal(from_blob(scripts[:1500]).match(asked), ScriptIndex(scripts[:1500]).match(asked))


def test_a_mapped_file_will_do(tmp_path: Path) -> None:
    """Scripts and offsets in files mapped read-only."""
    scripts = random_scripts(7, 200)
    (tmp_path / "blob").write_bytes(b"".join(scripts[:100]))
    (tmp_path / "offsets").write_bytes(np.cumsum([0, *map(len, scripts[:100])]).astype(np.int64).tobytes())
    mapped = (np.memmap(tmp_path / name, kind, "r") for name, kind in (("blob", np.uint8), ("offsets", np.int64)))
    assert ScriptIndex.from_blob(*mapped).match(outputs_of(scripts)).tolist() == by_dict(scripts[:100], scripts)


@every_block_with_spent
def test_labels_in_real_blocks(recorded: Recorded) -> None:
    """The packaged labels over the outputs a block makes and those it spends: the owner the label set names."""
    labels = packaged_labels()
    owners = {script_of(a, MAIN): entity.id for entity in labels.entities.values() for a in entity.addresses}
    scripts = list(owners)
    index, block = ScriptIndex(scripts), recorded.decoded()
    for outputs in (block.outputs, read_rest_spent(block, recorded.spent).outputs):
        found = index.match(outputs).tolist()
        first = 0 if outputs is block.outputs else 1  # row 0 of the spent ones is the coinbase
        for row in range(first, len(found)):
            owner = labels.owner_of(outputs.script(row))
            assert (scripts[found[row]] if found[row] >= 0 else None) == (outputs.script(row) if owner else None)


def test_a_packaged_label_is_found_among_strangers() -> None:
    """Each of the 43,780 packaged scripts, hidden among as many random ones."""
    addresses = {address for entity in packaged_labels().entities.values() for address in entity.addresses}
    labelled = [script_of(address, MAIN) for address in sorted(addresses)]
    asked = labelled + random_scripts(8, len(labelled))
    Random(8).shuffle(asked)
    assert ScriptIndex(labelled).match(outputs_of(asked)).tolist() == by_dict(labelled, asked)
