"""Settings: where each comes from, what is refused and how that is said, and what is never shown."""

from __future__ import annotations

import json
import logging
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from helpers.settings import Place, in_folder, installed_foreign, settings_of
from utxoiq.config import DEFAULT_FILE, ConfigurationModule, Settings, Sources, differences
from utxoiq.errors import ConfigError
from utxoiq.opening import source_of
from utxoiq.processors.discovery import discover
from utxoiq.settings import Fields
from utxoiq.template import settings_template

SECRET = "hunter2"
"""Never to be seen again."""
EXAMPLES: dict[str, tuple[str, Any]] = {
    "db": ("sqlite:///other.db", "sqlite:///other.db"),
    "network": ("signet", "signet"),
    "labels": ("labels.jsonl", "labels.jsonl"),
    "node.url": ("http://127.0.0.1:18443", "http://127.0.0.1:18443"),
    "node.rest": ("false", False),
    "node.poll_seconds": ("0.5", 0.5),
    "node.cookie_file": ("/run/cookie", "/run/cookie"),
    "esplora.most_requests_a_block": ("0", 0),
    "live.from_height": ("840000", 840_000),
    "mempool.interval_seconds": ("5", 5.0),
    "processors.miner.enabled": ("false", False),
    "processors.miner.confidence_threshold": ("0.9", 0.9),
    "processors.miner.time_window": ("50", 50),
    "processors.miner.share_p": ("1e-4", 1e-4),
    "http.listen": ("off", "off"),
    "metrics.enabled": ("false", False),
    "log.level": ("DEBUG", "DEBUG"),
    "log.as_json": ("true", True),
}
"""Settings of every type: as text, and as they are."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path) -> Iterator[Place]:
    with in_folder(tmp_path) as place:
        yield place


def value(shown: dict[str, Any], name: str) -> Any:
    """A setting by its full name."""
    for part in name.split("."):
        shown = shown[part]
    return shown


def refused(sources: Sources, *parts: str) -> str:
    """What the ConfigError says: one line with these parts, and not the password."""
    with pytest.raises(ConfigError) as raised:
        sources.load()
    told = str(raised.value)
    assert "\n" not in told
    assert "\r" not in told
    assert SECRET not in told
    for part in parts:
        assert part in told
    return told


# Where a setting comes from


def test_defaults(here: Place) -> None:
    """Without any source: a store here, no node, no API of others, only loopback listens."""
    settings, warnings = here.sources().load()
    assert warnings == []
    assert settings.shown() == Fields().model_dump(mode="json")
    assert settings.db == "sqlite:///utxoiq.db"
    assert (settings.node.url, settings.esplora.url) == (None, None)
    assert settings.http.listen.startswith("127.0.0.1:")
    with pytest.raises(ConfigError, match=r"no node: give --node http://127\.0\.0\.1:8332"):
        source_of(settings)


def test_precedence(here: Place) -> None:
    """Command line, environment, .env, secrets files, TOML, default: without the first the next one holds."""
    here.toml('[node]\nuser = "toml"\n')
    here.secret("utxoiq_node__user", "secrets")
    here.dotenv("UTXOIQ_NODE__USER=dotenv\n")
    here.env(UTXOIQ_NODE__USER="environment")

    def user(**overrides: Any) -> str:
        return here.sources(**overrides).load()[0].node.user

    assert user(node={"user": "command line"}) == "command line"
    assert user() == "environment"
    here.monkeypatch.delenv("UTXOIQ_NODE__USER")
    assert user() == "dotenv"
    (here.folder / ".env").unlink()
    assert user() == "secrets"
    (here.secrets / "utxoiq_node__user").unlink()
    assert user() == "toml"
    here.file.unlink()
    assert user() == ""


def test_one_section_from_five_places(here: Place) -> None:
    """A source that gives one setting of a section leaves the others of that section to the sources below."""
    here.toml('[node]\nuser = "u"\nzmq = "off"\nrest = false\n[processors.miner]\nshare_p = 0.5\n')
    here.secret("utxoiq_node__password", SECRET)
    here.dotenv("UTXOIQ_NODE__POLL_SECONDS=7\nUTXOIQ_PROCESSORS__MINER__SHARE_CHANGE=0.25\n")
    here.env(UTXOIQ_NODE__TIMEOUT_SECONDS="9", UTXOIQ_PROCESSORS__MINER__ENABLED="false")
    settings, warnings = here.sources(node={"url": "http://127.0.0.1:1"}).load()
    node = settings.node
    assert warnings == []
    assert (node.user, node.zmq, node.rest) == ("u", "off", False)
    assert node.password == SecretStr(SECRET)
    assert (node.poll_seconds, node.timeout_seconds, node.url) == (7, 9, "http://127.0.0.1:1")
    assert settings.shown()["processors"]["miner"] == {
        "enabled": False, "confidence_threshold": 0.7, "time_window": None, "share_p": 0.5, "share_change": 0.25,
    }  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("how", ["toml", "secret", "dotenv", "env", "lower-case env"])
def test_every_type_from_every_source(here: Place, name: str, how: str) -> None:
    """Nested names: a table in TOML, two underscores elsewhere."""
    text, wanted = EXAMPLES[name]
    *tables, key = name.split(".")
    variable = "UTXOIQ_" + name.replace(".", "__").upper()
    if how == "toml":
        header = f"[{'.'.join(tables)}]\n" if tables else ""
        here.toml(f"{header}{key} = {json.dumps(wanted)}\n")
    elif how == "secret":
        here.secret(variable.lower(), text + "\n")
    elif how == "dotenv":
        here.dotenv(f"{variable}={text}\n")
    else:
        here.env(**{variable if how == "env" else variable.lower(): text})
    settings, warnings = here.sources().load()
    assert value(settings.shown(), name) == wanted
    assert warnings == []


def test_a_section_as_json(here: Place) -> None:
    """In the environment a whole section may be one JSON object."""
    here.env(UTXOIQ_NODE='{"url": "http://127.0.0.1:1", "rest": false}', UTXOIQ_NODE__USER="u")
    node = here.sources().load()[0].node
    assert (node.url, node.rest, node.user) == ("http://127.0.0.1:1", False, "u")


def test_the_file_is_found_here_or_named(here: Place) -> None:
    """`utxoiq.toml` in this folder, unless a file is named by --config or UTXOIQ_CONFIG, in that order."""
    assert DEFAULT_FILE.name == "utxoiq.toml"
    for name in ("utxoiq", "named", "given"):
        (here.folder / f"{name}.toml").write_text(f'db = "sqlite:///{name}.db"\n')
    assert Sources.of_environment().load()[0].db == "sqlite:///utxoiq.db"
    here.env(UTXOIQ_CONFIG="named.toml")
    assert Sources.of_environment().load()[0].db == "sqlite:///named.db"
    assert Sources.of_environment(Path("given.toml")).load()[0].db == "sqlite:///given.db"
    here.env(UTXOIQ_CONFIG="")
    assert Sources.of_environment().load() == Sources().load()


def test_secrets_of_the_environment(here: Place) -> None:
    """UTXOIQ_SECRETS_DIR, else systemd's CREDENTIALS_DIRECTORY; files of other programs lie there untouched."""
    here.secret("utxoiq_node__password", SECRET + "\r\n")
    here.secret("their_password", "x")
    (here.secrets / "utxoiq_folder").mkdir()
    (here.secrets / "..data").symlink_to(here.secrets, target_is_directory=True)
    other = here.folder / "other"
    other.mkdir()
    here.env(CREDENTIALS_DIRECTORY=str(here.secrets))
    assert Sources.of_environment().load()[0].node.password == SecretStr(SECRET)
    assert Sources.of_environment().load()[1] == []
    here.env(UTXOIQ_SECRETS_DIR=str(other))
    assert Sources.of_environment().load()[0].node.password == SecretStr("")


