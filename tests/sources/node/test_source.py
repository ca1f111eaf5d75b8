"""Following a node: every step fits the one before, however the chain turns, and the end is the node's best chain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing, suppress
from random import Random
from threading import Event, Thread
from typing import Any

import pytest

from helpers.node.double import NodeDouble
from helpers.node.interface import TestNode
from helpers.relay import Relay, cut
from sources.node.chains import facts_of, hashes, running, source_of
from sources.node.conftest import KINDS, MATURE, MakeNode
from utxoiq.chain.hashes import Hash256
from utxoiq.chain.network import NETWORKS
from utxoiq.errors import DecodeError, NodeError, NodeRefused, NodeUnavailable, SourceError
from utxoiq.models import Connected, Cursor, Disconnected
from utxoiq.sources import steps as steps_module
from utxoiq.sources.node.source import NodeSource
from utxoiq.sources.steps import READ_AHEAD, UnknownTip

Step = Connected | Disconnected
UNKNOWN = "ab" * 32
MANY = 300
"""Questions that nobody needs to ask of a chain of 110 blocks."""


@pytest.fixture
def relay(node: TestNode) -> Iterator[Relay]:
    with Relay(node.url) as relay:
        yield relay


@pytest.fixture
def source(node: TestNode, relay: Relay) -> Iterator[NodeSource]:
    """Over the relay before the node."""
    with closing(source_of(node, relay)) as source:
        yield source


@pytest.fixture(scope="module", params=KINDS)
def still(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestNode]:
    """A running node with 110 blocks whose best chain no test changes."""
    with running(request.param, tmp_path_factory.mktemp("still") / "node", MATURE) as node:
        yield node


@pytest.fixture
def wire(still: TestNode) -> Iterator[Relay]:
    with Relay(still.url) as relay:
        yield relay


@pytest.fixture
def reader(still: TestNode, wire: Relay) -> Iterator[NodeSource]:
    """Over the wire to the still node."""
    with closing(source_of(still, wire)) as source:
        yield source


class Walk:
    """A chain as somebody knows it who takes each step: it must fit."""

    def __init__(self, start: list[str]) -> None:
        self.chain = list(start)
        """By height."""
        self.taken: list[str] = []

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.chain[-1], len(self.chain) - 1)

    def take(self, step: Step) -> None:
        if isinstance(step, Disconnected):
            assert (str(step.block_hash), step.height) == (self.chain[-1], len(self.chain) - 1)
            self.chain.pop()
            self.taken.append("-")
        else:
            assert step.block.height == len(self.chain)
            assert not self.chain or str(step.block.prev_hash) == self.chain[-1]
            self.chain.append(str(step.block.block_hash))
            self.taken.append("+")


async def walked(source: NodeSource, walk: Walk) -> str:
    """Follow to the tip; the steps as + and -."""
    walk.taken = []
    async for step in source.follow(walk.cursor if walk.chain else None):
        walk.take(step)
    return "".join(walk.taken)


def cursor_at(node: TestNode, height: int) -> Cursor:
    return Cursor(node.rpc("getblockhash", height), height)


# Upwards


async def test_from_the_beginning(node: TestNode, source: NodeSource) -> None:
    """Every block, linked, with the times before it: its median time is the node's."""
    node.mine(3, spends=4)
    walk = Walk([])
    async for step in source.follow(None):
        walk.take(step)
        assert isinstance(step, Connected)
        header = node.rpc("getblockheader", str(step.block.block_hash))
        assert facts_of(step.block)["mediantime"] == header["mediantime"]
        assert len(step.block.prior_times or ()) == min(10, len(walk.chain) - 1)
    assert walk.chain == hashes(node)


@pytest.mark.parametrize("behind", [0, 1, READ_AHEAD, 50])
async def test_from_a_cursor(still: TestNode, reader: NodeSource, behind: int) -> None:
    """What comes after it, with the times of the blocks before it, and nothing at the tip."""
    chain = hashes(still)
    walk = Walk(chain[: len(chain) - behind])
    found = [step async for step in reader.follow(walk.cursor)]
    for step in found:
        walk.take(step)
        assert isinstance(step, Connected)
        assert facts_of(step.block)["mediantime"] is not None
    assert (len(found), walk.chain) == (behind, chain)


