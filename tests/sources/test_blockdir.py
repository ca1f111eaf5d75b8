"""Bitcoin Core's own block directories, and worse copies of them: always one consistent chain, or a clear error."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from helpers.build import OP_TRUE, coinbase, height_push, mined
from helpers.recorded import ABSENT, SHARED, recorded_run
from sources.files import (
    KEY,
    NO_KEY,
    REGTEST,
    blk_record,
    follow,
    plain_files,
    rev_file,
    rev_record,
    undo_records,
    write_blocks,
    write_pair,
)
from utxoiq.chain.block import Block, decode_block
from utxoiq.chain.hashes import Hash256, double_sha256
from utxoiq.chain.header import read_header
from utxoiq.chain.network import NETWORKS
from utxoiq.chain.serialize import coins_from_columns, undo_bytes
from utxoiq.errors import ConfigError, DecodeError, InputRefused, SourceError
from utxoiq.models import BlockData, Cursor
from utxoiq.simulation.economy import simulate
from utxoiq.simulation.files import write_blocks as write_simulated
from utxoiq.sources.blkfile import RecordFile
from utxoiq.sources.blockdir import BlockDirectory
from utxoiq.sources.open import open_source
from utxoiq.sources.recorded import RecordedFolder
from utxoiq.sources.tree import HeaderTree, Node
from utxoiq.units import COIN

RUNS = ("main_0-599", "regtest_kernel", "regtest_reorg", "regtest_core31")
every_run = pytest.mark.parametrize("name", RUNS)
MAIN_TIP = "0000000042844571bc6bce8e1c0fbec99466971eaff89fef8c0d123582181d4d"
SPENDING_MAIN_BLOCKS = [170, 181, 182, 183, 187, 221, 248, 496, 524, 545, 546, 586, 593]


@cache
def opened(name: str) -> BlockDirectory:
    """A recorded directory, opened once; skips the test where there is none."""
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(ABSENT)
    source = open_source(folder)
    assert isinstance(source, BlockDirectory)
    return source


@cache
def chain_json(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SHARED / name / "chain.json").read_text())
    return found


def records_csv() -> list[dict[str, str]]:
    with gzip.open(SHARED / "runs/regtest_core31/records.csv.gz", "rt", newline="") as file:
        return list(csv.DictReader(file))


def display(raw: bytes) -> str:
    return str(Hash256(double_sha256(raw[:80])))


def at_hash(source: BlockDirectory, block_hash: str) -> BlockData:
    (block,) = source.branch(Hash256.from_display(block_hash), 1)
    return block


def outpoints(block: Block) -> list[bytes]:
    """What each input of a block spends, the coinbase's left out."""
    return [block.raw[at : at + 36].tobytes() for at in block.input_offset.tolist()[1:]]


def most_work_chain(blocks: list[bytes]) -> list[bytes]:
    """The hashes from the root to the tip with the most work, the slow way: every block's work summed to its root."""
    headers = {header.block_hash: header for header in map(read_header, blocks)}
    work: dict[bytes, int] = {}
    for block_hash in headers:
        path, at = [], block_hash
        while at in headers and at not in work:
            path.append(at)
            at = headers[at].prev_hash
        for below in reversed(path):
            work[below] = work.get(headers[below].prev_hash, 0) + headers[below].work
    chain, best = [], max(work, key=work.__getitem__)
    while best in headers:
        chain.append(best)
        best = headers[best].prev_hash
    return chain[::-1]


# ---------------------------------------------------------------------------------------------- recorded directories


@every_run
async def test_steps_are_consistent_and_end_at_the_chain_with_the_most_work(name: str, shared: Path) -> None:
    """Each Connected extends the tip, each Disconnected takes it off, and what is left is the best chain."""
    source = opened(f"runs/{name}")
    store = await follow(source)
    run = recorded_run(name, source.network)
    assert store.chain == most_work_chain(list(run.blocks.values()))
    assert [block.block_hash for block in source.blocks()] == store.chain
    assert len(source) == len(store.chain)
    assert source.tip() == Cursor(store.hashes[-1], len(store.chain) - 1)
    assert source.skipped == []


@pytest.mark.parametrize("name", ["runs/regtest_core31", "node"])
async def test_the_final_chain_is_the_nodes(name: str, shared: Path) -> None:
    """The chain followed to its end is what the node itself gave as its best chain, at every height."""
    source = opened(name)
    store = await follow(source)
    assert store.hashes == chain_json(name)["hashes"]
    assert [block.height for block in source.blocks()] == list(range(len(store.chain)))
    assert source.tip() == Cursor(store.hashes[-1], len(store.chain) - 1)


async def test_stale_branches_are_connected_and_taken_back(shared: Path) -> None:
    """The three reorgs of 3, 6 and 1 blocks are seen, tip first; a block that was never connected never is."""
    store = await follow(opened("runs/regtest_core31"))
    stale = [tip for tip in chain_json("runs/regtest_core31")["stale_branches"] if tip["status"] == "valid-fork"]
    expected = [
        block_hash for tip in sorted(stale, key=lambda tip: tip["height"]) for block_hash in tip["branch"][::-1]
    ]
    assert len(expected) == 10
    assert [str(block_hash) for block_hash in store.disconnected] == expected
    never = {row["hash"] for row in records_csv() if row["status"] == "valid-headers"}
    connected = [str(block.block_hash) for block in store.connected]
    assert len(never) == 2
    assert never.isdisjoint(connected)
    assert sorted(connected) == sorted({row["hash"] for row in records_csv()} - never)


