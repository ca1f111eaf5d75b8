"""The node double: Bitcoin Core's RPC, REST and ZMQ on loopback, in threads of the test's own process.

Every block is validated by libbitcoinkernel. What it answers was compared with recorded transcripts of a real node,
and the same tests drive a real node (`BitcoindNode`).
"""

from __future__ import annotations

import secrets
import time
from base64 import b64decode
from pathlib import Path
from threading import Lock, Thread, Timer
from typing import Any

from helpers.node import rest as rest_interface
from helpers.node import rpc as rpc_interface
from helpers.node import rpc_control, rpc_stats  # noqa: F401  (they fill the table)
from helpers.node.driver import Driver
from helpers.node.faults import Faults
from helpers.node.http import HttpServer, Request, Response
from helpers.node.interface import RPC_PASSWORD, RPC_USER, free_ports, read_json
from helpers.node.jsontext import write
from helpers.node.state import NodeState

UNAUTHORIZED = ("WWW-Authenticate", 'Basic realm="jsonrpc"')
WRONG_PASSWORD_DELAY = 0.25


class NodeDouble(Driver, Faults):
    """A TestNode that runs here."""

    __test__ = False

    def __init__(self, folder: Path, *, txindex: bool = False) -> None:
        Driver.__init__(self)
        Faults.__init__(self)
        http_port, zmq_port = free_ports(2)
        self.datadir = folder
        self.url = f"http://127.0.0.1:{http_port}"
        self.cookie_file = folder / "regtest" / ".cookie"
        self.zmq_address = f"tcp://127.0.0.1:{zmq_port}"
        self.cookie_file.parent.mkdir(parents=True, exist_ok=True)
        self.state = NodeState(folder, self.zmq_address, self, txindex=txindex)
        self._server = HttpServer(http_port, self._handle)
        self._credentials = ""
        self._fresh = True
        self._running = False
        self._ending = Lock()
        self._stopper: Thread | None = None
        self.bugs: list[Exception] = []
        """What the double itself failed with, while it answered."""

    def start(self, *, rest: bool = True, zmq: bool = True, password: str | None = None) -> None:
        self._stopped()
        if self._running:
            raise RuntimeError("it runs already")
        self.rest_enabled = rest
        self._credentials = f"{RPC_USER}:{password}" if password is not None else self._new_cookie()
        self.interrupted.clear()
        if zmq:
            self.state.publisher.start()
        with self.state.lock:
            self.state.begin(fresh=self._fresh)
        self._fresh = False
        self._server.start()
        self._running = True

    def stop(self) -> None:
        self._end(cleanly=True)
        self.cookie_file.unlink(missing_ok=True)

    def kill(self) -> None:
        self._end(cleanly=False)

    def close(self) -> None:
        """Stop if it runs, and let go of the chain. There is no start after this."""
        self.stop()
        self._stopped()
        self.state.chainstate.kernel.close()
        bugs, self.bugs = self.bugs, []
        if bugs:
            raise ExceptionGroup("the double is at fault", bugs)

    def rpc(self, method: str, *params: Any) -> Any:
        """Straight to the method: no fault and no log is in the way."""
        if not self._running:
            raise RuntimeError("the node is down")
        result = read_json(write(rpc_interface.execute(self.state, method, list(params), faults=False)))
        self._stop_if_asked()
        return result

    @property
    def silence_zmq(self) -> bool:
        """Messages are counted but not sent."""
        return self.state.publisher.silent

    @silence_zmq.setter
    def silence_zmq(self, silent: bool) -> None:
        self.state.publisher.silent = silent

    def drop_zmq(self, count: int) -> None:
        """Lose the next messages: their numbers are used up."""
        self.state.publisher.to_drop = count

    def _end(self, *, cleanly: bool) -> None:
        with self._ending:
            if not self._running:
                return
            self._running = False
            self._server.shut()
            self.interrupted.set()
            self._server.join()
            self.state.publisher.stop()
            with self.state.lock:
                self.state.end(cleanly=cleanly)

    def _stop_if_asked(self) -> bool:
        """After the method `stop`: shortly, so that its answer is still sent."""
        asked, self.state.stopping = self.state.stopping, False
        if asked:
            self._stopper = Timer(0.05, self.stop)
            self._stopper.start()
        return asked

    def _stopped(self) -> None:
        if self._stopper is not None:
            self._stopper.join()
        self._stopper = None

    def _new_cookie(self) -> str:
        cookie = f"__cookie__:{secrets.token_hex(32)}"
        written = self.cookie_file.with_suffix(".tmp")
        written.unlink(missing_ok=True)
        written.touch(mode=0o600)
        written.write_text(cookie)
        written.rename(self.cookie_file)
        return cookie

    def _handle(self, request: Request) -> Response:
        self.end_warm_up()
        hang = self.take_hang(request.path)
        if hang:
            self.interrupted.wait(hang)
        try:
            response = self._answer(request)
        except Exception as error:  # noqa: BLE001  (told by `close`)
            self.bugs.append(error)
            return Response(500, repr(error).encode(), [("Connection", "close")])
        if self.take_truncation(request.path):
            response.sent = len(response.body) // 2
        return response

    def _answer(self, request: Request) -> Response:
        if request.method not in ("GET", "POST", "HEAD", "PUT"):
            return Response(405)
        is_rpc = request.path == "/" or request.path.startswith("/wallet/")
        is_rest = self.rest_enabled and request.path.startswith("/rest/")
        if self.busy and (is_rpc or is_rest):
            return Response(503, b"Work queue depth exceeded")
        if is_rpc:
            return self._rpc_answer(request)
        if is_rest:
            self.requests.append(("rest", request.path))
            return rest_interface.respond(self.state, request.path) or Response(404)
        return Response(404)

    def _rpc_answer(self, request: Request) -> Response:
        if request.method != "POST":
            return Response(405, b"JSONRPC server handles only POST requests")
        given = request.headers.get("authorization")
        if given is None:
            return Response(401, headers=[UNAUTHORIZED])
        if not self._allowed(given):
            time.sleep(WRONG_PASSWORD_DELAY)
            return Response(401, headers=[UNAUTHORIZED])
        response = rpc_interface.respond(self.state, request.body)
        if self._stop_if_asked():
            response.headers.append(("Connection", "close"))
        return response

    def _allowed(self, given: str) -> bool:
        scheme, _, encoded = given.partition(" ")
        try:
            return scheme == "Basic" and b64decode(encoded.strip(), validate=True).decode() == self._credentials
        except ValueError:
            return False


__all__ = ["RPC_PASSWORD", "RPC_USER", "NodeDouble"]
