"""A connection that is lost while something is written to it harms no later one of the process."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import pytest

from sandbox_core.nats.lasting import LastingClient
from sandbox_core.redis.client import create_client


class _Calls:
    """Of asyncio's own `writelines`, which is spoilt on some Pythons."""

    made = 0


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> _Calls:
    calls = _Calls()

    def writelines(self: Any, data: Any) -> None:
        calls.made += 1
        self.write(b"".join(data))

    monkeypatch.setattr("asyncio.selector_events._SelectorSocketTransport.writelines", writelines)
    return calls


async def can_connect(url: str) -> None:
    """A new connection, whose descriptor has the lost one's number, comes to stand."""
    place = urlsplit(url)
    async with asyncio.timeout(20):
        _, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.close()
    await writer.wait_closed()


async def test_nats(nats_url: str, calls: _Calls) -> None:
    again = asyncio.Event()

    async def reconnected() -> None:
        again.set()

    client = LastingClient()
    await client.connect(nats_url, reconnect_time_wait=0.05, reconnected_cb=reconnected)
    try:
        transport: Any = client._transport
        transport._io_writer.transport.abort()
        transport.writelines([b"PING", b"\r\n"])
        # The lost one is closed now.
        await asyncio.sleep(0)
        await can_connect(nats_url)
        async with asyncio.timeout(20):
            await again.wait()
        await client.publish("somewhere", b"text")
        await client.flush()
    finally:
        client.leave()
        await client.close()
    assert calls.made == 0


async def test_redis(redis_url: str, calls: _Calls) -> None:
    async with create_client(redis_url) as client:
        await client.set("name", "value")
        connection: Any = client.connection_pool._available_connections[0]
        connection._writer.transport.abort()
        connection._writer.writelines([b"PING", b"\r\n"])
        # The lost one is closed now.
        await asyncio.sleep(0)
        await can_connect(redis_url)
        assert await client.get("name") == "value"
        async with client.pipeline() as pipeline:
            pipeline.get("name")
            assert await pipeline.execute() == ["value"]
    assert calls.made == 0
