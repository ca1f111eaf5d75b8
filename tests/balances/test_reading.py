"""A ledger is read while it is brought forward: what is read is whole, and of one block."""

from __future__ import annotations

from pathlib import Path
from threading import Event, Thread

import pytest

from balances.chains import REGTEST, SIMULATED, SMALL, after, core_run
from balances.oracle import Recount
from utxoiq.balances.errors import LedgerError
from utxoiq.balances.ledger import Ledger
from utxoiq.chain.hashes import Hash256
from utxoiq.errors import NotLinked, WrongNetwork
from utxoiq.units import COIN


def richest() -> dict[tuple[int, Hash256] | None, list[tuple[bytes, int]]]:
    """Tip -> the ten scripts that hold most, of every block of the run's chain."""
    recount, found = Recount(), {}
    for connect, item in core_run().steps:
        if connect:
            recount.connect(item.raw, item.height)
            held = sorted(((-sat, script) for script, sat in recount.held.items() if sat >= COIN), reverse=False)
            found[item.height, item.hash] = [(script, -sat) for sat, script in held[:10]]
        else:
            break
    return found


def test_while_another_writes(tmp_path: Path) -> None:
    """Merges, checkpoints and dropped files all the time; each look is at some block of the chain."""
    expected, looks, done = richest(), [], Event()
    with Ledger.create(tmp_path, REGTEST, kept_from=COIN, settings=SMALL) as ledger:
        steps = [item for connect, item in core_run().steps[: len(expected)] if connect]
        ledger.connect(steps[0].block, steps[0].spent, 0)

        def write() -> None:
            for item in steps[1:]:
                ledger.connect(item.block, item.spent, item.height)
            done.set()

        writer = Thread(target=write)
        writer.start()
        while not done.is_set():
            with Ledger.read(tmp_path, settings=SMALL) as other:
                assert other.tip is not None
                if other.tip[0]:
                    looks.append(other.tip[0])
                    told = [(holder.script, holder.sat) for holder in other.top(10) if holder.script]
                    assert told == expected[other.tip]
                    assert other.balance(told[0][0]).sat == told[0][1]  # type: ignore[union-attr]
        writer.join()
    assert len(set(looks)) > 5
    with Ledger.read(tmp_path) as other:
        assert other.tip == after((True, steps[-1]))


def test_a_reader_changes_nothing(tmp_path: Path) -> None:
    first = core_run().steps[0][1]
    with Ledger.create(tmp_path, REGTEST, settings=SMALL) as ledger:
        ledger.connect(first.block, first.spent, 0)
        (tmp_path / "run.000000000099").write_bytes(b"half a run")
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        with Ledger.read(tmp_path, REGTEST) as other:
            second = core_run().steps[1][1]
            with pytest.raises(LedgerError, match="opened to be read only"):
                other.connect(second.block, second.spent, 1)
            with pytest.raises((LedgerError, NotLinked)):
                other.disconnect(first.hash)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
        ledger.connect(second.block, second.spent, 1)


def test_another_network_is_refused(tmp_path: Path) -> None:
    Ledger.create(tmp_path, REGTEST).close()
    with pytest.raises(WrongNetwork):
        Ledger.read(tmp_path, SIMULATED)
    with pytest.raises(LedgerError, match="no ledger here"):
        Ledger.read(tmp_path / "nothing")
