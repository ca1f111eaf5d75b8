"""Asking a node: who we are to it, what it says when it can't answer, and answers that make no sense."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from helpers.node.double import NodeDouble
from helpers.node.interface import RPC_USER, TestNode
from helpers.relay import Refusal, Relay, Verbatim, body, cut
from sources.node.chains import REGTEST, enrich, facts_of, running, source_of
from sources.node.conftest import KINDS, MATURE, MakeNode
from utxoiq.chain.hashes import Hash256
from utxoiq.errors import ConfigError, DecodeError, NodeError, NodeRefused, NodeUnavailable, RpcError
from utxoiq.models import MempoolSnapshot
from utxoiq.sources.node.rpc import Rpc, satoshis
from utxoiq.sources.node.source import NodeSource
from utxoiq.sources.steps import ChainTip, Place
from utxoiq.units import COIN, MAX_MONEY

SECRET = "correct-horse-battery"
HUNG = 20
"""Seconds after which something hangs."""


@pytest.fixture(scope="module", params=KINDS)
def still(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestNode]:
    """A running node with 110 blocks that no test stops."""
    with running(request.param, tmp_path_factory.mktemp("still") / "node", MATURE) as node:
        yield node


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeDouble]:
    """A double whose faults are all taken back by the test that made them."""
    with running("double", tmp_path_factory.mktemp("faulty") / "node", MATURE) as node:
        assert isinstance(node, NodeDouble)
        yield node


@pytest.fixture
def relay(still: TestNode) -> Iterator[Relay]:
    with Relay(still.url) as relay:
        yield relay


# Who we are


def test_the_cookie_of_each_start(node: TestNode) -> None:
    """Written anew at each start: the source reads it again, and nobody sees an error once the node is up."""
    with closing(source_of(node)) as source:
        assert source.chain_tip().height == MATURE
        for end in (node.stop, node.kill):
            secret = node.cookie_file.read_text()
            end()
            with pytest.raises(NodeUnavailable, match="no connection"):
                source.best_hash()
            node.start()
            assert node.cookie_file.read_text() != secret
            assert source.chain_tip().height == MATURE
            assert source.block_at(3).height == 3


def test_a_restart_between_two_calls_of_a_batch(node: TestNode) -> None:
    """The first thing asked with the old secret may be anything."""
    calls: list[Callable[[NodeSource], Any]] = [
        lambda s: s.hashes(5, 10), lambda s: s.snapshot(), lambda s: s.announced_at(), lambda s: s.network,
        lambda s: s.place(Hash256.from_display(s.best_hash())),
    ]  # fmt: skip
    with closing(source_of(node)) as source:
        for call in calls:
            source.best_hash()
            node.stop()
            node.start()
            call(source)


def test_no_cookie(still: TestNode, tmp_path: Path) -> None:
    """Says where it looked, and what else can be given."""
    missing = tmp_path / "nowhere" / ".cookie"
    with closing(source_of(still, cookie_file=missing)) as source:
        with pytest.raises(NodeRefused, match=r"no cookie .*nowhere.*is the node running\?.*node.user") as refused:
            source.best_hash()
        assert "\n" not in str(refused.value)
        missing.parent.mkdir()
        missing.write_bytes(b"\xff\xfe")
        with pytest.raises(NodeRefused, match="no cookie"):
            source.best_hash()
        missing.write_text("__cookie__:0000")
        with pytest.raises(NodeRefused, match="refuses the cookie"):
            source.best_hash()
        missing.write_text(still.cookie_file.read_text() + "\n")
        assert source.chain_tip().height >= MATURE


def test_the_usual_place_of_the_cookie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By the port, as Core has it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for port, folder in ((8332, ""), (18332, "testnet3"), (48332, "testnet4"), (38332, "signet"), (18443, "regtest")):
        expected = tmp_path / ".bitcoin" / folder / ".cookie"
        with (
            closing(NodeSource(f"http://127.0.0.1:{port}")) as source,
            pytest.raises(NodeRefused, match=f"no cookie to log in with at {expected} "),
        ):
            source.best_hash()


@pytest.mark.parametrize("kind_", ["given", "in the address"])
def test_a_password(kind: str, make_node: MakeNode, kind_: str) -> None:
    """Given by itself or in the address; never told."""
    node = make_node(kind, blocks=3, password=SECRET)
    address = node.url.replace("//", f"//{RPC_USER}:{SECRET}@")
    given = {"user": RPC_USER, "password": SECRET} if kind_ == "given" else {}
    with closing(NodeSource(node.url if given else address, **given)) as source:
        assert source.chain_tip().height == 3
        assert SECRET not in source.where
        node.stop()
        with pytest.raises(NodeUnavailable) as down:
            source.best_hash()
        assert SECRET not in str(down.value)
        assert RPC_USER not in str(down.value)
        node.start(password="another")
        with pytest.raises(NodeRefused, match=r"refuses (us|this user|user)") as refused:
            source.best_hash()
        assert SECRET not in str(refused.value)
        node.stop()
        node.start(password=SECRET)
        assert source.chain_tip().height == 3


@pytest.mark.parametrize(("user", "password"), [("test", "wrong"), ("tset", SECRET), ("", ""), ("ü:", "ß€\n")])
def test_a_wrong_password(kind: str, make_node: MakeNode, user: str, password: str) -> None:
    node = make_node(kind, blocks=3, password=SECRET)
    with closing(NodeSource(node.url, user=user, password=password)) as source:
        with pytest.raises(NodeRefused, match=r"refuses (us|this user|user)") as refused:
            source.best_hash()
        assert "\n" not in str(refused.value)


def test_a_user_without_the_right(faulty: NodeDouble) -> None:
    """rpcwhitelist: what is not allowed is named."""
    faulty.whitelist = {"getbestblockhash"}
    with closing(source_of(faulty)) as source:
        source.best_hash()
        with pytest.raises(NodeRefused, match=r"does not allow us getblockhash \(rpcwhitelist, rpcallowip\)"):
            source.hashes(0, 3)
    faulty.whitelist = None


ADDRESSES = [
    "",
    "127.0.0.1:8332",
    "ftp://127.0.0.1",
    "http://",
    "http://:8332",
    "http://[::1",
    "http://a b",
    "http:///x",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_that_are_none(address: str) -> None:
    """Refused before anything is asked, in one line."""
    with pytest.raises(ConfigError) as refused:
        NodeSource(address)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "host", ["127.0.0.1:99999", f"{'a' * 70}.example:8332", "no-such-host.invalid:8332", "[::1]:1"]
)
def test_addresses_that_lead_nowhere(host: str) -> None:
    """Refused at once, or found to be down when asked: never anything else."""
    with pytest.raises((ConfigError, NodeUnavailable)) as error:
        NodeSource(f"http://{host}", user="a").best_hash()
    assert "\n" not in str(error.value)


def test_an_address_where_something_else_answers(relay: Relay) -> None:
    """A web server: 404 with a page, or 200 with one."""
    for status, kind, told in ((404, NodeRefused, "speaks no JSON-RPC"), (200, NodeUnavailable, "no JSON")):
        relay.whole["get"] = body(b"<html>hello</html>", status)
        with closing(NodeSource(relay.url, user="a")) as source, pytest.raises(kind, match=told):
            source.best_hash()


# When it can't answer


def test_warming_up(faulty: NodeDouble) -> None:
    """−28 with the node's words, also by REST; and then it answers."""
    with closing(source_of(faulty)) as source:
        source.best_hash()
        faulty.warming_up = "Verifying blocks…"
        for call in (source.best_hash, lambda: source.hashes(0, 3), source.snapshot, source.announced_at):
            with pytest.raises(NodeUnavailable, match="it is starting: Verifying blocks"):
                call()
        with pytest.raises(NodeUnavailable, match=r"Service temporarily unavailable: Verifying blocks|starting"):
            source.read(Hash256.from_display("ab" * 32), 1)
        faulty.warming_up = None
        assert source.block_at(5).height == 5


