"""The bot on servers that belong to others too: its own names, and nothing of theirs touched."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import nats
import pytest
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, RetentionPolicy, StreamConfig

from sandbox_bot.migrate import migrate
from sandbox_core.context import SandboxContext
from tests.e2e.conftest import StartBot, StartLive
from tests.e2e.harness import eventually, get, jetstream
from tests.e2e.programs import program
from tests.e2e.test_worker_example import listening

NAMES = {
    "NATS_EVENTS_STREAM": "PROD_EVENTS",
    "NATS_EVENTS_PREFIX": "acme.discord",
    "NATS_SANDBOX_STREAM": "ACME_SANDBOX",
    "SANDBOX_CONTROL_SCHEMA": "acme_control",
}
OVERRIDES = {name.lower(): value for name, value in NAMES.items()}
RAILS = (
    "CREATE TABLE schema_migrations (version varchar NOT NULL PRIMARY KEY)",
    "INSERT INTO schema_migrations VALUES ('20240101000000')",
    # Of a type that none of ours could be mistaken for.
    "CREATE TABLE sandboxes (toys text)",
)


class Neighbour:
    """Another application's stream on the same server, a work queue with a consumer and unread messages."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def settle(self) -> None:
        js = self._client.jetstream()
        await js.add_stream(
            StreamConfig(
                name="EVENTS",
                subjects=["billing.>"],
                retention=RetentionPolicy.WORK_QUEUE,
                max_age=3600,
                max_msgs=10,
            )
        )
        await js.add_consumer("EVENTS", ConsumerConfig(durable_name="accountant"))
        for number in range(3):
            await js.publish("billing.invoice", f"invoice {number}".encode(), headers={"n": str(number)})

    async def facts(self) -> list[Any]:
        """Everything the server tells of the stream, byte for byte, but for the time of the answer."""
        found: list[Any] = []
        for question, payload in (
            ("STREAM.INFO.EVENTS", {"subjects_filter": ">"}),
            ("CONSUMER.NAMES.EVENTS", {}),
            ("CONSUMER.INFO.EVENTS.accountant", {}),
            *(("STREAM.MSG.GET.EVENTS", {"seq": number}) for number in (1, 2, 3)),
        ):
            answer = await self._client.request(
                f"$JS.API.{question}", json.dumps(payload).encode(), timeout=5
            )
            told = json.loads(answer.data)
            assert "error" not in told, told
            told.pop("ts", None)
            found.append(told)
        return found


@pytest.fixture
async def neighbour(nats_url: str) -> AsyncIterator[Neighbour]:
    client = await nats.connect(nats_url)
    yield Neighbour(client)
    await client.close()


