"""Labels of the simulated owners: names nobody could take for real, addresses that parse, and no more of the truth than
the regime lets them know."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from utxoiq.chain.address import script_of
from utxoiq.chain.network import NETWORKS
from utxoiq.entities.labels import read_labels
from utxoiq.simulation.cast import EXCHANGES, HOLDERS, POOLS
from utxoiq.simulation.labels import labels
from utxoiq.simulation.regimes import REGIMES

NETWORK = NETWORKS["simulated"]
OWNERS = (*POOLS, *EXCHANGES, *HOLDERS)


def own_scripts(seed: int = 1) -> dict[str, set[bytes]]:
    return {owner.id: {lock.script for lock in owner.locks(seed)} for owner in OWNERS}


def listed_scripts(regime: str, seed: int = 1) -> dict[str, set[bytes]]:
    return {one.id: {script_of(a, NETWORK) for a in one.addresses} for one in labels(seed, REGIMES[regime])}


def test_everybody_has_one() -> None:
    found = labels(1)
    assert [label.id for label in found] == [owner.id for owner in OWNERS]
    assert {label.kind for label in found} == {"mining_pool", "exchange", "treasury", "etf", "government"}
    assert all(label.name.startswith("Sim ") for label in found)
    assert all(len(label.tags) == (label.kind == "mining_pool") for label in found)
    assert all(
        (label.known_holdings is not None) == (owner in HOLDERS) for owner, label in zip(OWNERS, found, strict=True)
    )


def test_a_label_file_of_them_can_be_read() -> None:
    rows = []
    for label in labels(1):
        row = asdict(label)
        evidence = {"source": "a test", "confidence": "high", "as_of": "2026-01-05", "addresses": row.pop("addresses")}
        rows.append(json.dumps({**row, "labels": [evidence]}))
    read = read_labels("\n".join(rows), NETWORK, "labels")
    holder = read.entities["sim-treasury-gneiss"]
    assert (holder.ticker, holder.known_holdings and holder.known_holdings["sat"]) == ("SGNS", 640_000_000_000)
    assert read.conflicts == []


@pytest.mark.parametrize(
    ("regime", "share"), [("calm", 1.0), ("half_labels", 0.5), ("thin_labels", 0.2), ("heavy_reshuffling", 0.9)]
)
def test_so_much_is_known_as_the_regime_says(regime: str, share: float) -> None:
    """Of each exchange and holder; of pools all."""
    listed, own = listed_scripts(regime), own_scripts()
    for owner in OWNERS:
        assert listed[owner.id] <= own[owner.id]
        wanted = 1.0 if owner in POOLS else share
        assert len(listed[owner.id]) / len(own[owner.id]) == pytest.approx(wanted, abs=0.05)


def test_wrong_labels_are_wrong() -> None:
    """About 15 % of them: another entity's addresses, and strangers'."""
    listed, own = listed_scripts("wrong_labels"), own_scripts()
    others = {script for scripts in own.values() for script in scripts}
    for owner in (*EXCHANGES, *HOLDERS):
        wrong = listed[owner.id] - own[owner.id]
        assert len(wrong) / len(listed[owner.id]) == pytest.approx(0.15, abs=0.03)
        assert wrong & others
        assert wrong - others
    for pool in POOLS:
        assert listed[pool.id] == own[pool.id]


@pytest.mark.parametrize("regime", list(REGIMES))
def test_an_address_has_one_label(regime: str) -> None:
    addresses = [address for label in labels(1, REGIMES[regime]) for address in label.addresses]
    assert len(addresses) == len(set(addresses))


def test_another_seed_has_other_addresses() -> None:
    assert labels(1) == labels(1)
    mine, other = ({a for label in labels(seed) for a in label.addresses} for seed in (1, 2))
    assert not mine & other
