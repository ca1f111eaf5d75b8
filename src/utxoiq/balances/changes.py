"""What a block did to large balances, with the transactions that did it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from utxoiq.chain._walk import script_keys
from utxoiq.chain.address import address_of
from utxoiq.models import MOST_EVIDENCE, BalanceChange

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from utxoiq.balances.records import Change
    from utxoiq.chain.block import Block, Outputs, Spent


def told(block: Block, spent: Spent, changes: Sequence[Change]) -> list[BalanceChange]:
    """The changes of a block by script, each with the block's transactions that touched it."""
    places = _places(block, spent, [one.script for one in changes])
    return [
        BalanceChange(
            one.script.hex(), address_of(one.script, block.network), one.before, one.after,
            [str(block.txid(t)) for t in sorted(places[one.script])[:MOST_EVIDENCE]],
            max(0, len(places[one.script]) - MOST_EVIDENCE),
        )
        for one in sorted(changes, key=lambda one: one.script)
    ]  # fmt: skip


def _places(block: Block, spent: Spent, scripts: Sequence[bytes]) -> dict[bytes, set[int]]:
    """Script -> its transactions, by their number in the block."""
    found: dict[bytes, set[int]] = defaultdict(set)
    keys, wanted = _keys(scripts), set(scripts)
    for outputs, first in ((block.outputs, block.tx.first_output), (spent.outputs, block.tx.first_input)):
        for row, script in _rows(outputs, keys):
            if script in wanted:
                found[script].add(int(np.searchsorted(first, row, side="right")) - 1)
    return found


def _keys(scripts: Sequence[bytes]) -> NDArray[np.uint64]:
    lengths = np.array([len(script) for script in scripts], np.uint32)
    offsets, keys = np.cumsum(lengths, dtype=np.uint32) - lengths, np.empty(len(scripts), np.uint64)
    script_keys(np.frombuffer(b"".join(scripts) or b"\0", np.uint8), offsets, lengths, len(scripts), keys)
    return keys


def _rows(outputs: Outputs, keys: NDArray[np.uint64]) -> Iterator[tuple[int, bytes]]:
    for row in np.flatnonzero(np.isin(outputs.key, keys)).tolist():
        yield row, outputs.script(row)
