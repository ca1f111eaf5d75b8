"""Settings that name a secret of Google's Secret Manager, asked with its real client."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.google_servers import Refusal, Secrets
from helpers.process import python, said
from helpers.settings import Place, in_folder
from utxoiq.config import ConfigurationModule, Sources
from utxoiq.errors import ConfigError
from utxoiq.secrets import ENDPOINT, KEEP_SECONDS, SecretManager, references

SECRET = "hunter2"
"""Never to be seen again."""


class Clock:
    """Seconds that pass when told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def here(tmp_path: Path) -> Iterator[Place]:
    with in_folder(tmp_path) as place:
        yield place


@pytest.fixture
def google(here: Place) -> Iterator[Secrets]:
    """A Secret Manager, named in the environment."""
    secrets = Secrets()
    with secrets.serve() as address:
        here.env(UTXOIQ_SECRET_MANAGER_ENDPOINT=address)
        yield secrets


@pytest.fixture
def clock() -> Clock:
    return Clock()


def sources(clock: Clock | None = None, patience: float = 60.0) -> Sources:
    """Of this folder and environment."""
    return Sources(secret_manager=SecretManager(patience, clock or Clock()))


def password(read: Sources) -> str:
    return read.load()[0].node.password.get_secret_value()


def refused(caplog: pytest.LogCaptureFixture, *parts: str, patience: float = 60.0) -> None:
    """The ConfigError is one line that names the setting and has these parts; neither it nor the log has the secret."""
    with pytest.raises(ConfigError) as raised:
        sources(patience=patience).load()
    told = str(raised.value)
    assert told.startswith("node.password: ")
    assert "\n" not in told
    assert SECRET not in told + caplog.text
    for part in parts:
        assert part in told


@pytest.mark.parametrize("data", [b"hunter2", b"hunter2\n", b"hunter2\r\n"])
def test_a_secret_takes_the_place_of_its_name(here: Place, google: Secrets, data: bytes) -> None:
    """Without the line end that `echo` leaves behind; the newest version where none is given."""
    here.toml(f'[node]\nuser = "u"\npassword = "{google.put("node-password", data)}"\n')
    settings, warnings = sources().load()
    assert settings.node.password.get_secret_value() == SECRET
    assert (settings.node.user, warnings) == ("u", [])
    assert google.asked == ["projects/my-project/secrets/node-password/versions/latest"]


@pytest.mark.parametrize("version", ["7", "blue"])
def test_a_version_by_number_or_alias(here: Place, google: Secrets, version: str) -> None:
    google.put("node-password", b"newer")
    here.env(UTXOIQ_NODE__PASSWORD=google.put("node-password", SECRET.encode(), version))
    assert password(sources()) == SECRET
    assert google.asked == [f"projects/my-project/secrets/node-password/versions/{version}"]


def test_wherever_the_name_stands(here: Place, google: Secrets) -> None:
    """In .env, in a secrets file, on the command line, as anywhere a setting may stand."""
    name = google.put("p", SECRET.encode())
    here.dotenv(f"UTXOIQ_NODE__PASSWORD={name}\n")
    assert password(here.sources()) == SECRET
    (here.folder / ".env").unlink()
    here.secret("utxoiq_node__password", name)
    assert password(here.sources()) == SECRET
    assert password(here.sources(node={"password": name})) == SECRET


def test_it_is_shown_to_nobody(here: Place, google: Secrets, caplog: pytest.LogCaptureFixture) -> None:
    """Neither by `config show` nor in the log, where Google's client would write it at debug."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("google").addHandler(caplog.handler)
    try:
        here.env(UTXOIQ_NODE__PASSWORD=google.put("p", SECRET.encode()))
        settings, _ = sources().load()
    finally:
        logging.getLogger("google").removeHandler(caplog.handler)
    assert settings.shown()["node"]["password"] == "**********"
    logged = "".join(str(vars(record)) for record in caplog.records)
    assert SECRET not in json.dumps(settings.shown()) + repr(settings) + logged
    assert "aHVudGVyMg" not in logged, "Base64 of it"


def test_other_passwords_ask_nobody(here: Place, google: Secrets) -> None:
    here.env(UTXOIQ_NODE__PASSWORD="sm:no-reference")
    assert password(sources()) == "sm:no-reference"
    assert google.asked == []


# What goes wrong


@pytest.mark.parametrize(
    "reference", ["sm://", "sm://my-project", "sm://my-project/", "sm://a/b/c/d", "sm://a/hunter 2"]
)
def test_no_reference(here: Place, google: Secrets, caplog: pytest.LogCaptureFixture, reference: str) -> None:
    """It may be a password all the same: it is not repeated."""
    here.env(UTXOIQ_NODE__PASSWORD=reference)
    refused(caplog, "give sm://PROJECT/NAME or sm://PROJECT/NAME/VERSION")
    assert google.asked == []


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (Refusal.NOT_FOUND, "no such secret or version"),
        (Refusal.PERMISSION_DENIED, "grant roles/secretmanager.secretAccessor"),
        (Refusal.UNAUTHENTICATED, "gcloud auth application-default login"),
        (Refusal.FAILED_PRECONDITION, "disabled or destroyed"),
        (Refusal.INTERNAL, "can't be asked (InternalServerError)"),
    ],
)
def test_what_google_refuses(
    here: Place, google: Secrets, caplog: pytest.LogCaptureFixture, code: Refusal, advice: str
) -> None:
    reference = google.put("p", code)
    here.env(UTXOIQ_NODE__PASSWORD=reference)
    refused(caplog, reference, advice)


def test_an_unavailable_service(here: Place, google: Secrets, caplog: pytest.LogCaptureFixture) -> None:
    """Once patience is at its end."""
    reference = google.put("p", Refusal.UNAVAILABLE)
    here.env(UTXOIQ_NODE__PASSWORD=reference)
    refused(caplog, reference, "Secret Manager can't be asked (", "check the network", patience=0.5)


def test_an_unavailable_service_is_asked_again(here: Place, google: Secrets) -> None:
    """A machine that starts may have no network yet."""
    here.env(UTXOIQ_NODE__PASSWORD=google.put("p", Refusal.UNAVAILABLE))

    class Recovering(dict[str, bytes | Refusal]):
        def get(self, name: str, _: object = None) -> bytes | Refusal:  # type: ignore[override]
            return SECRET.encode() if len(google.asked) > 2 else Refusal.UNAVAILABLE

    google.versions = Recovering()
    assert password(sources()) == SECRET
    assert len(google.asked) == 3


def test_nobody_listens(here: Place, caplog: pytest.LogCaptureFixture) -> None:
    with Secrets().serve() as address:
        pass
    here.env(UTXOIQ_SECRET_MANAGER_ENDPOINT=address, UTXOIQ_NODE__PASSWORD="sm://my-project/p")
    refused(caplog, "sm://my-project/p", "Secret Manager can't be asked (", "check the network", patience=0.5)


def test_nobody_is_logged_in(here: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Without an emulator, Google's own client with the application default credentials."""
    here.env(UTXOIQ_NODE__PASSWORD="sm://my-project/p", GOOGLE_APPLICATION_CREDENTIALS="/no/such/file")
    assert ENDPOINT == "UTXOIQ_SECRET_MANAGER_ENDPOINT"
    refused(caplog, "nobody is logged in to Google Cloud", "GOOGLE_APPLICATION_CREDENTIALS")


