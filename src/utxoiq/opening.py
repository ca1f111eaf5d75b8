"""From what a person names to a source of blocks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from utxoiq.chain.network import NETWORKS
from utxoiq.errors import ConfigError

if TYPE_CHECKING:
    from utxoiq.config import Settings
    from utxoiq.sources.base import BlockSource
    from utxoiq.sources.esplora import EsploraSource
    from utxoiq.sources.node.source import NodeSource


def source_of(settings: Settings) -> NodeSource | EsploraSource:
    """The live source that is set. Raises ConfigError where there is none: an API of others is never the default."""
    from utxoiq.sources.esplora import EsploraSource  # noqa: PLC0415 commands that ask no node need no HTTP
    from utxoiq.sources.node.source import NodeSource  # noqa: PLC0415

    wanted = NETWORKS[settings.network] if settings.network else None
    node, esplora = settings.node, settings.esplora
    if node.url:
        return NodeSource(
            node.url, user=node.user, password=node.password.get_secret_value(), cookie_file=node.cookie_file,
            rest=node.rest, timeout=node.timeout_seconds, proxy=node.proxy, network=wanted,
        )  # fmt: skip
    if esplora.url:
        return EsploraSource(
            esplora.url, requests_per_second=esplora.requests_per_second, proxy=esplora.proxy, network=wanted,
            most_requests_a_block=esplora.most_requests_a_block, timeout=esplora.timeout_seconds,
        )  # fmt: skip
    raise ConfigError("no node: give --node http://127.0.0.1:8332 (or node.url in utxoiq.toml), or --esplora URL")


def is_remote(name: str) -> bool:
    """Whether it is an address and no path."""
    return name.startswith(("http://", "https://"))


def open_named(name: str, network: str | None) -> BlockSource:
    """A path's source, or a node with what the settings say of it. Raises ConfigError, SourceError, DecodeError."""
    from utxoiq.sources.open import open_source  # noqa: PLC0415 kernels load with the first block

    if not is_remote(name):
        return open_source(Path(name), network)
    from utxoiq.config import Sources  # noqa: PLC0415

    given = {"node": {"url": name}} | ({"network": network} if network else {})
    return source_of(Sources.of_environment(None, given).load()[0])


@dataclass(frozen=True, slots=True)
class Opening:
    """How to open a source, here or in another process."""

    name: str | None
    """A path or an address; None: what the settings say."""
    network: str | None = None
    config: Path | None = None

    def __call__(self) -> BlockSource:
        """Raises ConfigError, SourceError, DecodeError."""
        if self.name is not None:
            return open_named(self.name, self.network)
        from utxoiq.config import Sources  # noqa: PLC0415

        given = {"network": self.network} if self.network else {}
        return source_of(Sources.of_environment(self.config, given).load()[0])
