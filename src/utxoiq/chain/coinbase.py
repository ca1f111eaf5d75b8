"""What the coinbase says: height (BIP 34), tag, payouts, witness commitment (BIP 141)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from utxoiq.errors import DecodeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from utxoiq.chain.block import Outputs, Transactions
    from utxoiq.chain.network import Network

COMMITMENT_PREFIX = bytes.fromhex("6a24aa21a9ed")
TAG_LIMIT = 100
SHORTEST_RUN = 4


@dataclass(frozen=True, slots=True)
class Coinbase:
    """The first transaction of a block. `height` is what BIP 34 says, None before it was in force."""

    script_sig: bytes
    height: int | None
    payouts: tuple[tuple[int, bytes], ...]
    """(sat, script) of each output worth something, in order."""
    value_out: int
    """Satoshis claimed in all."""
    scripts: tuple[bytes, ...]
    witness_reserved_value: bytes | None

    @property
    def tag(self) -> str:
        """The readable part of the coinbase script: printable runs of four characters and more, joined by a space.

        It is what a miner chose to write: data, never instruction. Control, format and bidirectional characters
        are left out, and it is cut at 100 characters.
        """
        text = self.script_sig.decode("utf-8", errors="replace").replace("\ufffd", "\0")
        runs = ("".join(run).strip() for printable, run in groupby(text, str.isprintable) if printable)
        return " ".join(run for run in runs if len(run) >= SHORTEST_RUN)[:TAG_LIMIT]


def read_coinbase(
    raw: bytes,
    tx: Transactions,
    outputs: Outputs,
    input_offset: NDArray[np.uint32],
    network: Network,
    version: int,
) -> Coinbase:
    """The coinbase of a walked block. Raises DecodeError for a script outside 2 to 100 bytes (consensus)."""
    at = int(input_offset[0]) + 36
    size = raw[at]
    if not 2 <= size <= 100:
        raise DecodeError("block", "a coinbase script outside 2 to 100 bytes", at)
    script_sig = bytes(raw[at + 1 : at + 1 + size])
    height = bip34_height(script_sig)
    if version < 2 or (height is not None and height < network.bip34_height):
        height = None
    rows = range(int(tx.first_output[1]))
    scripts = tuple(outputs.script(row) for row in rows)
    values = [int(value) for value in outputs.value[: len(rows)]]
    return Coinbase(
        script_sig,
        height,
        tuple((value, script) for value, script in zip(values, scripts, strict=True) if value),
        int(tx.value_out[0]),
        scripts,
        _reserved_value(raw, tx),
    )


def bip34_height(script_sig: bytes) -> int | None:
    """The block height a coinbase script begins with, or None where it begins with something else."""
    head = script_sig[0]
    if 0x51 <= head <= 0x60:
        return head - 0x50
    if not 1 <= head <= 4 or len(script_sig) < 1 + head:
        return None
    number = script_sig[1 : 1 + head]
    if number[-1] & 0x80 or (number[-1] == 0 and (head == 1 or not number[-2] & 0x80)):
        return None
    height = int.from_bytes(number, "little")
    return height if height > 16 else None


def _reserved_value(raw: bytes, tx: Transactions) -> bytes | None:
    if not tx.has_witness[0]:
        return None
    at = int(tx.witness_offset[0])
    if raw[at] != 1 or raw[at + 1] != 32 or int(tx.size[0]) + int(tx.offset[0]) - at != 38:
        return None
    return bytes(raw[at + 2 : at + 34])


def witness_commitment(coinbase: Coinbase) -> bytes | None:
    """The 32 bytes of the last output that has the commitment's form, or None."""
    for script in reversed(coinbase.scripts):
        if len(script) >= 38 and script.startswith(COMMITMENT_PREFIX):
            return script[6:38]
    return None
