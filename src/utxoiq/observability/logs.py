"""Logging for machines, one JSON object a line, or for a person at a terminal; each line with its correlation id.

Text from the chain may be in any message: it can neither begin a line of its own nor speak to the terminal.
"""

from __future__ import annotations

import logging
import math
import os
import re
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.processors import JSONRenderer, format_exc_info
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor

from utxoiq.observability.correlation import current_correlation_id

QUIET = ("uvicorn", "httpx", "httpcore", "urllib3", "watchfiles", "google")
"""Libraries that tell of every request; heard from warnings on."""

_NOT_EXTRA = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")


class _Handler(logging.StreamHandler[TextIO]):
    """Known by its type, so that a second `configure_logging` replaces it."""


def configure_logging(level: str = "INFO", as_json: bool | None = None, stream: TextIO | None = None) -> None:
    """Send what every logger says to `stream`, standard error if None. Calling it again replaces what was set.

    `as_json`: None is a matter of whether the stream is a terminal. Servers that bring handlers of their own, such
    as uvicorn, have to be told not to (`log_config=None`).
    """
    stream = stream or sys.stderr
    terminal = stream.isatty()
    as_json = not terminal if as_json is None else as_json
    color = terminal and not os.environ.get("NO_COLOR")
    console = ConsoleRenderer(colors=color, exception_formatter=plain_traceback, sort_keys=False)
    renderers: list[Processor] = [JSONRenderer()] if as_json else [_harmless, console]
    handler = _Handler(stream)
    handler.setFormatter(ProcessorFormatter(processors=[format_exc_info, _fields, *renderers]))
    root = logging.getLogger()
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))
    for earlier in [h for h in root.handlers if isinstance(h, _Handler)]:
        root.removeHandler(earlier)
    root.addHandler(handler)


def _fields(_: Any, __: str, event: EventDict) -> EventDict:
    """What is known of every line, then what this one adds."""
    record: logging.LogRecord = event.pop("_record")
    extra = {k: v for k, v in vars(record).items() if k not in _NOT_EXTRA and not k.startswith("_")}
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    first: EventDict = {
        "timestamp": time.replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": event.pop("event"),
    }
    correlation_id = extra.pop("correlation_id", None) or current_correlation_id()
    if correlation_id:
        first["correlation_id"] = correlation_id
    event.pop("_from_structlog")
    return {name: _plain(value) for name, value in {**first, **extra, **event, **first}.items()}


def _plain(value: object) -> object:
    """As it is if JSON knows it, else as text, without user and password of a URL."""
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return _USERINFO.sub("***@", str(value))


def _harmless(_: Any, __: str, event: EventDict) -> EventDict:
    """Texts with all that is not printable escaped; the lines of a traceback stay lines, indented."""
    safe = {_escaped(name): _escaped(v) if isinstance(v, str) else v for name, v in event.items()}
    for name, shown in (("exception", "exception"), ("stack_info", "stack")):
        if name in event:
            del safe[name]
            safe[shown] = "\n".join("    " + _escaped(line) for line in str(event[name]).split("\n"))
    return safe


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
