"""Finding the processors: ours and third parties', by the entry-point group `utxoiq.processors`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points

from utxoiq.errors import ConfigError
from utxoiq.processors.base import ProcessorConfig, SignalProcessor
from utxoiq.processors.metadata import Field

GROUP = "utxoiq.processors"


def discover(configs: dict[str, ProcessorConfig] | None = None) -> list[SignalProcessor]:
    """One instance of each installed processor, in the order of their names; see `discovered`."""
    return list(discovered(configs).values())


def discovered(configs: dict[str, ProcessorConfig] | None = None) -> dict[str, SignalProcessor]:
    """One instance of each installed processor, by name, with its own config where there is one.

    Raises ConfigError for an entry point that can't be loaded or is no processor, for a config of no processor, or with
    a threshold that its processor doesn't have.
    """
    configs = configs or {}
    found: dict[str, SignalProcessor] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        try:
            processor = entry.load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"entry point {entry.name} of {GROUP} can't be loaded: {error}") from error
        if not (isinstance(processor, type) and issubclass(processor, SignalProcessor)):
            raise ConfigError(f"entry point {entry.name} of {GROUP} is no SignalProcessor: {entry.value}")
        found[entry.name] = processor(configs.get(entry.name))
    unknown = sorted(set(configs) - set(found))
    if unknown:
        raise ConfigError(f"no such processor: {unknown[0]}; there are {', '.join(found)}")
    return found


@cache
def declared_kinds() -> Mapping[tuple[str, str], Mapping[str, Field]]:
    """(signal type, kind) -> what its metadata holds, of all installed processors. Raises ConfigError."""
    return {(one.signal_type, kind): schema for one in discover() for kind, schema in one.kinds.items()}
