"""A server whose `max_payload` changes under the publisher, or is not what it says."""

from __future__ import annotations

import asyncio
import gzip
import random
import re
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from nats.aio.client import Client
from pydantic import SecretStr

from sandbox_bot.embedded import EmbeddedServers
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.publisher import AckPublisher
from sandbox_core.nats.streams import StreamLimits, Streams
from tests.embedded.reloading import reload

from .conftest import read_back, until
from .test_publisher import Clock, Recorder, publication

_LESS = 100_000
_LIMIT = re.compile(rb'"max_payload":\d+')

pytestmark = pytest.mark.usefixtures("reloaded")


@pytest.fixture
async def reloaded(servers: EmbeddedServers, nats_url: str) -> AsyncIterator[None]:
    """Leaves the session's nats-server as it was."""
    before = reload(servers.nats)
    yield
    reload(servers.nats, **before)


@asynccontextmanager
async def publishing(url: str, recorder: Recorder, clock: Clock) -> AsyncIterator[AckPublisher]:
    connection = NatsConnection()
    await connection.connect(SecretStr(url), name="test", within=5)
    streams = Streams(connection.client.jetstream(timeout=2), StreamLimits())
    publisher = AckPublisher(connection, streams, recorder, monotonic=clock)
    await publisher.start()
    try:
        yield publisher
    finally:
        await publisher.close()
        await connection.close()


def noise(size: int) -> bytes:
    """What compression makes little smaller."""
    return random.Random(1).randbytes(size)


async def test_a_limit_that_sinks_and_rises(servers: EmbeddedServers, nats_url: str, reader: Client) -> None:
    recorder, clock = Recorder(), Clock()
    async with publishing(nats_url, recorder, clock) as publisher, asyncio.timeout(60):
        publisher.submit(publication(1))
        await publisher.drained()
        reload(servers.nats, max_payload=_LESS)
        # The reload is over when a new connection is told of it.
        await until_said(nats_url, _LESS)
        publisher.submit(publication(2, payload=b"x" * 300_000))
        publisher.submit(publication(3))
        await publisher.drained()
        reload(servers.nats, max_payload=8 << 20)
        await until_said(nats_url, 8 << 20)
        clock.now += 60
        publisher.submit(publication(4, payload=noise(300_000)))
        publisher.submit(publication(5))
        await publisher.drained()
    stored = {int(m.headers["Nats-Msg-Id"].rpartition(":")[2]): m for m in await read_back(reader, "EVENTS")}
    assert sorted(stored) == [1, 2, 3, 4, 5]
    assert {m.subject for m in stored.values()} == {"events.TEST"}
    assert gzip.decompress(stored[2].data) == b"x" * 300_000
    assert gzip.decompress(stored[4].data) == noise(300_000)
    assert "dead_letter" not in recorder.failures


async def until_said(url: str, limit: int) -> None:
    host, _, port = url.removeprefix("nats://").rpartition(":")
    while True:
        inner, writer = await asyncio.open_connection(host, int(port))
        line = await inner.readline()
        writer.close()
        if b'"max_payload":%d,' % limit in line:
            return
        await asyncio.sleep(0.02)


@asynccontextmanager
async def promising_more(url: str) -> AsyncIterator[tuple[str, list[int]]]:
    """The server behind words that promise 8 MB, and the number of connections to it."""
    host, _, port = url.removeprefix("nats://").rpartition(":")
    opened = [0]
    links: set[asyncio.Task[None]] = set()

    async def carry(reader: StreamReader, writer: StreamWriter, *, words: bool) -> None:
        try:
            while data := await reader.read(1 << 16):
                writer.write(_LIMIT.sub(b'"max_payload":8388608', data) if words else data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        opened[0] += 1
        there, back = await asyncio.open_connection(host, int(port))
        for work in (carry(reader, back, words=False), carry(there, writer, words=True)):
            links.add(asyncio.create_task(work))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}", opened
    finally:
        server.close()
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)


async def test_a_limit_that_the_server_does_not_tell(
    servers: EmbeddedServers, nats_url: str, reader: Client
) -> None:
    reload(servers.nats, max_payload=_LESS)
    await until_said(nats_url, _LESS)
    recorder = Recorder()
    async with (
        promising_more(nats_url) as (url, opened),
        publishing(url, recorder, Clock()) as publisher,
        asyncio.timeout(60),
    ):
        for number, payload in enumerate((b"{}", b"x" * 300_000, noise(300_000), b"{}")):
            publisher.submit(publication(number, payload=payload))
        await publisher.drained()
        await until(lambda: publisher.sending)
        # On a busy machine a reset may swallow the server's last words, which costs a connection each time.
        assert opened[0] < 100
    stored = {int(m.headers["Nats-Msg-Id"].rpartition(":")[2]): m for m in await read_back(reader, "EVENTS")}
    assert sorted(stored) == [0, 1, 2, 3]
    assert gzip.decompress(stored[1].data) == b"x" * 300_000
    assert stored[2].subject == "events.dead_letter.TOO_LARGE"
