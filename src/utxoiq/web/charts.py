"""The chart of an insight: its metric over the blocks before it, with its own block marked. Made from the store alone,
when somebody asks."""

from __future__ import annotations

import math
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from threading import Lock
from typing import TYPE_CHECKING, Literal

from utxoiq.errors import ConfigError
from utxoiq.insights.slots import slots_of
from utxoiq.models import BLOCK_WEIGHT, EntityFlow
from utxoiq.persistence import reads
from utxoiq.processors.exchange import net_of
from utxoiq.processors.holders import held
from utxoiq.processors.mempool import backlog_weight, feerate_of, payments_of
from utxoiq.processors.miner import weight_share
from utxoiq.processors.whale import coin_age, largest_transfer
from utxoiq.units import COIN, utc

if TYPE_CHECKING:
    from utxoiq.history import Past
    from utxoiq.models import BalanceChange, Signal
    from utxoiq.persistence.sqlite import SqliteStore

Form = Literal["svg", "png"]
Theme = Literal["light", "dark"]
Scale = Literal["sat", "sat/kvB", "share", "blocks", "transactions", "BTC × blocks"]
Number = float | None

USUAL_BLOCKS, MOST_BLOCKS, MOST_POINTS = 144, 4320, 1008
"""Drawn where the signal does not say how many it looked at; read at most; drawn at most, more are put together."""
MANY_UNKNOWN = 0.1
"""Said in the chart where a larger part of its blocks is unknown."""
FEW_SAT = 100_000
"""Amounts that all are smaller are drawn in sat."""
KEPT = 64
"""Charts that are kept once made."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What is drawn of one kind of signal."""

    title: str
    scale: Scale
    of: Callable[[Past, Asked], Number]
    """A past block's value in the unit of `scale` (amounts in sat), None where unknown."""
    event: str | None
    """The metadata value that is marked; None: what `of` says of the signal's own block."""
    lines: Mapping[str, str] = field(default_factory=dict)
    """Metadata values drawn across, and what each is called."""
    over: str | None = None
    """The metadata value that says over how many blocks `together` goes."""
    together: Literal["sum", "share", "run", "level"] | None = None
    """`share`: of blocks that are 1; `run`: of such in a row. Unknown ones are none there, as the processor counts.
    `level`: `of` tells only what a change left; see `levels`."""
    less: str | None = None
    """The metadata value that is taken off: changes too small to be seen beside the whole."""
    bars: bool = False
    blocks: int = USUAL_BLOCKS
    sign: int = 1
    """-1: the metadata counts outward."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom a metric is about, and under which labels flows are known."""

    subject: str
    labels_version: str


@dataclass(frozen=True, slots=True)
class Ahead:
    """A forecast with the ends of its interval."""

    x: int
    y: float
    low: float
    high: float
    text: str
    interval: str = ""

    def scaled(self, unit: str, size: float) -> Ahead:
        """In a unit so many times as large."""
        low, high = self.low / size, self.high / size
        interval = f"80% interval {_shown(low, '')} to {_shown(high, unit)}"
        return Ahead(self.x, self.y / size, low, high, self.text, interval)


@dataclass(frozen=True, slots=True)
class Chart:
    """All that is drawn, in the units it is drawn in. `x` is a block's height, or where that is unknown its distance to
    the signal's."""

    headline: str
    title: str
    points: list[tuple[int, Number]]
    """Oldest first; None is a gap."""
    bars: bool
    event: tuple[int, float]
    event_text: str
    lines: list[tuple[str, float]]
    forecast: Ahead | None
    times: dict[int, int]
    """x -> block time, Unix seconds UTC."""
    footer: str
    note: str
    marks: tuple[str, ...]


