"""Output scripts and what spends them: right in form and size, signed by nobody."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from utxoiq.chain.serialize import with_length
from utxoiq.simulation.draws import random_bytes

if TYPE_CHECKING:
    from random import Random

Item = tuple[bytes, int]
"""A stack item: its fixed first bytes, and how many random ones follow."""

SIGNATURE: Item = (b"\x30\x44\x02\x20", 67)
SCHNORR: Item = (b"", 64)
KEY: Item = (b"\x02", 32)
KEY_PROGRAM: Item = (b"\x00\x14", 20)
TWO_OF_THREE: Item = (b"\x52\x21\x02", 102)
NOTHING: Item = (b"", 0)


class Lock(NamedTuple):
    """An output script and its kind."""

    kind: Kind
    script: bytes


@dataclass(frozen=True)
class Kind:
    """A script type: `head`, `size` bytes of hash or key, `tail`; and the items an input needs to spend it."""

    head: bytes
    size: int
    tail: bytes = b""
    script_items: tuple[Item, ...] = ()
    witness_items: tuple[Item, ...] = ()

    def lock(self, program: bytes) -> Lock:
        """The output script over the first bytes of `program` (at least 32)."""
        return Lock(self, self.head + program[: self.size] + self.tail)

    def unlock(self, rng: Random) -> tuple[bytes, tuple[bytes, ...]]:
        """Input script and witness of a dummy spend."""
        pushes = b"".join(with_length(_draw(rng, item)) for item in self.script_items)
        return pushes, tuple(_draw(rng, item) for item in self.witness_items)

    @cached_property
    def input_weight(self) -> int:
        """Weight units of an input that spends it."""
        script = sum(1 + len(head) + rest for head, rest in self.script_items)
        witness = sum(1 + len(head) + rest for head, rest in self.witness_items)
        return 4 * (32 + 4 + 1 + script + 4) + 1 + witness


def _draw(rng: Random, item: Item) -> bytes:
    head, rest = item
    return head + random_bytes(rng, rest)


P2PKH = Kind(b"\x76\xa9\x14", 20, b"\x88\xac", (SIGNATURE, KEY))
P2SH = Kind(b"\xa9\x14", 20, b"\x87", (KEY_PROGRAM,), (SIGNATURE, KEY))
P2WPKH = Kind(b"\x00\x14", 20, b"", (), (SIGNATURE, KEY))
P2WSH = Kind(b"\x00\x20", 32, b"", (), (NOTHING, SIGNATURE, SIGNATURE, TWO_OF_THREE))
P2TR = Kind(b"\x51\x20", 32, b"", (), (SCHNORR,))
DATA = Kind(b"\x6a\x20", 32)
"""An OP_RETURN output: worth nothing and never spent."""

COMMON = (P2WPKH,) * 8 + (P2TR,) * 5 + (P2PKH,) * 3 + (P2SH,) * 3 + (P2WSH,)
"""The kinds people use, as often as they use them."""
