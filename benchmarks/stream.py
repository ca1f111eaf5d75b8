"""The blocks a benchmark runs over: distinct real mainnet blocks of 0.9 MB and more, with their spent outputs.

Where a recording has no spent outputs, they are invented: one for each input, of the type its input looks like, worth
what the transaction pays out and a fee. The structure is the block's own; only amounts and hashes are made up.
"""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import NamedTuple

from utxoiq.chain.block import Block, decode_block, read_rest_spent
from utxoiq.chain.links import in_block_spends
from utxoiq.chain.network import NETWORKS
from utxoiq.chain.serialize import Coin, coins_from_columns, spenttxouts_bytes
from utxoiq.models import BlockData
from utxoiq.sources.recorded import RecordedFolder

LEAST_SIZE = 900_000
FEE_A_BYTE = 7


class Item(NamedTuple):
    """One block of the stream: raw bytes, its spent outputs as REST serialises them, and its height."""

    raw: bytes
    spent: bytes
    height: int


def shared_data() -> Path:
    """Where recorded blocks are: UTXOIQ_SHARED, or ../shared/data beside the project. Raises SystemExit without."""
    folder = Path(os.environ.get("UTXOIQ_SHARED") or Path(__file__).parents[2] / "shared" / "data")
    if not (folder / "blocks").is_dir():
        raise SystemExit(f"no recorded blocks in {folder}: set UTXOIQ_SHARED")
    return folder


def stream() -> list[Item]:
    """All mainnet blocks of the recordings that are large enough."""
    blocks = RecordedFolder(shared_data() / "blocks", NETWORKS["main"]).blocks()
    return [_item(data) for data in blocks if len(data.block.raw) >= LEAST_SIZE]


def _item(data: BlockData) -> Item:
    block, rng = data.block, random.Random(data.height)
    coins = coins_from_columns(block, data.spent) if data.spent else _invented(block, rng)
    item = Item(block.raw.tobytes(), spenttxouts_bytes([[], *coins], block.n_tx), data.height or 0)
    read_rest_spent(decode_block(item.raw, block.network), item.spent)
    return item


def _invented(block: Block, rng: random.Random) -> list[list[Coin]]:
    inside = in_block_spends(block)
    source = dict(zip(inside.spender.tolist(), inside.row.tolist(), strict=True))
    first = block.tx.first_input.tolist()
    coins = []
    for t in range(1, block.n_tx):
        row = [_coin(block, i, source.get(i), rng) for i in range(first[t], first[t + 1])]
        missing = int(block.tx.value_out[t]) + FEE_A_BYTE * int(block.tx.size[t]) - sum(c.value for c in row)
        free = [k for k, i in enumerate(range(first[t], first[t + 1])) if i not in source]
        if free and missing > 0:
            row[free[0]] = row[free[0]]._replace(value=row[free[0]].value + missing)
        coins.append(row)
    return coins


def _coin(block: Block, i: int, source: int | None, rng: random.Random) -> Coin:
    if source is not None:
        return Coin(int(block.outputs.value[source]), block.outputs.script(source))
    digest = rng.randbytes(20)
    script_size = int(block.raw[int(block.input_offset[i]) + 36])
    if script_size == 0:
        return Coin(1000, b"\x00\x14" + digest)
    if script_size in (22, 23, 34, 35):
        return Coin(1000, b"\xa9\x14" + digest + b"\x87")
    return Coin(1000, b"\x76\xa9\x14" + digest + b"\x88\xac")
