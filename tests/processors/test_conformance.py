"""What every processor must do, found by discovery, ours and third parties'; and that the checks would find it out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import EntryPoint, EntryPoints, entry_points

import pytest

from helpers.calibration import uncalibrated
from helpers.process import TESTS, python
from helpers.process import said as output_of
from processors import conformance, foreign
from processors.cases import KINDS as CASES
from processors.cases import LABELS, MADE, at, block, case, context, past, processor_of, said, snapshot, trading
from utxoiq.errors import ConfigError
from utxoiq.facts.compute import compute_facts
from utxoiq.facts.flows import compute_flows
from utxoiq.insights.vocabulary import KINDS
from utxoiq.models import BlockData, BlockFacts
from utxoiq.processors import discovery
from utxoiq.processors.base import ProcessorConfig, SignalProcessor
from utxoiq.processors.discovery import GROUP, declared_kinds, discover, discovered

OURS = tuple(discovered())
FOREIGN = "foreign"

every_case = pytest.mark.parametrize("name", CASES)
every_processor = pytest.mark.parametrize("who", [*OURS, FOREIGN])


@pytest.fixture(scope="module", autouse=True)
def third_party() -> Iterator[None]:
    """A third party's package is installed beside ours."""
    ours = list(entry_points(group=GROUP))
    found = EntryPoints([*ours, EntryPoint(FOREIGN, "processors.foreign:Foreign", GROUP)])
    declared_kinds.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(discovery, "entry_points", found.select)
        yield
    declared_kinds.cache_clear()


def kind_of(who: str) -> type[SignalProcessor]:
    return type(discovered()[who])


def test_each_kind_has_a_case() -> None:
    """The cases name exactly the kinds that have a text, and that our processors declare."""
    ours = [discovered()[who] for who in OURS]
    assert set(MADE) == set(KINDS)
    assert set(MADE) == {(one.signal_type, kind) for one in ours for kind in one.kinds}
    assert len(set(CASES)) == len(MADE)


def test_the_third_party_is_found() -> None:
    assert kind_of(FOREIGN) is foreign.Foreign
    assert declared_kinds()["whale", "busy"] == foreign.Foreign.kinds["busy"]


@every_case
async def test_its_case_makes_it_speak(name: str) -> None:
    """Each kind is said in its case, by the processor of its type, and no other kind is."""
    chosen = case(name)
    found = [s for who in OURS for s in await chosen.said(discovered()[who])]
    wanted = [(chosen.signal_type, chosen.kind, subject) for subject in chosen.subjects]
    assert [(s.signal_type, s.kind, s.subject) for s in found] == wanted


@pytest.mark.parametrize("check", conformance.EACH_CASE, ids=lambda check: check.__name__)
@every_case
async def test_in_every_case(check: conformance.Check, name: str) -> None:
    """Every processor, whether it speaks or not."""
    for who in (*OURS, FOREIGN):
        await check(kind_of(who), case(name))


@pytest.mark.parametrize("check", conformance.WHERE_IT_SPEAKS, ids=lambda check: check.__name__)
@every_case
async def test_where_it_speaks(check: conformance.Check, name: str) -> None:
    """Each of our processors in the cases that make it speak."""
    chosen = case(name)
    kind = type(processor_of(name))
    assert await chosen.said(kind())
    await check(kind, chosen)


@pytest.mark.parametrize("check", conformance.WHERE_IT_SPEAKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["tx_count_record", "congestion", "net_inflow", "large_deposit"])
async def test_a_third_partys_where_it_speaks(check: conformance.Check, name: str) -> None:
    """Found by its entry point, among the same inputs, which it is busy in only with more payments."""
    chosen = replace(case(name), now=replace(case(name).now, txs=501))
    assert await chosen.said(kind_of(FOREIGN)())
    await check(kind_of(FOREIGN), chosen)


@every_processor
def test_it_declares_itself(who: str) -> None:
    conformance.declares_itself(kind_of(who))


@pytest.mark.parametrize("who", OURS)
def test_ours_have_words(who: str) -> None:
    conformance.has_words(kind_of(who))


@pytest.mark.parametrize("who", OURS)
def test_ours_are_documented(who: str) -> None:
    conformance.is_documented(kind_of(who))


