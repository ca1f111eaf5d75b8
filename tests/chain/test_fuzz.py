"""Mutated real bytes: refused, or decoded to exactly what an independent reader finds, and never out of bounds.

`UTXOIQ_MUTATIONS` (100,000) inputs in all: seven tenths through the API, compared with the plain Python reader; three
tenths straight into the kernels with their last byte before a page that may not be touched, in a process of its own.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from helpers import reference
from helpers.mutate import mutations
from helpers.process import TESTS, python, said
from helpers.recorded import Recorded, block_named
from utxoiq.chain import hashing, serialize
from utxoiq.chain.block import Block, Spent, decode_block, read_rest_spent, read_undo_spent
from utxoiq.chain.scripts import ScriptType
from utxoiq.errors import DecodeError

MUTATIONS = int(os.environ.get("UTXOIQ_MUTATIONS", "100000"))
SEED = 20090103
SMALL = ("main_0000170", "test3_0700000", "test3_0032768", "main_0116928", "test3_0924634", "main_0482683")
BIG = ("main_0757739", "main_0361582", "main_0549400", "test3_0928828")
SPENT = ("main_0000170", "main_0116928", "main_0757739")
BIG_SPENT = ("main_0210000", "main_0361582")


def share(thousandths: int) -> int:
    return max(20, MUTATIONS * thousandths // 1000)


def attempt(read: Callable[[bytes], Any], damaged: bytes) -> tuple[Any, DecodeError | None]:
    try:
        return read(damaged), None
    except DecodeError as error:
        return None, error


def agree(damaged: bytes, ours: Callable[[bytes], Any], theirs: Callable[[bytes], Any]) -> tuple[Any, Any] | None:
    """What both readers made of the same bytes; None where both refuse. One refusing alone is an error."""
    found, error = attempt(ours, damaged)
    if error is None:
        return found, theirs(damaged)
    assert error.reason
    assert error.offset is None or 0 <= error.offset <= len(damaged)
    with pytest.raises(reference.Refused):
        theirs(damaged)
    return None


def run(original: bytes, count: int, start: int, check: Callable[[bytes], bool]) -> None:
    """Check `count` mutations; both outcomes must occur, or the test would prove nothing."""
    outcomes: Counter[bool] = Counter()
    for n, damaged in enumerate(mutations(original, count, SEED, start)):
        try:
            outcomes[check(damaged)] += 1
        except Exception as error:
            shown = damaged.hex() if len(damaged) < 2000 else f"{len(damaged)} bytes"
            error.add_note(f"mutation {n} of {count} with seed {SEED} and start {start}: {shown}")
            raise
    assert outcomes[True]
    assert outcomes[False]


def block_agrees(damaged: bytes, recorded: Recorded) -> bool:
    found = agree(damaged, lambda raw: decode_block(raw, recorded.network, check=False), reference.read_block)
    if found is None:
        return False
    block, transactions = found
    assert serialize.block_from_columns(block) == damaged
    assert block.tx.size.tolist() == [len(tx.whole) for tx in transactions]
    assert block.tx.stripped_size.tolist() == [len(tx.stripped) for tx in transactions]
    assert block.tx.has_witness.tolist() == [tx.witness for tx in transactions]
    assert block.txids.tobytes() == b"".join(reference.sha256d(tx.stripped) for tx in transactions)
    assert (block.tx.first_input[1:] - block.tx.first_input[:-1]).tolist() == [tx.inputs for tx in transactions]
    assert (block.tx.first_output[1:] - block.tx.first_output[:-1]).tolist() == [len(tx.outputs) for tx in transactions]
    outputs = [output for tx in transactions for output in tx.outputs]
    assert block.outputs.value.tolist() == [value for value, _ in outputs]
    assert [block.outputs.script(row) for row in range(len(outputs))] == [script for _, script in outputs]
    assert types(block.outputs.type.tolist()) == [reference.script_type(script) for _, script in outputs]
    return True


def types(kinds: list[int]) -> list[str]:
    return [str(ScriptType(kind)) for kind in kinds]


def inputs_of(block: Block) -> list[int]:
    return (block.tx.first_input[1:] - block.tx.first_input[:-1]).tolist()


def assert_same_coins(block: Block, spent: Spent, rows: list[list[reference.RefCoin]]) -> list[list[serialize.Coin]]:
    coins = [coin for row in rows for coin in row]
    assert spent.outputs.value.tolist() == [0, *(coin.value for coin in coins)]
    assert [spent.outputs.script(row) for row in range(1, 1 + len(coins))] == [coin.script for coin in coins]
    assert types(spent.outputs.type[1:].tolist()) == [reference.script_type(coin.script) for coin in coins]
    assert spent.tx_value_in.tolist() == [0, *(sum(coin.value for coin in row) for row in rows)]
    if spent.height is not None and spent.is_coinbase is not None:
        assert spent.height[1:].tolist() == [coin.height for coin in coins]
        assert spent.is_coinbase[1:].tolist() == [coin.is_coinbase for coin in coins]
    return serialize.coins_from_columns(block, spent)


def rest_agrees(damaged: bytes, block: Block, inputs: list[int]) -> bool:
    found = agree(damaged, lambda raw: read_rest_spent(block, raw), lambda raw: reference.read_spenttxouts(raw, inputs))
    if found is None:
        return False
    coins = assert_same_coins(block, *found)
    assert serialize.spenttxouts_bytes([[], *coins], block.n_tx) == damaged
    return True


def undo_agrees(damaged: bytes, block: Block, inputs: list[int]) -> bool:
    found = agree(damaged, lambda raw: read_undo_spent(block, raw), lambda raw: reference.read_undo(raw, inputs))
    if found is None:
        return False
    spent, (rows, canonical) = found
    again = serialize.undo_bytes(assert_same_coins(block, spent, rows))
    # what old versions of Core wrote, and scripts stored as they are, is read, and written as today
    assert (again == damaged) is canonical
    if not canonical:
        assert_same_coins(block, read_undo_spent(block, again), rows)
    return True


@pytest.mark.parametrize(("name", "thousandths"), [*((n, 70) for n in SMALL), *((n, 1) for n in BIG)])
def test_mutated_blocks(name: str, thousandths: int) -> None:
    """A damaged block is refused, or gives what the plain reader finds, and its own bytes again."""
    recorded = block_named(name)
    run(recorded.raw, share(thousandths), 80, lambda damaged: block_agrees(damaged, recorded))


@pytest.mark.parametrize(("name", "thousandths"), [*((n, 44) for n in SPENT), *((n, 2) for n in BIG_SPENT)])
def test_mutated_rest_payloads(name: str, thousandths: int) -> None:
    """Damaged REST spent outputs are refused, or give what the plain reader finds, and their own bytes again."""
    recorded = block_named(name)
    block = recorded.decoded()
    inputs = inputs_of(block)
    run(recorded.spent, share(thousandths), 0, lambda damaged: rest_agrees(damaged, block, inputs))


@pytest.mark.parametrize(("name", "thousandths"), [*((n, 44) for n in SPENT), *((n, 2) for n in BIG_SPENT)])
def test_mutated_undo_payloads(name: str, thousandths: int) -> None:
    """Damaged undo data is refused, or gives what the plain reader finds, and its own bytes again."""
    recorded = block_named(name)
    block = recorded.decoded()
    inputs = inputs_of(block)
    run(recorded.undo, share(thousandths), 0, lambda damaged: undo_agrees(damaged, block, inputs))


def guarded(*arguments: str | int) -> Any:
    return python(str(TESTS / "helpers" / "guard.py"), *map(str, arguments))


@pytest.mark.parametrize("mode", ["overread", "overwrite"])
def test_the_guard_page_catches_one_byte_too_far(mode: str) -> None:
    """Proof that the tests below would notice: a kernel told to go one too far dies by SIGSEGV."""
    process = guarded(mode)
    assert "more:" in process.stdout, said(process)
    assert process.returncode == -signal.SIGSEGV, said(process)


def test_kernels_never_read_beyond_their_input(shared: Any) -> None:
    """Mutated blocks and both forms of spent outputs, each ending at the guard page."""
    process = guarded("reads", share(300), SEED, *SMALL, *SPENT, *BIG)
    assert process.returncode == 0, said(process)
    assert int(process.stdout.split()[0]) >= share(300)


def test_kernels_never_write_beyond_their_columns(shared: Any) -> None:
    """Output columns that end at guard pages: exactly large enough, too small by one or more, and of random sizes."""
    process = guarded("writes", 2000, SEED, *SMALL, *SPENT, *BIG, *BIG_SPENT)
    assert process.returncode == 0, said(process)
    assert "columns written" in process.stdout


def test_hashing_kernels_stay_within_their_buffers(shared: Any) -> None:
    """The block, scratch, ids and merkle nodes each end at a guard page."""
    process = guarded("hashes", *SMALL, *SPENT, *BIG, "main_0866342")
    assert process.returncode == 0, said(process)
    assert "hashed" in process.stdout or not hashing.SHA_NI
