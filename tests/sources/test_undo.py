"""Which undo record goes to which block, with hand-made siblings in one file: the right one, or none."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import pytest

from helpers.build import OP_TRUE, coinbase, height_push, mined
from sources.files import REGTEST, UndoRecord, blk_record, rev_record, write_blocks, write_pair
from utxoiq.chain.block import decode_block
from utxoiq.chain.hashes import Hash256, double_sha256
from utxoiq.chain.serialize import Coin, Tx, TxInput, coins_from_columns, undo_bytes
from utxoiq.sources.blockdir import BlockDirectory

PARENT = bytes(REGTEST.genesis or b"")
SCRIPT = b"\x52"
Spend = tuple[Tx, list[Coin]]


def spend(*coins: tuple[int, int], out: int = 1000, sources: Sequence[bytes] = ()) -> Spend:
    """A transaction that spends coins of (origin, sat) and makes one output of `out` sat."""
    txids = [*sources, *(bytes([origin]) * 32 for origin, _ in coins[len(sources) :])]
    inputs = tuple(TxInput(txid, 0) for txid in txids)
    return Tx(inputs, ((out, OP_TRUE),)), [Coin(value, SCRIPT, 1) for _, value in coins]


def sibling(name: str, *spends: Spend, parent: bytes = PARENT, height: int = 1) -> tuple[bytes, bytes]:
    """A block on `parent` and its undo data."""
    script = height_push(height) + bytes([len(name)]) + name.encode()
    raw = mined([coinbase(script=script), *(tx for tx, _ in spends)], parent)
    return raw, undo_bytes([coins for _, coins in spends])


def matched(folder: Path, blocks: Sequence[bytes], records: Sequence[UndoRecord]) -> list[bytes | None]:
    """What each of these blocks is given, as undo data again."""
    return given(BlockDirectory(write_blocks(folder, blocks, records)), blocks)


def given(source: BlockDirectory, blocks: Sequence[bytes]) -> list[bytes | None]:
    found: list[bytes | None] = []
    for raw in blocks:
        (data,) = source.branch(Hash256(double_sha256(raw[:80])), 1)
        found.append(None if data.spent is None else undo_bytes(coins_from_columns(data.block, data.spent)))
    return found


def on_parent(*payloads: bytes) -> list[UndoRecord]:
    return [(PARENT, payload) for payload in payloads]


def test_a_block_alone_gets_its_record(tmp_path: Path) -> None:
    """Its checksum binds the record to the parent, and there is no other block on it."""
    raw, undo = sibling("a", spend((1, 5000)))
    assert matched(tmp_path, [raw], on_parent(undo)) == [undo]


def test_siblings_of_other_counts_each_get_their_own(tmp_path: Path) -> None:
    """Siblings share the checksum's parent; numbers of transactions and of inputs tell their records apart."""
    pairs = [
        sibling("two", spend((1, 5000)), spend((2, 5000))),
        sibling("one", spend((1, 5000))),
        sibling("one of two inputs", spend((1, 5000), (3, 7000))),
        sibling("one of three", spend((1, 5000), (3, 7000), (4, 9000))),
    ]
    blocks, undo = [raw for raw, _ in pairs], [payload for _, payload in pairs]
    for n, order in enumerate(permutations(undo)):
        assert matched(tmp_path / str(n), blocks, on_parent(*order)) == undo


def test_siblings_told_apart_by_what_they_pay_out(tmp_path: Path) -> None:
    """Of the same shape: the one that pays out more than a record brings can't be the record's block."""
    small, small_undo = sibling("small", spend((1, 5000), out=4000))
    large, large_undo = sibling("large", spend((2, 9000), out=8000))
    for n, order in enumerate(permutations([small_undo, large_undo])):
        found = matched(tmp_path / str(n), [small, large], on_parent(*order))
        assert found[0] == small_undo
        assert found[1] in (None, large_undo)  # that it fits the small block too may leave it to nobody


