"""The store as Parquet files by height range, with the columns of the warehouse's tables."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from utxoiq.errors import ConfigError, StoreError
from utxoiq.persistence.schema import SHIPPED
from utxoiq.persistence.warehouse import rows
from utxoiq.persistence.warehouse.tables import BY_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from utxoiq.persistence.database import Database

BLOCKS_A_FILE = 1000
MISSING = "Parquet needs one more package: pip install 'utxoiq[parquet]'"
NAME = re.compile(r"(\d{9})-(\d{9})\.parquet")
OF_SIGNAL = "JOIN signals s USING (signal_id)"
TO_BLOCK = {
    "signal_events": OF_SIGNAL,
    "narration_events": OF_SIGNAL,
    "insights": OF_SIGNAL,
    "insight_events": f"JOIN insights i USING (insight_id) {OF_SIGNAL}",
}
"""How rows that do not name a block themselves are joined to the one they are about."""


class Heights(NamedTuple):
    """A range of heights, both included."""

    first: int
    last: int

    @property
    def file(self) -> str:
        """The name of its file: as text, names sort by height."""
        return f"{self.first:09d}-{self.last:09d}.parquet"


class Piece(NamedTuple):
    """The blocks whose rows go into one file a table."""

    heights: Heights
    blocks: list[str]
    """Hashes, by height."""


def relations(names: Sequence[str] = ()) -> list[str]:
    """The tables of these names that a store has rows of, all where none is named. Raises ConfigError."""
    for name in names:
        if name not in SHIPPED:
            raise ConfigError(f"no table {name!r} to export: one of {', '.join(SHIPPED)}")
    return [name for name in SHIPPED if name in names or not names]


def pieces(
    database: Database, first: int | None = None, last: int | None = None, *, every: bool = False
) -> list[Piece]:
    """The connected blocks of this range by whole thousands, those of a thousand that the range cuts by its part;
    with `every` also stale ones and islands, if their height is known.

    Raises ConfigError for a range that ends before it begins, StoreError.
    """
    if first is not None and last is not None and last < first:
        raise ConfigError(f"the range {first} to {last} ends before it begins")
    found: dict[Heights, list[str]] = {}
    sql = (
        "SELECT block_hash, height FROM block_state WHERE height BETWEEN ? AND ? AND (? OR state = 'connected') "
        "ORDER BY height, block_hash"
    )
    for block_hash, height in database.query(sql, first or 0, 1 << 62 if last is None else last, every):
        begin = height - height % BLOCKS_A_FILE
        end = begin + BLOCKS_A_FILE - 1
        heights = Heights(max(begin, first or 0), end if last is None else min(end, last))
        found.setdefault(heights, []).append(block_hash)
    return [Piece(heights, blocks) for heights, blocks in found.items()]


def export(
    database: Database,
    folder: Path,
    tables: Sequence[str],
    chosen: Sequence[Piece],
    step: Callable[[], None] = lambda: None,
) -> dict[str, tuple[int, int]]:
    """Write TABLE/FIRST-LAST.parquet below `folder`, each whole or not at all: table -> (files, rows).

    The same rows give the same bytes. A file whose rows are gone is removed. `step` is called once a block.
    Raises ConfigError where the folder can't be used, pyarrow lacks, or a file there holds some of these heights under
    another range, which readers of all files would see twice; StoreError where a file can't be written.
    """
    written = dict.fromkeys(tables, (0, 0))
    for table in tables:
        _check(folder, table, chosen)
    for piece in chosen:
        for table in tables:
            size = _write(database, folder / table / piece.heights.file, table, piece)
            files, count = written[table]
            written[table] = (files + (size > 0), count + size)
        for _ in piece.blocks:
            step()
    return {table: sums for table, sums in written.items() if sums[0]}


def _check(folder: Path, table: str, chosen: Sequence[Piece]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = [name for name in map(NAME.fullmatch, _names(folder / table)) if name]
    except OSError as error:
        raise ConfigError(f"{folder}: can't be written to ({error.strerror}); give another --to") from error
    ranges = [Heights(int(name[1]), int(name[2])) for name in there]
    for ours, _ in chosen:
        for other in ranges:
            if other != ours and other.first <= ours.last and ours.first <= other.last:
                path = folder / table / other.file
                raise ConfigError(
                    f"{path} holds some of the heights {ours.first} to {ours.last}: remove it, or give another --to"
                )


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _write(database: Database, path: Path, table: str, piece: Piece) -> int:
    """One file: its number of rows."""
    found = list(rows.read(database, table, list(_keys(database, table, piece.blocks))))
    try:
        if found:
            path.parent.mkdir(exist_ok=True)
            _replace(path, _parquet(table, found))
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"{path}: can't be written ({error.strerror})") from error
    return len(found)


def _parquet(table: str, found: list[rows.Row]) -> bytes:
    try:
        from utxoiq.persistence.warehouse.wire import parquet  # noqa: PLC0415 a second to import, for files alone

        return parquet(BY_NAME[table], found)
    except ImportError as error:
        raise ConfigError(MISSING) from error


def _keys(database: Database, table: str, blocks: list[str]) -> Iterator[str | int]:
    """Keys of a table's rows about these blocks, block by block."""
    stored, key = SHIPPED[table]
    of, join = ("s", TO_BLOCK[table]) if table in TO_BLOCK else ("r", "")
    sql = (
        f"SELECT r.{key} FROM {stored} r {join} JOIN json_each(?) j ON j.value = {of}.block_hash "  # noqa: S608
        "ORDER BY j.key, 1"
    )
    for row in database.query(sql, json.dumps(blocks)):
        yield row[0]


def _replace(path: Path, data: bytes) -> None:
    """Put a file in place at once: whoever reads sees the old one or the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
