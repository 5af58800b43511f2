"""The worker of `docs/` as a process in each world, behind the bot and the simulator."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import aiohttp
import asyncpg
import nats
import pytest
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from redis.asyncio import Redis

from discord_sim import SimGuild
from sandbox_core.subjects import EVENTS_STREAM, schema_name
from tests.e2e.harness import Live, eventually, jetstream
from tests.e2e.programs import Program, program
from tests.forked import ROOT
from tests.streams import EVERY_SANDBOX, names_of

EXAMPLE = ROOT / "docs" / "worker_example.py"


async def offer_rank(live: Live) -> None:
    """Publish `/rank` in every server, as the team's own deployment would."""
    url = f"{live.sim.api_url}/applications/{live.sim.application_id}/commands"
    command = {"name": "rank", "description": "Your points", "type": 1}
    headers = {"Authorization": f"Bot {live.sim.token}"}
    async with aiohttp.ClientSession(headers=headers) as http, http.put(url, json=[command]) as answer:
        answer.raise_for_status()


async def make_productions_tables(database_url: str) -> None:
    """Production has tables of the same shape, in its own schema."""
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            pattern = await connection.fetchval("SELECT create_sandbox_schema('00000000')")
            for table in ("communities", "profiles", "badges"):
                await connection.execute(
                    f"CREATE TABLE public.{table} (LIKE {pattern}.{table} INCLUDING ALL)"
                )
            await connection.execute("SELECT drop_sandbox_schema('00000000')")
    finally:
        await connection.close()


async def points(database_url: str, schema: str) -> list[tuple[str, int, str]]:
    """Guild, points and badge of each profile."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(
            f"SELECT guild_id, xp, code FROM {schema}.communities c"
            f" JOIN {schema}.profiles p ON p.community_id = c.id"
            f" JOIN {schema}.badges b ON b.profile_id = p.id"
        )
        return [tuple(row) for row in rows]
    finally:
        await connection.close()


async def keys(redis_url: str, pattern: str) -> dict[str, dict[str, str] | None]:
    """The worker's keys: the counts of what it handled, the others only by name."""
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        return {
            key: await client.hgetall(key) if key.endswith("handled") else None
            async for key in client.scan_iter(match=pattern)
        }


async def listening(js: JetStreamContext, stream: str) -> bool:
    """Whether a consumer of the stream, or of a sandbox's stream, waits for events."""
    for name in await names_of(js, stream):
        if any(consumer.num_waiting for consumer in await js.consumers_info(name)):
            return True
    return False


async def rank(live: Live, guild: SimGuild) -> str:
    return (await live.sim.slash(live.alice, guild.default_channel, "rank", timeout=60)).text


async def stop(running: Program, number: signal.Signals) -> None:
    running.signal(number)
    assert await running.exit_code() == 0, running.errors
    assert "Traceback" not in running.errors
    assert running.errors.rstrip().endswith("ended")


async def test_one_worker_in_both_worlds(live: Live, urls: dict[str, str], tmp_path: Path) -> None:
    database_url, redis_url = urls["database_url"], urls["redis_url"]
    await make_productions_tables(database_url)
    await offer_rank(live)
    sandbox_id, mine = await live.mapped()
    theirs = live.guilds[1]
    environment = {name.upper(): url for name, url in urls.items()} | {"DISCORD_API_URL": live.sim.api_url}
    awarded: list[Msg] = []

    async def note(message: Msg) -> None:
        awarded.append(message)

    nats_client = await nats.connect(urls["nats_url"])
    try:
        for subject in ("badges.awarded", "sandbox.*.badges.awarded"):
            await nats_client.subscribe(subject, cb=note)
        await nats_client.flush()
        async with (
            jetstream(live.run.settings) as js,
            program("docs.worker_example", directory=tmp_path, **environment) as production,
            program(
                *("sandbox_bot", "exec", "box", "--", sys.executable, str(EXAMPLE)),
                directory=tmp_path,
                **environment,
            ) as sandboxed,
        ):
            for stream in (EVENTS_STREAM, EVERY_SANDBOX):
                await eventually(lambda stream=stream: listening(js, stream))
            assert "working in production" in production.errors
            assert "working in box" in sandboxed.errors

            # The second message falls into the author's cooldown.
            for guild, times in ((mine, 2), (theirs, 1)):
                for _ in range(times):
                    live.sim.message(guild, author=live.alice)
            await eventually(lambda: len(awarded) == 2)
            assert await rank(live, mine) == "You have 20 points, place 1."
            assert await rank(live, theirs) == "You have 20 points, place 1."

            # The answer is seen before the worker has noted that it gave it.
            async def noted() -> bool:
                found = await keys(redis_url, "*handled")
                return all("INTERACTION_CREATE" in (counts or {}) for counts in found.values())

            await eventually(noted)
            await stop(sandboxed, signal.SIGTERM)
            await stop(production, signal.SIGINT)
    finally:
        await nats_client.close()

    alice = str(live.alice.id)
    assert {message.subject: json.loads(message.data) for message in awarded} == {
        f"sandbox.{sandbox_id}.badges.awarded": {
            "guild_id": str(mine.id),
            "user_id": alice,
            "code": "first-words",
        },
        "badges.awarded": {"guild_id": str(theirs.id), "user_id": alice, "code": "first-words"},
    }
    assert await points(database_url, schema_name(sandbox_id[:8])) == [(str(mine.id), 20, "first-words")]
    assert await points(database_url, "public") == [(str(theirs.id), 20, "first-words")]
    prefix = f"sandbox:{sandbox_id}:"
    assert await keys(redis_url, f"{prefix}*") == {
        f"{prefix}cooldown:{mine.id}:{alice}": None,
        f"{prefix}handled": {"MESSAGE_CREATE": "2", "INTERACTION_CREATE": "1"},
    }
    productions = await keys(redis_url, "handled") | await keys(redis_url, "cooldown:*")
    assert productions.keys() == {"handled", f"cooldown:{theirs.id}:{alice}"}


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "DATABASE_URL is not set."),
        ({"DATABASE_URL": "x", "REDIS_URL": "x", "NATS_URL": "x", "SANDBOX_ID": "box"}, "SANDBOX_ID is not"),
    ],
)
async def test_without_its_variables_it_says_which(
    tmp_path: Path, environment: dict[str, str], said: str
) -> None:
    async with program("docs.worker_example", directory=tmp_path, **environment) as running:
        assert await running.exit_code() == 1
    assert said in running.errors
    assert "Traceback" not in running.errors