async def test_the_nodes_own_reorgs_are_seen(shared: Path) -> None:
    """In three small block files: the stale and the invalidated branch come and go, the block never active doesn't."""
    store = await follow(opened("node"))
    tips = {tip["status"]: tip["hash"] for tip in chain_json("node")["getchaintips"]}
    gone = {str(block_hash) for block_hash in store.disconnected}
    assert {tips["valid-fork"], tips["invalid"]} <= gone
    connected = {str(block.block_hash) for block in store.connected}
    assert tips["valid-headers"] not in connected
    assert tips["headers-only"] not in connected


async def test_a_reorg_of_five_blocks(shared: Path) -> None:
    """The recorded five-block reorg: heights 10 to 6 go, and another branch leads to height 16."""
    store = await follow(opened("runs/regtest_reorg"))
    heights = {block.block_hash: block.height for block in store.connected}
    assert [heights[block_hash] for block_hash in store.disconnected] == [10, 9, 8, 7, 6]
    assert [heights[block_hash] for block_hash in store.chain] == list(range(17))
    assert len(store.connected) == 22


def test_mainnets_first_600_blocks(shared: Path) -> None:
    """600 linked blocks: heights 0 to 599, spent outputs for every one, coins with heights and times."""
    source = opened("runs/main_0-599")
    blocks = list(source.blocks())
    assert source.network is NETWORKS["main"]
    assert source.tip() == Cursor(MAIN_TIP, 599)
    assert [block.height for block in blocks] == list(range(600))
    assert all(after.prev_hash == before.block_hash for before, after in pairwise(blocks))
    assert [block.height for block in blocks if block.block.n_tx > 1] == SPENDING_MAIN_BLOCKS
    times = [block.block.header.time for block in blocks]
    for block in blocks:
        assert block.spent is not None
        assert block.spent.height is not None
        assert block.spent.time is not None
        rows = len(block.block.input_offset)
        assert len(block.spent.outputs.value) == rows
        heights = block.spent.height[1:].tolist()
        assert block.spent.time[1:].tolist() == [times[height] for height in heights]
        assert all(0 < height <= block.height for height in heights if block.height is not None)
    first_payment = blocks[170]
    assert first_payment.spent is not None
    assert first_payment.spent.height is not None
    assert first_payment.spent.height[1:].tolist() == [9]
    assert first_payment.spent.outputs.value[1:].tolist() == [50 * COIN]


@every_run
def test_prior_times_are_those_of_the_ten_headers_before(name: str, shared: Path) -> None:
    """Up to ten header times, oldest first; fewer only where the chain is shorter, and none before genesis."""
    blocks = list(opened(f"runs/{name}").blocks())
    times = [block.block.header.time for block in blocks]
    assert [block.prior_times for block in blocks] == [tuple(times[max(0, n - 10) : n]) for n in range(len(times))]


@every_run
def test_a_block_is_found_by_its_height(name: str, shared: Path) -> None:
    """`block_at` gives the best chain's block; beyond the tip and below zero there is a SourceError."""
    source = opened(f"runs/{name}")
    tip = source.tip()
    assert tip is not None
    for block in islice(source.blocks(), 0, None, 97):
        assert block.height is not None
        assert source.block_at(block.height).block_hash == block.block_hash
    assert str(source.block_at(tip.height).block_hash) == tip.block_hash
    for height in (-1, tip.height + 1):
        with pytest.raises(SourceError, match="no block"):
            source.block_at(height)


def test_every_undo_record_went_to_its_block(shared: Path) -> None:
    """Written again, the spent outputs of every block, stale ones too, are the record that is known to be its own."""
    source = opened("runs/regtest_core31")
    rev, coins = rev_file("regtest_core31"), 0
    without_record = {}
    for row in records_csv():
        data = at_hash(source, row["hash"])
        assert data.spent is not None
        per_tx = coins_from_columns(data.block, data.spent)
        coins += sum(map(len, per_tx))
        if row["undo_size"]:
            begin = int(row["rev_record_pos"]) + 8
            assert undo_bytes(per_tx) == rev[begin : begin + int(row["undo_size"])], row["hash"]
        else:
            without_record[data.height] = data
    assert sorted(without_record) == [0, 340, 735]
    assert without_record[0].block.n_tx == without_record[735].block.n_tx == 1
    # the block at 340 that was never connected spends what its sibling spends, so one record is right for both
    rivals = without_record[340], source.block_at(340)
    assert rivals[0].block_hash != rivals[1].block_hash
    assert len({tuple(outpoints(rival.block)) for rival in rivals}) == 1
    assert coins > 50_000


def test_every_connected_block_of_the_node_has_its_spent_outputs(shared: Path) -> None:
    """Over three file pairs: the best chain has them all; of the rest only the block never connected lacks them."""
    source = opened("node")
    assert all(block.spent is not None for block in source.blocks())
    for tip in chain_json("node")["getchaintips"]:
        if tip["status"] != "headers-only":
            data = at_hash(source, tip["hash"])
            assert (data.spent is None) == (tip["status"] == "valid-headers" and data.block.n_tx > 1), tip


