"""The branch that loses: the transactions of the winning one, cut into blocks elsewhere by other pools."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from utxoiq.simulation.cast import POOLS
from utxoiq.simulation.mining import Draft
from utxoiq.simulation.plan import STALE_BLOCKS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from random import Random

    from utxoiq.simulation.locks import Lock
    from utxoiq.simulation.pending import Signed


def stale_branch(winning: Sequence[Draft], payouts: Mapping[str, Lock], rng: Random) -> list[Draft]:
    """Drafts of the first heights of `winning`: an empty block, as miners in a hurry find, then the same transactions
    in the same order, so parents still come first.

    Blocks end earlier than those of `winning`, so nothing moves to a lower height and what was mature stays so.
    """
    queue = [signed for draft in winning for signed in draft.transactions]
    cuts, begin = [0, 0], 0
    for draft in winning[: STALE_BLOCKS - 1]:
        size = len(draft.transactions)
        cuts.append(begin + size * (70 + rng.randrange(26)) // 100)
        begin += size
    heights: dict[bytes, int] = {}
    return [
        _rival(draft, queue[start:end], heights, payouts, rng)
        for draft, (start, end) in zip(winning, pairwise(cuts), strict=False)
    ]


def _rival(
    draft: Draft, part: Sequence[Signed], heights: dict[bytes, int], payouts: Mapping[str, Lock], rng: Random
) -> Draft:
    heights.update((signed.txid, draft.height) for signed in part)
    miner = rng.choice([pool for pool in POOLS if pool is not draft.miner])
    moved = tuple(_spent_in_branch(signed, heights) for signed in part)
    return replace(draft, miner=miner, payout=payouts[miner.id], transactions=moved)


def _spent_in_branch(signed: Signed, heights: Mapping[bytes, int]) -> Signed:
    """`signed`, its coins at the heights at which this branch made them."""
    spent = tuple(
        coin._replace(height=heights.get(txin.txid, coin.height))
        for txin, coin in zip(signed.tx.inputs, signed.spent, strict=True)
    )
    return replace(signed, spent=spent)
