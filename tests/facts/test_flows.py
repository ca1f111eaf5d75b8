"""Flows of labelled entities: against a second, plain recount of every recorded block, what is known to have been done
in a recorded chain, and properties of made-up blocks."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facts.made import REGTEST, block_of, outpoint_coin
from helpers.recorded import ALL as ALL_RECORDED
from helpers.recorded import SHARED, Recorded, every_block_with_spent, recorded_run
from helpers.reference import read_block, read_spenttxouts, read_undo, sha256d
from utxoiq.chain.address import address_of, script_of
from utxoiq.chain.block import decode_block, read_rest_spent, read_undo_spent
from utxoiq.chain.network import NETWORKS, Network
from utxoiq.chain.serialize import Coin, Tx, undo_bytes
from utxoiq.entities.labels import LabelSet, labels_for, packaged_labels, read_labels
from utxoiq.facts.flows import compute_flows
from utxoiq.models import BlockData, BlockFlows, EntityFlow, Transfer

RUN = "regtest_core31"
MAIN = NETWORKS["main"]
NOBODY = None
SUMS = ("spent", "received", "fee", "arrived", "left", "left_least", "payments", "returned")
Owner = str | None
Plain = dict[str, Any]


# ---------------------------------------------------------------------------------------------------- the recount


class Put(NamedTuple):
    """An amount at a script."""

    sat: int
    script: bytes
    is_coinbase: bool | None = None


class PlainTx(NamedTuple):
    """A transaction as amounts at scripts."""

    txid: str
    ins: list[Put]
    outs: list[Put]
    is_coinbase: bool


def plainly(raw: bytes, *, rest: bytes | None = None, undo: bytes | None = None) -> list[PlainTx]:
    """A block and what it spends, decoded without utxoiq."""
    found = read_block(raw)
    counts = [tx.inputs for tx in found]
    coins = read_spenttxouts(rest, counts) if rest is not None else read_undo(undo or b"\0", counts)[0]
    return [
        PlainTx(
            sha256d(tx.stripped)[::-1].hex(), [Put(coin.value, coin.script, coin.is_coinbase) for coin in row],
            [Put(*output) for output in tx.outputs], n == 0,
        )
        for n, (tx, row) in enumerate(zip(found, [[], *coins], strict=True))
    ]  # fmt: skip


@cache
def owners_by_dict(labels: LabelSet) -> dict[bytes, str]:
    """Script -> entity id; scripts of several entities are left out."""
    owners: dict[bytes, set[str]] = defaultdict(set)
    for entity in labels.entities.values():
        for address in entity.addresses:
            owners[script_of(address, labels.network)].add(entity.id)
    return {script: min(ids) for script, ids in owners.items() if len(ids) == 1}


def recounted_pattern(tx: PlainTx, owners: dict[bytes, str]) -> str:
    if tx.is_coinbase:
        return "coinbase"
    senders = {owners.get(put.script) for put in tx.ins}
    payees = {owners.get(put.script) for put in tx.outs if put.sat > 0}
    amounts = [put.sat for put in tx.outs if put.sat > 0]
    most = max(Counter(amounts).values(), default=0)
    others, one_sender = len(tx.outs) - most, min(senders, key=str) if len(senders) == 1 else NOBODY
    if most >= 3 and others <= most + 1 and len({put.script for put in tx.ins}) >= most and one_sender is NOBODY:
        return "coinjoin"
    if senders | payees == senders and len(senders) == 1 and senders != {NOBODY}:
        return "consolidation" if len(tx.ins) >= 5 and len(tx.outs) in (1, 2) else "internal"
    return "batch" if len(tx.outs) >= 10 else "payment"


def recounted_transfer(tx: PlainTx, owners: dict[bytes, str], shares: dict[str, int] | None = None) -> Plain | None:
    """What a transaction did to each entity, None where it touched none.

    A share of the fee is a whole satoshi next to the exact one: the one of `shares` if it is.
    """
    pattern, flows = recounted_pattern(tx, owners), {}
    value_in, value_out = sum(put.sat for put in tx.ins), sum(put.sat for put in tx.outs)
    fee = 0 if tx.is_coinbase else value_in - value_out
    senders = {owners.get(put.script) for put in tx.ins}
    for entity in (senders | {owners.get(put.script) for put in tx.outs}) - {NOBODY}:
        spent = sum(put.sat for put in tx.ins if owners.get(put.script) == entity)
        received = sum(put.sat for put in tx.outs if owners.get(put.script) == entity)
        exact = Fraction(fee * spent, value_in) if value_in else Fraction(0)
        share = (shares or {}).get(entity, int(exact))
        assert abs(share - exact) < 1, entity
        had, has = spent - share, received
        left = had - has if had > has else 0
        unknown = [put.sat for put in tx.outs if put.script not in owners]
        pays = senders == {entity} and pattern in ("payment", "batch") and len(tx.outs) >= 2
        flows[entity] = {
            "spent": spent, "received": received, "fee": share,
            "arrived": has - had if has > had else 0, "left": left,
            "left_least": left if received else max(left - max(unknown, default=0), 0),
            "payments": 1 if pays else 0, "returned": 1 if pays and received else 0,
            "uncertain": pattern == "coinjoin" or (spent > 0 and NOBODY in senders), "uncertain_value": 0,
        }  # fmt: skip
    if not flows:
        return None
    return {
        "txid": tx.txid, "pattern": pattern, "inputs": len(tx.ins), "outputs": len(tx.outs), "value_in": value_in,
        "value_out": value_out, "fee": fee, "entities": flows,
        "coinbase_value": sum(put.sat for put in tx.ins if put.is_coinbase) if knows_coinbases(tx) else None,
    }  # fmt: skip


def knows_coinbases(tx: PlainTx) -> bool:
    return all(put.is_coinbase is not None for put in tx.ins)


def size(transfer: Plain) -> int:
    each = transfer["entities"].values()
    return max(max(flow["left"], flow["arrived"], min(flow["spent"], flow["received"])) for flow in each)


def recounted_entities(transfers: Sequence[Plain]) -> Plain:
    found: Plain = {}
    for transfer in transfers:
        for entity, flow in transfer["entities"].items():
            empty = dict.fromkeys((*SUMS, "uncertain_value"), 0)
            sums = found.setdefault(entity, {**empty, "uncertain": False})
            if flow["uncertain"]:
                sums["uncertain_value"] += max(flow["spent"], flow["received"])
            else:
                for name in SUMS:
                    sums[name] += flow[name]
    return found


def recounted_between(transfers: Sequence[Plain]) -> tuple[dict[tuple[str, str], Fraction], Counter[tuple[str, str]]]:
    """Exact proportions of who passed what to whom; and, for each pair, how many satoshis rounding may make."""
    sums: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    rounded: Counter[tuple[str, str]] = Counter()
    for transfer in transfers:
        flows = transfer["entities"]
        left = {entity: flow["left"] for entity, flow in flows.items() if not flow["uncertain"] and flow["left"]}
        arrived = {e: flow["arrived"] for e, flow in flows.items() if not flow["uncertain"] and flow["arrived"]}
        known = bool(left) and not any(flow["uncertain"] for flow in flows.values())
        often = len(arrived) + 1 if len(left) > 1 else 0
        for sender, sat in left.items():
            sums[sender, "unknown"] += sat
            rounded[sender, "unknown"] += often
        for receiver, sat in arrived.items():
            for sender in left if known else ["unknown"]:
                part = Fraction(left[sender], sum(left.values())) if known else 1
                sums[sender, receiver] += sat * part
                rounded[sender, receiver] += often
                if known:
                    sums[sender, "unknown"] -= sat * part
                    rounded[sender, "unknown"] += often
    return sums, rounded


def check(flows: BlockFlows | None, transactions: Sequence[PlainTx], labels: LabelSet, owners: dict[bytes, str]) -> int:
    """Compares all of a block's flows with the recount. The number of transfers."""
    assert flows is not None
    shares = {one.txid: {name: flow.fee for name, flow in one.entities.items()} for one in flows.transfers}
    transfers = [one for tx in transactions if (one := recounted_transfer(tx, owners, shares.get(tx.txid))) is not None]
    transfers.sort(key=lambda one: one["txid"])
    transfers.sort(key=size, reverse=True)
    assert [asdict(one) for one in flows.transfers] == transfers
    assert [one.size for one in flows.transfers] == [size(one) for one in transfers]
    assert {entity: asdict(flow) for entity, flow in flows.entities.items()} == recounted_entities(transfers)
    assert list(flows.entities) == sorted(flows.entities)
    assert flows.labels_version == labels.version
    ins = [put for tx in transactions for put in tx.ins]
    outs = [put for tx in transactions for put in tx.outs if not tx.is_coinbase]
    for found, puts in ((flows.value_in, ins), (flows.value_out, outs)):
        assert found == sum(put.sat for put in puts)
    for found, puts in ((flows.value_in_labelled, ins), (flows.value_out_labelled, outs)):
        assert found == sum(put.sat for put in puts if put.script in owners)
    check_between(flows.between, transfers)
    check_kinds(flows, labels)
    return len(transfers)


