"""An HTTP server that answers in the bytes of the one in Bitcoin Core (libevent's): header by header, in its order."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus
from threading import Lock, Thread, current_thread
from typing import BinaryIO

DEFAULT_TYPE = ("Content-Type", "text/html; charset=ISO-8859-1")
METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE")


@dataclass(frozen=True)
class Request:
    """One request; header names in lower case."""

    method: str
    path: str
    version: str
    headers: dict[str, str]
    body: bytes

    @property
    def wants_close(self) -> bool:
        asked = self.headers.get("connection", "").lower()
        return asked == "close" if self.version == "HTTP/1.1" else asked != "keep-alive"


@dataclass
class Response:
    """What a handler answers; `sent` of the body goes out before the connection is closed, or all of it."""

    status: int
    body: bytes = b""
    headers: list[tuple[str, str]] = field(default_factory=list)
    sent: int | None = None

    def encoded(self, request: Request) -> bytes:
        """Status line, headers and body for a request."""
        status, headers = HTTPStatus(self.status), list(self.headers)
        has_body = self.status != HTTPStatus.NO_CONTENT and request.method != "HEAD"
        if request.version == "HTTP/1.1":
            headers.append(("Date", formatdate(usegmt=True)))
        if has_body and (request.version == "HTTP/1.1" or not request.wants_close):
            headers.append(("Content-Length", str(len(self.body))))
        if has_body and not any(name == "Content-Type" for name, _ in headers):
            headers.append(DEFAULT_TYPE)
        if request.headers.get("connection", "").lower() == "close":
            headers = [(name, value) for name, value in headers if name != "Connection"] + [("Connection", "close")]
        lines = [f"{request.version} {self.status} {status.phrase}", *(f"{name}: {value}" for name, value in headers)]
        return "\r\n".join([*lines, "", ""]).encode() + self.body[: self.sent]

    @property
    def closes(self) -> bool:
        return self.sent is not None or ("Connection", "close") in self.headers


def refusal(status: HTTPStatus) -> bytes:
    """What libevent itself answers to what it can't read."""
    page = f"<HTML><HEAD>\n<TITLE>{status.value} {status.phrase}</TITLE>\n</HEAD><BODY>\n<H1>{status.phrase}</H1>\n"
    headers = [("Content-Type", "text/html"), ("Connection", "close")]
    response = Response(status.value, f"{page}</BODY></HTML>\n".encode(), headers)
    return response.encoded(Request("GET", "", "HTTP/1.1", {}, b""))


class HttpServer:
    """Listens on loopback, with a thread for each connection."""

    def __init__(self, port: int, handler: Callable[[Request], Response]) -> None:
        self.port = port
        self.handler = handler
        self._lock = Lock()
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self._threads: set[Thread] = set()

    def start(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self._spawn(self._accept, self._listener)

    def shut(self) -> None:
        """End the port and every connection: what is being answered is not heard any more."""
        with self._lock:
            listener, self._listener = self._listener, None
            for open_socket in filter(None, (listener, *self._connections)):
                _shut(open_socket)

    def join(self) -> None:
        """Wait for all threads. The port is free then."""
        while threads := self._running():
            for thread in threads:
                thread.join()

    def _running(self) -> list[Thread]:
        with self._lock:
            return list(self._threads)

    def _spawn(self, target: Callable[[socket.socket], None], argument: socket.socket) -> None:
        thread = Thread(target=self._run, args=(target, argument), name="node double", daemon=True)
        with self._lock:
            thread.start()
            self._threads.add(thread)

    def _run(self, target: Callable[[socket.socket], None], argument: socket.socket) -> None:
        try:
            target(argument)
        finally:
            with self._lock:
                self._threads.discard(current_thread())

    def _accept(self, listener: socket.socket) -> None:
        with listener:
            while connection := self._next(listener):
                self._spawn(self._converse, connection)

    def _next(self, listener: socket.socket) -> socket.socket | None:
        """The next connection, unless the server has been shut."""
        while self._listener is listener:
            # an OSError: shut, or the other side gave up already
            with suppress(OSError):
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    if self._listener is listener:
                        self._connections.add(connection)
                        return connection
                connection.close()
        return None

    def _converse(self, connection: socket.socket) -> None:
        try:
            # an OSError: the other side, or `shut`, ended it
            with suppress(OSError), connection, connection.makefile("rb") as reader:
                while self._exchange(connection, reader):
                    pass
        finally:
            with self._lock:
                self._connections.discard(connection)

    def _exchange(self, connection: socket.socket, reader: BinaryIO) -> bool:
        """One request and its response; False when the connection ends with it."""
        first = reader.readline(65536)
        if not first:
            return False
        words = first.decode("latin-1").split()
        if len(words) != 3 or words[2] not in ("HTTP/1.0", "HTTP/1.1"):
            connection.sendall(refusal(HTTPStatus.BAD_REQUEST))
            return False
        if words[0] not in METHODS:
            connection.sendall(refusal(HTTPStatus.NOT_IMPLEMENTED))
            return False
        headers = {}
        while (line := reader.readline(65536)) not in (b"\r\n", b"\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        size = int(headers.get("content-length", 0))
        body = reader.read(size)
        if len(body) < size:
            return False
        request = Request(words[0], words[1], words[2], headers, body)
        response = self.handler(request)
        connection.sendall(response.encoded(request))
        return not (response.closes or request.wants_close)


def _shut(open_socket: socket.socket) -> None:
    with suppress(OSError):
        open_socket.shutdown(socket.SHUT_RDWR)
