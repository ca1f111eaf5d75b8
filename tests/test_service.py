"""`utxoiq run` as one process sees itself: settings swapped between blocks, whole or not at all, and remembered."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from helpers.esplora import EsploraDouble
from helpers.settings import Place, in_folder
from helpers.web import get
from observability.conftest import root_logger
from persistence.records import run as sql
from sources.test_esplora import branches
from utxoiq.config import ConfigurationModule, Sources
from utxoiq.errors import ConfigError, LabelError, StoreError
from utxoiq.persistence import SqliteStore
from utxoiq.service import Service, source_of
from utxoiq.sources.esplora import EsploraSource
from utxoiq.sources.node.source import NodeSource

__all__ = ["root_logger"]
SECRET = "hunter2"
PATIENCE = 60.0


@pytest.fixture(autouse=True)
def here(tmp_path: Path, root_logger: logging.Logger) -> Iterator[Place]:
    """A folder of its own; the log goes back to where it was."""
    with in_folder(tmp_path) as place:
        yield place


@pytest.fixture
def api() -> Iterator[EsploraDouble]:
    with EsploraDouble(branches()[0]) as double:
        yield double


async def until(condition: Callable[[], Any]) -> None:
    for _ in range(int(PATIENCE / 0.01)):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it never came to that")


class Running:
    """A service at work, and its store seen from outside."""

    def __init__(self, service: Service, here: Place) -> None:
        self.service, self.here = service, here

    def events(self) -> list[tuple[Any, ...]]:
        """(event, settings, changes, reason) of every change of settings."""
        rows = sql(
            self.here.folder / "utxoiq.db", "SELECT event, settings, changes, reason FROM settings_events ORDER BY seq"
        )
        return [(event, json.loads(settings), json.loads(changes), reason) for event, settings, changes, reason in rows]

    async def after(self, text: str) -> tuple[Any, ...]:
        """What becomes of these settings, reloaded by SIGHUP."""
        before = len(self.events())
        self.here.toml(text)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: len(self.events()) > before)
        assert len(self.events()) == before + 1
        return self.events()[-1]


@asynccontextmanager
async def running(here: Place, text: str) -> AsyncIterator[Running]:
    """A service with these settings, live."""
    here.toml(text)
    service = Service(ConfigurationModule(here.sources()))
    task = asyncio.create_task(service.run())
    try:
        await until(lambda: task.done() or service.monitor.status.ready)
        assert not task.done(), task.exception()
        yield Running(service, here)
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def settings(api: EsploraDouble, more: str = "", url: str | None = None) -> str:
    return (
        f'[esplora]\nurl = "{url or api.url}"\nrequests_per_second = 100\npoll_seconds = 1\n[live]\nfrom_height = 0\n'
        f'[http]\nlisten = "127.0.0.1:0"\n[log]\nas_json = true\n{more}'
    )


# Which source


def test_an_api_of_others_is_never_the_default(here: Place) -> None:
    """Only where its address was given, and a node goes before it."""
    for text in (
        "",
        "[esplora]\npoll_seconds = 5\n",
        '[node]\nuser = "u"\n',
        '[node]\nurl = ""\n[esplora]\nurl = ""\n',
    ):
        here.toml(text)
        with pytest.raises(ConfigError, match="no node: give --node") as raised:
            source_of(here.sources().load()[0])
        assert "--esplora" in str(raised.value)
    here.toml('[esplora]\nurl = "http://127.0.0.1:1/api"\n')
    source = source_of(here.sources().load()[0])
    assert isinstance(source, EsploraSource)
    source.close()
    here.toml('[esplora]\nurl = "http://127.0.0.1:1/api"\n[node]\nurl = "http://127.0.0.1:2"\n')
    node = source_of(here.sources().load()[0])
    assert isinstance(node, NodeSource)
    node.close()


NODE = '[node]\nurl = "http://127.0.0.1:1"\n'
FREE = '[http]\nlisten = "127.0.0.1:0"\n'


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (FREE, ConfigError),
        (FREE + '[node]\nurl = "127.0.0.1:8332"\n', ConfigError),
        (NODE + '[http]\nlisten = "nowhere"\n', ConfigError),
        (NODE + '[http]\nlisten = "203.0.113.1:9470"\n', ConfigError),
        ('db = "postgres://x"\n' + NODE + FREE, ConfigError),
        ('db = "sqlite:///nowhere/x.db"\n' + NODE + FREE, StoreError),
        ('network = "main"\nlabels = "nowhere.jsonl"\n' + NODE + FREE, LabelError),
    ],
)
def test_it_does_not_start_half(here: Place, text: str, kind: type[Exception]) -> None:
    """An error of ours, one line, and neither socket nor file is left open, which would be a warning."""
    here.toml(text)
    try:
        with pytest.raises(kind) as raised:
            Service(ConfigurationModule(here.sources()))
        assert "\n" not in str(raised.value)
    finally:
        del raised
        gc.collect()


def test_a_port_that_is_taken(here: Place) -> None:
    """By whom can't be told, but which, and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        here.toml(NODE + f'[http]\nlisten = "127.0.0.1:{port}"\n')
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}.*give another HOST:PORT, or off"):
            Service(ConfigurationModule(here.sources()))


