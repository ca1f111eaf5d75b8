"""From a label file of millions of addresses to its compiled form, without an object for any of them."""

from __future__ import annotations

import json
import mmap
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from utxoiq.entities.compiled import MAGIC, PREAMBLE, Compiled, aligned, cache_path, digest_of, mapped, source_digest
from utxoiq.entities.reading import read_entities, version_of
from utxoiq.entities.records import Entity
from utxoiq.entities.scripts import Sorted, Written, array_sizes, key_check
from utxoiq.entities.words import word_of
from utxoiq.errors import LabelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from utxoiq.chain.network import Network

LISTS = re.compile(rb'"addresses"\s*:\s*\[([^][{}:]*)\]')
"""A list of addresses in a line of JSON. Inside a text the quotes would have a backslash before them. What stands in no
address ends the search, so that many beginnings without an end take no longer than one."""


def compiled_for(path: Path, network: Network) -> Compiled:
    """A label file, compiled if it is not yet. Raises LabelError for one that can't be used, or nowhere to put it."""
    target = cache_path(path, network)
    with suppress(LabelError):
        return Compiled(target, network, source_digest(path))
    return Compiled(target, network, compile_labels(path, network, target))


def compile_labels(path: Path, network: Network, target: Path) -> str:
    """Compile a label file to `target`; gives the SHA-256 of what was read.

    Memory: 60 to 80 bytes a script, beside files that are mapped. Raises LabelError for a file that can't be used, or
    where `target` can't be written.
    """
    view = mapped(path)
    source = digest_of(view, 0).hex()
    entities, lists = _outline(view, path.name)
    names = [entity.id for entity in entities for _ in entity.labels]
    written = Written(np.frombuffer(view, np.uint8), lists, names, network)
    counts = iter(written.counts)
    entities = tuple(_with_counts(entity, counts) for entity in entities)
    owner = np.repeat(np.arange(len(entities), dtype=np.int32), [len(entity.labels) for entity in entities])
    ordered = Sorted(written, owner)
    conflicts = sorted(
        (word_of(script, network), entities[first].id, entities[other].id)
        for script, (first, *others) in ordered.contested()
        for other in others
    )
    header = {
        "network": network.name, "source": source, "key_check": key_check(), "version": version_of(source, entities),
        "entities": list(map(asdict, entities)), "conflicts": conflicts,
    }  # fmt: skip
    try:
        _write(target, header, ordered)
    except OSError as error:
        raise LabelError(f"{target}: can't be written ({error.strerror}); set XDG_CACHE_HOME to a folder") from error
    return source


def _outline(view: mmap.mmap, name: str) -> tuple[tuple[Entity, ...], list[tuple[int, int]]]:
    """Entities without their addresses, and where the lists of those are, label by label."""
    lists: list[tuple[int, int]] = []
    taken = 0

    def lines() -> Iterator[tuple[int, str]]:
        at = number = 0
        while at < len(view):
            end = view.find(b"\n", at)
            end = len(view) if end < 0 else end
            number += 1
            try:
                line = _without_lists(view, at, end, lists)
            except UnicodeDecodeError as error:
                raise LabelError(f"{name} line {number}: is not UTF-8") from error
            yield number, line
            if taken != len(lists):
                raise LabelError(f"{name} line {number}: not an entity (addresses outside its labels)")
            at = end + 1

    def take(value: Any, _entity: str) -> tuple[str, int]:
        nonlocal taken
        if type(value) is not int or value != taken:
            raise TypeError("addresses are no list of plain texts")
        taken += 1
        return "", 0

    return read_entities(lines(), name, take), lists


def _without_lists(view: mmap.mmap, at: int, end: int, lists: list[tuple[int, int]]) -> str:
    """The line view[at:end] with a number for each list of addresses, whose place is added to `lists`."""
    parts = []
    for found in LISTS.finditer(view, at, end):
        parts += [view[at : found.start(1) - 1], str(len(lists)).encode()]
        lists.append(found.span(1))
        at = found.end()
    return b"".join([*parts, view[at:end]]).decode()


def _with_counts(entity: Entity, counts: Iterator[int]) -> Entity:
    return replace(entity, labels=tuple(replace(label, compiled=next(counts)) for label in entity.labels))


def _write(target: Path, header: dict[str, Any], ordered: Sorted) -> None:
    places, at = {}, 0
    for name, dtype, length in array_sizes(ordered.kept, ordered.size):
        places[name] = (dtype, length, at)
        at = aligned(at + np.dtype(dtype).itemsize * length)
    head = json.dumps({**header, "arrays": places}).encode()
    body = aligned(PREAMBLE + len(head))
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    try:
        with aside.open("w+b") as file:
            _reserve(file, body + at)
            view = mmap.mmap(file.fileno(), body + at)
        view[PREAMBLE : PREAMBLE + len(head)] = head

        def allocate(name: str) -> NDArray[Any]:
            dtype, length, start = places[name]
            return np.frombuffer(view, dtype, length, body + start)

        ordered.scripts(allocate)
        view[:PREAMBLE] = MAGIC + len(head).to_bytes(8, "little") + digest_of(view, PREAMBLE)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def _reserve(file: BinaryIO, size: int) -> None:
    """Make a file so long. Where the system can, a full disk is told here, not by a signal when memory is written."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)
