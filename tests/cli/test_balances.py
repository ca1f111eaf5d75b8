"""The ledger of balances by its commands: against what a node said, through reorgs, and all that can go wrong."""

from __future__ import annotations

import csv
import gzip
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cli.command import Ran, utxoiq
from cli.test_errors import one_line
from helpers.economy import FOLDER, REGTEST, economy_labels, unpack_blocks
from helpers.node.double import NodeDouble
from helpers.node.interface import RPC_PASSWORD, RPC_USER
from helpers.recorded import unpacked
from pipeline.simulated import world
from utxoiq.balances.ledger import Ledger
from utxoiq.entities.words import word_of
from utxoiq.units import COIN

TIP = "4079fe3f43d2f84added16777c30b0ac32550a7fffedd165bf01ed6f864a2bc7"
AT = {"network": "regtest", "height": 1200, "block_hash": TIP}
PATIENCE = 60.0
"""Seconds."""
LOGIN = {"UTXOIQ_NODE__USER": RPC_USER, "UTXOIQ_NODE__PASSWORD": RPC_PASSWORD}


class Built(NamedTuple):
    """A ledger that was built from the node's blocks, with what else the node gave."""

    ledger: Path
    blocks: Path
    snapshot: Path
    labels: Path
    ran: Ran

    def ask(self, command: str, *arguments: str | Path) -> Ran:
        return utxoiq("balances", command, *arguments, "--ledger", self.ledger)


@pytest.fixture(scope="module")
def built(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Scripts are kept from 1 BTC on, so that all fifty of the node's list have a name."""
    folder = tmp_path_factory.mktemp("balances")
    blocks = unpack_blocks(folder / "core")
    (folder / "utxo.dat").write_bytes(unpacked(FOLDER / "utxo_snapshot.dat.gz"))
    entities = [
        {"id": one.id, "name": one.name.replace("_", " ").title(), "kind": one.kind,
         "labels": [{"source": "the run", "confidence": "high", "as_of": "2026-01-05", "addresses": one.addresses}]}
        for one in economy_labels().entities.values()
    ]  # fmt: skip
    (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, entities)))
    ran = utxoiq("balances", "build", blocks, "--ledger", folder / "ledger", "--keep-from", "1", "--json")
    return Built(folder / "ledger", blocks, folder / "utxo.dat", folder / "labels.jsonl", ran)


