"""Audits and their score, worked out a second time from their definitions."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facts.made import block_of, facts_of, outpoint_coin
from utxoiq.chain.serialize import Tx
from utxoiq.facts.projection import PERCENTS, audit, score
from utxoiq.models import BlockFacts, MempoolSnapshot, NextBlock

MINED = [1_000, 2_000, 3_000, 4_000, 5_000, 6_000]
"""5, 10, 25, 50, 75, 90 %."""
FORETOLD = [1_100, 2_100, 3_100, 4_100, 5_100, 6_100]


def mined() -> BlockFacts:
    """A block with fees, whose rates are `MINED`."""
    coin, spent = outpoint_coin(1, 100_000)
    facts = facts_of(block_of((Tx((coin,), ((90_000, b"\x51"),)), [spent])))
    return replace(facts, package_feerate_p5_kvb=MINED[0], package_feerate_percentiles_kvb=MINED[1:])


def foretold(tip: str, rates: list[int] | None = None, **changes: Any) -> MempoolSnapshot:
    """A snapshot upon `tip` that foretells `rates`."""
    chosen = FORETOLD if rates is None else rates
    snapshot = MempoolSnapshot(
        taken_at=1_700_000_000, tip=tip, transactions=9, vsize=9_000, minfee_kvb=100, relayfee_kvb=100,
        basis="feerate diagram", next_block=NextBlock(weight=3_000, fees=9_000, feerate_percentiles_kvb=chosen),
    )  # fmt: skip
    return replace(snapshot, **changes)


def test_an_audit() -> None:
    """What was foretold beside what was mined, both whole."""
    facts = mined()
    assert facts.totalfee == 10_000
    assert audit(foretold(facts.previousblockhash), facts) == {
        "projected_kvb": FORETOLD, "mined_kvb": MINED, "projected_fees": 9_000, "mined_fees": 10_000,
        "projected_weight": 3_000, "mined_weight": facts.total_weight,
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [{"tip": "ab" * 32}, {"next_block": None}, {"next_block": NextBlock(0, 0, [])}],
    ids=["upon another parent", "the node can't tell", "nothing waits"],
)
def test_nothing_to_compare_in_the_snapshot(changes: dict[str, Any]) -> None:
    facts = mined()
    assert audit(replace(foretold(facts.previousblockhash), **changes), facts) is None


@pytest.mark.parametrize(
    "changes", [{"txs": 1}, {"package_feerate_p5_kvb": None}, {"package_feerate_percentiles_kvb": None}]
)
def test_nothing_to_compare_in_the_block(changes: dict[str, Any]) -> None:
    """Empty, or its fees are not known."""
    facts = mined()
    assert audit(foretold(facts.previousblockhash), replace(facts, **changes)) is None


def test_a_block_without_known_fees() -> None:
    """As a source without spent outputs gives it."""
    coin, spent = outpoint_coin(1, 100_000)
    facts = facts_of(block_of((Tx((coin,), ((90_000, b"\x51"),)), [spent]), spent=False))
    assert audit(foretold(facts.previousblockhash), facts) is None


def test_no_audits_no_score() -> None:
    """Rather than a score of nothing."""
    assert score([]) == []


def row(projected: list[int], mined_rates: list[int]) -> dict[str, Any]:
    return {"projected_kvb": projected, "mined_kvb": mined_rates}


def test_the_terms() -> None:
    """Too low: it would not have been mined. Too high: more than three quarters of the block paid."""
    cases = [row([rate] * 6, MINED) for rate in (999, 1_000, 3_000, 5_000, 5_001)]
    for scored in score(cases):
        assert (scored["blocks"], scored["miss"], scored["over"], scored["inside"]) == (5, 0.2, 0.2, 0.6)


def test_the_error_is_against_the_same_percentile() -> None:
    errors = [scored["median_error"] for scored in score([row([2 * rate for rate in MINED], MINED)])]
    assert errors == [1.0] * 6


rates = st.lists(st.integers(0, 2_000_000), min_size=6, max_size=6).map(sorted)
rows = st.lists(st.builds(row, rates, rates), min_size=1, max_size=30)


@given(rows)
def test_score_against_its_definition(audits: list[dict[str, Any]]) -> None:
    """For each percentile by exact fractions: shares of blocks, and the middle of the relative errors."""
    scored = score(audits)
    assert [s["percentile"] for s in scored] == list(PERCENTS) == [5, 10, 25, 50, 75, 90]
    for place, found in enumerate(scored):
        places = ["miss" if a["projected_kvb"][place] < a["mined_kvb"][0] else
                  "over" if a["projected_kvb"][place] > a["mined_kvb"][4] else "inside" for a in audits]  # fmt: skip
        assert found["blocks"] == len(audits)
        for name in ("miss", "over", "inside"):
            assert found[name] == pytest.approx(float(Fraction(places.count(name), len(audits))), abs=5.1e-5)
        assert 0.9998 <= found["miss"] + found["over"] + found["inside"] <= 1.0002
        errors = sorted(
            abs(Fraction(a["projected_kvb"][place], a["mined_kvb"][place]) - 1) for a in audits if a["mined_kvb"][place]
        )
        if not errors:
            assert found["median_error"] is None
        else:
            low, high = errors[(len(errors) - 1) // 2], errors[len(errors) // 2]
            assert float(low) - 1e-4 <= found["median_error"] <= float(high) + 1e-4


@given(rows)
def test_the_order_of_blocks_does_not_matter(audits: list[dict[str, Any]]) -> None:
    assert score(audits) == score(audits[::-1])


@given(rates)
def test_a_projection_that_came_true(exact: list[int]) -> None:
    """Misses nothing; above three quarters of the block lies only its own 90th percentile."""
    scored = score([row(exact, exact)])
    assert all(found["miss"] == 0 for found in scored)
    assert all(found["over"] == 0 for found in scored[:5])
    assert all(found["median_error"] in (0, None) for found in scored)
