"""Configuration: from a TOML file, secrets files, `.env` and the environment; swapped whole while running."""

from __future__ import annotations

import asyncio
import logging
import os
import tomllib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from watchfiles import awatch

from utxoiq.errors import ConfigError
from utxoiq.processors.base import ProcessorConfig
from utxoiq.processors.discovery import discover
from utxoiq.secrets import SecretManager, secrets_in
from utxoiq.settings import Fields
from utxoiq.units import without_user

log = logging.getLogger(__name__)

PREFIX = "UTXOIQ_"
DEFAULT_FILE = Path("utxoiq.toml")
RELOAD_SECONDS = 300.0
OTHER_VARIABLES = {
    "UTXOIQ_CONFIG", "UTXOIQ_SECRETS_DIR", "UTXOIQ_SHARED", "UTXOIQ_BITCOIND", "UTXOIQ_SECRET_MANAGER_ENDPOINT",
    "UTXOIQ_MONITORING_ENDPOINT",
}  # fmt: skip
"""Variables that are no settings."""
PLAIN_VARIABLES = {"AI_PROVIDER": ("ai", "provider")}
"""Settings that a variable without our prefix sets too, where none with it does."""

SECTIONS = {
    name for name, info in Fields.model_fields.items()
    if name == "processors" or (isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel))
}  # fmt: skip

_files: ContextVar[tuple[dict[str, Any], ...]] = ContextVar("_files", default=())
"""What the secrets files and the TOML file say, while settings are built."""


class Settings(BaseSettings, Fields):
    """All settings, frozen. Built by `Sources.load`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="ignore", frozen=True, use_attribute_docstrings=True,
        allow_inf_nan=False, env_ignore_empty=True,
    )  # fmt: skip

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 knows no nested names
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The command line first, then environment, .env, secrets files, and the TOML file last."""
        files = (InitSettingsSource(settings_cls, init_kwargs=read) for read in _files.get())
        return init_settings, env_settings, dotenv_settings, *files

    def shown(self) -> dict[str, Any]:
        """As JSON values, secrets masked."""
        shown: dict[str, Any] = _masked(self.model_dump(mode="json"))
        return shown

    def processor_configs(self) -> dict[str, ProcessorConfig]:
        """The settings of each processor that has some. Raises ConfigError."""
        return {
            name: ProcessorConfig(s.enabled, s.confidence_threshold, s.time_window, **(s.model_extra or {}))
            for name, s in self.processors.items()
        }


