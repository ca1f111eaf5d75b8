"""The packaged labels against the collected data they restate, both ways."""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from utxoiq.chain.address import address_of, script_of
from utxoiq.chain.network import NETWORKS
from utxoiq.entities.changes import changes
from utxoiq.entities.importing import read_import
from utxoiq.entities.labels import LabelSet, packaged_labels
from utxoiq.entities.merging import merge
from utxoiq.errors import DecodeError
from utxoiq.units import COIN

MAIN = NETWORKS["main"]
POOLS = "GraphSense public tagpacks miners, miners_additional (MIT)"
BITMEX = (
    "BitMEX proof of reserves of 2022-11-15, random sample of 4000 of 336208 addresses"
    " (GraphSense public tagpacks exchange-wallets-bitmex_0..6, MIT)"
)
COMPILED_BY = "; compiled in Sashamine/dat-tracker-next, awaits checking"

SAME_POOL = {
    # the same letters and digits but for a final "com" or "pool", and no third pool called so (`merging.merge`)
    "pool-btcc-pool": "pool-btcc",
    "pool-btcguild-com": "pool-btc-guild",
    "pool-bw-com": "pool-bwpool",
    "pool-huobi": "pool-huobi-pool",
    "pool-kano": "pool-kanopool",
    "pool-ultimus-pool": "pool-ultimuspool",
    # not one of mempool's list by its name, but has payout addresses of exactly one of them
    "pool-1thash-58coin": "pool-1thash",
    "pool-bitclub-network": "pool-bitclub",
    "pool-huobi-mining-pool": "pool-huobi-pool",
    "pool-patel-s-mining-pool": "pool-patels",
    "pool-rawpool-com": "pool-rawpool",
    "pool-slushpool": "pool-braiins-pool",
}
"""Pools of GraphSense that are pools of mempool's list under another id."""

CONFLICTS = [
    ("147SwRQdpCfj5p8PnfsXV2SsVVpVcz3aPq", "pool-1thash", "pool-btc-top"),
    ("147SwRQdpCfj5p8PnfsXV2SsVVpVcz3aPq", "pool-1thash", "pool-canoe"),
    ("1AZ6BkCo4zgTuuLpRStJH8iNsehXTMp456", "pool-bitcoin-india", "pool-bitcoinindia"),
    ("1FLH1SoLv4U68yUERhDiWzrJn5TggMqkaZ", "pool-btc-com", "pool-waterhole"),
    ("1GP8eWArgpwRum76saJS4cZKCHWJHs9PQo", "pool-canoe", "pool-canoepool"),
    ("1M1Xw2rczxkF3p3wiNHaTmxvbpZZ7M6vaa", "pool-1m1x", "pool-poolin"),
    ("1NY15MK947MLzmPUa2gL7UgyR8prLh2xfu", "pool-digitalbtc", "pool-digitalx-mintsy"),
]
"""What the sources contradict each other about. Nobody gets these six addresses."""


def rows(shared: Path, name: str) -> list[dict[str, str]]:
    path = shared / "entities" / name
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(newline="") as file:
        return list(csv.DictReader(file))


def entity_rows(shared: Path) -> list[dict[str, str]]:
    return rows(shared, "entities.csv")


def test_every_packaged_address_is_an_address_and_finds_its_owner() -> None:
    """Read and shown again it is the same text; its script belongs to the one entity it is listed under."""
    labels, seen = packaged_labels(), 0
    contested = {address for address, *_ in labels.conflicts}
    for entity in labels.entities.values():
        for address in entity.addresses:
            script = script_of(address, MAIN)
            assert address_of(script, MAIN) == address
            assert labels.owner_of(script) is (None if address in contested else entity)
            seen += 1
    assert seen == 43_960
    assert len(labels.scripts) == 43_774


def test_what_the_sources_contradict_each_other_about() -> None:
    """It is all listed, and found again by the scripts themselves."""
    assert packaged_labels().conflicts == CONFLICTS
    assert all(packaged_labels().owner_of(script_of(address, MAIN)) is None for address, *_ in CONFLICTS)


