"""One JSON object a line, or a line for a person, whatever is logged and whoever wrote it."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from utxoiq.observability import bind_correlation_id, configure_logging, current_correlation_id

log = logging.getLogger("utxoiq.somewhere")
pytestmark = pytest.mark.usefixtures("root_logger")

HOSTILE = [
    'a\n{"level": "error", "event": "forged"}',
    "a\r\nforged",
    "\x1b[2J\x1b]0;title\x07",
    "\x9b31m\x85forged",
    "a\u2028forged\u2029",
    "\u202eforged\u2066",
    "\x00\x7f\x08",
    "\udc80\ud800",
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def configured(as_json: bool | None = True, level: str = "INFO", stream: io.StringIO | None = None) -> io.StringIO:
    stream = stream or io.StringIO()
    configure_logging(level, as_json, stream)
    return stream


def objects(stream: io.StringIO) -> list[dict[str, Any]]:
    """Each line, as strict JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in stream.getvalue().splitlines()]


def test_a_line_of_json() -> None:
    stream = configured()
    log.info("block %s done", 7, extra={"correlation_id": "c1", "total_duration_ms": 1.5})
    (line,) = objects(stream)
    timestamp = line.pop("timestamp")
    assert line == {
        "level": "info",
        "logger": "utxoiq.somewhere",
        "event": "block 7 done",
        "correlation_id": "c1",
        "total_duration_ms": 1.5,
    }
    assert timestamp.endswith("Z")
    assert len(timestamp) == len("2026-01-01T00:00:00.000Z")


def test_an_exception_is_one_line() -> None:
    stream = configured()
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        log.exception("failed")
    (line,) = objects(stream)
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("ValueError: first\nsecond")


def test_extra_fields_replace_nothing_that_is_ours() -> None:
    stream = configured()
    log.error("true", extra={"event": "false", "level": "debug", "timestamp": "never", "logger": "other"})
    (line,) = objects(stream)
    assert (line["event"], line["level"], line["logger"]) == ("true", "error", "utxoiq.somewhere")
    assert line["timestamp"] != "never"


def test_extra_of_any_type_is_strict_json() -> None:
    loop: dict[Any, Any] = {(1, 2): float("nan")}
    loop["self"] = loop
    stream = configured()
    log.info("x", extra={"a": float("nan"), "b": float("inf"), "c": loop, "d": b"\x00", "e": object(), "f": None})
    (line,) = objects(stream)
    assert (line["a"], line["b"], line["f"]) == ("nan", "inf", None)
    assert line["c"].startswith("{(1, 2): nan")


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("as_json", [True, False])
def test_text_from_the_chain_stays_in_its_line(as_json: bool, text: str) -> None:
    """As argument, as format, as extra field, as the name of one."""
    stream = configured(as_json)
    log.warning("tag %s", text)
    log.warning(text)
    log.warning("tag", extra={"tag": text, text: 1})
    logging.getLogger(f"utxoiq.{text}").warning("tag")
    written = stream.getvalue()
    lines = written.split("\n")
    assert len(lines) == 5, "four lines and the end of the last"
    assert all(line.isprintable() for line in lines)
    written.encode()
    if as_json:
        assert objects(stream)[0]["event"] == f"tag {text}", "nothing is lost"


@pytest.mark.parametrize("text", HOSTILE)
def test_an_exception_on_a_console_forges_no_line(text: str) -> None:
    """Its lines are indented, which no line of the log is."""
    stream = configured(as_json=False)
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("failed", stack_info=True)
    first, *others = stream.getvalue().rstrip("\n").split("\n")
    assert "failed" in first
    assert "Traceback" in "".join(others)
    assert all(line.isprintable() for line in others)
    assert all(line.startswith("    ") or set(line) <= {"="} for line in others)


class Settings(BaseModel):
    rpc_password: SecretStr


