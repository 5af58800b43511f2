"""How long a sandbox's statements may take, and that none of them holds the bot up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.bootstrap import Core
from sandbox_core.postgres.errors import DRIVER_ERRORS

from .conftest import ALICE, BOB, Held, held, opened, settings_of


@pytest.fixture
async def core(closed: EmbeddedServers) -> AsyncIterator[Core]:
    async with opened(settings_of(closed, sandbox_database_statement_seconds=0.5)) as made:
        await made.cleanup.keep_credentials()
        yield made
        for sandbox in await made.manager.list():
            await made.manager.destroy(ALICE if sandbox.owner == ALICE.id else BOB, sandbox.name)


async def test_the_server_ends_a_statement_that_takes_too_long(mine: Held) -> None:
    connection = await mine.postgres()
    with pytest.raises(asyncpg.QueryCanceledError):
        await connection.execute("SELECT pg_sleep(30)")
    # The session goes on.
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT pg_sleep(60)",
        (
            "DO $$BEGIN LOOP BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN NULL; END; "
            "END LOOP; END$$"
        ),
    ],
    ids=["one that sleeps", "one that goes on when it is cancelled"],
)
async def test_the_bot_ends_a_session_that_has_lifted_the_limit(
    core: Core, mine: Held, other: Held, statement: str
) -> None:
    connection, idle = await mine.postgres(), await mine.postgres()
    neighbour = await other.postgres()
    await connection.execute("SET statement_timeout = 0")
    began = time.monotonic()
    running = asyncio.create_task(connection.execute(statement))
    async with asyncio.timeout(20):
        while not running.done():
            await core.cleanup.keep_credentials()
            await asyncio.sleep(0.05)
    with pytest.raises(DRIVER_ERRORS):
        running.result()
    assert time.monotonic() - began > 2
    assert await idle.fetchval("SELECT 1") == 1
    assert await neighbour.fetchval("SELECT count(*) FROM communities") == 1
    await idle.close()
    await neighbour.close()


async def test_a_default_that_it_has_changed_is_put_back_by_a_rotation(core: Core, mine: Held) -> None:
    connection = await mine.postgres()
    await connection.execute(f"ALTER ROLE {mine.schema} IN DATABASE tenants SET statement_timeout = 0")
    await connection.close()
    connection = await mine.postgres()
    assert await connection.fetchval("SHOW statement_timeout") == "0"
    await connection.close()
    await core.manager.rotate(ALICE, "mine")
    connection = await held(core, await core.manager.get("mine")).postgres()
    assert await connection.fetchval("SHOW statement_timeout") == "500ms"
    await connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER ROLE CURRENT_USER PASSWORD 'x'",
        "ALTER ROLE CURRENT_USER IN DATABASE tenants SET work_mem = '8MB'",
    ],
)
@pytest.mark.parametrize("what", ["rotate", "destroy", "extend"])
async def test_a_role_that_it_changes_without_an_end_holds_nobody_up(
    core: Core, mine: Held, what: str, statement: str
) -> None:
    connection = await mine.postgres()
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(statement)
    match what:
        case "rotate":
            await core.manager.rotate(ALICE, "mine")
        case "destroy":
            await core.manager.destroy(ALICE, "mine")
        case "extend":
            await core.manager.extend(ALICE, "mine", "1h")
    if what != "destroy":
        current = await core.manager.get("mine")
        assert await core.cleanup.keep_credentials() == []
        again = await held(core, current).postgres()
        assert await again.fetchval("SELECT 1") == 1
        await again.close()
    connection.terminate()


async def test_whoever_does_that_again_and_again_is_removed_all_the_same(core: Core, mine: Held) -> None:
    connected = asyncio.Event()

    async def hinder() -> None:
        while True:
            try:
                connection = await mine.postgres()
            except asyncpg.InvalidAuthorizationSpecificationError:
                return
            except (asyncpg.PostgresError, OSError, TimeoutError):
                continue
            try:
                await connection.execute("BEGIN; ALTER ROLE CURRENT_USER SET work_mem = '8MB'")
                await connection.execute("ALTER ROLE CURRENT_USER PASSWORD 'x'")
                connected.set()
                await connection.execute("SELECT pg_sleep(60)")
            except DRIVER_ERRORS:
                connection.terminate()

    hindering = [asyncio.create_task(hinder()) for _ in range(4)]
    await connected.wait()
    async with asyncio.timeout(10):
        await core.manager.destroy(ALICE, "mine")
    for each in hindering:
        each.cancel()
    await asyncio.gather(*hindering, return_exceptions=True)
    left = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1"
    assert await core.pool.fetchval(left, mine.schema) == 0
