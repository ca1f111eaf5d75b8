"""A real Bitcoin Core node, driven like the double."""

from __future__ import annotations

import os
import subprocess
import time
from base64 import b64encode
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from shutil import rmtree, which
from typing import Any

from helpers.node.driver import Driver
from helpers.node.interface import RPC_PASSWORD, RPC_USER, RpcError, free_ports, read_json
from helpers.node.jsontext import write

ABSENT = "no Bitcoin Core: put bitcoind on PATH, or name it in UTXOIQ_BITCOIND"
PATIENCE = 30
TOPICS = ("hashblock", "hashtx", "rawtx", "sequence")
QUIET = (
    "-regtest", "-server", "-listen=0", "-dnsseed=0", "-fixedseeds=0", "-connect=0", "-discover=0", "-natpmp=0",
    "-fallbackfee=0.0001", "-checkmempool=0", "-acceptnonstdtxn=1", "-disablewallet", "-printtoconsole=0",
    "-dbcache=8", "-par=1", "-maxconnections=0",
)  # fmt: skip


def bitcoind_path() -> Path | None:
    """The program in `UTXOIQ_BITCOIND`, or the one on PATH."""
    named = os.environ.get("UTXOIQ_BITCOIND")
    found = which(named or "bitcoind")
    return Path(found) if found else None


class BitcoindNode(Driver):
    """A TestNode that is a process."""

    __test__ = False

    def __init__(self, folder: Path, *, options: tuple[str, ...] = ()) -> None:
        super().__init__()
        program = bitcoind_path()
        if program is None:
            raise RuntimeError(ABSENT)
        self._program = program
        self._options = options
        self._http_port, zmq_port = free_ports(2)
        self.datadir = folder
        self.url = f"http://127.0.0.1:{self._http_port}"
        self.cookie_file = folder / "regtest" / ".cookie"
        self.zmq_address = f"tcp://127.0.0.1:{zmq_port}"
        self._said = folder / "said.txt"
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: HTTPConnection | None = None
        self._credentials: str | None = None

    def start(self, *, rest: bool = True, zmq: bool = True, password: str | None = None) -> None:
        if self._process is not None:
            raise RuntimeError("it runs already")
        self.datadir.mkdir(parents=True, exist_ok=True)
        self._credentials = None if password is None else f"{RPC_USER}:{password}"
        given = [f"-datadir={self.datadir}", f"-rpcport={self._http_port}", f"-rest={int(rest)}", *QUIET]
        if password is not None:
            given += [f"-rpcuser={RPC_USER}", f"-rpcpassword={password}"]
        if zmq:
            given += [f"-zmqpub{topic}={self.zmq_address}" for topic in TOPICS]
        with self._said.open("wb") as said:
            self._process = subprocess.Popen([self._program, *given, *self._options], stdout=said, stderr=said)
        self._wait()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._ended()

    def kill(self) -> None:
        """As by SIGKILL; what was mined is written first, as it would be on a node that ran for a while."""
        if self._process is not None:
            self.rpc("gettxoutsetinfo", "none")
            self._process.kill()
            self._ended()

    def close(self) -> None:
        """Stop if it runs, and remove the largest of its files. There is no start after this."""
        self.stop()
        for name in ("blocks", "chainstate"):
            rmtree(self.datadir / "regtest" / name, ignore_errors=True)

    def rpc(self, method: str, *params: Any) -> Any:
        body = write({"jsonrpc": "1.0", "id": 0, "method": method, "params": list(params)})
        answer = read_json(self._post(body.encode()))
        if answer["error"] is not None:
            raise RpcError(answer["error"]["code"], answer["error"]["message"])
        return answer["result"]

    def _post(self, body: bytes) -> bytes:
        credentials = self._credentials or self.cookie_file.read_text()
        headers = {"Authorization": "Basic " + b64encode(credentials.encode()).decode()}
        for attempt in (1, 2):
            if self._connection is None:
                self._connection = HTTPConnection("127.0.0.1", self._http_port, timeout=120)
            try:
                self._connection.request("POST", "/", body, headers)
                return self._connection.getresponse().read()
            except (OSError, HTTPException):
                # the node closes a connection that was idle for long
                self._hang_up()
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _ended(self) -> None:
        assert self._process is not None
        self._hang_up()
        self._process.wait(PATIENCE)
        self._process = None

    def _wait(self) -> None:
        """Until RPC answers, and the mempool of the last time is loaded."""
        assert self._process is not None
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if self._process.poll() is not None:
                self._ended()
                raise RuntimeError(f"bitcoind ended at once: {self._said.read_text(errors='replace')}")
            # refused, in warm-up, or the cookie is still that of the last time
            with suppress(OSError, HTTPException, RpcError, ValueError):
                if self.rpc("getmempoolinfo")["loaded"]:
                    return
            time.sleep(0.01)
        self._process.kill()
        self._ended()
        raise RuntimeError("bitcoind does not answer")


__all__ = ["ABSENT", "RPC_PASSWORD", "BitcoindNode", "bitcoind_path"]
