"""Scripts as the node shows them: assembly, inferred descriptor, address and type."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from bitcoin.core.script import OPCODE_NAMES

from helpers.reference import operations, script_type
from utxoiq.chain.address import address_of
from utxoiq.chain.network import NETWORKS
from utxoiq.chain.secp256k1 import lift_x

REGTEST = NETWORKS["regtest"]
SIGHASHES = {0x01: "ALL", 0x02: "NONE", 0x03: "SINGLE", 0x81: "ALL|ANYONECANPAY", 0x82: "NONE|ANYONECANPAY",
             0x83: "SINGLE|ANYONECANPAY"}  # fmt: skip
CHARSET = "0123456789()[],'/*abcdefgh@:$%{}IJKLMNOPQRSTUVWXYZ&+-.;<=>?!^_|~ijklmnopqrstuvwxyzABCDEFGH`#\"\\ "  # BIP 380
CHECKSUM = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
GENERATOR = (0xF5DEE51989, 0xA9FDCA3312, 0x1BAB10E32D, 0x3706B1677A, 0x644D626FFD)


@lru_cache(maxsize=20_000)
def script_json(script: bytes) -> dict[str, Any]:
    """What stands for an output script. Not to be changed: it is shared."""
    kind, address = script_type(script), address_of(script, REGTEST)
    shown = {"asm": asm(script), "desc": descriptor(script, kind, address), "hex": script.hex()}
    if address is not None:
        shown["address"] = address
    return {**shown, "type": kind}


def asm(script: bytes, *, signatures: bool = False) -> str:
    """The operations of a script; `signatures` shows the hash type of what looks like one."""
    words, at = [], 0
    signatures = signatures and script[:1] != b"\x6a"
    while at < len(script):
        operation = operations(script[at : at + _length(script, at)])
        if operation is None:
            words.append("[error]")
            break
        (opcode, data), at = operation[0], at + _length(script, at)
        words.append(_pushed(data, signatures=signatures) if opcode <= 0x4E else _name(opcode))
    return " ".join(words)


def _length(script: bytes, at: int) -> int:
    """The bytes of the operation at `at`, its data included."""
    opcode = script[at]
    width = {0x4C: 1, 0x4D: 2, 0x4E: 4}.get(opcode, 0)
    size = opcode if opcode < 0x4C else int.from_bytes(script[at + 1 : at + 1 + width], "little")
    return 1 + width + size if opcode <= 0x4E else 1


def _name(opcode: int) -> str:
    if opcode == 0x4F:
        return "-1"
    if 0x51 <= opcode <= 0x60:
        return str(opcode - 0x50)
    if opcode == 0xBA:
        return "OP_CHECKSIGADD"
    return str(OPCODE_NAMES[opcode]) if opcode <= 0xB9 or opcode == 0xFF else "OP_UNKNOWN"


def _pushed(data: bytes, *, signatures: bool) -> str:
    if len(data) <= 4:
        value = int.from_bytes(data, "little")
        sign = 1 << (8 * len(data) - 1) if data else 0
        return str(sign - value if value & sign else value)
    if signatures and _is_signature(data):
        return f"{data[:-1].hex()}[{SIGHASHES[data[-1]]}]"
    return data.hex()


def _is_signature(data: bytes) -> bool:
    """A DER signature with a defined hash type behind it (BIP 66)."""
    if not 9 <= len(data) <= 73 or data[-1] not in SIGHASHES or data[0] != 0x30 or data[1] != len(data) - 3:
        return False
    size = data[3]
    if 5 + size >= len(data) or 7 + size + data[5 + size] != len(data):
        return False
    return _is_positive(data[2:4], data[4 : 4 + size]) and _is_positive(data[4 + size : 6 + size], data[6 + size : -1])


def _is_positive(head: bytes, value: bytes) -> bool:
    if head[0] != 2 or not value or value[0] & 0x80:
        return False
    return not (len(value) > 1 and value[0] == 0 and not value[1] & 0x80)


def descriptor(script: bytes, kind: str, address: str | None) -> str:
    """What Core infers without knowing any key."""
    body = f"raw({script.hex()})"
    if kind == "pubkey" and _is_point(script[1:-1]):
        body = f"pk({script[1:-1].hex()})"
    elif kind == "multisig":
        found = operations(script)
        assert found is not None
        keys = [data for _, data in found[1:-2]]
        if all(_is_point(key) for key in keys):
            body = f"multi({_small(found[0])},{','.join(key.hex() for key in keys)})"
    elif kind == "witness_v1_taproot" and lift_x(int.from_bytes(script[2:], "big"), 0) is not None:
        body = f"rawtr({script[2:].hex()})"
    elif address is not None:
        body = f"addr({address})"
    return f"{body}#{_checksum(body)}"


def _small(operation: tuple[int, bytes]) -> int:
    opcode, data = operation
    return opcode - 0x50 if not data else data[0]


def _is_point(key: bytes) -> bool:
    """A public key that is on the curve and not hybrid: what a descriptor can hold."""
    x = int.from_bytes(key[1:33], "big")
    if key[0] in (2, 3):
        return lift_x(x, key[0] & 1) is not None
    return key[0] == 4 and lift_x(x, key[64] & 1) == int.from_bytes(key[33:], "big")


def _checksum(text: str) -> str:
    check, group, count = 1, 0, 0
    for character in text:
        at = CHARSET.index(character)
        check = _step(check, at & 31)
        group, count = group * 3 + (at >> 5), count + 1
        if count == 3:
            check, group, count = _step(check, group), 0, 0
    if count:
        check = _step(check, group)
    for _ in range(8):
        check = _step(check, 0)
    check ^= 1
    return "".join(CHECKSUM[check >> 5 * (7 - j) & 31] for j in range(8))


def _step(check: int, value: int) -> int:
    top = check >> 35
    check = (check & 0x7FFFFFFFF) << 5 ^ value
    for i, generator in enumerate(GENERATOR):
        if top >> i & 1:
            check ^= generator
    return check
