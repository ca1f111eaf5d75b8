"""What every processor must do, ours and third parties': functions over a processor class and a case, that raise
AssertionError where it does not."""

from __future__ import annotations

import asyncio
import json
import pickle
import re
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from processors.cases import LABELS, Case, at, balances, changed, flows, gets, snapshot, transfer
from utxoiq.history import History, Past, Window
from utxoiq.insights.slots import names_in
from utxoiq.insights.vocabulary import KINDS
from utxoiq.models import BlockFacts, Forecast, Signal, canonical_json
from utxoiq.processors.base import FACTS_READ_BY_ALL, ProcessingContext, ProcessorConfig, SignalProcessor
from utxoiq.processors.metadata import TYPES, problems

DOCS = Path(__file__).resolve().parents[2] / "docs" / "signals"
FOR_THE_RECORD = {"labels_version", "facts_version"}
"""Versions that a signal carries with it; they decide nothing but which past is comparable."""
OF_THE_BLOCK = {"network", "height", "block_hash", "prev_hash", "mempool"}
"""What a processor may read of the block itself."""
FLOWS_READ = ("never", "of the block", "of the window")
Kind = type[SignalProcessor]


def as_text(signals: Sequence[Signal]) -> str:
    return canonical_json([signal.content() for signal in signals])


def copied(rows: list[Past]) -> list[Past]:
    """Equal rows, of which nothing is the same object."""
    found: list[Past] = pickle.loads(pickle.dumps(rows))
    return found


def frozen(case: Case) -> bytes:
    """All that a case shows, as bytes."""
    shown = [*case.rows, Past(case.now, case.moved, case.block.mempool, case.context().balances)]
    for row in shown:
        _ = row.flows and row.flows.digest, row.balances and row.balances.digest  # kept beside them, once asked for
    return pickle.dumps(shown)


class Watched:
    """Facts, flows or a block that take note of what is read of them."""

    def __init__(self, of: Any, read: set[str]) -> None:
        self._of, self._read = of, read

    def __getattr__(self, name: str) -> Any:
        self._read.add(name)
        return getattr(self._of, name)


# One class, one case


async def same_bytes(kind: Kind, case: Case) -> None:
    """Asked twice, of a new instance, and of equal rows in another window, the signals are equal, as JSON too."""
    processor = kind()
    first, again = await case.said(processor), await case.said(processor)
    other = await case.said(kind(), Window.of(copied(case.rows)))
    assert first == again == other
    assert as_text(first) == as_text(again) == as_text(other)


async def changes_nothing(kind: Kind, case: Case) -> None:
    """Facts, flows and mempools hold lists and dicts; none of them is another afterwards."""
    before, window = frozen(case), Window.of(case.rows)
    kept = list(window.rows)
    processor = kind()
    await case.said(processor, window)
    processor.forecasts(case.block, case.context(window))
    assert frozen(case) == before
    assert len(window.rows) == len(kept)
    assert all(one is other for one, other in zip(window.rows, kept, strict=True)), "it put other rows into the window"


async def reads_what_it_names(kind: Kind, case: Case) -> None:
    """A signal's identity covers what is declared, so nothing else may decide."""
    assert kind.reads_flows in FLOWS_READ
    of_past, of_now, of_block = set[str](), set[str](), set[str]()
    flows_of_past, flows_of_now = set[str](), set[str]()
    past = [
        row._replace(facts=Watched(row.facts, of_past), flows=row.flows and Watched(row.flows, flows_of_past))  # type: ignore[arg-type]
        for row in case.rows
    ]
    watched: Any = ProcessingContext(
        Watched(case.now, of_now), Window.of(past), LABELS, "correlation",  # type: ignore[arg-type]
        case.moved and Watched(case.moved, flows_of_now), case.context().balances,  # type: ignore[arg-type]
    )  # fmt: skip
    block: Any = Watched(case.block, of_block)
    processor = kind()
    await processor.process_block(block, watched)
    processor.forecasts(block, watched)
    declared = {*FACTS_READ_BY_ALL, *kind.reads, *FOR_THE_RECORD}
    assert of_now <= declared, f"it reads of the block's facts {sorted(of_now - declared)}"
    assert of_past <= declared, f"it reads of past facts {sorted(of_past - declared)}"
    assert of_block <= OF_THE_BLOCK, f"it reads of the block {sorted(of_block - OF_THE_BLOCK)}"
    if kind.reads_flows == "never":
        assert not flows_of_now, f"it says it reads no flows, and reads {sorted(flows_of_now)}"
    if kind.reads_flows != "of the window":
        assert not flows_of_past, f"it says it reads no past flows, and reads {sorted(flows_of_past)}"