def test_a_secret_that_is_a_link(here: Place) -> None:
    """As a cluster mounts them: a link to a file in a folder that is replaced at once."""
    real = here.folder / "..2026"
    real.mkdir()
    (real / "utxoiq_node__password").write_text(SECRET)
    here.secrets.mkdir()
    (here.secrets / "utxoiq_node__password").symlink_to(real / "utxoiq_node__password")
    assert here.sources().load()[0].node.password == SecretStr(SECRET)


@pytest.mark.parametrize("password", ["a#b", "p=q", '"quoted"', "ü€", "back\\slash", "with space", "'", "$HOME", "%s"])
def test_a_password_is_taken_as_it_is(here: Place, password: str) -> None:
    """From a secrets file to the last character but the line end; and from the environment."""
    here.secret("utxoiq_node__password", password + "\n")
    assert here.sources().load()[0].node.password.get_secret_value() == password
    here.env(UTXOIQ_NODE__PASSWORD=password)
    assert here.sources().load()[0].node.password.get_secret_value() == password


@pytest.mark.parametrize(
    ("text", "user"),
    [
        ("UTXOIQ_NODE__USER=u", "u"),
        ("export UTXOIQ_NODE__USER=u\n", "u"),
        ("  UTXOIQ_NODE__USER = u  # why\n", "u"),
        ("UTXOIQ_NODE__USER='u # no comment'\n", "u # no comment"),
        ('UTXOIQ_NODE__USER="two\\nlines"\n', "two\nlines"),
        ("UTXOIQ_NODE__USER=a\nUTXOIQ_NODE__USER=u\n", "u"),
        ("UTXOIQ_NODE__USER=\n", ""),
        ("UTXOIQ_NODE__USER=a=b=c\n", "a=b=c"),
        ("UTXOIQ_NODE__USER=ü€\n", "ü€"),
        ("# only a comment\n\n\n", ""),
        ("UTXOIQ_NODE__USER=u\r\nUTXOIQ_NODE__REST=true\r\n", "u"),
        ("PATH=/nowhere\nutxoiq_node__user=u\n", "u"),
        ("", ""),
    ],
)
def test_a_dotenv_with_odd_content(here: Place, text: str, user: str) -> None:
    """Quotes, comments, `export`, Windows' line ends, names in lower case, variables of other programs."""
    here.dotenv(text)
    settings, warnings = here.sources().load()
    assert settings.node.user == user
    assert warnings == []


