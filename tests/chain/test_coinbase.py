"""What a coinbase says: height, tag, payouts."""

from __future__ import annotations

import csv
import json
import unicodedata
from pathlib import Path
from random import Random

import pytest

from helpers.build import COMMITMENT, OP_TRUE, coinbase, height_push, mined, with_commitment
from helpers.recorded import Recorded, block_named, every_block, recorded_run
from utxoiq.chain.block import decode_block
from utxoiq.chain.coinbase import TAG_LIMIT, Coinbase, bip34_height, witness_commitment
from utxoiq.chain.hashes import Hash256
from utxoiq.chain.network import NETWORKS
from utxoiq.units import COIN

MAIN, REGTEST = NETWORKS["main"], NETWORKS["regtest"]


@pytest.mark.parametrize(
    "height", [*range(1, 18), 127, 128, 255, 256, 32767, 32768, 65536, 8388607, 8388608, 2**31 - 1]
)
def test_heights_are_read_as_core_writes_them(height: int) -> None:
    """`CScript() << height`: OP_1 to OP_16, then one to four bytes with room for a sign bit."""
    assert bip34_height(height_push(height)) == height
    assert bip34_height(height_push(height) + b"\x04more") == height


@pytest.mark.parametrize(
    ("script", "height"),
    [
        ("51", 1),
        ("60", 16),
        ("0111", 17),
        ("017f", 127),
        ("028000", 128),
        ("02ff7f", 32767),
        ("03008000", 32768),
        ("03a08601", 100_000),
        ("0400008000", 8388608),
        ("04ffffff7f", 2**31 - 1),
    ],
)
def test_heights_in_bytes(script: str, height: int) -> None:
    """The same as literal bytes, little-endian."""
    assert bip34_height(bytes.fromhex(script)) == height


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("00", "zero"),
        ("4f", "minus one"),
        ("50", "OP_RESERVED"),
        ("61", "OP_NOP"),
        ("0181", "negative"),
        ("0180", "negative zero"),
        ("02ff80", "negative"),
        ("03ffffff", "negative"),
        ("04ffffffff", "negative"),
        ("0100", "not minimal"),
        ("021100", "not minimal"),
        ("027f00", "not minimal"),
        ("03ff7f00", "not minimal"),
        ("04ffff7f00", "not minimal"),
        ("0105", "not minimal: a height below 17 is one opcode"),
        ("0110", "not minimal: a height below 17 is one opcode"),
        ("050000800000", "five bytes"),
        ("4c0111", "PUSHDATA1"),
        ("03a086", "cut"),
        ("04ffff00", "cut"),
        ("01", "cut"),
    ],
)
def test_what_is_no_height(script: str, why: str) -> None:
    """Anything but the one form Core writes is no height."""
    assert bip34_height(bytes.fromhex(script)) is None


def test_real_coinbases_begin_with_their_height(shared: Path) -> None:
    """Third-party records of mainnet coinbases since BIP 34 was in force."""
    path = shared / "truth" / "pool_attribution.csv"
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["height"] or 0) >= MAIN.bip34_height]
    blocks = json.loads((shared / "truth" / "mempool_space_block_extras.json").read_text())
    found = [(int(row["height"]), row["coinbase_scriptsig_hex"]) for row in rows]
    found += [(block["height"], block["extras"]["coinbaseRaw"]) for block in blocks]
    assert len(found) > 30
    for height, script in found:
        assert bip34_height(bytes.fromhex(script)) == height


def test_every_coinbase_of_core_31_says_its_height(shared: Path) -> None:
    """From height 1 on, so with one opcode, one byte and two bytes."""
    run = recorded_run("regtest_core31", REGTEST)
    chain = json.loads((shared / "runs" / "regtest_core31" / "chain.json").read_text())
    hashes = next(value for value in chain.values() if isinstance(value, list) and len(value) == 1201)
    for height, display in enumerate(hashes[1:], 1):
        assert decode_block(run.blocks[bytes(Hash256.from_display(display))], REGTEST).coinbase.height == height


