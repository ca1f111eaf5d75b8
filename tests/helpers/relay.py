"""A wire between a node and its reader that a test can listen to, bend, cut, and plug into another node."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 60
MARK = "\ue010"
"""Around a text of JSON that is to stand in it without its quotes."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; with `cut` the connection ends in the middle of its body."""

    status: int
    body: bytes = b""
    kind: str = "application/json"
    cut: bool = False


class Refusal:
    """To be answered as an error of the node's."""

    def __init__(self, code: int, message: str) -> None:
        self.error = {"code": code, "message": message}


class Verbatim(str):
    """JSON text to be answered as it is."""

    __slots__ = ()


class Relay:
    """Forwards HTTP to `target`, a connection a request; the reader sees one address whatever node is behind it.

    What was asked is called by its name: the method for RPC (each one of a batch), the path for REST.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.answer = self._answer
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.straight()
        Thread(target=self._server.serve_forever, args=(0.01,), name="relay").start()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Hang up on everybody."""
        self._server.shutdown()
        self._server.hang_up()
        self._server.server_close()

    def straight(self) -> None:
        """Bend nothing, and forget what was asked."""
        self.asked: list[str] = []
        self.before: Callable[[str], None] = lambda _: None
        """Called with each name before it is forwarded."""
        self.results: dict[str, Callable[[list[Any], Any], Any]] = {}
        """Method -> what to give instead of its result; called with the parameters and the true result."""
        self.whole: dict[str, Callable[[Answer], Answer]] = {}
        """Beginning of a name -> what to answer instead of the true HTTP answer."""

    def without(self, *beginnings: str) -> None:
        """These endpoints do not exist."""
        for beginning in beginnings:
            self.whole[beginning] = lambda _: Answer(404, kind="text/html; charset=ISO-8859-1")

    def _answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        calls = _calls(body) if method == "POST" else []
        names = [call["method"] for call in calls] or [path]
        for name in names:
            self.asked.append(name)
            self.before(name)
        answer = self._forward(method, path, headers, body)
        if self.results and answer.body:
            answer = self._bent(calls, answer)
        for beginning, change in list(self.whole.items()):
            if any(name.startswith(beginning) for name in names):
                return change(answer)
        return answer

    def _forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        address = urlsplit(self.target)
        assert address.hostname
        connection = HTTPConnection(address.hostname, address.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(), answer.headers.get("Content-Type", "text/plain"))
        finally:
            connection.close()

    def _bent(self, calls: list[dict[str, Any]], answer: Answer) -> Answer:
        changes = {n: self.results[call["method"]] for n, call in enumerate(calls) if call["method"] in self.results}
        if not changes:
            return answer
        whole = json.loads(answer.body, parse_float=Decimal)
        for n, reply in enumerate(whole if isinstance(whole, list) else [whole]):
            if n in changes:
                given = changes[n](calls[n].get("params", []), reply.pop("result", None))
                reply.update(given.__dict__ if isinstance(given, Refusal) else {"result": given})
        text = json.dumps(_writable(whole), ensure_ascii=False)
        return replace(answer, body=text.replace(f'"{MARK}', "").replace(f'{MARK}"', "").encode())


class _Server(ThreadingHTTPServer):
    """Closes its connections when it ends, and waits for their threads."""

    daemon_threads = False
    answer: Callable[[str, str, dict[str, str], bytes], Answer]

    def __init__(self, *arguments: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*arguments)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        given = {k: v for k, v in self.headers.items() if k.lower() in ("authorization", "content-type")}
        self.close_connection = True
        with suppress(OSError, HTTPException):  # the node hangs up, and so do we; or the reader has
            answer = self.server.answer(self.command, self.path, given, body)
            fields = f"Content-Type: {answer.kind}\r\nContent-Length: {len(answer.body)}"
            head = f"HTTP/1.1 {answer.status} \r\n{fields}\r\n\r\n".encode()
            self.wfile.write(head + (answer.body[: len(answer.body) // 2] if answer.cut else answer.body))
            self.close_connection = answer.cut

    do_POST = do_GET  # noqa: N815 the base class asks for it

    def handle(self) -> None:
        with suppress(OSError):
            super().handle()

    def log_message(self, *_: Any) -> None:
        """Not to standard error."""


def _calls(body: bytes) -> list[dict[str, Any]]:
    asked = json.loads(body)
    return asked if isinstance(asked, list) else [asked]


def _writable(value: Any) -> Any:
    """Numbers as they were written, and verbatim parts, marked."""
    if isinstance(value, dict):
        return {name: _writable(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_writable(one) for one in value]
    if isinstance(value, Decimal):
        return f"{MARK}{value:f}{MARK}"
    return f"{MARK}{value}{MARK}" if isinstance(value, Verbatim) else value


def body(value: bytes, status: int = 200) -> Callable[[Answer], Answer]:
    """A change to an answer with this body."""
    return lambda _: Answer(status, value)


def cut(answer: Answer) -> Answer:
    """The same answer, ended in the middle."""
    return replace(answer, cut=True)
