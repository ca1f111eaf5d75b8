"""`utxoiq doctor --cloud`: every check over real connections, to an emulator and to servers that refuse."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.cloud.bigquery_storage_v1.types import CreateWriteStreamRequest, WriteStream

from cli.command import utxoiq
from helpers.emulator import Emulator
from helpers.google_servers import Monitoring, Refusal, Secrets, refuse, served, unary
from helpers.settings import Place, in_folder
from observability.collector import Collector
from utxoiq.doctor import Check
from utxoiq.doctor_cloud import examine_cloud
from utxoiq.persistence.warehouse.bigquery import BigQueryWarehouse

SECRET = "hunter2"
NOBODY = "/no/such/file"
"""A file of credentials that is not there."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path) -> Iterator[Place]:
    """Nobody is logged in, unless a test says who."""
    with in_folder(tmp_path) as place:
        place.env(GOOGLE_APPLICATION_CREDENTIALS=NOBODY)
        yield place


def checks(here: Place, **sections: dict[str, Any]) -> dict[str, Check]:
    """What is found with these settings, by name; every failure and warning says what to do."""
    settings, _ = here.sources(**sections).load(secrets_too=False)
    found = list(examine_cloud(settings))
    assert len({check.name for check in found}) == len(found)
    assert all(bool(check.advice) == (check.state != "ok") for check in found), found
    assert all("\n" not in check.found for check in found)
    return {check.name: check for check in found}


def stated(found: dict[str, Check]) -> dict[str, str]:
    return {name: check.state for name, check in found.items()}


@contextmanager
def answering(answer: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of an HTTP server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Answer(BaseHTTPRequestHandler):
    """Refuses everything as Google does."""

    status = 403

    def do_GET(self) -> None:
        self.say(self.status, {"error": {"code": self.status, "message": "refused by a test"}})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.say(self.status, {"error": {"code": self.status, "message": "refused by a test"}})

    def say(self, status: int, content: dict[str, Any]) -> None:
        text = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


def closed_port() -> str:
    """HOST:PORT that nobody listens at."""
    with answering(Answer) as address:
        return address.removeprefix("http://")


def places(emulator: Emulator, project: str) -> dict[str, Any]:
    """Settings of the warehouse."""
    return {"project": project, "endpoint": emulator.url, "storage_endpoint": emulator.storage}


# Without anything


def test_settings_that_need_no_cloud(here: Place) -> None:
    """Nothing fails: there is nothing to reach."""
    found = checks(here)
    assert stated(found) == {"login": "ok", "warehouse": "warning", "metrics": "ok"}
    assert "need nobody" in found["login"].found
    assert stated(checks(here, metrics={"enabled": False}))["metrics"] == "warning"


# Who is logged in


class Tokens(Answer):
    """Google's OAuth 2, for whoever asks."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.say(200, {"access_token": "a token", "expires_in": 3600, "token_type": "Bearer"})


def key_file(here: Place, token_uri: str) -> str:
    """Of a service account that nobody has."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    account = {
        "type": "service_account", "client_email": "utxoiq@my-project.iam.test", "project_id": "my-project",
        "private_key": pem, "private_key_id": "1", "token_uri": token_uri,
    }  # fmt: skip
    path = here.folder / "key.json"
    path.write_text(json.dumps(account), "utf-8")
    return str(path)


def test_who_is_logged_in(here: Place) -> None:
    """The account and the project, once they were good for a token."""
    with answering(Tokens) as tokens:
        here.env(GOOGLE_APPLICATION_CREDENTIALS=key_file(here, tokens))
        login = checks(here)["login"]
    assert (login.state, login.found) == ("ok", "utxoiq@my-project.iam.test, project my-project")


@pytest.mark.parametrize("metrics", [{"project_id": "my-project"}, {"project_id": "my-project", "direct": True}])
def test_nobody_is_logged_in(here: Place, metrics: dict[str, Any]) -> None:
    """Told wherever it matters, with the command."""
    found = checks(here, warehouse={"project": "my-project"}, metrics=metrics)
    assert stated(found) == dict.fromkeys(("login", "warehouse", "metrics", "traces"), "failed")
    assert all("gcloud auth application-default login" in check.advice for check in found.values())


@pytest.mark.parametrize("refusal", [400, 401])
def test_a_key_that_is_withdrawn(here: Place, refusal: int) -> None:
    class Withdrawn(Answer):
        status = refusal

    with answering(Withdrawn) as tokens:
        here.env(GOOGLE_APPLICATION_CREDENTIALS=key_file(here, tokens))
        found = checks(here, metrics={"project_id": "my-project"})
    assert stated(found) == {"login": "failed", "warehouse": "warning", "metrics": "failed", "traces": "failed"}
    assert "gcloud auth" in found["login"].advice


