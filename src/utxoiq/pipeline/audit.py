"""Is the store whole and right? Every height against itself and against a source; and what is wrong mended."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from utxoiq.chain.hashes import Hash256, double_sha256
from utxoiq.errors import NotLinked
from utxoiq.models import FACTS_VERSION
from utxoiq.pipeline.backfill import Heights

if TYPE_CHECKING:
    import sqlite3

    from utxoiq.persistence.sqlite import SqliteStore
    from utxoiq.pipeline.backfill import HistoricalBackfillModule
    from utxoiq.pipeline.reading import Read

log = logging.getLogger(__name__)

Problem = Literal[
    "missing", "two blocks", "broken header", "not linked", "no facts", "other facts", "outdated facts", "stale",
    "other transactions", "other merkle root",
]  # fmt: skip
MENDABLE: set[Problem] = {
    "missing", "no facts", "other facts", "outdated facts", "other transactions", "other merkle root",
}  # fmt: skip
"""By deriving the block again. A stale block is for `run` or `scan` to take off; a broken row is for a backup."""
ADVICE: dict[Problem, str] = {
    "missing": "--heal fills it in",
    "two blocks": "restore the store from a backup, or begin a new one",
    "broken header": "restore the store from a backup, or begin a new one",
    "not linked": "--heal fills in what lies between; if it stays, begin a new store",
    "no facts": "--heal derives them",
    "other facts": "--heal derives them again",
    "outdated facts": "--heal derives them again",
    "stale": "`utxoiq run` or `scan` takes it off",
    "other transactions": "--heal derives it again",
    "other merkle root": "--heal derives it again",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong at a height."""

    height: int
    block_hash: str | None
    problem: Problem
    found: str

    @property
    def advice(self) -> str:
        return ADVICE[self.problem]


class Kept(NamedTuple):
    """A connected block as the store has it."""

    height: int
    block_hash: str
    prev_hash: str
    header: bytes
    facts: dict[str, Any] | None


def look(store: SqliteStore, on_block: Callable[[], None] = lambda: None) -> Iterator[Finding]:
    """What the store alone shows, from its lowest block up: gaps, links, headers, facts. Raises StoreError."""
    before: list[Kept] = []
    for height, group in groupby(_kept(store), key=lambda kept: kept.height):
        blocks = list(group)
        on_block()
        if before:
            for missing in range(before[0].height + 1, height):
                yield Finding(missing, None, "missing", "no block of this height is connected")
        if len(blocks) > 1:
            yield Finding(height, None, "two blocks", " and ".join(kept.block_hash for kept in blocks))
        for kept in blocks:
            yield from _of_itself(kept)
        if before and before[0].height == height - 1 and not _links(before, blocks):
            yield Finding(height, blocks[0].block_hash, "not linked", f"follows {blocks[0].prev_hash}")
        before = blocks


def _links(before: list[Kept], blocks: list[Kept]) -> bool:
    """Whether one of these follows one of those."""
    return not {kept.block_hash for kept in before}.isdisjoint(kept.prev_hash for kept in blocks)


def _kept(store: SqliteStore) -> Iterator[Kept]:
    heights = store.database.query(
        "SELECT height, block_hash FROM block_state WHERE state = 'connected' AND height IS NOT NULL ORDER BY height"
    )
    for one in heights:  # block by block: a month of facts is a hundred megabytes
        (row,) = store.database.query(
            "SELECT b.height, b.block_hash, b.prev_hash, b.header, f.facts FROM blocks b "
            "LEFT JOIN current_facts f USING (block_hash) WHERE b.block_hash = ?",
            one["block_hash"],
        )
        yield _as_kept(row)


def _as_kept(row: sqlite3.Row) -> Kept:
    facts = None if row["facts"] is None else json.loads(row["facts"])
    return Kept(row["height"], row["block_hash"], row["prev_hash"], row["header"], facts)


def _of_itself(kept: Kept) -> Iterator[Finding]:
    header = kept.header
    if str(Hash256(double_sha256(header))) != kept.block_hash or str(Hash256(header[4:36])) != kept.prev_hash:
        yield Finding(kept.height, kept.block_hash, "broken header", "its 80 bytes are another block's")
        return
    facts = kept.facts
    if facts is None:
        yield Finding(kept.height, kept.block_hash, "no facts", "none are stored")
        return
    said = (facts["blockhash"], facts["height"], facts["merkleroot"], facts["time"])
    meant = (kept.block_hash, kept.height, str(Hash256(header[36:68])), int.from_bytes(header[68:72], "little"))
    if said != meant:
        yield Finding(kept.height, kept.block_hash, "other facts", "they are of another block")
    elif facts["facts_version"] != FACTS_VERSION:
        yield Finding(
            kept.height, kept.block_hash, "outdated facts", f"version {facts['facts_version']}, now {FACTS_VERSION}"
        )


async def compare(
    store: SqliteStore, blocks: AsyncIterator[Read], on_block: Callable[[], None] = lambda: None
) -> AsyncIterator[Finding]:
    """What a source tells otherwise of the heights the store has. Raises StoreError, and what reading raises."""
    async for read in blocks:
        on_block()
        height, name = read.block.height or 0, str(read.block.block_hash)
        connected = store.connected_at(height)
        if connected is None:
            continue
        if connected != name:
            yield Finding(height, connected, "stale", f"the source has {name}")
            continue
        rows = store.window(name, 1)
        if rows and rows[0].facts.txs != read.facts.txs:
            yield Finding(
                height, name, "other transactions", f"{rows[0].facts.txs} are stored, the block has {read.facts.txs}"
            )
        elif rows and rows[0].facts.merkleroot != read.facts.merkleroot:
            yield Finding(height, name, "other merkle root", f"{rows[0].facts.merkleroot} is stored")


def to_mend(findings: list[Finding]) -> list[Heights]:
    """The ranges that deriving again mends."""
    stuck = {one.height for one in findings if one.problem in ("two blocks", "broken header", "stale")}
    heights = sorted({one.height for one in findings if one.problem in MENDABLE} - stuck)
    ranges: list[Heights] = []
    for height in heights:
        if ranges and ranges[-1].last == height - 1:
            ranges[-1] = Heights(ranges[-1].first, height)
        else:
            ranges.append(Heights(height, height))
    return ranges


async def heal(backfill: HistoricalBackfillModule, findings: list[Finding], on_range: Callable[[int], None]) -> int:
    """Derive what can be mended again: the number of blocks. `on_range` is told of each range's length. A block that
    does not link to those stored is left out, with a warning.

    Raises what `backfill` raises else.
    """
    blocks = 0
    for heights in to_mend(findings):
        try:
            blocks += (await backfill.backfill(heights, resume=False)).blocks_processed
        except NotLinked as error:
            log.warning("%s", error)
        on_range(heights.last - heights.first + 1)
    return blocks
