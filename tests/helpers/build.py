"""Blocks made by hand for one test: a coinbase, a merkle root, and on regtest the work for the header."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from helpers.reference import merkle_root, sha256d
from utxoiq.chain.serialize import Tx, TxInput, compact_size, header_bytes, tx_bytes

EASY_BITS = 0x207FFFFF
EASY_TARGET = 0x7FFFFF << 232
OP_TRUE = b"\x51"
COMMITMENT = bytes.fromhex("6a24aa21a9ed")
COINBASE_SCRIPT = b"\x03abc"


def height_push(height: int) -> bytes:
    """The height as BIP 34 wants it at the start of a coinbase script."""
    if 1 <= height <= 16:
        return bytes([0x50 + height])
    number = height.to_bytes((height.bit_length() + 8) // 8, "little")
    return bytes([len(number)]) + number


def coinbase(
    outputs: Sequence[tuple[int, bytes]] = ((0, OP_TRUE),), script: bytes = COINBASE_SCRIPT, witness: bytes = b""
) -> Tx:
    """A coinbase; `witness` is its reserved value."""
    spend = TxInput(bytes(32), 0xFFFFFFFF, script, witness=(witness,) if witness else ())
    return Tx((spend,), tuple(outputs))


def with_commitment(transactions: Sequence[Tx], reserved: bytes = bytes(32)) -> list[Tx]:
    """The same transactions under a coinbase that commits to their witness data (BIP 141)."""
    first, *others = transactions
    root = merkle_root([bytes(32), *(bytes(tx.wtxid) for tx in others)])
    outputs = (*first.outputs, (0, COMMITMENT + sha256d(root + reserved)))
    return [coinbase(outputs, first.inputs[0].script, reserved), *others]


def body_bytes(transactions: Sequence[Tx | bytes]) -> bytes:
    """What follows the header: a count and the transactions."""
    return compact_size(len(transactions)) + b"".join(
        tx if isinstance(tx, bytes) else tx_bytes(tx) for tx in transactions
    )


def unmined(transactions: Sequence[Tx | bytes]) -> bytes:
    """A block whose header is zero: for `decode_block(..., check=False)`."""
    return bytes(80) + body_bytes(transactions)


def mined(
    transactions: Sequence[Tx], prev: bytes = bytes(32), time: int = 1_700_000_000, version: int = 0x20000000
) -> bytes:
    """A regtest block with the right merkle root and enough work."""
    root = merkle_root([bytes(tx.txid) for tx in transactions])
    return with_work(header_bytes(version, prev, root, time, EASY_BITS, 0)) + body_bytes(transactions)


def with_work(header: bytes) -> bytes:
    """The header with a nonce that meets regtest's target."""
    for nonce in range(1 << 32):
        header = header[:76] + struct.pack("<I", nonce)
        if int.from_bytes(sha256d(header), "little") <= EASY_TARGET:
            break
    return header
