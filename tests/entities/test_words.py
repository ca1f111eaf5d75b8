"""Scripts in label files: as addresses, or as hex where they have none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utxoiq.chain.network import NETWORKS
from utxoiq.entities.labels import LabelSet, read_labels
from utxoiq.entities.words import canonical, script_of_word, word_of
from utxoiq.errors import DecodeError, LabelError

MAIN = NETWORKS["main"]
KEY = (
    "04678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb6"
    "49f6bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5f"
)
BARE_KEY = bytes.fromhex(f"41{KEY}ac")
"""Pays the key of the genesis block itself: no address form."""


def labels(*addresses: str, others: tuple[str, ...] = ()) -> LabelSet:
    def row(name: str, listed: tuple[str, ...]) -> str:
        label = {"source": "test", "confidence": "high", "as_of": "2026-01-01", "addresses": list(listed)}
        return json.dumps({"id": name, "name": name, "kind": "mining_pool", "labels": [label]})

    return read_labels("\n".join([row("a", addresses), row("b", others)]), MAIN, "test")


def test_a_script_without_an_address_can_be_labelled() -> None:
    """Its owner is found by the whole script, and it is shown as it is written."""
    known = labels(f"script:{BARE_KEY.hex()}", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa")
    assert known.owner_of(BARE_KEY) is known.entities["a"]
    assert known.owner_of(BARE_KEY[:-1] + b"\xad") is None
    assert sorted(known.addresses_of(known.entities["a"])) == sorted(known.entities["a"].addresses)


@given(st.binary(min_size=1, max_size=80))
def test_a_script_and_its_word_are_one(script: bytes) -> None:
    """Whatever the bytes, by the kernel too."""
    word = word_of(script, MAIN)
    assert script_of_word(word, MAIN) == script
    assert canonical(f"script:{script.hex()}", MAIN) == word
    known = labels(f"script:{script.hex()}")
    assert known.owner_of(script) is known.entities["a"]


def test_one_script_written_in_two_ways_has_two_owners() -> None:
    """As hex by one and as its address by another: nobody's, and reported by its address."""
    address = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"
    script = script_of_word(address, MAIN)
    known = labels(f"script:{script.hex()}", others=(address,))
    assert known.conflicts == [(address, "a", "b")]
    assert known.owner_of(script) is None


@pytest.mark.parametrize("word", ["script:", "script:5", "script:zz", "script:AC", "script: 51", "Script:51", "script"])
def test_what_is_no_script_is_refused(word: str) -> None:
    with pytest.raises(DecodeError):
        script_of_word(word, MAIN)
    with pytest.raises(LabelError):
        labels(word)
