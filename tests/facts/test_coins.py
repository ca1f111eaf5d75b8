"""Coin age and large transfers, recounted by hand from nothing but the blocks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest

from facts.made import ANYONE, Known, block_of, facts_of, outpoint_coin, recorded_blocks, run
from utxoiq.chain.block import Spent, read_rest_spent, with_times
from utxoiq.chain.serialize import Coin, Tx, TxInput, coins_from_columns, spenttxouts_bytes
from utxoiq.entities.labels import labels_for
from utxoiq.errors import DecodeError
from utxoiq.facts.coins import MOST_TRANSFERS, exact_dot
from utxoiq.facts.compute import compute_facts
from utxoiq.models import BlockData
from utxoiq.sources.open import open_source
from utxoiq.units import COIN, MAX_MONEY

RUNS = ("main_0-599", "regtest_core31")
every_run = pytest.mark.parametrize("name", RUNS)
HOT, COLD, SHOP = (b"\x00\x14" + bytes([n]) * 20 for n in (1, 2, 3))


class Origin(NamedTuple):
    """Where a coin comes from: its value, and height and time of the block that made it."""

    value: int
    height: int
    time: int


@cache
def spends(name: str) -> list[list[tuple[str, Origin]]]:
    """For each block of a chain what it spends, in order, with the spender's txid: by a map of unspent outputs."""
    unspent: dict[bytes, Origin] = {}
    found = []
    for height, known in enumerate(run(name)):
        block = known.data.block
        raw, first_in, first_out = block.raw.tobytes(), block.tx.first_input.tolist(), block.tx.first_output.tolist()
        rows = []
        for t in range(block.n_tx):
            txid = block.txid(t)
            for row in range(first_in[t], first_in[t + 1]) if t else ():
                at = int(block.input_offset[row])
                rows.append((str(txid), unspent.pop(raw[at : at + 36])))
            for n, row in enumerate(range(first_out[t], first_out[t + 1])):
                origin = Origin(int(block.outputs.value[row]), height, block.header.time)
                unspent[bytes(txid) + n.to_bytes(4, "little")] = origin
        found.append(rows)
    return found


def chain(name: str) -> Iterator[tuple[int, Known, list[tuple[str, Origin]]]]:
    for height, (known, spent) in enumerate(zip(run(name), spends(name), strict=True)):
        yield height, known, spent


@every_run
def test_coin_blocks_destroyed_recounted(name: str, shared: Path) -> None:
    """Satoshis times blocks since the coin was made, over every coin a block spends, exactly."""
    total = 0
    for height, known, spent in chain(name):
        expected = sum(origin.value * (height - origin.height) for _, origin in spent)
        assert known.facts.coin_blocks_destroyed == expected
        total += expected
    assert total > 10**12


@every_run
def test_coin_days_destroyed_recounted(name: str, shared: Path) -> None:
    """BTC times days between the two blocks' times, never negative, to eight places."""
    backwards = 0
    for _, known, spent in chain(name):
        ages = [known.facts.time - origin.time for _, origin in spent]
        backwards += any(age < 0 for age in ages)
        seconds = sum(origin.value * max(age, 0) for (_, origin), age in zip(spent, ages, strict=True))
        expected = Fraction(seconds, COIN * 86_400)
        assert known.facts.coin_days_destroyed is not None
        assert abs(Fraction(known.facts.coin_days_destroyed) - expected) <= Fraction(1, 10**8) + expected / 2**52
    assert backwards > 0 or name != "regtest_core31"


@every_run
def test_the_oldest_coin_recounted(name: str, shared: Path) -> None:
    """The coin of the greatest age, the first of equals, with the transaction that spends it."""
    seen = 0
    for height, known, spent in chain(name):
        if not spent:
            assert known.facts.oldest_coin is None
            continue
        txid, origin = min(spent, key=lambda one: one[1].height)
        age = height - origin.height
        assert known.facts.oldest_coin == {"txid": txid, "value": origin.value, "age_blocks": age}
        seen += age > 100
    assert seen >= 5


@pytest.mark.parametrize("name", ["regtest_core31"])
def test_large_coins_of_a_chain_recounted(name: str, shared: Path) -> None:
    """The ten largest coins from 100 BTC up, largest first, each with the blocks since it was made."""
    most = 0
    for height, known, spent in chain(name):
        large = [(-origin.value, place, txid, origin) for place, (txid, origin) in enumerate(spent)]
        large = sorted(one for one in large if -one[0] >= 100 * COIN)[:10]
        assert known.facts.large_coins == [
            {"txid": txid, "value": origin.value, "age_blocks": height - origin.height} for _, _, txid, origin in large
        ]
        most = max(most, len(large))
    assert most >= 1


