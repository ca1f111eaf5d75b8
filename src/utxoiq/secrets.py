"""Secrets that settings name by where they are: `sm://PROJECT/NAME` is asked of Google's Secret Manager."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, SecretStr

from utxoiq.errors import ConfigError

if TYPE_CHECKING:
    from google.cloud.secretmanager_v1 import AccessSecretVersionResponse, SecretManagerServiceClient

SCHEME = "sm://"
ENDPOINT = "UTXOIQ_SECRET_MANAGER_ENDPOINT"
"""Variable: HOST:PORT of an emulator, spoken to without TLS and without logging in."""
KEEP_SECONDS = 300.0
"""How long a secret that was read is not asked for again."""
PATIENCE_SECONDS = 10.0
MISSING = "Secret Manager needs more packages; pip install 'utxoiq[gcp]'"
LOG_IN = "run `gcloud auth application-default login`, or name a key file in GOOGLE_APPLICATION_CREDENTIALS"

_FORM = re.compile(r"sm://(?P<project>[\w.:-]+)/(?P<name>[\w-]+)(?:/(?P<version>[\w-]+))?")
_CLIENT_LOGGER = "google.cloud.secretmanager_v1"

M = TypeVar("M", bound=BaseModel)


class SecretManager:
    """Reads secrets with the application default credentials, and remembers them for a while."""

    def __init__(self, patience: float = PATIENCE_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        """`patience`: seconds in which an unavailable service is asked again. `clock`: seconds."""
        self._patience, self._clock = patience, clock
        self._known: dict[str, tuple[float, str]] = {}

    def resolved(self, settings: M) -> M:
        """The same settings, each reference replaced by its secret. Raises ConfigError."""
        resolved: M = self._resolve(settings, "")
        return resolved

    def fetch(self, reference: str) -> str:
        """The text of a secret, without line ends behind it. Raises ConfigError: which, why, and what to do."""
        form = _FORM.fullmatch(reference)
        if form is None:
            raise ConfigError("no such address of a secret; give sm://PROJECT/NAME or sm://PROJECT/NAME/VERSION")
        read_at, text = self._known.get(reference, (0.0, ""))
        if reference not in self._known or self._clock() - read_at >= KEEP_SECONDS:
            name = f"projects/{form['project']}/secrets/{form['name']}/versions/{form['version'] or 'latest'}"
            text = _text(self._ask(name, reference), reference)
            self._known[reference] = self._clock(), text
        return text

    def _resolve(self, value: Any, where: str) -> Any:
        if isinstance(value, SecretStr) and value.get_secret_value().startswith(SCHEME):
            try:
                return SecretStr(self.fetch(value.get_secret_value()))
            except ConfigError as error:
                raise ConfigError(f"{where}: {error}") from error
        if not isinstance(value, (BaseModel, dict)):
            return value
        parts = dict(value)
        new = {key: self._resolve(part, f"{where}.{key}".lstrip(".")) for key, part in parts.items()}
        changed = {key: part for key, part in new.items() if part is not parts[key]}
        if not changed:
            return value
        return value.model_copy(update=changed) if isinstance(value, BaseModel) else {**value, **changed}

    def _ask(self, name: str, reference: str) -> AccessSecretVersionResponse:
        try:
            from google.api_core import exceptions as google  # noqa: PLC0415 gRPC, for those who name a secret
            from google.api_core.retry import Retry, if_exception_type  # noqa: PLC0415
            from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415
            from google.cloud import secretmanager_v1  # noqa: F401, PLC0415
        except ImportError as error:
            raise ConfigError(f"{reference}: {MISSING}") from error
        again = Retry(if_exception_type(google.ServiceUnavailable), initial=0.2, maximum=2, timeout=self._patience)
        try:
            with _client() as client:
                return client.access_secret_version(name=name, retry=again, timeout=self._patience)
        except (google.GoogleAPICallError, google.RetryError, GoogleAuthError, OSError) as error:
            raise ConfigError(f"{reference}: {_advice(error)}") from error


def secrets_in(value: BaseModel | dict[str, Any], where: str = "") -> Iterator[tuple[str, str]]:
    """Each secret setting: its full name, and what it is."""
    for key, part in dict(value).items():
        name = f"{where}.{key}".lstrip(".")
        if isinstance(part, (BaseModel, dict)):
            yield from secrets_in(part, name)
        elif isinstance(part, SecretStr):
            yield name, part.get_secret_value()


def references(settings: BaseModel) -> dict[str, str]:
    """Those that name a secret instead of being one."""
    return {name: text for name, text in secrets_in(settings) if text.startswith(SCHEME)}


def _client() -> SecretManagerServiceClient:
    """Google's own, or the one at ENDPOINT. Raises GoogleAuthError."""
    import grpc  # noqa: PLC0415
    from google.cloud.secretmanager_v1 import SecretManagerServiceClient  # noqa: PLC0415
    from google.cloud.secretmanager_v1.services.secret_manager_service.transports import (  # noqa: PLC0415
        SecretManagerServiceGrpcTransport,
    )

    logging.getLogger(_CLIENT_LOGGER).setLevel(logging.WARNING)  # at debug it writes what it was answered
    endpoint = os.environ.get(ENDPOINT)
    if not endpoint:
        return SecretManagerServiceClient()
    transport = SecretManagerServiceGrpcTransport(channel=grpc.insecure_channel(endpoint))
    return SecretManagerServiceClient(transport=transport)


def _text(answer: AccessSecretVersionResponse, reference: str) -> str:
    from google_crc32c import value as crc32c  # noqa: PLC0415

    data = answer.payload.data
    if "data_crc32c" in answer.payload and crc32c(data) != answer.payload.data_crc32c:
        raise ConfigError(f"{reference}: arrived damaged (its checksum is another); try again")
    try:
        return data.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigError(f"{reference}: is no text; add a version that is") from None


def _advice(error: Exception) -> str:
    from google.api_core import exceptions as google  # noqa: PLC0415
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415

    if isinstance(error, google.NotFound):
        return "no such secret or version; `gcloud secrets versions list` shows those there are"
    if isinstance(error, google.Forbidden):
        return "may not be read; grant roles/secretmanager.secretAccessor on this secret to the account that runs here"
    if isinstance(error, google.FailedPrecondition):
        return "this version is disabled or destroyed; enable it, or name another"
    if isinstance(error, (google.Unauthenticated, GoogleAuthError)):
        return f"nobody is logged in to Google Cloud; {LOG_IN}"
    cause = error.cause if isinstance(error, google.RetryError) else error
    why = type(cause or error).__name__
    return f"Secret Manager can't be asked ({why}); check the network, and that secretmanager.googleapis.com is enabled"
