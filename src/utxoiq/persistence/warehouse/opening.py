"""A warehouse by its settings: Google's own, or an emulator at an address of ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from utxoiq.errors import ConfigError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.cloud.bigquery_storage_v1 import BigQueryWriteClient

    from utxoiq.persistence.warehouse.bigquery import BigQueryWarehouse
    from utxoiq.persistence.warehouse.streams import WriteStreams
    from utxoiq.settings import WarehouseSettings

RECONNECT = ("grpc.max_reconnect_backoff_ms", 10_000)
"""After an outage of hours gRPC would else look only every two minutes whether it is over."""
UNLIMITED = (("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1))
"""As the client library sets them for a channel of its own."""
MISSING = "BigQuery needs more packages: pip install 'utxoiq[gcp]'"


@dataclass(frozen=True, slots=True)
class OpenWarehouse:
    """A warehouse, and the way to append to it."""

    tables: BigQueryWarehouse
    streams: WriteStreams

    def close(self) -> None:
        """Let go of both connections."""
        self.streams.close()
        self.tables.client.close()


def open_warehouse(settings: WarehouseSettings) -> OpenWarehouse:
    """Connects on first use. Raises ConfigError where no project is set, packages lack or nobody is logged in."""
    if settings.project is None:
        raise ConfigError("no warehouse: give warehouse.project in utxoiq.toml, or UTXOIQ_WAREHOUSE__PROJECT")
    try:
        from google.cloud import bigquery  # noqa: PLC0415 half a second to import, for those who have a warehouse

        from utxoiq.persistence.warehouse.bigquery import BigQueryWarehouse  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(MISSING) from error
    credentials = _credentials(settings)
    options = {"api_endpoint": settings.endpoint} if settings.endpoint else None
    client = bigquery.Client(settings.project, credentials, location=settings.location, client_options=options)
    tables = BigQueryWarehouse(
        client, prefix=settings.prefix, most_bytes_billed=settings.most_bytes_billed, timeout=settings.timeout_seconds
    )
    return OpenWarehouse(tables, streams_of(tables, settings.storage_endpoint))


def streams_of(warehouse: BigQueryWarehouse, storage_endpoint: str | None = None) -> WriteStreams:
    """The Storage Write API with the credentials of its client; without any at an address of an emulator."""
    from utxoiq.persistence.warehouse.streams import WriteStreams  # noqa: PLC0415

    client = _write_client(warehouse.client._credentials, storage_endpoint)
    return WriteStreams(client, warehouse.client.project, warehouse.prefix, warehouse.timeout)


def _write_client(credentials: Credentials, storage_endpoint: str | None) -> BigQueryWriteClient:
    import grpc  # noqa: PLC0415
    from google.cloud.bigquery_storage_v1 import BigQueryWriteClient  # noqa: PLC0415
    from google.cloud.bigquery_storage_v1.services.big_query_write.transports import (  # noqa: PLC0415
        BigQueryWriteGrpcTransport,
    )

    if storage_endpoint is None:
        channel = BigQueryWriteGrpcTransport.create_channel(credentials=credentials, options=[*UNLIMITED, RECONNECT])
    else:
        channel = grpc.insecure_channel(storage_endpoint, [RECONNECT])
    return BigQueryWriteClient(transport=BigQueryWriteGrpcTransport(channel=channel))


def _credentials(settings: WarehouseSettings) -> Credentials:
    """Application Default Credentials; none at all at an emulator's plain address. Raises ConfigError."""
    import google.auth  # noqa: PLC0415
    from google.auth.credentials import AnonymousCredentials  # noqa: PLC0415
    from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415

    if settings.endpoint and settings.endpoint.startswith("http://"):
        return AnonymousCredentials()
    try:
        credentials, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/bigquery"])
    except GoogleAuthError as error:
        raise ConfigError(
            f"nobody is logged in to Google Cloud ({error}): run `gcloud auth application-default login`, or name a "
            "key file in GOOGLE_APPLICATION_CREDENTIALS"
        ) from error
    found: Credentials = credentials
    return found
