"""Txids, wtxids and merkle roots: the SHA instructions, hashlib, and a plain implementation agree."""

from __future__ import annotations

import hashlib
from random import Random

import numpy as np
import pytest

from helpers.build import coinbase, unmined
from helpers.recorded import Recorded, every_block
from helpers.reference import merkle_root, read_block, sha256d
from utxoiq.chain import hashing
from utxoiq.chain.block import Block, decode_block
from utxoiq.chain.hashes import double_sha256
from utxoiq.chain.network import NETWORKS
from utxoiq.chain.serialize import Tx, TxInput

REGTEST = NETWORKS["regtest"]


def by_hashlib(block: Block, *, witness: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Txids and wtxids as a machine without the SHA instructions computes them."""
    txids, wtxids = np.zeros((2, block.n_tx, 32), np.uint8)
    hashing._hash_by_hashlib(block.raw.tobytes(), block.tx, witness, txids, wtxids)
    wtxids[0] = 0
    return txids, wtxids


@every_block
def test_kernels_and_hashlib_agree_on_real_blocks(recorded: Recorded) -> None:
    """Every txid and wtxid, and both merkle roots, by the instructions and by hashlib."""
    block = recorded.decoded()
    ids = hashing.transaction_ids(block.raw, block.tx)
    for leaves, expected in zip(ids, by_hashlib(block), strict=True):
        assert np.array_equal(leaves, expected)
        assert hashing.merkle_root(leaves) == hashing._merkle_by_hashlib([leaf.tobytes() for leaf in leaves])
    assert np.array_equal(ids[0], block.txids)
    assert hashing.merkle_root(block.txids) == (block.header.merkle_root, False)


@every_block
def test_txids_do_not_depend_on_whether_wtxids_are_wanted(recorded: Recorded) -> None:
    """Left out or not, by the instructions and by hashlib."""
    block = recorded.decoded()
    assert np.array_equal(hashing.transaction_ids(block.raw, block.tx, witness=False)[0], block.txids)
    assert np.array_equal(by_hashlib(block, witness=False)[0], block.txids)


@every_block
def test_a_plain_reader_finds_the_same_ids(recorded: Recorded) -> None:
    """A second reader, in plain Python, hashes what it read itself."""
    block, transactions = recorded.decoded(), read_block(recorded.raw)
    txids, wtxids = hashing.transaction_ids(block.raw, block.tx)
    assert txids.tobytes() == block.txids.tobytes() == b"".join(sha256d(tx.stripped) for tx in transactions)
    assert wtxids.tobytes() == bytes(32) + b"".join(sha256d(tx.whole) for tx in transactions[1:])
    assert block.tx.stripped_size.tolist() == [len(tx.stripped) for tx in transactions]


@pytest.mark.parametrize("count", range(1, 71))
def test_merkle_roots_of_all_small_trees(count: int) -> None:
    """1 to 70 leaves, odd levels included, against a plain implementation; nothing is duplicated."""
    leaves = [sha256d(bytes([count, n])) for n in range(count)]
    expected = (merkle_root(leaves), False)
    assert hashing.merkle_root(np.frombuffer(b"".join(leaves), np.uint8).reshape(-1, 32)) == expected
    assert hashing._merkle_by_hashlib(leaves) == expected


@pytest.mark.parametrize("count", range(2, 71))
def test_a_duplicated_pair_is_seen_exactly_where_it_is_hashed_together(count: int) -> None:
    """Equal neighbours at an even place are a duplicated branch, at an odd place they are not (Core's rule)."""
    leaves = [sha256d(bytes([count, n])) for n in range(count)]
    for at in range(count - 1):
        equal = [*leaves[: at + 1], leaves[at], *leaves[at + 2 :]]
        expected = (merkle_root(equal), at % 2 == 0)
        assert hashing.merkle_root(np.frombuffer(b"".join(equal), np.uint8).reshape(-1, 32)) == expected
        assert hashing._merkle_by_hashlib(equal) == expected


@pytest.mark.parametrize("branch", [1, 2, 4, 8, 16])
def test_a_duplicated_branch_is_seen_at_every_level(branch: int) -> None:
    """Repeating the last 2**k leaves of a tree that is odd at level k leaves the root and is seen."""
    for odd in (3, 5, 7):
        leaves = [sha256d(bytes([odd, n])) for n in range(odd * branch)]
        forged = leaves + leaves[-branch:]
        assert merkle_root(forged) == merkle_root(leaves)
        for tree, seen in ((leaves, False), (forged, True)):
            expected = (merkle_root(tree), seen)
            assert hashing.merkle_root(np.frombuffer(b"".join(tree), np.uint8).reshape(-1, 32)) == expected
            assert hashing._merkle_by_hashlib(tree) == expected


def test_nearly_equal_neighbours_are_not_equal() -> None:
    """Leaves that differ in any single byte are no duplicated branch."""
    leaf = sha256d(b"leaf")
    for at in range(32):
        other = leaf[:at] + bytes([leaf[at] ^ 1]) + leaf[at + 1 :]
        found = hashing.merkle_root(np.frombuffer(leaf + other, np.uint8).reshape(-1, 32))
        assert found == (merkle_root([leaf, other]), False)


def test_merkle_root_leaves_its_input_alone() -> None:
    """The leaves are the block's txids: they are not the place to compute in."""
    leaves = np.frombuffer(b"".join(sha256d(bytes([n])) for n in range(13)), np.uint8).reshape(-1, 32).copy()
    before = leaves.copy()
    hashing.merkle_root(leaves)
    assert np.array_equal(leaves, before)


def test_transactions_of_all_lengths_are_hashed_right() -> None:
    """Around every boundary of SHA-256's 64-byte blocks, in both lanes, with and without witness."""
    random = Random(3)
    transactions = [coinbase()]
    for length in [*range(150), *random.choices(range(150, 3000), k=100)]:
        script, witness = bytes(length), (random.randbytes(length),) if random.random() < 0.5 else ()
        transactions.append(Tx((TxInput(b"\1" * 32, length, script, witness=witness),), ((length, script),)))
    for seed in range(5):
        Random(seed).shuffle(rest := transactions[1:])
        block = decode_block(unmined([transactions[0], *rest]), REGTEST, check=False)
        assert [bytes(block.txid(t + 1)) for t in range(len(rest))] == [bytes(tx.txid) for tx in rest]
        txids, wtxids = hashing.transaction_ids(block.raw, block.tx)
        assert wtxids[1:].tobytes() == b"".join(bytes(tx.wtxid) for tx in rest)
        for ids, expected in zip((txids, wtxids), by_hashlib(block), strict=True):
            assert np.array_equal(ids, expected)


def test_double_sha256_is_sha256_twice() -> None:
    """Against the known value for the empty string and against hashlib."""
    assert double_sha256(b"").hex() == "5df6e0e2761359d30a8275058e299fcc0381534545f55cf43e41983f5d4c9456"
    assert double_sha256(b"abc") == hashlib.sha256(hashlib.sha256(b"abc").digest()).digest()
