"""The recorded economy `runs/regtest_core31`: its block directory, its labels in our format, what was done in it."""

from __future__ import annotations

import csv
import gzip
import json
from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

from helpers.recorded import SHARED
from utxoiq.chain.network import NETWORKS
from utxoiq.entities.labels import LabelSet, read_labels

REGTEST = NETWORKS["regtest"]
FOLDER = SHARED / "runs" / "regtest_core31"
TAGS = {"pool_alpha": ["/AlphaPool/"], "pool_beta": ["/BetaMine/"]}
OURS = ("exchange", "mining_pool", "treasury")
"""Kinds of its labels that are ours too: users and whales carry no label."""


def unpack_blocks(folder: Path) -> Path:
    """Its block directory, as Core wrote it."""
    blocks = folder / "blocks"
    blocks.mkdir(parents=True)
    for name in ("blk00000.dat", "rev00000.dat"):
        (blocks / name).write_bytes(gzip.decompress((FOLDER / "blocks" / f"{name}.gz").read_bytes()))
    (blocks / "xor.dat").write_bytes((FOLDER / "blocks" / "xor.dat").read_bytes())
    return folder


@cache
def economy_labels(*, disclosed: bool = False) -> LabelSet:
    """All labels of exchanges, pools and treasuries, or only those a public list would hold."""
    owned, kinds = defaultdict[str, list[str]](list), {}
    with (FOLDER / "labels.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["kind"] in OURS and (row["disclosed"] == "1" or not disclosed):
                owned[row["entity"]].append(row["address"] or f"script:{row['script_hex']}")
                kinds[row["entity"]] = row["kind"]
    return read_labels("\n".join(_line(who, kinds[who], owned[who]) for who in owned), REGTEST, "labels.csv")


def _line(who: str, kind: str, addresses: list[str]) -> str:
    label = {"source": "the run", "confidence": "high", "as_of": "2026-01-05", "addresses": addresses}
    return json.dumps({"id": who, "name": who, "kind": kind, "tags": TAGS.get(who, []), "labels": [label]})


@cache
def events() -> list[dict[str, Any]]:
    """What was done on purpose and stands on the best chain."""
    with (FOLDER / "events.jsonl").open() as file:
        return [event for event in map(json.loads, file) if event.get("heights") and event["heights"][0] is not None]
