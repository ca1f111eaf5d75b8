"""An Esplora API as a source: nothing believed that can be checked, nothing guessed, no more asked than promised."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import pairwise
from queue import Queue
from threading import Event
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest

from facts import made
from helpers.build import EASY_BITS, body_bytes, coinbase, height_push
from helpers.esplora import PAGE, Answer, EsploraDouble, Served, branch_to, display, served_run
from helpers.recorded import ALL, Recorded, block_named, every_block_with_spent, recorded_run
from helpers.reference import RefCoin, merkle_root, read_block, read_spenttxouts, sha256d
from sources.files import Follower
from utxoiq.chain.hashes import Hash256
from utxoiq.chain.network import EASY_LIMIT, NETWORKS, Network
from utxoiq.chain.serialize import coins_from_columns, header_bytes
from utxoiq.errors import ConfigError, DecodeError, NodeRefused, NodeUnavailable, SourceError, UtxoiqError
from utxoiq.models import BlockFacts, Connected, Cursor
from utxoiq.sources import esplora
from utxoiq.sources.esplora import LONGEST_PATIENCE, RECENT, EsploraSource
from utxoiq.sources.steps import UnknownTip

MAIN, REGTEST = NETWORKS["main"], NETWORKS["regtest"]
FAST = 1e9
"""Requests a second: no waiting."""
HASH = "[0-9a-f]{64}"
SPENDING = (170, 181, 187, 248, 586)
"""Blocks among mainnet's first 600 that spend something."""


@cache
def recorded_chain(name: str) -> tuple[Served, ...]:
    """The best chain of a recorded run."""
    known = served_run(recorded_run(name, MAIN if name.startswith("main") else REGTEST))
    parents = {block.parent for block in known.values()}
    branches = [branch_to(known, tip) for tip in known if tip not in parents]
    return tuple(max(branches, key=len))


@cache
def branches() -> tuple[tuple[Served, ...], tuple[Served, ...]]:
    """Regtest's branch A, and B, which overtakes it: both from genesis."""
    known = served_run(recorded_run("regtest_reorg", REGTEST))
    parents = {block.parent for block in known.values()}
    a, b = sorted((branch_to(known, tip) for tip in known if tip not in parents), key=len)
    return tuple(a), tuple(b)


@cache
def crowded() -> tuple[int, ...]:
    """Heights of the blocks of a regtest chain that need several pages."""
    chain = recorded_chain("regtest_core31")
    sizes = {height: len(read_block(block.raw)) for height, block in enumerate(chain) if len(block.raw) > 20_000}
    return tuple(sorted(sorted(sizes, key=lambda h: -sizes[h])[:6]))


@pytest.fixture
def api() -> Iterator[EsploraDouble]:
    """An API over mainnet's first 600 blocks."""
    with EsploraDouble(recorded_chain("main_0-599")) as double:
        yield double


@pytest.fixture
def make(api: EsploraDouble) -> Iterator[Callable[..., EsploraSource]]:
    """Makes sources over `api`, or another one, that never really sleep."""
    made_here: list[EsploraSource] = []

    def make_source(double: EsploraDouble = api, **options: Any) -> EsploraSource:
        options = {"requests_per_second": FAST, "sleep": lambda _: None, **options}
        made_here.append(EsploraSource(double.url, **options))
        return made_here[-1]

    yield make_source
    for source in made_here:
        source.close()


MakeSource = Callable[..., EsploraSource]


def ageless(facts: BlockFacts) -> BlockFacts:
    """The facts as they are where coin heights are unknown."""
    if facts.txs == 1:
        return facts
    coins = facts.large_coins and [{**coin, "age_blocks": None} for coin in facts.large_coins]
    return replace(facts, coin_blocks_destroyed=None, coin_days_destroyed=None, oldest_coin=None, large_coins=coins)


def refusal(action: Callable[[], Any]) -> UtxoiqError:
    """The error of an action: one short line, of ours."""
    with pytest.raises(UtxoiqError) as raised:
        action()
    text = str(raised.value)
    assert "\n" not in text
    assert len(text) < 400, text[:1000]
    return raised.value


# What a block is


@pytest.mark.parametrize("height", [0, 1, *SPENDING, 599])
def test_facts_are_those_of_the_block_files(make: MakeSource, height: int) -> None:
    """All but the ages of coins, which the API does not tell."""
    known = made.run("main_0-599")[height]
    block = make().block_at(height)
    assert made.facts_of(block) == ageless(known.facts)


