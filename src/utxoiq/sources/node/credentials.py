"""Who we are to a node: a user and password, or the cookie it writes anew at each start."""

from __future__ import annotations

import base64
from pathlib import Path

from utxoiq.errors import NodeRefused

COOKIE_FOLDERS = {8332: "", 18332: "testnet3", 48332: "testnet4", 38332: "signet", 18443: "regtest"}
"""Default RPC port -> folder inside the data directory (Core, chainparamsbase.cpp)."""


class Credentials:
    """The Authorization header, read again when the node refuses it.

    `cookie_file`: where the node writes its cookie; None for Core's default place, by port, if there is one.
    """

    def __init__(
        self, user: str = "", password: str = "", *, cookie_file: Path | None = None, port: int | None = None
    ) -> None:
        self._user, self._password = user, password
        self._cookie_file = cookie_file
        if cookie_file is None and not user:
            folder = COOKIE_FOLDERS.get(port or 0)
            self._cookie_file = None if folder is None else Path.home() / ".bitcoin" / folder / ".cookie"
        self._cookie: str | None = None

    @property
    def source(self) -> str:
        """What a person must look at when the node refuses us."""
        if self._user:
            return "this user and password"
        return f"the cookie {self._cookie_file}" if self._cookie_file else "us: give node.cookie_file, or node.user"

    def header(self, *, anew: bool = False) -> dict[str, str]:
        """`anew`: read the cookie again. Raises NodeRefused where there is neither password nor a readable cookie."""
        if self._user or self._cookie_file is None:
            return _basic(f"{self._user}:{self._password}")
        if anew or self._cookie is None:
            try:
                self._cookie = self._cookie_file.read_text("utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise NodeRefused(
                    f"no cookie to log in with at {self._cookie_file} ({type(error).__name__}): is the node running? "
                    "else give node.cookie_file, or node.user and node.password"
                ) from error
        return _basic(self._cookie)


def _basic(pair: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
