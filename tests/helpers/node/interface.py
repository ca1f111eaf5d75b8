"""What a test may ask of a node, whether it is the double or a real `bitcoind`."""

from __future__ import annotations

import json
import socket
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

RPC_USER, RPC_PASSWORD = "test", "password"
"""What a node started with a password knows its user by."""


class TestNode(Protocol):
    """A node on regtest and loopback. Its ports stay the same from one start to the next."""

    __test__: bool = False

    datadir: Path
    url: str
    cookie_file: Path
    zmq_address: str

    def start(self, *, rest: bool = True, zmq: bool = True, password: str | None = None) -> None:
        """Start, and wait until RPC answers. Without a password there is a cookie, with a new secret each time."""

    def stop(self) -> None:
        """Stop cleanly: the cookie is removed, the mempool is kept."""

    def kill(self) -> None:
        """End as by SIGKILL: connections drop, the cookie stays, the mempool is lost."""

    def rpc(self, method: str, *params: Any) -> Any:
        """Call a method; amounts are Decimal. Raises RpcError."""

    def mine(self, blocks: int = 1, *, spends: int = 0, time: int | None = None, mempool: bool = False) -> list[str]:
        """Put blocks on the tip, each with up to `spends` transactions of ours (and the whole mempool, if asked)."""

    def fat_block(self, size: int = 1_500_000, transactions: int = 2500) -> str:
        """Put one block of about that many bytes and transactions on the tip."""

    def side_branch(self, fork_hash: str, blocks: int, *, spends: int = 0, time: int | None = None) -> list[str]:
        """Submit blocks that continue an older block. They are followed once they have more work."""

    def send(self, feerate: float = 10, *, spend: str | None = None, replace: str | None = None) -> str:
        """Send a transaction to the mempool: on its own, spending output 0 of `spend`, or in place of `replace`."""

    def invalidate(self, block_hash: str) -> None:
        """Take a block and what follows it off the chain (`invalidateblock`)."""


class RpcError(RuntimeError):
    """An error answer of the node's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


def read_json(text: str | bytes) -> Any:
    """JSON with every fraction as the Decimal it is written as."""
    return json.loads(text, parse_float=Decimal, parse_constant=_no_number)


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number in JSON")


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports
