"""The double against the transcripts of a real node: request by request, byte by byte, message by message."""

from __future__ import annotations

import re
import socket
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.node.double import NodeDouble
from helpers.node.interface import read_json
from sources.node.transcripts import (
    DIFFERS_BY_NATURE,
    NOT_SUPPORTED,
    PASSWORD,
    REGTEST,
    TEST_BUILD,
    Exchange,
    ask,
    at_s1,
    comparable,
    exchanges,
    lines,
    masked_text,
    recorded_blocks,
)

LATER = {"getchaintips_after_reorg", "getchaintips_with_invalid", "getblock_invalidated"}
"""Marked S1, but asked between the scenarios of `zmq.jsonl`."""


@pytest.fixture(scope="module")
def s1(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeDouble]:
    double = at_s1(tmp_path_factory.mktemp("s1"))
    yield double
    double.close()


def in_state(state: str, *, later: bool = False) -> list[Exchange]:
    found = [e for e in exchanges() if e.state.startswith(state) and e.supported and (e.name in LATER) == later]
    assert found
    return found


def agree(double: NodeDouble, recorded: list[Exchange]) -> int:
    """How many answers are the same; a test fails at the first that is not."""
    for exchange in recorded:
        assert comparable(ask(double.url, exchange)) == comparable(exchange), (exchange.name, exchange.body)
    return len(recorded)


def test_what_is_not_compared_is_this_much(shared: Path) -> None:
    """Everything recorded is either supported, or a method or endpoint on the list."""
    skipped = [exchange for exchange in exchanges() if not exchange.supported]
    assert len(exchanges()) == 360
    assert len(skipped) == 28
    assert len(NOT_SUPPORTED) == 12
    assert len(DIFFERS_BY_NATURE) == 7


def test_every_answer_in_state_s1(s1: NodeDouble) -> None:
    """RPC and REST, errors and all: status, reason, headers in their order, body."""
    assert agree(s1, in_state("S1")) == 277


def test_whole_exchanges_byte_for_byte(s1: NodeDouble) -> None:
    """HTTP/1.1 and 1.0, pipelining, HEAD, what is no HTTP; and whether the connection is closed then."""
    compared = 0
    for row in lines("http_raw.jsonl"):
        request = row["request"].replace("<base64 of test:test>", "dGVzdDp0ZXN0").encode("latin-1")
        expected = row["response"].encode("latin-1")
        with socket.create_connection((s1.url.split("/")[2].split(":")[0], port_of(s1)), timeout=5) as connection:
            connection.sendall(request)
            answer = b""
            while len(answer) < len(expected) and (part := connection.recv(65536)):
                answer += part
            assert without_date(answer) == without_date(expected), row["name"]
            connection.settimeout(0.05)
            try:
                closed = connection.recv(1) == b""
            except TimeoutError:
                closed = False
            assert closed == row["server_closed"], row["name"]
        compared += 1
    assert compared == 10


def port_of(double: NodeDouble) -> int:
    return int(double.url.rpartition(":")[2])


def without_date(raw: bytes) -> str:
    return re.sub(r"Date: [^\r]*", "Date: ?", masked_text(raw.decode()))


def test_answers_while_it_warms_up(shared: Path, make_node: Any) -> None:
    double = make_node("double", password=PASSWORD)
    compared = 0
    for exchange in in_state("warm-up"):
        said = re.search(r'"message":"([^"]*)"|unavailable: ([^\r]*)', exchange.answer.decode())
        if said:
            double.warming_up = said.group(1) or said.group(2)
        compared += agree(double, [exchange])
    assert compared == 8


def test_nobody_listens_before_the_start_and_after_the_stop(make_node: Any) -> None:
    double = make_node("double", start=False)
    for change in (lambda: None, double.start, double.stop, double.start, double.kill):
        change()
        running = change == double.start
        try:
            socket.create_connection(("127.0.0.1", port_of(double)), timeout=1).close()
        except ConnectionRefusedError:
            assert not running
        else:
            assert running


def test_answers_of_a_node_that_knows_only_genesis(shared: Path, tmp_path: Path) -> None:
    """Initial block download; then with three old blocks, which don't end it."""
    double = NodeDouble(tmp_path, txindex=True)
    double.warnings = [TEST_BUILD]
    double.start(password=PASSWORD)
    fresh, three = in_state("ibd")[:-1], in_state("ibd")[-1:]
    assert three[0].name == "getblockchaininfo_ibd_3_blocks"
    double.rpc("setmocktime", clock_of(fresh[0], transactions=1))
    compared = agree(double, fresh)
    for raw in list(recorded_blocks().values())[1:4]:
        double.rpc("submitblock", raw.hex())
    double.rpc("setmocktime", clock_of(three[0], transactions=4))
    assert compared + agree(double, three) == 9
    double.close()


