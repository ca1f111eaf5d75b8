"""What a provider is asked, what it may cost, and who writes where it may not or can't."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from persistence.records import chain, record, run
from pipeline.simulated import query
from processors import cases
from utxoiq.errors import InsightRefused, ProviderError, ProviderUnavailable
from utxoiq.insights.checker import InsightContent
from utxoiq.insights.generator import InsightGenerator, Prompt
from utxoiq.models import Signal
from utxoiq.observability import MonitoringModule
from utxoiq.persistence import SqliteStore, ai_calls, narration
from utxoiq.persistence.ai_calls import Budget
from utxoiq.persistence.leases import Lease
from utxoiq.pipeline.error_handler import ErrorHandler
from utxoiq.pipeline.narrator import Narrator
from utxoiq.pipeline.writer import Writer
from utxoiq.settings import AiSettings

GOOD = InsightContent(
    "Fees rose to {feerate_kvb}",
    "The median in block {height} was {feerate_kvb}. The usual rate before it was {usual_feerate_kvb}.",
    "Confidence {confidence}.",
    tokens_in=1000,
    tokens_out=200,
)
LIE = replace(GOOD, headline="Fees fell to {feerate_kvb}")
PRICED = Budget(usd_in=1.0, usd_out=10.0, most_tokens=1000)
COST = 3_000
"""Millionths of a dollar of one answer of GOOD's length."""


class Scripted:
    """Answers what it is told to, one after the other; the last one for ever."""

    name, model, prompt_version = "scripted", "scripted-1", "p1"

    def __init__(self, *answers: InsightContent | Exception) -> None:
        self.answers, self.asked = list(answers), list[Prompt]()

    async def generate(self, prompt: Prompt) -> InsightContent:
        self.asked.append(prompt)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def spikes(store: SqliteStore, count: int) -> list[Signal]:
    """Fee spikes, stored in the first blocks of the chain."""
    made, found = await cases.signal_of("fee_spike"), []
    for data in chain().trunk[:count]:
        values = {name: value for name, value in made.content().items() if name != "signal_id"}
        signal = Signal.derive(**{**values, "block_hash": str(data.block_hash), "block_height": data.height})
        store.connect(record(data, [signal]))
        found.append(signal)
    return found


def writer_of(store: SqliteStore, provider: Scripted, budget: Budget = PRICED, **options: Any) -> Writer:
    return Writer(store, InsightGenerator(provider), budget, **options)


def narrator_of(store: SqliteStore, provider: Scripted) -> Narrator:
    return Narrator(store, writer_of(store, provider), MonitoringModule(enabled=False), ErrorHandler(), "me/0/0/0")


@pytest.fixture
def lease(store: SqliteStore) -> Lease:
    held = store.leases.acquire("narrate/x", "me/0/0/0", 100)
    assert held is not None
    return held


def calls(path: Path) -> list[tuple[Any, ...]]:
    """(provider, outcome, tokens in, millionths of a dollar) of every question, in order."""
    return run(
        path,
        "SELECT provider, outcome, tokens_in, cost_microusd FROM ai_calls LEFT JOIN ai_results USING (call_id) "
        "ORDER BY ai_calls.rowid",
    )


async def test_a_text_that_passes(store: SqliteStore, path: Path, lease: Lease) -> None:
    """One question, counted with its tokens and what they cost."""
    (signal,) = await spikes(store, 1)
    insight = await writer_of(store, Scripted(GOOD)).write(signal, lease, "run")
    assert (insight.provider, insight.model, insight.prompt_version) == ("scripted", "scripted-1", "p1")
    assert calls(path) == [("scripted", "passed", 1000, COST)]


async def test_a_text_is_mended_once(store: SqliteStore, path: Path, lease: Lease) -> None:
    """The second question holds the reasons for which the first answer did not pass."""
    (signal,) = await spikes(store, 1)
    provider = Scripted(LIE, GOOD)
    insight = await writer_of(store, provider).write(signal, lease, "run")
    assert insight.provider == "scripted"
    assert provider.asked[0].rejected == ()
    assert any("direction" in reason for reason in provider.asked[1].rejected)
    assert [outcome for _, outcome, _, _ in calls(path)] == ["refused", "passed"]
    assert "direction" in run(path, "SELECT reasons FROM ai_results WHERE outcome = 'refused'")[0][0]


async def test_then_the_template_writes(store: SqliteStore, path: Path, lease: Lease) -> None:
    """After two lies, and not after more."""
    (signal,) = await spikes(store, 1)
    provider = Scripted(LIE)
    assert (await writer_of(store, provider).write(signal, lease, "run")).provider == "template"
    assert len(provider.asked) == len(calls(path)) == 2


