"""Flows: what labelled entities spent, received and passed to each other in one block.

Only labels count: an unlabelled script is nobody's, whatever heuristics would say. For a transaction and an entity,
`spent` is the sum of the outputs of its scripts that the transaction spends and `received` what it pays to its scripts;
the sender bears its share of the fee, by value. Then

    arrived  = max(0, received - (spent - fee share))
    left     = max(0, (spent - fee share) - received)
    internal = the rest of received: change, and moves within the entity

`left` is what did not come back to a labelled script, so an upper bound: change to a script no label knows is in it.
`left_least` is the lower bound: nothing came back, so the largest output of unknown owner may be all change.

Where an entity spends beside inputs of unknown owner, or takes part in what looks like a CoinJoin, those inputs or
outputs may be its own too: such a transaction is `uncertain` for it and makes no flow.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from utxoiq.facts.kinship import Rows, look, looks_joint, made_by_coinbases
from utxoiq.models import LARGE_COIN, BlockFlows, EntityFlow, Transfer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from utxoiq.chain.block import Block, Outputs, Spent
    from utxoiq.entities.labels import LabelSet
    from utxoiq.facts.kinship import Resolved
    from utxoiq.models import BlockData

BATCH_OUTPUTS = 10
CONSOLIDATION_INPUTS = 5
UNKNOWN = "unknown"
INSIDE = ("internal", "consolidation")
TOLD = [f.name for f in fields(BlockFlows) if f.name != "large"]
UNKNOWN_WITHOUT_SPENT = [*TOLD[1:], "share_in", "share_out"]


class Sides(NamedTuple):
    """Of one transaction: owner (entity number or id) -> sat; `nobody` for what is of unknown owners."""

    spent: dict[Any, int]
    received: dict[Any, int]
    nobody: int | str


def compute_flows(data: BlockData, labels: LabelSet) -> BlockFlows | None:
    """The flows of a block, None where what it spent is unknown. Its spent outputs must have been checked."""
    if data.spent is None:
        return None
    block, spent = data.block, data.spent
    spenders, makers = labels.owners_of(spent.outputs), labels.owners_of(block.outputs)
    spenders[0] = -1
    first_in, first_out = block.tx.first_input.astype(np.int64), block.tx.first_output.astype(np.int64)
    touched = np.union1d(
        np.searchsorted(first_in, np.flatnonzero(spenders >= 0), side="right") - 1,
        np.searchsorted(first_out, np.flatnonzero(makers >= 0), side="right") - 1,
    )
    transfers = [_transfer(block, spent, int(t), spenders, makers, labels) for t in touched.tolist()]
    seen = look(block, spent, spenders, makers, labels)
    return BlockFlows(
        blockhash=str(block.block_hash),
        labels_version=labels.version,
        value_in=int(spent.tx_value_in[1:].sum()),
        value_in_labelled=_labelled(spent.outputs, spenders, 1, len(spenders)),
        value_out=int(block.tx.value_out[1:].sum()),
        value_out_labelled=_labelled(block.outputs, makers, int(first_out[1]), len(makers)),
        entities=_sum_up(transfers),
        between=(between := _between(transfers)),
        kinds=_across(between, labels),
        transfers=sorted(transfers, key=lambda one: (-one.size, one.txid)),
        singles=_singles(transfers),
        kin=seen.kin,
        met=seen.met,
        agreed=seen.agreed,
        heirs=seen.heirs,
        large=seen.large,
    )


def _labelled(outputs: Outputs, owners: NDArray[np.int32], begin: int, end: int) -> int:
    return int(outputs.value[begin:end][owners[begin:end] >= 0].sum())


def _transfer(
    block: Block, spent: Spent, t: int, spenders: NDArray[np.int32], makers: NDArray[np.int32], labels: LabelSet
) -> Transfer:
    ins = range(int(block.tx.first_input[t]), int(block.tx.first_input[t + 1]))
    outs = range(int(block.tx.first_output[t]), int(block.tx.first_output[t + 1]))
    sides = Sides(_by_owner(spent.outputs, spenders, ins) if t else {}, _by_owner(block.outputs, makers, outs), -1)
    value_in, value_out = int(spent.tx_value_in[t]) if t else 0, int(block.tx.value_out[t])
    fee = value_in - value_out if t else 0
    joint = looks_joint(block, spent, Rows(ins, outs))
    pattern: Any = "coinbase" if t == 0 else pattern_of(sides, len(ins), len(outs), joint)
    flows = entity_flows(sides, pattern, fee, len(outs), _largest_unknown(block, outs, makers))
    entities = {labels.numbered(number).id: flow for number, flow in flows.items()}
    return Transfer(
        str(block.txid(t)), pattern, len(ins) if t else 0, len(outs), value_in, value_out, fee, entities,
        made_by_coinbases(spent, ins) if t else 0,
    )  # fmt: skip


def transfer_of(resolved: Resolved) -> Transfer:
    """A large transaction as owners by labels and kin tell it."""
    large = resolved.large
    sides = Sides(
        {who or "": sat for who, sat in resolved.spent.items()},
        {who or "": sat for who, sat in resolved.received.items()},
        "",
    )
    pattern = pattern_of(sides, large.inputs, large.outputs, large.is_joint)
    return Transfer(
        large.txid, pattern, large.inputs, large.outputs, large.value_in, large.value_out, large.fee,
        entity_flows(sides, pattern, large.fee, large.outputs, resolved.most_unknown), large.coinbase_value,
    )  # fmt: skip


def entity_flows(sides: Sides, pattern: str, fee: int, outputs: int, change: int) -> dict[Any, EntityFlow]:
    """What a transaction did to each of its known owners. `change`: its largest output of unknown owner, sat."""
    mixed = pattern == "coinjoin" or sides.nobody in sides.spent
    owners = sorted(sides.spent, key=lambda owner: (owner == sides.nobody, owner))
    shares = dict(zip(owners, in_proportion(fee, [sides.spent[owner] for owner in owners]), strict=True))
    alone = not mixed and len(sides.spent) == 1 and pattern not in INSIDE and outputs > 1
    found = {}
    for owner in sorted({*sides.spent, *sides.received} - {sides.nobody}):
        used, got, share = sides.spent.get(owner, 0), sides.received.get(owner, 0), shares.get(owner, 0)
        net, pays = got - (used - share), alone and used > 0
        left = max(0, -net)
        found[owner] = EntityFlow(
            spent=used, received=got, fee=share, arrived=max(0, net), left=left,
            uncertain=pattern == "coinjoin" or (mixed and used > 0),
            left_least=left if got else max(0, left - change), payments=int(pays), returned=int(pays and got > 0),
        )  # fmt: skip
    return found


def _largest_unknown(block: Block, outs: range, makers: NDArray[np.int32]) -> int:
    rows = slice(outs.start, outs.stop)
    unknown = block.outputs.value[rows][makers[rows] < 0]
    return int(unknown.max()) if len(unknown) else 0


def _by_owner(outputs: Outputs, owners: NDArray[np.int32], rows: range) -> dict[int, int]:
    found: dict[int, int] = defaultdict(int)
    values, whose = outputs.value[rows.start : rows.stop].tolist(), owners[rows.start : rows.stop].tolist()
    for value, owner in zip(values, whose, strict=True):
        found[owner] += value
    return dict(found)


def pattern_of(sides: Sides, inputs: int, outputs: int, joint: bool) -> Any:
    """What a transaction beside the coinbase looks like: coinjoin, internal, consolidation, batch or payment."""
    if joint and (len(sides.spent) != 1 or sides.nobody in sides.spent):
        return "coinjoin"
    owners = {*sides.spent, *(owner for owner, value in sides.received.items() if value)}
    if len(owners) == 1 and sides.nobody not in owners:
        return "consolidation" if inputs >= CONSOLIDATION_INPUTS and outputs <= 2 else "internal"
    return "batch" if outputs >= BATCH_OUTPUTS else "payment"


def in_proportion(whole: int, weights: list[int]) -> list[int]:
    """`whole` shared by weight, in whole satoshis that add up to it again; nothing where there is no weight."""
    total, so_far, parts = sum(weights), 0, []
    for weight in weights:
        parts.append((whole * (so_far + weight) // total - whole * so_far // total) if total else 0)
        so_far += weight
    return parts


def _sum_up(transfers: list[Transfer]) -> dict[str, EntityFlow]:
    """All of a block's certain flows of each entity; what was uncertain is counted apart."""
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for transfer in transfers:
        for entity, flow in transfer.entities.items():
            uncertain = {"uncertain_value": max(flow.spent, flow.received)}
            sums[entity].update(uncertain if flow.uncertain else flow.amounts())
    return {entity: EntityFlow.of(total) for entity, total in sorted(sums.items())}


