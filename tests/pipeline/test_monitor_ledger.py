"""A ledger beside a live monitor: it catches up, follows, turns with the node, and comes back after a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from balances.chains import REGTEST, SMALL
from balances.oracle import Recount, assert_equal
from helpers.node.double import NodeDouble
from pipeline.live import Watch, agrees, watching
from pipeline.test_holdings_fail import balances_in
from sources.node.chains import NO_LABELS, source_of
from sources.node.conftest import MATURE
from utxoiq.balances.ledger import Ledger
from utxoiq.persistence import SqliteStore
from utxoiq.pipeline.holdings import BalanceKeeper
from utxoiq.sources.node.source import NodeSource
from utxoiq.units import COIN

WINDOW = 10


@pytest.fixture
def source(double: NodeDouble) -> Iterator[NodeSource]:
    with closing(source_of(double)) as source:
        yield source


@pytest.fixture
def keeper(tmp_path: Path, source: NodeSource) -> Iterator[BalanceKeeper]:
    """Of a new ledger."""
    Ledger.create(tmp_path / "ledger", REGTEST, kept_from=COIN).close()
    keeper = BalanceKeeper(tmp_path / "ledger", source.block_at, settings=replace(SMALL, undo_blocks=500))
    yield keeper
    keeper.close()


async def at_tip(watch: Watch, node: NodeDouble, keeper: BalanceKeeper) -> None:
    await watch.at_tip_of(node)
    assert keeper.status == (node.rpc("getblockcount"), node.rpc("getbestblockhash"), None)


async def test_it_follows_the_node(
    double: NodeDouble, source: NodeSource, store: SqliteStore, path: Path, keeper: BalanceKeeper
) -> None:
    """From genesis to the first block of the store in one go, then block by block and through a reorg; what the end
    holds is a recount of the node's blocks."""
    orchestrated = {"balances": keeper, "labels": NO_LABELS}
    async with watching(source, store, window_blocks=WINDOW, orchestrated=orchestrated) as watch:
        await at_tip(watch, double, keeper)
        await asyncio.to_thread(double.mine, 3, spends=2)
        await at_tip(watch, double, keeper)
        fork = double.rpc("getblockhash", MATURE + 1)
        await asyncio.to_thread(double.side_branch, fork, 5, spends=1)
        await at_tip(watch, double, keeper)
        assert watch.metric("utxoiq_balances_known") == 0, "the keeper here has no metrics of its own"
    keeper.close()
    await asyncio.to_thread(double.mine, 2)
    async with watching(source, store, orchestrated=orchestrated) as watch:
        await at_tip(watch, double, keeper)
    keeper.close()
    agrees(path, double, MATURE - WINDOW)
    recount = Recount()
    for height in range(double.rpc("getblockcount") + 1):
        recount.connect(bytes.fromhex(double.rpc("getblock", double.rpc("getblockhash", height), 0)), height)
    found = balances_in(path)
    assert None not in found
    last = {change.script: change.after for one in found if one for change in one.changes}
    assert last == {script: recount.held[bytes.fromhex(script)] for script in last}
    assert len(last) > 2
    with Ledger.open(keeper.folder, settings=SMALL) as ledger:
        assert_equal(ledger, recount, recount.ever)
