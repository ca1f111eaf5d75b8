"""Predictive signals: where feerates and the flow to exchanges are heading, and the forecasts that are scored later.

Formulas, limits and when such a signal is right: docs/signals/predictive.md.
"""

from __future__ import annotations

from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from utxoiq.history import Past
from utxoiq.models import Forecast
from utxoiq.processors.base import A_MONTH, ProcessingContext, ProcessorConfig, Seen, SignalProcessor
from utxoiq.processors.exchange import EVERY, net_of, net_of_flows, total
from utxoiq.processors.liquidity import net_column, pressure
from utxoiq.processors.mempool import feerate_of
from utxoiq.processors.metadata import HORIZON_BLOCKS, Field, having
from utxoiq.processors.moves import labels_suffice
from utxoiq.units import COIN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from utxoiq.models import BlockData, Signal, SignalType
    from utxoiq.processors.feerates import FeerateForecast, HorizonName

    Whole = NDArray[np.int64]

FORETOLD = ("prediction_type", "predicted_value", "confidence_interval", "forecast_horizon", "model_version",
            "current_value", "historical_mean", "historical_std")  # fmt: skip
FLOW = {
    "predicted_value": Field("sat", "net value foretold to cross the border of all labelled exchanges"),
    "current_value": Field("sat", "net value that crossed it over the blocks summed up, the same way"),
}
FEERATE_KINDS = having(*FORETOLD, "interval_low", "interval_high", "target_height")
FEERATE_SIGNALS = ("feerate_rise", "feerate_fall")
LIQUIDITY_KINDS = having(*FORETOLD, "flow_blocks", "cases_alike", "cases_followed", "block_attributed_share", **FLOW)
A_DAY = HORIZON_BLOCKS["24h"]
LEAST_CONFIDENCE = 0.5
"""What is likelier wrong than right is not said, whatever the settings."""
SURE = 0.9
"""Of an 80 % interval a tenth lies beyond each end."""
MEDIAN = 3
"""Index of the median among the percentiles of a projected block."""


