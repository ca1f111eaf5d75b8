"""Leases: who does what, where several processes work on one store. A holder that stalls is overtaken, and what it then
still tries to write is refused by its fencing token."""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from utxoiq.errors import LeaseLost

if TYPE_CHECKING:
    from utxoiq.persistence.database import Database


@dataclass(frozen=True, slots=True)
class Lease:
    """A right that one holder has at a time. `token` grows with every holder: the fence behind which it writes."""

    name: str
    holder: str
    token: int


class Leases:
    """The leases of one store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(self, name: str, holder: str, seconds: float) -> Lease | None:
        """The lease for so many seconds, None while another holds it who may be alive. A holder that asks again gets a
        new token. Raises StoreError."""
        now = time.time()
        with self._database.transaction(fenced=False):
            held = self._database.query("SELECT holder, expires_at FROM leases WHERE name = ?", name)
            if held and held[0]["holder"] != holder and held[0]["expires_at"] > now and not is_gone(held[0]["holder"]):
                return None
            self._database.execute("DELETE FROM leases WHERE name = ?", name)
            row = {"name": name, "holder": holder, "expires_at": now + seconds, "state": {}}
            self._database.insert("leases", row)
            return Lease(name, holder, self._database.value("SELECT token FROM leases WHERE name = ?", name))

    def renew(self, lease: Lease, seconds: float, state: dict[str, Any] | None = None) -> None:
        """Hold it for so many seconds from now; `state` is what the holder tells others of itself. Raises LeaseLost,
        StoreError."""
        with self._database.transaction(fenced=False):
            self.check(lease)
            self._database.execute(
                "UPDATE leases SET expires_at = ?, state = ? WHERE token = ?",
                time.time() + seconds, json.dumps(state or {}), lease.token,
            )  # fmt: skip

    def release(self, lease: Lease) -> None:
        """Let go, if it is still ours. Raises StoreError."""
        with self._database.transaction(fenced=False):
            self._database.execute("DELETE FROM leases WHERE token = ?", lease.token)

    def check(self, lease: Lease) -> None:
        """Inside a transaction: raise LeaseLost where somebody else took it, so that nothing of it is written."""
        if self._database.value("SELECT token FROM leases WHERE name = ?", lease.name) != lease.token:
            raise LeaseLost(f"{lease.name}: another process took over from {lease.holder}")

    def held(self) -> list[dict[str, Any]]:
        """The leases that run: name, holder, token, expires_at (Unix seconds), state; none of a process of this
        machine that has ended. Raises StoreError."""
        rows = self._database.query("SELECT * FROM leases WHERE expires_at > ? ORDER BY name", time.time())
        return [
            {**{k: row[k] for k in row.keys()}, "state": json.loads(row["state"])}  # noqa: SIM118
            for row in rows
            if not is_gone(row["holder"])
        ]


def holder_name() -> str:
    """This process: its machine, number and start, and something that is no other's."""
    return "/".join((_machine(), str(os.getpid()), _started(os.getpid()), uuid4().hex[:8]))


def is_gone(holder: str) -> bool:
    """Whether a holder was a process of this machine that has ended: nobody need wait until its lease runs out."""
    machine, number, started, _ = holder.rsplit("/", 3) if holder.count("/") >= 3 else ("", "", "", "")
    return machine == _machine() and started != "" and _started(int(number)) != started


def _machine() -> str:
    """Host, and on Linux its namespace of process numbers: two containers can share a name."""
    try:
        return f"{socket.gethostname()}:{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return socket.gethostname()


def _started(number: int) -> str:
    """When a process was started, in ticks since the machine was; empty where there is none, only its parent has not
    asked how it ended, or there is no way to tell."""
    try:
        state, *fields = Path(f"/proc/{number}/stat").read_text("utf-8", "replace").rsplit(")", 1)[1].split()
        return "" if state in ("Z", "X") else fields[18]
    except (OSError, IndexError):
        return ""
