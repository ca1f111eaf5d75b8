"""Which mining pool a block is attributed to: by payout address first, then by coinbase tag.

An address was paid and can't be borrowed; a tag is free text that anybody can write. The longest tag found decides,
since short ones occur inside others; where two pools have equally long ones nothing is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from utxoiq.chain.coinbase import Coinbase
    from utxoiq.entities.labels import Entity, LabelSet


class Attribution(NamedTuple):
    """A pool and what it was known by."""

    pool: Entity
    by: Literal["payout_address", "tag"]


def attribute(coinbase: Coinbase, labels: LabelSet) -> Attribution | None:
    """The pool of a block, or None where nothing tells it, or two things tell different ones."""
    owners = (labels.owner_of(script) for _, script in coinbase.payouts)
    paid = {owner.id: owner for owner in owners if owner and owner.kind == "mining_pool"}
    if paid:
        return Attribution(next(iter(paid.values())), "payout_address") if len(paid) == 1 else None
    tagged = _longest_tag(coinbase.script_sig, labels)
    return Attribution(tagged, "tag") if tagged else None


def _longest_tag(script_sig: bytes, labels: LabelSet) -> Entity | None:
    written = script_sig.lower()  # pools are not constant in their capitals, and mempool.space ignores them too
    found = [(len(tag), pool) for tag, pool in labels.tags if tag in written]
    longest = max((length for length, _ in found), default=0)
    best = {pool.id: pool for length, pool in found if length == longest}
    return next(iter(best.values())) if len(best) == 1 else None