def test_coins_spent_on_a_stale_branch_have_the_times_of_that_branch(shared: Path) -> None:
    """A coin's time is that of the block at its height on the spender's own branch, not on the best chain."""
    source = opened("runs/regtest_core31")
    seen, on_the_branch = 0, 0
    for tip in chain_json("runs/regtest_core31")["stale_branches"]:
        branch = list(source.branch(Hash256.from_display(tip["branch"][-1]), 2000))
        assert branch[0].height == 0
        times = [block.block.header.time for block in branch]
        for data in branch[tip["fork_height"] + 1 :]:
            if data.spent is None:
                continue
            assert data.spent.height is not None
            assert data.spent.time is not None
            heights = data.spent.height[1:].tolist()
            assert data.spent.time[1:].tolist() == [times[height] for height in heights]
            seen += len(heights)
            on_the_branch += sum(height > tip["fork_height"] for height in heights)
    assert seen > 100
    assert on_the_branch > 0


def test_prior_times_on_a_stale_branch_are_of_that_branch(shared: Path) -> None:
    """The ten header times before a stale block are its own ancestors'."""
    source = opened("runs/regtest_reorg")
    run = recorded_run("regtest_reorg", REGTEST)
    best = {block.block_hash for block in source.blocks()}
    (stale,) = [raw for raw in run.blocks.values() if double_sha256(raw[:80]) not in best and height_of(raw) == 10]
    branch = list(source.branch(Hash256(double_sha256(stale[:80])), 11))
    assert branch[-1].prior_times == tuple(block.block.header.time for block in branch[:-1])


def height_of(raw: bytes) -> int | None:
    return decode_block(raw, REGTEST).coinbase.height


# ------------------------------------------------------------------------------------------------ following onwards


async def test_following_on_from_the_middle(shared: Path) -> None:
    """From a block of the best chain: only what comes after it, and nothing stale."""
    source = opened("runs/regtest_core31")
    store = await follow(source, [source.block_at(600)])
    assert [block.height for block in store.connected] == list(range(601, 1201))
    assert store.disconnected == []
    assert store.hashes[1:] == chain_json("runs/regtest_core31")["hashes"][601:]


async def test_following_on_from_the_tip_is_nothing(shared: Path) -> None:
    """A store that has reached the tip has nothing to do."""
    source = opened("runs/regtest_core31")
    store = await follow(source, [source.block_at(1200)])
    assert store.connected == []
    assert store.disconnected == []


@pytest.mark.parametrize("which", [0, 1, 2, 3, 4])
async def test_following_on_from_a_stale_tip(shared: Path, which: int) -> None:
    """A store that stopped on a stale branch is taken down to the fork, tip first, and then up the best chain."""
    source, chain = opened("runs/regtest_core31"), chain_json("runs/regtest_core31")
    stale = chain["stale_branches"][which]
    blocks = list(source.branch(Hash256.from_display(stale["branch"][-1]), stale["branchlen"] + 1))
    store = await follow(source, blocks)
    assert [str(block_hash) for block_hash in store.disconnected] == stale["branch"][::-1]
    assert [block.height for block in store.connected] == list(range(stale["fork_height"] + 1, 1201))
    assert store.hashes == chain["hashes"][stale["fork_height"] :]


async def test_a_cursor_of_another_chain_is_refused(shared: Path) -> None:
    """A store whose tip the source does not know gets a SourceError that names the block, and not a single step."""
    source = opened("runs/regtest_kernel")
    with pytest.raises(SourceError, match=MAIN_TIP):
        source.count_from(Cursor(MAIN_TIP, 599))
    with pytest.raises(SourceError, match=MAIN_TIP):
        await anext(source.follow(Cursor(MAIN_TIP, 599)))


def test_a_branch_is_linked_and_oldest_first(shared: Path) -> None:
    """`branch` gives as many blocks as asked, ending with the one named, and stops at genesis."""
    source = opened("runs/regtest_core31")
    tip = source.block_at(500)
    found = list(source.branch(tip.block_hash, 11))
    assert [block.height for block in found] == list(range(490, 501))
    assert all(after.prev_hash == before.block_hash for before, after in pairwise(found))
    assert [block.height for block in source.branch(source.block_at(2).block_hash, 11)] == [0, 1, 2]
    assert list(source.branch(tip.block_hash, 0)) == []


def test_the_branch_of_a_stale_block_goes_over_the_fork(shared: Path) -> None:
    """Ending with a stale tip: its own branch down to the fork, and then the common blocks."""
    source, chain = opened("runs/regtest_core31"), chain_json("runs/regtest_core31")
    (stale,) = [tip for tip in chain["stale_branches"] if tip["height"] == 801]
    found = [str(block.block_hash) for block in source.branch(Hash256.from_display(stale["branch"][-1]), 9)]
    assert found == chain["hashes"][793:796] + stale["branch"]


def test_a_branch_that_is_not_here_is_refused(shared: Path) -> None:
    """A hash the directory has no block for is a SourceError."""
    with pytest.raises(SourceError, match=MAIN_TIP):
        list(opened("runs/regtest_kernel").branch(Hash256.from_display(MAIN_TIP), 1))


# -------------------------------------------------------------------------------------- how the files may be written


