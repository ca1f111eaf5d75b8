"""`getblockstats`, recomputed from a block and the coins it spends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from helpers.node.chainstate import unspendable
from helpers.node.interface import RpcError
from helpers.node.rpc import BAD_PARAMETER, MISC, integer, json_type, method, typed
from helpers.node.rpc_chain import entry_of, with_data
from helpers.node.state import NodeState
from helpers.node.tree import Entry
from helpers.node.wire import display
from utxoiq.chain.network import NETWORKS
from utxoiq.chain.serialize import output_bytes

OVERHEAD = 40
"""What an unspent output takes beside itself: its outpoint (36), height and coinbase flag (4)."""
PERCENTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@method("getblockstats hash_or_height:any stats?:array")
def getblockstats(state: NodeState, hash_or_height: Any, stats: Any = None) -> Any:
    entry = with_data(state, _entry(state, hash_or_height))
    if entry.undo is None:
        raise RpcError(MISC, "Undo data not available")
    found = _stats(entry, entry.undo)
    if not stats:
        return found
    for name in sorted({typed(name, "string") for name in stats}):
        if name not in found:
            raise RpcError(BAD_PARAMETER, f"Invalid selected statistic '{name}'")
    return {name: found[name] for name in sorted(set(stats))}


def _entry(state: NodeState, value: Any) -> Entry:
    if json_type(value) != "number":
        return entry_of(state, value, "hash_or_height")
    active = state.chainstate.active
    if integer(value) < 0:
        raise RpcError(BAD_PARAMETER, f"Target block height {value} is negative")
    if value >= len(active):
        raise RpcError(BAD_PARAMETER, f"Target block height {value} after current tip {len(active) - 1}")
    return active[value]


def _stats(entry: Entry, undo: list[list[Any]]) -> dict[str, Any]:
    first, *others = entry.transactions
    fees = [
        sum(coin.value for coin in coins) - sum(value for value, _ in tx.outputs)
        for tx, coins in zip(others, undo, strict=True)
    ]
    rates = [fee * 4 // tx.weight for fee, tx in zip(fees, others, strict=True)]
    sizes, weights = [len(tx.raw) for tx in others], [tx.weight for tx in others]
    segwit = [tx for tx in others if tx.raw is not tx.stripped]
    outputs = [output for tx in (first, *others) for output in tx.outputs]
    kept = [output for output in outputs if entry.height and not unspendable(output[1])]
    inputs = sum(len(coins) for coins in undo)
    spent_size = sum(_kept_size((coin.value, coin.script)) for coins in undo for coin in coins)
    return {
        "avgfee": _mean(sum(fees), len(fees)),
        "avgfeerate": _mean(sum(fees) * 4, sum(weights)),
        "avgtxsize": _mean(sum(sizes), len(sizes)),
        "blockhash": display(entry.hash),
        "feerate_percentiles": _percentiles(sorted(zip(rates, weights, strict=True)), sum(weights)),
        "height": entry.height,
        "ins": inputs,
        "maxfee": max(fees, default=0),
        "maxfeerate": max(rates, default=0),
        "maxtxsize": max(sizes, default=0),
        "medianfee": _median(fees),
        "mediantime": entry.median_time,
        "mediantxsize": _median(sizes),
        "minfee": min(fees, default=0),
        "minfeerate": min(rates, default=0),
        "mintxsize": min(sizes, default=0),
        "outs": len(outputs),
        "subsidy": NETWORKS["regtest"].subsidy(entry.height),
        "swtotal_size": sum(len(tx.raw) for tx in segwit),
        "swtotal_weight": sum(tx.weight for tx in segwit),
        "swtxs": len(segwit),
        "time": entry.time,
        "total_out": sum(value for tx in others for value, _ in tx.outputs),
        "total_size": sum(sizes),
        "total_weight": sum(weights),
        "totalfee": sum(fees),
        "txs": len(entry.transactions),
        "utxo_increase": len(outputs) - inputs,
        "utxo_size_inc": sum(map(_kept_size, outputs)) - spent_size,
        "utxo_increase_actual": len(kept) - inputs,
        "utxo_size_inc_actual": sum(map(_kept_size, kept)) - spent_size,
    }


def _kept_size(output: tuple[int, bytes]) -> int:
    return len(output_bytes(*output)) + OVERHEAD


def _mean(total: int, count: int) -> int:
    return total // count if count else 0


def _median(values: Sequence[int]) -> int:
    ordered, half = sorted(values), len(values) // 2
    if not ordered:
        return 0
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) // 2


def _percentiles(rows: Sequence[tuple[int, int]], total: int) -> list[int]:
    found: list[int] = []
    seen = 0
    for rate, weight in rows:
        seen += weight
        while len(found) < len(PERCENTILES) and seen >= PERCENTILES[len(found)] * total:
            found.append(rate)
    last = rows[-1][0] if rows else 0
    return found + [last] * (len(PERCENTILES) - len(found))
