"""What is no block, no spent outputs and no undo data is refused, with a reason and the byte where reading stopped."""

from __future__ import annotations

import copy
import pickle
import struct
from collections.abc import Sequence

import numpy as np
import pytest

from helpers.build import (
    COMMITMENT,
    EASY_BITS,
    EASY_TARGET,
    OP_TRUE,
    body_bytes,
    coinbase,
    mined,
    unmined,
    with_commitment,
)
from helpers.recorded import Recorded, block_named, every_block_with_undo
from helpers.reference import merkle_root, sha256d
from utxoiq.chain.block import MAX_BLOCK_SIZE, Block, Spent, decode_block, read_rest_spent, read_undo_spent
from utxoiq.chain.hashes import NULL_HASH, Hash256
from utxoiq.chain.header import Header, read_header
from utxoiq.chain.network import NETWORKS, Network
from utxoiq.chain.serialize import (
    Coin,
    Tx,
    TxInput,
    compact_size,
    header_bytes,
    output_bytes,
    spenttxouts_bytes,
    tx_bytes,
    undo_bytes,
    varint,
)
from utxoiq.errors import DecodeError
from utxoiq.units import COIN, MAX_MONEY

MAIN, REGTEST = NETWORKS["main"], NETWORKS["regtest"]
SEGWIT = "main_0482683"
OUTPOINT = bytes(31) + b"\x07" + bytes(4)
WITNESS_SPEND = Tx((TxInput(OUTPOINT[:32], 0, witness=(b"\x51",)),), ((1000, OP_TRUE),))
PLAIN_SPEND = Tx((TxInput(OUTPOINT[:32], 0, b"\x00\x00"),), ((1000, OP_TRUE), (2000, OP_TRUE)))


def refused(raw: bytes, network: Network = REGTEST, *, check: bool = True) -> DecodeError:
    """The error decoding raises."""
    with pytest.raises(DecodeError) as caught:
        decode_block(raw, network, check=check)
    assert caught.value.what == "block"
    return caught.value


def refused_body(*transactions: Tx | bytes) -> DecodeError:
    """The error for a block of these transactions, under a header that is not looked at."""
    return refused(unmined(transactions), check=False)


def transactions_of(block: Block) -> list[bytes]:
    raw = block.raw.tobytes()
    return [raw[at : at + size] for at, size in zip(block.tx.offset.tolist(), block.tx.size.tolist(), strict=True)]


def block_of(header: bytes, transactions: Sequence[bytes]) -> bytes:
    return header + body_bytes(transactions)


def stripped(transaction: bytes, block: Block, t: int) -> bytes:
    """A transaction of a decoded block without its witness."""
    witness = int(block.tx.witness_offset[t]) - int(block.tx.offset[t])
    return transaction[:4] + transaction[6:witness] + transaction[-4:] if block.tx.has_witness[t] else transaction


@pytest.mark.parametrize("name", ["main_0000170", "main_0116928", SEGWIT])
def test_a_block_cut_anywhere_is_refused(name: str) -> None:
    """No beginning of a block passes for a block, and reading never stops beyond the cut."""
    recorded = block_named(name)
    raw = recorded.raw
    reasons = set()
    for length in range(len(raw)):
        error = refused(raw[:length], recorded.network)
        assert error.offset is not None
        assert error.offset <= max(80, length)
        assert length >= 80 or error.offset == length
        reasons.add(error.reason.split(",")[0])
    assert reasons == {
        "a header has 80 bytes",
        "ends in the middle",
        "a count larger than the bytes left could hold",
    }


def test_leftover_bytes_are_refused() -> None:
    """A byte after the last transaction is an error, at that byte."""
    recorded = block_named("main_0116928")
    error = refused(recorded.raw + b"\0", recorded.network)
    assert error.reason == "leftover bytes"
    assert error.offset == recorded.size


def test_nothing_is_no_block() -> None:
    """Empty input is refused, with and without checks."""
    assert refused(b"").offset == 0
    assert refused(b"", check=False).offset == 0
    assert refused(bytes(80), check=False).reason == "ends in the middle"


def test_a_header_without_work_is_refused() -> None:
    """A changed nonce leaves a hash above the target."""
    recorded = block_named("main_0000170")
    raw = bytearray(recorded.raw)
    raw[76] ^= 1
    assert "no proof of work" in refused(bytes(raw), recorded.network).reason


def test_a_target_easier_than_the_network_allows_is_refused() -> None:
    """A block with work for regtest is none of mainnet's, whatever it claims."""
    raw = mined([coinbase()])
    assert decode_block(raw, REGTEST).n_tx == 1
    for name in ("main", "test3", "test4", "signet"):
        error = refused(raw, NETWORKS[name])
        assert error.reason == "a target this network does not allow (bits 207fffff)"
        assert error.offset == 72