def test_siblings_told_apart_by_spends_inside_the_block(tmp_path: Path) -> None:
    """Of the same shape and worth: what one transaction makes and the next spends fits only its own block."""
    pairs = []
    for n, value in enumerate((3000, 4000)):
        first = spend((1 + n, 5000), out=value)
        follows = spend((0, value), out=1000, sources=[bytes(first[0].txid)])
        follows[1][:] = [Coin(value, OP_TRUE, 1)]
        pairs.append(sibling(f"chain {n}", first, follows))
    blocks, undo = [raw for raw, _ in pairs], [payload for _, payload in pairs]
    for n, order in enumerate(permutations(undo)):
        assert matched(tmp_path / str(n), blocks, on_parent(*order)) == undo


def test_one_record_that_fits_two_siblings_goes_to_neither(tmp_path: Path) -> None:
    """Two blocks of one shape spend different coins and there is one record: whose it is can't be known."""
    a, undo_a = sibling("a", spend((1, 5000)))
    b, undo_b = sibling("b", spend((2, 6000)))
    for n, undo in enumerate((undo_a, undo_b)):
        assert matched(tmp_path / str(n), [a, b], on_parent(undo)) == [None, None]


def test_two_records_that_each_fit_both_siblings_go_to_neither(tmp_path: Path) -> None:
    """Two such blocks and two such records: the order of the records would be a guess."""
    a, undo_a = sibling("a", spend((1, 5000)))
    b, undo_b = sibling("b", spend((2, 6000)))
    assert matched(tmp_path / "ab", [a, b], on_parent(undo_a, undo_b)) == [None, None]
    assert matched(tmp_path / "ba", [a, b], on_parent(undo_b, undo_a)) == [None, None]


def test_a_sibling_no_record_fits_keeps_nothing_back(tmp_path: Path) -> None:
    """A block that was never connected and that pays out too much for the record leaves it to its sibling."""
    connected, undo = sibling("connected", spend((1, 5000), out=4000))
    never, _ = sibling("never", spend((2, 90_000), out=80_000))
    assert matched(tmp_path, [connected, never], on_parent(undo)) == [undo, None]
    assert matched(tmp_path / "again", [never, connected], on_parent(undo)) == [None, undo]


@pytest.mark.parametrize("records", [1, 2])
def test_siblings_that_spend_the_same_share_the_record(tmp_path: Path, records: int) -> None:
    """Two blocks of the same spends: the undo data of one is that of the other, stored once or twice."""
    a, undo = sibling("a", spend((1, 5000)), spend((2, 6000), (3, 1)))
    b, same = sibling("b", spend((1, 5000)), spend((2, 6000), (3, 1)))
    assert a != b
    assert undo == same
    assert matched(tmp_path, [a, b], on_parent(*[undo] * records)) == [undo, undo]


def test_equal_undo_data_of_different_spends_takes_two_records(tmp_path: Path) -> None:
    """Different coins of the same value, script and height: with a record for each both are known, with one neither."""
    a, undo = sibling("a", spend((1, 5000)))
    b, same = sibling("b", spend((2, 5000)))
    assert undo == same
    assert matched(tmp_path / "two", [a, b], on_parent(undo, undo)) == [undo, undo]
    assert matched(tmp_path / "one", [a, b], on_parent(undo)) == [None, None]


def test_the_same_spends_grouped_otherwise_are_not_the_same(tmp_path: Path) -> None:
    """Equal outpoints in equal order, but in other transactions: each record fits one of the blocks."""
    a, undo_a = sibling("a", spend((1, 5000), (2, 5000)), spend((3, 5000)))
    b, undo_b = sibling("b", spend((1, 5000)), spend((2, 5000), (3, 5000)))
    assert undo_a != undo_b
    assert matched(tmp_path / "both", [a, b], on_parent(undo_b, undo_a)) == [undo_a, undo_b]
    assert matched(tmp_path / "one", [a, b], on_parent(undo_b)) == [None, undo_b]


