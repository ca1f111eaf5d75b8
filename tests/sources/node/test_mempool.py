"""Snapshots of a node's mempool: what the next block would be, by an independent count, on both kinds of node."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.node.driver import Driver
from helpers.node.interface import TestNode
from helpers.node.miner import OURS, OwnCoin, outputs_of
from helpers.relay import Refusal, Relay
from sources.node.chains import mature, put, source_of
from sources.node.conftest import MATURE
from utxoiq.chain.serialize import Tx, tx_bytes
from utxoiq.errors import NodeUnavailable, RpcError
from utxoiq.models import MempoolSnapshot
from utxoiq.sources.node import mempool as mempool_module
from utxoiq.sources.node.mempool import Chunk, chunks_of_listing, percentiles, project
from utxoiq.sources.node.source import NodeSource
from utxoiq.units import COIN

ROOM = 4_000_000 - 8_000
"""Weight a miner has for transactions."""
PERCENTS = (5, 10, 25, 50, 75, 90)
NO_METHOD = Refusal(-32601, "Method not found")
DIAGRAM = "getmempoolfeeratediagram"


@pytest.fixture
def relay(node: TestNode) -> Iterator[Relay]:
    with Relay(node.url) as relay:
        yield relay


@pytest.fixture
def source(node: TestNode, relay: Relay) -> Iterator[NodeSource]:
    """Over the relay before the node."""
    with closing(source_of(node, relay)) as source:
        yield source


# An independent, slow reckoning


def rate(weight: int, fee: int) -> int:
    """Sat/kvB, cut."""
    return math.floor(Fraction(fee * 4000, weight))


def reckoned(chunks: list[tuple[int, int]]) -> dict[str, Any]:
    """What (weight, fee) in the order of mining give: blocks filled one after the other, unit by unit of weight."""
    blocks: list[list[tuple[int, int]]] = [[]]
    for chunk in chunks:
        if blocks[-1] and sum(weight for weight, _ in blocks[-1]) + chunk[0] > ROOM:
            blocks.append([])
        blocks[-1].append(chunk)
    first, full = blocks[0], blocks[:-1]
    return {
        "weight": sum(weight for weight, _ in first),
        "fees": sum(fee for _, fee in first),
        "percentiles": [by_weight(first, percent) for percent in PERCENTS] if first else [],
        "backlog": sum(weight for weight, _ in chunks),
        "borders": [rate(*block[-1]) for block in full][:8],
    }


def by_weight(chunks: list[tuple[int, int]], percent: int) -> int:
    """The rate below which, counted from the lowest, lies that share of the weight: the first to reach it."""
    ordered = list(reversed(chunks))
    total = sum(weight for weight, _ in ordered)
    for n in range(1, len(ordered) + 1):
        if Fraction(sum(weight for weight, _ in ordered[:n]), total) >= Fraction(percent, 100):
            return rate(*ordered[n - 1])
    raise AssertionError("some chunk reaches all of it")


def told(snapshot: MempoolSnapshot | None) -> dict[str, Any]:
    """The same of a snapshot."""
    assert snapshot
    assert snapshot.next_block
    return {
        "weight": snapshot.next_block.weight,
        "fees": snapshot.next_block.fees,
        "percentiles": snapshot.next_block.feerate_percentiles_kvb,
        "backlog": snapshot.backlog_weight,
        "borders": snapshot.border_feerates_kvb,
    }


def chunk_lists() -> st.SearchStrategy[list[Chunk]]:
    """Chunks as a mempool has them, best first: of few and of many blocks, of equal rates, of nothing."""
    weights = st.one_of(st.integers(240, 404_000), st.sampled_from([400, 404_000, 399_200, ROOM // 10]))
    chunk = st.builds(lambda weight, per: Chunk(weight, weight * per // 4000), weights, st.integers(0, 500_000))
    return st.lists(chunk, max_size=120).map(lambda chunks: sorted(chunks, key=lambda c: Fraction(-c.fee, c.weight)))


@given(chunk_lists())
def test_the_projection_is_that_of_a_slow_count(chunks: list[Chunk]) -> None:
    found = project(chunks)
    expected = reckoned([tuple(chunk) for chunk in chunks])  # type: ignore[misc]
    assert (found["next_block"].weight, found["next_block"].fees) == (expected["weight"], expected["fees"])
    assert found["next_block"].feerate_percentiles_kvb == expected["percentiles"]
    assert (found["backlog_weight"], found["border_feerates_kvb"]) == (expected["backlog"], expected["borders"])
    assert found["next_block"].feerate_percentiles_kvb == sorted(found["next_block"].feerate_percentiles_kvb)
    assert found["border_feerates_kvb"] == sorted(found["border_feerates_kvb"], reverse=True)
    assert not list(of_floats(asdict(found["next_block"])))


def of_floats(values: dict[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, float) or (isinstance(value, list) and any(isinstance(one, float) for one in value)):
            yield name


def test_projections_at_the_edges() -> None:
    """Exactly full is no border yet; one unit more is; a chunk that is larger than a block has one of its own."""
    assert project([])["next_block"] == mempool_module.NextBlock(0, 0, [])
    exact = [Chunk(ROOM // 2, 2 * COIN), Chunk(ROOM // 2, COIN)]
    assert project(exact)["border_feerates_kvb"] == []
    assert project([*exact, Chunk(1, 0)])["border_feerates_kvb"] == [rate(ROOM // 2, COIN)]
    large = project([Chunk(2 * ROOM, COIN), Chunk(400, 1)])
    assert large["next_block"].weight == 2 * ROOM
    many = project([Chunk(ROOM, COIN - n) for n in range(20)])
    assert many["border_feerates_kvb"] == [rate(ROOM, COIN - n) for n in range(8)]
    assert many["backlog_weight"] == 20 * ROOM


def test_percentiles_are_cores() -> None:
    """The cases of Core's own test of CalculatePercentilesByWeight, and shares that floats get wrong."""
    assert percentiles([]) == []
    assert percentiles([Chunk(1, 1)]) == [4000] * 6
    hundred = [Chunk(1, fee) for fee in range(100, 0, -1)]
    assert percentiles(hundred) == [4000 * n for n in PERCENTS]
    assert percentiles([Chunk(10, 70), Chunk(90, 9)]) == [400] * 6
    assert percentiles([Chunk(11, 77), Chunk(89, 0)])[-1] == 28_000


