"""Script types by Bitcoin Core's rules, lookup keys, and addresses both ways."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from random import Random

import pytest

from helpers.build import coinbase, unmined
from helpers.reference import script_type
from utxoiq.chain.address import address_of, script_of
from utxoiq.chain.block import Block, Outputs, decode_block, read_rest_spent, read_undo_spent
from utxoiq.chain.network import NETWORKS, Network
from utxoiq.chain.scripts import ScriptType
from utxoiq.chain.serialize import Coin, Tx, TxInput, spenttxouts_bytes, undo_bytes
from utxoiq.errors import DecodeError

MAIN, TEST, REGTEST = NETWORKS["main"], NETWORKS["test4"], NETWORKS["regtest"]
KEY, ODD_KEY = b"\x02" + b"\x11" * 32, b"\x03" + b"\x22" * 32
LONG_KEY = bytes.fromhex(
    "0479be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
    "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"
)
RETURN, CHECKSIG, CHECKMULTISIG = b"\x6a", b"\xac", b"\xae"


def pushed(data: bytes) -> bytes:
    return bytes([len(data)]) + data


def multisig(required: bytes, keys: list[bytes], total: bytes) -> bytes:
    return required + b"".join(map(pushed, keys)) + total + CHECKMULTISIG


def number(n: int) -> bytes:
    """A key count: OP_1 to OP_16, and from 17 on a push of one byte."""
    return bytes([0x50 + n]) if n <= 16 else bytes([1, n])


SCRIPTS: dict[str, tuple[bytes, ScriptType]] = {
    "empty": (b"", ScriptType.NONSTANDARD),
    "OP_TRUE": (b"\x51", ScriptType.NONSTANDARD),
    "P2PK compressed": (pushed(KEY) + CHECKSIG, ScriptType.PUBKEY),
    "P2PK odd": (pushed(ODD_KEY) + CHECKSIG, ScriptType.PUBKEY),
    "P2PK uncompressed": (pushed(LONG_KEY) + CHECKSIG, ScriptType.PUBKEY),
    "P2PK hybrid 6": (pushed(b"\x06" + LONG_KEY[1:]) + CHECKSIG, ScriptType.PUBKEY),
    "P2PK hybrid 7": (pushed(b"\x07" + LONG_KEY[1:]) + CHECKSIG, ScriptType.PUBKEY),
    "P2PK header 5": (pushed(b"\x05" + LONG_KEY[1:]) + CHECKSIG, ScriptType.NONSTANDARD),
    "P2PK header 0": (pushed(b"\x00" + KEY[1:]) + CHECKSIG, ScriptType.NONSTANDARD),
    "P2PK header 4 and 33 bytes": (pushed(b"\x04" + KEY[1:]) + CHECKSIG, ScriptType.NONSTANDARD),
    "P2PK header 2 and 65 bytes": (pushed(b"\x02" + LONG_KEY[1:]) + CHECKSIG, ScriptType.NONSTANDARD),
    "P2PK pushed by PUSHDATA1": (b"\x4c" + pushed(KEY) + CHECKSIG, ScriptType.NONSTANDARD),
    "P2PK and more": (pushed(KEY) + CHECKSIG + b"\x51", ScriptType.NONSTANDARD),
    "P2PK verify": (pushed(KEY) + b"\xad", ScriptType.NONSTANDARD),
    "P2PKH": (b"\x76\xa9\x14" + bytes(20) + b"\x88\xac", ScriptType.PUBKEYHASH),
    "P2PKH, NOP at the end": (b"\x76\xa9\x14" + bytes(20) + b"\x88\xac\x61", ScriptType.NONSTANDARD),
    "P2PKH of 19 bytes": (b"\x76\xa9\x13" + bytes(19) + b"\x88\xac", ScriptType.NONSTANDARD),
    "P2PKH with EQUAL": (b"\x76\xa9\x14" + bytes(20) + b"\x87\xac", ScriptType.NONSTANDARD),
    "P2PKH with SHA256": (b"\x76\xa8\x14" + bytes(20) + b"\x88\xac", ScriptType.NONSTANDARD),
    "P2SH": (b"\xa9\x14" + bytes(20) + b"\x87", ScriptType.SCRIPTHASH),
    "P2SH pushed by PUSHDATA1": (b"\xa9\x4c\x14" + bytes(20) + b"\x87", ScriptType.NONSTANDARD),
    "P2SH with EQUALVERIFY": (b"\xa9\x14" + bytes(20) + b"\x88", ScriptType.NONSTANDARD),
    "P2WPKH": (b"\x00\x14" + bytes(20), ScriptType.WITNESS_V0_KEYHASH),
    "P2WSH": (b"\x00\x20" + bytes(32), ScriptType.WITNESS_V0_SCRIPTHASH),
    "v0 of 2": (b"\x00\x02" + bytes(2), ScriptType.NONSTANDARD),
    "v0 of 19": (b"\x00\x13" + bytes(19), ScriptType.NONSTANDARD),
    "v0 of 21": (b"\x00\x15" + bytes(21), ScriptType.NONSTANDARD),
    "v0 of 23, as long as P2PKH": (b"\x00\x17" + bytes(23), ScriptType.NONSTANDARD),
    "v0 of 31": (b"\x00\x1f" + bytes(31), ScriptType.NONSTANDARD),
    "v0 of 40": (b"\x00\x28" + bytes(40), ScriptType.NONSTANDARD),
    "v0 of 41": (b"\x00\x29" + bytes(41), ScriptType.NONSTANDARD),
    "P2TR": (b"\x51\x20" + bytes(32), ScriptType.WITNESS_V1_TAPROOT),
    "P2A": (bytes.fromhex("51024e73"), ScriptType.ANCHOR),
    "v1 of 2, not P2A": (bytes.fromhex("51024e74"), ScriptType.WITNESS_UNKNOWN),
    "v2, P2A's program": (bytes.fromhex("52024e73"), ScriptType.WITNESS_UNKNOWN),
    "v1 of 20": (b"\x51\x14" + bytes(20), ScriptType.WITNESS_UNKNOWN),
    "v1 of 33": (b"\x51\x21" + bytes(33), ScriptType.WITNESS_UNKNOWN),
    "v2 of 32": (b"\x52\x20" + bytes(32), ScriptType.WITNESS_UNKNOWN),
    "v16 of 40": (b"\x60\x28" + bytes(40), ScriptType.WITNESS_UNKNOWN),
    "v16 of 2": (b"\x60\x02" + bytes(2), ScriptType.WITNESS_UNKNOWN),
    "v16 of 41": (b"\x60\x29" + bytes(41), ScriptType.NONSTANDARD),
    "v16 of 1": (b"\x60\x01\x00", ScriptType.NONSTANDARD),
    "v16 of another length": (b"\x60\x1f" + bytes(32), ScriptType.NONSTANDARD),
    "OP_NOP and 32 bytes": (b"\x61\x20" + bytes(32), ScriptType.NONSTANDARD),
    "OP_1NEGATE and 32 bytes": (b"\x4f\x20" + bytes(32), ScriptType.NONSTANDARD),
    "OP_RESERVED and 32 bytes": (b"\x50\x20" + bytes(32), ScriptType.NONSTANDARD),
    "OP_RETURN alone": (RETURN, ScriptType.NULLDATA),
    "OP_RETURN and data": (RETURN + pushed(b"text"), ScriptType.NULLDATA),
    "OP_RETURN and two pushes": (RETURN + pushed(b"a") + pushed(b"b" * 75), ScriptType.NULLDATA),
    "OP_RETURN, numbers": (RETURN + b"\x00\x4f\x51\x60", ScriptType.NULLDATA),
    "OP_RETURN OP_RESERVED": (RETURN + b"\x50", ScriptType.NULLDATA),
    "OP_RETURN PUSHDATA1": (RETURN + b"\x4c\x50" + bytes(80), ScriptType.NULLDATA),
    "OP_RETURN PUSHDATA2": (RETURN + b"\x4d\x00\x01" + bytes(256), ScriptType.NULLDATA),
    "OP_RETURN PUSHDATA4": (RETURN + b"\x4e\x01\x00\x00\x00\xff", ScriptType.NULLDATA),
    "OP_RETURN PUSHDATA4 of nothing": (RETURN + b"\x4e" + bytes(4), ScriptType.NULLDATA),
    "OP_RETURN of 100,000 bytes": (RETURN + b"\x4e\xa0\x86\x01\x00" + bytes(100_000), ScriptType.NULLDATA),
    "OP_RETURN OP_NOP": (RETURN + b"\x61", ScriptType.NONSTANDARD),
    "OP_RETURN OP_RETURN": (RETURN + RETURN, ScriptType.NONSTANDARD),
    "OP_RETURN, push beyond the end": (RETURN + b"\x05text", ScriptType.NONSTANDARD),
    "OP_RETURN, PUSHDATA1 without a length": (RETURN + b"\x4c", ScriptType.NONSTANDARD),
    "OP_RETURN, PUSHDATA2 with half a length": (RETURN + b"\x4d\x00", ScriptType.NONSTANDARD),
    "OP_RETURN, PUSHDATA4 with half a length": (RETURN + b"\x4e\x00\x00\x00", ScriptType.NONSTANDARD),
    "OP_RETURN, PUSHDATA4 of 4 GiB": (RETURN + b"\x4e\xff\xff\xff\xff" + bytes(9), ScriptType.NONSTANDARD),
    "OP_RETURN not first": (b"\x51" + RETURN, ScriptType.NONSTANDARD),
    "1 of 1": (multisig(number(1), [KEY], number(1)), ScriptType.MULTISIG),
    "2 of 3, keys of both lengths": (multisig(number(2), [KEY, LONG_KEY, ODD_KEY], number(3)), ScriptType.MULTISIG),
    "16 of 16": (multisig(number(16), [KEY] * 16, number(16)), ScriptType.MULTISIG),
    "1 of 17": (multisig(number(1), [KEY] * 17, number(17)), ScriptType.MULTISIG),
    "1 of 20": (multisig(number(1), [KEY] * 20, number(20)), ScriptType.MULTISIG),
    "20 of 20": (multisig(number(20), [LONG_KEY] * 20, number(20)), ScriptType.MULTISIG),
    "1 of 21": (multisig(number(1), [KEY] * 21, number(21)), ScriptType.NONSTANDARD),
    "21 of 20": (multisig(number(21), [KEY] * 20, number(20)), ScriptType.NONSTANDARD),
    "2 of 1": (multisig(number(2), [KEY], number(1)), ScriptType.NONSTANDARD),
    "0 of 1": (multisig(b"\x00", [KEY], number(1)), ScriptType.NONSTANDARD),
    "1 of 0": (multisig(number(1), [], b"\x00"), ScriptType.NONSTANDARD),
    "count below the keys": (multisig(number(1), [KEY, KEY], number(1)), ScriptType.NONSTANDARD),
    "count above the keys": (multisig(number(1), [KEY], number(2)), ScriptType.NONSTANDARD),
    "count of 16 by a push": (multisig(number(1), [KEY] * 16, b"\x01\x10"), ScriptType.NONSTANDARD),
    "count of 17 in two bytes": (multisig(number(1), [KEY] * 17, b"\x02\x11\x00"), ScriptType.NONSTANDARD),
    "count of 17 by PUSHDATA1": (multisig(number(1), [KEY] * 17, b"\x4c\x01\x11"), ScriptType.NONSTANDARD),
    "required by a push": (multisig(b"\x01\x01", [KEY], number(1)), ScriptType.NONSTANDARD),
    "required 17 by a push": (multisig(b"\x01\x11", [KEY] * 18, number(18)), ScriptType.MULTISIG),
    "a key with header 5": (multisig(number(1), [KEY, b"\x05" + KEY[1:]], number(2)), ScriptType.NONSTANDARD),
    "a key of 32 bytes": (multisig(number(1), [KEY, KEY[:-1]], number(2)), ScriptType.NONSTANDARD),
    "an empty key": (multisig(number(1), [KEY, b""], number(2)), ScriptType.NONSTANDARD),
    "a key by PUSHDATA1": (b"\x51\x4c" + pushed(KEY) + b"\x51\xae", ScriptType.MULTISIG),
    "a key by PUSHDATA2": (b"\x51\x4d\x21\x00" + KEY + b"\x51\xae", ScriptType.MULTISIG),
    "a key that takes the rest": (b"\x52" + pushed(KEY) + b"\x21\x02" + b"\xae" * 32, ScriptType.NONSTANDARD),
    "multisig and more": (multisig(number(1), [KEY], number(1)) + CHECKMULTISIG, ScriptType.NONSTANDARD),
    "CHECKMULTISIG alone": (CHECKMULTISIG, ScriptType.NONSTANDARD),
    "only a count": (b"\x51\xae", ScriptType.NONSTANDARD),
    "half a count": (b"\x01\xae", ScriptType.NONSTANDARD),
    "two counts": (b"\x51\x51\xae", ScriptType.NONSTANDARD),
    "multisig verify": (multisig(number(1), [KEY], number(1))[:-1] + b"\xaf", ScriptType.NONSTANDARD),
    "CHECKSIG alone": (CHECKSIG, ScriptType.NONSTANDARD),
    "one byte 0x00": (b"\x00", ScriptType.NONSTANDARD),
    "10,000 bytes": (b"\x51" * 10_000, ScriptType.NONSTANDARD),
    "10,001 bytes": (b"\x51" * 10_001, ScriptType.NONSTANDARD),
    "10,001 bytes of OP_RETURN": (RETURN + b"\x00" * 10_000, ScriptType.NULLDATA),
}


def block_with(scripts: list[bytes], spends: int = 0) -> Block:
    """A block that pays to each of these scripts, and whose second transaction has `spends` inputs."""
    first = coinbase([(0, script) for script in scripts])
    second = Tx(tuple(TxInput(b"\1" * 32, n) for n in range(max(1, spends))), ((0, b""),))
    return decode_block(unmined([first, second]), REGTEST, check=False)


def types_of(outputs: Outputs, first: int, count: int) -> list[str]:
    return [str(ScriptType(kind)) for kind in outputs.type[first : first + count].tolist()]


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_has_the_type_core_gives_it(name: str) -> None:
    """The same in a block, in REST spent outputs and in undo data, where some scripts are stored by their form."""
    script, expected = SCRIPTS[name]
    block = block_with([script], 1)
    assert block.outputs.script(0) == script
    assert ScriptType(block.outputs.type[0]) is expected
    assert script_type(script) == str(expected)
    coins = [[Coin(7, script, 1)]]
    rest = read_rest_spent(block, spenttxouts_bytes([[], *coins], 2)).outputs
    assert rest.script(1) == script
    assert ScriptType(rest.type[1]) is expected
    assert int(rest.key[1]) == int(block.outputs.key[0])
    if len(script) <= 10_000:  # the most that undo data may hold
        undo = read_undo_spent(block, undo_bytes(coins)).outputs
        assert undo.script(1) == script
        assert ScriptType(undo.type[1]) is expected
        assert int(undo.key[1]) == int(block.outputs.key[0])


FRAGMENTS = (
    b"", b"\x00", b"\x01", b"\x4c", b"\x4d", b"\x4e", b"\x50", b"\x51", b"\x52", b"\x60", b"\x61", RETURN, b"\x76\xa9",
    b"\x14" + bytes(20), b"\x20" + bytes(32), b"\x87", b"\x88\xac", CHECKSIG, CHECKMULTISIG, pushed(KEY),
    pushed(LONG_KEY), b"\x01\x11", b"\x01\x14", b"\x4e\x73", b"\x02\x4e\x73", b"\xa9",
)  # fmt: skip


def test_random_scripts_have_the_type_core_gives_them() -> None:
    """20,000 scripts glued from what scripts are made of, some cut or damaged, against Core's rules in plain Python."""
    random = Random(11)
    scripts = list({s for s, _ in SCRIPTS.values() if len(s) < 1000})
    while len(scripts) < 20_000:
        script = b"".join(random.choices(FRAGMENTS, k=random.randrange(1, 8)))
        if random.random() < 0.5:
            script = bytearray(random.choice(scripts[:100]))
            if script:
                script[random.randrange(len(script))] = random.choice((0, 1, 2, 20, 32, 81, 82, 96, 172, 174))
            script = bytes(script[: random.choice((None, -1))])
        scripts.append(script)
    types = types_of(block_with(scripts).outputs, 0, len(scripts))
    assert set(types) == {str(kind) for kind in ScriptType}
    wrong = [(s.hex(), found) for s, found in zip(scripts, types, strict=True) if found != script_type(s)]
    assert not wrong


