"""A writer of UTXO snapshots after Core's own (rpc/blockchain.cpp, WriteUTXOSnapshot; kernel/coinstats.cpp)."""

from __future__ import annotations

import struct
from itertools import groupby

from helpers.reference import sha256d
from utxoiq.chain.network import Network
from utxoiq.chain.serialize import Coin, compact_size, output_bytes, undo_bytes, varint

CoinSet = dict[bytes, Coin]
"""Outpoint (txid, index as uint32) -> coin."""


def key_order(outpoint: bytes) -> bytes:
    """The order of Core's database: by txid, then by the bytes of the index as VARINT."""
    return outpoint[:32] + varint(int.from_bytes(outpoint[32:], "little"))


def snapshot_bytes(coins: CoinSet, base: bytes, network: Network) -> bytes:
    """The file `dumptxoutset` would write."""
    parts = [b"utxo\xff", struct.pack("<H", 2), network.magic, base, struct.pack("<Q", len(coins))]
    for txid, group in groupby(sorted(coins, key=key_order), key=lambda outpoint: outpoint[:32]):
        outpoints = list(group)
        parts += [txid, compact_size(len(outpoints))]
        for outpoint in outpoints:
            parts += [compact_size(int.from_bytes(outpoint[32:], "little")), coin_bytes(coins[outpoint])]
    return b"".join(parts)


def coin_bytes(coin: Coin) -> bytes:
    """A coin as the database has it: as in undo data, without the place that is left empty behind the height."""
    whole = undo_bytes([[coin]])[2:]
    code = varint(coin.height * 2 + coin.is_coinbase)
    assert whole.startswith(code)
    return code + whole[len(code) + (coin.height > 0) :]


def hash_serialized(coins: CoinSet) -> bytes:
    """`gettxoutsetinfo`'s hash_serialized_3, internal order."""
    ordered = sorted(coins, key=lambda outpoint: (outpoint[:32], int.from_bytes(outpoint[32:], "little")))
    return sha256d(
        b"".join(
            outpoint
            + struct.pack("<I", coins[outpoint].height * 2 + coins[outpoint].is_coinbase)
            + output_bytes(coins[outpoint].value, coins[outpoint].script)
            for outpoint in ordered
        )
    )
