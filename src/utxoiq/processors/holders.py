"""Whale signals on what scripts hold: balances that pass a limit, grow or shrink over a week, and all large ones.

They rest on what a ledger told of each block; where it told nothing they are not said. Formulas: docs/signals/whale.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from utxoiq.models import LARGE_HOLDING, BalanceChange
from utxoiq.units import COIN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from utxoiq.history import Past, Window
    from utxoiq.models import BlockBalances
    from utxoiq.processors.base import ProcessingContext

LEDGER: dict[str, Any] = {"basis": "a rule, read off the ledger of balances", "cases": 1, "calibrated": True}
"""Nothing is estimated: the ledger has it so."""
NOBODY = "unknown"
HOLDER = ("address", "holder", "balance_before", "balance")
CROSSING = (*HOLDER, "limit", "transactions")
WEEK = (*HOLDER, "amount", "changed_blocks", "window_blocks")
ALL = ("amount", "held_before", "held", "holders", "limit", "window_blocks")


class Said(NamedTuple):
    """What a signal is made from."""

    kind: str
    subject: str
    metadata: dict[str, Any]
    txids: Sequence[str]


class Step(NamedTuple):
    """A block that changed what a script holds. Sat."""

    height: int
    before: int
    after: int


def crossings(context: ProcessingContext, balances: BlockBalances, limit: int) -> Iterator[Said]:
    """Scripts that held less than `limit` before the block and hold it after, or the other way round. Nothing where the
    ledger does not know balances from `limit` on."""
    for one in balances.changes if balances.least <= limit else ():
        if (one.before >= limit) != (one.after >= limit):
            kind = "balance_above" if one.after >= limit else "balance_below"
            metadata = {**holder(context, one), "limit": limit, "transactions": len(one.txids)}
            yield Said(kind, metadata["address"], metadata, one.txids)


def weekly(
    context: ProcessingContext, balances: BlockBalances, window: Window, thresholds: Mapping[str, float]
) -> Iterator[Said]:
    """Large scripts that gathered or gave away much in several blocks of the window, at the first block in a while at
    which that is so."""
    steps_of = window.values(steps)
    size, now = len(window), context.facts.height or 0
    for one in balances.changes:
        path = chained([*steps_of(one.script), Step(now, one.before, one.after)])
        found = _gathered(path, size, thresholds)
        quiet = [path[: n + 1] for n, step in enumerate(path[:-1]) if step.height >= now - thresholds["week_quiet"]]
        if found is None or any(_gathered(earlier, size, thresholds) is not None for earlier in quiet):
            continue
        base, changed = found
        metadata = {
            **holder(context, one), "balance_before": base, "amount": abs(one.after - base), "changed_blocks": changed,
            "window_blocks": size,
        }  # fmt: skip
        kind = "balance_gathered" if one.after > base else "balance_given"
        yield Said(kind, metadata["address"], metadata, one.txids)


def _gathered(path: Sequence[Step], size: int, thresholds: Mapping[str, float]) -> tuple[int, int] | None:
    """(what was held before, blocks that went the same way) where the last `size` blocks of a path changed a large
    balance by enough, in enough of them; None where not."""
    recent = [step for step in path if step.height > path[-1].height - size]
    base, after = recent[0].before, recent[-1].after
    change = after - base
    same_way = sum((step.after > step.before) == (change > 0) for step in recent)
    last_is_it = (path[-1].after > path[-1].before) == (change > 0)
    least = max(thresholds["week_btc"] * COIN, thresholds["week_share"] * base)
    large = max(base, after) >= thresholds["balance_btc"] * COIN
    enough = large and last_is_it and abs(change) >= least and same_way >= thresholds["week_changes"]
    return (base, same_way) if enough else None


def chained(path: Sequence[Step]) -> Sequence[Step]:
    """The end of a path each step of which begins with what the one before left: in between, nothing was missed."""
    for n in range(len(path) - 1, 0, -1):
        if path[n].before != path[n - 1].after:
            return path[n:]
    return path


def together(balances: BlockBalances, window: Window, thresholds: Mapping[str, float]) -> Iterator[Said]:
    """What all large holders have together, where it has changed much over the window, at the first block in a while at
    which it has."""
    path = [one for one in window.series(held) if one is not None]
    least, quiet = thresholds["holders_share"], int(thresholds["week_quiet"])
    if not path or len(path) < thresholds["minimum_history"] or not path[0]:
        return
    change = balances.held - path[0]
    if abs(change) < least * path[0] or any(abs(one - path[0]) >= least * path[0] for one in path[-quiet:]):
        return
    metadata = {
        "amount": abs(change), "held_before": path[0], "held": balances.held, "holders": balances.holders,
        "limit": LARGE_HOLDING, "window_blocks": len(window),
    }  # fmt: skip
    yield Said("large_holders_gain" if change > 0 else "large_holders_loss", "chain", metadata, ())


def holder(context: ProcessingContext, one: BalanceChange) -> dict[str, Any]:
    """Which script, and whose it is by labels."""
    owner = context.entities.owner_of(bytes.fromhex(one.script))
    return {
        "address": one.address or f"script:{one.script}",
        "holder": owner.name if owner else NOBODY,
        "balance_before": one.before,
        "balance": one.after,
    }


def steps(row: Past) -> Iterator[tuple[str, Step]]:
    """Of a block: script -> what it did to it."""
    for one in row.balances.changes if row.balances else ():
        yield one.script, Step(row.facts.height or 0, one.before, one.after)


def held(row: Past) -> int | None:
    """By all large holders after a block."""
    return row.balances.held if row.balances else None
