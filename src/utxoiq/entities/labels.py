"""Label sets: who is who, each label with source, confidence and date of evidence, in one immutable, versioned set.

Small ones are read from a text into memory. A large one is compiled once, and its scripts are mapped from then on.
Names load neither NumPy nor a kernel; scripts do, when the first is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from utxoiq.chain.network import NETWORKS, Network
from utxoiq.entities.listing import summaries
from utxoiq.entities.reading import listed, numbered_lines, read_entities, version_of
from utxoiq.entities.records import Confidence, Entity, Kind, Label
from utxoiq.entities.words import canonical, script_of_word, word_of
from utxoiq.errors import DecodeError, LabelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from utxoiq.chain.block import Outputs
    from utxoiq.entities.compiled import Compiled
    from utxoiq.entities.scripts import Scripts

__all__ = [
    "Confidence",
    "Entity",
    "Kind",
    "Label",
    "LabelSet",
    "labels_for",
    "packaged_labels",
    "read_labels",
    "summaries",
]

COMPILED_FROM = 1 << 20
"""Bytes of a label file from which on it is compiled: some 25,000 addresses, half a second to read as text."""

Conflict = tuple[str, str, str]
"""An address, the id of the first entity that has it, the id of another."""


class LabelSet:
    """A versioned set of entities. `owner_of` maps a script to its entity; a script of two owners has none.
    `tags` are those of mining pools, as lower-case bytes."""

    def __init__(
        self, entities: tuple[Entity, ...], version: str, network: Network, compiled: Compiled | None = None
    ) -> None:
        """Of addresses that were checked, or of a compiled set."""
        self.entities = {entity.id: entity for entity in entities}
        self.version, self.network = version, network
        self.tags = tuple(
            (tag.encode().lower(), entity) for entity in entities if entity.kind == "mining_pool" for tag in entity.tags
        )
        self._numbered, self._compiled = entities, compiled

    @cached_property
    def conflicts(self) -> list[Conflict]:
        """By address: those that more than one entity claims, which none of them gets."""
        return _conflicts(self._numbered, self.network) if self._compiled is None else self._compiled.conflicts()

    @cached_property
    def labels(self) -> tuple[tuple[Entity, Label], ...]:
        """Every label with its entity, as scripts number them."""
        return tuple((entity, label) for entity in self._numbered for label in entity.labels)

    @cached_property
    def scripts(self) -> Scripts:
        """The scripts of one owner each. Raises LabelError for an address that is not of `network`."""
        import numpy as np  # noqa: PLC0415 names alone need neither NumPy nor a kernel

        labels = [len(entity.labels) for entity in self._numbered]
        owner = np.repeat(np.arange(len(labels), dtype=np.int32), labels)
        if self._compiled is not None:
            return self._compiled.scripts(owner)
        from utxoiq.entities.scripts import from_texts  # noqa: PLC0415

        texts, ids = [label.text for _, label in self.labels], [entity.id for entity, _ in self.labels]
        return from_texts(texts, ids, owner, self.network)

    def owner_of(self, script: bytes) -> Entity | None:
        """The one entity a script is ascribed to, None where there is none or more than one."""
        label = self.scripts.label_of(script)
        return None if label is None else self.labels[label][0]

    def numbered(self, number: int) -> Entity:
        """The entity that `owners_of` calls so."""
        return self._numbered[number]

    def owners_of(self, outputs: Outputs) -> NDArray[np.int32]:
        """The number of the one entity that each output's script is ascribed to, -1 where there is none."""
        return self.scripts.owners_of(outputs)

    def addresses_of(self, entity: Entity) -> Iterator[str]:
        """The addresses that are an entity's alone."""
        for script in self.scripts_of(entity):
            yield word_of(script, self.network)

    def scripts_of(self, entity: Entity) -> Iterator[bytes]:
        """The scripts that are an entity's alone."""
        return self.scripts.under([number for number, (owner, _) in enumerate(self.labels) if owner is entity])

    def of_kind(self, kind: Kind) -> list[Entity]:
        return [entity for entity in self.entities.values() if entity.kind == kind]


def _conflicts(entities: Iterable[Entity], network: Network) -> list[Conflict]:
    first: dict[str, str] = {}
    found: list[Conflict] = []
    for entity in entities:
        for address in {canonical(address, network) for address in entity.addresses}:
            owner = first.setdefault(address, entity.id)
            if owner != entity.id:
                found.append((address, owner, entity.id))
    return sorted(found)


def read_labels(text: str, network: Network, name: str) -> LabelSet:
    """A label set from its file's text; `name` goes into messages.

    Raises LabelError with the line, or with the entity for an address that is not of `network`.
    """
    labels = read_trusted(text, network, name)
    for entity in labels.entities.values():
        try:
            for address in entity.addresses:
                script_of_word(address, network)
        except DecodeError as error:
            raise LabelError(f"entity {entity.id}: {error}") from error
    return labels


def read_trusted(text: str, network: Network, name: str) -> LabelSet:
    """As `read_labels`, of addresses that were checked before."""
    entities = read_entities(numbered_lines(text), name, listed)
    return LabelSet(entities, version_of(hashlib.sha256(text.encode()).hexdigest(), entities), network)


def read_label_file(path: Path, network: Network) -> LabelSet:
    """A label file of any size, read into memory. Raises LabelError for one that can't be read or used."""
    try:
        return read_labels(path.read_text("utf-8"), network, path.name)
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{path}: can't be read ({error})") from error


@cache
def packaged_labels() -> LabelSet:
    """The labels that come with utxoiq: mainnet, from public sources named in each. Tests check each address."""
    text = resources.files("utxoiq.entities").joinpath("data/labels.jsonl").read_text("utf-8")
    return read_trusted(text, NETWORKS["main"], "packaged labels")


def edition_of(network: Network, path: Path | None = None) -> tuple[str, str]:
    """(version, text) of a label file, its last line ended, or else of the packaged labels. Raises LabelError."""
    try:
        file = resources.files("utxoiq.entities").joinpath("data/labels.jsonl") if path is None else path
        text = file.read_text("utf-8").removesuffix("\n") + "\n"
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{path}: can't be read ({error})") from error
    return read_labels(text, network, file.name).version, text


def labels_for(network: Network, path: Path | None = None) -> LabelSet:
    """The labels to use on a network: of `path`, or else the packaged ones on mainnet and none elsewhere.

    A large file is compiled first, once for each edition. Raises LabelError for a file that can't be read or used.
    """
    if path is None:
        return packaged_labels() if network.name == "main" else LabelSet((), "none", network)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise LabelError(f"{path}: can't be read ({error})") from error
    if size < COMPILED_FROM:
        return read_label_file(path, network)
    from utxoiq.entities.compiling import compiled_for  # noqa: PLC0415

    compiled = compiled_for(path, network)
    return LabelSet(compiled.entities(), compiled.version, network, compiled)
