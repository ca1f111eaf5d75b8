"""Leases: who does what, where several processes work on one store. A holder that stalls is overtaken, and what it then
still tries to write is refused by its fencing token."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
        """The lease for so many seconds, None while another holds it. A holder that asks again while it holds gets a
        new token. Raises StoreError."""
        now = time.time()
        with self._database.transaction():
            held = self._database.query("SELECT holder, expires_at FROM leases WHERE name = ?", name)
            if held and held[0]["holder"] != holder and held[0]["expires_at"] > now:
                return None
            self._database.execute("DELETE FROM leases WHERE name = ?", name)
            row = {"name": name, "holder": holder, "expires_at": now + seconds, "state": {}}
            self._database.insert("leases", row)
            return Lease(name, holder, self._database.value("SELECT token FROM leases WHERE name = ?", name))

    def renew(self, lease: Lease, seconds: float, state: dict[str, Any] | None = None) -> None:
        """Hold it for so many seconds from now; `state` is what the holder tells others of itself. Raises LeaseLost,
        StoreError."""
        with self._database.transaction():
            self.check(lease)
            self._database.execute(
                "UPDATE leases SET expires_at = ?, state = ? WHERE token = ?",
                time.time() + seconds, json.dumps(state or {}), lease.token,
            )  # fmt: skip

    def release(self, lease: Lease) -> None:
        """Let go, if it is still ours. Raises StoreError."""
        with self._database.transaction():
            self._database.execute("DELETE FROM leases WHERE token = ?", lease.token)

    def check(self, lease: Lease) -> None:
        """Inside a transaction: raise LeaseLost where somebody else took it, so that nothing of it is written."""
        if self._database.value("SELECT token FROM leases WHERE name = ?", lease.name) != lease.token:
            raise LeaseLost(f"{lease.name}: another process took over from {lease.holder}")

    def held(self) -> list[dict[str, Any]]:
        """The leases that run: name, holder, token, expires_at (Unix seconds), state. Raises StoreError."""
        rows = self._database.query("SELECT * FROM leases WHERE expires_at > ? ORDER BY name", time.time())
        return [{**{k: row[k] for k in row.keys()}, "state": json.loads(row["state"])} for row in rows]  # noqa: SIM118
