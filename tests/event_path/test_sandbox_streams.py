"""The streams of sandboxes by convention: apart, made again when they are missing, and never left over."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from nats.aio.client import Client
from nats.js.api import StreamConfig
from structlog.testing import capture_logs

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.nats.sandbox_streams import LivingStreams, SandboxStreams
from sandbox_core.nats.streams import StreamLimits
from tests.streams import EVERY_SANDBOX, living, messages_of, names_of, stream_of, streams_at

from .conftest import GUILD_A, SANDBOX_1, SANDBOX_2, until
from .test_sandbox_refusals import GUILD_C, World, world

__all__ = ("world",)  # a fixture

FLOOD, BATCH, UNREAD = 520_000, 4_000, 50


async def test_a_flood_of_one_leaves_the_events_of_another_alone(nats_url: str, reader: Client) -> None:
    js = reader.jetstream()
    streams = SandboxStreams(js, StreamLimits(sandbox_bytes=256 << 20))
    for sandbox_id in (SANDBOX_1, SANDBOX_2):
        await streams.make(sandbox_id)
    for number in range(UNREAD):
        await js.publish(f"sandbox.{SANDBOX_2}.events.X", b"unread %d" % number)
    where = urlsplit(nats_url)
    source, sink = await asyncio.open_connection(where.hostname, where.port)
    subject = f"sandbox.{SANDBOX_1}.events.TYPING_START"
    one, last = f"PUB {subject} 2\r\n{{}}\r\n", f"PUB {subject} _INBOX.flood 2\r\n{{}}\r\n"
    sink.write(b'CONNECT {"verbose":false}\r\nSUB _INBOX.flood 1\r\n')
    for _ in range(FLOOD // BATCH):
        sink.write((one * (BATCH - 1) + last).encode())
        # The answer to the last one: the server takes so many at once, and no more.
        async with asyncio.timeout(60):
            while not (await source.readline()).startswith(b"MSG _INBOX.flood"):
                pass
    sink.close()
    assert (await js.stream_info(stream_of(SANDBOX_1))).state.messages == 500_000
    unread = [message.data for message in await messages_of(js, stream_of(SANDBOX_2))]
    assert unread == [b"unread %d" % number for number in range(UNREAD)]


async def test_a_flood_of_bytes_pushes_out_its_own_only(reader: Client) -> None:
    js = reader.jetstream()
    streams = SandboxStreams(js, StreamLimits(sandbox_bytes=1 << 20))
    for sandbox_id in (SANDBOX_1, SANDBOX_2):
        await streams.make(sandbox_id)
        await js.publish(f"sandbox.{sandbox_id}.events.X", b"first")
    for _ in range(30):
        await js.publish(f"sandbox.{SANDBOX_1}.events.X", b"x" * 100_000)
    assert (await js.stream_info(stream_of(SANDBOX_1))).state.first_seq > 1
    assert [message.data for message in await messages_of(js, stream_of(SANDBOX_2))] == [b"first"]


async def test_a_restart_of_nats_makes_them_again_and_nothing_that_waits_is_lost(
    world: World, servers: EmbeddedServers, reader: Client
) -> None:
    assert len(await names_of(world.js, EVERY_SANDBOX)) == 2
    await servers.nats.kill()
    await until(lambda: not world.publishers.sandboxes.sending)
    for _ in range(20):
        world.send(GUILD_A)
        world.send(GUILD_C)
    await servers.nats.start()
    await until(lambda: world.router.pending == 0)
    await until(lambda: reader.is_connected)
    # They were in memory, and each has what came since, in order.
    assert [await world.stored(guild) for guild in (GUILD_A, GUILD_C)] == [
        world.sent[GUILD_A],
        world.sent[GUILD_C],
    ]
    assert world.dropped == 0


async def test_an_event_waits_for_a_stream_that_is_missing(world: World) -> None:
    await world.js.delete_stream(stream_of(SANDBOX_1))
    for _ in range(5):
        world.send(GUILD_A)
        world.send(GUILD_C)
    await world.flood(20)
    await world.production_is_done()
    await until(lambda: world.router.pending == 0)
    assert await world.stored(GUILD_A) == world.sent[GUILD_A]
    assert await world.stored(GUILD_C) == world.sent[GUILD_C]


async def test_one_that_can_not_be_used_does_not_hinder_the_others_and_is_told_once(reader: Client) -> None:
    js = reader.jetstream()
    await js.add_stream(StreamConfig(name="OTHER", subjects=[f"sandbox.{SANDBOX_1}.events.X"]))
    streams = LivingStreams(streams_at(js), living(SANDBOX_1, SANDBOX_2))
    with capture_logs() as logs:
        for _ in range(3):
            await streams.ensure()
    assert await names_of(js, EVERY_SANDBOX) == [stream_of(SANDBOX_2)]
    assert streams.obstacle is not None
    assert "OTHER" in streams.obstacle.reason
    assert [line["event"] for line in logs].count("sandbox_stream_unusable") == 1
    await js.delete_stream("OTHER")
    await streams.ensure()
    assert streams.obstacle is None
    assert len(await names_of(js, EVERY_SANDBOX)) == 2


async def test_one_that_ends_while_its_stream_is_made_leaves_none(reader: Client) -> None:
    js = reader.jetstream()
    answers = [[UUID(SANDBOX_1), UUID(SANDBOX_2)], [UUID(SANDBOX_2)]]

    async def ends() -> Collection[UUID]:
        return answers.pop(0)

    await LivingStreams(streams_at(js), ends).ensure()
    assert await names_of(js, EVERY_SANDBOX) == [stream_of(SANDBOX_2)]


async def test_what_is_known_counts_while_postgres_is_away(reader: Client) -> None:
    js = reader.jetstream()
    away = False

    async def asked() -> Any:
        if away:
            raise DependencyUnavailable("PostgreSQL", "connection refused", "127.0.0.1:1")
        return [UUID(SANDBOX_1)]

    streams = LivingStreams(streams_at(js), asked)
    away = True
    # Nobody knows which sandboxes live, and no event waits for that.
    await streams.ensure()
    assert streams.ready
    assert await names_of(js, EVERY_SANDBOX) == []
    away = False
    await streams.ensure()
    away = True
    await js.delete_stream(stream_of(SANDBOX_1))
    await streams.ensure()
    assert await names_of(js, EVERY_SANDBOX) == [stream_of(SANDBOX_1)]
