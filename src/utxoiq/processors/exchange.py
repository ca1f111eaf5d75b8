"""Exchange signals: what labelled exchanges received and paid out, net of change and of their own reshuffling.

Formulas, limits and when such a signal is right: docs/signals/exchange.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from utxoiq.history import Past
from utxoiq.processors.base import A_MONTH, ProcessingContext, SignalProcessor
from utxoiq.processors.kin import Ground
from utxoiq.processors.metadata import Field, having
from utxoiq.processors.moves import HOLDINGS, MOVES, holdings, labels_suffice, moves
from utxoiq.processors.statistics import chance_confidence, median, tail_p
from utxoiq.units import COIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from utxoiq.models import BlockData, BlockFlows, Signal, SignalType
    from utxoiq.processors.moves import Way

EVERY = "all_exchanges"
"""Subject of what is said of all exchanges together."""
ALL_NAME = "All labelled exchanges"
NET = ("entity_id", "entity_name", "amount", "usual_amount", "most_amount", "flow_blocks", "sums_compared",
       "entities_tested", "p_value", "block_attributed_share")  # fmt: skip
SINGLE: Mapping[str, Way] = {"large_deposit": "arrived", "large_withdrawal": "left", "internal_reshuffle": "within"}


class Excess(NamedTuple):
    """A net flow that is larger than chance explains."""

    amount: int
    usual: int
    most: int
    sums: int
    p: float


class ExchangeProcessor(SignalProcessor):
    """Unusual net flows per exchange and of all together; large deposits and withdrawals; reshuffles, as such."""

    signal_type: ClassVar[SignalType] = "exchange"
    model_version = "exchange-4"
    reads = ()
    reads_flows = "of the window"
    kinds: ClassVar[Mapping[str, Mapping[str, Field]]] = {
        **dict.fromkeys(("net_inflow", "net_outflow"), having(*NET)),
        **dict.fromkeys(SINGLE, having(*MOVES, *HOLDINGS)),
    }
    window_blocks = A_MONTH
    defaults: ClassVar[Mapping[str, float]] = {
        "large_btc": 100,
        "net_btc": 100,
        "net_p": 0.03,
        "flow_blocks": 6,
        "minimum_sums": 100,
        "quiet_blocks": 12,
    }

    async def process_block(self, block: BlockData, context: ProcessingContext) -> list[Signal]:  # noqa: ARG002
        """The signals of this block; none where what it spent is unknown, or nobody is labelled."""
        if context.flows is None:
            return []
        return [*self._single(context, context.flows), *self._net(context, context.flows)]

    def _single(self, context: ProcessingContext, flows: BlockFlows) -> list[Signal]:
        signals: list[Signal] = []
        ground = Ground.of(context, self.window(context))
        for kind, way in SINGLE.items():
            for one, confidence, basis in moves(ground, ("exchange",), way, self.thresholds["large_btc"]):
                metadata = {**one.metadata(flows, context.entities), **holdings(context, one.entity.id)}
                signals += self.signal(
                    context, kind, one.entity.id, confidence, basis, metadata, one.txids,
                    balances="of the block",
                )  # fmt: skip
        return signals

    def _net(self, context: ProcessingContext, flows: BlockFlows) -> list[Signal]:
        """Net flows over the last blocks, at the first block in a while at which they are larger than chance explains,
        with all exchanges that were looked at accounted for (Bonferroni)."""
        every = {entity.id for entity in context.entities.of_kind("exchange")}
        here, window, last = sorted(every & {*flows.entities}), self.window(context), Past(context.facts, flows)
        signals: list[Signal] = []
        for who in [*here, EVERY] if here else ():
            whose = frozenset(every if who == EVERY else {who})
            seen = (small_net_of, who, flows.labels_version, whose)
            now = total([*window.last(self._blocks - 1).series(*seen), small_net_of(last, *seen[1:])])
            if now is None or abs(now) < self.thresholds["net_btc"] * COIN:
                continue
            exchanges = set[str]().union(*set(window.series(touched))) & every | set(here)
            if who != EVERY or labels_suffice(context, window, exchanges):  # of all it is not known what surely left
                nets = [*window.series(*seen), small_net_of(last, *seen[1:])]
                signals += self._excessive(context, flows, who, nets, len(exchanges) + 1)
        return signals

    @property
    def _blocks(self) -> int:
        return max(1, int(self.thresholds["flow_blocks"]))

    def _excessive(
        self, context: ProcessingContext, flows: BlockFlows, who: str, nets: list[int | None], tested: int
    ) -> list[Signal]:
        seen = self.looks_back(nets, self.thresholds["quiet_blocks"])
        now = self._excess(next(seen), tested)
        if now is None:
            return []
        up = now.amount > 0
        before = (self._excess(earlier, tested) for earlier in seen)
        if any(one is not None and (one.amount > 0) == up for one in before):
            return []  # the same excess goes on
        confidence, basis = chance_confidence(now.p, now.sums, "its rank among earlier sums, over all exchanges tested")
        metadata: dict[str, Any] = {
            "entity_id": who,
            "entity_name": ALL_NAME if who == EVERY else context.entities.entities[who].name,
            "amount": abs(now.amount),
            "usual_amount": now.usual,
            "most_amount": now.most,
            "flow_blocks": self._blocks,
            "sums_compared": now.sums,
            "entities_tested": tested,
            "p_value": float(f"{now.p:.3g}"),
            "block_attributed_share": flows.share,
        }
        return self.signal(context, "net_inflow" if up else "net_outflow", who, confidence, basis, metadata,
                           _evidence(flows, who, up))  # fmt: skip

    def _excess(self, nets: Sequence[int | None], tested: int) -> Excess | None:
        """What the last sum is beside earlier ones that do not overlap it nor each other; None where it is usual, or
        there are too few of which all is known."""
        now, *past = sums_back(nets, self._blocks)
        known = [sum_ for sum_ in past if sum_ is not None]
        too_few = len(known) < self.thresholds["minimum_sums"]
        if now is None or abs(now) < self.thresholds["net_btc"] * COIN or too_few:
            return None
        same_way = [max(0, sum_ if now > 0 else -sum_) for sum_ in known]
        p = min(1.0, tail_p(abs(now), same_way) * tested)
        if p > self.thresholds["net_p"]:
            return None
        return Excess(now, int(median([abs(sum_) for sum_ in known])), max(same_way), len(known), p)


def net_of_flows(flows: BlockFlows, who: str) -> int:
    """Arrived less left, sat."""
    if who == EVERY:
        arrived, left = flows.kinds.get("exchange", (0, 0))
        return int(arrived - left)
    flow = flows.entities.get(who)
    return flow.arrived - flow.left if flow else 0


def net_of(row: Past, who: str, labels_version: str) -> int | None:
    """The same of a past block; None where it is unknown under these labels."""
    flows = row.flows
    return None if flows is None or flows.labels_version != labels_version else net_of_flows(flows, who)


def small_net_of(row: Past, who: str, labels_version: str, whose: frozenset[str]) -> int | None:
    """What surely came in or went out, whatever output was change; None where that is unknown, and where one
    transaction moved much of the coins of `whose`: that is told by itself, and would hide what many small ones add up
    to."""
    flows = row.flows
    if flows is None or flows.labels_version != labels_version or whose & {*flows.singles}:
        return None
    flow = flows.entities.get(who)
    if flow is None:
        return net_of_flows(flows, who)
    least, most = flow.arrived - flow.left, flow.arrived - flow.left_least
    return least if least > 0 else min(0, most)


def touched(row: Past) -> frozenset[str]:
    """The entities that had a part in a block."""
    return frozenset(row.flows.entities) if row.flows else frozenset()


def total(nets: Sequence[int | None]) -> int | None:
    """Their sum, None where one is unknown."""
    return None if None in nets else sum(nets)  # type: ignore[arg-type]


def sums_back(nets: Sequence[int | None], size: int) -> list[int | None]:
    """Sums of `size` blocks, the newest first, none overlapping; [None] where there are not as many."""
    return [total(nets[end - size : end]) for end in range(len(nets), size - 1, -size)] or [None]


def _evidence(flows: BlockFlows, who: str, up: bool, most: int = 10) -> list[str]:
    """The largest transactions of this block that went the same way."""

    def moved(transfer: Any) -> int:
        touched = transfer.entities.values() if who == EVERY else [transfer.entities[who]]
        return sum((flow.arrived if up else flow.left) for flow in touched if not flow.uncertain)

    found = [t for t in flows.transfers if (who == EVERY or who in t.entities) and moved(t)]
    return [t.txid for t in sorted(found, key=lambda t: (-moved(t), t.txid))[:most]]
