"""The Esplora API played over blocks and their spent outputs, on loopback, with every fault such an API may have.

It answers as Blockstream's electrs does: a block that is no longer on the best chain is unknown to it, unless
`remembers_stale` is set, which is how mempool.space behaves.
"""

from __future__ import annotations

import json
import re
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from helpers.recorded import Run
from helpers.reference import Reader, RefCoin, read_block, read_undo, sha256d

PAGE = 25
NOT_FOUND = b"Block not found"
Coins = Sequence[Sequence[RefCoin]]
"""The spent outputs of each transaction but the coinbase."""

transactions_of = lru_cache(32)(read_block)


def display(internal: bytes) -> str:
    return internal[::-1].hex()


@dataclass(frozen=True)
class Served:
    """A block as the API has it."""

    raw: bytes
    coins: Coins | None

    @cached_property
    def hash(self) -> str:
        return display(sha256d(self.raw[:80]))

    @property
    def parent(self) -> str:
        return display(self.raw[4:36])

    def summary(self, height: int) -> dict[str, Any]:
        """`/block/:hash`."""
        version, prev, root, at, bits, nonce = struct.unpack_from("<i32s32sIII", self.raw)
        transactions = transactions_of(self.raw)
        header = 80 + (1 if len(transactions) < 253 else 3)
        weight = 4 * header + sum(3 * len(tx.stripped) + len(tx.whole) for tx in transactions)
        return {
            "id": self.hash, "height": height, "version": version, "timestamp": at, "tx_count": len(transactions),
            "size": len(self.raw), "weight": weight, "merkle_root": display(root), "mediantime": at, "nonce": nonce,
            "previousblockhash": display(prev) if any(prev) else None, "bits": bits, "difficulty": 1.0,
        }  # fmt: skip

    def transactions(self, start: int) -> list[dict[str, Any]]:
        """`/block/:hash/txs/:start`: 25 of them, each input with the output it spends, or null where that is lost."""
        found = []
        for t, tx in enumerate(transactions_of(self.raw)[start : start + PAGE], start):
            coins: Sequence[RefCoin | None] = [None] * tx.inputs
            if t and self.coins is not None:
                coins = self.coins[t - 1]
            vin = [
                {"txid": display(txid), "vout": index, "prevout": _output(coin), "is_coinbase": t == 0}
                for (txid, index), coin in zip(_outpoints(tx.stripped), coins, strict=True)
            ]
            vout = [_output(RefCoin(value, script)) for value, script in tx.outputs]
            found.append({"txid": display(sha256d(tx.stripped)), "vin": vin, "vout": vout, "size": len(tx.whole)})
        return found


def _outpoints(stripped: bytes) -> Iterable[tuple[bytes, int]]:
    reader = Reader(stripped, 4)
    for _ in range(reader.compact_size()):
        yield reader.take(32), reader.number(4)
        reader.take(reader.compact_size() + 4)


def _output(coin: RefCoin | None) -> dict[str, Any] | None:
    return None if coin is None else {"scriptpubkey": coin.script.hex(), "value": coin.value}


def served_run(run: Run) -> dict[str, Served]:
    """Every block of a recorded chain, stale ones too, by its hash."""
    blocks = {}
    for internal, raw in run.blocks.items():
        inputs = [tx.inputs for tx in read_block(raw)]
        coins = read_undo(run.undo[internal], inputs)[0] if internal in run.undo else None
        blocks[display(internal)] = Served(raw, [] if len(inputs) == 1 else coins)
    return blocks


def branch_to(blocks: dict[str, Served], tip: str) -> list[Served]:
    """The blocks from the first one known up to `tip`."""
    found = []
    while tip in blocks:
        found.append(blocks[tip])
        tip = blocks[tip].parent
    return found[::-1]