@pytest.fixture(scope="module")
def kernel_chain(shared: Path) -> list[str]:
    return [str(block.block_hash) for block in opened("runs/regtest_kernel").blocks()]


def spent_of(source: BlockDirectory | RecordedFolder) -> list[bytes]:
    """Spent outputs of each block of the best chain, as undo data."""
    found = []
    for data in source.blocks():
        assert data.spent is not None
        found.append(undo_bytes(coins_from_columns(data.block, data.spent)))
    return found


@pytest.mark.parametrize(
    "key", [None, NO_KEY, KEY, bytes([0, 0, 0, 0, 0, 0, 0, 1])], ids=["none", "zero", "set", "last"]
)
def test_unpacked_files_under_any_key(tmp_path: Path, kernel_chain: list[str], key: bytes | None) -> None:
    """Unpacked `.dat` files are read as the packed ones are: without a key file, under a key of zeros, under others."""
    blk, rev = plain_files("regtest_kernel")
    source = BlockDirectory(write_pair(tmp_path, blk, rev, key))
    assert [str(block.block_hash) for block in source.blocks()] == kernel_chain
    assert spent_of(source) == spent_of(opened("runs/regtest_kernel"))
    assert source.skipped == []


def test_an_unpacked_file_is_taken_before_its_archive(tmp_path: Path, kernel_chain: list[str]) -> None:
    """Beside an unpacked block file its `.gz` is not read at all."""
    folder = write_pair(tmp_path, *plain_files("regtest_kernel"))
    (folder / "blk00000.dat.gz").write_bytes(b"no gzip")
    assert [str(block.block_hash) for block in BlockDirectory(folder).blocks()] == kernel_chain


def test_the_folder_around_blocks_is_opened(tmp_path: Path, kernel_chain: list[str]) -> None:
    """A data directory, a `blocks` directory, and the network by name all lead to the same source."""
    write_pair(tmp_path / "regtest" / "blocks", *plain_files("regtest_kernel"))
    for path, network in (("regtest", None), ("regtest/blocks", None), ("regtest", "regtest")):
        tip = open_source(tmp_path / path, network).tip()
        assert tip == Cursor(kernel_chain[-1], 206)
    with pytest.raises(SourceError, match="regtest, not of main"):
        open_source(tmp_path / "regtest", "main")
    with pytest.raises(ConfigError, match="unknown network 'mainnet'"):
        open_source(tmp_path / "regtest", "mainnet")


@pytest.mark.parametrize("key", [b"", KEY[:7], KEY + b"\0"], ids=["empty", "7 bytes", "9 bytes"])
def test_a_key_of_a_wrong_size_is_refused(tmp_path: Path, shared: Path, key: bytes) -> None:
    """`xor.dat` has 8 bytes or the directory is refused, with the file named."""
    folder = write_pair(tmp_path, *plain_files("regtest_kernel"))
    (folder / "xor.dat").write_bytes(key)
    with pytest.raises(SourceError, match=rf"xor\.dat: a key has 8 bytes, this has {len(key)}"):
        BlockDirectory(folder)


@pytest.mark.parametrize("key", [None, NO_KEY, KEY[::-1], bytes([KEY[0] ^ 1]) + KEY[1:]])
def test_a_wrong_key_is_refused(tmp_path: Path, shared: Path, key: bytes | None) -> None:
    """Under a wrong key, or without one, the file begins with no network's magic, and it is said where to look."""
    folder = write_pair(tmp_path, *plain_files("regtest_kernel"))
    (folder / "xor.dat").unlink()
    if key is not None:
        (folder / "xor.dat").write_bytes(key)
    with pytest.raises(SourceError, match=r"no network's magic.*xor\.dat"):
        BlockDirectory(folder)


def test_a_key_wrong_only_in_its_second_half_is_refused(tmp_path: Path, shared: Path) -> None:
    """The first magic is right but no record is: that is an error, not a directory of no blocks."""
    folder = write_pair(tmp_path, *plain_files("regtest_kernel"))
    (folder / "xor.dat").write_bytes(KEY[:4] + KEY[4:][::-1])
    with pytest.raises(InputRefused):
        BlockDirectory(folder)


@pytest.mark.parametrize("name", ["regtest_kernel", "regtest_reorg", "main_0-599"])
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_blocks_in_any_order_give_the_same_chain(tmp_path: Path, shared: Path, name: str, seed: int) -> None:
    """With its records shuffled, blocks and undo data apart, the directory gives the same chain and spent outputs."""
    network = NETWORKS["main" if name.startswith("main") else "regtest"]
    run, random = recorded_run(name, network), Random(seed)
    blocks = random.sample(list(run.blocks.values()), len(run.blocks))
    undo = undo_records(run, blocks)
    random.shuffle(undo)
    source = BlockDirectory(write_blocks(tmp_path, blocks, undo, network))
    store = await follow(source)
    assert store.chain == [block.block_hash for block in opened(f"runs/{name}").blocks()]
    assert spent_of(source) == spent_of(opened(f"runs/{name}"))


async def test_blocks_over_two_files_in_any_order(tmp_path: Path, kernel_chain: list[str]) -> None:
    """Every other block in the second file: one chain, and each file's undo data is in the file of its number."""
    blocks = list(recorded_run("regtest_kernel", REGTEST).blocks.values())
    for number, part in enumerate((blocks[1::2], blocks[::2])):
        write_blocks(tmp_path, part, undo_records(recorded_run("regtest_kernel", REGTEST), part), number=number)
    source = BlockDirectory(tmp_path)
    assert (await follow(source)).hashes == kernel_chain
    assert spent_of(source) == spent_of(opened("runs/regtest_kernel"))


