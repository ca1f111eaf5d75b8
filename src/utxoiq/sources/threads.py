"""Blocking calls beside the event loop, in threads that a stopping program need not wait for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

T = TypeVar("T")


async def in_thread(call: Callable[..., T], *arguments: Any) -> T:
    """The result of `call(*arguments)`, made in a daemon thread with the caller's context variables.

    Unlike `asyncio.to_thread`, a call that hangs on the network delays neither cancelling nor the end of the process.
    """
    loop, context = asyncio.get_running_loop(), copy_context()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, raised = None, None
        try:
            result = context.run(call, *arguments)
        except BaseException as error:  # noqa: BLE001 it is raised where it is awaited
            raised = error
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(settle, result, raised)

    threading.Thread(target=work, name=f"utxoiq-{getattr(call, '__name__', 'call')}", daemon=True).start()
    return await future