@asynccontextmanager
async def database(url: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def test_a_whole_life_with_names_of_its_own(
    start_live: StartLive,
    start_bot: StartBot,
    neighbour: Neighbour,
    urls: dict[str, str],
    empty_database_url: str,
) -> None:
    urls["database_url"] = empty_database_url
    async with database(empty_database_url) as connection:
        for statement in RAILS:
            await connection.execute(statement)
        await migrate(empty_database_url, schema=NAMES["SANDBOX_CONTROL_SCHEMA"])
        await neighbour.settle()
        before = await neighbour.facts()

        live = await start_live(**OVERRIDES)
        sandbox_id, guild = await live.mapped()
        for where in (guild, live.guilds[1]):
            live.sim.message(where, author=live.alice, content="first")
        stored = await live.checked()
        assert {event.stream for event in stored} == {"PROD_EVENTS", "ACME_SANDBOX"}
        assert any(event.subject == "acme.discord.MESSAGE_CREATE" for event in stored)
        assert (await live.get("/readyz"))[0] == 200

        # After a restart the streams are asked for what they hold already.
        await live.run.stop()
        live.sim.message(live.guilds[2], author=live.alice, content="while it is away")
        live.run = await start_bot(live.run.settings)
        await live.unregister(guild, sandbox_id)
        live.sim.message(guild, author=live.alice, content="second")
        await live.checked()
        result = await live.slash("destroy", name="box")
        await live.sim.click(result, live.alice, label=result.buttons[0]["label"])

        async def destroyed() -> bool:
            rows = await connection.fetch("SELECT status::text FROM acme_control.sandboxes")
            return [row["status"] for row in rows] == ["destroyed"]

        await eventually(destroyed)
        async with jetstream(live.run.settings) as js:
            names = sorted(str(info.config.name) for info in await js.streams_info())
            assert names == ["EVENTS", "PROD_EVENTS"]
        assert await neighbour.facts() == before
        await live.run.stop()
        assert await neighbour.facts() == before
        theirs = await connection.fetch(
            "SELECT relname::text AS name FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')"
        )
        assert sorted(row["name"] for row in theirs) == ["sandboxes", "schema_migrations"]
        assert await connection.fetchval("SELECT version FROM schema_migrations") == "20240101000000"


async def test_workers_of_both_worlds_take_the_names(
    start_live: StartLive, urls: dict[str, str], database_url: str, tmp_path: Path
) -> None:
    await migrate(database_url, schema=NAMES["SANDBOX_CONTROL_SCHEMA"])
    live = await start_live(**OVERRIDES)
    sandbox_id, guild = await live.mapped()
    servers = {name.upper(): url for name, url in urls.items()}
    connect = ("sandbox_bot", "connect", "box", "--json")
    async with program(*connect, directory=tmp_path, **servers, **NAMES) as asked:
        assert await asked.exit_code() == 0, asked.errors
    variables = json.loads(asked.output)
    assert variables["NATS_SANDBOX_STREAM"] == "ACME_SANDBOX"
    own = f"ACME_SANDBOX_{sandbox_id[:8]}"
    production = SandboxContext.from_env(servers | NAMES)
    inside = SandboxContext.from_env(servers | variables)
    assert (production.world.stream, inside.world.stream) == ("PROD_EVENTS", own)
    async with production, inside, jetstream(live.run.settings) as js:
        heard = {}
        for context, where in ((production, live.guilds[1]), (inside, guild)):
            events = context.events("MESSAGE_CREATE")
            task = asyncio.create_task(anext(events))
            await eventually(lambda context=context: listening(js, context.world.stream))
            live.sim.message(where, author=live.alice, content="to a worker")
            async with asyncio.timeout(60):
                event = await task
            heard[context.world.stream] = (event.subject, event.guild_id)
            await events.aclose()
    assert heard == {
        "PROD_EVENTS": ("acme.discord.MESSAGE_CREATE", str(live.guilds[1].id)),
        own: (f"sandbox.{sandbox_id}.events.MESSAGE_CREATE", str(guild.id)),
    }


async def test_with_the_default_names_it_waits_and_says_why(
    start_live: StartLive, start_bot: StartBot, neighbour: Neighbour, urls: dict[str, str], tmp_path: Path
) -> None:
    # It has been there before: with a session to resume, for which the streams are asked what they hold.
    live = await start_live()
    live.sim.message(live.guilds[0], author=live.alice)
    await live.checked()
    await live.run.stop()
    async with jetstream(live.run.settings) as js:
        await js.delete_stream("EVENTS")
    await neighbour.settle()
    before = await neighbour.facts()
    live.run = await start_bot(live.run.settings, ready=False)

    async def named() -> bool:
        status, body = await live.get("/readyz")
        missing = json.loads(body).get("missing", {}) if status == 503 else {}
        return "billing.>" in missing.get("NATS", "")

    await eventually(named)
    for _ in range(5):
        live.sim.message(live.guilds[0], author=live.alice)
    environment = {name.upper(): url for name, url in urls.items()}
    async with program("sandbox_bot", "doctor", directory=tmp_path, **environment) as looked:
        assert await looked.exit_code() != 0
    said = " ".join((looked.output + looked.errors).split())
    assert "NATS_EVENTS_STREAM" in said
    assert "billing.>" in said
    assert "delete" not in said
    assert "stream rm" not in said
    assert await neighbour.facts() == before
    assert not live.run.ended
    await live.run.stop()
    assert await neighbour.facts() == before
    assert (await get(live.run.url, "/readyz"))[0] == 0
