"""What is deployed, and what the operator's page says, is of this program: options, settings, files, reasons."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from helpers.settings import settings_of
from utxoiq.cli import app
from utxoiq.config import OTHER_VARIABLES
from utxoiq.observability import METRICS
from utxoiq.persistence.sqlite import URL
from utxoiq.processors.discovery import discover
from utxoiq.service import SWAPPABLE
from utxoiq.settings import Fields

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
UNIT, IMAGE, COMPOSE = DEPLOY / "utxoiq.service", DEPLOY / "Containerfile", DEPLOY / "compose.yaml"
PAGE = (ROOT / "docs" / "operate.md").read_text("utf-8")
FILES = [UNIT, IMAGE, COMPOSE, DEPLOY / "prometheus/prometheus.yml", ROOT / "docs" / "operate.md"]
SQLITE_SAYS = {"database is locked", "database or disk is full", "disk I/O error"}
SOURCE = "\n".join(path.read_text("utf-8") for path in (ROOT / "src" / "utxoiq").rglob("*.py"))
CODE = re.findall(r"`([^`\n]+)`", PAGE)
BLOCKS = re.findall(r"```\n(.*?)```", PAGE, re.DOTALL)


class Unit(dict[str, list[str]]):
    """The unit's lines by name: a name may come several times."""

    def __init__(self, text: str) -> None:
        super().__init__()
        for line in text.splitlines():
            name, sign, value = line.partition("=")
            if sign and not line.startswith("#"):
                self.setdefault(name, []).append(value)

    def one(self, name: str) -> str:
        (value,) = self[name]
        return value


@pytest.fixture(scope="module")
def unit() -> Unit:
    return Unit(UNIT.read_text("utf-8"))


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(COMPOSE.read_text("utf-8"))
    return read


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) of the Containerfile, lines put together."""
    text = re.sub(r"\\\n", " ", IMAGE.read_text("utf-8"))
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def options_of(command: str) -> set[str]:
    """The options of `utxoiq <command>`."""
    found: Any = typer.main.get_command(app)
    for word in command.split():
        found = found.commands[word]
    return {option for parameter in found.params for option in parameter.opts if option.startswith("--")} | {"--help"}


def commands() -> dict[str, set[str]]:
    top: Any = typer.main.get_command(app)
    found = {}
    for name, command in top.commands.items():
        for sub in getattr(command, "commands", {None: None}):
            full = f"{name} {sub}" if sub else name
            found[full] = options_of(full)
    return found


def check_command(line: str) -> None:
    """A command line of utxoiq: its command and each of its options are there."""
    words = shlex.split(line.split("#", maxsplit=1)[0])[1:]
    known = commands()
    command = next((c for c in (" ".join(words[:2]), words[0]) if c in known), None)
    assert command is not None, line
    for word in words:
        if word.startswith("--"):
            assert word.split("=")[0] in known[command], line


def setting_of(variable: str) -> str:
    return variable.removeprefix("UTXOIQ_").lower().replace("__", ".")


def check_variable(name: str) -> None:
    """A variable is a setting, or one of those that are none."""
    assert name in OTHER_VARIABLES or setting_of(name) in settings_of(), name


# The unit


def test_the_units_command(unit: Unit) -> None:
    """The options of ExecStart exist; no shell, no password on the command line."""
    line = unit.one("ExecStart")
    assert shlex.split(line)[0].startswith("/")
    assert shlex.split(line)[1] == "run"
    check_command(line)


def test_the_units_folders_belong_together(unit: Unit) -> None:
    """Store and compiled kernels are where the unit lets it write, settings where they are read."""
    variables = dict(value.split("=", 1) for value in unit["Environment"])
    for name in variables:
        if name.startswith("UTXOIQ_"):
            check_variable(name)
    store = variables["UTXOIQ_DB"].removeprefix(URL)
    assert store.startswith(f"/var/lib/{unit.one('StateDirectory')}/")
    assert variables["NUMBA_CACHE_DIR"] == f"/var/cache/{unit.one('CacheDirectory')}"
    folder = f"/etc/{unit.one('ConfigurationDirectory')}"
    assert unit.one("WorkingDirectory") == folder
    assert shlex.split(unit.one("ExecStart"))[-1].startswith(folder)


def test_the_unit_has_an_ordinary_user_and_few_rights(unit: Unit) -> None:
    """And never what Numba can't live with."""
    assert unit.one("DynamicUser") == unit.one("NoNewPrivileges") == "yes"
    assert unit.one("User") != "root"
    assert unit.one("CapabilityBoundingSet") == ""
    assert unit.one("ProtectSystem") == "strict"
    assert unit.one("ProtectHome") == "yes"
    assert "MemoryDenyWriteExecute" not in unit
    assert unit.one("Restart") == "on-failure"
    assert unit.one("MemoryMax").endswith("G")