def test_a_start_as_it_happens(node: TestNode) -> None:
    """Killed and started while it is asked without a pause: only typed errors, then answers."""
    with closing(source_of(node)) as source:
        best = source.best_hash()
        node.kill()
        starting = Thread(target=node.start)
        seen: set[str] = set()
        starting.start()
        until = time.monotonic() + HUNG
        while time.monotonic() < until:
            try:
                assert source.best_hash() == best
                facts_of(source.block_at(20))
                break
            except NodeError as error:
                seen.add(type(error).__name__)
        starting.join()
        assert seen <= {"NodeUnavailable", "NodeRefused"}
        assert source.chain_tip().height == MATURE


def test_busy(faulty: NodeDouble) -> None:
    """503 `Work queue depth exceeded`, by RPC and by REST."""
    with closing(source_of(faulty)) as source:
        source.best_hash()
        faulty.busy = True
        for call in (source.best_hash, source.chain_tip, lambda: source.hashes(0, 3), source.snapshot):
            with pytest.raises(NodeUnavailable, match=r"too busy .Work queue depth exceeded"):
                call()
        with pytest.raises(NodeUnavailable, match="Work queue depth exceeded"):
            source.blocks_of.read(Hash256.from_display("ab" * 32), REGTEST)
        faulty.busy = False
        assert source.block_at(5).height == 5


