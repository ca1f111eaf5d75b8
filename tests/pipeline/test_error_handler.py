"""Errors are told with their context, counted, and retried on one schedule; telling them never makes another."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from http import HTTPStatus
from io import StringIO
from typing import Any, NoReturn

import pytest

from persistence.records import chain, insight, record, signal, told
from utxoiq.errors import (
    ConfigError,
    NodeRefused,
    NodeUnavailable,
    RpcError,
    StoreError,
    StoreUnavailable,
    Transient,
    UtxoiqError,
)
from utxoiq.observability import MonitoringModule, configure_logging
from utxoiq.persistence import SqliteStore
from utxoiq.pipeline import error_handler
from utxoiq.pipeline.error_handler import STALE_SECONDS, ErrorHandler

RUN = "abc123"
HOUR = 3600


class Google(Exception):
    """As `google.api_core.exceptions.GoogleAPICallError`: an HTTP status in `code`."""

    def __init__(self, code: Any) -> None:
        super().__init__(f"{code} something")
        self.code = code


class Grpc(Exception):
    """As `grpc.RpcError`: `code` is a method."""

    def code(self) -> str:
        return "UNAVAILABLE"


class Speechless(Exception):
    """An error that can't say what it is."""

    def __str__(self) -> NoReturn:
        raise RuntimeError("no words")


class Broken:
    """Monitoring that raises at everything."""

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        def fail(*_: Any, **__: Any) -> NoReturn:
            raise RuntimeError(f"{name} is broken")

        return fail


class Calls:
    """A call that fails so often, with what it is told to, and then gives 42."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors, self.made = list(errors), 0

    async def __call__(self) -> int:
        self.made += 1
        if self.errors:
            raise self.errors.pop(0)
        return 42


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that were slept; none of them pass."""
    seconds: list[float] = []

    async def sleep(delay: float, result: Any = None) -> Any:
        seconds.append(delay)
        return result

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return seconds


@pytest.fixture
def monitoring() -> Iterator[MonitoringModule]:
    monitoring = MonitoringModule()
    yield monitoring
    monitoring.shutdown()


def counted(monitoring: MonitoringModule) -> dict[str, float]:
    """Errors by class and place, as Prometheus sees them."""
    rows = [line for line in monitoring.metrics_text()[0].decode().splitlines() if line.startswith("utxoiq_errors")]
    return {
        line.split('error_type="')[1].split('"')[0] + "/" + line.split('processor="')[1].split('"')[0]: float(
            line.rsplit(" ", 1)[1]
        )
        for line in rows
        if "error_type" in line
    }


async def retried(handler: ErrorHandler, call: Calls, **options: Any) -> int:
    return await handler.retry_with_backoff(call, what="the test", correlation_id=RUN, **options)


# Retries


@pytest.mark.parametrize("failures", [0, 1, 2, 3])
async def test_the_schedule(slept: list[float], failures: int) -> None:
    """One call, then up to three more, after exactly 1, 2 and 4 seconds."""
    calls = Calls(*(StoreUnavailable("locked") for _ in range(failures)))
    assert await retried(ErrorHandler(), calls) == 42
    assert (calls.made, slept) == (failures + 1, [1, 2, 4][:failures])


async def test_the_last_error_is_raised_as_it_is(slept: list[float]) -> None:
    """Itself, not wrapped; and no fifth call."""
    errors = [StoreUnavailable(f"locked {n}") for n in range(9)]
    calls = Calls(*errors)
    with pytest.raises(StoreUnavailable) as raised:
        await retried(ErrorHandler(), calls)
    assert raised.value is errors[3]
    assert raised.value.__cause__ is None
    assert (calls.made, slept) == (4, [1, 2, 4])


@pytest.mark.parametrize(("most", "expected"), [(0, []), (1, [1]), (5, [1, 2, 4, 8, 16])])
async def test_another_number_of_retries(slept: list[float], most: int, expected: list[float]) -> None:
    calls = Calls(*(StoreUnavailable("locked") for _ in range(9)))
    with pytest.raises(StoreUnavailable):
        await retried(ErrorHandler(), calls, max_retries=most)
    assert (calls.made, slept) == (most + 1, expected)


