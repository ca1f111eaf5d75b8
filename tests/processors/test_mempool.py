"""When the mempool processor speaks, and when it is silent."""

from __future__ import annotations

from typing import Any

import pytest

from processors.cases import HEIGHT, USUAL, at, case, past, rates, said, snapshot, told
from utxoiq.models import BlockFacts, Signal
from utxoiq.processors import MempoolProcessor, ProcessorConfig
from utxoiq.units import COIN


async def signals(window: tuple[BlockFacts, ...], now: BlockFacts, **thresholds: float) -> list[Signal]:
    return await said(MempoolProcessor(ProcessorConfig(**thresholds)), window, now)


async def kinds(window: tuple[BlockFacts, ...], now: BlockFacts, **thresholds: float) -> list[str]:
    return [signal.kind for signal in await signals(window, now, **thresholds)]


def paying(i: int, factor: float) -> BlockFacts:
    return at(i, package_feerate_percentiles_kvb=rates(factor))


def uneven(blocks: int, strange: int, factor: float) -> tuple[BlockFacts, ...]:
    """A past whose oldest `strange` blocks paid `factor` times the usual."""
    return tuple(paying(i, factor if i < strange else 1) for i in range(blocks))


@pytest.mark.parametrize(
    ("factor", "kind"), [(3, ["fee_spike"]), (2.99, []), (1, []), (0.34, []), (0.333, ["fee_drop"]), (0, [])]
)
async def test_a_spike_is_three_times_and_a_drop_a_third(factor: float, kind: list[str]) -> None:
    """Of the median of the window, the limits included; a block of nothing but free transactions is no drop."""
    assert await kinds(past(144), paying(144, factor)) == kind


async def test_what_a_spike_says() -> None:
    """The rate, the usual rate, their ratio and how many blocks that rests on; marked as taken from blocks."""
    (signal,) = await signals(past(144), paying(144, 10))
    assert signal.metadata == {
        "basis": "in-block feerates",
        "feerate_kvb": 10 * USUAL,
        "usual_feerate_kvb": USUAL,
        "ratio": 10.0,
        "window_blocks": 144,
    }
    assert signal.subject == "chain"
    assert signal.confidence == pytest.approx(144.5 / 145, abs=1e-6)
    assert signal.confidence_basis["cases"] == 144


@pytest.mark.parametrize(("strange", "kind"), [(3, ["fee_spike"]), (4, [])])
async def test_a_spike_is_rare_in_its_window(strange: int, kind: list[str]) -> None:
    """Where four of 144 blocks were as high, the 97 % are not reached: (140 + 1/2) / 145 is less."""
    assert await kinds(uneven(144, strange, 20), paying(144, 10)) == kind


@pytest.mark.parametrize("factor", [10, 0.1])
async def test_an_excursion_is_told_once(factor: float) -> None:
    """When it begins; again only after twelve ordinary blocks."""
    high = [*range(144, 150), 152, 170]
    chain = [paying(i, factor if i in high else 1) for i in range(180)]
    kind = "fee_spike" if factor > 1 else "fee_drop"
    processor = MempoolProcessor(ProcessorConfig(spike_rank=0.9))
    assert await told(processor, chain) == [(HEIGHT + 144, kind), (HEIGHT + 170, kind)]


async def test_a_drop_right_after_a_spike_is_another_excursion() -> None:
    """The other direction is not quiet's business."""
    chain = [paying(i, {144: 10, 145: 0.1}.get(i, 1)) for i in range(146)]
    assert await told(MempoolProcessor(), chain) == [(HEIGHT + 144, "fee_spike"), (HEIGHT + 145, "fee_drop")]


async def test_without_quiet_every_block_of_an_excursion_is_told() -> None:
    """`quiet_blocks` of 0 asks for no silence at all, as 1 asks for one block of it."""
    chain = [paying(i, 10 if i >= 144 else 1) for i in range(147)]
    for quiet, blocks in ((1, [144]), (0, [144, 145, 146])):
        processor = MempoolProcessor(ProcessorConfig(quiet_blocks=quiet, spike_rank=0.9))
        assert await told(processor, chain) == [(HEIGHT + i, "fee_spike") for i in blocks], quiet


async def test_unknown_fees_are_silence_not_zero() -> None:
    """Neither of this block nor of the past: unknown rates are left out, and too few known ones say nothing."""
    unknown: dict[str, Any] = {"package_feerate_percentiles_kvb": None, "totalfee": None, "top_fee": None}
    assert await kinds(past(144), at(144, **unknown)) == []
    half = tuple(at(i, **unknown) if i % 2 else at(i) for i in range(144))
    (signal,) = await signals(half, paying(144, 10))
    assert signal.metadata["window_blocks"] == signal.confidence_basis["cases"] == 72
    assert await kinds((at(0, **unknown), *half[1:]), paying(144, 10)) == []