def test_a_dotenv_that_is_no_file(here: Place) -> None:
    """A folder of that name is none: passed over."""
    (here.folder / ".env").mkdir()
    assert here.sources().load()[0].shown() == Fields().model_dump(mode="json")


def test_garbage_in_a_dotenv_is_passed_over(here: Place) -> None:
    """The other lines hold."""
    here.dotenv(f"=\nUTXOIQ_DB=sqlite:///x.db\n!!! {SECRET}\n[node]\n")
    assert here.sources().load()[0].db == "sqlite:///x.db"


# What is shown, and what never


def everything_said(here: Place, caplog: pytest.LogCaptureFixture, settings: Settings) -> Iterator[str]:
    """All ways in which settings come to a person's eyes or into the store."""
    yield json.dumps(settings.shown())
    yield repr(settings)
    yield str(settings)
    yield json.dumps(differences(Fields().model_dump(mode="json"), settings.shown()))
    yield caplog.text


def test_a_password_is_never_shown(here: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever source it came from; only that there is one."""
    caplog.set_level(logging.DEBUG)
    here.toml(f'[node]\npassword = "{SECRET}"\n')
    settings = here.sources().load()[0]
    assert settings.node.password.get_secret_value() == SECRET
    assert settings.shown()["node"]["password"] == "**********"
    assert all(SECRET not in text for text in everything_said(here, caplog, settings))


@pytest.mark.parametrize("name", ["node.url", "node.proxy", "esplora.url", "esplora.proxy", "metrics.otlp_endpoint"])
def test_a_password_in_an_address_is_never_shown(here: Place, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """http://user:password@host is a usual way to write it; host and port can still be read."""
    table, key = name.split(".")
    here.toml(f'[{table}]\n{key} = "http://rpcuser:{SECRET}@node.example:8332"\n')
    settings = here.sources().load()[0]
    assert "node.example:8332" in value(settings.shown(), name)
    shown = [json.dumps(settings.shown()), json.dumps(differences(Fields().model_dump(mode="json"), settings.shown()))]
    assert all(SECRET not in text for text in shown)


@pytest.mark.parametrize(
    "url",
    [f"u:{SECRET}@127.0.0.1:8332", f"ftp://u:{SECRET}@127.0.0.1", f"http://u:{SECRET}@", f"http://u:{SECRET}@h:port"],
)
def test_a_bad_address_is_refused_without_its_password(here: Place, url: str) -> None:
    """The error says which address, but not who may log in there."""
    with pytest.raises(ConfigError) as raised:
        source_of(here.sources(node={"url": url}).load()[0])
    assert "\n" not in str(raised.value)
    assert SECRET not in str(raised.value)


def test_a_bad_proxy_is_refused_without_its_password(here: Place) -> None:
    with pytest.raises(ConfigError, match="proxy") as raised:
        here.sources(node={"url": "http://h:1", "proxy": f"gopher://u:{SECRET}@h:1"}).load()
    assert SECRET not in str(raised.value)


# Keys that mean nothing


def test_unknown_keys_of_the_file_are_told(here: Place) -> None:
    """Of the top and of tables, by full name; the others hold, and values are not repeated."""
    here.toml(f'db = "sqlite:///x.db"\nnod = 1\n[node]\nuser = "u"\npasswort = "{SECRET}"\n[log]\ncolour = {{a = 1}}\n')
    settings, warnings = here.sources().load()
    assert (settings.db, settings.node.user) == ("sqlite:///x.db", "u")
    assert [w.split()[0] for w in warnings] == ["nod", "node.passwort", "log.colour"]
    assert all("no setting" in w and SECRET not in w for w in warnings)


def test_unknown_variables_are_told(here: Place) -> None:
    """Of the environment and of .env; those of other programs, and ours that are no settings, are not."""
    here.env(
        UTXOIQ_NOD__URL=SECRET, Utxoiq_Db2="x", UTXOIQ_SHARED="x", UTXOIQ_BITCOIND="x", UTXOIQ_CONFIG="",
        UTXOIQ_SECRETS_DIR="", UTXOIQ_DB="sqlite:///x.db", OTHER_UTXOIQ_X="x",
    )  # fmt: skip
    here.dotenv(f"UTXOIQ_NODE_PASSWORD={SECRET}\nOTHER=1\n")
    warnings = here.sources().load()[1]
    assert {w.split()[0].upper() for w in warnings} == {"UTXOIQ_NOD__URL", "UTXOIQ_DB2", "UTXOIQ_NODE_PASSWORD"}
    assert all(SECRET not in w for w in warnings)


@pytest.mark.parametrize("how", ["env", "dotenv"])
def test_unknown_nested_variables_are_told(here: Place, how: str) -> None:
    """A misspelt setting of a known section is as silent a mistake as a misspelt section."""
    if how == "env":
        here.env(UTXOIQ_NODE__PASWORD=SECRET)
    else:
        here.dotenv(f"UTXOIQ_NODE__PASWORD={SECRET}\n")
    (warning,) = here.sources().load()[1]
    assert "UTXOIQ_NODE__PASWORD" in warning
    assert SECRET not in warning


@pytest.mark.parametrize("name", ["utxoiq_node__pasword", "utxoiq_nod__password"])
def test_unknown_secrets_are_told(here: Place, name: str) -> None:
    """A misspelt secrets file would leave the node without a password, and nobody would know why."""
    here.secret(name, SECRET)
    (warning,) = here.sources().load()[1]
    assert name in warning.lower()
    assert SECRET not in warning


# What is refused


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("[log]\nlevel = 'loud'\n", "log.level", "loud"),
        ("[log]\nlevel = 'a\\nb'\n", "log.level", "Input should be"),
        ("[log]\nas_json = 'perhaps'\n", "log.as_json", "perhaps"),
        ("[node]\npoll_seconds = 0\n", "node.poll_seconds", "greater than 0"),
        ("[node]\npoll_seconds = 61\n", "node.poll_seconds", "less than or equal to 60"),
        ("[node]\npoll_seconds = nan\n", "node.poll_seconds", "nan"),
        ("[node]\ntimeout_seconds = inf\n", "node.timeout_seconds", "inf"),
        ("[node]\nrest = 2\n", "node.rest", "2"),
        ("[node]\nurl = 8332\n", "node.url", "8332"),
        ("[esplora]\nrequests_per_second = 0\n", "esplora.requests_per_second", "greater than 0"),
        ("[esplora]\nrequests_per_second = 'fast'\n", "esplora.requests_per_second", "fast"),
        ("[esplora]\nmost_requests_a_block = -1\n", "esplora.most_requests_a_block", "-1"),
        ("[live]\nfrom_height = -1\n", "live.from_height", "-1"),
        ("[live]\nfrom_height = 1.5\n", "live.from_height", "1.5"),
        ("[live]\nwindow_blocks = 0\n", "live.window_blocks", "0"),
        ("[mempool]\ninterval_seconds = 0.5\n", "mempool.interval_seconds", "0.5"),
        ("network = 'mainnet'\n", "network", "none of main, test3, test4, signet, regtest"),
        ("db = 1\n", "db", "1"),
        ("node = 1\n", "node", "1"),
        ("http = []\n", "http", "[]"),
        ("processors = 3\n", "processors", "3"),
        ("[processors]\nminer = false\n", "processors.miner", "False"),
        ("[processors.miner]\nconfidence_threshold = 1.5\n", "processors.miner.confidence_threshold", "1.5"),
        ("[processors.miner]\nconfidence_threshold = nan\n", "processors.miner.confidence_threshold", "nan"),
        ("[processors.miner]\ntime_window = 0\n", "processors.miner.time_window", "0"),
        ("[processors.miner]\nenabled = 'often'\n", "processors.miner.enabled", "often"),
        ("[processors.miner]\nshare_p = 'small'\n", "processors.miner.share_p", "small"),
        ("[processors.miner.share_p]\nx = 1\n", "processors.miner.share_p", "number"),
    ],
)
def test_a_value_that_makes_no_sense(here: Place, text: str, where: str, what: str) -> None:
    """One line: the file, the setting by its full name, what it may be and what it is."""
    here.toml(text)
    told = refused(here.sources(), "utxoiq.toml", f" {where}: ", what)
    assert len(told) < 250


