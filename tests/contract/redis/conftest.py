"""Three clients of one database: a plain one, and two below a prefix."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from redis.asyncio import Redis

from sandbox_core.redis.client import create_client
from sandbox_core.redis.confined import create_confined_client

PREFIX = "sandbox:0f6d3c1e-0000-4000-8000-000000000001:"
OTHER_PREFIX = "sandbox:0f6d3c1e-0000-4000-8000-000000000002:"


@dataclass(frozen=True)
class World:
    """A worker's client, and the prefix of the keys that it really uses."""

    client: Redis
    prefix: str


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """The whole database."""
    client = create_client(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
async def confined(redis_url: str) -> AsyncIterator[Redis]:
    """A worker's client in a sandbox."""
    client = create_confined_client(redis_url, PREFIX, client_name="test")
    yield client
    await client.aclose()


@pytest.fixture
async def production(redis_url: str) -> AsyncIterator[Redis]:
    """The same client without a sandbox."""
    client = create_confined_client(redis_url, "", client_name="test")
    yield client
    await client.aclose()


@pytest.fixture(
    params=[(PREFIX, ""), (PREFIX, "?protocol=2"), ("", "")],
    ids=["sandbox", "sandbox-resp2", "production"],
)
async def world(request: pytest.FixtureRequest, redis_url: str) -> AsyncIterator[World]:
    """A client in either world; the older protocol gives some replies another shape."""
    prefix, query = request.param
    client = create_confined_client(redis_url + query, prefix, client_name="test")
    yield World(client, prefix)
    await client.aclose()
