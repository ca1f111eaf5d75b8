"""The coins there were before a run, as a file of Bitcoin Core's `dumptxoutset`."""

from __future__ import annotations

import struct
from itertools import groupby
from typing import TYPE_CHECKING

from utxoiq.chain.network import NETWORKS
from utxoiq.chain.serialize import coin_bytes, compact_size
from utxoiq.simulation.plan import START_HEIGHT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from utxoiq.chain.hashes import Hash256
    from utxoiq.chain.serialize import Coin

VERSION = 2
BASE_HEIGHT = START_HEIGHT - 1


def write_snapshot(path: Path, coins: Mapping[tuple[bytes, int], Coin], base: Hash256) -> None:
    """Write coins by txid (internal order) and index, as they were at block `base` (Core, WriteUTXOSnapshot)."""
    head = b"utxo\xff" + struct.pack("<H", VERSION) + NETWORKS["simulated"].magic + base
    parts = [head, struct.pack("<Q", len(coins))]
    for txid, group in groupby(sorted(coins), key=lambda outpoint: outpoint[0]):
        of_one = list(group)
        parts += [txid, compact_size(len(of_one))]
        parts += [compact_size(index) + coin_bytes(coins[txid, index]) for _, index in of_one]
    path.write_bytes(b"".join(parts))