def test_keys_depend_on_all_bytes_of_a_script_and_nothing_else() -> None:
    """Scripts of each length to 70, and each with one changed byte, have keys of their own, wherever they stand."""
    scripts = []
    for length in range(71):
        script = bytes(range(length))
        scripts.append(script)
        scripts += [script[:at] + bytes([script[at] ^ 0x80]) + script[at + 1 :] for at in range(length)]
    scripts += [bytes(length) for length in range(1, 71) if length > 1]
    assert len(set(scripts)) == len(scripts)
    keys = block_with(scripts).outputs.key.tolist()[: len(scripts)]
    assert len(set(keys)) == len(scripts)
    assert 0 not in keys
    shifted = block_with([b"x", *scripts]).outputs.key.tolist()[1 : 1 + len(scripts)]
    assert shifted == keys


def test_script_types_have_cores_names() -> None:
    """`str` of a type is what Core's RPC prints."""
    assert [str(kind) for kind in ScriptType] == [
        "nonstandard", "pubkey", "pubkeyhash", "scripthash", "multisig", "nulldata", "witness_v0_keyhash",
        "witness_v0_scripthash", "witness_v1_taproot", "anchor", "witness_unknown",
    ]  # fmt: skip


# addresses

VALID = [
    # BIP 350
    ("BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4", MAIN, "0014751e76e8199196d454941c45d1b3a323f1433bd6"),
    ("tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3q0sl5k7", TEST,
     "00201863143c14c5166804bd19203356da136c985678cd4d27a1b8c6329604903262"),
    ("bc1pw508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kt5nd6y", MAIN,
     "5128751e76e8199196d454941c45d1b3a323f1433bd6751e76e8199196d454941c45d1b3a323f1433bd6"),
    ("BC1SW50QGDZ25J", MAIN, "6002751e"),
    ("bc1zw508d6qejxtdg4y5r3zarvaryvaxxpcs", MAIN, "5210751e76e8199196d454941c45d1b3a323"),
    ("tb1qqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesrxh6hy", TEST,
     "0020000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433"),
    ("tb1pqqqqp399et2xygdj5xreqhjjvcmzhxw4aywxecjdzew6hylgvsesf3hn0c", TEST,
     "5120000000c4a5cad46221b2a187905e5266362b99d5e91c6ce24d165dab93e86433"),
    ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0", MAIN,
     "512079be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"),
    # Bitcoin Core, key_io_valid.json
    ("1FsSia9rv4NeEwvJ2GvXrX7LyxYspbN2mo", MAIN, "76a914a31c06bd463e3923bc1aadbde48b16976c08071788ac"),
    ("36j4NfKv6Akva9amjWrLG6MuSQym1GuEmm", MAIN, "a914373b819a068f32b7a6b38b6b38729647cfde01c287"),
    ("mzK2FFDEhxqHcmrJw1ysqFkVyhUULo45hZ", TEST, "76a914ce28b26c57472737f5c3561a1761185bd8589a4388ac"),
    ("2NC2hEhe28ULKAJkW5MjZ3jtTMJdvXmByvK", TEST, "a914ce0bba75891ff9ec60148d4bd4a09ee2dc5c933187"),
    ("n4fajahJrAuKbN7uNsKjLjQkz9Qn5ewJXQ", REGTEST, "76a914fdeca3b08e38af53d7c4c60e3ad208ce5066441088ac"),
    ("2MxFajLApXpYk4VodBSZSt7rw8y4ryABkfA", REGTEST, "a91436e9f191e0b75036a77f65e2eaa4752443233fbe87"),
    ("bcrt1qdavt4j2sd7dlhqsavtnfxvzppw6k7qy97tmnu9", REGTEST, "00146f58bac9506f9bfb821d62e69330410bb56f0085"),
    ("bcrt1sx6p8njlx7h9mc2agz4yg82dzne23050ncq72cneeecez2pst8mahn8xecsf8g6hzx94420", REGTEST,
     "6028368279cbe6f5cbbc2ba8154883a9a29e5517d1f3c03cac4f39ce3225060b3efb799cd9c412746ae2"),
    ("tb1q3vya2h5435jkugq2few7dmktlrwq4ejmfaw7kr", NETWORKS["signet"], "00148b09d55e958d256e200a4e5de6eecbf8dc0ae65b"),
    # leading zero bytes, P2A
    ("1111111111111111111114oLvT2", MAIN, "76a914" + "00" * 20 + "88ac"),
    ("bc1pfeessrawgf", MAIN, "51024e73"),
    ("bcrt1pfeesnyr2tx", REGTEST, "51024e73"),
]  # fmt: skip


