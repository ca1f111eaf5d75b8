"""Label sets: entities with their scripts and tags, each label with source, confidence and date of evidence.

A file has one entity a line (JSON): `id`, `name`, `kind`, and where known `ticker`, `tags` (literal substrings of a
coinbase script), `known_holdings` {sat, as_of, source}, `labels` [{source, confidence, as_of, addresses}].
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from utxoiq.chain.address import address_of, script_of
from utxoiq.chain.network import NETWORKS, Network
from utxoiq.entities.owners import Owners
from utxoiq.errors import ConfigError, DecodeError, LabelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from utxoiq.chain.block import Outputs
    from utxoiq.entities.index import ScriptIndex

Kind = Literal["exchange", "mining_pool", "treasury", "etf", "government"]
Confidence = Literal["high", "medium", "low"]


@dataclass(frozen=True, slots=True)
class Label:
    """Addresses ascribed to an entity by one source. `as_of` is the date of the evidence, not of its validity."""

    source: str
    confidence: Confidence
    as_of: str
    text: str
    """Its addresses, a space between: a string for each of millions would not fit."""

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(self.text.split())


@dataclass(frozen=True, slots=True)
class Entity:
    """Somebody: an exchange, a pool, a company. `tags` are what it writes into coinbases."""

    id: str
    name: str
    kind: Kind
    ticker: str | None
    tags: tuple[str, ...]
    known_holdings: dict[str, Any] | None
    labels: tuple[Label, ...]

    @property
    def addresses(self) -> list[str]:
        return [address for label in self.labels for address in label.addresses]


class LabelSet:
    """A versioned set of entities. `owner_of` maps a script to its entity; a script of two owners has none.
    `tags` are those of mining pools, as lower-case bytes.

    `conflicts` are (address, first id, second id). Raises LabelError for an address that is not of `network`.
    """

    def __init__(self, entities: tuple[Entity, ...], version: str, network: Network) -> None:
        self.entities = {entity.id: entity for entity in entities}
        self.version, self.network = version, network
        self.tags = tuple(
            (tag.encode().lower(), entity) for entity in entities if entity.kind == "mining_pool" for tag in entity.tags
        )
        self._numbered = entities
        self._owners = Owners(self._scripts())
        self.conflicts = [
            (address_of(script, network) or script.hex(), entities[first].id, entities[other].id)
            for script, (first, *others) in self._owners.contested
            for other in others
        ]

    def _scripts(self) -> Iterator[tuple[bytes, int]]:
        for number, entity in enumerate(self._numbered):
            try:
                yield from ((script_of(address, self.network), number) for address in entity.addresses)
            except DecodeError as error:
                raise LabelError(f"entity {entity.id}: {error}") from error

    def owner_of(self, script: bytes) -> Entity | None:
        """The one entity a script is ascribed to, None where there is none or more than one."""
        number = self._owners.of(script)
        return None if number is None else self._numbered[number]

    def numbered(self, number: int) -> Entity:
        """The entity that `owners_of` calls so."""
        return self._numbered[number]

    def owners_of(self, outputs: Outputs) -> NDArray[np.int32]:
        """The number of the one entity that each output's script is ascribed to, -1 where there is none."""
        index, owner_of_row = self._index
        return owner_of_row[index.match(outputs)]

    @cached_property
    def _index(self) -> tuple[ScriptIndex, NDArray[np.int32]]:
        """The scripts, and the owner of each row; -1 last, where a match of nothing points."""
        import numpy as np  # noqa: PLC0415 names alone need neither NumPy nor a kernel

        from utxoiq.entities.index import ScriptIndex  # noqa: PLC0415

        blob = np.frombuffer(bytes(self._owners.scripts) or b"\0", np.uint8)
        index = ScriptIndex.from_blob(blob, np.array(self._owners.ends, np.int64))
        return index, np.array([*self._owners.owners, -1], np.int32)

    def of_kind(self, kind: Kind) -> list[Entity]:
        return [entity for entity in self.entities.values() if entity.kind == kind]


def read_labels(text: str, network: Network, name: str) -> LabelSet:
    """A label set from its file's text; `name` goes into messages. Raises LabelError with the line."""
    entities = []
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else (), 1):
        try:
            entities.append(_entity(json.loads(line)))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise LabelError(f"{name} line {number}: not an entity ({error!r})") from error
    if len({entity.id for entity in entities}) != len(entities):
        raise LabelError(f"{name}: an entity id appears twice")
    return LabelSet(tuple(entities), _version(text, entities), network)


def _version(text: str, entities: list[Entity]) -> str:
    newest = max((label.as_of for entity in entities for label in entity.labels), default="none")
    return f"{newest}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _entity(row: Any) -> Entity:
    labels = tuple(
        Label(
            _text(label["source"]), _one_of(Confidence, label["confidence"]), _text(label["as_of"]),
            " ".join(_word(address, row["id"]) for address in _texts(label["addresses"])),
        )
        for label in row.get("labels", ())
    )  # fmt: skip
    ticker, holdings = row.get("ticker"), row.get("known_holdings")
    if holdings is not None and not isinstance(holdings, dict):
        raise TypeError("known_holdings is no object")
    return Entity(
        _text(row["id"]), _text(row["name"]), _one_of(Kind, row["kind"]), None if ticker is None else _text(ticker),
        tuple(map(_text, _texts(row.get("tags", [])))), holdings, labels,
    )  # fmt: skip


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{value!r} is no text")
    return value


def _word(address: str, entity: str) -> str:
    if address.split() != [address]:
        raise ValueError(f"entity {entity}: {address!r} is no address")
    return address


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{values!r} is no list of texts")
    return tuple(values)


def _one_of(choices: Any, value: Any) -> Any:
    if value not in get_args(choices):
        raise ValueError(f"{value!r} is none of {', '.join(get_args(choices))}")
    return value


@cache
def packaged_labels() -> LabelSet:
    """The labels that come with utxoiq: mainnet, from public sources named in each."""
    text = resources.files("utxoiq.entities").joinpath("data/labels.jsonl").read_text("utf-8")
    return read_labels(text, NETWORKS["main"], "packaged labels")


def labels_for(network: Network, path: Path | None = None) -> LabelSet:
    """The labels to use on a network: of `path`, or else the packaged ones on mainnet and none elsewhere.

    Raises LabelError for a file that can't be read or used.
    """
    if path is not None:
        try:
            return read_labels(path.read_text("utf-8"), network, path.name)
        except (OSError, UnicodeDecodeError) as error:
            raise LabelError(f"{path}: can't be read ({error})") from error
    return packaged_labels() if network.name == "main" else LabelSet((), "none", network)


def summaries(labels: LabelSet, kind: str | None = None) -> list[dict[str, Any]]:
    """A row an entity, in order: id, name, kind, ticker, addresses, tags (counts), as_of (newest evidence), sources.

    Raises ConfigError for an unknown kind.
    """
    if kind is not None and kind not in get_args(Kind):
        raise ConfigError(f"unknown kind {kind!r}: one of {', '.join(get_args(Kind))}")
    return [
        {
            "id": entity.id,
            "name": entity.name,
            "kind": entity.kind,
            "ticker": entity.ticker,
            "addresses": len(entity.addresses),
            "tags": len(entity.tags),
            "as_of": max((label.as_of for label in entity.labels), default=None),
            "sources": sorted({label.source for label in entity.labels}),
            "labels_version": labels.version,
        }
        for entity in labels.entities.values()
        if kind in (None, entity.kind)
    ]
