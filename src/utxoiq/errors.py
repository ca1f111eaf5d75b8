"""Every error utxoiq raises on purpose. Messages are one line: what, where, what to do.

UtxoiqError                      exit code 1: it was tried and it failed
├── ConfigError                  exit code 2: wrong use
├── InputRefused                 exit code 3: the input is not what it claims to be
│   ├── DecodeError              bytes that are no block, spent outputs, script or address
│   ├── SourceError              a folder or block directory that can't be followed
│   └── LabelError               an entity file that breaks its own format
└── StoreError                   the store can't be opened, read or written
    ├── WrongNetwork             a store holds one network
    └── NotLinked                a block or disconnect that does not fit the stored tip
"""

from __future__ import annotations


class UtxoiqError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1


class ConfigError(UtxoiqError):
    """Settings or arguments that make no sense; the message says which."""

    exit_code = 2


class InputRefused(UtxoiqError):
    """Input that is not what it claims to be. Nothing was written."""

    exit_code = 3


class DecodeError(InputRefused):
    """Bytes that do not decode. `offset` is the byte at which reading stopped, or None for a check of the whole."""

    def __init__(self, what: str, reason: str, offset: int | None = None) -> None:
        self.what, self.reason, self.offset = what, reason, offset
        super().__init__(f"{what}: {reason}" + ("" if offset is None else f" at byte {offset}"))

    def __reduce__(self) -> tuple[type[DecodeError], tuple[str, str, int | None]]:
        return type(self), (self.what, self.reason, self.offset)


class SourceError(InputRefused):
    """A source of blocks that can't be opened or followed."""


class LabelError(InputRefused):
    """An entity file with a line that can't be used."""


class StoreError(UtxoiqError):
    """The store can't be opened, read or written."""


class WrongNetwork(StoreError):
    """A block of one network offered to a store of another."""


class NotLinked(StoreError):
    """A block whose parent is not the stored tip, or a disconnect of a block that is not the tip."""


class InsightRefused(UtxoiqError):
    """A text the checker does not let through; `reasons` says why."""

    def __init__(self, reasons: list[str]) -> None:
        self.reasons = reasons
        super().__init__("not published: " + "; ".join(reasons))
