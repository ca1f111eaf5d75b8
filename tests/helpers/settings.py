"""Settings for one test: a folder of its own, and no variable of the machine's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from utxoiq.config import Sources
from utxoiq.models import BlockData, Signal
from utxoiq.processors import discovery
from utxoiq.processors.base import ProcessingContext, SignalProcessor
from utxoiq.processors.discovery import GROUP
from utxoiq.settings import Fields

NAMED = ("CREDENTIALS_DIRECTORY",)


class Foreign(SignalProcessor):
    """A third party's processor, with thresholds of its own."""

    signal_type = "whale"
    model_version = "whale-foreign"
    reads = ()
    window_blocks = 9
    defaults: ClassVar[Mapping[str, float]] = {"least_btc": 1000.0, "patience": 3}

    async def process_block(self, block: BlockData, context: ProcessingContext) -> list[Signal]:
        return []


def settings_of(model: type[BaseModel] = Fields, where: str = "") -> dict[str, Any]:
    """Every setting's full name with its field."""
    found: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            found |= settings_of(info.annotation, f"{where}{name}.")
        else:
            found[where + name] = info
    return found


def install(monkeypatch: pytest.MonkeyPatch, **entries: str) -> None:
    """Let these be installed beside ours."""
    ours = {"mempool": "utxoiq.processors:MempoolProcessor", "miner": "utxoiq.processors:MinerProcessor"}
    found = EntryPoints(EntryPoint(name, value, GROUP) for name, value in {**ours, **entries}.items())
    monkeypatch.setattr(discovery, "entry_points", found.select)


def installed_foreign(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let `Foreign` be installed under these names."""
    install(monkeypatch, **dict.fromkeys(names, f"{__name__}:Foreign"))


@dataclass(frozen=True)
class Place:
    """A folder with a settings file, a `.env` and secrets, each only if it was written. The process is in it."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch

    @property
    def file(self) -> Path:
        return self.folder / "utxoiq.toml"

    @property
    def secrets(self) -> Path:
        return self.folder / "secrets"

    def toml(self, text: str | bytes) -> Path:
        self.file.write_bytes(text.encode() if isinstance(text, str) else text)
        return self.file

    def dotenv(self, text: str | bytes) -> Path:
        path = self.folder / ".env"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def secret(self, name: str, value: str) -> Path:
        self.secrets.mkdir(exist_ok=True)
        (self.secrets / name).write_text(value, "utf-8")
        return self.secrets / name

    def env(self, **variables: str) -> None:
        for name, value in variables.items():
            self.monkeypatch.setenv(name, value)

    def sources(self, file: Path | None = None, **overrides: Any) -> Sources:
        """What a command would read here."""
        return Sources(file, secrets_dir=self.secrets if self.secrets.exists() else None, overrides=overrides)


@contextmanager
def in_folder(folder: Path) -> Iterator[Place]:
    """A process in `folder` whose environment has nothing to do with utxoiq."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        for name in [n for n in os.environ if n.upper().startswith("UTXOIQ_") or n in NAMED]:
            monkeypatch.delenv(name)
        yield Place(folder, monkeypatch)
