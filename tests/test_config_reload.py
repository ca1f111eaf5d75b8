"""Hot reload: settings are swapped whole when a file changes, however it changes, and a bad file changes nothing."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from helpers.settings import Place, in_folder
from utxoiq import config
from utxoiq.config import ConfigurationModule, Reload, Sources

SECRET = "hunter2"
NEVER = 3600.0
"""So long that a change can only have been seen by watching."""
PATIENCE = 60.0
"""Seconds after which a test that waits is broken."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path) -> Iterator[Place]:
    with in_folder(tmp_path) as place:
        yield place


def toml(db: str, more: str = "") -> str:
    return f'db = "sqlite:///{db}.db"\n{more}'


def replace(path: Path, text: str) -> None:
    """As careful programs save: a new file beside it, then in its place at once."""
    new = path.with_name(".new")
    new.write_text(text)
    os.replace(new, path)


class Watched:
    """A module being watched, its changes one by one."""

    def __init__(self, module: ConfigurationModule, changes: AsyncIterator[Reload]) -> None:
        self.module, self._changes = module, changes

    async def next(self) -> Reload:
        return await asyncio.wait_for(anext(self._changes), PATIENCE)

    async def after(self, *act: Callable[[], Any]) -> Reload:
        """The next change after doing this."""
        for one in act:
            one()
        return await self.next()


@asynccontextmanager
async def watching(here: Place, sources: Sources, file: Path | None = None) -> AsyncIterator[Watched]:
    """A module that was seen to be watching `file`."""
    module = ConfigurationModule(sources)
    changes = module.watch(every=NEVER)
    first = asyncio.ensure_future(anext(changes))
    path = file or here.file
    before = path.read_text() if path.exists() else None
    try:
        for i in range(int(PATIENCE / 0.1)):
            path.write_text(toml(f"warm-up-{i}"))
            if (await asyncio.wait({first}, timeout=0.4))[0]:
                break
        assert first.done(), "the watching never began"
        watched = Watched(module, changes)
        while module.settings.db != f"sqlite:///warm-up-{i}.db":
            await watched.next()
        if before is not None and before != toml(f"warm-up-{i}"):
            await watched.after(lambda: path.write_text(before))
        yield watched
    finally:
        first.cancel()
        with suppress(asyncio.CancelledError, StopAsyncIteration):
            await first
        await changes.aclose()  # type: ignore[attr-defined]
    assert asyncio.all_tasks() == {asyncio.current_task()}, "a watcher stays behind"


# One look


def test_nothing_changed(here: Place) -> None:
    """No event; not for a file written anew, another time stamp, or a comment."""
    here.toml(toml("a"))
    module = ConfigurationModule(here.sources())
    assert module.reload() is None
    here.toml(toml("a", "# nothing\n"))
    os.utime(here.file, (1, 1))
    assert module.reload() is None


def test_a_change(here: Place) -> None:
    """All at once, with what changed by name, old and new."""
    here.toml(toml("a"))
    module = ConfigurationModule(here.sources())
    old = module.settings
    here.toml(toml("b", "[node]\nrest = false\n"))
    assert module.settings is old
    change = module.reload()
    assert change is not None
    assert change.refused is None
    assert change.settings is module.settings
    assert change.changes == [
        {"name": "db", "old": "sqlite:///a.db", "new": "sqlite:///b.db"},
        {"name": "node.rest", "old": True, "new": False},
    ]
    assert (old.db, old.node.rest) == ("sqlite:///a.db", True), "what was handed out stays as it was"
    assert module.reload() is None


def test_a_bad_file_changes_nothing_and_says_so_once(here: Place) -> None:
    """However often it is looked at; again when it is bad in another way; mended it says that too."""
    here.toml(toml("a"))
    module = ConfigurationModule(here.sources())
    old = module.settings
    here.toml("db = \n")
    change = module.reload()
    assert change is not None
    assert change.refused is not None
    assert "utxoiq.toml" in change.refused
    assert (change.settings, change.changes, module.settings) == (old, [], old)
    assert module.reload() is None
    here.toml(toml("b", "[log]\nlevel = 'loud'\n"))
    change = module.reload()
    assert change is not None
    assert "log.level" in str(change.refused)
    assert module.settings is old, "not even the half that makes sense"
    here.toml(toml("a"))
    change = module.reload()
    assert change is not None
    assert (change.refused, change.changes) == (None, [])
    assert module.settings == old
    assert module.reload() is None