# Remembered


async def test_settings_are_remembered_without_secrets(here: Place, api: EsploraDouble) -> None:
    """From the start on; passwords, also those in addresses, are nowhere in the store's file."""
    here.secret("utxoiq_node__password", SECRET)
    url = api.url.replace("//", f"//user:{SECRET}@")
    async with running(here, settings(api, url=url)) as run:
        ((event, stored, changes, reason),) = run.events()
        assert (event, changes, reason) == ("applied", [], "start")
        assert stored["node"]["password"] == "**********"
        here.secret("utxoiq_node__password", SECRET + "3")
        event, _, changes, _ = await run.after(settings(api, "[mempool]\nenabled = false\n", url=url))
        assert event == "applied"
        assert {change["name"] for change in changes} == {"mempool.enabled", "node.password"}
    for path in here.folder.glob("utxoiq.db*"):
        assert SECRET.encode() not in path.read_bytes()


async def test_a_change_takes_effect(here: Place, api: EsploraDouble) -> None:
    """Processors and log level at once; what was applied is remembered, with what changed."""
    async with running(here, settings(api)) as run:
        change = "[processors.miner]\nenabled = false\n[processors.mempool]\nspike_ratio = 9.0\n"
        event, stored, changes, _ = await run.after(settings(api, change))
        assert event == "applied"
        assert stored["processors"]["mempool"]["spike_ratio"] == 9.0
        assert {c["name"].split(".")[0] for c in changes} == {"processors"}
        runners = [runner.processor for runner in run.service.orchestrator._runners]
        assert [p.signal_type for p in runners] == ["mempool"]
        assert runners[0].thresholds["spike_ratio"] == 9.0


async def test_a_broken_file_is_refused_and_remembered(here: Place, api: EsploraDouble) -> None:
    """The old settings go on; mended, it is applied."""
    async with running(here, settings(api)) as run:
        event, stored, _, reason = await run.after("[log\n")
        assert event == "refused"
        assert "utxoiq.toml" in reason
        assert stored["esplora"]["url"] == api.url
        assert run.service.monitor.status.ready
        event, _, changes, _ = await run.after(settings(api, "[mempool]\ninterval_seconds = 7\n"))
        assert (event, [c["name"] for c in changes]) == ("applied", ["mempool.interval_seconds"])


async def test_what_can_only_be_refused_when_tried_changes_nothing(here: Place, api: EsploraDouble) -> None:
    """A label file that is not there beside another threshold: neither holds. Mended in one of them only, both do."""
    async with running(here, settings(api)) as run:
        bad = 'labels = "nowhere.jsonl"\n' + settings(api, "[processors.miner]\nenabled = false\n")
        event, _, _, reason = await run.after(bad)
        assert event == "refused"
        assert "nowhere.jsonl" in reason
        assert len(run.service.orchestrator._runners) == 2
        event, _, changes, _ = await run.after(settings(api, "[processors.miner]\nenabled = false\n"))
        assert event == "applied"
        assert "processors.miner" in {c["name"].rpartition(".enabled")[0] or c["name"] for c in changes}
        assert len(run.service.orchestrator._runners) == 1


