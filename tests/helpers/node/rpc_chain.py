"""The methods about blocks and the chain."""

from __future__ import annotations

from typing import Any

from helpers.node.blockjson import block_json, difficulty, header_json, transaction_json
from helpers.node.interface import RpcError
from helpers.node.jsontext import number
from helpers.node.rpc import BAD_PARAMETER, MISC, NOT_FOUND, VERIFY, integer, method, typed
from helpers.node.state import NodeState
from helpers.node.tree import Entry, target_of
from helpers.node.wire import display, internal, read_block
from helpers.reference import Refused

DECODE = -22
GUESSED_RATE = 0.001
"""Transactions a second regtest is said to have."""


def hash_of(value: Any, name: str) -> bytes:
    """A hash that was passed. Raises RpcError."""
    text = typed(value, "string")
    try:
        if len(text) == 64 and text.isalnum():
            return internal(text)
    except ValueError:
        pass
    if len(text) != 64:
        raise RpcError(BAD_PARAMETER, f"{name} must be of length 64 (not {len(text)}, for '{text}')")
    raise RpcError(BAD_PARAMETER, f"{name} must be hexadecimal string (not '{text}')")


def entry_of(state: NodeState, value: Any, name: str = "blockhash") -> Entry:
    found = state.chainstate.tree.entries.get(hash_of(value, name))
    if found is None:
        raise RpcError(NOT_FOUND, "Block not found")
    return found


def verbosity_of(value: Any, default: int) -> int:
    """A level; older callers pass a truth value."""
    if value is None or isinstance(value, bool):
        return default if value is None else int(value)
    return integer(value)


def with_data(state: NodeState, entry: Entry) -> Entry:
    """The entry, if its block is there. Raises RpcError."""
    if state.is_pruned(entry):
        raise RpcError(MISC, "Block not available (pruned data)")
    if entry.raw is None:
        raise RpcError(MISC, "Block not available (not fully downloaded)")
    return entry


def chain_info(state: NodeState) -> dict[str, Any]:
    """`getblockchaininfo` and REST `chaininfo`."""
    tip, entries = state.chainstate.tip, state.chainstate.tree.entries.values()
    shown: dict[str, Any] = {
        "chain": state.faults.chain or "regtest",
        "blocks": tip.height,
        "headers": state.best_header.height,
        "bestblockhash": display(tip.hash),
        "bits": f"{tip.bits:08x}",
        "target": f"{target_of(tip.bits):064x}",
        "difficulty": difficulty(tip.bits),
        "time": tip.time,
        "mediantime": tip.median_time,
        "verificationprogress": number(progress(state)),
        "initialblockdownload": state.initial_download,
        "chainwork": f"{tip.work:064x}",
        "size_on_disk": sum(len(entry.raw) + 8 for entry in entries if entry.raw),
        "pruned": state.faults.pruned_below > 0,
    }
    if state.faults.pruned_below:
        shown |= {"pruneheight": state.faults.pruned_below, "automatic_pruning": False}
    return shown | {"warnings": state.faults.warnings}


def progress(state: NodeState) -> float:
    """The part of all transactions that is on the chain, as Core guesses it."""
    tip, count = state.chainstate.tip, len(state.chainstate.confirmed)
    now, begun = int(state.now()), tip.time
    if abs(now - tip.time) <= 7200:
        begun = now - (state.best_header.height - tip.height) * 600
    return min(count / (count + (now - begun) * GUESSED_RATE), 1.0)


@method("getblockchaininfo")
def getblockchaininfo(state: NodeState) -> Any:
    return chain_info(state)


@method("getbestblockhash")
def getbestblockhash(state: NodeState) -> Any:
    return display(state.chainstate.tip.hash)


@method("getblockcount")
def getblockcount(state: NodeState) -> Any:
    return state.chainstate.tip.height


@method("getdifficulty")
def getdifficulty(state: NodeState) -> Any:
    return difficulty(state.chainstate.tip.bits)


@method("getblockhash height:number")
def getblockhash(state: NodeState, height: Any) -> Any:
    active = state.chainstate.active
    if not 0 <= integer(height) < len(active):
        raise RpcError(BAD_PARAMETER, "Block height out of range")
    return display(active[height].hash)


@method("getblockheader blockhash:string verbose?:bool")
def getblockheader(state: NodeState, blockhash: Any, verbose: Any = None) -> Any:
    entry = entry_of(state, blockhash, "hash")
    return entry.header.hex() if verbose is False else header_json(state.chainstate, entry)


@method("getblock blockhash:string verbosity|verbose?:any")
def getblock(state: NodeState, blockhash: Any, verbosity: Any = None) -> Any:
    entry, level = entry_of(state, blockhash), verbosity_of(verbosity, 1)
    raw = with_data(state, entry).raw
    assert raw is not None
    return raw.hex() if level <= 0 else block_json(state.chainstate, entry, level)


