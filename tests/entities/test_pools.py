"""Which pool a block is attributed to: what third parties and pools themselves say, and hostile coinbases."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from utxoiq.chain.address import script_of
from utxoiq.chain.coinbase import Coinbase
from utxoiq.chain.network import NETWORKS
from utxoiq.entities.labels import LabelSet, packaged_labels, read_labels
from utxoiq.entities.pools import attribute

MAIN = NETWORKS["main"]
PAYOUT = {"alpha": "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "beta": "12cbQLTFMXRnSzktFkuoG3eHoMeFtpTu3S"}
STRANGER = b"\x00\x14" + bytes(20)
KNOWN_TO_BE_MISSED = {("361582", "MegaBigPower")}


def coinbase(text: bytes, *scripts: bytes) -> Coinbase:
    """A coinbase that writes `text` and pays something to each script."""
    payouts = tuple((1000 + n, script) for n, script in enumerate(scripts))
    return Coinbase(text, None, payouts, sum(value for value, _ in payouts), scripts, None)


def script(text: str) -> bytes:
    """A script as the tables write it: hex behind `spk:`, or an address."""
    return bytes.fromhex(text[4:]) if text.startswith("spk:") else script_of(text, MAIN)


def named(found: Coinbase, labels: LabelSet | None = None) -> str | None:
    attribution = attribute(found, labels or packaged_labels())
    return attribution.pool.name if attribution else None


def pools(*more: dict[str, Any]) -> LabelSet:
    """Two pools with a payout address and tags, and an exchange with both."""
    rows: list[dict[str, Any]] = [
        {"id": "alpha", "name": "Alpha", "kind": "mining_pool", "tags": ["/alpha/", "ALP"]},
        {"id": "beta", "name": "Beta", "kind": "mining_pool", "tags": ["/beta/", "/alpha/beta/", "七彩"]},
        {"id": "shop", "name": "Shop", "kind": "exchange", "tags": ["/shop with a long tag/"]},
    ]
    addresses = [*PAYOUT.values(), "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"]
    for row, address in zip(rows, addresses, strict=True):
        row["labels"] = [{"source": "t", "confidence": "high", "as_of": "2026-01-01", "addresses": [address]}]
    return read_labels("\n".join(map(json.dumps, (*rows, *more))), MAIN, "pools")


def told(text: bytes, *scripts: bytes, labels: LabelSet | None = None) -> tuple[str, str] | None:
    """(pool, by) for a coinbase under the two made-up pools."""
    attribution = attribute(coinbase(text, *scripts), labels or pools())
    return (attribution.pool.id, attribution.by) if attribution else None


ALPHA, BETA = (script_of(address, MAIN) for address in PAYOUT.values())
SHOP = script_of("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", MAIN)


def test_what_others_say_of_29_blocks(shared: Path) -> None:
    """Third parties' and pools' own word: 28 right at least, none wrong, and what is unknown to them stays nobody."""
    with (shared / "truth/pool_attribution.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    right, wrong, missed = 0, [], set()
    for row in rows:
        scripts = [script(text) for text in row["coinbase_addresses"].split("|") if text]
        found = named(coinbase(bytes.fromhex(row["coinbase_scriptsig_hex"]), *scripts))
        expected = None if row["pool_name"].lower().startswith("unknown") else row["pool_name"]
        if found == expected:
            right += 1
        elif found is None:
            missed.add((row["height"], row["pool_name"]))
        else:
            wrong.append((row["height"], row["pool_name"], found))
    assert len(rows) == 29
    assert wrong == []
    assert missed <= KNOWN_TO_BE_MISSED
    assert right >= 28


def test_what_mempool_space_says_of_13_blocks(shared: Path) -> None:
    """All of them, by the same coinbases and payout addresses."""
    blocks = json.loads((shared / "truth/mempool_space_block_extras.json").read_text())
    assert len(blocks) == 13
    for block in blocks:
        extras = block["extras"]
        scripts = map(script, extras.get("coinbaseAddresses") or [extras["coinbaseAddress"]])
        assert named(coinbase(bytes.fromhex(extras["coinbaseRaw"]), *scripts)) == extras["pool"]["name"]


def test_a_tag_makes_a_pool() -> None:
    """Wherever in the coinbase script it stands, in whatever capitals, between any bytes."""
    assert told(b"\x03abc/alpha/", STRANGER) == ("alpha", "tag")
    assert told(b"/ALPHA/\xff\xfe", STRANGER) == ("alpha", "tag")
    assert told(b"\x03abc" + "七彩".encode() + b"\0", STRANGER) == ("beta", "tag")
    assert told(b"\x03abc/al-pha/", STRANGER) is None
    assert told(b"\x03abc", STRANGER) is None
    assert told(b"\x03abc") is None


def test_a_payout_address_beats_a_tag() -> None:
    """An address was paid and can't be borrowed: another pool's tag, however long, changes nothing."""
    assert told(b"/alpha/beta/", ALPHA) == ("alpha", "payout_address")
    assert told(b"", STRANGER, BETA) == ("beta", "payout_address")
    assert told(b"/beta/", BETA) == ("beta", "payout_address")


def test_payouts_to_two_pools_are_nobodys() -> None:
    """Where two pools are paid nothing is said, whatever the tag."""
    assert told(b"/alpha/", ALPHA, BETA) is None
    assert told(b"", BETA, STRANGER, ALPHA) is None
    assert told(b"", ALPHA, STRANGER, ALPHA) == ("alpha", "payout_address")


def test_an_output_worth_nothing_is_no_payout() -> None:
    """A pool's address on an output of zero satoshis was not paid."""
    named_for_free = Coinbase(b"/beta/", None, ((1000, STRANGER),), 1000, (ALPHA, STRANGER), None)
    attribution = attribute(named_for_free, pools())
    assert attribution is not None
    assert (attribution.pool.id, attribution.by) == ("beta", "tag")


