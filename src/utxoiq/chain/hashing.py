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


def txids(raw: NDArray[np.uint8], tx: Transactions) -> NDArray[np.uint8]:
    """The txid of each transaction, shape (n, 32), internal byte order."""
    return _hash_all(raw, tx, False, np.empty((len(tx.offset) + 1, 32), np.uint8))[:-1]


def wtxids(raw: NDArray[np.uint8], tx: Transactions, txids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The leaves of the witness tree (BIP 141), shape (n, 32): wtxids, and zero for the coinbase."""
    ids = np.empty((len(tx.offset) + 1, 32), np.uint8)
    ids[:-1] = txids
    _hash_all(raw, tx, True, ids)
    ids[0] = 0
    return ids[:-1]


def merkle_root(leaves: NDArray[np.uint8]) -> tuple[bytes, bool]:
    """The merkle root over `leaves`, shape (n, 32), and whether a duplicated branch (CVE-2012-2459) was seen."""
    if not SHA_NI:
        return _merkle_by_hashlib([leaf.tobytes() for leaf in leaves])
    nodes = np.empty(32 * (len(leaves) + 1), np.uint8)
    nodes[:-32] = leaves.reshape(-1)
    duplicated = merkle_in_place(nodes, len(leaves))
    return nodes[:32].tobytes(), bool(duplicated)


def _hash_all(raw: NDArray[np.uint8], tx: Transactions, whole: bool, ids: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if not SHA_NI:
        return _hash_all_by_hashlib(raw, tx, whole, ids)
    largest = (int(tx.size.max()) + 9 + 63) // 64 * 64
    scratch, states = np.empty(2 * largest, np.uint8), np.empty(16, np.uint32)
    hash_transactions(
        raw, len(tx.offset), tx.offset, tx.size, tx.stripped_size, tx.witness_offset, tx.has_witness, whole,
        scratch, states, ids.reshape(-1),
    )  # fmt: skip
    return ids


def _hash_all_by_hashlib(
    raw: NDArray[np.uint8], tx: Transactions, whole: bool, ids: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    data = raw.tobytes()
    rows = zip(tx.offset.tolist(), tx.size.tolist(), tx.witness_offset.tolist(), tx.has_witness.tolist(), strict=True)
    for t, (offset, size, witness, segwit) in enumerate(rows):
        end = offset + size
        if segwit and not whole:
            message = data[offset : offset + 4] + data[offset + 6 : witness] + data[end - 4 : end]
        elif segwit or not whole:
            message = data[offset:end]
        else:
            continue
        ids[t] = np.frombuffer(double_sha256(message), np.uint8)
    return ids


def _merkle_by_hashlib(level: list[bytes]) -> tuple[bytes, bool]:
    duplicated = False
    while len(level) > 1:
        pairs = list(zip(level[::2], level[1::2], strict=False))
        duplicated |= any(left == right for left, right in pairs)
        if len(level) % 2:
            pairs.append((level[-1], level[-1]))
        level = [double_sha256(left + right) for left, right in pairs]
    return level[0], duplicated
