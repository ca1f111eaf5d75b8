"""UTXO snapshots: a node's own, ones written by a second encoder, and ones that are not what they should be."""

from __future__ import annotations

import hashlib
import json
import random
from functools import cache
from pathlib import Path

import pytest

from balances.chains import REGTEST, SMALL, Followed, core_run
from balances.oracle import Recount, assert_equal
from balances.snapshots import CoinSet, hash_serialized, snapshot_bytes
from helpers.economy import FOLDER
from helpers.recorded import unpacked
from utxoiq.balances import coins
from utxoiq.balances.errors import LedgerError, SnapshotRefused
from utxoiq.balances.importing import Imported, import_snapshot
from utxoiq.balances.ledger import Ledger
from utxoiq.balances.records import Balance
from utxoiq.chain.hashes import Hash256
from utxoiq.chain.network import NETWORKS
from utxoiq.chain.secp256k1 import lift_x
from utxoiq.chain.serialize import Coin
from utxoiq.errors import NotLinked, WrongNetwork

BASE = Hash256(hashlib.sha256(b"base").digest())


@cache
def recount_at(height: int) -> Recount:
    """The node's run up to a height at which no branch is in the way."""
    followed = Recount()
    left = {step.hash for connect, step in core_run().steps if not connect}
    for connect, step in core_run().steps:
        if connect and step.hash not in left and step.height <= height:
            followed.connect(step.raw, step.height)
    return followed


def imported(folder: Path, data: bytes, height: int = 900, **options: object) -> Imported:
    (folder / "utxo.dat").write_bytes(data)
    return import_snapshot(folder / "utxo.dat", folder / "ledger", REGTEST, height, settings=SMALL, **options)  # type: ignore[arg-type]


def test_a_nodes_own_snapshot_has_its_hash_and_its_balances(tmp_path: Path) -> None:
    node = json.loads((FOLDER / "utxo_snapshot.json").read_text())
    said = Hash256.from_display(node["gettxoutsetinfo_hash_serialized_3"]["hash_serialized_3"])
    told: list[tuple[int, int]] = []
    data = unpacked(FOLDER / "utxo_snapshot.dat.gz")
    found = imported(
        tmp_path, data, node["base_height"], expected_hash=said, on_progress=lambda done, of: told.append((done, of))
    )
    assert found.hash_serialized == said
    assert told[-1] == (node["coins_written"], node["coins_written"])
    assert str(found.base) == node["base_hash"]
    recount = recount_at(node["base_height"])
    with Ledger.open(tmp_path / "ledger", REGTEST, settings=SMALL) as ledger:
        assert ledger.tip == (node["base_height"], found.base)
        assert_equal(ledger, recount, recount.ever, heights=False)
        assert ledger.check().scripts == found.scripts


def test_the_encoder_of_these_tests_writes_what_the_node_wrote() -> None:
    node = json.loads((FOLDER / "utxo_snapshot.json").read_text())
    recount = recount_at(node["base_height"])
    base = Hash256.from_display(node["base_hash"])
    assert snapshot_bytes(recount.coins, base, REGTEST) == unpacked(FOLDER / "utxo_snapshot.dat.gz")
    assert str(Hash256(hash_serialized(recount.coins))) == node["txoutset_hash"]


@pytest.mark.parametrize("height", [150, 790])
def test_from_a_snapshot_and_blocks_is_as_from_genesis(height: int, tmp_path: Path) -> None:
    """Also through the reorgs above it. Since when a script holds coins is known for those that came later."""
    start = recount_at(height)
    steps = [(connect, step) for connect, step in core_run().steps if step.height > height]
    first = steps[0][1]
    imported(tmp_path, snapshot_bytes(start.coins, first.prev, REGTEST), height, kept_from=10**9)
    with Ledger.open(tmp_path / "ledger", settings=SMALL) as ledger:
        followed = Followed(ledger, core_run(), start.copy())
        for n, (connect, step) in enumerate(steps):
            followed.take(connect, step)
            if not connect or n % 100 == 0:
                assert_equal(ledger, followed.now, followed.ever, heights=False)
        end = followed.now
        assert_equal(ledger, end, followed.ever, heights=False)
        scripts = sorted(end.ever)
        for script, balance in zip(scripts, ledger.balances(scripts), strict=True):
            expected = end.balance(script)
            assert balance is not None
            assert balance.first_seen in {expected.first_seen, None}
            assert balance.last_seen in {expected.last_seen, None}
            if balance.first_seen is None and expected.first_seen:
                assert start.held[script]
                assert balance.last_seen == (expected.last_seen if (expected.last_seen or 0) > height else None)
        richest = sorted(((-sat, script) for script, sat in end.from_coins().items() if sat >= 10**9))
        assert [(-h.sat, h.script) for h in ledger.top(len(richest))] == richest


