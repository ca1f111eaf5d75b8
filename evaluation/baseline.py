"""The baseline: what a person sees who looks at raw amounts with one fixed threshold each.

It has the published thresholds (docs/signals) and the same labels, and no more: no change taken off, no past to
compare with, no statistics. A level that lasts (feerate, share) is told once, where it is first seen. Kinds that are
nothing but a comparison with the past (net flows, coin age, streaks) have no raw amount: it is silent about them.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from evaluation.claims import Claim
from utxoiq.units import COIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from utxoiq.entities.labels import LabelSet
    from utxoiq.history import Past

USUAL_KVB, USUAL_TRANSACTIONS = 4068, 41
"""Medians over the blocks of seed 101, regime `calm`, 3,000 blocks: feerate in sat/kvB, payments."""
SPIKE, CROWDED, OVERPAID = 3, 2, COIN // 2
TRANSFER, DORMANT, DORMANT_BLOCKS = 1000 * COIN, 100 * COIN, 157_680
RECENT_BLOCKS, SHARE = 144, 0.3
MIDDLE = 2
"""The median among five percentiles."""
GROSS = {
    "exchange": ("exchange", 100 * COIN, "large_deposit", "large_withdrawal"),
    **dict.fromkeys(("treasury", "etf", "government"), ("treasury", 10 * COIN, "accumulation", "distribution")),
    "mining_pool": ("miner", 50 * COIN, None, "miner_distribution"),
}
"""Kind of entity -> signal type, sat, what arrivals and what spends are called."""


def say(rows: Sequence[Past], labels: LabelSet) -> list[Claim]:
    """All it says of consecutive blocks, oldest first."""
    return [*_single(rows, labels), *_lasting(rows)]


def _single(rows: Iterable[Past], labels: LabelSet) -> Iterator[Claim]:
    for row in rows:
        yield from _entities(row, labels)
        yield from _transactions(row)
        yield from _blocks(row)


def _entities(row: Past, labels: LabelSet) -> Iterator[Claim]:
    """What each entity's labelled scripts got and spent in a block, gross."""
    for who, flow in row.flows.entities.items() if row.flows else ():
        if (rule := GROSS.get(labels.entities[who].kind)) is None:
            continue
        signal_type, least, arrived, left = rule
        for kind, amount in ((arrived, flow.received), (left, flow.spent)):
            if kind is not None and amount >= least:
                yield Claim(signal_type, kind, who, _height(row))


def _transactions(row: Past) -> Iterator[Claim]:
    facts, old = row.facts, Counter[str]()
    for one in facts.large_transfers or ():
        if one["moved"] + one["change"] >= TRANSFER:
            yield Claim("whale", "large_transfer", one["txid"], _height(row))
    for coin in facts.large_coins or ():
        old[coin["txid"]] += coin["value"] if (coin["age_blocks"] or 0) >= DORMANT_BLOCKS else 0
    yield from (Claim("whale", "dormant_coins", txid, _height(row)) for txid, sat in old.items() if sat >= DORMANT)
    if facts.top_fee and facts.top_fee["fee"] >= OVERPAID:
        yield Claim("mempool", "fee_overpaid", facts.top_fee["txid"], _height(row))


def _blocks(row: Past) -> Iterator[Claim]:
    facts = row.facts
    if facts.txs == 1:
        yield Claim("miner", "empty_block", facts.pool, _height(row))
    if facts.coinbase_unclaimed:
        yield Claim("miner", "reward_unclaimed", facts.pool, _height(row))
    if facts.txs - 1 >= CROWDED * USUAL_TRANSACTIONS:
        yield Claim("mempool", "tx_count_record", None, _height(row))


def _lasting(rows: Sequence[Past]) -> Iterator[Claim]:
    """Levels, where they are first seen."""
    before: set[Claim] = set()
    for place, row in enumerate(rows):
        now = {*_feerate(row), *_shares(rows[max(0, place + 1 - RECENT_BLOCKS) : place + 1])}
        yield from (one._replace(height=_height(row)) for one in sorted(now - before))
        before = now


def _feerate(row: Past) -> Iterator[Claim]:
    percentiles = row.facts.package_feerate_percentiles_kvb
    if percentiles is not None and row.facts.txs > 1:
        if percentiles[MIDDLE] >= SPIKE * USUAL_KVB:
            yield Claim("mempool", "fee_spike", None, 0)
        if percentiles[MIDDLE] * SPIKE <= USUAL_KVB:
            yield Claim("mempool", "fee_drop", None, 0)


def _shares(rows: Sequence[Past]) -> Iterator[Claim]:
    if len(rows) < RECENT_BLOCKS:
        return
    for pool, blocks in Counter(row.facts.pool for row in rows).items():
        if pool is not None and blocks >= SHARE * RECENT_BLOCKS:
            yield Claim("miner", "pool_share_shift", pool, 0, direction="up")


def _height(row: Past) -> int:
    return row.facts.height or 0