# Real transactions


def big(node: TestNode, coin: OwnCoin, feerate: int, size: int = 90_000) -> str:
    """Send a transaction of so many bytes and sat/vB."""
    draft = Tx((coin.spend(),), ((coin.value, OURS[0]), (0, b"\x6a\x4e" + size.to_bytes(4, "little") + bytes(size))))
    fee = feerate * (len(tx_bytes(draft, witness=False)) + 30)
    tx = Tx(draft.inputs, ((coin.value - fee, OURS[0]), draft.outputs[1]))
    assert isinstance(node, Driver)
    txid = str(node.rpc("sendrawtransaction", tx_bytes(tx).hex(), 0, 1))
    node.sent[txid] = (tx, [coin])
    return txid


def waiting(node: TestNode) -> None:
    """Transactions alone, in chains, and children that pay for their parents."""
    for feerate in (1, 5, 0.37, 12.5):
        node.send(feerate)
    node.send(80, spend=node.send(0.5))
    node.send(2, spend=node.send(40))
    node.send(30, spend=node.send(10, spend=node.send(20)))
    node.send(55, spend=node.send(6, spend=node.send(3)))


def chunks_by_cluster(node: TestNode) -> list[tuple[int, int]]:
    """All chunks as `getmempoolcluster` tells them, best first."""
    found = set()
    for txid in node.rpc("getrawmempool"):
        for chunk in node.rpc("getmempoolcluster", txid)["chunks"]:
            found.add((tuple(chunk["txs"]), chunk["chunkweight"], int(chunk["chunkfee"] * COIN)))
    return sorted(((weight, fee) for _, weight, fee in found), key=lambda chunk: Fraction(-chunk[1], chunk[0]))


def test_an_empty_mempool(node: TestNode, source: NodeSource) -> None:
    """Nothing waits: known, and zero; no percentiles of nothing."""
    snapshot = source.snapshot()
    assert snapshot
    assert (snapshot.transactions, snapshot.vsize, snapshot.backlog_weight, snapshot.blocks_to_clear) == (0, 0, 0, 0)
    assert told(snapshot) == {"weight": 0, "fees": 0, "percentiles": [], "backlog": 0, "borders": []}
    assert snapshot.basis == "feerate diagram"
    assert snapshot.tip == node.rpc("getbestblockhash")


def test_what_waits(node: TestNode, source: NodeSource) -> None:
    """Chunks as the node's clusters have them; what is in it as `getmempoolinfo` says, in sat/kvB."""
    waiting(node)
    snapshot = source.snapshot()
    assert told(snapshot) == reckoned(chunks_by_cluster(node))
    assert snapshot
    info = node.rpc("getmempoolinfo")
    assert (snapshot.transactions, snapshot.vsize) == (info["size"], info["bytes"]) == (14, info["bytes"])
    assert snapshot.minfee_kvb == int(info["mempoolminfee"] * COIN)
    assert snapshot.relayfee_kvb == int(info["minrelaytxfee"] * COIN) == 100
    assert snapshot.next_block
    entries = node.rpc("getrawmempool", True)
    assert snapshot.next_block.fees == sum(int(entry["fees"]["base"] * COIN) for entry in entries.values())
    assert snapshot.backlog_weight == sum(entry["weight"] for entry in entries.values())