def odd_coins() -> CoinSet:
    """Coins of every form of script, amounts at the edges, and a transaction with more outputs than the database keeps
    in the order of their index."""
    rng = random.Random(5)
    found: CoinSet = {}
    x = 0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798
    y = lift_x(x, 0)
    assert y is not None
    keys = [
        b"\x41\x04" + x.to_bytes(32, "big") + v.to_bytes(32, "big") + b"\xac" for v in (y, 2**256 - 2**32 - 977 - y)
    ]
    scripts = [
        b"", b"\x51", *keys, keys[0][:-1] + b"\xad", b"\x41\x04" + bytes(64) + b"\xac",
        b"\x21\x02" + bytes(32) + b"\xac",
        b"\x76\xa9\x14" + bytes(20) + b"\x88\xac", b"\xa9\x14" + bytes(20) + b"\x87", b"\x00\x14" + bytes(20),
        b"\x51" * 252, b"\x51" * 253, b"\x51" * 10_000,
    ]  # fmt: skip
    for n in range(300):
        sat = rng.choice([0, 1, 9, 10, 546, 10**8, 10**10 + 1, 21 * 10**8])
        found[rng.randbytes(32) + n.to_bytes(4, "little")] = Coin(
            sat, rng.choice(scripts), rng.randrange(900), n % 3 == 0
        )
    wide = rng.randbytes(32)
    for n in (0, 1, 127, 128, 255, 256, 300, 16_511, 16_512, 16_513, 20_000, 40_000, 70_000):
        found[wide + n.to_bytes(4, "little")] = Coin(n, scripts[n % len(scripts)], 7, False)
    return found


@pytest.mark.parametrize("chunk", [7, 40, 1000])
def test_odd_coins_are_read_and_hashed_as_core_does(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coins, "CHUNK", max(chunk, 13))
    monkeypatch.setattr(coins, "ARENA", 13 * coins.LARGEST_COIN + chunk * 200)
    made = odd_coins()
    expected = Hash256(hash_serialized(made))
    found = imported(tmp_path, snapshot_bytes(made, BASE, REGTEST), expected_hash=expected, kept_from=10**9)
    recount = Recount(coins=made)
    sums = recount.from_coins()
    assert (found.coins, found.scripts, found.sat) == (len(made), len(sums), sum(sums.values()))
    with Ledger.open(tmp_path / "ledger", settings=SMALL) as ledger:
        assert ledger.tip == (900, BASE)
        scripts = sorted({coin.script for coin in made.values()})
        assert ledger.balances(scripts) == [Balance(sums.get(script, 0), None, None) for script in scripts]
        rich = {script: sat for script, sat in sums.items() if sat >= 10**9}
        assert {holder.script: holder.sat for holder in ledger.top(len(rich))} == rich


def test_an_empty_set_is_a_ledger_where_nobody_holds_anything(tmp_path: Path) -> None:
    imported(tmp_path, snapshot_bytes({}, BASE, REGTEST), 0)
    with Ledger.open(tmp_path / "ledger") as ledger:
        assert ledger.balance(b"\x51") == Balance(0, None, None)
        with pytest.raises(NotLinked, match="not the ledger's tip"):
            ledger.disconnect(Hash256(bytes(32)))
        with pytest.raises(LedgerError, match="too deep"):
            ledger.disconnect(BASE)


def test_what_is_not_the_expected_snapshot_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    good = snapshot_bytes(odd_coins(), BASE, REGTEST)
    wrong = {
        b"": "no UTXO snapshot",
        good[:30]: "no UTXO snapshot",
        b"utxp" + good[4:]: "version 2",
        good[:5] + b"\x01" + good[6:]: "version 2",
        good[:7] + NETWORKS["main"].magic + good[11:]: "another network",
        good[:43] + bytes(8) + good[51:]: "leftover bytes",
        good + b"\0": "leftover bytes",
        good[:-1]: "ends in the middle",
    }
    for data, reason in wrong.items():
        with pytest.raises(SnapshotRefused, match=reason):
            imported(tmp_path, data)
    with pytest.raises(SnapshotRefused, match="get it again"):
        imported(tmp_path, good, expected_hash=BASE)
    with pytest.raises(SnapshotRefused, match="height"):
        imported(tmp_path, good, 3)
    assert {path.name for path in tmp_path.iterdir()} == {"utxo.dat"}


def test_a_byte_changed_anywhere_is_refused_by_its_hash(tmp_path: Path) -> None:
    made = {outpoint: coin for outpoint, coin in odd_coins().items() if len(coin.script) < 300}
    good, expected = snapshot_bytes(made, BASE, REGTEST), Hash256(hash_serialized(made))
    rng = random.Random(1)
    for _ in range(120):
        at = rng.randrange(43, len(good))
        data = good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1 :]
        with pytest.raises(SnapshotRefused):
            imported(
                tmp_path, data if rng.random() < 0.7 else data[: rng.randrange(51, len(data))], expected_hash=expected
            )
    assert {path.name for path in tmp_path.iterdir()} == {"utxo.dat"}


def test_a_ledger_is_not_overwritten_and_knows_its_network(tmp_path: Path) -> None:
    imported(tmp_path, snapshot_bytes({}, BASE, REGTEST))
    with pytest.raises(LedgerError, match="already"):
        imported(tmp_path, snapshot_bytes({}, BASE, REGTEST))
    with pytest.raises(WrongNetwork, match="regtest, not of main"):
        Ledger.open(tmp_path / "ledger", NETWORKS["main"])
