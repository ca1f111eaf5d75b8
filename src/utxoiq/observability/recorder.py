"""The part of monitoring that keeps its promises: it never raises, and no label grows without end."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from itertools import product
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from utxoiq.observability.correlation import current_correlation_id
from utxoiq.observability.labels import Labels
from utxoiq.observability.metrics import KNOWN_VALUES, METRICS

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from utxoiq.observability.telemetry import Telemetry

log = logging.getLogger(__name__)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SHUTDOWN_SECONDS = 2.0

P = ParamSpec("P")
R = TypeVar("R", bound="Recorder")


def never_raises(method: Callable[Concatenate[R, P], None]) -> Callable[Concatenate[R, P], None]:
    """A method of a recorder whose failures are logged, once a kind, and stop nobody."""

    @wraps(method)
    def guarded(self: R, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 whatever it is, the block goes on
            self.tell_once(method.__name__, error)

    return guarded


class Recorder:
    """Measurements and spans on their way to the SDK, which is loaded only if there is something to measure."""

    def __init__(
        self,
        enabled: bool,
        project_id: str | None,
        otlp_endpoint: str | None,
        service_name: str,
        credentials: Credentials | None,
        direct: bool,
    ) -> None:
        self._labels = Labels()
        self._told: set[tuple[str, str]] = set()
        self._telemetry: Telemetry | None = None
        if enabled:
            self._start(project_id, otlp_endpoint, service_name, credentials, direct)

    @contextmanager
    def span(self, name: str, correlation_id: str | None = None, **attributes: Any) -> Iterator[None]:
        """A stage of work. The outermost opens a trace, those inside are its children, in asyncio tasks and threads
        as well, and have its correlation id."""
        with self._span(name, {**attributes, "correlation_id": correlation_id or current_correlation_id()}):
            yield

    def metrics_text(self) -> tuple[bytes, str]:
        """What Prometheus scrapes, and its content type; nothing when disabled or shut down."""
        telemetry = self._telemetry
        try:
            text = telemetry.exposition() if telemetry else b""
        except Exception as error:  # noqa: BLE001 whatever it is, the server goes on
            self.tell_once("metrics_text", error)
            text = b""
        return text, CONTENT_TYPE

    @never_raises
    def shutdown(self) -> None:
        """Send what is left; at most 2 s. Nothing is measured afterwards."""
        telemetry, self._telemetry = self._telemetry, None
        if telemetry:
            telemetry.shutdown(SHUTDOWN_SECONDS)

    def record(self, name: str, value: float | None, correlation_id: str | None = None, **labels: str | None) -> None:
        """One measurement; what is no number of anything is told and left out."""
        log.debug("metric %s %s %s", name, value, labels or "", extra={"correlation_id": correlation_id})
        telemetry = self._telemetry
        if value is not None and not (math.isfinite(value) and value >= 0):
            self.tell_once(name, ValueError(f"{value} is no measurement"))
        elif telemetry:
            telemetry.record(name, value, self._labels.bounded(labels))

    def tell_once(self, where: str, error: Exception) -> None:
        """Log a failure, the first of its kind."""
        kind = (where, type(error).__name__)
        if kind not in self._told:
            self._told.add(kind)
            log.warning("%s failed, further ones like it are not told: %s", where, error, exc_info=error)

    def _span(self, name: str, attributes: dict[str, Any]) -> AbstractContextManager[Any]:
        telemetry = self._telemetry
        try:
            return telemetry.span(name, attributes) if telemetry else nullcontext()
        except Exception as error:  # noqa: BLE001 whatever it is, the stage goes on
            self.tell_once("span", error)
            return nullcontext()

    @never_raises
    def _start(
        self,
        project_id: str | None,
        otlp_endpoint: str | None,
        service_name: str,
        credentials: Credentials | None,
        direct: bool,
    ) -> None:
        from utxoiq.observability.telemetry import Telemetry  # noqa: PLC0415 the SDK, for those who measure

        self._telemetry = Telemetry(project_id, otlp_endpoint, service_name, credentials, direct)
        for metric in METRICS.values():
            if metric.kind == "counter" and set(metric.labels) <= set(KNOWN_VALUES):
                for values in product(*(KNOWN_VALUES[label] for label in metric.labels)):
                    self.record(metric.name, 0, **dict(zip(metric.labels, values, strict=True)))
