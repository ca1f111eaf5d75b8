"""A block and its spent outputs as columns: the one representation everything else reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from utxoiq.chain import hashing
from utxoiq.chain._spent import read_spenttxouts, read_undo
from utxoiq.chain._walk import CAPACITY, REASONS, script_keys, walk_block
from utxoiq.chain.coinbase import Coinbase, read_coinbase, witness_commitment
from utxoiq.chain.hashes import Hash256, double_sha256
from utxoiq.chain.header import SIZE as HEADER_SIZE
from utxoiq.chain.header import Header, read_header
from utxoiq.chain.secp256k1 import lift_x
from utxoiq.errors import DecodeError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from utxoiq.chain.network import Network

MAX_BLOCK_SIZE = 4_000_000
"""Bytes; a block of more has more weight than consensus allows."""


@dataclass(frozen=True, slots=True)
class Transactions:
    """One row a transaction; `first_input` and `first_output` have one entry more, so rows t are [t]:[t + 1]."""

    offset: NDArray[np.uint32]
    size: NDArray[np.uint32]
    """Bytes with witness."""
    stripped_size: NDArray[np.uint32]
    """Bytes without witness; weight is 3 * stripped_size + size."""
    witness_offset: NDArray[np.uint32]
    has_witness: NDArray[np.uint8]
    first_input: NDArray[np.uint32]
    first_output: NDArray[np.uint32]
    value_out: NDArray[np.int64]
    """Satoshis over all outputs."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """One row an output, of a block or spent by it. A script is `data[offset : offset + length]`."""

    data: NDArray[np.uint8]
    value: NDArray[np.int64]
    offset: NDArray[np.uint32]
    length: NDArray[np.uint32]
    type: NDArray[np.uint8]
    """ScriptType."""
    key: NDArray[np.uint64]
    """Of the script, to look it up by; equal keys do not prove equal scripts."""

    @property
    def columns(self) -> tuple[NDArray[Any], ...]:
        """All but the bytes, in the order kernels take them."""
        return self.value, self.offset, self.length, self.type, self.key

    def script(self, row: int) -> bytes:
        """The output script of one row."""
        start = int(self.offset[row])
        return self.data[start : start + int(self.length[row])].tobytes()


@dataclass(frozen=True, slots=True)
class Spent:
    """The outputs a block spends, one row an input (row 0, the coinbase, is zero). Heights may be unknown."""

    outputs: Outputs
    tx_value_in: NDArray[np.int64]
    """Satoshis spent by each transaction."""
    height: NDArray[np.int32] | None
    """Of the block that made the coin."""
    is_coinbase: NDArray[np.uint8] | None
    time: NDArray[np.int64] | None = None
    """Unix seconds of the block that made the coin, where the source knows its headers; -1 unknown."""


@dataclass(frozen=True, slots=True)
class Block:
    """A decoded block: merkle root, proof of work and witness commitment have been checked."""

    raw: NDArray[np.uint8]
    network: Network
    header: Header
    tx: Transactions
    input_offset: NDArray[np.uint32]
    """Where each input begins: 32 bytes txid, 4 bytes index, script, sequence."""
    outputs: Outputs
    txids: NDArray[np.uint8]
    """Shape (n, 32), internal byte order."""
    coinbase: Coinbase

    @property
    def block_hash(self) -> Hash256:
        return self.header.block_hash

    @property
    def n_tx(self) -> int:
        return len(self.tx.offset)

    def txid(self, t: int) -> Hash256:
        return Hash256(self.txids[t].tobytes())


def decode_block(raw: bytes, network: Network, *, check: bool = True) -> Block:
    """Decode one serialised block.

    Raises DecodeError for bytes that are no block of `network`, and, unless `check` is false (tests only), for a
    hash without work, a merkle root or witness commitment that does not match, or a duplicated branch.
    """
    header = read_header(raw, network.pow_limit) if check else _unchecked_header(raw)
    if len(raw) > MAX_BLOCK_SIZE:
        raise DecodeError("block", f"{len(raw)} bytes are more than any block has ({MAX_BLOCK_SIZE})")
    data, tx, input_offset, outputs = columns_of(raw)
    txids, wtxids = hashing.transaction_ids(data, tx)
    coinbase = read_coinbase(raw, tx, outputs, input_offset, network, header.version)
    if check:
        _check_merkle_root(header, txids)
        _check_witness(tx, wtxids, coinbase, network)
    return Block(data, network, header, tx, input_offset, outputs, txids, coinbase)


def _unchecked_header(raw: bytes) -> Header:
    if len(raw) < HEADER_SIZE:
        raise DecodeError("block", f"a header has 80 bytes, this has {len(raw)}", len(raw))
    return Header(0, Hash256(raw[4:36]), raw[36:68], 0, 0, 0, Hash256(double_sha256(raw[:80])))


def columns_of(raw: bytes) -> tuple[NDArray[np.uint8], Transactions, NDArray[np.uint32], Outputs]:
    """The bytes as an array, and the columns of transactions, inputs (their offsets) and outputs. Checks no hash.

    Raises DecodeError for bytes that are not a header and transactions.
    """
    data = np.frombuffer(raw, np.uint8)
    body = max(0, len(raw) - HEADER_SIZE)
    usual = (body // 160 + 16, body // 96 + 16, body // 64 + 16)
    smallest = (body // 60 + 1, body // 41 + 1, body // 9 + 1)
    for n_tx, n_in, n_out in (usual, smallest):
        found = _walk(data, n_tx, n_in, n_out)
        if found is not None:
            return data, *found
    raise AssertionError("no block has more rows than its smallest transactions, inputs and outputs allow")


def _walk(
    data: NDArray[np.uint8], max_tx: int, max_in: int, max_out: int
) -> tuple[Transactions, NDArray[np.uint32], Outputs] | None:
    """The columns, or None where the block has more rows than that: columns sized for the worst case would cost more
    in fresh pages than reading the block."""
    offset, size, stripped_size, witness_offset, first_input, first_output = np.empty((6, max_tx + 1), np.uint32)
    has_witness, value_out = np.empty(max_tx + 1, np.uint8), np.empty(max_tx + 1, np.int64)
    input_offset = np.empty(max_in, np.uint32)
    value, key, kind = np.empty(max_out, np.int64), np.empty(max_out, np.uint64), np.empty(max_out, np.uint8)
    where, length = np.empty((2, max_out), np.uint32)
    info = np.zeros(3, np.int64)
    n = walk_block(
        data, HEADER_SIZE, offset, size, stripped_size, witness_offset, has_witness, first_input, first_output,
        value_out, input_offset, value, where, length, kind, key, info,
    )  # fmt: skip
    if n == CAPACITY:
        return None
    if n < 0:
        raise DecodeError("block", REASONS[n], int(info[0]))
    n_in, n_out = int(info[1]), int(info[2])
    tx = Transactions(
        offset[:n], size[:n], stripped_size[:n], witness_offset[:n], has_witness[:n],
        first_input[: n + 1], first_output[: n + 1], value_out[:n],
    )  # fmt: skip
    outputs = Outputs(data, value[:n_out], where[:n_out], length[:n_out], kind[:n_out], key[:n_out])
    return tx, input_offset[:n_in], outputs


def _check_merkle_root(header: Header, txids: NDArray[np.uint8]) -> None:
    root, duplicated = hashing.merkle_root(txids)
    if root != header.merkle_root:
        raise DecodeError("block", "the merkle root of its transactions is not the one in its header")
    if duplicated:
        raise DecodeError(
            "block", "a duplicated branch in the merkle tree (CVE-2012-2459): not the block that was mined"
        )


def _check_witness(tx: Transactions, wtxids: NDArray[np.uint8], coinbase: Coinbase, network: Network) -> None:
    """BIP 141: the witness data is what the coinbase commits to, and there is none without a commitment."""
    commitment = witness_commitment(coinbase)
    reserved = coinbase.witness_reserved_value
    if commitment is None or reserved is None:
        if tx.has_witness.any():
            raise DecodeError("block", "witness data that the coinbase does not commit to")
        if commitment is not None and coinbase.height is not None and coinbase.height >= network.segwit_height:
            raise DecodeError("block", "the coinbase commits to witness data that is missing: a stripped block")
        return
    root, _ = hashing.merkle_root(wtxids)
    if double_sha256(root + reserved) != commitment:
        raise DecodeError("block", "the witness data is not what the coinbase commits to")


def read_rest_spent(block: Block, payload: bytes) -> Spent:
    """Spent outputs as Core's REST `/rest/spenttxouts/<hash>.bin` gives them: no heights.

    Raises DecodeError where they are malformed or do not fit the block.
    """
    data = np.frombuffer(payload, np.uint8)
    outputs, tx_value_in = _spent_outputs(block, data)
    info = np.zeros(3, np.int64)
    code = read_spenttxouts(data, block.tx.first_input, block.n_tx, *outputs.columns, tx_value_in, info)
    if code < 0:
        raise DecodeError("spent outputs", REASONS[code], int(info[0]))
    return Spent(outputs, tx_value_in, None, None)


def read_undo_spent(block: Block, payload: bytes) -> Spent:
    """Spent outputs as a CBlockUndo, the payload of a rev file's record: with heights and coinbase flags.

    Raises DecodeError where they are malformed or do not fit the block.
    """
    n_in = len(block.input_offset)
    arena = np.empty(len(payload) * 67 // 33 + 67, np.uint8)
    outputs, tx_value_in = _spent_outputs(block, arena)
    height, is_coinbase = np.empty(n_in, np.int32), np.empty(n_in, np.uint8)
    to_solve, info = np.empty(n_in, np.uint32), np.zeros(3, np.int64)
    code = read_undo(
        np.frombuffer(payload, np.uint8), block.tx.first_input, block.n_tx, arena, *outputs.columns, height,
        is_coinbase, tx_value_in, to_solve, info,
    )  # fmt: skip
    if code < 0:
        raise DecodeError("undo data", REASONS[code], int(info[0]))
    _solve_uncompressed_keys(outputs, to_solve[: int(info[1])])
    return Spent(outputs, tx_value_in, height, is_coinbase)


def _spent_outputs(block: Block, data: NDArray[np.uint8]) -> tuple[Outputs, NDArray[np.int64]]:
    """Columns for a kernel to fill: one row an input, and the total of each transaction."""
    n_in = len(block.input_offset)
    offset, length = np.empty((2, n_in), np.uint32)
    value, key, kind = np.empty(n_in, np.int64), np.empty(n_in, np.uint64), np.empty(n_in, np.uint8)
    return Outputs(data, value, offset, length, kind, key), np.empty(block.n_tx, np.int64)


def _solve_uncompressed_keys(outputs: Outputs, rows: NDArray[np.uint32]) -> None:
    """Core stores an uncompressed key as x and the parity of y; put the whole key back."""
    for row in rows.tolist():
        at = int(outputs.offset[row])
        odd = int(outputs.data[at + 1]) & 1
        y = lift_x(int.from_bytes(outputs.data[at + 2 : at + 34].tobytes(), "big"), odd)
        if y is None:
            raise DecodeError("undo data", "a compressed public key that is no point of the curve")
        outputs.data[at + 1] = 4
        outputs.data[at + 34 : at + 66] = np.frombuffer(y.to_bytes(32, "big"), np.uint8)
    if len(rows):
        keys = np.empty(len(rows), np.uint64)
        script_keys(outputs.data, outputs.offset[rows], outputs.length[rows], len(rows), keys)
        outputs.key[rows] = keys


def with_times(spent: Spent, times: NDArray[np.int64]) -> Spent:
    """`spent` with the time of each coin, from `times[height]`; a height beyond them stays unknown (-1)."""
    if spent.height is None:
        return spent
    known = (spent.height >= 0) & (spent.height < len(times))
    found = np.where(known, times[np.where(known, spent.height, 0)] if len(times) else -1, -1)
    return replace(spent, time=found)


def largest_coins(spent: Spent, least: int, most: int) -> NDArray[np.intp]:
    """Rows of up to `most` spent outputs of at least `least` sat, largest first, of equal ones the first."""
    rows = np.flatnonzero(spent.outputs.value[1:] >= least) + 1
    return rows[np.argsort(-spent.outputs.value[rows], kind="stable")][:most]