class PredictiveProcessor(SignalProcessor):
    """Forecasts of the feerate of the next block, of an hour and of a day ahead; signals where one of them moves away
    from what blocks pay now, or a day's net flow to exchanges has as a rule gone on."""

    signal_type: ClassVar[SignalType] = "predictive"
    model_version = "predictive-1"
    reads = ("txs", "package_feerate_percentiles_kvb")
    reads_flows = "of the window"
    kinds: ClassVar[Mapping[str, Mapping[str, Field]]] = {
        **dict.fromkeys(FEERATE_SIGNALS, FEERATE_KINDS),
        **dict.fromkeys(("liquidity_inflow", "liquidity_outflow"), LIQUIDITY_KINDS),
    }
    window_blocks = A_MONTH
    defaults: ClassVar[Mapping[str, float]] = {
        "change_ratio": 1.5,
        "quiet_blocks": 6,
        "pressure_btc": 1000,
        "pressure_blocks": 144,
        "minimum_alike": 9,
    }

    settles_after: ClassVar[Mapping[str, int]] = dict.fromkeys(kinds, A_DAY)

    def __init__(self, config: ProcessorConfig | None = None) -> None:
        """Raises ConfigError as every processor does."""
        super().__init__(config)
        self._last: tuple[BlockData, ProcessingContext, list[FeerateForecast]] | None = None

    def prepare(self) -> None:
        """Kernels, compiled on the first start of all."""
        import utxoiq.processors.feerates  # noqa: F401, PLC0415

    async def process_block(self, block: BlockData, context: ProcessingContext) -> list[Signal]:
        """The signals of this block."""
        return [*self._feerates(block, context), *self._liquidity(context)]

    def resolve(self, signal: Signal, after: Sequence[Past]) -> bool | None:
        """By what the block that was meant paid; by the net flow of the next day under the same labels."""
        if signal.kind in FEERATE_SIGNALS:
            then, now = _paid(signal, after), signal.metadata["current_value"]
        else:
            then, now = _net(signal, after), 0
        up = signal.kind in ("feerate_rise", "liquidity_inflow")
        return None if then is None else (then > now if up else then < now)

    def forecasts(self, block: BlockData, context: ProcessingContext) -> list[Forecast]:
        """Ours, and those it is measured against, where there is a past to make them from."""
        columns = self._columns(block, context)
        if columns is None:
            return []
        found = [
            self._row(context, "utxoiq", o.horizon, o.value_kvb, o) for o in self._forecast(block, context, columns)
        ]
        for method, horizon, value in _simple(columns):
            found += [] if value is None else [self._row(context, method, horizon, value)]
        advised = block.mempool.node_estimates_kvb if block.mempool else None
        for name, value in zip(HORIZON_BLOCKS, advised or (), strict=False):
            found += [] if value is None else [self._row(context, "node", name, value)]
        return found

    def _forecast(self, block: BlockData, context: ProcessingContext, columns: Columns) -> list[FeerateForecast]:
        """Ours, made once a block: signals and stored forecasts are of the same."""
        if self._last is None or self._last[0] is not block or self._last[1] is not context:
            self._last = (block, context, _forecast(columns))
        return self._last[2]

    def _row(
        self,
        context: ProcessingContext,
        method: str,
        horizon: HorizonName,
        value: int,
        ours: FeerateForecast | None = None,
    ) -> Forecast:
        facts = context.facts
        return Forecast(
            method=method,
            horizon=horizon,
            block_hash=facts.blockhash,
            target_height=(facts.height or 0) + HORIZON_BLOCKS[horizon],
            value_kvb=value,
            low_kvb=ours.low_kvb if ours else None,
            high_kvb=ours.high_kvb if ours else None,
            cases=ours.cases if ours else 0,
            model_version=self.model_version,
        )

    def _columns(self, block: BlockData, context: ProcessingContext, back: int = 0) -> Columns | None:
        """Heights, times, feerates and mempools of the window and this block, as `feerates.forecast` takes them; of
        `back` blocks earlier. None where this block has no height, nor a past below it."""
        window, height = self.window(context), context.facts.height
        if height is None or not len(window) or (window[-1].height or 0) >= height:
            return None
        now = Past(context.facts, None, block.mempool)
        columns = [append(window.column(of), of(now)) for of in (height_of, time_of, rate_of, projected_of)]
        return Columns(*(column[: len(column) - back] for column in columns))

    def _feerates(self, block: BlockData, context: ProcessingContext) -> list[Signal]:
        """Forecasts whose interval leaves what this block paid behind, where none of the last blocks' did."""
        columns = self._columns(block, context)
        signals: list[Signal] = []
        for one in self._forecast(block, context, columns) if columns else ():
            kind = self._departs(one, int(columns.rates[-1]))  # type: ignore[union-attr]
            if kind is not None and not self._said_before(block, context, one.horizon, kind):
                basis = {
                    "basis": "the part of past misses on this side of the interval's nearer end",
                    "cases": one.cases,
                    "calibrated": False,
                }
                metadata = self._metadata(context, one, columns)  # type: ignore[arg-type]
                signals += self.signal(context, kind, one.horizon, SURE, basis, metadata, mempools=Seen(block.mempool))
        return signals

    def _departs(self, one: FeerateForecast, now: int) -> str | None:
        ratio = self.thresholds["change_ratio"]
        if now <= 0:
            return None
        if one.value_kvb >= ratio * now and one.low_kvb > now:
            return "feerate_rise"
        return "feerate_fall" if one.value_kvb * ratio <= now and one.high_kvb < now else None

    def _said_before(self, block: BlockData, context: ProcessingContext, horizon: str, kind: str) -> bool:
        """Whether the same would have been said of one of the blocks before."""
        for back in range(1, int(self.thresholds["quiet_blocks"]) + 1):
            columns = self._columns(block, context, back)
            earlier = _forecast(columns) if columns and len(columns.heights) else []
            if any(one.horizon == horizon and self._departs(one, int(columns.rates[-1])) == kind for one in earlier):  # type: ignore[union-attr]
                return True
        return False

    def _metadata(self, context: ProcessingContext, one: FeerateForecast, columns: Columns) -> dict[str, Any]:
        known = columns.rates[columns.rates > 0].tolist()
        return {
            "prediction_type": "median feerate of a block",
            "predicted_value": one.value_kvb,
            "confidence_interval": [one.low_kvb, one.high_kvb],
            "interval_low": one.low_kvb,
            "interval_high": one.high_kvb,
            "forecast_horizon": one.horizon,
            "target_height": (context.facts.height or 0) + HORIZON_BLOCKS[one.horizon],
            "model_version": self.model_version,
            "current_value": known[-1],
            "historical_mean": round(fmean(known), 1),
            "historical_std": round(pstdev(known), 1),
        }

    def _liquidity(self, context: ProcessingContext) -> list[Signal]:
        """A day's net flow to all labelled exchanges, where days like it were as a rule followed by one the same way;
        said at the first block of a day that shows it."""
        flows, window = context.flows, self.window(context)
        size, least = int(self.thresholds["pressure_blocks"]), self.thresholds["pressure_btc"] * COIN
        if flows is None or size < 1 or len(window) < size:
            return []
        nets = append(window.column(net_column, flows.labels_version), net_of_flows(flows, EVERY))
        alike = max(1, int(self.thresholds["minimum_alike"]))
        now = pressure(nets, size, least, alike)
        before = now and pressure(nets[:-1], size, least, alike)
        goes_on = now and before and (before.amount > 0) == (now.amount > 0)
        exchanges = {entity.id for entity in context.entities.of_kind("exchange")}
        if now is None or goes_on or not labels_suffice(context, window, exchanges):
            return []
        basis = {"basis": "how often as much pressure went on the next day", "cases": len(now.following),
                 "calibrated": False}  # fmt: skip
        metadata = {
            **now.metadata(),
            "forecast_horizon": "24h",
            "model_version": self.model_version,
            "flow_blocks": size,
            "block_attributed_share": flows.share,
        }
        if now.confidence < LEAST_CONFIDENCE or metadata["predicted_value"] <= 0:
            return []
        kind = "liquidity_inflow" if now.amount > 0 else "liquidity_outflow"
        return self.signal(context, kind, EVERY, now.confidence, basis, metadata)