async def test_a_source_that_is_refused_changes_nothing(here: Place, api: EsploraDouble) -> None:
    """An address that is none, beside another processor setting."""
    async with running(here, settings(api)) as run:
        source = run.service.monitor.source
        bad = settings(api, "[processors.miner]\nenabled = false\n", url=f"ftp://u:{SECRET}@h")
        event, _, _, reason = await run.after(bad)
        assert event == "refused"
        assert SECRET not in reason
        assert run.service.monitor.source is source
        assert len(run.service.orchestrator._runners) == 2
        assert run.service.monitor.status.ready


async def test_another_source_is_followed(here: Place, api: EsploraDouble) -> None:
    """From the next look on, with the same store."""
    with EsploraDouble(branches()[1]) as other:
        async with running(here, settings(api)) as run:
            event, *_ = await run.after(settings(other))
            assert event == "applied"
            tip = branches()[1][-1].hash
            store: SqliteStore = run.service.store
            await until(lambda: str(store.cursor()).find(tip) >= 0)
            assert run.service.status()["source"] == other.url


async def test_another_password_in_the_address_is_used(here: Place, api: EsploraDouble) -> None:
    """Though the address looks the same where its password is masked."""
    old, new = (api.url.replace("//", f"//u:{SECRET}{i}@") for i in range(2))
    async with running(here, settings(api, url=old)) as run:
        source = run.service.monitor.source
        event, _, changes, _ = await run.after(settings(api, url=new))
        assert (event, [c["name"] for c in changes]) == ("applied", ["esplora.url"])
        assert run.service.monitor.source is not source


async def test_unknown_keys_are_logged(here: Place, api: EsploraDouble, caplog: pytest.LogCaptureFixture) -> None:
    """At the start, and when one comes with a change."""
    async with running(here, "nod = 1\n" + settings(api)) as run:
        assert "nod is no setting" in caplog.text
        await run.after(settings(api, "[mempool]\nenabled = false\nintervall = 3\n"))
        assert "mempool.intervall is no setting" in caplog.text


async def test_a_change_of_the_file_alone_is_enough(here: Place, api: EsploraDouble) -> None:
    """No signal needed: the folder is watched."""
    async with running(here, settings(api)) as run:
        for i in range(100):  # until the watching has begun
            here.toml(settings(api, f"[mempool]\ninterval_seconds = {i + 2}\n"))
            await asyncio.sleep(0.4)
            if len(run.events()) > 1:
                break
        assert run.events()[-1][0] == "applied"


# Seen from outside


async def test_health_while_running(here: Place, api: EsploraDouble) -> None:
    """/readyz follows the monitor: 200 at the tip, 503 with the reason while the API fails."""
    async with running(here, settings(api)) as run:
        listening = run.service._listening
        assert listening is not None
        base = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert (await asyncio.to_thread(get, f"{base}/healthz")).json() == {"status": "ok"}
        ready = await asyncio.to_thread(get, f"{base}/readyz")
        assert (ready.status, ready.json()["state"]) == (200, "live")
        assert ready.json()["source"] == api.url
        assert "utxoiq_blocks_processed_total" in (await asyncio.to_thread(get, f"{base}/metrics")).text
        api.answers("", 500)
        await until(lambda: run.service.monitor.status.state == "waiting")
        ready = await asyncio.to_thread(get, f"{base}/readyz")
        assert (ready.status, ready.json()["ready"]) == (503, False)
        assert "HTTP 500" in ready.json()["reason"]
        api.mend()


async def test_it_starts_before_its_source(here: Place, api: EsploraDouble) -> None:
    """The API is down when the service starts: it waits, and says so."""
    api.answers("", 503)
    here.toml(settings(api))
    service = Service(ConfigurationModule(Sources()))
    task = asyncio.create_task(service.run())
    await until(lambda: service.monitor.status.state == "waiting")
    assert service.status()["ready"] is False
    api.mend()
    await until(lambda: service.monitor.status.ready)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(task, PATIENCE)