@dataclass(frozen=True)
class Answer:
    """What is sent: of the body only `sent` bytes before hanging up, or all."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    sent: int | None = None


@dataclass
class Fault:
    """Changes the answers to requests whose path fits, so many `times` (None: always)."""

    pattern: str
    change: Callable[[Answer], Answer]
    times: int | None

    def fits(self, path: str) -> bool:
        return self.times != 0 and re.search(self.pattern, path) is not None


class EsploraDouble:
    """An API over the blocks of `chain`, heights from `first` up. Use as a context manager."""

    def __init__(self, chain: Sequence[Served] = (), first: int = 0) -> None:
        self.blocks: dict[int, Served] = {}
        self.remembers_stale = False
        self.requests: list[tuple[float, str]] = []
        """(monotonic seconds, path) of every request, in order of arrival."""
        self.before: Callable[[str], None] = lambda _: None
        """Called with the path before a request is answered: here a reorg may happen."""
        self._faults: list[Fault] = []
        self._stale: dict[str, tuple[Served, int]] = {}
        self._lock = Lock()
        self.follow(chain, first)

    def follow(self, chain: Sequence[Served], first: int = 0) -> None:
        """From now on the best chain is this; blocks that are not on it any more are stale."""
        new = dict(enumerate(chain, first))
        with self._lock:
            for height, block in self.blocks.items():
                self._stale[block.hash] = block, height
            self.blocks = new
            for block in chain:
                self._stale.pop(block.hash, None)

    def also(self, height: int, block: Served) -> None:
        """One more block, wherever it stands."""
        with self._lock:
            self.blocks[height] = block

    # Faults

    def fault(self, pattern: str, change: Callable[[Answer], Answer], times: int | None = None) -> None:
        """Change what is answered to paths that fit."""
        self._faults.append(Fault(pattern, change, times))

    def answers(self, pattern: str, status: int, body: bytes = b"", times: int | None = None, **headers: str) -> None:
        """Answer these paths with this instead."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.fault(pattern, lambda _: Answer(status, body, named), times)

    def limits(self, times: int | None, retry_after: str | None = None, pattern: str = "") -> None:
        """Answer 429 so many times."""
        headers = {} if retry_after is None else {"Retry_After": retry_after}
        self.answers(pattern, 429, b"<html>429 Too Many Requests</html>", times, **headers)

    def cuts(self, pattern: str, sent: int, times: int | None = None) -> None:
        """Hang up after so many bytes of the body."""
        self.fault(pattern, lambda answer: replace(answer, sent=sent), times)

    def rewrites(self, pattern: str, change: Callable[[Any], Any], times: int | None = None) -> None:
        """Change the JSON that is answered."""
        self.fault(pattern, lambda a: replace(a, body=json.dumps(change(json.loads(a.body))).encode()), times)

    def mend(self) -> None:
        """No faults from now on."""
        self._faults.clear()

    # Serving

    def paths(self, pattern: str = "") -> list[str]:
        """What was asked for so far."""
        return [path for _, path in self.requests if re.search(pattern, path)]

    def respond(self, path: str) -> Answer:
        """The answer to a request, faults included."""
        with self._lock:
            self.requests.append((time.monotonic(), path))
        self.before(path)
        with self._lock:
            answer = self._answer(path.split("/")[1:])
            fault = next((f for f in self._faults if f.fits(path)), None)
            if fault is not None and fault.times is not None:
                fault.times -= 1
        return fault.change(answer) if fault else answer

    def _answer(self, parts: list[str]) -> Answer:
        match parts:
            case ["api", "blocks", "tip", "hash"]:
                return Answer(200, self.blocks[max(self.blocks)].hash.encode())
            case ["api", "blocks", "tip", "height"]:
                return Answer(200, str(max(self.blocks)).encode())
            case ["api", "block-height", height]:
                block = self.blocks.get(int(height))
                return Answer(200, block.hash.encode()) if block else Answer(404, NOT_FOUND)
            case ["api", "block", block_hash, "status"]:
                return self._status(block_hash)
            case ["api", "block", block_hash, *rest]:
                found = self._find(block_hash)
                return self._about(*found, rest) if found else Answer(404, NOT_FOUND)
        return Answer(404, b"endpoint does not exist")

    def _find(self, block_hash: str) -> tuple[Served, int] | None:
        for height, block in self.blocks.items():
            if block.hash == block_hash:
                return block, height
        return self._stale.get(block_hash) if self.remembers_stale else None

    def _status(self, block_hash: str) -> Answer:
        """Of an unknown block too, which counts as stale."""
        for height, block in self.blocks.items():
            if block.hash == block_hash:
                after = self.blocks.get(height + 1)
                status = {"in_best_chain": True, "height": height, "next_best": after.hash if after else None}
                return Answer(200, json.dumps(status).encode())
        return Answer(200, json.dumps({"in_best_chain": False, "height": None, "next_best": None}).encode())

    @staticmethod
    def _about(block: Served, height: int, rest: list[str]) -> Answer:
        match rest:
            case []:
                return Answer(200, json.dumps(block.summary(height)).encode())
            case ["header"]:
                return Answer(200, block.raw[:80].hex().encode())
            case ["raw"]:
                return Answer(200, block.raw)
            case ["txs", start] if int(start) % PAGE == 0:
                page = block.transactions(int(start))
                return Answer(200, json.dumps(page).encode()) if page else Answer(404, b"start index out of range")
        return Answer(400, b"Invalid request")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/api"

    @property
    def where(self) -> str:
        """What a source over it is marked as."""
        return f"esplora {self.url}"

    def __enter__(self) -> EsploraDouble:
        self._server = _Server(self)
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,), name="esplora double")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for every thread
    request_queue_size = 64

    def __init__(self, double: EsploraDouble) -> None:
        self.double = double
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is nobody's error."""

    def stop(self) -> None:
        self.shutdown()
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:  # it is gone already
                continue
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        answer = self.server.double.respond(self.path)
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body[: answer.sent])
        if answer.sent is not None:
            self.wfile.flush()
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""
