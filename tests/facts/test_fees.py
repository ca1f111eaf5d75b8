"""Feerates by in-block package against a slow reference, percentiles by weight, medians."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, permutations
from pathlib import Path
from random import Random

import pytest

from facts.made import ANYONE, Known, block_of, facts_of, outpoint_coin, run
from utxoiq.chain.serialize import Coin, Tx, TxInput, tx_bytes
from utxoiq.errors import DecodeError
from utxoiq.models import BlockFacts
from utxoiq.units import MAX_MONEY


@dataclass(frozen=True)
class Want:
    """A transaction to be made: its fee in sat, which earlier ones it spends from, and how many bytes it is longer."""

    fee: int
    parents: tuple[int, ...] = ()
    padding: int = 0


def made(wants: Sequence[Want]) -> tuple[BlockFacts, list[int]]:
    """The facts of a block of such transactions, in this order, and the weight of each of them."""
    txs: list[Tx] = []
    spends = []
    for n, want in enumerate(wants):
        txin, coin = outpoint_coin(n + 1, 10**9)
        inputs, coins = [txin], [coin]
        for parent in want.parents:
            index = sum(parent in other.parents for other in wants[:n])
            value, script = txs[parent].outputs[index]
            inputs.append(TxInput(bytes(txs[parent].txid), index))
            coins.append(Coin(value, script, 500))
        children = sum(n in other.parents for other in wants)
        rest = sum(coin.value for coin in coins) - want.fee - 1000 * children
        outputs = [(1000, ANYONE)] * children + [(rest, b"\x51" * want.padding)]
        txs.append(Tx(tuple(inputs), tuple(outputs)))
        spends.append((txs[-1], coins))
    return facts_of(block_of(*spends)), [4 * len(tx_bytes(tx)) for tx in txs]


def clusters(wants: Sequence[Want]) -> list[list[int]]:
    """Transactions joined by spends, directly or not; each cluster in the order of the block."""
    of = list(range(len(wants)))
    for n, want in enumerate(wants):
        for parent in want.parents:
            of = [of[parent] if one == of[n] else one for one in of]
    return [[n for n in range(len(wants)) if of[n] == name] for name in sorted(set(of))]


def chunks(wants: Sequence[Want], weights: Sequence[int], order: Sequence[int]) -> list[list[int]]:
    """Again and again the beginning of what is left that pays best, the shortest of equals."""
    found, rest = [], list(order)
    while rest:
        rates = [feerate(wants, weights, rest[: n + 1]) for n in range(len(rest))]
        size = rates.index(max(rates)) + 1
        found.append(rest[:size])
        rest = rest[size:]
    return found


def feerate(wants: Sequence[Want], weights: Sequence[int], members: Sequence[int]) -> Fraction:
    return Fraction(sum(wants[n].fee for n in members) * 4000, sum(weights[n] for n in members))


def expected(wants: Sequence[Want], weights: Sequence[int]) -> tuple[list[int], int]:
    """The percentiles of the package feerates, and how many packages of two and more there are."""
    rates, packages = [0] * len(wants), 0
    for cluster in clusters(wants):
        for chunk in chunks(wants, weights, cluster):
            packages += len(chunk) > 1
            for n in chunk:
                rates[n] = int(feerate(wants, weights, chunk))
    return percentiles(rates, weights), packages


def percentiles(rates: Sequence[int], weights: Sequence[int]) -> list[int]:
    """Core's rule in fractions: the first feerate, going up, at which so much of the weight is reached."""
    rows, total, found = sorted(zip(rates, weights, strict=True)), sum(weights), []
    for share in (Fraction(1, 10), Fraction(1, 4), Fraction(1, 2), Fraction(3, 4), Fraction(9, 10)):
        so_far = 0
        for rate, weight in rows:
            so_far += weight
            if so_far >= share * total:
                found.append(rate)
                break
        else:
            found.append(rows[-1][0] if rows else 0)
    return found


