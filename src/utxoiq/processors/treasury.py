"""Treasury signals: what companies, funds and governments with labelled addresses gained or gave away.

Formulas, limits and when such a signal is right: docs/signals/treasury.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from utxoiq.processors.base import A_MONTH, ProcessingContext, SignalProcessor
from utxoiq.processors.kin import Ground
from utxoiq.processors.metadata import Field, having
from utxoiq.processors.moves import HOLDINGS, MOVES, Moves, holdings, moves

if TYPE_CHECKING:
    from collections.abc import Mapping

    from utxoiq.models import BlockData, Signal, SignalType
    from utxoiq.processors.moves import Way

HOLDERS = ("treasury", "etf", "government")
WAYS: Mapping[str, Way] = {"accumulation": "arrived", "distribution": "left", "internal_reshuffle": "within"}


class TreasuryProcessor(SignalProcessor):
    """Accumulation and distribution beside what is known of the holdings; moves within, as such."""

    signal_type: ClassVar[SignalType] = "treasury"
    model_version = "treasury-2"
    reads = ()
    reads_flows = "of the window"
    kinds: ClassVar[Mapping[str, Mapping[str, Field]]] = dict.fromkeys(
        WAYS, having(*MOVES, "ticker", "known_holdings", "holdings_as_of", "holdings_change", *HOLDINGS)
    )
    window_blocks = A_MONTH
    defaults: ClassVar[Mapping[str, float]] = {"moved_btc": 10}

    async def process_block(self, block: BlockData, context: ProcessingContext) -> list[Signal]:  # noqa: ARG002
        """The signals of this block; none where what it spent is unknown, or nobody is labelled."""
        flows, ground = context.flows, Ground.of(context, self.window(context))
        signals: list[Signal] = []
        for kind, way in WAYS.items() if flows else ():
            found = moves(ground, HOLDERS, way, self.thresholds["moved_btc"], graded=True)
            for one, confidence, basis in found:
                held = holdings(context, one.entity.id)
                metadata = {**one.metadata(flows, context.entities), **_known(one), **held}  # type: ignore[arg-type]
                signals += self.signal(
                    context, kind, one.entity.id, confidence, basis, metadata, one.txids,
                    balances="of the block",
                )  # fmt: skip
        return signals


def _known(one: Moves) -> dict[str, Any]:
    """What is known of the entity's holdings, and how much of them moved; what is unknown is left out."""
    known = one.entity.known_holdings or {}
    sat, as_of = known.get("sat"), known.get("as_of")
    found = {"ticker": one.entity.ticker, "known_holdings": sat, "holdings_as_of": as_of}
    found["holdings_change"] = round(one.amount / sat, 4) if sat else None
    return {name: value for name, value in found.items() if value is not None}
