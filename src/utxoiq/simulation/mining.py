"""The sealing of a block: coinbase, commitments, proof of work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from utxoiq.chain.coinbase import COMMITMENT_PREFIX
from utxoiq.chain.hashes import NULL_HASH, Hash256, double_sha256
from utxoiq.chain.hashing import merkle_root
from utxoiq.chain.network import NETWORKS
from utxoiq.chain.serialize import FINAL, Tx, TxInput, compact_size, header_bytes, undo_bytes, with_length
from utxoiq.simulation.pending import Signed, sign

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from utxoiq.simulation.cast import Entity
    from utxoiq.simulation.locks import Lock

NETWORK = NETWORKS["simulated"]
BITS = 0x207FFFFF
"""The easiest target there is: every other hash meets it."""
VERSION = 0x20000000


@dataclass(frozen=True, slots=True)
class SimulatedBlock:
    """A block as it arrives; `undo` is its CBlockUndo, the hashes' bytes are in internal order."""

    raw: bytes
    undo: bytes
    height: int
    prev_hash: Hash256
    block_hash: Hash256
    n_tx: int
    """Transactions, with the coinbase."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A block but for its parent. `time` is Unix seconds UTC, `payout` where its coinbase pays."""

    height: int
    time: int
    miner: Entity
    payout: Lock
    transactions: tuple[Signed, ...]
    unclaimed: int = 0
    """Satoshis of the reward that the miner forgets."""


def make_coinbase(draft: Draft, rng: Random) -> Signed:
    """The coinbase of `draft`, with the witness commitment of BIP 141. It claims subsidy and fees less `unclaimed`."""
    script = with_length(draft.height.to_bytes(3, "little")) + draft.miner.tag.encode() + _extra_nonce(rng)
    reserved = bytes(32)
    root = _root([NULL_HASH, *(signed.wtxid for signed in draft.transactions)])
    value = NETWORK.subsidy(draft.height) + sum(signed.fee for signed in draft.transactions) - draft.unclaimed
    commitment = COMMITMENT_PREFIX + double_sha256(root + reserved)
    txin = TxInput(NULL_HASH, FINAL, script, witness=(reserved,))
    return sign(Tx((txin,), ((value, draft.payout.script), (0, commitment))), ())


def seal(draft: Draft, coinbase: Signed, prev_hash: Hash256) -> SimulatedBlock:
    """The finished block on top of `prev_hash`."""
    transactions = (coinbase, *draft.transactions)
    header, block_hash = _mine(prev_hash, _root([signed.txid for signed in transactions]), draft.time)
    raw = header + compact_size(len(transactions)) + b"".join(signed.raw for signed in transactions)
    undo = undo_bytes([signed.spent for signed in draft.transactions])
    return SimulatedBlock(raw, undo, draft.height, prev_hash, block_hash, len(transactions))


def _mine(prev_hash: Hash256, root: bytes, time: int) -> tuple[bytes, Hash256]:
    """The header with the first nonce that does the work, and its hash."""
    target = (BITS & 0xFFFFFF) << 8 * ((BITS >> 24) - 3)
    nonce = 0
    while True:
        header = header_bytes(VERSION, prev_hash, root, time, BITS, nonce)
        block_hash = Hash256(double_sha256(header))
        if int.from_bytes(block_hash, "little") <= target:
            return header, block_hash
        nonce += 1


def _root(hashes: Sequence[Hash256]) -> bytes:
    leaves = np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)
    return merkle_root(leaves)[0]


def _extra_nonce(rng: Random) -> bytes:
    """Eight bytes that read as no text, lest the solo miner seem to have a tag."""
    return bytes(0x80 | rng.getrandbits(6) for _ in range(8))