def test_cut_short(still: TestNode, relay: Relay) -> None:
    """Every question, its answer ended in the middle."""
    with closing(source_of(still, relay)) as source:
        tip = Hash256.from_display(source.best_hash())
        for call in calls_of(source, tip).values():
            relay.whole[""] = cut
            with pytest.raises(NodeUnavailable, match="it hung up in mid-reply"):
                call()
            relay.straight()
            call()


def test_cut_short_by_the_double(faulty: NodeDouble) -> None:
    """The double's own switch."""
    with closing(source_of(faulty)) as source:
        for path in ("/", "/rest/"):
            faulty.truncate_next(path)
            with pytest.raises(NodeUnavailable, match="it hung up in mid-reply"):
                source.block_at(5)
            assert source.block_at(5).height == 5


def test_no_answer(faulty: NodeDouble) -> None:
    """Given up after the timeout; the next question is answered."""
    with closing(source_of(faulty, timeout=0.2)) as source:
        for path in ("/", "/rest/"):
            faulty.hang_next(HUNG, path)
            began = time.monotonic()
            with pytest.raises(NodeUnavailable, match=r"no answer within 0\.2 s"):
                source.block_at(5)
            assert time.monotonic() - began < HUNG / 2
            assert source.block_at(5).height == 5


def test_a_connection_that_was_idle(node: TestNode) -> None:
    """The node went away and came back between two questions: the dead connections of before are no error."""
    with closing(source_of(node)) as source:
        for _ in range(3):
            source.best_hash()
            source.block_at(2)
            node.stop()
            node.start()
            source.best_hash()
            source.block_at(2)


def test_a_source_that_was_closed(still: TestNode) -> None:
    """A thread that still asks gets an answer or a typed error."""
    source = source_of(still)
    source.best_hash()
    source.close()
    with suppress(NodeUnavailable):
        source.best_hash()
    source.close()


