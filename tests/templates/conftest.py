"""A manager by convention, with a directory of templates."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import asyncpg
import nats
import pytest

from sandbox_core.errors import DoesNotFit
from sandbox_core.manager import ManagerLimits, SandboxManager
from sandbox_core.metrics import RoutingMetrics
from sandbox_core.models import Actor, Sandbox
from sandbox_core.namespaces import NatsNamespace, RedisNamespace, SchemaProvisioner
from sandbox_core.postgres import Pool, create_pool
from sandbox_core.postgres.routes import RouteRows
from sandbox_core.redis.client import create_client
from sandbox_core.redis.route_cache import RouteCache
from sandbox_core.route_provider import RouteProvider
from sandbox_core.templates import Templates
from tests.streams import streams_at

ALICE = Actor("200000000000000001", "Alice")


@dataclass
class Shop:
    """Where sandboxes are made from templates."""

    directory: Path
    manager: SandboxManager
    pool: Pool
    database_url: str

    def write(self, name: str, sql: str) -> None:
        (self.directory / f"{name}.sql").write_text(sql, encoding="utf-8")

    async def make(self, template: str | None = None, *, name: str | None = None) -> Sandbox:
        return (await self.manager.create(ALICE, name=name, template=template)).sandbox

    async def refused(self, sql: str) -> DoesNotFit:
        """Create with a template that does not fit, and see that nothing is left."""
        self.write("wrong", sql)
        with pytest.raises(DoesNotFit) as refused:
            await self.make("wrong", name="wrong")
        assert await self.manager.list() == []
        assert await self.schemas() == []
        return refused.value

    async def schemas(self) -> list[str]:
        rows = await self.pool.fetch("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'sandbox\\_%'")
        return [row["nspname"] for row in rows]

    async def tables(self, sandbox: Sandbox) -> set[str]:
        rows = await self.pool.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = $1", sandbox.schema_name
        )
        return {row["tablename"] for row in rows}


@pytest.fixture
async def shop(database_url: str, redis_url: str, nats_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    """By convention: everything in one database, with the bot's role."""
    pool = await create_pool(database_url)
    redis = create_client(redis_url)
    client = await nats.connect(nats_url)
    routes = RouteProvider(
        RouteRows(pool), RouteCache(redis, timedelta(minutes=1)), RoutingMetrics(), follower=None
    )
    manager = SandboxManager(
        pool=pool,
        namespaces=(
            SchemaProvisioner(pool),
            RedisNamespace(redis),
            NatsNamespace(streams_at(client.jetstream(timeout=2))),
        ),
        routes=routes,
        limits=ManagerLimits(default_ttl=timedelta(hours=1), max_ttl=timedelta(hours=2), max_per_owner=100),
        templates=Templates(tmp_path, within=timedelta(seconds=2)),
    )
    yield Shop(tmp_path, manager, pool, database_url)
    await client.close()
    await redis.aclose()
    pool.terminate()


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    made = await asyncpg.connect(database_url)
    yield made
    await made.close()