@pytest.mark.parametrize("at_once", [1, 3, 512])
async def test_hashes_are_asked_in_rounds(
    still: TestNode, reader: NodeSource, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(steps_module, "AT_ONCE", at_once)
    walk = Walk(hashes(still)[:100])
    assert await walked(reader, walk) == "+" * 11
    assert walk.chain == hashes(still)


async def test_a_store_that_begins_later(node: TestNode, source: NodeSource) -> None:
    """`first` is where it begins; what is above the tip comes when it is mined."""
    source.first = MATURE - 2
    assert [step.block.height async for step in source.follow(None)] == [108, 109, 110]  # type: ignore[union-attr]
    source.first = MATURE + 1
    assert [step async for step in source.follow(None)] == []
    node.mine(2)
    assert [step.block.height async for step in source.follow(None)] == [111, 112]  # type: ignore[union-attr]


# Downwards and upwards


@pytest.mark.parametrize("depth", [1, 2, READ_AHEAD, READ_AHEAD + 1, 13])
async def test_a_reorg(node: TestNode, source: NodeSource, depth: int) -> None:
    """From a stale tip: each block taken off, tip downwards, then the branch that won."""
    walk = Walk(hashes(node))
    node.side_branch(walk.chain[MATURE - depth], depth + 2, spends=1)
    assert await walked(source, walk) == "-" * depth + "+" * (depth + 2)
    assert walk.chain == hashes(node)


async def test_side_branches_that_do_not_win(node: TestNode, source: NodeSource) -> None:
    """Less work, or as much but later: nothing happens."""
    walk = Walk(hashes(node))
    node.side_branch(walk.chain[MATURE - 3], 2)
    node.side_branch(walk.chain[MATURE - 4], 4)
    assert await walked(source, walk) == ""
    node.mine(1)
    assert await walked(source, walk) == "+"


async def test_a_block_declared_invalid(node: TestNode, source: NodeSource) -> None:
    """The node holds less work than we do and means it: down to where it stands, and up again when it relents."""
    walk = Walk(hashes(node))
    node.invalidate(walk.chain[MATURE - 5])
    assert await walked(source, walk) == "-" * 6
    assert walk.chain == hashes(node)
    node.mine(2)
    assert await walked(source, walk) == "++"
    node.rpc("reconsiderblock", invalid_tip(node))
    assert await walked(source, walk) == "--" + "+" * 6
    assert walk.chain == hashes(node)


def invalid_tip(node: TestNode) -> str:
    """The tip of the branch that is marked invalid."""
    return next(str(tip["hash"]) for tip in node.rpc("getchaintips") if tip["status"] == "invalid")


async def test_another_branch_after_a_block_was_declared_invalid(node: TestNode, source: NodeSource) -> None:
    """As much work as ours had, or less: the node says which is best."""
    walk = Walk(hashes(node))
    node.side_branch(walk.chain[MATURE - 4], 3)
    node.invalidate(walk.chain[MATURE - 1])
    assert await walked(source, walk) == "-" * 4 + "+" * 3
    assert walk.chain == hashes(node)


async def test_a_node_with_less_work_that_knows_our_tip(
    node: TestNode, kind: str, make_node: MakeNode, relay: Relay
) -> None:
    """It restarted, or builds its chain anew: it has our headers, not yet our blocks. Nothing is taken off."""
    chain, behind = hashes(node), make_node(kind)
    for name in chain[1:]:
        behind.rpc("submitheader", node.rpc("getblockheader", name, False))
    with closing(source_of(behind)) as source:
        for height in (0, 40, 100):
            while behind.rpc("getblockcount") < height:
                name = chain[behind.rpc("getblockcount") + 1]
                behind.rpc("submitblock", node.rpc("getblock", name, 0))
            walk = Walk(chain)
            with pytest.raises(NodeUnavailable, match=f"at height {height} and catching up, while the store is at 110"):
                await walked(source, walk)
            assert walk.taken == []
        for name in chain[101:]:
            behind.rpc("submitblock", node.rpc("getblock", name, 0))
        assert await walked(source, Walk(chain)) == ""


async def test_a_tip_the_node_never_heard_of(still: TestNode, reader: NodeSource) -> None:
    with pytest.raises(UnknownTip, match=UNKNOWN):
        await walked(reader, Walk([*hashes(still), UNKNOWN]))


# The chain turns while it is read


async def test_the_chain_turns_at_every_request_there_is(node: TestNode, relay: Relay, source: NodeSource) -> None:
    """Whatever was just asked, a reorg in that moment leads to the right end, by steps that fit."""
    for moment in range(1, 24):
        chain = hashes(node)
        walk, asked = Walk(chain[:-4]), 0

        def turn(_: str, chain: list[str] = chain, moment: int = moment) -> None:
            nonlocal asked
            asked += 1
            if asked == moment:
                node.side_branch(chain[-6], 7)

        relay.before = turn
        await walked(source, walk)
        relay.before = lambda _: None
        if asked < moment:
            break
        await walked(source, walk)
        assert walk.chain == hashes(node)
    assert moment > 10, "nothing was asked"


@pytest.mark.parametrize("depth", [1, READ_AHEAD + 3])
async def test_the_chain_turns_mid_way(node: TestNode, source: NodeSource, depth: int) -> None:
    """Between two steps, deeper than was read ahead and below where we began: what was read ahead is not used."""
    chain = hashes(node)
    for seen in (1, 2, 5):
        start = MATURE - 8
        walk = Walk(hashes(node)[:start])
        follow = source.follow(walk.cursor)
        for _ in range(seen):
            walk.take(await anext(follow))
        fork = start + seen - 1 - depth
        node.side_branch(walk.chain[fork], node.rpc("getblockcount") - fork + 1, spends=1)
        async for step in follow:
            walk.take(step)
        assert walk.chain == hashes(node)
    assert hashes(node) != chain


async def test_an_invalidation_mid_way(node: TestNode, source: NodeSource) -> None:
    """The chain becomes shorter than what was told to be read."""
    walk = Walk(hashes(node)[:90])
    follow = source.follow(walk.cursor)
    for _ in range(3):
        walk.take(await anext(follow))
    node.invalidate(walk.chain[-2])
    try:
        async for step in follow:
            walk.take(step)
    except NodeUnavailable:
        pass  # allowed to begin again
    await walked(source, walk)
    assert walk.chain == hashes(node)


async def test_a_chain_that_does_not_come_to_rest(kind: str, make_node: MakeNode) -> None:
    """Reorgs, invalidations and new blocks as fast as they can be made, while it is followed from the beginning."""
    node, random, enough = make_node(kind, blocks=MATURE), Random(7), Event()

    def stir() -> None:
        for _ in range(25):
            tip = node.rpc("getblockcount")
            depth = random.randrange(1, 9)
            if random.random() < 0.2:
                node.invalidate(node.rpc("getblockhash", tip - depth))
                node.mine(depth + 2)
            elif random.random() < 0.7:
                node.side_branch(node.rpc("getblockhash", tip - depth), depth + 1)
            else:
                node.mine(2)
        enough.set()

    walk, stirring = Walk([]), Thread(target=stir)
    with closing(source_of(node)) as source:
        stirring.start()
        try:
            while not enough.is_set():
                try:
                    async for step in source.follow(walk.cursor if walk.chain else None):
                        walk.take(step)
                except NodeUnavailable:  # less work for a moment, after an invalidation
                    await asyncio.sleep(0)
        finally:
            await asyncio.to_thread(stirring.join)
        await walked(source, walk)
    assert walk.chain == hashes(node)


# What is read ahead


async def test_what_was_read_ahead_is_let_go(still: TestNode, reader: NodeSource) -> None:
    """Nobody waits for blocks of a follow that was closed, ran on an error, or turned."""
    follow = reader.follow(cursor_at(still, 50))
    await anext(follow)
    await follow.aclose()  # type: ignore[attr-defined]
    async with asyncio.timeout(20):
        while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("which", [1, 2, 3, 6])
async def test_a_block_that_can_not_be_read(still: TestNode, wire: Relay, reader: NodeSource, which: int) -> None:
    """The blocks before it are given, then the error; following again goes on from there."""
    chain = hashes(still)
    walk = Walk(chain[:100])
    wire.whole[f"/rest/block/{chain[99 + which]}"] = cut
    with pytest.raises(NodeUnavailable, match="hung up"):
        await walked(reader, walk)
    assert walk.chain == chain[: 99 + which]
    wire.straight()
    await walked(reader, walk)
    assert walk.chain == chain


async def test_a_block_that_is_not_what_it_should_be(still: TestNode, wire: Relay, reader: NodeSource) -> None:
    chain = hashes(still)
    walk = Walk(chain[:100])
    wire.whole[f"/rest/block/{chain[103]}"] = lambda answer: type(answer)(200, b"\0" * 200)
    with pytest.raises(DecodeError):
        await walked(reader, walk)
    assert walk.chain == chain[:103]


# A node that makes no sense


def lies(relay: Relay, method: str, lie: Any, most: int) -> None:
    """Answer a method with a lie, so many times: whoever believes it for ever must come to an end all the same."""
    left = most

    def change(params: list[Any], result: Any) -> Any:
        nonlocal left
        left -= 1
        return lie(params, result) if left >= 0 else result

    relay.results[method] = change


@pytest.mark.parametrize("turn", ["itself", "each other"])
async def test_headers_in_a_circle(node: TestNode, relay: Relay, source: NodeSource, turn: str) -> None:
    """A block that is its own ancestor: an error, not an endless walk."""
    chain = hashes(node)

    def circle(params: list[Any], result: dict[str, Any]) -> dict[str, Any]:
        other = chain[-1] if params[0] != chain[-1] else chain[-2]
        return {**result, "confirmations": -1, "previousblockhash": params[0] if turn == "itself" else other}

    lies(relay, "getblockheader", circle, MANY)
    node.mine(1)
    with suppress(NodeError):
        async for _ in source.follow(cursor_at(node, MATURE)):
            pass
    assert relay.asked.count("getblockheader") < MANY, "it went on until the node made sense again"


async def test_a_branch_in_a_circle(still: TestNode, wire: Relay, reader: NodeSource) -> None:
    """The same by the other ways down."""
    tip = Hash256.from_display(hashes(still)[-1])
    lies(wire, "getblockheader", lambda params, result: {**result, "previousblockhash": params[0]}, MANY)
    with pytest.raises(NodeError):
        reader.branch(tip, 1000)
    assert wire.asked.count("getblockheader") < MANY, "it went on until the node made sense again"


async def test_hashes_that_do_not_fit(still: TestNode, wire: Relay, reader: NodeSource) -> None:
    """A node, or two behind one address, whose best chain doesn't link: it is not asked without a pause for ever."""
    chain = hashes(still)
    other = [*chain[:101], *still.side_branch(chain[100], MATURE - 100)]
    lies(wire, "getblockhash", lambda params, _: other[params[0]], MANY)
    with suppress(NodeError):
        await walked(reader, Walk(chain[:105]))
    assert wire.asked.count("getblockhash") < MANY, "it went on until the node made sense again"


# Which node


def test_the_network(still: TestNode, reader: NodeSource) -> None:
    assert reader.network is NETWORKS["regtest"]
    assert reader.where == reader.where.split("@")[-1]


@pytest.mark.parametrize("chain", ["main", "test", "testnet4", "signet", "liquidv1", ""])
def test_a_node_of_another_network(still: TestNode, wire: Relay, reader: NodeSource, chain: str) -> None:
    """It says so, but its genesis is another; or it is none we know."""
    wire.results["getblockchaininfo"] = lambda _, info: {**info, "chain": chain}
    with pytest.raises(NodeRefused, match="none we know" if chain in ("liquidv1", "") else "is not the genesis of"):
        _ = reader.network
    wire.straight()
    assert reader.network is NETWORKS["regtest"]


def test_a_network_that_is_wanted(still: TestNode, wire: Relay) -> None:
    with (
        closing(source_of(still, wire, network=NETWORKS["main"])) as reader,
        pytest.raises(NodeRefused, match="is a node of regtest, not of main"),
    ):
        _ = reader.network
    with closing(source_of(still, wire, network=NETWORKS["regtest"])) as reader:
        assert reader.network is NETWORKS["regtest"]


def test_a_double_that_calls_itself_another(double: NodeDouble) -> None:
    """The double's own switch."""
    double.chain = "main"
    with closing(source_of(double)) as source, pytest.raises(NodeRefused, match="is not the genesis of main"):
        _ = source.network


def test_another_node_at_the_address(still: TestNode, wire: Relay, reader: NodeSource) -> None:
    """Asked once; again after `forget`."""
    assert reader.network is NETWORKS["regtest"]
    wire.results["getblockchaininfo"] = lambda _, info: {**info, "chain": "main"}
    assert reader.network is NETWORKS["regtest"]
    reader.forget()
    with pytest.raises(NodeRefused):
        _ = reader.network


# As any other source


def test_tip_length_and_blocks(node: TestNode, source: NodeSource) -> None:
    node.mine(2, spends=3)
    chain = hashes(node)
    assert source.tip() == Cursor(chain[-1], len(chain) - 1)
    assert len(source) == len(chain)
    assert [str(block.block_hash) for block in source.blocks()] == chain
    assert source.best_hash() == chain[-1]
    assert source.count_from(None) == len(chain)
    assert source.count_from(Cursor(chain[100], 100)) == len(chain) - 101
    source.first = 100
    assert [block.height for block in source.blocks()] == list(range(100, len(chain)))
    assert len(source) == len(chain) - 100


def test_a_block_by_height(still: TestNode, reader: NodeSource) -> None:
    chain = hashes(still)
    for height in (0, 1, 57, MATURE):
        assert str(reader.block_at(height).block_hash) == chain[height]
    for height in (-1, MATURE + 1, 10**9):
        with pytest.raises(SourceError, match=f"no block at height {height}"):
            reader.block_at(height)


def test_a_branch(node: TestNode, source: NodeSource) -> None:
    """Oldest first, as many as there are; on a stale branch too."""
    chain = hashes(node)
    stale = node.side_branch(chain[100], 3)
    assert [str(b.block_hash) for b in source.branch(Hash256.from_display(stale[-1]), 5)] == [*chain[99:101], *stale]
    assert [b.height for b in source.branch(Hash256.from_display(chain[2]), 99)] == [0, 1, 2]
    times = [b.prior_times for b in source.branch(Hash256.from_display(chain[60]), 20)]
    assert [len(prior or ()) for prior in times] == [10] * 20
    with pytest.raises(SourceError, match=f"no block {UNKNOWN}"):
        source.branch(Hash256.from_display(UNKNOWN), 1)


def test_work_and_places(node: TestNode, source: NodeSource) -> None:
    """As the node's headers have it: hash, parent, height, time, work, and whether it is on the best chain."""
    chain = hashes(node)
    (stale,) = node.side_branch(chain[100], 1)
    for name, active in ((chain[0], True), (chain[101], True), (stale, False)):
        told, place = node.rpc("getblockheader", name), source.place(Hash256.from_display(name))
        assert place
        assert (str(place.block_hash), place.height, place.time, place.work, place.on_best_chain) == (
            name, told["height"], told["time"], int(told["chainwork"], 16), active,
        )  # fmt: skip
        assert str(place.prev_hash) == told.get("previousblockhash", "0" * 64)
    assert source.place(Hash256.from_display(UNKNOWN)) is None
    tip = source.chain_tip()
    assert (str(tip.block_hash), tip.height, tip.work) == (chain[-1], MATURE, 2 * (MATURE + 1))


def test_what_it_rejects(node: TestNode, source: NodeSource) -> None:
    """Invalid blocks and those on top of them; not stale ones."""
    chain = hashes(node)

    def rejected(name: str) -> bool:
        place = source.place(Hash256.from_display(name))
        assert place
        return source.rejects(place)

    (stale,) = node.side_branch(chain[100], 1)
    assert not any(map(rejected, (stale, chain[100], chain[-1])))
    node.invalidate(chain[105])
    assert all(map(rejected, chain[105:]))
    assert not rejected(stale)