@method("getchaintips")
def getchaintips(state: NodeState) -> Any:
    chain = state.chainstate
    tips = {chain.tip, *(leaf for leaf in chain.tree.leaves() if not chain.contains(leaf))}
    arrival = {entry: n for n, entry in enumerate(chain.tree.entries.values())}
    return [
        {
            "height": tip.height,
            "hash": display(tip.hash),
            "branchlen": tip.height - chain.find_fork(tip).height,
            "status": _status(state, tip),
        }
        for tip in sorted(tips, key=lambda tip: (-tip.height, tip is not chain.tip, arrival[tip]))
    ]


def _status(state: NodeState, entry: Entry) -> str:
    if state.chainstate.contains(entry):
        return "active"
    if entry.invalid:
        return "invalid"
    if entry.sequence is None:
        return "headers-only"
    return "valid-headers" if entry.undo is None else "valid-fork"


@method("submitblock hexdata:string dummy?:string")
def submitblock(state: NodeState, hexdata: Any, dummy: Any = None) -> Any:
    try:
        raw, transactions = read_block(bytes.fromhex(hexdata))
    except (ValueError, Refused):
        raise RpcError(DECODE, "Block decode failed") from None
    return state.chainstate.receive(raw, transactions)


@method("submitheader hexdata:string")
def submitheader(state: NodeState, hexdata: Any) -> Any:
    try:
        header = bytes.fromhex(hexdata)
    except ValueError:
        header = b""
    if len(header) != 80:
        raise RpcError(DECODE, "Block header decode failed")
    reason = state.chainstate.receive_header(header)
    if reason is not None:
        raise RpcError(VERIFY, reason)
    return None


@method("invalidateblock blockhash:string")
def invalidateblock(state: NodeState, blockhash: Any) -> Any:
    state.chainstate.invalidate(entry_of(state, blockhash))


@method("reconsiderblock blockhash:string")
def reconsiderblock(state: NodeState, blockhash: Any) -> Any:
    state.chainstate.reconsider(entry_of(state, blockhash))


@method("getrawtransaction txid:string verbosity|verbose?:any blockhash?:string")
def getrawtransaction(state: NodeState, txid: Any, verbosity: Any = None, blockhash: Any = None) -> Any:
    chain, wanted = state.chainstate, hash_of(txid, "parameter 1")
    if wanted == chain.tree.genesis.transactions[0].txid:
        text = "The genesis block coinbase is not considered an ordinary transaction and cannot be retrieved"
        raise RpcError(NOT_FOUND, text)
    level = verbosity_of(verbosity, 0)
    named = None
    if blockhash is not None:
        named = chain.tree.entries.get(hash_of(blockhash, "parameter 3"))
        if named is None:
            raise RpcError(NOT_FOUND, "Block hash not found")
        if named.raw is None or state.is_pruned(named):
            raise RpcError(MISC, "Block not available")
    pooled = state.mempool.entries.get(wanted) if named is None else None
    entry = named if named is not None or pooled is not None else _indexed(state, wanted)
    found = pooled.transaction if pooled else None
    if entry is not None:
        found = next((tx for tx in entry.transactions if tx.txid == wanted), None)
    if found is None:
        raise RpcError(NOT_FOUND, f"{_missing(state, named)}. Use gettransaction for wallet transactions.")
    if level <= 0:
        return found.raw.hex()
    shown = {} if named is None else {"in_active_chain": chain.contains(named)}
    spent = None
    if level >= 2 and entry is not None and not found.is_coinbase and entry.undo is not None:
        spent = entry.undo[entry.transactions.index(found) - 1]
    shown |= transaction_json(found, spent, prevouts=True) | {"hex": found.raw.hex()}
    return shown | (_block_of(state, entry) if entry is not None else {})


def _indexed(state: NodeState, txid: bytes) -> Entry | None:
    return state.chainstate.confirmed.get(txid) if state.txindex else None


def _missing(state: NodeState, named: Entry | None) -> str:
    if named is not None:
        return "No such transaction found in the provided block"
    if state.txindex:
        return "No such mempool or blockchain transaction"
    return "No such mempool transaction. Use -txindex or provide a block hash to enable blockchain transaction queries"


def _block_of(state: NodeState, entry: Entry) -> dict[str, Any]:
    chain = state.chainstate
    if not chain.contains(entry):
        return {"blockhash": display(entry.hash), "confirmations": 0}
    depth = chain.tip.height - entry.height + 1
    return {"blockhash": display(entry.hash), "confirmations": depth, "time": entry.time, "blocktime": entry.time}
