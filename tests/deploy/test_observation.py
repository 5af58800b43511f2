"""Alerts and dashboard: they fire and clear, name what exists, and show what a real Prometheus scraped."""

from __future__ import annotations

import asyncio
import json
import math
import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from discord_sim import SimGuild
from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import NatsUse, open_core
from sandbox_core.postgres import connected
from sandbox_gateway.process import open_endpoint, serve
from tests.deploy.test_containers import services
from tests.deploy.tools import DEPLOY, ROOT, alert_rules, anchors, needed, read_yaml
from tests.e2e.conftest import StartLive
from tests.e2e.harness import PATIENCE, Live, eventually, free_port, get

_PROMETHEUS = DEPLOY / "prometheus"
_DASHBOARD = DEPLOY / "grafana" / "dashboards" / "sandboxes.json"
_PROVISIONING = DEPLOY / "grafana" / "provisioning"
_COMPARISON = re.compile(r"\s*(?:>|==)\s*[\d.]+\s*\Z")
_METRIC = re.compile(r"\bsandbox_[a-z_]+\b")
_ALERTS_ON_ABSENCE = {
    "SandboxTargetDown": 'up{job="sandboxes"}',
    "SandboxClientTargetDown": 'up{job="gateway"}',
    "SandboxGatewayShardGone": "max by (shard) (max_over_time(sandbox_gateway_connected[1h]))",
    "SandboxGatewayNeverConnected": "sandbox_gateway_connected",
}
_ALERT_TESTS = sorted(_PROMETHEUS.glob("*_test.yml"))


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_DASHBOARD.read_text(encoding="utf-8"))
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def panel_expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def measured(rule: dict[str, Any]) -> str:
    """What an alert compares with its limit: this has a value also while nothing is wrong."""
    if (present := _ALERTS_ON_ABSENCE.get(rule["alert"])) is not None:
        assert present in rule["expr"]
        return present
    left, count = _COMPARISON.subn("", rule["expr"])
    assert count == 1, rule["expr"]
    return left


