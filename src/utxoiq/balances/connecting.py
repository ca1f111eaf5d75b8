"""From what a block pays and spends, and what was held before it, to the step that connects it: a pure function."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from utxoiq.balances.errors import LedgerError
from utxoiq.balances.steps import CONNECT, Head, Step, pack_scripts
from utxoiq.chain.hashes import Hash256

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from utxoiq.balances.tally import Tally
    from utxoiq.chain.block import Block


def step_of(block: Block, height: int, tally: Tally, before: NDArray[np.uint64], number: int, least: int) -> Step:
    """Step `number`, with the scripts of those that hold `least` satoshis before or after.

    `before` has sat and heights of each row of the tally. Raises LedgerError where more is spent than was held.
    """
    held = before[:, 0].astype(np.int64)
    holds = held + tally.net
    if (holds < 0).any():
        poor = tally.script(int(np.argmin(holds)))
        raise LedgerError(
            f"block {block.block_hash} spends from {poor.hex()[:80]} more than it holds; check its source"
        )
    rows = np.flatnonzero((held > 0) | (holds > 0))
    named = np.flatnonzero(np.maximum(held, holds)[rows] >= least).tolist()
    scripts = pack_scripts((i, tally.script(int(rows[i]))) for i in named)
    head = Head(
        CONNECT, number, height, block.block_hash, Hash256(block.header.prev_hash), len(rows), len(scripts), b""
    )
    return Step(head, tally.keys[rows], before[rows], _after(before, held, holds, height)[rows], scripts)


def _after(
    before: NDArray[np.uint64], held: NDArray[np.int64], holds: NDArray[np.int64], height: int
) -> NDArray[np.uint64]:
    """Sat and heights: a script that held nothing is seen first now, one that holds nothing any more is forgotten."""
    first = np.where(held > 0, before[:, 1] >> np.uint64(32), np.uint64(height))
    after = np.stack([holds.astype(np.uint64), (first << np.uint64(32)) | np.uint64(height)], axis=1)
    after[holds == 0] = 0
    return after
