"""How forecasts did: each method beside ours, on the same blocks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

OURS = "utxoiq"
HORIZONS = ("next_block", "1h", "24h")
MISS = 0.2
"""What an 80 % interval leaves out."""
KVB = 1000


def scoreboard(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row a horizon and method, ours first, over the forecasts whose block has come (`actual_kvb` known) and of which
    there is one of ours too, so that the figures compare.

    `mae` in sat/vB, `mape` a share; `interval_score` (Winkler: width + 2/0.2 times the distance outside, sat/vB) and
    `coverage80` for methods with intervals, else None. `ours_mae`: of ours on just the blocks this method has a
    forecast of. `n`: forecasts settled.
    """
    settled: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for row in rows:
        if row["actual_kvb"]:
            settled[row["horizon"], row["method"]][row["block_hash"]] = row
    order = sorted(settled, key=lambda key: (_place(key[0]), key[1] != OURS, key[1]))
    scores = [_score(horizon, method, settled[horizon, method], settled[horizon, OURS]) for horizon, method in order]
    return [score for score in scores if score["n"]]


def _place(horizon: str) -> tuple[int, str]:
    """Ours by length, third parties' after them."""
    return (HORIZONS.index(horizon), "") if horizon in HORIZONS else (len(HORIZONS), horizon)


def _score(
    horizon: str, method: str, rows: Mapping[str, Mapping[str, Any]], ours: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    rows = {block: row for block, row in rows.items() if block in ours}
    shared = [ours[block] for block in rows]
    intervals = [row for row in rows.values() if row["low_kvb"] is not None]
    return {
        "horizon": horizon,
        "method": method,
        "n": len(rows),
        "mae": _mean([_miss(row) / KVB for row in rows.values()]),
        "mape": _mean([_miss(row) / row["actual_kvb"] for row in rows.values()]),
        "interval_score": _mean([_winkler(row) / KVB for row in intervals]),
        "coverage80": _mean([float(_outside(row) == 0) for row in intervals]),
        "ours_mae": _mean([_miss(row) / KVB for row in shared]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return round(fmean(values), 4) if values else None


def _miss(row: Mapping[str, Any]) -> int:
    return abs(int(row["value_kvb"]) - int(row["actual_kvb"]))


def _outside(row: Mapping[str, Any]) -> int:
    return max(0, int(row["low_kvb"]) - int(row["actual_kvb"])) + max(0, int(row["actual_kvb"]) - int(row["high_kvb"]))


def _winkler(row: Mapping[str, Any]) -> float:
    return float(row["high_kvb"] - row["low_kvb"] + 2 / MISS * _outside(row))
