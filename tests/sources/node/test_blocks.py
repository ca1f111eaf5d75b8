"""Blocks of a node with what they spend: the same facts by whatever way they are read, and Core's own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from helpers.node.bitcoind import ABSENT, BitcoindNode, bitcoind_path
from helpers.node.double import NodeDouble
from helpers.node.interface import TestNode
from helpers.relay import Answer, Refusal, Relay, Verbatim, body, cut
from sources.node.chains import AGES, LARGE, REGTEST, blocks_folder, enrich, facts_of, hashes, running, source_of
from sources.node.conftest import KINDS, MATURE, MakeNode
from utxoiq.chain.hashes import Hash256
from utxoiq.errors import DecodeError, NodeError, NodeRefused, NodeUnavailable, UtxoiqError
from utxoiq.models import LARGE_COIN, MOST_LARGE_COINS, BlockData
from utxoiq.sources.blockdir import BlockDirectory
from utxoiq.sources.node.blocks import Offer
from utxoiq.sources.node.source import NodeSource

FIELDS = 31
"""What `getblockstats` answers with."""
SPENT = "/rest/spenttxouts/"
BLOCK = "/rest/block/"
REST = (BLOCK, SPENT)
NO_METHOD = Refusal(-32601, "Method not found")


@dataclass(frozen=True)
class Rich:
    """A node with a chain that has everything, and what its own files say of it. Tests leave it as it is."""

    node: TestNode
    names: list[str]
    """Of the best chain, by height."""
    blocks: list[BlockData]
    facts: list[dict[str, Any]]

    @property
    def spending(self) -> int:
        """Height of a block that spends large and small coins."""
        return next(n for n in range(len(self.names) - 1, 0, -1) if self.facts[n]["large_coins"])

    @property
    def large(self) -> list[int]:
        """Heights of all blocks that spend large coins."""
        return [n for n, facts in enumerate(self.facts) if facts["large_coins"]]


@pytest.fixture(scope="module", params=KINDS)
def rich(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rich]:
    with running(request.param, tmp_path_factory.mktemp("rich") / "node", MATURE) as node:
        enrich(node)
        blocks = list(BlockDirectory(blocks_folder(node)).blocks())
        yield Rich(node, hashes(node), blocks, list(map(facts_of, blocks)))


@pytest.fixture(scope="module")
def wired(rich: Rich) -> Iterator[tuple[Relay, NodeSource, NodeSource]]:
    """A relay before the rich node, and sources over it: to make one takes longer than most tests."""
    with Relay(rich.node.url) as relay:
        by_rest, by_rpc = source_of(rich.node, relay), source_of(rich.node, relay, rest=False)
        with closing(by_rest), closing(by_rpc):
            yield relay, by_rest, by_rpc


@pytest.fixture
def relay(wired: tuple[Relay, NodeSource, NodeSource]) -> Relay:
    """Before the rich node."""
    wired[0].straight()
    return wired[0]


@pytest.fixture
def source(relay: Relay, wired: tuple[Relay, NodeSource, NodeSource]) -> NodeSource:
    """Over the relay, by REST."""
    wired[1].forget()
    return wired[1]


@pytest.fixture
def by_rpc(relay: Relay, wired: tuple[Relay, NodeSource, NodeSource]) -> NodeSource:
    """Over the relay, by RPC alone."""
    wired[2].forget()
    return wired[2]


def all_facts(source: NodeSource) -> list[dict[str, Any]]:
    return [facts_of(block) for block in source.blocks()]


def unknown_by_rest(facts: dict[str, Any]) -> tuple[str, ...]:
    """What REST leaves unknown of a block, unless all coins it spends are large."""
    return AGES if facts["coin_blocks_destroyed"] is None else AGES[1:2]


def differing(one: dict[str, Any], other: dict[str, Any], leave: tuple[str, ...] = ()) -> dict[str, tuple[Any, Any]]:
    return {k: (one[k], other[k]) for k in one if k not in leave and one[k] != other[k]}


# The same facts by every way


def test_facts_are_those_of_getblockstats(rich: Rich, source: NodeSource) -> None:
    """Every field of every block, with its type; the chain makes nearly every field take many values."""
    compared: dict[str, set[str]] = {}
    for height, facts in enumerate(all_facts(source)):
        stats = rich.node.rpc("getblockstats", height)
        assert len(stats) == FIELDS
        for name, value in stats.items():
            assert facts[name] == value, (height, name)
            assert type(facts[name]) is type(value), (height, name)
            compared.setdefault(name, set()).add(str(value))
    assert len(compared.pop("blockhash")) == len(rich.names) == len(source)
    assert compared.pop("subsidy") == {"5000000000", "2500000000"}
    assert min(len(values) for values in compared.values()) > 5


def test_facts_are_those_of_the_nodes_own_files(rich: Rich, source: NodeSource) -> None:
    """All but coin ages, which REST does not give, and those of large coins it does."""
    for mine, theirs, other in zip(source.blocks(), rich.blocks, rich.facts, strict=True):
        one = facts_of(mine)
        assert not differing(one, other, unknown_by_rest(one)), one["height"]
        assert (mine.prior_times, mine.height, mine.block.raw.tobytes()) == (
            theirs.prior_times, theirs.height, theirs.block.raw.tobytes(),
        )  # fmt: skip
        assert mine.source == f"node {source.where}"


WAYS: dict[str, tuple[tuple[str, ...], bool, Offer]] = {
    "REST": ((), True, Offer.BLOCKS_AND_SPENT),
    "REST off": (REST, True, Offer.NOTHING),
    "REST not wanted": ((), False, Offer.NOTHING),
    "Core before 30": ((SPENT,), True, Offer.BLOCKS),
}


@pytest.mark.parametrize("way", WAYS)
def test_facts_are_the_same_by_every_way(rich: Rich, relay: Relay, way: str) -> None:
    """By `getblock` 3 also the ages of all coins; and REST is not asked again for what it does not have."""
    missing, wanted, offer = WAYS[way]
    relay.without(*missing)
    with closing(source_of(rich.node, relay, rest=wanted)) as source:
        mine = all_facts(source)
        assert source.blocks_of.offer is offer
    for one, other in zip(mine, rich.facts, strict=True):
        assert not differing(one, other, unknown_by_rest(one) if way == "REST" else AGES[1:2]), one["height"]
    ages = {one["coin_blocks_destroyed"] for one in mine}
    rest, verbose = [a for a in relay.asked if a.startswith("/rest/")], relay.asked.count("getblock")
    if way == "REST":
        assert None in ages
        assert verbose == 0
        return
    assert None not in ages
    assert len(ages) > 12
    assert verbose > 20
    assert sum(a.startswith(SPENT) for a in rest) <= 1
    if offer is Offer.NOTHING:
        assert len(rest) <= 2 * wanted


@pytest.mark.parametrize("way", ["REST off", "Core before 30"])
def test_what_rest_offers_is_learnt_again_after_forgetting(
    rich: Rich, source: NodeSource, relay: Relay, way: str
) -> None:
    """A node restarted with rest=1 is asked by REST again."""
    relay.without(*WAYS[way][0])
    read(source, rich)
    assert source.blocks_of.offer is WAYS[way][2]
    relay.straight()
    read(source, rich)
    assert source.blocks_of.offer is WAYS[way][2]
    source.forget()
    relay.straight()
    read(source, rich)
    assert source.blocks_of.offer is Offer.BLOCKS_AND_SPENT
    assert "getblock" not in relay.asked


@pytest.mark.parametrize("rest", [True, False])
def test_a_node_started_without_rest(kind: str, make_node: MakeNode, *, rest: bool) -> None:
    """The real switch, not the relay's."""
    node = make_node(kind, blocks=MATURE, rest=rest)
    node.mine(1, spends=4)
    with closing(source_of(node)) as source:
        block = source.block_at(MATURE + 1)
        assert source.blocks_of.offer is (Offer.BLOCKS_AND_SPENT if rest else Offer.NOTHING)
        stats = node.rpc("getblockstats", MATURE + 1)
        facts = facts_of(block)
    assert {name: facts[name] for name in stats} == stats
    assert (facts["coin_blocks_destroyed"] is None) == rest


