"""Shares of pools in a row of blocks: has one shifted, does one run, is one too large? Pools are ids, None unknown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from utxoiq.processors.statistics import binomial_p, fisher_p

Pools = Sequence[str | None]


def shifts(pools: Pools, thresholds: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    """Pools whose share of the last `recent_blocks`, or of twice as many, differs from their share of the blocks before
    those by `share_change` and more, with less than `share_p` by chance: Fisher's exact test, times the number of
    pools, all of which are tested at once (Bonferroni). Of the two the less likely, which tells about when it began."""
    size = int(thresholds["recent_blocks"])
    found = _shifts(pools, size, thresholds)
    for pool, shift in _shifts(pools, 2 * size, thresholds).items():
        if pool not in found or shift["p_value"] < found[pool]["p_value"]:
            found[pool] = shift
    return found


def _shifts(pools: Pools, size: int, thresholds: Mapping[str, float]) -> dict[str, dict[str, Any]]:
    recent, before = pools[-size:], pools[:-size]
    if len(before) < max(1, thresholds["minimum_history"]):
        return {}
    now, then = Counter(recent), Counter(before)
    names = sorted(pool for pool in {*now, *then} if pool)
    found = {}
    for pool in names:
        share, share_before = now[pool] / len(recent), then[pool] / len(before)
        if abs(share - share_before) < thresholds["share_change"]:
            continue
        p = min(1.0, fisher_p(now[pool], len(recent), then[pool], len(before)) * len(names))
        if p < thresholds["share_p"]:
            found[pool] = {
                "direction": "up" if share > share_before else "down",
                "share": round(share, 4),
                "share_before": round(share_before, 4),
                "blocks": now[pool],
                "recent_blocks": len(recent),
                "blocks_before": then[pool],
                "window_blocks": len(before),
                "pools_tested": len(names),
                "p_value": float(f"{p:.3g}"),
            }
    return found


class Run(NamedTuple):
    """Blocks of one pool in a row, at the end."""

    length: int
    share: float
    """Of the pool, of the blocks before the run."""
    before: int
    """How many those are."""

    def chance(self, length: int) -> float:
        """At most so likely begins a run as long anywhere in as many blocks (union bound)."""
        return min(1.0, self.before * self.share**length)


def run_of(pools: Pools) -> Run:
    """The run that the last block ends. Raises IndexError for no block."""
    length = 1
    while length < len(pools) and pools[-1 - length] == pools[-1]:
        length += 1
    before = pools[: len(pools) - length]
    return Run(length, before.count(pools[-1]) / len(before) if before else 0.0, len(before))


def concentration(pools: Pools, pool: str, thresholds: Mapping[str, float]) -> float | None:
    """The chance of as many blocks of `pool` at a share of `concentration_share`; None unless it has more than that
    share and this chance is below `concentration_p`."""
    limit, found = thresholds["concentration_share"], pools.count(pool)
    if not 0 < limit < 1 or found <= limit * len(pools):
        return None
    p = binomial_p(found, len(pools), limit)
    return p if p < thresholds["concentration_p"] else None
