"""Bringing a ledger to where the store stands, back and forward, whatever either has missed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from utxoiq.balances.ledger import Ledger
    from utxoiq.chain.block import Block, Spent
    from utxoiq.chain.hashes import Hash256


def roll(
    ledger: Ledger, height: int, hash_at: Callable[[int], Hash256 | None], read: Callable[[int], tuple[Block, Spent]]
) -> int:
    """Disconnect what is not on the branch that `hash_at` gives, then connect it up to `height`: the number of steps.

    A ledger above `height` goes down to it. Raises what connecting and disconnecting do.
    """
    steps = 0
    while ledger.tip is not None and (ledger.tip[0] > height or hash_at(ledger.tip[0]) != ledger.tip[1]):
        ledger.disconnect(ledger.tip[1])
        steps += 1
    for at in range(ledger.tip[0] + 1 if ledger.tip else 0, height + 1):
        ledger.connect(*read(at), at)
        steps += 1
    return steps
