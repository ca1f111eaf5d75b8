"""Labels from elsewhere into a label file: what comes of it, and what it changes."""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from utxoiq.entities.importing import Imported, Row, read_import, row_of
from utxoiq.entities.labels import LabelSet, packaged_labels, read_label_file, read_trusted
from utxoiq.errors import LabelError

if TYPE_CHECKING:
    from utxoiq.chain.network import Network

Mode = Literal["add", "replace"]
FIELDS = ("id", "name", "kind", "ticker", "tags", "known_holdings", "holdings", "labels")


@dataclass(frozen=True)
class Merged:
    """The text of the new label file, the set it holds, and what changed (see `_report`)."""

    text: str
    labels: LabelSet
    report: dict[str, Any]


def merged_file(
    source: Path, into: Path, network: Network, mode: Mode = "add", as_of: str | None = None
) -> tuple[LabelSet, Merged]:
    """What is in the label file `into`, and what comes of merging the file `source` into it. Writes nothing.

    Where `into` is not there yet, it starts as the packaged labels on mainnet and empty elsewhere. Raises LabelError
    or ConfigError as `read_import`, and LabelError where `into` can't be read.
    """
    base = _base(into, network)
    return base, merge(base, read_import(source, network, as_of), mode)


def write_labels(path: Path, text: str) -> None:
    """Put a label file in place, whole. Raises LabelError where it can't be written; it is left as it was then."""
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        aside.write_text(text, "utf-8")
        aside.replace(path)
    except OSError as error:
        raise LabelError(f"{path}: can't be written ({error.strerror})") from error
    finally:
        aside.unlink(missing_ok=True)


def _base(into: Path, network: Network) -> LabelSet:
    if into.exists():
        return read_label_file(into, network)
    return packaged_labels() if network.name == "main" else LabelSet((), "none", network)


def merge(base: LabelSet, imported: Imported, mode: Mode = "add") -> Merged:
    """A label set that was read from text, and what a file says. `add` keeps all there is; `replace` first withdraws
    what earlier editions of that file said, and entities of which nothing is left then. Tags have no source: those of
    a pool that the new edition names are replaced, those of one it no longer names stay.

    Files of other formats have names only. An unknown entity of theirs is a known one of its kind where the names have
    the same letters and digits but for a final com or pool ("Kano", "KanoPool"), and no third is called so; or else
    where both are pools and it has payout addresses of that one and no other. Nothing else is taken for the same.
    """
    rows = {entity.id: row_of(entity) for entity in base.entities.values()}
    before = _claims(rows.values())
    if mode == "replace":
        _withdraw(rows, imported)
    same = {} if imported.format == "labels" else _same(base, imported, before)
    for identity, row in imported.entities.items():
        known = rows.setdefault(same.get(identity, identity), {**row, "labels": []})
        if known["kind"] == row["kind"]:
            _join(known, row, mode)
        else:
            imported.leave_out(f"a {row['kind']} that is a {known['kind']} here", identity)
    rows = {identity: row for identity, row in rows.items() if mode == "add" or _says_something(row)}
    text = "".join(_line(row) + "\n" for row in rows.values())
    labels = read_trusted(text, base.network, "merged labels")
    report = _report(before, _claims(rows.values())) | {
        "entities_added": [identity for identity in rows if identity not in base.entities],
        "entities_withdrawn": [identity for identity in base.entities if identity not in rows],
        "same_as": same,
        "left_out": {reason: {"count": n, "first": first} for reason, (n, first) in imported.left_out.items()},
        "conflicts": labels.conflicts,
        "labels_version": labels.version,
        "labels_version_before": base.version,
    }
    return Merged(text, labels, report)


def _withdraw(rows: dict[str, Row], imported: Imported) -> None:
    edition = re.compile("|".join(rf"{re.escape(source)}(?!\w)" for source in imported.speaks_for))
    for row in rows.values():
        row["labels"] = [label for label in row.get("labels", []) if not edition.match(label["source"])]


