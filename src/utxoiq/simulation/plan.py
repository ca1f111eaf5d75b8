"""What will happen in a run and when, fixed before its first block. What it came to is written down as it happens."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from utxoiq.simulation.cast import EXCHANGES, HOLDERS, POOLS
from utxoiq.simulation.draws import log_uniform, spread, stream

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from utxoiq.simulation.regimes import Regime

START_HEIGHT = 900_000
STALE_BLOCKS = 2
"""Blocks of the losing branch; the winning one has overtaken it with its third."""
TAIL = 16
"""Blocks at the end of a run in which nothing is begun, so that what begins also ends."""
SIZES = (Fraction(1, 2), Fraction(10))
"""From half the published threshold to ten times it."""
WARM_UP = {"net_inflow": 640, "net_outflow": 640}
"""Blocks before which a kind can't be said, for want of a past: until then other kinds of the subject come."""
SURGE_BLOCKS = 6
"""Blocks over which a planned net flow is spread."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that did happen, at `height` of the best chain: the truth that signals are held against."""

    signal_type: str | None
    """The type of the signal that may speak of it; None for what no signal is about."""
    kind: str
    entity: str | None
    """Id of the label entity it is about, `all_exchanges`, or None."""
    height: int
    size: float
    """Relative to the published threshold of its kind (docs/signals); 1 where the kind has none."""
    detail: dict[str, int | str]
    """Amounts are satoshis (`_sat`). `blocks`: how long it lasted, where that is more than one block."""

    @property
    def counts(self) -> bool:
        """Whether it reaches the published threshold."""
        return self.size >= 1

    @property
    def is_consequence(self) -> bool:
        """Whether it only sums up what other events tell of: a signal of it is right, and none is owed."""
        return "follows_from" in self.detail


class Planned(NamedTuple):
    """Something to be done at a step."""

    kind: str
    size: float
    """Relative to the published threshold."""
    length: int
    """Blocks it takes."""


@dataclass(frozen=True, slots=True)
class Timeline:
    """What happens to one subject: `kinds` in turn, `per_1000` blocks so many, `gap` blocks apart at least."""

    subject: str
    kinds: tuple[str, ...]
    per_1000: float
    gap: int
    warm_up: int = 20
    sizes: tuple[Fraction, Fraction] = SIZES
    length: tuple[int, int] = (1, 1)
    """Least and most blocks one takes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps count the blocks of the best chain from 0 (height 900,000)."""

    blocks: int
    reorg: bool = False
    planned: dict[str, dict[int, Planned]] = field(default_factory=dict)

    def at(self, subject: str, step: int) -> Planned | None:
        """What a subject does at `step`, if anything."""
        return self.planned.get(subject, {}).get(step)

    @property
    def fork(self) -> int:
        """The first step of the two branches; no reorg where the winning one would not end within the run."""
        return self.blocks * 7 // 10

    def group(self, step: int) -> int:
        """How many blocks to make before the first is sealed: the winning branch at the fork, else one."""
        reorg = self.reorg and step == self.fork and step + STALE_BLOCKS < self.blocks
        return STALE_BLOCKS + 1 if reorg else 1


def make_plan(seed: int, blocks: int, regime: Regime) -> Plan:
    """The plan of a run of `blocks` blocks; another length is another plan."""
    plan = Plan(blocks, regime.reorg)
    for line in timelines(regime):
        rng = stream(seed, f"plan/{line.subject}")
        plan.planned[line.subject] = dict(_lay_out(line, blocks, regime, rng))
    plan.planned["empty"] = _empty_blocks(plan, regime, stream(seed, "plan/empty"))
    return plan


def timelines(regime: Regime) -> Iterator[Timeline]:
    """All subjects but the empty blocks, which go where nothing else happens."""
    rate, bursts, moves = regime.event_rate, regime.burst_rate, regime.reshuffle_rate
    yield Timeline("fees", ("fee_spike", "fee_drop", "fee_spike"), 5.8 * bursts, 160, 80, SIZES, (8, 14))
    yield Timeline("count", ("tx_count_record",), 4.5 * bursts, 160, 80, (SIZES[0], Fraction(5)))
    yield Timeline("mistake", ("fee_overpaid",), 5 * bursts, 20)
    yield Timeline(
        "shift",
        ("pool_share_shift",),
        2.2 * rate,
        400,
        300 // regime.crowding,
        (Fraction(regime.smallest_shift), Fraction(6)),
    )
    yield Timeline("streak", ("pool_streak",), 1.4 * rate, 120, 160, (Fraction(3, 5), Fraction(3, 2)))
    yield Timeline("unclaimed", ("reward_unclaimed",), 3 * rate, 30, 20, (Fraction(1), Fraction(10)))
    yield Timeline(
        "whales", ("large_transfer", "own_move", "large_transfer", "large_consolidation"), 15 * rate, 15, 150
    )
    yield Timeline("sleepers", ("dormant_coins",), 10 * rate, 20)
    hoards = ("balance_gathered", "balance_given")
    yield Timeline("hoarders", hoards, 6 * rate, 20, 150, (Fraction(6, 5), Fraction(10)))
    for pool in POOLS:
        yield Timeline(pool.id, ("miner_distribution",), 1.4 * rate, 40)
    for entity in (*EXCHANGES, *HOLDERS):
        exchange = entity in EXCHANGES
        kinds = ("large_deposit", "large_withdrawal", "net_inflow", "large_deposit", "large_withdrawal", "net_outflow")
        if regime.flows:
            yield Timeline(entity.id, kinds if exchange else ("accumulation", "distribution"), 5.5 * rate, 36)
        often, sizes = (8 * moves, (Fraction(1), Fraction(30))) if exchange else (3 * moves, SIZES)
        yield Timeline(f"{entity.id}/reshuffle", ("internal_reshuffle",), often, 16, 10, sizes)


def _lay_out(line: Timeline, blocks: int, regime: Regime, rng: Random) -> Iterator[tuple[int, Planned]]:
    end = blocks - TAIL
    count = int(line.per_1000 * max(0, end - line.warm_up) / 1000 + 0.5 + rng.random() * 0.5)
    steps = spread(rng, line.warm_up, end, max(count, regime.crowding // 2), max(15, line.gap // regime.crowding))
    kinds: list[str] = []
    for step in steps:
        if not any(step >= WARM_UP.get(kind, 0) for kind in kinds):
            kinds += rng.sample(line.kinds, len(line.kinds))
        kind = next(kind for kind in kinds if step >= WARM_UP.get(kind, 0))
        kinds.remove(kind)
        low, high = line.length
        yield step, Planned(kind, log_uniform(rng, *line.sizes), low + rng.randrange(high - low + 1))


def _empty_blocks(plan: Plan, regime: Regime, rng: Random) -> dict[int, Planned]:
    """Blocks without payments, where nothing else is planned and with a past against which they are unusual."""
    busy: set[int] = set(range(plan.fork, plan.fork + STALE_BLOCKS + 1)) if plan.reorg else set()
    for planned in plan.planned.values():
        for step, what in planned.items():
            busy.update(range(step, step + max(what.length, SURGE_BLOCKS if what.kind in WARM_UP else 1)))
    end, found = plan.blocks - TAIL, defaultdict[int, Planned]()
    count = max(int(4 * regime.event_rate * (end - 150) / 1000 + 0.5), 2 * (regime.crowding // 2))
    for wished in spread(rng, 150, end, count, 24 // regime.crowding):
        free = next((step for step in range(wished, min(end, wished + 20)) if step not in busy), None)
        if free is not None:
            found[free] = Planned("empty_block", 1.0, 1)
    return dict(found)
