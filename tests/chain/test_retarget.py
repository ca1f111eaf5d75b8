"""What a header's difficulty may be after its parent's: nothing mined cheaply passes, nothing real is refused."""

from __future__ import annotations

import csv
import gzip
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.recorded import block_named, recorded_run
from utxoiq.chain.hashes import Hash256
from utxoiq.chain.header import Header, read_header
from utxoiq.chain.network import NETWORKS, Network
from utxoiq.chain.retarget import INTERVAL, check_bits
from utxoiq.errors import DecodeError

MAIN, SIGNET = NETWORKS["main"], NETWORKS["signet"]
TWO_WEEKS = 14 * 24 * 3600
BETWEEN, AT = 100_001, 50 * INTERVAL
LIMIT = 0x1D00FFFF


def with_bits(bits: int) -> Header:
    return Header(1, Hash256(bytes(32)), bytes(32), 1_300_000_000, bits, 0, Hash256(b"\1" + bytes(31)))


def target(bits: int) -> int:
    """Core's SetCompact for the bits of real chains."""
    return (bits & 0x7FFFFF) << 8 * ((bits >> 24) - 3)


def compact(number: int) -> int:
    """Core's GetCompact."""
    size = (number.bit_length() + 7) // 8
    mantissa = number >> 8 * (size - 3) if size > 3 else number << 8 * (3 - size)
    if mantissa & 0x800000:
        mantissa, size = mantissa >> 8, size + 1
    return size << 24 | mantissa