def clock_of(info: Exchange, *, transactions: int) -> int:
    """When a node with so many transactions said this, from the progress it claimed to have made."""
    said = read_json(info.answer)["result"]
    return int(said["time"] + round(transactions * (1 / float(said["verificationprogress"]) - 1) * 1000))


def test_answers_of_other_configurations(s1: NodeDouble, make_node: Any, tmp_path: Path) -> None:
    """A whitelist, a full queue, REST and ZMQ off, a cookie."""
    s1.whitelist = {"getblockcount"}
    compared = agree(s1, [at_height(exchange, 134, 121) for exchange in in_state("rpcwhitelist")])
    s1.whitelist, s1.busy = None, True
    compared += agree(s1, in_state("rpcthreads"))
    s1.busy = False
    off = make_node("double", rest=False, zmq=False, password=PASSWORD)
    compared += agree(off, in_state("rest off"))
    off.stop()
    off.start()
    off.mine(121)
    with_cookie, with_password = in_state("cookie")
    assert off.cookie_file.stat().st_mode & 0o777 == 0o600
    assert re.fullmatch("__cookie__:[0-9a-f]{64}", off.cookie_file.read_text())
    given = {"Authorization": "Basic " + b64encode(off.cookie_file.read_bytes()).decode()}
    compared += agree(off, [replace(at_height(with_cookie, 134, 121), headers=given), with_password])
    assert compared == 10


def at_height(exchange: Exchange, recorded: int, height: int) -> Exchange:
    """The same, had the recorded node been asked at another height of as many digits."""
    answer = exchange.answer.replace(str(recorded).encode(), str(height).encode())
    return replace(exchange, answer=answer)


def test_answers_of_a_pruned_node(shared: Path, make_node: Any) -> None:
    """The recorded one had another chain: the hash of its block 10 is put in the place of ours."""
    double = make_node("double", blocks=20, password=PASSWORD)
    double.pruned_below = 15
    known = next(e for e in in_state("pruned") if e.name == "block_pruned_bin").path[12:76]
    compared = 0
    for exchange in in_state("pruned"):
        if exchange.status == 200 and exchange.name != "getindexinfo_no_txindex":
            continue  # the height, hashes and blocks of that chain
        asked = with_hash(exchange, known, double.rpc("getblockhash", 10))
        compared += agree(double, [asked])
    assert compared == 8
    assert double.rpc("getblockchaininfo")["pruneheight"] == 15
    assert len(double.rpc("getblock", double.rpc("getblockhash", 15), 0)) > 160


def with_hash(exchange: Exchange, theirs: str, ours: str) -> Exchange:
    path = exchange.path.replace(theirs, ours)
    body, answer = ((text or b"").replace(theirs.encode(), ours.encode()) for text in (exchange.body, exchange.answer))
    return replace(exchange, path=path, body=body or None, answer=answer)


@pytest.mark.slow
def test_answers_at_the_tip_of_a_long_chain(shared: Path, tmp_path: Path) -> None:
    """1,213 blocks with three reorgs; estimates as they were recorded; and a tip that is months old."""
    from helpers.recorded import recorded_run

    double = NodeDouble(tmp_path)
    double.warnings = [TEST_BUILD]
    double.start(password=PASSWORD)
    double.state.mock_time = 1768281461
    for raw in list(recorded_run("regtest_core31", REGTEST).blocks.values())[1:]:
        double.rpc("submitblock", raw.hex())
    recent, stale = in_state("regtest_core31 at its tip"), in_state("regtest_core31 at its tip, real clock")
    for exchange in recent:
        if exchange.name == "estimatesmartfee_with_data":
            (target, *_), found = read_json(exchange.body)["params"], read_json(exchange.answer)["result"]
            double.fee_estimates[target] = (int(found["feerate"] * 10**8), found["blocks"])
    assert agree(double, [e for e in recent if e not in stale]) == 8
    double.stop()
    double.state.mock_time = clock_of(stale[0], transactions=26_301)
    double.start(password=PASSWORD)
    assert agree(double, stale) == 2
    double.close()
