"""`python -m evaluation fees`: the figures are what their definitions give by hand, and nothing sees ahead."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation.__main__ import main
from evaluation.bootstrap import mean_interval
from evaluation.series import RECOMMENDED, SNAPSHOT, TEMPLATE, Series, read_folder, read_snapshots, read_templates

from evaluation import fees
from helpers.recorded import ABSENT, SHARED
from utxoiq.errors import ConfigError, InputRefused
from utxoiq.processors.feerates import HORIZONS

parquet = pytest.importorskip("pyarrow.parquet", reason="no pyarrow: install requirements/dev.txt")
HOUR = HORIZONS[1]


def snapshots(folder: Path, lines: list[str], name: str = "fee_snapshots_1-2.csv.gz") -> Path:
    """A snapshot file with these rows under the four columns we read."""
    path = folder / name
    path.write_bytes(gzip.compress("\n".join([",".join(SNAPSHOT), *lines]).encode()))
    return path


def wandering(n: int = 700) -> list[str]:
    """Rows of n blocks, every ninth missing, every eleventh of unknown feerate."""
    rng = np.random.default_rng(11)
    rates = 5 * np.exp(np.convolve(rng.standard_normal(n + 20), np.ones(20) / 8, "valid"))
    return [
        f"{800_000 + i},{1_700_000_000 + 600 * i},{'' if i % 11 == 5 else f'{rates[i]:.3f}'},{rates[i] * 0.7:.3f}"
        for i in range(n)
        if i % 9 != 4
    ]


def templates(folder: Path, n: int = 60, **changed: list[float]) -> Path:
    """A five-minute file: the tip moves each second snapshot, and by two blocks once."""
    import pyarrow

    columns = {
        "timestamp": [1_741_000_000 + 300 * i for i in range(n)],
        "mempool_blocks_medianFee": [2.0 + i for i in range(n)],
        "recommended_fee_minimumFee": [1.0] * n,
        "difficulty_adjustment_nextRetargetHeight": [887_040.0] * n,
        "difficulty_adjustment_remainingBlocks": [700.0 - i // 2 - (i >= 10) for i in range(n)],
        **{column: [3.0] * n for column in RECOMMENDED.values()},
        "mempool_fee_histogram_bin_1_4": [4_000_000.0] * n,
        "mempool_fee_histogram_bin_4_16": [2_000_000.0] * n,
        "mempool_fee_histogram_bin_16_plus": [500_000.0] * n,
        **changed,
    }
    path = folder / "mempool_5min_a.parquet"
    parquet.write_table(pyarrow.table({k: v for k, v in columns.items() if v}), path)
    return path


def test_snapshot_targets_go_by_height(tmp_path: Path) -> None:
    """102 is missing, 104 unknown, the row of 103 that comes after 104 is late and left out."""
    rows = ["100,1,5,1", "101,2,6,0", "104,3,,2.5", "103,3,9,1", "105,4,8,1"]
    series = read_snapshots(snapshots(tmp_path, rows), "s")
    assert series.rates.tolist() == [5000, 6000, 0, 8000]
    assert series.mempool.tolist() == [1000, 0, 2500, 1000]
    assert series.targets["next_block"].tolist() == [1, -1, 3, -1]
    assert series.position.tolist() == [0, 1, 4, 5]


def test_template_targets_go_by_tip_and_time(tmp_path: Path) -> None:
    """The next block is the first snapshot upon it, unknown where the tip jumped; an hour is twelve snapshots."""
    series = read_templates(templates(tmp_path), "m")
    assert series.targets["next_block"][:14].tolist() == [2, 2, 4, 4, 6, 6, 8, 8, -1, -1, 12, 12, 14, 14]
    assert series.targets["1h"][:3].tolist() == [12, 13, 14]
    assert set(series.targets["24h"]) == {-1}
    assert series.position[:3].tolist() == [0, 0.5, 1]


def test_a_gap_in_time_is_not_bridged_by_rows(tmp_path: Path) -> None:
    """Ten minutes are missing after row 20: row 10's hour is over two rows earlier, row 9's at a missing one."""
    times = [1_741_000_000 + 300 * (i if i <= 20 else i + 2) for i in range(60)]
    series = read_templates(templates(tmp_path, timestamp=times), "m")
    assert series.targets["1h"][[8, 9, 10, 11]].tolist() == [20, -1, -1, 21]


def test_a_half_empty_template_costs_the_minimum(tmp_path: Path) -> None:
    """Its median is 0, which nobody pays."""
    series = read_templates(templates(tmp_path, mempool_blocks_medianFee=[0.0] * 60), "m")
    assert set(series.rates) == {1000}


def test_the_mempool_is_seen_in_the_middle_of_its_second_block(tmp_path: Path) -> None:
    """0.5 MvB above 16; 1.0 of the 2.0 MvB from 16 down to 4 reach 1.5 MvB: the geometric middle, 8."""
    assert set(read_templates(templates(tmp_path), "m").mempool) == {8000}


def test_scores_by_hand() -> None:
    """Inside; 1 below with width 2; and on the edge."""
    forecasts = np.array([[2.0, 1.0, 4.0], [5.0, 4.0, 6.0], [3.0, 3.0, 3.0]])
    scores = fees.score(forecasts, np.array([4.0, 3.0, 3.0]))
    assert scores["mae"].tolist() == [2, 2, 0]
    assert scores["mape"].tolist() == [0.5, 2 / 3, 0]
    assert scores["interval_score"].tolist() == [3, 12, 0]
    assert scores["coverage80"].tolist() == [1, 0, 1]


@pytest.mark.parametrize("horizon", HORIZONS[:2], ids=lambda horizon: horizon.name)
def test_no_forecast_sees_a_later_row(tmp_path: Path, horizon) -> None:  # type: ignore[no-untyped-def]
    """Whatever comes after a row, what was forecast up to it stays, for every method."""
    series = read_snapshots(snapshots(tmp_path, wandering()), "s")
    cut = 500
    rates, mempool = series.rates.copy(), series.mempool.copy()
    rates[cut:] = np.where(rates[cut:] > 0, 900_000, 0)
    mempool[cut:] = 1
    other = replace(series, rates=rates, mempool=mempool)
    origins = np.arange(300, cut)
    assert np.array_equal(*(fees.walk_ours(one, horizon, origins) for one in (series, other)), equal_nan=True)
    for (_, points), (_, others) in zip(fees.simple(series, horizon), fees.simple(other, horizon), strict=True):
        mine, its = (
            fees.walk_simple(*args) for args in ((series, horizon, origins, points), (other, horizon, origins, others))
        )
        assert np.array_equal(mine, its, equal_nan=True)


def test_every_method_is_scored_on_the_same_rows(tmp_path: Path) -> None:
    """Where one method says nothing, none is scored; n is one number a horizon."""
    series = read_snapshots(snapshots(tmp_path, wandering()), "s")
    silent = np.full(len(series.rates), 4000)
    silent[400:450] = 0
    with_gap = replace(series, recommended={"1h": silent})
    counts = {row["method"]: row["n"] for row in fees.evaluate(with_gap, HOUR)}
    alone = fees.evaluate(series, HOUR)[0]["n"]
    assert set(counts) == {"utxoiq", "naive", "rolling_median", "ses", "recommended"}
    assert set(counts.values()) == {alone - int((series.targets["1h"][400:450] >= 0).sum())}


def test_scoring_begins_after_the_declared_history() -> None:
    """1,008 blocks and as many rows, or half of a shorter series."""

    def begin(n: int, step: float) -> int:
        rows = np.arange(n)
        series = Series("s", rows * step, rows, rows + 1, rows, {"1h": np.append(rows[1:], -1)})
        return int(fees.scored_rows(series, HOUR)[0])

    assert [begin(3000, 1), begin(3000, 2), begin(6000, 0.5), begin(500, 1)] == [1008, 1008, 2016, 250]


def test_the_bootstrap_knows_what_it_can() -> None:
    """Nothing varies: no width. Too short: no interval. Alike neighbours: wider than strangers. Always the same."""
    assert mean_interval(np.full(100, 0.25), 10) == (0.25, 0.25)
    assert mean_interval(np.zeros(39), 10) is None
    runs = np.repeat(np.random.default_rng(2).standard_normal(100), 20)
    alike, strangers = mean_interval(runs, 40), mean_interval(runs, 1)
    assert alike is not None
    assert strangers is not None
    assert alike[1] - alike[0] > 3 * (strangers[1] - strangers[0])
    assert alike == mean_interval(runs, 40)
    assert alike[0] < runs.mean() < alike[1]


def test_the_command_prints_an_object_a_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Same bytes on every run, and the fields the documentation names."""
    snapshots(tmp_path, wandering(500))
    (tmp_path / "statoshi_fees_paid.csv").write_text("of no concern here")
    printed = []
    for _ in range(2):
        assert main(["fees", "--series", str(tmp_path), "--json"]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    rows = [json.loads(line) for line in printed[0].splitlines()]
    assert [(row["series"], row["horizon"], row["method"]) for row in rows[:2]] == [
        ("fee_snapshots", "next_block", "utxoiq"),
        ("fee_snapshots", "next_block", "naive"),
    ]
    assert list(rows[0]) == ["series", "horizon", "method", "mae", "mape", "interval_score", "coverage80", "n"]
    difference = rows[0]["mae"] - rows[1]["mae"]
    assert rows[1]["mae_difference"] == pytest.approx(difference, abs=2e-4)


def test_a_series_too_short_to_score_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Null, not zero; and the table for people is drawn as well."""
    snapshots(tmp_path, wandering(60))
    assert main(["fees", "--series", str(tmp_path), "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 12
    assert all(row["n"] == 0 and row["mae"] is None and row["coverage80"] is None for row in rows)
    assert main(["fees", "--series", str(tmp_path)]) == 0
    assert "utxoiq" in capsys.readouterr().out


def test_files_of_one_kind_are_series_of_their_own(tmp_path: Path) -> None:
    """Two files: two names."""
    for name in ("fee_snapshots_a.csv.gz", "fee_snapshots_b.csv.gz"):
        snapshots(tmp_path, wandering(40), name)
    assert [series.name for series in read_folder(tmp_path)] == ["fee_snapshots_a", "fee_snapshots_b"]


def refused(path: Path, what: str) -> None:
    """Reading its folder is refused in one line that names the file and the matter."""
    with pytest.raises(InputRefused, match=what) as error:
        read_folder(path.parent)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_input_that_is_not_what_it_claims_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder without series, a missing column, a word for a number, bytes that do not unpack."""
    with pytest.raises(InputRefused, match="no fee_snapshots"):
        read_folder(tmp_path)
    with pytest.raises(ConfigError, match="is no folder"):
        read_folder(tmp_path / "nowhere")
    assert main(["fees", "--series", str(tmp_path / "nowhere")]) == 2
    assert main(["fees", "--series", str(tmp_path)]) == 3
    assert capsys.readouterr().err.count("\n") == 2
    path = snapshots(tmp_path, ["1,2,three,4"])
    refused(path, "line 2 has 'three'")
    path.write_bytes(path.read_bytes()[:-9])
    refused(path, "give it whole")
    path.write_bytes(gzip.compress(b"block_height\n1\n"))
    refused(path, "no column block_median_fee_rate, block_time, fee_rate_90th")
    path.write_bytes(gzip.compress(",".join(SNAPSHOT).encode()))
    refused(path, "no row with a block_height")


def test_parquet_that_is_not_what_it_claims_is_refused(tmp_path: Path) -> None:
    """The same for the other kind."""
    path = templates(tmp_path, timestamp=[5] * 60)
    refused(path, "timestamps must increase")
    templates(tmp_path, recommended_fee_minimumFee=[])
    refused(path, f"no column {TEMPLATE[2]}")
    path.write_bytes(b"PAR1 and then nothing")
    refused(path, "can't be read as Parquet")


@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "series").is_dir(), reason=ABSENT)
def test_recorded_series_keep_the_promise() -> None:
    """Up to an hour ahead on real fees: nearer than every simple method, by both scores, and 77 to 83 % inside."""
    for series in read_folder(SHARED / "series"):
        for horizon in HORIZONS[:2]:
            ours, *others = fees.evaluate(series, horizon)
            assert 0.77 <= ours["coverage80"] <= 0.83
            for other in others:
                assert ours["mae"] < other["mae"]
                assert ours["interval_score"] < other["interval_score"]
