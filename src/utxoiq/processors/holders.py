"""Whale signals on what scripts hold: balances that pass a limit, grow or shrink over a week, and all large ones.

They rest on what a ledger told of each block; where it told nothing they are not said. Formulas: docs/signals/whale.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from utxoiq.models import LARGE_HOLDING, BalanceChange
from utxoiq.processors.statistics import looks
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
            metadata = {**holder(context, one), "limit": limit, "transactions": one.transactions}
            yield Said(kind, metadata["address"], metadata, one.txids)


def weekly(
    context: ProcessingContext, balances: BlockBalances, window: Window, thresholds: Mapping[str, float]
) -> Iterator[Said]:
    """Large scripts that gathered or gave away much in several blocks of the window, at the first block in a while at
    which that is so."""
    steps_of = window.values(steps)
    size, now = int(thresholds["week_blocks"]), context.facts.height or 0
    for one in balances.changes:
        path = chained([*steps_of(one.script), Step(now, one.before, one.after)], balances.least)
        found = _gathered(path, size, thresholds)
        if found is None or _is_known(path, found, thresholds):
            continue
        metadata = {
            **holder(context, one), "balance_before": found.base, "amount": abs(found.change),
            "changed_blocks": found.changes, "window_blocks": min(size, len(window)),
        }  # fmt: skip
        yield Said(
            "balance_gathered" if found.change > 0 else "balance_given", metadata["address"], metadata, one.txids
        )


class Gathered(NamedTuple):
    """What a script gained (below 0: gave up) on what it held at the beginning of a week, in how many blocks. Sat."""

    base: int
    change: int
    changes: int


def _is_known(path: Sequence[Step], found: Gathered, thresholds: Mapping[str, float]) -> bool:
    """Whether as much was so at an earlier step that is not long past."""
    size, since = int(thresholds["week_blocks"]), path[-1].height - thresholds["week_quiet"]
    earlier = (_gathered(path[: n + 1], size, thresholds) for n, step in enumerate(path[:-1]) if step.height >= since)
    return any(one is not None and (one.change > 0) == (found.change > 0) for one in earlier)


def _gathered(path: Sequence[Step], size: int, thresholds: Mapping[str, float]) -> Gathered | None:
    """Where the last `size` blocks of a path changed a large balance by enough, in enough of them, the last too."""
    recent = [step for step in path if step.height > path[-1].height - max(1, size)]
    base, after = recent[0].before, recent[-1].after
    change = after - base
    same_way = [(step.after - step.before) * change > 0 for step in recent]
    least = max(thresholds["week_btc"] * COIN, thresholds["week_share"] * base)
    large = max(base, after) >= thresholds["balance_btc"] * COIN
    enough = large and same_way[-1] and abs(change) >= least and sum(same_way) >= thresholds["week_changes"]
    return Gathered(base, change, sum(same_way)) if enough else None


def chained(path: Sequence[Step], least: int) -> Sequence[Step]:
    """The end of a path in which nothing was missed: each step begins with what the one before left, or both of that
    are below `least`, from which on changes are told."""
    for n in range(len(path) - 1, 0, -1):
        left, begins = path[n - 1].after, path[n].before
        if left != begins and max(left, begins) >= least:
            return path[n:]
    return path


def together(balances: BlockBalances, window: Window, thresholds: Mapping[str, float]) -> Iterator[Said]:
    """What all large holders have together, where it has changed much in a week, at the first block in a while at which
    it has."""
    if balances.least > LARGE_HOLDING:
        return
    every, week = [*window.series(held), balances.held], int(thresholds["week_blocks"])
    seen = looks(every, week + 1, thresholds["week_quiet"])
    before = _left_behind(next(seen), thresholds)
    if before is None or any(_left_behind(earlier, thresholds) is not None for earlier in seen):
        return
    metadata = {
        "amount": abs(balances.held - before), "held_before": before, "held": balances.held,
        "holders": balances.holders, "limit": LARGE_HOLDING, "window_blocks": min(week, len(window)),
    }  # fmt: skip
    yield Said("large_holders_gain" if balances.held > before else "large_holders_loss", "chain", metadata, ())


def _left_behind(look: Sequence[int | None], thresholds: Mapping[str, float]) -> int | None:
    """What they held at its beginning, where the last of it lies far from that; None where it does not, or too little
    of it is known."""
    known = [one for one in look if one is not None]
    if look[-1] is None or len(known) <= max(1, thresholds["minimum_history"]) or not known[0]:
        return None
    return known[0] if abs(known[-1] - known[0]) >= thresholds["holders_share"] * known[0] else None


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
    """By all large holders after a block; None too for a ledger that does not know all of them."""
    return row.balances.held if row.balances and row.balances.least <= LARGE_HOLDING else None