@dataclass(frozen=True, slots=True)
class Sources:
    """Where settings are read from. `overrides`: from the command line, as nested dicts."""

    file: Path | None = None
    """None: `utxoiq.toml` here, if there is one."""
    env_file: Path = Path(".env")
    secrets_dir: Path | None = None
    """One file a secret, such as `utxoiq_node__password`."""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    secret_manager: SecretManager = field(default_factory=SecretManager, repr=False, compare=False)

    @classmethod
    def of_environment(cls, file: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Sources:
        """With the folders that the environment names (systemd's credentials too)."""
        named = os.environ.get("UTXOIQ_CONFIG")
        secrets = os.environ.get("UTXOIQ_SECRETS_DIR") or os.environ.get("CREDENTIALS_DIRECTORY")
        return cls(
            file or (Path(named) if named else None), secrets_dir=Path(secrets) if secrets else None,
            overrides=overrides or {},
        )  # fmt: skip

    def load(self, *, secrets_too: bool = True) -> tuple[Settings, list[str]]:
        """The settings, and a warning for each key that means nothing. Raises ConfigError: where and what.

        `secrets_too`: read those that are named as sm://PROJECT/NAME, else leave the names in their place."""
        written, secrets, variables = self._read_file(), self._read_secrets(), self._read_variables()
        token = _files.set((self._read_plain(), _nested(secrets), written))
        try:
            settings = Settings(_env_file=self.env_file, **self.overrides)  # type: ignore[call-arg]
        except ValidationError as error:
            raise ConfigError(self._explain(error)) from None  # its text would tell what was given, passwords too
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise ConfigError(f"configuration: {error}") from error
        finally:
            _files.reset(token)
        try:
            discover(settings.processor_configs())
        except ConfigError as error:
            raise ConfigError(f"{self.path}, .env or environment: processors: {error}") from error
        names = [n for n in (*secrets, *variables) if any(_unknown(_nested({n: ""}), Fields))]
        if secrets_too:
            settings = self.secret_manager.resolved(settings)
        return settings, [f"{name} is no setting: ignored" for name in (*_unknown(written, Fields), *names)]

    @property
    def path(self) -> Path:
        return self.file or DEFAULT_FILE

    def _read_file(self) -> dict[str, Any]:
        if self.file is None and not DEFAULT_FILE.exists():
            return {}
        try:
            return tomllib.loads(self.path.read_text("utf-8"))
        except OSError as error:
            raise ConfigError(
                f"{self.path}: can't be read ({error.strerror}); `utxoiq config init` writes one"
            ) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.path}: {error}") from error

    def _read_secrets(self) -> dict[str, str]:
        """Names of files are those of variables: utxoiq_node__password. Others lie there for other programs."""
        try:
            paths = sorted(path for path in self.secrets_dir.iterdir() if path.is_file()) if self.secrets_dir else []
            ours = {path.name: path for path in paths if path.name.upper().startswith(PREFIX)}
            return {name: path.read_text("utf-8").rstrip("\r\n") for name, path in ours.items()}
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.secrets_dir}: secrets can't be read ({error})") from error

    def _read_variables(self) -> list[str]:
        """Names in the environment and .env, to find those that mean nothing."""
        both = dict.fromkeys(name.upper() for name in (*os.environ, *self._read_env_file()))
        return [name for name in both if name.startswith(PREFIX) and name not in OTHER_VARIABLES]

    def _read_plain(self) -> dict[str, Any]:
        """What PLAIN_VARIABLES say, the environment before .env."""
        said = {**self._read_env_file(), **os.environ}
        return {section: {key: said[name]} for name, (section, key) in PLAIN_VARIABLES.items() if said.get(name)}

    def _read_env_file(self) -> dict[str, str | None]:
        try:
            return dotenv_values(self.env_file) if self.env_file.is_file() else {}
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.env_file}: can't be read ({error})") from error

    def _explain(self, error: ValidationError) -> str:
        first, *more = error.errors()
        where = ".".join(map(str, first["loc"]))
        value = first["input"]
        if isinstance(value, str):
            plain = where not in SECTIONS and "password" not in where
            given = f", not {value.rpartition('@')[2]!r}"[:80] if plain else ""
        else:
            plain = (isinstance(value, (int, float)) and "password" not in where) or value == []
            given = f", not {value!r}" if plain else ""
        others = f" (and {len(more)} more)" if more else ""
        reason = first["msg"].removeprefix("Value error, ")
        return f"{self.path}, .env or environment: {where}: {reason}{given}{others}"

    def watched(self) -> list[Path]:
        """The folders in which a change may be one of settings."""
        folders = {self.path.absolute().parent, self.env_file.absolute().parent}
        if self.secrets_dir:
            folders.add(self.secrets_dir.absolute())
        return sorted(folder for folder in folders if folder.is_dir())

    def concerns(self, changed: str) -> bool:
        """Whether a changed file is one of ours."""
        path = Path(changed)
        if path.name == "..data":  # how a cluster swaps a mounted ConfigMap
            return True
        mine = {self.path.absolute(), self.env_file.absolute()}
        return path in mine or (self.secrets_dir is not None and self.secrets_dir.absolute() in path.parents)