def test_a_block_of_version_1_says_no_height() -> None:
    """BIP 34 came with version 2: before, whatever stood there is no height."""
    transactions = [coinbase(script=height_push(500) + b"\0")]
    assert decode_block(mined(transactions), REGTEST).coinbase.height == 500
    assert decode_block(mined(transactions, version=2), REGTEST).coinbase.height == 500
    assert decode_block(mined(transactions, version=1), REGTEST).coinbase.height is None


def test_a_height_before_bip_34_was_in_force_is_none() -> None:
    """Mainnet's block 210,000 is of version 2 or 1 and may say what it likes."""
    block = block_named("main_0210000").decoded()
    assert block.coinbase.height is None
    assert block_named("main_0250000").decoded().coinbase.height == 250_000


def tag(script: bytes) -> str:
    return Coinbase(script, None, (), 0, (), None).tag


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (b"\x03\x01\x02\x03/AlphaPool/\x00\x01\x02", "/AlphaPool/"),
        (b"\x03\x01\x02\x03/AlphaPool/\x00\x00second run\x01", "/AlphaPool/ second run"),
        (b"\x03\x01\x02\x03abc\x00abcd\x00ab", "abcd"),
        (b"\x03\x01\x02\x03  a  \x00 abc \x00 abcd \x00", "abcd"),
        (b"\x00\x01\x02", ""),
        (b"", ""),
        ("/пул ⛏ マイナー/".encode(), "/пул ⛏ マイナー/"),
        ("/Pool\u202elive/".encode(), "/Pool live/"),
        ("/Pool\u2066live\u2069/end".encode(), "/Pool live /end"),
        ("good\u200bpool".encode(), "good pool"),
        ("good\u200dpool\u2060more\ufeffdata\u00adsoft".encode(), "good pool more data soft"),
        (b"line\nbreak\rback\ttabs", "line break back tabs"),
        (b"esc\x1b[31mred\x1b[0m", "[31mred"),
        ("next\u0085line\u2028para\u2029graph".encode(), "next line para graph"),
        ("wide\u3000space\u00a0fixed".encode(), "wide space fixed"),
        ("private\ue000use".encode(), "private"),
        (b"good\xff\xfepool\xc3(end!", "good pool (end!"),
        (b"over\xc0\xaflong\xed\xa0\x80half", "over long half"),
        ("real\ufffdreplacement".encode(), "real replacement"),
        (b"cut emoji \xf0\x9f\x98", "cut emoji"),
        (b"<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
    ],
)
def test_tags_are_the_readable_part(script: bytes, expected: str) -> None:
    """Runs of four and more printable characters: control, format, bidirectional and broken ones end a run."""
    assert tag(script) == expected


def test_tags_have_a_limit() -> None:
    """At most 100 characters, whatever the script."""
    assert tag(b"x" * 300) == "x" * TAG_LIMIT
    assert tag(b"abcd\x00" * 90) == ("abcd " * 20)[:TAG_LIMIT]
    assert len(tag("⛏".encode() * 300)) == TAG_LIMIT == 100


def assert_harmless(text: str) -> None:
    assert len(text) <= TAG_LIMIT
    assert text == text.strip()
    for character in text:
        assert character.isprintable()
        assert unicodedata.category(character)[0] != "C"
        assert unicodedata.bidirectional(character) not in {
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        }


def test_no_bytes_make_a_harmful_tag() -> None:
    """20,000 scripts of random bytes and random characters."""
    random = Random(5)
    lengths = set()
    for n in range(20_000):
        if n % 2:
            text = "".join(chr(random.choice((random.randrange(32, 127), random.randrange(0x3000)))) for _ in range(60))
            script = text.encode("utf-8", "surrogatepass")[:100]
        else:
            script = random.randbytes(random.randrange(101))
        found = tag(script)
        assert_harmless(found)
        lengths.add(len(found))
    assert len(lengths) > 30