def check_kinds(flows: BlockFlows, labels: LabelSet) -> None:
    """What crosses the border of a kind, recounted from who passed what to whom."""
    kind_of = {entity.id: str(entity.kind) for entity in labels.entities.values()}
    for kind in {*kind_of.values(), *flows.kinds}:
        arrived = left = 0
        for sender, receiver, sat in flows.between:
            if kind_of.get(sender) != kind_of.get(receiver):
                arrived += sat if kind_of.get(receiver) == kind else 0
                left += sat if kind_of.get(sender) == kind else 0
        assert flows.kinds.get(kind, [0, 0]) == [arrived, left]


def check_between(between: list[list[Any]], transfers: Sequence[Plain]) -> None:
    """Exact where one sender paid; within the satoshis by which amounts divided among senders are rounded."""
    expected, rounded = recounted_between(transfers)
    assert [pair[:2] for pair in between] == sorted([*pair[:2]] for pair in between)
    found = {(sender, receiver): sat for sender, receiver, sat in between}
    assert len(found) == len(between)
    assert all(sat > 0 for sat in found.values())
    for pair in {*expected, *found}:
        assert abs(found.get(pair, 0) - expected[pair]) <= rounded[pair], pair


# ---------------------------------------------------------------------------------------------------- label sets


def label_set(owned: dict[str, Sequence[str]], network: Network) -> LabelSet:
    """A label set of these addresses by entity."""
    rows = [
        {"id": entity, "name": entity, "kind": "treasury",
         "labels": [{"source": "test", "confidence": "high", "as_of": "2026-01-01", "addresses": list(addresses)}]}
        for entity, addresses in owned.items()
    ]  # fmt: skip
    return read_labels("\n".join(map(json.dumps, rows)), network, "test")