def test_a_double_of_before_core_30(double: NodeDouble) -> None:
    """Nor without the double's own switch."""
    double.old_node = True
    double.mine(1, spends=4)
    with closing(source_of(double)) as source:
        facts, stats = facts_of(source.block_at(MATURE + 1)), double.rpc("getblockstats", MATURE + 1)
        assert source.blocks_of.offer is Offer.BLOCKS
    assert {name: facts[name] for name in stats} == stats
    assert facts["coin_blocks_destroyed"] > 0


def test_stale_blocks_have_what_they_spent(rich: Rich, source: NodeSource) -> None:
    """A block that was once connected has undo data: its facts are whole."""
    stale = [tip for tip in rich.node.rpc("getchaintips") if tip["status"] == "valid-fork"]
    assert len(stale) == 1
    branch = list(source.branch(Hash256.from_display(stale[0]["hash"]), 3))
    assert [block.height for block in branch] == list(range(stale[0]["height"] - 2, stale[0]["height"] + 1))
    assert [str(block.block_hash) for block in branch][-1] == stale[0]["hash"]
    for block in branch:
        stats, facts = rich.node.rpc("getblockstats", str(block.block_hash)), facts_of(block)
        assert {name: facts[name] for name in stats} == stats


@pytest.mark.parametrize("rest", [True, False])
def test_a_block_that_was_never_connected(kind: str, make_node: MakeNode, *, rest: bool) -> None:
    """What it spends is unknown, not nothing; and that is no reason to think that REST is off."""
    node = make_node(kind, blocks=MATURE + 5)
    (never,) = node.side_branch(node.rpc("getblockhash", MATURE + 2), 1, spends=3)
    with closing(source_of(node, rest=rest)) as source:
        block, spent = source.blocks_of.read(Hash256.from_display(never), REGTEST)
        assert (block.n_tx, spent) == (4, None)
        assert source.blocks_of.offer is (Offer.BLOCKS_AND_SPENT if rest else Offer.NOTHING)
        facts = facts_of(source.read(Hash256.from_display(never), MATURE + 3))
    assert (facts["totalfee"], facts["txs"]) == (None, 4)


