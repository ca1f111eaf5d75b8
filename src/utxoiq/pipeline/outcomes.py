"""Outcomes: once the blocks after a signal tell whether it was right, that is recorded."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from utxoiq.models import Outcome
from utxoiq.persistence.outcomes import BEFORE_ALL
from utxoiq.persistence.sqlite import signal_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from utxoiq.history import Past
    from utxoiq.models import Signal
    from utxoiq.persistence.sqlite import SqliteStore
    from utxoiq.processors.base import SignalProcessor

log = logging.getLogger(__name__)

BURIED = 6
"""Blocks that must lie upon those that tell an outcome: what is recorded stays, so no reorg is to take it back."""
BATCH = 100
"""Signals whose outcomes are written in one transaction."""


def settle(store: SqliteStore, processors: Sequence[SignalProcessor], most: int | None = None) -> int:
    """Resolve the signals that hold, have no outcome, and whose blocks have come: how many outcomes were recorded. A
    signal whose later blocks the store has not all waits. `most`: begin no batch when so many were asked about. Raises
    StoreError."""
    tip, models = store.cursor(), {one.model_version: one for one in processors}
    settles = {(one.model_version, kind): n for one in processors for kind, n in one.settles_after.items()}
    written, asked, place, size = 0, 0, BEFORE_ALL, min(BATCH, most or BATCH)
    while tip is not None and (rows := store.outcomes.waiting(settles, tip.height - BURIED, place, size)):
        found = _resolved(store, models, [(signal_of(row), row["blocks"]) for row in rows], tip.height)
        outcomes = [one for one in found.values() if one is not None]
        written += store.outcomes.record(outcomes, [name for name, one in found.items() if one is None])
        asked, place = asked + len(found), (rows[-1]["block_height"], rows[-1]["signal_id"])
        if most is not None and asked >= most:
            break
    return written


def _resolved(
    store: SqliteStore, models: Mapping[str, SignalProcessor], waiting: Sequence[tuple[Signal, int]], tip: int
) -> dict[str, Outcome | None]:
    """Signal id -> its outcome, None where its blocks do not tell; of the others blocks are missing."""
    found: dict[str, Outcome | None] = {}
    seen: tuple[str, int] | None = None
    after: list[Past] = []
    for signal, blocks in waiting:
        if seen != (signal.block_hash, blocks):
            seen, after = (signal.block_hash, blocks), _after(store, signal, blocks)
        if len(after) == blocks:
            right = _ask(models[signal.model_version], signal, after)
            by = f"the {blocks} blocks after it"
            found[signal.signal_id] = None if right is None else Outcome(signal.signal_id, right, by, tip)
    return found


def _after(store: SqliteStore, signal: Signal, blocks: int) -> list[Past]:
    """The blocks after a signal's own, none where one is missing."""
    last = store.connected_at((signal.block_height or 0) + blocks)
    rows = store.window(last, blocks) if last else []
    follows = len(rows) == blocks and rows[0].facts.previousblockhash == signal.block_hash
    return rows if follows else []


def _ask(processor: SignalProcessor, signal: Signal, after: Sequence[Past]) -> bool | None:
    try:
        return processor.resolve(signal, after)
    except Exception:  # whatever a processor does, the others are settled
        log.exception("signal %s can't be resolved by %s", signal.signal_id, processor.model_version)
        return None