def test_file_numbers_are_ordered_as_numbers(tmp_path: Path, kernel_chain: list[str]) -> None:
    """blk99999 comes before blk100000: the first block to arrive keeps the tip among equals."""
    blocks = list(recorded_run("regtest_kernel", REGTEST).blocks.values())
    first, second = (rival(blocks[-1], n) for n in (1, 2))
    write_blocks(
        tmp_path, [*blocks, first], undo_records(recorded_run("regtest_kernel", REGTEST), blocks), number=99_999
    )
    write_blocks(tmp_path, [second], number=100_000)
    tip = BlockDirectory(tmp_path).tip()
    assert tip == Cursor(display(first), 207)


def rival(parent: bytes, n: int) -> bytes:
    """A block on `parent` at height 207 that differs from its siblings by `n`."""
    return mined([coinbase([(n, OP_TRUE)], height_push(207) + b"\x04test")], double_sha256(parent[:80]))


# --------------------------------------------------------------------------------------------------- damage and gaps


@pytest.mark.parametrize("zeros", [1, 7, 8, 4096, 3 << 20])
@pytest.mark.parametrize("key", [NO_KEY, KEY], ids=["zero", "set"])
def test_space_kept_in_advance_is_nothing(tmp_path: Path, kernel_chain: list[str], zeros: int, key: bytes) -> None:
    """Zeros after the last record, which Core keeps in advance and does not mask, are neither blocks nor damage."""
    folder = write_pair(tmp_path, *plain_files("regtest_kernel"), key)
    for path in folder.glob("[br]*.dat"):
        path.write_bytes(path.read_bytes() + bytes(zeros))
    source = BlockDirectory(folder)
    assert source.tip() == Cursor(kernel_chain[-1], 206)
    assert spent_of(source) == spent_of(opened("runs/regtest_kernel"))
    assert source.skipped == []


@pytest.mark.parametrize("keep", [1, 4, 7, 8, 9, 80, 88, 150, -9, -8, -1])
def test_a_torn_last_record_is_left_out(tmp_path: Path, kernel_chain: list[str], keep: int) -> None:
    """A last write that was cut off is no block: the chain ends before it, and the place is noted."""
    blk, rev = plain_files("regtest_kernel")
    last = blk.rindex(REGTEST.magic)
    kept = len(blk[last:][:keep])
    source = BlockDirectory(write_pair(tmp_path, blk[: last + kept], rev))
    assert source.tip() == Cursor(kernel_chain[-2], 205)
    noted = [] if kept < 8 else [("blk00000.dat", last, kept)]
    assert source.skipped == noted


@pytest.mark.parametrize("keep", [8, 40])
def test_a_record_not_yet_written_into_kept_space_is_left_out(
    tmp_path: Path, kernel_chain: list[str], keep: int
) -> None:
    """Magic and size are there, the block not yet: what a reader sees beside a running node, or after a crash."""
    blk, rev = plain_files("regtest_kernel")
    last = blk.rindex(REGTEST.magic)
    folder = write_pair(tmp_path, blk[: last + keep], rev)
    (folder / "blk00000.dat").write_bytes((folder / "blk00000.dat").read_bytes() + bytes(1 << 16))
    source = BlockDirectory(folder)
    assert source.tip() == Cursor(kernel_chain[-2], 205)
    assert [(name, position) for name, position, _ in source.skipped] == [("blk00000.dat", last)]


@pytest.mark.parametrize("size", [1, 8, 9, 5000, *range((1 << 20) - 2, (1 << 20) + 1)])
@pytest.mark.parametrize("before", [1, 100])
def test_garbage_between_records_is_skipped_and_noted(
    tmp_path: Path, kernel_chain: list[str], before: int, size: int
) -> None:
    """Bytes between two records that are no record cost nothing but themselves; position and size are told."""
    run = recorded_run("regtest_kernel", REGTEST)
    blocks = list(run.blocks.values())
    garbage = b"\xa5" * size
    head = b"".join(map(blk_record, blocks[:before]))
    blk = head + garbage + b"".join(map(blk_record, blocks[before:]))
    rev = b"".join(rev_record(*record) for record in undo_records(run, blocks))
    source = BlockDirectory(write_pair(tmp_path, blk, rev))
    assert [str(block.block_hash) for block in source.blocks()] == kernel_chain
    assert source.skipped == [("blk00000.dat", len(head), size)]


def test_garbage_in_undo_data_costs_only_what_it_hit(tmp_path: Path, kernel_chain: list[str]) -> None:
    """Garbage between undo records is passed over; a record whose size is wrong is lost, the next ones are found."""
    run = recorded_run("regtest_kernel", REGTEST)
    blocks = list(run.blocks.values())
    records = [rev_record(*record) for record in undo_records(run, blocks)]
    whole = BlockDirectory(write_pair(tmp_path / "garbage", plain_files("regtest_kernel")[0], b"\xa5".join(records)))
    assert spent_of(whole) == spent_of(opened("runs/regtest_kernel"))
    hit = max(range(len(records)), key=lambda n: len(records[n]))
    records[hit] = records[hit][:4] + b"\xff\xff\xff\x7f" + records[hit][8:]
    damaged = BlockDirectory(write_pair(tmp_path / "size", plain_files("regtest_kernel")[0], b"".join(records)))
    assert [data.height for data in damaged.blocks() if data.spent is None] == [hit + 1]


