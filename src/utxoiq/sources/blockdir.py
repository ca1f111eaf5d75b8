"""A Bitcoin Core `blocks/` directory, read beside a running node: no LevelDB index, which the node keeps locked."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from utxoiq.chain.block import Block, Spent, decode_block, read_undo_spent, with_times
from utxoiq.chain.hashes import Hash256
from utxoiq.chain.header import SIZE as HEADER_SIZE
from utxoiq.chain.header import read_header
from utxoiq.chain.network import BY_MAGIC, Network
from utxoiq.errors import DecodeError, SourceError
from utxoiq.models import BlockData, Connected, Cursor, Disconnected
from utxoiq.sources.base import MEDIAN_TIME_ANCESTORS
from utxoiq.sources.blkfile import FRAME, Record, RecordFile, read_key
from utxoiq.sources.tree import HeaderTree, Node
from utxoiq.sources.undo import CHECKSUM, NOTHING_SPENT, UndoRecords

BLK_NAME = re.compile(r"blk(\d{5,})\.dat(\.gz)?")
BITS_AT, BITS_AND_NONCE = 72, 8


class Place(NamedTuple):
    """Where a block is stored: the number of its file, and the record in it."""

    file: int
    record: Record


class BlockDirectory:
    """Every block of a `blocks/` directory; the best chain by work, stale branches seen in the order they came.

    `skipped` lists (file name, position, bytes) of regions that hold no record. Raises SourceError for a folder
    without block files or without a block in them, DecodeError for a header without work: damage that leaves a gap.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._paths = block_files(folder)
        if not self._paths:
            raise SourceError(f"{folder}: no blk*.dat here; give a Bitcoin Core blocks directory")
        self._key = read_key(folder)
        self.network = self._find_network()
        self.skipped: list[tuple[str, int, int]] = []
        self._files: dict[int, RecordFile] = {}
        self._undo: dict[int, UndoRecords | None] = {}
        self._places: list[Place] = []
        self._tree = HeaderTree(self._index(), self._root_height)
        self._siblings: dict[tuple[int, Hash256], list[Node]] = defaultdict(list)
        for node in self._tree:
            self._siblings[self._places[node.place].file, node.prev_hash].append(node)
        best = list(self._tree.ancestors(self._tree.tip)) if self._tree.tip else []
        self._best = {node.height: node for node in best}
        self._best_times = np.full(best[0].height + 1 if best else 0, -1, np.int64)
        for node in best:
            self._best_times[node.height] = node.time

    def _find_network(self) -> Network:
        for path in self._paths.values():
            magic = RecordFile(path, self._key, b"", 0).head()
            if magic:
                if magic not in BY_MAGIC:
                    raise SourceError(f"{path}: begins with no network's magic; is the right xor.dat beside it?")
                return BY_MAGIC[magic]
        raise SourceError(f"{self.folder}: its block files are empty")

    def _file(self, number: int) -> RecordFile:
        if number not in self._files:
            self._files[number] = RecordFile(self._paths[number], self._key, self.network.magic, 0)
        return self._files[number]

    def _index(self) -> Iterator[Node]:
        for number, path in self._paths.items():
            file = self._file(number)
            for record in file.records():
                if record.size < HEADER_SIZE or not file.written(record.position + BITS_AT, BITS_AND_NONCE):
                    self.skipped.append((path.name, record.position - FRAME, FRAME + record.size))
                    continue
                header = read_header(file.read(record.position, HEADER_SIZE), self.network.pow_limit)
                self._places.append(Place(number, record))
                yield Node(header.block_hash, header.prev_hash, header.work, header.time, len(self._places) - 1)
            self.skipped += [(path.name, *region) for region in file.skipped]
        if not self._places:
            raise SourceError(f"{self.folder}: no block in its files; is the right xor.dat beside them?")

    def _root_height(self, node: Node) -> int:
        if node.block_hash == self.network.genesis:
            return 0
        height = self._decode(node).coinbase.height
        if height is None:
            raise SourceError(f"block {node.block_hash}: its parent is not here and it does not say its own height")
        return height

    def tip(self) -> Cursor | None:
        """The tip of the best chain."""
        tip = self._tree.tip
        return None if tip is None else Cursor(str(tip.block_hash), tip.height)

    def lowest(self) -> int:
        """The height of the first block on the best chain, 0 where there is none."""
        return min(self._best, default=0)

    def block_at(self, height: int) -> BlockData:
        """The block of the best chain at `height`. Raises SourceError where there is none."""
        if height not in self._best:
            raise SourceError(f"{self.folder}: no block at height {height} on the best chain")
        return self.read(self._best[height])

    def blocks(self) -> Iterator[BlockData]:
        """The best chain, from its first block up."""
        return map(self.read, (self._best[height] for height in sorted(self._best)))

    def __len__(self) -> int:
        return len(self._best)

    def branch(self, block_hash: Hash256, size: int) -> Iterator[BlockData]:
        """Up to `size` blocks of one branch ending with `block_hash`, oldest first. Raises SourceError where it is not
        here."""
        if block_hash not in self._tree:
            raise SourceError(f"{self.folder}: no block {block_hash}")
        nodes = list(islice(self._tree.ancestors(self._tree[block_hash]), size))
        return map(self.read, reversed(nodes))

    def count_from(self, cursor: Cursor | None) -> int:
        """How many steps `follow(cursor)` will emit."""
        return sum(1 for _ in self._tree.steps(_hash_of(cursor)))

    async def follow(self, cursor: Cursor | None) -> AsyncIterator[Connected | Disconnected]:
        """Every step from `cursor` to the tip; from None also those that were taken back."""
        for connect, node in self._tree.steps(_hash_of(cursor)):
            yield Connected(self.read(node)) if connect else Disconnected(node.block_hash, node.height)

    def read(self, node: Node) -> BlockData:
        """Decode one stored block with its spent outputs. Raises DecodeError, SourceError."""
        block = self._decode(node)
        told = block.coinbase.height
        if told is not None and told != node.height:
            raise DecodeError(
                "block", f"{node.block_hash} says it has height {told}, but its chain gives {node.height}"
            )
        return BlockData(block, node.height, self._spent(node, block), self._prior_times(node), "blocks-directory")

    def _decode(self, node: Node) -> Block:
        place = self._places[node.place]
        return decode_block(self._file(place.file).read(*place.record), self.network)

    def _spent(self, node: Node, block: Block) -> Spent | None:
        number = self._places[node.place].file
        payload: bytes | None = NOTHING_SPENT
        if block.n_tx > 1:
            siblings = [self._decode(n) for n in self._siblings[number, node.prev_hash] if n is not node]
            records = self._undo_records(number)
            payload = records.find(block, siblings) if records else None
        if payload is None:
            return None
        return with_times(read_undo_spent(block, payload), self._times(node))

    def _undo_records(self, number: int) -> UndoRecords | None:
        if number not in self._undo:
            name = self._paths[number].name.removeprefix("blk").removesuffix(".gz")
            paths = [self.folder / f"rev{name}", self.folder / f"rev{name}.gz"]
            path = next((path for path in paths if path.exists()), None)
            file = RecordFile(path, self._key, self.network.magic, CHECKSUM) if path else None
            self._undo[number] = UndoRecords(file) if file else None
        return self._undo[number]

    def _prior_times(self, node: Node) -> tuple[int, ...] | None:
        times: list[int] = []
        for ancestor in self._tree.ancestors(node):
            if ancestor is not node:
                times.append(ancestor.time)
            if len(times) == MEDIAN_TIME_ANCESTORS:
                return tuple(reversed(times))
        return tuple(reversed(times)) if ancestor.block_hash == self.network.genesis else None

    def _times(self, node: Node) -> NDArray[np.int64]:
        """Block times by height along the branch of `node`, -1 below its root."""
        if self._best.get(node.height) is node:
            return self._best_times[: node.height + 1]
        times = self._best_times[: node.height + 1].copy()
        times.resize(node.height + 1, refcheck=False)
        for ancestor in self._tree.ancestors(node):
            if self._best.get(ancestor.height) is ancestor:
                break
            times[ancestor.height] = ancestor.time
        return times


def block_files(folder: Path) -> dict[int, Path]:
    """The blk files of a folder by their number, in order; an unpacked one before its .gz."""
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := BLK_NAME.fullmatch(path.name))]
    return dict(sorted(found, key=lambda item: (item[0], item[1].suffix != ".gz")))


def _hash_of(cursor: Cursor | None) -> Hash256 | None:
    return None if cursor is None else Hash256.from_display(cursor.block_hash)