@pytest.fixture(scope="module")
def node_said(shared: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((FOLDER / "balances.json").read_text())
    return said


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A ledger without a block."""
    Ledger.create(tmp_path / "empty", REGTEST).close()
    return tmp_path / "empty"


def digits(sat: int) -> str:
    return f"{sat // COIN:,}.{sat % COIN:08d}"


def test_build_says_what_it_did(built: Built) -> None:
    """The straight way from genesis: stale branches are passed by. Again, there is nothing to do."""
    assert (built.ran.code, built.ran.err) == (0, "")
    assert built.ran.rows == [{"connected": 1201, "disconnected": 0, **AT}]
    again = built.ask("build", built.blocks)
    assert (again.code, again.err) == (0, "")
    assert again.out == f"0 blocks connected, 0 disconnected; block 1200 {TIP}, ledger {built.ledger}\n"


def test_the_top_is_the_nodes(built: Built, node_said: dict[str, Any]) -> None:
    rows = built.ask("top", "--count", "50", "--labels", built.labels, "--json").rows
    assert [(row["script"], row["address"] or "", row["sat"]) for row in rows] == [
        (one["script_hex"], one["address"], one["balance_sat"]) for one in node_said["top_scripts"]
    ]
    assert [row["rank"] for row in rows] == list(range(1, 51))
    labelled = set(economy_labels().entities)
    for row, one in zip(rows, node_said["top_scripts"], strict=True):
        assert row["entity"] == (one["entity"] if one["entity"] in labelled else None)
        assert (row["network"], row["height"], row["block_hash"]) == ("regtest", 1200, TIP)
    assert {"Harbor Exchange", None} < {row["name"] for row in rows}


def test_the_top_for_people(built: Built) -> None:
    """BTC with eight digits; a script without address as `of` takes it; twenty where no number is given."""
    ran = built.ask("top", "--count", "50", "--labels", built.labels)
    assert (ran.code, ran.err) == (0, "")
    for row in built.ask("top", "--count", "50", "--json").rows:
        assert f" {digits(row['sat'])}  {row['address'] or 'script:' + row['script'][:40]}" in ran.out
        assert row["entity"] is None, "regtest has no packaged labels"
    assert "Harbor Exchange" in ran.out
    assert ran.out.endswith(f"At the end of block 1200 {TIP} (regtest).\n")
    assert len(built.ask("top", "--json").rows) == 20


def test_of_equals_the_node(built: Built, node_said: dict[str, Any]) -> None:
    """By address, or by script; in the order asked."""
    asked = [one["address"] or f"script:{one['script_hex']}" for one in node_said["top_scripts"]]
    ran = built.ask("of", *asked, "--json")
    assert (ran.code, ran.err) == (0, "")
    assert [(row["script"], row["sat"]) for row in ran.rows] == [
        (one["script_hex"], one["balance_sat"]) for one in node_said["top_scripts"]
    ]
    assert all(0 < row["first_seen"] <= row["last_seen"] <= 1200 for row in ran.rows)
    table = built.ask("of", *asked)
    for row in ran.rows:
        assert f"{digits(row['sat'])}  {row['first_seen']} " in table.out


def test_of_what_holds_nothing(built: Built) -> None:
    """Zero is known here: the ledger began with genesis."""
    assert built.ask("of", "script:51", "--json").rows == [
        {"address": None, "script": "51", "sat": 0, "first_seen": None, "last_seen": None, **AT}
    ]
    assert re.search(r"^script:51 +0\.00000000 *$", built.ask("of", "script:51").out, re.MULTILINE)


@pytest.mark.parametrize("who", ["harbor_exchange", "northwind_treasury", "pool_alpha", "solo_delta"])
def test_an_entity_equals_the_node(who: str, built: Built, node_said: dict[str, Any]) -> None:
    """All its scripts carry a label in this file, so the sum is all it holds."""
    ran = built.ask("entity", who, "--labels", built.labels, "--json")
    assert (ran.code, ran.err) == (0, "")
    (row,) = ran.rows
    said = node_said["entities"][who]
    assert (row["entity"], row["sat"], row["holding"]) == (who, said["balance_sat"], said["scripts"])
    assert row["addresses"] == len(set(economy_labels().entities[who].addresses)) >= row["holding"]
    assert "not labelled are not in it" in row["note"]
    largest = [one for one in node_said["top_scripts"] if one["entity"] == who]
    if largest:
        assert (row["largest"]["script"], row["largest"]["sat"]) == (
            largest[0]["script_hex"], largest[0]["balance_sat"],
        )  # fmt: skip


def test_an_entity_by_name_for_people(built: Built, node_said: dict[str, Any]) -> None:
    ran = built.ask("entity", "harbor EXCHANGE", "--labels", built.labels)
    said = node_said["entities"]["harbor_exchange"]
    assert (ran.code, ran.err) == (0, "")
    assert re.search(rf"^Harbor Exchange +[\d,]+ +{said['scripts']} +{digits(said['balance_sat'])} ", ran.out, re.M)
    assert node_said["top_scripts"][0]["address"] in ran.out
    assert "not labelled are not in it" in ran.out


def test_an_entity_beside_its_known_holdings(built: Built, tmp_path: Path) -> None:
    """Which part of them the labelled addresses hold; null where nothing is known."""
    (richest,) = built.ask("top", "--count", "1", "--json").rows
    label = {"addresses": [richest["address"]], "source": "made", "confidence": "high", "as_of": "2026-01-05"}
    known = {"sat": 4 * richest["sat"], "as_of": "2026-01-02", "source": "a filing"}
    lines = [{"id": "x", "name": "Xavier", "kind": "etf", "known_holdings": known, "labels": [label]},
             {"id": "y", "name": "Yvonne", "kind": "etf", "labels": []}]  # fmt: skip
    labels = tmp_path / "labels.jsonl"
    labels.write_text("\n".join(map(json.dumps, lines)))
    (row,) = built.ask("entity", "x", "--labels", labels, "--json").rows
    assert (row["sat"], row["known_holdings"], row["coverage"]) == (richest["sat"], known["sat"], 0.25)
    assert "That is 25.0% of the" in built.ask("entity", "x", "--labels", labels).out
    (row,) = built.ask("entity", "y", "--labels", labels, "--json").rows
    assert (row["known_holdings"], row["coverage"]) == (None, None)


def test_an_entity_without_addresses_is_unknown_not_zero(built: Built, tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text('{"id": "x", "name": "Xavier", "kind": "etf", "labels": []}\n')
    ran = built.ask("entity", "x", "--labels", tmp_path / "labels.jsonl", "--json")
    (row,) = ran.rows
    assert (row["sat"], row["addresses"], row["holding"], row["largest"]) == (None, 0, 0, None)
    assert re.search(
        r"^Xavier +0 +0 +unknown", built.ask("entity", "x", "--labels", tmp_path / "labels.jsonl").out, re.M
    )


def test_check_adds_up_to_what_the_node_says(built: Built, node_said: dict[str, Any]) -> None:
    assert built.ask("check", "--json").rows == [{"scripts": node_said["scripts"], "sat": node_said["total_sat"], **AT}]
    ran = built.ask("check")
    assert f"In order: 11,771 scripts hold {digits(node_said['total_sat'])} BTC." in ran.out


@pytest.mark.parametrize("verified", [True, False])
def test_a_snapshot_has_the_same_balances(verified: bool, built: Built, tmp_path: Path) -> None:
    """By the hash the node told with it, or believed: then it says with what to compare. Since when coins are held is
    not told; blocks go on from there."""
    node = json.loads((FOLDER / "utxo_snapshot.json").read_text())
    given = ["--hash", node["txoutset_hash"]] if verified else []
    options = ["--height", "1200", "--keep-from", "1", *given]
    ran = utxoiq("balances", "import", built.snapshot, "--ledger", "a", *options, "--json", folder=tmp_path)
    assert (ran.code, ran.err) == (0, "")
    told = {"coins": 37_068, "scripts": 11_771, "sat": 1_489_160_156_250, "hash": node["txoutset_hash"]}
    assert ran.rows == [{**told, "hash_verified": verified, **AT}]
    text = utxoiq("balances", "import", built.snapshot, "--ledger", "b", *options, folder=tmp_path).out
    assert text.startswith(f"14,891.60156250 BTC in 37,068 coins of 11,771 scripts; block 1200 {TIP}, ledger b\n")
    assert text.endswith("as expected\n" if verified else "compare it with gettxoutsetinfo's hash_serialized_3 there\n")
    snapshot = built._replace(ledger=tmp_path / "a")
    assert snapshot.ask("top", "--count", "50", "--json").rows == built.ask("top", "--count", "50", "--json").rows
    (row,) = snapshot.ask("of", snapshot.ask("top", "--json").rows[0]["address"], "--json").rows
    assert (row["first_seen"], row["last_seen"]) == (None, None)
    assert "unknown" in snapshot.ask("of", row["address"]).out
    assert snapshot.ask("build", built.blocks, "--json").rows == [{"connected": 0, "disconnected": 0, **AT}]


def test_what_is_not_kept_has_no_name(built: Built, tmp_path: Path) -> None:
    """By default scripts are kept from 100 BTC on: the balances below are told, and why their owners are not."""
    utxoiq("balances", "import", built.snapshot, "--ledger", "a", "--height", "1200", folder=tmp_path)
    rich = built._replace(ledger=tmp_path / "a")
    rows = rich.ask("top", "--count", "50", "--json").rows
    assert [row["sat"] for row in rows] == [row["sat"] for row in built.ask("top", "--count", "50", "--json").rows]
    assert [row["script"] is not None for row in rows] == [row["sat"] >= 100 * COIN for row in rows]
    assert "those that hold less than the ledger keeps scripts from" in rich.ask("top", "--count", "50").out
    assert "less than the ledger keeps" not in rich.ask("top", "--count", "5").out


def end_of(block_hash: str) -> int:
    """Where in the recorded block file that block ends, in bytes."""
    with gzip.open(FOLDER / "records.csv.gz", "rt", newline="") as file:
        row = next(row for row in csv.DictReader(file) if row["hash"] == block_hash)
    return int(row["record_pos"]) + 8 + int(row["block_size"])


def test_a_reorg_is_taken_back(built: Built, tmp_path: Path) -> None:
    """Built while a branch of six was the best, then on: every balance is as if it had never been."""
    shutil.copytree(built.blocks, tmp_path / "core")
    stale = "3a13ab4a9e954f26c299b68f31da13e0286b6a8674a170424f12bb4f4f6dc530"
    file = tmp_path / "core" / "blocks" / "blk00000.dat"
    whole = file.read_bytes()
    file.write_bytes(whole[: end_of(stale)])
    turned = built._replace(ledger=tmp_path / "ledger")
    (early,) = turned.ask("build", tmp_path / "core", "--keep-from", "1", "--json").rows
    assert early == {"connected": 802, "disconnected": 0, "network": "regtest", "height": 801, "block_hash": stale}
    file.write_bytes(whole)
    ran = turned.ask("build", tmp_path / "core", "--json")
    assert ran.rows == [{"connected": 405, "disconnected": 6, **AT}]
    for arguments in (["top", "--count", "50"], ["check"]):
        assert turned.ask(*arguments, "--json").rows == built.ask(*arguments, "--json").rows
    scripts = [word_of(bytes.fromhex(row["script"]), REGTEST) for row in built.ask("top", "--json").rows]
    assert turned.ask("of", *scripts, "--json").rows == built.ask("of", *scripts, "--json").rows


HEARS_CTRL_C = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from utxoiq.cli import main
main()
"""
"""As from a terminal: where the tests run in the background, a shell has it ignored, and processes inherit that."""


def has_blocks(ledger: Path) -> bool:
    """Whether a build has connected more than genesis, which pays nobody."""
    return sum(path.stat().st_size for path in ledger.glob("journal.*")) > 1000


def test_a_build_that_is_interrupted_goes_on(built: Built, tmp_path: Path) -> None:
    """Ctrl-C ends it between two blocks, at once; then all is as if it had not been."""
    stopped = built._replace(ledger=tmp_path / "ledger")
    command = [sys.executable, "-c", HEARS_CTRL_C, "balances", "build", built.blocks, "--keep-from", "1"]
    with subprocess.Popen(
        [*command, "--ledger", stopped.ledger], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as build:
        deadline = time.monotonic() + PATIENCE
        while not has_blocks(stopped.ledger) and time.monotonic() < deadline:
            time.sleep(0.01)
        build.send_signal(signal.SIGINT)
        out, err = build.communicate(timeout=PATIENCE)
    assert (build.returncode, out) == (130, b"")
    assert b"Traceback" not in err
    (row,) = stopped.ask("build", built.blocks, "--json").rows
    assert 0 < row["connected"] < 1201
    assert stopped.ask("top", "--count", "50", "--json").rows == built.ask("top", "--count", "50", "--json").rows
    assert stopped.ask("check", "--json").rows == built.ask("check", "--json").rows


@pytest.fixture
def node(tmp_path: Path) -> Iterator[NodeDouble]:
    """A node of 110 blocks, some with spends."""
    double = NodeDouble(tmp_path / "node")
    double.start(password=RPC_PASSWORD)
    double.mine(104)
    double.mine(6, spends=3)
    yield double
    double.close()


def test_a_node_is_followed_through_a_reorg(node: NodeDouble, tmp_path: Path) -> None:
    """And a ledger that never saw the other branch has the same balances."""
    (early,) = utxoiq("balances", "build", node.url, "--ledger", "a", "--json", folder=tmp_path, **LOGIN).rows
    assert (early["connected"], early["disconnected"], early["height"]) == (111, 0, 110)
    node.side_branch(node.rpc("getblockhash", 106), 7, spends=2)
    tip = node.rpc("getbestblockhash")
    (turned,) = utxoiq("balances", "build", node.url, "--ledger", "a", "--json", folder=tmp_path, **LOGIN).rows
    assert turned == {"connected": 7, "disconnected": 4, "network": "regtest", "height": 113, "block_hash": tip}
    assert utxoiq("balances", "build", node.url, "--ledger", "b", folder=tmp_path, **LOGIN).code == 0
    asked = [("check",), ("top", "--count", "40")]
    first, second = (
        [utxoiq("balances", *words, "--ledger", ledger, "--json", folder=tmp_path).rows for words in asked]
        for ledger in "ab"
    )
    assert first == second
    assert first[0][0]["sat"] == 113 * 50 * COIN, "genesis made no coin"


def test_a_recorded_folder_is_followed_and_gone_on_with(node: NodeDouble, tmp_path: Path) -> None:
    """It gives all its blocks each time: those the ledger has are passed over."""
    folder = tmp_path / "blocks"
    folder.mkdir()

    def record(first: int, last: int) -> None:
        for height in range(first, last + 1):
            name = node.rpc("getblockhash", height)
            raw = bytes.fromhex(node.rpc("getblock", name, 0))
            (folder / f"regtest_{height:07d}_{name[-8:]}.blk").write_bytes(raw)

    def build() -> Ran:
        return utxoiq("balances", "build", folder, "--ledger", tmp_path / "ledger", "--json")

    record(0, 50)
    assert [(row["connected"], row["height"]) for row in build().rows] == [(51, 50)]
    record(51, 104)
    assert [(row["connected"], row["height"]) for row in build().rows] == [(54, 104)]
    node.side_branch(node.rpc("getblockhash", 100), 20)
    shutil.rmtree(folder)
    folder.mkdir()
    record(0, 110)
    one_line(build(), 1, "does not follow, the ledger stands at 104")


# What goes wrong


def test_build_from_what_is_no_whole_chain(built: Built, shared: Path, tmp_path: Path) -> None:
    """Exit code 3: it says what is missing and what to do; no ledger is left of what can't begin one."""
    ledger: list[str | Path] = ["--ledger", tmp_path / "ledger"]
    one_line(utxoiq("balances", "build", tmp_path / "nowhere", *ledger), 3, "nowhere: no such folder")
    late = utxoiq("balances", "build", world().folder, *ledger)
    one_line(late, 3, str(world().folder), "does not begin with genesis", "`utxoiq balances import`")
    one_line(utxoiq("balances", "build", built.blocks, *ledger, "--network", "main"), 3, "of regtest, not of main")
    one_line(utxoiq("balances", "build", shared / "blocks", *ledger), 3, "choose one with --network")
    assert list(tmp_path.iterdir()) == []
    gap = utxoiq("balances", "build", shared / "blocks", *ledger, "--network", "main")
    one_line(gap, 3, "at 170 does not follow 1, where the ledger stands", "start from a snapshot")


def test_blocks_of_unknown_height_are_no_chain(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "blocks").mkdir()
    raw = unpacked(shared / "blocks" / "main_0000001_18eb6048.blk.gz")
    (tmp_path / "blocks" / "main_unknown_18eb6048.blk").write_bytes(raw)
    ran = utxoiq("balances", "build", tmp_path / "blocks", "--ledger", tmp_path / "ledger")
    one_line(ran, 3, "does not begin with genesis", "start from a snapshot")


def test_build_without_spent_outputs(built: Built, tmp_path: Path) -> None:
    """It stops at the first block that spends, and goes on from there when they are given."""
    shutil.copytree(built.blocks, tmp_path / "core")
    undo = tmp_path / "core" / "blocks" / "rev00000.dat"
    undo.rename(tmp_path / "rev")
    ledger: list[str | Path] = ["--ledger", tmp_path / "ledger"]
    ran = utxoiq("balances", "build", tmp_path / "core", *ledger)
    one_line(ran, 3, str(tmp_path / "core"), "spends is not there", "undo data (rev*.dat)", "start from a snapshot")
    (tmp_path / "rev").rename(undo)
    (row,) = utxoiq("balances", "build", tmp_path / "core", *ledger, "--json").rows
    assert 0 < row["connected"] < 1201
    assert row["height"] == 1200


def test_build_into_another_ledger(built: Built, shared: Path, tmp_path: Path) -> None:
    """Of another network or chain, or no place for one: it is left as it was."""
    main = utxoiq("balances", "build", shared / "runs" / "main_0-599", "--ledger", built.ledger)
    one_line(main, 1, "is a ledger of regtest, not of main", "name another folder")
    other = utxoiq("balances", "build", shared / "runs" / "regtest_reorg", "--ledger", built.ledger)
    one_line(other, 3, TIP, "is not in this source")
    (tmp_path / "file").write_text("")
    one_line(utxoiq("balances", "build", built.blocks, "--ledger", tmp_path / "file"), 1, "file", "try again")
    assert built.ask("check", "--json").rows[0]["height"] == 1200


def test_build_from_a_node_that_is_down(tmp_path: Path) -> None:
    one_line(utxoiq("balances", "build", "http://127.0.0.1:9", "--ledger", tmp_path / "a", **LOGIN), 1, "127.0.0.1:9")
    assert list(tmp_path.iterdir()) == []


ASKING = [["top"], ["of", "script:51"], ["entity", "x"], ["check"]]


@pytest.mark.parametrize("command", ASKING, ids=str)
def test_a_ledger_that_is_not_there(command: list[str], tmp_path: Path) -> None:
    """Exit code 1, and asking makes none."""
    ran = utxoiq("balances", *command, "--ledger", tmp_path / "none")
    one_line(ran, 1, "none: no ledger here", "import a snapshot")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ASKING, ids=str)
def test_a_ledger_without_a_block_has_nothing_to_say(command: list[str], empty: Path) -> None:
    """Not that nobody holds anything."""
    one_line(utxoiq("balances", *command, "--ledger", empty), 1, "has no block yet", "`utxoiq balances build`")


def test_a_ledger_without_a_block_is_begun(empty: Path, shared: Path) -> None:
    late = utxoiq("balances", "build", world().folder, "--ledger", empty)
    one_line(late, 1, "is a ledger of regtest, not of simulated")
    ran = utxoiq("balances", "build", shared / "runs" / "regtest_reorg", "--ledger", empty, "--json")
    assert ran.rows[0]["connected"] == ran.rows[0]["height"] + 1


def test_a_ledger_that_another_process_has_open(empty: Path, built: Built) -> None:
    """It may be asked, and brought forward by one only."""
    with Ledger.open(empty):
        ran = utxoiq("balances", "build", built.blocks, "--ledger", empty)
    one_line(ran, 1, "another process has this ledger open", "stop it first")
    alone = built.ask("top", "--json").rows
    with Ledger.open(built.ledger):
        assert built.ask("top", "--json").rows == alone


def test_damage_is_told(built: Built, tmp_path: Path) -> None:
    """Exit code 1: which file, and that the ledger has to be built anew."""
    utxoiq("balances", "import", built.snapshot, "--ledger", "a", "--height", "1200", folder=tmp_path)
    (run,) = (tmp_path / "a").glob("run.*")
    data = bytearray(run.read_bytes())
    data[len(data) // 2] ^= 1
    run.write_bytes(data)
    ran = utxoiq("balances", "check", "--ledger", tmp_path / "a")
    one_line(ran, 1, run.name, "is not what was written", "build it anew")


@pytest.mark.parametrize(
    ("given", "code", "parts"),
    [
        (["--hash", "00" * 32], 3, ["its coins hash to 1f2854504760262d", "get it again"]),
        (["--hash", "12"], 2, ["--hash '12' is no hash", "64 hex digits"]),
        (["--hash", "zz" * 32], 2, ["is no hash"]),
        (["--network", "main"], 3, ["is a snapshot of another network than main"]),
        (["--network", "mainnet"], 2, ["unknown network 'mainnet'"]),
        (["--height", "5"], 3, ["utxo.dat", "height"]),
    ],
    ids=str,
)
def test_an_import_that_is_refused(given: list[str], code: int, parts: list[str], built: Built, tmp_path: Path) -> None:
    """And leaves nothing."""
    ran = utxoiq("balances", "import", built.snapshot, "--ledger", tmp_path / "a", "--height", "1200", *given)
    one_line(ran, code, *parts)
    assert list(tmp_path.iterdir()) == []


def test_an_import_of_what_is_no_snapshot(built: Built, tmp_path: Path) -> None:
    """Exit code 3; and a ledger that is there is not written over: exit code 1."""
    (tmp_path / "short").write_bytes(b"utxo")
    (tmp_path / "other").write_bytes(b"\x01" * 5000)
    (tmp_path / "cut").write_bytes(built.snapshot.read_bytes()[:-5])
    ledger: list[str | Path] = ["--ledger", tmp_path / "a", "--height", "1200"]
    one_line(utxoiq("balances", "import", tmp_path / "short", *ledger), 3, "short: is no UTXO snapshot")
    one_line(utxoiq("balances", "import", tmp_path / "other", *ledger), 3, "other: is no UTXO snapshot of version 2")
    one_line(utxoiq("balances", "import", tmp_path / "cut", *ledger), 3, "cut: ", "make the snapshot again")
    one_line(utxoiq("balances", "import", tmp_path / "none", *ledger), 3, "none: no such file", "dumptxoutset")
    assert not (tmp_path / "a").exists()
    again = utxoiq("balances", "import", built.snapshot, "--ledger", built.ledger, "--height", "1200")
    one_line(again, 1, "there is a ledger here already", "delete it first")


def test_words_that_are_no_address(built: Built) -> None:
    """Exit code 3, with the word: a typing error, another network's, hex without its mark."""
    one_line(built.ask("of", "bcrt1qnonsense"), 3, "bcrt1qnonsense")
    one_line(built.ask("of", "1BitcoinEaterAddressDontSendf59kuE"), 3, "1BitcoinEater", "not of network regtest")
    one_line(built.ask("of", "script:5"), 3, "pairs of small hex digits")


def test_an_entity_that_is_not_known(built: Built, tmp_path: Path) -> None:
    """Exit code 1, with where to look; labels that can't be read are refused."""
    one_line(built.ask("entity", "x", "--labels", built.labels), 1, "is called 'x'", "see `utxoiq entities list`")
    one_line(built.ask("entity", "x"), 1, "there are no labels of regtest", "--labels")
    for command in (["top"], ["entity", "x"]):
        one_line(built.ask(*command, "--labels", tmp_path / "none.jsonl"), 3, "none.jsonl")
    lines = [json.dumps({"id": f"x{n}", "name": "Twin", "kind": "etf", "labels": []}) for n in range(2)]
    (tmp_path / "labels.jsonl").write_text("\n".join(lines))
    one_line(built.ask("entity", "twin", "--labels", tmp_path / "labels.jsonl"), 1, "more than one, is called 'twin'")


@pytest.mark.parametrize(
    "arguments",
    [[], ["build"], ["build", "."], ["build", ".", "--ledger", "a", "--keep-from", "0"],
     ["import", "x", "--ledger", "a"], ["import", "x", "--ledger", "a", "--height", "-1"],
     ["import", "x", "--ledger", "a", "--height", "9999999999"],
     ["top"], ["top", "--ledger", "a", "--count", "0"],
     ["of", "--ledger", "a"], ["of", "script:51"], ["entity", "--ledger", "a"], ["check"]],
    ids=" ".join,
)  # fmt: skip
def test_wrong_arguments(arguments: list[str], tmp_path: Path) -> None:
    """Exit code 2 and how to use it; nothing is begun."""
    ran = utxoiq("balances", *arguments, folder=tmp_path)
    assert ran.code == 2
    assert "Usage: " in ran.out + ran.err
    assert "Traceback" not in ran.err
    assert list(tmp_path.iterdir()) == []