def test_broken_then_mended_otherwise(here: Place) -> None:
    here.toml(toml("a"))
    module = ConfigurationModule(here.sources())
    here.toml("[")
    module.reload()
    here.toml(toml("b"))
    change = module.reload()
    assert change is not None
    assert [c["name"] for c in change.changes] == ["db"]


def test_a_file_that_is_gone(here: Place) -> None:
    """One that was named is missed, and the old settings stay; the usual one need not be there."""
    named = here.folder / "named.toml"
    named.write_text(toml("named"))
    module = ConfigurationModule(here.sources(named))
    named.unlink()
    change = module.reload()
    assert change is not None
    assert "named.toml: can't be read" in str(change.refused)
    assert module.settings.db == "sqlite:///named.db"
    here.toml(toml("usual"))
    module = ConfigurationModule(here.sources())
    here.file.unlink()
    change = module.reload()
    assert change is not None
    assert change.refused is None
    assert module.settings.db == "sqlite:///utxoiq.db"


@pytest.mark.parametrize("how", ["dotenv", "secret", "environment"])
def test_a_change_elsewhere(here: Place, how: str) -> None:
    """Each source is looked at again."""
    here.secret("utxoiq_log__level", "INFO")
    module = ConfigurationModule(here.sources())
    if how == "dotenv":
        here.dotenv("UTXOIQ_LOG__LEVEL=ERROR\n")
    elif how == "secret":
        here.secret("utxoiq_log__level", "ERROR")
    else:
        here.env(UTXOIQ_LOG__LEVEL="ERROR")
    change = module.reload()
    assert change is not None
    assert change.changes == [{"name": "log.level", "old": "INFO", "new": "ERROR"}]


def test_what_the_command_line_gave_stays(here: Place) -> None:
    here.toml(toml("a"))
    module = ConfigurationModule(here.sources(db="sqlite:///given.db"))
    here.toml(toml("b"))
    assert module.reload() is None
    assert module.settings.db == "sqlite:///given.db"


@pytest.mark.parametrize(("old", "new"), [("one", "two"), ("", "two"), ("one", "")])
def test_a_changed_password_is_told_but_not_shown(here: Place, old: str, new: str) -> None:
    """One change, whose name says all that may be known."""
    here.secret("utxoiq_node__password", old and SECRET + old)
    module = ConfigurationModule(here.sources())
    here.secret("utxoiq_node__password", new and SECRET + new)
    change = module.reload()
    assert change is not None
    assert [c["name"] for c in change.changes] == ["node.password"]
    assert SECRET not in repr(change)
    assert module.settings.node.password.get_secret_value() == (new and SECRET + new)


@pytest.mark.parametrize("name", ["node.url", "esplora.url", "node.proxy", "metrics.otlp_endpoint"])
def test_a_changed_password_in_an_address_is_a_change(here: Place, name: str) -> None:
    """It looks the same where it is masked, and yet the source has to log in anew."""
    table, key = name.split(".")
    here.toml(f'[{table}]\n{key} = "http://u:{SECRET}1@h:1"\n')
    module = ConfigurationModule(here.sources())
    here.toml(f'[{table}]\n{key} = "http://u:{SECRET}2@h:1"\n')
    change = module.reload()
    assert change is not None
    assert [c["name"] for c in change.changes] == [name]
    assert SECRET not in json.dumps(change.changes)


def test_unknown_keys_are_told_after_a_reload_too(here: Place) -> None:
    """Also where nothing else changed: the key that was misspelt is why."""
    here.toml(toml("a"))
    module = ConfigurationModule(here.sources())
    assert module.warnings == []
    here.toml(toml("a", "[node]\nrset = false\n"))
    module.reload()
    assert module.warnings == ["node.rset is no setting: ignored"]
    here.toml(toml("b"))
    module.reload()
    assert module.warnings == []


# Watching


def test_what_is_watched(here: Place) -> None:
    """The folders of the file, of .env and of the secrets, each once; and which files in them count."""
    other = here.folder / "etc"
    other.mkdir()
    here.secret("utxoiq_node__password", "x")
    sources = here.sources(other / "utxoiq.toml")
    assert sources.watched() == sorted([here.folder, other, here.secrets])
    assert here.sources().watched() == sorted([here.folder, here.secrets])
    assert sources.concerns(str(other / "utxoiq.toml"))
    assert sources.concerns(str(here.folder / ".env"))
    assert sources.concerns(str(here.secrets / "utxoiq_node__password"))
    assert not sources.concerns(str(here.folder / "utxoiq.db-wal"))
    assert not sources.concerns(str(here.file))
    assert here.sources(here.folder / "nowhere" / "x.toml").watched() == sorted([here.folder, here.secrets])