def test_an_entity_that_is_no_pool_is_not_attributed() -> None:
    """An exchange may be paid, or its text written, without having mined the block."""
    assert told(b"", SHOP) is None
    assert told(b"/shop with a long tag/ /alpha/", SHOP) == ("alpha", "tag")


def test_the_longest_tag_decides() -> None:
    """Short tags stand inside others; of two equally long ones of two pools nothing is said."""
    assert told(b"/alpha/beta/", STRANGER) == ("beta", "tag")
    assert told(b"ALP", STRANGER) == ("alpha", "tag")
    assert told(b"ALP /beta/", STRANGER) == ("beta", "tag")
    third = {"id": "gamma", "name": "Gamma", "kind": "mining_pool", "tags": ["/gamm/", "/ALPHA/"]}
    assert told(b"/beta/ /gamm/", STRANGER, labels=pools(third)) is None
    assert told(b"/beta/ /alpha/", STRANGER, labels=pools(third)) is None
    assert told(b"/alpha/beta/ /gamm/", STRANGER, labels=pools(third)) == ("beta", "tag")
    assert told(b"/gamm/", STRANGER, labels=pools(third)) == ("gamma", "tag")


def test_an_address_of_two_pools_is_no_evidence() -> None:
    """A payout address under conflict belongs to nobody, and the tag decides."""
    label = {"source": "t", "confidence": "low", "as_of": "2020-01-01", "addresses": [PAYOUT["alpha"]]}
    third = {"id": "gamma", "name": "Gamma", "kind": "mining_pool", "tags": ["/gamma/"], "labels": [label]}
    assert told(b"", ALPHA, labels=pools(third)) is None
    assert told(b"/gamma/", ALPHA, labels=pools(third)) == ("gamma", "tag")


@pytest.mark.parametrize("theirs", ["/ViaBTC/", "Foundry USA Pool", "Mined by AntPool", "/F2Pool/"])
def test_a_real_pools_borrowed_tag_does_not_deceive(theirs: str) -> None:
    """A pool that pays its own known address and writes another's tag is the one that was paid."""
    own = next(
        pool for pool in packaged_labels().of_kind("mining_pool") if pool.name == "Braiins Pool" and pool.addresses
    )
    attribution = attribute(coinbase(theirs.encode(), script_of(own.addresses[0], MAIN)), packaged_labels())
    assert attribution is not None
    assert (attribution.pool, attribution.by) == (own, "payout_address")
    assert named(coinbase(theirs.encode(), STRANGER)) not in (None, own.name)


@pytest.mark.parametrize("hostile", [b"", b"\xff" * 100, b"\0" * 100, bytes(range(100)), b"<script>alert(1)</script>"])
def test_a_coinbase_of_any_bytes_is_nobodys(hostile: bytes) -> None:
    """No text, no pool, no error."""
    assert attribute(coinbase(hostile, STRANGER), packaged_labels()) is None


def test_every_packaged_tag_alone_finds_its_pool() -> None:
    """Each tag of each pool, written alone, is that pool's, unless a longer part of it is another's."""
    labels = packaged_labels()
    for pool in labels.of_kind("mining_pool"):
        for tag in pool.tags:
            attribution = attribute(coinbase(b"\x03abc" + tag.encode() + b"\0", STRANGER), labels)
            assert attribution is not None, tag
            assert (attribution.pool.id, attribution.by) == (pool.id, "tag"), tag


def test_every_packaged_payout_address_finds_its_pool() -> None:
    """Each address of each pool, paid alone; but for the few that two pools are said to have."""
    labels, seen = packaged_labels(), 0
    contested = {address for address, *_ in labels.conflicts}
    for pool in labels.of_kind("mining_pool"):
        for address in pool.addresses:
            attribution = attribute(coinbase(b"", script_of(address, MAIN)), labels)
            assert attribution == (None if address in contested else (pool, "payout_address"))
            seen += 1
    assert seen > 37_000
