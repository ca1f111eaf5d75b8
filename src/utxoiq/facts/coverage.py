"""How much of what moves do the labels know? By kind of entity, over any number of blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, get_args

from utxoiq.entities.labels import Kind

NO_ADDRESS = "no address of any is published: what they move can't be seen"

if TYPE_CHECKING:
    from utxoiq.entities.labels import LabelSet
    from utxoiq.models import BlockFlows


def coverage(flows: Iterable[BlockFlows | None], labels: LabelSet) -> list[dict[str, Any]]:
    """A row a kind, and `all`: entities, those with an address, addresses, and shares of the value spent and received
    in these blocks (coinbases left out) that carry such a label; None where nothing moved, and, with a `note`, where no
    address of the kind is known, so that nothing of it could be seen. `blocks`: those counted; blocks whose spent
    outputs are unknown are not."""
    spent, received = Counter[str](), Counter[str]()
    blocks = value_in = value_out = 0
    for flow in flows:
        if flow is None:
            continue
        blocks, value_in, value_out = blocks + 1, value_in + flow.value_in, value_out + flow.value_out
        for transfer in flow.transfers:
            for entity, one in transfer.entities.items() if transfer.pattern != "coinbase" else ():
                kind = labels.entities[entity].kind
                spent[kind] += one.spent
                received[kind] += one.received
    rows = [_row(kind, labels, spent[kind], received[kind]) for kind in get_args(Kind)]
    rows.append(_row("all", labels, spent.total(), received.total()))
    for row in rows:
        seen = row["with_address"] > 0
        row["share_spent"] = _share(row.pop("spent"), value_in) if seen else None
        row["share_received"] = _share(row.pop("received"), value_out) if seen else None
        row["note"] = None if seen or not row["entities"] else NO_ADDRESS
        row |= {"blocks": blocks, "labels_version": labels.version}
    return rows


def _row(kind: str, labels: LabelSet, spent: int, received: int) -> dict[str, Any]:
    entities = [entity for entity in labels.entities.values() if kind in ("all", entity.kind)]
    return {
        "kind": kind,
        "entities": len(entities),
        "with_address": sum(entity.count > 0 for entity in entities),
        "addresses": sum(entity.count for entity in entities),
        "spent": spent,
        "received": received,
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None
