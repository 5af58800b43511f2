"""An old route in Redis is not believed by who knew a later one, and does not stay there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.metrics import RoutingMetrics
from sandbox_core.models import DatedRoute, Route
from sandbox_core.postgres.processes import GatewayProcess
from sandbox_core.postgres.routes import RouteRows
from sandbox_core.redis.route_cache import RouteCache
from sandbox_core.route_provider import RouteFollower, RouteProvider
from sandbox_core.route_provider.cache_writer import CacheWriter
from sandbox_core.subjects import ROUTE_NULL, route_key

from .conftest import GUILD_A, GUILD_B, until
from .route_world import FAR, World, started, table_route, world

__all__ = ["world"]


@pytest.fixture
async def answering(world: World, database_url: str) -> AsyncIterator[RouteProvider]:
    """Another gateway process, which people's commands come to."""

    async def connect() -> asyncpg.Connection[Any]:
        return await asyncpg.connect(database_url, timeout=2)

    provider = RouteProvider(
        RouteRows(world.pool),
        RouteCache(world.redis, timedelta(seconds=60)),
        RoutingMetrics(),
        follower=RouteFollower(connect, process=GatewayProcess.this(), heartbeat=0.5),
    )
    provider.start()
    await until(lambda: provider.current_table is not None)
    yield provider
    await provider.close()


async def in_redis(world: World, guild_id: str) -> str | None:
    value = await world.redis.get(route_key(guild_id))
    return None if value is None else str(value)


async def until_in_redis(world: World, guild_id: str, value: str) -> None:
    async with asyncio.timeout(60):
        while await in_redis(world, guild_id) != value:
            await asyncio.sleep(0.02)


async def postgres_gone(world: World, servers: EmbeddedServers) -> None:
    """PostgreSQL is away, and the process no longer trusts its table."""
    await servers.postgres.kill()
    await until(lambda: world.provider.current_table is None)


async def test_an_old_route_in_redis_is_not_believed_over_the_last_table(
    world: World, servers: EmbeddedServers
) -> None:
    old = await world.sandbox(GUILD_A)
    cache = RouteCache(world.redis, timedelta(seconds=60))
    _, before = await RouteRows(world.pool).read_as_of([])
    await started(world)
    await world.unmap(GUILD_A)
    await until(lambda: table_route(world, GUILD_A) is None)
    await until_in_redis(world, GUILD_A, ROUTE_NULL)
    await postgres_gone(world, servers)
    # Redis is back with what it had, as the last version wrote it and as this one does.
    await cache.invalidate([GUILD_A])
    await world.redis.set(route_key(GUILD_A), old)
    assert await world.provider.lookup(GUILD_A) is None
    await cache.invalidate([GUILD_A])
    await cache.put_many({GUILD_A: DatedRoute(Route(old, FAR), before)})
    assert await in_redis(world, GUILD_A) == old
    assert await world.provider.lookup(GUILD_A) is None
    # Without any knowledge of its own a process has nothing better.
    assert await world.cold.lookup(GUILD_A) == Route(old, FAR)


async def test_a_later_route_in_redis_is_believed_and_remembered(
    world: World, servers: EmbeddedServers
) -> None:
    first, second = await world.sandbox(GUILD_A), await world.sandbox()
    await started(world)
    await postgres_gone(world, servers)
    cache = RouteCache(world.redis, timedelta(seconds=60))
    moment = world.follower.database_now()
    assert moment is not None
    assert await world.provider.lookup(GUILD_A) == Route(first, FAR)
    await cache.put_many({GUILD_A: DatedRoute(Route(second, FAR - 1), moment)})
    assert await world.provider.lookup(GUILD_A) == Route(second, FAR - 1)
    # Its key runs out, or Redis goes too: what was known once is not forgotten for something older.
    await world.redis.delete(route_key(GUILD_A))
    assert await world.provider.lookup(GUILD_A) == Route(second, FAR - 1)
    await world.redis.set(route_key(GUILD_A), first)
    assert await world.provider.lookup(GUILD_A) == Route(second, FAR - 1)
    # What a fence tells is ordered with it.
    world.provider.heard({GUILD_A: Route(first, FAR)}, moment - 0.1)
    assert await world.provider.lookup(GUILD_A) == Route(second, FAR - 1)
    world.provider.heard({GUILD_A: None}, moment + 0.1)
    assert await world.provider.lookup(GUILD_A) is None
    # And is written by who hears it, as who told it may be gone.
    await until_in_redis(world, GUILD_A, ROUTE_NULL)
    await servers.postgres.start()
    await until(lambda: world.provider.current_table is not None, within=30)
    assert table_route(world, GUILD_A) == Route(first, FAR)


