"""Bitcoin Core's own validation code (libbitcoinkernel) as the judge: of blocks we build, and of what we read."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pbk
import pytest

from helpers.build import OP_TRUE, coinbase, height_push, mined, with_commitment
from helpers.mutate import mutations
from helpers.recorded import Run, block_named, read_run, recorded_run
from utxoiq.chain.block import Block, decode_block, read_undo_spent
from utxoiq.chain.hashes import double_sha256
from utxoiq.chain.network import NETWORKS, Network
from utxoiq.chain.serialize import Tx, TxInput
from utxoiq.errors import DecodeError
from utxoiq.units import COIN

REGTEST = NETWORKS["regtest"]
P2WSH = b"\x00\x20" + hashlib.sha256(OP_TRUE).digest()
G = bytes.fromhex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
G_Y = bytes.fromhex("483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8")
NEVER_SPENT = (
    b"\x21\x02" + G + b"\xac",
    b"\x41\x04" + G + G_Y + b"\xac",
    b"\x76\xa9\x14" + bytes(20) + b"\x88\xac",
    b"\xa9\x14" + bytes(20) + b"\x87",
    b"\x51\x20" + G,
    b"\x6a\x04text",
    b"\x51\x21\x02" + G + b"\x51\xae",
)


class Judge:
    """A chainstate in a folder, and what it said of each block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.verdicts: dict[bytes, pbk.ValidationMode] = {}
        callbacks = pbk.ValidationInterfaceCallbacks(block_checked=self._checked)
        self.chainman = pbk.load_chainman(folder, pbk.ChainType.REGTEST, callbacks)
        self.callbacks = callbacks

    def _checked(self, _data: object, block: pbk.Block, state: pbk.BlockValidationState) -> None:
        self.verdicts[bytes(block.block_hash)] = state.validation_mode

    def accepts(self, raw: bytes) -> bool:
        self.chainman.process_block(pbk.Block(raw))
        return self.verdicts.get(double_sha256(raw[:80])) == pbk.ValidationMode.VALID

    @property
    def entries(self) -> list[pbk.BlockTreeEntry]:
        return list(self.chainman.get_active_chain().block_tree_entries)

    def files(self) -> Run:
        """What the kernel wrote, by our own reader."""
        blocks = self.folder / "blocks"
        parts = ((blocks / name).read_bytes() for name in ("blk00000.dat", "rev00000.dat", "xor.dat"))
        return read_run(*parts, REGTEST)

    def spent(self, entry: pbk.BlockTreeEntry) -> list[tuple[int, bytes, int, bool]]:
        """(value, script, height, coinbase flag) of every output a block spends, as the kernel has them."""
        return [
            (coin.output.amount, bytes(coin.output.script_pubkey), coin.confirmation_height, coin.is_coinbase)
            for tx in self.chainman.block_spent_outputs[entry].transactions
            for coin in tx.coins
        ]


@contextmanager
def judge_in(folder: Path) -> Iterator[Judge]:
    judge = Judge(folder)
    yield judge
    del judge.chainman


def spent_by_us(block: Block, payload: bytes) -> list[tuple[int, bytes, int, bool]]:
    spent = read_undo_spent(block, payload)
    assert spent.height is not None
    assert spent.is_coinbase is not None
    rows = range(1, len(block.input_offset))
    return [
        (int(spent.outputs.value[row]), spent.outputs.script(row), int(spent.height[row]), bool(spent.is_coinbase[row]))
        for row in rows
    ]


Spendable = tuple[bytes, int, int, bytes]
"""A coin anyone may spend: txid, index, value, script."""


@dataclass
class Chain:
    """A regtest chain under construction."""

    tip: bytes
    time: int
    blocks: list[bytes] = field(default_factory=list)
    coins: list[Spendable] = field(default_factory=list)
    """The coinbase's of each height, from height 1 on."""

    def next_block(self, *transactions: Tx) -> tuple[bytes, Tx]:
        """A block on the tip and its coinbase, which pays to OP_TRUE or to its P2WSH."""
        height = len(self.blocks) + 1
        outputs = [(50 * COIN - 7, P2WSH if height % 2 else OP_TRUE), (7, NEVER_SPENT[height % len(NEVER_SPENT)])]
        first, *others = with_commitment([coinbase(outputs, height_push(height) + b"\x04test"), *transactions])
        return mined([first, *others], self.tip, self.time + 600), first

    def extend(self, *transactions: Tx) -> None:
        raw, first = self.next_block(*transactions)
        self.tip, self.time = double_sha256(raw[:80]), self.time + 600
        self.blocks.append(raw)
        self.coins += coins_of(first)


