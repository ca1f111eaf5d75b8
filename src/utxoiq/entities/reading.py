"""Label files: one entity a line (JSON).

`id`, `name`, `kind`, and where known `ticker`, `tags` (literal substrings of a coinbase script), `known_holdings` {sat,
as_of, source}, `holdings` (the dated ones, oldest first, of the same form), `labels` [{source, confidence, as_of,
addresses}]; an address may be `script:` and hex, for scripts that have none.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, get_args

from utxoiq.entities.records import Confidence, Entity, Kind, Label
from utxoiq.errors import LabelError

TakeAddresses = Callable[[Any, str], tuple[str, int | None]]
"""What stands for `addresses` in a line, and the entity's id, to `Label.text` and `Label.compiled`."""


def read_entities(lines: Iterable[tuple[int, str]], name: str, take: TakeAddresses) -> tuple[Entity, ...]:
    """The entities of numbered lines; `name` goes into messages. Raises LabelError with the line."""
    entities = []
    for number, line in lines:
        try:
            entities.append(_entity(json.loads(line), take))
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise LabelError(f"{name} line {number}: not an entity ({error!r})") from error
    if len({entity.id for entity in entities}) != len(entities):
        raise LabelError(f"{name}: an entity id appears twice")
    return tuple(entities)


def numbered_lines(text: str) -> Iterable[tuple[int, str]]:
    """Lines end with a line feed alone: other characters that count as line ends to some may stand in a name."""
    return enumerate(text.removesuffix("\n").split("\n") if text else (), 1)


def listed(value: Any, entity: str) -> tuple[str, None]:
    """The addresses of a list of texts."""
    text = " ".join(_texts(value))
    if text.split() != value:
        wrong = next(address for address in value if address.split() != [address])
        raise ValueError(f"entity {entity}: {wrong!r:.100} is no address")
    return text, None


def version_of(digest: str, entities: Iterable[Entity]) -> str:
    """The version of a label set: its newest evidence, and the beginning of the SHA-256 of its file."""
    newest = max((label.as_of for entity in entities for label in entity.labels), default="none")
    return f"{newest}-{digest[:12]}"


def _entity(row: Any, take: TakeAddresses) -> Entity:
    labels = tuple(
        Label(
            _text(label["source"]), _one_of(Confidence, label["confidence"]), _text(label["as_of"]),
            *take(label["addresses"], row["id"]),
        )
        for label in row.get("labels", ())
    )  # fmt: skip
    ticker, known = row.get("ticker"), row.get("known_holdings")
    return Entity(
        _text(row["id"]), _text(row["name"]), _one_of(Kind, row["kind"]), None if ticker is None else _text(ticker),
        tuple(map(_text, _texts(row.get("tags", [])))), None if known is None else _holding(known), labels,
        tuple(map(_holding, row.get("holdings", ()))),
    )  # fmt: skip


def _holding(value: Any) -> dict[str, Any]:
    if type(value["sat"]) is not int or value["sat"] < 0:
        raise TypeError("holdings are no whole number of satoshis")
    return {**value, "as_of": _text(value["as_of"]), "source": _text(value["source"])}


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{value!r:.100} is no text")
    return value


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"a {type(values).__name__} is no list of texts, or holds something else")
    return tuple(values)


def _one_of(choices: Any, value: Any) -> Any:
    if value not in get_args(choices):
        raise ValueError(f"{value!r:.100} is none of {', '.join(get_args(choices))}")
    return value