async def test_a_route_read_since_the_last_heartbeat_counts_from_then(
    world: World, servers: EmbeddedServers
) -> None:
    """The change before is in Redis with a later moment than the last heartbeat's; the last one is not."""
    world.follower._heartbeat = 60.0
    first = await world.sandbox(GUILD_A)
    await started(world)
    second = await world.sandbox()
    _, between = await RouteRows(world.pool).read_as_of([])
    for sandbox_id in (second, first):
        await world.unmap(GUILD_A)
        await world.pool.execute(
            "INSERT INTO sandbox_guild_mapping (guild_id, sandbox_id, registered_by) VALUES ($1, $2, '1')",
            GUILD_A,
            sandbox_id,
        )
        await until(lambda sandbox_id=sandbox_id: table_route(world, GUILD_A) == Route(sandbox_id, FAR))
    await until_in_redis(world, GUILD_A, first)
    cache = RouteCache(world.redis, timedelta(seconds=60))
    await postgres_gone(world, servers)
    await cache.invalidate([GUILD_A])
    await cache.put_many({GUILD_A: DatedRoute(Route(second, FAR), between)})
    assert await world.provider.lookup(GUILD_A) == Route(first, FAR)
    # Of the others nothing is known since the heartbeat.
    await cache.put_many({GUILD_B: DatedRoute(Route(second, FAR), between)})
    assert await world.provider.lookup(GUILD_B) == Route(second, FAR)


async def test_every_process_writes_what_it_switched_to_when_redis_is_back(
    world: World, answering: RouteProvider, servers: EmbeddedServers
) -> None:
    await world.sandbox(GUILD_A)
    await started(world)
    await world.redis.set(route_key(GUILD_B), ROUTE_NULL)
    await servers.valkey.kill()
    sandbox_id = await world.sandbox(GUILD_B)
    await answering.guilds_changed({GUILD_B: Route(sandbox_id, FAR)})
    assert table_route(world, GUILD_B) == Route(sandbox_id, FAR)
    # Who was asked dies before it could write.
    await answering.close()
    await servers.valkey.start()
    await until_in_redis(world, GUILD_B, sandbox_id)
    await postgres_gone(world, servers)
    assert await world.cold.lookup(GUILD_B) == Route(sandbox_id, FAR)


async def test_what_changed_while_the_link_was_down_is_written_too(
    world: World, servers: EmbeddedServers
) -> None:
    old = await world.sandbox(GUILD_A, GUILD_B)
    await started(world)
    await world.redis.mset({route_key(GUILD_A): old, route_key(GUILD_B): old})
    await servers.valkey.kill()
    await world.pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%sandbox_routes%'"
    )
    await world.unmap(GUILD_A)
    await until(lambda: world.provider.current_table is not None and table_route(world, GUILD_A) is None)
    await servers.valkey.start()
    await until_in_redis(world, GUILD_A, ROUTE_NULL)


async def test_the_writer_outlives_an_unforeseen_fault(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = RouteCache(world.redis, timedelta(seconds=60))
    put_many, failed = cache.put_many, 0

    async def fail_once(routes: dict[str, DatedRoute]) -> None:
        nonlocal failed
        failed += 1
        if failed == 1:
            raise ZeroDivisionError
        await put_many(routes)

    monkeypatch.setattr(cache, "put_many", fail_once)
    monkeypatch.setattr("sandbox_core.route_provider.cache_writer._FAILED_PAUSE", 0.01)
    writer = CacheWriter(cache)
    writer.write_soon({GUILD_A: DatedRoute(None, 2.0)})
    writer.write_soon({GUILD_A: DatedRoute(Route("older", FAR), 1.0)})
    with capture_logs() as logs:
        await until_in_redis(world, GUILD_A, ROUTE_NULL)
    assert [entry["event"] for entry in logs if entry.get("exc_info")] == ["route_cache_not_written"]
    await writer.close()
