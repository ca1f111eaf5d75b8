"""Killed at random moments, in the middle of anything, it is right when it is opened again.

60 times by default; `UTXOIQ_KILLS=1000` for more.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from balances.chains import REGTEST, SMALL, Followed, Item, after, core_run
from balances.oracle import assert_equal
from utxoiq.balances.ledger import Ledger

KILLS = int(os.environ.get("UTXOIQ_KILLS", "60"))
Steps = list[tuple[bool, Item]]


def follow(folder: Path, steps: Steps) -> None:
    """What the process that is killed does."""
    ledger = Ledger.open(folder, settings=SMALL)
    for connect, step in steps:
        if connect:
            ledger.connect(step.block, step.spent, step.height)
        else:
            ledger.disconnect(step.hash)
    ledger.close()


def run_and_kill(folder: Path, steps: Steps, seconds: float) -> bool:
    """Whether it was still running after so many seconds."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            follow(folder, steps)
            code = 0
        finally:
            os._exit(code)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, -signal.SIGKILL}
    return code != 0


def test_no_balance_is_wrong_after_a_kill(tmp_path: Path) -> None:
    steps = core_run().steps
    rng = random.Random(2)
    kills = lives = 0
    while kills < KILLS:
        folder, at = tmp_path / f"life{lives}", 0
        lives += 1
        ledger = Ledger.create(folder, REGTEST, settings=SMALL)
        followed = Followed(ledger, core_run())
        ledger.close()
        while at < len(steps) and kills < KILLS:
            kills += run_and_kill(folder, steps[at : at + 300], rng.uniform(0, 0.12))
            with Ledger.open(folder, settings=SMALL) as ledger:
                at = catch_up(followed, steps, at, ledger)
                assert_equal(ledger, followed.now, followed.ever)


def catch_up(followed: Followed, steps: Steps, at: int, ledger: Ledger) -> int:
    """Bring the recount to where the ledger stands, which is never before where it stood: the step that comes next."""
    while ledger.tip != (after(steps[at - 1]) if at else None):
        followed.recount(*steps[at])
        at += 1
    return at
