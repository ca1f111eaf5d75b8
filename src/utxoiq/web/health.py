"""/healthz, /readyz, /metrics and /charts."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from utxoiq.errors import ConfigError, UtxoiqError

if TYPE_CHECKING:
    from utxoiq.web.charts import Form, Theme

log = logging.getLogger(__name__)

HIGHEST_PORT = 65_535
CHART_FORMS: Mapping[str, tuple[Form, str]] = {"svg": ("svg", "image/svg+xml"), "png": ("png", "image/png")}
CHART_THEMES: Mapping[str, Theme] = {"light": "light", "dark": "dark"}
CHART_HEADERS = {
    "Cache-Control": "public, max-age=60",  # it may be retracted
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "X-Content-Type-Options": "nosniff",
}


def health_app(
    status: Callable[[], dict[str, Any]],
    metrics: Callable[[], tuple[bytes, str]],
    charts: Callable[[str, Form, Theme], bytes | None] | None = None,
) -> Starlette:
    """`status`: what /readyz says; ready where its `ready` is true. `metrics`: the body of /metrics and its type.
    `charts`: the file of an insight's chart by id, form and theme, None for no such insight."""
    drawing = asyncio.Lock()  # one at a time: the others wait without a thread each

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

    async def chart(request: Request) -> Response:
        """200 with the file, 400 for another form or theme, 404 for no such insight, 503 where it can't be drawn."""
        form, kind = CHART_FORMS.get(request.path_params["form"], (None, ""))
        theme = CHART_THEMES.get(request.query_params.get("theme", "light"))
        if form is None or theme is None:
            return JSONResponse({"error": "give /charts/ID.svg or /charts/ID.png, and ?theme=light or dark"}, 400)
        assert charts
        try:
            async with drawing:
                made = await asyncio.to_thread(charts, request.path_params["insight_id"], form, theme)
        except UtxoiqError as error:
            log.warning("no chart: %s", error)
            return JSONResponse({"error": str(error)}, 503)
        if made is None:
            return JSONResponse({"error": "no chart: no such insight"}, 404)
        return Response(made, headers={"Content-Type": kind, **CHART_HEADERS})

    routes = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", measured)]
    return Starlette(routes=[*routes, Route("/charts/{insight_id}.{form}", chart)] if charts else routes)


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