@pytest.mark.parametrize("value", [f"'{'x' * 5000}'", f"[{', '.join(['1'] * 3000)}]"])
def test_a_long_value_is_cut(here: Place, value: str) -> None:
    here.toml(f"[log]\nlevel = {value}\n")
    assert len(refused(here.sources(), "log.level")) < 250


def test_all_that_is_wrong_is_counted(here: Place) -> None:
    """The first, and how many more."""
    here.toml("[log]\nlevel = 'loud'\n[node]\npoll_seconds = 0\nrest = 7\n")
    refused(here.sources(), "(and 2 more)")


@pytest.mark.parametrize("how", ["env", "dotenv", "secret", "command line"])
def test_a_bad_value_from_elsewhere(here: Place, how: str) -> None:
    """The setting is named wherever its value comes from."""
    overrides: dict[str, Any] = {}
    if how == "env":
        here.env(UTXOIQ_LIVE__FROM_HEIGHT="tip")
    elif how == "dotenv":
        here.dotenv("UTXOIQ_LIVE__FROM_HEIGHT=tip\n")
    elif how == "secret":
        here.secret("utxoiq_live__from_height", "tip")
    else:
        overrides = {"live": {"from_height": "tip"}}
    refused(here.sources(**overrides), "live.from_height", "'tip'")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("db = 1\n[node\n", 2),
        ("a = 1\nb = 2\nc\n", 3),
        (f'[node]\npassword = "{SECRET}\n', 2),
        (f"[node]\npassword = {SECRET}\n", 2),
        ("[node]\nrest = true\n[node]\n", 3),
        ("db = 'a'\ndb = 'b'\n", 2),
    ],
)
def test_broken_toml(here: Place, text: str, line: int) -> None:
    """The file and the line."""
    here.toml(text)
    refused(here.sources(), "utxoiq.toml", f"(at line {line}, column ")


