"""How a label file writes a script: as its address, or as `script:` and hex where it has none (bare keys, for one)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from utxoiq.chain.address import address_of, script_of
from utxoiq.errors import DecodeError

if TYPE_CHECKING:
    from utxoiq.chain.network import Network

RAW = "script:"


def script_of_word(word: str, network: Network) -> bytes:
    """The script of an address, or of `script:` and hex digits. Raises DecodeError for anything else."""
    if not word.startswith(RAW):
        return script_of(word, network)
    digits = word.removeprefix(RAW)
    if not digits or len(digits) % 2 or not set(digits) <= set("0123456789abcdef"):
        raise DecodeError("script", f"{word[:100]!r} is not {RAW} and pairs of small hex digits")
    return bytes.fromhex(digits)


def word_of(script: bytes, network: Network) -> str:
    """How a script is written: its address where it has one."""
    return address_of(script, network) or RAW + script.hex()


def canonical(word: str, network: Network) -> str:
    """The one way to write what is valid: bech32 may come in capitals, and a script that has an address as hex."""
    if word.startswith(RAW):
        return word_of(script_of_word(word, network), network)
    lower = word.lower()
    return lower if lower.startswith(network.bech32_prefix + "1") else word