def adjusted(bits: int, seconds: int, network: Network = MAIN) -> int:
    """Core's CalculateNextWorkRequired: the old target times what 2015 blocks took over two weeks, within 4 and 1/4."""
    seconds = min(max(seconds, TWO_WEEKS // 4), TWO_WEEKS * 4)
    return compact(min(target(bits) * seconds // TWO_WEEKS, network.pow_limit))


def allowed(bits: int, parent: int, height: int, network: Network = MAIN) -> bool:
    try:
        check_bits(with_bits(bits), with_bits(parent), height, network)
    except DecodeError:
        return False
    return True


def test_the_compact_form() -> None:
    """The formulas of this file give what Core's unit tests and mainnet's history say."""
    assert compact(target(LIMIT)) == LIMIT
    assert target(LIMIT) == MAIN.pow_limit == with_bits(LIMIT).target
    assert adjusted(LIMIT, 1262152739 - 1261130161) == 0x1D00D86A, "pow_tests.cpp: block 32256"
    assert adjusted(LIMIT, 1233061996 - 1231006505) == LIMIT, "pow_tests.cpp: block 2016, at the limit"
    assert adjusted(0x1C05A3F4, 1279297671 - 1279008237) == 0x1C0168FD, "pow_tests.cpp: block 68544, a fourth"
    assert adjusted(0x1C387F6F, 1269211443 - 1263163443) == 0x1D00E1FD, "pow_tests.cpp: four times easier"


@pytest.mark.parametrize(
    ("height", "parent", "bits"),
    [
        (2016, 0x1D00FFFF, 0x1D00FFFF),
        (32256, 0x1D00FFFF, 0x1D00D86A),
        (68544, 0x1C05A3F4, 0x1C0168FD),
        (72576, 0x1C010C5A, 0x1C00BA18),
    ],
)
def test_adjustments_that_happened(height: int, parent: int, bits: int) -> None:
    """Mainnet's first, its largest (by four exactly), and one in the other block of the same bits."""
    assert height % INTERVAL == 0
    assert allowed(bits, parent, height)
    if bits != parent:
        assert not allowed(bits, parent, height + 1), "a block later the same change is refused"


@pytest.mark.parametrize(("height", "parent"), [(2016, LIMIT), (32256, LIMIT), (72576, 0x1C010C5A)])
def test_recorded_blocks_at_an_adjustment(height: int, parent: int) -> None:
    """The real header of such a block after its real parent's bits."""
    header = block_named(f"main_{height:07d}").decoded().header
    check_bits(header, with_bits(parent), height, MAIN)
    with pytest.raises(DecodeError, match=str(header.block_hash)):
        check_bits(header, with_bits(parent + 1), height + 1, MAIN)


def test_real_chains(shared: Path) -> None:
    """1,755 headers of 2019 one after the other, and mainnet's first 600 blocks: none is refused."""
    with gzip.open(shared / "series" / "headers_main_586657-588411.csv.gz", "rt") as file:
        rows = [
            (int(row["height"]), read_header(bytes.fromhex(row["header_hex"]), MAIN.pow_limit))
            for row in csv.DictReader(file)
        ]
    chain = [read_header(raw) for raw in recorded_run("main_0-599", MAIN).blocks.values()]
    assert len(rows) > 1700
    for (_, parent), (height, header) in pairwise(rows):
        check_bits(header, parent, height, MAIN)
    by_hash = {header.block_hash: header for header in chain}
    linked = [(by_hash[h.prev_hash], h) for h in chain if h.prev_hash in by_hash]
    assert len(linked) == 599
    for parent, header in linked:
        check_bits(header, parent, BETWEEN, MAIN)


@pytest.mark.parametrize("network", [MAIN, SIGNET], ids=lambda n: n.name)
def test_between_adjustments_nothing_changes(network: Network) -> None:
    """Neither easier, which would be cheap, nor harder."""
    for height in (1, INTERVAL - 1, INTERVAL + 1, BETWEEN):
        assert allowed(0x1B04864C, 0x1B04864C, height, network)
        for bits in (0x1B04864D, 0x1B04864B, 0x1C04864C, LIMIT, 0):
            assert not allowed(bits, 0x1B04864C, height, network)


@pytest.mark.parametrize(("factor", "fits"), [(1, True), (3, True), (4, True), (6, False), (8, False), (256, False)])
def test_at_an_adjustment_by_four_at_most(factor: int, fits: bool) -> None:
    """Easier, and harder."""
    parent = 0x1B010000
    assert allowed(compact(target(parent) * factor), parent, AT) is fits
    assert allowed(compact(target(parent) // factor), parent, AT) is fits


def test_the_reason_is_one_line() -> None:
    """Which block, and what it does."""
    for height, reason in ((BETWEEN, "between two adjustments"), (AT, "by more than a factor of 4")):
        with pytest.raises(DecodeError, match=f"block {'0' * 62}01 changes the difficulty {reason}$") as raised:
            check_bits(with_bits(0x1C04864C), with_bits(0x1B04864C), height, MAIN)
        assert "\n" not in str(raised.value)


def test_not_easier_than_the_network_allows() -> None:
    """Whatever the factor."""
    assert allowed(LIMIT, 0x1D00FFFE, AT)
    assert not allowed(0x1D010000, LIMIT, AT)
    assert not allowed(0x1D01FFFE, LIMIT, AT)
    assert not allowed(0x207FFFFF, LIMIT, AT)


@pytest.mark.parametrize("bits", [0, 0x1D800001, 0xFF123456, 0x01003456])
def test_bits_that_are_no_target(bits: int) -> None:
    """Zero, negative, too large: refused after any parent, at any height."""
    assert not allowed(bits, 0x1B04864C, AT)
    assert not allowed(bits, 0x1B04864C, BETWEEN)


@pytest.mark.parametrize("name", ["test3", "test4", "regtest", "simulated"])
def test_networks_with_exceptions_are_not_judged(name: str) -> None:
    """Test networks let easy blocks pass after twenty minutes; regtest never changes."""
    assert allowed(0x207FFFFF, LIMIT, BETWEEN, NETWORKS[name])


@given(
    bits=st.builds(lambda size, mantissa: size << 24 | mantissa, st.integers(8, 0x1C), st.integers(0x8000, 0x7FFFFF)),
    seconds=st.integers(-TWO_WEEKS, 9 * TWO_WEEKS),
)
def test_whatever_core_would_ask_for_is_allowed(bits: int, seconds: int) -> None:
    """From any difficulty, after any time, rounded as Core rounds."""
    assert allowed(adjusted(bits, seconds), bits, AT)


@given(
    bits=st.builds(lambda size, mantissa: size << 24 | mantissa, st.integers(8, 0x1C), st.integers(0x8000, 0x7FFFFF)),
    factor=st.floats(4.001, 1e9),
)
def test_whatever_is_more_than_four_times_easier_is_refused(bits: int, factor: float) -> None:
    assert not allowed(compact(int(target(bits) * factor)), bits, AT)
