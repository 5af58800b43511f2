"""The ops endpoint answers whatever is away or hangs, and its numbers are what was done."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

import sandbox_bot
from discord_sim import DiscordSim
from sandbox_bot.embedded import EmbeddedServers
from tests.e2e.conftest import StartLive
from tests.e2e.harness import Live, eventually
from tests.embedded.hanging import frozen

_ROOT = Path(__file__).resolve().parents[2]
_WITHIN = 5.0
"""Seconds an answer may take at most on a loaded machine; servers that hang are given one second."""

_NOT_CONNECTED = "no server accepts the connection"

Samples = dict[tuple[str, ...], float]


async def fetch(live: Live, path: str, **headers: str) -> tuple[int, str, str]:
    """Status, content type and body; fails when the answer does not come in time."""
    timeout = aiohttp.ClientTimeout(total=_WITHIN)
    async with (
        aiohttp.ClientSession(timeout=timeout) as http,
        http.get(f"{live.run.url}{path}", headers=headers) as response,
    ):
        return response.status, response.headers["Content-Type"], await response.text()


async def samples_of(live: Live) -> Samples:
    """What `/metrics` says, by the sample's name and label values."""
    _, _, body = await fetch(live, "/metrics")
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body)
        for sample in family.samples
    }


async def test_readiness_tells_how_fast_each_server_answers(live: Live) -> None:
    answer: dict[str, Any] = {}

    async def all_in_time() -> bool:
        # A server that a loaded machine lets wait for a second counts as away.
        status, _, body = await fetch(live, "/readyz")
        answer.update(json.loads(body))
        return (status, answer["status"]) == (200, "ready")

    await eventually(all_in_time)
    # The gateway's follows with the first heartbeat, which may be most of a minute away.
    assert set(answer["latencies_ms"]) - {"gateway"} == {"PostgreSQL", "Redis", "NATS"}
    assert all(0 < latency < 1000 for latency in answer["latencies_ms"].values())


async def test_readiness_tells_how_fast_discord_acknowledges_heartbeats(
    sim: DiscordSim, start_live: StartLive
) -> None:
    sim.rules.heartbeat_interval_ms = 1_000
    live = await start_live()

    async def told() -> bool:
        _, _, body = await fetch(live, "/readyz")
        return 0 < json.loads(body)["latencies_ms"].get("gateway", 0) < 60_000

    await eventually(told)
    sim.refuse_resume_url(how="hang")
    await sim.drop()

    async def not_told() -> bool:
        status, _, body = await fetch(live, "/readyz")
        return status == 503 and "gateway" not in json.loads(body)["latencies_ms"]

    await eventually(not_told)
    sim.refuse_resume_url(False)
    await eventually(_is_ready(live))


@pytest.mark.parametrize("names", [("nats",), ("postgres", "valkey", "nats")])
async def test_everything_answers_while_the_start_waits_for_servers_that_hang(
    start_live: StartLive, servers: EmbeddedServers, names: tuple[str, ...]
) -> None:
    async with frozen(*(getattr(servers, name) for name in names)):
        live = await start_live(ready=False)
        await eventually(_answers(live))
        parts = {"postgres": "PostgreSQL", "valkey": "Redis", "nats": "NATS"}
        hanging = {parts[name] for name in names}

        async def all_named() -> bool:
            status, _, body = await fetch(live, "/readyz")
            answer = json.loads(body)
            named = answer["missing"] | answer.get("degraded", {})
            assert status == 503
            assert all(named.values())
            assert named.get("NATS", _NOT_CONNECTED).startswith(_NOT_CONNECTED)
            return named.keys() == {"start", *hanging} and not hanging & answer["latencies_ms"].keys()

        await eventually(all_named)
        samples = await samples_of(live)
        assert samples["sandbox_publishing",] == 0
        assert samples["sandbox_created_total",] == 0
        for path in ("/healthz", "/version"):
            assert (await fetch(live, path))[0] == 200
    await live.run.ready()
    await eventually(_is_ready(live))
    assert (await samples_of(live))["sandbox_publishing",] == 1


async def test_the_version_is_the_projects(live: Live) -> None:
    _, _, body = await fetch(live, "/version")
    version = json.loads(body)["version"]
    assert version == sandbox_bot.__version__
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"], "it stands in one place"
    assert project["tool"]["hatch"]["version"]["path"] == "bot/sandbox_bot/__init__.py"


@pytest.mark.parametrize("name", ["postgres", "valkey", "nats"])
async def test_everything_answers_while_a_server_hangs(
    live: Live, servers: EmbeddedServers, name: str
) -> None:
    part = {"postgres": "PostgreSQL", "valkey": "Redis", "nats": "NATS"}[name]
    async with frozen(getattr(servers, name)):
        # As many as two monitors and an impatient person ask.
        for _ in range(3):
            status, _, body = await fetch(live, "/readyz")
            answer = json.loads(body)
            assert part not in answer["latencies_ms"]
            if part == "Redis":
                assert (status, answer["status"]) == (200, "degraded")
                assert "no answer" in answer["degraded"]["Redis"]
            else:
                assert status == 503
                assert answer["missing"][part]
            assert (await fetch(live, "/healthz"))[0] == 200
            assert (await fetch(live, "/metrics"))[0] == 200
            assert (await fetch(live, "/version"))[0] == 200
    await eventually(_is_ready(live))