def test_errors_of_the_node(still: TestNode, relay: Relay) -> None:
    """Named with the method, Core's code and the first line of what it said."""
    with closing(source_of(still, relay)) as source:
        with pytest.raises(RpcError, match=r"getblockheader failed \(-8: \w+ must be of length 64") as error:
            source.rpc.call("getblockheader", "x")
        assert error.value.code == -8
        with pytest.raises(RpcError) as error:
            source.rpc.call("getblockheader")
        assert "\n" not in str(error.value)
        with pytest.raises(RpcError, match="-32601"):
            source.rpc.call("nosuchmethod")
        with pytest.raises(RpcError, match="-8"):
            source.rpc.batch([("getblockhash", 1), ("getblockhash", 10**6), ("getblockhash", 2)])
        assert source.rpc.batch([]) == []
        assert source.rpc.batch([("getblockhash", 0)]) == [str(REGTEST.genesis)]
        relay.results["getblockheader"] = lambda *_: Refusal(-1, "one\ntwo\x1b[31m" + "x" * 5000)
        with pytest.raises(RpcError) as error:
            source.place(Hash256.from_display("ab" * 32))
        assert "two" not in str(error.value)
        relay.results["getblockheader"] = lambda *_: Refusal(-1, "y" * 5000)
        with pytest.raises(RpcError) as error:
            source.place(Hash256.from_display("ab" * 32))
        assert len(str(error.value)) < 400


# Answers that make no sense


def calls_of(source: NodeSource, tip: Hash256) -> dict[str, Callable[[], Any]]:
    """Everything that a monitor asks of a node by RPC."""
    return {
        "chain_tip": source.chain_tip,
        "best_hash": source.best_hash,
        "place": lambda: source.place(tip),
        "rejects": lambda: source.rejects(Place(tip, tip, 5, 0, 1, False)),
        "hashes": lambda: source.hashes(3, 4),
        "tip": source.tip,
        "lowest": source.lowest,
        "network": lambda: (source.forget(), source.network),
        "snapshot": source.snapshot,
        "announced_at": source.announced_at,
        "block_at": lambda: source.block_at(5),
        "length": lambda: len(source),
        "branch": lambda: list(source.branch(tip, 2)),
    }


WHOLE = [
    b"", b" ", b"null", b"true", b"5", b"1.5", b'"text"', b"[]", b"[null]", b"[5]", b"[[]]", b"{}", b"{", b"[",
    b"\xff\xfe", b"\x00" * 100, b"<html></html>", b'{"result"', b'{"result": }', b'{"id": 0}', b'{"result": null}',
    b'{"error": "text"}', b'{"error": 5}', b'{"error": []}', b'{"error": {}}', b'{"error": true}',
    b'{"error": {"code": "x"}}',
    b'{"error": {"code": null, "message": null}}', b'{"error": {"code": 1.5, "message": 7}}',
    b'{"error": {"code": [], "message": {}}}', b'{"error": {"code": 1e400}}', b'{"error": {"code": NaN}}',
    b'{"result": Infinity}', b'{"result": ' + b"9" * 5000 + b"}", b"[" * 100_000, b'{"result":' * 50_000,
    '{"result": "\ud800"}'.encode("utf-8", "surrogatepass"), b'{"result": "\\ud800"}',
]  # fmt: skip


@pytest.mark.parametrize("status", [200, 500])
def test_whole_answers_that_make_no_sense(faulty: NodeDouble, status: int) -> None:
    """To every question, not only to those they were made for: a typed error of one line."""
    with Relay(faulty.url) as relay, closing(source_of(faulty, relay)) as source:
        tip = Hash256.from_display(source.best_hash())
        wrong = []
        for content in WHOLE:
            relay.whole = {"get": body(content, status)}
            for name, call in calls_of(source, tip).items():
                complaint = complaint_of(call)
                if complaint:
                    wrong.append((name, content[:40], complaint))
    assert wrong == []


ASKED = {
    "getblockchaininfo": ["chain_tip", "lowest", "network"],
    "getbestblockhash": ["best_hash", "snapshot"],
    "getblockheader": ["place"],
    "getblockhash": ["hashes", "network"],
    "getchaintips": ["rejects"],
    "getzmqnotifications": ["announced_at"],
    "getmempoolinfo": ["snapshot"],
    "getmempoolfeeratediagram": ["snapshot"],
    "getrawmempool": ["snapshot"],
}
SPOILT: list[Any] = [
    None, True, -1, 0, 10**30, -(10**30), Verbatim("0.5"), Verbatim("-0.00000001"), Verbatim("1e-9"), Verbatim("NaN"),
    Verbatim("1e9000"), Verbatim("-Infinity"), "", "x", "zz" * 32, "ab" * 32, "é" * 64, [], [None], {"a": None},
]  # fmt: skip