def promtool(*arguments: str) -> None:
    """Run promtool; fail with what it says."""
    done = subprocess.run(
        [needed("promtool", "prometheus"), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_valid() -> None:
    promtool("check", "rules", str(_PROMETHEUS / "alerts.yml"))
    promtool("check", "config", str(_PROMETHEUS / "prometheus.yml"))


def test_each_alert_fires_and_clears() -> None:
    promtool("test", "rules", *map(str, _ALERT_TESTS))


def test_every_alert_is_seen_firing_and_silent() -> None:
    outcomes: dict[str, set[bool]] = {}
    cases = [case for path in _ALERT_TESTS for case in read_yaml(path)["tests"]]
    for case in cases:
        for check in case.get("promql_expr_test", ()):
            alert = re.search(r'alertname="(\w+)"', check["expr"])
            assert alert is not None
            outcomes.setdefault(alert[1], set()).add(bool(check["exp_samples"]))
    assert outcomes == {rule["alert"]: {True, False} for rule in alert_rules()}


@pytest.mark.parametrize("limit", [">", "for:"])
def test_the_tests_of_the_alerts_notice_other_limits(tmp_path: Path, limit: str) -> None:
    rules = (_PROMETHEUS / "alerts.yml").read_text()
    changed = re.sub(r"> [\d.]+$", "> 1e9", rules, flags=re.MULTILINE) if limit == ">" else rules
    changed = re.sub(r"for: \w+", "for: 9h", changed) if limit == "for:" else changed
    (tmp_path / "alerts.yml").write_text(changed)
    for path in _ALERT_TESTS:
        copy = tmp_path / path.name
        copy.write_text(path.read_text())
        done = subprocess.run(
            [needed("promtool", "prometheus"), "test", "rules", str(copy)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode != 0, path.name


def test_every_alert_tells_a_person_what_to_do() -> None:
    names = [rule["alert"] for rule in alert_rules()]
    assert len(set(names)) == len(names)
    for rule in alert_rules():
        assert rule["labels"]["severity"] in {"warning", "critical"}, rule
        notes = rule["annotations"]
        assert notes.keys() == {"summary", "description", "runbook_url"}
        path, anchor = notes["runbook_url"].split("#")
        assert anchor in anchors((ROOT / path).read_text(encoding="utf-8")), notes["runbook_url"]


def test_the_dashboard_is_laid_out() -> None:
    everything = dashboard()["panels"]
    ids = [panel["id"] for panel in everything]
    assert ids == sorted(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in everything:
        place = panel["gridPos"]
        cells = {
            (place["x"] + column, place["y"] + line)
            for column in range(place["w"])
            for line in range(place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells
    bottom = max(line for _, line in taken) + 1
    assert taken == {(column, line) for column in range(24) for line in range(bottom)}, "24 columns, no holes"


# Panel types and units as Grafana's own dashboard schema and `@grafana/data` name them.
_TYPES = {"stat", "timeseries"}
_UNITS = {"short", "s", "eps", "percentunit"}


def test_every_panel_says_what_it_shows() -> None:
    assert dashboard()["schemaVersion"] >= 39, "older ones are rewritten by every Grafana that loads them"
    assert dashboard()["uid"]
    titles = [panel["title"] for panel in panels()]
    assert len(set(titles)) == len(titles)
    for panel in panels():
        title = panel["title"]
        assert panel["type"] in _TYPES, title
        assert panel["description"].endswith("."), title
        assert panel["fieldConfig"]["defaults"]["unit"] in _UNITS, title
        steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        assert steps[0]["value"] is None, f"{title}: the first step has no beginning"
        limits = [step["value"] for step in steps[1:]]
        assert limits == sorted(limits), title
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references), title
        for target in panel["targets"]:
            labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            grouped = re.search(r"\bby \(([\w, ]+)\)", target["expr"])
            kept = set(grouped[1].split(", ")) if grouped else set()
            assert labels == kept - {"le"} or panel["type"] == "stat", f"{title}: {target['legendFormat']}"
        if panel["type"] == "timeseries":
            legends = [target["legendFormat"] for target in panel["targets"]]
            assert all(legends) or len(legends) == 1, title
            assert len(set(legends)) == len(legends), title


def test_grafana_finds_dashboard_and_datasource() -> None:
    (source,) = read_yaml(_PROVISIONING / "datasources" / "prometheus.yml")["datasources"]
    used = {panel["datasource"]["uid"] for panel in panels()}
    used |= {target["datasource"]["uid"] for panel in panels() for target in panel["targets"]}
    used |= {note["datasource"]["uid"] for note in dashboard()["annotations"]["list"]}
    assert used == {source["uid"]}
    (provider,) = read_yaml(_PROVISIONING / "dashboards" / "sandboxes.yml")["providers"]
    compose = read_yaml(ROOT / "docker-compose.yml")["services"]
    mounts = [volume.split(":") for volume in compose["grafana"]["volumes"] if volume.startswith("./")]
    inside = {target: (ROOT / host).resolve() for host, target, *_ in mounts}
    assert inside[provider["options"]["path"]] == _DASHBOARD.parent
    assert inside["/etc/grafana/provisioning"] == _PROVISIONING
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose


async def test_every_expression_has_data_in_a_real_prometheus(
    start_live: StartLive, servers: EmbeddedServers, tmp_path: Path
) -> None:
    live = await start_live(sandbox_credentials_key="k" * 32)
    async with _endpoint(live) as endpoint:
        await _all_have_data(live, endpoint, servers, tmp_path)


async def _all_have_data(live: Live, endpoint: str, servers: EmbeddedServers, tmp_path: Path) -> None:
    body = "".join([(await get(url, "/metrics"))[1] for url in (live.run.url, endpoint)])
    families = text_string_to_metric_families(body)
    exported = {sample.name for family in families for sample in family.samples}
    expressions = panel_expressions() + [measured(rule) for rule in alert_rules()]
    named = {name for expression in expressions for name in _METRIC.findall(expression)}
    assert named <= exported, named - exported

    async with prometheus(tmp_path, {"sandboxes": live.run.url, "gateway": endpoint}) as query:
        # From here on: a rate, and what is computed of rates, needs a scrape before something happens.
        await _a_bit_of_everything(live, endpoint, servers)
        without: set[str] = set()

        async def all_have_data() -> bool:
            nonlocal without
            prepared = {
                expression: expression.replace("$__rate_interval", "5m") for expression in expressions
            }
            results = await asyncio.gather(*(query(each) for each in prepared.values()))
            without = {each for each, found in zip(prepared, results, strict=True) if not _numbers(found)}
            return not without

        await eventually(all_have_data, fail=False)
        assert not without
        assert [result["value"][1] for result in await query("sum(sandbox_guild_mappings)")] == ["1"]
        assert await query('ALERTS{alertstate="firing"}') == [], "nothing is wrong"


def _numbers(results: list[dict[str, Any]]) -> bool:
    return bool(results) and not any(math.isnan(float(result["value"][1])) for result in results)


@asynccontextmanager
async def _endpoint(live: Live) -> AsyncIterator[str]:
    """The gateway endpoint for the bot's sandboxes."""
    port = free_port()
    settings = live.run.settings.model_copy(update={"sandbox_gateway_port": port})
    async with (
        open_core(settings, follow_routes=False, use_nats=NatsUse.SANDBOXES) as core,
        open_endpoint(core) as endpoint,
        serve(endpoint, "127.0.0.1", port) as url,
    ):
        yield url


async def _an_ordinary_bot(live: Live, endpoint: str, guild: SimGuild) -> None:
    """It is told of an event, and asks Discord for something."""
    manager = live.run.bot.sandbox_core.manager
    token = manager.credentials(await manager.get("box"))["DISCORD_TOKEN"]
    async with aiohttp.ClientSession() as http, http.ws_connect(endpoint) as socket:
        await socket.send_json({"op": 2, "d": {"token": token, "intents": 1 << 9, "properties": {}}})
        while (await socket.receive_json())["t"] != "GUILD_CREATE":
            pass
        live.sim.message(guild, content="hello")
        while (await socket.receive_json())["t"] != "MESSAGE_CREATE":
            pass
        headers = {"Authorization": f"Bot {token}"}
        async with http.get(f"{endpoint}/api/v10/guilds/{guild.id}", headers=headers) as answer:
            assert answer.status == 200


async def _a_bit_of_everything(live: Live, endpoint: str, servers: EmbeddedServers) -> None:
    """Something for every panel: commands, events, a cleanup pass, and look-ups behind the route table."""
    _, guild = await live.mapped()
    await _an_ordinary_bot(live, endpoint, guild)
    await live.create("gone")
    question = await live.slash("destroy", name="gone")
    answer = await live.sim.click(question, live.alice, label="Destroy it")
    await answer.wait_until(lambda reply: "is destroyed" in reply.text, timeout=PATIENCE)
    core = live.run.bot.sandbox_core
    await live.create("over")
    async with connected(core.pool) as connection:
        await connection.execute(
            "UPDATE sandboxes SET created_at = created_at - interval '2 days', "
            "expires_at = expires_at - interval '2 days' WHERE name = 'over'"
        )
    # A pass is counted that found something to do; the bot's own may come first.
    await core.cleanup.run()
    passes = "sandbox_cleanup_duration_seconds_count"
    await eventually(lambda: bool(core.metrics.registry.get_sample_value(passes)))
    await live.sim.flood(100)
    await live.checked()
    # Without PostgreSQL the table is not trusted for long, and Redis is asked.
    await servers.postgres.kill()

    async def asked() -> bool:
        await live.sim.flood(10)
        return sum(core.metrics.routing.lookup_seconds.counts) > 0

    await eventually(asked)
    await servers.postgres.start()
    await live.checked()


class _Query:
    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url

    async def __call__(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query."""
        async with self._http.get(f"{self._url}/api/v1/query", params={"query": expression}) as response:
            answer = await response.json()
        assert answer["status"] == "success", (expression, answer)
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    async def ready(self) -> bool:
        """Whether it answers queries by now."""
        try:
            async with self._http.get(f"{self._url}/-/ready") as response:
                return response.status == 200
        except aiohttp.ClientConnectionError:
            return False

    async def rules_work(self) -> bool:
        """Whether every rule has been evaluated without an error."""
        async with self._http.get(f"{self._url}/api/v1/rules") as response:
            groups = (await response.json())["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert all(rule["health"] in {"ok", "unknown"} for rule in rules), rules
        return len(rules) == len(alert_rules()) and all(rule["health"] == "ok" for rule in rules)


@asynccontextmanager
async def prometheus(directory: Path, targets: Mapping[str, str]) -> AsyncIterator[_Query]:
    """A Prometheus with the deployed alerts, which scrapes these, by job; gone when left."""
    program = needed("prometheus", "prometheus")
    configuration = {
        "global": {"scrape_interval": "500ms", "evaluation_interval": "500ms", "scrape_timeout": "500ms"},
        "rule_files": [str(_PROMETHEUS / "alerts.yml")],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [target.removeprefix("http://")]}]}
            for job, target in targets.items()
        ],
    }
    (directory / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    address = f"127.0.0.1:{free_port()}"
    with (directory / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={address}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        async with aiohttp.ClientSession() as http:
            query = _Query(http, f"http://{address}")

            async def up() -> bool:
                assert process.returncode is None, (directory / "prometheus.log").read_text()
                if not await query.ready():
                    return False
                seen = len(await query("up == 1")) == len(targets)
                return seen and await query.rules_work()

            await eventually(up)
            yield query
    finally:
        process.kill()
        await process.wait()


def test_prometheus_is_given_the_files_its_configuration_names() -> None:
    configuration = read_yaml(DEPLOY / "prometheus" / "prometheus.yml")
    mounted = {volume["target"] for volume in services()["prometheus"]["volumes"]}
    assert {f"/etc/prometheus/{name}" for name in configuration["rule_files"]} <= mounted
    ports = {"bot": "OPS_PORT", "gateway": "SANDBOX_GATEWAY_PORT"}
    looked_at = {}
    for job in configuration["scrape_configs"]:
        (targets,) = job["dns_sd_configs"]
        (name,) = targets["names"]
        looked_at[job["job_name"]] = name
        assert str(targets["port"]) == services()[name]["environment"][ports[name]]
    assert looked_at == {"sandboxes": "bot", "gateway": "gateway"}