def chart_of(store: SqliteStore, insight_id: str, form: Form, theme: Theme) -> bytes | None:
    """The chart as a file; None for no such insight, or one of a kind that has no metric. Raises ConfigError without
    Matplotlib, StoreError."""
    chart = chart_data(store, insight_id)
    if chart is None:
        return None
    try:
        from utxoiq.web.drawing import draw  # noqa: PLC0415 Matplotlib takes a second to import
    except ImportError as error:
        raise ConfigError(f"charts need Matplotlib ({error}): pip install 'utxoiq[charts]'") from error
    return draw(chart, form, theme)


def chart_data(store: SqliteStore, insight_id: str) -> Chart | None:
    """What `chart_of` draws. Raises StoreError."""
    sql = "SELECT signal_id, headline, retracted_at FROM insight_state WHERE insight_id = ?"
    found = store.database.query(sql, insight_id)
    signal = reads.signal(store, found[0]["signal_id"]) if found else None
    metric = METRICS.get((signal.signal_type, signal.kind)) if signal else None
    if signal is None or metric is None:
        return None
    return _chart(store, signal, metric, found[0]["headline"], retracted=found[0]["retracted_at"] is not None)


def insight_named(store: SqliteStore, beginning: str) -> str | None:
    """The id of the one insight whose id, or whose signal's, begins so; None for none or several. Raises StoreError."""
    sql = (
        "SELECT insight_id FROM insights WHERE substr(insight_id, 1, length(?1)) = ?1 "
        "OR substr(signal_id, 1, length(?1)) = ?1 LIMIT 2"
    )
    rows = store.database.query(sql, beginning)
    return rows[0]["insight_id"] if len(rows) == 1 else None


class Charts:
    """Charts of one store, the last ones kept. Safe to call from several threads."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._kept: OrderedDict[tuple[str, str, str, int | None], bytes] = OrderedDict()
        self._lock = Lock()

    def __call__(self, insight_id: str, form: Form, theme: Theme) -> bytes | None:
        """As `chart_of`. A chart is drawn anew once its insight is retracted or reinstated."""
        sql = "SELECT retracted_at FROM insight_state WHERE insight_id = ?"
        found = self._store.database.query(sql, insight_id)
        if not found:
            return None
        key = (insight_id, form, theme, found[0]["retracted_at"])
        with self._lock:
            made = self._kept.get(key)
            if made is not None:
                self._kept.move_to_end(key)
                return made
        made = chart_of(self._store, insight_id, form, theme)
        if made is not None:
            with self._lock:
                self._kept[key] = made
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
        return made


# What is drawn


def _chart(store: SqliteStore, signal: Signal, metric: Metric, headline: str, *, retracted: bool) -> Chart | None:
    over, drawn = _sizes(signal, metric)
    rows = store.window(signal.block_hash, drawn + over)
    asked = Asked(signal.subject, _labels_version(rows, signal))
    is_level, base = metric.together == "level", _number(signal, metric.less) or 0
    values = levels(rows, asked) if is_level else [metric.of(row, asked) for row in rows]
    series = [None if value is None else value - base for value in together(values, metric.together, over)]
    marked = _number(signal, metric.event)
    now = metric.sign * marked if marked is not None else series[-1] if series else None
    if now is None:
        return None
    past, here = series[:-1][-drawn:], signal.block_height or 0
    points = thinned([(here - len(past) + i, value) for i, value in enumerate(past)], largest=metric.bars)
    lines = [(name, metric.sign * value) for name, value in _named(signal, metric.lines)]
    most = _most([y for _, y in points if y is not None]) if metric.bars and metric.together is None else None
    lines += [("most before", most)] if most else []
    forecast = _forecast(signal, metric, here)
    reached = [abs(y) for _, y in points if y is not None] + [abs(now)] + [abs(y) for _, y in lines]
    unit, size = _unit(metric.scale, max(reached))
    return Chart(
        headline=plain(headline),
        title=f"{metric.title.format_map(_counts(signal))}, {unit}{' · none before' if most == 0 else ''}",
        points=[(x, None if y is None else y / size) for x, y in points],
        bars=metric.bars,
        event=(here, now / size),
        event_text=_event_text(signal, metric, now, unit),
        lines=[(f"{name} {_shown(y / size, unit)}", y / size) for name, y in lines],
        forecast=forecast and forecast.scaled(unit, size),
        times={here - len(rows) + 1 + i: row.facts.time for i, row in enumerate(rows)},
        footer=_footer(signal),
        note=_note(values[:-1][-(drawn + over - 1) :], metric),
        marks=(*["SIMULATED"] * signal.simulated, *["RETRACTED"] * retracted),
    )  # fmt: skip


def plain(headline: str) -> str:
    """In one line, without control, format and bidirectional characters: names in it are somebody's text."""
    return " ".join("".join(c if unicodedata.category(c)[0] != "C" else " " * c.isspace() for c in headline).split())