def test_toml_that_is_no_text(here: Place) -> None:
    here.toml(b'db = "\xff\xfe"\n')
    refused(here.sources(), "utxoiq.toml", "utf-8")


def test_a_dotenv_that_is_no_text(here: Place) -> None:
    """The file is named: a person must know where to look."""
    here.dotenv(b"UTXOIQ_DB=\xff\xfe\n")
    refused(here.sources(), ".env", "utf-8")


def test_secrets_that_are_no_text(here: Place) -> None:
    here.secret("utxoiq_node__password", "")
    (here.secrets / "utxoiq_node__password").write_bytes(b"\xff\xfe")
    refused(here.sources(), str(here.secrets), "secrets can't be read")


@pytest.mark.parametrize("kind", ["none", "folder", "loop"])
def test_a_file_that_cannot_be_read(here: Place, kind: str) -> None:
    """Named on the command line: not there, a folder, a link to itself; the remedy is told."""
    path = here.folder / "given.toml"
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    refused(here.sources(path), str(path), "can't be read", "utxoiq config init")


def test_a_file_without_permission(here: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it is the usual one: it is there, so it counts."""
    path = here.toml("db = 'x'\n")
    read = Path.read_text

    def denied(self: Path, *arguments: Any, **options: Any) -> str:
        if self.name == path.name:
            raise PermissionError(13, "Permission denied", str(self))
        return read(self, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", denied)
    refused(here.sources(), "utxoiq.toml", "can't be read (Permission denied)")


def test_a_secrets_folder_that_is_none(here: Place) -> None:
    sources = Sources(secrets_dir=here.folder / "nowhere")
    refused(sources, "nowhere", "secrets can't be read")


@pytest.mark.parametrize(
    "text",
    [
        f'[[node]]\npassword = "{SECRET}"\n',
        f'node = "http://u:{SECRET}@127.0.0.1:8332"\n',
        f'[node]\npassword = ["{SECRET}"]\n',
        f'[node.password]\nvalue = "{SECRET}"\n',
        f'[node]\npassword = "{SECRET}"\nrest = "x"\n',
        f'[node]\nurl = ["http://u:{SECRET}@127.0.0.1"]\n',
    ],
)
def test_an_error_does_not_tell_a_password(here: Place, text: str) -> None:
    """A table written as a list, an address where a table should be: the setting is named, its content is not."""
    here.toml(text)
    refused(here.sources(), "utxoiq.toml", "node")


@pytest.mark.parametrize(
    "given", [f'{{"password": "{SECRET}",', SECRET, f'"{SECRET}"', f'["{SECRET}"]', f'[{{"password": "{SECRET}"}}]']
)
def test_a_section_in_a_variable_that_is_none(here: Place, given: str) -> None:
    """JSON that is broken, or another value: named, not told."""
    here.env(UTXOIQ_NODE=given)
    refused(here.sources(), "node")


@pytest.mark.parametrize(
    "names",
    [
        ["utxoiq_node"],
        ["utxoiq_node", "utxoiq_node__password"],
        ["utxoiq_node__password", "utxoiq_node__password__old"],
        ["utxoiq_", "utxoiq___"],
    ],
)
def test_secrets_whose_names_make_no_sense(here: Place, names: list[str]) -> None:
    """A file for a whole section, or below a setting: an error that names it, or a warning; never a traceback."""
    for name in names:
        here.secret(name, SECRET)
    try:
        warnings = here.sources().load()[1]
    except ConfigError as error:
        warnings = [str(error)]
    assert warnings
    assert all("\n" not in w and SECRET not in w for w in warnings)


# Processors


def test_an_unknown_processor(here: Place) -> None:
    """With those there are, and where it was named."""
    here.toml("[processors.wale]\nenabled = true\n")
    refused(here.sources(), "utxoiq.toml", "wale", "there are exchange, mempool, miner, predictive, treasury, whale")


def test_an_unknown_threshold(here: Place) -> None:
    """With those it has, and where it was named."""
    here.toml("[processors.miner]\nshare = 0.1\n")
    refused(here.sources(), "utxoiq.toml", "miner", "share;", "share_p")


@pytest.mark.parametrize("name", ["self", "enabled_", "class"])
def test_a_threshold_of_an_odd_name(here: Place, name: str) -> None:
    """Unknown like any other."""
    here.toml(f"[processors.miner]\n{name} = 1\n")
    refused(here.sources(), "miner", name)


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_a_threshold_that_is_no_number(here: Place, number: str) -> None:
    """It can't be written into the record of settings, and NaN is not even equal to itself."""
    here.toml(f"[processors.miner]\nshare_p = {number}\n")
    refused(here.sources(), "processors.miner.share_p")


def test_thresholds_reach_their_processor(here: Place) -> None:
    here.toml("[processors.miner]\nshare_p = 0.5\ntime_window = 7\n[processors.mempool]\nenabled = false\n")
    configs = here.sources().load()[0].processor_configs()
    found = {processor.signal_type: processor for processor in discover(configs)}
    mempool, miner = found["mempool"], found["miner"]
    assert (mempool.config.enabled, miner.config.enabled) == (False, True)
    assert (miner.thresholds["share_p"], miner.window_size) == (0.5, 7)


def test_a_third_partys_thresholds(here: Place) -> None:
    """Set and checked like ours, under the name of its entry point."""
    installed_foreign(here.monkeypatch, "acme")
    here.toml("[processors.acme]\nleast_btc = 50\nconfidence_threshold = 0.2\n")
    found = discover(here.sources().load()[0].processor_configs())
    acme = next(p for p in found if "patience" in p.thresholds)
    assert acme.thresholds == {"least_btc": 50, "patience": 3}
    assert acme.config.confidence_threshold == 0.2
    here.env(UTXOIQ_PROCESSORS__ACME__MOST_BTC="1")
    refused(here.sources(), "most_btc", "least_btc")


# What changed


def test_differences() -> None:
    """By full name, old and new; nothing for what stayed; None for what was not there."""
    old = {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": None, "g": {}, "same": {"x": [1]}}
    new = {"a": 1, "b": {"c": 5, "d": {"e": None}}, "f": {"h": 1}, "i": 0, "same": {"x": [1]}}
    assert differences(old, new) == [
        {"name": "b.c", "old": 2, "new": 5},
        {"name": "b.d.e", "old": 3, "new": None},
        {"name": "f", "old": None, "new": {"h": 1}},
        {"name": "g", "old": {}, "new": None},
        {"name": "i", "old": None, "new": 0},
    ]
    assert differences(old, old) == []


def test_a_value_that_became_unlike_but_equal() -> None:
    """2 and 2.0 are one setting."""
    assert differences({"a": 2}, {"a": 2.0}) == []


# A file to begin with


def uncommented(template: str) -> str:
    """The template with every setting in force but those that have no default."""
    lines = [line for line in template.splitlines() if not line.endswith("# none")]
    return "\n".join(re.sub(r"^# (?=\w+ = )", "", line) for line in lines)


def test_the_template_is_toml(here: Place) -> None:
    """As it is, it says nothing; with every line taken in, it says the defaults."""
    template = settings_template()
    assert all(v == {} for v in tomllib.loads(template).values() if v != tomllib.loads(template)["processors"])
    here.toml(template)
    settings, warnings = here.sources().load()
    assert warnings == []
    plain = {name: shown for name, shown in settings.shown().items() if name != "processors"}
    assert plain == {n: v for n, v in Fields().model_dump(mode="json").items() if n != "processors"}


def test_the_templates_lines_are_the_defaults(here: Place) -> None:
    template = uncommented(settings_template())
    assert len(tomllib.loads(template)["processors"]["miner"]) > 5
    here.toml(template)
    settings, warnings = here.sources().load()
    assert warnings == []
    plain = {name: shown for name, shown in settings.shown().items() if name != "processors"}
    assert plain == {n: v for n, v in Fields().model_dump(mode="json").items() if n != "processors"}
    ours = [(p.signal_type, p.settings, p.config.enabled) for p in discover(settings.processor_configs())]
    assert ours == [(p.signal_type, p.settings, p.config.enabled) for p in discover()]


def test_every_setting_is_in_the_template() -> None:
    """With a comment of words right above it, and nothing is in it that is no setting."""
    lines = settings_template().splitlines()
    table, found = "", set()
    for before, line in zip(["", *lines], lines, strict=False):
        if line.startswith("["):
            table = line.strip("[]") + "."
        elif match := re.match(r"# (\w+) = ", line):
            found.add(table + match[1])
            if not table.startswith("processors."):
                assert re.match(r"# [A-Z].+", before), line
    plain = {name for name in found if not name.startswith("processors.")}
    assert plain == {name for name in settings_of() if name != "processors"}


def test_every_setting_is_documented() -> None:
    """Each has a sentence, and each section."""
    for name, info in settings_of().items():
        if name != "processors":
            assert info.description, name
            assert info.description.rstrip().endswith("."), name


def test_the_template_knows_a_third_partys_processor(here: Place) -> None:
    """Under the name it is set by, so that the file can be used as it is."""
    installed_foreign(here.monkeypatch, "acme", "bcme")
    template = settings_template()
    here.toml(uncommented(template))
    settings = here.sources().load()[0]
    assert settings.shown()["processors"]["acme"]["least_btc"] == 1000.0


# The module


def test_a_run_does_not_begin_with_settings_that_make_no_sense(here: Place) -> None:
    here.toml("[log]\nlevel = 'loud'\n")
    with pytest.raises(ConfigError, match=r"log\.level"):
        ConfigurationModule(here.sources())


def test_the_module_has_settings_and_warnings(here: Place) -> None:
    here.toml("nod = 1\ndb = 'sqlite:///x.db'\n")
    module = ConfigurationModule(here.sources())
    assert module.settings.db == "sqlite:///x.db"
    assert module.warnings == ["nod is no setting: ignored"]


def test_settings_cannot_be_changed_in_place(here: Place) -> None:
    settings = here.sources().load()[0]
    for part, name in ((settings, "db"), (settings.node, "url")):
        with pytest.raises(ValueError, match="frozen"):
            setattr(part, name, "x")
