"""What is deployed, and what the operator's page says, is of this program: options, settings, files, reasons."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from string import Template
from typing import Any

import pytest
import typer.main
import yaml
from pydantic import SecretStr

from helpers.settings import in_folder, settings_of
from utxoiq.cli import app
from utxoiq.config import OTHER_VARIABLES
from utxoiq.observability import METRICS
from utxoiq.persistence.sqlite import URL
from utxoiq.processors.discovery import discover
from utxoiq.secrets import references
from utxoiq.service import PARTS, SWAPPABLE
from utxoiq.settings import Fields

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
UNIT, IMAGE, COMPOSE = DEPLOY / "utxoiq.service", DEPLOY / "Containerfile", DEPLOY / "compose.yaml"
SPLIT, CLOUD_RUN = DEPLOY / "compose.split.yaml", DEPLOY / "cloudrun.yaml"
PAGE = (ROOT / "docs" / "operate.md").read_text("utf-8")
CLOUD_PAGE = (ROOT / "docs" / "cloud.md").read_text("utf-8")
FILES = [
    UNIT, IMAGE, COMPOSE, SPLIT, CLOUD_RUN, DEPLOY / "prometheus/prometheus.yml", ROOT / "docs" / "operate.md",
    ROOT / "docs" / "cloud.md",
]  # fmt: skip
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


def test_the_image_can_speak_with_google() -> None:
    """All that `utxoiq[gcp]` asks for is pinned for it."""
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]["gcp"]
    pinned = requirements((ROOT / "requirements" / "run.txt").read_text("utf-8"))
    assert len(asked) > 4
    assert {re.split(r"[<>=]", one)[0] for one in asked} <= {one.split("==")[0] for one in pinned}


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


# The parts as services of their own


@pytest.fixture(scope="module")
def split() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(SPLIT.read_text("utf-8"))
    return read


def test_the_parts_are_those_of_run(split: dict[str, Any]) -> None:
    """Each once, by a command that exists; what ships only where there is a warehouse."""
    assert {service["command"][0] for service in split["services"].values()} == set(PARTS)
    for name, service in split["services"].items():
        assert service["command"][0] == name
        check_command(shlex.join(["utxoiq", *service["command"]]))
        assert service.get("profiles", []) == (["warehouse"] if name == "ship" else [])


def test_the_parts_share_one_store(split: dict[str, Any]) -> None:
    """With what else the image expects to be mounted, built from the same files, as locked down as `run`."""
    stage, one = dict(instructions()), yaml.safe_load(COMPOSE.read_text("utf-8"))["services"]["utxoiq"]
    for service in split["services"].values():
        mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in service["volumes"]}
        assert set(mounted) == {*yaml.safe_load(stage["VOLUME"]), stage["WORKDIR"]}
        assert mounted["/var/lib/utxoiq"] == "store"
        assert set(mounted.values()) - {"./etc"} == set(split["volumes"])
        kept = ("build", "image", "network_mode", "read_only", "cap_drop", "security_opt", "tmpfs")
        assert {key: service[key] for key in kept} == {key: one[key] for key in kept}


def test_each_part_is_looked_at_where_it_listens(split: dict[str, Any]) -> None:
    """On loopback, at a port of its own; Prometheus and people find `serve` where they find `run`."""
    places = {}
    for name, service in split["services"].items():
        places[name] = service["command"][service["command"].index("--listen") + 1]
        assert f"'http://{places[name]}/healthz'" in service["healthcheck"]["test"][-1]
    assert all(place.startswith("127.0.0.1:") for place in places.values())
    assert len(set(places.values())) == len(places)
    assert places["serve"] == Fields().http.listen


def test_the_parts_settings_exist(split: dict[str, Any]) -> None:
    """Variables, and secrets by name: none of them in the file, each made as its comment tells."""
    comment = SPLIT.read_text("utf-8").partition("name:")[0] + COMPOSE.read_text("utf-8").partition("name:")[0]
    used = set()
    for service in split["services"].values():
        for name in service.get("environment", {}):
            if name.startswith("UTXOIQ_"):
                check_variable(name)
        used |= set(service.get("secrets", []))
    assert used == set(split["secrets"])
    for name, secret in split["secrets"].items():
        assert f"deploy/{secret['file'][2:]}" in comment
        if name.startswith("utxoiq_"):
            check_variable(name.upper())
    key = split["services"]["ship"]["environment"]["GOOGLE_APPLICATION_CREDENTIALS"]
    assert key.removeprefix("/run/secrets/") in split["services"]["ship"]["secrets"]


# Cloud Run


PLACEHOLDERS = {
    "PROJECT": "my-project", "REGION": "europe-west1", "NETWORK": "default", "SUBNET": "default", "NODE": "10.0.0.2",
    "IMAGE": "somewhere/utxoiq",
}  # fmt: skip


@pytest.fixture(scope="module")
def cloud_run() -> dict[str, Any]:
    """As `envsubst` leaves it."""
    text = CLOUD_RUN.read_text("utf-8")
    body = text[text.index("apiVersion") :]
    read: dict[str, Any] = yaml.safe_load(Template(body).substitute(PLACEHOLDERS))
    assert set(re.findall(r"\$\{(\w+)\}", body)) == set(PLACEHOLDERS)
    for name in PLACEHOLDERS:
        assert re.search(rf"\b{name}=", text), f"{name} is not said to be set"
    return read


def variables_of(cloud_run: dict[str, Any]) -> dict[str, str]:
    (container,) = cloud_run["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry["value"] for entry in container["env"]}


def test_cloud_runs_settings_exist(cloud_run: dict[str, Any], tmp_path: Path) -> None:
    """And make sense together; passwords are named, not given."""
    variables = variables_of(cloud_run)
    for name in variables:
        if name.startswith("UTXOIQ_"):
            check_variable(name)
    with in_folder(tmp_path) as here:
        here.env(**variables)
        settings, warnings = here.sources().load(secrets_too=False)
    assert warnings == []
    assert settings.node.url == "http://10.0.0.2:8332"
    assert settings.warehouse.project == settings.metrics.project_id == "my-project"
    secrets = {name for name, info in settings_of().items() if isinstance(info.default, SecretStr)}
    named = references(settings)
    assert set(named) == {setting_of(name) for name in variables} & secrets
    for reference in named.values():
        assert f"gcloud secrets add-iam-policy-binding {reference.rpartition('/')[2]} " in CLOUD_RUN.read_text("utf-8")


def test_cloud_run_asks_where_it_listens(cloud_run: dict[str, Any]) -> None:
    """Both probes and the port that Cloud Run sends requests to, on all of the container's addresses."""
    (container,) = cloud_run["spec"]["template"]["spec"]["containers"]
    (port,) = (entry["containerPort"] for entry in container["ports"])
    assert variables_of(cloud_run)["UTXOIQ_HTTP__LISTEN"] == f"0.0.0.0:{port}"
    for probe in ("startupProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": port}
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] <= 240, "more is refused"
    check_command(shlex.join(["utxoiq", *container["args"]]))