def _sizes(signal: Signal, metric: Metric) -> tuple[int, int]:
    """Over how many blocks a point goes, and how many points there are to be."""
    over = _count(signal, metric.over, 1)
    compared = _count(signal, "sums_compared", 0) * over if metric.together == "sum" else 0
    drawn = _count(signal, "window_blocks", compared or metric.blocks)
    if signal.metadata.get("forecast_horizon") in NEAR:
        drawn = NEAR_BLOCKS
    return min(over, MOST_BLOCKS), min(drawn, MOST_BLOCKS)


NEAR, NEAR_BLOCKS = ("next_block", "1h"), 36
"""Forecasts that only a short past does not push against its end."""


def _labels_version(rows: Sequence[Past], signal: Signal) -> str:
    """That under which the store now knows the flows of the signal's block."""
    flows = rows[-1].flows if rows else None
    return flows.labels_version if flows else str(signal.inputs.get("labels_version"))


def together(values: Sequence[Number], how: str | None, over: int) -> list[Number]:
    """A value for each block that has `over - 1` before it."""
    if how == "run":
        runs: list[Number] = []
        for value in values:
            runs.append(None if value is None else (((runs and runs[-1]) or 0.0) + 1) * value)
        return runs
    if how is None or over <= 1:
        return list(values)
    looks = (values[end - over : end] for end in range(over, len(values) + 1))
    if how == "share":
        return [look.count(1) / over for look in looks]
    return [None if None in look else math.fsum(look) for look in looks]  # type: ignore[arg-type]


def levels(rows: Sequence[Past], asked: Asked) -> list[Number]:
    """What the address held after each block: what the last change left, or what the next one found. None between
    unknown blocks where no change tells it."""
    found: list[Number] = []
    now: Number = None
    for row in reversed(rows):
        change = balance_change(row, asked)
        found.append(change.after if change else now)
        now = change.before if change else now if row.balances else None
    found.reverse()
    for i, row in enumerate(rows):
        if found[i] is None and i and row.balances:
            found[i] = found[i - 1]
    return found