async def sees_its_window_only(kind: Kind, case: Case) -> None:
    """Live, the history is longer than its window, and later blocks follow in it; the signal, digest included, is the
    same."""
    size = max(1, len(case.rows))
    processor = kind(ProcessorConfig(time_window=size))
    alone = await case.said(processor, Window.of(case.rows))
    older = [_strange(-50 + i) for i in range(50)]
    later = [_strange(len(case.rows) + 1 + i) for i in range(50)]
    history = History([*older, *case.rows, *later])
    for start, stop in ((0, 50), (50, len(history.rows)), (0, len(history.rows))):
        Window(history, start, stop).series(_touch)
    for start in (0, 50):
        seen = Window(history, start, 50 + len(case.rows))
        assert as_text(await case.said(processor, seen)) == as_text(alone)
        assert processor.forecasts(case.block, case.context(seen)) == processor.forecasts(case.block, case.context())


def _strange(i: int) -> Past:
    facts = at(
        i, txs=9000, pool="older", pool_name="Older", package_feerate_percentiles_kvb=[90_000] * 5, weight=1000,
        coin_blocks_destroyed=10**16, large_transfers=[{"moved": 10**14}],
    )  # fmt: skip
    return Past(facts, flows(facts, transfer({"borealis": gets(5000)})).sums(), snapshot(i, 90, minfee_kvb=900))


def _touch(row: Past) -> str:
    return row.facts.blockhash


async def obeys_its_confidence_threshold(kind: Kind, case: Case) -> None:
    """Just below what is said it speaks, just above it is silent; at 1 only what is read off a rule stays."""
    usual = await case.said(kind())
    for signal in usual:
        for step, stays in ((-2e-6, True), (2e-6, signal.confidence == 1)):
            config = ProcessorConfig(confidence_threshold=min(1.0, signal.confidence + step))
            again = await case.said(kind(config))
            assert ((signal.kind, signal.subject) in [(s.kind, s.subject) for s in again]) is stays
            assert all(s.confidence >= config.confidence_threshold - 1e-6 for s in again)
    strict = await case.said(kind(ProcessorConfig(confidence_threshold=1.0)))
    assert [(s.kind, s.subject) for s in strict] == [(s.kind, s.subject) for s in usual if s.confidence == 1]
    assert all(s.confidence_basis["calibrated"] for s in strict)


async def says_what_its_confidence_is(kind: Kind, case: Case) -> None:
    """A probability, with its basis and the number of cases it rests on."""
    for signal in await case.said(kind(ProcessorConfig(confidence_threshold=0))):
        assert type(signal.confidence) in (float, int)
        assert 0 <= signal.confidence <= 1
        assert set(signal.confidence_basis) == {"basis", "cases", "calibrated"}
        assert signal.confidence_basis["basis"]
        assert signal.confidence_basis["cases"] >= 1


async def keeps_its_schema(kind: Kind, case: Case) -> None:
    """Every kind it says is declared, and the metadata is what was declared of it."""
    for signal in await case.said(kind(ProcessorConfig(confidence_threshold=0))):
        assert signal.signal_type == kind.signal_type
        assert signal.kind in kind.kinds, f"it says {signal.kind}, which it does not declare"
        assert problems(signal.metadata, kind.kinds[signal.kind]) == []


async def gives_json(kind: Kind, case: Case) -> None:
    """Content goes through JSON and comes back the same: no tuples, no NaN, no other types."""
    for signal in await case.said(kind()):
        assert json.loads(json.dumps(signal.content(), allow_nan=False)) == signal.content()


async def carries_its_block_and_inputs(kind: Kind, case: Case) -> None:
    """Hash, height and time of the block, versions and settings of the run."""
    processor = kind()
    for signal in await case.said(processor):
        now, window = case.now, processor.window(case.context())
        assert (signal.block_hash, signal.block_height, signal.created_at) == (now.blockhash, now.height, now.time)
        assert signal.evidence["block_hashes"] == [now.blockhash]
        assert signal.inputs["settings"] == processor.settings
        assert signal.inputs["window"]["blocks"] == len(window)
        assert signal.inputs["window"]["first"] == (window[0].blockhash if len(window) else None)
        assert signal.inputs["labels_version"] == now.labels_version
        assert signal.inputs["facts_version"] == now.facts_version
        assert (signal.simulated, signal.correlation_id) == (now.simulated, "correlation")
        assert signal.model_version == kind.model_version


async def is_named_by_what_it_saw(kind: Kind, case: Case) -> None:
    """Another past, or another setting, is another signal; another correlation id is not."""
    size = max(1, len(case.rows))
    config = ProcessorConfig(time_window=size, confidence_threshold=0.1)
    said = await case.said(kind(config))
    past = case.rows
    if said and past:
        past[0] = past[0]._replace(facts=replace(past[0].facts, time=past[0].facts.time - 1))
        others = await case.said(kind(config), Window.of(past))
        others += await case.said(kind(ProcessorConfig(time_window=size, confidence_threshold=0.2)))
        assert others
        assert not {signal.signal_id for signal in said} & {other.signal_id for other in others}
    elsewhere = replace(case.context(), correlation_id="another")
    again = await kind(config).process_block(case.block, elsewhere)
    assert [signal.signal_id for signal in again] == [signal.signal_id for signal in said]


