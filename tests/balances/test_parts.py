"""The parts, each against the plainest thing that does the same."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.build import OP_TRUE, coinbase, unmined
from utxoiq.balances._siphash import hash_one
from utxoiq.balances.delta import Delta
from utxoiq.balances.run import Run, Scratch, run_path, split_records, write_run
from utxoiq.balances.tally import OVERWRITING, tally_block
from utxoiq.chain.block import Block, Spent, decode_block, read_rest_spent
from utxoiq.chain.network import NETWORKS
from utxoiq.chain.serialize import spenttxouts_bytes

LEDGER = bytes(range(16))
VECTORS = {
    0: "a3817f04ba25a8e66df67214c7550293", 1: "da87c1d86b99af44347659119b22fc45",
    2: "8177228da4a45dc7fca38bdef60affe4", 3: "9c70b60c5267a94e5f33b6b02985ed51",
    15: "5493e99933b0a8117e08ec0f97cfc3d9",
}  # fmt: skip
"""SipHash-2-4-128 of 00 01 02 ..., key 00 .. 0f (the reference implementation's vectors_sip128)."""


@pytest.mark.parametrize("length", VECTORS)
def test_siphash_gives_the_reference_vectors(length: int) -> None:
    secret, key = np.frombuffer(LEDGER, np.uint64), np.empty(2, np.uint64)
    hash_one(secret[0], secret[1], np.arange(max(length, 1), dtype=np.uint8), 0, length, key)
    assert key.tobytes().hex() == VECTORS[length]


def sorted_keys(rng: random.Random, count: int) -> NDArray[np.uint64]:
    """Keys with crowds of neighbours, and some with the same first word."""
    firsts = [
        rng.choice([rng.getrandbits(64), rng.randrange(4) << 61 | rng.randrange(30), 2**64 - 1 - rng.randrange(3)])
        for _ in range(count)
    ]  # fmt: skip
    return np.array(sorted({(first, rng.randrange(1, 9)) for first in firsts}), np.uint64).reshape(-1, 2)


def values_for(rng: random.Random, count: int) -> NDArray[np.uint64]:
    return np.array(
        [(rng.choice([0, rng.randrange(1, 1 << 50)]), rng.getrandbits(60)) for _ in range(count)], np.uint64
    )


def test_a_delta_is_a_sorted_dict() -> None:
    rng = random.Random(4)
    delta, plain = Delta(3000), dict[tuple[int, ...], list[int]]()
    for turn in range(400):
        keys = sorted_keys(rng, rng.randrange(1, 60))
        values = values_for(rng, len(keys))
        new = [tuple(key) not in plain for key in keys.tolist()]
        assert delta.put(keys, values).astype(bool).tolist() == new
        plain.update(zip(map(tuple, keys.tolist()), values.tolist(), strict=True))
        asked = np.concatenate([sorted_keys(rng, 20), keys])
        found = np.zeros((len(asked), 2), np.uint64)
        pending = delta.find(asked, found)
        assert pending.astype(bool).tolist() == [tuple(key) not in plain for key in asked.tolist()]
        assert found.tolist() == [plain.get(tuple(key), [0, 0]) for key in asked.tolist()]
        if turn % 4 == 0:
            first, last = sorted([rng.getrandbits(64), rng.choice([rng.getrandbits(64), 2**64 - 1, 1 << 61])])
            inside = {key: value for key, value in plain.items() if first <= key[0] <= last}
            records = delta.between(first, last, delta.count).reshape(-1, 4).tolist()
            assert records == [[*key, *inside[key]] for key in sorted(inside)]
            delta.forget(first, last, len(inside))
            plain = {key: value for key, value in plain.items() if key not in inside}
        assert delta.count == len(plain)


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 500])
def test_a_run_gives_back_what_was_written_and_takes_changes(count: int, tmp_path: Path) -> None:
    rng = random.Random(count)
    plain = dict[tuple[int, ...], list[int]]()
    for number in range(6):
        records = np.array([[*key, *plain[key]] for key in sorted(plain)], np.uint64).reshape(-1)
        write_run(run_path(tmp_path, number), LEDGER, number, records)
        run = Run(run_path(tmp_path, number), LEDGER, number, Scratch())
        run.check()
        asked = np.array(sorted([*sorted_keys(rng, 50).tolist(), *map(list, plain)]), np.uint64).reshape(-1, 2)
        found, pending = np.zeros((len(asked), 2), np.uint64), np.ones(len(asked), np.uint8)
        run.lookup(asked, 0, len(asked), pending, found)
        assert found.tolist() == [plain.get(tuple(key), [0, 0]) for key in asked.tolist()]
        keys = sorted_keys(rng, count)
        values = values_for(rng, len(keys))
        changed = np.concatenate([keys, values], axis=1).reshape(-1) if count else np.zeros(0, np.uint64)
        plain.update(zip(map(tuple, keys.tolist()), values.tolist(), strict=True))
        plain = {key: value for key, value in plain.items() if value[0]}
        assert run.merged(changed).reshape(-1, 4).tolist() == [[*key, *plain[key]] for key in sorted(plain)]


def test_what_is_too_long_is_split_where_the_first_words_differ() -> None:
    firsts = sorted([5] * 40 + list(range(100, 160)))
    records = np.array([(first, n + 1, 1, 1) for n, first in enumerate(firsts)], np.uint64).reshape(-1)
    pieces = list(split_records(3, records, 30))
    assert np.concatenate([piece for _, piece in pieces]).tolist() == records.tolist()
    for first, piece in pieces[1:]:
        assert not len(piece) or piece[0] == first
    edges = [(int(piece[0]), int(piece[-4])) for _, piece in pieces if len(piece)]
    assert all(left[1] < right[0] for left, right in pairwise(edges))
    assert next(iter(split_records(3, records, 100)))[0] == 3


def made_block(outputs: list[tuple[int, bytes]]) -> tuple[Block, Spent]:
    block = decode_block(unmined([coinbase(outputs)]), NETWORKS["main"], check=False)
    return block, read_rest_spent(block, spenttxouts_bytes([[]], 1))


def test_what_can_never_be_spent_is_in_no_balance() -> None:
    outputs = [(1, b"\x6a"), (2, b"\x6a\x01a"), (4, b"\x51" * 10_001), (8, b"\x51" * 10_000), (16, b""), (0, OP_TRUE)]
    block, spent = made_block(outputs)
    secret = np.array([1, 2], np.uint64)
    tally = tally_block(block, spent, 5, secret)
    found = {tally.script(i): int(tally.net[i]) for i in range(len(tally.keys))}
    assert found == {b"\x51" * 10_000: 8, b"": 16, OP_TRUE: 0}
    assert len(tally_block(block, spent, 0, secret).keys) == 0


def test_the_two_coinbases_that_overwrote_an_unspent_one_add_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """BIP 30: at 91,842 and 91,880 a coin took the place of one with the same txid, which is gone."""
    assert {height for height, _ in OVERWRITING} == {91_842, 91_880}
    block, spent = made_block([(50, OP_TRUE)])
    secret = np.array([1, 2], np.uint64)
    assert tally_block(block, spent, 91_842, secret).net.tolist() == [50]
    monkeypatch.setattr("utxoiq.balances.tally.OVERWRITING", {(91_842, block.block_hash)})
    assert len(tally_block(block, spent, 91_842, secret).keys) == 0
    assert tally_block(block, spent, 91_843, secret).net.tolist() == [50]