# Large coins


def test_ages_of_large_coins(rich: Rich, source: NodeSource) -> None:
    """The ten largest are told with the age that the node's files give them; a coin of 100 BTC less 1 sat is not."""
    assert len(rich.large) > 5
    found = {height: facts_of(source.block_at(height)) for height in rich.large}
    assert {height: rich.facts[height]["large_coins"] for height in rich.large} == {
        height: facts["large_coins"] for height, facts in found.items()
    }
    told = [coin for facts in found.values() for coin in facts["large_coins"]]
    assert min(coin["value"] for coin in told) == LARGE_COIN
    ten = next(rows for facts in found.values() if len(rows := facts["large_coins"]) == MOST_LARGE_COINS)
    assert [coin["value"] for coin in ten] == sorted(LARGE, reverse=True)[:10]
    assert all(coin["age_blocks"] > 0 for coin in told)
    assert any(facts["coin_blocks_destroyed"] is None for facts in found.values())


def test_only_blocks_with_large_coins_cost_a_question(rich: Rich, source: NodeSource, relay: Relay) -> None:
    """One batch a block, of its spenders."""
    for height in range(100, len(rich.names)):
        relay.asked.clear()
        read(source, rich, height)
        spenders = {coin["txid"] for coin in rich.facts[height]["large_coins"]}
        assert relay.asked.count("getrawtransaction") == len(spenders), height


def test_ages_of_large_coins_stay_unknown_where_a_node_does_not_tell(
    rich: Rich, source: NodeSource, relay: Relay
) -> None:
    """Core before 25: the coins are told, their age is None."""
    relay.results["getrawtransaction"] = lambda *_: Refusal(-1, "getrawtransaction ...")
    for height in rich.large:
        facts = facts_of(source.block_at(height))
        assert {coin["age_blocks"] for coin in facts["large_coins"]} == {None}
        assert facts["coin_blocks_destroyed"] is None


def test_a_large_coin_without_prevout_stays_unknown(rich: Rich, source: NodeSource, relay: Relay) -> None:
    """A node that answers without `prevout`."""

    def bare(_: list[Any], result: dict[str, Any]) -> dict[str, Any]:
        return {**result, "vin": [{k: v for k, v in txin.items() if k != "prevout"} for txin in result["vin"]]}

    relay.results["getrawtransaction"] = bare
    for height in rich.large:
        assert {coin["age_blocks"] for coin in facts_of(source.block_at(height))["large_coins"]} == {None}


