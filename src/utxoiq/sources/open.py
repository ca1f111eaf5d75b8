"""A path to the source it holds."""

from __future__ import annotations

from pathlib import Path

from utxoiq.chain.network import Network, network_named
from utxoiq.errors import SourceError
from utxoiq.sources.blockdir import BlockDirectory, block_files
from utxoiq.sources.recorded import SUFFIXES, RecordedFolder

Source = BlockDirectory | RecordedFolder


def open_source(path: Path, network: str | None = None) -> Source:
    """The source at `path`: a Core `blocks/` directory or the folder around one, a recorded folder, or one block file.

    Raises SourceError where there is no such folder or it holds neither, ConfigError for an unknown network.
    """
    wanted = network_named(network) if network is not None else None
    if path.is_file() and path.name.endswith(SUFFIXES):
        return RecordedFolder(path, wanted)
    if not path.is_dir():
        raise SourceError(f"{path}: no such folder; give a Bitcoin Core blocks directory or a folder of *.blk files")
    for folder in (path, path / "blocks"):
        if folder.is_dir() and block_files(folder):
            return _of_network(BlockDirectory(folder), wanted)
    return RecordedFolder(path, wanted)


def _of_network(source: BlockDirectory, wanted: Network | None) -> BlockDirectory:
    if wanted is not None and source.network is not wanted:
        raise SourceError(f"{source.folder}: holds blocks of {source.network.name}, not of {wanted.name}")
    return source