@pytest.mark.parametrize("as_json", [True, False])
def test_secrets_do_not_appear(as_json: bool) -> None:
    """Neither in a message, an extra field, a traceback with its local variables, nor in a URL."""
    stream = configured(as_json)
    secret = SecretStr("hunter2")
    log.info("%s %r", secret, secret, extra={"password": secret, "settings": Settings(rpc_password=secret)})
    log.info("%s", [secret], extra={"all": {"nested": [secret]}})
    log.info("GET http://rpc:hunter2@127.0.0.1:8332/rest", extra={"url": "https://hunter2@host"})
    plain = secret.get_secret_value()
    try:
        raise ConnectionError(f"http://rpc:{plain}@127.0.0.1 refused")
    except ConnectionError:
        log.exception("failed")
    assert "hunter2" not in stream.getvalue()
    assert "127.0.0.1:8332/rest" in stream.getvalue()


def test_a_terminal_gets_text_and_all_else_json() -> None:
    terminal, pipe = configured(None, stream=Terminal()), configured(None)
    log.info("to a pipe")
    assert objects(pipe)[0]["event"] == "to a pipe"
    configured(None, stream=terminal)
    log.info("to a person")
    assert "to a person" in terminal.getvalue()
    assert "\x1b[" in terminal.getvalue()
    with pytest.raises(json.JSONDecodeError):
        objects(terminal)


def test_no_color_where_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = configured(None, stream=Terminal())
    log.info("plain")
    assert "\x1b" not in terminal.getvalue()


def test_standard_error_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    log.info("here")
    captured = capsys.readouterr()
    assert json.loads(captured.err)["event"] == "here"
    assert captured.out == ""


def test_twice_is_once(root_logger: logging.Logger) -> None:
    """The second replaces the first, and leaves the handlers of others."""
    others = list(root_logger.handlers)
    first, second = configured(), configured()
    log.info("x")
    assert first.getvalue() == ""
    assert len(objects(second)) == 1
    assert [h for h in root_logger.handlers if h in others] == others
    assert len(root_logger.handlers) == len(others) + 1


@pytest.mark.parametrize(("level", "heard"), [("debug", 3), ("INFO", 2), ("ERROR", 1)])
def test_level(level: str, heard: int) -> None:
    stream = configured(level=level)
    log.debug("x")
    log.info("x")
    log.error("x")
    assert len(objects(stream)) == heard


def test_a_level_that_is_none() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        configure_logging("loud")


@pytest.mark.parametrize("name", ["uvicorn.access", "uvicorn.error", "httpx", "httpcore.http11"])
def test_libraries_are_heard_from_warnings_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(name), "propagate", True)  # a server of another test may have cut it off
    stream = configured(level="DEBUG")
    logging.getLogger(name).info("GET /")
    assert stream.getvalue() == ""
    logging.getLogger(name).warning("odd")
    assert objects(stream)[0]["logger"] == name
    stream = configured(level="ERROR")
    logging.getLogger(name).warning("odd")
    assert stream.getvalue() == ""


async def test_the_bound_id_is_in_every_line_beneath() -> None:
    """In the task that bound it, in tasks and threads it starts, and not in those beside it."""
    stream = configured()

    async def task(name: str) -> None:
        await asyncio.sleep(0)
        log.info(name)

    async def bound(correlation_id: str) -> None:
        with bind_correlation_id(correlation_id):
            await asyncio.gather(
                task(f"{correlation_id} task"), asyncio.to_thread(log.info, f"{correlation_id} thread")
            )
            log.info("%s itself", correlation_id)

    await asyncio.gather(bound("a"), bound("b"), task("nobody's"))
    lines = objects(stream)
    assert len(lines) == 7
    for line in lines:
        owner = line["event"].split()[0]
        assert line.get("correlation_id") == (None if owner == "nobody's" else owner)


def test_the_innermost_id_holds_and_the_given_one_before_it() -> None:
    stream = configured()
    with bind_correlation_id("outer"):
        with bind_correlation_id("inner"):
            log.info("x")
            log.info("x", extra={"correlation_id": "given"})
            log.info("x", extra={"correlation_id": None})
        log.info("x")
    log.info("x")
    assert [line.get("correlation_id") for line in objects(stream)] == ["inner", "given", "inner", "outer", None]
    assert current_correlation_id() is None


def test_an_id_ends_with_what_failed_under_it() -> None:
    with pytest.raises(KeyError), bind_correlation_id("x"):
        raise KeyError
    assert current_correlation_id() is None
