"""Blocks and transactions of our own, spending our own coins: anyone can, which is all the key they need."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from helpers.build import EASY_BITS, OP_TRUE, body_bytes, coinbase, height_push, with_commitment, with_work
from helpers.node.wire import Transaction
from helpers.reference import merkle_root, sha256d
from utxoiq.chain.network import NETWORKS
from utxoiq.chain.serialize import Tx, TxInput, header_bytes, tx_bytes

REGTEST = NETWORKS["regtest"]
MATURITY = 100
DROPS = 8
FAT_SCRIPT = b"\x75" * DROPS + OP_TRUE
"""Drops what pads a transaction, and is satisfied."""
SEQUENCE = 0xFFFFFFFD


def p2wsh(script: bytes) -> bytes:
    return b"\x00\x20" + hashlib.sha256(script).digest()


LOCKS = {OP_TRUE: (), p2wsh(OP_TRUE): (OP_TRUE,), p2wsh(FAT_SCRIPT): (*[b""] * DROPS, FAT_SCRIPT)}
"""The output scripts that are ours, and the witness that opens each."""
OURS = (p2wsh(OP_TRUE), OP_TRUE)


@dataclass(frozen=True)
class OwnCoin:
    """An output we can spend; `height` is that of a coinbase, else None."""

    txid: bytes
    index: int
    value: int
    script: bytes
    height: int | None = None

    @property
    def outpoint(self) -> tuple[bytes, int]:
        return self.txid, self.index

    def spend(self, *, witness: tuple[bytes, ...] | None = None) -> TxInput:
        opened = LOCKS[self.script] if witness is None else witness
        return TxInput(self.txid, self.index, sequence=SEQUENCE, witness=opened)


@dataclass
class OwnBlock:
    """A block we made: the coins it made for us, and those it spent."""

    hash: bytes
    prev: bytes
    height: int
    time: int
    made: list[OwnCoin]
    spent: set[tuple[bytes, int]]


@dataclass
class Wallet:
    """The coins of ours on every branch we built."""

    blocks: dict[bytes, OwnBlock] = field(default_factory=dict)
    _tip: bytes = b""
    _coins: dict[tuple[bytes, int], OwnCoin] = field(default_factory=dict)

    def add(self, block: OwnBlock) -> None:
        self.blocks[block.hash] = block

    def coins(self, tip: bytes) -> list[OwnCoin]:
        """What is unspent on the branch that ends in `tip`, oldest first."""
        way = []
        at = tip
        while at in self.blocks and at != self._tip:
            way.append(self.blocks[at])
            at = way[-1].prev
        if at != self._tip:
            self._coins = {}
        for block in reversed(way):
            self._coins |= {coin.outpoint: coin for coin in block.made}
            for outpoint in block.spent:
                self._coins.pop(outpoint, None)
        self._tip = tip
        return list(self._coins.values())

    def mature(self, tip: bytes, height: int) -> list[OwnCoin]:
        """Of those, the ones a block of this height may spend."""
        return [coin for coin in self.coins(tip) if coin.height is None or height - coin.height >= MATURITY]


def outputs_of(tx: Tx | Transaction, *, height: int | None = None) -> list[OwnCoin]:
    """The outputs of a transaction that are ours."""
    txid = bytes(tx.txid)
    rows = enumerate(tx.outputs)
    return [OwnCoin(txid, n, value, script, height) for n, (value, script) in rows if script in LOCKS and value]


def spending(coins: list[OwnCoin], scripts: list[bytes], feerate: float, *, padding: int = 0) -> Tx:
    """A transaction of these coins that shares them among these scripts and pays about that many sat/vB.

    `padding` bytes go into the witness of the first input, whose script must be the fat one.
    """
    first = None
    if padding:
        sizes = [min(520, max(0, padding - 520 * n)) for n in range(DROPS)]
        first = (*(bytes([n + 1]) * size for n, size in enumerate(sizes)), FAT_SCRIPT)
    inputs = tuple(coin.spend(witness=first if n == 0 else None) for n, coin in enumerate(coins))
    total = sum(coin.value for coin in coins)
    draft = Tx(inputs, tuple((total, script) for script in scripts))
    fee = min(int(vsize(draft) * feerate), total // 2)
    share, rest = divmod(total - fee, len(scripts))
    return Tx(inputs, tuple((share + (rest if n == 0 else 0), script) for n, script in enumerate(scripts)))


def vsize(tx: Tx) -> int:
    return (3 * len(tx_bytes(tx, witness=False)) + len(tx_bytes(tx)) + 3) // 4


def bystander(seed: int) -> bytes:
    """An output script of nobody's, of a kind that depends on the number."""
    digest = hashlib.sha256(f"bystander {seed}".encode()).digest()
    kinds = (
        b"\x00\x14" + digest[:20],
        b"\x76\xa9\x14" + digest[:20] + b"\x88\xac",
        b"\xa9\x14" + digest[:20] + b"\x87",
        b"\x51\x20" + digest,
    )
    return kinds[seed % len(kinds)]


def build_block(
    prev: bytes, height: int, time: int, extra: int, transactions: Iterable[tuple[bytes, bytes, bytes]], fees: int
) -> tuple[bytes, Tx]:
    """A block of transactions given as (bytes, txid, wtxid), and its coinbase, which `extra` makes unique."""
    body = list(transactions)
    reward = REGTEST.subsidy(height) + fees
    script = height_push(height) + b"\x08" + extra.to_bytes(8, "little") + b"\x06/test/"
    first = coinbase([(reward, OURS[height % 2])], script)
    if any(txid != wtxid for _, txid, wtxid in body):
        first = _committing(first, [wtxid for *_, wtxid in body])
    root = merkle_root([bytes(first.txid), *(txid for _, txid, _ in body)])
    header = with_work(header_bytes(0x20000000, prev, root, time, EASY_BITS, 0))
    return header + body_bytes([first, *(raw for raw, *_ in body)]), first


def _committing(first: Tx, wtxids: list[bytes]) -> Tx:
    root = merkle_root([bytes(32), *wtxids])
    empty, *_ = with_commitment([first])
    commitment = empty.outputs[-1][1][:6] + sha256d(root + bytes(32))
    return coinbase([*first.outputs, (0, commitment)], first.inputs[0].script, bytes(32))