async def test_a_change_of_the_file_is_seen(here: Place) -> None:
    """Written in place, replaced at once, and saved over a backup."""
    here.toml(toml("a"))
    async with watching(here, here.sources()) as watched:
        assert watched.module.settings.db == "sqlite:///a.db"
        change = await watched.after(lambda: here.toml(toml("b")))
        assert change.changes == [{"name": "db", "old": "sqlite:///a.db", "new": "sqlite:///b.db"}]
        change = await watched.after(lambda: replace(here.file, toml("c")))
        assert change.settings.db == "sqlite:///c.db"
        change = await watched.after(lambda: replace(here.file, toml("d")))
        assert change.settings.db == "sqlite:///d.db", "the file that took its place is watched as well"


async def test_a_file_appears(here: Place) -> None:
    """There was none at the start."""
    async with watching(here, here.sources()) as watched:
        here.file.unlink()
        assert (await watched.next()).settings.db == "sqlite:///utxoiq.db"
        change = await watched.after(lambda: here.toml(toml("new")))
        assert change.settings.db == "sqlite:///new.db"


async def test_a_named_file_is_deleted_and_comes_back(here: Place) -> None:
    """Missed, told once, the settings stay; with it back in order they are as they were."""
    named = here.folder / "named.toml"
    named.write_text(toml("a"))
    async with watching(here, here.sources(named), named) as watched:
        change = await watched.after(named.unlink)
        assert "can't be read" in str(change.refused)
        assert change.settings.db == "sqlite:///a.db"
        change = await watched.after(lambda: named.write_text(toml("a")))
        assert (change.refused, change.changes) == (None, [])


async def test_broken_then_mended_while_watching(here: Place) -> None:
    here.toml(toml("a"))
    async with watching(here, here.sources()) as watched:
        change = await watched.after(lambda: here.toml("db ="))
        assert "utxoiq.toml" in str(change.refused)
        assert watched.module.settings.db == "sqlite:///a.db"
        change = await watched.after(lambda: here.toml(toml("b")))
        assert (change.refused, change.settings.db) == (None, "sqlite:///b.db")


async def test_an_unchanged_rewrite_is_no_event(here: Place) -> None:
    """The next event is of the next change, whatever was written, touched or made beside it before."""
    here.toml(toml("a"))
    async with watching(here, here.sources()) as watched:
        here.toml(toml("a"))
        replace(here.file, toml("a", "# a comment\n"))
        (here.folder / "other.toml").write_text(toml("other"))
        await asyncio.sleep(0.5)  # long enough for a wrong event to come; without, the test is only weaker
        change = await watched.after(lambda: here.toml(toml("b")))
        assert change.changes == [{"name": "db", "old": "sqlite:///a.db", "new": "sqlite:///b.db"}]


async def test_the_other_files_are_watched_too(here: Place) -> None:
    """.env and secrets: changed, replaced, appearing, deleted."""
    here.toml("")
    secret = here.secret("utxoiq_node__user", "a")
    async with watching(here, here.sources()) as watched:
        change = await watched.after(lambda: replace(secret, "b"))
        assert change.changes == [{"name": "node.user", "old": "a", "new": "b"}]
        change = await watched.after(lambda: here.dotenv("UTXOIQ_NODE__USER=c\n"))
        assert change.settings.node.user == "c"
        change = await watched.after((here.folder / ".env").unlink)
        assert change.settings.node.user == "b"
        change = await watched.after(lambda: here.secret("utxoiq_node__zmq", "off"))
        assert change.settings.node.zmq == "off"
        change = await watched.after(secret.unlink)
        assert change.settings.node.user == ""


