"""The truth about whole blocks: feerates, counts and coin age, each beside the blocks before."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from utxoiq.simulation.plan import Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from utxoiq.simulation.pending import Pending

WINDOW = 144
SPIKE, CROWDED = 3, 2
"""docs/signals/mempool.md: the window, and what is unusual beside its median feerate and its fullest block."""
AGE_WINDOW, AGE_HISTORY, AGE_RATIO, AGE_RANK, QUIET = 1008, 144, 3, 499, 12
"""docs/signals/whale.md: the window of coin age, the least of it, what is unusual; the blocks from which on the second
largest still counts (p <= 0.002); and how long nothing is told again."""


class FeeGauge:
    """Median feerates of blocks, and bursts as they turn out."""

    def __init__(self) -> None:
        self._rates: deque[int] = deque(maxlen=WINDOW)
        self._burst: tuple[str, int, int, float, list[float]] | None = None

    @property
    def usual(self) -> float | None:
        """The median of the last 144 blocks with payments, sat/kvB; None before there is one."""
        return middle(self._rates) if self._rates else None

    def begin(self, kind: str, height: int, length: int) -> None:
        """A planned burst starts with the block of `height`."""
        self._burst = kind, height, length, self.usual or 1.0, []

    def close_block(self, pending: Pending) -> list[Event]:
        """Take the block's feerate into account; the burst that ends with it."""
        ended: list[Event] = []
        rate = median_feerate(pending)
        if self._burst:
            kind, begin, length, usual, ratios = self._burst
            if rate:
                ratios.append(rate / usual if kind == "fee_spike" else usual / rate)
            if pending.height >= begin + length - 1:
                ended, self._burst = [_burst_event(kind, begin, length, usual, ratios)], None
        if rate:
            self._rates.append(rate)
        return ended


def _burst_event(kind: str, begin: int, length: int, usual: float, ratios: Sequence[float]) -> Event:
    detail: dict[str, int | str] = {"blocks": length, "usual_kvb": int(usual)}
    return Event("mempool", kind, None, begin, max(ratios, default=0.0) / SPIKE, detail)


def median_feerate(pending: Pending) -> int:
    """The median by weight in sat/kvB, each transaction at the rate of its package; 0 for an empty block."""
    signed = pending.transactions
    rows = [(one.fee * 4000 // one.weight, one.weight) for one in signed]
    for child, parent in pending.rescued.items():
        fee, weight = signed[child].fee + signed[parent].fee, signed[child].weight + signed[parent].weight
        rate = fee * 4000 // weight
        if rate > rows[parent][0]:
            rows[child], rows[parent] = (rate, rows[child][1]), (rate, rows[parent][1])
    half, seen = sum(weight for _, weight in rows), 0
    for rate, weight in sorted(rows):
        seen += 2 * weight
        if seen >= half:
            return rate
    return 0


class CountGauge:
    """How many payments blocks hold, and the most of the last 144."""

    def __init__(self) -> None:
        self._counts: deque[int] = deque(maxlen=WINDOW)

    @property
    def most(self) -> int:
        """0 before there is any."""
        return max(self._counts, default=0)

    def close_block(self, pending: Pending) -> list[Event]:
        """A block more than half way to a record."""
        count, most = len(pending.deals), self.most
        full = len(self._counts) >= WINDOW // 2
        self._counts.append(count)
        if not full or count < most:
            return []
        return [Event("mempool", "tx_count_record", None, pending.height, count / most / CROWDED,
                      {"transactions": count, "most_before": most})]  # fmt: skip


class AgeGauge:
    """Value times age of all coins a block spends, told where it is the largest (or second largest) in a week."""

    def __init__(self) -> None:
        self._sums: deque[int] = deque(maxlen=AGE_WINDOW)
        self._told = 0

    def close_block(self, pending: Pending) -> list[Event]:
        """A block that spends far more age than usual."""
        now = sum(
            owned.coin.value * (pending.height - owned.coin.height) for deal in pending.deals for owned in deal.inputs
        )
        past = list(self._sums)
        self._sums.append(now)
        if len(past) < AGE_HISTORY:
            return []
        ratio = now / middle(past)
        if 2 * ratio < AGE_RATIO or not _is_rare(now, past):
            return []
        quiet, self._told = pending.height - self._told > QUIET, pending.height
        detail: dict[str, int | str] = {"coin_blocks_sat": now, "percent_of_usual": int(100 * ratio)}
        return [Event("whale", "coin_age_spike", None, pending.height, ratio / AGE_RATIO, detail)] if quiet else []


def _is_rare(now: int, past: Sequence[int]) -> bool:
    """By ranks where the past is long enough for them, else twice its largest."""
    if len(past) < AGE_RANK:
        return now > 2 * max(past)
    return sum(one >= now for one in past) <= int((len(past) + 1) * 0.002) - 1


def middle(values: Iterable[int]) -> float:
    """The median."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
