"""A recorded economy with known truth: every event above its kind's threshold is found, reshuffles are no flows, and
nothing untrue is said of an entity; with all labels, and with the part of them that a public list would hold."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from helpers.economy import economy_labels, events, unpack_blocks
from helpers.recorded import ABSENT, SHARED
from utxoiq.facts.flows import compute_flows
from utxoiq.models import Disconnected, EntityFlow, Transfer
from utxoiq.persistence import SignalPersistenceModule, open_store
from utxoiq.pipeline import PipelineOrchestrator
from utxoiq.processors import ProcessorConfig
from utxoiq.processors.discovery import discover
from utxoiq.processors.moves import WITHIN
from utxoiq.sources.open import open_source
from utxoiq.units import COIN

pytestmark = pytest.mark.skipif(not (SHARED / "runs" / "regtest_core31").is_dir(), reason=ABSENT)

WAYS = {
    ("exchange", "large_deposit"): "arrived",
    ("exchange", "large_withdrawal"): "left",
    ("exchange", "internal_reshuffle"): "within",
    ("treasury", "accumulation"): "arrived",
    ("treasury", "distribution"): "left",
    ("treasury", "internal_reshuffle"): "within",
    ("miner", "miner_distribution"): "left",
}
LOW = {
    "exchange": ProcessorConfig(large_btc=10, net_btc=1e9),
    "treasury": ProcessorConfig(moved_btc=10),
    "miner": ProcessorConfig(distribution_btc=10),
    "whale": ProcessorConfig(dormant_blocks=350, dormant_btc=20, transfer_btc=100, confidence_threshold=0.0),
}
"""Thresholds at the size of that economy, for more events than the published ones leave."""


@dataclass(frozen=True)
class Said:
    """A signal, as stored."""

    signal_type: str
    kind: str
    subject: str
    height: int
    metadata: dict[str, Any]
    txids: frozenset[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack_blocks(tmp_path_factory.mktemp("economy"))


async def scanned(folder: Path, db: Path, *, disclosed: bool, configs: dict[str, ProcessorConfig]) -> list[Said]:
    """All that holds after the whole chain, reorgs included."""
    with open_store(f"sqlite:///{db}") as store:
        persistence = SignalPersistenceModule(store=store)
        orchestrator = PipelineOrchestrator(discover(configs), persistence, labels=economy_labels(disclosed=disclosed))
        async for step in open_source(folder).follow(None):
            if isinstance(step, Disconnected):
                assert (await orchestrator.disconnect_block(step.block_hash)).success
            else:
                assert (await orchestrator.process_new_block(step.block)).success
        orchestrator.close()
        rows = store.database.query("SELECT * FROM current_signals")
    return [
        Said(r["signal_type"], r["kind"], r["subject"], r["block_height"], json.loads(r["metadata"]),
             frozenset(json.loads(r["evidence"])["txids"]))
        for r in rows
    ]  # fmt: skip


@pytest.fixture(scope="module")
def truth(folder: Path) -> dict[str, Transfer]:
    """Every transaction that touched an entity, by all labels."""
    labels, found = economy_labels(), dict[str, Transfer]()
    for block in open_source(folder).blocks():
        flows = compute_flows(block, labels)
        found |= {one.txid: one for one in flows.transfers} if flows else {}
    return found


@cache
def _scan(folder: Path, disclosed: bool, low: bool) -> list[Said]:
    db = folder / f"{disclosed}-{low}.db"
    return asyncio.run(scanned(folder, db, disclosed=disclosed, configs=LOW if low else {}))


def amount(transfer: Transfer, who: str, way: str) -> int:
    """What a transaction moved of an entity that way."""
    flow = transfer.entities.get(who, EntityFlow(0, 0, 0, 0, 0))
    if way == "within":
        return flow.received if transfer.pattern in WITHIN else 0
    return flow.arrived if way == "arrived" else flow.left


def expected(event: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(signal type, kind, entity) that an event should lead to, if it is large enough."""
    kind, who = event["kind"], event.get("entity", "")
    yield from {
        "miner_distribution": [("miner", "miner_distribution", who)],
        "treasury_accumulation": [("treasury", "accumulation", who)],
        "treasury_distribution": [("treasury", "distribution", who)],
        "batch_withdrawal": [("exchange", "large_withdrawal", who)],
        "internal_reshuffle": [("exchange", "internal_reshuffle", who)],
    }.get(kind, [])
    if event.get("to", "").endswith("_exchange"):
        yield "exchange", "large_deposit", event["to"]
    if event.get("source", "").endswith("_exchange"):
        yield "exchange", "large_withdrawal", event["source"]


THRESHOLDS = {"exchange": "large_btc", "treasury": "moved_btc", "miner": "distribution_btc"}


