"""Was the mempool right? What it foretold of a block, beside what was mined; and the score over many."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from utxoiq.models import BlockFacts, MempoolSnapshot

PERCENTS = (5, 10, 25, 50, 75, 90)


def audit(snapshot: MempoolSnapshot, facts: BlockFacts) -> dict[str, Any] | None:
    """Projected and mined feerate percentiles (sat/kvB, 5, 10, 25, 50, 75, 90 % by weight), fees (sat) and weights.

    None where there is nothing to compare: an empty block or mempool, unknown fees, another parent.
    """
    projected, p5, rest = snapshot.next_block, facts.package_feerate_p5_kvb, facts.package_feerate_percentiles_kvb
    unlike = snapshot.tip != facts.previousblockhash or facts.txs < 2
    if unlike or projected is None or not projected.feerate_percentiles_kvb or p5 is None or rest is None:
        return None
    return {
        "projected_kvb": projected.feerate_percentiles_kvb,
        "mined_kvb": [p5, *rest],
        "projected_fees": projected.fees,
        "mined_fees": facts.totalfee,
        "projected_weight": projected.weight,
        "mined_weight": facts.total_weight,
    }


def score(audits: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each projected percentile as an estimate of the next block's feerate, how it did over these blocks.

    `miss`: share of blocks in which it lay below the mined 5th percentile; `over`: above the 75th; `inside`: between
    (the terms of the bitcoin-augur benchmark). `median_error`: the median of |estimate / mined percentile - 1|.
    """
    return [_score(audits, place, percent) for place, percent in enumerate(PERCENTS)] if audits else []


def _score(audits: Sequence[dict[str, Any]], place: int, percent: int) -> dict[str, Any]:
    estimates = [a["projected_kvb"][place] for a in audits]
    low, high, same = ([a["mined_kvb"][i] for a in audits] for i in (0, 4, place))
    miss = sum(e < floor for e, floor in zip(estimates, low, strict=True))
    over = sum(e > roof for e, roof in zip(estimates, high, strict=True))
    errors = [abs(e / m - 1) for e, m in zip(estimates, same, strict=True) if m]
    n = len(audits)
    return {
        "percentile": percent,
        "blocks": n,
        "miss": round(miss / n, 4),
        "over": round(over / n, 4),
        "inside": round((n - miss - over) / n, 4),
        "median_error": round(median(errors), 4) if errors else None,
    }