def _paid(signal: Signal, after: Sequence[Past]) -> int | None:
    """The median package feerate of the block a signal meant."""
    target = signal.metadata["target_height"]
    return next((feerate_of(row) for row in after if row.facts.height == target), None)


def _net(signal: Signal, after: Sequence[Past]) -> int | None:
    """The net flow to all exchanges of the day after a signal."""
    labels = signal.inputs["labels_version"]
    return total([net_of(row, EVERY, labels) for row in after[:A_DAY]]) if len(after) >= A_DAY else None


class Columns(NamedTuple):
    """A row a block, oldest first; feerates in sat/kvB, 0 where unknown."""

    heights: Whole
    times: Whole
    rates: Whole
    mempool: Whole


def height_of(row: Past) -> int:
    return row.facts.height or 0


def time_of(row: Past) -> int:
    return row.facts.time


def rate_of(row: Past) -> int:
    return feerate_of(row) or 0


def projected_of(row: Past) -> int:
    """The median of the block that the mempool it was mined from foretold."""
    seen = row.mempool
    if seen is None or seen.next_block is None or not seen.next_block.feerate_percentiles_kvb:
        return 0
    return seen.next_block.feerate_percentiles_kvb[MEDIAN]


def append(column: Whole, value: int) -> Whole:
    import numpy as np  # noqa: PLC0415 with the first block

    return np.append(column, value)


def _forecast(columns: Columns) -> list[FeerateForecast]:
    from utxoiq.processors.feerates import forecast  # noqa: PLC0415 NumPy and kernels load with the first block

    return forecast(*columns)


def _simple(columns: Columns) -> list[tuple[str, HorizonName, int | None]]:
    """(method, horizon, value) of the methods ours is measured against."""
    from utxoiq.processors import feerates  # noqa: PLC0415

    position, rates = columns.heights.astype("float64"), columns.rates
    last = feerates.naive(rates)
    found: list[tuple[str, HorizonName, int | None]] = []
    for horizon in HORIZON_BLOCKS:
        found.append(("naive", horizon, last))
        found.append(
            ("rolling_median", horizon, feerates.rolling_median(position, rates, feerates.MEDIAN_BLOCKS[horizon]))
        )
        found.append(("ses", horizon, feerates.smoothed(position, rates, feerates.HALF_LIFE_BLOCKS[horizon])))
    return found
