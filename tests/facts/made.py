"""Blocks with their spent outputs made for one test, the recorded ones, and their facts."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from helpers.build import OP_TRUE, coinbase, height_push, mined
from helpers.recorded import ABSENT, SHARED
from utxoiq.chain.block import decode_block, read_undo_spent
from utxoiq.chain.network import NETWORKS, Network
from utxoiq.chain.serialize import Coin, Tx, TxInput, undo_bytes
from utxoiq.entities.labels import labels_for
from utxoiq.facts.compute import compute_facts
from utxoiq.models import BlockData, BlockFacts
from utxoiq.sources.open import open_source
from utxoiq.sources.recorded import RecordedFolder

REGTEST = NETWORKS["regtest"]
ANYONE = b"\x76\xa9\x14" + b"anyone".ljust(20) + b"\x88\xac"
Spend = tuple[Tx, Sequence[Coin]]


@dataclass(frozen=True)
class Known:
    """A block as its source gave it, and its facts."""

    data: BlockData
    facts: BlockFacts


def facts_of(data: BlockData) -> BlockFacts:
    return compute_facts(data, labels_for(data.network))


@cache
def run(name: str) -> list[Known]:
    """The best chain of a recorded directory; skips the test where there is none."""
    folder = SHARED / "runs" / name
    if not folder.is_dir():
        pytest.skip(ABSENT)
    return [Known(data, facts_of(data)) for data in open_source(folder).blocks()]


@cache
def recorded_blocks() -> dict[str, Known]:
    """The recorded single blocks by hash."""
    if not SHARED.is_dir():
        pytest.skip(ABSENT)
    blocks = RecordedFolder(SHARED / "blocks").blocks()
    return {str(data.block_hash): Known(data, facts_of(data)) for data in blocks}


def json_lines(path: str) -> list[dict[str, Any]]:
    with gzip.open(SHARED / path, "rt") as file:
        return [json.loads(line) for line in file]


def outpoint_coin(origin: int, value: int, script: bytes = ANYONE, height: int = 1) -> tuple[TxInput, Coin]:
    """An input that spends a coin of an earlier block, and that coin."""
    return TxInput(origin.to_bytes(32, "big"), 0), Coin(value, script, height)


def block_of(
    *spends: Spend,
    height: int = 500,
    claim: int = 0,
    payout: bytes = OP_TRUE,
    tag: bytes = b"\x04test",
    time: int = 1_700_000_000,
    network: Network = REGTEST,
    spent: bool = True,
) -> BlockData:
    """A regtest block of these transactions; its spent outputs are known unless `spent` is false."""
    first = coinbase([(claim, payout)], height_push(height) + tag)
    raw = mined([first, *(tx for tx, _ in spends)], time=time)
    block = decode_block(raw, network)
    coins = read_undo_spent(block, undo_bytes([coins for _, coins in spends])) if spent else None
    return BlockData(block, height, coins, None, "made")