def without_heights(data: BlockData) -> BlockData:
    """The same block as REST gives it: values and scripts of what it spends, and no heights."""
    assert data.spent is not None
    payload = spenttxouts_bytes([[], *coins_from_columns(data.block, data.spent)], data.block.n_tx)
    return dataclasses.replace(data, spent=read_rest_spent(data.block, payload))


def test_without_heights_ages_are_unknown(shared: Path) -> None:
    """With REST's spent outputs the three age fields are None where anything is spent, as are the ages of large coins,
    and no other field differs."""
    ages: dict[str, Any] = {"coin_blocks_destroyed": None, "coin_days_destroyed": None, "oldest_coin": None}
    changed = 0
    for known in run("regtest_core31")[:260]:
        rest = facts_of(without_heights(known.data))
        coins = [{**coin, "age_blocks": None} for coin in known.facts.large_coins or []]
        ageless = dataclasses.replace(known.facts, **ages, large_coins=coins)
        expected = known.facts if known.facts.txs == 1 else ageless
        assert rest == expected
        changed += rest != known.facts
    assert changed > 50


def old_and_new(**changes: Any) -> BlockData:
    """A block at height 500 that spends a coin of height 100, an old one of height 7, and a new one."""
    parts = [outpoint_coin(n + 1, (n + 1) * COIN, ANYONE, height) for n, height in enumerate((100, 7, 499))]
    tx = Tx(tuple(txin for txin, _ in parts), ((COIN, ANYONE),))
    return dataclasses.replace(block_of((tx, [coin for _, coin in parts])), **changes)


def spent_of(data: BlockData) -> Spent:
    assert data.spent is not None
    return data.spent


def test_ages_by_hand() -> None:
    """1 BTC of 400 blocks, 2 BTC of 493, 3 BTC of one."""
    facts = facts_of(old_and_new())
    assert facts.coin_blocks_destroyed == COIN * (400 + 2 * 493 + 3)
    assert facts.oldest_coin is not None
    assert (facts.oldest_coin["age_blocks"], facts.oldest_coin["value"]) == (493, 2 * COIN)
    assert facts.coin_days_destroyed is None


def test_days_by_hand() -> None:
    """With ten minutes a block: the same in days; a coin from the block's own future has no age."""
    data = old_and_new()
    times = data.block.header.time - 600 * np.arange(500, -1, -1, np.int64)
    timed = dataclasses.replace(data, spent=with_times(spent_of(data), times))
    assert facts_of(timed).coin_days_destroyed == round((400 + 2 * 493 + 3) * 600 / 86_400, 8)
    times[100] = data.block.header.time + 5000
    later = dataclasses.replace(data, spent=with_times(spent_of(data), times))
    assert facts_of(later).coin_days_destroyed == round((2 * 493 + 3) * 600 / 86_400, 8)


def test_one_unknown_time_leaves_the_days_unknown() -> None:
    """Where a single coin's time is not known neither is the sum; its blocks are."""
    data = old_and_new()
    times = data.block.header.time - 600 * np.arange(500, -1, -1, np.int64)
    times[7] = -1
    for known_times in (times, times[:400]):
        facts = facts_of(dataclasses.replace(data, spent=with_times(spent_of(data), known_times)))
        assert facts.coin_days_destroyed is None
        assert facts.coin_blocks_destroyed == COIN * (400 + 2 * 493 + 3)


def test_one_unknown_height_leaves_every_age_unknown() -> None:
    """A coin of height -1 is one whose height the source does not know."""
    data = old_and_new()
    heights = np.array([0, 100, -1, 499], np.int32)
    facts = facts_of(dataclasses.replace(data, spent=dataclasses.replace(spent_of(data), height=heights)))
    assert (facts.coin_blocks_destroyed, facts.coin_days_destroyed, facts.oldest_coin) == (None, None, None)


def test_without_the_blocks_own_height_ages_are_unknown() -> None:
    """Age in blocks needs both heights."""
    facts = facts_of(old_and_new(height=None))
    assert (facts.coin_blocks_destroyed, facts.coin_days_destroyed, facts.oldest_coin) == (None, None, None)