async def test_another_delay(slept: list[float]) -> None:
    with pytest.raises(TimeoutError):
        await retried(ErrorHandler(), Calls(*(TimeoutError() for _ in range(9))), base_delay=0.25)
    assert slept == [0.25, 0.5, 1.0]


LASTING = [StoreError("broken"), ConfigError("wrong"), NodeRefused("password"), ValueError("x"), KeyError("k"),
           RpcError("here", "getblock", -5, "x"), Google(404), asyncio.CancelledError(), KeyboardInterrupt(),
           SystemExit(3)]  # fmt: skip


@pytest.mark.parametrize("error", LASTING, ids=repr)
async def test_what_stays_wrong_is_not_tried_again(slept: list[float], error: BaseException) -> None:
    """Raised at once, as it is; a cancelled call above all."""
    calls = Calls(error)
    with pytest.raises(type(error)) as raised:
        await retried(ErrorHandler(), calls)
    assert raised.value is error
    assert (calls.made, slept) == (1, [])


async def test_it_ends_where_an_error_stays(slept: list[float]) -> None:
    """Transient once, then not."""
    calls = Calls(StoreUnavailable("locked"), StoreError("corrupt"), StoreError("corrupt"))
    with pytest.raises(StoreError, match="corrupt"):
        await retried(ErrorHandler(), calls)
    assert (calls.made, slept) == (2, [1])


async def test_each_retry_is_told(slept: list[float], caplog: pytest.LogCaptureFixture) -> None:
    """One line each, with the correlation id, what failed, when it is tried again, and the first line of why."""
    errors = [StoreUnavailable("locked\nby whom"), TimeoutError(), Google(503)]
    assert await retried(ErrorHandler(), Calls(*errors)) == 42
    lines = [(r.getMessage(), r.levelno, r.correlation_id, r.attempt) for r in caplog.records]  # type: ignore[attr-defined]
    assert lines == [
        ("the test failed, again in 1 s: locked", logging.WARNING, RUN, 1),
        ("the test failed, again in 2 s: TimeoutError", logging.WARNING, RUN, 2),
        ("the test failed, again in 4 s: 503 something", logging.WARNING, RUN, 3),
    ]


async def test_a_speechless_error_is_retried(slept: list[float]) -> None:
    """Telling what failed doesn't fail."""

    class Passing(Speechless, Transient):
        pass

    assert await retried(ErrorHandler(), Calls(Passing(), Passing())) == 42
    assert slept == [1, 2]


async def test_handlers_do_not_share_attempts(slept: list[float]) -> None:
    """Two retries at once each have a schedule of their own."""
    handler = ErrorHandler()
    calls = [Calls(*(StoreUnavailable("x") for _ in range(3))) for _ in range(3)]
    assert await asyncio.gather(*(retried(handler, call) for call in calls)) == [42] * 3
    assert sorted(slept) == [1] * 3 + [2] * 3 + [4] * 3


# What may pass


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (StoreUnavailable("x"), True), (NodeUnavailable("x"), True), (TimeoutError(), True), (ConnectionError(), True),
        (ConnectionResetError(), True), (BrokenPipeError(), True),
        (StoreError("x"), False), (NodeRefused("x"), False), (UtxoiqError("x"), False), (OSError(), False),
        (ValueError(), False), (RpcError("a", "b", -28, "c"), False),
        *((Google(code), True) for code in (408, 429, 500, 502, 503, 504, 599, HTTPStatus.SERVICE_UNAVAILABLE)),
        *((Google(code), False) for code in (200, 400, 401, 403, 404, 409, 412, 499, 600, 0, -500, None, "503", 503.0,
                                             True, HTTPStatus.NOT_FOUND)),
        (Grpc(), False),
    ],
    ids=repr,
)  # fmt: skip
def test_what_may_pass(error: BaseException, *, transient: bool) -> None:
    """Our own say so; Google's by their HTTP status: too many requests, timeouts, and the server's own errors."""
    assert ErrorHandler.is_transient(error) is transient