def thinned(points: Sequence[tuple[int, Number]], *, largest: bool) -> list[tuple[int, Number]]:
    """At most `MOST_POINTS`: of blocks side by side their median or the furthest from zero, at the last of them."""
    size = -(-len(points) // MOST_POINTS)
    if size <= 1:
        return list(points)
    buckets = [points[max(0, end - size) : end] for end in range(len(points), 0, -size)][::-1]
    return [(bucket[-1][0], _one_of([y for _, y in bucket if y is not None], largest=largest)) for bucket in buckets]


def _one_of(known: list[float], *, largest: bool) -> Number:
    return _most(known) if largest else median(known) if known else None


def _most(known: list[float]) -> Number:
    """The one furthest from zero, None of none."""
    return max(known, key=abs, default=None)


def _forecast(signal: Signal, metric: Metric, here: int) -> Ahead | None:
    """The forecast of a signal that is one, in the unit of the metric's scale."""
    value, ends = _number(signal, "predicted_value"), signal.metadata.get("confidence_interval")
    if value is None or not isinstance(ends, list) or not all(isinstance(end, (int, float)) for end in ends):
        return None
    low, high = sorted(metric.sign * end for end in ends)
    x = max(here + 1, _count(signal, "target_height", here + _count(signal, metric.over, 1)))
    text = slots_of(signal).get("predicted_value", "")
    return Ahead(x, metric.sign * value, low, high, f"forecast {_signed(text, metric.sign * value)}")


def _event_text(signal: Signal, metric: Metric, now: float, unit: str) -> str:
    """The value as the insight's words have it."""
    text = slots_of(signal).get(metric.event or "")
    return _signed(text, now) if text else _shown(now / _unit(metric.scale, abs(now), unit)[1], unit)


def _signed(text: str, value: float) -> str:
    return f"−{text}" if value < 0 and text[:1] not in "-−" else text


def _unit(scale: Scale, most: float, unit: str | None = None) -> tuple[str, float]:
    """What an axis is in, and how many of the scale's own that is."""
    if scale == "sat":
        return ("sat", 1) if unit == "sat" or (unit is None and most < FEW_SAT) else ("BTC", COIN)
    return {"sat/kvB": ("sat/vB", 1000), "share": ("%", 0.01)}.get(scale, (scale, 1))


def _shown(value: float, unit: str) -> str:
    digits = f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"  # 4 figures are what a chart can show
    return f"{digits}{'' if unit in ('', '%') else ' '}{unit}".replace("-", "−")


def _footer(signal: Signal) -> str:
    height = "of unknown height" if signal.block_height is None else f"{signal.block_height:,}"
    time = utc(signal.created_at)[:16].replace("T", " ")
    return f"Block {height} · {time} UTC · signal {signal.signal_id[:8]}"


def _note(values: Sequence[Number], metric: Metric) -> str:
    """How much is unknown, where that is much."""
    if not values:
        return "No earlier block is stored"
    part = values.count(None) / len(values)
    if part <= MANY_UNKNOWN:
        return ""
    if metric.together == "share":
        return f"Pool unknown in {part:.0%} of blocks"
    return f"{part:.0%} of blocks unknown: left blank"


def _number(signal: Signal, name: str | None) -> Number:
    """A metadata value that is a finite number."""
    value = signal.metadata.get(name) if name else None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return value if is_number else None


def _count(signal: Signal, name: str | None, otherwise: int) -> int:
    """A metadata value that counts from one up."""
    value = _number(signal, name)
    return int(value) if value is not None and value >= 1 else otherwise


def _counts(signal: Signal) -> dict[str, str]:
    """Those that titles name."""
    return {name: f"{_count(signal, name, 1):,}" for name in ("flow_blocks", "recent_blocks", "window_blocks")}


def _named(signal: Signal, lines: Mapping[str, str]) -> list[tuple[str, float]]:
    found = ((text, _number(signal, name)) for name, text in lines.items())
    return [(text, value) for text, value in found if value is not None]


# Metrics, each of one block


def feerate(row: Past, _: Asked) -> Number:
    """Median by package, sat/kvB."""
    return feerate_of(row)


def payments(row: Past, _: Asked) -> Number:
    return payments_of(row)


def top_fee(row: Past, _: Asked) -> Number:
    """The largest fee, sat. Blocks without payments have none, which is not an unknown one."""
    if row.facts.top_fee is None:
        return 0 if row.facts.txs == 1 else None
    return int(row.facts.top_fee["fee"])


def backlog(row: Past, _: Asked) -> Number:
    """Full blocks that waited."""
    weight = backlog_weight(row)
    return None if weight is None else weight / BLOCK_WEIGHT


def mempool_floor(row: Past, _: Asked) -> Number:
    """What the node let in, sat/kvB."""
    return row.mempool.minfee_kvb if row.mempool else None


def subsidy(row: Past, _: Asked) -> Number:
    return row.facts.subsidy


def unclaimed(row: Past, _: Asked) -> Number:
    return row.facts.coinbase_unclaimed


def fullness(row: Past, _: Asked) -> Number:
    return weight_share(row)


def found_by(row: Past, asked: Asked) -> Number:
    """Whether the pool found the block: 1 or 0."""
    return None if row.facts.pool is None else float(row.facts.pool == asked.subject)


def net_flow(row: Past, asked: Asked) -> Number:
    """Arrived less left, sat."""
    return net_of(row, asked.subject, asked.labels_version)


def arrived(row: Past, asked: Asked) -> Number:
    flow = entity_flow(row, asked)
    return None if flow is None else flow.arrived


def left(row: Past, asked: Asked) -> Number:
    """At least so much, whatever output was change."""
    flow = entity_flow(row, asked)
    return None if flow is None else flow.left_least


def within(row: Past, asked: Asked) -> Number:
    """From its own addresses to its own, change with it."""
    flow = entity_flow(row, asked)
    return None if flow is None else max(0, flow.received - flow.arrived)


def entity_flow(row: Past, asked: Asked) -> EntityFlow | None:
    """What a block did to the entity, nothing where it had no part; None where that is unknown under these labels."""
    flows = row.flows
    if flows is None or flows.labels_version != asked.labels_version:
        return None
    return flows.entities.get(asked.subject) or EntityFlow.of({})


def transfer(row: Past, _: Asked) -> Number:
    return largest_transfer(row)


def oldest_large_coin(row: Past, _: Asked) -> Number:
    """Age in blocks of the oldest spent coin of 100 BTC and more, 0 where none was spent, None where an age is
    unknown."""
    coins = row.facts.large_coins
    ages = None if coins is None else [coin["age_blocks"] for coin in coins]
    return None if ages is None or None in ages else max(ages, default=0)


def balance_change(row: Past, asked: Asked) -> BalanceChange | None:
    """Of the address; None in blocks that left it as it was, or of which nothing is known."""
    changes = row.balances.changes if row.balances else ()
    return next((one for one in changes if asked.subject in (one.address, f"script:{one.script}")), None)


def balance_left(row: Past, asked: Asked) -> Number:
    """What a change left at the address, sat."""
    change = balance_change(row, asked)
    return change and change.after


def held_by_all(row: Past, _: Asked) -> Number:
    return held(row)


def age_destroyed(row: Past, _: Asked) -> Number:
    """BTC times blocks."""
    age = coin_age(row)
    return None if age is None else age / COIN


FEERATE = Metric(
    "Median feerate of a block", "sat/kvB", feerate, "feerate_kvb", {"usual_feerate_kvb": "usual"}
)  # fmt: skip
BACKLOG = Metric("Waiting in the mempool", "blocks", backlog, "backlog_blocks", {"usual_backlog_blocks": "usual"})
FORECAST = Metric("Median feerate of a block", "sat/kvB", feerate, "current_value", {"historical_mean": "mean"})
ARRIVED = Metric("Arrived in a block", "sat", arrived, "amount", bars=True)
LEFT = Metric("Left in a block, at least", "sat", left, "amount", bars=True)
WITHIN = Metric("Moved within in a block, change too", "sat", within, "amount", bars=True)
TRANSFER = Metric("Largest transfer of a block", "sat", transfer, "moved", bars=True)
BALANCE = Metric("Balance of the address", "sat", balance_left, "balance", {"limit": "limit"}, together="level")
WEEK = Metric("Balance of the address", "sat", balance_left, "balance", {"balance_before": "before"}, together="level")
HELD = "Held by large addresses, against {window_blocks} blocks before"
OVER = {"usual_amount": "usual", "most_amount": "most before"}
NET = "Net flow over {flow_blocks} blocks (in above 0)"
PRESSURE = "Net flow to exchanges over {flow_blocks} blocks"
METRICS: Mapping[tuple[str, str], Metric] = {
    ("mempool", "fee_spike"): FEERATE,
    ("mempool", "fee_drop"): FEERATE,
    ("mempool", "tx_count_record"): Metric(
        "Payments in a block", "transactions", payments, "transactions",
        {"usual_transactions": "usual", "most_before": "most before"},
    ),
    ("mempool", "payments_resume"): Metric("Payments in a block", "transactions", payments, "transactions", bars=True),
    ("mempool", "fee_overpaid"): Metric("Largest fee in a block", "sat", top_fee, "fee", bars=True),
    ("mempool", "congestion"): BACKLOG,
    ("mempool", "mempool_emptied"): BACKLOG,
    ("mempool", "purging"): Metric(
        "Lowest feerate the node lets in", "sat/kvB", mempool_floor, "minfee_kvb", {"relayfee_kvb": "relay fee"}
    ),
    ("miner", "halving"): Metric("Block subsidy", "sat", subsidy, "subsidy", {"subsidy_before": "before"}),
    ("miner", "reward_unclaimed"): Metric("Left unclaimed in a block", "sat", unclaimed, "unclaimed", bars=True),
    ("miner", "empty_block"): Metric("Payments in a block", "transactions", payments, None),
    ("miner", "pool_share_shift"): Metric(
        "Pool's share of {recent_blocks} blocks", "share", found_by, "share", {"share_before": "before"},
        over="recent_blocks", together="share",
    ),
    ("miner", "underfilled_block"): Metric(
        "How full a block is", "share", fullness, "weight_share", {"usual_weight_share": "usual"}
    ),
    ("miner", "pool_streak"): Metric(
        "Pool's run of blocks in a row", "blocks", found_by, "streak", together="run", bars=True
    ),
    ("miner", "hashrate_concentration"): Metric(
        "Pool's share of {recent_blocks} blocks", "share", found_by, "share", over="recent_blocks", together="share",
    ),
    ("miner", "miner_distribution"): LEFT,
    ("exchange", "net_inflow"): Metric(NET, "sat", net_flow, "amount", OVER, over="flow_blocks", together="sum"),
    ("exchange", "net_outflow"): Metric(
        NET, "sat", net_flow, "amount", OVER, over="flow_blocks", together="sum", sign=-1
    ),
    ("exchange", "large_deposit"): ARRIVED,
    ("exchange", "large_withdrawal"): LEFT,
    ("exchange", "internal_reshuffle"): WITHIN,
    ("treasury", "accumulation"): ARRIVED,
    ("treasury", "distribution"): LEFT,
    ("treasury", "internal_reshuffle"): WITHIN,
    ("whale", "large_transfer"): TRANSFER,
    ("whale", "large_consolidation"): TRANSFER,
    ("whale", "dormant_coins"): Metric(
        "Oldest coin of 100 BTC and more spent, age", "blocks", oldest_large_coin, "age_blocks", bars=True
    ),
    ("whale", "coin_age_spike"): Metric(
        "Coin age spent in a block", "BTC × blocks", age_destroyed, "coin_blocks", {"usual_coin_blocks": "usual"}
    ),
    ("whale", "balance_above"): BALANCE,
    ("whale", "balance_below"): BALANCE,
    ("whale", "balance_gathered"): WEEK,
    ("whale", "balance_given"): WEEK,
    ("whale", "large_holders_gain"): Metric(HELD, "sat", held_by_all, "amount", less="held_before"),
    ("whale", "large_holders_loss"): Metric(HELD, "sat", held_by_all, "amount", less="held_before", sign=-1),
    ("predictive", "feerate_rise"): FORECAST,
    ("predictive", "feerate_fall"): FORECAST,
    ("predictive", "liquidity_inflow"): Metric(
        PRESSURE, "sat", net_flow, "current_value", over="flow_blocks", together="sum", blocks=MOST_POINTS
    ),
    ("predictive", "liquidity_outflow"): Metric(
        PRESSURE, "sat", net_flow, "current_value", over="flow_blocks", together="sum", blocks=MOST_POINTS, sign=-1
    ),
}  # fmt: skip
"""Of every kind that has words."""
