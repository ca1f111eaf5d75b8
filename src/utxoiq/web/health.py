"""/healthz, /readyz and /metrics."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from utxoiq.errors import ConfigError

log = logging.getLogger(__name__)

HIGHEST_PORT = 65_535


def health_app(status: Callable[[], dict[str, Any]], metrics: Callable[[], tuple[bytes, str]]) -> Starlette:
    """`status`: what /readyz says; ready where its `ready` is true. `metrics`: the body of /metrics and its type."""

    async def healthz(_: Request) -> Response:
        """The process is there and its loop turns."""
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        """200 at the tip, 503 with the reason elsewhere."""
        said = await asyncio.to_thread(status)  # it may read a store that another process locks
        return JSONResponse(said, 200 if said["ready"] else 503)

    async def measured(_: Request) -> Response:
        body, kind = metrics()
        return Response(body, headers={"Content-Type": kind})

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", measured)])


def listen_at(address: str) -> socket.socket:
    """A listening socket for HOST:PORT. Raises ConfigError where that is no address, or taken."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > HIGHEST_PORT:
        raise ConfigError(f"http.listen {address!r}: give another HOST:PORT, or off")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), int(port)), family=family)
    except (OSError, ValueError, OverflowError) as error:
        raise ConfigError(f"http.listen {address!r}: {error}; give another HOST:PORT, or off") from error


async def serve(app: Starlette, listening: socket.socket) -> None:
    """Until cancelled."""
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await asyncio.shield(task)
    finally:
        server.should_exit = True
        with suppress(asyncio.CancelledError):
            await task


class _Server(uvicorn.Server):
    """Leaves signals to the program it is part of."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None."""
        yield