@pytest.mark.parametrize("low", [False, True], ids=["published thresholds", "low thresholds"])
def test_every_event_above_its_threshold_is_found(folder: Path, truth: dict[str, Transfer], low: bool) -> None:
    """In its block, of its kind, about its entity, with its transaction as evidence."""
    said, found = _scan(folder, False, low), Counter[str]()
    least = {p.signal_type: p.thresholds for p in discover(LOW if low else {})}
    evidence = defaultdict(set)
    for one in said:
        for txid in one.txids:
            evidence[txid].add((one.signal_type, one.kind, one.subject, one.height))
    for event in events():
        txid, height = event["txids"][0] if event["txids"] else "", event["heights"][0]
        for signal_type, kind, who in expected(event):
            moved = amount(truth[txid], who, WAYS[signal_type, kind])
            if moved >= least[signal_type][THRESHOLDS[signal_type]] * COIN:
                assert (signal_type, kind, who, height) in evidence[txid], event
                found[event["kind"]] += 1
    assert set(found) >= {"miner_distribution", "internal_reshuffle", "treasury_accumulation", "treasury_distribution"}
    assert found.total() > (500 if low else 150), found


@pytest.mark.parametrize("low", [False, True], ids=["published thresholds", "low thresholds"])
def test_nothing_untrue_is_said_of_an_entity(folder: Path, truth: dict[str, Transfer], low: bool) -> None:
    """Each transaction of each signal did move that entity's coins that way, and their sum is the amount told (of what
    left, at least that); no reshuffle is in a flow."""
    reshuffles = {event["txids"][0] for event in events() if event["kind"] == "internal_reshuffle"}
    told = [one for one in _scan(folder, False, low) if (one.signal_type, one.kind) in WAYS]
    assert len(told) > 200
    for one in told:
        way = WAYS[one.signal_type, one.kind]
        moved, claimed = sum(amount(truth[txid], one.subject, way) for txid in one.txids), one.metadata["amount"]
        assert moved == claimed or (way == "left" and moved > claimed > 0)
        assert way == "within" or not one.txids & reshuffles


def test_every_reshuffle_is_told_as_one(folder: Path) -> None:
    """All above the threshold, as internal, and by no other signal on the exchange."""
    said = _scan(folder, False, True)
    by_txid = defaultdict(set)
    for one in said:
        if one.signal_type in ("exchange", "whale"):
            for txid in one.txids:
                by_txid[txid].add(one.kind)
    large = [e for e in events() if e["kind"] == "internal_reshuffle" and e["total_sat"] >= 10 * COIN]
    assert len(large) > 60
    assert {frozenset(by_txid[event["txids"][0]]) for event in large} == {frozenset({"internal_reshuffle"})}


def test_net_flows_that_are_told_were_such(folder: Path, truth: dict[str, Transfer]) -> None:
    """The sum over the blocks named, by the plain truth of all labels."""
    labels, nets = economy_labels(), dict[tuple[int, str], int]()
    for block in open_source(folder).blocks():
        flows = compute_flows(block, labels)
        for who, flow in (flows.entities if flows else {}).items():
            nets[block.height or 0, who] = flow.arrived - flow.left
    told = [one for one in _scan(folder, False, False) if one.kind in ("net_inflow", "net_outflow")]
    assert told
    for one in (one for one in told if one.subject != "all_exchanges"):
        size = one.metadata["flow_blocks"]
        net = sum(nets.get((height, one.subject), 0) for height in range(one.height - size + 1, one.height + 1))
        assert net == (one.metadata["amount"] if one.kind == "net_inflow" else -one.metadata["amount"])


def test_what_is_said_with_few_labels_is_mostly_right(folder: Path, truth: dict[str, Transfer]) -> None:
    """With the labels of a public list and low thresholds, judged by all: at least half of the amount moved so."""
    right, cases = Counter[str](), Counter[str]()
    for one in _scan(folder, True, True):
        way = WAYS.get((one.signal_type, one.kind))
        if way:
            moved = sum(amount(truth[txid], one.subject, way) for txid in one.txids if txid in truth)
            right[way] += 2 * moved >= one.metadata["amount"]
            cases[way] += 1
    assert min(cases.values()) > 30
    assert all(right[way] >= 0.95 * cases[way] for way in cases)


def test_thin_labels_rarely_accuse(folder: Path, truth: dict[str, Transfer]) -> None:
    """With the labels of a public list at the published thresholds: what is said of exchanges and treasuries is true
    but for one in ten."""
    wrong = total = 0
    for one in _scan(folder, True, False):
        way = WAYS.get((one.signal_type, one.kind))
        if way and one.signal_type != "miner":
            moved = sum(amount(truth[txid], one.subject, way) for txid in one.txids if txid in truth)
            wrong += 2 * moved < one.metadata["amount"]
            total += 1
    assert total > 50
    assert wrong <= total / 10, (wrong, total)