def spending(coins: list[Spendable], outputs: list[tuple[int, bytes]]) -> Tx:
    """A transaction that spends these coins."""
    inputs = tuple(
        TxInput(txid, index, witness=(OP_TRUE,) if script == P2WSH else ()) for txid, index, _, script in coins
    )
    return Tx(inputs, tuple(outputs))


def coins_of(tx: Tx) -> list[Spendable]:
    """The outputs of a transaction that anyone may spend."""
    return [
        (bytes(tx.txid), n, value, script) for n, (value, script) in enumerate(tx.outputs) if script in (OP_TRUE, P2WSH)
    ]


def economy(genesis: bytes) -> Chain:
    """115 blocks: coinbases that mature, and then spends of every kind anyone can sign."""
    chain = Chain(double_sha256(genesis[:80]), int.from_bytes(genesis[68:72], "little"))
    for _ in range(110):
        chain.extend()
    amounts = [0, 1, 9, 10, 546, 123_456_789, COIN, 10 * COIN, 999_999_999]
    many = spending(chain.coins[:1], [(sat, script) for sat in amounts for script in (OP_TRUE, P2WSH)])
    follows = spending(coins_of(many)[:5], [(0, b""), (1, OP_TRUE)])  # in the same block
    chain.extend(many, follows, spending(chain.coins[1:3], [(99 * COIN, OP_TRUE), (5, P2WSH)]))
    wide = spending(chain.coins[3:4], [(1000 + n, (OP_TRUE, P2WSH)[n % 2]) for n in range(400)])
    chain.extend(spending(coins_of(many)[5:], [(COIN, P2WSH)]), wide)
    chain.extend(spending(coins_of(wide), [(COIN // 10_000, script) for script in NEVER_SPENT]))
    chain.extend()
    chain.extend(*(spending([coin], [(COIN, b"\x51" * n)]) for n, coin in enumerate(chain.coins[4:10], 1)))
    return chain


def test_blocks_we_build_are_valid_and_read_like_the_kernel_reads_them(tmp_path: Path) -> None:
    """The kernel accepts the chain; every spent output in its rev file is read as the kernel itself has it."""
    with judge_in(tmp_path) as judge:
        genesis = bytes(judge.chainman.blocks[judge.entries[0]])
        assert double_sha256(genesis[:80]) == REGTEST.genesis
        chain = economy(genesis)
        for raw in chain.blocks:
            assert judge.accepts(raw)
        files, seen = judge.files(), Counter[str]()
        assert list(files.blocks.values()) == [genesis, *chain.blocks]
        for entry in judge.entries[1:]:
            block_hash = bytes(entry.block_hash)
            block = decode_block(files.blocks[block_hash], REGTEST)
            assert block.coinbase.height == entry.height
            spent = judge.spent(entry)
            assert spent_by_us(block, files.undo[block_hash]) == spent
            seen.update(f"{'coinbase' if flag else 'other'} {script == P2WSH}" for _, script, _, flag in spent)
            seen.update("own block" for _, _, height, _ in spent if height == entry.height)
            seen.update("worth nothing" for value, *_ in spent if value == 0)
    assert len(seen) == 6
    assert sum(seen[f"{kind} {witness}"] for kind in ("coinbase", "other") for witness in (True, False)) == 428


def test_the_judge_refuses_what_is_wrong(tmp_path: Path) -> None:
    """Proof that acceptance means something: an immature spend and a coin spent twice are invalid, the rest goes on."""
    with judge_in(tmp_path) as judge:
        genesis = bytes(judge.chainman.blocks[judge.entries[0]])
        chain = Chain(double_sha256(genesis[:80]), int.from_bytes(genesis[68:72], "little"))
        for _ in range(101):
            chain.extend()
        for raw in chain.blocks:
            assert judge.accepts(raw)
        immature, _ = chain.next_block(spending(chain.coins[50:51], [(1, OP_TRUE)]))
        twice, _ = chain.next_block(*(spending(chain.coins[:1], [(n, OP_TRUE)]) for n in (1, 2)))
        too_much, _ = chain.next_block(spending(chain.coins[:1], [(51 * COIN, OP_TRUE)]))
        for raw in (immature, twice, too_much):
            assert decode_block(raw, REGTEST).n_tx > 1
            assert not judge.accepts(raw)
        assert len(judge.entries) == 102
        good, _ = chain.next_block(spending(chain.coins[:1], [(1, OP_TRUE)]))
        assert judge.accepts(good)
        assert len(judge.entries) == 103


@pytest.mark.parametrize(
    "name", ["regtest_kernel", "regtest_reorg", pytest.param("regtest_core31", marks=pytest.mark.slow)]
)
def test_recorded_chains_read_like_the_kernel_reads_them(tmp_path: Path, shared: Path, name: str) -> None:
    """Real signed spends of every script type: fed to the kernel, read back from its files, compared coin by coin."""
    run, coins = recorded_run(name, REGTEST), 0
    with judge_in(tmp_path) as judge:
        for raw in run.blocks.values():
            judge.chainman.process_block(pbk.Block(raw))
        assert set(judge.verdicts.values()) == {pbk.ValidationMode.VALID}
        files = judge.files()
        assert files.blocks == run.blocks
        for entry in judge.entries[1:]:
            block_hash = bytes(entry.block_hash)
            block = decode_block(run.blocks[block_hash], REGTEST)
            spent = spent_by_us(block, run.undo[block_hash])
            assert spent == judge.spent(entry)
            assert files.undo[block_hash] == run.undo[block_hash]
            coins += len(spent)
        height = len(judge.entries) - 1
    assert (height, coins > 0) == {
        "regtest_kernel": (206, True),
        "regtest_reorg": (16, False),
        "regtest_core31": (1200, True),
    }[name]


@pytest.mark.parametrize(
    "name", ["main_0000170", "test3_0700000", "main_0116928", "test3_0924634", "main_0482683", "main_0757739"]
)
def test_core_parses_what_we_parse(name: str) -> None:
    """Mutated blocks: what we decode Core parses to the same txids and finds in order, what we refuse Core refuses."""
    recorded = block_named(name)
    consensus = pbk.ChainParameters(pbk.ChainType.MAINNET).consensus_params
    outcomes = Counter[str]()
    for damaged in mutations(recorded.raw, 600 if recorded.size < 10_000 else 100, 31, 80):
        outcomes[core_agrees(damaged, recorded.network, consensus)] += 1
    assert outcomes["refused"]
    assert outcomes["accepted"]


def core_agrees(damaged: bytes, network: Network, consensus: pbk.chain.ConsensusParams) -> str:
    theirs, in_order = None, False
    with suppress(RuntimeError):
        theirs = pbk.Block(damaged)
        in_order = theirs.check(consensus, pbk.BlockCheckFlags.BASE).validation_mode == pbk.ValidationMode.VALID
    try:
        ours = decode_block(damaged, network, check=False)
    except DecodeError as error:
        # Core does not mind what follows a block, and says so nowhere
        return "leftover" if error.reason == "leftover bytes" else ("refused" if not in_order else damaged.hex())
    assert theirs is not None
    assert [bytes(tx.txid) for tx in theirs.transactions] == [bytes(ours.txid(t)) for t in range(ours.n_tx)]
    assert bytes(theirs) == damaged
    assert in_order or spends_a_coin_twice(ours)
    return "accepted"


def spends_a_coin_twice(block: Block) -> bool:
    """Core checks this within a transaction before it looks at any coin; it is no matter of decoding."""
    first = block.tx.first_input.tolist()
    points = [block.raw[at : at + 36].tobytes() for at in block.input_offset.tolist()]
    return any(len(set(points[a:b])) < b - a for a, b in pairwise(first))