def _says_something(row: Row) -> bool:
    return any(row.get(field) for field in ("labels", "tags", "known_holdings", "holdings", "ticker"))


def _same(base: LabelSet, imported: Imported, owners: dict[str, frozenset[str]]) -> dict[str, str]:
    called = defaultdict(list)
    for entity in base.entities.values():
        called[entity.kind, _letters(entity.name)].append(entity.id)
    same = {}
    for identity, row in imported.entities.items():
        if identity not in base.entities:
            found = called.get((row["kind"], _letters(row["name"])), [])
            if len(found) != 1 and row["kind"] == "mining_pool":
                found = [owner for owner in _owners(row, owners) if base.entities[owner].kind == "mining_pool"]
            if len(found) == 1:
                same[identity] = found[0]
    return same


def _owners(row: Row, owners: dict[str, frozenset[str]]) -> list[str]:
    """Who else has an address of this entity."""
    return sorted({owner for label in row.get("labels", []) for a in label["addresses"] for owner in owners.get(a, ())})


def _letters(name: str) -> str:
    letters = "".join(character for character in name.casefold() if character.isalnum())
    return re.sub("(?<=.)(com|pool)$", "", letters)


def _join(known: Row, row: Row, mode: Mode) -> None:
    """Add what `row` says. Of one source the newest evidence for an address counts."""
    known |= {field: row[field] for field in ("ticker", "known_holdings") if row.get(field)}
    if row.get("holdings"):
        dated = {(one["as_of"], one["source"]): one for one in [*known.get("holdings", []), *row["holdings"]]}
        known["holdings"] = [dated[key] for key in sorted(dated)]
    if row.get("tags"):
        earlier = known.get("tags", []) if mode == "add" else []
        known["tags"] = list(dict.fromkeys([*earlier, *row["tags"]]))
    for label in row.get("labels", []):
        alike = [other for other in known.setdefault("labels", []) if other["source"] == label["source"]]
        newer = [other for other in alike if other["as_of"] > label["as_of"]]
        addresses = {a: None for a in label["addresses"] if not any(a in other["addresses"] for other in newer)}
        for other in alike:
            if other not in newer:
                other["addresses"] = {a: None for a in other["addresses"] if a not in addresses}
        _add_label(known["labels"], {**label, "addresses": addresses})
        known["labels"] = [other for other in known["labels"] if other["addresses"]]


def _add_label(labels: list[Row], label: Row) -> None:
    stated = ("source", "confidence", "as_of")
    for other in labels:
        if all(other[field] == label[field] for field in stated):
            other["addresses"] |= label["addresses"]
            return
    labels.append(label)


def _line(row: Row) -> str:
    labels = [{**label, "addresses": list(label["addresses"])} for label in row.get("labels", [])]
    return json.dumps({name: row[name] for name in FIELDS if row.get(name)} | ({"labels": labels} if labels else {}))


def _claims(rows: Iterable[Row]) -> dict[str, frozenset[str]]:
    found = defaultdict(set)
    for row in rows:
        for label in row.get("labels", []):
            for address in label["addresses"]:
                found[address].add(row["id"])
    return {address: frozenset(owners) for address, owners in found.items()}


def _report(before: dict[str, frozenset[str]], after: dict[str, frozenset[str]]) -> dict[str, Any]:
    """Counts of addresses: new ones, withdrawn ones, those with other owners now; and of those an example each."""
    changed = {
        "addresses_added": [address for address in after if address not in before],
        "addresses_withdrawn": [address for address in before if address not in after],
        "addresses_moved": [address for address in after if address in before and after[address] != before[address]],
    }
    counts: dict[str, Any] = {name: len(addresses) for name, addresses in changed.items()}
    examples = {name: addresses[0] for name, addresses in changed.items() if addresses}
    return {**counts, "examples": examples}
