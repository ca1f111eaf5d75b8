"""Memory that ends at a page nobody may touch, so that one byte too far is a SIGSEGV. Run as a script by test_fuzz.

python guard.py overread | overwrite          one byte too far on purpose
python guard.py reads COUNT SEED NAME...      mutated blocks and spent outputs, each against the guard page
python guard.py writes COUNT SEED NAME...     the kernels' output columns against guard pages, of every capacity
python guard.py hashes NAME...                the hashing kernels' buffers against guard pages
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from helpers.mutate import mutations
from helpers.recorded import Recorded, block_named
from utxoiq.chain import hashing
from utxoiq.chain._spent import read_spenttxouts, read_undo
from utxoiq.chain._walk import CAPACITY, script_keys, walk_block
from utxoiq.chain.block import Block

if TYPE_CHECKING:
    from numpy.typing import NDArray

PER_TX, PER_IN, PER_OUT = 0, 1, 2
WALK_COLUMNS = (
    *[(PER_TX, 0, np.uint32)] * 4, (PER_TX, 0, np.uint8), *[(PER_TX, 1, np.uint32)] * 2, (PER_TX, 0, np.int64),
    (PER_IN, 0, np.uint32),
    (PER_OUT, 0, np.int64), *[(PER_OUT, 0, np.uint32)] * 2, (PER_OUT, 0, np.uint8), (PER_OUT, 0, np.uint64),
)  # fmt: skip
"""What `walk_block` fills: (one row a what, rows more, type)."""
SPENT_COLUMNS = (np.int64, np.uint32, np.uint32, np.uint8, np.uint64)


def say(text: str) -> None:
    """To the test that runs this, at once: the next thing may be a crash."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class Guarded:
    """Up to `size` bytes that end where a page without any right begins."""

    def __init__(self, size: int) -> None:
        page = mmap.PAGESIZE
        self.limit = -(-size // page) * page
        self.memory = mmap.mmap(-1, self.limit + page)
        self.whole = np.frombuffer(self.memory, np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        if libc.mprotect(self.whole.ctypes.data + self.limit, page, 0):
            raise OSError(ctypes.get_errno(), "mprotect")

    def holding(self, data: bytes) -> NDArray[np.uint8]:
        """`data`, its last byte the last one that may be read."""
        view = self.room(len(data), np.uint8)
        view[:] = np.frombuffer(data, np.uint8)
        return view

    def room(self, count: int, kind: Any) -> NDArray[Any]:
        """An array of `count`, its last element the last one that may be written."""
        size = count * np.dtype(kind).itemsize
        return self.whole[self.limit - size : self.limit].view(kind)


def walk_room(capacities: tuple[int, int, int], pages: list[Guarded]) -> list[NDArray[Any]]:
    """Columns for `walk_block` with room for so many transactions, inputs and outputs."""
    return [
        page.room(capacities[what] + more, kind) for page, (what, more, kind) in zip(pages, WALK_COLUMNS, strict=True)
    ]


def walk_pages(capacities: tuple[int, int, int]) -> list[Guarded]:
    return [Guarded((capacities[what] + more) * 8) for what, more, _ in WALK_COLUMNS]


def plain_walk_room(size: int) -> list[NDArray[Any]]:
    """Columns large enough for any block of `size` bytes."""
    capacities = (size // 60 + 1, size // 41 + 1, size // 9 + 1)
    return [np.empty(capacities[what] + more, kind) for what, more, kind in WALK_COLUMNS]


def overread() -> None:
    """Make a kernel read the byte after a script that ends at the guard page."""
    script, keys = Guarded(64).holding(bytes(64)), np.zeros(1, np.uint64)
    script_keys(script, np.zeros(1, np.uint32), np.full(1, 64, np.uint32), 1, keys)
    say("read to the end; one byte more:")
    script_keys(script, np.zeros(1, np.uint32), np.full(1, 65, np.uint32), 1, keys)


def overwrite() -> None:
    """Make a kernel write the element after a column that ends at the guard page."""
    keys = Guarded(16).room(2, np.uint64)
    rows = np.zeros(3, np.uint32)
    script_keys(np.zeros(8, np.uint8), rows, rows, 2, keys)
    say("written to the end; one element more:")
    script_keys(np.zeros(8, np.uint8), rows, rows, 3, keys)


def reads(count: int, seed: int, names: list[str]) -> None:
    """Mutated inputs read up to a guard page. An equal share of `count` for each block and each of its payloads."""
    recorded = [block_named(name) for name in names]
    payloads = sum(1 + bool(r.row["spent_file"]) + bool(r.row["undo_file"]) for r in recorded)
    share, done = -(-count // payloads), 0
    for r in recorded:
        done += _read_blocks(r.raw, share, seed)
        block = r.decoded()
        if r.row["spent_file"]:
            done += _read_spent(block, r.spent, share, seed)
        if r.row["undo_file"]:
            done += _read_undo(block, r.undo, share, seed)
    say(f"{done} inputs read")


def _read_blocks(raw: bytes, count: int, seed: int) -> int:
    page, info = Guarded(2 * len(raw) + 4096), np.zeros(3, np.int64)
    room, accepted = plain_walk_room(2 * len(raw) + 4096), 0
    for data in mutations(raw, count, seed, 80):
        n = walk_block(page.holding(data), 80, *room, info)
        assert info[0] <= max(80, len(data)), "an error position beyond the end"
        accepted += n > 0
    assert accepted, "no mutation was harmless: the mutations never get beyond the first checks"
    return count


def _read_spent(block: Block, payload: bytes, count: int, seed: int) -> int:
    page, info = Guarded(2 * len(payload) + 4096), np.zeros(3, np.int64)
    columns = [np.empty(len(block.input_offset), kind) for kind in SPENT_COLUMNS]
    sums, accepted = np.empty(block.n_tx, np.int64), 0
    for data in mutations(payload, count, seed):
        code = read_spenttxouts(page.holding(data), block.tx.first_input, block.n_tx, *columns, sums, info)
        assert info[0] <= len(data), "an error position beyond the end"
        accepted += code == 0
    assert accepted or block.n_tx == 1, "no mutation was harmless"
    return count


def _read_undo(block: Block, payload: bytes, count: int, seed: int) -> int:
    page, info = Guarded(2 * len(payload) + 4096), np.zeros(3, np.int64)
    undo = UndoRoom(block, 5 * len(payload) + 4096, None)
    accepted = 0
    for data in mutations(payload, count, seed):
        accepted += undo.read(page.holding(data), info, len(undo.arena)) == 0
        assert info[0] <= len(data), "an error position beyond the end"
    assert accepted or block.n_tx == 1, "no mutation was harmless"
    return count


class UndoRoom:
    """What `read_undo` fills, for one block, each column of exactly the size it needs, guarded if `guard` is given."""

    def __init__(self, block: Block, arena: int, guard: type[Guarded] | None) -> None:
        n_in, n_tx = len(block.input_offset), block.n_tx
        sizes = [*((n_in, kind) for kind in SPENT_COLUMNS), (n_in, np.int32), (n_in, np.uint8), (n_tx, np.int64),
                 (n_in, np.uint32)]  # fmt: skip
        self.block = block
        self.columns = [guard(8 * n).room(n, kind) if guard else np.empty(n, kind) for n, kind in sizes]
        self.page = guard(arena) if guard else None
        self.arena = self.page.room(arena, np.uint8) if self.page else np.empty(arena, np.uint8)

    def read(self, data: NDArray[np.uint8], info: NDArray[np.int64], arena: int) -> int:
        room = self.page.room(arena, np.uint8) if self.page else self.arena[:arena]
        return int(read_undo(data, self.block.tx.first_input, self.block.n_tx, room, *self.columns, info))


def writes(count: int, seed: int, names: list[str]) -> None:
    """Columns of the exact size, of too small a size, and, for mutated input, of any size."""
    random = Random(seed)
    for name in names:
        recorded = block_named(name)
        _write_blocks(recorded, -(-count // len(names)), seed, random)
        block = recorded.decoded()
        if recorded.row["spent_file"]:
            _write_spent(block, recorded.spent)
        if recorded.row["undo_file"]:
            _write_undo(block, recorded.undo, seed, random)
    say("columns written")


def _write_blocks(recorded: Recorded, count: int, seed: int, random: Random) -> None:
    block, info = recorded.decoded(), np.zeros(3, np.int64)
    exact = (block.n_tx, len(block.input_offset), len(block.outputs.value))
    pages = walk_pages(exact)
    data = block.raw
    room = walk_room(exact, pages)
    assert walk_block(data, 80, *room, info) == block.n_tx
    for filled, column in zip(room, columns_of(block), strict=True):
        assert np.array_equal(filled, column)
    smaller = [tuple(n - (i == short) for i, n in enumerate(exact)) for short in range(3)]
    for capacities in [*smaller, (0, 0, 0), *(tuple(random.randrange(n) for n in exact) for _ in range(count // 4))]:
        assert walk_block(data, 80, *walk_room(capacities, pages), info) == CAPACITY, capacities
    for mutated in mutations(recorded.raw, count, seed, 80):
        capacities = tuple(random.choice((n, random.randrange(n + 1))) for n in exact)
        walk_block(np.frombuffer(mutated, np.uint8), 80, *walk_room(capacities, pages), info)


def columns_of(block: Block) -> tuple[NDArray[Any], ...]:
    """A decoded block's columns in the order `walk_block` takes them."""
    tx, outputs = block.tx, block.outputs
    return (
        tx.offset, tx.size, tx.stripped_size, tx.witness_offset, tx.has_witness, tx.first_input, tx.first_output,
        tx.value_out, block.input_offset, outputs.value, outputs.offset, outputs.length, outputs.type, outputs.key,
    )  # fmt: skip


def _write_spent(block: Block, payload: bytes) -> None:
    n_in, info = len(block.input_offset), np.zeros(3, np.int64)
    columns = [Guarded(8 * n_in).room(n_in, kind) for kind in SPENT_COLUMNS]
    sums = Guarded(8 * block.n_tx).room(block.n_tx, np.int64)
    data = np.frombuffer(payload, np.uint8)
    assert read_spenttxouts(data, block.tx.first_input, block.n_tx, *columns, sums, info) == 0


def _write_undo(block: Block, payload: bytes, seed: int, random: Random) -> None:
    data, info = np.frombuffer(payload, np.uint8), np.zeros(3, np.int64)
    undo = UndoRoom(block, 3 * len(payload) + 67, Guarded)
    assert undo.read(data, info, len(undo.arena)) == 0
    used = int(info[2])
    if used == 0:
        return
    sizes = {0, 1, used - 1, used, *(random.randrange(used) for _ in range(100))}
    codes = {size: undo.read(data, info, size) for size in sizes}
    assert all(code == CAPACITY for size, code in codes.items() if size < used), codes
    assert undo.read(data, info, used + 35) == 0
    for mutated in mutations(payload, 300, seed):
        undo.read(np.frombuffer(mutated, np.uint8), info, random.randrange(len(undo.arena)))


def hashes(names: list[str]) -> None:
    """The block, the scratch and the results of the hashing kernels, each against a guard page."""
    if not hashing.SHA_NI:
        say("no SHA instructions: nothing to hash with")
        return
    for name in names:
        block = block_named(name).decoded()
        tx, n = block.tx, block.n_tx
        largest = (int(tx.size.max()) + 9 + 63) // 64 * 64
        data = Guarded(len(block.raw)).holding(block.raw.tobytes())
        scratch = Guarded(2 * largest).room(2 * largest, np.uint8)
        states = Guarded(64).room(16, np.uint32)
        txids, wtxids = (Guarded(32 * n).room(32 * n, np.uint8) for _ in range(2))
        columns = (tx.offset, tx.size, tx.stripped_size, tx.witness_offset, tx.has_witness)
        for witness in (True, False):
            hashing.hash_transactions(data, n, *columns, witness, scratch, states, txids, wtxids)
            assert txids.tobytes() == block.txids.tobytes()
        nodes = Guarded(32 * (n + 1)).holding(txids.tobytes() + bytes(32))
        hashing.merkle_in_place(nodes, n)
        assert nodes[:32].tobytes() == block.header.merkle_root
    say("hashed")


def main(mode: str, *arguments: str) -> None:
    if mode in ("reads", "writes"):
        count, seed, *names = arguments
        (reads if mode == "reads" else writes)(int(count), int(seed), names)
    elif mode == "hashes":
        hashes(list(arguments))
    else:
        (overread if mode == "overread" else overwrite)()


if __name__ == "__main__":
    main(*sys.argv[1:])
