"""What a source of blocks is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from utxoiq.chain.network import Network
    from utxoiq.models import BlockData, Connected, Cursor, Disconnected

MEDIAN_TIME_ANCESTORS = 10
"""Headers before a block that its median time past is taken over, beside its own (Core's nMedianTimeSpan - 1)."""


class BlockSource(Protocol):
    """Emits the best chain as steps: tip downwards, then the new branch upwards. A reorg is a step, not an error."""

    network: Network

    def tip(self) -> Cursor | None:
        """The tip of the best chain, None where there is no block with a height."""

    def block_at(self, height: int) -> BlockData:
        """The block of the best chain at `height`. Raises SourceError where there is none."""

    def count_from(self, cursor: Cursor | None) -> int:
        """How many steps `follow(cursor)` will emit, for a progress bar."""

    def follow(self, cursor: Cursor | None) -> AsyncIterator[Connected | Disconnected]:
        """Every step from `cursor` (None: from the beginning) to the tip.

        Raises SourceError where the source does not know the cursor's block, DecodeError for a block it can't read.
        """
