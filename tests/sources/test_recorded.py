"""Recorded folders: what a file's name says is held against its bytes, and spent outputs against the block."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest

from helpers.build import OP_TRUE, coinbase, height_push, mined
from helpers.recorded import SHARED, block_named, recorded_run
from sources.files import REGTEST, cursor, follow
from utxoiq.chain.block import decode_block, read_rest_spent
from utxoiq.chain.hashes import Hash256
from utxoiq.chain.header import read_header
from utxoiq.chain.network import NETWORKS
from utxoiq.chain.serialize import Coin, coins_from_columns, spenttxouts_bytes, undo_bytes
from utxoiq.errors import DecodeError, SourceError
from utxoiq.models import Cursor
from utxoiq.sources.open import open_source
from utxoiq.sources.recorded import RecordedFolder

MAIN = NETWORKS["main"]
WITH_BOTH = "main_0000170_8dd4a2ee"
WITH_REST_ONLY = "main_0300025_022cc78c"


def copied(folder: Path, stem: str, *suffixes: str) -> Path:
    """The recorded files of one block, copied into `folder`."""
    block_named(stem)
    for suffix in suffixes:
        shutil.copyfile(SHARED / "blocks" / (stem + suffix), folder / (stem + suffix))
    return folder


def test_all_recorded_blocks_open(shared: Path) -> None:
    """The folder of real blocks: 79 files of two networks, in order of network and height, unknown heights last."""
    source = RecordedFolder(shared / "blocks")
    blocks = list(source.blocks())
    assert len(source) == len(blocks) == 79
    assert source.networks == ("main", "test3")
    order = [(data.network.name, data.height is None, data.height or 0) for data in blocks]
    assert order == sorted(order)
    assert sum(data.height is None for data in blocks) == 2
    for data in blocks:
        assert data.block_hash == data.block.header.block_hash


def test_a_folder_of_several_networks_has_no_one_network(shared: Path) -> None:
    """Asked for its network it says which there are and how to choose; `network` takes only that one's blocks."""
    with pytest.raises(SourceError, match="blocks of main and test3; choose one with --network"):
        _ = RecordedFolder(shared / "blocks").network
    main, test3 = (open_source(shared / "blocks", name) for name in ("main", "test3"))
    assert (main.network, len(main)) == (MAIN, 69)
    assert (test3.network, len(test3)) == (NETWORKS["test3"], 10)
    assert {data.network.name for data in test3.blocks()} == {"test3"}
    with pytest.raises(SourceError, match=r"no block files .* of signet"):
        open_source(shared / "blocks", "signet")


def test_the_tip_is_the_highest_block(shared: Path) -> None:
    """The recorded block of the greatest height, whatever blocks of unknown height follow it in the folder."""
    last = block_named("main_0905646")
    assert open_source(shared / "blocks", "main").tip() == Cursor(last.row["hash"], 905_646)


def test_a_block_is_found_by_its_height(shared: Path) -> None:
    """`block_at` gives the block recorded for a height, or says there is none."""
    source = open_source(shared / "blocks", "main")
    for height in (0, 170, 866_342):
        assert source.block_at(height).height == height
    with pytest.raises(SourceError, match="no block of height 171"):
        source.block_at(171)


@pytest.mark.parametrize("name", ["main_0000000", "main_0277647", "main_0361582", "main_0670718", "test3_0928848"])
def test_the_height_comes_from_the_name_and_the_coinbase(shared: Path, name: str) -> None:
    """Before BIP 34 only the name tells the height; after it both do and they agree; genesis has height 0."""
    recorded = block_named(name)
    data = open_source(shared / "blocks", recorded.network.name).block_at(int(recorded.row["height"]))
    assert str(data.block_hash) == recorded.row["hash"]
    assert data.height == int(recorded.row["height"])


async def test_one_file_is_a_source(tmp_path: Path, shared: Path) -> None:
    """A single block file, packed or not, with its spent outputs beside it."""
    path = SHARED / "blocks" / f"{WITH_BOTH}.blk.gz"
    unpacked = tmp_path / f"{WITH_BOTH}.blk"
    unpacked.write_bytes(block_named(WITH_BOTH).raw)
    for one, knows_spent in ((path, True), (unpacked, False)):
        source = open_source(one)
        (data,) = source.blocks()
        assert len(source) == 1
        assert source.network is MAIN
        assert (data.height, data.spent is not None) == (170, knows_spent)
        assert source.tip() == cursor(data)
        assert (await follow(source)).chain == [data.block_hash]


