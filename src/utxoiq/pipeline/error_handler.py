"""What is done about errors: told with their context, counted, retried where that can help, and alerted on."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_exponential

from utxoiq.errors import Transient

if TYPE_CHECKING:
    from utxoiq.observability import MonitoringModule
    from utxoiq.persistence.sqlite import SqliteStore

log = logging.getLogger(__name__)

T = TypeVar("T")
SERVICE = "utxoiq"
STALE_SECONDS = 3600
OF_LOG_RECORDS = {*vars(logging.makeLogRecord({})), "message", "asctime"}
"""Names that logging keeps for itself."""
PASSING_ELSEWHERE: tuple[type[BaseException], ...] = (TimeoutError, ConnectionError)
"""Errors of others that the same call may not meet again."""


class ErrorHandler:
    """Tells, counts and retries. Its methods never raise, but for `retry_with_backoff`, whose last error is the
    caller's."""

    def __init__(self, monitoring_module: MonitoringModule | None = None) -> None:
        self._monitoring = monitoring_module
        self._stale = 0

    def log_with_context(
        self, level: int, message: str, *, correlation_id: str, error: BaseException | None = None, **context: Any
    ) -> None:
        """One log line with all that is known: `context` becomes fields of it."""
        fields = {"correlation_id": correlation_id}
        fields |= {f"{key}_" if key in OF_LOG_RECORDS else key: value for key, value in context.items()}
        log.log(level, "%s", message, extra=fields, exc_info=error if level >= logging.ERROR else None)

    def handle_processor_error(
        self, error: BaseException, *, processor: str, correlation_id: str, block_height: int | None, block_hash: str
    ) -> None:
        """A processor that raised, hung or gave nonsense: the others go on without it."""
        self.count(error, processor)
        self.log_with_context(
            logging.ERROR, f"processor {processor} failed on block {block_hash}: {_line(error)}",
            correlation_id=correlation_id, error=error, processor=processor, block_height=block_height,
        )  # fmt: skip

    def handle_bigquery_error(self, error: BaseException, *, operation: str, correlation_id: str) -> bool:
        """A warehouse call that failed: whether trying it again can help."""
        self.count(error, "bigquery")
        again = self.is_transient(error)
        self.log_with_context(
            logging.WARNING if again else logging.ERROR, f"BigQuery {operation} failed: {_line(error)}",
            correlation_id=correlation_id, error=error, operation=operation, transient=again,
        )  # fmt: skip
        return again

    def handle_ai_provider_error(
        self, error: BaseException, *, provider: str, signal_id: str, correlation_id: str
    ) -> bool:
        """An AI provider that failed on a signal: whether trying it again can help."""
        self.count(error, provider)
        again = self.is_transient(error)
        self.log_with_context(
            logging.WARNING if again else logging.ERROR, f"{provider} failed on signal {signal_id}: {_line(error)}",
            correlation_id=correlation_id, error=error, provider=provider, signal_id=signal_id, transient=again,
        )  # fmt: skip
        return again

    @staticmethod
    def is_transient(error: BaseException) -> bool:
        """Whether the same call may succeed later: our own say so, and Google's by their HTTP status (`code`)."""
        status = getattr(error, "code", None)
        busy = isinstance(status, int) and (status in (408, 429) or 500 <= status < 600)
        return isinstance(error, (Transient, *PASSING_ELSEWHERE)) or busy

    async def retry_with_backoff(
        self,
        call: Callable[[], Awaitable[T]],
        *,
        what: str,
        correlation_id: str,
        max_retries: int = 3,
        base_delay: float = 1.0,
    ) -> T:
        """The result of `call`: one call, then up to `max_retries` more after 1, 2, 4 … times `base_delay` seconds.

        Only what `is_transient` is tried again; the last error is raised as it is.
        """

        def tell(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            wait = state.next_action.sleep if state.next_action else 0.0
            self.log_with_context(
                logging.WARNING, f"{what} failed, again in {wait:g} s: {_line(error)}", correlation_id=correlation_id,
                attempt=state.attempt_number,
            )  # fmt: skip

        retrying = AsyncRetrying(
            retry=retry_if_exception(self.is_transient),
            wait=wait_exponential(multiplier=base_delay),
            stop=stop_after_attempt(max_retries + 1),
            before_sleep=tell,
            reraise=True,
        )
        return await retrying(call)

    def check_stale_signals(self, store: SqliteStore, *, now: float | None = None) -> int:
        """How many signals have waited for narration for over an hour: alerts by log and metric when there are any, and
        clears the alert when there are none again. Raises StoreError."""
        since = int(time.time() if now is None else now) - STALE_SECONDS
        stale, oldest = store.stale_signals(since)
        if self._monitoring:
            self._monitoring.emit_stale_signals(stale)
        if stale and stale != self._stale:
            log.error(
                "%d signals have waited for narration for over an hour, the first since %d", stale, oldest,
                extra={"stale_signals": stale},
            )  # fmt: skip
        if self._stale and not stale:
            log.info("no signal waits for narration any more", extra={"stale_signals": 0})
        self._stale = stale
        return stale

    def count(self, error: BaseException, component: str) -> None:
        """Count an error, whoever tells it."""
        if self._monitoring is None:
            return
        try:
            self._monitoring.emit_error_metric(type(error).__name__, SERVICE, component)
        except Exception:
            log.exception("an error could not be counted")


def _line(error: BaseException | None) -> str:
    """The first line of what an error says, or its type where it says nothing."""
    try:
        return (str(error).splitlines() or [type(error).__name__])[0]
    except Exception:  # noqa: BLE001 an error of somebody else's making
        return type(error).__name__
