"""What is wrong outside the ledger is a typed error of one line, after which nothing has changed."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from balances.chains import REGTEST, SMALL, Followed, Item, kernel_chain
from balances.oracle import assert_equal
from utxoiq.balances.errors import LedgerError, LedgerUnavailable
from utxoiq.balances.ledger import Ledger
from utxoiq.chain.network import NETWORKS
from utxoiq.errors import NotLinked, Transient, WrongNetwork


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    followed = Followed(Ledger.create(tmp_path / "ledger", REGTEST, settings=SMALL), kernel_chain())
    for step in kernel_chain().steps[:112]:
        followed.take(*step)
    return followed


def test_only_one_process_may_have_it_open(followed: Followed) -> None:
    folder = followed.ledger.folder
    with pytest.raises(LedgerUnavailable, match="another process has this ledger open; stop it first") as caught:
        Ledger.open(folder)
    assert isinstance(caught.value, Transient)
    followed.ledger.close()
    Ledger.open(folder).close()


def test_there_must_be_a_ledger_to_open_and_none_to_create(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no ledger here; create one, or import a snapshot"):
        Ledger.open(tmp_path)
    Ledger.create(tmp_path, REGTEST).close()
    with pytest.raises(LedgerError, match="already; open it, or delete it first"):
        Ledger.create(tmp_path, REGTEST)
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerUnavailable, match="Not a directory"):
        Ledger.create(tmp_path / "file" / "ledger", REGTEST)


def test_a_block_that_does_not_fit_changes_nothing(followed: Followed) -> None:
    ledger, recount = followed.ledger, followed.now
    connect, step = kernel_chain().steps[112]
    assert connect
    with pytest.raises(NotLinked, match="does not follow, the ledger stands at 111"):
        ledger.connect(step.block, step.spent, step.height + 1)
    with pytest.raises(NotLinked, match="connect what comes next"):
        ledger.connect(kernel_chain().steps[0][1].block, kernel_chain().steps[0][1].spent, 0)
    later = kernel_chain().steps[113][1]
    with pytest.raises(NotLinked, match="does not follow"):
        ledger.connect(later.block, later.spent, step.height)
    with pytest.raises(WrongNetwork, match="is of main, the ledger of regtest"):
        ledger.connect(replace(step.block, network=NETWORKS["main"]), step.spent, step.height)
    with pytest.raises(NotLinked, match="is not the ledger's tip"):
        ledger.disconnect(step.hash)
    greedy = replace(step.spent, outputs=replace(step.spent.outputs, value=step.spent.outputs.value * 10**6))
    with pytest.raises(LedgerError, match="more than it holds; check its source"):
        ledger.connect(step.block, greedy, step.height)
    assert_equal(ledger, recount, followed.ever)
    followed.take(*kernel_chain().steps[112])
    assert_equal(ledger, followed.now, followed.ever)


def test_undo_ends_where_its_setting_says(followed: Followed) -> None:
    ledger = followed.ledger
    ledger.checkpoint()
    assert SMALL.undo_blocks <= ledger.undoable < 112
    while ledger.undoable:
        assert ledger.tip
        ledger.disconnect(ledger.tip[1])
    assert ledger.tip
    with pytest.raises(LedgerError, match="too deep to be undone; build the ledger anew"):
        ledger.disconnect(ledger.tip[1])


def take(ledger: Ledger, connect: bool, step: Item) -> str | None:
    """One step; what the ledger said where it could not."""
    try:
        if connect:
            ledger.connect(step.block, step.spent, step.height)
        else:
            ledger.disconnect(step.hash)
    except LedgerUnavailable as error:
        return str(error)
    return None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("call", ["pwritev", "fsync", "open"])
def test_a_disk_that_fails_loses_nothing(
    call: str, number: int, followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step is refused, or is there; when the disk is well again it goes on."""
    ledger, folder = followed.ledger, followed.ledger.folder

    def fail(*_args: object, **_keywords: object) -> int:
        raise OSError(number, os.strerror(number))

    for connect, step in kernel_chain().steps[112:]:
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            refused = take(ledger, connect, step)
        if refused is None:
            followed.recount(connect, step)
        else:
            assert os.strerror(number) in refused
            assert_equal(ledger, followed.now, followed.ever)
            followed.take(connect, step)
        assert_equal(ledger, followed.now, followed.ever)
    ledger.close()
    with Ledger.open(folder, settings=SMALL) as again:
        assert_equal(again, followed.now, followed.ever)


def test_a_step_that_was_interrupted_is_taken_up_at_the_next_start(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, folder = followed.ledger, followed.ledger.folder

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    connect, step = kernel_chain().steps[112]
    with monkeypatch.context() as patch:
        patch.setattr(ledger._layers, "put", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ledger.connect(step.block, step.spent, step.height)
    for use in (lambda: ledger.balance(b"\x51"), lambda: ledger.top(1), ledger.totals, lambda: ledger.changes(10**12)):
        with pytest.raises(LedgerError, match="was interrupted; close the ledger and open it again"):
            use()
    ledger.close()
    followed.recount(connect, step)
    with Ledger.open(folder, settings=SMALL) as again:
        assert again.tip == (step.height, step.hash)
        assert_equal(again, followed.now, followed.ever)


def test_changes_are_only_known_from_where_scripts_are_kept(followed: Followed) -> None:
    with pytest.raises(LedgerError, match="kept from 10000000000 sat on, not from 5"):
        followed.ledger.changes(5)
