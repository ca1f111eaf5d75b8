"""What goes wrong is one line on standard error and an exit code: 1 failed, 2 wrong use, 3 input refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cli.command import Ran, utxoiq
from helpers.build import coinbase, height_push, mined
from helpers.process import python, said
from pipeline.simulated import world
from utxoiq.chain.hashes import Hash256, double_sha256
from utxoiq.units import COIN


def one_line(ran: Ran, code: int, *parts: str) -> None:
    """It ended with this code and said this in one line, to people, on standard error alone."""
    assert (ran.code, ran.out) == (code, ""), ran
    assert ran.err.startswith("utxoiq: ")
    assert ran.err.count("\n") == 1, ran.err
    assert "Traceback" not in ran.err
    for part in parts:
        assert part in ran.err


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    """A folder of what is not what it should be."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("hello")
    (tmp_path / "block.blk").write_bytes(b"\x01" * 5000)
    (tmp_path / "packed.blk.gz").write_bytes(b"\x1f\x8b" + b"\x00" * 50)
    (tmp_path / "labels.jsonl").write_text('{"id": 1}\n')
    (tmp_path / "blocks").mkdir()
    (tmp_path / "blocks" / "blk00000.dat").write_bytes(b"\x01" * 5000)
    return tmp_path


@pytest.mark.parametrize("command", ["facts", "scan"])
@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("nowhere", ["nowhere: no such folder", "give a Bitcoin Core blocks directory"]),
        ("file.txt", ["file.txt"]),
        ("empty", ["empty: no block files"]),
        ("block.blk", ["block.blk"]),
        ("packed.blk.gz", ["packed.blk.gz", "can't be read"]),
        ("blocks", ["blk00000.dat", "no network's magic"]),
    ],
)
def test_input_that_is_refused(bad: Path, command: str, path: str, parts: list[str]) -> None:
    """Exit code 3, with the file's name and what is wrong with it; no store is made of it."""
    store = ["--db", f"sqlite:///{bad / 'store.db'}"] if command == "scan" else []
    one_line(utxoiq(command, bad / path, *store), 3, *parts)


def test_labels_that_are_refused(bad: Path) -> None:
    for name in ("labels.jsonl", "nowhere.jsonl"):
        one_line(utxoiq("entities", "list", "--labels", bad / name), 3, name)


def test_a_block_cut_short_in_a_blocks_directory(tmp_path: Path) -> None:
    """A torn last write is passed over and said; a changed byte inside is refused."""
    blocks = tmp_path / "blocks"
    shutil.copytree(world(12).folder, blocks)
    data = (blocks / "blk00000.dat").read_bytes()
    (blocks / "blk00000.dat").write_bytes(data[:-100])
    ran = utxoiq("scan", blocks, "--db", f"sqlite:///{tmp_path / 'a.db'}", "--json")
    assert ran.code == 0
    assert ran.rows[0]["height"] == 900_010
    assert "hold no block, passed over" in ran.err
    (blocks / "blk00000.dat").write_bytes(data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
    one_line(utxoiq("scan", blocks, "--db", f"sqlite:///{tmp_path / 'b.db'}"), 3)


@pytest.mark.parametrize("command", ["facts", "scan"])
def test_a_block_that_claims_too_much_is_refused(tmp_path: Path, command: str) -> None:
    """Well-formed bytes whose coinbase pays more than subsidy and fees: input refused, by each command alike."""
    raw = mined([coinbase([(51 * COIN, b"\x51")], height_push(1) + b"test")])
    name = str(Hash256(double_sha256(raw[:80])))[-8:]
    (tmp_path / f"regtest_0000001_{name}.blk").write_bytes(raw)
    store = ["--db", f"sqlite:///{tmp_path / 'store.db'}"] if command == "scan" else []
    one_line(utxoiq(command, tmp_path, *store), 3, "claims 100000000 sat more than subsidy and fees")


@pytest.mark.parametrize("arguments", [["signals"], ["insights"], ["verify", "abc", "--source", "."]], ids=str)
def test_a_store_that_is_not_there(tmp_path: Path, arguments: list[str]) -> None:
    """Exit code 1, with the remedy; and it is not made by asking."""
    ran = utxoiq(*arguments, "--db", f"sqlite:///{tmp_path / 'none.db'}")
    one_line(ran, 1, "no store at", "none.db", "run `utxoiq scan` first")
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_none(bad: Path) -> None:
    """Another file in its place: exit code 1, and the file is left alone."""
    one_line(utxoiq("signals", "--db", f"sqlite:///{bad / 'file.txt'}"), 1, "file.txt", "not a database")
    assert (bad / "file.txt").read_text() == "hello"
    ran = utxoiq("scan", world(12).folder, "--db", f"sqlite:///{bad / 'nowhere' / 'x.db'}")
    one_line(ran, 1, "nowhere/x.db", "unable to open")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["signals", "--db", "store.db"], ["store 'store.db'", "give sqlite:///FILE"]),
        (["insights", "--db", "postgres://x"], ["give sqlite:///FILE"]),
        (["facts", ".", "--network", "mainnet"], ["unknown network 'mainnet'", "main, test3, test4, signet, regtest"]),
        (["scan", ".", "--network", ""], ["unknown network"]),
        (["entities", "list", "--kind", "bank"], ["unknown kind 'bank'", "exchange, mining_pool"]),
    ],
    ids=lambda value: " ".join(value[:4]),
)
def test_wrong_use(tmp_path: Path, arguments: list[str], parts: list[str]) -> None:
    """Exit code 2, with what is possible."""
    one_line(utxoiq(*arguments, folder=tmp_path), 2, *parts)