def five(*wants: Want) -> tuple[list[int], int]:
    """The package feerates of five transactions of nearly equal weight, rising, and the number of packages."""
    assert len(wants) == 5
    facts, weights = made([Want(w.fee, w.parents, w.padding or 4000 - 41 * len(w.parents)) for w in wants])
    assert max(weights) < 1.1 * min(weights)
    assert (facts.package_feerate_percentiles_kvb, facts.packages) == expected(
        [Want(w.fee, w.parents) for w in wants], weights
    )
    assert facts.package_feerate_percentiles_kvb is not None
    assert facts.packages is not None
    return facts.package_feerate_percentiles_kvb, facts.packages


def kvb(*fees: int) -> list[int]:
    """About what fees of so much come to, at about 4.1 kvB."""
    return [round(fee / 4.15) for fee in fees]


def close(found: list[int], wanted: list[int]) -> bool:
    return all(abs(a - b) <= 0.05 * b for a, b in zip(found, wanted, strict=True))


def test_unrelated_transactions_stay_alone() -> None:
    """Without spends inside the block each feerate is the transaction's own, and there are no packages."""
    rates, packages = five(Want(50_000), Want(40_000), Want(30_000), Want(20_000), Want(10_000))
    assert packages == 0
    assert close(rates, kvb(10_000, 20_000, 30_000, 40_000, 50_000))
    facts, _ = made([Want(fee) for fee in (50_000, 40_000, 10_000)])
    assert facts.package_feerate_percentiles_kvb == facts.feerate_percentiles_kvb


def test_a_child_pays_for_its_parent() -> None:
    """A child of a higher feerate lifts its parent: both are at the feerate of the two together."""
    rates, packages = five(Want(0), Want(40_000, (0,)), Want(60_000), Want(70_000), Want(80_000))
    assert packages == 1
    assert close(rates, kvb(20_000, 20_000, 60_000, 70_000, 80_000))


def test_a_poor_child_does_not_lower_its_parent() -> None:
    """A child of a lower feerate stays what it is, and its parent too."""
    rates, packages = five(Want(40_000), Want(10_000, (0,)), Want(60_000), Want(70_000), Want(80_000))
    assert packages == 0
    assert close(rates, kvb(10_000, 40_000, 60_000, 70_000, 80_000))


