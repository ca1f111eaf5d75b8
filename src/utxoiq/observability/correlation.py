"""Which piece of work the running code belongs to: an id that follows tasks and threads started under it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_correlation_id: ContextVar[str | None] = ContextVar("utxoiq_correlation_id", default=None)


@contextmanager
def bind_correlation_id(correlation_id: str) -> Iterator[None]:
    """Every line logged and every span opened inside carries this id, also in asyncio tasks and `to_thread`."""
    token = _correlation_id.set(correlation_id)
    try:
        yield
    finally:
        _correlation_id.reset(token)


def current_correlation_id() -> str | None:
    """The innermost bound id."""
    return _correlation_id.get()
