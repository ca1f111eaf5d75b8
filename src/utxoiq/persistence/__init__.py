"""What we remember: blocks, facts, signals and insights, with the hash of the block that caused each."""

from __future__ import annotations

from utxoiq.persistence.module import SignalPersistenceModule
from utxoiq.persistence.sqlite import SqliteStore, open_store

__all__ = ["SignalPersistenceModule", "SqliteStore", "open_store"]