def test_a_typing_error_in_any_packaged_address_is_noticed() -> None:
    """One wrong character in any of them and the file would be refused: none stands there unchecked."""
    for entity in packaged_labels().entities.values():
        for address in entity.addresses[:: 1 + len(entity.addresses) // 100]:
            at = len(address) * 2 // 3
            wrong = address[:at] + ("q" if address[at] != "q" else "p") + address[at + 1 :]
            with pytest.raises(DecodeError):
                script_of(wrong, MAIN)


def test_the_packaged_labels_are_the_collected_ones(shared: Path) -> None:
    """Every (entity, address) with its source, confidence and date, and no other."""
    ours = [
        (entity.id, address, label.source, label.confidence, label.as_of)
        for entity in packaged_labels().entities.values() for label in entity.labels for address in label.addresses
    ]  # fmt: skip
    theirs = [
        (row["entity_id"], row["address"], row["label_source"], row["confidence"], row["as_of"])
        for row in entity_rows(shared) if row["address"]
    ]  # fmt: skip
    theirs += [
        (SAME_POOL.get(row["entity_id"], row["entity_id"]), row["address"], POOLS, "low", row["as_of"])
        for row in rows(shared, "pool_addresses_graphsense.csv.gz")
    ]
    sample = rows(shared, "bitmex_por_2022-11-15_sample4000.csv.gz")
    theirs += [(row["entity_id"], row["address"], BITMEX, "medium", "2022-11-15") for row in sample]
    assert Counter(ours) == Counter(set(theirs))


def test_equal_pools_are_one_entity(shared: Path, tmp_path: Path) -> None:
    """The listed ids are mempool's by the rule of imports, and no other: GraphSense's pools imported into the rest give
    the packaged owner of each address."""
    packaged = packaged_labels()
    mempool = {row["entity_id"] for row in entity_rows(shared)}
    rest = tuple(
        replace(entity, labels=tuple(label for label in entity.labels if label.source != POOLS))
        for entity in packaged.entities.values() if entity.id in mempool
    )  # fmt: skip
    head = "title: t\ncreator: c\ncategory: miner\ncurrency: BTC\nsource: s\nlastmod: 2021-11-15\ntags:\n"
    tags = [f"- {{address: {row['address']}, label: {json.dumps(row['label'].replace(chr(39) * 2, chr(39)))}}}\n"
            for row in rows(shared, "pool_addresses_graphsense.csv.gz")]  # fmt: skip
    (tmp_path / "miners.yaml").write_text(head + "".join(tags))
    merged = merge(LabelSet(rest, "rest", MAIN), read_import(tmp_path / "miners.yaml", MAIN))
    assert merged.report["same_as"] == SAME_POOL
    assert merged.labels.conflicts == CONFLICTS
    assert len(changes(packaged, merged.labels)) == 0


def test_the_packaged_entities_are_the_collected_ones(shared: Path) -> None:
    """The same ids with the same names, kinds and tickers; holdings are the listed BTC in satoshis, with a date."""
    collected, entities = entity_rows(shared), packaged_labels().entities
    pools = rows(shared, "pool_addresses_graphsense.csv.gz")
    old_pools = {SAME_POOL.get(row["entity_id"], row["entity_id"]) for row in pools}
    assert set(entities) == {row["entity_id"] for row in collected} | old_pools
    for row in collected:
        entity = entities[row["entity_id"]]
        assert entity.kind == row["entity_type"]
        assert entity.ticker == (row["ticker"] or None)
        if row["known_holdings_btc"]:
            assert entity.known_holdings is not None
            assert entity.known_holdings["sat"] == Decimal(row["known_holdings_btc"]) * COIN
            assert entity.known_holdings["as_of"] == row["as_of"]
        else:
            assert entity.known_holdings is None
    names = {(row["entity_id"], row["entity_name"]) for row in collected}
    names |= {(row["entity_id"], row["label"].replace("''", "'")) for row in pools}
    assert {(entity.id, entity.name) for entity in entities.values()} <= names
    assert all(entity.kind == "mining_pool" for entity in entities.values() if entity.id in old_pools)


def test_tags_are_the_collected_ones(shared: Path) -> None:
    """Every tag of a pool. BitMEX's address prefix is none, and is left out: anybody can make an address begin so."""
    tags = {(pool.id, tag) for pool in packaged_labels().of_kind("mining_pool") for tag in pool.tags}
    column = "tag_regex_or_coinbase_tag"
    theirs = {(row["entity_id"], row[column]) for row in entity_rows(shared) if row[column]}
    assert theirs - tags == {("bitmex", "address-prefix:^(3BMEX|3BitMEX|bc1qmex)")}
    assert tags <= theirs


def test_dated_holdings_are_the_collected_ones(shared: Path) -> None:
    """Each point with its date, amount and filing, oldest first; whole satoshis."""
    history = rows(shared, "treasury_holdings_history.csv")
    ours = [
        (entity.ticker, holding["as_of"], Decimal(holding["sat"]) / COIN, holding["source"])
        for entity in packaged_labels().entities.values() for holding in entity.holdings
    ]  # fmt: skip
    theirs = [
        (row["ticker"], row["as_of"], Decimal(row["known_holdings_btc"]),
         f"primary: {row['primary_source']} {row['link']}{COMPILED_BY}")
        for row in history
    ]  # fmt: skip
    assert Counter(ours) == Counter(theirs)
    for entity in packaged_labels().entities.values():
        dates = [holding["as_of"] for holding in entity.holdings]
        assert dates == sorted(dates)
        assert all(type(holding["sat"]) is int for holding in entity.holdings)
        if entity.holdings and entity.known_holdings:
            newest = {name: entity.known_holdings[name] for name in ("sat", "as_of")}
            assert {name: entity.holdings[-1][name] for name in ("sat", "as_of")} == newest


def test_kinds_of_packaged_entities() -> None:
    """How many of each there are, and that no treasury has an address: no company publishes any."""
    entities = packaged_labels().entities.values()
    kinds = Counter(entity.kind for entity in entities)
    assert kinds == {"mining_pool": 183, "exchange": 147, "treasury": 43, "etf": 2, "government": 2}
    assert not any(entity.count for entity in packaged_labels().of_kind("treasury"))
    assert sum(bool(entity.holdings) for entity in entities) == 20


def test_tags_are_literal_and_of_pools() -> None:
    """What is looked for in coinbases is text that pools write there: no pattern, nothing empty."""
    for entity in packaged_labels().entities.values():
        assert not entity.tags or entity.kind == "mining_pool", entity.id
        assert all(tag.strip() for tag in entity.tags)