@pytest.mark.parametrize(
    "arguments",
    [[], ["unheard-of"], ["scan"], ["signals", "--limit", "0"], ["signals", "--limit", "x"], ["facts", "--x"],
     ["demo", "--count", "0"], ["entities"], ["verify", "abc"]],
    ids=" ".join,
)  # fmt: skip
def test_wrong_arguments(tmp_path: Path, arguments: list[str]) -> None:
    """Exit code 2 and how to use it; nothing is begun."""
    ran = utxoiq(*arguments, folder=tmp_path)
    assert ran.code == 2
    assert "Usage: " in ran.out + ran.err
    assert "Traceback" not in ran.err
    assert list(tmp_path.iterdir()) == []


def test_blocks_of_two_networks_must_be_chosen_from(tmp_path: Path, shared: Path) -> None:
    """The message gives the option; with it the command works."""
    for name in ("main_0000001_18eb6048.blk.gz", "test3_0021066_3ca4eefa.blk.gz"):
        shutil.copy(shared / "blocks" / name, tmp_path)
    db = f"sqlite:///{tmp_path / 'store.db'}"
    one_line(utxoiq("scan", tmp_path, "--db", db), 3, "blocks of main and test3", "choose one with --network")
    ran = utxoiq("scan", tmp_path, "--db", db, "--network", "test3", "--json")
    assert ran.code == 0, ran
    assert ran.rows[0]["connected"] == 1
    one_line(utxoiq("scan", tmp_path, "--db", db, "--network", "main"), 1, "holds test3", "give another --db")
    one_line(utxoiq("facts", tmp_path, "--network", "signet"), 3, "no block files", "of signet")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["entities", "list", "--json", "--limit", "1"], 0),
        (["signals", "--db", "sqlite:///none.db"], 1),
        (["signals", "--db", "none.db"], 2),
        (["facts", "nowhere"], 3),
    ],
    ids=str,
)
def test_exit_codes_of_a_process_of_its_own(tmp_path: Path, arguments: list[str], code: int) -> None:
    """Started as a user starts it."""
    code_ran = (
        f"import os; os.chdir({str(tmp_path)!r}); import runpy; runpy.run_module('utxoiq.cli', run_name='__main__')"
    )
    process = python("-c", code_ran, *arguments)
    assert process.returncode == code, said(process)
    assert "Traceback" not in process.stderr
    assert len((process.stdout if code == 0 else process.stderr).splitlines()) == 1


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    """`facts --json | head -1`: no traceback, nothing said, and it counts as done."""
    script = f"""
import subprocess, sys
command = [sys.executable, "-m", "utxoiq.cli", "facts", "--json", {str(world().folder)!r}]
process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
first = process.stdout.readline()
process.stdout.close()
error = process.stderr.read()
print(len(first) > 1000, process.wait(), repr(error))
"""
    assert python("-c", script).stdout == "True 0 ''\n"


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """A file that may not grow: exit code 1 and one line; with room again the scan goes on to the tip."""
    db = f"sqlite:///{tmp_path / 'store.db'}"
    script = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
sys.argv = ["utxoiq", "scan", {str(world().folder)!r}, "--db", {db!r}]
from utxoiq.cli import main
main()
"""
    limited = python("-c", script)
    assert limited.returncode == 1, limited
    assert "store.db" in limited.stderr.splitlines()[-1]
    assert "Traceback" not in limited.stderr
    ran = utxoiq("scan", world().folder, "--db", db, "--json")
    assert ran.code == 0, ran
    tip = world().source.tip()
    assert tip is not None
    assert ran.rows[0]["tip"] == tip.block_hash
    assert 0 < ran.rows[0]["connected"] < len(world().source)
