"""What an operator sees and does: readiness, metrics, a stop that keeps the session, bodies Discord takes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from discord_sim import DiscordSim
from sandbox_bot.embedded import EmbeddedServers
from sandbox_bot.runner import StartRefusedError
from sandbox_bot.tour.readback import message_id
from sandbox_core.settings import SettingsError
from tests.e2e.conftest import StartBot, StartLive
from tests.e2e.harness import Flood, Live, eventually, settings_for
from tests.sim import openapi


async def readiness(live: Live) -> tuple[int, dict[str, object]]:
    """Status and answer of `/readyz`."""
    status, body = await live.get("/readyz")
    return status, json.loads(body) if status else {}


def is_missing(live: Live, part: str) -> Callable[[], Awaitable[bool]]:
    """Whether `/readyz` says 503 and names `part`, and `/healthz` still says that the process lives."""

    async def check() -> bool:
        status, answer = await readiness(live)
        if status != 503:
            return False
        assert (await live.get("/healthz"))[0] == 200
        return part in json.dumps(answer["missing"])

    return check


def is_ready(live: Live, **expected: object) -> Callable[[], Awaitable[bool]]:
    """Whether `/readyz` says 200 and this."""

    async def check() -> bool:
        status, answer = await readiness(live)
        answer.pop("latencies_ms", None)
        return (status, answer) == (200, {"isolation": "convention", **expected})

    return check


async def test_readiness_names_what_is_away(live: Live, servers: EmbeddedServers) -> None:
    await eventually(is_ready(live, status="ready"))
    await servers.valkey.kill()

    async def degraded() -> bool:
        status, answer = await readiness(live)
        missing_latency = "Redis" not in str(answer.get("latencies_ms"))
        return (status, answer["status"]) == (200, "degraded") and missing_latency

    await eventually(degraded)
    await servers.valkey.start()
    await eventually(is_ready(live, status="ready"))
    for server, part in ((servers.postgres, "PostgreSQL"), (servers.nats, "NATS")):
        await server.kill()
        await eventually(is_missing(live, part))
        await server.start()
        await eventually(is_ready(live, status="ready"))


async def test_readiness_says_no_while_discord_is_away(live: Live, sim: DiscordSim) -> None:
    sim.refuse_resume_url(how="hang")
    await sim.drop()
    await eventually(is_missing(live, "gateway"))
    sim.refuse_resume_url(False)
    await eventually(is_ready(live, status="ready"))


async def test_the_start_waits_for_nats_and_says_so(start_live: StartLive, servers: EmbeddedServers) -> None:
    await servers.nats.kill()
    live = await start_live(ready=False)
    await eventually(is_missing(live, "NATS"))
    await servers.nats.start()
    await live.run.ready()
    await eventually(is_ready(live, status="ready"))
    await live.mapped()
    await live.sim.flood(100)
    await live.checked()


async def test_a_start_without_postgresql_holds_events_until_it_knows_their_side(
    start_live: StartLive, servers: EmbeddedServers
) -> None:
    await servers.postgres.kill()
    live = await start_live()
    await eventually(is_missing(live, "PostgreSQL"))
    await live.sim.flood(200)
    await eventually(is_missing(live, "events wait for PostgreSQL"))
    assert [e for e in await live.stored(wait=False) if e.headers.get("Discord-Guild-Id")] == []
    await servers.postgres.start()
    await live.checked()
    await eventually(is_ready(live, status="ready"))


async def test_a_stop_while_waiting_for_a_server_is_prompt(
    start_live: StartLive, servers: EmbeddedServers
) -> None:
    await servers.nats.kill()
    live = await start_live(ready=False)
    await eventually(is_missing(live, "NATS"))
    await live.run.stop()


async def test_a_stop_keeps_the_gateway_session(live: Live, sim: DiscordSim) -> None:
    await live.mapped()
    await sim.flood(1_000)
    await live.run.stop()
    (session,) = sim.sessions
    assert not session.connected
    assert session.alive, "it could be resumed"
    assert session.last_client_close not in (None, 1000, 1001)


async def test_a_stop_publishes_what_it_has_taken(live: Live, sim: DiscordSim) -> None:
    await live.mapped()
    await sim.flood(2_000)
    await live.run.stop()
    stored = {event.message_id for event in await live.stored(wait=False)}
    # An unbroken beginning of what was sent: a resume goes on right behind it.
    there = [message_id(e.frame) in stored for e in live.sides.expected() if e.sides]
    assert any(there)
    assert there == sorted(there, reverse=True)


async def test_the_next_start_resumes_where_the_last_one_stopped(
    live: Live, sim: DiscordSim, start_bot: StartBot
) -> None:
    await live.mapped()
    flood = Flood(sim, 2_000, rate=1_000)
    await flood.reached(500)
    await live.run.stop()
    await sim.flood(100, hold_disconnected=False)
    live.run = await start_bot(live.run.settings)
    await flood.over()
    await live.checked()
    assert len(sim.identifies) == 1
    assert [resume.replayed is not None for resume in sim.resumes] == [True]


async def test_metrics_agree_with_what_discord_sent(live: Live) -> None:
    await live.mapped()
    await live.sim.flood(1_000)
    stored = await live.checked()
    status, body = await live.get("/metrics")
    assert status == 200
    samples = {
        (s.name, *sorted(s.labels.values())): s.value
        for family in text_string_to_metric_families(body)
        for s in family.samples
    }
    by_stream = Counter(event.stream for event in stored)
    assert samples["sandbox_events_routed_total", "sandbox"] == by_stream["SANDBOX"] == 100
    assert samples["sandbox_events_routed_total", "production"] == by_stream["EVENTS"]
    assert samples["sandbox_event_route_duration_seconds_count",] == len(stored)
    assert samples["sandbox_gateway_inflight",] == 0
    assert samples["sandbox_gateway_connected", "0"] == 1
    assert samples["sandbox_gateway_identifies_total",] == 1
    assert samples["sandbox_gateway_resumes_total",] == 0
    assert samples["sandbox_guild_mappings",] == 1
    assert samples["sandbox_created_total",] == 1
    errors = [v for (name, *_), v in samples.items() if name == "sandbox_event_routing_errors_total"]
    assert sum(errors) == 0


async def test_every_body_the_bot_sends_fits_discords_description(live: Live, sim: DiscordSim) -> None:
    path = openapi.spec_path()
    if path is None:
        pytest.skip("Discord's OpenAPI description is not here; name it in DISCORD_OPENAPI")
    guild = live.guilds[0]
    sandbox_id, _ = await live.mapped()
    for command, options in (
        ("list", {}),
        ("status", {"name": "box"}),
        ("connect", {"name": "box"}),
        ("extend", {"name": "box", "duration": "1h"}),
        ("create", {"name": "Not A Name"}),
        ("status", {"name": "unknown"}),
    ):
        await live.slash(command, **options)
    channel = live.dev.default_channel
    for command, option in (("status", "name"), ("register-guild", "guild")):
        choices = await sim.autocomplete(live.alice, channel, f"sandbox {command}", focused=option, value="")
        assert choices
    await live.unregister(guild, sandbox_id)
    for label, outcome in (("Keep it", "Nothing was deleted"), ("Destroy it", "is destroyed")):
        question = await live.slash("destroy", name="box")
        answer = await sim.click(question, live.alice, label=label)
        await answer.wait_until(lambda r, outcome=outcome: outcome in r.text)
    description = openapi.load(path)
    problems = Counter(problem for r in sim.requests for problem in description.problems(r))
    assert not problems, "\n".join(problems)
    assert sim.unknown_requests == []
    made = {f"{r.method} {r.route}" for r in sim.requests}
    assert {
        "POST /applications/{application_id}/guilds/{guild_id}/commands",
        "POST /interactions/{interaction_id}/{interaction_token}/callback",
        "PATCH /webhooks/{webhook_id}/{webhook_token}/messages/@original",
    } <= made


async def test_every_answer_comes_in_time_and_only_to_its_reader(live: Live) -> None:
    await live.mapped()
    for command, options in (
        ("list", {}),
        ("status", {"name": "box"}),
        ("create", {"name": "*"}),
        ("register-guild", {"name": "box", "guild": "1"}),
        ("destroy", {"name": "nobody"}),
    ):
        answer = await live.slash(command, **options)
        assert answer.ephemeral, command
        assert answer.responded_in_seconds < 3, command


async def test_refusals_of_the_start_are_sentences(
    sim: DiscordSim, urls: dict[str, str], start_bot: StartBot
) -> None:
    dev = sim.add_guild("dev")
    wrong = settings_for(sim, dev, urls, discord_token="another")
    with pytest.raises(StartRefusedError, match="DISCORD_TOKEN"):
        await (await start_bot(wrong, ready=False)).ready()
    sim.rules.disallowed_intents = 1 << 15
    with pytest.raises(StartRefusedError, match="DISCORD_PRIVILEGED_INTENTS"):
        await (await start_bot(settings_for(sim, dev, urls), ready=False)).ready()
    with pytest.raises(SettingsError, match="DISCORD_TOKEN is not set"):
        await (await start_bot(settings_for(sim, dev, urls, discord_token=None), ready=False)).ready()