def drawn_labels(transactions: Sequence[PlainTx], network: Network, seed: int) -> LabelSet:
    """Owners by lot: two in three scripts of a block belong to one of five, a few of these to two of them."""
    random, owned = Random(seed), defaultdict[str, list[str]](list)
    for script in sorted({put.script for tx in transactions for put in (*tx.ins, *tx.outs)}):
        address = address_of(script, network)
        for _ in range(1 + (random.random() < 0.02) if address and random.random() < 0.67 else 0):
            owned[f"owner_{random.choice('aaaaabbbccde')}"].append(address or "")
    return label_set(dict(sorted(owned.items())), network)


@cache
def labels_of_run(*, disclosed: bool) -> LabelSet:
    """The labelled addresses of the recorded chain: all, or only those a public list would hold."""
    owned = defaultdict[str, list[str]](list)
    with (SHARED / "runs" / RUN / "labels.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["address"] and (row["disclosed"] == "1" or not disclosed):
                owned[row["entity"]].append(row["address"])
    return label_set(dict(owned), REGTEST)


# ------------------------------------------------------------------------------------------------- recorded blocks


@cache
def blocks_of_run() -> list[tuple[BlockData, list[PlainTx]]]:
    """Every block of the chain with undo data, stale ones too: as utxoiq reads it, and plainly."""
    run, found = recorded_run(RUN, REGTEST), []
    for block_hash, undo in run.undo.items():
        raw = run.blocks[block_hash]
        block = decode_block(raw, REGTEST)
        data = BlockData(block, None, read_undo_spent(block, undo), None, "test")
        found.append((data, plainly(raw, undo=undo)))
    return found


@cache
def flows_of_run(*, disclosed: bool) -> list[BlockFlows]:
    labels = labels_of_run(disclosed=disclosed)
    return [flows for data, _ in blocks_of_run() if (flows := compute_flows(data, labels)) is not None]


@cache
def transfers_of_run(*, disclosed: bool) -> dict[str, Transfer]:
    return {one.txid: one for flows in flows_of_run(disclosed=disclosed) for one in flows.transfers}


def data_of(recorded: Recorded) -> BlockData:
    block = recorded.decoded()
    return BlockData(block, None, read_rest_spent(block, recorded.spent), None, "test")


@every_block_with_spent
def test_real_blocks_recounted(recorded: Recorded) -> None:
    """With the packaged labels (none of them off mainnet), and with owners by lot for its own scripts."""
    data, transactions = data_of(recorded), plainly(recorded.raw, rest=recorded.spent)
    for labels in (labels_for(recorded.network), drawn_labels(transactions, recorded.network, recorded.size)):
        touched = check(compute_flows(data, labels), transactions, labels, owners_by_dict(labels))
    assert touched > len(transactions) // 5 or len(transactions) < 3


def test_packaged_labels_touch_real_blocks(shared: Path) -> None:
    """The recorded mainnet blocks do hold coins of the packaged entities."""
    found = [
        compute_flows(data_of(one), packaged_labels())
        for one in ALL_RECORDED
        if one.network is MAIN and one.row["spent_file"]
    ]
    assert sum(len(flows.transfers) for flows in found if flows is not None) > 0


@pytest.mark.parametrize("disclosed", [True, False], ids=["disclosed", "all"])
def test_a_recorded_chain_recounted(shared: Path, disclosed: bool) -> None:
    """All 1,210 blocks, with the disclosed labels and with all."""
    blocks, flows = blocks_of_run(), flows_of_run(disclosed=disclosed)
    labels = labels_of_run(disclosed=disclosed)
    owners = owners_by_dict(labels)
    assert len(flows) == len(blocks) == 1210
    touched = 0
    for (_, transactions), found in zip(blocks, flows, strict=True):
        touched += check(found, transactions, labels, owners)
    assert touched > 20_000
    assert {one.pattern for one in transfers_of_run(disclosed=disclosed).values()} == {
        "coinbase", "coinjoin", "internal", "consolidation", "batch", "payment",
    }  # fmt: skip


def test_without_spent_outputs_nothing_is_known() -> None:
    assert compute_flows(block_of(spent=False), ABC) is None


# ------------------------------------------------------------------------------------------- what was done on purpose


def done(shared: Path, kind: str, *, disclosed: bool = False) -> list[tuple[dict[str, Any], Transfer]]:
    """The events of a kind that came to stand in a block, each with its first transaction's transfer if it has one."""
    transfers = transfers_of_run(disclosed=disclosed)
    with (shared / "runs" / RUN / "events.jsonl").open() as file:
        events = [event for event in map(json.loads, file) if event["kind"] == kind and event["heights"][0] is not None]
    return [(event, transfers[event["txids"][0]]) for event in events if event["txids"][0] in transfers]


def test_a_reshuffle_is_no_flow(shared: Path) -> None:
    """Hot to cold and back within one exchange: internal, whatever the amount."""
    events = done(shared, "internal_reshuffle")
    assert len(events) == 96
    for event, transfer in events:
        assert transfer.pattern in ("internal", "consolidation")
        assert list(transfer.entities) == [event["entity"]]
        flow = transfer.entities[event["entity"]]
        assert (flow.arrived, flow.left, flow.uncertain) == (0, 0, False)
        assert flow.fee == transfer.fee > 0
        assert flow.received >= event["total_sat"] > 0


@pytest.mark.parametrize("disclosed", [True, False], ids=["disclosed", "all"])
def test_a_coinjoin_claims_nothing(shared: Path, disclosed: bool) -> None:
    """With few labels as with all of them."""
    events = done(shared, "coinjoin_like", disclosed=disclosed)
    assert len(events) == 60
    for _, transfer in events:
        assert transfer.pattern == "coinjoin"
        assert all(flow.uncertain for flow in transfer.entities.values())


def test_batches_leave_an_exchange(shared: Path) -> None:
    """50 to 500 withdrawals in one transaction: their sum left, the change did not."""
    events = done(shared, "batch_withdrawal")
    assert len(events) == 60
    for event, transfer in events:
        flow = transfer.entities[event["entity"]]
        assert (transfer.pattern, transfer.outputs) == ("batch", event["outputs"] + 1)
        assert (flow.left, flow.arrived, flow.uncertain) == (event["total_sat"], 0, False)
        assert flow.spent == transfer.value_in
        assert flow.received == transfer.value_in - transfer.fee - event["total_sat"]


@pytest.mark.parametrize(
    ("kind", "count", "sender", "receiver"),
    [
        ("treasury_accumulation", 37, "source", "entity"),
        ("treasury_distribution", 12, "entity", "to"),
        ("whale_accumulation", 18, "source", "entity"),
        ("whale_transfer", 13, "entity", "to"),
    ],
)
def test_payments_between_entities(shared: Path, kind: str, count: int, sender: str, receiver: str) -> None:
    """Exactly the amount that was sent left the one and arrived at the other."""
    events = done(shared, kind)
    assert len(events) == count
    for event, transfer in events:
        assert transfer.pattern == "payment"
        out, to = transfer.entities[event[sender]], transfer.entities[event[receiver]]
        assert (out.left, out.arrived, out.uncertain) == (event["total_sat"], 0, False)
        assert (to.left, to.arrived, to.uncertain) == (0, event["total_sat"], False)
        assert (out.fee, to.fee) == (transfer.fee, 0)
        between = next(one.between for one in flows_of_run(disclosed=False) if transfer in one.transfers)
        assert sum(sat for a, b, sat in between if (a, b) == (event[sender], event[receiver])) >= event["total_sat"]


def test_a_whale_that_sweeps_its_coins_moves_nothing(shared: Path) -> None:
    """Several coins into one of its own."""
    events = done(shared, "whale_consolidation")
    assert len(events) == 6
    for event, transfer in events:
        assert transfer.pattern == ("consolidation" if event["inputs"] >= 5 else "internal")
        flow = transfer.entities[event["entity"]]
        assert (flow.left, flow.arrived, transfer.inputs) == (0, 0, event["inputs"])
        assert flow.spent - flow.fee == flow.received


def test_consolidations(shared: Path) -> None:
    """Up to 330 coins of one entity into one; with a coin of nobody's among them it is uncertain."""
    events, certain = done(shared, "consolidation"), 0
    assert len(events) == 45
    for event, transfer in events:
        flow = transfer.entities[event["entity"]]
        assert transfer.inputs == event["inputs"]
        if flow.spent == transfer.value_in:
            certain += 1
            assert (transfer.pattern, flow.left, flow.arrived) == ("consolidation", 0, 0)
        else:
            assert flow.uncertain
    assert certain == 42


# ---------------------------------------------------------------------------------------------------------- by hand


def script(letter: int) -> bytes:
    return b"\x00\x14" + bytes([letter]) * 20


A, A2, A3, B, B2, C, BOTH, X, Y = map(script, range(9))
"""Of A, of B, of C; of A and of B at once, so of nobody; of nobody."""
OWNED = {"a": (A, A2, A3, BOTH), "b": (B, B2, BOTH), "c": (C,)}
ABC = label_set({name: [address_of(one, REGTEST) or "" for one in scripts] for name, scripts in OWNED.items()}, REGTEST)
Side = Sequence[tuple[int, bytes]]
Made = tuple[Side, Side]
"""A transaction: what it spends, and what it makes."""


def block_with(made: Sequence[Made], *, claim: int = 0, payout: bytes = X) -> BlockData:
    spends = []
    for n, (ins, outs) in enumerate(made):
        parts = [outpoint_coin((n + 1) * 1000 + i, sat, to) for i, (sat, to) in enumerate(ins)]
        spends.append((Tx(tuple(txin for txin, _ in parts), tuple(outs)), [coin for _, coin in parts]))
    return block_of(*spends, claim=claim, payout=payout)


def flows_with(made: Sequence[Made], *, claim: int = 0, payout: bytes = X) -> BlockFlows:
    flows = compute_flows(block_with(made, claim=claim, payout=payout), ABC)
    assert flows is not None
    return flows


def flows_of(ins: Side, outs: Side) -> tuple[Transfer, BlockFlows]:
    """Of one transaction."""
    flows = flows_with([(ins, outs)])
    (transfer,) = flows.transfers
    return transfer, flows


def test_a_payment_with_change() -> None:
    transfer, flows = flows_of([(100, A)], [(30, B), (60, A2)])
    assert transfer.pattern == "payment"
    assert transfer.entities == {
        "a": EntityFlow(100, 60, 10, 0, 30, left_least=30, payments=1, returned=1), "b": EntityFlow(0, 30, 0, 30, 0),
    }  # fmt: skip
    assert (transfer.size, flows.between) == (60, [["a", "b", 30]])


def test_to_and_from_nobody() -> None:
    _, flows = flows_of([(100, A)], [(90, X)])
    assert flows.between == [["a", "unknown", 90]]
    assert (flows.value_in_labelled, flows.value_out_labelled) == (100, 0)
    _, flows = flows_of([(100, X), (5, Y)], [(90, A)])
    assert flows.between == [["unknown", "a", 90]]
    assert flows.entities == {"a": EntityFlow(0, 90, 0, 90, 0)}


def test_a_script_of_two_owners_is_nobodys() -> None:
    transfer, flows = flows_of([(100, A)], [(90, BOTH)])
    assert list(transfer.entities) == ["a"]
    assert flows.between == [["a", "unknown", 90]]


def test_what_left_at_least() -> None:
    """Without change to a labelled script, the largest output of nobody's may be it; with such change it is none."""
    (payment, _), (returned, _) = flows_of([(100, A)], [(30, X), (60, X)]), flows_of([(100, A)], [(30, X), (60, A2)])
    assert (payment.entities["a"].left, payment.entities["a"].left_least) == (90, 30)
    assert (returned.entities["a"].left, returned.entities["a"].left_least) == (30, 30)
    (to_known, _), (swept, _) = flows_of([(100, A)], [(30, X), (60, B)]), flows_of([(100, A)], [(90, X)])
    assert (to_known.entities["a"].left, to_known.entities["a"].left_least) == (90, 60)
    assert (swept.entities["a"].left, swept.entities["a"].left_least) == (90, 0)
    assert [one.entities["a"].payments for one in (payment, returned, to_known, swept)] == [1, 1, 1, 0]
    assert [one.entities["a"].returned for one in (payment, returned, to_known, swept)] == [0, 1, 0, 0]


def test_beside_inputs_of_nobody_it_is_uncertain() -> None:
    """For the sender; what another entity receives arrived, from nobody can tell whom."""
    transfer, flows = flows_of([(60, A), (40, X)], [(50, B), (45, A)])
    assert transfer.entities == {
        "a": EntityFlow(60, 45, 3, 0, 12, uncertain=True, left_least=12), "b": EntityFlow(0, 50, 0, 50, 0),
    }  # fmt: skip
    assert flows.between == [["unknown", "b", 50]]
    assert flows.entities["a"] == EntityFlow(0, 0, 0, 0, 0, uncertain_value=60)


def test_two_senders_pay_in_proportion() -> None:
    _, flows = flows_of([(100, A), (300, B)], [(40, C), (80, A), (240, B), (30, X)])
    assert (flows.entities["a"].fee, flows.entities["b"].fee) in ((2, 8), (3, 7))
    assert flows.entities["a"].left + flows.entities["b"].left == 70
    assert flows.entities["c"] == EntityFlow(0, 40, 0, 40, 0)
    between = {(sender, receiver): sat for sender, receiver, sat in flows.between}
    assert between["a", "c"] + between["b", "c"] == 40
    assert between["a", "c"] in (10, 11)
    assert between["a", "unknown"] + between["b", "unknown"] == 30


def test_the_coinbase_is_received_from_nobody() -> None:
    flows = flows_with([], claim=5000, payout=C)
    (transfer,) = flows.transfers
    assert (transfer.pattern, transfer.inputs, transfer.fee, transfer.value_in) == ("coinbase", 0, 0, 0)
    assert flows.between == [["unknown", "c", 5000]]
    assert (flows.value_in, flows.value_out, flows.value_out_labelled) == (0, 0, 0)


@pytest.mark.parametrize(
    ("inputs", "outputs", "pattern"), [(1, 1, "internal"), (4, 2, "internal"), (5, 2, "consolidation"),
                                       (5, 3, "internal"), (330, 1, "consolidation"), (1, 40, "internal")]
)  # fmt: skip
def test_paying_oneself(inputs: int, outputs: int, pattern: str) -> None:
    """An empty output to nobody, as OP_RETURNs are, makes no difference but that it is an output."""
    made = [(10, A2)] * (outputs - 1) + [(0, b"\x6a\x01x") if outputs > 1 else (10, A)]
    transfer, flows = flows_of([(1000, A), *[(7, A2)] * (inputs - 1)], made)
    assert (transfer.pattern, flows.between) == (pattern, [])
    assert (transfer.entities["a"].left, transfer.entities["a"].arrived) == (0, 0)
    assert transfer.entities["a"].fee == transfer.fee


@pytest.mark.parametrize(("outputs", "pattern"), [(9, "payment"), (10, "batch")])
def test_ten_outputs_are_a_batch(outputs: int, pattern: str) -> None:
    assert flows_of([(1000, A)], [(n + 1, X) for n in range(outputs)])[0].pattern == pattern


JOINED = [(50, X), (50, Y), (50, B), (3, A2), (2, X), (1, Y), (0, C)]


@pytest.mark.parametrize(
    ("ins", "outs", "pattern"),
    [
        ([A, X, Y], JOINED, "coinjoin"),
        ([A, B, C], JOINED, "coinjoin"),
        ([A, X, Y, Y], JOINED, "coinjoin"),
        ([A, X, X, X], JOINED, "payment"),  # two scripts for three equal outputs
        ([A, A2, A], JOINED, "payment"),
        ([A, A2, A3], JOINED, "payment"),  # all of one owner
        ([A, X], JOINED, "payment"),
        ([A, X, Y], JOINED[1:], "payment"),  # two equal ones
        ([A, X, Y], [*JOINED, (0, X)], "payment"),  # too much else
        ([A, X, Y], [(0, B)] * 3 + [(9, C)], "payment"),  # equal but empty
    ],
)
def test_what_looks_like_a_coinjoin(ins: list[bytes], outs: Side, pattern: str) -> None:
    transfer, flows = flows_of([(100, one) for one in ins], outs)
    assert transfer.pattern == pattern
    if pattern == "coinjoin":
        assert all(flow.uncertain for flow in transfer.entities.values())
        assert flows.between == []


def test_a_coinjoin_of_strangers_claims_nothing() -> None:
    """One of its equal outputs is labelled, none of its inputs: they may be its own all the same."""
    transfer, flows = flows_of([(60, one) for one in (X, Y, BOTH)], [(50, A), (50, X), (50, Y), (8, X), (7, Y)])
    assert transfer.pattern == "coinjoin"
    assert (transfer.entities["a"].uncertain, flows.between) == (True, [])


# ------------------------------------------------------------------------------------------------------- properties

amounts = st.one_of(st.integers(0, 60), st.sampled_from([0, 1, 50, 50, 50, 10**8, 3 * 10**13]), st.integers(0, 10**10))


def sides(scripts: Sequence[bytes], most: int) -> st.SearchStrategy[Side]:
    return st.lists(st.tuples(amounts, st.sampled_from(scripts)), min_size=1, max_size=most)


def affordable(made: Made) -> Made:
    """With enough at the first input to pay for the outputs."""
    (first, to), *others = made[0]
    missing = sum(sat for sat, _ in made[1]) - sum(sat for sat, _ in made[0])
    return [(first + max(0, missing), to), *others], made[1]


LABELLED, ALL = (A, A2, B, B2, C), (A, A2, B, B2, C, BOTH, X, Y)


def transactions(spent: Sequence[bytes], made: Sequence[bytes], most: int = 7) -> st.SearchStrategy[Made]:
    return st.tuples(sides(spent, most), sides(made, most)).map(affordable)


any_made = st.one_of(transactions(ALL, ALL), transactions(LABELLED, ALL), transactions(LABELLED, LABELLED))
every_made_block = given(st.lists(any_made, min_size=1, max_size=5))
some = settings(max_examples=60, deadline=None)


def total(side: Side, scripts: Sequence[bytes] | None = None) -> int:
    return sum(sat for sat, to in side if scripts is None or to in scripts)


def spends_of_strangers(made: Made) -> bool:
    return any(to in (X, Y, BOTH) for _, to in made[0])


@some
@given(st.lists(any_made, max_size=5), amounts, st.sampled_from([A, B, X]))
def test_made_blocks_recounted(made: list[Made], claim: int, payout: bytes) -> None:
    """The plain recount, coinbase included."""
    data = block_with(made, claim=claim, payout=payout)
    coins = [[Coin(sat, to, 1) for sat, to in ins] for ins, _ in made]
    plain = plainly(data.block.raw.tobytes(), undo=undo_bytes(coins))
    check(compute_flows(data, ABC), plain, ABC, owners_by_dict(ABC))


@some
@given(any_made)
def test_money_is_conserved(made: Made) -> None:
    """What an entity had is what it has, its share of the fee, and what left it less what arrived."""
    flows = flows_with([made])
    paid = total(made[0]) - total(made[1])
    for transfer in flows.transfers:
        assert transfer.fee == paid
        for name, flow in transfer.entities.items():
            assert flow.spent == total(made[0], [to for to in OWNED[name] if to != BOTH])
            assert flow.spent + flow.arrived == flow.received + flow.fee + flow.left
            assert min(flow.arrived, flow.left) == 0
            assert min(flow.arrived, flow.left, flow.fee, flow.spent, flow.received) >= 0
        shares = sum(flow.fee for flow in transfer.entities.values())
        left = sum(flow.left for flow in transfer.entities.values())
        arrived = sum(flow.arrived for flow in transfer.entities.values())
        assert 0 <= shares <= paid
        if not spends_of_strangers(made):
            assert left + shares == arrived + paid + total(made[1], [X, Y, BOTH])


@some
@given(any_made)
def test_all_of_the_fee_is_borne(made: Made) -> None:
    """Where every input has an owner their shares are the fee, to the satoshi."""
    flows = flows_with([made])
    if flows.value_in and flows.value_in_labelled == flows.value_in:
        for transfer in flows.transfers:
            assert sum(flow.fee for flow in transfer.entities.values()) == transfer.fee


def shuffled(random: Random, made: Sequence[Made]) -> list[Made]:
    again = [(random.sample(ins, len(ins)), random.sample(outs, len(outs))) for ins, outs in made]
    return random.sample(again, len(again))


def nameless(flows: BlockFlows) -> Plain:
    """Without the ids that every order gives anew."""
    values = asdict(flows)
    transfers = sorted(json.dumps({**one, "txid": ""}, sort_keys=True) for one in values["transfers"])
    large = sorted(json.dumps({**one, "txid": ""}, sort_keys=True) for one in values["large"])
    return {**values, "blockhash": "", "transfers": transfers, "large": large}


@some
@given(st.lists(any_made, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_order_does_not_matter(made: list[Made], random: Random) -> None:
    """Of inputs, of outputs, of transactions."""
    assert nameless(flows_with(shuffled(random, made))) == nameless(flows_with(made))


@some
@given(st.lists(transactions((A, A2), (A, A2)), min_size=1, max_size=4))
def test_an_entity_that_pays_itself_has_no_flow(made: list[Made]) -> None:
    flows = flows_with(made)
    assert flows.between == []
    assert (flows.entities["a"].arrived, flows.entities["a"].left) == (0, 0)
    assert flows.entities["a"].fee == sum(transfer.fee for transfer in flows.transfers)
    assert {transfer.pattern for transfer in flows.transfers} <= {"internal", "consolidation"}
    assert not any(transfer.entities["a"].uncertain for transfer in flows.transfers)


@some
@every_made_block
def test_what_is_uncertain_enters_no_sum(made: list[Made]) -> None:
    """An entity's amounts are those of a block without the transactions that are uncertain for it."""
    flows, alone = flows_with(made), [flows_with([one]) for one in made]
    for entity, flow in flows.entities.items():
        sure = [
            one
            for one, single in zip(made, alone, strict=True)
            if not any(
                transfer.entities[entity].uncertain for transfer in single.transfers if entity in transfer.entities
            )
        ]
        amounts_then = flows_with(sure).entities.get(entity, EntityFlow(0, 0, 0, 0, 0)).amounts()
        assert flow.amounts() == amounts_then
        assert not flow.uncertain
        if len(sure) == len(made):
            assert flow.uncertain_value == 0


@some
@every_made_block
def test_between_is_what_left_and_arrived(made: list[Made]) -> None:
    """Of each entity, to the satoshi; nobody passes anything to itself."""
    flows = flows_with(made)
    out, to = Counter[str](), Counter[str]()
    for sender, receiver, sat in flows.between:
        assert sender != receiver
        assert sat > 0
        out[sender] += sat
        to[receiver] += sat
    for entity, flow in flows.entities.items():
        assert (out[entity], to[entity]) == (flow.left, flow.arrived)


@some
@given(transactions((A, B, C), (A, B, C)))
def test_nothing_goes_to_nobody_where_there_is_nobody(made: Made) -> None:
    """Among the labelled alone no flow is from or to unknown: roundings are no money."""
    assert not [pair for pair in flows_with([made]).between if "unknown" in pair[:2]]
