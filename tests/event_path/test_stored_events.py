"""What the streams hold of one session: read by message id, from a moment on."""

from __future__ import annotations

import asyncio
import time

import pytest
from nats.aio.client import Client

from bot.embedded import EmbeddedServers
from sandbox_core.errors import DependencyUnavailable
from sandbox_core.nats.connection import NatsConnection
from sandbox_core.nats.stored import StoredEvents
from sandbox_core.nats.streams import StreamLimits, Streams

from .conftest import SANDBOX_1, until


async def test_the_sessions_later_events_are_found_in_both_streams(
    connection: NatsConnection, reader: Client
) -> None:
    js = connection.client.jetstream(timeout=3)
    stored = StoredEvents(js)
    assert await stored.sequences("session", 0, after=0, since=time.time()) == set()
    await Streams(js, StreamLimits()).ensure()
    began = time.time()
    for seq in range(1, 1201):
        subject = f"sandbox.{SANDBOX_1}.events.X" if seq % 3 == 0 else "events.X"
        await reader.publish(subject, b"x" * 100, headers={"Nats-Msg-Id": f"session:0:{seq}"})
    for other in ("session:1:1300", "sessions:0:1301", "session:0:x", "session:0:", ""):
        await reader.publish("events.X", b"", headers={"Nats-Msg-Id": other} if other else None)
    await reader.flush()
    async with asyncio.timeout(15):
        while sum([(await js.stream_info(stream)).state.messages for stream in ("EVENTS", "SANDBOX")]) < 1205:
            await asyncio.sleep(0.02)
    assert await stored.sequences("session", 0, after=1000, since=began) == set(range(1001, 1201))
    assert await stored.sequences("session", 1, after=0, since=began) == {1300}
    # The margin for another machine's clock included, all this is too early.
    assert await stored.sequences("session", 0, after=0, since=time.time() + 60) == set()
    for stream in ("EVENTS", "SANDBOX"):
        assert (await js.stream_info(stream)).state.consumer_count == 0


async def test_nats_away_is_said(connection: NatsConnection, servers: EmbeddedServers) -> None:
    stored = StoredEvents(connection.client.jetstream(timeout=1))
    await servers.nats.kill()
    await until(lambda: not connection.connected)
    with pytest.raises(DependencyUnavailable, match="NATS"):
        await stored.sequences("session", 0, after=0, since=time.time())
    await servers.nats.start()
    await until(lambda: connection.connected)