@pytest.mark.parametrize(
    "bits", [0, 0x00FFFFFF, 0x01003456, 0x04923456, 0x20800000, 0x1D800001, 0x23000001, 0xFF123456]
)
def test_a_target_that_is_no_number_is_refused(bits: int) -> None:
    """Zero, negative and overflowing targets are refused, on every network and without one."""
    raw = header_bytes(4, bytes(32), bytes(32), 0, bits, 0)
    for limit in (None, MAIN.pow_limit, REGTEST.pow_limit):
        with pytest.raises(DecodeError) as caught:
            read_header(raw, limit)
        assert caught.value.offset == 72


@pytest.mark.parametrize(
    ("bits", "target"),
    [
        (0x1D00FFFF, 0xFFFF << 208),
        (0x207FFFFF, 0x7FFFFF << 232),
        (0x1B0404CB, 0x0404CB << 192),
        (0x05009234, 0x92340000),
        (0x04123456, 0x12345600),
        (0x03123456, 0x123456),
        (0x02123456, 0x1234),
        (0x01123456, 0x12),
        (0x00123456, 0),
        (0x01FEDCBA, 0),
        (0x04923456, 0),
        (0x2100FFFF, 0xFFFF << 240),
        (0x220000FF, 0xFF << 248),
        (0x21010000, 0),
        (0x217FFFFF, 0),
        (0x22000100, 0),
        (0x23000001, 0),
        (0xFF123456, 0),
    ],
)
def test_targets_are_read_as_core_reads_them(bits: int, target: int) -> None:
    """`SetCompact`: negative and overflowing values are no targets (`arith_uint256_tests`)."""
    header = Header(1, NULL_HASH, bytes(32), 0, bits, 0, NULL_HASH)
    assert header.target == target
    assert header.work == ((1 << 256) // (target + 1) if target else 0)


def test_a_block_larger_than_any_is_refused() -> None:
    """More than four million bytes are no block, whatever is in them."""
    recorded = block_named("main_0000170")
    error = refused(recorded.raw + bytes(MAX_BLOCK_SIZE), recorded.network)
    assert "4000000" in error.reason
    assert refused(recorded.raw + bytes(MAX_BLOCK_SIZE - recorded.size), recorded.network).reason == "leftover bytes"


def test_a_wrong_merkle_root_is_refused() -> None:
    """A changed output leaves other transactions than the header commits to."""
    recorded = block_named("main_0116928")
    block, raw = recorded.decoded(), bytearray(recorded.raw)
    raw[int(block.outputs.offset[-1])] ^= 1
    assert "merkle root" in refused(bytes(raw), recorded.network).reason


def test_transactions_in_another_order_are_refused() -> None:
    """The merkle root fixes the order."""
    recorded = block_named("main_0116928")
    transactions = transactions_of(recorded.decoded())
    transactions[3], transactions[4] = transactions[4], transactions[3]
    assert "merkle root" in refused(block_of(recorded.raw[:80], transactions), recorded.network).reason


@pytest.mark.parametrize(
    ("name", "repeated"),
    [
        ("main_0125000", 1),
        ("test3_0032768", 1),
        ("main_0075000", 2),
        ("main_0116928", 2),
        ("main_0187500", 2),
        (SEGWIT, 4),
        ("main_0200000", 4),
        ("main_0337500", 8),
        ("main_0866342", 256),
    ],
)
def test_a_block_with_a_repeated_branch_is_refused(name: str, repeated: int) -> None:
    """CVE-2012-2459: transactions repeated at the end so that the merkle root stays, at five levels of the tree."""
    recorded = block_named(name)
    block = recorded.decoded()
    txids = [bytes(block.txid(t)) for t in range(block.n_tx)]
    assert merkle_root(txids) == merkle_root(txids + txids[-repeated:]) == block.header.merkle_root
    transactions = transactions_of(block)
    forged = block_of(recorded.raw[:80], transactions + transactions[-repeated:])
    assert "CVE-2012-2459" in refused(forged, recorded.network).reason


def test_a_changed_witness_is_refused() -> None:
    """One flipped bit of a signature: the txids stay, the commitment does not fit."""
    recorded = block_named(SEGWIT)
    block, raw = recorded.decoded(), bytearray(recorded.raw)
    t = int(np.flatnonzero(block.tx.has_witness)[-1])
    assert t > 0
    raw[int(block.tx.offset[t]) + int(block.tx.size[t]) - 5] ^= 1
    assert np.array_equal(decode_block(bytes(raw), recorded.network, check=False).txids, block.txids)
    assert refused(bytes(raw), recorded.network).reason == "the witness data is not what the coinbase commits to"


def test_a_changed_reserved_value_is_refused() -> None:
    """The coinbase's own witness is part of the commitment."""
    recorded = block_named(SEGWIT)
    raw = bytearray(recorded.raw)
    raw[int(recorded.decoded().tx.witness_offset[0]) + 2] ^= 1
    assert refused(bytes(raw), recorded.network).reason == "the witness data is not what the coinbase commits to"


@pytest.mark.parametrize("name", [SEGWIT, "main_0757739", "main_0866342"])
def test_a_stripped_block_is_refused(name: str) -> None:
    """Without its witnesses a block keeps its hash and merkle root: its fees would be right, its weight wrong."""
    recorded = block_named(name)
    block = recorded.decoded()
    transactions = [stripped(tx, block, t) for t, tx in enumerate(transactions_of(block))]
    error = refused(block_of(recorded.raw[:80], transactions), recorded.network)
    assert "a stripped block" in error.reason


def test_a_block_with_one_witness_missing_is_refused() -> None:
    """Neither all nor none: the commitment does not fit."""
    recorded = block_named(SEGWIT)
    block = recorded.decoded()
    transactions = transactions_of(block)
    t = int(np.flatnonzero(block.tx.has_witness)[-1])
    transactions[t] = stripped(transactions[t], block, t)
    error = refused(block_of(recorded.raw[:80], transactions), recorded.network)
    assert error.reason == "the witness data is not what the coinbase commits to"


def test_a_coinbase_without_its_reserved_value_is_refused() -> None:
    """Witness data needs a coinbase witness of one item of 32 bytes."""
    good = with_commitment([coinbase(), WITNESS_SPEND])
    assert decode_block(mined(good), REGTEST).n_tx == 2
    for witness in ((), (bytes(31),), (bytes(33),), (bytes(32), b""), (b"", bytes(32))):
        spend = TxInput(bytes(32), 0xFFFFFFFF, good[0].inputs[0].script, witness=witness)
        bad = [Tx((spend,), good[0].outputs), *good[1:]]
        assert refused(mined(bad)).reason == "witness data that the coinbase does not commit to"


def test_witness_data_without_a_commitment_is_refused() -> None:
    """A witness nobody committed to could be anything."""
    assert refused(mined([coinbase(), WITNESS_SPEND])).reason == "witness data that the coinbase does not commit to"


def test_the_last_commitment_counts() -> None:
    """BIP 141: of several outputs with the commitment's form it is the last one; longer ones count, shorter don't."""
    committed = with_commitment([coinbase(), WITNESS_SPEND])
    good = committed[0].outputs[-1]
    wrong = (0, COMMITMENT + bytes(32))
    longer = (0, good[1] + b"\x01\xff")
    reserved = committed[0].inputs[0].witness[0]

    def block_with(*outputs: tuple[int, bytes]) -> bytes:
        return mined([coinbase([(0, OP_TRUE), *outputs], witness=reserved), WITNESS_SPEND])

    for outputs in (
        (good,),
        (wrong, good),
        (wrong, longer),
        (good, (0, wrong[1][:-1])),
        (good, (7, b"\x00" + wrong[1])),
    ):
        assert decode_block(block_with(*outputs), REGTEST).n_tx == 2
    assert "not what the coinbase commits to" in refused(block_with(good, wrong)).reason


def test_the_witness_flag_without_a_witness_is_refused() -> None:
    """BIP 144: an all-empty witness must not be written."""
    plain = tx_bytes(PLAIN_SPEND)
    superfluous = plain[:4] + b"\x00\x01" + plain[4:-4] + b"\x00" + plain[-4:]
    error = refused_body(coinbase(), superfluous)
    assert error.reason == "a witness record without any witness"


@pytest.mark.parametrize("flag", [2, 3, 128, 255])
def test_unknown_flags_are_refused(flag: int) -> None:
    """Only flag 1 is defined; the error names the byte behind the version."""
    raw = tx_bytes(WITNESS_SPEND)
    first = unmined([coinbase()])
    error = refused_body(coinbase(), raw[:5] + bytes([flag]) + raw[6:])
    assert error.reason == "an unknown transaction flag"
    assert error.offset == len(first)


def test_transactions_without_inputs_or_outputs_are_refused() -> None:
    """Both counts must be above zero, with the witness flag too."""
    raw = tx_bytes(PLAIN_SPEND)
    padding = bytes(80)
    assert refused_body(coinbase(), raw[:4] + b"\x00\x00" + padding).reason == "a transaction without inputs"
    assert refused_body(coinbase(), raw[:4] + b"\x00\x01\x00" + padding).reason == "a transaction without inputs"
    no_outputs = raw[: 4 + 1 + 36 + 1 + 2 + 4] + b"\x00" + padding
    assert refused_body(coinbase(), no_outputs).reason == "a transaction without outputs"


def test_a_block_without_transactions_is_refused() -> None:
    """There is always a coinbase."""
    error = refused(bytes(80) + b"\x00", check=False)
    assert error.reason == "a block without transactions"
    assert error.offset == 80


NOT_SHORTEST = (
    b"\xfd\x01\x00",
    b"\xfd\xfc\x00",
    b"\xfe\x01\x00\x00\x00",
    b"\xfe\xff\xff\x00\x00",
    b"\xff\x01" + bytes(7),
    b"\xff" + b"\xff" * 8,
    b"\xfe\x01\x00\x00\x02",
    b"\xfe\xff\xff\xff\xff",
)


@pytest.mark.parametrize("size", NOT_SHORTEST, ids=bytes.hex)
def test_lengths_not_in_their_shortest_form_are_refused(size: bytes) -> None:
    """Every count and length of a block: of transactions, inputs, scripts, outputs, and of witness items."""
    first, plain, witness = (tx_bytes(tx) for tx in (coinbase(), PLAIN_SPEND, WITNESS_SPEND))
    places = {
        "transactions": (b"", b"\x01" + first, 0),
        "inputs": (b"\x02" + first, plain, 4),
        "script": (b"\x02" + first, plain, 4 + 1 + 36),
        "outputs": (b"\x02" + first, plain, 4 + 1 + 36 + 3 + 4),
        "output script": (b"\x02" + first, plain, 4 + 1 + 36 + 3 + 4 + 1 + 8),
        "items": (b"\x02" + first, witness, len(witness) - 4 - 3),
        "item": (b"\x02" + first, witness, len(witness) - 4 - 2),
    }
    for place, (before, transaction, at) in places.items():
        damaged = transaction[:at] + size + transaction[at + 1 :] + bytes(400)
        error = refused(bytes(80) + before + damaged, check=False)
        assert "not written in its shortest form" in error.reason, place
        assert error.offset is not None
        assert 80 + len(before) <= error.offset <= 80 + len(before) + at


@pytest.mark.parametrize("count", [2, 252, 253, 0xFFFF, 0x10000, 0x2000000])
def test_counts_beyond_the_bytes_left_are_refused(count: int) -> None:
    """A count is believed only where so many could follow: no memory is set aside for a lie."""
    raw = tx_bytes(coinbase())
    reason = "a count larger than the bytes left could hold"
    assert refused(bytes(80) + compact_size(count) + raw, check=False).reason == reason
    many_inputs = raw[:4] + compact_size(count) + raw[5:]
    assert refused_body(many_inputs).reason == reason
    at = len(raw) - 4 - (8 + 1 + 1) - 1
    many_outputs = raw[:at] + compact_size(count) + raw[at + 1 :]
    assert refused_body(many_outputs).reason == reason


@pytest.mark.parametrize("amounts", [(-1,), (MAX_MONEY + 1,), (2**63 - 1,), (-(2**63),), (MAX_MONEY, 1), (1, -1)])
def test_amounts_out_of_range_are_refused(amounts: tuple[int, ...]) -> None:
    """Each output and their sum lie between 0 and 21 million BTC."""
    bad = Tx(PLAIN_SPEND.inputs, tuple((sat, OP_TRUE) for sat in amounts))
    error = refused_body(coinbase(), bad)
    assert error.reason == "an amount outside 0 to 21 million BTC"
    assert error.offset == len(unmined([coinbase(), bad])) - 4 - 10


def test_the_largest_amount_is_accepted() -> None:
    """Exactly 21 million BTC, in one output or in two."""
    for amounts in ((MAX_MONEY,), (MAX_MONEY - 1, 1), (0, MAX_MONEY)):
        raw = unmined([coinbase(), Tx(PLAIN_SPEND.inputs, tuple((sat, OP_TRUE) for sat in amounts))])
        assert int(decode_block(raw, REGTEST, check=False).tx.value_out[1]) == MAX_MONEY


def test_only_the_first_transaction_is_a_coinbase() -> None:
    """The null outpoint belongs to the first transaction, alone."""
    first = coinbase()
    assert refused_body(PLAIN_SPEND, first).reason == "the first transaction is not a coinbase"
    two = Tx((first.inputs[0], PLAIN_SPEND.inputs[0]), first.outputs)
    assert refused_body(two).reason == "the first transaction is not a coinbase"
    twice = Tx((first.inputs[0], first.inputs[0]), first.outputs)
    assert refused_body(twice).reason == "the first transaction is not a coinbase"
    error = refused_body(first, first)
    assert error.reason == "a coinbase input outside the first transaction"
    assert error.offset == len(unmined([first])) + 5
    hidden = Tx((PLAIN_SPEND.inputs[0], first.inputs[0]), PLAIN_SPEND.outputs)
    assert refused_body(first, hidden).reason == "a coinbase input outside the first transaction"


def test_only_the_whole_null_outpoint_is_null() -> None:
    """A zero txid with another index, or index 0xffffffff of another txid, is an ordinary outpoint."""
    for txid, index in (
        (bytes(32), 0),
        (bytes(32), 0xFFFFFFFE),
        (bytes(31) + b"\1", 0xFFFFFFFF),
        (b"\1" + bytes(31), 0xFFFFFFFF),
    ):
        spend = Tx((TxInput(txid, index),), ((1, OP_TRUE),))
        assert decode_block(unmined([coinbase(), spend]), REGTEST, check=False).n_tx == 2
        assert refused_body(spend).reason == "the first transaction is not a coinbase"


@pytest.mark.parametrize("size", [0, 1, 101, 252, 253, 300])
def test_coinbase_scripts_of_wrong_size_are_refused(size: int) -> None:
    """Consensus wants 2 to 100 bytes."""
    error = refused_body(coinbase(script=bytes(size)))
    assert error.reason == "a coinbase script outside 2 to 100 bytes"
    assert error.offset == 80 + 1 + 4 + 1 + 36


def test_coinbase_scripts_of_the_allowed_sizes_are_accepted() -> None:
    """Two bytes and a hundred are both fine."""
    for size in (2, 100):
        block = decode_block(unmined([coinbase(script=b"\x00" * size)]), REGTEST, check=False)
        assert len(block.coinbase.script_sig) == size


def test_the_error_survives_pickling_and_says_everything() -> None:
    """A process that decodes hands its errors to another one."""
    error = refused(bytes(80) + b"\x00", check=False)
    again = pickle.loads(pickle.dumps(error))
    assert (again.what, again.reason, again.offset) == (error.what, error.reason, error.offset)
    assert str(again) == str(copy.copy(error)) == "block: a block without transactions at byte 80"
    assert str(DecodeError("address", "is none")) == "address: is none"
    assert error.exit_code == 3


# spent outputs, in both forms


def spending_block() -> Block:
    """A coinbase, a transaction with one input, and one with two."""
    two = Tx((TxInput(b"\1" * 32, 0), TxInput(b"\2" * 32, 5)), ((1, OP_TRUE),))
    return decode_block(unmined([coinbase(), PLAIN_SPEND, two]), REGTEST, check=False)


COINS = [[Coin(5 * COIN, OP_TRUE, 7, True)], [Coin(1, b"\x76\xa9\x14" + bytes(20) + b"\x88\xac", 9), Coin(2, b"", 0)]]


def spent_refused(payload: bytes, block: Block | None = None) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        read_rest_spent(block or spending_block(), payload)
    assert caught.value.what == "spent outputs"
    return caught.value


def undo_refused(payload: bytes, block: Block | None = None) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        read_undo_spent(block or spending_block(), payload)
    assert caught.value.what == "undo data"
    return caught.value


def undo_of(*coins: bytes, last: bytes = b"") -> bytes:
    """Undo data for `spending_block` with these serialised coins."""
    return b"\x02\x01" + coins[0] + b"\x02" + b"".join(coins[1:]) + last


def coin(code: int = 2, amount: bytes = b"\x01", script: bytes = b"\x06", version: bytes = b"\x00") -> bytes:
    return varint(code) + (version if code > 1 else b"") + amount + script


def test_both_forms_read_what_was_written() -> None:
    """The payloads the following tests damage are good ones."""
    block = spending_block()
    rest: Spent = read_rest_spent(block, spenttxouts_bytes([[], *COINS], 3))
    undo = read_undo_spent(block, undo_bytes(COINS))
    assert rest.outputs.value.tolist() == undo.outputs.value.tolist() == [0, 5 * COIN, 1, 2]
    assert rest.tx_value_in.tolist() == undo.tx_value_in.tolist() == [0, 5 * COIN, 3]
    assert [undo.outputs.script(row) for row in (1, 2, 3)] == [c.script for row in COINS for c in row]
    assert undo.height is not None
    assert undo.is_coinbase is not None
    assert undo.height.tolist() == [-1, 7, 9, 0]
    assert undo.is_coinbase.tolist() == [255, 1, 0, 0]
    assert read_undo_spent(block, undo_of(coin(), coin(), coin())).tx_value_in.tolist() == [0, 1, 2]


@every_block_with_undo
def test_spent_outputs_of_another_block_are_refused(recorded: Recorded) -> None:
    """Counts that are not the block's are noticed, whichever block they are of."""
    other = block_named("main_0277647" if recorded.name.startswith("main_0361582") else "main_0361582").decoded()
    assert "another number of" in spent_refused(recorded.spent, other).reason
    assert "another number of" in undo_refused(recorded.undo, other).reason


@pytest.mark.parametrize("name", ["main_0000170", "main_0116928", "main_0757739"])
def test_spent_outputs_cut_anywhere_are_refused(name: str) -> None:
    """No beginning of either form passes for the whole, and reading never stops beyond the cut."""
    recorded = block_named(name)
    block = recorded.decoded()
    for payload, refusal in ((recorded.spent, spent_refused), (recorded.undo, undo_refused)):
        for length in range(len(payload)):
            error = refusal(payload[:length], block)
            assert error.reason == "ends in the middle"
            assert error.offset is not None
            assert error.offset <= length


def test_leftover_bytes_after_spent_outputs_are_refused() -> None:
    """A byte too many is an error in both forms, at that byte."""
    rest, undo = spenttxouts_bytes([[], *COINS], 3), undo_bytes(COINS)
    for payload, refusal in ((rest, spent_refused), (undo, undo_refused)):
        error = refusal(payload + b"\0")
        assert error.reason == "leftover bytes"
        assert error.offset == len(payload)


def test_wrong_counts_are_refused() -> None:
    """The numbers of transactions and inputs are the block's, and a coinbase spends nothing."""
    row = output_bytes(1, OP_TRUE)
    for count in (0, 2, 4, 253):
        assert spent_refused(compact_size(count) + b"\0\1" + row).reason.startswith("another number of transactions")
    for count in (0, 1, 3, 253):
        assert undo_refused(compact_size(count) + b"\1" + coin()).reason.startswith("another number of transactions")
    for count in (0, 2, 253, 0x10000):
        inputs = compact_size(count) + row * 9
        assert spent_refused(b"\x03\x00" + inputs).reason == "another number of inputs than the transaction has"
        assert undo_refused(b"\x02" + inputs).reason == "another number of inputs than the transaction has"
    error = spent_refused(b"\x03\x01" + row + b"\x01" + row)
    assert error.reason == "spent outputs for the coinbase"
    assert error.offset == 1


@pytest.mark.parametrize("size", NOT_SHORTEST, ids=bytes.hex)
def test_spent_counts_not_in_their_shortest_form_are_refused(size: bytes) -> None:
    """CompactSize in both forms, for transactions, inputs and (REST) scripts."""
    row = output_bytes(1, OP_TRUE)
    for payload in (size, b"\x03" + size, b"\x03\x00" + size, b"\x03\x00\x01" + bytes(8) + size):
        assert "not written in its shortest form" in spent_refused(payload + row * 9).reason
    for payload in (size, b"\x02" + size):
        assert "not written in its shortest form" in undo_refused(payload + row * 9).reason


@pytest.mark.parametrize(
    "amounts", [(-1, 0), (MAX_MONEY + 1, 0), (2**63 - 1, 1), (-(2**63), 0), (MAX_MONEY, 1), (1, -1)]
)
def test_spent_amounts_out_of_range_are_refused(amounts: tuple[int, int]) -> None:
    """Each spent output and the sum over a transaction lie between 0 and 21 million BTC (REST)."""
    rows = [output_bytes(sat, OP_TRUE) for sat in amounts]
    error = spent_refused(b"\x03\x00\x01" + output_bytes(1, OP_TRUE) + b"\x02" + b"".join(rows))
    assert error.reason == "an amount outside 0 to 21 million BTC"


def compressed(units: int, exponent: int) -> bytes:
    """The compressed form of `units` * 10**`exponent` sat, without a limit: `units` must not end in 0 below 10**9."""
    if exponent == 9:
        return varint(1 + (units - 1) * 10 + 9)
    digits, last = divmod(units, 10)
    return varint(1 + (digits * 9 + last - 1) * 10 + exponent)


@pytest.mark.parametrize(
    "amount",
    [
        compressed(-(-(2**64) // 10**9), 9),  # wraps to 290,448,384 sat
        compressed(-(-(2**64) // 10**8 // 10 * 10) + 1, 8),
        compressed(2**63 // 10**9 + 1, 9),  # wraps to a negative amount
        compressed(2_100_001, 9),
        compressed(MAX_MONEY + 1, 0),
        compressed(MAX_MONEY // 10 + 1, 1),
        varint(2**54),
        varint(2**55),
    ],
    ids=bytes.hex,
)
def test_compressed_amounts_beyond_all_money_are_refused(amount: bytes) -> None:
    """An amount that would wrap 64 bits to a harmless one is refused like any other that is too large (undo)."""
    error = undo_refused(undo_of(coin(amount=amount), coin(), coin()))
    assert error.reason == "an amount outside 0 to 21 million BTC"
    assert error.offset == 2


def test_the_sum_of_spent_amounts_is_limited_too() -> None:
    """Two coins of one transaction can't be more than all money (undo)."""
    most = compressed(2_100_000, 9)
    block = spending_block()
    assert read_undo_spent(block, undo_of(coin(amount=most), coin(), coin())).outputs.value[1] == MAX_MONEY
    error = undo_refused(undo_of(coin(), coin(amount=most), coin()))
    assert error.reason == "an amount outside 0 to 21 million BTC"


@pytest.mark.parametrize(
    "sat", [0, 1, 9, 10, 11, 99, 10**9 - 1, 10**9, 10**10, 12_345_678_900, 50 * COIN, MAX_MONEY - 1, MAX_MONEY]
)
def test_compressed_amounts_are_read_exactly(sat: int) -> None:
    """Amounts at the edges of the compressed form come back to the satoshi."""
    payload = undo_bytes([[Coin(sat, OP_TRUE)], [Coin(0, OP_TRUE), Coin(0, OP_TRUE)]])
    assert int(read_undo_spent(spending_block(), payload).outputs.value[1]) == sat


@pytest.mark.parametrize("length", [8, 9, 10, 20, 300])
def test_varints_without_end_are_refused(length: int) -> None:
    """A VARINT that goes on beyond 57 bits is refused before it can wrap, wherever it stands."""
    endless = b"\xff" * length + b"\x00"
    for damaged in (
        endless + bytes(9),
        coin(version=endless),
        coin(amount=endless),
        coin(script=endless),
    ):
        error = undo_refused(undo_of(damaged, coin(), coin(), last=bytes(60)))
        assert "shortest form" in error.reason
        assert error.offset == 2


def test_coin_heights_beyond_31_bits_are_refused() -> None:
    """Height and flag share 32 bits: the largest height is 2,147,483,647."""
    payload = undo_of(coin(2**32 - 1), coin(2), coin(3))
    spent = read_undo_spent(spending_block(), payload)
    assert spent.height is not None
    assert spent.is_coinbase is not None
    assert spent.height.tolist() == [-1, 2**31 - 1, 1, 1]
    assert spent.is_coinbase.tolist() == [255, 1, 0, 1]
    for code in (2**32, 2**33, 2**40):
        assert undo_refused(undo_of(coin(code), coin(), coin())).reason.startswith("a coin height outside")


def test_scripts_longer_than_any_spendable_one_are_refused() -> None:
    """10,000 bytes are the most a script that was spent can have."""
    longest = b"\x51" * 10_000
    payload = undo_of(coin(script=varint(10_006) + longest), coin(), coin())
    assert read_undo_spent(spending_block(), payload).outputs.script(1) == longest
    for size in (10_001, 2**31, 2**32 + 1, 2**40):
        error = undo_refused(undo_of(coin(script=varint(size + 6) + longest + b"\x51"), coin(), coin()))
        assert error.reason == "a spendable script longer than 10,000 bytes"


G_X = 0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798
G_Y = 0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8
P = 2**256 - 2**32 - 977


def uncompressed(x: int, y: int) -> bytes:
    return b"\x41\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big") + b"\xac"


@pytest.mark.parametrize("y", [G_Y, P - G_Y])
def test_uncompressed_keys_come_back_whole(y: int) -> None:
    """Undo data keeps x and the parity of y: the kernel's caller finds the other half, and the right lookup key."""
    script = uncompressed(G_X, y)
    coins = [[Coin(1, script)], [Coin(2, uncompressed(G_X, P - y)), Coin(3, OP_TRUE)]]
    block = spending_block()
    undo = read_undo_spent(block, undo_bytes(coins)).outputs
    rest = read_rest_spent(block, spenttxouts_bytes([[], *coins], 3)).outputs
    assert len(undo_bytes(coins)) < 2 * 40
    assert undo.script(1) == script
    assert undo.script(2) == uncompressed(G_X, P - y)
    assert undo.key.tolist() == rest.key.tolist()
    assert undo.type.tolist() == rest.type.tolist()


def test_the_densest_undo_data_fits() -> None:
    """A thousand uncompressed keys of height 0, each nearly twice as long as what it is stored as."""
    many = Tx(tuple(TxInput(b"\1" * 32, n) for n in range(1000)), ((1, OP_TRUE),))
    block = decode_block(unmined([coinbase(), many]), REGTEST, check=False)
    coins = [[Coin(0, uncompressed(G_X, G_Y))] * 1000]
    undo = read_undo_spent(block, undo_bytes(coins)).outputs
    assert {undo.script(row) for row in range(1, 1001)} == {uncompressed(G_X, G_Y)}


@pytest.mark.parametrize("form", [4, 5])
@pytest.mark.parametrize("x", [0, 5, P, P + 1, 2**256 - 1])
def test_keys_that_are_no_point_of_the_curve_are_refused(form: int, x: int) -> None:
    """There is no y for them, or x is not below the field's size: such a coin can't have been stored."""
    payload = undo_of(coin(script=bytes([form]) + x.to_bytes(32, "big")), coin(), coin())
    assert undo_refused(payload).reason == "a compressed public key that is no point of the curve"


@pytest.mark.parametrize(
    "script", [uncompressed(5, 7), uncompressed(G_X, G_Y ^ 2), uncompressed(G_X, 0)], ids=["x", "y", "zero"]
)
def test_undo_bytes_keep_an_uncompressed_key_that_is_no_point(script: bytes) -> None:
    """Core stores such a script as it is (`IsToPubKey`): what is written must be read back the same."""
    payload = undo_bytes([[Coin(1, script)], [Coin(2, b""), Coin(3, b"")]])
    assert read_undo_spent(spending_block(), payload).outputs.script(1) == script


def test_odd_keys_are_stored_as_they_are() -> None:
    """Hybrid keys (6, 7) and compressed keys with another header byte have no short form."""
    for script in (
        b"\x41\x06" + uncompressed(G_X, G_Y)[2:],
        b"\x21\x04" + bytes(32) + b"\xac",
        b"\x21\x02" + bytes(32) + b"\xac",
        b"\x21\x03" + b"\xff" * 32 + b"\xac",
    ):
        payload = undo_bytes([[Coin(1, script)], [Coin(2, b""), Coin(3, b"")]])
        assert read_undo_spent(spending_block(), payload).outputs.script(1) == script


def test_old_versions_of_core_left_a_version_behind_the_height() -> None:
    """It is read over, as Core reads over it."""
    spent = read_undo_spent(spending_block(), undo_of(coin(version=b"\x01"), coin(version=b"\x80\x00"), coin()))
    assert spent.height is not None
    assert spent.height.tolist() == [-1, 1, 1, 1]


def test_empty_payloads_are_refused() -> None:
    """Nothing is no spent outputs, not even for a block that spends nothing."""
    alone = decode_block(unmined([coinbase()]), REGTEST, check=False)
    assert spent_refused(b"", alone).offset == 0
    assert undo_refused(b"", alone).offset == 0
    assert read_rest_spent(alone, b"\x01\x00").outputs.value.tolist() == [0]
    assert read_undo_spent(alone, b"\x00").outputs.value.tolist() == [0]


def test_hashes_are_32_bytes_and_64_digits() -> None:
    """A `Hash256` is made from exactly 32 bytes, or from exactly 64 hex digits in display order."""
    display = "00" * 31 + "ab"
    assert str(Hash256.from_display(display)) == display
    assert bytes(Hash256.from_display(display)) == b"\xab" + bytes(31)
    for internal in (b"", bytes(31), bytes(33)):
        with pytest.raises(ValueError, match="32 bytes"):
            Hash256(internal)
    for text in ("", display[1:], display[2:], display + "00", "zz" + display[2:], display[:-2] + " ab", " " + display):
        with pytest.raises(ValueError, match=r"hex|32 bytes"):
            Hash256.from_display(text)


def test_every_byte_of_a_header_counts() -> None:
    """Each of the 80 bytes changes the hash, so a header with one changed byte has no work."""
    recorded = block_named("main_0000170")
    for at in range(80):
        raw = bytearray(recorded.raw)
        raw[at] ^= 0x10
        reason = refused(bytes(raw), recorded.network).reason
        assert "no proof of work" in reason or "a target this network does not allow" in reason


def test_regtest_work_is_checked_too() -> None:
    """The easy target is still a target: about half of all nonces miss it."""
    header = mined([coinbase()])[:80]
    assert read_header(header, REGTEST.pow_limit).bits == EASY_BITS
    tried = [header[:76] + struct.pack("<I", nonce) for nonce in range(40)]
    missing = [raw for raw in tried if int.from_bytes(sha256d(raw), "little") > EASY_TARGET]
    assert 0 < len(missing) < len(tried)
    for raw in missing:
        with pytest.raises(DecodeError, match="no proof of work"):
            read_header(raw, REGTEST.pow_limit)