@pytest.mark.parametrize(("address", "network", "script"), VALID, ids=[address for address, _, _ in VALID])
def test_valid_addresses_read_both_ways(address: str, network: Network, script: str) -> None:
    """The vectors of BIP 350 and of Core, in both cases of letters for bech32."""
    assert script_of(address, network).hex() == script
    made = address_of(bytes.fromhex(script), network)
    if address.lower().startswith(network.bech32_prefix + "1"):
        assert made == address.lower()
        assert script_of(address.lower(), network) == script_of(address.upper(), network)
    else:
        assert made == address


INVALID = [
    # BIP 350
    ("tc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq5zuyut", "another prefix"),
    ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqh2y7hd", "bech32 for version 1"),
    ("tb1z0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqglt7rf", "bech32 for version 2"),
    ("BC1S0XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ54WELL", "bech32 for version 16"),
    ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kemeawh", "bech32m for version 0"),
    ("tb1q0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq24jc47", "bech32m for version 0"),
    ("bc1p38j9r5y49hruaue7wxjce0updqjuyyx0kh56v8s25huc6995vvpql3jow4", "o in the checksum"),
    ("BC130XLXVLHEMJA6C4DQV22UAPCTQUPFHLXM9H8Z3K2E72Q4K9HCZ7VQ7ZWS8R", "version 17"),
    ("bc1pw5dgrnzv", "program of 1 byte"),
    ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v8n0nx0muaewav253zgeav", "program of 41 bytes"),
    ("BC1QR508D6QEJXTDG4Y5R3ZARVARYV98GJ9P", "version 0 program of 16 bytes"),
    ("tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vq47Zagq", "mixed case"),
    ("bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf", "more than 4 bits of padding"),
    ("tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vpggkg4j", "padding that is not zero"),
    ("bc1gmk9yu", "no data"),
    # BIP 173
    ("tc1qw508d6qejxtdg4y5r3zarvary0c5xw7kg3g4ty", "another prefix"),
    ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5", "wrong checksum"),
    ("BC13W508D6QEJXTDG4Y5R3ZARVARY0C5XW7KN40WF2", "version 17"),
    ("bc1rw5uspcuh", "program of 1 byte"),
    ("bc10w508d6qejxtdg4y5r3zarvary0c5xw7kw508d6qejxtdg4y5r3zarvary0c5xw7kw5rljs90", "program of 41 bytes"),
    ("bc1zw508d6qejxtdg4y5r3zarvaryvqyzf3du", "more than 4 bits of padding"),
    ("tb1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3pjxtptv", "padding that is not zero"),
    # Bitcoin Core, key_io_invalid.json
    ("", "empty"),
    ("x", "one letter"),
    ("1GAdfviErV2Ew95FPtZyikz2qGP3gyCB6Hyu94sedAkPpA523m3fQwps9YKUZkKgQckGPKhRsFR", "52 bytes"),
    ("37G2kMDLpmWVhimxRdzwNfE8JFvWXnJYnVcXeeGrek2qumdJuK7XArcVVpRtLLjRra3t64BEPF2", "52 bytes"),
    ("8iVk9nLM3nYwRuwypjy9NK5rsuZH7BbrQRZ1pgcQmvMnjAgRXD", "another prefix"),
    ("KzNbAQ4mexfAxa6RKBzHQqfoTycaeWpv2p", "another prefix"),
    ("5JuW2AMDYu4xVwRG9DZW18VbzQrGcd5RCgb99sS6ehJsNQXu5b9", "a private key"),
    ("tb1ly0q7p", "no data"),
    # ours
    ("1FsSia9rv4NeEwvJ2GvXrX7LyxYspbN2mp", "wrong checksum"),
    ("11FsSia9rv4NeEwvJ2GvXrX7LyxYspbN2mo", "one leading 1 too many"),
    ("111111111111111111114oLvT2", "one leading 1 too few"),
    ("1FsSia9rv4NeEwvJ2GvXrX7LyxYspbN2m0", "0 is no base58 digit"),
    (" 1FsSia9rv4NeEwvJ2GvXrX7LyxYspbN2mo", "a space before"),
    ("1FsSia9rv4NeEwvJ2GvXrX7LyxYspbN2mo\n", "a line end"),
    ("bc1qvyq0cc6rahyvsazfdje0twl7ez82ndmuac2lhv ", "a space after"),
    ("bc1", "only a prefix"),
    ("BC1" + "Q" * 88, "more than 90 characters"),
    ("1" * 1_000_000, "a million characters"),
    ("BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7\N{KELVIN SIGN}V8F3T4", "the kelvin sign for K"),
]  # fmt: skip


