"""A provider of routes with the real stores below it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from sandbox_core.metrics import RoutingMetrics
from sandbox_core.models import Route
from sandbox_core.postgres.pool import Pool, create_pool
from sandbox_core.postgres.routes import RouteRows
from sandbox_core.redis.client import create_client
from sandbox_core.redis.route_cache import RouteCache
from sandbox_core.route_provider import RouteFollower, RouteProvider

from .conftest import until

FAR = 4_000_000_000.0
SANDBOX = "3f2a9c01-7b1d-4b5e-9a54-0d6f1c2b3a49"


@dataclass
class World:
    """The provider under test with the real stores below it."""

    pool: Pool
    redis: Redis
    metrics: RoutingMetrics
    provider: RouteProvider
    follower: RouteFollower
    cold: RouteProvider
    """A provider without a table, over the same stores."""

    async def sandbox(self, *guild_ids: str, status: str = "running") -> str:
        sandbox_id = uuid.uuid4()
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute(
                "INSERT INTO sandboxes (id, name, owner, status, schema_name, created_at, expires_at)"
                " VALUES ($1, $2, '1', $3, $4, now(), to_timestamp($5))",
                sandbox_id,
                f"box-{sandbox_id.hex[:8]}",
                status,
                f"sandbox_{sandbox_id.hex[:8]}",
                FAR,
            )
            for guild_id in guild_ids:
                await connection.execute(
                    "INSERT INTO sandbox_guild_mapping (guild_id, sandbox_id, registered_by)"
                    " VALUES ($1, $2, '1')",
                    guild_id,
                    sandbox_id,
                )
        return str(sandbox_id)

    async def unmap(self, guild_id: str) -> None:
        await self.pool.execute("DELETE FROM sandbox_guild_mapping WHERE guild_id = $1", guild_id)


@pytest.fixture
async def world(database_url: str, redis_url: str) -> AsyncIterator[World]:
    pool = await create_pool(database_url, min_size=0)
    redis = create_client(redis_url)
    metrics = RoutingMetrics()

    async def connect() -> asyncpg.Connection[Any]:
        return await asyncpg.connect(database_url, timeout=2)

    follower = RouteFollower(connect, heartbeat=0.5)
    cache = RouteCache(redis, timedelta(seconds=60))
    provider = RouteProvider(RouteRows(pool), cache, metrics, follower=follower)
    cold = RouteProvider(RouteRows(pool), cache, metrics)
    yield World(pool, redis, metrics, provider, follower, cold)
    await provider.close()
    await cold.close()
    await redis.aclose()
    pool.terminate()


async def started(world: World) -> None:
    world.provider.start()
    await until(lambda: world.provider.current_table is not None)


def table_route(world: World, guild_id: str) -> Route | None:
    table = world.provider.current_table
    assert table is not None
    return table.route(guild_id, 0.0)