def test_facts_of_blocks_of_several_pages(make: MakeSource) -> None:
    """Each page is asked for once, all prevouts fit."""
    chain = recorded_chain("regtest_core31")
    with EsploraDouble(chain) as double:
        source = make(double, most_requests_a_block=1000)
        for height in crowded():
            block = source.block_at(height)
            assert made.facts_of(block) == ageless(made.run("regtest_core31")[height].facts)
            pages = double.paths(f"{block.block_hash}/txs/")
            assert len(pages) == len(set(pages)) == -(-block.block.n_tx // PAGE) > 1


@every_block_with_spent
def test_spent_outputs_of_real_blocks(make: MakeSource, recorded: Recorded) -> None:
    """Every script and value, whatever its kind; their parents are not recorded, so the block itself is given."""
    inputs = [tx.inputs for tx in read_block(recorded.raw)]
    coins = read_spenttxouts(recorded.spent, inputs)
    block = recorded.decoded()
    with EsploraDouble([Served(recorded.raw, coins)], int(recorded.row["height"])) as double:
        spent = make(double, most_requests_a_block=1000)._spent(block, int(recorded.row["height"]))
    assert spent is not None
    assert spent.height is None or block.n_tx == 1
    told = [[RefCoin(coin.value, coin.script) for coin in row] for row in coins_from_columns(block, spent)]
    assert told == coins


def test_a_real_block_of_testnet(make: MakeSource) -> None:
    """Its parent is recorded too; without the ten before it the median time is unknown."""
    if not ALL:
        pytest.skip("no recorded data")
    parent, child = block_named("test3_0928848"), block_named("test3_0928849")
    genesis = Served(b"", None)
    object.__setattr__(genesis, "hash", str(NETWORKS["test3"].genesis))  # only its name is asked for
    with EsploraDouble() as double:
        double.also(0, genesis)
        for one in (parent, child):
            inputs = [tx.inputs for tx in read_block(one.raw)]
            double.also(int(one.row["height"]), Served(one.raw, read_spenttxouts(one.spent, inputs)))
        source = make(double)
        block = source.block_at(928_849)
        known = made.recorded_blocks()[str(block.block_hash)]
        assert source.network.name == "test3"
        assert block.prior_times is None
        assert made.facts_of(block) == replace(ageless(known.facts), mediantime=None)


def test_every_block_is_marked(make: MakeSource, api: EsploraDouble) -> None:
    """With the address, so that nobody takes it for a node's; without a password in it."""
    assert make().block_at(170).source == f"esplora {api.url}"
    named = EsploraSource(api.url.replace("//", "//user:hunter2@"), requests_per_second=FAST)
    assert named.block_at(1).source == f"esplora {api.url}"
    named.close()


def test_blocks_without_spends_cost_no_pages(make: MakeSource, api: EsploraDouble) -> None:
    """A block that spends nothing is known whole."""
    block = make().block_at(100)
    assert block.spent is not None
    assert api.paths("/txs/") == []


def test_a_block_too_large_for_the_budget(make: MakeSource) -> None:
    """Its spent outputs stay unknown, and not one page is asked for; nor for a budget of none."""
    height = crowded()[-1]
    known = made.run("regtest_core31")[height]
    pages = -(-known.data.block.n_tx // PAGE)
    with EsploraDouble(recorded_chain("regtest_core31")) as double:
        for budget in (pages - 1, 0):
            block = make(double, most_requests_a_block=budget).block_at(height)
            assert block.spent is None
            assert made.facts_of(block).totalfee is None
        assert double.paths("/txs/") == []
        assert make(double, most_requests_a_block=pages).block_at(height).spent is not None


async def test_only_recent_blocks_cost_pages(make: MakeSource) -> None:
    """A catch-up of days would be hours of requests: below the last few, spent outputs are unknown."""
    chain = recorded_chain("regtest_core31")
    with EsploraDouble(chain) as double:
        source = make(double)
        source.first = len(chain) - RECENT - 5
        blocks = [step.block async for step in source.follow(None) if isinstance(step, Connected)]
        asked = {path.split("/")[3] for path in double.paths("/txs/")}
    assert [block.height for block in blocks] == list(range(source.first, len(chain)))
    spending = [block for block in blocks if block.block.n_tx > 1]
    old = {str(b.block_hash) for b in spending if b.height is not None and b.height < len(chain) - 1 - RECENT}
    assert old
    assert asked == {str(block.block_hash) for block in spending} - old
    assert all((block.spent is None) == (str(block.block_hash) in old) for block in spending)


# Spent outputs that are not what they should be: complete, or null, or refused


def inputs(page: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [txin for tx in page for txin in tx["vin"] if not txin["is_coinbase"]]


def without_one(page: list[dict[str, Any]]) -> list[dict[str, Any]]:
    inputs(page)[-1]["prevout"] = None
    return page


def with_value(value: Any) -> Callable[[Any], Any]:
    def change(page: list[dict[str, Any]]) -> list[dict[str, Any]]:
        inputs(page)[0]["prevout"]["value"] = value
        return page

    return change


def with_script(script: Any) -> Callable[[Any], Any]:
    def change(page: list[dict[str, Any]]) -> list[dict[str, Any]]:
        inputs(page)[0]["prevout"]["scriptpubkey"] = script
        return page

    return change


def without_key(*names: str) -> Callable[[Any], Any]:
    def change(page: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for name in names:
            del inputs(page)[0][name]
        return page

    return change


def relabelled(page: list[dict[str, Any]]) -> list[dict[str, Any]]:
    page[-1]["txid"] = "00" * 32
    return page


def one_input_more(page: list[dict[str, Any]]) -> list[dict[str, Any]]:
    page[-1]["vin"].append(page[-1]["vin"][0])
    return page


def all_coinbases(page: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for txin in inputs(page):
        txin["is_coinbase"] = True
    return page


@pytest.mark.parametrize(
    "change", [without_one, relabelled, lambda page: page[:-1], lambda _: None, lambda _: []], ids=lambda f: f.__name__
)
def test_prevouts_that_are_not_all_there(make: MakeSource, api: EsploraDouble, change: Callable[[Any], Any]) -> None:
    """Lost by the API, of other transactions, too few: unknown all of them; later asked again and whole."""
    api.rewrites("/txs/", change, 1)
    source = make()
    block = source.block_at(170)
    assert block.spent is None
    facts = made.facts_of(block)
    assert (facts.totalfee, facts.feerate_percentiles, facts.spent_types) == (None, None, None)
    assert made.facts_of(source.block_at(170)) == ageless(made.run("main_0-599")[170].facts)


def test_a_page_that_is_not_there(make: MakeSource, api: EsploraDouble) -> None:
    api.answers("/txs/", 404)
    assert make().block_at(170).spent is None


@pytest.mark.parametrize(
    "change",
    [
        with_value(0), with_value(-1), with_value(2**63), with_value(2**70), with_value("much"), with_value(None),
        with_value([1]), with_value(21_000_001 * 10**8), with_script("zz"), with_script("abc"), with_script(7),
        with_script(None), without_key("prevout"), without_key("is_coinbase"), one_input_more, all_coinbases,
        lambda _: {"error": "busy"}, lambda _: "busy", lambda _: [1], lambda page: page * 2,
    ],
)  # fmt: skip
def test_prevouts_that_cannot_be(make: MakeSource, api: EsploraDouble, change: Callable[[Any], Any]) -> None:
    """Money from nothing, no number, no script, another shape: refused as an error of ours; later whole again."""
    api.rewrites("/txs/", change, 1)
    source = make()
    refusal(lambda: source.block_at(170))
    assert made.facts_of(source.block_at(170)) == ageless(made.run("main_0-599")[170].facts)


def test_an_output_of_the_same_block_told_wrongly(make: MakeSource) -> None:
    """What the block itself shows is not taken from anybody."""
    chain, height = recorded_chain("regtest_core31"), crowded()[-1]
    ours = {display(sha256d(tx.stripped)) for tx in read_block(chain[height].raw)}

    def change(page: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for txin in inputs(page):
            if txin["txid"] in ours:
                txin["prevout"]["scriptpubkey"] = "51"
                changed.append(txin["txid"])
        return page

    changed: list[str] = []
    with EsploraDouble(chain) as double:
        double.rewrites("/txs/", change)
        with pytest.raises(DecodeError, match="another output than the one its block makes"):
            make(double).block_at(height)
    assert changed


# Answers that are not what they should be


DEEP = b"[" * 200_000


def header_of(height: int) -> bytes:
    return recorded_chain("main_0-599")[height].raw[:80]


FAULTS: dict[str, Callable[[EsploraDouble], None]] = {
    "raw cut short": lambda d: d.cuts("/raw$", 100, 1),
    "raw not begun": lambda d: d.cuts("/raw$", 0, 1),
    "raw half": lambda d: d.fault("/raw$", lambda a: replace(a, body=a.body[: len(a.body) // 2]), 1),
    "raw with more": lambda d: d.fault("/raw$", lambda a: replace(a, body=a.body + b"x"), 1),
    "raw empty": lambda d: d.answers("/raw$", 200, b"", 1),
    "raw one bit off": lambda d: d.fault("/raw$", lambda a: replace(a, body=a.body[:-9] + b"\1" + a.body[-8:]), 1),
    "raw of another block": lambda d: d.answers("/raw$", 200, recorded_chain("main_0-599")[7].raw, 1),
    "raw gone": lambda d: d.answers("/raw$", 404, b"", 1),
    "raw 500": lambda d: d.answers("/raw$", 500, b"oops", 1),
    "raw 503": lambda d: d.answers("/raw$", 503, b"<html>\n\nBusy", 1),
    "raw moved": lambda d: d.answers("/raw$", 301, b"", 1, Location="http://127.0.0.1:9/"),
    "header of another block": lambda d: d.answers("/header$", 200, header_of(7).hex().encode(), 1),
    "header without work": lambda d: d.fault("/header$", lambda a: replace(a, body=a.body[:-2] + b"00"), 1),
    "header no hex": lambda d: d.answers("/header$", 200, b"<html>\n" * 999, 1),
    "header short": lambda d: d.fault("/header$", lambda a: replace(a, body=a.body[:100]), 1),
    "header gone": lambda d: d.answers("/header$", 404, b"", 1),
    "header 502": lambda d: d.answers("/header$", 502, b"", 1),
    "block gone": lambda d: d.answers(f"/block/{HASH}$", 404, b"", 1),
    "block null": lambda d: d.answers(f"/block/{HASH}$", 200, b"null", 1),
    "block no JSON": lambda d: d.answers(f"/block/{HASH}$", 200, b"<html>\n<body>" * 99, 1),
    "block deep": lambda d: d.answers(f"/block/{HASH}$", 200, DEEP, 1),
    "block no text": lambda d: d.answers(f"/block/{HASH}$", 200, b"\xff\xfe\xfd", 1),
    "block a list": lambda d: d.answers(f"/block/{HASH}$", 200, b"[]", 1),
    "block without height": lambda d: d.rewrites(f"/block/{HASH}$", lambda b: {"id": b["id"]}, 1),
    "block height no number": lambda d: d.rewrites(f"/block/{HASH}$", lambda b: {**b, "height": "tip"}, 1),
    "hash no hash": lambda d: d.answers("/block-height/[1-9]", 200, b"<html>\n<body>" * 99, 1),
    "hash empty": lambda d: d.answers("/block-height/[1-9]", 200, b"", 1),
    "hash not there": lambda d: d.answers("/block-height/[1-9]", 404, b"Block not found", 1),
    "hash unknown": lambda d: d.answers("/block-height/[1-9]", 200, b"ab" * 32, 1),
    "genesis of none": lambda d: d.answers("/block-height/0", 200, b"ab" * 32, 1),
    "status 500": lambda d: d.answers("/status$", 500, b"", 1),
    "status empty": lambda d: d.answers("/status$", 200, b"{}", 1),
    "status a text": lambda d: d.answers("/status$", 200, b'"yes"', 1),
    "status deep": lambda d: d.answers("/status$", 200, DEEP, 1),
    "page cut short": lambda d: d.cuts("/txs/", 100, 1),
    "page 500": lambda d: d.answers("/txs/", 500, b"", 1),
    "page deep": lambda d: d.answers("/txs/", 200, DEEP, 1),
    "gzip that is none": lambda d: d.answers("/raw$", 200, b"\0\1\2", 1, Content_Encoding="gzip"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_an_answer_that_is_not_what_it_should_be(make: MakeSource, api: EsploraDouble, name: str) -> None:
    """An error of ours, one short line; asked again by the same source it is all there."""
    FAULTS[name](api)
    source = make()
    refusal(lambda: source.block_at(170))
    assert made.facts_of(source.block_at(170)) == ageless(made.run("main_0-599")[170].facts)


@pytest.mark.parametrize(
    "body", [b"<!doctype html>\n<html>" * 500, b"", b"{}", b"\xff" * 64, b"zz" * 32, b"ab" * 31, b"ab" * 33]
)
def test_a_tip_that_is_no_hash(make: MakeSource, api: EsploraDouble, body: bytes) -> None:
    """A page for people, answered to any path, is what a wrong address often gives."""
    api.answers("/tip/hash", 200, body, 1)
    source = make()
    assert isinstance(refusal(source.tip), NodeUnavailable)
    assert source.tip().height == 599


def test_an_address_of_something_else(make: MakeSource, api: EsploraDouble) -> None:
    """All paths unknown: the error asks whether the address is right."""
    api.answers("", 404, b"<html>")
    for action in (make().best_hash, make().tip, lambda: make().network):
        assert "is this the address of an Esplora API?" in str(refusal(action))


@pytest.mark.parametrize("url", ["", "mempool.space/api", "ftp://host/", "http://", "http://h:port", "bitcoin:1"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match="address"):
        EsploraSource(url)


def test_nobody_there() -> None:
    """Connection refused: which address, and what to look at."""
    with EsploraDouble(recorded_chain("main_0-599")) as double:
        url = double.url
    source = EsploraSource(url)
    error = refusal(source.best_hash)
    assert isinstance(error, NodeUnavailable)
    assert url in str(error)
    source.close()


def test_it_serves_another_network_than_wanted(make: MakeSource) -> None:
    with pytest.raises(NodeRefused, match="serves main, not signet"):
        _ = make(network=NETWORKS["signet"]).network


def test_the_network_is_asked_again_after_trouble(make: MakeSource, api: EsploraDouble) -> None:
    """Behind the same address another network may answer after an outage."""
    source = make()
    assert source.network is MAIN
    api.follow(branches()[0])
    assert source.network is MAIN, "once asked, it is not asked for each block"
    source.forget()
    assert source.network is REGTEST


def test_a_block_of_another_height_than_told(make: MakeSource) -> None:
    """The coinbase says its height (BIP 34): an API that shifts its chain is found out."""
    chain = recorded_chain("regtest_core31")
    with EsploraDouble(chain) as double:
        double.also(50, chain[51])
        with pytest.raises(DecodeError, match="says it has height 51, its chain gives 50"):
            make(double).block_at(50)


def test_no_block_there(make: MakeSource) -> None:
    """Above the tip, and a branch nobody knows."""
    with pytest.raises(SourceError):
        make().block_at(600)
    with pytest.raises(SourceError, match="no block"):
        make().branch(Hash256(bytes(32)), 5)


def test_a_branch(make: MakeSource) -> None:
    """What `verify` reads again: up to so many blocks that end with one."""
    chain = recorded_chain("main_0-599")
    source = make()
    blocks = list(source.branch(Hash256.from_display(chain[187].hash), 20))
    assert [str(block.block_hash) for block in blocks] == [block.hash for block in chain[168:188]]
    expected = [ageless(known.facts) for known in made.run("main_0-599")[168:188]]
    assert [made.facts_of(block) for block in blocks] == expected
    assert len(list(source.branch(Hash256.from_display(chain[3].hash), 20))) == 4


def test_a_whole_chain(make: MakeSource) -> None:
    """From `first` on, as the protocol of sources says; how many, where the tip is."""
    chain = branches()[1]
    with EsploraDouble(chain) as double:
        source = make(double)
        assert (len(source), source.lowest()) == (len(chain), 0)
        assert [str(block.block_hash) for block in source.blocks()] == [block.hash for block in chain]
        source.first = 10
        assert [block.height for block in source.blocks()] == list(range(10, len(chain)))
        assert source.tip() == Cursor(chain[-1].hash, len(chain) - 1)
        assert source.count_from(Cursor(chain[3].hash, 3)) == len(chain) - 4


def test_it_has_neither_mempool_nor_zmq(make: MakeSource, api: EsploraDouble) -> None:
    source = make()
    assert (source.snapshot(), source.announced_at()) == (None, set())
    assert api.requests == []


# Difficulty


def toy_block(parent: bytes, height: int, bits: int) -> Served:
    """A block with the work its bits ask for, and no more."""
    transaction = coinbase([(50 * 10**8, b"\x51")], height_push(height) + b"toy")
    exponent, mantissa = bits >> 24, bits & 0x7FFFFF
    target = mantissa << (8 * (exponent - 3))
    head = header_bytes(0x20000000, parent, merkle_root([bytes(transaction.txid)]), 1_700_000_000 + height, bits, 0)
    for nonce in range(1 << 32):
        head = head[:76] + struct.pack("<I", nonce)
        if int.from_bytes(sha256d(head), "little") <= target:
            break
    return Served(head + body_bytes([transaction]), [])


def internal(block: Served) -> bytes:
    return sha256d(block.raw[:80])


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Served:
    """Genesis of a network with main's rules, whose difficulty can be met here."""
    genesis = toy_block(bytes(32), 0, 0x200FFFFF)
    network: Network = replace(MAIN, genesis=Hash256(internal(genesis)), pow_limit=EASY_LIMIT)
    monkeypatch.setattr(esplora, "NETWORKS", {"main": network})
    return genesis


def test_a_block_made_cheaply_is_refused(make: MakeSource, toy: Served) -> None:
    """With real work for a difficulty of its own choice: eight times easier than its parent's."""
    honest = toy_block(internal(toy), 1, 0x200FFFFF)
    forged = toy_block(internal(honest), 2, EASY_BITS)
    with EsploraDouble([toy, honest, forged]) as double:
        source = make(double)
        assert source.block_at(1).height == 1
        with pytest.raises(DecodeError, match="changes the difficulty between two adjustments"):
            source.block_at(2)


@pytest.mark.parametrize(
    ("bits", "allowed"),
    [(0x200FFFFF, True), (0x203FFFFC, True), (0x203FFFFD, False), (EASY_BITS, False), (0x20040000, True)],
)
def test_an_adjustment(make: MakeSource, toy: Served, bits: int, allowed: bool) -> None:
    """Every 2016 blocks by a factor of four at most."""
    before = toy_block(bytes(32), 2015, 0x200FFFFF)
    after = toy_block(internal(before), 2016, bits)
    with EsploraDouble([toy]) as double:
        double.also(2015, before)
        double.also(2016, after)
        source = make(double)
        if allowed:
            assert source.block_at(2016).height == 2016
        else:
            assert "more than a factor of 4" in str(refusal(lambda: source.block_at(2016)))


def test_a_block_of_an_easier_network_is_refused(make: MakeSource, api: EsploraDouble) -> None:
    """Regtest's difficulty after mainnet's tip."""
    tip = recorded_chain("main_0-599")[-1]
    api.also(600, toy_block(internal(tip), 600, EASY_BITS))
    with pytest.raises(DecodeError, match="a target this network does not allow"):
        make().block_at(600)


# No faster than promised


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now, self.slept = 1000.0, []  # type: ignore[var-annotated]

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, api: EsploraDouble) -> Clock:
    """The source's clock; `api.asked` has its time at each request."""
    clock = Clock()
    monkeypatch.setattr(esplora, "time", SimpleNamespace(monotonic=lambda: clock.now, time=lambda: 1.7e9 + clock.now))
    return clock


@pytest.mark.parametrize("rate", [0.5, 4.0, 100.0])
def test_requests_keep_their_distance(make: MakeSource, api: EsploraDouble, clock: Clock, rate: float) -> None:
    """Also after a pause there is no burst to make up for it."""
    asked: list[float] = []
    api.before = lambda _: asked.append(clock.now)
    source = make(requests_per_second=rate, sleep=clock.sleep)
    source.block_at(170)
    clock.now += 3600
    source.block_at(181)
    assert len(asked) > 30
    assert min(b - a for a, b in pairwise(asked)) >= 1 / rate - 1e-6
    assert clock.now - 1000 - 3600 < len(asked) / rate, "nor is it slower than need be"


def test_several_threads_share_one_promise(api: EsploraDouble) -> None:
    """Blocks are read ahead by threads: all together are as fast as promised."""
    source = EsploraSource(api.url, requests_per_second=50)
    began = monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: source.best_hash(), range(40)))
    assert monotonic() - began >= 39 / 50
    source.close()


@pytest.mark.parametrize(("told", "wait"), [("7", 7.0), ("0", 0.0), ("120", 120.0)])
def test_it_waits_as_long_as_the_api_says(
    make: MakeSource, api: EsploraDouble, clock: Clock, told: str, wait: float
) -> None:
    """And asks the same again."""
    asked: list[float] = []
    api.before = lambda _: asked.append(clock.now)
    api.limits(1, told)
    assert make(sleep=clock.sleep).best_hash() == recorded_chain("main_0-599")[-1].hash
    assert asked[1] - asked[0] >= wait
    assert sum(clock.slept) < wait + 1


@pytest.mark.parametrize("told", [None, "", "soon", "-5", "1e9", "²"])
def test_it_waits_where_the_api_does_not_say(
    make: MakeSource, api: EsploraDouble, clock: Clock, told: str | None
) -> None:
    """Some seconds, rather than none."""
    api.limits(1, told)
    assert make(sleep=clock.sleep).best_hash()
    assert 5 <= sum(clock.slept) <= LONGEST_PATIENCE


def test_a_wait_too_long_is_told(make: MakeSource, api: EsploraDouble, clock: Clock) -> None:
    """Not slept through in silence: the monitor tells why it waits; and nothing more is asked meanwhile."""
    api.limits(1, "3600")
    error = refusal(make(sleep=clock.sleep).best_hash)
    assert isinstance(error, NodeUnavailable)
    assert "asks us to wait until" in str(error)
    assert "(rate limit)" in str(error)
    assert len(api.requests) == 1
    assert sum(clock.slept) < 1


def test_a_date_to_come_back_is_kept(make: MakeSource, api: EsploraDouble, clock: Clock) -> None:
    """Retry-After may be a date (RFC 9110, 10.2.3): one in another century is not ten seconds."""
    api.limits(1, "Fri, 01 Jan 2100 00:00:00 GMT")
    assert isinstance(refusal(make(sleep=clock.sleep).best_hash), NodeUnavailable)
    assert len(api.requests) == 1


def test_an_api_that_always_refuses(make: MakeSource, api: EsploraDouble, clock: Clock) -> None:
    """After some patience it is told, or the service would look live for ever while no block comes."""
    api.limits(500)
    error = refusal(make(sleep=clock.sleep).best_hash)
    assert isinstance(error, NodeUnavailable)
    assert sum(clock.slept) <= 10 * LONGEST_PATIENCE


def test_all_threads_wait_when_one_is_told_to(api: EsploraDouble) -> None:
    """Retry-After is for the whole client: who reads ahead in another thread asks nothing meanwhile."""
    happened: Queue[tuple[str, float]] = Queue()
    go_on = Event()

    def sleep(seconds: float) -> None:
        happened.put(("sleep", seconds))
        go_on.wait()

    source = EsploraSource(api.url, requests_per_second=FAST, sleep=sleep)
    api.before = lambda _: happened.put(("request", 0.0))
    api.limits(1, "60")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(source.best_hash)
        assert happened.get() == ("request", 0.0)
        assert happened.get()[0] == "sleep"
        second = pool.submit(source.best_hash)
        what, seconds = happened.get()
        go_on.set()
        assert first.result() == second.result()
    assert (what, seconds > 1) == ("sleep", True)
    source.close()


# Following the chain


class Store(Follower):
    """What a store has that follows a source; every step must fit."""

    def __init__(self) -> None:
        super().__init__()
        self._heights: dict[Hash256, int] = {}

    async def follow(self, source: EsploraSource) -> None:
        """To the tip, or to an error, as far as it comes."""
        cursor = Cursor(str(self.chain[-1]), self._heights[self.chain[-1]]) if self.chain else None
        async for step in source.follow(cursor):
            self.take(step, self._heights)


@pytest.fixture
def forking() -> Iterator[EsploraDouble]:
    """An API that has branch A and knows nothing of B yet."""
    with EsploraDouble(branches()[0]) as double:
        yield double


async def test_following_from_the_beginning(make: MakeSource, forking: EsploraDouble) -> None:
    """Every block once, upwards, each with the times before it."""
    store = Store()
    await store.follow(make(forking))
    assert store.hashes == [block.hash for block in branches()[0]]
    assert [len(block.prior_times or ()) for block in store.connected] == [min(h, 10) for h in range(len(store.hashes))]
    assert len(forking.paths("/raw$")) == len(store.hashes)


async def test_at_the_tip_there_is_nothing_to_do(make: MakeSource, forking: EsploraDouble) -> None:
    """And it costs a few requests, no more."""
    store, source = Store(), make(forking)
    await store.follow(source)
    asked, had = len(forking.requests), len(store.connected)
    await store.follow(source)
    assert len(store.connected) == had
    assert len(forking.requests) - asked <= 3


@pytest.mark.parametrize("remembers", [True, False])
async def test_a_reorg_is_followed(make: MakeSource, forking: EsploraDouble, remembers: bool) -> None:
    """Off with the stale blocks, tip downwards, then the new branch; also where the API has forgotten them, since
    their headers were seen."""
    forking.remembers_stale = remembers
    store, source = Store(), make(forking)
    await store.follow(source)
    forking.follow(branches()[1])
    a, b = branches()
    fork = sum(x == y for x, y in zip(a, b, strict=False))
    assert 0 < fork < len(a)
    await store.follow(source)
    assert store.hashes == [block.hash for block in b]
    assert [str(h) for h in store.disconnected] == [block.hash for block in reversed(a[fork:])]


async def test_a_tip_that_the_api_does_not_know(make: MakeSource, forking: EsploraDouble) -> None:
    """After a restart, with an API that forgets stale blocks: the monitor finds the way by what the store knows."""
    store = Store()
    await store.follow(make(forking))
    forking.follow(branches()[1])
    with pytest.raises(UnknownTip, match=r"does not know block .* on which the store stands"):
        await store.follow(make(forking))


def turning(double: EsploraDouble, at: int) -> None:
    """Branch B overtakes just before that request is answered."""

    def turn(_: str) -> None:
        if len(double.requests) == at:
            double.follow(branches()[1])

    double.before = turn


@pytest.mark.parametrize("at", range(1, 120, 9))
async def test_a_reorg_between_any_two_requests(make: MakeSource, forking: EsploraDouble, at: int) -> None:
    """No step that does not fit, whenever it happens; in the end the store is where the API is."""
    forking.remembers_stale = True
    turning(forking, at)
    store, source = Store(), make(forking)
    await store.follow(source)
    forking.follow(branches()[1])
    await store.follow(source)
    assert store.hashes == [block.hash for block in branches()[1]]


@pytest.mark.parametrize("at", range(1, 120, 9))
async def test_a_reorg_between_any_two_requests_to_one_that_forgets(
    make: MakeSource, forking: EsploraDouble, at: int
) -> None:
    """It may be an error on the way; tried again it goes on, unless the very tip of the store was forgotten."""
    turning(forking, at)
    store, source = Store(), make(forking)
    for _ in range(2):
        with suppress(NodeUnavailable, SourceError):
            await store.follow(source)
    forking.follow(branches()[1])
    a, b = ([block.hash for block in branch] for branch in branches())
    try:
        await store.follow(source)
    except UnknownTip:
        assert store.hashes == a[: len(store.hashes)]
        assert store.hashes[-1] not in b
    else:
        assert store.hashes == b


async def test_a_header_that_was_not_there_yet(make: MakeSource, forking: EsploraDouble) -> None:
    """Servers behind one address need not know a block at the same moment: what one lacks is asked again."""
    chain = branches()[0]
    forking.follow(chain[:-2])
    store, source = Store(), make(forking)
    await store.follow(source)
    forking.follow(chain)
    forking.answers(f"/block/{chain[-2].hash}$", 404, b"Block not found", 1)
    with suppress(NodeUnavailable):
        await store.follow(source)
    await store.follow(source)
    assert store.hashes[-1] == chain[-1].hash


def test_answers_of_the_double_are_as_the_api_gives_them(api: EsploraDouble) -> None:
    """The double itself: a status for any hash, 404 elsewhere, pages of 25."""
    assert api.respond("/api/block-height/600") == Answer(404, b"Block not found")
    assert api.respond(f"/api/block/{'00' * 32}/status").body.startswith(b'{"in_best_chain": false')
    assert api.respond(f"/api/block/{'00' * 32}").status == 404
    assert api.respond(f"/api/block/{api.blocks[170].hash}/txs/1").status == 400
    assert api.respond(f"/api/block/{api.blocks[170].hash}/txs/25").status == 404
