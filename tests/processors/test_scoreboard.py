"""How forecasts did, by hand."""

from __future__ import annotations

from typing import Any

from utxoiq.processors.scoreboard import scoreboard


def row(method: str, block: str, value: int, actual: int | None, **more: Any) -> dict[str, Any]:
    """A forecast of the next block as the store gives it."""
    usual = {"horizon": "next_block", "low_kvb": None, "high_kvb": None, "value_kvb": value, "actual_kvb": actual}
    return {**usual, "method": method, "block_hash": block, **more}


def ours(block: str, value: int, actual: int | None, low: int, high: int) -> dict[str, Any]:
    return row("utxoiq", block, value, actual, low_kvb=low, high_kvb=high)


def test_ours_is_scored_with_its_interval() -> None:
    """Missed by 1 and 4 sat/vB of 10 and 20; the second lies 1 sat/vB above an interval of 8: 8 + 10 · 1."""
    (score,) = scoreboard([ours("a", 11_000, 10_000, 8000, 12_000), ours("b", 16_000, 20_000, 11_000, 19_000)])
    assert score == {
        "horizon": "next_block", "method": "utxoiq", "n": 2, "mae": 2.5, "mape": 0.15, "interval_score": (4 + 18) / 2,
        "coverage80": 0.5, "ours_mae": 2.5,
    }  # fmt: skip


def test_others_are_measured_on_the_blocks_ours_are_too() -> None:
    """And ours on just those: a block that only one of both foretold is in neither figure."""
    rows = [ours("a", 11_000, 10_000, 8000, 12_000), ours("b", 16_000, 20_000, 11_000, 19_000),
            row("naive", "b", 19_000, 20_000), row("naive", "c", 1000, 90_000)]  # fmt: skip
    first, naive = scoreboard(rows)
    assert (first["method"], first["n"]) == ("utxoiq", 2)
    assert (naive["n"], naive["mae"], naive["ours_mae"]) == (1, 1.0, 4.0)
    assert (naive["interval_score"], naive["coverage80"]) == (None, None)


def test_what_has_not_come_is_not_scored() -> None:
    """Nor a block that paid nobody knows what; without any settled there is no score."""
    assert scoreboard([ours("a", 1000, None, 1, 2), row("naive", "a", 1000, None)]) == []
    assert scoreboard([]) == []


def test_horizons_in_order_and_ours_first() -> None:
    each = [(method, horizon) for horizon in ("24h", "1h", "next_block") for method in ("naive", "node", "utxoiq")]
    rows = [row(method, "a", 1000, 1000, horizon=horizon) for method, horizon in each]
    found = [(score["horizon"], score["method"]) for score in scoreboard(rows)]
    assert found == [(h, m) for h in ("next_block", "1h", "24h") for m in ("utxoiq", "naive", "node")]


def test_a_third_partys_horizon_breaks_nothing() -> None:
    """It may foretell what ours does not: there is nothing of ours to compare it with."""
    rows = [ours("a", 1000, 1000, 1, 2000), row("mine", "a", 1000, 1000, horizon="2h")]
    assert [score["method"] for score in scoreboard(rows)] == ["utxoiq"]