def _nested(flat: Mapping[str, str]) -> dict[str, Any]:
    """{"UTXOIQ_NODE__USER": x} -> {"node": {"user": x}}. Raises ConfigError for names that contradict each other."""
    found: dict[str, Any] = {}
    for name, value in sorted(flat.items()):
        *sections, key = name.upper().removeprefix(PREFIX).lower().split("__")
        place = found
        for section in sections:
            place = place.setdefault(section, {})
            if not isinstance(place, dict):
                raise ConfigError(f"{name}: {section} is a setting already, and can't be a section")
        if not key or not all(sections) or key in place:
            raise ConfigError(f"{name}: names no setting, or one that another name sets too")
        place[key] = value
    return found


def _unknown(written: Mapping[str, Any], model: type[BaseModel], where: str = "") -> Iterator[str]:
    """The full names of keys that are no settings."""
    for key, value in written.items():
        known = model.model_fields.get(key)
        if known is None:
            yield f"{where}{key}"
        elif isinstance(known.annotation, type) and issubclass(known.annotation, BaseModel) and isinstance(value, dict):
            yield from _unknown(value, known.annotation, f"{where}{key}.")


def _masked(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _masked(inner) for key, inner in value.items()}
    return without_user(value) if isinstance(value, str) else value


def differences(old: Mapping[str, Any], new: Mapping[str, Any], where: str = "") -> list[dict[str, Any]]:
    """What changed between two `shown()`: name, old, new."""
    found: list[dict[str, Any]] = []
    for key in dict.fromkeys((*old, *new)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{where}{key}.")
        elif before != after:
            found.append({"name": f"{where}{key}", "old": before, "new": after})
    return found


def changes_between(old: Settings, new: Settings) -> list[dict[str, Any]]:
    """`differences`, of what may be shown; passwords only as changed."""
    changes = [_masked(change) for change in differences(old.model_dump(mode="json"), new.model_dump(mode="json"))]
    told, before = {change["name"] for change in changes}, dict(secrets_in(old))
    hidden = [name for name, secret in secrets_in(new) if name not in told and secret != before.get(name)]
    return [*changes, *({"name": name, "old": "**********", "new": "**********"} for name in hidden)]


@dataclass(frozen=True, slots=True)
class Reload:
    """What a look at the sources gave: new settings with their changes, or why they were refused."""

    settings: Settings
    changes: list[dict[str, Any]]
    refused: str | None = None
    warnings: list[str] = field(default_factory=list)


class ConfigurationModule:
    """The settings in force. `reload` swaps them whole; a broken file changes nothing and says so."""

    def __init__(self, sources: Sources) -> None:
        """Raises ConfigError: a run does not begin with settings that make no sense."""
        self.sources = sources
        self.settings, self.warnings = sources.load()
        self._refused: str | None = None

    def reload(self) -> Reload | None:
        """Look again: None where nothing changed, nor the reason for refusing it."""
        try:
            settings, warnings = self.sources.load()
        except ConfigError as error:
            told, self._refused = self._refused, str(error)
            return None if told == self._refused else Reload(self.settings, [], self._refused)
        recovered, self._refused = self._refused is not None, None
        known, self.warnings = self.warnings, warnings
        strange = [warning for warning in warnings if warning not in known]
        if settings == self.settings and not recovered and not strange:
            return None
        changes = changes_between(self.settings, settings)
        self.settings = settings
        return Reload(settings, changes, warnings=strange)

    async def watch(self, *, every: float = RELOAD_SECONDS) -> AsyncIterator[Reload]:
        """Each change, as soon as a file changes and at least `every` seconds."""
        bell = asyncio.Event()
        watcher = asyncio.create_task(self._ring(bell))
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(every):
                        await bell.wait()
                bell.clear()
                change = await asyncio.to_thread(self.reload)  # a secret may take its time
                if change is not None:
                    yield change
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)

    async def _ring(self, bell: asyncio.Event) -> None:
        """A file system that can't be watched leaves the look every few minutes."""
        try:
            async for changes in awatch(*self.sources.watched(), recursive=False, debounce=200, step=50):
                if any(self.sources.concerns(path) for _, path in changes):
                    bell.set()
        except (OSError, RuntimeError) as error:
            log.warning("settings files can't be watched (%s): looking at them every few minutes", error)