@pytest.mark.parametrize("budget", [Budget(calls_a_day=1), replace(PRICED, usd_a_day=0.0195)], ids=["calls", "dollars"])
async def test_a_budget(store: SqliteStore, path: Path, lease: Lease, budget: Budget) -> None:
    """Used up by the first: the template tells the next, and nobody is asked. A question reserves what it may cost."""
    first, second = await spikes(store, 2)
    provider = Scripted(GOOD)
    writer = writer_of(store, provider, budget)
    assert (await writer.write(first, lease, "run")).provider == "scripted"
    assert (await writer.write(second, lease, "run")).provider == ("scripted" if budget.usd_a_day else "template")
    if budget.usd_a_day:  # 0.014 are reserved, 0.003 spent: a third would pass 0.0195
        third = replace(second, signal_id=first.signal_id)
        assert (await writer.write(third, lease, "run")).provider == "template"
    assert len(provider.asked) == len(calls(path))


async def test_little_confidence_is_told_by_the_template(store: SqliteStore, path: Path, lease: Lease) -> None:
    (signal,) = await spikes(store, 1)
    writer = writer_of(store, Scripted(GOOD), confidence_threshold=signal.confidence + 0.0001)
    assert (await writer.write(signal, lease, "run")).provider == "template"
    assert calls(path) == []


async def test_a_question_cut_off_is_counted_and_told(
    store: SqliteStore, path: Path, lease: Lease, caplog: pytest.LogCaptureFixture
) -> None:
    """Killed between the question and the answer: it counts as dear as it was reserved for, and is asked once more."""
    (signal,) = await spikes(store, 1)
    asked = {"signal_id": signal.signal_id, "provider": "scripted", "model": "scripted-1", "prompt_version": "p1"}
    assert ai_calls.reserve(store, lease, PRICED, asked, "run") == ai_calls.Call(
        run(path, "SELECT call_id FROM ai_calls")[0][0], repeats=False
    )
    (day,) = run(path, "SELECT day FROM ai_calls")[0]
    assert ai_calls.spent_on(store, day, "scripted", 0) == (1, PRICED.cost(ai_calls.TOKENS_IN, 1000))
    assert (await writer_of(store, Scripted(GOOD)).write(signal, lease, "run")).provider == "scripted"
    assert "an earlier question was cut off" in caplog.text
    (row,) = ai_calls.costs(store, 9)
    assert (row["calls"], row["passed"], row["cut_off"], row["tokens_in"]) == (2, 1, 1, 1000)


async def test_an_answer_of_unknown_cost(store: SqliteStore, path: Path, lease: Lease) -> None:
    """A refusal that tells no tokens counts as dear as it was reserved for; without prices the cost is unknown."""
    priced, unpriced = await spikes(store, 2)
    refusing = Scripted(InsightRefused(["no"]))
    assert (await writer_of(store, refusing).write(priced, lease, "run")).provider == "template"
    assert calls(path) == [("scripted", "refused", None, None)] * 2
    (row,) = ai_calls.costs(store, 9)
    assert (row["refused"], row["tokens_in"], row["microusd"]) == (2, 0, 2 * 14_000)
    await writer_of(store, Scripted(GOOD), Budget()).write(unpriced, lease, "run")
    assert calls(path)[2] == ("scripted", "passed", 1000, None)
    assert ai_calls.costs(store, 9)[0]["microusd"] is None


def test_a_cap_needs_prices() -> None:
    """Else it would never be reached."""
    with pytest.raises(ValueError, match="needs both prices"):
        AiSettings(usd_a_day=5, usd_per_million_tokens_in=1)
    assert AiSettings(usd_a_day=5, usd_per_million_tokens_in=1, usd_per_million_tokens_out=2).usd_a_day == 5


async def test_a_provider_that_is_away(store: SqliteStore, path: Path) -> None:
    """Signals wait, no other is asked, and they are narrated when it returns."""
    await spikes(store, 2)
    provider = Scripted(ProviderUnavailable("down"), ProviderError("wrong key"), GOOD)
    narrator = narrator_of(store, provider)
    for error in (ProviderUnavailable, ProviderError):
        with pytest.raises(error):
            await narrator.look()
        assert run(path, "SELECT * FROM insights") == []
    assert await narrator.look() == 2
    assert {row["provider"] for row in query(path, "SELECT provider FROM insights")} == {"scripted"}
    assert [outcome for _, outcome, _, _ in calls(path)] == ["failed", "failed", "passed", "passed"]


async def test_what_nobody_foresaw(store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug that one signal finds: the others go on, it is tried again after a rest, and at last dead-lettered."""
    poison, fine = await spikes(store, 2)

    class Picky(Scripted):
        async def generate(self, prompt: Prompt) -> InsightContent:
            if prompt.signal.signal_id == poison.signal_id:
                raise KeyError("a bug")
            return await super().generate(prompt)

    narrator = narrator_of(store, Picky(GOOD))
    assert await narrator.look() == 2
    assert [row["signal_id"] for row in query(path, "SELECT signal_id FROM insights")] == [fine.signal_id]
    assert await narrator.look() == 0, "it rests"
    monkeypatch.setattr(narration, "AGAIN_SECONDS", 0)
    assert [await narrator.look() for _ in range(3)] == [1, 1, 0]
    (dead,) = narration.dead(store, 9)
    assert (dead["signal_id"], "a bug" in dead["reason"]) == (poison.signal_id, True)
    assert store.stale_signals(1 << 40) == (0, None)
