"""Double SHA-256 of transactions and merkle trees: by the SHA instructions where the target has them, else hashlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from utxoiq.chain._jit import has_sha_ni
from utxoiq.chain.hashes import double_sha256

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from utxoiq.chain.block import Transactions

SHA_NI = has_sha_ni()
if SHA_NI:
    from utxoiq.chain._hash import hash_transactions, merkle_in_place


def transaction_ids(
    raw: NDArray[np.uint8], tx: Transactions, *, witness: bool = True
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The txid and the wtxid of each transaction, each of shape (n, 32), internal byte order.

    The coinbase's wtxid is zero, as the witness tree has it (BIP 141). Without `witness` the second means nothing.
    """
    txids, wtxids = np.empty((2, len(tx.offset), 32), np.uint8)
    if SHA_NI:
        largest = (int(tx.size.max()) + 9 + 63) // 64 * 64
        scratch, states = np.empty(2 * largest, np.uint8), np.empty(16, np.uint32)
        hash_transactions(
            raw, len(tx.offset), tx.offset, tx.size, tx.stripped_size, tx.witness_offset, tx.has_witness, witness,
            scratch, states, txids.reshape(-1), wtxids.reshape(-1),
        )  # fmt: skip
    else:
        _hash_by_hashlib(raw.tobytes(), tx, witness, txids, wtxids)
    wtxids[0] = 0
    return txids, wtxids


def merkle_root(leaves: NDArray[np.uint8]) -> tuple[bytes, bool]:
    """The merkle root over `leaves`, shape (n, 32), and whether a duplicated branch (CVE-2012-2459) was seen."""
    if not SHA_NI:
        return _merkle_by_hashlib([leaf.tobytes() for leaf in leaves])
    nodes = np.empty(32 * (len(leaves) + 1), np.uint8)
    nodes[:-32] = leaves.reshape(-1)
    duplicated = merkle_in_place(nodes, len(leaves))
    return nodes[:32].tobytes(), bool(duplicated)


def _hash_by_hashlib(
    data: bytes, tx: Transactions, witness: bool, txids: NDArray[np.uint8], wtxids: NDArray[np.uint8]
) -> None:
    rows = zip(tx.offset.tolist(), tx.size.tolist(), tx.witness_offset.tolist(), tx.has_witness.tolist(), strict=True)
    for t, (offset, size, at, segwit) in enumerate(rows):
        end = offset + size
        stripped = (
            data[offset : offset + 4] + data[offset + 6 : at] + data[end - 4 : end] if segwit else data[offset:end]
        )
        txids[t] = wtxids[t] = np.frombuffer(double_sha256(stripped), np.uint8)
        if segwit and witness:
            wtxids[t] = np.frombuffer(double_sha256(data[offset:end]), np.uint8)


def _merkle_by_hashlib(level: list[bytes]) -> tuple[bytes, bool]:
    duplicated = False
    while len(level) > 1:
        pairs = list(zip(level[::2], level[1::2], strict=False))
        duplicated |= any(left == right for left, right in pairs)
        if len(level) % 2:
            pairs.append((level[-1], level[-1]))
        level = [double_sha256(left + right) for left, right in pairs]
    return level[0], duplicated
