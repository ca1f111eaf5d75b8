"""Whatever happens to the ledger: balances are unknown, that is told once, blocks go on, and once it is over balances
are right."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from balances.chains import SMALL, Item
from balances.test_ledger import branches_of
from pipeline.recounting import Led, data_of
from pipeline.simulated import Always, query
from pipeline.test_holdings import told, up_to
from utxoiq.balances.errors import LedgerDamaged, LedgerUnavailable
from utxoiq.balances.journal import Journal
from utxoiq.balances.ledger import Ledger
from utxoiq.errors import SourceError, StoreUnavailable
from utxoiq.models import BlockBalances, BlockData, BlockRecord, Signal
from utxoiq.observability import MonitoringModule
from utxoiq.persistence import SqliteStore
from utxoiq.pipeline import PipelineOrchestrator
from utxoiq.pipeline.holdings import BalanceKeeper
from utxoiq.processors import ProcessingContext

Orchestrate = Callable[..., PipelineOrchestrator]


async def test_another_process_has_the_ledger(led: Led, old: list[Item], caplog: pytest.LogCaptureFixture) -> None:
    """Until it is freed; meanwhile the reason is told once."""
    caplog.set_level(logging.INFO)
    await up_to(led, old, 60)
    led.keeper.close()
    with Ledger.open(led.folder, settings=SMALL):
        for item in old[61:66]:
            assert "another process has this ledger open" in await led.missed(item)
    assert [text.split(":")[0] for text in told(caplog)] == ["balances are unknown"]
    await up_to(led, old, 70)
    assert [text.split(":")[0] for text in told(caplog)] == ["balances are unknown", "balances are known again"]
    assert led.keeper.status.reason is None


async def test_a_block_it_never_took_up_is_taken_back(
    led: Led, old: list[Item], caplog: pytest.LogCaptureFixture
) -> None:
    """That makes nothing known: the reason stays until a block is taken up."""
    caplog.set_level(logging.INFO)
    await up_to(led, old, 60)
    led.keeper.close()
    with Ledger.open(led.folder, settings=SMALL):
        reason = await led.missed(old[61])
    await led.keeper.disconnect(old[61].hash)
    assert led.keeper.status.reason == reason
    assert [text.split(":")[0] for text in told(caplog)] == ["balances are unknown"]
    assert await led.ask(old[61])
    assert led.keeper.status.reason is None


async def test_the_keeper_has_it_alone(led: Led, old: list[Item]) -> None:
    """From the first block on, until it is closed."""
    await up_to(led, old, 3)
    with pytest.raises(LedgerUnavailable):
        Ledger.open(led.folder)
    led.keeper.close()
    led.keeper.close()
    Ledger.open(led.folder).close()


async def test_a_damaged_ledger(led: Led, old: list[Item], caplog: pytest.LogCaptureFixture) -> None:
    """Says so, once; built anew it is taken up."""
    await up_to(led, old, 60)
    led.keeper.close()
    manifest = led.folder / "manifest"
    data = manifest.read_bytes()
    manifest.write_bytes(data[:-9] + b"x" + data[-8:])
    for item in old[61:64]:
        assert "build it anew" in await led.missed(item)
    assert len(told(caplog)) == 1
    manifest.write_bytes(data)
    await up_to(led, old, 70)


@pytest.mark.parametrize("when", ["before it is written", "while it is written", "when it is written"])
async def test_the_disk_fails(led: Led, old: list[Item], when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a step; what entities hold is right afterwards, whether or not the step was taken."""
    await up_to(led, old, 60)
    honest = Journal.append

    def append(journal: Journal, *arguments: Any, **options: Any) -> None:
        if when == "when it is written":
            honest(journal, *arguments, **options)
        raise LedgerUnavailable("the disk is full")

    def cut(*arguments: Any) -> int:
        raise OSError(errno.ENOSPC, "no space")

    for n in range(61, 67, 2):
        with monkeypatch.context() as patch:
            if when == "while it is written":
                patch.setattr("os.pwritev", cut)
            else:
                patch.setattr(Journal, "append", append)
            await led.missed(old[n])
        await led.take(True, old[n + 1])
    await up_to(led, old, 80)


@pytest.mark.parametrize("when", ["connect", "changes", "sum_of", "holders", "disconnect"])
async def test_it_fails_anywhere(led: Led, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any question, now and then, through a reorg: what is told is right, always."""
    honest, calls, known = getattr(Ledger, when), 0, 0

    def fails(ledger: Ledger, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls % 5 == 0:
            raise LedgerDamaged("here", "is not what was written")
        return honest(ledger, *arguments)

    monkeypatch.setattr(Ledger, when, fails)
    for connect, item in led.chain.steps:
        expected = led.pass_over(connect, item)
        if connect:
            found = await led.ask(item)
            assert found in (expected, None)
            known += found is not None
        else:
            await led.keeper.disconnect(item.hash)
    assert calls > 3
    assert known > 60


async def test_its_source_turns_meanwhile(led: Led, old: list[Item], monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that can't be read while the ledger catches up is a reason like any other."""
    await up_to(led, old, 50)
    for item in old[51:60]:
        led.pass_over(True, item)
    kept = dict(led.best)
    del led.best[55]
    led.pass_over(True, old[60])
    assert await led.ask(old[60]) is None
    led.best.update(kept)
    await up_to(led, old, 65)


async def test_closing_never_fails(led: Led, old: list[Item], monkeypatch: pytest.MonkeyPatch,
                                   caplog: pytest.LogCaptureFixture) -> None:  # fmt: skip
    """A full disk at the end costs the next start some time and nothing else."""
    await up_to(led, old, 50)
    for error in (LedgerUnavailable("the disk is full"), OSError("gone")):
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "checkpoint", lambda _, error=error: (_ for _ in ()).throw(error))
            led.keeper.close()
        assert str(error) in caplog.text
        await up_to(led, old, led.counted.now.height + 5)