@pytest.mark.parametrize("name", foreign.BREAKERS)
async def test_the_checks_find_out(name: str) -> None:
    """Each class that breaks the contract in one way is refused by the check that is there for it."""
    busy = at(144, txs=501, package_feerate_percentiles_kvb=[1, 2, 3, 4, 5])
    chosen = replace(case("tx_count_record"), now=busy, flows=trading(145))
    check = getattr(conformance, name.split(",", maxsplit=1)[0])
    await check(foreign.Foreign, chosen)
    with pytest.raises((AssertionError, ZeroDivisionError, TypeError)):
        await check(foreign.BREAKERS[name], chosen)


# Odd input


def odd_blocks() -> Iterator[BlockData]:
    """The same block with ever less known about it."""
    data = block()
    yield replace(data, spent=None)
    yield replace(data, height=None)
    yield replace(data, height=None, spent=None, prior_times=None)
    yield replace(data, height=0, spent=None)
    yield replace(data, mempool=snapshot(0, 0, next_block=None, backlog_weight=None, border_feerates_kvb=None))


@every_processor
@pytest.mark.parametrize("window", [(), past(144)], ids=["island", "usual past"])
async def test_odd_blocks_raise_nothing(who: str, window: tuple[BlockFacts, ...]) -> None:
    """No spent outputs, no height, no ancestors, a mempool nobody could project: nothing is raised, and what is said is
    of that block."""
    for data in odd_blocks():
        facts = compute_facts(data, LABELS)
        seen = context(window, facts, flows=[compute_flows(data, LABELS)])
        processor = kind_of(who)()
        processor.forecasts(data, seen)
        for signal in await processor.process_block(data, seen):
            assert (signal.block_hash, signal.block_height) == (facts.blockhash, data.height)


UNKNOWN = dict.fromkeys(("totalfee", "package_feerate_percentiles_kvb", "top_fee", "subsidy", "pool", "pool_name",
                         "pool_by", "coinbase_unclaimed", "large_coins", "large_transfers", "coin_blocks_destroyed",
                         "coin_days_destroyed", "oldest_coin", "medianfee", "mediantime"))  # fmt: skip


@pytest.mark.parametrize("who", OURS)
async def test_unknown_facts_of_the_past_raise_nothing(who: str) -> None:
    """A window whose fees, pools, ages, flows and claims nobody knows is a window; nothing is said of it."""
    processor = kind_of(who)()
    assert await said(processor, past(400, **UNKNOWN), at(400, **UNKNOWN)) == []
    assert processor.forecasts(block(), context(past(400, **UNKNOWN), at(400, **UNKNOWN))) == []


@every_case
async def test_a_past_nobody_knows_is_no_past(name: str) -> None:
    """The block of each case after unknown blocks: only what needs no past is said, and nothing is raised."""
    chosen = case(name)
    unknown = replace(chosen, facts=[replace(one, **UNKNOWN) for one in chosen.facts], mempools=chosen.mempools[-1:],
                      flows=chosen.flows[-1:])  # fmt: skip
    for who in OURS:
        for signal in await unknown.said(discovered()[who]):
            assert signal.confidence_basis["cases"] <= 1008
            assert "usual_feerate_kvb" not in signal.metadata or signal.kind == "fee_overpaid"


@every_processor
def test_an_unknown_threshold_is_wrong_use(who: str) -> None:
    """A misspelt setting is said at once, with those there are."""
    kind = kind_of(who)
    with pytest.raises(ConfigError, match="no threshold spike_ration") as caught:
        kind(ProcessorConfig(spike_ration=2))
    assert all(name in str(caught.value) for name in kind.defaults)


# Elsewhere

EVERYTHING = """
import asyncio, sys
from hashlib import sha256
sys.path.insert(0, sys.argv[1])
from processors.test_conformance import everything
print(asyncio.run(everything()))
"""


async def everything() -> str:
    """The digest of all that our processors say and forecast in all cases."""
    said_of = sha256()
    with uncalibrated():
        for name in CASES:
            for processor in discover():
                if processor.model_version != foreign.Foreign.model_version:
                    said_of.update(conformance.as_text(await case(name).said(processor)).encode())
                    said_of.update(repr(processor.forecasts(case(name).block, case(name).context())).encode())
    return said_of.hexdigest()


async def test_another_process_says_the_same() -> None:
    """With hashes of its own, so in another order of sets: every signal and forecast of every case, to the byte."""
    ran = python("-c", EVERYTHING, str(TESTS), PYTHONHASHSEED="0")
    assert ran.returncode == 0, output_of(ran)
    assert ran.stdout.split()[-1] == await everything()