async def says_the_same_under_the_same_name(kind: Kind, case: Case) -> None:
    """Whatever is another in what it is shown: where a signal is another too, it has another id."""
    config = ProcessorConfig(confidence_threshold=0)
    usual = {signal.signal_id: signal.content() for signal in await case.said(kind(config))}
    for name, other in _others(case).items():
        for signal in await other.said(kind(config)):
            known = usual.get(signal.signal_id)
            assert known is None or known == signal.content(), f"another {name} gives another signal of the same id"


def _others(case: Case) -> dict[str, Case]:
    """The case with one thing changed at a time."""
    size, facts = len(case.facts), list(case.facts)
    changed = {
        "fact of the past": replace(case, facts=[*facts[:-3], *(replace(one, txs=55) for one in facts[-3:])]),
        "fact of the block": replace(case, now=replace(case.now, txs=case.now.txs + 1, totalfee=1)),
        "pool of the past": replace(case, facts=[replace(one, pool="other") for one in facts[:9]] + facts[9:]),
        "mempool of the past": replace(case, mempools=_seen(case, range(size))),
        "mempool of some of the past": replace(case, mempools=_seen(case, range(0, size, 3))),
        "mempool of the block": replace(case, mempools=_seen(case, [size])),
        "flow of the block": replace(case, flows=_moving(case, [size])),
        "flow of the past": replace(case, flows=_moving(case, range(size // 2, size, 2))),
        "balances of the block": replace(case, balances=_holding(case, [size])),
        "balances of the past": replace(case, balances=_holding(case, range(size // 2, size, 2))),
    }
    return {name: replace(one) for name, one in changed.items()}


def _seen(case: Case, where: Sequence[int]) -> list[Any]:
    """The mempools of a case; there, others, whose next block would pay the more the further it is."""
    size = len(case.facts) + 1
    kept = [*[None] * (size - len(case.mempools)), *case.mempools]
    for i in where:
        kept[i] = snapshot(i, 5 + i % 4)
        upcoming = replace(kept[i].next_block, feerate_percentiles_kvb=[900 + 37 * (i % 60)] * 6)
        kept[i] = replace(kept[i], next_block=upcoming)
    return kept


def _moving(case: Case, where: Sequence[int]) -> list[Any]:
    """The flows of a case; there, others."""
    facts = [*case.facts, case.now]
    kept = [*[None] * (len(facts) - len(case.flows)), *case.flows]
    for i in where:
        kept[i] = flows(facts[i], transfer({"borealis": gets(1 + i % 7)}), value_in=7_000 * 10**8)
    return kept


def _holding(case: Case, where: Sequence[int]) -> list[Any]:
    """The balances of a case; there, others."""
    size = len(case.facts) + 1
    kept = [*[None] * (size - len(case.balances)), *case.balances]
    for i in where:
        kept[i] = balances(i, changed(700, 1100 + i % 7), held=(1_900_000 + i) * 10**8)
    return kept


async def takes_zero_for_a_threshold(kind: Kind, case: Case) -> None:
    """Zero is a setting like any other: it may silence or loosen, not break; with a past, a short one, and none."""
    for name in kind.defaults:
        processor = kind(ProcessorConfig(**{name: 0}))
        for blocks in (len(case.window), 145, 1, 0):
            for signal in await case.said(processor, case.window.last(blocks)):
                assert problems(signal.metadata, kind.kinds[signal.kind]) == []


async def forecasts_what_it_may(kind: Kind, case: Case) -> None:
    """Forecasts are of this block, whole numbers, the same twice and of a new instance; each is there once."""
    made = kind().forecasts(case.block, case.context())
    assert made == kind().forecasts(case.block, case.context(Window.of(copied(case.rows))))
    assert len({one.forecast_id for one in made}) == len(made)
    for one in made:
        assert isinstance(one, Forecast)
        assert one.block_hash == case.now.blockhash
        assert one.target_height > (case.now.height or 0)
        assert one.model_version == kind.model_version
        assert {type(one.value_kvb), type(one.target_height), type(one.cases)} == {int}
        assert {type(one.low_kvb), type(one.high_kvb)} <= {int, type(None)}
        assert one.value_kvb > 0
        if one.low_kvb is not None and one.high_kvb is not None:
            assert 0 < one.low_kvb <= one.high_kvb


async def resolves_by_what_follows(kind: Kind, case: Case) -> None:
    """Whether a signal was right is told by it and the blocks after it alone: the same twice, of equal rows, of an
    instance that saw another block since, and with later blocks beside them; nothing is changed, nothing read that is
    not declared; without any block nothing is told, nor of kinds that no block tells."""
    processor, config = kind(), ProcessorConfig(confidence_threshold=0)
    for signal in await case.said(kind(config)):
        blocks = kind.settles_after.get(signal.kind, 0)
        after = following(len(case.facts) + 1, blocks + 2)
        needed, before, content = after[:blocks], pickle.dumps(after), as_text([signal])
        told = processor.resolve(signal, needed)
        await replace(case, now=replace(case.now, txs=case.now.txs + 400)).said(processor)
        found = [processor.resolve(signal, rows) for rows in (needed, copied(needed), after)]
        assert {told, *found, kind().resolve(signal, needed)} == {told}
        assert told in ((True, False, None) if blocks else (None,))
        assert processor.resolve(signal, []) is None
        assert (pickle.dumps(after), as_text([signal])) == (before, content)
        read = set[str]()
        processor.resolve(signal, [row._replace(facts=Watched(row.facts, read)) for row in needed])  # type: ignore[arg-type]
        assert read <= {*FACTS_READ_BY_ALL, *kind.reads}, f"it reads of later facts {sorted(read)}"


def following(i: int, size: int) -> list[Past]:
    """Blocks from `i` on in which feerates, pools, backlogs and flows are now these, now those."""
    facts = [at(n, package_feerate_percentiles_kvb=[500 * (1 + n % 9)] * 5) for n in range(i, i + size)]
    moved = [flows(one, transfer({"borealis": gets(1 + n % 7)})).sums() for n, one in enumerate(facts)]
    rows = [
        Past(one, flow, snapshot(i + n, 1 + n % 30)) for n, (one, flow) in enumerate(zip(facts, moved, strict=True))
    ]
    for row in rows:
        _ = row.flows and row.flows.digest
    return rows


async def shares_a_history(kind: Kind, case: Case) -> None:
    """Two of a kind in threads over one history, at the same time: each says what one alone says."""
    wanted = as_text(await case.said(kind(), Window.of(case.rows)))
    window, start, found = Window.of(case.rows), threading.Barrier(2), []

    def ask() -> None:
        start.wait()
        found.append(as_text(asyncio.run(case.said(kind(), window))))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [wanted, wanted]


Check = Callable[[Kind, Case], Awaitable[None]]
EACH_CASE: tuple[Check, ...] = (changes_nothing, reads_what_it_names)
"""Asked in every case, also where it is silent."""
WHERE_IT_SPEAKS: tuple[Check, ...] = (
    same_bytes,
    sees_its_window_only,
    obeys_its_confidence_threshold,
    says_what_its_confidence_is,
    keeps_its_schema,
    gives_json,
    carries_its_block_and_inputs,
    is_named_by_what_it_saw,
    says_the_same_under_the_same_name,
    takes_zero_for_a_threshold,
    forecasts_what_it_may,
    shares_a_history,
    resolves_by_what_follows,
)


# A class


def declares_itself(kind: Kind) -> None:
    """Facts that exist, a window, a model with a name and a number, kinds whose fields have units and meanings."""
    assert set(kind.reads) <= {field.name for field in fields(BlockFacts)}
    assert kind.window_blocks >= 1
    assert re.fullmatch(r"[a-z_]+-[0-9]+", kind.model_version), kind.model_version
    assert kind.reads_flows in FLOWS_READ
    assert kind.kinds
    assert kind.settles_after.keys() <= kind.kinds.keys()
    assert all(blocks >= 1 for blocks in kind.settles_after.values())
    for name, schema in kind.kinds.items():
        assert re.fullmatch(r"[a-z_]+", name)
        assert schema
        for field in schema.values():
            assert field.unit in TYPES
            assert field.meaning


def has_words(kind: Kind) -> None:
    """Each kind has a template, whose slots are declared and always there; the optional sentence may need more."""
    for name, schema in kind.kinds.items():
        text = KINDS[kind.signal_type, name]
        known = {"height", "block_time", "confidence", "cases", "basis"}
        shown = {field for field, one in schema.items() if one.unit != "list"} | known
        assert set(names_in(text.headline + text.summary + text.more)) <= shown


def is_documented(kind: Kind) -> None:
    """docs/signals has a page for the type, which names every kind, every field of it, and every threshold."""
    page = (DOCS / f"{kind.signal_type}.md").read_text("utf-8")
    wanted = [*kind.kinds, *(field for schema in kind.kinds.values() for field in schema), *kind.defaults]
    missing = sorted({name for name in wanted if f"`{name}`" not in page})
    assert missing == []
    assert f"`{kind.model_version}`" in page