def test_a_coinbase_alone_needs_no_record(tmp_path: Path) -> None:
    """A block without transactions spends nothing, with an undo record, without one, or without any undo file."""
    empty, undo = sibling("empty")
    assert matched(tmp_path / "record", [empty], on_parent(undo)) == [b"\0"]
    assert matched(tmp_path / "no record", [empty], []) == [b"\0"]
    source = BlockDirectory(write_pair(tmp_path / "no file", blk_record(empty), None))
    assert given(source, [empty]) == [b"\0"]


@pytest.mark.parametrize("what", ["checksum", "payload", "parent", "magic", "size"])
def test_a_corrupted_record_is_no_record(tmp_path: Path, what: str) -> None:
    """One wrong bit anywhere in a record, or another parent: it is not this block's, and nothing is known."""
    raw, undo = sibling("a", spend((1, 5000)))
    record = bytearray(rev_record(PARENT if what != "parent" else bytes(32), undo))
    at = {"checksum": -1, "payload": 10, "magic": 0, "size": 4}.get(what)
    if at is not None:
        record[at] ^= 1
    assert given(BlockDirectory(write_pair(tmp_path, blk_record(raw), bytes(record))), [raw]) == [None]


def test_a_record_with_a_right_checksum_that_does_not_fit_is_none(tmp_path: Path) -> None:
    """Bound to the parent, but for more inputs than the block has, or worth too little: not given to the block."""
    raw, _ = sibling("a", spend((1, 5000), out=4000))
    wrong = [
        undo_bytes([[Coin(5000, SCRIPT, 1), Coin(1, SCRIPT, 1)]]),
        undo_bytes([[Coin(3999, SCRIPT, 1)]]),
        undo_bytes([[Coin(5000, SCRIPT, 1)]]) + b"\0",
        undo_bytes([[Coin(5000, SCRIPT, 1)]])[:-1],
    ]
    for n, payload in enumerate(wrong):
        assert matched(tmp_path / str(n), [raw], on_parent(payload)) == [None]


def test_records_in_any_order_over_a_chain(tmp_path: Path) -> None:
    """Blocks of the same shape one after the other: the parent's hash in the checksum tells their records apart."""
    parent, blocks, undo, records = PARENT, [], [], []
    for height in range(1, 6):
        raw, payload = sibling("chain", spend((height, 5000 + height)), parent=parent, height=height)
        blocks.append(raw)
        undo.append(payload)
        records.append((parent, payload))
        parent = double_sha256(raw[:80])
    assert [decode_block(raw, REGTEST).coinbase.height for raw in blocks] == [1, 2, 3, 4, 5]
    for n, order in enumerate(permutations(records)):
        assert matched(tmp_path / str(n), blocks, order) == undo


def test_a_sibling_in_another_file_takes_nothing_away(tmp_path: Path) -> None:
    """Undo data lies in the file of its block's number, so a sibling elsewhere is no rival for it."""
    a, undo_a = sibling("a", spend((1, 5000)))
    b, undo_b = sibling("b", spend((2, 6000)))
    write_blocks(tmp_path, [a], on_parent(undo_a), number=0)
    write_blocks(tmp_path, [b], on_parent(undo_b), number=1)
    assert given(BlockDirectory(tmp_path), [a, b]) == [undo_a, undo_b]
    write_blocks(tmp_path, [b], [], number=1)
    assert given(BlockDirectory(tmp_path), [a, b]) == [undo_a, None]


@pytest.mark.parametrize("count", [252, 253, 300])
def test_records_of_many_transactions(tmp_path: Path, count: int) -> None:
    """The number of transactions is found where CompactSize needs one byte and where it needs three."""
    spends = [spend((n % 200 + 1, 5000 + n), out=1000 + n) for n in range(count)]
    raw, undo = sibling("many", *spends)
    other, other_undo = sibling("fewer", *spends[:-1])
    assert matched(tmp_path, [raw, other], on_parent(other_undo, undo)) == [undo, other_undo]
