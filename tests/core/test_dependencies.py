"""What the probe says of servers that answer, that are silent, and that are not there."""

from __future__ import annotations

import asyncio

import nats
from redis.asyncio import Redis

from sandbox_core.bootstrap import open_core
from sandbox_core.dependencies import DependencyHealth, check_dependencies
from sandbox_core.postgres import create_pool
from sandbox_core.settings import load_settings


async def test_servers_that_answer(database_url: str, redis_url: str, nats_url: str) -> None:
    settings = load_settings(
        _env_file=None, database_url=database_url, redis_url=redis_url, nats_url=nats_url
    )
    async with open_core(settings, follow_routes=False) as core:
        answers = await check_dependencies(core.pool, core.redis, core.js)
    assert [answer.name for answer in answers] == ["PostgreSQL", "Redis", "NATS"]
    assert all(answer.problem == "" and 0 < answer.latency_ms < 3000 for answer in answers)


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
    try:
        postgres, valkey, jetstream = await check_dependencies(pool, redis, gone.jetstream(), timeout=0.1)
    finally:
        pool.terminate()
        await redis.aclose()
        silent.close()
        for writer in connections:
            writer.close()
    assert postgres.problem == valkey.problem == "no answer within 0.1 s"
    assert postgres.latency_ms >= 100
    assert jetstream == DependencyHealth("NATS", jetstream.latency_ms, "the connection is closed")
