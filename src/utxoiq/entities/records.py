"""Who is labelled: an entity, with the addresses each source ascribes to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["exchange", "mining_pool", "treasury", "etf", "government"]
Confidence = Literal["high", "medium", "low"]


@dataclass(frozen=True, slots=True)
class Label:
    """Addresses ascribed to an entity by one source. `as_of` is the date of the evidence, not of its validity."""

    source: str
    confidence: Confidence
    as_of: str
    text: str
    """Its addresses, a space between: a string for each would take thrice the memory."""
    compiled: int | None = None
    """How many addresses it has in a compiled set, which holds scripts in place of their text."""

    @property
    def count(self) -> int:
        """How many addresses it lists."""
        return self.compiled if self.compiled is not None else len(self.text.split())

    @property
    def addresses(self) -> tuple[str, ...]:
        """Those of a set that was read from text; of a compiled one, ask `LabelSet.addresses_of`."""
        if self.compiled:
            raise TypeError("a compiled label set holds no texts: ask LabelSet.addresses_of")
        return tuple(self.text.split())


@dataclass(frozen=True, slots=True)
class Entity:
    """Somebody: an exchange, a pool, a company. `tags` are what it writes into coinbases.

    `known_holdings` {sat, as_of, source} is the newest statement of what it holds, `holdings` the dated ones, oldest
    first, of the same form.
    """

    id: str
    name: str
    kind: Kind
    ticker: str | None
    tags: tuple[str, ...]
    known_holdings: dict[str, Any] | None
    labels: tuple[Label, ...]
    holdings: tuple[dict[str, Any], ...] = ()

    @property
    def addresses(self) -> list[str]:
        return [address for label in self.labels for address in label.addresses]

    @property
    def count(self) -> int:
        """How many addresses are listed under it, once for each label that lists one."""
        return sum(label.count for label in self.labels)
