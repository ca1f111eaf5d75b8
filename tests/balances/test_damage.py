"""Whatever happens to its files: the ledger says so, or what it says is right for the block it says it stands at."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from balances.chains import REGTEST, SMALL, Followed, after, core_run
from balances.oracle import Recount
from utxoiq.balances.errors import LedgerDamaged, LedgerError
from utxoiq.balances.ledger import Ledger
from utxoiq.chain.hashes import Hash256

STEPS = 300
Tips = dict[tuple[int, Hash256] | None, Recount]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tips]:
    """A ledger whose process ended some steps after a checkpoint, and what is right at each of its last tips."""
    folder = tmp_path_factory.mktemp("made") / "ledger"
    ledger = Ledger.create(folder, REGTEST, kept_from=10**9, settings=SMALL)
    followed, tips = Followed(ledger, core_run()), Tips()
    for n, step in enumerate(core_run().steps[:STEPS]):
        followed.take(*step)
        if n >= STEPS - 40:
            tips[after(step)] = followed.now.copy()
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    ledger.close()
    return copy, tips


def is_right(folder: Path, tips: Tips) -> str:
    """Read everything: `refused`, `whole`, or `shorter` where steps that were not yet certain are gone."""
    with suppress(LedgerError), Ledger.open(folder, settings=SMALL) as ledger:
        recount = tips[ledger.tip]
        scripts = sorted(next(reversed(tips.values())).ever)
        assert ledger.balances(scripts) == [recount.balance(script) for script in scripts]
        rich = sorted(((-sat, script) for script, sat in recount.held.items() if sat >= 10**9))
        assert [(-holder.sat, holder.script) for holder in ledger.top(len(rich))] == rich
        assert ledger.check().sat == sum(recount.held.values())
        return "whole" if ledger.tip == next(reversed(tips)) else "shorter"
    return "refused"


def damage(path: Path, rng: random.Random) -> None:
    """One of the things that happen to files."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data))
    kind = rng.randrange(4)
    if kind == 0:
        data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
        end = min(at + rng.randrange(1, 5000), len(data))
        data[at:end] = rng.randbytes(end - at)
    elif kind == 2:
        data[at : at + 4096] = bytes(len(data[at : at + 4096]))
    else:
        del data[at:]
    path.write_bytes(data)


@pytest.mark.parametrize("kind", ["run", "journal", "manifest", "scripts"])
def test_damage_anywhere_is_noticed_or_harmless(kind: str, made: tuple[Path, Tips], tmp_path: Path) -> None:
    source, tips = made
    rng, outcomes = random.Random(kind), Counter[str]()
    for n in range(60):
        folder = tmp_path / str(n)
        shutil.copytree(source, folder)
        damage(rng.choice(sorted(folder.glob(f"{kind}*"))), rng)
        outcomes[is_right(folder, tips)] += 1
        shutil.rmtree(folder)
    assert outcomes["refused"] > 5
    if kind == "journal":
        assert outcomes["shorter"] > 5
    elif kind in {"manifest", "scripts"}:
        assert outcomes.keys() <= {"refused", "whole"}


def test_a_file_that_is_gone_is_missed(made: tuple[Path, Tips], tmp_path: Path) -> None:
    source, tips = made
    for path in sorted(source.iterdir()):
        folder = tmp_path / path.name
        shutil.copytree(source, folder)
        (folder / path.name).unlink()
        is_last = path == max(source.glob("journal*"))
        expected = {"whole"} if path.name == "lock" else {"shorter", "refused"} if is_last else {"refused", "whole"}
        assert is_right(folder, tips) in expected
        shutil.rmtree(folder)


def test_a_journal_cut_anywhere_after_the_checkpoint_only_loses_steps(made: tuple[Path, Tips], tmp_path: Path) -> None:
    """As after a power cut: what a checkpoint made sure of is there, and a step is there whole or not at all."""
    source, tips = made
    last = max(source.glob("journal*"))
    size, rng, heights = last.stat().st_size, random.Random(3), set()
    for cut in [1, 2, 100, *(rng.randrange(1, size) for _ in range(40))]:
        folder = tmp_path / "cut"
        shutil.copytree(source, folder)
        with (folder / last.name).open("r+b") as file:
            file.truncate(size - cut)
        outcome = is_right(folder, tips)
        assert outcome in {"shorter", "refused"}
        heights.add(outcome)
        shutil.rmtree(folder)
    assert "shorter" in heights


def test_a_page_is_verified_when_it_is_read(made: tuple[Path, Tips], tmp_path: Path) -> None:
    """Damage after the ledger was opened is noticed too."""
    source, tips = made
    folder = tmp_path / "ledger"
    shutil.copytree(source, folder)
    with Ledger.open(folder, settings=SMALL) as ledger:
        scripts = sorted(next(reversed(tips.values())).ever)
        assert ledger.balances(scripts)
        for path in folder.glob("run*"):
            size = path.stat().st_size
            with path.open("r+b") as file:
                file.seek(1024)
                file.write(b"\xff" * min(2048, size - 1024))
        with pytest.raises(
            LedgerDamaged, match=r"page \d+ is not what was written; delete the ledger and build it anew"
        ):
            ledger.balances(scripts)