def test_unpacked_and_packed_are_the_same(tmp_path: Path, shared: Path) -> None:
    """`.blk` and `.undo` unpacked give what `.blk.gz` and `.undo.gz` give."""
    recorded = block_named(WITH_BOTH)
    (tmp_path / f"{WITH_BOTH}.blk").write_bytes(recorded.raw)
    (tmp_path / f"{WITH_BOTH}.undo").write_bytes(recorded.undo)
    (ours,), theirs = RecordedFolder(tmp_path).blocks(), open_source(SHARED / "blocks", "main").block_at(170)
    assert ours.block.raw.tobytes() == theirs.block.raw.tobytes()
    assert ours.spent is not None
    assert theirs.spent is not None
    assert coins_from_columns(ours.block, ours.spent) == coins_from_columns(theirs.block, theirs.spent)


@pytest.mark.parametrize(
    "name", ["block170.blk", "main_170.blk", "other_0000170_8dd4a2ee.blk", "main_0000170_8DD4A2EE.blk"]
)
def test_a_name_that_says_nothing(tmp_path: Path, shared: Path, name: str) -> None:
    """Any other name: the network asked for or else main, and a height only where the coinbase says it."""
    (tmp_path / name).write_bytes(block_named(WITH_BOTH).raw)
    source = RecordedFolder(tmp_path)
    (data,) = source.blocks()
    assert source.network is MAIN
    assert data.height is None
    assert source.tip() is None
    with pytest.raises(SourceError, match="no block of height 170"):
        source.block_at(170)


def test_a_name_that_says_nothing_and_a_coinbase_that_does(tmp_path: Path, shared: Path) -> None:
    """BIP 34 gives the height of a block whose file name does not."""
    (tmp_path / "unknown.blk").write_bytes(block_named("main_0670718").raw)
    (data,) = RecordedFolder(tmp_path).blocks()
    assert data.height == 670_718


def test_a_height_only_the_coinbase_knows_is_a_height(tmp_path: Path, shared: Path) -> None:
    """The tip and the block at a height are found where BIP 34 alone says the height."""
    (tmp_path / "unknown.blk").write_bytes(block_named("main_0670718").raw)
    source = RecordedFolder(tmp_path)
    (data,) = source.blocks()
    assert source.tip() == cursor(data)
    assert source.block_at(670_718).block_hash == data.block_hash


def test_a_name_that_says_nothing_counts_as_the_network_asked_for(tmp_path: Path) -> None:
    """A regtest block under any name is read as regtest where that is asked for, and refused as a block of main."""
    (tmp_path / "mine.blk").write_bytes(mined([coinbase(script=height_push(7) + b"\x04test")]))
    source = RecordedFolder(tmp_path, REGTEST)
    assert source.network is REGTEST
    assert [data.height for data in source.blocks()] == [7]
    with pytest.raises(DecodeError, match=r"mine\.blk"):
        list(RecordedFolder(tmp_path).blocks())


def test_an_unknown_height_in_the_name(tmp_path: Path, shared: Path) -> None:
    """`unknown` instead of a height leaves it to the coinbase, and before BIP 34 it stays unknown."""
    raw = block_named("main_0670718").raw
    (tmp_path / "main_unknown_8a40922c.blk").write_bytes(raw)
    copied(tmp_path, "main_unknown_c7e0f7af", ".blk.gz")
    assert {data.height for data in RecordedFolder(tmp_path).blocks()} == {670_718, None}


def test_a_wrong_hash_in_the_name_is_refused(tmp_path: Path, shared: Path) -> None:
    """The last eight digits of the hash must be those of the bytes; the message names the file."""
    path = tmp_path / "main_0000170_8dd4a2ef.blk"
    path.write_bytes(block_named(WITH_BOTH).raw)
    with pytest.raises(DecodeError, match=r"main_0000170_8dd4a2ef\.blk: .*which the file name denies"):
        list(RecordedFolder(tmp_path).blocks())


def test_a_wrong_height_in_the_name_is_refused(tmp_path: Path, shared: Path) -> None:
    """A height that is not the coinbase's."""
    (tmp_path / "main_0670719_8a40922c.blk").write_bytes(block_named("main_0670718").raw)
    with pytest.raises(DecodeError, match="says it has height 670718, the file name says 670719"):
        list(RecordedFolder(tmp_path).blocks())


