"""A recorded folder: one file a block (`.blk` or `.blk.gz`), with `.spent` or `.undo` beside it where known.

A name like `main_0277647_b1e052a8.blk.gz` tells network, height and the last eight digits of the hash; they are
checked against the bytes. Blocks need not follow each other.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import AsyncIterator, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from utxoiq.chain.block import Block, Spent, decode_block, read_rest_spent, read_undo_spent
from utxoiq.chain.hashes import Hash256
from utxoiq.chain.header import SIZE as HEADER_SIZE
from utxoiq.chain.header import Header, read_header
from utxoiq.chain.links import check_spent, in_block_spends
from utxoiq.chain.network import NETWORKS, Network
from utxoiq.errors import DecodeError, SourceError
from utxoiq.models import BlockData, Connected, Cursor
from utxoiq.sources.base import MEDIAN_TIME_ANCESTORS
from utxoiq.sources.undo import NOTHING_SPENT

NAME = re.compile(r"(?P<network>[a-z]+\d?)_(?P<height>\d+|unknown)_(?P<hash>[0-9a-f]{8})")
SUFFIXES = (".blk", ".blk.gz")


class Recording(NamedTuple):
    """One block file and what its name says."""

    path: Path
    network: Network
    height: int | None
    hash_end: str


class RecordedFolder:
    """The blocks of a folder, or of one file, by network and height, those of unknown height last.

    Raises SourceError for a folder without block files or, where `network` is given, without any of that network.
    """

    def __init__(self, path: Path, network: Network | None = None) -> None:
        """`path`: a folder, or one block file. `network`: take only its blocks; files whose name tells none count as
        its, or else as main."""
        self.folder = path
        paths = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.name.endswith(SUFFIXES))
        unpacked = {_stem(p): p for p in reversed(paths)}.values()
        found = [_recording(path, network or NETWORKS["main"]) for path in unpacked]
        self._recordings = [r for r in found if network is None or r.network is network]
        if not self._recordings:
            raise SourceError(f"{path}: no block files (*.blk, *.blk.gz)" + (f" of {network.name}" if network else ""))
        self._heights: dict[Recording, int] = {}
        self._recordings.sort(key=lambda r: (r.network.name, r.height is None, r.height or 0, r.path.name))
        self.networks = tuple(dict.fromkeys(r.network.name for r in self._recordings))

    @property
    def network(self) -> Network:
        """The one network of the folder. Raises SourceError where there are several."""
        if len(self.networks) > 1:
            raise SourceError(f"{self.folder}: blocks of {' and '.join(self.networks)}; choose one with --network")
        return self._recordings[0].network

    def __len__(self) -> int:
        return len(self._recordings)

    def blocks(self) -> Iterator[BlockData]:
        """Every block in order. Raises DecodeError for one that is not what it claims to be."""
        return map(self._read, self._recordings)

    def tip(self) -> Cursor | None:
        """The highest block, None where no height is known."""
        highest = max(self._recordings, key=self._height_of)
        height = self._height_of(highest)
        return Cursor(str(self._read(highest).block_hash), height) if height >= 0 else None

    def lowest(self) -> int:
        """The lowest height recorded, 0 where none is known."""
        return min((height for one in self._recordings if (height := self._height_of(one)) >= 0), default=0)

    def block_at(self, height: int) -> BlockData:
        """The block recorded for `height`. Raises SourceError where there is none."""
        for recording in self._recordings:
            if self._height_of(recording) == height:
                return self._read(recording)
        raise SourceError(f"{self.folder}: no block of height {height}")

    def _height_of(self, recording: Recording) -> int:
        """What the name says, or else the coinbase; -1 where neither does."""
        if recording not in self._heights:
            told = self._read(recording).height if recording.height is None else recording.height
            self._heights[recording] = -1 if told is None else told
        return self._heights[recording]

    def branch(self, block_hash: Hash256, size: int) -> Iterator[BlockData]:
        """Up to `size` linked blocks ending with `block_hash`, oldest first. Raises SourceError where it isn't here."""
        if block_hash not in self._headers:
            raise SourceError(f"{self.folder}: no block {block_hash}")
        found: list[Recording] = []
        while block_hash in self._headers and len(found) < size:
            header, recording = self._headers[block_hash]
            found.append(recording)
            block_hash = header.prev_hash
        return map(self._read, reversed(found))

    def count_from(self, cursor: Cursor | None) -> int:  # noqa: ARG002
        """How many steps `follow` will emit."""
        return len(self._recordings)

    async def follow(self, cursor: Cursor | None) -> AsyncIterator[Connected]:  # noqa: ARG002
        """Every block, whatever the cursor: they are apart from each other, and a store knows those it has."""
        for recording in self._recordings:
            yield Connected(self._read(recording))

    def _read(self, recording: Recording) -> BlockData:
        try:
            block = decode_block(_bytes_of(recording.path), recording.network)
            height = _height(recording, block)
            spent = _spent(recording.path, block)
        except DecodeError as error:
            raise DecodeError(f"{recording.path.name}: {error.what}", error.reason, error.offset) from error
        return BlockData(block, height, spent, self._prior_times(block), "recorded-folder")

    @cached_property
    def _headers(self) -> dict[Hash256, tuple[Header, Recording]]:
        found: dict[Hash256, tuple[Header, Recording]] = {}
        for recording in self._recordings:
            header = read_header(_bytes_of(recording.path, HEADER_SIZE), recording.network.pow_limit)
            found.setdefault(header.block_hash, (header, recording))
        return found

    def _prior_times(self, block: Block) -> tuple[int, ...] | None:
        times: list[int] = []
        header = block.header
        while len(times) < MEDIAN_TIME_ANCESTORS and header.block_hash != block.network.genesis:
            if header.prev_hash not in self._headers:
                return None
            header, _ = self._headers[header.prev_hash]
            times.append(header.time)
        return tuple(reversed(times))


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".blk")


def _recording(path: Path, otherwise: Network) -> Recording:
    match = NAME.fullmatch(_stem(path))
    if match is None or match["network"] not in NETWORKS:
        return Recording(path, otherwise, None, "")
    height = None if match["height"] == "unknown" else int(match["height"])
    return Recording(path, NETWORKS[match["network"]], height, match["hash"])


def _height(recording: Recording, block: Block) -> int | None:
    if not str(block.block_hash).endswith(recording.hash_end):
        raise DecodeError("block", f"has hash {block.block_hash}, which the file name denies")
    told = 0 if block.block_hash == block.network.genesis else block.coinbase.height
    if told is not None and recording.height is not None and told != recording.height:
        raise DecodeError("block", f"says it has height {told}, the file name says {recording.height}")
    return recording.height if told is None else told


def _spent(path: Path, block: Block) -> Spent | None:
    stem = _stem(path)
    for suffix, read in ((".undo", read_undo_spent), (".spent", read_rest_spent)):
        for packed in ("", ".gz"):
            beside = path.with_name(stem + suffix + packed)
            if beside.exists():
                spent = read(block, _bytes_of(beside))
                check_spent(block, spent, in_block_spends(block))
                return spent
    return read_undo_spent(block, NOTHING_SPENT) if block.n_tx == 1 else None


def _bytes_of(path: Path, size: int = -1) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise SourceError(f"{path}: can't be read ({error})") from error