def _singles(transfers: list[Transfer]) -> list[str]:
    """The entities of which one transaction brought or took LARGE_COIN and more."""
    return sorted(
        {
            who
            for transfer in transfers
            for who, flow in transfer.entities.items()
            if not flow.uncertain and max(flow.arrived, flow.left) >= LARGE_COIN and transfer.pattern != "coinbase"
        }
    )


def _between(transfers: list[Transfer]) -> list[list[Any]]:
    """[from, to, sat] between entities, and from or to `unknown`, of certain flows.

    A transaction of one sender pays each receiver from it; of several, in proportion to what left them.
    """
    sums: Counter[tuple[str, str]] = Counter()
    for transfer in transfers:
        certain = {entity: flow for entity, flow in transfer.entities.items() if not flow.uncertain}
        senders = {entity: flow.left for entity, flow in certain.items() if flow.left}
        for receiver, flow in certain.items():
            if not senders:  # where there is one, every input has an owner: all that arrives is theirs
                sums[UNKNOWN, receiver] += flow.arrived
            for sender, part in zip(senders, in_proportion(flow.arrived, list(senders.values())), strict=True):
                sums[sender, receiver] += part
                senders[sender] -= part
        for sender, rest in senders.items():
            sums[sender, UNKNOWN] += rest
    return [[sender, receiver, sat] for (sender, receiver), sat in sorted(sums.items()) if sat]


def _across(between: list[list[Any]], labels: LabelSet) -> dict[str, list[int]]:
    """Kind -> [arrived, left] over its border: what passes between two of a kind is neither."""
    sums: dict[str, list[int]] = {}
    for sender, receiver, sat in between:
        from_kind, to_kind = (None if who == UNKNOWN else labels.entities[who].kind for who in (sender, receiver))
        if from_kind != to_kind:
            for kind, place in ((to_kind, 0), (from_kind, 1)):
                if kind is not None:
                    sums.setdefault(kind, [0, 0])[place] += sat
    return dict(sorted(sums.items()))


def flow_row(data: BlockData, flows: BlockFlows | None) -> dict[str, Any]:
    """A block's flows as JSON values, with the labelled shares; null wherever the spent outputs are unknown."""
    row: dict[str, Any] = {"height": data.height, "time": data.block.header.time}
    if flows is None:
        return {**row, "blockhash": str(data.block_hash), **dict.fromkeys(UNKNOWN_WITHOUT_SPENT)}
    return {
        **row,
        **{name: value for name, value in asdict(flows.sums(len(flows.transfers))).items() if name in TOLD},
        "share_in": flows.share,
        "share_out": _share(flows.value_out_labelled, flows.value_out),
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None