async def test_everything_answers_while_all_servers_and_discord_are_away(
    live: Live, servers: EmbeddedServers
) -> None:
    live.sim.refuse_resume_url(how="hang")
    await live.sim.drop()
    for server in (servers.postgres, servers.valkey, servers.nats):
        await server.kill()

    async def all_named() -> bool:
        status, _, body = await fetch(live, "/readyz")
        return status == 503 and {"gateway", "PostgreSQL", "NATS"} <= json.loads(body)["missing"].keys()

    await eventually(all_named)
    for path in ("/healthz", "/metrics", "/version"):
        assert (await fetch(live, path))[0] == 200
    samples = await samples_of(live)
    assert samples["sandbox_gateway_connected", "0"] == 0
    assert samples["sandbox_publishing",] == 0
    live.sim.refuse_resume_url(False)
    for server in (servers.postgres, servers.valkey, servers.nats):
        await server.start()
    await eventually(_is_ready(live))


async def test_openmetrics_on_request(live: Live) -> None:
    _, kind, plain = await fetch(live, "/metrics")
    assert kind.startswith("text/plain")
    wanted = "application/openmetrics-text;version=1.0.0"
    _, kind, body = await fetch(live, "/metrics", Accept=wanted)
    assert kind.startswith("application/openmetrics-text")
    families = {family.name for family in parse_openmetrics(body)}
    # The older format tells the moment of creation as a metric of its own.
    described = {family.name for family in text_string_to_metric_families(plain)}
    moments = {f"{name}_created" for name in described}
    assert families == described - moments


async def test_the_numbers_are_what_was_done(start_live: StartLive, servers: EmbeddedServers) -> None:
    """1,000 events, three sandboxes, two failures."""
    live = await start_live(metrics_owner_labels=20)
    before = await samples_of(live)
    ids = [await live.create(name) for name in ("one", "two", "three")]
    for name in ("one", "x"):
        refused = await live.slash("create", name=name)
        assert "SANDBOX_" in refused.text
    for guild, sandbox_id, name in zip(live.guilds, ids, ("one", "two", "three"), strict=False):
        await live.register(guild, sandbox_id, name)
    question = await live.slash("destroy", name="three")
    live.sides.set(live.guilds[2], None, ids[2])
    answer = await live.sim.click(question, live.alice, label="Destroy it")
    await answer.wait_until(lambda r: "is destroyed" in r.text)
    live.sides.set(live.guilds[2], None)
    await live.sim.flood(1_000)
    stored = await live.checked()
    await live.run.bot.sandbox_core.cleanup.refresh_gauges()

    after = await samples_of(live)

    def grew(*key: str) -> float:
        return after[key] - before.get(key, 0)

    where = Counter(event.stream for event in stored)
    assert after["sandbox_events_routed_total", "sandbox"] == where["SANDBOX"] >= 200
    assert after["sandbox_events_routed_total", "production"] == where["EVENTS"] >= 800
    assert after["sandbox_events_routed_total", "held"] == 0
    assert after["sandbox_event_route_duration_seconds_count",] == len(stored)
    assert grew("sandbox_created_total") == 3
    assert grew("sandbox_creation_duration_seconds_count") == 3
    assert grew("sandbox_destroyed_total") == grew("sandbox_destroy_duration_seconds_count") == 1
    assert grew("sandbox_create_failures_total", "SANDBOX_001") == 1
    assert grew("sandbox_create_failures_total", "SANDBOX_007") == 1
    failures = sum(value for (name, *_), value in after.items() if name == "sandbox_create_failures_total")
    assert failures == 2
    assert after["sandbox_commands_total", "create", "done"] == 3
    assert after["sandbox_commands_total", "create", "refused"] == 2
    assert after["sandbox_commands_total", "destroy", "done"] == 1
    ended = {key: value for key, value in after.items() if key[0] == "sandbox_commands_total"}
    assert not any(value for (*_, how), value in ended.items() if how in {"unavailable", "failed"})
    assert after["sandbox_command_duration_seconds_count",] == sum(ended.values())
    assert after["sandbox_active_count",] == after["sandbox_active_total", str(live.alice.id)] == 2
    assert after["sandbox_active_total", "other"] == 0
    assert after["sandbox_guild_mappings",] == 2
    assert after["sandbox_gateway_ack_lag",] == after["sandbox_gateway_inflight",] == 0
    assert after["sandbox_gateway_identifies_total",] == 1
    dropped = sum(value for (name, *_), value in after.items() if name == "sandbox_gateway_dropped_total")
    assert dropped == 0
    for name in (
        "sandbox_cleanup_sandboxes_total",
        "sandbox_cleanup_duration_seconds_count",
        "sandbox_route_lookup_duration_seconds_count",
        "sandbox_gateway_resumes_total",
        "sandbox_gateway_gaps_total",
        "sandbox_events_held",
    ):
        assert after[name,] == 0, name


def _answers(live: Live) -> Callable[[], Awaitable[bool]]:
    async def answers() -> bool:
        return (await live.get("/healthz"))[0] == 200

    return answers


def _is_ready(live: Live) -> Callable[[], Awaitable[bool]]:
    async def ready() -> bool:
        return (await fetch(live, "/readyz"))[0] == 200

    return ready
