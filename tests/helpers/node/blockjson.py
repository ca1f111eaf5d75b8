"""Blocks, headers and transactions as JSON values, field by field in the node's order."""

from __future__ import annotations

from typing import Any

from helpers.node.chainstate import Chainstate
from helpers.node.jsontext import amount, number
from helpers.node.scripts import asm, script_json
from helpers.node.tree import Entry, target_of
from helpers.node.wire import Transaction, display
from utxoiq.chain.serialize import Coin, compact_size

GENESIS_TARGET = 0xFFFF << 208
"""Difficulty 1."""


def difficulty(bits: int) -> str:
    return number((bits & 0xFFFFFF) and 0xFFFF / (bits & 0xFFFFFF) * 256.0 ** (29 - (bits >> 24)))


def confirmations(chain: Chainstate, entry: Entry) -> int:
    return chain.tip.height - entry.height + 1 if chain.contains(entry) else -1


def header_json(chain: Chainstate, entry: Entry) -> dict[str, Any]:
    """`getblockheader`."""
    version = int.from_bytes(entry.header[:4], "little", signed=True)
    shown = {
        "hash": display(entry.hash),
        "confirmations": confirmations(chain, entry),
        "height": entry.height,
        "version": version,
        "versionHex": f"{version & 0xFFFFFFFF:08x}",
        "merkleroot": display(entry.header[36:68]),
        "time": entry.time,
        "mediantime": entry.median_time,
        "nonce": int.from_bytes(entry.header[76:], "little"),
        "bits": f"{entry.bits:08x}",
        "target": f"{target_of(entry.bits):064x}",
        "difficulty": difficulty(entry.bits),
        "chainwork": f"{entry.work:064x}",
        "nTx": len(entry.transactions) if entry.raw else 0,
    }
    if entry.prev is not None:
        shown["previousblockhash"] = display(entry.prev.hash)
    if chain.contains(entry) and entry is not chain.tip:
        shown["nextblockhash"] = display(chain.active[entry.height + 1].hash)
    return shown


def block_json(chain: Chainstate, entry: Entry, verbosity: int) -> dict[str, Any]:
    """`getblock` 1 to 3; fees and prevouts only where the block was connected once."""
    assert entry.raw is not None
    transactions = entry.transactions
    stripped = 80 + len(compact_size(len(transactions))) + sum(len(tx.stripped) for tx in transactions)
    shown = header_json(chain, entry)
    shown |= {"strippedsize": stripped, "size": len(entry.raw), "weight": 3 * stripped + len(entry.raw)}
    shown["coinbase_tx"] = _coinbase_json(transactions[0])
    if verbosity == 1:
        shown["tx"] = [display(tx.txid) for tx in transactions]
        return shown
    undo: list[list[Coin] | None] = [None] * len(transactions)
    if entry.undo is not None:
        undo[1:] = entry.undo
    shown["tx"] = [
        {**transaction_json(tx, spent, prevouts=verbosity >= 3), "hex": tx.raw.hex()}
        for tx, spent in zip(transactions, undo, strict=True)
    ]
    return shown


def _coinbase_json(transaction: Transaction) -> dict[str, Any]:
    txin = transaction.inputs[0]
    shown = {
        "version": transaction.version,
        "locktime": transaction.lock_time,
        "sequence": txin.sequence,
        "coinbase": txin.script.hex(),
    }
    return shown | ({"witness": txin.witness[0].hex()} if txin.witness else {})


def transaction_json(transaction: Transaction, spent: list[Coin] | None, *, prevouts: bool) -> dict[str, Any]:
    """A transaction; with its fee where the coins it spends are known."""
    shown: dict[str, Any] = {
        "txid": display(transaction.txid),
        "hash": display(transaction.wtxid),
        "version": transaction.version,
        "size": len(transaction.raw),
        "vsize": (transaction.weight + 3) // 4,
        "weight": transaction.weight,
        "locktime": transaction.lock_time,
        "vin": [
            _input_json(transaction, n, spent[n] if spent and prevouts else None)
            for n in range(len(transaction.inputs))
        ],
        "vout": [
            {"value": amount(value), "n": n, "scriptPubKey": script_json(script)}
            for n, (value, script) in enumerate(transaction.outputs)
        ],
    }
    if spent is not None:
        shown["fee"] = amount(sum(coin.value for coin in spent) - sum(value for value, _ in transaction.outputs))
    return shown


def _input_json(transaction: Transaction, n: int, coin: Coin | None) -> dict[str, Any]:
    txin = transaction.inputs[n]
    shown: dict[str, Any] = {"coinbase": txin.script.hex()}
    if not transaction.is_coinbase:
        script_sig = {"asm": asm(txin.script, signatures=True), "hex": txin.script.hex()}
        shown = {"txid": display(txin.txid), "vout": txin.index, "scriptSig": script_sig}
    if txin.witness:
        shown["txinwitness"] = [item.hex() for item in txin.witness]
    if coin is not None:
        shown["prevout"] = {
            "generated": coin.is_coinbase,
            "height": coin.height,
            "value": amount(coin.value),
            "scriptPubKey": script_json(coin.script),
        }
    return shown | {"sequence": txin.sequence}


def spent_json(undo: list[list[Coin]]) -> list[list[dict[str, Any]]]:
    """`spenttxouts`: the coins of each transaction, the coinbase's (none) first."""
    rows = [
        [{"value": amount(coin.value), "scriptPubKey": script_json(coin.script)} for coin in coins] for coins in undo
    ]
    return [[], *rows]
