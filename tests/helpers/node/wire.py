"""Raw blocks and transactions taken apart in plain Python. The double must not rest on the code it tests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from helpers.reference import Reader, Refused, sha256d
from utxoiq.chain.serialize import TxInput


@dataclass(frozen=True)
class Transaction:
    """A transaction and its bytes; hashes are in internal order."""

    raw: bytes
    stripped: bytes
    version: int
    inputs: tuple[TxInput, ...]
    outputs: tuple[tuple[int, bytes], ...]
    lock_time: int

    @cached_property
    def txid(self) -> bytes:
        return sha256d(self.stripped)

    @cached_property
    def wtxid(self) -> bytes:
        return self.txid if self.raw is self.stripped else sha256d(self.raw)

    @property
    def weight(self) -> int:
        return 3 * len(self.stripped) + len(self.raw)

    @property
    def is_coinbase(self) -> bool:
        return self.inputs[0].txid == bytes(32) and self.inputs[0].index == 0xFFFFFFFF

    @cached_property
    def outpoints(self) -> tuple[bytes, ...]:
        """What it spends: 36 bytes each."""
        return tuple(txin.txid + txin.index.to_bytes(4, "little") for txin in self.inputs)

    def created(self, index: int) -> bytes:
        """The outpoint of one of its outputs."""
        return self.txid + index.to_bytes(4, "little")


def read_transaction(raw: bytes) -> Transaction:
    """A transaction on its own. Raises Refused."""
    reader = Reader(raw)
    transaction = _transaction(reader)
    reader.finish()
    return transaction


def read_block(data: bytes) -> tuple[bytes, list[Transaction]]:
    """The block that begins `data` (what follows it is ignored), and its transactions. Raises Refused."""
    reader = Reader(data, 80)
    transactions = [_transaction(reader) for _ in range(reader.compact_size())]
    if not transactions:
        raise Refused("no transactions")
    return data[: reader.at], transactions


def _transaction(reader: Reader) -> Transaction:
    begin = reader.at
    version = reader.number(4)
    witness = reader.data[reader.at : reader.at + 2] == b"\0\1"
    if witness:
        reader.take(2)
    body = reader.at
    inputs = [_input(reader) for _ in range(reader.compact_size())]
    outputs = tuple(
        (reader.number(8, signed=True), reader.take(reader.compact_size())) for _ in range(reader.compact_size())
    )
    if not inputs or not outputs:
        raise Refused("no inputs or outputs")
    end = reader.at
    if witness:
        stacks = [tuple(reader.take(reader.compact_size()) for _ in range(reader.compact_size())) for _ in inputs]
        inputs = [
            TxInput(i.txid, i.index, i.script, i.sequence, stack) for i, stack in zip(inputs, stacks, strict=True)
        ]
    lock_time = reader.take(4)
    raw = reader.data[begin : reader.at]
    stripped = raw[:4] + reader.data[body:end] + lock_time if witness else raw
    return Transaction(raw, stripped, version, tuple(inputs), outputs, int.from_bytes(lock_time, "little"))


def _input(reader: Reader) -> TxInput:
    return TxInput(reader.take(32), reader.number(4), reader.take(reader.compact_size()), reader.number(4))


def display(internal: bytes) -> str:
    """A hash as nodes print it."""
    return internal[::-1].hex()


def internal(text: str) -> bytes:
    """A printed hash as it is stored."""
    return bytes.fromhex(text)[::-1]