def test_the_units_credential_is_a_setting(unit: Unit) -> None:
    """Named as secrets files are."""
    name = unit.one("LoadCredential").partition(":")[0]
    check_variable(name.upper())
    assert isinstance(settings_of()[setting_of(name.upper())].default.get_secret_value(), str)


def test_the_units_exit_codes(unit: Unit) -> None:
    """What trying again can't mend: wrong use and refused input, as errors.py has them."""
    from utxoiq.errors import ConfigError, InputRefused

    assert unit.one("RestartPreventExitStatus") == f"{ConfigError.exit_code} {InputRefused.exit_code}"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """No unknown line, no mistake; little exposed. Its command is not installed here: another takes its place."""
    path = tmp_path / "utxoiq.service"
    path.write_text(re.sub(r"ExecStart=\S+", f"ExecStart={sys.executable}", UNIT.read_text("utf-8")))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False
    )
    mine = [line for line in verified.stderr.splitlines() if "utxoiq" in line]
    assert mine == []
    asked = ["systemd-analyze", "security", "--offline=true", "--threshold=20", path]
    rated = subprocess.run(asked, capture_output=True, text=True, check=False)
    if "nrecognized option" not in rated.stderr:
        assert rated.returncode == 0, rated.stdout[-2000:]


# The image


def test_the_image_is_made_of_files_that_exist() -> None:
    """Everything copied from the project, and everything installed from it; the ignore file lets it through."""
    allowed = (DEPLOY / "Containerfile.dockerignore").read_text("utf-8").splitlines()
    copied = [a.split()[:-1] for i, a in instructions() if i == "COPY" and "--from" not in a]
    for name in (name.rstrip("/") for names in copied for name in names):
        assert (ROOT / name).exists(), name
        assert f"!{name}" in allowed, name
    for name in re.findall(r"-r (\S+)", IMAGE.read_text("utf-8")):
        assert (ROOT / name).is_file(), name


def test_the_image_installs_with_hashes_only() -> None:
    """Each `pip install` of others' packages; ours comes from the folder."""
    installs = re.findall(r"pip install ([^&\n]+)", re.sub(r"\\\n", " ", IMAGE.read_text("utf-8")))
    assert len(installs) == 3
    for arguments in installs:
        assert "--require-hashes -r" in arguments or "--no-deps --no-index" in arguments


