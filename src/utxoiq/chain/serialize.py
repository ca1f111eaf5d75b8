"""Columns and plain values back to consensus bytes: for simulated chains, and to prove that decoding lost nothing."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from utxoiq.chain.hashes import Hash256, double_sha256
from utxoiq.chain.secp256k1 import lift_x

if TYPE_CHECKING:
    from utxoiq.chain.block import Block, Spent

FINAL = 0xFFFFFFFF


class Coin(NamedTuple):
    """An output as undo data knows it: satoshis, script, height and coinbase flag of the transaction that made it."""

    value: int
    script: bytes
    height: int = 0
    is_coinbase: bool = False


@dataclass(frozen=True, slots=True)
class TxInput:
    """An input; `txid` in internal order."""

    txid: bytes
    index: int
    script: bytes = b""
    sequence: int = FINAL
    witness: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Tx:
    """A transaction to be serialised; outputs are (satoshis, script)."""

    inputs: tuple[TxInput, ...]
    outputs: tuple[tuple[int, bytes], ...]
    version: int = 2
    lock_time: int = 0

    @property
    def txid(self) -> Hash256:
        return Hash256(double_sha256(tx_bytes(self, witness=False)))

    @property
    def wtxid(self) -> Hash256:
        return Hash256(double_sha256(tx_bytes(self)))


def compact_size(value: int) -> bytes:
    """Core's CompactSize, in its shortest form."""
    if value < 253:
        return bytes([value])
    if value < 0x10000:
        return b"\xfd" + struct.pack("<H", value)
    return b"\xfe" + struct.pack("<I", value)


def with_length(data: bytes) -> bytes:
    """`data` behind its CompactSize length."""
    return compact_size(len(data)) + data


def output_bytes(value: int, script: bytes) -> bytes:
    """A CTxOut."""
    return struct.pack("<q", value) + with_length(script)


def tx_bytes(tx: Tx, *, witness: bool = True) -> bytes:
    """A transaction in network serialisation (BIP 144), stripped if `witness` is false or there is none."""
    segwit = witness and any(txin.witness for txin in tx.inputs)
    inputs = b"".join(
        txin.txid + struct.pack("<I", txin.index) + with_length(txin.script) + struct.pack("<I", txin.sequence)
        for txin in tx.inputs
    )
    outputs = b"".join(output_bytes(value, script) for value, script in tx.outputs)
    stacks = b"".join(compact_size(len(txin.witness)) + b"".join(map(with_length, txin.witness)) for txin in tx.inputs)
    return b"".join(
        (
            struct.pack("<i", tx.version),
            b"\x00\x01" if segwit else b"",
            compact_size(len(tx.inputs)) + inputs,
            compact_size(len(tx.outputs)) + outputs,
            stacks if segwit else b"",
            struct.pack("<I", tx.lock_time),
        )
    )


def header_bytes(version: int, prev_hash: bytes, root: bytes, time: int, bits: int, nonce: int) -> bytes:
    """The 80 bytes of a header; hashes in internal order."""
    return struct.pack("<i32s32sIII", version, prev_hash, root, time, bits, nonce)


def spenttxouts_bytes(per_tx: Iterable[Sequence[Coin]], n_tx: int) -> bytes:
    """REST `spenttxouts`: `per_tx` gives the coins of each transaction, the coinbase's (none) first."""
    rows = (compact_size(len(coins)) + b"".join(output_bytes(c.value, c.script) for c in coins) for coins in per_tx)
    return compact_size(n_tx) + b"".join(rows)


def undo_bytes(per_tx: Sequence[Sequence[Coin]]) -> bytes:
    """A CBlockUndo: `per_tx` gives the coins of each transaction but the coinbase."""
    rows = (compact_size(len(coins)) + b"".join(map(_undo_coin, coins)) for coins in per_tx)
    return compact_size(len(per_tx)) + b"".join(rows)


def _undo_coin(coin: Coin) -> bytes:
    return varint(coin.height * 2 + coin.is_coinbase) + (b"\0" if coin.height else b"") + _compressed(coin)


def coin_bytes(coin: Coin) -> bytes:
    """A coin as the UTXO set has it (`coins.h`)."""
    return varint(coin.height * 2 + coin.is_coinbase) + _compressed(coin)


def _compressed(coin: Coin) -> bytes:
    return varint(_compress_amount(coin.value)) + _compress_script(coin.script)


