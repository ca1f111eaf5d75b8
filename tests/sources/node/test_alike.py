"""The double and a real node, told the same story: the same blocks, answers and messages come of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import groupby
from random import Random
from typing import Any

import httpx
import pytest

from helpers.node.interface import RpcError, TestNode
from helpers.node.subscriber import Message, Subscriber
from sources.node.conftest import MakeNode

DAY = 24 * 3600
DIFFERS = {"size_on_disk", "usage", "warnings"}
PAIRS = ("double", "bitcoind")

Answer = Callable[[TestNode], Any]


class Two:
    """Both nodes, asked and told the same."""

    def __init__(self, nodes: list[TestNode]) -> None:
        self.nodes = nodes
        self.client = httpx.Client()

    def same(self, what: Answer) -> Any:
        """The one answer of both; an error is an answer too."""
        first, second = (_answer(what, node) for node in self.nodes)
        assert first == second
        return first

    def rest(self, path: str) -> None:
        first, second = (self.client.get(node.url + path) for node in self.nodes)
        assert (first.status_code, first.content) == (second.status_code, second.content)


def _answer(what: Answer, node: TestNode) -> Any:
    try:
        return without_what_differs(what(node))
    except RpcError as error:
        return error.code, error.message
    except RuntimeError as error:
        return str(error)


def without_what_differs(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_what_differs(inner) for key, inner in value.items() if key not in DIFFERS}
    return [without_what_differs(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture
def two(make_node: MakeNode) -> Iterator[Two]:
    made = Two([make_node(kind, password="password") for kind in PAIRS])
    yield made
    made.client.close()


class Story:
    """Mining, sending, reorgs and invalidated blocks, drawn by lot."""

    def __init__(self, two: Two, seed: int) -> None:
        self.two, self.lot = two, Random(seed)
        self.clock = int(time.time()) - 10 * DAY
        self.blocks: list[str] = []
        self.sent: list[str] = []
        self.invalid: list[str] = []

    def begin(self) -> None:
        self._pass(0)
        self.blocks = self.two.same(lambda node: node.mine(125, time=self.clock))
        self.blocks += self.two.same(lambda node: node.mine(6, spends=8, time=self.clock))

    def step(self) -> None:
        self._pass(self.lot.randrange(1, 900))
        (chapter,) = self.lot.choices(
            [self._mine, self._send, self._branch, self._invalidate, self._reconsider], [3, 5, 2, 1, 1]
        )
        chapter()

    def compare(self) -> None:
        """Everything a source asks for; of one block, all there is."""
        two, some = self.two, self.lot.choice(self.blocks)
        calls: list[tuple[Any, ...]] = [
            ("getblockchaininfo",), ("getmempoolinfo",), ("getmempoolfeeratediagram",), ("getrawmempool", True),
            ("getblockheader", some), ("getblockstats", some), *(("getblock", some, level) for level in range(4)),
        ]  # fmt: skip
        for method, *params in calls:
            two.same(lambda node, method=method, params=params: node.rpc(method, *params))
        two.same(lambda node: node.rpc("getrawmempool", False, True)["mempool_sequence"])
        two.same(lambda node: sorted(tip["hash"] + tip["status"] for tip in node.rpc("getchaintips")))
        for path in ("block/{}.bin", "spenttxouts/{}.bin", "spenttxouts/{}.json", "headers/{}.bin?count=2000"):
            two.rest("/rest/" + path.format(some))

    def _pass(self, seconds: int) -> None:
        self.clock += seconds
        self.two.same(lambda node: node.rpc("setmocktime", self.clock))

    def _mine(self) -> None:
        count, spends, mempool = self.lot.randrange(1, 4), self.lot.randrange(8), self.lot.random() < 0.4
        self.blocks += self.two.same(lambda node: node.mine(count, spends=spends, time=self.clock, mempool=mempool))

    def _send(self) -> None:
        feerate = self.lot.choice([0.05, 0.1, 0.5, 1, 3, 10, 40, 90])
        how = self.lot.choice([{}, {"spend": 1}, {"replace": 1}]) if self.sent else {}
        chosen = {key: self.lot.choice(self.sent) for key in how}
        txid = self.two.same(lambda node: node.send(feerate, **chosen))
        self.sent += [txid] if isinstance(txid, str) and len(txid) == 64 else []

    def _branch(self) -> None:
        depth = self.lot.randrange(1, 8)
        length, spends = self.lot.randrange(1, depth + 3), self.lot.choice([0, 3])
        fork = self.two.same(lambda node: node.rpc("getblockhash", node.rpc("getblockcount") - depth))
        self.blocks += self.two.same(lambda node: node.side_branch(fork, length, spends=spends, time=self.clock))

    def _invalidate(self) -> None:
        depth = self.lot.randrange(6)
        self.invalid.append(self.two.same(lambda node: node.rpc("getblockhash", node.rpc("getblockcount") - depth)))
        self.two.same(lambda node: node.invalidate(self.invalid[-1]))

    def _reconsider(self) -> None:
        if self.invalid:
            block_hash = self.invalid.pop(self.lot.randrange(len(self.invalid)))
            self.two.same(lambda node: node.rpc("reconsiderblock", block_hash))


def told(messages: list[Message]) -> list[Any]:
    """Messages in order, but for those of removals that follow one another: Core's own order of them is arbitrary."""
    rows: list[Any] = []
    for removals, found in groupby(messages, lambda m: m.topic == "sequence" and m.body[32:33] == b"R"):
        run = list(found)
        if removals:
            rows.append(sorted(message.body[:32] for message in run))
            rows.append([message.number for message in run])
        else:
            rows += run
    return rows


@pytest.mark.node
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_story_has_the_same_end(two: Two, seed: int) -> None:
    """Forty steps; after each everything is compared, and at the end every message that was heard."""
    one, other = (Subscriber(node.zmq_address) for node in two.nodes)
    with one, other:
        one.connected()
        other.connected()
        story = Story(two, seed)
        story.begin()
        for _ in range(40):
            story.step()
            story.compare()
        first, second = one.rest(), other.rest()
    assert len(first) > 500
    assert told(first) == told(second)