def test_a_status_that_can_not_be_asked_for() -> None:
    """`code` may be a property that raises."""

    class Odd(Exception):
        @property
        def code(self) -> int:
            raise AttributeError("no")

    assert ErrorHandler.is_transient(Odd()) is False


# Telling


def handle(handler: ErrorHandler, which: str, error: BaseException) -> Any:
    if which == "processor":
        return handler.handle_processor_error(
            error, processor="miner", correlation_id=RUN, block_height=7, block_hash="ab" * 32
        )
    if which == "bigquery":
        return handler.handle_bigquery_error(error, operation="append", correlation_id=RUN)
    return handler.handle_ai_provider_error(error, provider="openai", signal_id="s1", correlation_id=RUN)


HANDLERS = {"processor": "miner", "bigquery": "bigquery", "provider": "openai"}
"""What each counts its errors under."""
KNOWN = {"processor": "miner", "bigquery": "append", "provider": "openai"}
"""Something that each has to tell."""
ERRORS = [Speechless(), ValueError(), ValueError("x\ny"), KeyboardInterrupt(), Google("x")]


@pytest.mark.parametrize("which", HANDLERS)
def test_an_error_is_told_and_counted(
    which: str, monitoring: MonitoringModule, caplog: pytest.LogCaptureFixture
) -> None:
    """By class and place; one line with the correlation id and all that is known."""
    handler = ErrorHandler(monitoring)
    again = handle(handler, which, Google(503))
    assert again is (None if which == "processor" else True)
    handle(handler, which, StoreError("one\ntwo"))
    assert counted(monitoring) == {f"Google/{HANDLERS[which]}": 1.0, f"StoreError/{HANDLERS[which]}": 1.0}
    assert [r.correlation_id for r in caplog.records] == [RUN, RUN]  # type: ignore[attr-defined]
    first, second = caplog.records
    assert (first.levelno, second.levelno) == (
        logging.ERROR if which == "processor" else logging.WARNING,
        logging.ERROR,
    )
    assert second.getMessage().endswith("one")
    assert second.exc_info
    assert KNOWN[which] in str(vars(first))


@pytest.mark.parametrize("which", HANDLERS)
@pytest.mark.parametrize("error", ERRORS, ids=type)
@pytest.mark.parametrize("broken", [True, False])
def test_handlers_never_raise(which: str, error: BaseException, *, broken: bool, caplog: Any) -> None:
    """Whatever the error is, and though monitoring is broken; the error is told all the same."""
    handler = ErrorHandler(Broken() if broken else None)  # type: ignore[arg-type]
    handle(handler, which, error)
    lines = [r for r in caplog.records if getattr(r, "correlation_id", None) == RUN]
    assert [line for line in lines if KNOWN[which] in str(vars(line))]


@pytest.mark.parametrize("key", ["name", "msg", "args", "asctime", "module", "process", "exc_info", "created", "block"])
def test_context_of_any_name(key: str, caplog: pytest.LogCaptureFixture) -> None:
    """Names that logging has for itself are told too."""
    caplog.set_level(logging.INFO)
    ErrorHandler().log_with_context(logging.INFO, "text", correlation_id=RUN, **{key: "told"})  # type: ignore[arg-type]
    (row,) = caplog.records
    assert (row.getMessage(), row.correlation_id) == ("text", RUN)  # type: ignore[attr-defined]
    assert "told" in str(vars(row))


def test_percent_signs_are_text(caplog: pytest.LogCaptureFixture) -> None:
    """A message from the chain is no format."""
    caplog.set_level(logging.INFO)
    ErrorHandler().log_with_context(logging.INFO, "100 %s %d %(x)s", correlation_id=RUN)
    assert caplog.records[0].getMessage() == "100 %s %d %(x)s"


def test_lines_are_json(request: pytest.FixtureRequest) -> None:
    """With the correlation id and the traceback, one object a line."""
    stream = StringIO()
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        configure_logging("DEBUG", True, stream)
        handle(ErrorHandler(Broken()), "processor", Speechless())  # type: ignore[arg-type]
        ErrorHandler().log_with_context(logging.INFO, "x", correlation_id=RUN, block={"a": 1}, name="n")
    finally:
        root.handlers[:], root.level = before, level
    rows = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len([row for row in rows if row.get("correlation_id") == RUN]) == 2