def varint(value: int) -> bytes:
    """Core's base-128 VARINT (`serialize.h`)."""
    out = [value & 0x7F]
    while value > 0x7F:
        value = (value >> 7) - 1
        out.append((value & 0x7F) | 0x80)
    return bytes(reversed(out))


def _compress_amount(sat: int) -> int:
    if sat == 0:
        return 0
    exponent = 0
    while sat % 10 == 0 and exponent < 9:
        sat //= 10
        exponent += 1
    if exponent < 9:
        digits, last = divmod(sat, 10)
        return 1 + (digits * 9 + last - 1) * 10 + exponent
    return 1 + (sat - 1) * 10 + 9


def _compress_script(script: bytes) -> bytes:
    if len(script) == 25 and script.startswith(b"\x76\xa9\x14") and script.endswith(b"\x88\xac"):
        return b"\x00" + script[3:23]
    if len(script) == 23 and script.startswith(b"\xa9\x14") and script.endswith(b"\x87"):
        return b"\x01" + script[2:22]
    if len(script) == 35 and script[0] == 33 and script[1] in (2, 3) and script[34] == 0xAC:
        return script[1:34]
    if len(script) == 67 and script[0] == 65 and script[1] == 4 and script[66] == 0xAC and _is_on_curve(script):
        return bytes([4 | (script[65] & 1)]) + script[2:34]
    return varint(len(script) + 6) + script


def _is_on_curve(script: bytes) -> bool:
    """Core stores x and the parity of y only where that gives the key back (compressor.cpp, IsToPubKey)."""
    x, y = int.from_bytes(script[2:34], "big"), int.from_bytes(script[34:66], "big")
    return lift_x(x, y & 1) == y


def block_from_columns(block: Block) -> bytes:
    """The bytes of a decoded block, put together again from its columns."""
    raw = block.raw.tobytes()
    transactions = (_tx_from_columns(block, raw, t) for t in range(block.n_tx))
    return raw[:80] + compact_size(block.n_tx) + b"".join(transactions)


def _tx_from_columns(block: Block, raw: bytes, t: int) -> bytes:
    tx, outputs = block.tx, block.outputs
    begin, end = int(tx.offset[t]), int(tx.offset[t]) + int(tx.size[t])
    in_rows = range(int(tx.first_input[t]), int(tx.first_input[t + 1]))
    out_rows = range(int(tx.first_output[t]), int(tx.first_output[t + 1]))
    out_start = int(outputs.offset[out_rows[0]]) - len(compact_size(int(outputs.length[out_rows[0]]))) - 8
    in_ends = [int(block.input_offset[row]) for row in in_rows[1:]] + [out_start - len(compact_size(len(out_rows)))]
    inputs = (
        _input_from_columns(raw, int(block.input_offset[row]), stop) for row, stop in zip(in_rows, in_ends, strict=True)
    )
    witness = int(tx.witness_offset[t])
    return b"".join(
        (
            raw[begin : begin + 4],
            b"\x00\x01" if tx.has_witness[t] else b"",
            compact_size(len(in_rows)) + b"".join(inputs),
            compact_size(len(out_rows)),
            b"".join(output_bytes(int(outputs.value[row]), outputs.script(row)) for row in out_rows),
            raw[witness : end - 4],
            raw[end - 4 : end],
        )
    )


def _input_from_columns(raw: bytes, at: int, stop: int) -> bytes:
    head = 1 if raw[at + 36] < 253 else 3 if raw[at + 36] == 253 else 5
    return raw[at : at + 36] + with_length(raw[at + 36 + head : stop - 4]) + raw[stop - 4 : stop]


def coins_from_columns(block: Block, spent: Spent) -> list[list[Coin]]:
    """The spent outputs of each transaction but the coinbase; unknown heights as 0."""
    first = block.tx.first_input.tolist()
    heights = spent.height.tolist() if spent.height is not None else [0] * len(block.input_offset)
    flags = spent.is_coinbase.tolist() if spent.is_coinbase is not None else [0] * len(block.input_offset)
    return [
        [
            Coin(int(spent.outputs.value[row]), spent.outputs.script(row), heights[row], bool(flags[row]))
            for row in range(first[t], first[t + 1])
        ]
        for t in range(1, block.n_tx)
    ]
