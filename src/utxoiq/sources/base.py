"""What a source of blocks is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from utxoiq.chain.hashes import Hash256
    from utxoiq.chain.network import Network
    from utxoiq.models import BlockData, Connected, Cursor, Disconnected

MEDIAN_TIME_ANCESTORS = 10
"""Headers before a block that its median time past is taken over, beside its own (Core's nMedianTimeSpan - 1)."""


class BlockSource(Protocol):
    """Emits the best chain as steps: tip downwards, then the new branch upwards. A reorg is a step, not an error."""

    @property
    def network(self) -> Network:
        """The one network its blocks are of. Raises SourceError where there are several."""

    def tip(self) -> Cursor | None:
        """The tip of the best chain, None where there is no block with a height."""

    def lowest(self) -> int:
        """The lowest height `block_at` has a block of, 0 where there is none."""

    def block_at(self, height: int) -> BlockData:
        """The block of the best chain at `height`. Raises SourceError where there is none."""

    def blocks(self) -> Iterator[BlockData]:
        """Every block of the best chain, from the first up."""

    def __len__(self) -> int:
        """How many `blocks()` gives."""

    def branch(self, block_hash: Hash256, size: int) -> Iterator[BlockData]:
        """Up to `size` linked blocks ending with `block_hash`, oldest first. Raises SourceError where it isn't here."""

    def count_from(self, cursor: Cursor | None) -> int:
        """How many steps `follow(cursor)` will emit, for a progress bar."""

    def follow(self, cursor: Cursor | None) -> AsyncIterator[Connected | Disconnected]:
        """Every step from `cursor` (None: from the beginning) to the tip.

        Raises SourceError where the source does not know the cursor's block, DecodeError for a block it can't read.
        """