@pytest.mark.parametrize(("blocks", "kind"), [(71, []), (72, ["fee_spike"])])
async def test_a_spike_needs_a_past(blocks: int, kind: list[str]) -> None:
    assert await kinds(past(blocks), paying(blocks, 10)) == kind


async def test_empty_blocks_have_no_feerate() -> None:
    """A coinbase alone is no sign that space was cheap: neither a drop, nor a case of the past."""
    assert "fee_drop" not in await kinds(past(144), at(144, txs=1, package_feerate_percentiles_kvb=[0] * 5))
    with_empty = (*past(100), *(at(i, txs=1, package_feerate_percentiles_kvb=[0] * 5) for i in range(100, 144)))
    (signal,) = await signals(with_empty, paying(144, 10))
    assert (signal.metadata["window_blocks"], signal.metadata["usual_feerate_kvb"]) == (100, USUAL)


async def test_free_transactions_all_along_divide_by_nothing() -> None:
    """The usual rate may be 0, as in the first years: then no ratio is formed."""
    free = tuple(paying(i, 0) for i in range(144))
    assert await kinds(free, paying(144, 10)) == []


@pytest.mark.parametrize(("txs", "kind"), [(213, ["tx_count_record"]), (212, [])])
async def test_a_record_is_twice_the_most_before(txs: int, kind: list[str]) -> None:
    """The fullest block of the window has 106 payments: 212 are twice as many, 211 are not."""
    assert max(facts.txs for facts in past(144)) == 1 + 106
    assert await kinds(past(144), at(144, txs=txs)) == kind
    for signal in await signals(past(144), at(144, txs=txs)):
        assert signal.metadata["transactions"] == txs - 1
        assert signal.metadata["most_before"] == 106
        assert signal.metadata["usual_transactions"] == 103


async def test_a_record_needs_a_past_and_is_told_anew_only_when_broken() -> None:
    assert await kinds(past(71), at(71, txs=900)) == []
    chain = [at(i, txs={100: 400, 101: 450, 102: 900}.get(i, 101)) for i in range(104)]
    found = await told(MempoolProcessor(), chain)
    assert found == [(HEIGHT + 100, "tx_count_record"), (HEIGHT + 102, "tx_count_record")]


async def test_payments_that_resume() -> None:
    """After a window of nothing but coinbases the first payments are no record but a beginning."""
    chosen = case("payments_resume")
    (signal,) = await signals(chosen.window, chosen.now)
    assert signal.metadata["transactions"] == 3
    assert signal.metadata["window_blocks"] == 144
    assert await kinds(chosen.window, at(144, txs=1)) == []
    assert await kinds((at(0, txs=2), *chosen.window[1:]), at(144, txs=4)) == ["tx_count_record"]


