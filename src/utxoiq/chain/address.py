"""Addresses and scripts: base58check, bech32 (BIP 173) and bech32m (BIP 350). Only for showing and for labels."""

from __future__ import annotations

from functools import reduce
from operator import xor
from typing import TYPE_CHECKING

from utxoiq.chain.hashes import double_sha256
from utxoiq.errors import DecodeError

if TYPE_CHECKING:
    from utxoiq.chain.network import Network

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
BECH32_CHECK, BECH32M_CHECK = 1, 0x2BC830A3
GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
FEEDBACK = tuple(reduce(xor, (g for i, g in enumerate(GENERATOR) if top >> i & 1), 0) for top in range(32))
"""What the five bits that leave the check give back to it."""


def address_of(script: bytes, network: Network) -> str | None:
    """The address of an output script, or None for scripts that have none (public keys, multisig, data, …)."""
    if len(script) == 25 and script.startswith(b"\x76\xa9\x14") and script.endswith(b"\x88\xac"):
        return _base58check(bytes([network.p2pkh_prefix]) + script[3:23])
    if len(script) == 23 and script.startswith(b"\xa9\x14") and script.endswith(b"\x87"):
        return _base58check(bytes([network.p2sh_prefix]) + script[2:22])
    version = _witness_version(script)
    if version is None or (version == 0 and len(script) not in (22, 34)):
        return None
    return _bech32(network.bech32_prefix, version, script[2:])


def script_of(address: str, network: Network) -> bytes:
    """The output script an address stands for.

    Raises DecodeError for a bad checksum, a wrong length or another network's address.
    """
    if address.lower().startswith(network.bech32_prefix + "1"):
        return _script_of_bech32(address, network.bech32_prefix)
    payload = _from_base58check(address)
    if len(payload) == 21 and payload[0] == network.p2pkh_prefix:
        return b"\x76\xa9\x14" + payload[1:] + b"\x88\xac"
    if len(payload) == 21 and payload[0] == network.p2sh_prefix:
        return b"\xa9\x14" + payload[1:] + b"\x87"
    raise DecodeError("address", f"{address[:100]!r} is not of network {network.name}")


def _witness_version(script: bytes) -> int | None:
    if not 4 <= len(script) <= 42 or script[1] != len(script) - 2:
        return None
    if script[0] == 0:
        return 0
    return script[0] - 0x50 if 0x51 <= script[0] <= 0x60 else None


def _base58check(payload: bytes) -> str:
    data = payload + double_sha256(payload)[:4]
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def _from_base58check(text: str) -> bytes:
    number = 0
    for character in text:
        digit = BASE58.find(character)
        if digit < 0 or len(text) > 100:
            raise DecodeError("address", f"{text[:100]!r} is not base58")
        number = number * 58 + digit
    zeros = len(text) - len(text.lstrip("1"))
    data = bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
    if len(data) < 5 or double_sha256(data[:-4])[:4] != data[-4:]:
        raise DecodeError("address", f"{text[:100]!r} has a wrong checksum")
    return data[:-4]


def _polymod(values: list[int]) -> int:
    check = 1
    for value in values:
        check = (check & 0x1FFFFFF) << 5 ^ value ^ FEEDBACK[check >> 25]
    return check


def _expanded(prefix: str) -> list[int]:
    return [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]


def _regroup(data: bytes | list[int], width_in: int, width_out: int, *, pad: bool) -> list[int] | None:
    buffer, bits, out = 0, 0, []
    for value in data:
        buffer = (buffer << width_in) | value
        bits += width_in
        while bits >= width_out:
            bits -= width_out
            out.append((buffer >> bits) & ((1 << width_out) - 1))
    rest = buffer & ((1 << bits) - 1)
    if pad:
        return [*out, rest << (width_out - bits)] if bits else out
    return None if bits >= width_in or rest else out


def _bech32(prefix: str, version: int, program: bytes) -> str:
    data = [version, *(_regroup(program, 8, 5, pad=True) or [])]
    check = _polymod(_expanded(prefix) + data + [0] * 6) ^ (BECH32M_CHECK if version else BECH32_CHECK)
    return prefix + "1" + "".join(BECH32[d] for d in data + [(check >> 5 * (5 - i)) & 31 for i in range(6)])


def _script_of_bech32(address: str, prefix: str) -> bytes:
    shown = repr(address[:100])
    if address not in (address.lower(), address.upper()) or len(address) > 90 or not address.isascii():
        raise DecodeError("address", f"{shown} mixes cases, is too long or not ASCII")
    data = [BECH32.find(c) for c in address.lower()[len(prefix) + 1 :]]
    if len(data) < 8 or min(data) < 0:
        raise DecodeError("address", f"{shown} is not bech32")
    version = data[0]
    if _polymod(_expanded(prefix) + data) != (BECH32M_CHECK if version else BECH32_CHECK):
        raise DecodeError("address", f"{shown} has a wrong checksum")
    program = bytes(_regroup(data[1:-6], 5, 8, pad=False) or b"")
    if version > 16 or not 2 <= len(program) <= 40 or (version == 0 and len(program) not in (20, 32)):
        raise DecodeError("address", f"{shown} holds no witness program")
    return bytes([0x50 + version if version else 0, len(program)]) + program