def test_children_pay_for_parents(node: TestNode, source: NodeSource) -> None:
    """A parent of 0.5 sat/vB with a child of 80 is at the rate of both; a child cheaper than its parent at its own."""
    parent = node.send(0.5)
    child = node.send(80, spend=parent)
    entries = node.rpc("getrawmempool", True)
    both = rate(
        sum(entries[txid]["weight"] for txid in (parent, child)),
        sum(int(entries[txid]["fees"]["base"] * COIN) for txid in (parent, child)),
    )
    assert told(source.snapshot())["percentiles"] == [both] * 6
    assert 30_000 < both < 60_000


def test_a_backlog_of_blocks(node: TestNode, source: NodeSource) -> None:
    """More than fits: the border is the rate of the last that does."""
    for n, coin in enumerate(spread(node, mature(node)[0], 25)):
        big(node, coin, 5 + (n * 7) % 25)
    snapshot = source.snapshot()
    expected = reckoned(chunks_by_cluster(node))
    assert told(snapshot) == expected
    assert len(expected["borders"]) == 2
    assert snapshot
    assert snapshot.blocks_to_clear
    assert 2 < snapshot.blocks_to_clear < 3


def spread(node: TestNode, coin: OwnCoin, count: int) -> list[OwnCoin]:
    """One coin as many, in a block of its own."""
    tx = Tx((coin.spend(),), tuple((coin.value // count - 1000, OURS[0]) for _ in range(count)))
    put(node, (tx, [coin]))
    return outputs_of(tx)


def test_what_is_mined_is_gone(node: TestNode, source: NodeSource) -> None:
    waiting(node)
    before = source.snapshot()
    (name,) = node.mine(1, mempool=True)
    after = source.snapshot()
    assert before
    assert after
    assert (before.transactions, after.transactions, after.tip) == (14, 0, name)
    stats = node.rpc("getblockstats", name)
    assert before.next_block
    assert (before.next_block.fees, before.next_block.weight) == (stats["totalfee"], stats["total_weight"])


# Nodes without a diagram


def test_the_listing_says_what_the_diagram_says(node: TestNode, relay: Relay, source: NodeSource) -> None:
    """For transactions alone, and parents paid for by a child. The node is not asked for the diagram again."""
    for feerate in (1, 5, 0.37, 12.5, 30):
        node.send(feerate)
    node.send(80, spend=node.send(0.5))
    node.send(2, spend=node.send(40))
    by_diagram = source.snapshot()
    relay.results[DIAGRAM] = lambda *_: NO_METHOD
    by_listing = source.snapshot()
    assert told(by_listing) == told(by_diagram)
    assert by_diagram
    assert by_listing
    assert (by_diagram.basis, by_listing.basis) == ("feerate diagram", "verbose listing")
    relay.straight()
    source.snapshot()
    assert DIAGRAM not in relay.asked
    source.forget()
    again = source.snapshot()
    assert again
    assert again.basis == "feerate diagram"


def test_the_listing_of_longer_chains_is_close(node: TestNode, relay: Relay, source: NodeSource) -> None:
    """The same transactions and fees; the rates at most a little apart."""
    waiting(node)
    by_diagram = told(source.snapshot())
    relay.results[DIAGRAM] = lambda *_: NO_METHOD
    by_listing = told(source.snapshot())
    for name in ("weight", "fees", "backlog", "borders"):
        assert by_listing[name] == by_diagram[name]
    for mine, theirs in zip(by_listing["percentiles"], by_diagram["percentiles"], strict=True):
        assert abs(mine - theirs) <= theirs / 2


def test_a_listing_too_long_to_ask_for(
    node: TestNode, relay: Relay, source: NodeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known stays known, what isn't is None, not zero."""
    monkeypatch.setattr(mempool_module, "MOST_LISTED", 2)
    for feerate in (1, 5, 9):
        node.send(feerate)
    relay.results[DIAGRAM] = lambda *_: NO_METHOD
    snapshot = source.snapshot()
    assert snapshot
    assert (snapshot.basis, snapshot.next_block, snapshot.backlog_weight, snapshot.border_feerates_kvb) == (None,) * 4
    assert (snapshot.transactions, snapshot.blocks_to_clear) == (3, None)
    assert "getrawmempool" not in relay.asked


def test_other_errors_of_the_diagram_are_errors(node: TestNode, relay: Relay, source: NodeSource) -> None:
    """Only an unknown method means that there is none."""
    relay.results[DIAGRAM] = lambda *_: Refusal(-1, "something else")
    with pytest.raises(RpcError):
        source.snapshot()
    relay.results[DIAGRAM] = lambda *_: Refusal(-28, "Loading...")
    with pytest.raises(NodeUnavailable):
        source.snapshot()
    relay.straight()
    snapshot = source.snapshot()
    assert snapshot
    assert snapshot.basis == "feerate diagram"


def listed(size: int, fee: int, ancestors: tuple[int, int], *depends: str) -> dict[str, Any]:
    """An entry of `getrawmempool true`: vbytes, sat, and the same of it with its ancestors."""
    money = {"modified": Decimal(fee).scaleb(-8), "ancestor": Decimal(ancestors[1]).scaleb(-8)}
    return {"weight": 4 * size, "ancestorsize": ancestors[0], "fees": money, "depends": list(depends)}


@given(st.data())
def test_listings_lose_nothing(data: st.DataObject) -> None:
    """Of any forest of parents and children: each transaction is in one chunk, and no fee is lost or made up."""
    count = data.draw(st.integers(0, 25))
    parents = {n: data.draw(st.sets(st.integers(0, n - 1), max_size=2)) if n else set() for n in range(count)}
    sizes = [data.draw(st.integers(100, 2000)) for _ in range(count)]
    fees = [data.draw(st.integers(10, 100_000)) for _ in range(count)]
    listing = {}
    for n in range(count):
        family, todo = {n}, [n]
        while todo:
            new = parents[todo.pop()] - family
            family |= new
            todo += new
        total = (sum(sizes[k] for k in family), sum(fees[k] for k in family))
        listing[f"{n:064x}"] = listed(sizes[n], fees[n], total, *(f"{k:064x}" for k in sorted(parents[n])))
    chunks = chunks_of_listing(listing)
    assert sum(chunk.weight for chunk in chunks) == 4 * sum(sizes)
    assert sum(chunk.fee for chunk in chunks) == sum(fees)
    assert [chunk.feerate_kvb for chunk in chunks] == sorted((c.feerate_kvb for c in chunks), reverse=True)
    if not any(parents.values()):
        assert sorted(tuple(chunk) for chunk in chunks) == sorted(zip([4 * s for s in sizes], fees, strict=True))


def test_a_listing_that_changes_under_us() -> None:
    """Parents that were mined meanwhile are not in it any more."""
    orphan = {"aa": listed(200, 500, (200, 500), "bb")}
    assert chunks_of_listing(orphan) == [Chunk(800, 500)]


# Blocks that come meanwhile


def test_a_block_that_comes_meanwhile(node: TestNode, relay: Relay, source: NodeSource) -> None:
    """The snapshot is taken again: it is of one moment."""
    node.send(5)
    left = 2

    def mine(name: str) -> None:
        nonlocal left
        if name == DIAGRAM and left:
            left -= 1
            node.mine(1, mempool=True)
            node.send(7)

    relay.before = mine
    snapshot = source.snapshot()
    assert snapshot
    assert left == 0
    assert (snapshot.tip, snapshot.transactions) == (node.rpc("getbestblockhash"), 1)
    assert told(snapshot) == reckoned(chunks_by_cluster(node))


def test_blocks_that_come_faster_than_it_can_be_read(node: TestNode, relay: Relay, source: NodeSource) -> None:
    """None: no snapshot is better than one of two moments."""
    relay.before = lambda name: node.mine(1) if name == DIAGRAM else None  # type: ignore[func-returns-value]
    assert source.snapshot() is None
    assert relay.asked.count(DIAGRAM) <= 5
    relay.straight()
    assert source.snapshot()


def test_the_tip_it_was_taken_upon(node: TestNode, source: NodeSource) -> None:
    """Also after a reorg."""
    node.side_branch(node.rpc("getblockhash", MATURE - 2), 3)
    snapshot = source.snapshot()
    assert snapshot
    assert snapshot.tip == node.rpc("getbestblockhash")


def test_a_snapshot_comes_back_from_json(node: TestNode, source: NodeSource) -> None:
    """With the same id, which another mempool doesn't have."""
    empty = source.snapshot()
    waiting(node)
    snapshot = source.snapshot()
    assert empty
    assert snapshot
    assert MempoolSnapshot.from_dict(asdict(snapshot)) == snapshot
    assert MempoolSnapshot.from_dict(asdict(snapshot)).snapshot_id == snapshot.snapshot_id != empty.snapshot_id