def test_a_record_too_small_for_a_header_is_noted(tmp_path: Path, kernel_chain: list[str]) -> None:
    """A framed record of less than 80 bytes is no block."""
    blk, rev = plain_files("regtest_kernel")
    source = BlockDirectory(write_pair(tmp_path, blk + blk_record(b"\xa5" * 79), rev))
    assert source.tip() == Cursor(kernel_chain[-1], 206)
    assert source.skipped == [("blk00000.dat", len(blk), 87)]


@pytest.mark.parametrize("zeros", [100, 3 << 20])
def test_garbage_behind_kept_space_is_noted(tmp_path: Path, kernel_chain: list[str], zeros: int) -> None:
    """However many zeros come first, bytes that are not zero and no record are told of."""
    blk, rev = plain_files("regtest_kernel")
    folder = write_pair(tmp_path, blk, rev, NO_KEY)
    (folder / "blk00000.dat").write_bytes(blk + bytes(zeros) + b"\xa5" * 50)
    source = BlockDirectory(folder)
    assert source.tip() == Cursor(kernel_chain[-1], 206)
    assert [name for name, _, _ in source.skipped] == ["blk00000.dat"]


@pytest.mark.parametrize("cut", [0, 1, 32, 33, 40])
def test_records_of_a_rev_file(tmp_path: Path, shared: Path, cut: int) -> None:
    """Payloads follow each other with a checksum behind each and no gap; one whose checksum is cut off is torn."""
    undo = list(recorded_run("regtest_kernel", REGTEST).undo.values())
    _, rev = plain_files("regtest_kernel")
    folder = write_pair(tmp_path, b"", rev[: len(rev) - cut])
    file = RecordFile(folder / "rev00000.dat", KEY, REGTEST.magic, 32)
    payloads = [file.read(*record) for record in file.records()]
    assert payloads == (undo[:-1] if cut else undo)
    assert len(file.skipped) == (1 if cut else 0)
    file.close()


def test_a_damaged_block_is_refused_when_it_is_read(tmp_path: Path, kernel_chain: list[str]) -> None:
    """One flipped byte in a transaction: the chain is known from the headers, reading that block is a DecodeError."""
    blk, rev = plain_files("regtest_kernel")
    block = recorded_run("regtest_kernel", REGTEST).blocks[Hash256.from_display(kernel_chain[150])]
    at = blk.index(block) + len(block) - 20
    source = BlockDirectory(write_pair(tmp_path, blk[:at] + bytes([blk[at] ^ 1]) + blk[at + 1 :], rev))
    assert source.tip() == Cursor(kernel_chain[-1], 206)
    with pytest.raises(DecodeError):
        source.block_at(150)
    assert str(source.block_at(151).block_hash) == kernel_chain[151]


@pytest.mark.parametrize("height", [206, 30])
def test_a_stored_header_without_work_is_refused(tmp_path: Path, kernel_chain: list[str], height: int) -> None:
    """A header that does not meet its own target is damage that would leave a gap in the chain."""
    blk, rev = plain_files("regtest_kernel")
    at = blk.index(recorded_run("regtest_kernel", REGTEST).blocks[Hash256.from_display(kernel_chain[height])])
    for nonce in range(1 << 16):
        head = blk[at : at + 76] + nonce.to_bytes(4, "little")
        if double_sha256(head)[-1] >= 0x80:
            break
    with pytest.raises(DecodeError, match="no proof of work"):
        BlockDirectory(write_pair(tmp_path, blk[:at] + head + blk[at + 80 :], rev))


def test_a_height_that_is_not_the_chains_is_refused(tmp_path: Path, kernel_chain: list[str]) -> None:
    """A coinbase that names another height than its place in the chain."""
    blocks = list(recorded_run("regtest_kernel", REGTEST).blocks.values())
    wrong = mined([coinbase(script=height_push(500) + b"\x04test")], double_sha256(blocks[-1][:80]))
    source = BlockDirectory(write_blocks(tmp_path, [*blocks, wrong]))
    with pytest.raises(DecodeError, match="height 500, but its chain gives 207"):
        source.block_at(207)


def test_without_undo_files_spent_outputs_are_unknown(tmp_path: Path, kernel_chain: list[str]) -> None:
    """No rev file: None for every block that spends anything; a block that spends nothing is known to."""
    source = BlockDirectory(write_pair(tmp_path, plain_files("regtest_kernel")[0], None))
    blocks = list(source.blocks())
    assert [data.spent is None for data in blocks] == [data.block.n_tx > 1 for data in blocks]
    assert any(data.spent is None for data in blocks)


def test_a_folder_without_block_files_is_refused(tmp_path: Path) -> None:
    """An empty folder, a missing one, and one with only undo data."""
    with pytest.raises(SourceError, match=r"no blk\*\.dat here"):
        BlockDirectory(tmp_path)
    with pytest.raises(SourceError, match="no block files"):
        open_source(tmp_path)
    with pytest.raises(SourceError, match="no such folder"):
        open_source(tmp_path / "nowhere")
    (tmp_path / "rev00000.dat").write_bytes(b"")
    (tmp_path / "blk0.dat").write_bytes(b"")
    with pytest.raises(SourceError, match=r"no blk\*\.dat here"):
        BlockDirectory(tmp_path)


