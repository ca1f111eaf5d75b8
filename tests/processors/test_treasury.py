"""When the treasury processor speaks, and when it is silent."""

from __future__ import annotations

from typing import Any

import pytest

from processors.cases import LABELS, at, entity, flows, gets, keeps, past, pays, said, trading, transfer, unsure
from utxoiq.entities.labels import LabelSet
from utxoiq.models import EntityFlow, Signal, Transfer
from utxoiq.processors import ProcessorConfig, TreasuryProcessor
from utxoiq.units import COIN


async def signals(*transfers: Transfer, labels: LabelSet = LABELS, **thresholds: Any) -> list[Signal]:
    """Of a block of these transactions, after a day in which an exchange traded."""
    moved = [*trading(144), flows(at(144), *transfers, labels=labels)]
    return await said(TreasuryProcessor(ProcessorConfig(**thresholds)), past(144), at(144), flows=moved, labels=labels)


async def kinds(*transfers: Transfer, **more: Any) -> list[tuple[str, str]]:
    return [(signal.kind, signal.subject) for signal in await signals(*transfers, **more)]


@pytest.mark.parametrize(
    ("flow", "pattern", "kind"),
    [(gets, "payment", "accumulation"), (pays, "payment", "distribution"), (keeps, "internal", "internal_reshuffle")],
)
async def test_what_a_company_gained_gave_or_moved(flow: Any, pattern: str, kind: str) -> None:
    """From 10 BTC, to the satoshi."""
    assert await kinds(transfer({"stratum": flow(10)}, pattern=pattern)) == [(kind, "stratum")]
    assert await kinds(transfer({"stratum": flow(9.99999999)}, pattern=pattern)) == []
    assert await kinds(transfer({"stratum": flow(9)}, pattern=pattern), moved_btc=9) == [(kind, "stratum")]


@pytest.mark.parametrize(("who", "count"), [("stratum", 1), ("drift", 1), ("glacia", 0), ("borealis", 0), ("aster", 0)])
async def test_companies_funds_and_governments(who: str, count: int) -> None:
    """And nobody else; a label of the lowest grade is not sure enough for what comes from nobody (0.5)."""
    assert len(await kinds(transfer({who: gets(50)}))) == count
    seller = transfer({who: gets(50), "cirrus": pays(50)})
    assert len(await kinds(seller)) == (who in ("stratum", "drift", "glacia"))


async def test_what_an_accumulation_says() -> None:
    """Name, ticker, amount, whence; what it was last known to hold, of when, and the part of it that came."""
    (signal,) = await signals(transfer({"stratum": gets(50), "borealis": pays(50)}))
    assert signal.metadata == {
        "entity_id": "stratum",
        "entity_name": "Stratum Holdings",
        "amount": 50 * COIN,
        "largest": 50 * COIN,
        "transactions": 1,
        "counterparty": "Borealis",
        "attributed_share": 1.0,
        "unknown_share": 0.0,
        "block_attributed_share": 0.0055,
        "ticker": "STRH",
        "known_holdings": 2000 * COIN,
        "holdings_as_of": "2026-01-05",
        "holdings_change": 0.025,
    }


async def test_what_is_not_known_of_holdings_is_not_told() -> None:
    """Neither ticker nor holdings: those fields are absent, not zero."""
    (signal,) = await signals(transfer({"drift": pays(50)}))
    assert not {"ticker", "known_holdings", "holdings_as_of", "holdings_change"} & set(signal.metadata)


@pytest.mark.parametrize(
    ("holdings", "change"),
    [
        ({"sat": 0, "as_of": "2026-01-05", "source": "a filing"}, None),
        ({"sat": 3 * COIN, "as_of": "2026-01-05", "source": "a filing"}, 16.6667),
    ],
)
async def test_a_change_needs_something_held(holdings: dict[str, Any], change: float | None) -> None:
    """Of nothing there is no share; more than all of it is more than 1."""
    labels = LabelSet((entity("fund", "Fund", "etf", known_holdings=holdings),), "made", LABELS.network)
    seen = [*[None] * 144, flows(at(144), transfer({"fund": pays(50)}), labels=labels)]
    (signal,) = await said(TreasuryProcessor(), past(144), at(144), flows=seen, labels=labels)
    assert signal.metadata.get("holdings_change") == change
    assert signal.metadata["known_holdings"] == holdings["sat"]


async def test_distribution_counts_what_must_have_left() -> None:
    """Of 500 that did not come back, 480 may be change: 20 are told."""
    (signal,) = await signals(transfer({"stratum": pays(500, change=0, least=20)}), confidence_threshold=0)
    assert signal.metadata["amount"] == 20 * COIN
    assert await kinds(transfer({"stratum": pays(500, change=0, least=9)}), confidence_threshold=0) == []


@pytest.mark.parametrize("flow", [gets(50), pays(50), keeps(50)])
async def test_what_is_uncertain_or_new_is_no_move(flow: EntityFlow) -> None:
    """In mixed company, or in a coinbase."""
    assert await kinds(transfer({"stratum": unsure(flow)})) == []
    assert await kinds(transfer({"stratum": flow}, pattern="coinbase")) == []


async def test_two_in_one_block_are_told_each() -> None:
    """A company buys of a fund, and moves the rest within, in the order of kinds and ids."""
    each = [
        transfer({"stratum": gets(50), "drift": pays(50)}, "01" * 32),
        transfer({"stratum": keeps(70)}, "02" * 32, pattern="consolidation"),
    ]
    assert await kinds(*each) == [
        ("accumulation", "stratum"),
        ("distribution", "drift"),
        ("internal_reshuffle", "stratum"),
    ]


async def test_unknown_flows_are_silence() -> None:
    moved = [*trading(144), None]
    assert await said(TreasuryProcessor(), past(144), at(144), flows=moved) == []
    assert await said(TreasuryProcessor(), (), at(0), flows=[flows(at(0), transfer({"drift": pays(50)}))]) != []
