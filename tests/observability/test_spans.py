"""One trace a block with a span a stage, as a collector receives it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from observability.collector import Collector, attributes
from utxoiq.observability import MonitoringModule, bind_correlation_id

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def traced(collector: Collector) -> Iterator[MonitoringModule]:
    """Sends what it traces to `collector` when it is shut down."""
    module = MonitoringModule(otlp_endpoint=collector.url)
    yield module
    module.shutdown()


def sent(module: MonitoringModule, collector: Collector) -> dict[str, Any]:
    module.shutdown()
    return collector.spans()


async def test_stages_are_children_of_their_block(traced: MonitoringModule, collector: Collector) -> None:
    """In the same task, in gathered tasks, in threads, and in another loop's thread, as processors have."""
    loop = asyncio.new_event_loop()

    async def stage(name: str) -> None:
        with traced.span(name):
            await asyncio.sleep(0)

    def in_thread() -> None:
        with traced.span("thread"):
            pass

    def in_own_loop() -> None:
        loop.run_until_complete(asyncio.sleep(0.05))

    with traced.span("block", "id-1", height=7):
        with traced.span("facts"):
            pass
        await asyncio.gather(stage("whale"), stage("miner"), asyncio.to_thread(in_thread))
        elsewhere = asyncio.run_coroutine_threadsafe(stage("other loop"), loop)
        await asyncio.to_thread(in_own_loop)
        await asyncio.wrap_future(elsewhere)
    loop.close()
    spans = sent(traced, collector)
    block = spans.pop("block")
    assert block.parent_span_id == b""
    assert attributes(block) == {"correlation_id": "id-1", "height": 7}
    assert set(spans) == {"facts", "whale", "miner", "thread", "other loop"}
    for span in spans.values():
        assert (span.trace_id, span.parent_span_id) == (block.trace_id, block.span_id), span.name
        assert attributes(span)["correlation_id"] == "id-1"
        assert block.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano


async def test_blocks_at_once_are_traces_of_their_own(traced: MonitoringModule, collector: Collector) -> None:
    async def block(name: str) -> None:
        with traced.span(name, f"id-{name}"):
            await asyncio.sleep(0.01)
            with traced.span(f"{name}'s stage"):
                await asyncio.sleep(0.01)

    await asyncio.gather(block("a"), block("b"))
    spans = sent(traced, collector)
    assert spans["a"].trace_id != spans["b"].trace_id
    for name in "ab":
        assert spans[f"{name}'s stage"].parent_span_id == spans[name].span_id
        assert attributes(spans[f"{name}'s stage"])["correlation_id"] == f"id-{name}"


def test_one_block_after_the_other(traced: MonitoringModule, collector: Collector) -> None:
    for name in "ab":
        with traced.span(name):
            pass
    spans = sent(traced, collector)
    assert spans["a"].trace_id != spans["b"].trace_id
    assert spans["b"].parent_span_id == b""


def test_the_bound_correlation_id_is_taken(traced: MonitoringModule, collector: Collector) -> None:
    with bind_correlation_id("bound"), traced.span("block"):
        pass
    with traced.span("unnamed", pool=None):
        pass
    spans = sent(traced, collector)
    assert attributes(spans["block"]) == {"correlation_id": "bound"}
    assert attributes(spans["unnamed"]) == {}


def test_a_failure_is_marked(traced: MonitoringModule, collector: Collector) -> None:
    with pytest.raises(ValueError, match="broken"), traced.span("block"):
        raise ValueError("broken")
    span = sent(traced, collector)["block"]
    assert span.status.code == span.status.STATUS_CODE_ERROR
    assert span.status.message == "ValueError: broken"


class Unspeakable(Exception):
    """An error that can't even say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_a_failure_stays_what_it_was(traced: MonitoringModule) -> None:
    with pytest.raises(Unspeakable), traced.span("block"):
        raise Unspeakable


def test_text_that_is_no_utf8_costs_no_other_span(traced: MonitoringModule, collector: Collector) -> None:
    """Text from the chain may be anything, in attributes as in errors."""
    with traced.span("good"):
        pass
    with pytest.raises(ValueError, match="tag"), traced.span("bad\udc80", tag="\udc80", other=object()):
        raise ValueError("tag \udc80")
    assert {"good", "bad?"} <= set(sent(traced, collector))


@pytest.mark.parametrize("enabled", [True, False])
def test_without_a_collector_a_span_is_nothing(enabled: bool) -> None:
    module = MonitoringModule(enabled=enabled)
    with module.span("block", "id"), module.span("stage"):
        pass
    module.shutdown()
