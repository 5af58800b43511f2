"""Servers without room, each met by the drivers and by `doctor`: what was asked, where, and what answered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sandbox_bot.embedded import PostgresServer
from sandbox_bot.migrate import migrate
from sandbox_core.error_text import explain
from sandbox_core.errors import DependencyUnavailable, StreamUnusable
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.streams import StreamLimits, Streams
from sandbox_core.postgres import create_pool, transaction
from sandbox_core.redis.client import create_client
from sandbox_core.redis.errors import translating as redis_errors
from tests.e2e.harness import eventually
from tests.small_disk import SmallDisk, small_disk

from .conftest import Doctor
from .servers import nats_server, valkey


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 120) as disk:
        yield disk


def where_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}"


async def test_postgres(doctor: Doctor, disk: SmallDisk, tmp_path: Path) -> None:
    server = PostgresServer(disk.directory / "postgres", tmp_path / "postgres.log", fast=True)
    await server.start()
    try:
        await migrate(server.url)
        disk.fill()
        pool = await create_pool(server.url, max_size=1)
        with pytest.raises(DependencyUnavailable) as fault:
            async with transaction(pool) as connection:
                await connection.execute("CREATE TABLE many AS SELECT generate_series(1, 100000)")
        await pool.close()
        said = explain(fault.value).sentence
        assert said == f"PostgreSQL answers at {where_of(server.url)}, but its disk is full."
        found = (await doctor("PostgreSQL", database_url=server.url)).only()
        assert "No space left on device" in found.detail
        disk.clear()
        (await doctor("PostgreSQL", database_url=server.url)).well()
    finally:
        await server.stop()


async def refused_write(url: str) -> str:
    """What a person reads of a write to Redis."""
    async with create_client(url) as client:
        with pytest.raises(DependencyUnavailable) as fault, redis_errors():
            await client.set("key", "x" * 5000)
    return explain(fault.value).sentence


@pytest.mark.parametrize(
    "options",
    [
        {},
        # What it keeps by snapshots alone it refuses once one of them has failed.
        {"appendonly": "no", "save": "3600 1", "stop_writes_on_bgsave_error": "yes"},
    ],
)
async def test_redis(doctor: Doctor, disk: SmallDisk, options: dict[str, str]) -> None:
    async with valkey(disk.directory, **options) as server, create_client(server.url) as client:

        def says(status: str, value: str) -> Callable[[], Awaitable[bool]]:
            async def said() -> bool:
                about = await client.info("persistence")
                return bool(about[status] == value)

            return said

        disk.fill()
        if options:
            await client.set("key", "value")
            await client.bgsave()
            await eventually(says("rdb_last_bgsave_status", "err"))
        else:
            # The write that meets the full disk is still answered.
            await client.set("key", "x" * 100_000)
        where = where_of(server.url)
        no_writes = "it takes no writes: it can't save its data (MISCONF)"
        assert await refused_write(server.url) == f"Redis answers at {where}, but {no_writes}."
        found = (await doctor("Redis", redis_url=server.url)).only()
        assert found.detail.startswith("it takes no writes: MISCONF ")
        assert "disk" in found.mend
        disk.clear()
        if options:
            await client.execute_command("SAVE")
        else:
            await eventually(says("aof_last_write_status", "ok"))
        (await doctor("Redis", redis_url=server.url)).well()


@asynccontextmanager
async def streams_at(url: str) -> AsyncIterator[Streams]:
    connection = NatsConnection()
    await connection.connect(url, name="test", within=10)
    try:
        yield Streams(
            connection.client.jetstream(timeout=2), StreamLimits(), server=lambda: connection.server
        )
    finally:
        await connection.close()


async def test_nats(doctor: Doctor, disk: SmallDisk) -> None:
    async with nats_server(disk.directory) as server:
        async with streams_at(server.url) as streams:
            disk.fill()
            with pytest.raises(StreamUnusable) as fault:
                await streams.ensure()
            assert explain(fault.value).sentence == (
                f"NATS at {where_of(server.url)} can't be used: the stream EVENTS can't be made: "
                "JetStream can't store on its disk."
            )
            disk.clear()
            await streams.ensure()
        (await doctor("NATS", nats_url=server.url)).well()
        disk.fill()
        found = (await doctor("NATS", nats_url=server.url)).only()
        assert found.detail == "the stream EVENTS can't store: JetStream can't store on its disk"
        assert "restart" in found.mend
        disk.clear()
        (await doctor("NATS", nats_url=server.url)).well()