def test_a_wrong_height_of_genesis_is_refused(tmp_path: Path, shared: Path) -> None:
    """Genesis is known by its hash, so a name that gives it another height is wrong."""
    (tmp_path / "main_0000007_0a8ce26f.blk").write_bytes(block_named("main_0000000").raw)
    source = RecordedFolder(tmp_path)
    with pytest.raises(DecodeError, match="height"):
        list(source.blocks())


def test_a_block_of_another_network_is_refused(tmp_path: Path, shared: Path) -> None:
    """A regtest block under a mainnet name has a target mainnet does not allow."""
    raw = mined([coinbase(script=height_push(7) + b"\x04test")])
    end = str(read_header(raw).block_hash)[-8:]
    (tmp_path / f"main_0000007_{end}.blk").write_bytes(raw)
    with pytest.raises(DecodeError, match=f"main_0000007_{end}.*a target this network does not allow"):
        list(RecordedFolder(tmp_path).blocks())


@pytest.mark.parametrize("damage", ["cut off", "longer", "a flipped bit", "empty"])
def test_a_damaged_block_is_refused(tmp_path: Path, shared: Path, damage: str) -> None:
    """The DecodeError names the file."""
    raw = block_named(WITH_BOTH).raw
    damaged = {
        "cut off": raw[:-1],
        "longer": raw + b"\0",
        "a flipped bit": raw[:-10] + bytes([raw[-10] ^ 4]) + raw[-9:],
        "empty": b"",
    }[damage]
    (tmp_path / f"{WITH_BOTH}.blk").write_bytes(damaged)
    with pytest.raises(DecodeError, match=WITH_BOTH):
        list(RecordedFolder(tmp_path).blocks())


@pytest.mark.parametrize("suffix", [".blk.gz", ".undo.gz"])
def test_a_cut_off_archive_is_refused(tmp_path: Path, shared: Path, suffix: str) -> None:
    """A `.gz` without its end is a SourceError that names the file."""
    copied(tmp_path, WITH_BOTH, ".blk.gz", ".undo.gz")
    path = tmp_path / (WITH_BOTH + suffix)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(SourceError, match=f"{WITH_BOTH}{suffix}: can't be read"):
        list(RecordedFolder(tmp_path).blocks())


def test_a_folder_without_blocks_is_refused(tmp_path: Path) -> None:
    """Nothing in it that ends as a block file does."""
    (tmp_path / "main_0000170_8dd4a2ee.undo").write_bytes(b"\0")
    with pytest.raises(SourceError, match=r"no block files \(\*\.blk, \*\.blk\.gz\)"):
        RecordedFolder(tmp_path)


# --------------------------------------------------------------------------------------------------- spent outputs


def test_undo_data_is_preferred(tmp_path: Path, shared: Path) -> None:
    """Where both are there the undo data is read, since it knows the coins' heights; else the REST form, without."""
    copied(tmp_path, WITH_BOTH, ".blk.gz", ".spent.gz")
    (rest,) = RecordedFolder(tmp_path).blocks()
    assert rest.spent is not None
    assert rest.spent.height is None
    assert rest.spent.time is None
    copied(tmp_path, WITH_BOTH, ".undo.gz")
    (undo,) = RecordedFolder(tmp_path).blocks()
    assert undo.spent is not None
    assert undo.spent.height is not None
    assert undo.spent.height[1:].tolist() == [9]
    assert undo.spent.outputs.value.tolist() == rest.spent.outputs.value.tolist()


def test_an_unpacked_spent_file_is_taken_before_its_archive(tmp_path: Path, shared: Path) -> None:
    """A `.undo` beside a `.undo.gz`."""
    copied(tmp_path, WITH_BOTH, ".blk.gz", ".undo.gz")
    (tmp_path / f"{WITH_BOTH}.undo").write_bytes(undo_bytes([[Coin(60 * 10**8, OP_TRUE, 5)]]))
    (data,) = RecordedFolder(tmp_path).blocks()
    assert data.spent is not None
    assert data.spent.outputs.value[1:].tolist() == [60 * 10**8]


def test_without_spent_outputs_they_are_unknown(tmp_path: Path, shared: Path) -> None:
    """No file beside it: None. But a coinbase alone is known to spend nothing."""
    copied(tmp_path, WITH_BOTH, ".blk.gz")
    copied(tmp_path, "main_0000001_18eb6048", ".blk.gz")
    alone, other = RecordedFolder(tmp_path).blocks()
    assert other.spent is None
    assert alone.spent is not None
    assert alone.spent.tx_value_in.tolist() == [0]


