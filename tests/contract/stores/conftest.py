"""Clients of the real servers, and a sandbox that exists only as a value."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import nats
import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from redis.asyncio import Redis

from sandbox_core.context import SandboxContext, environment
from sandbox_core.models import Sandbox, SandboxStatus, short_id
from sandbox_core.namespaces import SchemaProvisioner
from sandbox_core.postgres import Pool, create_pool
from sandbox_core.redis.client import create_client
from sandbox_core.subjects import schema_name
from tests.streams import streams_at

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    made = await create_pool(database_url, max_size=4)
    yield made
    made.terminate()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = create_client(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def nats_client(nats_url: str) -> AsyncIterator[Client]:
    client = await nats.connect(nats_url, max_reconnect_attempts=-1, reconnect_time_wait=0.05)
    yield client
    await client.close()


@pytest.fixture
def js(nats_client: Client) -> JetStreamContext:
    """JetStream without any stream."""
    return nats_client.jetstream(timeout=1)


@pytest.fixture
async def sandbox_stream(js: JetStreamContext, sandbox: Sandbox) -> None:
    """The sandbox's stream, empty."""
    await streams_at(js).make(sandbox.id)


@pytest.fixture
def new_sandbox() -> Callable[..., Sandbox]:
    def make(**changed: object) -> Sandbox:
        sandbox_id = uuid4()
        values: dict[str, object] = {
            "id": sandbox_id,
            "name": f"box-{short_id(sandbox_id)}",
            "owner": "200000000000000001",
            "status": SandboxStatus.PENDING,
            "schema_name": schema_name(short_id(sandbox_id)),
            "created_at": NOW,
            "expires_at": NOW + timedelta(hours=1),
        }
        return Sandbox(**(values | changed))  # type: ignore[arg-type]

    return make


@pytest.fixture
def sandbox(new_sandbox: Callable[..., Sandbox]) -> Sandbox:
    return new_sandbox()


@pytest.fixture
def servers_env(database_url: str, redis_url: str, nats_url: str) -> dict[str, str]:
    return {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "NATS_URL": nats_url}


@pytest.fixture
async def context(
    servers_env: dict[str, str], sandbox: Sandbox, pool: Pool, sandbox_stream: None
) -> AsyncIterator[SandboxContext]:
    """A worker in `sandbox`, whose schema exists."""
    await SchemaProvisioner(pool).create(sandbox.schema_name)
    async with SandboxContext.from_env(servers_env | environment(sandbox)) as opened:
        yield opened
