"""Processors are found by entry point, ours and third parties' alike."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from typing import Any, ClassVar

import pytest

from utxoiq.errors import ConfigError
from utxoiq.processors import (
    ExchangeProcessor,
    MempoolProcessor,
    MinerProcessor,
    PredictiveProcessor,
    ProcessorConfig,
    SignalProcessor,
    TreasuryProcessor,
    WhaleProcessor,
    discovery,
)
from utxoiq.processors.discovery import GROUP, declared_kinds, discover
from utxoiq.processors.metadata import Field


class Foreign(SignalProcessor):
    """Somebody else's."""

    signal_type = "whale"
    model_version = "whale_foreign-1"
    reads = ()
    kinds: ClassVar[dict[str, Any]] = {"odd": {"note": Field("text", "anything")}}
    window_blocks = 1

    async def process_block(self, block: Any, context: Any) -> list[Any]:
        return []


def install(monkeypatch: pytest.MonkeyPatch, **entries: str) -> None:
    """Make these the installed entry points of the group."""
    found = EntryPoints(EntryPoint(name, value, GROUP) for name, value in entries.items())
    monkeypatch.setattr(discovery, "entry_points", found.select)


def test_ours_are_installed() -> None:
    """All six of the design, in the order of their names."""
    assert [type(processor) for processor in discover()] == [
        ExchangeProcessor, MempoolProcessor, MinerProcessor, PredictiveProcessor, TreasuryProcessor, WhaleProcessor,
    ]  # fmt: skip


def test_a_third_partys_processor_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of names, each with the config of its name."""
    install(monkeypatch, zebra=f"{__name__}:Foreign", mempool="utxoiq.processors:MempoolProcessor")
    config = ProcessorConfig(enabled=False)
    processors = discover({"zebra": config})
    assert [type(processor) for processor in processors] == [MempoolProcessor, Foreign]
    assert processors[1].config is config
    assert processors[0].config.enabled


def test_what_is_declared_is_known_by_type_and_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all that are installed, a third party's too: that is how texts know the units of its figures."""
    install(monkeypatch, zebra=f"{__name__}:Foreign", mempool="utxoiq.processors:MempoolProcessor")
    declared_kinds.cache_clear()
    try:
        found = declared_kinds()
    finally:
        declared_kinds.cache_clear()
    assert found["whale", "odd"] == Foreign.kinds["odd"]
    assert found["mempool", "purging"]["minfee_kvb"].unit == "sat/kvB"
    assert {signal_type for signal_type, _ in found} == {"whale", "mempool"}


@pytest.mark.parametrize(
    "value", ["utxoiq.units:btc", "utxoiq.units:COIN", "utxoiq.errors:ConfigError", "utxoiq.units"]
)
def test_what_is_no_processor_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A function, a number, another class, a module: the error names the entry point."""
    install(monkeypatch, other=value)
    with pytest.raises(ConfigError, match=r"entry point other of .* is no SignalProcessor"):
        discover()


@pytest.mark.parametrize("value", ["utxoiq.nowhere:Processor", "utxoiq.units:Nothing"])
def test_one_that_cannot_be_loaded_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """A broken third-party package is an error on purpose, one line with its name, no traceback."""
    install(monkeypatch, broken=value)
    with pytest.raises(ConfigError, match="broken"):
        discover()


def test_an_unknown_name_is_an_attribute_error() -> None:
    """Loading lazily does not hide a misspelt import."""
    import utxoiq.processors

    with pytest.raises(AttributeError, match="WaleProcessor"):
        _ = utxoiq.processors.WaleProcessor
