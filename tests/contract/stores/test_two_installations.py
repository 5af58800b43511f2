"""Two installations in one database: neither hears the other, nor takes its schemas for orphans."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from sandbox_bot.migrate import migrate
from sandbox_core.errors import SchemaCreationFailed
from sandbox_core.namespaces import SchemaProvisioner
from sandbox_core.postgres import Pool, create_pool
from sandbox_core.postgres import routes as route_rows
from sandbox_core.postgres.processes import GatewayProcess, announce
from sandbox_core.postgres.switches import SwitchRequests
from sandbox_core.route_provider import RouteFollower

GUILD = "100000000000000001"


@pytest.fixture
async def acme(database_url: str) -> AsyncIterator[Pool]:
    """An installation whose tables are in the schema `acme`."""
    await migrate(database_url, schema="acme")
    pool = await create_pool(database_url, max_size=4, search_path="acme")
    yield pool
    pool.terminate()


async def mapped(pool: Pool, guild_id: str) -> str:
    """A running sandbox that has the guild's events; its id."""
    sandbox_id = uuid.uuid4()
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO sandboxes (id, name, owner, status, schema_name, expires_at)"
            " VALUES ($1, $2, '1', 'running', $3, '9999-01-01')",
            sandbox_id,
            f"box-{sandbox_id.hex[:8]}",
            f"sandbox_{sandbox_id.hex[:8]}",
        )
        await connection.execute(
            "INSERT INTO sandbox_guild_mapping (guild_id, sandbox_id, registered_by) VALUES ($1, $2, '1')",
            guild_id,
            sandbox_id,
        )
    return str(sandbox_id)


def connecting(database_url: str, schema: str) -> Callable[[], Awaitable[asyncpg.Connection[Any]]]:
    async def connect() -> asyncpg.Connection[Any]:
        return await asyncpg.connect(database_url, server_settings={"search_path": schema})

    return connect


async def test_each_one_hears_of_its_own_routes_alone(database_url: str, pool: Pool, acme: Pool) -> None:
    heard: dict[str, list[str]] = {}
    done: dict[str, asyncio.Event] = {}
    listeners = []
    for schema in ("public", "acme"):
        connection = await connecting(database_url, schema)()
        listeners.append(connection)
        name = await connection.fetchval("SELECT sandbox_channel($1)", route_rows.CHANNEL)
        heard[name], done[name] = [], asyncio.Event()

        def note(_connection: Any, _pid: int, channel: str, payload: Any) -> None:
            heard[channel].append(str(payload))
            done[channel].set()

        await connection.add_listener(name, note)
    assert list(heard) == ["sandbox_routes", "sandbox_routes_acme"]
    try:
        theirs = await mapped(acme, GUILD)
        async with asyncio.timeout(60):
            await done["sandbox_routes_acme"].wait()
        ours = await mapped(pool, GUILD)
        async with asyncio.timeout(60):
            await done["sandbox_routes"].wait()
    finally:
        for connection in listeners:
            await connection.close()
    # Notifications come in the order of the commits: what is missing by now will not come.
    assert [ours in each for each in heard["sandbox_routes"]] == [True]
    assert [theirs in each for each in heard["sandbox_routes_acme"]] == [True]


async def test_a_switch_waits_for_the_processes_of_its_own_installation(
    database_url: str, pool: Pool, acme: Pool
) -> None:
    frozen = GatewayProcess(uuid.uuid4(), "elsewhere:1")
    async with pool.acquire() as connection:
        # It announced itself just now and will never answer: who waits for it waits for seconds.
        await announce(connection, frozen)
    process = GatewayProcess(uuid.uuid4(), "here:2")
    follower = RouteFollower(connecting(database_url, "acme"), process=process, heartbeat=0.5)
    follower.start()
    try:
        async with asyncio.timeout(60):
            while follower.trouble or follower.table is None:
                await asyncio.sleep(0.01)
        switch = await SwitchRequests(acme).ask([GUILD])
    finally:
        await follower.close()
    assert (switch.confirmed, switch.unconfirmed) == ((process.name,), ())


async def test_the_schemas_of_another_one_are_no_orphans(pool: Pool, acme: Pool) -> None:
    ours, theirs = SchemaProvisioner(pool), SchemaProvisioner(acme)
    await ours.create("sandbox_00000001")
    await theirs.create("sandbox_00000002")
    await pool.execute("CREATE SCHEMA sandbox_00000003")
    # Nobody's rows know any of them. What bears no mark was made by hand, and is shown to both.
    assert await ours.orphans() == ["sandbox_00000001", "sandbox_00000003"]
    assert await theirs.orphans() == ["sandbox_00000002", "sandbox_00000003"]
    assert not await ours.drop_orphan("sandbox_00000002")
    await ours.drop_schema("sandbox_00000002")
    assert await theirs.exists("sandbox_00000002")
    with pytest.raises(SchemaCreationFailed):
        await ours.create("sandbox_00000002")
    assert await theirs.drop_orphan("sandbox_00000002")
    assert not await theirs.exists("sandbox_00000002")


async def test_the_comment_says_whose_a_schema_is(pool: Pool, acme: Pool) -> None:
    for installation, schema in ((pool, "sandbox_00000001"), (acme, "sandbox_00000002")):
        await SchemaProvisioner(installation).create(schema)
    comments = {
        row["name"]: row["comment"]
        for row in await pool.fetch(
            "SELECT nspname::text AS name, obj_description(oid, 'pg_namespace') AS comment"
            " FROM pg_namespace WHERE nspname LIKE 'sandbox%'"
        )
    }
    assert comments == {
        "sandbox_00000001": "discord-server-sandboxes, control schema public",
        "sandbox_00000002": "discord-server-sandboxes, control schema acme",
    }
