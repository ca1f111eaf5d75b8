"""The keeper of balances: what it tells of each block is what a recount tells, wherever its ledger stood before."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from balances.chains import REGTEST, SMALL, Item
from balances.snapshots import snapshot_bytes
from balances.test_ledger import branches_of
from pipeline.recounting import LEAST, Led, data_of, kernel_labels, other_labels
from utxoiq.balances.errors import LedgerError
from utxoiq.balances.importing import import_snapshot
from utxoiq.balances.ledger import Ledger
from utxoiq.balances.rolling import roll
from utxoiq.facts.flows import compute_flows
from utxoiq.models import LARGE_HOLDING, BlockBalances
from utxoiq.pipeline import holdings
from utxoiq.pipeline.holdings import BalanceKeeper

FORK = 111
"""The height of the last block that both branches of the kernel's chain have."""


@pytest.fixture
def new(led: Led) -> list[Item]:
    """The branch after it."""
    return branches_of(led.chain)[1]


async def up_to(led: Led, branch: list[Item], height: int) -> None:
    """Take what comes next up to a height."""
    for item in branch[led.counted.now.height + 1 : height + 1]:
        await led.take(True, item)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said of balances."""
    return [r.getMessage() for r in caplog.records if r.name == "utxoiq.pipeline.holdings" and "balances" in r.msg]


def held_before(found: BlockBalances) -> int:
    """What large holders held together at the parent, by the changes."""
    moves = [(one.before, -1) for one in found.changes] + [(one.after, 1) for one in found.changes]
    return found.held - sum(sign * sat for sat, sign in moves if sat >= LARGE_HOLDING)


@pytest.mark.parametrize(("which", "steps"), [("kernel", None), ("core", 385)])
async def test_each_block_equals_a_recount(which: str, steps: int | None, shared: Path, tmp_path: Path) -> None:
    """Changes before and after, the transactions of each, all large holders, what entities hold; through reorgs."""
    led = Led(tmp_path / "ledger", which)
    found: list[BlockBalances] = []
    for connect, item in led.chain.steps[:steps]:
        one = await led.take(connect, item)
        if one is None:
            found.pop()
            continue
        assert held_before(one) == (found[-1].held if found else 0)
        assert BlockBalances.from_dict(json.loads(json.dumps(one.as_dict()))) == one
        found.append(one)
        assert led.keeper.status == (item.height, str(item.hash), None)
    led.keeper.close()
    assert any(one.before < LARGE_HOLDING <= one.after for each in found for one in each.changes)
    assert max(len(one.txids) for each in found for one in each.changes) > 1
    assert {one.address is None for each in found for one in each.changes} == {False, True}
    assert len({who for each in found for who in each.entities}) > 1


async def test_a_block_that_is_given_twice(led: Led, old: list[Item]) -> None:
    """Is told the same twice: at once, after a restart, and by who has forgotten what entities hold."""
    await up_to(led, old, 100)
    for item in old[101:105]:
        found = await led.take(True, item)
        assert await led.ask(item) == found
        led.reopen()
        assert await led.ask(item) == await led.ask(item) == found


async def test_close_and_reopen(led: Led) -> None:
    """Between any two steps nothing is lost: before, in and after a reorg."""
    for n, step in enumerate(led.chain.steps):
        await led.take(*step)
        if n % 9 == 0 or n > 110:
            led.reopen()


async def test_a_ledger_that_is_behind_catches_up(led: Led, old: list[Item], caplog: pytest.LogCaptureFixture) -> None:
    """With the blocks its source has, before the block that waits; from nothing, and from where it stood."""
    for wanted in (50, 90):
        for item in old[led.counted.now.height + 1 : wanted]:
            led.pass_over(True, item)
        await led.take(True, old[wanted])
        await led.take(True, old[wanted + 1])
    assert told(caplog) == []
    for item in old[92:]:
        led.pass_over(True, item)
    await led.keeper.catch_up(100, old[100].hash)
    assert led.keeper.status == (100, str(old[100].hash), None)
    await led.keeper.catch_up(100, old[100].hash)
    assert led.keeper.status.height == 100


async def test_a_ledger_that_is_too_far_behind(
    led: Led, old: list[Item], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The reason is told once, blocks go on, and once it was brought up balances are known again."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(holdings, "MOST_BEHIND", 20)
    for item in old[:30]:
        led.pass_over(True, item)
    reasons = {await led.missed(item) for item in old[30:34]}
    assert ["`utxoiq balances build`" in reason for reason in reasons] == [True]
    assert told(caplog) == [f"balances are unknown: {reason}" for reason in reasons]
    with Ledger.open(led.folder) as ledger:
        roll(ledger, 14, lambda at: old[at].hash, lambda at: (old[at].block, old[at].spent))
    for item in old[34:37]:
        await led.missed(item) if item.height > 35 else led.pass_over(True, item)
    with Ledger.open(led.folder) as ledger:
        roll(ledger, 17, lambda at: old[at].hash, lambda at: (old[at].block, old[at].spent))
    await up_to(led, old, 40)
    assert told(caplog)[-1] == "balances are known again"
    assert led.keeper.status == (40, str(old[40].hash), None)


async def test_a_ledger_ahead_of_what_was_committed(led: Led, old: list[Item], new: list[Item]) -> None:
    """At blocks that were never committed, and are stale now."""
    await up_to(led, old, FORK)
    for item in old[FORK + 1 :]:
        assert await led.ask(item)
    await up_to(led, new, len(new) - 1)


async def test_a_store_that_begins_anew(led: Led, old: list[Item], tmp_path: Path) -> None:
    """The ledger goes back to genesis with it."""
    await up_to(led, old, 15)
    led.keeper.close()
    anew = Led(led.folder)
    await up_to(anew, old, 30)
    anew.keeper.close()


async def test_a_ledger_that_can_not_go_back_so_far(
    led: Led, old: list[Item], caplog: pytest.LogCaptureFixture
) -> None:
    """For the first block that it can go back for: told once, and no error."""
    caplog.set_level(logging.INFO)
    await up_to(led, old, 100)
    led.keeper.close()
    with Ledger.open(led.folder, settings=SMALL) as ledger:
        first = 100 - ledger.undoable + 1
    assert 60 < first < 100
    late = Led(led.folder)
    reasons = {await late.missed(item) for item in old[:first]}
    assert reasons == {f"the ledger begins with block {first - 1}"}
    assert [record.levelname for record in caplog.records if "unknown" in record.msg] == ["INFO"]
    assert late.keeper.status.height == 100
    await up_to(late, old, 110)
    assert late.keeper.status == (110, str(old[110].hash), None)
    late.keeper.close()


async def test_what_the_block_of_a_snapshot_did_is_not_known(led: Led, old: list[Item], tmp_path: Path) -> None:
    """Nor is it told that it did nothing; of those after it everything is known."""
    for item in old[:61]:
        led.pass_over(True, item)
    (tmp_path / "utxo.dat").write_bytes(snapshot_bytes(led.counted.now.coins, old[60].hash, REGTEST))
    shutil.rmtree(led.folder)
    import_snapshot(tmp_path / "utxo.dat", led.folder, REGTEST, 60, kept_from=LEAST)
    for _ in range(2):
        assert await led.ask(old[60]) is None
        assert led.keeper.status == (60, str(old[60].hash), None)
    assert await led.ask(old[59]) is None
    await up_to(led, old, 70)


async def test_a_ledger_on_another_branch(led: Led, old: list[Item], new: list[Item]) -> None:
    """It leaves that, whether or not it heard of it, and comes up the other."""
    await up_to(led, old, len(old) - 1)
    for item in old[:FORK:-1]:
        led.pass_over(False, item)
    for item in new[FORK + 1 : FORK + 5]:
        led.pass_over(True, item)
    await up_to(led, new, len(new) - 1)


async def test_a_block_on_a_branch_its_source_does_not_follow(led: Led, old: list[Item], new: list[Item]) -> None:
    """A ledger that did not see how that began can't come there: unknown, until blocks are on the best chain again."""
    await up_to(led, old, FORK - 5)
    for item in new[FORK - 4 :]:
        led.best[item.height] = data_of(item)
    for item in old[FORK + 2 :]:
        assert await led.ask(item) is None
        assert "is not on the chain that its source has now" in str(led.keeper.status.reason)
        await led.keeper.disconnect(item.hash)
    await up_to(led, new, len(new) - 1)


