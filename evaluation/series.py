"""Recorded feerate series, read into columns.

`fee_snapshots_*.csv[.gz]`: a row a block, the node's mempool as seen after it. The feerate is `block_median_fee_rate`,
targets are the blocks 1, 6 and 144 heights above, and the mempool is seen by the upper tenth of its feerates
(`fee_rate_90th`), since a block takes only its top. A row whose height is not above all before it came late: it is left
out, so that no forecast knows a row written after it.

`mempool_5min_*.parquet`: mempool.space's view each five minutes; no column says what a block paid. The feerate is the
median of the next-block template, at least the minimum fee (a template less than half full has the median 0). Targets
are that template at the first snapshot whose tip is one block higher, and an hour and a day later (the nearest snapshot
within half a step). The tip is `nextRetargetHeight - remainingBlocks`. The mempool is seen by the feerate in the middle
of the second block of the fee histogram: what is next when the next block is gone.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from utxoiq.errors import ConfigError, InputRefused
from utxoiq.processors.feerates import HORIZONS, HorizonName, rows_ahead

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Whole = NDArray[np.int64]
    Real = NDArray[np.float64]

KVB = 1000
HALF_STEP = 150
"""Seconds a snapshot may be off its five-minute place."""
SECOND_BLOCK = 1_500_000
"""vB down to the middle of the second block."""
SNAPSHOT = ("block_height", "block_time", "block_median_fee_rate", "fee_rate_90th")
HISTOGRAM = "mempool_fee_histogram_bin_"
TEMPLATE = (
    "timestamp",
    "mempool_blocks_medianFee",
    "recommended_fee_minimumFee",
    "difficulty_adjustment_nextRetargetHeight",
    "difficulty_adjustment_remainingBlocks",
)
RECOMMENDED: dict[HorizonName, str] = {
    "next_block": "recommended_fee_fastestFee",
    "1h": "recommended_fee_hourFee",
    "24h": "recommended_fee_economyFee",
}


@dataclass(frozen=True)
class Series:
    """Rows oldest first, (n,) each; feerates in sat/kvB, 0 where unknown."""

    name: str
    position: Real
    """Blocks, or ten minutes, from the first row."""
    time: Whole
    rates: Whole
    mempool: Whole
    targets: dict[HorizonName, Whole]
    """The row that shows what a forecast of each row was about, -1 where there is none."""
    recommended: dict[HorizonName, Whole] = field(default_factory=dict)


def read_folder(folder: Path) -> list[Series]:
    """Every series of the folder, by name; files of other names are left alone.

    Raises ConfigError where there is no such folder, InputRefused where it has no series or one that can't be read.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder: name one with fee_snapshots_* or mempool_5min_* files")
    readers: dict[str, tuple[Callable[[Path, str], Series], tuple[str, ...]]] = {
        "fee_snapshots": (read_snapshots, (".csv", ".csv.gz")),
        "mempool_5min": (read_templates, (".parquet",)),
    }
    found = []
    for kind, (read, endings) in readers.items():
        paths = [path for path in sorted(folder.glob(f"{kind}*")) if path.name.endswith(endings)]
        found += [read(path, kind if len(paths) == 1 else path.name.split(".")[0]) for path in paths]
    if not found:
        raise InputRefused(f"{folder}: no fee_snapshots_*.csv[.gz] and no mempool_5min_*.parquet in it")
    return found


def read_snapshots(path: Path, name: str) -> Series:
    """A series with a row a block."""
    columns = _read_csv(path, SNAPSHOT)
    height = columns["block_height"]
    height = np.where(np.isfinite(height), height, -1)
    kept = height > np.maximum.accumulate(np.concatenate([[-1.0], height[:-1]]))
    heights, time = height[kept].astype(np.int64), _whole(columns["block_time"][kept])
    rates = _kvb(columns["block_median_fee_rate"][kept])
    if not len(heights):
        raise InputRefused(f"{path}: no row with a block_height")
    targets = {horizon.name: rows_ahead(heights, rates, horizon.blocks) for horizon in HORIZONS}
    position = (heights - heights[0]).astype(np.float64)
    return Series(name, position, time, rates, _kvb(columns["fee_rate_90th"][kept]), targets)


