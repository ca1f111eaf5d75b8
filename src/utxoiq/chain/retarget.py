"""The difficulty a header must have, as far as its parent alone tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from utxoiq.errors import DecodeError

if TYPE_CHECKING:
    from utxoiq.chain.header import Header
    from utxoiq.chain.network import Network

INTERVAL = 2016
"""Blocks between two changes of difficulty, each by a factor of 4 at most (Core, pow.cpp)."""
STEADY = {"main", "signet"}
"""Networks without exceptions: the test networks allow easy blocks after 20 minutes, regtest never changes."""


def check_bits(header: Header, parent: Header, height: int, network: Network) -> None:
    """Raise DecodeError for a difficulty that can't follow the parent's: blocks made cheaply to deceive."""
    if network.name not in STEADY:
        return
    if height % INTERVAL:
        if header.bits != parent.bits:
            raise DecodeError("header", f"block {header.block_hash} changes the difficulty between two adjustments")
    elif not parent.target // 5 <= header.target <= min(4 * parent.target, network.pow_limit):
        raise DecodeError("header", f"block {header.block_hash} changes the difficulty by more than a factor of 4")
