"""The ledger equals a recount from nothing but the blocks: before, during and after reorgs."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from balances.chains import (
    REGTEST,
    SIMULATED,
    SMALL,
    Followed,
    Item,
    Steps,
    after,
    core_run,
    kernel_chain,
    of_run,
    simulated,
)
from balances.oracle import Recount, assert_equal
from balances.snapshots import snapshot_bytes
from helpers.economy import FOLDER
from utxoiq.balances.importing import import_snapshot
from utxoiq.balances.ledger import Ledger
from utxoiq.balances.records import DEFAULTS, Balance, Settings
from utxoiq.balances.rolling import roll
from utxoiq.chain.serialize import Coin
from utxoiq.errors import NotLinked
from utxoiq.units import COIN


def follow(ledger: Ledger, chain: Steps, every: int) -> None:
    """Take all steps; compare everything every so often, and before, during and after reorgs."""
    followed = Followed(ledger, chain)
    before = True
    for n, (connect, step) in enumerate(chain.steps):
        followed.take(connect, step)
        turns = n + 1 < len(chain.steps) and not chain.steps[n + 1][0]
        if n % every == 0 or turns or connect != before or not connect:
            assert_equal(ledger, followed.now, followed.ever)
        assert ledger.tip == after((connect, step))
        before = connect
    assert_equal(ledger, followed.now, followed.ever)


@pytest.mark.parametrize("chain", [kernel_chain, lambda: of_run("regtest_kernel"), lambda: of_run("regtest_reorg")])
def test_it_equals_a_recount_on_chains_the_kernel_made(chain: Callable[[], Steps], tmp_path: Path) -> None:
    for name, settings in (("small", SMALL), ("default", DEFAULTS)):
        with Ledger.create(tmp_path / name, REGTEST, kept_from=COIN, settings=settings) as ledger:
            follow(ledger, chain(), 5)


def test_it_equals_a_recount_on_the_run_of_a_node_and_the_balances_the_node_gave(tmp_path: Path) -> None:
    chain = core_run()
    assert chain.reorgs == 3
    with Ledger.create(tmp_path / "ledger", REGTEST, kept_from=COIN, settings=SMALL) as ledger:
        follow(ledger, chain, 200)
        node = json.loads((FOLDER / "balances.json").read_text())
        totals = ledger.check()
        assert (totals.scripts, totals.sat) == (node["scripts"], node["total_sat"])
        richest = [(bytes.fromhex(row["script_hex"]), row["balance_sat"]) for row in node["top_scripts"]]
        assert [(holder.script, holder.sat) for holder in ledger.top(len(richest))] == richest
        scripts = [script for script, _ in richest]
        assert [balance and balance.sat for balance in ledger.balances(scripts)] == [sat for _, sat in richest]


def opening(chain: Steps) -> Recount:
    """The coins that a chain spends and nobody saw being made: what a snapshot below it would hold."""
    first = chain.steps[0][1].height
    recount = Recount(first - 1)
    for _, step in chain.steps:
        spent = step.spent
        assert spent.height is not None
        assert spent.is_coinbase is not None
        for row, at in enumerate(step.block.input_offset.tolist()):
            if row and spent.height[row] < first:
                coin = Coin(int(spent.outputs.value[row]), spent.outputs.script(row), int(spent.height[row]),
                            bool(spent.is_coinbase[row]))  # fmt: skip
                recount.coins[step.raw[at : at + 36]] = coin
    recount.held.update(recount.from_coins())
    recount.seen = dict.fromkeys(recount.held, (0, 0))
    recount.ever = {coin.script for coin in recount.coins.values()}
    return recount


def test_it_equals_a_recount_on_a_simulated_chain(tmp_path: Path) -> None:
    """Such a chain begins above coins it did not see made, so the ledger begins with a snapshot of those. Since when
    they are held is unknown, and known for all that came later."""
    chain = simulated()
    start, first = opening(chain), chain.steps[0][1]
    assert chain.reorgs
    known = set(start.ever)
    (tmp_path / "utxo.dat").write_bytes(snapshot_bytes(start.coins, first.prev, SIMULATED))
    import_snapshot(tmp_path / "utxo.dat", tmp_path / "ledger", SIMULATED, first.height - 1, settings=SMALL)
    with Ledger.open(tmp_path / "ledger", settings=SMALL) as ledger:
        followed = Followed(ledger, chain, start)
        for connect, step in chain.steps:
            followed.take(connect, step)
            assert_equal(ledger, followed.now, followed.ever, heights=False)
        recount = followed.now
        for script in sorted(followed.ever - known):
            assert ledger.balance(script) == recount.balance(script)


def test_what_a_block_did_to_the_rich_is_told_and_taken_back(tmp_path: Path) -> None:
    chain = core_run()
    least = 50 * COIN
    with Ledger.create(tmp_path / "ledger", REGTEST, kept_from=least, settings=SMALL) as ledger:
        followed = Followed(ledger, chain)
        for connect, step in chain.steps[:420]:
            before = followed.now.held.copy()
            followed.take(connect, step)
            if connect:
                held = followed.now.held
                told = {change.script: (change.before, change.after) for change in ledger.changes(least)}
                passed = {s for s in held if before[s] != held[s] and max(before[s], held[s]) >= least}
                assert passed <= told.keys()
                assert all(told[s] == (before[s], held[s]) for s in told)
                rich = sorted(((-sat, s) for s, sat in held.items() if sat >= least))
                assert [(h.script, h.sat) for h in ledger.top(len(rich))] == [(s, -sat) for sat, s in rich]
        more = ledger.top(1000)
        assert [holder.sat for holder in more] == sorted(followed.now.from_coins().values(), reverse=True)[:1000]
        assert more[-1].script is None


def test_without_genesis_or_a_snapshot_nothing_is_known(tmp_path: Path) -> None:
    chain = kernel_chain()
    with Ledger.create(tmp_path / "ledger", REGTEST) as ledger:
        assert ledger.tip is None
        assert ledger.balance(b"\x51") is None
        assert ledger.balances([b"\x51", b""]) == [None, None]
        assert ledger.top(5) == []
        _, second = chain.steps[1]
        with pytest.raises(NotLinked, match="begin with genesis"):
            ledger.connect(second.block, second.spent, second.height)
        _, genesis = chain.steps[0]
        stranger = replace(genesis.block, network=replace(REGTEST, genesis=second.hash))
        with pytest.raises(NotLinked, match="begin with genesis"):
            ledger.connect(stranger, genesis.spent, 0)
        ledger.connect(genesis.block, genesis.spent, 0)
        assert ledger.balance(genesis.block.outputs.script(0)) == Balance(0, None, None)
        ledger.disconnect(genesis.hash)
        assert ledger.tip is None
        assert ledger.balance(b"\x51") is None


def branches_of(chain: Steps) -> tuple[list[Item], list[Item]]:
    """The branch up to the first reorg, and that at the end."""
    first = next(n for n, (connect, _) in enumerate(chain.steps) if not connect)
    old = [step for _, step in chain.steps[:first]]
    left = {step.hash for connect, step in chain.steps if not connect}
    return old, [step for connect, step in chain.steps if connect and step.hash not in left]


def test_it_rolls_to_where_the_store_is_forward_and_back(tmp_path: Path) -> None:
    old, new = branches_of(kernel_chain())
    with Ledger.create(tmp_path / "ledger", REGTEST, settings=Settings()) as ledger:
        for branch, height in ((old, len(old) - 1), (new, len(new) - 1), (new, 90), (old, len(old) - 1)):
            hash_at = {step.height: step.hash for step in branch}.get
            roll(ledger, height, hash_at, lambda at, branch=branch: (branch[at].block, branch[at].spent))
            assert ledger.tip == (height, branch[height].hash)
            recount = Recount()
            for step in branch[: height + 1]:
                recount.connect(step.raw, step.height)
            assert_equal(ledger, recount, recount.ever)
            assert roll(ledger, height, hash_at, lambda _: pytest.fail("nothing to read")) == 0


def test_what_was_tidied_no_block_waits_for(tmp_path: Path) -> None:
    """Runs are written between blocks then, but for what a block of very many scripts needs, and every balance is the
    same."""
    chain = core_run()
    with Ledger.create(tmp_path, REGTEST, kept_from=COIN, settings=replace(SMALL, delta_limit=4000)) as ledger:
        followed, merged, waited = Followed(ledger, chain), 0, 0
        for connect, step in chain.steps:
            before = sorted(path.name for path in tmp_path.glob("run.*"))
            followed.take(connect, step)
            between = sorted(path.name for path in tmp_path.glob("run.*"))
            ledger.tidy()
            waited += between != before
            merged += sorted(path.name for path in tmp_path.glob("run.*")) != between
        assert merged > 10 * waited
        assert merged > 10
        assert_equal(ledger, followed.now, followed.ever)