def read_templates(path: Path, name: str) -> Series:
    """A series with a row each five minutes."""
    columns = _read_parquet(path, (*TEMPLATE, *RECOMMENDED.values()))
    time = _whole(columns["timestamp"])
    if not len(time) or (np.diff(time) <= 0).any():
        raise InputRefused(f"{path}: timestamps must increase: sort the snapshots by time, one each")
    least = columns["recommended_fee_minimumFee"]
    rates = _kvb(np.maximum(columns["mempool_blocks_medianFee"], least))
    tip = _whole(columns["difficulty_adjustment_nextRetargetHeight"] - columns["difficulty_adjustment_remainingBlocks"])
    targets = {
        horizon.name: _next_tip(tip) if horizon.blocks == 1 else _snapshots_ahead(time, horizon.seconds)
        for horizon in HORIZONS
    }
    targets = {key: np.where(rates[rows] > 0, rows, -1) for key, rows in targets.items()}
    mempool = _kvb(np.maximum(_second_block(columns), least))
    recommended = {key: _kvb(columns[column]) for key, column in RECOMMENDED.items()}
    return Series(name, (time - time[0]) / 600, time, rates, mempool, targets, recommended)


def _read_csv(path: Path, wanted: tuple[str, ...]) -> dict[str, Real]:
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    except (OSError, EOFError, ValueError) as error:
        raise InputRefused(f"{path}: can't be read as CSV ({error}): give it whole") from error
    rows = csv.DictReader(io.StringIO(text))
    _check(path, rows.fieldnames or (), wanted)
    values = [[_number(path, rows.line_num, row[column]) for column in wanted] for row in rows]
    table = np.array(values, np.float64).reshape(-1, len(wanted))
    return dict(zip(wanted, table.T, strict=True))


def _number(path: Path, line: int, cell: str | None) -> float:
    try:
        return float(cell) if cell else math.nan
    except ValueError as error:
        raise InputRefused(f"{path}: line {line} has {cell!r} where a number belongs") from error


def _read_parquet(path: Path, wanted: tuple[str, ...]) -> dict[str, Real]:
    import pyarrow as arrow  # noqa: PLC0415
    from pyarrow import parquet  # noqa: PLC0415

    try:
        file = parquet.ParquetFile(path)
        names = [name for name in file.schema_arrow.names if name in wanted or name.startswith(HISTOGRAM)]
        _check(path, names, wanted)
        table = file.read(names)
        return {name: table[name].cast("float64").to_numpy() for name in names}
    except (OSError, arrow.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise InputRefused(f"{path}: can't be read as Parquet ({reason}): give it whole") from error


def _check(path: Path, names: Iterable[str], wanted: tuple[str, ...]) -> None:
    missing = sorted(set(wanted) - set(names))
    if missing:
        raise InputRefused(f"{path}: no column {', '.join(missing)}")


def _whole(column: Real) -> Whole:
    return np.where(np.isfinite(column), column, 0).astype(np.int64)


def _kvb(sat_vb: Real) -> Whole:
    """sat/kvB of sat/vB; 0 where missing or not above 0."""
    return np.where(sat_vb > 0, np.rint(sat_vb * KVB), 0).astype(np.int64)


def _next_tip(tip: Whole) -> Whole:
    """The first row whose tip is one block above each row's, -1 where the tip went further or there is none."""
    seen, first = np.unique(tip, return_index=True)
    at = np.minimum(np.searchsorted(seen, tip + 1), len(seen) - 1)
    rows = np.where(seen[at] == tip + 1, first[at], -1)
    return np.where(rows > np.arange(len(tip)), rows, -1)


def _snapshots_ahead(time: Whole, seconds: int) -> Whole:
    due = time + seconds
    rows = np.minimum(np.searchsorted(time, due - HALF_STEP), len(time) - 1)
    return np.where(np.abs(time[rows] - due) <= HALF_STEP, rows, -1)


def _second_block(columns: dict[str, Real]) -> Real:
    """The feerate, sat/vB, `SECOND_BLOCK` below the top of the histogram, geometric within its bin; 0 in a mempool less
    deep, NaN where there is no histogram."""
    bins = sorted((float(name.removeprefix(HISTOGRAM).split("_")[0]), name) for name in columns if HISTOGRAM in name)
    n = len(columns["timestamp"])
    if not bins:
        return np.full(n, np.nan)
    lower = np.array([low for low, _ in bins])[::-1]
    upper = np.concatenate([lower[:1] * 2, lower[:-1]])
    sizes = np.column_stack([columns[name] for _, name in reversed(bins)])
    depth = np.cumsum(sizes, axis=1)
    at = np.minimum((depth < SECOND_BLOCK).sum(axis=1), len(bins) - 1)
    rows = np.arange(n)
    size = np.maximum(sizes[rows, at], 1)
    share = np.clip((SECOND_BLOCK - depth[rows, at] + size) / size, 0, 1)
    rate = upper[at] ** (1 - share) * lower[at] ** share
    return np.where(depth[:, -1] < SECOND_BLOCK, 0.0, rate)
