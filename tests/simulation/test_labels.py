"""Labels of the simulated actors are names nobody could take for real, with addresses that parse."""

from __future__ import annotations

from utxoiq.chain.address import script_of
from utxoiq.chain.network import NETWORKS
from utxoiq.simulation.cast import EXCHANGES, POOLS
from utxoiq.simulation.labels import labels


def test_every_pool_and_exchange_has_one() -> None:
    found = labels(1)
    assert [label.id for label in found] == [entity.id for entity in (*POOLS, *EXCHANGES)]
    assert {label.kind for label in found} == {"mining_pool", "exchange"}
    assert all(label.name.startswith("Sim ") for label in found)
    assert all(len(label.tags) == (label.kind == "mining_pool") for label in found)


def test_addresses_are_theirs_alone() -> None:
    network = NETWORKS["simulated"]
    for entity, label in zip((*POOLS, *EXCHANGES), labels(1), strict=True):
        scripts = [script_of(address, network) for address in label.addresses]
        assert scripts == [lock.script for lock in entity.locks(1)]
    addresses = [address for label in labels(1) for address in label.addresses]
    assert len(addresses) == len(set(addresses))


def test_another_seed_has_other_addresses() -> None:
    assert labels(1) == labels(1)
    mine, other = ({a for label in labels(seed) for a in label.addresses} for seed in (1, 2))
    assert not mine & other