def wrong_spent(kind: str) -> bytes:
    """Spent outputs that are not those of block 170: too few sat, too many inputs, cut off, another block's."""
    coins = {
        "makes money": [[Coin(49 * 10**8, OP_TRUE, 9)]],
        "another count": [[Coin(50 * 10**8, OP_TRUE, 9), Coin(1, OP_TRUE, 9)]],
        "another number of transactions": [[Coin(50 * 10**8, OP_TRUE, 9)]] * 2,
        "cut off": [[Coin(50 * 10**8, OP_TRUE, 9)]],
    }[kind]
    return undo_bytes(coins)[: -1 if kind == "cut off" else None]


@pytest.mark.parametrize("kind", ["makes money", "another count", "another number of transactions", "cut off"])
def test_wrong_undo_data_is_refused(tmp_path: Path, shared: Path, kind: str) -> None:
    """Undo data that does not fit the block is a DecodeError that names the block's file."""
    copied(tmp_path, WITH_BOTH, ".blk.gz", ".spent.gz")
    (tmp_path / f"{WITH_BOTH}.undo").write_bytes(wrong_spent(kind))
    with pytest.raises(DecodeError, match=WITH_BOTH):
        list(RecordedFolder(tmp_path).blocks())


@pytest.mark.parametrize("stem", [WITH_BOTH, WITH_REST_ONLY])
def test_another_blocks_rest_file_is_refused(tmp_path: Path, shared: Path, stem: str) -> None:
    """The REST form of another block, and of this block with a byte changed in its counts."""
    copied(tmp_path, stem, ".blk.gz")
    right = block_named(stem).spent
    for wrong in (block_named("main_0757739").spent, right + b"\0", right[:-1], bytes([right[0] ^ 1]) + right[1:]):
        with gzip.open(tmp_path / f"{stem}.spent.gz", "wb") as file:
            file.write(wrong)
        with pytest.raises(DecodeError, match=stem):
            list(RecordedFolder(tmp_path).blocks())


def test_spent_outputs_that_deny_their_own_block_are_refused(tmp_path: Path, shared: Path) -> None:
    """An input that spends an output of its own block must be told that output's value and script."""
    stem = "main_0277647_b1e052a8"
    recorded = block_named(stem)
    block = recorded.decoded()
    coins = coins_from_columns(block, read_rest_spent(block, recorded.spent))
    own = {bytes(block.txid(t)) for t in range(block.n_tx)}
    rows = [row for row, at in enumerate(block.input_offset.tolist()) if block.raw[at : at + 32].tobytes() in own]
    first = block.tx.first_input.tolist()
    t = next(t for t in range(1, block.n_tx) if any(first[t] <= row < first[t + 1] for row in rows))
    n = next(row for row in rows if row >= first[t]) - first[t]
    copied(tmp_path, stem, ".blk.gz")
    for coin in (coins[t - 1][n]._replace(script=b"\x52"), coins[t - 1][n]._replace(value=coins[t - 1][n].value + 1)):
        changed = [list(row) for row in coins]
        changed[t - 1][n] = coin
        (tmp_path / f"{stem}.spent").write_bytes(spenttxouts_bytes([[], *changed], block.n_tx))
        with pytest.raises(DecodeError, match="spends another output than the one its block makes"):
            list(RecordedFolder(tmp_path).blocks())


# ------------------------------------------------------------------------------------------------ chains in a folder