@pytest.mark.parametrize(("address", "why"), INVALID, ids=[f"{why} {address[:20]}" for address, why in INVALID])
def test_invalid_addresses_are_refused(address: str, why: str) -> None:
    """The vectors of BIP 350, BIP 173 and Core, on each network, with a message of one short line."""
    for network in NETWORKS.values():
        with pytest.raises(DecodeError) as caught:
            script_of(address, network)
        assert caught.value.what == "address"
        assert len(str(caught.value)) < 300
        assert str(caught.value).isprintable()


def test_an_address_of_another_network_is_refused() -> None:
    """Mainnet's and the test networks' addresses don't pass for each other's."""
    for address, network, _ in VALID:
        for other in (MAIN, TEST) if network is MAIN else (MAIN,):
            if other is not network:
                with pytest.raises(DecodeError):
                    script_of(address, other)


@pytest.mark.parametrize(
    "name",
    [
        "empty",
        "P2PK compressed",
        "OP_RETURN and data",
        "1 of 1",
        "v0 of 21",
        "v16 of 41",
        "10,001 bytes",
        "P2SH with EQUALVERIFY",
    ],
)
def test_scripts_without_an_address_have_none(name: str) -> None:
    """Public keys, data, multisig and nonstandard scripts have no address."""
    assert address_of(SCRIPTS[name][0], MAIN) is None