# Secrets


def test_secrets(here: Place) -> None:
    """Those that can be read, and why others can't; never what they are."""
    secrets = Secrets()
    with secrets.serve() as address:
        here.env(UTXOIQ_SECRET_MANAGER_ENDPOINT=address)
        name = secrets.put("p", SECRET.encode())
        found = checks(here, node={"password": name})
        assert found["login"].state == "ok", "an emulator needs nobody"
        assert (found["secret"].state, found["secret"].found) == ("ok", f"node.password: {name} can be read")
        secrets.put("p", Refusal.PERMISSION_DENIED)
        refused = checks(here, node={"password": name})["secret"]
    assert refused.state == "failed"
    assert refused.advice.startswith("grant roles/secretmanager.secretAccessor")
    assert checks(here, node={"password": "sm://p"})["secret"].found == "node.password: no such address of a secret"


# The warehouse


@pytest.mark.warehouse
def test_a_warehouse_in_order(here: Place, emulator: Emulator, project: str, warehouse: BigQueryWarehouse) -> None:
    """Every check passes, and no row was appended."""
    found = checks(here, warehouse=places(emulator, project))
    names = ("login", "warehouse", "schema", "location", "append", "query", "metrics")
    assert stated(found) == dict.fromkeys(names, "ok")
    assert project in found["warehouse"].found
    rows = warehouse.client.query(f"SELECT count(*) AS n FROM `{project}.intel.signals`").result()
    assert [row["n"] for row in rows] == [0]


@pytest.mark.warehouse
def test_a_warehouse_without_tables(here: Place, emulator: Emulator, project: str) -> None:
    """Nothing is asked of tables that are not there; one command makes them."""
    found = checks(here, warehouse=places(emulator, project))
    assert stated(found) == {"login": "ok", "warehouse": "ok", "schema": "failed", "metrics": "ok"}
    assert found["schema"].advice == "utxoiq store migrate"
    assert found["schema"].found.startswith("lacks ")


@pytest.mark.warehouse
def test_another_location(here: Place, emulator: Emulator, project: str, warehouse: BigQueryWarehouse) -> None:
    there = warehouse.client.get_dataset(f"{project}.intel").location
    found = checks(here, warehouse={**places(emulator, project), "location": there.lower()})
    assert found["location"].state == "ok"
    found = checks(here, warehouse={**places(emulator, project), "location": "asia-east1"})
    assert (found["location"].state, found["location"].found) == ("warning", f"{there}, not asia-east1")


@pytest.mark.warehouse
def test_may_not_append(here: Place, emulator: Emulator, project: str, warehouse: BigQueryWarehouse) -> None:
    """The role that lacks; the other checks go on."""
    handler = unary(
        lambda _, context: refuse(context, Refusal.PERMISSION_DENIED),
        CreateWriteStreamRequest.deserialize, WriteStream.serialize,
    )  # fmt: skip
    with served("google.cloud.bigquery.storage.v1.BigQueryWrite", CreateWriteStream=handler) as address:
        found = checks(here, warehouse={**places(emulator, project), "storage_endpoint": address})
    assert found["append"].state == "failed"
    assert found["append"].advice == "grant roles/bigquery.dataEditor on the datasets intel and btc"
    assert found["query"].state == "ok"


@pytest.mark.warehouse
def test_may_not_query(here: Place, emulator: Emulator, project: str, warehouse: BigQueryWarehouse) -> None:
    """Tables can be looked at, and no job be made."""

    class NoJobs(Answer):
        def do_GET(self) -> None:
            with urllib.request.urlopen(emulator.url + self.path, timeout=30) as answer:
                self.say(200, json.load(answer))

    with answering(NoJobs) as address:
        found = checks(here, warehouse={**places(emulator, project), "endpoint": address})
    assert (found["append"].state, found["query"].state) == ("ok", "failed")
    assert found["query"].advice == "grant roles/bigquery.jobUser on the project"


@pytest.mark.parametrize(
    ("refusal", "advice"),
    [(403, "roles/bigquery.dataEditor"), (401, "gcloud auth"), (503, "check the network"), (400, "warehouse.project")],
)
def test_a_warehouse_that_refuses(here: Place, refusal: int, advice: str) -> None:
    class Refusing(Answer):
        status = refusal

    with answering(Refusing) as address:
        found = checks(here, warehouse={"project": "p", "endpoint": address, "storage_endpoint": "127.0.0.1:1"})
    assert found["warehouse"].state == "failed"
    assert advice in found["warehouse"].advice
    assert found["warehouse"].found.startswith("BigQuery ")


