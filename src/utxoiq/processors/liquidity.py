"""Pressure on exchanges: a day's net flow to all of them, and what followed on days like it. Amounts in sat."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

from utxoiq.processors.exchange import EVERY, net_of
from utxoiq.processors.statistics import median

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from utxoiq.history import Past


@dataclass(frozen=True, slots=True)
class Pressure:
    """A day's net flow (negative: outward), earlier days' that do not overlap it nor each other, and what followed on
    those of at least half as much the same way."""

    amount: int
    earlier: list[int]
    following: list[int]

    @property
    def followed(self) -> int:
        """How often it went on the same way."""
        return sum((after > 0) == (self.amount > 0) for after in self.following)

    @property
    def confidence(self) -> float:
        """That it goes on: the mean of the Beta posterior under Jeffreys' prior."""
        return (self.followed + 0.5) / (len(self.following) + 1)

    def metadata(self) -> dict[str, Any]:
        """Predicted is the median of what followed, counted the way of the pressure; its 80 % interval are order
        statistics of the same."""
        sign, alike = 1 if self.amount > 0 else -1, len(self.following)
        expected = sorted(sign * after for after in self.following)
        beyond = (alike + 1) // 10
        return {
            "prediction_type": "net flow to labelled exchanges",
            "predicted_value": int(median(expected)),
            "confidence_interval": [expected[max(0, beyond - 1)], expected[min(alike - 1, alike - beyond)]],
            "current_value": abs(self.amount),
            "historical_mean": round(fmean(self.earlier), 1),
            "historical_std": round(pstdev(self.earlier), 1),
            "cases_alike": alike,
            "cases_followed": self.followed,
        }


UNKNOWN_NET = -(1 << 60)
"""Stands for an unknown net flow in a column; days that hold one are unknown."""


def pressure(nets: NDArray[np.int64], size: int, least: float, minimum_alike: int) -> Pressure | None:
    """The pressure of the last `size` blocks of net flows; None where it is below `least`, unknown, or there were fewer
    than `minimum_alike` days like it."""
    days = nets[len(nets) % size :].reshape(-1, size)[::-1]
    known, sums = (days != UNKNOWN_NET).all(axis=1).tolist(), days.sum(axis=1).tolist()
    newer_first = [net if seen else None for net, seen in zip(sums, known, strict=True)]
    now = newer_first[0] if newer_first else None
    if now is None or abs(now) < least:
        return None
    pairs = [(after, day) for after, day in pairwise(newer_first) if after is not None and day is not None]
    alike = [after for after, day in pairs if (day > 0) == (now > 0) and 2 * abs(day) >= abs(now)]
    earlier = [day for day in newer_first[1:] if day is not None]
    return Pressure(now, earlier, alike) if len(alike) >= minimum_alike else None


def net_column(row: Past, labels_version: str) -> int:
    """The net flow to all exchanges in a block."""
    net = net_of(row, EVERY, labels_version)
    return UNKNOWN_NET if net is None else net
