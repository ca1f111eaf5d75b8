"""The ten questions answered again in plain Python from a store's rows; and a store in which each has much to say."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from persistence import records
from pipeline.simulated import query, world
from utxoiq.models import BlockData, BlockFlows, EntityFlow
from utxoiq.persistence import SqliteStore
from utxoiq.pipeline.scan import scan

Rows = list[dict[str, Any]]
Kinds = Mapping[str, tuple[str, str]]
"""Entity -> (kind, name)."""
DAY = 86_400
YEAR = 52_560
SPENT = ("totalfee", "package_feerate_percentiles_kvb", "large_transfers", "large_coins", "oldest_coin",
         "coin_blocks_destroyed")  # fmt: skip
UNKNOWN: dict[str, Any] = dict.fromkeys(SPENT)
"""Facts of a block whose spent outputs nobody told."""
BY_HAND: Kinds = {
    "market": ("exchange", "The Market"),
    "bourse": ("exchange", "The Bourse"),
    "hoard": ("treasury", "The Hoard"),
    "fund": ("etf", "The Fund"),
    "state": ("government", "The State"),
    "pit": ("mining_pool", "The Pit"),
}


class Block(NamedTuple):
    """A connected block with what is stored of it last."""

    block_hash: str
    day: str
    height: int
    facts: dict[str, Any]
    flows: dict[str, Any] | None


# Stores


def simulated_store(path: Path) -> Kinds:
    """A scan of the simulated chain into a store at `path`: the labelled entities."""
    with SqliteStore(path) as store:
        asyncio.run(scan(world().source, store, labels=world().labels))
    return {entity.id: (entity.kind, entity.name) for entity in world().labels.entities.values()}


def handmade_store(path: Path) -> Kinds:
    """Three days with a block of unknown flows and one of unknown fees each, a reorg, an island, restated labels,
    retracted signals, very old coins and forecasts that hit, miss or wait: the labelled entities."""
    chain = records.chain()
    with SqliteStore(path) as store:
        for data in [*chain.trunk, *chain.stale]:
            store.connect(_record(data))
        for data in reversed(chain.stale):
            store.disconnect(str(data.block_hash), "reorg")
        for data in chain.winning[:-1]:
            store.connect(_record(data))
        store.connect(_record(chain.winning[-1], island=True))
        first = _record(chain.trunk[0])
        store.restate([(replace(first.facts, txs=77, weight=999), _flows(chain.trunk[0], 12, "newer"))])
        for row in store.database.query("SELECT signal_id FROM current_signals WHERE kind = 'doubtful'"):
            store.supersede(row["signal_id"], None, [], "a test", "run")
    return BY_HAND


def _record(data: BlockData, *, island: bool = False) -> Any:
    height = data.height or 0
    n = height - (records.chain().trunk[0].height or 0)
    at = data.block.header.time - data.block.header.time % DAY + (n % 3) * DAY + n
    facts = {"time": at, "weight": 1_000_000 * (n % 5), "txs": 1 + 3 * (n % 4), **_coins(n), **_pool(n)}
    if n % 6 == 4:
        facts |= UNKNOWN
    record = records.record(data, island=island, **facts)
    said = [records.signal(data, n, kind, f"subject-{n % 2}") for kind in ("seen", "seen again", "doubtful")]
    signals = tuple(replace(one, created_at=at, confidence=0.5 + n / 100) for one in said)
    flows = None if n in (3, 5, 8) else _flows(data, n)
    return replace(record, signals=signals, flows=flows, forecasts=tuple(_forecasts(data, n)))


def _coins(n: int) -> dict[str, Any]:
    old = {"txid": f"{n:064x}", "value": 200 * 10**8 + n, "age_blocks": YEAR + n - 5}
    small = {"txid": f"{n + 100:064x}", "value": 5000 + n, "age_blocks": 10 * YEAR}
    unknown = {"txid": f"{n + 200:064x}", "value": 300 * 10**8, "age_blocks": None}
    moved = {"txid": f"{n:064x}", "moved": 10**10 + n, "change": n, "fee": 1000, "inputs": 2, "outputs": 3}
    return {
        "package_feerate_percentiles_kvb": [1000 + 7 * n % 5, 2000 + n, 3000 + 11 * n % 17, 4000 + n, 5000 - n],
        "totalfee": 100 * n,
        "large_transfers": [moved] * (n % 3),
        "large_coins": [old, old, unknown],
        "oldest_coin": old if n % 2 else small,
        "coin_blocks_destroyed": None if n == 2 else 10,
    }


def _pool(n: int) -> dict[str, Any]:
    pool = (None, "pit", "mine")[n % 3 if n < 7 else 0]
    return {
        "pool": pool,
        "pool_name": pool and pool.title(),
        "pool_by": pool and ("tag" if n % 2 else "payout_address"),
    }


def _flows(data: BlockData, n: int, labels_version: str = "test") -> BlockFlows:
    """Of all but the first entities nobody says the kind in some blocks, and in some no exchange moved."""
    who = [*BY_HAND, "nobody's"][n % 3 :]
    entities = {name: EntityFlow(n, 2 * n, 1, 10 * n + i, 7 * i, False, n % 4) for i, name in enumerate(who)}
    kinds = {"treasury": [n, 1], "exchange": [3 * n, n]} if n % 3 else {"treasury": [n, 1]}
    name = str(data.block_hash)
    return BlockFlows(name, labels_version, 1000 * n, 300 * n, 900 * n, 100 + n, entities, [], kinds, [])


def _forecasts(data: BlockData, n: int) -> Iterable[Any]:
    for ahead, method in ((1, "utxoiq"), (1, "naive"), (2, "utxoiq"), (144, "utxoiq")):
        value = 3000 + 5 * n
        interval = {"low_kvb": value - 8, "high_kvb": value + 9} if method == "utxoiq" else {}
        yield records.forecast(data, value, ahead, method, **interval)


# Answers


def answers(path: Path, kinds: Kinds) -> dict[str, Rows]:
    """Question -> its answer over all days."""
    blocks = connected(path)
    days = defaultdict[str, list[Block]](list)
    for block in blocks:
        days[block.day].append(block)
    found = {
        name: [row for day, some in days.items() for row in of_day(day, some, kinds)] for name, of_day in DAILY.items()
    }
    found["forecast_error_by_day"] = forecast_errors(path, blocks)
    found["signals_by_kind_and_day"] = signals(path, blocks)
    return {name: sorted(rows, key=_order) for name, rows in found.items()}


def _order(row: dict[str, Any]) -> list[tuple[bool, Any]]:
    return [(value is not None, value) for value in list(row.values())[:4]]


def connected(path: Path) -> list[Block]:
    """The connected blocks of a store."""
    events = _rows(path, "SELECT seq AS n, block_hash, event FROM block_events ORDER BY seq")
    facts = _rows(path, "SELECT block_hash, facts FROM facts ORDER BY seq")
    flows = _rows(path, "SELECT block_hash, flows FROM flows ORDER BY seq")
    standing = {row["block_hash"]: row["event"] for row in events}
    facts_of = {row["block_hash"]: json.loads(row["facts"]) for row in facts}
    flows_of = {row["block_hash"]: json.loads(row["flows"]) for row in flows}
    return [
        Block(name, _day(facts_of[name]["time"]), facts_of[name]["height"], facts_of[name], flows_of.get(name))
        for name, event in standing.items()
        if event == "connected"
    ]


def _rows(path: Path, sql: str) -> Rows:
    return query(path, sql)


def _day(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _coverage(blocks: list[Block]) -> dict[str, int]:
    return {"blocks": len(blocks), "known": sum(block.flows is not None for block in blocks)}


def exchanges(day: str, blocks: list[Block], kinds: Kinds) -> Rows:
    flows = [block.flows for block in blocks if block.flows is not None]
    spent = sum(one["value_in"] for one in flows)
    share = sum(one["value_in_labelled"] for one in flows) / spent if spent else None
    told = {"labelled_share": share, **_coverage(blocks)}
    of_all = [one["kinds"].get("exchange", [0, 0]) for one in flows]
    together = (sum(pair[0] for pair in of_all), sum(pair[1] for pair in of_all)) if flows else None
    rows = [_moved(day, "all_exchanges", "All labelled exchanges", together) | told]
    sums = _by_entity(flows, kinds, ("exchange",))
    return rows + [_moved(day, who, kinds[who][1], (s["arrived"], s["left"])) | told for who, s in sums.items()]


def _by_entity(flows: Rows, kinds: Kinds, wanted: tuple[str, ...]) -> dict[str, dict[str, int]]:
    sums: dict[str, dict[str, int]] = {}
    for one in flows:
        for who, flow in one["entities"].items():
            if kinds.get(who, ("",))[0] in wanted:
                total = sums.setdefault(who, dict.fromkeys(flow, 0))
                for name, value in flow.items():
                    total[name] += value
    return sums


def _moved(day: str, who: str, name: str, moved: tuple[int, int] | None) -> dict[str, Any]:
    arrived, left = moved or (None, None)
    net = None if moved is None else moved[0] - moved[1]
    return {"day": day, "entity": who, "name": name, "arrived_sat": arrived, "departed_sat": left, "net_sat": net}


def treasuries(day: str, blocks: list[Block], kinds: Kinds) -> Rows:
    flows = [block.flows for block in blocks if block.flows is not None]
    return [
        {"day": day, "entity": who, "name": kinds[who][1], "kind": kinds[who][0], "arrived_sat": total["arrived"],
         "departed_sat": total["left"], "net_sat": total["arrived"] - total["left"],
         "uncertain_sat": total["uncertain_value"], **_coverage(blocks)}
        for who, total in _by_entity(flows, kinds, ("treasury", "etf", "government")).items()
    ]  # fmt: skip


def pools(day: str, blocks: list[Block], kinds: Kinds) -> Rows:
    found = defaultdict[str | None, list[Block]](list)
    for block in blocks:
        found[block.facts["pool"]].append(block)
    return [
        {"day": day, "pool": pool, "pool_name": mined[0].facts["pool_name"], "mined": len(mined),
         "by_address": sum(block.facts["pool_by"] == "payout_address" for block in mined),
         "mined_share": len(mined) / len(blocks), "blocks": len(blocks)}
        for pool, mined in found.items()
    ]  # fmt: skip


def fees(day: str, blocks: list[Block], kinds: Kinds) -> Rows:
    paid = [block.facts for block in blocks if block.facts["txs"] > 1]
    rates = [rates for facts in paid if (rates := facts["package_feerate_percentiles_kvb"]) is not None]
    medians = [median(column) for column in zip(*rates, strict=True)] or [None] * 5
    names = ("p10_kvb", "p25_kvb", "p50_kvb", "p75_kvb", "p90_kvb")
    return [
        {"day": day, **dict(zip(names, medians, strict=True)),
         "total_fees_sat": _sum(block.facts["totalfee"] for block in blocks),
         "subsidy_sat": _sum(block.facts["subsidy"] for block in blocks), "blocks": len(blocks),
         "known": sum(block.facts["totalfee"] is not None for block in blocks), "rated": len(rates)}
    ]  # fmt: skip


def dormant(day: str, blocks: list[Block], kinds: Kinds) -> Rows:
    known = sum(block.facts["coin_blocks_destroyed"] is not None for block in blocks)
    rows = []
    for block in blocks:
        coins = list(block.facts["large_coins"] or [])
        oldest = block.facts["oldest_coin"]
        coins += [oldest] if oldest is not None and oldest not in coins else []
        rows += [
            {"day": day, "block_height": block.height, "txid": coin["txid"], "value_sat": coin["value"],
             "age_blocks": coin["age_blocks"], "blocks": len(blocks), "known": known}
            for coin in coins if coin["age_blocks"] is not None and coin["age_blocks"] >= YEAR
        ]  # fmt: skip
    return rows


def coverage(day: str, blocks: list[Block], kinds: Kinds) -> Rows:
    flows = [block.flows for block in blocks if block.flows is not None]
    row: dict[str, Any] = {"day": day}
    for side in ("in", "out"):
        value = _sum(one[f"value_{side}"] for one in flows)
        labelled = _sum(one[f"value_{side}_labelled"] for one in flows)
        row[f"value_{side}_sat"], row[f"value_{side}_labelled_sat"] = value, labelled
        row[f"labelled_{side}_share"] = labelled / value if value and labelled is not None else None
    return [{**row, **_coverage(blocks), "label_sets": len({one["labels_version"] for one in flows})}]


def whales(day: str, blocks: list[Block], kinds: Kinds) -> Rows:
    known = sum(block.facts["large_transfers"] is not None for block in blocks)
    return [
        {"day": day, "block_height": block.height, "txid": one["txid"], "moved_sat": one["moved"],
         "change_sat": one["change"], "fee_sat": one["fee"], "inputs": one["inputs"], "outputs": one["outputs"],
         "blocks": len(blocks), "known": known}
        for block in blocks for one in block.facts["large_transfers"] or []
    ]  # fmt: skip


def fullness(day: str, blocks: list[Block], kinds: Kinds) -> Rows:
    weights, txs = ([block.facts[name] for block in blocks] for name in ("weight", "txs"))
    return [
        {"day": day, "full_share": sum(weights) / len(weights) / 4_000_000, "least_weight": min(weights),
         "transactions": sum(txs), "empty_blocks": txs.count(1),
         "half_empty_blocks": sum(weight < 2_000_000 for weight in weights), "blocks": len(blocks)}
    ]  # fmt: skip


def forecast_errors(path: Path, blocks: list[Block]) -> Rows:
    standing, at = {block.block_hash for block in blocks}, {block.height: block for block in blocks}
    cases = defaultdict[tuple[str, str, str], list[tuple[dict[str, Any], int | None]]](list)
    for one in _rows(path, "SELECT * FROM forecasts"):
        target = at.get(one["target_height"])
        if one["block_hash"] in standing and target is not None:
            rates = target.facts["package_feerate_percentiles_kvb"]
            actual = rates[2] if rates and target.facts["txs"] > 1 else None
            cases[target.day, one["horizon"], one["method"]].append((one, actual))
    rows = []
    for (day, horizon, method), some in cases.items():
        settled = [(one, actual) for one, actual in some if actual is not None]
        misses = [abs(one["value_kvb"] - actual) for one, actual in settled]
        inside = [one["low_kvb"] <= actual <= one["high_kvb"] for one, actual in settled if one["low_kvb"] is not None]
        rows.append({"day": day, "horizon": horizon, "method": method, "mae_kvb": _mean(misses),
                     "inside_share": _mean(inside), "cases": len(some), "known": len(settled)})  # fmt: skip
    return rows


def _mean(values: list[Any]) -> float | None:
    return sum(values) / len(values) if values else None


def signals(path: Path, blocks: list[Block]) -> Rows:
    standing = {block.block_hash: block.day for block in blocks}
    events = _rows(path, "SELECT signal_id, event FROM signal_events ORDER BY seq")
    gone = {name for name, event in {row["signal_id"]: row["event"] for row in events}.items() if event == "retracted"}
    found = defaultdict[tuple[str, str, str], Rows](list)
    for one in _rows(path, "SELECT * FROM signals"):
        if one["block_hash"] in standing and one["signal_id"] not in gone:
            found[standing[one["block_hash"]], one["signal_type"], one["kind"]].append(one)
    return [
        {"day": day, "signal_type": of, "kind": kind, "signals": len(some),
         "subjects": len({one["subject"] for one in some}), "in_blocks": len({one["block_hash"] for one in some}),
         "least_confidence": min(one["confidence"] for one in some),
         "most_confidence": max(one["confidence"] for one in some)}
        for (day, of, kind), some in found.items()
    ]  # fmt: skip


DAILY: dict[str, Callable[[str, list[Block], Kinds], Rows]] = {
    "exchange_net_flow_by_day": exchanges,
    "treasury_changes": treasuries,
    "pool_shares_by_day": pools,
    "fee_percentiles_by_day": fees,
    "dormant_coins": dormant,
    "label_coverage_by_day": coverage,
    "whale_transfers": whales,
    "block_fullness_by_day": fullness,
}
