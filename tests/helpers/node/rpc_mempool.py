"""The methods about the mempool, unspent outputs and fees."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from helpers.node.interface import RpcError
from helpers.node.jsontext import amount
from helpers.node.mempool import MIN_FEERATE, Mempool, Pooled, Rejected, fee_at
from helpers.node.rpc import BAD_PARAMETER, IN_CHAIN, MISC, NOT_FOUND, REJECTED, TYPE_ERROR, VERIFY, integer, method
from helpers.node.rpc_chain import DECODE, hash_of
from helpers.node.scripts import script_json
from helpers.node.state import NodeState
from helpers.node.wire import Transaction, display, read_transaction
from helpers.reference import Refused
from utxoiq.units import COIN

MAX_FEERATE = Decimal("0.10")


def mempool_info(pool: Mempool) -> dict[str, Any]:
    """`getmempoolinfo` and REST `mempool/info`."""
    entries = pool.entries.values()
    least = amount(MIN_FEERATE)
    return {
        "loaded": True,
        "size": len(entries),
        "bytes": sum(entry.vsize for entry in entries),
        "usage": 1200 * len(entries),
        "total_fee": amount(sum(entry.fee for entry in entries)),
        "maxmempool": 300_000_000,
        "mempoolminfee": least,
        "minrelaytxfee": least,
        "incrementalrelayfee": least,
        "unbroadcastcount": sum(entry.unbroadcast for entry in entries),
        "permitbaremultisig": True,
        "maxdatacarriersize": 100_000,
        "limitclustercount": 64,
        "limitclustersize": 101_000,
        "optimal": True,
    }


def mempool_json(pool: Mempool, *, verbose: bool, sequence: bool) -> Any:
    """`getrawmempool` and REST `mempool/contents`."""
    if verbose and sequence:
        raise RpcError(BAD_PARAMETER, "Verbose results cannot contain mempool sequence values.")
    if verbose:
        chunks = _chunk_of(pool)
        return {display(entry.txid): entry_json(pool, entry, chunks) for entry in pool.ordered}
    txids = [display(entry.txid) for entry in pool.ordered]
    return {"txids": txids, "mempool_sequence": pool.sequence} if sequence else txids


def _chunk_of(pool: Mempool) -> dict[bytes, tuple[int, int]]:
    return {txid: (chunk.fee, chunk.weight) for chunk in pool.chunks for txid in chunk.txids}


def entry_json(pool: Mempool, entry: Pooled, chunks: dict[bytes, tuple[int, int]]) -> dict[str, Any]:
    """`getmempoolentry`."""
    ancestors = [pool.entries[txid] for txid in pool.ancestors(entry.txid)]
    descendants = [pool.entries[txid] for txid in pool.descendants([entry.txid])]
    chunk_fee, chunk_weight = chunks[entry.txid]
    return {
        "vsize": entry.vsize,
        "weight": entry.weight,
        "time": entry.time,
        "height": entry.height,
        "descendantcount": len(descendants),
        "descendantsize": sum(other.vsize for other in descendants),
        "ancestorcount": len(ancestors),
        "ancestorsize": sum(other.vsize for other in ancestors),
        "wtxid": display(entry.transaction.wtxid),
        "chunkweight": chunk_weight,
        "fees": {
            "base": amount(entry.fee),
            "modified": amount(entry.fee),
            "ancestor": amount(sum(other.fee for other in ancestors)),
            "descendant": amount(sum(other.fee for other in descendants)),
            "chunk": amount(chunk_fee),
        },
        "depends": sorted(display(txid) for txid in pool.parents[entry.txid]),
        "spentby": [display(txid) for txid in sorted(pool.children[entry.txid])],
        "unbroadcast": entry.unbroadcast,
    }


@method("getmempoolinfo")
def getmempoolinfo(state: NodeState) -> Any:
    return mempool_info(state.mempool)


@method("getrawmempool verbose?:bool mempool_sequence?:bool")
def getrawmempool(state: NodeState, verbose: Any = None, mempool_sequence: Any = None) -> Any:
    return mempool_json(state.mempool, verbose=bool(verbose), sequence=bool(mempool_sequence))


def _pooled(state: NodeState, txid: Any) -> Pooled:
    entry = state.mempool.entries.get(hash_of(txid, "txid"))
    if entry is None:
        raise RpcError(NOT_FOUND, "Transaction not in mempool")
    return entry


@method("getmempoolentry txid:string")
def getmempoolentry(state: NodeState, txid: Any) -> Any:
    return entry_json(state.mempool, _pooled(state, txid), _chunk_of(state.mempool))


@method("getmempoolancestors txid:string verbose?:bool")
def getmempoolancestors(state: NodeState, txid: Any, verbose: Any = None) -> Any:
    entry = _pooled(state, txid)
    return _related(state.mempool, state.mempool.ancestors(entry.txid) - {entry.txid}, verbose=bool(verbose))


@method("getmempooldescendants txid:string verbose?:bool")
def getmempooldescendants(state: NodeState, txid: Any, verbose: Any = None) -> Any:
    entry = _pooled(state, txid)
    return _related(state.mempool, {*state.mempool.descendants([entry.txid])} - {entry.txid}, verbose=bool(verbose))


def _related(pool: Mempool, txids: set[bytes], *, verbose: bool) -> Any:
    if not verbose:
        return [display(txid) for txid in sorted(txids)]
    chunks = _chunk_of(pool)
    return {display(txid): entry_json(pool, pool.entries[txid], chunks) for txid in sorted(txids)}


@method("getmempoolfeeratediagram")
def getmempoolfeeratediagram(state: NodeState) -> Any:
    weight, fee = 0, 0
    points = [{"weight": 0, "fee": amount(0)}]
    for chunk in state.mempool.chunks:
        weight, fee = weight + chunk.weight, fee + chunk.fee
        points.append({"weight": weight, "fee": amount(fee)})
    return points


@method("getmempoolcluster txid:string")
def getmempoolcluster(state: NodeState, txid: Any) -> Any:
    pool, entry = state.mempool, _pooled(state, txid)
    cluster, waiting = set(), [entry.txid]
    while waiting:
        member = waiting.pop()
        cluster.add(member)
        waiting += (pool.parents[member] | pool.children[member]) - cluster
    chunks = [chunk for chunk in pool.chunks if set(chunk.txids) & cluster]
    shown = [
        {"chunkfee": amount(c.fee), "chunkweight": c.weight, "txs": [display(txid) for txid in c.txids]} for c in chunks
    ]
    return {"clusterweight": sum(c.weight for c in chunks), "txcount": len(cluster), "chunks": shown}


@method("gettxspendingprevout outputs:array options?:any")
def gettxspendingprevout(state: NodeState, outputs: Any, options: Any = None) -> Any:
    shown = []
    if not outputs:
        raise RpcError(BAD_PARAMETER, "Invalid parameter, outputs are missing")
    for asked in outputs:
        for name in ("txid", "vout"):
            if name not in asked:
                raise RpcError(TYPE_ERROR, f"Missing {name}")
        outpoint = hash_of(asked["txid"], "txid") + unsigned(asked["vout"]).to_bytes(4, "little")
        spender = state.mempool.spenders.get(outpoint)
        found = {"spendingtxid": display(spender)} if spender else {}
        shown.append({"txid": asked["txid"], "vout": asked["vout"]} | found)
    return shown


@method("getprioritisedtransactions")
def getprioritisedtransactions(state: NodeState) -> Any:
    return {}


@method("sendrawtransaction hexstring:string maxfeerate?:any maxburnamount?:any")
def sendrawtransaction(state: NodeState, hexstring: Any, maxfeerate: Any = None, maxburnamount: Any = None) -> Any:
    transaction = _decoded(hexstring)
    made = (transaction.created(n) for n in range(len(transaction.outputs)))
    if any(outpoint in state.chainstate.coins for outpoint in made):
        raise RpcError(IN_CHAIN, "Transaction outputs already in utxo set")
    if transaction.txid not in state.mempool.entries:
        _check_most(state, transaction, maxfeerate)
        try:
            state.mempool.accept(transaction)
        except Rejected as error:
            missing = str(error) == "bad-txns-inputs-missingorspent"
            raise RpcError(VERIFY if missing else REJECTED, str(error)) from None
    return display(transaction.txid)


def _check_most(state: NodeState, transaction: Transaction, maxfeerate: Any) -> None:
    """Refuse to pay a feerate above the one that was allowed (0: any)."""
    most = int(Decimal(str(MAX_FEERATE if maxfeerate is None else maxfeerate)) * COIN)
    if most >= COIN:
        raise RpcError(BAD_PARAMETER, "Fee rates larger than or equal to 1BTC/kvB are not accepted")
    coins = [state.mempool.coin(outpoint) for outpoint in transaction.outpoints]
    fee = sum(coin.value for coin in coins if coin) - sum(value for value, _ in transaction.outputs)
    if most and all(coins) and fee > fee_at(most, (transaction.weight + 3) // 4):
        raise RpcError(VERIFY, "Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)")


def _decoded(text: Any) -> Transaction:
    try:
        return read_transaction(bytes.fromhex(text))
    except (ValueError, Refused):
        raise RpcError(DECODE, "TX decode failed. Make sure the tx has at least one input.") from None


@method("submitpackage package:array maxfeerate?:any maxburnamount?:any")
def submitpackage(state: NodeState, package: Any, maxfeerate: Any = None, maxburnamount: Any = None) -> Any:
    transactions = [_decoded(text) for text in package]
    try:
        state.mempool.accept_package(transactions)
    except Rejected as error:
        raise RpcError(VERIFY, str(error)) from None
    return {
        "package_msg": "success",
        "tx-results": {display(tx.wtxid): {"txid": display(tx.txid)} for tx in transactions},
    }


@method("estimatesmartfee conf_target:number estimate_mode?:string")
def estimatesmartfee(state: NodeState, conf_target: Any, estimate_mode: Any = None) -> Any:
    if not 1 <= integer(conf_target) <= 1008:
        raise RpcError(BAD_PARAMETER, "Invalid conf_target, must be between 1 and 1008")
    if (estimate_mode or "unset").lower() not in ("unset", "economical", "conservative"):
        modes = '"unset", "economical", "conservative"'
        raise RpcError(BAD_PARAMETER, f"Invalid estimate_mode parameter, must be one of: {modes}")
    if conf_target not in state.faults.fee_estimates:
        return {"errors": ["Insufficient data or no feerate found"], "blocks": 0}
    feerate, blocks = state.faults.fee_estimates[conf_target]
    return {"feerate": amount(feerate), "blocks": blocks}


def unsigned(value: Any) -> int:
    """The index of an output. Raises RpcError."""
    if not 0 <= integer(value, 34) < 1 << 32:
        raise RpcError(MISC, "JSON integer out of range")
    return int(value)


@method("gettxout txid:string n:number include_mempool?:bool")
def gettxout(state: NodeState, txid: Any, n: Any, include_mempool: Any = None) -> Any:
    chain, outpoint = state.chainstate, hash_of(txid, "txid") + unsigned(n).to_bytes(4, "little")
    if include_mempool is False:
        coin = chain.coins.get(outpoint)
    else:
        coin = None if outpoint in state.mempool.spenders else state.mempool.coin(outpoint)
    if coin is None:
        return None
    return {
        "bestblock": display(chain.tip.hash),
        "confirmations": chain.tip.height - coin.height + 1,
        "value": amount(coin.value),
        "scriptPubKey": script_json(coin.script),
        "coinbase": coin.is_coinbase,
    }
