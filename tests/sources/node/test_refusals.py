"""What both nodes refuse, and in which words: blocks against a rule, and transactions the mempool doesn't take."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

import pytest

from helpers.build import EASY_TARGET, with_work
from helpers.node.driver import Driver
from helpers.node.interface import RpcError, TestNode
from helpers.node.miner import OURS, OwnCoin, build_block, outputs_of, p2wsh, spending
from helpers.node.wire import display, internal
from helpers.reference import sha256d
from utxoiq.chain.serialize import Tx, TxInput, tx_bytes

OTHER = p2wsh(b"\x52")


class Bench:
    """Blocks and transactions on the tip of a node, right but for what a test makes wrong."""

    def __init__(self, node: TestNode) -> None:
        assert isinstance(node, Driver)
        self.node = node
        header = node.rpc("getblockheader", node.rpc("getbestblockhash"))
        self.tip, self.height, self.median = internal(header["hash"]), header["height"], header["mediantime"]
        self.coins = node.wallet.mature(self.tip, self.height + 1)
        self.locked = next(coin for coin in self.coins if coin.script == OURS[0])
        self.young = next(coin for coin in node.wallet.coins(self.tip) if coin.height == 60)
        self.extra = 1000

    def block(self, *transactions: Tx, more: int = 0, fees: int = 0, at: int = 0, on: bytes = b"") -> bytes:
        self.extra += 1
        rows = [(tx_bytes(tx), bytes(tx.txid), bytes(tx.wtxid)) for tx in transactions]
        when = at or max(int(time.time()), self.median + 1)
        return build_block(on or self.tip, self.height + 1 + more, when, self.extra, rows, fees)[0]

    def paying(
        self, coin: OwnCoin, fee: int, *, script: bytes = OURS[1], witness: tuple[bytes, ...] | None = None
    ) -> Tx:
        return Tx((coin.spend(witness=witness),), ((coin.value - fee, script),))

    def submit(self, raw: bytes) -> str | None:
        answer: str | None = self.node.rpc("submitblock", raw.hex())
        return answer

    def send(self, tx: Tx, most: float = 0) -> str:
        with pytest.raises(RpcError) as refused:
            self.node.rpc("sendrawtransaction", tx_bytes(tx).hex(), most)
        return str(refused.value)


def with_header(raw: bytes, at: int, value: bytes, *, work: bool = True) -> bytes:
    header = raw[:at] + value + raw[at + len(value) : 80]
    return (with_work(header) if work else header) + raw[80:]


def without_work(raw: bytes) -> bytes:
    nonces = (struct.pack("<I", nonce) for nonce in range(1000))
    headers = (raw[:76] + nonce for nonce in nonces)
    return next(h for h in headers if int.from_bytes(sha256d(h), "little") > EASY_TARGET) + raw[80:]


BLOCKS: dict[str, tuple[str, Callable[[Bench], bytes]]] = {
    "pays itself too much": ("bad-cb-amount", lambda b: b.block(fees=1)),
    "another height": ("bad-cb-height", lambda b: b.block(more=1)),
    "on nothing": ("prev-blk-not-found", lambda b: b.block(on=b"\1" * 32)),
    "too old": ("time-too-old", lambda b: b.block(at=b.median)),
    "too new": ("time-too-new", lambda b: b.block(at=int(time.time()) + 8000)),
    "another root": ("bad-txnmrklroot", lambda b: with_header(b.block(), 36, bytes(32))),
    "another target": ("bad-diffbits", lambda b: with_header(b.block(), 72, struct.pack("<I", 0x207FFFFE))),
    "no work": ("high-hash", lambda b: without_work(b.block())),
    "a coin twice": (
        "bad-txns-inputs-missingorspent",
        lambda b: b.block(b.paying(b.coins[0], 1), b.paying(b.coins[0], 2)),
    ),
    "a child before its parent": (
        "bad-txns-inputs-missingorspent",
        lambda b: b.block(spending(outputs_of(b.paying(b.coins[0], 9)), [OURS[0]], 1), b.paying(b.coins[0], 9)),
    ),
    "a coin too young": ("bad-txns-premature-spend-of-coinbase", lambda b: b.block(b.paying(b.young, 1))),
    "more out than in": ("bad-txns-in-belowout", lambda b: b.block(b.paying(b.coins[0], -1))),
    "the wrong key": (
        "block-script-verify-flag-failed (Witness program hash mismatch)",
        lambda b: b.block(b.paying(b.locked, 1, witness=(b"\x52",))),
    ),
}


def test_blocks_against_a_rule(node: TestNode) -> None:
    """One after the other on the same node, whose chain stays as it is."""
    bench = Bench(node)
    assert {name: bench.submit(make(bench)) for name, (_, make) in BLOCKS.items()} == {
        name: reason for name, (reason, _) in BLOCKS.items()
    }
    assert node.rpc("getbestblockhash") == display(bench.tip)


def test_a_refused_block_is_remembered_and_so_is_its_child(node: TestNode) -> None:
    bench = Bench(node)
    bad = bench.block(fees=5)
    answers = [bench.submit(raw) for raw in (bad, bad, bench.block(on=sha256d(bad[:80]), more=1))]
    assert answers == ["bad-cb-amount", "duplicate-invalid", "bad-prevblk"]
    assert {tip["status"] for tip in node.rpc("getchaintips")} == {"active", "invalid"}


def test_a_branch_with_a_bad_block_does_not_win(node: TestNode) -> None:
    """It is found out when it would; the chain stays, and what was good of the branch is a fork."""
    bench = Bench(node)
    fork = internal(node.rpc("getblockhash", bench.height - 2))
    good = bench.block(on=fork, more=-2)
    bad = bench.block(on=sha256d(good[:80]), more=-1, fees=3)
    more = bench.block(on=sha256d(bad[:80]))
    last = bench.block(on=sha256d(more[:80]), more=1)
    assert [bench.submit(raw) for raw in (good, bad, more, last)] == ["inconclusive"] * 3 + ["bad-prevblk"]
    assert node.rpc("getbestblockhash") == display(bench.tip)
    status = {tip["hash"]: tip["status"] for tip in node.rpc("getchaintips")}
    assert status[display(sha256d(more[:80]))] == "invalid"


def test_headers_come_before_their_blocks(node: TestNode) -> None:
    """Blocks in any order behind their headers; all are connected by the first of them, which comes last."""
    bench, raws = Bench(node), []
    for more in range(3):
        raws.append(bench.block(on=sha256d(raws[-1][:80]) if raws else b"", more=more))
    for raw in raws:
        assert node.rpc("submitheader", raw[:80].hex()) is None
    info = node.rpc("getblockchaininfo")
    assert (info["blocks"], info["headers"]) == (bench.height, bench.height + 3)
    assert [bench.submit(raws[n]) for n in (2, 1, 0)] == ["inconclusive", "inconclusive", None]
    assert node.rpc("getblockcount") == bench.height + 3


def test_transactions_the_mempool_does_not_take(node: TestNode) -> None:
    bench = Bench(node)
    first, second = bench.coins[:2]
    parent = node.send(10)
    said = {
        "spends nothing": bench.send(Tx((TxInput(b"\7" * 32, 0),), ((5_000, OTHER),))),
        "too young": bench.send(bench.paying(bench.young, 1000, script=OTHER)),
        "too cheap": bench.send(bench.paying(first, 9, script=OTHER)),
        "too dear": bench.send(bench.paying(first, 1_000_000, script=OTHER), most=0.01),
        "more out than in": bench.send(bench.paying(first, -1, script=OTHER)),
        "too small": bench.send(Tx((TxInput(first.txid, first.index),), ((1, b"\x51"),))),
        "not yet": bench.send(Tx((second.spend(),), ((second.value - 1000, OTHER),), lock_time=bench.height + 2)),
        "no better": bench.send(bench.paying(node.sent[parent][1][0], 100, script=OTHER)),
        "in the chain": bench.send(mined_transaction(bench)),
    }
    assert said == {
        "spends nothing": "-25: bad-txns-inputs-missingorspent",
        "too young": "-26: bad-txns-premature-spend-of-coinbase, tried to spend coinbase at depth 51",
        "too cheap": "-26: min relay fee not met, 9 < 10",
        "too dear": "-25: Fee exceeds maximum configured by user (e.g. -maxtxfee, maxfeerate)",
        "more out than in": "-26: bad-txns-in-belowout, value in (50.00) < value out (50.00000001)",
        "too small": "-26: tx-size-small",
        "not yet": "-26: non-final",
        "no better": said["no better"],
        "in the chain": "-27: Transaction outputs already in utxo set",
    }
    assert "less fees than conflicting txs; 0.000001 < 0.0000128" in said["no better"]


def mined_transaction(bench: Bench) -> Tx:
    tx = bench.paying(bench.coins[3], 0)
    assert bench.submit(bench.block(tx)) is None
    return tx