def test_empty_block_files_are_refused(tmp_path: Path) -> None:
    """A block file of no bytes holds no network, and that is said."""
    (tmp_path / "blk00000.dat").write_bytes(b"")
    with pytest.raises(SourceError, match="its block files are empty"):
        BlockDirectory(tmp_path)


@pytest.mark.parametrize("keep", [1, 5, 1000, -20])
def test_a_cut_off_archive_is_refused(tmp_path: Path, shared: Path, keep: int) -> None:
    """A `.gz` of which the end is missing is a SourceError with its path, for blocks at once, for undo data on use."""
    for kind in ("blk", "rev"):
        folder = tmp_path / kind
        shutil.copytree(SHARED / "runs/regtest_kernel", folder, copy_function=shutil.copyfile)
        packed = (folder / f"{kind}00000.dat.gz").read_bytes()
        (folder / f"{kind}00000.dat.gz").write_bytes(packed[:keep])
        with pytest.raises(SourceError, match=rf"{kind}00000\.dat\.gz"):
            list(BlockDirectory(folder).blocks())


def test_bytes_that_are_no_archive_are_refused(tmp_path: Path, shared: Path) -> None:
    """A `.gz` that is none, and one whose packed bytes are damaged."""
    packed = (SHARED / "runs/regtest_kernel/blk00000.dat.gz").read_bytes()
    for damaged in (b"no gzip", packed[:2000] + bytes(100) + packed[2100:]):
        (tmp_path / "blk00000.dat.gz").write_bytes(damaged)
        with pytest.raises(SourceError, match="can't be read"):
            BlockDirectory(tmp_path)


# --------------------------------------------------------------------------------------------------- pruned stores


async def test_a_simulated_chain_that_was_pruned(tmp_path: Path) -> None:
    """Without its first blocks a chain begins at the height its coinbase names; what lies below is unknown."""
    chain = list(simulate(3, 40))
    write_simulated(tmp_path / "whole", chain)
    write_simulated(tmp_path / "pruned", chain[15:])
    whole, pruned = BlockDirectory(tmp_path / "whole"), BlockDirectory(tmp_path / "pruned")
    assert pruned.network is NETWORKS["simulated"]
    assert (await follow(pruned)).chain == [block.block_hash for block in whole.blocks()][15:]
    assert pruned.tip() == whole.tip()
    root = chain[15].height
    blocks = list(pruned.blocks())
    assert [block.height for block in blocks] == list(range(root, chain[-1].height + 1))
    assert [block.prior_times is None for block in blocks] == [True] * 10 + [False] * 15
    seen = set()
    for data in blocks:
        assert data.spent is not None
        assert data.spent.height is not None
        assert data.spent.time is not None
        known = data.spent.height[1:] >= root
        assert np.array_equal(data.spent.time[1:] >= 0, known)
        seen.update(known.tolist())
    assert seen == {True, False}
    with pytest.raises(SourceError, match="no block"):
        pruned.block_at(root - 1)


@pytest.mark.parametrize("dropped", [1, 7, 100, 206])
async def test_a_regtest_chain_that_was_pruned(tmp_path: Path, kernel_chain: list[str], dropped: int) -> None:
    """The same of a chain a real node made: root height by BIP 34, undo data still found."""
    run = recorded_run("regtest_kernel", REGTEST)
    blocks = list(run.blocks.values())[dropped:]
    source = BlockDirectory(write_blocks(tmp_path, blocks, undo_records(run, blocks)))
    store = await follow(source)
    assert store.hashes == kernel_chain[dropped:]
    assert [block.height for block in store.connected] == list(range(dropped, 207))
    assert spent_of(source) == spent_of(opened("runs/regtest_kernel"))[dropped:]


async def test_whole_files_that_were_pruned(tmp_path: Path, shared: Path) -> None:
    """A directory whose first file pair is gone: the chain of the rest, with the reorgs in it."""
    for path in (SHARED / "node/blocks").iterdir():
        if "00000" not in path.name:
            shutil.copyfile(path, tmp_path / path.name)
    source = BlockDirectory(tmp_path)
    store = await follow(source)
    hashes = chain_json("node")["hashes"]
    assert 0 < len(store.chain) < len(hashes)
    assert store.hashes == hashes[-len(store.chain) :]
    assert source.tip() == Cursor(hashes[-1], len(hashes) - 1)


def test_a_root_that_does_not_say_its_height_is_refused(tmp_path: Path, shared: Path) -> None:
    """Blocks older than BIP 34 without genesis below them can't be placed, and that is said."""
    network = NETWORKS["main"]
    run = recorded_run("main_0-599", network)
    blocks = list(run.blocks.values())[100:]
    with pytest.raises(SourceError, match="does not say its own height"):
        BlockDirectory(write_blocks(tmp_path, blocks, undo_records(run, blocks), network))


# ------------------------------------------------------------------------------------------------- the tree of headers


