"""What will happen in a run and when, fixed before its first block: the truth that signals can be held against."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from utxoiq.simulation.cast import RISING_POOL
from utxoiq.simulation.draws import stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

START_HEIGHT = 900_000
STALE_BLOCKS = 2
"""Blocks of the losing branch; the winning one has overtaken it with its third."""
EMPTY_AFTER = 200
"""Blocks before the first empty one, so that there is a past to find it unusual against."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something unusual that did happen, at `height` of the best chain. Amounts in `detail` are satoshis (`_sat`)."""

    kind: str
    height: int
    detail: dict[str, int | str]


@dataclass(frozen=True, slots=True)
class Burst:
    """Steps [start, start + length) at `factor` times the usual."""

    start: int
    length: int
    factor: float

    def at(self, step: int) -> float:
        """The factor at `step`, 1 outside."""
        return self.factor if self.start <= step < self.start + self.length else 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps count the blocks of the best chain from 0 (height 900,000)."""

    blocks: int
    fee_bursts: tuple[Burst, ...]
    count_burst: Burst
    hashrate_shift: int
    overpaid_fee: int
    fork: int
    """The first step of the two branches; no reorg where the winning one would not end within the run."""
    empty: tuple[int, ...]

    def group(self, step: int) -> int:
        """How many blocks to make before the first is sealed: the winning branch at the fork, else one."""
        reorg = step == self.fork and step + STALE_BLOCKS < self.blocks
        return STALE_BLOCKS + 1 if reorg else 1

    def announce(self, step: int) -> Iterator[Event]:
        """The planned events that begin at `step`."""
        height = START_HEIGHT + step
        for kind, bursts in (("fee_burst", self.fee_bursts), ("tx_count_burst", (self.count_burst,))):
            for burst in bursts:
                if burst.start == step:
                    yield Event(kind, height, {"blocks": burst.length, "percent": round(100 * burst.factor)})
        if step == self.hashrate_shift:
            yield Event("hashrate_shift", height, {"pool": RISING_POOL.id})
        if step in self.empty:
            yield Event("empty_block", height, {})


def make_plan(seed: int, blocks: int) -> Plan:
    """The plan of a run of `blocks` blocks; another length is another plan."""
    rng = stream(seed, "plan")
    fee_bursts = tuple(
        Burst(_between(rng, blocks, *span), 6 + rng.randrange(7), 8 + 7 * rng.random()) for span in ((30, 40), (78, 86))
    )
    count_burst = Burst(_between(rng, blocks, 58, 66), 1 + rng.randrange(2), 3.0)
    shift, overpaid = _between(rng, blocks, 45, 55), _between(rng, blocks, 93, 99)
    plan = Plan(blocks, fee_bursts, count_burst, shift, overpaid, blocks * 7 // 10, ())
    return replace(plan, empty=_empty_blocks(rng, plan))


def _between(rng: Random, blocks: int, low: int, high: int) -> int:
    """A step between `low` and `high` per cent of the run."""
    start = blocks * low // 100
    return start + rng.randrange(max(1, blocks * high // 100 - start))


def _empty_blocks(rng: Random, plan: Plan) -> tuple[int, ...]:
    bursts = (*plan.fee_bursts, plan.count_burst, Burst(plan.fork, STALE_BLOCKS + 1, 2), Burst(plan.overpaid_fee, 1, 2))
    quiet = [step for step in range(EMPTY_AFTER, plan.blocks) if all(burst.at(step) == 1 for burst in bursts)]
    return tuple(rng.choice(quiet) for _ in range(1 + rng.randrange(3))) if quiet else ()
