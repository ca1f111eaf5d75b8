"""The recorded answers of a real node: its blocks, and how an answer of the double is compared with one of them."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from dataclasses import dataclass, replace
from functools import cache
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from helpers.node.double import NodeDouble
from helpers.node.interface import read_json
from helpers.recorded import SHARED, read_run, unpacked
from utxoiq.chain.network import NETWORKS

REGTEST = NETWORKS["regtest"]
RECORDED = SHARED / "node"
TEST_BUILD = "This is a pre-release test build - use at your own risk - do not use for mining or merchant applications"
PASSWORD = "test"

DIFFERS_BY_NATURE = {
    "size_on_disk": r'(?<="size_on_disk":)\d+',
    "usage": r'(?<="usage":)\d+',
    "duration": r'(?<="duration":)\d+',
    "logpath": r'(?<="logpath":)"[^"]*"',
    "address": r"tcp://127\.0\.0\.1:\d+",
    "help": r'(?<="code":-1,"message":")(\w+( height)?\\n\\n)([^"\\]|\\.)*',
    "uptime": r'^\{"result":\d(?=,"error":null,"id":"utxoiq"\}\n$)',
}
"""Patterns of what is not compared: sizes on disk and in memory, durations, paths, ports, help texts, the uptime.

Of a help text, which a wrong number of arguments gets, the first line is compared.
"""
DIFFERS = re.compile("|".join(DIFFERS_BY_NATURE.values()))

NOT_SUPPORTED = {
    "estimaterawfee": "no fee estimator is behind the double",
    "gettxoutsetinfo": "nobody asks for a hash over all coins",
    "getnettotals": "there is no peer-to-peer network",
    "getmininginfo": "the tests mine by themselves",
    "getblocktemplate": "the tests mine by themselves",
    "getdeploymentinfo": "constants of consensus",
    "getchainstates": "sizes of caches",
    "getchaintxstats": "nobody asks for it",
    "help": "texts for people",
    "/rest/getutxos": "nobody asks for it",
    "/rest/deploymentinfo": "constants of consensus",
    "/rest/blockfilter": "the index is off in every test",
}
"""Methods and endpoints the double has not, and why not."""


@dataclass(frozen=True)
class Exchange:
    """A recorded request and its answer."""

    name: str
    state: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None
    status: int
    reason: str
    answer_headers: list[list[str]]
    answer: bytes

    @property
    def supported(self) -> bool:
        calls = read_json(self.body) if self.body and self.body[:1] == b"{" and self.body[-1:] == b"}" else {}
        return calls.get("method") not in NOT_SUPPORTED and not any(map(self.path.startswith, NOT_SUPPORTED))


@cache
def recorded_blocks() -> dict[str, bytes]:
    """All blocks of the recorded node by hash, in the order it received them."""
    key = (RECORDED / "blocks" / "xor.dat").read_bytes()
    found: dict[bytes, bytes] = {}
    for path in sorted((RECORDED / "blocks").glob("blk*.gz")):
        found |= read_run(unpacked(path), b"", key, REGTEST).blocks
    return {block_hash[::-1].hex(): raw for block_hash, raw in found.items()}


def lines(name: str) -> list[dict[str, Any]]:
    """The records of one file."""
    return [json.loads(line) for line in (RECORDED / name).read_text().splitlines()]


@cache
def exchanges() -> list[Exchange]:
    """Every recorded exchange by RPC and REST."""
    rows = [row for name in ("rpc.jsonl", "rest.jsonl") for row in lines(name) if row["response"]]
    return [_exchange(row["name"], row["state"], row["request"], row["response"]) for row in rows]


def _exchange(name: str, state: str, request: dict[str, Any], response: dict[str, Any]) -> Exchange:
    headers = dict(request.get("headers") or {})
    given = re.fullmatch(r'Basic base64\("(.*)"\)', headers.get("Authorization", ""))
    if given:
        headers["Authorization"] = "Basic " + b64encode(given.group(1).encode()).decode()
    body = request.get("body")
    binary = response.get("body_hex")
    answer = bytes.fromhex(binary) if binary is not None else (response.get("body") or "").encode()
    return Exchange(
        name, state, request["method"], request["path"], headers, None if body is None else body.encode(),
        response["status"], response["reason"], response["headers"], answer,
    )  # fmt: skip


def ask(url: str, exchange: Exchange) -> Exchange:
    """The same request, answered by the node at `url`."""
    connection = HTTPConnection(url.removeprefix("http://"), timeout=10)
    try:
        connection.request(exchange.method, exchange.path, exchange.body, exchange.headers)
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    headers = [[name, value] for name, value in response.getheaders() if name != "Date"]
    return replace(exchange, status=response.status, reason=response.reason, answer_headers=headers, answer=answer)


def comparable(exchange: Exchange) -> tuple[Any, ...]:
    """What two exchanges have in common if they are the same: all of it, but for what differs by nature."""
    answer, headers = exchange.answer, exchange.answer_headers
    if exchange.answer_headers[:1] != [["Content-Type", "application/octet-stream"]]:
        masked = masked_text(answer.decode())
        if masked != answer.decode():
            headers = [[name, "?" if name == "Content-Length" else value] for name, value in headers]
        answer = masked.encode()
    return exchange.status, exchange.reason, headers, answer


def masked_text(text: str) -> str:
    """A text without what differs by nature."""
    return DIFFERS.sub(lambda found: (found.group(1) or "") + "?", text)


def at_s1(folder: Path) -> NodeDouble:
    """A double with the blocks and the mempool of the recorded node in its state S1."""
    state, blocks = json.loads((RECORDED / "state_S1.json").read_text()), recorded_blocks()
    double = NodeDouble(folder, txindex=True)
    double.warnings = [TEST_BUILD]
    double.start(password=PASSWORD)
    double.rpc("setmocktime", state["mempool"][0]["time"])
    hashes = list(blocks)
    # the last of S1 is the block that came second
    for block_hash in hashes[1 : hashes.index(state["named_blocks"]["never_active"]) + 1]:
        double.rpc("submitblock", blocks[block_hash].hex())
    header = next(e for e in exchanges() if e.name == "getblockheader_hex:header_only")
    double.rpc("submitheader", read_json(header.answer)["result"])
    for pooled in state["mempool"]:
        double.rpc("setmocktime", pooled["time"])
        double.rpc("sendrawtransaction", pooled["hex"], 0)
    return double