# ------------------------------------------------------------------------------------------------------ exact sums


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([], []),
        ([0], [0]),
        ([MAX_MONEY], [2**30 - 1]),
        ([MAX_MONEY] * 1000, [2**30 - 1] * 1000),
        ([2**51 - 1] * 129, [2**30 - 1] * 129),
        ([2**26 - 1, 2**26, 2**26 + 1], [2**30 - 1, 1, 0]),
    ],
    ids=["nothing", "zero", "all money", "all money 1000 times", "the limits", "around 26 bits"],
)
def test_exact_sums_of_the_largest_numbers(a: list[int], b: list[int]) -> None:
    """No overflow and no rounding, where the plain product would have 81 bits."""
    found = exact_dot(np.array(a, np.int64), np.array(b, np.int64))
    assert found == sum(x * y for x, y in zip(a, b, strict=True))
    assert type(found) is int


def test_exact_sums_of_random_numbers() -> None:
    """The same as Python's own integers, for every length around the 64 that are added up at once."""
    random = Random(3)
    for length in [*range(1, 140), 1000, 10_000]:
        a = [random.randrange(random.choice((10, 2**26, 2**51))) for _ in range(length)]
        b = [random.randrange(random.choice((2, 1000, 2**30))) for _ in range(length)]
        assert exact_dot(np.array(a, np.int64), np.array(b, np.int64)) == sum(map(int.__mul__, a, b))


# ------------------------------------------------------------------------------------------------- large transfers


def transfer(spent: list[tuple[int, bytes]], made: list[tuple[int, bytes]], origin: int = 1) -> tuple[Tx, list[Coin]]:
    """A transaction that spends these (BTC, script) and makes those."""
    parts = [outpoint_coin(origin * 1000 + n, value * COIN, script) for n, (value, script) in enumerate(spent)]
    outputs = tuple((value * COIN, script) for value, script in made)
    return Tx(tuple(txin for txin, _ in parts), outputs), [coin for _, coin in parts]


