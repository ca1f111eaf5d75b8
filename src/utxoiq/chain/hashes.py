"""Hashes of blocks and transactions, with their two byte orders kept apart by Python's own protocols."""

from __future__ import annotations

import hashlib


def double_sha256(data: bytes) -> bytes:
    """SHA-256 of the SHA-256 of `data`, in internal byte order."""
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


class Hash256(bytes):
    """Thirty-two bytes. `bytes(h)` is internal order, `str(h)` is display order (reversed hex), as nodes print it."""

    __slots__ = ()

    def __new__(cls, internal: bytes) -> Hash256:
        if len(internal) != 32:
            raise ValueError(f"a hash has 32 bytes, not {len(internal)}")
        return super().__new__(cls, internal)

    @classmethod
    def from_display(cls, text: str) -> Hash256:
        """From hex in display order. Raises ValueError for anything but 64 hex digits."""
        if len(text) != 64:
            raise ValueError(f"a hash has 64 hex digits, not {len(text)}")
        return cls(bytes.fromhex(text)[::-1])

    def __str__(self) -> str:
        return self[::-1].hex()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self})"


NULL_HASH = Hash256(bytes(32))
"""What genesis has for a parent and a coinbase input spends."""