# Signals nobody narrates


@pytest.fixture
def old(store: SqliteStore) -> Callable[[int, int], None]:
    """Store so many signals without insights, recorded so long ago."""
    data = chain().trunk[0]
    store.connect(record(data))

    def make(count: int, age: int) -> None:
        begin = int(store.database.value("SELECT count(*) FROM signals"))
        signals = [signal(data, begin + n, subject=f"subject-{begin + n}") for n in range(count)]
        store.persist_signals(signals, RUN)
        for one in signals:
            with store.database.transaction():
                store.database.execute(
                    "UPDATE signals SET recorded_at = recorded_at - ? WHERE signal_id = ?", age, one.signal_id
                )

    return make


def stale_metric(monitoring: MonitoringModule) -> float | None:
    rows = monitoring.metrics_text()[0].decode().splitlines()
    return next((float(row.split()[-1]) for row in rows if row.startswith("utxoiq_stale_signals ")), None)


def test_stale_signals_alert_once_update_and_clear(
    store: SqliteStore, old: Callable[[int, int], None], monitoring: MonitoringModule, caplog: pytest.LogCaptureFixture
) -> None:
    """An alert when there are some, again only when their number changes, and a word when there are none."""
    caplog.set_level(logging.INFO)
    handler = ErrorHandler(monitoring)

    def alerts() -> list[tuple[int, int]]:
        found = [(r.levelno, r.stale_signals) for r in caplog.records]  # type: ignore[attr-defined]
        caplog.clear()
        return found

    assert (handler.check_stale_signals(store), alerts(), stale_metric(monitoring)) == (0, [], 0.0)
    old(2, HOUR - 60)
    assert (handler.check_stale_signals(store), alerts()) == (0, [])
    old(3, HOUR + 60)
    assert (handler.check_stale_signals(store), alerts(), stale_metric(monitoring)) == (3, [(logging.ERROR, 3)], 3.0)
    assert (handler.check_stale_signals(store), alerts(), stale_metric(monitoring)) == (3, [], 3.0)
    old(1, 2 * HOUR)
    assert (handler.check_stale_signals(store), alerts(), stale_metric(monitoring)) == (4, [(logging.ERROR, 4)], 4.0)
    with store.database.transaction():
        store.database.execute("UPDATE signals SET recorded_at = recorded_at + 100000")
    assert (handler.check_stale_signals(store), alerts(), stale_metric(monitoring)) == (0, [(logging.INFO, 0)], 0.0)
    assert (handler.check_stale_signals(store), alerts()) == (0, [])


def test_stale_at_a_moment(store: SqliteStore, old: Callable[[int, int], None]) -> None:
    """More than an hour, by the clock that is given."""
    old(1, 0)
    recorded = store.database.value("SELECT recorded_at FROM signals")
    assert STALE_SECONDS == HOUR
    assert ErrorHandler().check_stale_signals(store, now=recorded + HOUR) == 0
    assert ErrorHandler().check_stale_signals(store, now=recorded + HOUR + 1) == 1


def test_narrated_and_retracted_signals_are_not_stale(store: SqliteStore) -> None:
    """What has its insight, or no longer holds, waits for nobody."""
    first, second = chain().trunk[:2]
    store.connect(told(first, 1, 2))
    one = signal(second, 9)
    store.connect(record(second, [one, signal(second, 10, subject="other")], [insight(one)]))
    with store.database.transaction():
        store.database.execute("UPDATE signals SET recorded_at = recorded_at - 10000")
    assert ErrorHandler().check_stale_signals(store) == 1
    store.disconnect(str(second.block_hash), RUN)
    assert ErrorHandler().check_stale_signals(store) == 0


def test_a_store_that_fails_is_the_callers(store: SqliteStore) -> None:
    store.close()
    with pytest.raises(StoreError):
        ErrorHandler().check_stale_signals(store)


def test_the_service_is_named(monitoring: MonitoringModule) -> None:
    ErrorHandler(monitoring).count(ValueError("x"), "monitor")
    assert f'service_name="{error_handler.SERVICE}"' in monitoring.metrics_text()[0].decode()