def test_scripts_have_an_address_exactly_where_core_gives_one() -> None:
    """Core gives one to key hashes, script hashes and witness programs; it leads back to the script."""
    with_address = {
        "pubkeyhash",
        "scripthash",
        "witness_v0_keyhash",
        "witness_v0_scripthash",
        "witness_v1_taproot",
        "anchor",
        "witness_unknown",
    }
    for script, kind in SCRIPTS.values():
        for network in NETWORKS.values():
            address = address_of(script, network)
            assert (address is not None) == (str(kind) in with_address), script.hex()
            if address is not None:
                assert script_of(address, network) == script


def test_every_label_address_round_trips(shared: Path) -> None:
    """All mainnet addresses of the entity files are what their scripts are called."""
    addresses = []
    with (shared / "entities" / "entities.csv").open(newline="") as file:
        addresses += [row["address"] for row in csv.DictReader(file) if row["address"]]
    for name in ("bitmex_por_2022-11-15_sample4000.csv.gz", "pool_addresses_graphsense.csv.gz"):
        text = gzip.decompress((shared / "entities" / name).read_bytes()).decode()
        addresses += [row["address"] for row in csv.DictReader(text.splitlines())]
    assert len(addresses) > 40_000
    for address in addresses:
        assert address_of(script_of(address, MAIN), MAIN) == address


def test_one_changed_letter_is_noticed() -> None:
    """Both checksums catch every single substitution."""
    for address, digits in (
        ("bc1qvyq0cc6rahyvsazfdje0twl7ez82ndmuac2lhv", "qpzry9x8gf2tvdw0s3jn54khce6mua7l"),
        ("1FsSia9rv4NeEwvJ2GvXrX7LyxYspbN2mo", "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"),
    ):
        for at in range(4, len(address)):
            for digit in digits:
                if digit != address[at]:
                    with pytest.raises(DecodeError):
                        script_of(address[:at] + digit + address[at + 1 :], MAIN)