def test_a_warehouse_that_is_down(here: Place) -> None:
    address = closed_port()
    found = checks(here, warehouse={"project": "p", "endpoint": f"http://{address}", "storage_endpoint": address})
    assert stated(found) == {"login": "ok", "warehouse": "failed", "metrics": "ok"}
    assert "network" in found["warehouse"].advice


@pytest.mark.warehouse
def test_only_the_storage_api_is_down(
    here: Place, emulator: Emulator, project: str, warehouse: BigQueryWarehouse
) -> None:
    found = checks(here, warehouse={**places(emulator, project), "storage_endpoint": closed_port()})
    assert (found["append"].state, found["query"].state) == ("failed", "ok")
    assert "network" in found["append"].advice


# Metrics and traces


def test_a_collector(here: Place) -> None:
    """It is given nothing, and says whether it would take something."""
    with Collector() as collector:
        found = checks(here, metrics={"otlp_endpoint": collector.url})
        assert stated(found) == {"login": "ok", "warehouse": "warning", "metrics": "ok", "traces": "ok"}
        assert [(path, body) for path, _, body in collector.requests] == [("/v1/metrics", b""), ("/v1/traces", b"")]
        collector.status = 404
        found = checks(here, metrics={"otlp_endpoint": collector.url})
    assert found["metrics"].state == found["traces"].state == "failed"
    assert f"{collector.url} answers 404" in found["traces"].found


def test_a_collector_that_wants_a_header(here: Place) -> None:
    """It is sent as exports send it."""
    here.env(OTEL_EXPORTER_OTLP_HEADERS="x-scope=me")
    with Collector() as collector:
        checks(here, metrics={"otlp_endpoint": collector.url})
    assert collector.headers("/v1/metrics")["x-scope"] == "me"


def test_a_collector_that_is_down(here: Place) -> None:
    """Named without the password in its address."""
    found = checks(here, metrics={"otlp_endpoint": f"http://me:{SECRET}@{closed_port()}"})
    for name in ("metrics", "traces"):
        assert found[name].state == "failed"
        assert "start the collector" in found[name].advice
        assert SECRET not in found[name].found


@pytest.mark.parametrize(
    ("refusal", "state", "advice"),
    [
        (None, "ok", ""),
        (Refusal.PERMISSION_DENIED, "failed", "grant roles/monitoring.metricWriter on the project"),
        (Refusal.NOT_FOUND, "failed", "check metrics.project_id and the network"),
        (Refusal.UNAVAILABLE, "failed", "check metrics.project_id and the network"),
    ],
)
def test_cloud_monitoring_directly(
    here: Place, refusal: Refusal | None, state: Literal["ok", "failed"], advice: str
) -> None:
    """One point is written, for nothing less proves that it may be; traces are looked at as ever."""
    monitoring = Monitoring()
    monitoring.refusal = refusal
    with monitoring.serve() as address, Collector() as collector:
        here.env(UTXOIQ_MONITORING_ENDPOINT=address)
        found = checks(here, metrics={"project_id": "p", "direct": True, "otlp_endpoint": collector.url})
        assert [path for path, _, _ in collector.requests] == ["/v1/traces"]
    assert (found["metrics"].state, found["metrics"].advice) == (state, advice)
    assert len(monitoring.series) == 1


# The command


def test_the_command(here: Place) -> None:
    """One object a check; exit code 1 where one failed."""
    with Collector() as collector:
        variables = {"GOOGLE_APPLICATION_CREDENTIALS": NOBODY, "UTXOIQ_METRICS__OTLP_ENDPOINT": collector.url}
        done = utxoiq("doctor", "--cloud", "--json", folder=here.folder, **variables)
        assert done.code == 0, done
        assert [row["name"] for row in done.rows] == ["login", "warehouse", "metrics", "traces"]
        collector.status = 403
        done = utxoiq("doctor", "--cloud", folder=here.folder, **variables)
    assert done.code == 1, done
    assert "see the log of the collector" in done.out


def test_a_secret_that_keeps_other_commands_from_starting(here: Place) -> None:
    """They say why, and this one says it beside all else."""
    secrets = Secrets()
    name = secrets.put("p", Refusal.PERMISSION_DENIED)
    with secrets.serve() as address:
        variables = {
            "GOOGLE_APPLICATION_CREDENTIALS": NOBODY, "UTXOIQ_SECRET_MANAGER_ENDPOINT": address,
            "UTXOIQ_NODE__PASSWORD": name,
        }  # fmt: skip
        done = utxoiq("config", "check", folder=here.folder, **variables)
        assert done.code == 2, done
        assert done.err.startswith(f"utxoiq: node.password: {name}: may not be read; grant")
        done = utxoiq("doctor", "--cloud", "--json", folder=here.folder, **variables)
    assert done.code == 1, done
    assert {row["name"]: row["state"] for row in done.rows}["secret"] == "failed"
