"""Regimes: the same economy in different weather. Each knob is one number; a regime differs from `calm` in few."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Regime:
    """What kind of time it is. Rates are times the laboratory's usual, unless a unit is named."""

    label_coverage: float = 1.0
    """Share of each entity's addresses that labels know, 0 to 1. Pools are always known whole."""
    wrong_labels: float = 0.0
    """Share of each entity's labels that are wrong, 0 to 1: half name another entity's address, half a stranger's."""
    feerate: int = 4000
    """The usual feerate, sat/kvB."""
    fee_noise: float = 0.12
    """How far the going feerate of one block lies from the market's at most, as a share of it."""
    transactions: int = 42
    """Transactions in a usual block, the coinbase not counted."""
    event_rate: float = 1.0
    """Planned events of exchanges, treasuries, whales and miners."""
    burst_rate: float = 1.0
    """Planned events of the fee market: spikes, drops, crowded blocks, absurd fees."""
    reshuffle_rate: float = 1.0
    """Moves of exchanges and treasuries between wallets of their own."""
    coinjoin_rate: float = 0.1
    """CoinJoins a block."""
    big_coinjoin_rate: float = 0.0
    """CoinJoins a block that move more than 1,000 BTC."""
    crowding: int = 1
    """Events of a subject come so many times closer to each other than in the laboratory."""
    smallest_shift: float = 0.5
    """Least size of a planned shift of a pool's share, of those 5 points that are told."""
    flows: bool = True
    """Whether anything flows in and out of exchanges and treasuries at all."""
    reorg: bool = False
    """Whether two blocks are overtaken by three at seven tenths of the run."""


CALM = Regime()
DEMO = Regime(
    label_coverage=0.95, feerate=2500, event_rate=2, burst_rate=2, reshuffle_rate=1.5, crowding=2, smallest_shift=4,
    reorg=True,
)  # fmt: skip
"""A short run that is worth watching."""

REGIMES: Mapping[str, Regime] = MappingProxyType(
    {
        "calm": CALM,
        "bursty": Regime(label_coverage=0.9, fee_noise=0.22, burst_rate=1.6),
        "half_labels": Regime(label_coverage=0.5),
        "thin_labels": Regime(label_coverage=0.2),
        "wrong_labels": Regime(label_coverage=0.9, wrong_labels=0.15),
        "heavy_reshuffling": Regime(label_coverage=0.9, reshuffle_rate=7),
        "coinjoin_rich": Regime(coinjoin_rate=2.0, big_coinjoin_rate=0.02),
        "low_fee": Regime(feerate=400),
        "reshuffling_only": Regime(reshuffle_rate=3, flows=False),
        "demo": DEMO,
    }
)
"""By name. `demo` is what `simulate` makes where none is named."""