def test_a_child_of_the_same_feerate_is_no_package() -> None:
    """Only what raises the feerate is joined (Core's rule): equal ones stay apart, with the same feerate."""
    wants = [Want(5000, (), 100), Want(5000, (0,), 0)]
    _, weights = made(wants)
    wants[1] = Want(5000, (0,), (weights[0] - weights[1]) // 4)
    facts, weights = made(wants)
    assert weights[0] == weights[1]
    assert facts.packages == 0
    assert facts.package_feerate_percentiles_kvb == [5000 * 4000 // weights[0]] * 5


def test_a_chain_is_paid_for_from_its_end() -> None:
    """The last of five in a row pays for all before it, through those that pay nothing themselves."""
    rates, packages = five(Want(0), Want(0, (0,)), Want(0, (1,)), Want(0, (2,)), Want(100_000, (3,)))
    assert packages == 1
    assert len(set(rates)) == 1
    assert close(rates, kvb(*[20_000] * 5))


def test_a_chain_falls_apart_where_it_pays_less() -> None:
    """Rich, poor, rich, poor, poor: the second rich one lifts the poor one before it, but not the first."""
    wants = Want(90_000), Want(0, (0,)), Want(60_000, (1,)), Want(20_000, (2,)), Want(10_000, (3,))
    rates, packages = five(*wants)
    assert packages == 1
    assert close(rates, kvb(10_000, 20_000, 30_000, 30_000, 90_000))


def test_one_child_pays_for_two_parents() -> None:
    """A child of two poor parents lifts both: three at one feerate."""
    rates, packages = five(Want(3000), Want(6000), Want(51_000, (0, 1)), Want(60_000), Want(70_000))
    assert packages == 1
    assert close(rates, kvb(20_000, 20_000, 20_000, 60_000, 70_000))


def test_a_rich_parent_keeps_its_feerate() -> None:
    """Of two parents the rich one stays alone, and the child pays for the poor one only."""
    rates, packages = five(Want(90_000), Want(0), Want(40_000, (0, 1)), Want(60_000), Want(70_000))
    assert packages == 1
    assert close(rates, kvb(20_000, 20_000, 60_000, 70_000, 90_000))


def test_a_parent_is_not_paid_for_by_a_stranger() -> None:
    """Two parents of one poor child are no package: the rich one, mined first, does nothing for the other."""
    facts, weights = made([Want(80_000, (), 4000), Want(0, (), 4000), Want(0, (0, 1), 4000)])
    assert facts.packages == 0
    best = 80_000 * 4000 // weights[0]
    assert facts.package_feerate_percentiles_kvb == [0, 0, 0, best, best]


def test_two_children_pay_each_for_itself_or_together() -> None:
    """One rich child lifts the parent; a second, richer than that package, joins; a poorer one does not."""
    rates, packages = five(Want(0), Want(40_000, (0,)), Want(50_000, (0,)), Want(5_000, (0,)), Want(99_000))
    assert packages == 1
    assert close(rates, kvb(5_000, 30_000, 30_000, 30_000, 99_000))


def test_percentiles_see_each_transaction_at_its_packages_feerate() -> None:
    """By itself and by package are two answers: the poor parent is at the bottom of one only."""
    facts, weights = made([Want(0, (), 200), Want(50_000, (0,), 200), Want(9000, (), 200)])
    lone = [0, 50_000 * 4000 // weights[1], 9000 * 4000 // weights[2]]
    assert facts.feerate_percentiles_kvb == percentiles(lone, weights)
    together = 50_000 * 4000 // (weights[0] + weights[1])
    assert facts.package_feerate_percentiles_kvb == percentiles([together, together, lone[2]], weights)
    assert (facts.feerate_percentiles or [None])[0] == 0


@pytest.mark.parametrize("seed", range(8))
def test_random_dependencies_as_the_slow_reference_has_them(seed: int) -> None:
    """Small random graphs with random fees and sizes: percentiles and the number of packages agree."""
    random = Random(seed)
    packages = 0
    for _ in range(60):
        wants = random_wants(random, random.randrange(1, 11))
        facts, weights = made(wants)
        found = facts.package_feerate_percentiles_kvb, facts.packages
        assert found == expected(wants, weights), wants
        packages += facts.packages or 0
    assert packages > 20


def random_wants(random: Random, count: int) -> list[Want]:
    wants = []
    for n in range(count):
        parents = tuple(sorted(random.sample(range(n), min(n, random.choice((0, 0, 1, 1, 2))))))
        wants.append(Want(random.choice((0, 1, 200, 5000, random.randrange(50_000))), parents, random.randrange(400)))
    return wants


def best_closed_set(wants: Sequence[Want], weights: Sequence[int], left: set[int]) -> list[int]:
    """Of all sets of `left` that hold the parents of their members: the best paying, the smallest of equals."""
    best: tuple[Fraction, int, list[int]] | None = None
    for size in range(1, len(left) + 1):
        for members in combinations(sorted(left), size):
            if all(parent in members or parent not in left for n in members for parent in wants[n].parents):
                rate = feerate(wants, weights, members)
                if best is None or rate > best[0]:
                    best = rate, size, list(members)
    assert best is not None
    return best[2]


@pytest.mark.parametrize("seed", range(4))
def test_in_a_well_ordered_block_package_feerates_are_the_best_there_are(seed: int) -> None:
    """Where the miner took the best paying sets first, as Core does, each transaction has the feerate of its set."""
    random = Random(100 + seed)
    for _ in range(25):
        wants = random_wants(random, random.randrange(2, 8))
        _, weights = made(wants)
        left, order, rates = set(range(len(wants))), [], {}
        while left:
            members = best_closed_set(wants, weights, left)
            rates |= dict.fromkeys(members, int(feerate(wants, weights, members)))
            order += members
            left -= set(members)
        place = {n: where for where, n in enumerate(order)}
        ordered = [
            Want(wants[n].fee, tuple(sorted(place[p] for p in wants[n].parents)), wants[n].padding) for n in order
        ]
        facts, ordered_weights = made(ordered)
        assert facts.package_feerate_percentiles_kvb == percentiles([rates[n] for n in order], ordered_weights)


def wants_of(known: Known) -> tuple[list[Want], list[int]]:
    """The transactions of a real block but the coinbase, as far as fees and packages see them."""
    block, spent = known.data.block, known.data.spent
    assert spent is not None
    place = {bytes(block.txid(t)): t - 1 for t in range(1, block.n_tx)}
    raw, first = block.raw, block.tx.first_input.tolist()
    wants, weights = [], []
    for t in range(1, block.n_tx):
        ats = (int(block.input_offset[row]) for row in range(first[t], first[t + 1]))
        parents = {place.get(raw[at : at + 32].tobytes(), -1) for at in ats} - {-1}
        wants.append(Want(int(spent.tx_value_in[t] - block.tx.value_out[t]), tuple(sorted(parents))))
        weights.append(3 * int(block.tx.stripped_size[t]) + int(block.tx.size[t]))
    return wants, weights


def test_packages_of_a_real_chain_as_the_slow_reference_has_them(shared: Path) -> None:
    """Child pays for parent and chains up to 24 deep, mined by a real node: the same percentiles and packages."""
    packages = 0
    for known in run("regtest_core31"):
        if known.facts.packages and known.facts.txs < 60:
            wants, weights = wants_of(known)
            assert (known.facts.package_feerate_percentiles_kvb, known.facts.packages) == expected(wants, weights)
            packages += known.facts.packages
    assert packages > 50


# ------------------------------------------------------------------------------------------ percentiles and medians


@pytest.mark.parametrize(
    ("fees", "wanted"),
    [
        ([7], [7, 7, 7, 7, 7]),
        ([5, 1], [1, 1, 1, 5, 5]),
        ([3, 3, 3], [3, 3, 3, 3, 3]),
        ([4, 3, 2, 1], [1, 1, 2, 3, 4]),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [1, 3, 5, 8, 9]),
        ([0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9], [0, 9, 9, 9, 9]),
    ],
)
def test_percentiles_of_equal_weights_by_hand(fees: list[int], wanted: list[int]) -> None:
    """The feerate at which 10, 25, 50, 75 and 90 % of the weight is reached, exactly reached being enough."""
    facts, weights = made([Want(fee * 1000) for fee in fees])
    assert len(set(weights)) == 1
    assert facts.feerate_percentiles_kvb == [fee * 1000 * 4000 // weights[0] for fee in wanted]
    assert facts.feerate_percentiles == [rate // 1000 for rate in facts.feerate_percentiles_kvb]


@pytest.mark.parametrize(("light", "heavy"), [(9, 1), (1, 9)])
def test_percentiles_go_by_weight_and_not_by_number(light: int, heavy: int) -> None:
    """One transaction of nearly all the weight has all five, however many light ones there are."""
    facts, weights = made([*[Want(light)] * 3, Want(heavy * 10_000, (), 9000)])
    assert sum(weights[:3]) < sum(weights) / 10
    assert facts.feerate_percentiles_kvb == [heavy * 10_000 * 4000 // weights[3]] * 5


@pytest.mark.parametrize("seed", range(4))
def test_percentiles_as_the_reference_has_them(seed: int) -> None:
    """Random fees and sizes, many equal ones among them."""
    random = Random(seed)
    for _ in range(60):
        count = random.choice((1, 2, 3, 5, 9, 10, 11, 40))
        wants = [
            Want(
                random.choice((0, 1, 5000, random.randrange(10**6))),
                (),
                random.choice((0, 0, 50, random.randrange(5000))),
            )
            for _ in range(count)
        ]
        facts, weights = made(wants)
        rates = [want.fee * 4000 // weight for want, weight in zip(wants, weights, strict=True)]
        assert facts.feerate_percentiles_kvb == percentiles(rates, weights)
        assert facts.package_feerate_percentiles_kvb == facts.feerate_percentiles_kvb
        assert (facts.minfeerate, facts.maxfeerate) == (min(rates) // 1000, max(rates) // 1000)
        assert facts.avgfeerate == sum(want.fee for want in wants) * 4 // sum(weights)


def paying_fees(*fees: int) -> BlockFacts:
    """Transactions that leave all they spend to the miner."""
    spends = []
    for n, fee in enumerate(fees):
        txin, coin = outpoint_coin(n + 1, fee)
        spends.append((Tx((txin,), ((0, b""),)), [coin]))
    return facts_of(block_of(*spends))


def test_the_largest_feerate_there_can_be() -> None:
    """All money as the fee of a small transaction: no overflow on the way to sat/kvB."""
    facts = paying_fees(MAX_MONEY)
    assert facts.totalfee == facts.maxfee == facts.minfee == MAX_MONEY
    assert facts.feerate_percentiles_kvb == [MAX_MONEY * 4000 // facts.total_weight] * 5
    assert facts.package_feerate_percentiles_kvb == facts.feerate_percentiles_kvb
    assert facts.maxfeerate == facts.avgfeerate == MAX_MONEY * 4 // facts.total_weight


@pytest.mark.parametrize("fee", [10**9, 10**11, 10**12, 10**13, 10**15])
def test_a_fee_of_many_bitcoin_is_above_the_others(fee: int) -> None:
    """However much somebody pays, by mistake, the rest of the block comes below it."""
    facts = paying_fees(1000, 2000, fee, 3000, 4000)
    weight = facts.total_weight // 5
    assert facts.feerate_percentiles_kvb == [sat * 4000 // weight for sat in (1000, 2000, 3000, 4000, fee)]


def test_fees_of_more_than_all_money_are_refused() -> None:
    """Each transaction can have it, the block can't."""
    assert paying_fees(MAX_MONEY - 1, 1).totalfee == MAX_MONEY
    with pytest.raises(DecodeError, match="fees of more than 21 million BTC"):
        paying_fees(MAX_MONEY, 1)


@pytest.mark.parametrize(
    ("fees", "wanted"),
    [([7], 7), ([1, 2], 1), ([3, 1, 2], 2), ([10, 1, 4, 3], 3), ([0, 2**50 + 1], 2**49), ([5, 5, 5, 6], 5)],
)
def test_medians_are_cut_down(fees: list[int], wanted: int) -> None:
    """The middle value, or the mean of the two middle ones without its half; in whatever order they are mined."""
    for order in permutations(fees):
        assert paying_fees(*order).medianfee == wanted


@pytest.mark.parametrize(("lengths", "wanted"), [((1,), 1), ((0, 3), 1), ((9, 0, 4), 4), ((3, 0, 8, 6), 4)])
def test_the_median_size_is_cut_down(lengths: tuple[int, ...], wanted: int) -> None:
    """The same for sizes in bytes, counted here from that of an empty script."""
    facts, weights = made([Want(0, (), 100 + length) for length in lengths])
    least = min(weights) // 4 - min(lengths)
    assert facts.mediantxsize == least + wanted
    assert facts.avgtxsize == sum(weights) // 4 // len(lengths)
    assert (facts.mintxsize, facts.maxtxsize) == (min(weights) // 4, max(weights) // 4)
