"""What both nodes do alike: build blocks and transactions here, and submit them by RPC."""

from __future__ import annotations

import time as clock
from typing import Any

from helpers.node.interface import RpcError
from helpers.node.miner import (
    FAT_SCRIPT,
    OURS,
    OwnBlock,
    OwnCoin,
    Wallet,
    build_block,
    bystander,
    outputs_of,
    p2wsh,
    spending,
)
from helpers.node.wire import Transaction, display, internal, read_transaction
from helpers.reference import sha256d
from utxoiq.chain.serialize import Tx, tx_bytes
from utxoiq.units import COIN

FEERATES = (1, 2, 3, 5, 8, 13, 21, 34)
Pooled = tuple[Transaction, int]
"""A transaction of the mempool and its fee."""
SHAPES = ("split", "pay", "chain", "merge")
"""The kinds of transactions `mine` makes in turn."""


class Driver:
    """Mines and sends through `rpc`."""

    def __init__(self) -> None:
        self.wallet = Wallet()
        self.sent: dict[str, tuple[Tx, list[OwnCoin]]] = {}
        """The transactions of `send`, with the coins they spend."""
        self._extra = 0
        self._made = 0

    def rpc(self, method: str, *params: Any) -> Any:
        raise NotImplementedError

    def mine(self, blocks: int = 1, *, spends: int = 0, time: int | None = None, mempool: bool = False) -> list[str]:
        hashes, tip = [], self.rpc("getbestblockhash")
        for _ in range(blocks):
            tip = self._mine_on(tip, spends=spends, time=time, pooled=self._pooled() if mempool else [])
            hashes.append(tip)
        return hashes

    def side_branch(self, fork_hash: str, blocks: int, *, spends: int = 0, time: int | None = None) -> list[str]:
        hashes, tip = [], fork_hash
        for _ in range(blocks):
            tip = self._mine_on(tip, spends=spends, time=time, pooled=[])
            hashes.append(tip)
        return hashes

    def fat_block(self, size: int = 1_500_000, transactions: int = 2500) -> str:
        tip = self.rpc("getbestblockhash")
        height = self._below(tip)[0] + 1
        coin = max(self._spendable(internal(tip), height), key=lambda coin: coin.value, default=None)
        if coin is None:
            raise RuntimeError("no mature coin to begin with: mine 101 blocks first")
        fan = spending([coin], [p2wsh(FAT_SCRIPT)] * (transactions - 2), 1)
        first = spending(outputs_of(fan)[:1], [OURS[0], bystander(0)], 1)
        # what is no padding: the header, the coinbase, the fan, and each transaction's own bytes
        plain = 300 + len(tx_bytes(fan)) + (len(tx_bytes(first)) + 2) * (transactions - 2)
        padding = max(1, (size - plain) // (transactions - 2))
        rows = [
            spending([made], [OURS[0], bystander(n)], FEERATES[n % len(FEERATES)] / 10, padding=padding)
            for n, made in enumerate(outputs_of(fan))
        ]
        return self._submit(internal(tip), [fan, *rows], [coin], time=None, pooled=[])

    def send(self, feerate: float = 10, *, spend: str | None = None, replace: str | None = None) -> str:
        if replace is not None:
            coins = self.sent[replace][1]
        elif spend is not None:
            coins = outputs_of(self.sent[spend][0])[:1]
        else:
            tip = self.rpc("getbestblockhash")
            height = self._below(tip)[0] + 1
            # the newest first: `mine` begins at the other end
            coins = [coin for coin in self._spendable(internal(tip), height) if coin.value > 100_000][-1:]
        if not coins:
            raise RuntimeError("no coin to spend: mine 101 blocks first")
        self._made += 1
        tx = spending(coins, [p2wsh(b"\x51"), bystander(self._made)], feerate)
        txid = str(self.rpc("sendrawtransaction", tx_bytes(tx).hex(), 0))
        self.sent[txid] = (tx, coins)
        return txid

    def invalidate(self, block_hash: str) -> None:
        self.rpc("invalidateblock", block_hash)

    def _below(self, block_hash: str) -> tuple[int, int]:
        """Height and median time of a block."""
        known = self.wallet.blocks.get(internal(block_hash))
        times: list[int] = []
        at = known
        while at is not None and len(times) < 11:
            times.append(at.time)
            at = self.wallet.blocks.get(at.prev)
        if known is not None and len(times) == 11:
            return known.height, sorted(times)[5]
        header = self.rpc("getblockheader", block_hash)
        return header["height"], header["mediantime"]

    def _spendable(self, tip: bytes, height: int) -> list[OwnCoin]:
        waiting = {coin.outpoint for _, coins in self.sent.values() for coin in coins}
        return [coin for coin in self.wallet.mature(tip, height) if coin.outpoint not in waiting]

    def _mine_on(self, tip: str, *, spends: int, time: int | None, pooled: list[Pooled]) -> str:
        prev = internal(tip)
        transactions: list[Tx] = []
        spent: list[OwnCoin] = []
        if spends:
            taken = {(txin.txid, txin.index) for transaction, _ in pooled for txin in transaction.inputs}
            coins = self._spendable(prev, self._below(tip)[0] + 1)
            transactions, spent = self._spends([coin for coin in coins if coin.outpoint not in taken], spends)
        return self._submit(prev, transactions, spent, time=time, pooled=pooled)

    def _spends(self, coins: list[OwnCoin], count: int) -> tuple[list[Tx], list[OwnCoin]]:
        """Transactions of several shapes, and the coins they spend that are not their own."""
        transactions: list[Tx] = []
        spent: list[OwnCoin] = []
        fresh: list[OwnCoin] = []
        coins = [coin for coin in coins if coin.value > 50_000]
        while len(transactions) < count and (coins or fresh):
            shape, number = SHAPES[self._made % len(SHAPES)], self._made
            self._made += 1
            if (shape == "chain" and fresh) or not coins:
                used = [fresh.pop(0)]
            else:
                used, coins = (coins[:3], coins[3:]) if shape == "merge" else (coins[:1], coins[1:])
                spent += used
            ours = [OURS[(number + n) % 2] for n in range(4 if shape == "split" else 1)]
            others = [] if shape == "merge" else [bystander(number)]
            tx = spending(used, [*ours, *others], FEERATES[number % len(FEERATES)])
            transactions.append(tx)
            fresh += [coin for coin in outputs_of(tx) if coin.value > 50_000]
        return transactions, spent

    def _pooled(self) -> list[Pooled]:
        """The mempool, parents first, in an order that doesn't depend on how it came about."""
        entries = self.rpc("getrawmempool", True).items()
        ordered = sorted(entries, key=lambda item: (item[1]["ancestorcount"], item[0]))
        return [
            (read_transaction(bytes.fromhex(self.rpc("getrawtransaction", txid))), int(entry["fees"]["base"] * COIN))
            for txid, entry in ordered
        ]

    def _submit(
        self, prev: bytes, transactions: list[Tx], spent: list[OwnCoin], *, time: int | None, pooled: list[Pooled]
    ) -> str:
        below, median = self._below(display(prev))
        made_at = max(int(clock.time()) if time is None else time, median + 1)
        fees, rows = self._rows(transactions, spent, pooled)
        self._extra += 1
        raw, first = build_block(prev, below + 1, made_at, self._extra, rows, fees)
        block_hash = sha256d(raw[:80])
        answer = self.rpc("submitblock", raw.hex())
        if answer not in (None, "inconclusive"):
            raise RpcError(0, f"submitblock: {answer}")
        all_of_them = [*transactions, *(transaction for transaction, _ in pooled)]
        made = [*outputs_of(first, height=below + 1), *(coin for tx in all_of_them for coin in outputs_of(tx))]
        inside = {(txin.txid, txin.index) for tx in all_of_them for txin in tx.inputs}
        self.wallet.add(OwnBlock(block_hash, prev, below + 1, made_at, made, inside))
        return display(block_hash)

    def _rows(
        self, transactions: list[Tx], spent: list[OwnCoin], pooled: list[Pooled]
    ) -> tuple[int, list[tuple[bytes, bytes, bytes]]]:
        """The fees of a block, and its transactions as (bytes, txid, wtxid); the mempool's come first."""
        rows = [(transaction.raw, transaction.txid, transaction.wtxid) for transaction, _ in pooled]
        fees = sum(fee for _, fee in pooled)
        rows += [(tx_bytes(tx), bytes(tx.txid), bytes(tx.wtxid)) for tx in transactions]
        values = {coin.outpoint: coin.value for coin in [*spent, *(c for tx in transactions for c in all_outputs(tx))]}
        for tx in transactions:
            fees += sum(values[i.txid, i.index] for i in tx.inputs) - sum(value for value, _ in tx.outputs)
        return fees, rows


def all_outputs(tx: Tx) -> list[OwnCoin]:
    txid = bytes(tx.txid)
    return [OwnCoin(txid, n, value, script) for n, (value, script) in enumerate(tx.outputs)]
