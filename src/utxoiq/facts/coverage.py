"""How much of what moves do the labels know? By kind of entity, over any number of blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, get_args

from utxoiq.entities.labels import Kind

if TYPE_CHECKING:
    from utxoiq.entities.labels import LabelSet
    from utxoiq.models import BlockFlows


def coverage(flows: Iterable[BlockFlows | None], labels: LabelSet) -> list[dict[str, Any]]:
    """A row a kind, and `all`: entities, those with an address, addresses, and shares of the value spent and received
    in these blocks (coinbases left out) that carry such a label; None where nothing moved. `blocks`: those counted;
    blocks whose spent outputs are unknown are not."""
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
        row["share_spent"] = round(row.pop("spent") / value_in, 6) if value_in else None
        row["share_received"] = round(row.pop("received") / value_out, 6) if value_out else None
        row |= {"blocks": blocks, "labels_version": labels.version}
    return rows


def _row(kind: str, labels: LabelSet, spent: int, received: int) -> dict[str, Any]:
    entities = [entity for entity in labels.entities.values() if kind in ("all", entity.kind)]
    return {
        "kind": kind,
        "entities": len(entities),
        "with_address": sum(bool(entity.addresses) for entity in entities),
        "addresses": sum(len(entity.addresses) for entity in entities),
        "spent": spent,
        "received": received,
    }