# In the pipeline


def balances_in(path: Path) -> list[BlockBalances | None]:
    """What is stored of the connected blocks, by height."""
    rows = query(
        path, "SELECT balances FROM block_state LEFT JOIN current_balances USING (block_hash) "
        "WHERE state = 'connected' ORDER BY height"
    )  # fmt: skip
    return [row["balances"] and BlockBalances.from_dict(json.loads(row["balances"])) for row in rows]


class Looks(Always):
    """Remembers what it was shown of balances."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[BlockBalances | None] = []

    async def process_block(self, block: BlockData, context: ProcessingContext) -> list[Signal]:
        self.shown.append(context.balances)
        return []


async def lead(orchestrator: PipelineOrchestrator, led: Led, steps: list[tuple[bool, Item]]) -> None:
    """As a monitor leads it."""
    for connect, item in steps:
        if connect:
            assert (await orchestrator.process_new_block(data_of(item), follows=True)).success
        else:
            assert (await orchestrator.disconnect_block(item.hash)).success


async def test_blocks_are_committed_with_balances(
    orchestrate: Orchestrate, store: SqliteStore, path: Path, led: Led
) -> None:
    """Each with what a recount tells, which processors see; stale ones keep theirs, and one that returns has one row,
    and is seen with that where there is no ledger."""
    looks = Looks()
    orchestrator = orchestrate(looks, labels=led.labels, balances=led.keeper)
    expected: dict[str, BlockBalances] = {}
    for connect, item in led.chain.steps:
        one = led.pass_over(connect, item)
        if one:
            expected[one.blockhash] = one
    for connect, item in led.chain.steps:
        await lead(orchestrator, led, [(connect, item)])
        assert led.keeper.status.block_hash == str(item.hash if connect else item.prev)
    assert {name: store.balances_of(name) for name in expected} == expected
    assert looks.shown == list(expected.values())
    back = [item for connect, item in led.chain.steps if not connect]
    new = branches_of(led.chain)[1]
    before = query(path, "SELECT * FROM balances")
    orchestrator.balances, looks.shown = None, []
    await lead(orchestrator, led, [(False, item) for item in reversed(new[-7:])] + [(True, i) for i in reversed(back)])
    assert query(path, "SELECT * FROM balances") == before
    assert looks.shown == [expected[str(item.hash)] for item in reversed(back)]
    assert [one and one.blockhash for one in balances_in(path)][-4:] == [str(item.hash) for item in reversed(back)]


@pytest.mark.parametrize(
    "error",
    [RuntimeError("boom"), KeyError("boom"), OSError(errno.EIO, "boom"), MemoryError(), TimeoutError(),
     SourceError("boom"), AssertionError("boom")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
async def test_whatever_is_raised_the_block_is_committed(
    orchestrate: Orchestrate, path: Path, led: Led, old: list[Item], error: Exception, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """Its balances are null, the error is counted, and closing the ledger after it may fail as well."""
    monitoring = MonitoringModule()
    keeper = BalanceKeeper(led.folder, led.best.__getitem__, monitoring, settings=SMALL)
    orchestrator = orchestrate(Always(), labels=led.labels, balances=keeper)
    for item in old:
        led.pass_over(True, item)
    await lead(orchestrator, led, [(True, item) for item in old[:40]])

    def fails(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "connect", fails)
        patch.setattr(Ledger, "disconnect", fails)
        patch.setattr(Ledger, "checkpoint", fails)
        await lead(orchestrator, led, [(True, item) for item in old[40:44]])
        await lead(orchestrator, led, [(False, old[43]), (True, old[43])])
    text = monitoring.metrics_text()[0].decode()
    assert f'error_type="{type(error).__name__}"' in text
    assert "utxoiq_balances_known 0.0" in text.replace('{service="utxoiq"}', "")
    await lead(orchestrator, led, [(True, item) for item in old[44:50]])
    known = [one is not None for one in balances_in(path)]
    assert known == [True] * 40 + [False] * 4 + [True] * 6
    assert len(told(caplog)) <= 2
    keeper.close()
    monitoring.shutdown()


async def test_a_commit_that_fails(
    orchestrate: Orchestrate, store: SqliteStore, led: Led, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger is a block ahead then; the same block, or one of another branch, is told rightly all the same."""
    orchestrator = orchestrate(Always(), labels=led.labels, balances=led.keeper)
    old, new = branches_of(led.chain)
    expected = {item.hash: one for c, item in led.chain.steps if (one := led.pass_over(c, item))}
    honest, refused = SqliteStore.connect, {old[20].hash, old[111].hash, old[112].hash}

    def connect(store: SqliteStore, record: BlockRecord) -> int:
        if record.block.block_hash in refused:
            refused.remove(record.block.block_hash)
            raise StoreUnavailable("full")
        return honest(store, record)

    monkeypatch.setattr(SqliteStore, "connect", connect)
    for item in [*old[:21], *old[20:112], *old[111:113], *new[112:]]:
        result = await orchestrator.process_new_block(data_of(item))
        assert result.success or item in old
    assert not refused
    for item in new:
        assert await asyncio.to_thread(store.balances_of, str(item.hash)) == expected[item.hash]
