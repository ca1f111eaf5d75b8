"""The address kernel against `script_of`, which is slow and plain."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from utxoiq.chain.address import BASE58, BECH32, address_of, script_of
from utxoiq.chain.network import NETWORKS, Network
from utxoiq.entities._addresses import SCRATCH, read_list
from utxoiq.errors import DecodeError

MAIN, REGTEST = NETWORKS["main"], NETWORKS["regtest"]


def read(text: bytes, network: Network = MAIN) -> list[bytes] | int:
    """The scripts of the inside of a JSON list, or the position of what is refused."""
    blob, offsets = np.zeros(len(text) + 1, np.uint8), np.zeros(len(text) // 14 + 2, np.int64)
    prefix = np.frombuffer(network.bech32_prefix.encode(), np.uint8)
    count = read_list(
        np.frombuffer(text + b"#", np.uint8), 0, len(text), network.p2pkh_prefix, network.p2sh_prefix, prefix, blob,
        offsets, 0, np.empty(SCRATCH, np.uint32),
    )  # fmt: skip
    if count < 0:
        return -1 - count
    return [blob[a:b].tobytes() for a, b in pairwise(offsets[: count + 1])]


def same(address: str, network: Network) -> None:
    """The kernel reads what `script_of` reads, and refuses what it refuses."""
    try:
        expected: list[bytes] | int = [script_of(address, network)]
    except DecodeError:
        expected = 1
    assert read(b'"' + address.encode() + b'"', network) == expected


scripts = st.one_of(
    st.binary(min_size=20, max_size=20).map(lambda h: b"\x76\xa9\x14" + h + b"\x88\xac"),
    st.binary(min_size=20, max_size=20).map(lambda h: b"\xa9\x14" + h + b"\x87"),
    st.tuples(st.integers(0, 16), st.binary(min_size=2, max_size=40)).map(
        lambda p: bytes([0x50 + p[0] if p[0] else 0, len(p[1])]) + p[1]
    ),
)


@settings(deadline=None)
@given(scripts, st.sampled_from(list(NETWORKS.values())))
@example(b"\x76\xa9\x14" + bytes(20) + b"\x88\xac", MAIN)
@example(b"\x76\xa9\x14" + bytes(19) + b"\x01\x88\xac", MAIN)
@example(b"\xa9\x14" + b"\xff" * 20 + b"\x87", MAIN)
def test_every_address_is_read(script: bytes, network: Network) -> None:
    """What `address_of` writes comes back, in capitals too where those may be."""
    address = address_of(script, network)
    if address is not None:
        assert read(f'"{address}"'.encode(), network) == [script]
        same(address.upper(), network)
        for other in (MAIN, REGTEST):
            same(address, other)


@settings(deadline=None, max_examples=400)
@given(scripts, st.integers(0, 89), st.sampled_from(BASE58 + BECH32 + '1"é\x00'), st.booleans(), st.booleans())
def test_one_wrong_character(script: bytes, at: int, character: str, upper: bool, insert: bool) -> None:
    """Changed or put in anywhere: read or refused as the plain decoder does."""
    address = address_of(script, MAIN) or ""
    address = address.upper() if upper else address
    if character != '"':
        same(address[:at] + character + address[at + (not insert) :], MAIN)


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.text(BASE58, max_size=40), st.text(BECH32, max_size=90).map("bc1{}".format), st.text(max_size=60)))
@example("1" * 25)
@example("1" * 34)
@example("z" * 36)
@example("bc1")
def test_any_text(text: str) -> None:
    """Nothing is read that is no address."""
    if '"' not in text and "\\" not in text and text.isprintable():
        same(text, MAIN)


GENESIS, P2WPKH = b"1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"
BOTH = [script_of(address.decode(), MAIN) for address in (GENESIS, P2WPKH)]


@pytest.mark.parametrize("text", [b'"%b","%b"', b' "%b" ,\t"%b"\n', b'"%b",   "%b"'])
def test_lists(text: bytes) -> None:
    """With white space or without."""
    assert read(text % (GENESIS, P2WPKH)) == BOTH


@pytest.mark.parametrize(("text", "at"), [
    (b'"%b",', 37), (b'"%b""%b"', 36), (b',"%b"', 0), (b'"%b",,"%b"', 37), (b'"%b', 1), (b'%b', 0), (b'7', 0),
    (b'"%b", 7', 38), (b'"%b" x', 37), (b'""', 1), (b'"', 1), (b'"%b", ""', 39),
])  # fmt: skip
def test_what_is_no_list_of_addresses(text: bytes, at: int) -> None:
    """Refused where it goes wrong."""
    assert read(text.replace(b"%b", GENESIS)) == at


def test_an_empty_list() -> None:
    assert read(b"") == read(b" \n ") == []