def test_damaged_on_the_way(here: Place, google: Secrets, caplog: pytest.LogCaptureFixture) -> None:
    here.env(UTXOIQ_NODE__PASSWORD=google.put("p", SECRET.encode()))
    google.damaged = True
    refused(caplog, "checksum")


def test_no_text(here: Place, google: Secrets, caplog: pytest.LogCaptureFixture) -> None:
    here.env(UTXOIQ_NODE__PASSWORD=google.put("p", b"hunter2\xff"))
    refused(caplog, "is no text")


def test_a_password_that_is_a_number_is_not_repeated(here: Place) -> None:
    """TOML without the quotes, whether it is taken or refused."""
    here.toml("[node]\npassword = 918273645\n")
    try:
        told = json.dumps(sources().load()[0].shown())
    except ConfigError as error:
        told = str(error)
    assert "password" in told
    assert "918273645" not in told


# While running


def test_a_reload_asks_again_after_five_minutes(here: Place, google: Secrets, clock: Clock) -> None:
    """Not at every change of a file; a new version is then a change that is not shown."""
    here.toml(f'[node]\npassword = "{google.put("p", b"first")}"\n')
    module = ConfigurationModule(sources(clock))
    here.toml(here.file.read_text("utf-8") + 'user = "u"\n')
    google.put("p", SECRET.encode())
    clock.now += KEEP_SECONDS - 1
    change = module.reload()
    assert change is not None
    assert [one["name"] for one in change.changes] == ["node.user"]
    assert (len(google.asked), module.settings.node.password.get_secret_value()) == (1, "first")
    clock.now += 1
    change = module.reload()
    assert change is not None
    assert change.changes == [{"name": "node.password", "old": "**********", "new": "**********"}]
    assert (len(google.asked), module.settings.node.password.get_secret_value()) == (2, SECRET)
    assert module.reload() is None


def test_a_reload_without_its_secret_keeps_the_old_settings(here: Place, google: Secrets, clock: Clock) -> None:
    """Told once; what was meanwhile changed holds when the secret is back."""
    here.toml(f'[node]\npassword = "{google.put("p", SECRET.encode())}"\n')
    module = ConfigurationModule(sources(clock))
    google.put("p", Refusal.PERMISSION_DENIED)
    here.toml(here.file.read_text("utf-8") + 'user = "u"\n')
    clock.now += KEEP_SECONDS
    change = module.reload()
    assert change is not None
    assert change.refused is not None
    assert "secretAccessor" in change.refused
    assert module.reload() is None
    assert (module.settings.node.user, module.settings.node.password.get_secret_value()) == ("", SECRET)
    google.put("p", SECRET.encode())
    assert module.reload() is not None
    assert module.settings.node.user == "u"


def test_one_load_asks_once(here: Place, google: Secrets) -> None:
    reader = SecretManager()
    name = google.put("p", SECRET.encode())
    assert [reader.fetch(name) for _ in range(3)] == [SECRET] * 3
    assert len(google.asked) == 1


def test_references_can_be_left_in_place(here: Place, google: Secrets) -> None:
    """For whoever wants to look at one after another."""
    name = google.put("p", SECRET.encode())
    here.env(UTXOIQ_NODE__PASSWORD=name)
    settings, _ = sources().load(secrets_too=False)
    assert references(settings) == {"node.password": name}
    assert google.asked == []


def test_googles_library_is_loaded_for_references_only(here: Place) -> None:
    process = python("-c", "from utxoiq.config import Sources; Sources().load(); import sys; print(*sys.modules)")
    assert process.returncode == 0, said(process)
    assert not [name for name in process.stdout.split() if name.startswith(("google.", "grpc"))]