def tree_of(*rows: tuple[str, str, int], roots: dict[str, int]) -> HeaderTree:
    """A tree of (name, parent, work), in order of arrival; `roots` are the heights of those without a parent."""
    nodes = [Node(name_hash(name), name_hash(parent), work, 0, n) for n, (name, parent, work) in enumerate(rows)]
    heights = {name_hash(name): height for name, height in roots.items()}
    return HeaderTree(nodes, lambda node: heights[node.block_hash])


def name_hash(name: str) -> Hash256:
    return Hash256(name.encode().ljust(32, b"\0"))


def steps_of(tree: HeaderTree, start: str | None = None) -> str:
    steps = tree.steps(None if start is None else name_hash(start))
    return " ".join(("+" if up else "-") + node.block_hash.rstrip(b"\0").decode() for up, node in steps)


def test_of_equal_work_the_first_stays() -> None:
    """Core's rule: a branch of the same work doesn't replace the one that was there before."""
    tree = tree_of(("g", "", 1), ("a", "g", 1), ("b", "g", 1), roots={"g": 0})
    assert steps_of(tree) == "+g +a"
    assert steps_of(tree, "b") == "-b +a"


def test_work_decides_and_not_length() -> None:
    """One block of more work takes the place of two of less."""
    tree = tree_of(("g", "", 1), ("a", "g", 2), ("aa", "a", 2), ("b", "g", 5), roots={"g": 0})
    assert steps_of(tree) == "+g +a +aa -aa -a +b"
    assert steps_of(tree, "aa") == "-aa -a +b"


def test_a_block_counts_from_when_its_ancestors_are_there() -> None:
    """Blocks stored before their parent wait for it: a branch whose parent came late was never the best before."""
    tree = tree_of(("g", "", 1), ("bb", "b", 1), ("bbb", "bb", 1), ("a", "g", 1), ("b", "g", 1), roots={"g": 0})
    assert steps_of(tree) == "+g +a -a +b +bb +bbb"


def test_a_block_stored_twice_is_one_block() -> None:
    """The first copy counts."""
    tree = tree_of(("g", "", 1), ("a", "g", 1), ("a", "g", 1), ("g", "", 1), roots={"g": 0})
    assert [node.place for node in tree] == [0, 1]
    assert steps_of(tree) == "+g +a"


@pytest.mark.parametrize("low", [1, 2, 3, 5])
def test_from_one_root_to_another(low: int) -> None:
    """Two chains without a common block, as pruning leaves them: all of the one down, then all of the other up."""
    rows = [("a5", "?a", 1), ("a6", "a5", 1)]
    names = [f"b{height}" for height in range(low, 8)]
    rows += [(name, parent, 1) for parent, name in pairwise(names)][::-1]  # a late root: all connect at once
    rows += [(names[0], "?b", 1)]
    tree = tree_of(*rows, roots={"a5": 5, names[0]: low})
    assert steps_of(tree) == "+a5 +a6 -a6 -a5 " + " ".join(f"+{name}" for name in names)
    assert steps_of(tree, "a6") == "-a6 -a5 " + " ".join(f"+{name}" for name in names)


def test_from_a_root_to_one_above_it() -> None:
    """The same where the chain that is left reaches further down than the new one."""
    tree = tree_of(("a1", "?a", 1), ("a2", "a1", 1), ("b2", "?b", 1), ("b3", "b2", 9), roots={"a1": 1, "b2": 2})
    assert steps_of(tree) == "+a1 +a2 -a2 -a1 +b2 +b3"
    assert steps_of(tree, "a2") == "-a2 -a1 +b2 +b3"
    assert steps_of(tree, "a1") == "-a1 +b2 +b3"


def test_random_trees_are_followed_consistently() -> None:
    """Any tree in any order of storing: each step fits the tip, and the last tip has the most work."""
    random = Random(11)
    for _ in range(300):
        count = random.randrange(1, 30)
        parents = [-1] + [random.randrange(max(0, n - 4), n) for n in range(1, count)]
        work = [random.randrange(1, 4) for _ in range(count)]
        total = [0] * count
        for n, parent in enumerate(parents):
            total[n] = work[n] + (total[parent] if parent >= 0 else 0)
        rows = [(f"n{n}", f"n{parent}" if parent >= 0 else "", work[n]) for n, parent in enumerate(parents)]
        random.shuffle(rows)
        tree = tree_of(*rows, roots={"n0": 0})
        for start in (None, *(f"n{n}" for n in range(count))):
            tip = None if start is None else start
            for step in steps_of(tree, start).split():
                n = int(step[2:])
                if step[0] == "-":
                    assert tip == step[1:]
                    tip = f"n{parents[n]}"
                else:
                    assert tip is None or tip == f"n{parents[n]}"
                    tip = step[1:]
            assert tip is not None
            assert total[int(tip[1:])] == max(total)


def test_an_undo_file_may_be_packed_or_not(tmp_path: Path) -> None:
    """An unpacked block file finds its undo file packed, and the other way round."""
    run = recorded_run("regtest_kernel", REGTEST)
    blocks, undo = list(run.blocks.values()), undo_records(run, list(run.blocks.values()))
    folder = write_blocks(tmp_path, blocks, undo, REGTEST)
    for name in ("rev00000.dat", "blk00000.dat"):
        path = folder / name
        (folder / f"{name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
        assert all(data.spent is not None for data in BlockDirectory(folder).blocks())