READ = {
    "chain", "blocks", "bestblockhash", "chainwork", "pruneheight", "previousblockhash", "height", "time",
    "confirmations", "status", "hash", "type", "address", "size", "bytes", "mempoolminfee", "minrelaytxfee", "weight",
    "fee", "fees", "ancestor", "modified", "ancestorsize", "depends",
}  # fmt: skip
"""Keys of answers that something is made of."""


def spoilt(value: Any) -> Iterator[Any]:
    """The same JSON value with each part that is read missing, or replaced by each of what it can't be."""
    yield from SPOILT
    parts = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, part in [(k, v) for k, v in parts if k in READ or isinstance(k, int) or len(k) == 64]:
        changed = copy.copy(value)
        del changed[key]
        yield changed
        for other in spoilt(part):
            changed = copy.copy(value)
            changed[key] = other
            yield changed


def makes_sense(given: Any) -> bool:
    """What a call returned has the types it promises."""
    if isinstance(given, ChainTip):
        return type(given.height) is int and type(given.work) is int
    if isinstance(given, Place):
        return type(given.height) is int and type(given.time) is int and type(given.on_best_chain) is bool
    if isinstance(given, MempoolSnapshot):
        numbers = (given.transactions, given.vsize, given.minfee_kvb, given.relayfee_kvb)
        whole = all(type(number) is int and 0 <= number < 2**63 for number in numbers)
        return whole and type(given.tip) is str and len(given.tip) == 64 and bool(given.snapshot_id)
    return given is not None


@pytest.mark.parametrize("method", ASKED)
def test_results_that_make_no_sense(double: NodeDouble, method: str) -> None:
    """Each part of each result, missing or of another kind: a typed error, or an answer of the right types."""
    double.mine(1, spends=2)
    double.send(3, spend=double.send(1))
    double.side_branch(double.rpc("getblockhash", 100), 2)
    double.invalidate(double.rpc("getblockhash", MATURE + 1))
    if method == "getrawmempool":
        double.methods_missing = {"getmempoolfeeratediagram"}
    with Relay(double.url) as relay, closing(source_of(double, relay)) as source:
        tip, told = Hash256.from_display(source.best_hash()), Told()
        wrong = []
        for name in ASKED[method]:
            relay.results = {method: told}
            call = calls_of(source, tip)[name]
            call()
            for value in spoilt(told.result):
                relay.results[method] = lambda *_, value=value: value
                complaint = complaint_of(call)
                if complaint:
                    wrong.append((name, shown(value), complaint))
    assert wrong == []


class Told:
    """Keeps a true result."""

    result: Any = None

    def __call__(self, _: list[Any], result: Any) -> Any:
        self.result = result
        return result


def complaint_of(call: Callable[[], Any]) -> str | None:
    """What is wrong with how a call ended, if anything is."""
    try:
        given = call()
        return None if makes_sense(given) else str(given)[:200]
    except NodeError as error:
        return str(error) if "\n" in str(error) else None
    except DecodeError:
        return None  # of a block that is not the one asked for
    except Exception as error:  # noqa: BLE001
        return repr(error)[:100]


def shown(value: Any) -> str:
    return json.dumps(value, default=str)[:160]


# Amounts