# What is not as it should be


def read(source: NodeSource, rich: Rich, height: int | None = None) -> dict[str, Any]:
    """The facts of a block as the pipeline takes them; by default of one that spends large coins and small."""
    height = rich.spending if height is None else height
    return facts_of(source.read(Hash256.from_display(rich.names[height]), height))


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500, 502, 504])
@pytest.mark.parametrize("beginning", REST)
def test_errors_of_what_stands_before_the_node(
    rich: Rich, source: NodeSource, relay: Relay, beginning: str, status: int
) -> None:
    """A reverse proxy's `502 Bad Gateway` page says nothing about the block: its fees don't become unknown for ever.

    Either it is read another way, or told as a failure to be tried again.
    """
    relay.whole[beginning] = body(b"<html><body><h1>Bad Gateway</h1></body></html>\r\n", status)
    try:
        facts = read(source, rich)
    except NodeError:
        return
    assert facts["totalfee"] == rich.facts[rich.spending]["totalfee"]


@pytest.mark.parametrize("beginning", REST)
def test_rest_of_a_node_that_is_starting(rich: Rich, source: NodeSource, relay: Relay, beginning: str) -> None:
    """503 with the reason; it is not taken for REST being off."""
    said = b"Service temporarily unavailable: Loading block index\xe2\x80\xa6\r\n"
    relay.whole[beginning] = body(said, 503)
    with pytest.raises(NodeUnavailable, match="Loading block index"):
        read(source, rich)
    relay.straight()
    read(source, rich)
    assert source.blocks_of.offer is Offer.BLOCKS_AND_SPENT


@pytest.mark.parametrize("name", [*REST, "getblock", "getrawtransaction"])
def test_truncated_answers(rich: Rich, source: NodeSource, by_rpc: NodeSource, relay: Relay, name: str) -> None:
    """Cut in the middle of the body: it hung up."""
    relay.whole[name] = cut
    reader = by_rpc if name == "getblock" else source
    with pytest.raises(NodeUnavailable, match="hung up"):
        read(reader, rich)
    relay.straight()
    read(reader, rich)


def test_the_wrong_block(rich: Rich, source: NodeSource, relay: Relay) -> None:
    """A whole and valid block, but another one."""
    relay.whole[BLOCK] = lambda _: Answer(200, rich.blocks[5].block.raw.tobytes())
    with pytest.raises(DecodeError, match="gave"):
        read(source, rich)


def test_a_block_of_another_height(rich: Rich, source: NodeSource) -> None:
    """Its coinbase says which it is."""
    with pytest.raises(DecodeError, match="says it has height 20, its chain gives 21"):
        source.read(Hash256.from_display(rich.names[20]), 21)


@pytest.mark.parametrize("beginning", REST)
def test_corrupt_bytes(rich: Rich, source: NodeSource, relay: Relay, beginning: str) -> None:
    """A flipped bit, too short, too long, empty, text: a typed error, whatever it is."""
    refused = 0
    changes = [
        *(lambda r, at=at: flipped(r.body, at) for at in (0, 40, 79, 100, -5)),
        lambda r: r.body[:-1], lambda r: r.body + b"\0", lambda _: b"", lambda _: b"<html></html>",
        lambda r: r.body * 2, lambda r: bytes(len(r.body)), lambda r: b"\xff" * len(r.body),
    ]  # fmt: skip
    for change in changes:
        relay.whole[beginning] = lambda r, change=change: Answer(200, change(r))
        try:
            read(source, rich)
        except UtxoiqError:
            refused += 1
    assert refused >= len(changes) - 4 * (beginning == SPENT), "amounts and scripts of coins are not committed to"


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


NONSENSE = (None, "", "x", "zz" * 40, -1, 10**30, Verbatim("1.5"), Verbatim("1e3"), True, [], {}, [None], {"a": 1})


@pytest.mark.parametrize("verbosity", [0, 3])
def test_getblock_answered_with_nonsense(rich: Rich, by_rpc: NodeSource, relay: Relay, verbosity: int) -> None:
    """Of the wrong type altogether."""
    for value in NONSENSE:
        relay.results["getblock"] = lambda p, result, value=value: value if p[1] == verbosity else result
        with pytest.raises((NodeError, DecodeError)):
            read(by_rpc, rich)