@every_block
def test_real_tags_are_harmless(recorded: Recorded) -> None:
    """The tags that real miners wrote are printable text."""
    assert_harmless(recorded.decoded().coinbase.tag)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("main_0000000", "EThe Times 03/Jan/2009 Chancellor on brink of second bailout for banks"),
        ("main_0757739", "/F2Pool/"),
        ("main_0225000", "EMC US1"),
    ],
)
def test_known_tags_are_found(name: str, text: str) -> None:
    """Tags of real blocks as everyone knows them."""
    assert text in block_named(name).decoded().coinbase.tag


def test_hostile_tags_of_the_regtest_economy(shared: Path) -> None:
    """Invalid UTF-8, HTML, SQL and instructions come out as plain printable text, and are not dropped."""
    run = recorded_run("regtest_core31", REGTEST)
    events = (shared / "runs" / "regtest_core31" / "events.jsonl").read_text().splitlines()
    hostile = [event for event in map(json.loads, events) if event["kind"] == "hostile_coinbase_tag"]
    assert len(hostile) == 5
    for event in hostile:
        found = decode_block(run.blocks[bytes(Hash256.from_display(event["block"]))], REGTEST).coinbase.tag
        assert_harmless(found)
        written = bytes.fromhex(event["tag_hex"]).decode("ascii", errors="ignore")
        assert "".join(filter(str.isprintable, written)) in found


def test_payouts_are_the_outputs_worth_something() -> None:
    """In order, without the zero ones, which are still among the scripts; the claim is their sum."""
    outputs = ((3 * COIN, OP_TRUE), (0, b"\x6a"), (5, b"\x52"), (0, b""), (7, OP_TRUE))
    found = decode_block(mined([coinbase(outputs)]), REGTEST).coinbase
    assert found.payouts == ((3 * COIN, OP_TRUE), (5, b"\x52"), (7, OP_TRUE))
    assert found.scripts == tuple(script for _, script in outputs)
    assert found.value_out == 3 * COIN + 12
    assert found.witness_reserved_value is None
    assert witness_commitment(found) is None


def test_the_commitment_and_its_reserved_value_are_found() -> None:
    """Both are read from the coinbase as it was built."""
    reserved = bytes(range(32))
    transactions = with_commitment([coinbase()], reserved)
    found = decode_block(mined(transactions), REGTEST).coinbase
    assert found.witness_reserved_value == reserved
    assert witness_commitment(found) == transactions[0].outputs[-1][1][len(COMMITMENT) :]


def test_a_pool_that_pays_its_miners_from_the_coinbase() -> None:
    """The recorded pool with six payouts: more than one, adding up to the claim."""
    found = max(
        (decode_block(raw, REGTEST).coinbase for raw in recorded_run("regtest_core31", REGTEST).blocks.values()),
        key=lambda coinbase: len(coinbase.payouts),
    )
    assert len(found.payouts) >= 6
    assert sum(value for value, _ in found.payouts) == found.value_out
    assert "/BetaMine/gbt 2.1/" in found.tag


def test_the_subsidy_halves() -> None:
    """50 BTC, halved every interval, gone after 64 halvings; all of it stays below 21 million."""
    for network in NETWORKS.values():
        interval = network.halving_interval
        assert network.subsidy(0) == network.subsidy(interval - 1) == 50 * COIN
        assert network.subsidy(interval) == 25 * COIN
        assert network.subsidy(33 * interval - 1) == 1
        assert network.subsidy(33 * interval) == network.subsidy(64 * interval) == network.subsidy(10**9) == 0
    total = sum(MAIN.halving_interval * MAIN.subsidy(epoch * MAIN.halving_interval) for epoch in range(70))
    assert total == 2_099_999_997_690_000