@pytest.mark.parametrize(
    ("text", "sat"),
    [
        ("0.57", 57_000_000), ("20999999.9769", 2_099_999_997_690_000), ("0.00000001", 1), ("1e-8", 1),
        ("5.7E-1", 57_000_000), ("2.09999999769E+7", 2_099_999_997_690_000), ("0", 0), ("0.00000000", 0),
        ("-0.00000000", 0), ("1", COIN), ("21000000.00000000", MAX_MONEY), ("0.10000000000000000000", COIN // 10),
        ("0.29", 29_000_000), ("1.1e0", 110_000_000),
        ("4.35", 435_000_000), ("8.9", 890_000_000), ("0.07", 7_000_000), ("1.13", 113_000_000), ("9.95", 995_000_000),
    ],
)  # fmt: skip
def test_amounts_are_exact(text: str, sat: int) -> None:
    """As written by a node: those that floats get wrong, the largest, the smallest, and with exponents."""
    amount = json.loads(text, parse_float=Decimal)
    found = satoshis(amount)
    assert (found, type(found)) == (sat, int)


@pytest.mark.parametrize(
    "text",
    [
        "0.000000001", "1e-9", "0.123456789", "1e-400", "-0.00000001", "-1", "21000000.00000001", "21000001", "1e9000",
        "1e999999", "1e999999999999999999", "0.000000010000000000000000000000000000000001",
        "20999999.97690000000000000000000000000000000000000001",
    ],
)  # fmt: skip
def test_amounts_that_are_none(text: str) -> None:
    """Parts of a satoshi, less than nothing, more than there will ever be: a typed error, at once."""
    with pytest.raises((NodeUnavailable, ArithmeticError, ValueError)):
        satoshis(json.loads(text, parse_float=Decimal))


def test_no_float_in_any_answer(kind: str, make_node: MakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the node says by RPC, none of it was ever a float."""
    node = enrich(make_node(kind, blocks=MATURE))
    node.send(3, spend=node.send(1.37))
    seen: set[str] = set()
    honest = Rpc._result

    def looked_at(self: Rpc, method: str, answer: Any) -> Any:
        result = honest(self, method, answer)
        seen.add(method)
        assert not list(floats(result)), method
        return result

    monkeypatch.setattr(Rpc, "_result", looked_at)
    for rest in (True, False):
        with closing(source_of(node, rest=rest)) as source:
            tip = Hash256.from_display(source.best_hash())
            for call in calls_of(source, tip).values():
                call()
            for block in source.blocks():
                facts = facts_of(block)
                assert {name for name, value in facts.items() if list(floats(value))} <= {"coin_days_destroyed"}
            snapshot = source.snapshot()
            assert snapshot
            assert not list(floats(vars_of(snapshot)))
    assert seen >= {"getblock", "getrawtransaction", "getmempoolfeeratediagram", "getmempoolinfo", "getblockheader"}


def vars_of(snapshot: MempoolSnapshot) -> Any:
    from dataclasses import asdict

    return asdict(snapshot)


def floats(value: Any) -> Iterator[float]:
    """All floats in a JSON value."""
    if isinstance(value, float):
        yield value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        yield from floats(part)


def test_amounts_on_the_wire(still: TestNode, relay: Relay) -> None:
    """Coins of amounts that floats get wrong, by `getblock` 3 as the node writes them, and with exponents."""
    amounts = {
        "0.57": 57_000_000,
        "20999999.9769": 2_099_999_997_690_000,
        "1E-8": 1,
        "2.09999999769e+7": 2_099_999_997_690_000,
    }
    (name,) = still.mine(1, spends=1)
    with closing(source_of(still, relay, rest=False)) as source:
        for text, sat in amounts.items():

            def change(_: list[Any], result: Any, text: str = text) -> Any:
                if isinstance(result, dict):
                    result["tx"][1]["vin"][0]["prevout"]["value"] = Verbatim(text)
                return result

            relay.results["getblock"] = change
            _, spent = source.blocks_of.read(Hash256.from_display(name), REGTEST)
            assert spent
            assert spent.outputs.value.tolist()[1] == sat


def test_a_closed_wire(still: TestNode, relay: Relay) -> None:
    """Nobody at the address any more."""
    with closing(source_of(still, relay)) as source:
        source.best_hash()
        relay.close()
        with suppress(NodeUnavailable):
            source.best_hash()
        with pytest.raises(NodeUnavailable, match="no connection"):
            source.best_hash()
