"""Labels from elsewhere: GraphSense TagPacks (YAML), mempool's pools-v2.json, and label files of our own.

The format is told by the content. What can't be used is counted, with the first example of each reason, and left out;
only a file of which nothing can be used is refused.
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utxoiq.entities.reading import listed, numbered_lines, read_entities
from utxoiq.entities.words import canonical, script_of_word
from utxoiq.errors import ConfigError, DecodeError, LabelError

if TYPE_CHECKING:
    from utxoiq.chain.network import Network
    from utxoiq.entities.records import Entity, Kind

LARGEST = 1 << 28
"""Bytes of a file to import: what is imported is held in memory."""

LONGEST = 1000
"""Characters of a name, a source or a tag."""

Row = dict[str, Any]
"""An entity as it stands in a line of a label file, but for addresses, which are the keys of a dict: in order, once."""


@dataclass
class Imported:
    """What a file says: entities as rows of a label file, and what was left out."""

    format: str
    network: Network
    speaks_for: tuple[str, ...]
    """Beginnings of the sources of which this file is an edition."""
    entities: dict[str, Row] = field(default_factory=dict)
    left_out: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Reason: how many, and the first example with its place."""

    def leave_out(self, reason: str, example: str) -> None:
        count, first = self.left_out.get(reason, (0, example))
        self.left_out[reason] = (count + 1, first)

    def entity(self, identity: str, name: str, kind: Kind) -> Row:
        """The row of an entity, which is made if there is none; the first name counts."""
        return self.entities.setdefault(identity, {"id": identity, "name": name, "kind": kind})

    def add(self, row: Row, label: dict[str, str], address: str, place: str) -> None:
        """One address under a label {source, confidence, as_of} of an entity; left out if it is none."""
        try:
            script_of_word(address, self.network)
        except DecodeError as error:
            self.leave_out(f"no {self.network.name} address", f"{place}: {error}")
            return
        for known in row.setdefault("labels", []):
            if label.items() <= known.items():
                break
        else:
            known = {**label, "addresses": {}}
            row["labels"].append(known)
        known["addresses"][canonical(address, self.network)] = None


def read_import(path: Path, network: Network, as_of: str | None = None) -> Imported:
    """What the file at `path` says about `network`. `as_of` (YYYY-MM-DD) dates what has no date itself.

    Raises LabelError for a file that can't be read, is of no known format, or of which nothing can be used;
    ConfigError for an `as_of` that is no date.
    """
    if as_of is not None and not is_date(as_of):
        raise ConfigError(f"{as_of!r} is no date: YYYY-MM-DD")
    text = _text_of(path)
    if text.lstrip().startswith("["):
        from utxoiq.entities.pools_json import read_pools  # noqa: PLC0415

        found = read_pools(text, path.name, network, as_of)
    elif text.lstrip().startswith("{"):
        found = _own(text, path.name, network)
    else:
        from utxoiq.entities.tagpacks import read_tagpack  # noqa: PLC0415

        found = read_tagpack(text, path.name, network, as_of)
    if found.format != "labels":
        found.entities = {name: row for name, row in found.entities.items() if row.keys() & {"labels", "tags"}}
    if not found.entities:
        reasons = "; ".join(f"{reason} ({count}, as {first})" for reason, (count, first) in found.left_out.items())
        raise LabelError(f"{path.name}: nothing in it can be used: {reasons or 'it is empty'}")
    return found


def _text_of(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST:
            raise LabelError(f"{path}: over {LARGEST >> 20} MiB; split it")
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{path}: can't be read ({error})") from error


def _own(text: str, name: str, network: Network) -> Imported:
    entities = read_entities(numbered_lines(text), name, listed)
    sources = {label.source for entity in entities for label in entity.labels}
    found = Imported("labels", network, tuple(sorted(sources)))
    for entity in entities:
        row = row_of(entity)
        labels = row.pop("labels")
        found.entities[entity.id] = row
        for label in labels:
            for address in label.pop("addresses"):
                found.add(row, label, address, f"{name} entity {entity.id}")
    return found


def row_of(entity: Entity) -> Row:
    """An entity that was read from text as a row again: fields that say nothing are left away."""
    row = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(entity).items() if value}
    row["labels"] = [
        {"source": label.source, "confidence": label.confidence, "as_of": label.as_of,
         "addresses": dict.fromkeys(label.addresses)}
        for label in entity.labels
    ]  # fmt: skip
    return row


def plain_text(value: Any, what: str, place: str) -> str:
    """A text of one line that can be shown. Raises LabelError for what is none, such as control characters."""
    if not isinstance(value, str) or not value.strip():
        raise LabelError(f"{place}: {what} is no text")
    if len(value) > LONGEST or any(unicodedata.category(character)[0] == "C" for character in value):
        raise LabelError(f"{place}: {what} is longer than {LONGEST} characters or has control characters")
    return " ".join(value.split())


def identity_of(kind: Kind, name: str) -> str:
    """The id of an entity that has none: its name in small letters, dashes for the rest, `pool-` before pools."""
    letters = "".join(character if character.isalnum() else " " for character in name.casefold())
    return ("pool-" if kind == "mining_pool" else "") + "-".join(letters.split())


def is_date(text: str) -> bool:
    """Whether it is a day as YYYY-MM-DD."""
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def loaded_json(text: str, name: str) -> Any:
    """Raises LabelError."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LabelError(f"{name}: is no JSON ({error})") from error