@pytest.mark.parametrize("name", ["run", "build"])
def test_pinned_requirements(name: str) -> None:
    """Every line has a version and hashes, all that is asked for is there, and it is what the tests ran with."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text("utf-8")
    asked = (ROOT / "requirements" / f"{name}.in").read_text("utf-8").split()
    pinned = requirements(text)
    tested = requirements((ROOT / "requirements" / "dev.txt").read_text("utf-8"))
    assert {re.split(r"[\[<>=]", one)[0] for one in asked} <= {one.split("==")[0] for one in pinned}
    assert {one: hashes == tested.get(one) for one, hashes in pinned.items()} == dict.fromkeys(pinned, True)
    assert all(pinned.values())
    assert "://" not in text


def requirements(text: str) -> dict[str, frozenset[str]]:
    """`name==version ; marker` -> hashes."""
    found: dict[str, frozenset[str]] = {}
    for entry in re.split(r"\n(?=\w)", text):
        first = entry.splitlines()[0].rstrip("\\ ").strip()
        if "==" in first:
            found[re.sub(r"\s*;.*", "", first)] = frozenset(re.findall(r"--hash=(\S+)", entry))
    return found


def test_the_image_runs_as_an_ordinary_user() -> None:
    """With folders of its own for the store and for compiled kernels, settings that exist, and a check of /healthz."""
    told = instructions()
    last = max(i for i, (name, _) in enumerate(told) if name == "FROM")
    stage = dict(told[last:])
    assert stage["USER"] == "utxoiq"
    assert "useradd" in stage["RUN"]
    variables = dict(pair.split("=", 1) for pair in stage["ENV"].split())
    for name in variables:
        if name.startswith("UTXOIQ_"):
            check_variable(name)
    volumes = yaml.safe_load(stage["VOLUME"])
    assert any(variables["UTXOIQ_DB"].removeprefix(URL).startswith(volume) for volume in volumes)
    assert variables["NUMBA_CACHE_DIR"] in volumes
    assert all(volume in stage["RUN"] for volume in volumes)
    assert Fields().http.listen in stage["HEALTHCHECK"]
    assert "/healthz" in stage["HEALTHCHECK"]
    check_command("utxoiq " + " ".join(yaml.safe_load(stage["CMD"])))


def test_no_file_names_a_machine_or_a_registry() -> None:
    """Images and packages by name, nothing of the machine these files are on; no hosts but loopback's and the API
    that users may name."""
    for path in FILES:
        text = path.read_text("utf-8")
        assert str(ROOT) not in text, path
        assert f"{Path.home()}/" not in text, path
        assert set(re.findall(r"https?://([\w.-]+)", text)) <= {"127.0.0.1", "localhost", "mempool.space"}, path
        images = re.findall(r"(?:^FROM|^\s*image:)\s+(\S+)", text, re.M)
        assert not [image for image in images if "." in image.partition("/")[0] and "/" in image], path
        assert not re.search(r"--(extra-)?index|--find-links|trusted-host", text, re.I), path


# Compose


def test_compose_refers_to_what_is_there(compose: dict[str, Any]) -> None:
    """Built from this project; mounts what exists, or what its own comment tells to make."""
    ours = compose["services"]["utxoiq"]
    context = (DEPLOY / ours["build"]["context"]).resolve()
    assert context == ROOT.resolve()
    assert (context / ours["build"]["dockerfile"]) == ROOT.resolve() / "deploy" / "Containerfile"
    comment = COMPOSE.read_text("utf-8").partition("name:")[0]
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists() or f"deploy/{source[2:]}" in comment, source
            else:
                assert source in compose["volumes"]
    for secret in compose["secrets"].values():
        assert f"deploy/{secret['file'][2:]}" in comment


def test_what_a_user_adds_is_not_committed() -> None:
    """A password beside the project's files must not get into its history."""
    ignored = (DEPLOY / ".gitignore").read_text("utf-8").split()
    assert {"etc/", "secrets/"} <= set(ignored)


def test_composes_settings_exist(compose: dict[str, Any]) -> None:
    """Variables, and secrets by name."""
    ours = compose["services"]["utxoiq"]
    for name in ours["environment"]:
        check_variable(name)
    assert set(ours["secrets"]) == set(compose["secrets"])
    for name in compose["secrets"]:
        check_variable(name.upper())
    mounted = {volume.split(":")[1] for volume in ours["volumes"]}
    stage = dict(instructions())
    assert mounted == {*yaml.safe_load(stage["VOLUME"]), stage["WORKDIR"]}


def test_prometheus_scrapes_where_utxoiq_listens(compose: dict[str, Any]) -> None:
    """Its config names the alert file beside it, and the address of the default settings."""
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    assert all((DEPLOY / "prometheus" / name).is_file() for name in config["rule_files"])
    targets = [t for job in config["scrape_configs"] for static in job["static_configs"] for t in static["targets"]]
    assert targets == [Fields().http.listen]
    assert "./prometheus:/etc/prometheus:ro" in compose["services"]["prometheus"]["volumes"]


# The operator's page


