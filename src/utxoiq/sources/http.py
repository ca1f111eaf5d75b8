"""One HTTP connection to a node or API, with every way it can fail as a typed, one-line error."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

import httpx

from utxoiq.errors import ConfigError, NodeUnavailable
from utxoiq.units import without_user

CONNECTIONS = 8


class Http:
    """A pool of kept-alive connections to one address. Safe to use from several threads.

    `where` names the address in messages, without user or password. Proxies of the environment are not used: a node is
    on loopback or reached as configured.
    """

    def __init__(self, url: str, *, timeout: float = 30.0, proxy: str | None = None) -> None:
        """`timeout`: seconds without a byte. Raises ConfigError for what is no http(s) address."""
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, TypeError) as error:
            raise ConfigError(f"address {str(url).rpartition('@')[2]!r}: {error}") from error
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise ConfigError(f"address {url.rpartition('@')[2]!r}: give http://HOST:PORT")
        self.user, self.password = parsed.username, parsed.password
        bare = parsed.copy_with(username=None, password=None)
        self.where, self.host, self.port = str(bare).rstrip("/"), bare.host, bare.port
        self._timeout = timeout
        try:
            self._client = httpx.Client(
                timeout=timeout, proxy=proxy, trust_env=False, limits=httpx.Limits(max_connections=CONNECTIONS)
            )
        except (ValueError, ImportError) as error:
            raise ConfigError(f"proxy of {self.where}: {without_user(str(error))}") from error

    def request(
        self, method: str, path: str = "", *, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> httpx.Response:
        """The answer with its whole body, whatever its status. Raises NodeUnavailable where there is none."""
        try:
            return self._client.request(method, self.where + path, headers=headers, content=content)
        except httpx.ConnectTimeout as error:
            raise NodeUnavailable(f"{self.where}: can't be reached within {self._timeout:g} s") from error
        except httpx.TimeoutException as error:
            raise NodeUnavailable(f"{self.where}: no answer within {self._timeout:g} s") from error
        except (httpx.ConnectError, httpx.ProxyError) as error:
            raise NodeUnavailable(
                f"{self.where}: no connection ({error}); is it running, is the address right?"
            ) from error
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
            raise NodeUnavailable(f"{self.where}: it hung up in mid-reply ({error})") from error
        except (httpx.HTTPError, httpx.InvalidURL, RuntimeError) as error:
            raise NodeUnavailable(f"{self.where}: {error}") from error

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def __enter__(self) -> Http:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
