"""All that is written down about a run, block by block."""

from __future__ import annotations

from typing import TYPE_CHECKING

from utxoiq.simulation.accountant import big_coinjoins, dormant_coins, gross_flows, large_transfers, nets_of
from utxoiq.simulation.gauges import AgeGauge, CountGauge, FeeGauge
from utxoiq.simulation.holdings import Holdings
from utxoiq.simulation.netflows import NetFlows
from utxoiq.simulation.plan import START_HEIGHT, Event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from utxoiq.simulation.pending import Pending
    from utxoiq.simulation.plan import Plan
    from utxoiq.simulation.wallets import Owned

OVERPAID = 50_000_000
"""docs/signals/mempool.md: an absurd fee, in satoshis."""


class Truth:
    """Adds to `events`; those that last are added when they end, so order is by their end."""

    def __init__(self, plan: Plan, events: list[Event], coins: Iterable[Owned] = ()) -> None:
        """`coins`: those that owners have before the first block, as far as they are known then."""
        self._plan, self.events = plan, events
        self.holdings = Holdings(coins)
        self.fees, self.counts = FeeGauge(), CountGauge()
        self._nets, self._age = NetFlows(plan), AgeGauge()

    def add(self, *events: Event) -> None:
        """Write down what somebody else knows best."""
        self.events.extend(events)

    def close_block(self, pending: Pending) -> None:
        """Write down what a full block amounts to."""
        deals, height = [(deal, nets_of(deal)) for deal in pending.deals], pending.height
        for told in (gross_flows, large_transfers, dormant_coins, big_coinjoins):
            self.add(*told(height, deals))
        self.add(*self._nets.close_block(height, deals))
        self.holdings.close_block(pending.deals)
        for gauge in (self.fees, self.counts, self._age):
            self.add(*gauge.close_block(pending))
        self._of_single_blocks(pending)

    def finish(self) -> None:
        """Write down what had not ended, and what only the whole run shows."""
        self.add(*self._nets.finish(), *self.holdings.events())

    def _of_single_blocks(self, pending: Pending) -> None:
        if self._plan.at("mistake", pending.step) and pending.deals:
            top = max(pending.transactions, key=lambda signed: signed.fee)
            detail: dict[str, int | str] = {"fee_sat": top.fee, "txid": str(top.txid)}
            self.add(Event("mempool", "fee_overpaid", None, START_HEIGHT + pending.step, top.fee / OVERPAID, detail))
