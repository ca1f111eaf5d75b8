"""/healthz, /readyz and /metrics over real HTTP, and the socket they are on."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from helpers.web import Got, get
from utxoiq.errors import ConfigError
from utxoiq.observability import MonitoringModule
from utxoiq.web.health import health_app, listen_at, serve

READY = {"ready": True, "state": "live", "reason": None, "store_height": 5}


class Health:
    """A server at work; `status` is what /readyz says."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.status: dict[str, Any] = dict(READY)
        self.metrics: Callable[[], tuple[bytes, str]] = lambda: (b"up 1\n", "text/plain; version=0.0.4")

    async def get(self, path: str, method: str = "GET") -> Got:
        return await asyncio.to_thread(get, f"http://{self.address}{path}", method)


@asynccontextmanager
async def serving(address: str = "127.0.0.1:0") -> AsyncIterator[Health]:
    listening = listen_at(address)
    host, port = listening.getsockname()[:2]
    health = Health(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    app = health_app(lambda: health.status, lambda: health.metrics())  # noqa: PLW0108 it may be changed
    task = asyncio.create_task(serve(app, listening))
    try:
        yield health
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        listening.close()


async def test_healthz() -> None:
    """The process is there, whatever the node does."""
    async with serving() as health:
        health.status = {"ready": False, "reason": "no node"}
        got = await health.get("/healthz")
    assert (got.status, got.json()) == (200, {"status": "ok"})
    assert got.headers["content-type"].startswith("application/json")


async def test_readyz() -> None:
    """200 at the tip, 503 with the reason elsewhere, and as it is at this moment."""
    async with serving() as health:
        got = await health.get("/readyz")
        assert (got.status, got.json()) == (200, READY)
        health.status = {**READY, "ready": False, "state": "waiting", "reason": "http://h:1: no connection"}
        got = await health.get("/readyz")
        assert (got.status, got.json()) == (503, health.status)
        health.status = dict(READY)
        assert (await health.get("/readyz")).status == 200


async def test_metrics() -> None:
    """The bytes and the type that the exporter gives, unchanged."""
    async with serving() as health:
        got = await health.get("/metrics")
    assert (got.status, got.body, got.headers["content-type"]) == (200, b"up 1\n", "text/plain; version=0.0.4")


async def test_metrics_of_the_monitoring_module() -> None:
    """What a scraper gets from a real one."""
    module = MonitoringModule()
    module.emit_live_metrics(5, 7)
    async with serving() as health:
        health.metrics = module.metrics_text
        got = await health.get("/metrics")
    module.shutdown()
    assert got.status == 200
    assert got.headers["content-type"].startswith("text/plain")
    assert "utxoiq_store_height 5.0" in got.text
    assert "utxoiq_source_height 7.0" in got.text


async def test_metrics_that_are_switched_off() -> None:
    """An empty page rather than an error: the scraper's alert on absence speaks."""
    module = MonitoringModule(enabled=False)
    async with serving() as health:
        health.metrics = module.metrics_text
        got = await health.get("/metrics")
    module.shutdown()
    assert got.status == 200


@pytest.mark.parametrize(("path", "method", "status"), [
    ("/", "GET", 404), ("/metrics/x", "GET", 404), ("/healthz", "POST", 405), ("/readyz", "DELETE", 405),
    ("/healthz", "HEAD", 200), ("/%00", "GET", 404), ("/" + "x" * 5000, "GET", 404),
])  # fmt: skip
async def test_other_requests(path: str, method: str, status: int) -> None:
    """It only reads, and there is nothing else."""
    async with serving() as health:
        got = await health.get(path, method)
        assert got.status == status
        assert (await health.get("/healthz")).status == 200


async def test_garbage_on_the_socket() -> None:
    """No HTTP at all: answered or hung up on, and the next one is served."""
    async with serving() as health:
        host, port = health.address.rsplit(":", 1)

        def shout() -> bytes:
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                connection.sendall(b"\x00\xff\x00 nonsense\r\n\r\n")
                return connection.recv(1000)

        said = await asyncio.to_thread(shout)
        assert said == b"" or b"400" in said.splitlines()[0]
        assert (await health.get("/healthz")).status == 200


async def test_a_status_that_fails_is_an_error_of_that_request(caplog: pytest.LogCaptureFixture) -> None:
    """500, and the server goes on."""
    async with serving() as health:
        health.metrics = lambda: (_ for _ in ()).throw(RuntimeError("broken"))  # type: ignore[assignment]
        assert (await health.get("/metrics")).status == 500
        assert (await health.get("/healthz")).status == 200


async def test_nothing_is_logged_of_requests(caplog: pytest.LogCaptureFixture) -> None:
    """A probe every few seconds must not fill the log."""
    with caplog.at_level(logging.INFO):
        async with serving() as health:
            for _ in range(3):
                await health.get("/healthz")
    assert [r for r in caplog.records if "healthz" in r.getMessage()] == []


async def test_stopping_lets_go_of_the_port() -> None:
    """Cancelled it ends soon, an open connection or not; the port can be had again."""
    listening = listen_at("127.0.0.1:0")
    port = listening.getsockname()[1]
    task = asyncio.create_task(serve(health_app(lambda: READY, lambda: (b"", "text/plain")), listening))
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    await writer.drain()
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=30)
    assert done
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    listen_at(f"127.0.0.1:{port}").close()


async def test_it_leaves_signals_alone() -> None:
    """They are the program's."""
    before = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    async with serving() as health:
        await health.get("/healthz")
        assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == before


# The socket


def test_an_address() -> None:
    """A name, an address, port 0 for any."""
    for address in ("127.0.0.1:0", "localhost:0"):
        listening = listen_at(address)
        assert listening.getsockname()[0] == "127.0.0.1"
        assert listening.getsockname()[1] > 0
        listening.close()


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
async def test_an_address_of_ipv6() -> None:
    """In brackets, as in a URL."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    async with serving("[::1]:0") as health:
        assert (await health.get("/healthz")).status == 200


@pytest.mark.parametrize(
    "address",
    ["", "9470", "nowhere", "127.0.0.1", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:99999", "127.0.0.1:-1",
     "no.such.host.invalid:9470", "203.0.113.1:9470", "http://127.0.0.1:9470"],
)  # fmt: skip
def test_what_is_no_address(address: str) -> None:
    """One line that gives the form; a bare port does not open the service to the whole network."""
    with pytest.raises(ConfigError, match="give another HOST:PORT, or off") as raised:
        listen_at(address).close()
    assert "\n" not in str(raised.value)
    del raised
    gc.collect()  # a socket left open is a warning of this test


def test_a_port_that_is_taken() -> None:
    first = listen_at("127.0.0.1:0")
    with pytest.raises(ConfigError, match="in use"):
        listen_at(f"127.0.0.1:{first.getsockname()[1]}")
    first.close()


async def test_the_answer_is_json_of_plain_values() -> None:
    """A machine can read it as it is."""
    async with serving() as health:
        assert json.loads((await health.get("/readyz")).text) == READY