def test_cloud_run_has_one_instance_that_never_sleeps(cloud_run: dict[str, Any]) -> None:
    notes = cloud_run["spec"]["template"]["metadata"]["annotations"]
    assert notes["autoscaling.knative.dev/minScale"] == notes["autoscaling.knative.dev/maxScale"] == "1"
    assert notes["run.googleapis.com/cpu-throttling"] == "false"
    assert json.loads(notes["run.googleapis.com/network-interfaces"]) == [
        {"network": "default", "subnetwork": "default"}
    ]
    assert cloud_run["metadata"]["annotations"]["run.googleapis.com/ingress"] == "internal"


def test_cloud_runs_store_is_where_the_image_has_it(cloud_run: dict[str, Any]) -> None:
    """In a volume that fits into the memory, with an account of its own."""
    spec = cloud_run["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    (mount,), (volume,) = container["volumeMounts"], spec["volumes"]
    image = dict(pair.split("=", 1) for pair in dict(instructions())["ENV"].split())
    assert image["UTXOIQ_DB"].removeprefix(URL).startswith(mount["mountPath"] + "/")
    assert mount["name"] == volume["name"]
    assert volume["emptyDir"] == {"medium": "Memory", "sizeLimit": "512Mi"}
    assert container["resources"]["limits"]["memory"] == "2Gi"
    assert spec["serviceAccountName"] == "utxoiq@my-project.iam.gserviceaccount.com"


# The page on Google Cloud


def roles_in(text: str) -> set[str]:
    return set(re.findall(r"roles/[\w.]+\w", text))


def test_the_roles_are_the_same_everywhere() -> None:
    """Those granted with the service, those listed, and those that `doctor --cloud` advises."""
    table = CLOUD_PAGE.partition("| role | on | for |")[2].partition("\n\n")[0]
    listed = roles_in(table)
    granted = CLOUD_RUN.read_text("utf-8").partition("apiVersion")[0]
    advised = "".join((ROOT / "src/utxoiq" / name).read_text("utf-8") for name in ("doctor_cloud.py", "secrets.py"))
    assert len(listed) == 5
    assert roles_in(granted) - {"roles/telemetry.metricsWriter", "roles/telemetry.tracesWriter"} == listed
    assert roles_in(advised) == listed


def test_the_cloud_pages_settings_and_commands_exist() -> None:
    """In its sentences and in its blocks."""
    for name in set(re.findall(r"UTXOIQ_[A-Z_]+", CLOUD_PAGE)):
        check_variable(name)
    known, sections = set(settings_of()), {name.split(".")[0] for name in settings_of()}
    codes = re.findall(r"`([^`\n]+)`", CLOUD_PAGE)
    named = {code for code in codes if re.fullmatch(r"[a-z_]+\.[a-z_]+", code) and code.split(".")[0] in sections}
    assert {"warehouse.project", "metrics.project_id", "metrics.direct", "warehouse.most_bytes_billed"} <= named
    assert named <= known
    lines = [
        *codes,
        *(line for block in re.findall(r"```\n(.*?)```", CLOUD_PAGE, re.DOTALL) for line in block.splitlines()),
    ]
    mine = [line for line in lines if re.match(r"utxoiq [a-z]", line)]
    assert {"utxoiq store migrate", "utxoiq doctor --cloud"} <= set(mine)
    for line in mine:
        check_command(line)
    for name in set(re.findall(r"\bdeploy/[\w./-]+\w", CLOUD_PAGE)):
        assert (ROOT / name).is_file(), name
    assert "(cloud.md)" in PAGE


def test_the_cloud_page_says_what_is_said() -> None:
    """What stands in the first column of its last table is in the program's own words."""
    table = CLOUD_PAGE.rpartition("what to do |")[2].partition("\n\n")[0]
    said = [code for row in table.splitlines()[2:] for code in re.findall(r"`([^`]+)`", row.split("|")[1])]
    ours = [part for code in said if "`" not in code for part in re.split(r"…|\d+", code) if len(part.strip()) > 4]
    assert len(ours) > 8
    for part in ours:
        if part not in ("/healthz", "telemetry.googleapis.com"):
            assert part.strip() in SOURCE, part


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
