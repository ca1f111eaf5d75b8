"""A third party's processor, which keeps to the contract, and others that each break it in one way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from utxoiq.history import Past
from utxoiq.models import BlockData, Signal
from utxoiq.processors.base import ProcessingContext, SignalProcessor
from utxoiq.processors.metadata import Field


class Foreign(SignalProcessor):
    """Of blocks with more payments than the window's mean: how many, and what share of the block labels know."""

    signal_type = "whale"
    model_version = "whale_foreign-1"
    reads = ("txs",)
    reads_flows = "of the window"
    kinds: ClassVar[Mapping[str, Mapping[str, Field]]] = {
        "busy": {
            "transactions": Field("transactions", "in the block"),
            "mean": Field("ratio", "of the window"),
            "moved": Field("count", "blocks of the window whose flows are known"),
            "share": Field("share", "labelled part of what was spent", optional=True),
        }
    }
    window_blocks = 144
    defaults: ClassVar[Mapping[str, float]] = {"times": 1.05}

    async def process_block(self, block: BlockData, context: ProcessingContext) -> list[Signal]:
        counts = self.window(context).series(txs_of)
        if not counts or context.facts.txs < self.thresholds["times"] * (mean := sum(counts) / len(counts)):
            return []
        basis = {"basis": "a mean", "cases": len(counts), "calibrated": False}
        return self.signal(context, "busy", "chain", 0.8, basis, self.metadata(context, mean))

    def metadata(self, context: ProcessingContext, mean: float) -> dict[str, Any]:
        known = sum(self.window(context).series(flows_known))
        share = context.flows.share if context.flows else None
        return {"transactions": context.facts.txs, "mean": round(mean, 2), "moved": known, "share": share}


def txs_of(row: Any) -> int:
    return int(row.facts.txs)


def flows_known(row: Any) -> int:
    return int(row.flows is not None and row.flows.value_in > 0)


class Remembers(Foreign):
    """Its answer depends on what it was asked before."""

    asked = 0

    def metadata(self, context: ProcessingContext, mean: float) -> dict[str, Any]:
        Remembers.asked += 1
        return {**super().metadata(context, mean), "moved": Remembers.asked}


class Sorts(Foreign):
    """It puts the block's own list in order."""

    def metadata(self, context: ProcessingContext, mean: float) -> dict[str, Any]:
        context.facts.package_feerate_percentiles_kvb.append(7)  # type: ignore[union-attr]
        return super().metadata(context, mean)


class Appends(Foreign):
    """It adds to the history that it was shown."""

    def metadata(self, context: ProcessingContext, mean: float) -> dict[str, Any]:
        context.window.rows  # noqa: B018
        context.window._history.rows[-1] = context.window._history.rows[-1]._replace(mempool=None)
        context.window._history.rows.reverse()
        return super().metadata(context, mean)


class ReadsMore(Foreign):
    """It looks at a fact it does not name."""

    def metadata(self, context: ProcessingContext, mean: float) -> dict[str, Any]:
        return super().metadata(context, mean + (context.facts.totalfee or 0))


class ReadsMoreOfThePast(Foreign):
    """Likewise, of an earlier block."""

    def metadata(self, context: ProcessingContext, mean: float) -> dict[str, Any]:
        return super().metadata(context, mean + context.window[0].weight)


class ReadsFlows(Foreign):
    """It says that it reads no flows."""

    reads_flows = "never"


class ReadsPastFlows(Foreign):
    """It says that it reads those of the block only."""

    reads_flows = "of the block"


class ReadsMempools(Foreign):
    """It reads mempools, and does not say so in its signals."""

    def metadata(self, context: ProcessingContext, mean: float) -> dict[str, Any]:
        seen = sum(row.mempool is not None for row in self.window(context).rows)
        return {**super().metadata(context, mean), "moved": seen}


class LooksBeyond(Foreign):
    """It counts all that is in the history."""

    def metadata(self, context: ProcessingContext, mean: float) -> dict[str, Any]:
        return {**super().metadata(context, mean), "moved": len(context.window._history.rows)}


class Undeclared(Foreign):
    """A kind nobody knows of."""

    kinds: ClassVar[Mapping[str, Mapping[str, Field]]] = {"quiet": Foreign.kinds["busy"]}


class Untyped(Foreign):
    """A text where a number was declared."""

    def metadata(self, context: ProcessingContext, mean: float) -> dict[str, Any]:
        return {**super().metadata(context, mean), "transactions": "many"}


class Tuples(Foreign):
    """What JSON has no word for."""

    def metadata(self, context: ProcessingContext, mean: float) -> dict[str, Any]:
        return {**super().metadata(context, mean), "moved": (1, 2)}


class Overrides(Foreign):
    """It speaks below the threshold."""

    async def process_block(self, block: BlockData, context: ProcessingContext) -> list[Signal]:
        kept, self.config.confidence_threshold = self.config.confidence_threshold, 0.0
        signals = await super().process_block(block, context)
        self.config.confidence_threshold = kept
        return signals


class Divides(Foreign):
    """By its threshold."""

    def metadata(self, context: ProcessingContext, mean: float) -> dict[str, Any]:
        return super().metadata(context, mean / self.thresholds["times"])


class Forecasts(Foreign):
    """Of some other block."""

    def forecasts(self, block: BlockData, context: ProcessingContext) -> list[Any]:
        from utxoiq.models import Forecast

        return [Forecast("mine", "1h", "00" * 32, 1, 1000, None, None, 0, self.model_version)]


class ResolvesByWhatItSaw(Foreign):
    """A signal of its is right, unless it was asked about another block since."""

    settles_after: ClassVar[Mapping[str, int]] = {"busy": 1}
    asked = 0

    async def process_block(self, block: BlockData, context: ProcessingContext) -> list[Signal]:
        self.asked += 1
        return await super().process_block(block, context)

    def resolve(self, signal: Signal, after: Sequence[Past]) -> bool | None:
        return self.asked == 0 if after else None


class ResolvesTooLate(Foreign):
    """By more blocks than it says."""

    settles_after: ClassVar[Mapping[str, int]] = {"busy": 1}

    def resolve(self, signal: Signal, after: Sequence[Past]) -> bool | None:
        return len(after) > 2 if after else None


class ResolvesAll(Foreign):
    """Though it declares no such kind."""

    def resolve(self, signal: Signal, after: Sequence[Past]) -> bool | None:
        return True


BREAKERS: dict[str, type[Foreign]] = {
    "same_bytes": Remembers,
    "changes_nothing": Sorts,
    "changes_nothing, not the window": Appends,
    "reads_what_it_names": ReadsMore,
    "reads_what_it_names, of the past": ReadsMoreOfThePast,
    "reads_what_it_names, flows": ReadsFlows,
    "reads_what_it_names, flows of the past": ReadsPastFlows,
    "says_the_same_under_the_same_name": ReadsMempools,
    "sees_its_window_only": LooksBeyond,
    "keeps_its_schema": Undeclared,
    "keeps_its_schema, types": Untyped,
    "gives_json": Tuples,
    "obeys_its_confidence_threshold": Overrides,
    "takes_zero_for_a_threshold": Divides,
    "forecasts_what_it_may": Forecasts,
    "resolves_by_what_follows": ResolvesByWhatItSaw,
    "resolves_by_what_follows, no further": ResolvesTooLate,
    "resolves_by_what_follows, what is declared": ResolvesAll,
}
"""The check that must find it (what follows a comma tells them apart) and the class."""
