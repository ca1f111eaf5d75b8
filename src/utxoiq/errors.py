"""Every error utxoiq raises on purpose. Messages are one line: what, where, what to do.

UtxoiqError                      exit code 1: it was tried and it failed
├── ConfigError                  exit code 2: wrong use
├── InputRefused                 exit code 3: the input is not what it claims to be
│   ├── DecodeError              bytes that are no block, spent outputs, script or address
│   ├── SourceError              a folder or block directory that can't be followed
│   │   └── NodeError            exit code 1: a node or API that does not answer as it should
│   │       ├── NodeUnavailable  (transient) it is down, starting, busy, behind, or cut its reply short
│   │       ├── NodeRefused      it answers, but not to us: password, network, pruned blocks
│   │       └── RpcError         it answered a call with an error code
│   └── LabelError               an entity file that breaks its own format
├── StoreError                   the store can't be opened, read or written
│   ├── StoreUnavailable         (transient) locked, full, or its disk fails
│   ├── WrongNetwork             a store holds one network
│   ├── NotLinked                a block or disconnect that does not fit the stored tip
│   └── LeaseLost                another process took over what this one was doing
├── WarehouseError               BigQuery refused, or holds what we did not write
│   └── WarehouseUnavailable     (transient) it can't be reached, or is busy
├── InsightRefused               a text that does not pass the checker
└── ProviderError                an AI provider refused, or answers nonsense
    └── ProviderUnavailable      (transient) it can't be reached, is busy, or over a limit

Those marked transient also derive from Transient: the same call can succeed later, and only those are retried.
"""

from __future__ import annotations


class UtxoiqError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1


class Transient(Exception):
    """Mixin of errors that may be gone when the same thing is tried again."""


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


class NodeError(SourceError):
    """A node or API that does not answer as it should."""

    exit_code = 1


class NodeUnavailable(NodeError, Transient):
    """Down, starting, busy, behind the store, or its reply was cut short."""


class NodeRefused(NodeError):
    """It answers, but will not serve us as we are: wrong password, another network, pruned blocks."""


class RpcError(NodeError):
    """A call that the node answered with an error. `code` is Core's (rpc/protocol.h)."""

    def __init__(self, where: str, method: str, code: int, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(f"{where}: {method} failed ({code}: {message})")


class LabelError(InputRefused):
    """An entity file with a line that can't be used."""


class StoreError(UtxoiqError):
    """The store can't be opened, read or written."""


class StoreUnavailable(StoreError, Transient):
    """Locked by another process, out of space, or on a disk that fails."""


class WrongNetwork(StoreError):
    """A block of one network offered to a store of another."""


class NotLinked(StoreError):
    """A block whose parent is not the stored tip, or a disconnect of a block that is not the tip."""


class LeaseLost(StoreError):
    """Another process holds the lease now: nothing was written."""


class WarehouseError(UtxoiqError):
    """The warehouse refused a request, or a query breaks our own rules for it."""


class WarehouseUnavailable(WarehouseError, Transient):
    """It can't be reached, is busy, or over a quota."""


class InsightRefused(UtxoiqError):
    """A text the checker does not let through; `reasons` says why."""

    def __init__(self, reasons: list[str]) -> None:
        self.reasons = reasons
        super().__init__("not published: " + "; ".join(reasons))


class ProviderError(UtxoiqError):
    """An AI provider that refused a request, or answered with something else than a text."""


class ProviderUnavailable(ProviderError, Transient):
    """It can't be reached, is busy, took too long, or a limit of it is reached."""
