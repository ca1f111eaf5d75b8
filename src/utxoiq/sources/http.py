"""One HTTP connection to a node or API, with every way it can fail as a typed, one-line error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http.client import RemoteDisconnected
from typing import Any
from urllib.parse import unquote

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
)  # fmt: skip

from utxoiq.errors import ConfigError, NodeUnavailable
from utxoiq.units import without_user

CONNECTIONS = 8
OK, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, TOO_MANY_REQUESTS, UNAVAILABLE = 200, 401, 403, 404, 429, 503


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer with its whole body."""

    status: int
    content: bytes
    headers: Mapping[str, str]

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")


class Http:
    """A pool of kept-alive connections to one address. Safe to use from several threads.

    `where` names the address in messages, without user or password. Proxies of the environment are not used: a node is
    on loopback or reached as configured.
    """

    def __init__(self, url: str, *, timeout: float = 30.0, proxy: str | None = None) -> None:
        """`timeout`: seconds without a byte. Raises ConfigError for what is no http(s) address."""
        bare = str(url).rpartition("@")[2]
        try:
            parsed = urllib3.util.parse_url(url)
        except LocationParseError as error:
            raise ConfigError(f"address {bare!r}: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ConfigError(f"address {bare!r}: give http://HOST:PORT")
        self.user, _, self.password = (unquote(part) for part in (parsed.auth or "").partition(":"))
        self.where, self.host, self.port = (
            parsed._replace(auth=None).url.rstrip("/"),
            parsed.host.strip("[]"),
            parsed.port,
        )
        self._timeout = timeout
        self._pool = _pool(proxy, {"maxsize": CONNECTIONS, "timeout": urllib3.Timeout(timeout), "retries": False})

    def request(
        self, method: str, path: str = "", *, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> Answer:
        """The answer with its whole body, whatever its status. Raises NodeUnavailable where there is none."""
        try:
            try:
                return self._send(method, path, headers, content)
            except ProtocolError as error:
                if not isinstance(error.args[-1], RemoteDisconnected):
                    raise
                return self._send(method, path, headers, content)  # it had closed a connection kept too long
        except (NewConnectionError, NameResolutionError, ProxyError) as error:
            reason = without_user(str(error).rpartition(": ")[2])
            raise NodeUnavailable(f"{self.where}: no connection ({reason}); is it running there?") from error
        except (ConnectTimeoutError, ReadTimeoutError) as error:
            raise NodeUnavailable(f"{self.where}: no answer within {self._timeout:g} s") from error
        except (ProtocolError, ConnectionError) as error:
            raise NodeUnavailable(f"{self.where}: it hung up in mid-reply ({error})") from error
        except (HTTPError, OSError, OverflowError, ValueError) as error:
            raise NodeUnavailable(f"{self.where}: {without_user(str(error))}") from error

    def _send(self, method: str, path: str, headers: Mapping[str, str] | None, content: bytes | None) -> Answer:
        answer = self._pool.request(method, self.where + path, headers=headers, body=content, redirect=False)
        return Answer(answer.status, answer.data, answer.headers)

    def close(self) -> None:
        """Hang up."""
        self._pool.clear()


def _pool(proxy: str | None, options: dict[str, Any]) -> urllib3.PoolManager:
    """Connections, through a proxy where there is one. Raises ConfigError for what is none."""
    if proxy is None:
        return urllib3.PoolManager(**options)
    bare = proxy.rpartition("@")[2]
    try:
        if proxy.startswith("socks"):
            from urllib3.contrib.socks import SOCKSProxyManager  # noqa: PLC0415 few need it

            return SOCKSProxyManager(proxy, **options)
        return urllib3.ProxyManager(proxy, **options)
    except (ValueError, HTTPError) as error:
        raise ConfigError(f"proxy {bare!r}: give http://HOST:PORT or socks5h://HOST:PORT") from error
