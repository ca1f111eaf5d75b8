"""Blocks, spent outputs and script types read a second time, in plain Python straight from Bitcoin Core's rules.

Slow and simple on purpose, and nothing of `utxoiq` in it: the kernels must agree with it, on what they refuse too.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

MAX_MONEY = 21_000_000 * 100_000_000
P = 2**256 - 2**32 - 977


class Refused(Exception):
    """The bytes are not what they should be."""


def sha256d(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def merkle_root(leaves: list[bytes]) -> bytes:
    """The root as the protocol defines it: an odd last node is paired with itself."""
    while len(leaves) > 1:
        if len(leaves) % 2:
            leaves = [*leaves, leaves[-1]]
        leaves = [sha256d(leaves[i] + leaves[i + 1]) for i in range(0, len(leaves), 2)]
    return leaves[0]


class Reader:
    """Bytes read one after the other, refusing to go beyond the end."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def take(self, count: int) -> bytes:
        if count > len(self.data) - self.at:
            raise Refused("ends early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, width: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(width), "little", signed=signed)

    def compact_size(self) -> int:
        head = self.number(1)
        if head < 253:
            return head
        width = {253: 2, 254: 4, 255: 8}[head]
        value = self.number(width)
        if value < {2: 253, 4: 1 << 16, 8: 1 << 32}[width] or value > 0x02000000:
            raise Refused("not canonical")
        return value

    def varint(self) -> int:
        value = 0
        while True:
            byte = self.number(1)
            value = (value << 7) | (byte & 127)
            if byte < 128:
                return value
            value += 1

    def finish(self) -> None:
        if self.at != len(self.data):
            raise Refused("leftover")


def _amount(sat: int) -> int:
    if not 0 <= sat <= MAX_MONEY:
        raise Refused("money")
    return sat


@dataclass
class RefTx:
    stripped: bytes
    whole: bytes
    inputs: int
    outputs: list[tuple[int, bytes]]
    witness: bool


def read_block(raw: bytes) -> list[RefTx]:
    """The transactions of a block, with the checks that need nothing but the block's bytes."""
    reader = Reader(raw)
    reader.take(80)
    count = reader.compact_size()
    if count == 0:
        raise Refused("no transactions")
    transactions = [_read_tx(reader, first=t == 0) for t in range(count)]
    reader.finish()
    return transactions


def _read_tx(reader: Reader, *, first: bool) -> RefTx:
    begin = reader.at
    version = reader.take(4)
    inputs_at = reader.at
    n_in, witness = reader.compact_size(), False
    if n_in == 0:
        if reader.number(1) != 1:
            raise Refused("flag")
        inputs_at, witness = reader.at, True
        n_in = reader.compact_size()
        if n_in == 0:
            raise Refused("no inputs")
    for _ in range(n_in):
        outpoint, script = reader.take(36), reader.take(reader.compact_size())
        reader.take(4)
        null = outpoint == bytes(32) + b"\xff" * 4
        if null != first or (first and (n_in != 1 or not 2 <= len(script) <= 100)):
            raise Refused("coinbase")
    n_out = reader.compact_size()
    if n_out == 0:
        raise Refused("no outputs")
    outputs = [(_amount(reader.number(8, signed=True)), reader.take(reader.compact_size())) for _ in range(n_out)]
    _amount(sum(value for value, _ in outputs))
    body = reader.data[inputs_at : reader.at]
    if witness and not sum([_skip_stack(reader) for _ in range(n_in)]):
        raise Refused("superfluous witness")
    lock_time = reader.take(4)
    return RefTx(version + body + lock_time, reader.data[begin : reader.at], n_in, outputs, witness)


def _skip_stack(reader: Reader) -> int:
    items = reader.compact_size()
    for _ in range(items):
        reader.take(reader.compact_size())
    return items


@dataclass
class RefCoin:
    value: int
    script: bytes
    height: int | None = None
    is_coinbase: bool | None = None


def read_spenttxouts(payload: bytes, inputs: list[int]) -> list[list[RefCoin]]:
    """REST `spenttxouts` for a block whose transactions have these numbers of inputs."""
    reader, expected = Reader(payload), [0, *inputs[1:]]
    if reader.compact_size() != len(expected):
        raise Refused("transactions")
    rows = []
    for count in expected:
        if reader.compact_size() != count:
            raise Refused("inputs")
        rows.append(
            [RefCoin(_amount(reader.number(8, signed=True)), reader.take(reader.compact_size())) for _ in range(count)]
        )
        _amount(sum(coin.value for coin in rows[-1]))
    reader.finish()
    return rows[1:]


def read_undo(payload: bytes, inputs: list[int]) -> tuple[list[list[RefCoin]], bool]:
    """A CBlockUndo, and whether it is written the one way Core writes it today.

    Old versions of Core left a transaction version behind the height, and any script may be stored as it is.
    """
    reader, canonical = Reader(payload), True
    if reader.compact_size() != len(inputs) - 1:
        raise Refused("transactions")
    rows = []
    for count in inputs[1:]:
        if reader.compact_size() != count:
            raise Refused("inputs")
        coins = []
        for _ in range(count):
            coin, as_today = _read_coin(reader)
            coins.append(coin)
            canonical &= as_today
        rows.append(coins)
        _amount(sum(coin.value for coin in coins))
    reader.finish()
    return rows, canonical


def _read_coin(reader: Reader) -> tuple[RefCoin, bool]:
    code = reader.varint()
    if code >= 1 << 32:
        raise Refused("height")
    version = reader.varint() if code > 1 else 0
    value = _amount(_decompressed_amount(reader.varint()))
    form = reader.varint()
    if form >= 6:
        if form - 6 > 10_000:
            raise Refused("script size")
        script = reader.take(form - 6)
        as_today = not _has_short_form(script)
    else:
        script, as_today = _decompressed_script(form, reader), True
    return RefCoin(value, script, code >> 1, bool(code & 1)), as_today and version == 0


def _decompressed_amount(packed: int) -> int:
    if packed == 0:
        return 0
    rest, exponent = divmod(packed - 1, 10)
    if exponent == 9:
        return (rest + 1) * 10**9
    digits, last = divmod(rest, 9)
    return (digits * 10 + last + 1) * 10**exponent


def _decompressed_script(form: int, reader: Reader) -> bytes:
    if form == 0:
        return b"\x76\xa9\x14" + reader.take(20) + b"\x88\xac"
    if form == 1:
        return b"\xa9\x14" + reader.take(20) + b"\x87"
    x = reader.take(32)
    if form < 4:
        return bytes([33, form]) + x + b"\xac"
    y = _y_of(int.from_bytes(x, "big"))
    if y is None:
        raise Refused("not on the curve")
    y = P - y if y & 1 != form & 1 else y
    return b"\x41\x04" + x + y.to_bytes(32, "big") + b"\xac"


def _y_of(x: int) -> int | None:
    square = (x**3 + 7) % P
    y = pow(square, (P + 1) // 4, P)
    return y if x < P and y * y % P == square else None


def _has_short_form(script: bytes) -> bool:
    if script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        return True
    if script[:2] == b"\xa9\x14" and script[22:] == b"\x87":
        return True
    if len(script) == 35 and script[:2] in (b"\x21\x02", b"\x21\x03") and script[34:] == b"\xac":
        return True
    if len(script) == 67 and script[:2] == b"\x41\x04" and script[66:] == b"\xac":
        y = _y_of(int.from_bytes(script[2:34], "big"))
        return y is not None and int.from_bytes(script[34:66], "big") in (y, P - y)
    return False


def operations(script: bytes) -> list[tuple[int, bytes]] | None:
    """The (opcode, pushed bytes) of a script, or None where a push runs beyond its end."""
    found, at = [], 0
    while at < len(script):
        opcode, at = script[at], at + 1
        size = opcode if opcode < 76 else 0
        if 76 <= opcode <= 78:
            width = {76: 1, 77: 2, 78: 4}[opcode]
            if at + width > len(script):
                return None
            size, at = int.from_bytes(script[at : at + width], "little"), at + width
        if at + size > len(script):
            return None
        found.append((opcode, script[at : at + size]))
        at += size
    return found


def _is_key(data: bytes) -> bool:
    return bool(data) and {2: 33, 3: 33, 4: 65, 6: 65, 7: 65}.get(data[0]) == len(data)


def _key_count(operation: tuple[int, bytes]) -> int:
    opcode, data = operation
    if 81 <= opcode <= 96:
        return opcode - 80
    return data[0] if opcode == 1 and 17 <= data[0] <= 20 else 0


def _is_multisig(script: bytes) -> bool:
    if script[-1] != 0xAE:
        return False
    found = operations(script)
    if found is None or len(found) < 4 or found[-1] != (0xAE, b""):
        return False
    required, keys, total = _key_count(found[0]), found[1:-2], _key_count(found[-2])
    return 1 <= required <= total == len(keys) and all(_is_key(data) for _, data in keys)


def script_type(script: bytes) -> str:  # noqa: PLR0911
    """Core's name for a script (`Solver` and `GetTxnOutputType`)."""
    if len(script) == 23 and script[:2] == b"\xa9\x14" and script[22] == 0x87:
        return "scripthash"
    if 4 <= len(script) <= 42 and script[0] in (0, *range(81, 97)) and script[1] == len(script) - 2:
        if script == bytes.fromhex("51024e73"):
            return "anchor"
        return {
            (0, 22): "witness_v0_keyhash",
            (0, 34): "witness_v0_scripthash",
            (81, 34): "witness_v1_taproot",
        }.get((script[0], len(script)), "witness_unknown" if script[0] else "nonstandard")
    if script[:1] == b"\x6a":
        found = operations(script[1:])
        return "nonstandard" if found is None or any(opcode > 96 for opcode, _ in found) else "nulldata"
    if len(script) in (35, 67) and script[0] == len(script) - 2 and script[-1] == 0xAC and _is_key(script[1:-1]):
        return "pubkey"
    if len(script) == 25 and script[:3] == b"\x76\xa9\x14" and script[23:] == b"\x88\xac":
        return "pubkeyhash"
    return "multisig" if script and _is_multisig(script) else "nonstandard"
