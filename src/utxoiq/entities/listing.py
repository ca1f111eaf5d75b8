"""Label sets as rows for a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from utxoiq.entities.records import Entity, Kind
from utxoiq.errors import ConfigError

if TYPE_CHECKING:
    from utxoiq.entities.labels import LabelSet


def summaries(labels: LabelSet, kind: str | None = None) -> list[dict[str, Any]]:
    """A row an entity, in order: id, name, kind, ticker, addresses, tags (counts), conflicts (addresses that others
    claim too, so that nobody gets them), as_of (newest evidence), sources, and a note where little is known.

    Raises ConfigError for an unknown kind.
    """
    if kind is not None and kind not in get_args(Kind):
        raise ConfigError(f"unknown kind {kind!r}: one of {', '.join(get_args(Kind))}")
    shared = [(address, entity) for address, *owners in labels.conflicts for entity in owners]
    return [
        {
            "id": entity.id,
            "name": entity.name,
            "kind": entity.kind,
            "ticker": entity.ticker,
            "addresses": entity.count,
            "tags": len(entity.tags),
            "conflicts": len({address for address, owner in shared if owner == entity.id}),
            "as_of": max((label.as_of for label in entity.labels), default=None),
            "sources": sorted({label.source for label in entity.labels}),
            "note": _note(entity),
            "labels_version": labels.version,
        }
        for entity in labels.entities.values()
        if kind in (None, entity.kind)
    ]


def _note(entity: Entity) -> str | None:
    if entity.count:
        return None
    return "known by its coinbase tag only" if entity.tags else "no address is published: what it moves can't be seen"