def listed(*transfers: tuple[Tx, list[Coin]]) -> list[tuple[int, int, int]]:
    """(moved, change, fee) in whole BTC of each transfer the facts list."""
    found = facts_of(block_of(*transfers)).large_transfers
    assert found is not None
    return [(one["moved"] // COIN, one["change"] // COIN, one["fee"] // COIN) for one in found]


def test_change_is_not_moved() -> None:
    """Of 1,000 BTC 999 go back to the script they came from: 1 BTC moved, which is not large."""
    assert listed(transfer([(1000, COLD)], [(999, COLD), (1, SHOP)])) == []
    assert listed(transfer([(1000, COLD)], [(1, SHOP), (999, COLD)])) == []
    assert listed(transfer([(500, HOT), (500, COLD)], [(999, HOT), (1, SHOP)])) == []


def test_change_is_taken_off_what_is_listed() -> None:
    """150 BTC go away and 849 come back: what is listed is 150, with the change and the fee beside it."""
    assert listed(transfer([(1000, COLD)], [(150, SHOP), (849, COLD)])) == [(150, 849, 1)]
    assert listed(transfer([(600, COLD), (400, HOT)], [(150, SHOP), (400, COLD), (449, HOT)])) == [(150, 849, 1)]


def test_a_fresh_script_can_not_be_told_from_a_payment() -> None:
    """All of it counts as moved where no output goes back."""
    assert listed(transfer([(1000, COLD)], [(1, SHOP), (999, HOT)])) == [(1000, 0, 0)]


def test_only_a_transactions_own_inputs_make_change() -> None:
    """That another transaction of the block spends from the script is no reason."""
    pay, other = transfer([(200, HOT)], [(200, COLD)], 1), transfer([(5, COLD)], [(5, SHOP)], 2)
    assert listed(pay, other) == [(200, 0, 0)]


def test_scripts_are_the_same_only_as_a_whole() -> None:
    """Scripts that begin alike, or that are one longer than the other, are different scripts."""
    longer = COLD[:-1] + b"\xff"
    assert listed(transfer([(200, COLD)], [(200, longer)])) == [(200, 0, 0)]
    assert listed(transfer([(200, b"\x51" * 20)], [(200, b"\x51" * 21)])) == [(200, 0, 0)]
    assert listed(transfer([(200, b"")], [(200, b"")])) == []


def test_an_equal_key_makes_no_change() -> None:
    """Keys only find candidates: a script made to collide with the one that was spent is still another script."""
    data = block_of(transfer([(200, COLD)], [(200, HOT)]))
    spent, key = spent_of(data), data.block.outputs.key[-1]
    outputs = dataclasses.replace(spent.outputs, key=np.full_like(spent.outputs.key, key))
    collided = dataclasses.replace(data, spent=dataclasses.replace(spent, outputs=outputs))
    assert facts_of(collided).large_transfers == facts_of(data).large_transfers != []


def test_one_hundred_bitcoin_are_large() -> None:
    """Exactly 100 BTC are listed, one satoshi less is not; the coinbase is never."""
    for value, expected in ((100 * COIN, [100 * COIN]), (100 * COIN - 1, [])):
        txin, coin = outpoint_coin(1, value, HOT)
        facts = facts_of(block_of((Tx((txin,), ((value, COLD),)), [coin]), height=1, claim=50 * COIN))
        assert facts.large_transfers is not None
        assert [one["moved"] for one in facts.large_transfers] == expected
    assert facts_of(block_of(height=1, claim=50 * COIN)).large_transfers == []


def test_the_largest_come_first_and_no_more_than_so_many() -> None:
    """Thirty transfers: only the largest are listed, in order of what they moved."""
    assert 0 < MOST_TRANSFERS < 30
    random = Random(9)
    amounts = random.sample(range(100, 400), 30)
    found = listed(*(transfer([(btc, HOT)], [(btc, COLD)], n + 1) for n, btc in enumerate(amounts)))
    assert found == [(btc, 0, 0) for btc in sorted(amounts, reverse=True)[:MOST_TRANSFERS]]


def test_a_spend_inside_the_block_is_a_transfer_of_its_own() -> None:
    """What moves twice in one block is listed twice."""
    first, coins = transfer([(300, HOT)], [(300, COLD)])
    second = Tx((TxInput(bytes(first.txid), 0),), ((290 * COIN, SHOP), (5 * COIN, COLD)))
    assert listed((first, coins), (second, [Coin(300 * COIN, COLD, 500)])) == [(300, 0, 0), (290, 5, 5)]


def recounted(known: Known) -> list[dict[str, Any]]:
    """Every transfer of 100 BTC and more, largest first, by sets of scripts."""
    block, spent = known.data.block, known.data.spent
    assert spent is not None
    first_in, first_out, found = block.tx.first_input.tolist(), block.tx.first_output.tolist(), []
    for t in range(1, block.n_tx):
        made = range(first_out[t], first_out[t + 1])
        total = sum(int(block.outputs.value[row]) for row in made)
        if total < 100 * COIN:
            continue
        own = {spent.outputs.script(row) for row in range(first_in[t], first_in[t + 1])}
        change = sum(int(block.outputs.value[row]) for row in made if block.outputs.script(row) in own)
        fee = sum(int(spent.outputs.value[row]) for row in range(first_in[t], first_in[t + 1])) - total
        if total - change >= 100 * COIN:
            found.append(
                {"txid": str(block.txid(t)), "moved": total - change, "change": change, "fee": fee,
                 "inputs": first_in[t + 1] - first_in[t], "outputs": len(made)}
            )  # fmt: skip
    return sorted(found, key=lambda one: -one["moved"])


def test_large_transfers_of_real_blocks_recounted(shared: Path) -> None:
    """Every block with known spent outputs: the same list; of equal amounts the order is not looked at."""
    seen = changed = 0
    for known in (*recorded_blocks().values(), *run("regtest_core31")):
        found = known.facts.large_transfers
        if known.data.spent is None:
            assert found is None
            continue
        assert found is not None
        expected = recounted(known)
        seen, changed = seen + len(expected), changed + sum(one["change"] > 0 for one in expected)
        assert [one["moved"] for one in found] == [one["moved"] for one in expected[:MOST_TRANSFERS]]
        assert all(one in expected for one in found)
        assert len({one["txid"] for one in found}) == len(found)
    assert seen > 100
    assert changed >= 5


def test_a_coin_from_the_future_is_refused(shared: Path) -> None:
    """Undo data that gives a coin a height above the block that spends it is not this block's."""
    data = open_source(shared / "runs" / "main_0-599").block_at(170)
    assert data.spent is not None
    assert data.spent.height is not None
    later = dataclasses.replace(
        data, spent=dataclasses.replace(data.spent, height=np.full_like(data.spent.height, 171))
    )
    with pytest.raises(DecodeError, match="after the block that spends it"):
        compute_facts(later, labels_for(data.network))