OVERPAID = {"txs": 12, "totalfee": 2 * COIN, "top_fee": {"txid": "ab" * 32, "fee": COIN, "feerate_kvb": 20 * USUAL}}


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, ["fee_overpaid"]),
        ({"top_fee": {"txid": "ab" * 32, "fee": COIN - 1, "feerate_kvb": 20 * USUAL}}, []),
        ({"totalfee": 2 * COIN + 1}, []),
        ({"totalfee": COIN, "top_fee": {"txid": "ab" * 32, "fee": COIN // 2, "feerate_kvb": 20 * USUAL}},
         ["fee_overpaid"]),
        ({"totalfee": COIN - 2, "top_fee": {"txid": "ab" * 32, "fee": COIN // 2 - 1, "feerate_kvb": 20 * USUAL}}, []),
        ({"top_fee": {"txid": "ab" * 32, "fee": COIN, "feerate_kvb": 20 * USUAL - 1}}, []),
        ({"txs": 10}, []),
        ({"top_fee": None}, []),
        ({"totalfee": None}, []),
        ({"package_feerate_percentiles_kvb": None}, []),
        ({"package_feerate_percentiles_kvb": [0] * 5}, []),
    ],
)  # fmt: skip
async def test_an_overpaid_fee_is_large_in_every_respect(changes: dict[str, Any], kind: list[str]) -> None:
    """Half a bitcoin, twenty times the median rate, half of the block's fees, among ten others; no past needed."""
    assert await kinds((), at(0, **{**OVERPAID, **changes})) == kind


async def test_an_overpaid_fee_names_its_transaction() -> None:
    (signal,) = await signals((), at(0, **OVERPAID))
    assert signal.subject == "ab" * 32
    assert signal.evidence["txids"] == ["ab" * 32]
    assert signal.metadata["share_of_fees"] == 0.5
    assert signal.metadata["ratio"] == 20.0
    assert signal.metadata["transactions"] == 11
    assert signal.confidence_basis["cases"] == 10


async def test_a_threshold_set_is_the_one_used() -> None:
    """And the one on record."""
    assert await kinds(past(144), paying(144, 3), spike_ratio=3.5) == []
    (signal,) = await signals(past(144), paying(144, 3), spike_ratio=2.5, confidence_threshold=0.5)
    assert signal.inputs["settings"]["spike_ratio"] == 2.5
    assert signal.inputs["settings"]["confidence_threshold"] == 0.5


# The node's mempool


async def after(backlogs: list[float | None], minfees: list[int] | None = None, **thresholds: float) -> list[str]:
    """Kinds said of the last block, before each of which so many blocks waited at such a floor."""
    floors = minfees or [100] * len(backlogs)
    seen = [None if n is None else snapshot(i, n, minfee_kvb=floors[i]) for i, n in enumerate(backlogs)]
    last = len(backlogs) - 1
    processor = MempoolProcessor(ProcessorConfig(**thresholds))
    return [signal.kind for signal in await said(processor, past(last), at(last), seen)]


DAY: list[float | None] = [3.0] * 144


@pytest.mark.parametrize(("backlog", "kinds_said"), [(24, ["congestion"]), (23.99, []), (3, [])])
async def test_congestion_is_four_hours_of_blocks(backlog: float, kinds_said: list[str]) -> None:
    assert await after([*DAY, backlog]) == kinds_said


async def test_congestion_is_twice_the_usual() -> None:
    usual: list[float | None] = [20.0] * 144
    assert await after([*usual, 39.9]) == []
    assert await after([*usual, 40]) == ["congestion"]


@pytest.mark.parametrize(("ago", "kinds_said"), [(1, []), (12, []), (13, ["congestion"])])
async def test_congestion_is_told_when_it_begins(ago: int, kinds_said: list[str]) -> None:
    """None of the twelve mempools before was as full; unknown ones were not."""
    backlogs: list[float | None] = [*DAY, 30.0]
    backlogs[-1 - ago] = 30.0
    assert await after(backlogs) == kinds_said
    backlogs[-1 - ago] = None
    assert await after(backlogs) == ["congestion"]


async def test_a_mempool_needs_a_past_that_was_seen() -> None:
    """72 of the window's, whichever they are."""
    assert await after([*[None] * 73, *[3.0] * 71, 30.0]) == []
    assert await after([*[None] * 72, *[3.0] * 72, 30.0]) == ["congestion"]
    assert await after([*DAY, None]) == []


async def test_a_mempool_that_emptied() -> None:
    """Less than a block, where three waited as a rule, and no less than one before each of the last twelve."""
    assert await after([*DAY, 0.99]) == ["mempool_emptied"]
    assert await after([*DAY, 1.0]) == []
    assert await after([*[2.9] * 144, 0.5]) == []
    assert await after([*DAY[:-12], 0.9, *[3.0] * 11, 0.5]) == []
    assert await after([*DAY[:-13], 0.9, *[3.0] * 12, 0.5]) == ["mempool_emptied"]


async def test_purging_is_told_when_it_begins() -> None:
    """The floor is above the node's own, and was not before the last twelve blocks."""
    floors = [100] * 144
    assert await after([*DAY, 3], [*floors, 101]) == ["purging"]
    assert await after([*DAY, 3], [*floors, 100]) == []
    assert await after([*DAY, 3], [*floors[:-12], 500, *floors[:11], 900]) == []
    assert await after([*DAY, 3], [*floors[:-13], 500, *floors[:12], 900]) == ["purging"]


async def test_without_quiet_each_is_told() -> None:
    """`quiet_blocks` of 0 asks for no silence at all, of the mempool as of fees."""
    assert await after([*DAY, 30, 31], quiet_blocks=1) == []
    assert await after([*DAY, 30, 31], quiet_blocks=0) == ["congestion"]
    assert await after([*DAY, 0.5, 0.4], quiet_blocks=0) == ["mempool_emptied"]
    assert await after([*DAY, 3, 3], [*[100] * 144, 500, 900], quiet_blocks=0) == ["purging"]