def prevout_with(key: str, value: Any) -> Any:
    """A change to the first coin a block or transaction spends."""

    def change(_: list[Any], result: Any) -> Any:
        if not isinstance(result, dict):
            return result  # getblock 0
        tx = result["tx"][1] if "tx" in result else result
        prevout = tx["vin"][0]["prevout"]
        if key == "hex":
            prevout["scriptPubKey"]["hex"] = value
        elif value is KeyError:
            prevout.pop(key)
        else:
            prevout[key] = value
        return result

    return change


AMOUNTS = ("-1.0", "-0.00000001", "0.000000001", "21000000.00000001", "1e30", "NaN")
SPOILT = [
    *((key, value) for key in ("value", "height", "generated", "scriptPubKey") for value in (KeyError, None, "x", [])),
    *(("hex", value) for value in (None, "x", "abc", 5)),
    *(("value", Verbatim(text)) for text in AMOUNTS),
    *(("height", value) for value in (-1, 10**9, 10**12, 10**30, Verbatim("1.5"), "12")),
]


@pytest.mark.parametrize(("key", "value"), SPOILT, ids=lambda v: getattr(v, "__name__", repr(v)))
def test_spent_coins_of_getblock_3_that_can_not_be(
    rich: Rich, by_rpc: NodeSource, relay: Relay, key: str, value: Any
) -> None:
    """Missing, of the wrong type, or no amount there is: a typed error, and no fact is made of it."""
    relay.results["getblock"] = prevout_with(key, value)
    with pytest.raises((NodeError, DecodeError)):
        read(by_rpc, rich)


@pytest.mark.parametrize(("key", "value"), SPOILT, ids=lambda v: getattr(v, "__name__", repr(v)))
def test_large_coins_of_getrawtransaction_that_can_not_be(
    rich: Rich, source: NodeSource, relay: Relay, key: str, value: Any
) -> None:
    """The same of a coin that is asked for by itself: refused, or not used."""
    relay.results["getrawtransaction"] = prevout_with(key, value)
    try:
        facts = read(source, rich)
    except (NodeError, DecodeError):
        return
    ages = [coin["age_blocks"] for coin in facts["large_coins"]]
    assert all(age is None or 0 < age <= rich.spending for age in ages)


def test_getrawtransaction_answered_with_nonsense(rich: Rich, source: NodeSource, relay: Relay) -> None:
    for value in NONSENSE:
        relay.results["getrawtransaction"] = lambda *_, value=value: value
        with pytest.raises(NodeError):
            read(source, rich)


def test_an_unknown_block(rich: Rich, source: NodeSource) -> None:
    with pytest.raises(NodeUnavailable, match="is not here yet"):
        source.blocks_of.read(Hash256(b"\xab" * 32), REGTEST)


# Pruned blocks


def test_pruned_blocks_of_the_double(double: NodeDouble) -> None:
    """Refused with what to do, by REST and by RPC."""
    names = hashes(double)
    double.pruned_below = 50
    for rest in (True, False):
        with closing(source_of(double, rest=rest)) as source:
            with pytest.raises(NodeRefused, match="was pruned; read it from another source, or begin later"):
                source.read(Hash256.from_display(names[49]), 49)
            source.read(Hash256.from_display(names[50]), 50)
            assert source.lowest() == 50


@pytest.mark.node
def test_pruned_blocks_of_a_real_node(tmp_path: Path) -> None:
    if bitcoind_path() is None:
        pytest.skip(ABSENT)
    node = BitcoindNode(tmp_path / "pruned", options=("-prune=1", "-fastprune"))
    with closing(node):
        node.start()
        node.mine(900)
        names = hashes(node)
        node.rpc("pruneblockchain", 500)
        lowest = node.rpc("getblockchaininfo")["pruneheight"]
        assert lowest > 100
        for rest in (True, False):
            with closing(source_of(node, rest=rest)) as source:
                assert source.lowest() == lowest
                with pytest.raises(NodeRefused, match="was pruned; read it from another source, or begin later"):
                    source.read(Hash256.from_display(names[lowest - 1]), lowest - 1)
                assert next(iter(source.blocks())).height == lowest
