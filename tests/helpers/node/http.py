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
METHODS = ("GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH")
BAD_REQUEST = b"<HTML><HEAD>\n<TITLE>400 Bad Request</TITLE>\n</HEAD><BODY>\n<H1>Bad Request</H1>\n</BODY></HTML>\n"


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


class HttpServer:
    """Listens on loopback, a thread for each connection; `stop` drops them all and waits for the threads."""

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

    def stop(self) -> None:
        """Close the port and every connection."""
        if self._listener is None:
            return
        with self._lock:
            open_sockets, self._listener = [self._listener, *self._connections], None
            for open_socket in open_sockets:
                _shut(open_socket)
        while threads := list(self._threads):
            for thread in threads:
                thread.join()
        open_sockets[0].close()

    def _spawn(self, target: Callable[[socket.socket], None], argument: socket.socket) -> None:
        thread = Thread(target=self._run, args=(target, argument), name="node double", daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def _run(self, target: Callable[[socket.socket], None], argument: socket.socket) -> None:
        try:
            target(argument)
        finally:
            self._threads.discard(current_thread())

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                wanted = self._listener is listener
                if wanted:
                    self._connections.add(connection)
            if not wanted:
                connection.close()
                return
            self._spawn(self._converse, connection)

    def _converse(self, connection: socket.socket) -> None:
        try:
            # an OSError: the other side, or `stop`, went away
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
        if len(words) != 3 or words[0] not in METHODS or words[2] not in ("HTTP/1.0", "HTTP/1.1"):
            refused = Request("GET", "", "HTTP/1.1", {}, b"")
            headers = [("Content-Type", "text/html"), ("Connection", "close")]
            connection.sendall(Response(400, BAD_REQUEST, headers).encoded(refused))
            return False
        headers = {}
        while (line := reader.readline(65536)) not in (b"\r\n", b"\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        body = reader.read(int(headers.get("content-length", 0)))
        request = Request(words[0], words[1], words[2], headers, body)
        response = self.handler(request)
        connection.sendall(response.encoded(request))
        return not (response.closes or request.wants_close)


def _shut(open_socket: socket.socket) -> None:
    with suppress(OSError):
        open_socket.shutdown(socket.SHUT_RDWR)
