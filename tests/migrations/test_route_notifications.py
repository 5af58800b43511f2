"""What channel `sandbox_routes` says, and when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from tests.migrations.test_tables import add_sandbox, map_guild

GUILD = "110373943822540800"
OTHER = "110373943822540801"
END = "110373943822540999"


class Listener:
    """Collects notifications up to one that the test sends itself, so that none is waited for in vain."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._queue: asyncio.Queue[str] = asyncio.Queue()

    def __call__(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        self._queue.put_nowait(str(payload))

    async def heard(self) -> list[dict[str, Any]]:
        await self._connection.execute("SELECT pg_notify('sandbox_routes', 'end')")
        messages = []
        while (payload := await asyncio.wait_for(self._queue.get(), 60)) != "end":
            messages.append(json.loads(payload))
        return messages


@pytest.fixture
async def listener(database_url: str) -> AsyncIterator[Listener]:
    connection = await asyncpg.connect(database_url)
    collecting = Listener(connection)
    await connection.add_listener("sandbox_routes", collecting)
    yield collecting
    await connection.close()


async def routed(connection: asyncpg.Connection, guild: str, sandbox: UUID) -> dict[str, Any]:
    expires = await connection.fetchval("SELECT expires_at FROM sandboxes WHERE id = $1", sandbox)
    return {"guild_id": guild, "sandbox_id": str(sandbox), "expires_at": expires.timestamp()}


def production(guild: str) -> dict[str, Any]:
    return {"guild_id": guild, "sandbox_id": None, "expires_at": None}


async def test_registering_and_unregistering(connection: asyncpg.Connection, listener: Listener) -> None:
    sandbox = await add_sandbox(connection)
    await map_guild(connection, GUILD, sandbox)
    await connection.execute("DELETE FROM sandbox_guild_mapping")
    assert await listener.heard() == [await routed(connection, GUILD, sandbox), production(GUILD)]


@pytest.mark.parametrize("status", ["pending", "creating", "expired", "destroying", "destroyed"])
async def test_only_a_running_sandbox_is_a_route(
    connection: asyncpg.Connection, listener: Listener, status: str
) -> None:
    sandbox = await add_sandbox(connection, status=status)
    await map_guild(connection, GUILD, sandbox)
    assert await connection.fetch("SELECT * FROM sandbox_routes") == []
    await connection.execute("UPDATE sandboxes SET status = 'running'")
    assert len(await connection.fetch("SELECT * FROM sandbox_routes")) == 1
    await connection.execute("UPDATE sandboxes SET status = $1::text::sandbox_status", status)
    assert await listener.heard() == [
        production(GUILD),
        await routed(connection, GUILD, sandbox),
        production(GUILD),
    ]


async def test_an_extension_tells_every_guild(connection: asyncpg.Connection, listener: Listener) -> None:
    sandbox = await add_sandbox(connection)
    bystander = await add_sandbox(connection)
    await map_guild(connection, GUILD, sandbox)
    await map_guild(connection, OTHER, sandbox)
    await map_guild(connection, END, bystander)
    await listener.heard()
    await connection.execute(
        "UPDATE sandboxes SET expires_at = expires_at + interval '1.5 seconds' WHERE id = $1", sandbox
    )
    heard = sorted(await listener.heard(), key=lambda message: message["guild_id"])
    assert heard == [await routed(connection, GUILD, sandbox), await routed(connection, OTHER, sandbox)]


async def test_what_changes_no_route_is_not_told(connection: asyncpg.Connection, listener: Listener) -> None:
    sandbox = await add_sandbox(connection)
    await map_guild(connection, GUILD, sandbox)
    await listener.heard()
    await connection.execute("UPDATE sandboxes SET last_activity_at = now(), metadata = '{\"a\": 1}'")
    await connection.execute("UPDATE sandboxes SET status = 'running', expires_at = expires_at")
    assert await listener.heard() == []


async def test_moving_a_guild(connection: asyncpg.Connection, listener: Listener) -> None:
    first, second = await add_sandbox(connection), await add_sandbox(connection)
    await map_guild(connection, GUILD, first)
    await listener.heard()
    await connection.execute("UPDATE sandbox_guild_mapping SET sandbox_id = $1", second)
    assert await listener.heard() == [await routed(connection, GUILD, second)]
    await connection.execute("UPDATE sandbox_guild_mapping SET guild_id = $1", OTHER)
    assert await listener.heard() == [production(GUILD), await routed(connection, OTHER, second)]


async def test_deleting_the_sandbox(connection: asyncpg.Connection, listener: Listener) -> None:
    sandbox = await add_sandbox(connection)
    await map_guild(connection, GUILD, sandbox)
    await listener.heard()
    await connection.execute("DELETE FROM sandboxes")
    assert await listener.heard() == [production(GUILD)]


async def test_a_rolled_back_change_is_not_told(connection: asyncpg.Connection, listener: Listener) -> None:
    sandbox = await add_sandbox(connection)
    transaction = connection.transaction()
    await transaction.start()
    await map_guild(connection, GUILD, sandbox)
    await transaction.rollback()
    assert await listener.heard() == []


async def test_one_transaction_tells_its_end(connection: asyncpg.Connection, listener: Listener) -> None:
    """There and back and there again: the last thing heard must be where the guild is."""
    sandbox = await add_sandbox(connection)
    async with connection.transaction():
        await map_guild(connection, GUILD, sandbox)
        await connection.execute("DELETE FROM sandbox_guild_mapping")
        await map_guild(connection, GUILD, sandbox)
    assert await listener.heard() == [await routed(connection, GUILD, sandbox)]


@pytest.mark.parametrize("registering_first", [True, False])
async def test_registering_while_the_sandbox_is_destroyed(
    connection: asyncpg.Connection, database_url: str, listener: Listener, *, registering_first: bool
) -> None:
    """Two transactions at once, in either order: the guild ends in production and everyone is told."""
    sandbox = await add_sandbox(connection)
    rival = await asyncpg.connect(database_url)
    try:

        async def register(who: asyncpg.Connection) -> None:
            await map_guild(who, GUILD, sandbox)

        async def destroy(who: asyncpg.Connection) -> None:
            await who.execute("UPDATE sandboxes SET status = 'destroying'")

        first, second = (register, destroy) if registering_first else (destroy, register)
        transaction = connection.transaction()
        await transaction.start()
        await first(connection)
        waiting = asyncio.create_task(second(rival))
        await _until_blocked(database_url, rival.get_server_pid())
        await transaction.commit()
        await waiting
        assert await connection.fetch("SELECT * FROM sandbox_routes") == []
        assert (await listener.heard())[-1] == production(GUILD)
    finally:
        await rival.close()


async def test_registering_two_guilds_at_once(connection: asyncpg.Connection, database_url: str) -> None:
    """Each transaction also touches the sandbox's row: neither may end in a deadlock."""
    sandbox = await add_sandbox(connection)

    async def register(guild: str) -> None:
        async with pool.acquire() as own, own.transaction():
            await map_guild(own, guild, sandbox)
            await own.execute("UPDATE sandboxes SET last_activity_at = now() WHERE id = $1", sandbox)

    guilds = [str(110373943822540800 + number) for number in range(8)]
    async with asyncpg.create_pool(database_url, min_size=8, max_size=8) as pool:
        await asyncio.gather(*(register(guild) for guild in guilds))
    rows = await connection.fetch("SELECT guild_id FROM sandbox_routes ORDER BY 1")
    assert [row["guild_id"] for row in rows] == guilds


async def _until_blocked(database_url: str, pid: int) -> None:
    watcher = await asyncpg.connect(database_url)
    try:
        async with asyncio.timeout(60):
            while not await watcher.fetchval("SELECT cardinality(pg_blocking_pids($1)) > 0", pid):
                await asyncio.sleep(0.01)
    finally:
        await watcher.close()
