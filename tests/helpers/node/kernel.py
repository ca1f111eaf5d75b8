"""Bitcoin Core's validation library as the judge of every block the double connects."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

import pbk

REASON = re.compile(r"Block validation error: ([^,\n]+)|AcceptBlock FAILED \(([^,\n]+?)(?:,.*)?\)$", re.MULTILINE)


class RawBlock(pbk.Block):
    """A block whose bytes are copied at once, and not one by one."""

    def __init__(self, raw: bytes) -> None:
        super(pbk.Block, self).__init__((ctypes.c_ubyte * len(raw)).from_buffer_copy(raw), len(raw))


@dataclass(frozen=True)
class Outcome:
    """What came of a block: `reason` is None unless it was refused; `header_known` tells if its header stood."""

    new: bool
    reason: str | None = None
    header_known: bool = False


class Kernel:
    """A chain of its own in a folder, and what it said of each block (None: valid, else the reason).

    It always follows the branch with the most work, so when the double does not (`invalidateblock`), it is begun
    again with the blocks the double still wants. Verdicts outlive that.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.verdicts: dict[bytes, str | None] = {}
        self.starts = 0
        self._lines: list[str] = []
        self._begin()

    def _begin(self) -> None:
        folder = self.folder / f"kernel{self.starts}"
        self.starts += 1
        # a callback must outlive what calls it
        self._callbacks = pbk.ValidationInterfaceCallbacks(block_checked=self._checked)
        chosen = pbk.ContextOptions()
        chosen.set_chainparams(pbk.ChainParameters(pbk.ChainType.REGTEST))
        chosen.set_validation_interface(self._callbacks)
        self._context = pbk.Context(chosen)
        options = pbk.ChainstateManagerOptions(self._context, str(folder), str(folder / "blocks"))
        options.update_block_tree_db_in_memory(True)
        options.update_chainstate_db_in_memory(True)
        options.set_worker_threads_num(0)
        self._manager = pbk.ChainstateManager(options)

    def close(self) -> None:
        """Let go of the chain and its files; what was said of blocks stays."""
        self.__dict__.pop("_manager", None)
        self.__dict__.pop("_context", None)
        rmtree(self.folder / f"kernel{self.starts - 1}", ignore_errors=True)

    @property
    def genesis(self) -> bytes:
        return bytes(self._manager.blocks[next(iter(self._manager.get_active_chain().block_tree_entries))])

    def knows(self, block_hash: bytes) -> bool:
        return pbk.BlockHash(block_hash) in self._manager.block_tree_entries

    def submit(self, raw: bytes) -> Outcome:
        """Process a block; what it connects, or fails to, is in `verdicts` afterwards."""
        block = RawBlock(raw)
        block_hash = bytes(block.block_hash)
        self._lines.clear()
        log = pbk.LoggingConnection(self._lines.append)
        try:
            new = self._manager.process_block(block)
        except pbk.ProcessBlockException:
            # the callback comes before the reason is logged
            self.verdicts.pop(block_hash, None)
            return Outcome(False, self._reason(), self.knows(block_hash))
        finally:
            del log
        return Outcome(new)

    def submit_header(self, header: bytes) -> bool:
        """Process a header; True if it stands."""
        state = self._manager.process_block_header(pbk.BlockHeader(header))
        return bool(state.validation_mode == pbk.ValidationMode.VALID)

    def again(self, blocks: Iterable[bytes], headers: Iterable[bytes]) -> None:
        """Begin again, and process these in order."""
        self.close()
        self._begin()
        for raw in blocks:
            self.submit(raw)
        for header in headers:
            self.submit_header(header)

    def _checked(self, _data: object, block: pbk.Block, state: pbk.BlockValidationState) -> None:
        valid = state.validation_mode == pbk.ValidationMode.VALID
        self.verdicts[bytes(block.block_hash)] = None if valid else self._reason()

    def _reason(self) -> str:
        found = [match.group(1) or match.group(2) for line in self._lines if (match := REASON.search(line))]
        return found[-1] if found else "rejected"
