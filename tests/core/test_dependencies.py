"""What is said of servers that answer, that are silent, and that are not there."""

from __future__ import annotations

import asyncio

import nats
from redis.asyncio import Redis

from sandbox_core.bootstrap import NatsUse, open_core
from sandbox_core.dependencies import questions
from sandbox_core.health import HealthChecker, ServerCheck
from sandbox_core.namespaces import PartState
from sandbox_core.postgres import create_pool
from sandbox_core.settings import load_settings


async def test_servers_that_answer(database_url: str, redis_url: str, nats_url: str) -> None:
    settings = load_settings(
        _env_file=None, database_url=database_url, redis_url=redis_url, nats_url=nats_url
    )
    async with open_core(settings, follow_routes=False, use_nats=NatsUse.SANDBOXES) as core:
        system = await core.health.check_system()
    assert [part.store for part in system.checks] == ["PostgreSQL", "Redis", "NATS"]
    assert all(part.state is PartState.HEALTHY and 0 < part.latency_ms < 3000 for part in system.checks)


async def test_servers_that_are_silent_or_gone(nats_url: str) -> None:
    gone = await nats.connect(nats_url)
    await gone.close()
    connections: list[asyncio.StreamWriter] = []

    async def say_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    pool = await create_pool(f"postgresql://nobody@127.0.0.1:{port}/none", min_size=0)
    redis = Redis.from_url(f"redis://127.0.0.1:{port}")
    asked = questions(pool, redis, gone.jetstream())
    checker = HealthChecker([], system=[ServerCheck(name, ask) for name, ask in asked.items()], timeout=0.1)
    try:
        postgres, valkey, jetstream = (await checker.check_system()).checks
        await checker.close()
    finally:
        pool.terminate()
        await redis.aclose()
        silent.close()
        for writer in connections:
            writer.close()
    assert postgres.detail == valkey.detail == "no answer within 0.1 s"
    assert postgres.latency_ms >= 100
    assert (jetstream.state, jetstream.detail) == (PartState.UNHEALTHY, "the connection is closed")
