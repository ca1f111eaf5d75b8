"""`utxoiq doctor --cloud`: what a run would meet in Google Cloud, checked one by one, and what to do about each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Literal

from utxoiq.doctor import Check
from utxoiq.errors import ConfigError, WarehouseError, WarehouseUnavailable
from utxoiq.persistence.warehouse.opening import OpenWarehouse, open_warehouse
from utxoiq.secrets import ENDPOINT, LOG_IN, SecretManager, references

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

    from utxoiq.config import Settings
    from utxoiq.settings import MetricsSettings, WarehouseSettings

SECONDS = 10.0
"""For an answer of each service, but for the warehouse, whose settings say how long."""
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TABLE = "signals"
"""Of the dataset intel: the one that is appended to and asked."""
EDITOR = "grant roles/bigquery.dataEditor on the datasets intel and btc"
JOB_USER = "grant roles/bigquery.jobUser on the project"
METRIC_WRITER = "grant roles/monitoring.metricWriter on the project"
OTLP_ROLES = {"metrics": METRIC_WRITER, "traces": "grant roles/cloudtrace.agent on the project"}


def examine_cloud(settings: Settings) -> Iterator[Check]:
    """Every check. `settings` with the names of secrets still in their place. Never raises for what is wrong outside.

    Appends no row, reads none; where metrics go to Cloud Monitoring directly, it writes one point."""
    yield _login(settings)
    for name, reference in references(settings).items():
        yield _secret(name, reference)
    yield from _warehouse(settings.warehouse)
    yield from _metrics(settings.metrics)


def _login(settings: Settings) -> Check:
    """The application default credentials, and whether they are still good for a token."""
    import google.auth  # noqa: PLC0415
    import requests  # noqa: PLC0415
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415
    from google.auth.transport.requests import Request  # noqa: PLC0415

    with requests.Session() as session:
        ask = Request(session=session)
        try:
            credentials, project = google.auth.default(scopes=[SCOPE], request=ask)
            credentials.refresh(partial(ask, timeout=SECONDS))  # type: ignore[no-untyped-call]
        except GoogleAuthError as error:
            if not _needs_google(settings):
                return Check("login", "ok", "nobody, and these settings need nobody")
            return Check("login", "failed", str(error).splitlines()[0], LOG_IN)
    return Check("login", "ok", f"{_account(credentials)}, project {project or 'not named'}")


def _needs_google(settings: Settings) -> bool:
    warehouse, metrics = settings.warehouse, settings.metrics
    stored = warehouse.project is not None and not (warehouse.endpoint or "").startswith("http://")
    measured = metrics.project_id is not None and (metrics.direct or metrics.otlp_endpoint is None)
    named = bool(references(settings)) and not os.environ.get(ENDPOINT)
    return stored or (metrics.enabled and measured) or named


def _account(credentials: Credentials) -> str:
    named = getattr(credentials, "service_account_email", None) or getattr(credentials, "account", None)
    return str(named or "a user")


def _secret(name: str, reference: str) -> Check:
    try:
        SecretManager(SECONDS).fetch(reference)
    except ConfigError as error:
        found, _, advice = str(error).partition("; ")
        return Check("secret", "failed", f"{name}: {found}", advice)
    return Check("secret", "ok", f"{name}: {reference} can be read")


# The warehouse


def _warehouse(settings: WarehouseSettings) -> Iterator[Check]:
    if settings.project is None:
        yield Check("warehouse", "warning", "none: nothing is shipped", "give warehouse.project to have one")
        return
    try:
        opened = open_warehouse(settings)
    except ConfigError as error:
        found, _, advice = str(error).rpartition(": ")
        yield Check("warehouse", "failed", found, advice)
        return
    with closing(opened):
        yield from _opened(opened, settings)


def _opened(opened: OpenWarehouse, settings: WarehouseSettings) -> Iterator[Check]:
    try:
        missing = opened.tables.missing()
    except WarehouseError as error:
        yield Check("warehouse", "failed", str(error), _advice(error, EDITOR))
        return
    yield Check("warehouse", "ok", f"{opened.tables.name} answers")
    if missing:
        told = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        yield Check("schema", "failed", f"lacks {told}", "utxoiq store migrate")
        return
    yield Check("schema", "ok", "up to date")
    checks: tuple[tuple[str, Callable[[OpenWarehouse, WarehouseSettings], Check], str], ...] = (
        ("location", _location, EDITOR), ("append", _append, EDITOR), ("query", _query, JOB_USER),
    )  # fmt: skip
    for name, check, role in checks:
        try:
            yield check(opened, settings)
        except WarehouseError as error:
            yield Check(name, "failed", str(error), _advice(error, role))


def _location(opened: OpenWarehouse, settings: WarehouseSettings) -> Check:
    from utxoiq.persistence.warehouse.bigquery import ONCE, telling  # noqa: PLC0415

    client, prefix = opened.tables.client, settings.prefix
    with telling("where its datasets are"):
        datasets = [
            client.get_dataset(f"{settings.project}.{prefix}{name}", retry=ONCE, timeout=settings.timeout_seconds)
            for name in ("intel", "btc")
        ]
    there = {str(dataset.location or "") for dataset in datasets}
    told = ", ".join(sorted(there)) or "not told"
    if len(there) > 1:
        return Check("location", "failed", told, "both datasets must be in one place: make them anew under a prefix")
    if settings.location and {place.lower() for place in there} != {settings.location.lower()}:
        return Check("location", "warning", f"{told}, not {settings.location}", "correct warehouse.location")
    return Check("location", "ok", told)


def _append(opened: OpenWarehouse, _: WarehouseSettings) -> Check:
    """A stream, closed without a row in it."""
    from utxoiq.persistence.warehouse.tables import BY_NAME  # noqa: PLC0415

    table = BY_NAME[TABLE]
    opened.streams.finalize(opened.streams.create(table))
    return Check("append", "ok", f"may append to {table.path}")


def _query(opened: OpenWarehouse, _: WarehouseSettings) -> Check:
    from utxoiq.persistence.warehouse.bigquery import PARTITIONS  # noqa: PLC0415
    from utxoiq.persistence.warehouse.tables import BY_NAME  # noqa: PLC0415

    today, path = datetime.now(UTC).date(), BY_NAME[TABLE].path
    list(opened.tables.query(f"SELECT 1 AS one FROM {path} WHERE {PARTITIONS} LIMIT 1", today, today))  # noqa: S608
    return Check("query", "ok", f"may query {path}")


def _advice(error: WarehouseError, role: str) -> str:
    from google.api_core.exceptions import Forbidden, Unauthenticated  # noqa: PLC0415
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415

    if isinstance(error.__cause__, Forbidden):
        return role
    if isinstance(error.__cause__, (Unauthenticated, GoogleAuthError)):
        return LOG_IN
    if isinstance(error, WarehouseUnavailable):
        return "check the network and warehouse.endpoint; else wait"
    return "check warehouse.project and warehouse.prefix"


# Metrics and traces


def _metrics(settings: MetricsSettings) -> Iterator[Check]:
    if not settings.enabled:
        yield Check("metrics", "warning", "not measured (metrics.enabled = false)", "set it to true to measure")
        return
    if settings.project_id is None and settings.otlp_endpoint is None:
        yield Check("metrics", "ok", "at /metrics alone")
        return
    direct = settings.project_id if settings.direct else None
    yield _direct(direct) if direct else _otlp(settings, "metrics")
    yield _otlp(settings, "traces")


def _otlp(settings: MetricsSettings, signal: Literal["metrics", "traces"]) -> Check:
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415
    from requests import RequestException  # noqa: PLC0415

    from utxoiq.observability.otlp import GOOGLE_ENDPOINT, refusal  # noqa: PLC0415

    where = (settings.otlp_endpoint or GOOGLE_ENDPOINT).rpartition("@")[2]
    try:
        refused = refusal(settings.otlp_endpoint, signal, SECONDS)
    except GoogleAuthError as error:
        return Check(signal, "failed", str(error).splitlines()[0], LOG_IN)
    except RequestException as error:
        told = f"{where} can't be reached ({type(error).__name__})"
        return Check(signal, "failed", told, "start the collector, or correct metrics.otlp_endpoint")
    if not refused:
        return Check(signal, "ok", f"{where} takes them")
    advice = "see the log of the collector" if settings.otlp_endpoint else OTLP_ROLES[signal]
    return Check(signal, "failed", f"{where} answers {refused}", advice)


def _direct(project_id: str) -> Check:
    try:
        from google.api_core.exceptions import Forbidden, GoogleAPICallError  # noqa: PLC0415
        from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415

        from utxoiq.observability.cloud_monitoring import try_write  # noqa: PLC0415
    except ImportError:
        advice = "pip install 'utxoiq[gcp]'"
        return Check("metrics", "failed", "metrics.direct needs more packages", advice)
    try:
        try_write(project_id, SECONDS)
    except GoogleAuthError as error:
        return Check("metrics", "failed", str(error).splitlines()[0], LOG_IN)
    except GoogleAPICallError as error:
        advice = METRIC_WRITER if isinstance(error, Forbidden) else "check metrics.project_id and the network"
        return Check("metrics", "failed", f"Cloud Monitoring of {project_id}: {type(error).__name__}", advice)
    return Check("metrics", "ok", f"Cloud Monitoring of {project_id} takes them")
