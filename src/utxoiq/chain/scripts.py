"""Script types, by Bitcoin Core's names (`script/solver.cpp`, GetTxnOutputType)."""

from __future__ import annotations

from enum import IntEnum


class ScriptType(IntEnum):
    """What kind of output script it is; `str()` gives Core's name."""

    NONSTANDARD = 0
    PUBKEY = 1
    PUBKEYHASH = 2
    SCRIPTHASH = 3
    MULTISIG = 4
    NULLDATA = 5
    WITNESS_V0_KEYHASH = 6
    WITNESS_V0_SCRIPTHASH = 7
    WITNESS_V1_TAPROOT = 8
    ANCHOR = 9
    WITNESS_UNKNOWN = 10

    def __str__(self) -> str:
        return self.name.lower()
