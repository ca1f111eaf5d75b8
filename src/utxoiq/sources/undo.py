"""Which undo record belongs to which block. A record names neither: it is found by what it must agree with.

Its checksum is over the hash of the *parent* and the payload, so siblings share it; then transaction and input
counts, in-block spends and fees decide. What stays ambiguous is None, never guessed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from utxoiq.chain.block import read_undo_spent
from utxoiq.chain.hashes import double_sha256
from utxoiq.chain.links import check_spent, in_block_spends
from utxoiq.errors import DecodeError

if TYPE_CHECKING:
    from utxoiq.chain.block import Block
    from utxoiq.sources.blkfile import Record, RecordFile

CHECKSUM = 32
NOTHING_SPENT = b"\0"


class UndoRecords:
    """The records of one rev file, by the number of transactions they are for."""

    def __init__(self, file: RecordFile) -> None:
        self._file = file
        self._by_count: dict[int, list[Record]] = defaultdict(list)
        self._next: dict[int, int] = {}
        for record in file.records():
            self._by_count[_count(file.read(record.position, min(5, record.size)))].append(record)

    def find(self, block: Block, siblings: Sequence[Block]) -> bytes | None:
        """The undo payload of `block`, None where there is none or more than one could be it.

        `siblings` are the other blocks with its parent in the same-numbered block file.
        """
        if block.n_tx == 1:
            return NOTHING_SPENT
        fitting = [payload for payload in self._with_checksum(block, bool(siblings)) if fits(block, payload)]
        rivals = [s for s in siblings if s.n_tx == block.n_tx and not _spends_the_same(s, block)]
        mine = {payload for payload in fitting if not any(fits(rival, payload) for rival in rivals)}
        if mine or not fitting:
            return mine.pop() if len(mine) == 1 else None
        claimants = 1 + sum(fits(rival, fitting[0]) for rival in rivals)
        return fitting[0] if len(set(fitting)) == 1 and len(fitting) >= claimants else None

    def _with_checksum(self, block: Block, every: bool) -> list[bytes]:
        """Payloads whose checksum binds them to the block's parent; only siblings can share one, so without them
        the first is all. The search goes on where the last ended, since both files are nearly in one order."""
        records = self._by_count.get(block.n_tx - 1, [])
        begin = self._next.get(block.n_tx, 0)
        payloads = []
        for i in range(len(records)):
            where = (begin + i) % len(records)
            record = records[where]
            stored = self._file.read(record.position, record.size + CHECKSUM)
            payload, checksum = stored[:-CHECKSUM], stored[-CHECKSUM:]
            if double_sha256(block.header.prev_hash + payload) == checksum:
                self._next[block.n_tx] = where + 1
                payloads.append(payload)
                if not every:
                    break
        return payloads


def fits(block: Block, payload: bytes) -> bool:
    """Whether this undo data could be the block's: counts, in-block spends, and no transaction making money."""
    try:
        spent = read_undo_spent(block, payload)
        check_spent(block, spent, in_block_spends(block))
    except DecodeError:
        return False
    return True


def _spends_the_same(a: Block, b: Block) -> bool:
    """Whether two blocks spend the same outpoints in the same order, so that one undo is right for both."""
    return len(a.input_offset) == len(b.input_offset) and all(
        a.raw[i : i + 36].tobytes() == b.raw[j : j + 36].tobytes()
        for i, j in zip(a.input_offset.tolist()[1:], b.input_offset.tolist()[1:], strict=True)
    )


def _count(head: bytes) -> int:
    """The CompactSize a payload begins with, -1 where it is cut off."""
    if not head:
        return -1
    width = {0xFD: 2, 0xFE: 4}.get(head[0], 0)
    if len(head) < 1 + width:
        return -1
    return int.from_bytes(head[1 : 1 + width], "little") if width else head[0]
