"""What the ledger says, as frozen records. All amounts are satoshis, all heights those of blocks."""

from __future__ import annotations

from dataclasses import dataclass

from utxoiq.units import COIN

KEEP_FROM = 100 * COIN
"""Satoshis from which on a script's bytes are kept beside its balance, so that the rich have names."""


@dataclass(frozen=True, slots=True)
class Balance:
    """What a script holds at the tip: the sum of its unspent outputs."""

    sat: int
    first_seen: int | None
    """The block since which it has held coins at the end of every block; None where it holds none, or held them in the
    snapshot the ledger began with."""
    last_seen: int | None
    """The last block that paid it or spent from it; None where it holds none, or none did since the snapshot."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a block did to one script."""

    script: bytes
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Holder:
    """One line of the list of the richest; `script` None below what the ledger keeps scripts from."""

    script: bytes | None
    sat: int


@dataclass(frozen=True, slots=True)
class Totals:
    """So many live scripts, and what they hold together."""

    scripts: int
    sat: int


@dataclass(frozen=True, slots=True)
class Settings:
    """How a ledger balances memory, disk and the time it takes to start. The defaults are for mainnet."""

    delta_limit: int = 3_800_000
    """Changed scripts kept in memory, 64 to 128 bytes each; more are merged into the runs on disk."""
    run_records: int = 1 << 18
    """Most records of one run, 32 bytes each."""
    checkpoint_steps: int = 32
    """Steps (blocks connected or disconnected) between checkpoints."""
    replay_steps: int = 1008
    """Most steps that a start has to read again."""
    undo_blocks: int = 1008
    """Blocks that can be disconnected."""
    sync: bool = True
    """Whether each step is on the disk, not only with the system, when it returns. A killed process loses nothing
    either way; after a power cut the tip may be lower."""


DEFAULTS = Settings()
