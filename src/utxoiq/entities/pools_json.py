"""mempool's list of mining pools, pools-v2.json (github.com/mempool/mining-pools, MIT): [{id, name, addresses, tags,
link}]. The list has no date of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from utxoiq.entities.importing import Imported, identity_of, loaded_json, plain_text
from utxoiq.errors import LabelError

if TYPE_CHECKING:
    from utxoiq.chain.network import Network

SOURCE = "mempool/mining-pools pools-v2.json (MIT)"


def read_pools(text: str, name: str, network: Network, as_of: str | None) -> Imported:
    """Every pool with its addresses and tags. Raises LabelError for another form, and where `as_of` is missing."""
    if as_of is None:
        raise LabelError(f"{name}: a list of pools has no date; say with --as-of when it was published")
    found, pools = Imported("pools", network, (SOURCE,)), loaded_json(text, name)
    for number, pool in enumerate(pools, 1):
        place = f"{name} pool {number}"
        if not isinstance(pool, dict) or type(pool.get("id")) is not int:
            raise LabelError(f"{place}: is no pool with a numeric id")
        _add(found, pool, as_of, place)
    return found


def _add(found: Imported, pool: dict[str, Any], as_of: str, place: str) -> None:
    name = plain_text(pool.get("name"), "its name", place)
    row = found.entity(identity_of("mining_pool", name), name, "mining_pool")
    tags = [*row.get("tags", []), *(plain_text(tag, "a tag", place) for tag in _texts(pool, "tags", place))]
    if tags:
        row["tags"] = list(dict.fromkeys(tags))
    label = {"source": f"{SOURCE}, pool id {pool['id']}", "confidence": "high", "as_of": as_of}
    for address in _texts(pool, "addresses", place):
        found.add(row, label, address, place)


def _texts(pool: dict[str, Any], key: str, place: str) -> list[str]:
    values = pool.get(key, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise LabelError(f"{place}: its {key} are no list of texts")
    return values