async def test_secrets_that_a_cluster_replaces(here: Place) -> None:
    """Links into a folder whose own link is turned to another folder: no file of ours is touched by that."""
    for name in ("1", "2"):
        (here.secrets / f"..{name}").mkdir(parents=True)
        replace(here.secrets / f"..{name}" / "utxoiq_node__user", name)
    (here.secrets / "..data").symlink_to("..1")
    (here.secrets / "utxoiq_node__user").symlink_to("..data/utxoiq_node__user")
    (here.secrets / "..new").symlink_to("..2")
    here.toml("")
    async with watching(here, here.sources()) as watched:
        assert watched.module.settings.node.user == "1"
        change = await watched.after(lambda: os.replace(here.secrets / "..new", here.secrets / "..data"))
        assert change.settings.node.user == "2"


async def test_a_file_named_by_a_relative_path(here: Place) -> None:
    """Even one that goes up first."""
    (here.folder / "etc").mkdir()
    (here.folder / "run").mkdir()
    here.monkeypatch.chdir(here.folder / "run")
    file = Path("../etc/utxoiq.toml")
    replace(file, toml("a"))
    async with watching(here, here.sources(file), file) as watched:
        change = await watched.after(lambda: replace(file, toml("b")))
        assert change.settings.db == "sqlite:///b.db"


async def test_watching_that_is_impossible(here: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Told once; the look every so many seconds goes on."""

    def impossible(*_: Any, **__: Any) -> AsyncIterator[Any]:
        raise OSError(28, "inotify watch limit reached")

    here.monkeypatch.setattr(config, "awatch", impossible)
    here.toml(toml("a"))
    module = ConfigurationModule(here.sources())
    changes = module.watch(every=0.02)
    with caplog.at_level(logging.WARNING):
        for name in ("b", "c", "d"):
            here.toml(toml(name))
            change = await asyncio.wait_for(anext(changes), PATIENCE)
            assert change.settings.db == f"sqlite:///{name}.db"
    await changes.aclose()  # type: ignore[attr-defined]
    (told,) = [r.getMessage() for r in caplog.records if r.name == "utxoiq.config"]
    assert "inotify watch limit reached" in told


async def test_watching_that_dies(here: Place) -> None:
    """Whatever ends it, silently or not: the periodic look still finds the change."""
    ended: list[str] = []

    async def dies(*_: Any, **__: Any) -> AsyncIterator[Any]:
        if len(ended) % 2:
            ended.append("error")
            raise RuntimeError("the watcher broke")
        ended.append("silence")
        return
        yield

    here.monkeypatch.setattr(config, "awatch", dies)
    here.toml(toml("a"))
    for name in ("b", "c"):
        module = ConfigurationModule(here.sources())
        changes = module.watch(every=0.02)
        here.toml(toml(name))
        assert (await asyncio.wait_for(anext(changes), PATIENCE)).settings.db == f"sqlite:///{name}.db"
        await changes.aclose()  # type: ignore[attr-defined]
    assert ended == ["silence", "error"]


async def test_a_folder_that_is_made_anew(here: Place) -> None:
    """The folder that was watched is gone, another stands in its place: the periodic look reads that."""
    etc = here.folder / "etc"
    etc.mkdir()
    (etc / "utxoiq.toml").write_text(toml("a"))
    module = ConfigurationModule(here.sources(etc / "utxoiq.toml"))
    changes = module.watch(every=0.05)
    shutil.rmtree(etc)
    etc.mkdir()
    (etc / "utxoiq.toml").write_text(toml("b"))
    while module.settings.db != "sqlite:///b.db":
        change = await asyncio.wait_for(anext(changes), PATIENCE)
        assert change.settings.db in ("sqlite:///a.db", "sqlite:///b.db")
    await changes.aclose()  # type: ignore[attr-defined]


async def test_stopping_while_a_file_changes(here: Place) -> None:
    """A stop in the very moment of a change is a stop."""
    turning = asyncio.Event()

    async def changes_once(*_: Any, **__: Any) -> AsyncIterator[Any]:
        await turning.wait()
        asyncio.get_running_loop().call_soon(task.cancel)
        yield {(1, str(here.file))}
        await asyncio.Event().wait()

    here.monkeypatch.setattr(config, "awatch", changes_once)
    here.toml(toml("a"))
    module = ConfigurationModule(here.sources())

    async def watch() -> None:
        async for _ in module.watch(every=NEVER):
            pass

    task = asyncio.create_task(watch())
    await asyncio.sleep(0.01)
    turning.set()
    done, _ = await asyncio.wait({task}, timeout=5)
    stopped = bool(done)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert stopped, "it goes on"


async def test_the_default_is_a_look_every_five_minutes() -> None:
    assert config.RELOAD_SECONDS <= 300
