"""Processors are found by entry point, ours and third parties' alike."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from utxoiq.errors import ConfigError
from utxoiq.processors import MempoolProcessor, MinerProcessor, ProcessorConfig, SignalProcessor, discovery
from utxoiq.processors.discovery import GROUP, discover


class Foreign(SignalProcessor):
    """Somebody else's."""

    signal_type = "whale"
    model_version = "whale-foreign"
    reads = ()
    window_blocks = 1

    async def process_block(self, block: Any, context: Any) -> list[Any]:
        return []


def install(monkeypatch: pytest.MonkeyPatch, **entries: str) -> None:
    """Make these the installed entry points of the group."""
    found = EntryPoints(EntryPoint(name, value, GROUP) for name, value in entries.items())
    monkeypatch.setattr(discovery, "entry_points", found.select)


def test_ours_are_installed() -> None:
    assert [type(processor) for processor in discover()] == [MempoolProcessor, MinerProcessor]


def test_a_third_partys_processor_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of names, each with the config of its name."""
    install(monkeypatch, zebra=f"{__name__}:Foreign", mempool="utxoiq.processors:MempoolProcessor")
    config = ProcessorConfig(enabled=False)
    processors = discover({"zebra": config})
    assert [type(processor) for processor in processors] == [MempoolProcessor, Foreign]
    assert processors[1].config is config
    assert processors[0].config.enabled


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