def test_the_pages_settings_exist() -> None:
    """Each `section.key`, each variable, and what it says of when a change takes effect."""
    known = set(settings_of()) | {
        f"processors.{p.signal_type}.{key}"
        for p in discover()
        for key in ("enabled", "confidence_threshold", "time_window", *p.defaults)
    }
    sections = {name.split(".")[0] for name in known}
    named = {code for code in CODE if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", code) and code.split(".")[0] in sections}
    assert len(named) > 12
    assert named <= known | {"utxoiq.toml", "bitcoin.conf"}, named - known
    for name in set(re.findall(r"UTXOIQ_[A-Z_]+", PAGE)):
        check_variable(name.rstrip("_"))


def test_the_page_says_what_needs_a_restart() -> None:
    """Every setting is said to take effect at once or at the next start."""
    sentence = re.search(r"(`processors`.*?)at the next start", " ".join(PAGE.split()))
    assert sentence is not None
    now, _, later = sentence[1].partition("take effect at the next block")
    assert set(re.findall(r"`(\w+)`", now)) == set(SWAPPABLE)
    assert set(re.findall(r"`(\w+)`", later)) == set(Fields.model_fields) - set(SWAPPABLE)


def test_the_pages_commands_exist() -> None:
    """In its blocks and in its sentences."""
    lines = [line for block in BLOCKS for line in block.splitlines()] + CODE
    parts = [
        part.strip().removeprefix("sudo ").removeprefix("/opt/utxoiq/bin/")
        for line in lines
        for part in line.split("&&")
    ]
    mine = [part for part in parts if re.match(r"utxoiq [a-z]", part)]
    assert len(mine) > 10
    for line in mine:
        check_command(line)


def test_the_pages_files_exist() -> None:
    """What it tells to copy, install from or import."""
    named = set(re.findall(r"\b(?:deploy|requirements)/[\w./-]+\w", PAGE))
    assert {"deploy/utxoiq.service", "deploy/Containerfile", "deploy/compose.yaml"} <= named
    for name in named:
        assert (ROOT / name).is_file(), name
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link


def reasons() -> list[str]:
    """The first column of the table of reasons."""
    table = PAGE.partition("| reason |")[2].partition("\n\n")[0]
    return [code for row in table.splitlines()[2:] for code in re.findall(r"`([^`]+)`", row.split("|")[1])]


@pytest.mark.parametrize("reason", reasons())
def test_each_reason_is_one_the_program_gives(reason: str) -> None:
    """Its words stand in the source, or are SQLite's."""
    if reason in SQLITE_SAYS:
        return
    if reason in ("block:", "spent outputs:"):  # of a DecodeError
        assert f'DecodeError("{reason[:-1]}"' in SOURCE
        return
    plain = re.sub(r'"\s*\n\s*f?"', "", SOURCE)
    for part in re.split(r"…|(?<=refuses )", reason):
        assert part.strip("() ") in plain, part


GENERIC = {
    "{self.where}: {without_user(str(error))}", "{self._http.where}: {answer.text.strip()[:120]}",
    "{self.where}: no block at height {height} on its best chain", "{self.where}: no block {block_hash}",
}  # fmt: skip
"""They say what the library or the node said, or answer a question that only a command asks."""


def test_every_reason_to_wait_is_on_the_page() -> None:
    """Each message of an error that makes the monitor wait has a row."""
    listed = [part.strip("() ") for reason in reasons() for part in re.split(r"…|(?<=refuses )", reason)]
    files = [*(ROOT / "src/utxoiq/sources").glob("*.py"), *(ROOT / "src/utxoiq/sources/node").glob("*.py")]
    ours = [path for path in files if path.name in LIVE] + [ROOT / "src/utxoiq/pipeline/monitor.py"]
    missing = []
    for path in ours:
        for raised in re.findall(RAISED, path.read_text("utf-8"), re.DOTALL):
            message = "".join(re.findall(r'"([^"]*)"', raised))
            if message and message not in GENERIC and not any(part in message for part in listed if len(part) > 5):
                missing.append(message)
    assert len(ours) == len(LIVE) + 1
    assert missing == []


LIVE = {"http.py", "steps.py", "esplora.py", "rpc.py", "credentials.py", "source.py", "blocks.py"}
RAISED = r"raise (?:Node\w+|WrongNetwork|SourceError|UnknownTip)\((.*?)\n(?! {16})"


def test_the_pages_metrics_exist() -> None:
    names = {metric.prometheus for metric in METRICS.values()}
    named = set(re.findall(r"`(utxoiq_[a-z_]+)`", PAGE)) - {"utxoiq_node__password"}
    assert len(named) >= 7
    assert named <= names, named - names


def test_the_page_is_finished() -> None:
    assert not re.search(r"TODO|FIXME|XXX|TBD", PAGE)


def test_the_unit_can_be_read_by_others() -> None:
    """As the INI file it is, but for lines that come twice."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(UNIT.read_text("utf-8"))
    assert parser.sections() == ["Unit", "Service", "Install"]
