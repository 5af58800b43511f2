"""Servers that die while events flow: what must go on does, and nothing is lost or guessed."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace

import asyncpg
import pytest
from structlog.testing import capture_logs

from sandbox_bot.embedded import EmbeddedServers
from sandbox_bot.tour.readback import StoredEvent, compare
from tests.e2e.harness import Flood, Live, assert_exact, eventually
from tests.embedded.hanging import frozen
from tests.embedded.reloading import reload


async def test_nats_killed_in_a_flood(live: Live, servers: EmbeddedServers) -> None:
    sandbox_id, guild = await live.mapped()
    flood = Flood(live.sim, 4_000, rate=1_000)
    await flood.reached(800)
    await servers.nats.kill()
    killed_at = len(live.sim.sent)
    await eventually(lambda: live.run.bot.sandbox_core.router.pending > 500)
    await eventually(lambda: _missing(live, "NATS"))
    await servers.nats.start()
    await flood.over()
    live.sim.message(guild, content="after the flood")
    await live.run.bot.sandbox_core.router.idle()
    # The sandboxes' stream is in memory: what it had is gone with its server, and it is there again.
    stored = await live.stored(wait=False)
    production = [e for e in live.sides.expected() if e.sides == {None}]
    assert_exact(compare(production, [e for e in stored if e.stream == "EVENTS"]))
    later = [e for e in live.sides.expected()[killed_at:] if e.sides == {sandbox_id}]
    result = compare(later, [e for e in stored if e.stream == "SANDBOX"])
    assert later
    assert result.faults.keys() <= {"unexpected"}, result
    # What was under way when it was killed may be in the new stream too, once.
    assert len(set(result.unexpected)) == len(result.unexpected)
    assert len(live.sim.identifies) == 1
    await eventually(lambda: _is_ready(live))


@pytest.mark.usefixtures("reloaded")
async def test_nats_that_ends_connections_for_good(live: Live, servers: EmbeddedServers) -> None:
    await live.mapped()
    flood = Flood(live.sim, 2_000, rate=1_000)
    await flood.reached(500)
    with capture_logs() as logs:
        before = reload(servers.nats, max_connections=0)
        await eventually(lambda: _missing(live, "NATS", "maximum connections exceeded"))
        assert await _missing(live, "NATS", f"127.0.0.1:{servers.nats.port}")
        await eventually(lambda: _shows(live, "sandbox_publishing 0.0"))
        await eventually(lambda: live.run.bot.sandbox_core.router.pending > 500)
        reload(servers.nats, max_connections=100)
        await eventually(lambda: _is_ready(live))
    await eventually(lambda: _shows(live, "sandbox_publishing 1.0"))
    told = [line for line in logs if line["event"] in ("nats_closed", "nats_reconnected")]
    assert [line["event"] for line in told] == ["nats_closed", "nats_reconnected"]
    assert told[0]["reason"] == "maximum connections exceeded"
    reload(servers.nats, max_payload=100_000)
    guild = live.guilds[1]
    body = {"id": "1", "channel_id": "1", "guild_id": str(guild.id), "content": "x" * 300_000}
    live.sim.emit("MESSAGE_UPDATE", body, guild_id=guild.id)
    await flood.over()
    await live.run.bot.sandbox_core.router.idle()
    reload(servers.nats, **before)
    live.sim.emit("MESSAGE_UPDATE", body, guild_id=guild.id)
    stored = [unpacked(event) for event in await live.stored()]
    assert_exact(compare(live.sides.expected(), stored))
    assert len(live.sim.identifies) == 1


def unpacked(event: StoredEvent) -> StoredEvent:
    """The event without the compression that the lower limit asks for."""
    headers = dict(event.headers)
    if headers.pop("Content-Encoding", "") != "gzip":
        return event
    return replace(event, headers=headers, payload=gzip.decompress(event.payload))


@pytest.mark.parametrize("part", ["NATS", "PostgreSQL", "Redis"])
async def test_a_server_that_hangs_is_named(live: Live, servers: EmbeddedServers, part: str) -> None:
    server = {"NATS": servers.nats, "PostgreSQL": servers.postgres, "Redis": servers.valkey}[part]
    async with frozen(server):
        await live.sim.flood(500)
        await eventually(lambda: _named(live, part, f"127.0.0.1:{server.port}"))
    await eventually(lambda: _is_well(live))
    await live.sim.flood(500)
    await live.checked()
    assert len(live.sim.identifies) == 1


async def test_redis_killed_changes_nothing_for_events(live: Live, servers: EmbeddedServers) -> None:
    await live.mapped()
    await live.sim.flood(500)
    await servers.valkey.kill()
    await live.sim.flood(500)
    # A route that is changed meanwhile holds at once.
    other = live.guilds[1]
    await live.register(other, live_id := await _sandbox_of(live))
    await live.sim.flood(500)
    stored = await live.checked()
    assert {e.headers["Discord-Guild-Id"] for e in stored if e.headers.get("Sandbox-Id") == live_id} == {
        str(live.guilds[0].id),
        str(other.id),
    }
    await live.sim.drop()
    await eventually(lambda: len(live.sim.resumes) == 1)
    await live.sim.flood(500)
    await live.checked()
    assert len(live.sim.identifies) == 1


async def test_postgresql_killed(live: Live, servers: EmbeddedServers) -> None:
    sandbox_id, guild = await live.mapped()
    await servers.postgres.kill()
    await eventually(lambda: _missing(live, "PostgreSQL"))
    await live.sim.flood(1_000)
    await live.checked()
    for command, options in (
        ("create", {"name": "other"}),
        ("unregister-guild", {"guild": str(guild.id)}),
        ("register-guild", {"name": "box", "guild": str(live.guilds[1].id)}),
        ("list", {}),
        ("status", {"name": "box"}),
    ):
        # The simulator gives up after ten seconds, as the promise says.
        answer = await live.slash(command, timeout=60, **options)
        assert "SANDBOX_012" in answer.text, answer.text
        assert "PostgreSQL" in answer.text
        assert answer.responded_in_seconds < 3
    await servers.postgres.start()
    await eventually(lambda: _is_ready(live))
    await live.unregister(guild, sandbox_id)
    await live.register(live.guilds[1], sandbox_id)
    await live.sim.flood(1_000)
    await live.checked()


async def test_routes_changed_while_the_link_to_postgresql_was_down(
    live: Live, servers: EmbeddedServers, urls: dict[str, str]
) -> None:
    _, guild = await live.mapped()
    await servers.postgres.restart()
    # By the time this is through, the bot's link is being made again.
    connection = await asyncpg.connect(urls["database_url"])
    await connection.execute("DELETE FROM sandbox_guild_mapping")
    await connection.close()
    await eventually(lambda: live.run.bot.sandbox_core.routes.current_table is not None)
    await eventually(lambda: not live.run.bot.sandbox_core.routes.statistics()["guilds"])
    live.sides.set(guild, None)
    await live.sim.flood(500)
    await live.checked()


@pytest.mark.parametrize("away", ["valkey", "nats"])
async def test_listing_works_without_redis_or_nats(live: Live, servers: EmbeddedServers, away: str) -> None:
    await live.create()
    await getattr(servers, away).kill()
    listing = await live.slash("list", timeout=60)
    assert "box" in listing.text
    status = await live.slash("status", timeout=10, name="box")
    assert "SANDBOX_" not in status.text
    assert "🔴" in status.text
    await getattr(servers, away).start()
    await eventually(lambda: _is_ready(live))


async def _is_ready(live: Live) -> bool:
    return (await live.get("/readyz"))[0] == 200


async def _is_well(live: Live) -> bool:
    return (await live.get("/readyz"))[1].startswith('{"status": "ready"')


async def _missing(live: Live, part: str, word: str = "") -> bool:
    status, body = await live.get("/readyz")
    missing = json.loads(body)["missing"] if status == 503 else {}
    return part in missing and word in missing[part]


async def _shows(live: Live, line: str) -> bool:
    return line in (await live.get("/metrics"))[1]


async def _named(live: Live, part: str, word: str) -> bool:
    said = json.loads((await live.get("/readyz"))[1])
    return word in {**said.get("missing", {}), **said.get("degraded", {})}.get(part, "")


async def _sandbox_of(live: Live) -> str:
    sandbox = await live.run.bot.sandbox_core.manager.get("box")
    return str(sandbox.id)