async def test_a_disconnect_it_did_not_see(led: Led, old: list[Item], new: list[Item]) -> None:
    """Of a block it does not stand at it takes nothing back; what it misses it makes up for."""
    await up_to(led, old, len(old) - 1)
    await led.keeper.disconnect(old[50].hash)
    await led.keeper.disconnect(new[-1].hash)
    assert led.keeper.status == (old[-1].height, str(old[-1].hash), None)


async def test_what_blocks_spend_is_not_known(led: Led, old: list[Item], caplog: pytest.LogCaptureFixture) -> None:
    """Nor then what anybody holds; told once, and made up for where the source tells it later."""
    await up_to(led, old, 80)
    for item in old[81:85]:
        bare = replace(data_of(item), spent=None)
        assert await led.keeper.connect(bare, compute_flows(bare, led.labels), led.labels) is None
        assert "not known to test" in str(led.keeper.status.reason)
        led.pass_over(True, item)
    assert len(told(caplog)) == 1
    assert await led.keeper.connect(replace(data_of(old[85]), height=None), None, led.labels) is None
    await up_to(led, old, 90)


async def test_without_flows_nothing_is_told_of_entities(led: Led, old: list[Item]) -> None:
    """And what is told of them afterwards is right."""
    await up_to(led, old, 81)
    expected = led.pass_over(True, old[82])
    assert expected
    assert await led.keeper.connect(data_of(old[82]), None, led.labels) == replace(expected, entities={})
    await up_to(led, old, 90)


async def test_labels_change_between_blocks(led: Led) -> None:
    """Each block is told under its own: to others, back again, to one that names nobody; through a reorg."""
    for n, step in enumerate(led.chain.steps):
        await led.take(*step, (kernel_labels(), other_labels())[n // 3 % 2])
        if step[0] and n % 4 == 0:
            assert await led.ask(step[1], kernel_labels())


def test_there_is_no_ledger(tmp_path: Path) -> None:
    """Asking makes none."""
    with pytest.raises(LedgerError, match="no ledger here"):
        BalanceKeeper(tmp_path / "none", lambda _: pytest.fail("nothing to read"))
    assert list(tmp_path.iterdir()) == []


async def test_it_tells_what_the_ledger_keeps(tmp_path: Path) -> None:
    """From what the ledger keeps scripts on, which may be more than what counts as large."""
    Ledger.create(tmp_path / "ledger", REGTEST, kept_from=2 * LARGE_HOLDING).close()
    led = Led(tmp_path / "ledger")
    led.counted.least = 2 * LARGE_HOLDING
    told = [await led.take(*step) for step in led.chain.steps]
    assert sum(len(one.changes) for one in told if one) > 10
    led.keeper.close()