@pytest.fixture(scope="module")
def chain_folder(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Path:
    """The recorded regtest chain of 206 blocks, one file a block."""
    folder = tmp_path_factory.mktemp("chain")
    for height, raw in enumerate(recorded_run("regtest_kernel", REGTEST).blocks.values()):
        end = str(read_header(raw).block_hash)[-8:]
        (folder / f"regtest_{height:07d}_{end}.blk").write_bytes(raw)
    return folder


async def test_a_chain_in_a_folder(chain_folder: Path) -> None:
    """Linked blocks come in order of height with the times of the ten headers before, none below genesis."""
    source = open_source(chain_folder)
    blocks = list(source.blocks())
    times = [data.block.header.time for data in blocks]
    assert source.network is REGTEST
    assert [data.height for data in blocks] == list(range(207))
    assert [data.prior_times for data in blocks] == [tuple(times[max(0, n - 10) : n]) for n in range(207)]
    assert (await follow(source)).chain == [data.block_hash for data in blocks]
    assert source.tip() == cursor(blocks[-1])


def test_heights_are_ordered_as_numbers(tmp_path: Path, chain_folder: Path) -> None:
    """Without leading zeros in the names, 9 still comes before 10, and what has no height comes last."""
    for path in sorted(chain_folder.iterdir())[8:12]:
        network, height, end = path.stem.split("_")
        shutil.copyfile(path, tmp_path / f"{network}_{int(height)}_{end}.blk")
    (tmp_path / "another.blk").write_bytes(mined([coinbase(script=b"\xffno height", outputs=[(0, OP_TRUE)])]))
    source = open_source(tmp_path, "regtest")
    assert [data.height for data in source.blocks()] == [8, 9, 10, 11, None]
    assert source.tip() == cursor(source.block_at(11))


def test_a_branch_in_a_folder(chain_folder: Path) -> None:
    """`branch` follows the links between files, ends with the block named, and refuses one that is not there."""
    source = open_source(chain_folder)
    tip = source.block_at(100)
    assert [data.height for data in source.branch(tip.block_hash, 11)] == list(range(90, 101))
    assert [data.height for data in source.branch(source.block_at(2).block_hash, 11)] == [0, 1, 2]
    with pytest.raises(SourceError, match="no block"):
        list(source.branch(Hash256(bytes(32)), 1))


def test_a_gap_leaves_the_times_before_unknown(tmp_path: Path, chain_folder: Path) -> None:
    """Where one of the ten headers before is missing they are unknown, not fewer; and a branch ends at the gap."""
    for path in sorted(chain_folder.iterdir()):
        if not path.name.startswith(("regtest_0000000_", "regtest_0000050_")):
            shutil.copyfile(path, tmp_path / path.name)
    source = open_source(tmp_path)
    unknown = [data.height for data in source.blocks() if data.prior_times is None]
    assert unknown == [*range(1, 11), *range(51, 61)]
    assert [data.height for data in source.branch(source.block_at(55).block_hash, 11)] == list(range(51, 56))


@pytest.fixture
def doubled_folder(tmp_path: Path, chain_folder: Path) -> Path:
    """Three blocks, each as a file beside its own archive."""
    for path in sorted(chain_folder.iterdir())[:3]:
        shutil.copyfile(path, tmp_path / path.name)
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    return tmp_path


def test_a_block_there_twice_is_one_block(doubled_folder: Path) -> None:
    """A file beside its own archive is read once, as in a block directory."""
    assert [data.height for data in open_source(doubled_folder).blocks()] == [0, 1, 2]


def test_an_unpacked_block_is_taken_before_its_archive(tmp_path: Path, shared: Path) -> None:
    """A `.blk` beside a `.blk.gz` that holds nothing of use."""
    (tmp_path / f"{WITH_BOTH}.blk").write_bytes(block_named(WITH_BOTH).raw)
    (tmp_path / f"{WITH_BOTH}.blk.gz").write_bytes(b"no gzip")
    assert [data.height for data in RecordedFolder(tmp_path).blocks()] == [170]


def test_a_branch_where_blocks_are_there_twice(doubled_folder: Path) -> None:
    """The links are followed all the same."""
    source = open_source(doubled_folder)
    assert [data.height for data in source.branch(source.block_at(2).block_hash, 3)] == [0, 1, 2]


def test_a_branch_where_a_block_has_two_names(tmp_path: Path, chain_folder: Path) -> None:
    """A copy under another name does not break the links."""
    paths = sorted(chain_folder.iterdir())[:3]
    for path in paths:
        shutil.copyfile(path, tmp_path / path.name)
    shutil.copyfile(paths[1], tmp_path / f"regtest_unknown_{paths[1].stem[-8:]}.blk")
    source = open_source(tmp_path)
    tip = source.block_at(2)
    assert [data.height for data in source.branch(tip.block_hash, 3)] == [0, 1, 2]
    assert tip.prior_times is not None
    assert len(tip.prior_times) == 2


def test_blocks_decode_as_they_do_alone(chain_folder: Path) -> None:
    """Nothing of a block depends on the folder but the times before it."""
    for data in open_source(chain_folder).blocks():
        alone = decode_block(data.block.raw.tobytes(), REGTEST)
        assert alone.header == data.block.header
        assert alone.txids.tobytes() == data.block.txids.tobytes()
